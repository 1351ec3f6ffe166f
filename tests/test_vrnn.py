"""Tests of vrnn_tutorial/vrnn.py and by_hand.py: the sequence against the cell, one step at a time.

The cell is held against the formulas in test_cell.py. Here every output of the sequence, and every gradient through
each of them, must be what autograd makes of the cell's steps, to 1e-10 in double precision.
"""

import math

import pytest
import torch
from helpers import EMISSIONS, OTHER_AXES, RNNS, exact, some_state, some_x, tight
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.vrnn import VRNN, Output

#: Each kind of recurrent layer, several of them, and deeper nets.
PATHS = [{"rnn": "gru"}, {"rnn": "gru", "depth": 2}, {"rnn": "lstm", "num_layers": 2}, {"rnn": "rnn", "num_layers": 3}]


def small_model(codes: int = 5, batch_first: bool = False, **options) -> VRNN:
    torch.manual_seed(0)
    return VRNN(VRNNCell(codes, 4, 3, embedding_size=6, **options), batch_first).double()


def some_noise(cell: VRNNCell, *shape: int):
    return torch.randn(*shape, cell.latent_size).double().requires_grad_()


def tensors(value) -> list:
    """All tensors in a tensor or a nest of tuples and lists, in order; numbers are passed over."""
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in tensors(part)]
    return [value] if isinstance(value, torch.Tensor) else []


def stepped(model: VRNN, x, state, noise) -> Output:
    """The same outputs from the cell, one step at a time."""
    steps = []
    for x_t, noise_t in zip(x, noise, strict=True):
        steps.append(model.cell(x_t, state, noise_t))
        state = steps[-1].state

    def stack(parts):
        if isinstance(parts[0], torch.Tensor):
            return torch.stack(parts)
        return type(parts[0])(*(stack(p) if isinstance(p[0], torch.Tensor) else p[0] for p in zip(*parts, strict=True)))

    return Output(
        torch.stack([-step.emission.log_prob(x_t) for step, x_t in zip(steps, x, strict=True)]),
        torch.stack([step.posterior.kl(step.prior) for step in steps]),
        state,
        *(stack([getattr(step, name) for step in steps]) for name in ("prior", "posterior", "z", "hidden", "emission")),
    )


def kl(out: Output) -> torch.Tensor:
    """Of each entry of z, by torch.distributions in double precision."""
    posterior, prior = (Normal(p.mean.double(), p.log_std.double().exp()) for p in (out.posterior, out.prior))
    return kl_divergence(posterior, prior)


def gradients(outputs, inputs) -> list:
    """Of a random weighting of all outputs, so that no two errors cancel."""
    torch.manual_seed(1)
    total = sum((torch.randn_like(output) * output).sum() for output in tensors(outputs))
    return torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)


def assert_sequence_equals_stepping(
    model: VRNN, steps: int, batch: int, start: bool, fields=Output._fields[:-1]
) -> None:
    cell = model.cell
    x, noise = some_x(cell, steps, batch), some_noise(cell, steps, batch)
    state = some_state(cell, batch) if start else None
    reference = stepped(model, x, state, noise)
    inputs = [*model.parameters(), noise, *tensors(state), *([] if cell.phi_x.takes_codes else [x])]
    expected = gradients([getattr(reference, name) for name in fields], inputs)
    for by_hand in (True, False):
        ours = model(x, state, noise, by_hand=by_hand)
        assert_close(tuple(ours), tuple(reference), **tight)
        assert_close(gradients([getattr(ours, name) for name in fields], inputs), expected, **tight)


# The sequence is the cell's steps


@pytest.mark.parametrize("start", [False, True], ids=["from zeros", "from a state"])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("rnn", RNNS)
def test_the_sequence_equals_stepping_in_every_output_and_every_gradient(rnn, layers, emission, characters, start):
    model = small_model(rnn=rnn, num_layers=layers, emission=emission, characters=characters)
    assert_sequence_equals_stepping(model, 4, 2, start)


@pytest.mark.parametrize("codes", [5, 50], ids=["more steps than codes", "more codes than steps"])
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("rnn", RNNS)
def test_so_it_does_with_deeper_nets_and_whichever_is_more_codes_or_steps(rnn, depth, codes):
    assert_sequence_equals_stepping(small_model(codes, rnn=rnn, depth=depth), 4, 2, True)


@pytest.mark.parametrize("codes", [5, 50], ids=["more steps than codes", "more codes than steps"])
@pytest.mark.parametrize(
    "fields", [("reconstruction", "kl"), *((name,) for name in Output._fields[:-1])], ids=" + ".join
)
@pytest.mark.parametrize("options", PATHS, ids=str)
def test_the_gradient_by_hand_is_right_through_each_output_alone(fields, codes, options):
    """One term of the backward pass serves each output, and a loss need not use them all."""
    assert_sequence_equals_stepping(small_model(codes, **options), 4, 2, True, fields)


@given(st.sampled_from(RNNS), st.sampled_from(EMISSIONS), *[st.integers(1, 3)] * 4, *[st.integers(1, 4)] * 3)
def test_so_they_do_for_any_sizes(rnn, emission, layers, depth, steps, batch, hidden, latent, embedding):
    torch.manual_seed(0)
    cell = VRNNCell(
        5,
        hidden,
        latent,
        embedding_size=embedding,
        num_layers=layers,
        rnn=rnn,
        emission=emission[0],
        characters=emission[1],
        depth=depth,
    )
    assert_sequence_equals_stepping(VRNN(cell).double(), steps, batch, True)


@pytest.mark.parametrize("options", PATHS, ids=str)
def test_the_losses_are_those_of_the_distributions_that_are_returned(options):
    model = small_model(**options)
    x = some_x(model.cell, 4, 2)
    out = model(x)
    assert_close(out.reconstruction, -out.emission.logits.log_softmax(-1).gather(-1, x[..., None])[..., 0], **tight)
    q, p = (Normal(d.mean, d.log_std.exp()) for d in (out.posterior, out.prior))
    assert_close(out.kl, kl_divergence(q, p).sum(-1), **tight)
    assert out.reconstruction.shape == out.kl.shape == (4, 2)


def test_the_default_model_has_the_source_articles_number_of_parameters():
    assert sum(parameter.numel() for parameter in VRNN().parameters()) == 95_104


# Gradients against finite differences


@pytest.mark.parametrize("dropout", [0, 0.4])
@pytest.mark.parametrize("options", PATHS, ids=str)
@pytest.mark.parametrize("emission, characters", EMISSIONS)
def test_gradients_agree_with_finite_differences(emission, characters, options, dropout):
    torch.manual_seed(0)
    cell = VRNNCell(3, 3, 2, embedding_size=2, emission=emission, characters=characters, dropout=dropout, **options)
    model = VRNN(cell).double().train()
    x, state, noise = some_x(cell, 3, 2), some_state(cell, 2), some_noise(cell, 3, 2)
    names, parameters = zip(*model.named_parameters(), strict=True)
    leaves = tensors(state)

    def run(noise, x, *inputs):
        torch.manual_seed(2)  # the same dropout each time
        values = iter(inputs[: len(leaves)])
        layers = [
            tuple(next(values) for _ in tensors(layer)) if isinstance(layer, tuple) else next(values)
            for layer in ((state,) if cell.num_layers == 1 else state)
        ]
        start = layers[0] if cell.num_layers == 1 else tuple(layers)
        out = torch.func.functional_call(model, dict(zip(names, inputs[len(leaves) :], strict=True)), (x, start, noise))
        return tuple(tensors(tuple(out)))

    assert torch.autograd.gradcheck(run, (noise, x, *leaves, *parameters), fast_mode=True, raise_exception=False)


# What sees what, by differentiating


def jacobian_blocks(outputs, inputs):
    """(T, T) booleans: does the output of step t depend on the input of step s? Both (T, B, ...)."""
    rows = []
    for output in outputs:
        weighted = (torch.randn_like(output) * output).sum()
        (gradient,) = torch.autograd.grad(
            weighted, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows.append((gradient != 0).flatten(1).any(1))
    return torch.stack(rows)


@pytest.mark.parametrize("vectors", [False, True], ids=["codes", "vectors"])
@pytest.mark.parametrize("options", PATHS, ids=str)
def test_each_distribution_sees_the_past_and_of_the_present_what_it_may(options, vectors):
    model = small_model(5 if vectors else 50, emission="gaussian" if vectors else "categorical", **options)
    features = []  # phi_x(x): codes carry no gradient
    phi_x = model.cell.phi_x.features
    model.cell.phi_x.features = lambda x: features.append(phi_x(x)) or features[-1]
    T = 4
    out = model(some_x(model.cell, T, 2))
    (features,) = features
    past, past_and_present = torch.ones(T, T).tril(-1).bool(), torch.ones(T, T).tril().bool()
    assert_close(jacobian_blocks(torch.cat(out.prior, -1), features), past)
    assert_close(jacobian_blocks(torch.cat(out.posterior, -1), features), past_and_present)
    assert_close(jacobian_blocks(out.z, features), past_and_present)
    assert_close(jacobian_blocks(out.hidden, features), past_and_present)
    emitted = torch.cat([part for part in out.emission if isinstance(part, torch.Tensor)], -1)
    assert_close(jacobian_blocks(emitted, features), past_and_present)
    # Of the present it sees what z tells: with z held, it sees the past alone.
    before = torch.cat([torch.zeros(1, 2, 4).double(), out.hidden[:-1]])
    held = model.cell.emission(out.z.detach(), before)
    held = torch.cat([part for part in held if isinstance(part, torch.Tensor)], -1)
    assert_close(held, emitted, **tight)
    assert_close(jacobian_blocks(held, features), past)


# State


@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("rnn", RNNS)
def test_two_halves_with_carried_state_are_the_whole(rnn, layers, emission, characters):
    model = small_model(rnn=rnn, num_layers=layers, emission=emission, characters=characters)
    x, noise = some_x(model.cell, 7, 2), some_noise(model.cell, 7, 2)
    whole = model(x, None, noise)
    first = model(x[:3], None, noise[:3])
    second = model(x[3:], first.state, noise[3:])
    assert_close(second.state, whole.state, **tight)
    for name in ("reconstruction", "kl", "z", "hidden"):
        assert_close(torch.cat([getattr(first, name), getattr(second, name)]), getattr(whole, name), **tight)
    inputs = [*model.parameters(), noise]
    assert_close(
        gradients([whole.reconstruction, whole.kl], inputs),
        gradients([torch.cat([first.reconstruction, second.reconstruction]), torch.cat([first.kl, second.kl])], inputs),
        **tight,
    )


@pytest.mark.parametrize("options", PATHS, ids=str)
def test_a_given_state_matters_and_is_left_as_it_was(options):
    model = small_model(**options)
    x, noise, state = some_x(model.cell, 3, 2), some_noise(model.cell, 3, 2), some_state(model.cell, 2)
    copy = [tensor.clone() for tensor in tensors(state)]
    given_state, zeros = model(x, state, noise), model(x, model.cell.zero_state(torch.ones(2, 1).double()), noise)
    assert_close(tensors(state), copy, **exact)
    assert_close(tuple(model(x, None, noise)), tuple(zeros), **exact)
    assert (given_state.kl[0] - zeros.kl[0]).abs().min() > 1e-3


# The batch first


@pytest.mark.parametrize("steps, batch", [(3, 3), (5, 2)])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("options", PATHS, ids=str)
def test_batch_first_is_the_same_transposed(options, emission, characters, steps, batch):
    model = small_model(emission=emission, characters=characters, **options)
    batch_first = VRNN(model.cell, batch_first=True)
    x, noise, state = (
        some_x(model.cell, steps, batch),
        some_noise(model.cell, steps, batch),
        some_state(model.cell, batch),
    )
    ours, reference = batch_first(x.transpose(0, 1), state, noise.transpose(0, 1)), model(x, state, noise)
    for name in Output._fields:
        expected = tensors(getattr(reference, name))
        if name != "state":
            expected = [tensor.transpose(0, 1) for tensor in expected]
        assert_close(tensors(getattr(ours, name)), expected, **tight)
    assert type(ours.emission) is type(reference.emission)
    assert_close(-ours.emission.log_prob(x.transpose(0, 1)), ours.reconstruction, **tight)


# Noise


@pytest.mark.parametrize("options", PATHS, ids=str)
def test_the_noise_is_the_one_given_and_drawn_from_the_generator_otherwise(options):
    model = small_model(**options)
    x = some_x(model.cell, 5, 2)
    drawn = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    runs = [model(x, generator=torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)]
    assert_close(tuple(runs[0]), tuple(runs[1]), **exact)
    assert_close(tuple(runs[0]), tuple(model(x, noise=drawn)), **exact)
    assert (runs[0].z != runs[2].z).all()
    assert_close((runs[0].z - runs[0].posterior.mean) / runs[0].posterior.log_std.exp(), drawn, **tight)


@pytest.mark.parametrize("options", PATHS, ids=str)
def test_the_noise_is_standard_normal_and_new_at_each_step(options):
    model = small_model(**options)
    torch.manual_seed(0)
    out = model(some_x(model.cell, 200, 10))
    noise = (out.z - out.posterior.mean) / out.posterior.log_std.exp()
    n = noise.numel()
    assert abs(noise.mean()) < 4 / math.sqrt(n)
    assert abs(noise.var() - 1) < 4 * math.sqrt(2 / n)
    for lagged in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1], noise[..., 1:] * noise[..., :-1]):
        assert abs(lagged.mean()) < 4 / math.sqrt(lagged.numel())


# Dropout


def transparent_model(**options) -> VRNN:
    """Prior, posterior and emission put out the h that they see as their mean."""
    torch.manual_seed(0)
    cell = VRNNCell(4, 4, 4, embedding_size=4, emission="gaussian", dropout=0.5, **options)
    with torch.no_grad():
        for net, h_begins in ((cell.prior_net, 0), (cell.posterior_net, 4), (cell.emission_net, 0)):
            net[0].weight.zero_(), net[0].bias.zero_()
            net[0].weight[:4, h_begins : h_begins + 4] = torch.eye(4)
    return VRNN(cell).double()


@pytest.mark.parametrize("options", [{"rnn": "gru"}, {"rnn": "gru", "num_layers": 2}, {"rnn": "lstm"}], ids=str)
def test_in_training_the_three_nets_see_the_same_dropped_h_a_new_mask_each_step(options):
    model = transparent_model(**options).train()
    state = some_state(model.cell, 100)
    out = model(some_x(model.cell, 6, 100), state)
    before = torch.cat([model.cell.hidden(state)[None], out.hidden[:-1]])
    seen = out.prior.mean
    kept = seen != 0
    assert_close(seen, 2 * before * kept)
    assert_close(out.posterior.mean, seen, **tight)
    assert_close(out.emission.mean, seen, **exact)
    # Half of the entries are dropped, and those of one step have nothing to do with those of the next.
    for agreement in (kept, kept[1:] == kept[:-1], kept[:, 1:] == kept[:, :-1]):
        assert abs(agreement.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(agreement.numel())


@pytest.mark.parametrize("rnn", RNNS)
def test_in_training_the_recurrence_sees_the_whole_h(rnn):
    model = transparent_model(rnn=rnn).train()
    x, state = some_x(model.cell, 6, 5), some_state(model.cell, 5)
    out = model(x, state)
    for x_t, z_t, h_t in zip(x, out.z, out.hidden, strict=True):
        state = model.cell.rnn(x_t, z_t, state)
        assert_close(model.cell.hidden(state), h_t, **tight)


@pytest.mark.parametrize("options", [{"rnn": "gru"}, {"rnn": "gru", "num_layers": 2}, {"rnn": "lstm"}], ids=str)
def test_a_locked_mask_hides_the_same_of_a_sequence_in_all_steps(options):
    model = transparent_model(**options, locked_dropout=True).train()
    state = some_state(model.cell, 200)
    out = model(some_x(model.cell, 6, 200), state)
    kept = out.prior.mean != 0
    assert_close(out.prior.mean, 2 * torch.cat([model.cell.hidden(state)[None], out.hidden[:-1]]) * kept)
    assert_close(out.emission.mean, out.prior.mean, **exact)
    assert (kept == kept[0]).all()
    for agreement in (kept[0], kept[0, 1:] == kept[0, :-1]):
        assert abs(agreement.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(agreement.numel())
    gradients(out.reconstruction, list(model.parameters()))


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("options", [{"rnn": "gru"}, {"rnn": "gru", "num_layers": 2}], ids=str)
def test_particles_of_a_sequence_share_their_masks_and_sequences_do_not(options, locked):
    """A mask of its own would weigh in a particle's weight, which is to tell of z alone."""
    model = transparent_model(**options, locked_dropout=locked).train()
    kept = (model(some_x(model.cell, 6, 100), particles=3).prior.mean != 0)[1:].unflatten(1, (100, 3))
    assert (kept == kept[:, :, :1]).all()
    agreement = (kept[:, 1:, 0] == kept[:, :-1, 0]).double()
    assert abs(agreement.mean() - 0.5) < 4 * 0.5 / math.sqrt((agreement[0] if locked else agreement).numel())


@pytest.mark.parametrize("locked", [False, True])
def test_particles_share_what_an_upper_layer_does_not_see(locked):
    """It puts out what it sees of the layer below, in whatever state that is: where one particle is zero, all are."""
    model = small_model(rnn="rnn", num_layers=2, dropout=0.5, locked_dropout=locked).train()
    with torch.no_grad():
        upper = model.cell.rnn_cells[1]
        upper.weight_ih.copy_(torch.eye(4)), upper.weight_hh.zero_(), upper.bias_ih.zero_(), upper.bias_hh.zero_()
    kept = (model(some_x(model.cell, 6, 200), particles=3).hidden != 0).unflatten(1, (200, 3))
    assert (kept == kept[:, :, :1]).all() and 0.4 < kept.double().mean() < 0.6
    same = (kept[1:] == kept[:-1]).double().mean().item()
    assert same == pytest.approx(1.0 if locked else 0.5, abs=0.05)


@pytest.mark.parametrize("locked", [False, True])
def test_an_upper_layer_sees_a_dropped_h_of_the_layer_below(locked):
    """It puts out what it sees of it."""
    model = small_model(rnn="rnn", num_layers=2, dropout=0.5, locked_dropout=locked).train()
    with torch.no_grad():
        upper = model.cell.rnn_cells[1]
        upper.weight_ih.copy_(torch.eye(4)), upper.weight_hh.zero_(), upper.bias_ih.zero_(), upper.bias_hh.zero_()
    kept = model(some_x(model.cell, 6, 200)).hidden != 0
    assert abs(kept.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(kept[0].numel() if locked else kept.numel())
    assert (kept[1:] == kept[:-1]).double().mean().item() == pytest.approx(1.0 if locked else 0.5, abs=0.03)


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 2, 0])], ids=["", "lengths"])
@pytest.mark.parametrize("options", PATHS, ids=str)
def test_in_training_a_part_of_the_weights_from_h_to_h_is_zero_in_all_steps(options, lengths):
    model, plain = small_model(weight_dropout=0.5, **options).train(), small_model(**options).eval()
    x, noise, state = some_x(plain.cell, 5, 3), some_noise(plain.cell, 5, 3), some_state(plain.cell, 3)
    torch.manual_seed(1)
    with torch.no_grad():
        for cell in plain.cell.rnn_cells:
            cell.weight_hh.copy_(torch.nn.functional.dropout(cell.weight_hh, 0.5))
    torch.manual_seed(1)
    ours, theirs = model(x, state, noise, lengths=lengths), plain(x, state, noise, lengths=lengths)
    assert_close(tuple(ours)[:-1], tuple(theirs)[:-1], **tight)
    given, dropped = (m.cell.rnn_cells[-1].weight_hh for m in (model, plain))
    [ours], [theirs] = gradients(ours.hidden, [given]), gradients(theirs.hidden, [dropped])
    assert_close(ours, 2 * theirs * (dropped != 0), **tight)
    assert 0 < (dropped == 0).sum() < dropped.numel()


@pytest.mark.parametrize("options", [{"locked_dropout": True}, {"weight_dropout": 0.5}], ids=str)
def test_a_cell_that_is_called_step_by_step_keeps_no_mask_and_says_so(options):
    model = small_model(**options)
    model.cell.phi_x.register_forward_hook(lambda *_: None)
    x = some_x(model.cell, 2, 3)
    with pytest.raises(ValueError, match="has a hook, .*: called step by step, it keeps no mask; train it without"):
        model(x)
    assert model.eval()(x).hidden.shape == (2, 3, 4)


def test_nor_has_it_one_for_all_particles():
    model = small_model(dropout=0.5)
    model.cell.phi_x.register_forward_hook(lambda *_: None)
    x = some_x(model.cell, 2, 3)
    with pytest.raises(ValueError, match="it keeps no mask; .* and with particles without dropout"):
        model(x, particles=2)
    assert model(x).hidden.shape == (2, 3, 4)
    assert model.eval()(x, particles=2).hidden.shape == (2, 6, 4)


@pytest.mark.parametrize("options", PATHS, ids=str)
def test_under_autocast_the_kl_is_computed_in_single_precision(options):
    model = small_model(**options).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(some_x(model.cell, 20, 3))
    assert_close(out.kl.double(), kl(out).sum(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", PATHS, ids=str)
def test_in_evaluation_nothing_is_dropped(options):
    dropped = {"dropout": 0.5, "locked_dropout": True, "weight_dropout": 0.5}
    with_dropout, without = (small_model(**more, **options).eval() for more in (dropped, {}))
    x, noise = some_x(without.cell, 5, 2), some_noise(without.cell, 5, 2)
    assert_close(tuple(with_dropout(x, None, noise)), tuple(without(x, None, noise)), **exact)


# What is refused


@pytest.mark.parametrize("codes", [5, 50], ids=["more steps than codes", "more codes than steps"])
@pytest.mark.parametrize(
    "x, sentence",
    [
        (lambda codes: torch.full((4, 2), codes), "x holds codes from {0} to {0}; this model knows 0 to"),
        (lambda codes: torch.full((4, 2), -1), "x holds codes from -1 to -1; this model knows 0 to"),
        (lambda codes: torch.zeros(4, 2), "x must hold int64 codes, not torch.float32"),
        (
            lambda codes: torch.zeros(4, dtype=torch.int64),
            r"x must be \(T, B\), none of them 0, but its shape is \(4,\)",
        ),
        (lambda codes: torch.zeros(0, 2, dtype=torch.int64), r"x must be .* but its shape is \(0, 2\)"),
        (lambda codes: torch.zeros(4, 0, dtype=torch.int64), r"x must be .* but its shape is \(4, 0\)"),
    ],
    ids=["too large", "negative", "floats", "no batch", "no steps", "no sequences"],
)
def test_codes_of_the_wrong_type_or_shape_are_refused(codes, x, sentence):
    with pytest.raises(ValueError, match=sentence.format(codes)):
        small_model(codes)(x(codes))


@pytest.mark.parametrize(
    "options, shape, sentence",
    [
        ({"emission": "gaussian"}, (4, 2, 6), r"real vectors of size 5, not torch.float64 \(4, 2, 6\)"),
        ({"emission": "bernoulli"}, (4, 2, 6), r"real vectors of size 5, not torch.float64 \(4, 2, 6\)"),
    ],
)
def test_vectors_of_the_wrong_size_are_refused(options, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_model(**options)(torch.zeros(shape).double())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options, shape, axes", OTHER_AXES, ids=str)
def test_an_x_of_other_axes_is_refused_not_broadcast(options, shape, axes, batch_first):
    """Even where every size would fit."""
    model = small_model(batch_first=batch_first, **options)
    x = torch.zeros(shape, dtype=torch.float64 if "emission" in options else torch.int64)
    axes = axes.replace("T, B", "B, T") if batch_first else axes
    with pytest.raises(ValueError) as error:
        model(x)
    assert str(error.value) == f"x must be ({axes}), none of them 0, but its shape is {shape}."


# What the recurrence reads may be another x than the one that is encoded and scored


@pytest.mark.parametrize("characters", [1, 3])
@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_recurrence_reads_what_it_is_given_and_the_encoder_sees_x(path, characters, batch_first):
    model = small_model(batch_first=batch_first, characters=characters, **path)
    cell = model.cell
    x, read, noise = some_x(cell, 4, 2), some_x(cell, 4, 2), some_noise(cell, 4, 2)
    given = [v.transpose(0, 1) for v in (x, noise, read)] if batch_first else [x, noise, read]
    out = model(given[0], noise=given[1], rnn_input=given[2])
    reconstruction, kl = ((v.t() if batch_first else v) for v in (out.reconstruction, out.kl))
    state = cell.zero_state(noise[0])
    for t in range(4):
        step = cell(x[t], state, noise[t])
        assert_close(reconstruction[t], -step.emission.log_prob(x[t]), **tight)
        assert_close(kl[t], step.posterior.kl(step.prior), **tight)
        state = cell.rnn(read[t], step.z, state)
    assert_close(out.state, state, **tight)


# Options: a standard prior, no noise, several particles


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_standard_prior_is_the_same_at_every_step_and_has_no_net(path):
    model, plain = small_model(prior="standard", **path), small_model(**path)
    x, noise = some_x(model.cell, 4, 2), some_noise(model.cell, 4, 2)
    assert_sequence_equals_stepping(model, 4, 2, True)
    out = model(x, None, noise)
    assert_close(tuple(out.prior), (torch.zeros(4, 2, 3).double(),) * 2, **exact)
    q = Normal(out.posterior.mean, out.posterior.log_std.exp())
    assert_close(out.kl, kl_divergence(q, Normal(0.0, 1.0)).sum(-1), **tight)
    saved = sum(p.numel() for p in plain.parameters()) - sum(p.numel() for p in model.parameters())
    assert saved == sum(p.numel() for p in plain.cell.prior_net.parameters()) > 0


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_without_noise_z_is_the_priors_mean_and_nothing_is_paid_for_it(path):
    model, plain = small_model(stochastic=False, **path), small_model(**path)
    x = some_x(model.cell, 4, 2)
    out, again = model(x), model(x, noise=100 * some_noise(model.cell, 4, 2))
    assert_close(out.z, again.z, **exact)
    assert_close(out.z, out.prior.mean, **exact)
    assert_close(out.kl, torch.zeros(4, 2).double(), **exact)
    state = model.zero_state(torch.zeros(2, 1).double())
    for t in range(4):
        step, drawn = model.cell(x[t], state), model.draw(state, prior_temperature=5.0)
        assert_close(step.z, out.z[t], **tight)
        assert_close(drawn.z, out.z[t], **tight)
        assert_close(-drawn.emission.log_prob(x[t]), out.reconstruction[t], **tight)
        assert_close(step.posterior.kl(step.prior), torch.zeros(2).double(), **exact)
        state = model.advance(x[t], drawn.z, state)
        assert_close(model.hidden(state), out.hidden[t], **tight)
    out.reconstruction.sum().backward()
    net = [module for module in model.cell.prior_net if isinstance(module, torch.nn.Linear)][-1]
    means, deviations = net.weight.grad.split(3)
    assert (means != 0).any(1).all() and not deviations.any()
    assert model.cell.posterior_net is None
    saved = sum(p.numel() for p in plain.parameters()) - sum(p.numel() for p in model.parameters())
    assert saved == sum(p.numel() for p in plain.cell.posterior_net.parameters()) > 0


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_particles_are_columns_each_as_if_called_alone(path, emission, characters, batch_first):
    model, K = small_model(emission=emission, characters=characters, batch_first=batch_first, **path), 3
    x, noise = some_x(model.cell, 4, 2), some_noise(model.cell, 4, 2 * K)
    turn = (lambda v: v.transpose(0, 1)) if batch_first else (lambda v: v)
    together = model(turn(x), noise=turn(noise), particles=K)
    for k in range(K):
        alone = model(turn(x), noise=turn(noise[:, k::K]))
        for name in ("reconstruction", "kl", "z", "hidden"):
            assert_close(turn(getattr(together, name))[:, k::K], turn(getattr(alone, name)), **tight)
        for ours, theirs in zip(tensors(together.state), tensors(alone.state), strict=True):
            assert_close(ours[k::K], theirs, **tight)


def test_fewer_than_one_particle_is_refused():
    with pytest.raises(ValueError, match="particles must be at least 1, not 0"):
        small_model()(torch.zeros(4, 2).long(), particles=0)


# What is given beside x


def test_a_model_is_made_of_a_cell():
    with pytest.raises(TypeError, match=r"VRNN takes a VRNNCell, as in VRNN\(VRNNCell\(128, 64\)\), not 128"):
        VRNN(128, 64)


@pytest.mark.parametrize(
    "noise, sentence",
    [
        (torch.zeros(3, 2, 3).double(), r"noise must be torch.float64 \(4, 2, 3\), not torch.float64 \(3, 2, 3\)"),
        (torch.zeros(4, 1, 3).double(), r"noise must be torch.float64 \(4, 2, 3\), not torch.float64 \(4, 1, 3\)"),
        (torch.zeros(4, 2, 3), r"noise must be torch.float64 \(4, 2, 3\), not torch.float32 \(4, 2, 3\)"),
    ],
    ids=["another length", "another batch", "another type"],
)
def test_noise_of_another_size_or_type_is_refused_and_not_broadcast(noise, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_model()(torch.zeros(4, 2).long(), noise=noise)


@pytest.mark.parametrize("noise", [torch.zeros(2, 1).double(), torch.zeros(1, 3).double(), torch.zeros(2, 3)], ids=str)
def test_so_is_a_steps_in_training_and_in_generation(noise):
    model = small_model()
    state = model.zero_state(torch.zeros(2, 1).double())
    told = r"^noise must be torch.float64 \(2, 3\), not torch.float\d\d \(\d, \d\)\.$"
    for call in (lambda: model.cell(torch.zeros(2).long(), state, noise), lambda: model.draw(state, noise=noise)):
        with pytest.raises(ValueError, match=told):
            call()


@pytest.mark.parametrize(
    "options, state, sentence",
    [
        ({}, torch.zeros(2, 5), r"state must have the shape \(2, 4\), as zero_state makes it, not \(2, 5\)"),
        ({}, torch.zeros(1, 4), r"the shape \(2, 4\), .* not \(1, 4\)"),
        ({}, (torch.zeros(2, 4),) * 2, r"the shape \(2, 4\), .* not \(\(2, 4\), \(2, 4\)\)"),
        ({"rnn": "lstm"}, torch.zeros(2, 4), r"the shape \(\(2, 4\), \(2, 4\)\), .* not \(2, 4\)"),
        (
            {"num_layers": 2},
            (torch.zeros(2, 4), None),
            r"the shape \(\(2, 4\), \(2, 4\)\), .* not \(\(2, 4\), 'None'\)",
        ),
    ],
    ids=["wider", "one column", "two layers", "no c", "half of it"],
)
def test_a_state_of_another_form_is_refused(options, state, sentence):
    model = small_model(**options)
    state = tuple(s if s is None else s.double() for s in state) if isinstance(state, tuple) else state.double()
    for call in (lambda: model(torch.zeros(4, 2).long(), state), lambda: model.cell(torch.zeros(2).long(), state)):
        with pytest.raises(ValueError, match=sentence):
            call()


def test_another_rnn_input_than_x_has_its_shape():
    with pytest.raises(ValueError, match=r"rnn_input must have x's shape \(4, 2\), not \(3, 2\)"):
        small_model()(torch.zeros(4, 2).long(), rnn_input=torch.zeros(3, 2).long())


@pytest.mark.parametrize("own, given", [("float32", "float64"), ("float64", "float32"), ("float32", "float16")])
def test_real_numbers_of_another_precision_are_converted(own, given):
    model = small_model(emission="gaussian").to(getattr(torch, own))
    x = torch.randn(4, 2, 5).to(getattr(torch, given))
    noise = torch.zeros(4, 2, 3).to(getattr(torch, own))
    out = model(x, noise=noise)
    assert out.reconstruction.dtype == getattr(torch, own)
    assert_close(out.reconstruction, model(x.to(noise.dtype), noise=noise).reconstruction, **exact)
    assert_close(model.cell(x[0], noise=noise[0]).state, out.hidden[0])


@pytest.mark.parametrize("as_is", [lambda a: a, lambda a: a[::-1].copy()[::-1], lambda a: a.setflags(write=False) or a])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
def test_an_array_is_taken_for_a_tensor(emission, characters, as_is):
    model = small_model(emission=emission, characters=characters)
    x, noise = some_x(model.cell, 4, 2).detach(), some_noise(model.cell, 4, 2)
    assert_close(
        model(as_is(x.numpy().copy()), noise=noise).reconstruction, model(x, noise=noise).reconstruction, **exact
    )
    assert_close(model.cell(as_is(x[0].numpy().copy()), noise=noise[0]).z, model.cell(x[0], noise=noise[0]).z, **exact)


def test_whole_numbers_are_no_vectors():
    with pytest.raises(ValueError, match=r"x must hold real vectors of size 5, not torch.int64 \(4, 2, 5\)"):
        small_model(emission="gaussian")(torch.zeros(4, 2, 5).long())


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("field", ["z", "hidden"])
def test_what_is_put_out_may_be_written_over_before_the_gradient_is_asked_for(field, by_hand):
    """Of the path by hand nothing that is put out is what the gradient is computed from."""
    model = small_model()
    x, noise = some_x(model.cell, 5, 3), some_noise(model.cell, 5, 3).detach()

    def found(change: bool):
        out = model(x, None, noise, by_hand=by_hand)
        kept = out.kl.sum()
        if change:
            with torch.no_grad():
                getattr(out, field).zero_()
        return torch.autograd.grad(kept, list(model.cell.posterior_net.parameters()))

    for ours, theirs in zip(found(True), found(False), strict=True):
        assert_close(ours, theirs, **exact)
