"""Which way a VRNN takes through time: the gradient written by hand where it serves, else what the cell's parts say.

That the gradient is right where it is taken is held in test_vrnn.py and test_unequal_lengths.py.
"""

import copy
import io
import pickle
import warnings

import pytest
import torch
from helpers import exact, spread, tight
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial import by_hand
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.emissions import Pen
from vrnn_tutorial.gaussian import DiagonalGaussian
from vrnn_tutorial.vrnn import VRNN

T, B = 4, 3


class Unchanged(VRNNCell):
    """A name of one's own, and nothing else."""


def vrnn(cell=VRNNCell, batch_first=False, **options) -> VRNN:
    return spread(VRNN(cell(5, 6, 3, embedding_size=4, **options), batch_first))


def some_x():
    return torch.randint(5, (T, B), generator=torch.Generator().manual_seed(1))


def some_noise():
    return torch.randn(T, B, 3, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture
def taken(monkeypatch):
    """How often the path whose gradient is written by hand was taken."""
    calls, path = [], by_hand.gated_path
    monkeypatch.setattr("vrnn_tutorial.vrnn.gated_path", lambda *given: calls.append(1) or path(*given))
    return calls


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def loaded(model):
    other = vrnn()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    return other


# Where it serves


@pytest.mark.parametrize(
    "treat",
    [
        lambda model: model,
        copy.deepcopy,
        pickled,
        saved,
        loaded,
        lambda model: model.float().double(),
        lambda model: model.train(),
        lambda model: model.requires_grad_(False),
        lambda model: VRNN(model.cell),
    ],
    ids=["as made", "copied", "pickled", "saved", "loaded", "of another type", "in training", "frozen", "wrapped anew"],
)
@pytest.mark.parametrize("cell", [VRNNCell, Unchanged])
def test_a_cell_as_it_was_made_takes_the_gradient_by_hand(cell, treat, taken):
    model = treat(vrnn(cell))
    out = model(some_x(), noise=some_noise())
    assert taken == [1]
    assert_close(out.z, model(some_x(), noise=some_noise(), by_hand=False).z, **tight)
    assert taken == [1]
    model(some_x(), noise=some_noise(), by_hand=True)
    assert taken == [1, 1]


#: Kinds and numbers of layers, depths of nets, and all that dropout may hide.
CELLS = [
    {},
    {"num_layers": 2},
    {"depth": 2},
    {"num_layers": 3, "depth": 3},
    {"dropout": 0.5},
    {"num_layers": 3, "dropout": 0.5},
    {"num_layers": 2, "dropout": 0.5, "locked_dropout": True, "weight_dropout": 0.5},
    {"rnn": "lstm"},
    {"rnn": "lstm", "num_layers": 2, "depth": 2, "dropout": 0.5, "locked_dropout": True},
    {"rnn": "rnn"},
    {"rnn": "rnn", "num_layers": 2, "dropout": 0.5},
    {"prior": "standard"},
    {"emission": "chained", "characters": 2},
    {"emission": "bernoulli", "num_layers": 2},
]
every_cell = pytest.mark.parametrize("options", CELLS, ids=str)


@every_cell
@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 0, 3])], ids=["", "lengths"])
@pytest.mark.parametrize("together", [2, 32])
def test_every_cell_takes_it_and_every_number_and_gradient_is_the_open_paths(
    options, particles, lengths, together, taken, monkeypatch
):
    """Whether there are several parts of steps whose gradients are multiplied together, the last of them shorter."""
    for room in ("blocks", "by_hand"):
        monkeypatch.setattr(f"vrnn_tutorial.{room}.TOGETHER", together)
    model = vrnn(**options).train()
    generator = torch.Generator().manual_seed(1)
    shape = (5, B, *([5] if options.get("emission") == "bernoulli" else [2] * (options.get("characters", 1) - 1)))
    x = torch.randint(5, shape, generator=generator)
    x = (x / 4).double().requires_grad_() if options.get("emission") == "bernoulli" else x
    noise = torch.randn(5, B * particles, 3, generator=generator).double().requires_grad_()
    state = [torch.randn(B * particles, 6, generator=generator).double().requires_grad_() for _ in leaves(zeros(model))]
    inputs = [noise, *state, *model.parameters(), *([x] if x.requires_grad else [])]
    runs = []
    for how in (True, False):
        torch.manual_seed(0)  # the same dropout
        start = like(zeros(model), iter(state))
        out = model(x, start, noise, lengths=lengths, particles=particles, by_hand=how)
        values = [out.reconstruction, out.kl, out.z, out.hidden, *leaves(out.state)]
        total = sum((value * torch.linspace(-1, 2, value.numel()).view_as(value)).sum() for value in values)
        runs.append((values, torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)))
    assert taken == [1]
    assert_close(*runs, **tight)


def zeros(model):
    return model.zero_state(torch.zeros(1, 1).double())


def leaves(state) -> list:
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


def like(state, values):
    return next(values) if isinstance(state, torch.Tensor) else tuple(like(part, values) for part in state)


@every_cell
def test_what_is_put_out_shares_no_memory_with_what_is_kept(options):
    """So it may be written over before the gradient is asked for."""
    model = vrnn(**options).train()
    if options.get("emission") == "bernoulli":
        x = torch.ones(T, B, 5).double()
    else:
        x = torch.zeros(T, B, model.emission_type.characters).long().squeeze(-1)

    def found(change: bool):
        torch.manual_seed(0)
        out = model(x, noise=some_noise(), by_hand=True)
        kept = out.kl.sum() + out.reconstruction.sum()
        if change:
            with torch.no_grad():
                for part in (out.z, out.hidden, *leaves(out.state)):
                    part.zero_()
        try:
            return torch.autograd.grad(kept, list(model.parameters()), allow_unused=True)
        except RuntimeError as error:  # where autograd sees it
            pytest.fail(str(error))

    assert_close(found(True), found(False), **exact)


# Where it does not


class Posterior(VRNNCell):
    def posterior(self, x, h):
        return DiagonalGaussian(super().posterior(x, h).mean, torch.zeros(len(x), self.latent_size).double())


class Recurrence(VRNNCell):
    def rnn(self, x, z, state):
        return 0.5 * state + super().rnn(x, z, state)


class Prior(VRNNCell):
    def prior(self, h):
        return super().prior(torch.tanh(3 * h))


class Emitter(VRNNCell):
    def emission(self, z, h):
        return super().emission(z.sin(), h)


class PosteriorOfFeatures(VRNNCell):
    def posterior_from_features(self, features, h):
        return super().posterior_from_features(features.sin(), h)


class Whole(VRNNCell):
    """Whose step has not all of the arguments."""

    def forward(self, x, state=None, noise=None):
        step = super().forward(x, state, noise)
        return step._replace(state=0.5 * step.state)

    def advance(self, state):
        return 0.5 * state


def own_method(model):
    """On one cell alone."""
    posterior = model.cell.posterior
    model.cell.posterior = lambda x, h: posterior(x, 0.5 * h)


def activation(model):
    model.cell.phi_z[1] = nn.Tanh()


def slope(model):
    model.cell.phi_z[1] = nn.ELU(alpha=0.3)


def recurrence(model):
    class Slow(nn.GRUCell):
        def forward(self, input, hx):
            return 0.9 * hx + 0.1 * super().forward(input, hx)

    old = model.cell.rnn_cells[0]
    model.cell.rnn_cells[0] = Slow(old.input_size, old.hidden_size).double()
    model.cell.rnn_cells[0].load_state_dict(old.state_dict())


def encoder(model):
    model.cell.posterior_net.append(nn.Hardtanh(-0.1, 0.1))


def hook_on(path):
    def change(model):
        part = model.cell.get_submodule(path)
        part.register_forward_hook(lambda module, given, out: 0.7 * out)

    change.__name__ = f"hook on {path}"
    return change


def hook_before(model):
    model.cell.posterior_net.register_forward_pre_hook(lambda module, given: (0.7 * given[0],))


def own_forward(model):
    net = model.cell.emission_net
    forward = net.forward
    net.forward = lambda given: forward(given).sin()


def weight_norm(model):
    nn.utils.parametrizations.weight_norm(model.cell.posterior_net[0])
    nn.utils.parametrizations.weight_norm(model.cell.rnn_cells[0], "weight_ih")


def weight_norm_of_old(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.cell.posterior_net[0])
    with torch.no_grad():
        model.cell.posterior_net[0].weight_g.mul_(1.5)  # what it stands for is another weight than the stored one


PARTS = ["phi_x", "phi_x.embedding", "phi_z", "phi_z.0.0", "prior_net", "posterior_net", "emission_net", "rnn_cells.0"]
CHANGES = {
    "a posterior of its own": (Posterior, None, "the cell has a posterior of its own"),
    "a recurrence of its own": (Recurrence, None, "the cell has a rnn of its own"),
    "a prior of its own": (Prior, None, "the cell has a prior of its own"),
    "an emission of its own": (Emitter, None, "the cell has a emission of its own"),
    "a posterior of features": (PosteriorOfFeatures, None, "the cell has a posterior_from_features of its own"),
    "a posterior of one cell": (VRNNCell, own_method, "the cell has a posterior of its own"),
    "another activation": (VRNNCell, activation, "a part of the cell was exchanged"),
    "another slope": (VRNNCell, slope, "a part of the cell was exchanged"),
    "another recurrence": (VRNNCell, recurrence, "a part of the cell was exchanged"),
    "one layer more": (VRNNCell, encoder, "a part of the cell was exchanged"),
    "weight_norm": (VRNNCell, weight_norm, "a part of the cell was exchanged"),
    "weight_norm of old": (VRNNCell, weight_norm_of_old, "a part of the cell"),
    "a step of its own": (Whole, None, "the cell has a forward of its own"),
    "a hook before": (VRNNCell, hook_before, "a part of the cell has a hook, or a forward of its own"),
    "another forward": (VRNNCell, own_forward, "a part of the cell has a hook, or a forward of its own"),
    **{f"a hook on {part}": (VRNNCell, hook_on(part), "a part of the cell has a hook") for part in PARTS},
}
every_change = pytest.mark.parametrize("cell, change, why", CHANGES.values(), ids=CHANGES)


def changed(cell, change, **options) -> VRNN:
    model = vrnn(cell, **options)
    if change is not None:
        change(model)
    return model


@every_change
def test_training_is_what_generation_does_with_the_same_z(cell, change, why, taken):
    """Each step's losses are those of the cell's prior, posterior, emission and recurrence, asked one by one."""
    model, x, noise = changed(cell, change), some_x(), some_noise()
    out = model(x, noise=noise)
    assert not taken
    state = model.zero_state(noise[0])
    for t in range(T):
        h = model.hidden(state)
        prior, posterior = model.cell.prior(h), model.cell.posterior(x[t], h)
        z = posterior.rsample(noise[t])
        drawn = model.draw(state, noise=(z - prior.mean) / prior.log_std.exp())
        assert_close(out.z[t], drawn.z, **tight)
        assert_close(out.reconstruction[t], -drawn.emission.log_prob(x[t]), **tight)
        assert_close(out.kl[t], posterior.kl(prior), **tight)
        state = model.advance(x[t], z, state)
        if cell is Whole:
            state = model.cell.advance(state)
        assert_close(out.hidden[t], model.hidden(state), **tight)
    assert_close(out.state, state, **tight)
    if change is not weight_norm:
        plain = vrnn()(x, noise=noise)
        differences = (out.reconstruction - plain.reconstruction).abs() + (out.kl - plain.kl).abs()
        assert differences.max() > 1e-3, "it changes nothing"


def test_weights_that_no_step_of_the_cell_uses_are_not_used_in_training_either(taken):
    class Cut(VRNNCell):
        def first_weights(self):
            return super().first_weights()._replace(rnn_bias=torch.ones(18).double())

    x, noise = some_x(), some_noise()
    assert_close(vrnn(Cut)(x, noise=noise).hidden, vrnn()(x, noise=noise).hidden, **tight)


@every_change
def test_what_is_changed_refuses_the_gradient_by_hand_and_says_why(cell, change, why):
    model, x, noise = changed(cell, change), some_x(), some_noise()
    with pytest.raises(ValueError, match=f"^by_hand=True: .*{why}.*\\.$"):
        model(x, noise=noise, by_hand=True)
    for name in ("reconstruction", "kl", "z", "hidden"):
        parts = (getattr(model(x, noise=noise, by_hand=how), name) for how in (None, False))
        assert_close(*parts, **exact)


@every_change
def test_the_gradient_is_that_of_the_changed_cell(cell, change, why):
    model, x, noise = changed(cell, change), some_x(), some_noise()
    out = model(x, noise=noise)
    state, total = None, 0.0
    for t in range(T):
        step = model.cell(x[t], state, noise[t])
        state, total = step.state, total - step.emission.log_prob(x[t]).sum() + step.posterior.kl(step.prior).sum()
    weights = list(model.parameters())
    options = {"allow_unused": True, "materialize_grads": True}
    ours = torch.autograd.grad(out.reconstruction.sum() + out.kl.sum(), weights, **options)
    assert_close(ours, torch.autograd.grad(total, weights, **options), **tight)


def test_a_hook_on_the_gradient_is_called_at_each_step():
    model, calls = vrnn(), []
    model.cell.rnn_cells[0].register_full_backward_hook(lambda *call: calls.append(1))
    out = model(some_x(), noise=some_noise())
    (out.reconstruction.sum() + out.hidden.sum()).backward()
    assert len(calls) == T


def test_a_hook_that_is_gone_changes_nothing_any_more(taken):
    model = vrnn()
    model.cell.phi_z.register_forward_hook(lambda *call: None).remove()
    model(some_x())
    assert taken == [1]


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_changed_cell_serves_several_particles_batches_first_and_another_rnn_input(batch_first):
    model = changed(Posterior, None, batch_first=batch_first)
    x, heard, noise = some_x(), some_x().flip(0), torch.randn(T, 2 * B, 3).double()
    given = [v.transpose(0, 1) if batch_first else v for v in (x, noise, heard)]
    out = model(given[0], noise=given[1], rnn_input=given[2], particles=2)
    z = out.z.transpose(0, 1) if batch_first else out.z
    state = model.zero_state(noise[0])
    for t in range(T):
        x_t, heard_t = x[t].repeat_interleave(2), heard[t].repeat_interleave(2)
        step = model.cell(x_t, state, noise[t], rnn_input=heard_t)
        assert_close(z[t], step.z, **tight)
        state = step.state
    assert_close(out.state, state, **tight)
    assert_close(-out.emission.log_prob(given[0].repeat_interleave(2, model.batch_axis)), out.reconstruction, **tight)


def test_a_step_of_ones_own_with_fewer_arguments_and_another_state_is_called_as_it_is():
    model, x, noise = changed(Whole, None), some_x(), some_noise()
    out = model(x, noise=noise)
    state = None
    for t in range(T):
        state = model.cell(x[t], state, noise[t]).state
    assert_close(out.state, state, **tight)
    assert_close(out.hidden[-1], state, **tight)


def test_a_cell_for_which_it_is_not_written_says_so():
    with pytest.raises(ValueError, match="^by_hand=True: it is written for a z with noise\\.$"):
        vrnn(stochastic=False)(some_x(), by_hand=True)


# Second derivatives


def penalty(model, *, by_hand=None, parts=1, **given):
    """The loss, its gradient, and the gradient of that gradient's square, of a text in so many parts."""
    x, noise, weights = some_x(), some_noise(), list(model.parameters())
    inputs, state, total = [*weights, noise.requires_grad_()], None, 0.0
    for x_part, noise_part in zip(x.tensor_split(parts), noise.tensor_split(parts), strict=True):
        out = model(x_part, state, noise_part, by_hand=by_hand, **given)
        state = out.state
        total = total + out.reconstruction.sum() + out.kl.sum() + (out.hidden * out.z.sum()).sum()
    options = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(total, inputs, create_graph=True, **options)
    second = torch.autograd.grad(sum(part.square().sum() for part in first), inputs, **options)
    return first, second


@pytest.mark.parametrize(
    "given", [{}, {"lengths": torch.tensor([4, 0, 2])}, {"parts": 2}, {"parts": 4}], ids=["", "lengths", "2", "4"]
)
@pytest.mark.parametrize("options", [options for options in CELLS if "emission" not in options], ids=str)
def test_second_derivatives_are_those_of_the_open_path(options, given, taken):
    """In several parts the state comes from the very weights that go on with it."""
    model, runs = vrnn(**options).train(), []
    for how in (True, False):
        torch.manual_seed(0)
        runs.append(penalty(model, by_hand=how, **given))
    assert taken
    assert_close(*runs, **tight)


def test_second_derivatives_agree_with_finite_differences():
    cell = VRNNCell(3, 2, 2, embedding_size=2, emission="gaussian")
    model = spread(VRNN(cell))
    x = torch.randn(3, 1, 3).double().requires_grad_()
    noise = torch.randn(3, 1, 2).double().requires_grad_()
    state = torch.randn(1, 2).double().requires_grad_()

    def run(x, noise, state):
        out = model(x, state, noise)
        return out.reconstruction, out.kl, out.hidden

    assert torch.autograd.gradgradcheck(run, (x, noise, state), raise_exception=False)


# Where autograd alone serves


def loss_of(out):
    return out.reconstruction.sum() + out.kl.sum()


PATHS = [{}, {"rnn": "lstm", "num_layers": 2}, {"rnn": "rnn", "depth": 2}, {"num_layers": 2}, {"stochastic": False}]


@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 0, 2])], ids=["", "lengths"])
@pytest.mark.parametrize("options", PATHS, ids=str)
def test_autocast_takes_the_open_path(options, lengths, taken):
    model, x, noise = vrnn(**options).float(), some_x(), some_noise().float()
    whole = loss_of(model(x, noise=noise, lengths=lengths))
    del taken[:]
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (model(x, noise=noise, lengths=lengths, by_hand=how) for how in (None, False))
        with pytest.raises(ValueError, match="by_hand=True: "):
            model(x, noise=noise, by_hand=True)
    assert not taken
    assert_close(ours.reconstruction, theirs.reconstruction, **exact)
    grads = [torch.autograd.grad(loss_of(out), list(model.parameters()), allow_unused=True) for out in (ours, theirs)]
    assert_close(*grads, **exact)
    assert loss_of(ours).item() != whole.item()
    assert loss_of(ours).item() == pytest.approx(whole.item(), rel=0.02)


@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 0, 2])], ids=["", "lengths"])
@pytest.mark.parametrize("options", PATHS, ids=str)
def test_torch_func_takes_the_open_path(options, lengths, taken):
    model, x, noise = vrnn(**options), some_x(), some_noise()
    weights = dict(model.named_parameters())

    def loss(weights):
        return loss_of(torch.func.functional_call(model, weights, (x,), {"noise": noise, "lengths": lengths}))

    ours, value = torch.func.grad_and_value(loss)(weights)
    assert not taken
    expected = loss_of(model(x, noise=noise, lengths=lengths))
    grads = torch.autograd.grad(expected, list(weights.values()), allow_unused=True, materialize_grads=True)
    assert_close(value, expected, **tight)
    assert_close(tuple(ours.values()), grads, **tight)


def test_a_gradient_for_each_sequence_by_vmap():
    model, x, noise = vrnn(), some_x(), some_noise()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(weights, x, noise):
        return loss_of(torch.func.functional_call(model, weights, (x[:, None],), {"noise": noise[:, None]}))

    ours = torch.func.vmap(torch.func.grad(loss), (None, 1, 1))(weights, x, noise)
    for b in range(B):
        alone = torch.func.grad(loss)(weights, x[:, b], noise[:, b])
        assert_close({name: grads[b] for name, grads in ours.items()}, alone, **tight)


# The bounds of the log deviation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [-90.0, -80.0, -9.9, 9.9, 10.0, 12.0])
def test_beyond_the_bounds_of_the_log_deviation_both_paths_agree(bias, dtype):
    model = vrnn()
    with torch.no_grad():
        model.cell.posterior_net[0].weight[3:] *= 0.1 if bias not in (-80.0, 10.0) else 0.0
        model.cell.posterior_net[0].bias[3:] = bias
    model, x, noise = model.to(dtype), some_x(), some_noise().to(dtype)
    runs = []
    for how in (True, False):
        out = model(x, noise=noise, by_hand=how)
        total = out.hidden.sum() + out.z.sum() / out.z.detach().abs().max()
        runs.append(
            (out.posterior, out.hidden, out.z, torch.autograd.grad(total, list(model.cell.posterior_net.parameters())))
        )
    assert_close(*runs, **(tight if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}))
    slope = runs[0][-1][1][3:]
    assert (slope == 0).all() == (bias in (-90.0, -80.0, 10.0, 12.0))


def test_a_pens_memory_goes_through_the_gradient_by_hand(taken):
    cell = VRNNCell(5, 6, 3, embedding_size=4, emission=Pen(2, position=True))
    model, pen = spread(VRNN(cell)), torch.eye(3).double()[torch.randint(3, (T, B))]
    x = torch.cat([torch.randn(T, B, 2).double(), pen], -1).requires_grad_()
    grads = []
    for how in (True, False):
        out = model(x, noise=some_noise(), by_hand=how)
        grads.append(torch.autograd.grad(loss_of(out) + out.hidden.sum(), [x, *model.parameters()]))
    assert taken == [1]
    assert_close(*grads, **tight)
