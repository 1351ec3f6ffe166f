"""A long sequence is computed in parts, of which little is kept: the same numbers, the same gradients, less memory."""

import pytest
import torch
from helpers import some_state, some_x, tight, vrnn
from torch.func import functional_call
from torch.testing import assert_close

from vrnn_tutorial import bounds, paths
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.emissions import Pen
from vrnn_tutorial.outputs import LongOutput, Output

T, B = 11, 3
LENGTHS = torch.tensor([11, 0, 5])
DROPPED = {"dropout": 0.5, "locked_dropout": True, "weight_dropout": 0.5, "num_layers": 2}
OPTIONS = [
    {},
    {"batch_first": True},
    {"prior": "standard"},
    {"stochastic": False},
    {"rnn": "lstm", "num_layers": 2, "depth": 2},
    {"emission": "chained", "characters": 2},
    {"emission": "gaussian", "batch_first": True},
    {"emission": Pen(2, position=True)},
    {"dropout": 0.5},
    {"dropout": 0.5, "num_layers": 2, "rnn": "rnn"},
    DROPPED,
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


@pytest.fixture
def in_parts(monkeypatch):
    """Makes a sequence of so many characters a long one."""
    return lambda characters: monkeypatch.setattr(paths, "AT_ONCE", characters)


def model_and_x(options):
    """In training, and with more codes than there are characters in a part, and fewer than in the sequence."""
    model = vrnn(input_size=5, **options).train()
    torch.manual_seed(1)
    x = some_x(model.cell, T, B).detach() if not isinstance(options.get("emission"), Pen) else torch.randn(T, B, 5)
    if isinstance(options.get("emission"), Pen):
        x = torch.cat([x[..., :2], torch.eye(3)[torch.randint(3, (T, B))]], -1).double()
    return model, x.transpose(0, 1) if model.batch_first else x


def computed(model, x, **given):
    """What the model puts out, and the gradients of all of it, with the same dropout each time."""
    state = some_state(model.cell, B * given.get("particles", 1)) if not model.emission_type.memory_size else None
    torch.manual_seed(2)
    out = model(x, state, **given)
    total = sum((part * torch.linspace(0.5, 1.5, part.numel()).view(part.shape)).sum() for part in
                (out.reconstruction, out.kl, out.z, out.hidden))  # fmt: skip
    starts = [] if state is None else [part for part in torch.utils._pytree.tree_leaves(state)]
    found = torch.autograd.grad(total, [*starts, *model.parameters()], allow_unused=True, materialize_grads=True)
    return out, found


@pytest.mark.parametrize(
    "given", [{}, {"lengths": LENGTHS}, {"particles": 2}, {"particles": 2, "lengths": LENGTHS}], ids=str
)
@every_option
def test_parts_and_the_whole_are_the_same(options, given, in_parts):
    model, x = model_and_x(options)
    torch.manual_seed(3)
    whole, expected = computed(model, x, **given)
    in_parts(7)
    torch.manual_seed(3)
    long, found = computed(model, x, **given)
    assert isinstance(long, LongOutput) and type(whole) is Output
    for field in ("reconstruction", "kl", "z", "hidden", "state"):
        assert_close(getattr(long, field), getattr(whole, field), **tight)
    assert_close(found, expected, **tight)
    there = slice(None) if long.steps is None else long.steps
    for field in ("prior", "posterior"):
        for ours, theirs in zip(getattr(long, field), getattr(whole, field), strict=True):
            assert_close(ours[there], theirs[there], **tight)
    x = x.repeat_interleave(given.get("particles", 1), model.batch_axis)
    assert_close(long.emission.log_prob(x)[there], whole.emission.log_prob(x)[there], **tight)


def test_a_part_is_no_longer_than_asked_for_and_none_is_left_for_a_step_or_two(in_parts):
    in_parts(1000)
    for steps, columns, expected in ((10, 100, 10), (11, 100, 6), (21, 100, 7), (5, 2000, 1), (1, 5000, 1)):
        assert paths.steps_at_once(torch.zeros(steps, columns, 3)) == expected


def test_what_resamples_is_told_the_steps_of_the_whole_sequence(in_parts):
    model, seen = vrnn(input_size=5), []
    in_parts(7)
    model(torch.zeros(T, 1).long(), particles=2, resample=lambda t, ratio: seen.append(t))
    assert seen == list(range(T))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["", "lengths"])
def test_a_particle_filter_is_the_same(lengths, in_parts):
    model, x, found = vrnn(input_size=5), torch.randint(5, (T, B)), []
    for characters in (1000, 7):
        in_parts(characters)
        bound = bounds.fivo(model, x, 4, torch.Generator().manual_seed(1), 0.9, lengths=lengths)
        found.append((bound, torch.autograd.grad(bound.sum(), list(model.parameters()))))
    assert_close(*found, **tight)


def test_a_loss_is_computed_without_the_distributions_which_are_computed_once_if_asked_for(in_parts, monkeypatch):
    model, calls = vrnn(input_size=5), []
    in_parts(7)
    out = model(torch.zeros(T, B).long())
    prior = VRNNCell.prior
    monkeypatch.setattr(VRNNCell, "prior", lambda cell, h: calls.append(len(h)) or prior(cell, h))
    assert not calls and out.prior is out.prior and calls == [T]
    assert out.emission is out.emission and out.posterior is out.posterior
    assert out[3] is out.prior and tuple(out)[7] is out.emission and out[-2:] == (out.emission, None)
    changed = out._replace(kl=2 * out.kl)
    assert changed.prior is out.prior and torch.equal(changed.kl, 2 * out.kl)


def test_second_derivatives_are_the_same(in_parts):
    x, found = torch.randint(5, (T, B)), []
    for characters in (1000, 7):
        in_parts(characters)
        model = vrnn(input_size=5)
        out = model(x, generator=torch.Generator().manual_seed(1))
        weights, options = list(model.parameters()), {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad(bounds.loss(out), weights, create_graph=True, **options)
        found.append(torch.autograd.grad(sum(part.square().sum() for part in first), weights, **options))
    assert_close(*found, **tight)


def test_the_gradient_is_that_of_weights_that_were_lent_for_the_moment(in_parts):
    model, x, found = vrnn(input_size=5), torch.randint(5, (T, B)), []
    lent = {name: (1.5 * weight).detach().requires_grad_() for name, weight in model.named_parameters()}
    for characters in (1000, 7):
        in_parts(characters)
        out = functional_call(model, lent, (x,), {"generator": torch.Generator().manual_seed(1)})
        found.append(torch.autograd.grad(bounds.loss(out), list(lent.values())))
    assert_close(*found, **tight)


def test_weights_that_have_changed_meanwhile_are_noticed(in_parts):
    model = vrnn(input_size=5)
    in_parts(7)
    loss = bounds.loss(model(torch.zeros(T, B).long()))
    with torch.no_grad():
        model.cell.emission_net[0].bias.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_under_autocast_too_and_what_is_asked_for_there_has_a_gradient(in_parts):
    x, found = torch.randint(5, (T, B)), []
    for characters in (1000, 7):
        in_parts(characters)
        model = vrnn(input_size=5).float()
        with torch.autocast("cpu", torch.bfloat16):
            out = model(x, generator=torch.Generator().manual_seed(1))
            prior = out.prior.mean.square().mean()
        net = list(model.cell.prior_net.parameters())
        assert all(part.abs().sum() > 0 for part in torch.autograd.grad(prior, net, retain_graph=True))
        found.append(torch.autograd.grad(bounds.loss(out), list(model.parameters())))
    assert_close(*found, rtol=0.05, atol=0.02)


def test_without_a_gradient_nothing_is_kept(in_parts):
    model, x = vrnn(input_size=5), torch.randint(5, (T, B))
    noise = torch.randn(T, B, 3).double()
    with torch.no_grad():
        whole = model(x, noise=noise)
        in_parts(7)
        long = model(x, noise=noise)
    assert not long.reconstruction.requires_grad
    assert_close(long.reconstruction, whole.reconstruction, **tight)
    assert_close(long.prior, whole.prior, **tight)
