"""Sequences of unequal length in one batch: each comes out as if it were alone, whatever stands behind its end.

Every output and every gradient is that of the sequences one by one, to 1e-10 in double precision.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import exact, spread, tight
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial import bounds
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.emissions import Bernoulli, Chained, Gaussian, GaussianMixture, Pen, Scaled
from vrnn_tutorial.evaluation import evaluate
from vrnn_tutorial.probes import active_units, swap_z
from vrnn_tutorial.vrnn import VRNN

T, LENGTHS = 5, (3, 0, 5, 1)
#: Each emission, what its x is, and the size of that.
EMISSIONS = {
    "codes": ("categorical", "codes", 5),
    "three codes": (Chained(3), "three codes", 5),
    "coins": ("bernoulli", "coins", 4),
    "coins with holes": (Bernoulli(missing=True), "holes", 4),
    "vectors": ("gaussian", "vectors", 4),
    "vectors with holes": (Gaussian(missing=True), "holes", 4),
    "mixture": (GaussianMixture(3), "vectors", 4),
    "scaled": (Scaled(Gaussian(), [1.0, 2.0, 3.0, 4.0], 2.0), "vectors", 4),
    "pen": (Pen(3, joint=True), "pen", 5),
    "pen that knows where it is": (Pen(2, position=True), "pen", 5),
    "scaled pen": (Scaled(Pen(2, position=True), 0.0, [20.0, 20.0, 1.0, 1.0, 1.0]), "pen", 5),
}
CELLS = [
    {},
    {"num_layers": 3},
    {"depth": 2},
    {"rnn": "lstm"},
    {"rnn": "lstm", "num_layers": 2},
    {"rnn": "rnn", "depth": 2},
    {"rnn": "rnn", "num_layers": 2},
]
OPTIONS = [
    {"stochastic": False},
    {"stochastic": False, "num_layers": 2},
    {"prior": "standard"},
    {"prior": "standard", "rnn": "lstm"},
]


def some_x(what: str, *shape: int):
    if what == "codes":
        return torch.randint(5, shape)
    if what == "three codes":
        return torch.randint(5, (*shape, 3))
    if what == "pen":
        return torch.cat([torch.randn(*shape, 2).double(), F.one_hot(torch.randint(3, shape), 3).double()], -1)
    x = torch.randn(*shape, 4).double()
    if what == "coins":
        return (x > 0).double()
    return torch.where(x < -0.5, math.nan, (x > 0).double()) if what == "holes" else x


def model_of(make, emission: str, *, batch_first: bool = False, **options):
    kind, _, size = EMISSIONS[emission]
    options = {"embedding_size": 4, "emission": kind, **options}
    if make is CharRNN:
        return spread(CharRNN(size, 6, batch_first=batch_first, **options))
    return spread(VRNN(VRNNCell(size, 6, 3, **options), batch_first))


def spoiled(x, lengths):
    """x (T, B, ...), and behind each sequence's end what no x may hold."""
    x = x.clone()
    for b, length in enumerate(lengths):
        x[length:, b] = math.nan if x.is_floating_point() else -99
    return x


def leaves(state) -> list:
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


def like(state, values):
    """The values, arranged as the state is."""
    return next(values) if isinstance(state, torch.Tensor) else tuple(like(part, values) for part in state)


def column(model, leaf, b: int):
    """Of one sequence, what a state keeps: the CharRNN's layers have the batch in their second axis."""
    axis = 1 if isinstance(model, CharRNN) and leaf.dim() == 3 else 0
    return leaf.narrow(axis, b, 1)


def assert_as_one_by_one(model, what, lengths, T, *, start=False, heard=False, by_hand=None) -> None:
    """Outputs, and the gradients of a random weighting of them, of the batch and of each sequence by itself."""
    torch.manual_seed(3)
    B, is_vrnn = len(lengths), isinstance(model, VRNN)
    given = {"x": some_x(what, T, B)}
    if heard:
        given["rnn_input"] = some_x(what, T, B)
    if is_vrnn:
        given["noise"] = torch.randn(T, B, 3).double()
    zeros = model.zero_state(torch.zeros(B, 1).double())
    state = [torch.tanh(torch.randn_like(leaf)) for leaf in leaves(zeros)] if start else []
    inputs = [*model.parameters(), *state, *(values for values in given.values() if values.is_floating_point())]
    for tensor in inputs:
        tensor.requires_grad_()
    fields = ("reconstruction", "kl", "hidden", *(["z"] if is_vrnn else []))
    options = {"by_hand": by_hand} if is_vrnn else {}

    def run(given, state, **lengths):
        if model.batch_first:
            given = {name: values.transpose(0, 1) for name, values in given.items()}
        out = model(state=like(zeros, iter(state)) if state else None, **given, **options, **lengths)
        values = [getattr(out, name) for name in fields]
        return [v.transpose(0, 1) if model.batch_first else v for v in values], leaves(out.state), out.steps

    whole, after, steps = run(
        {name: spoiled(values, lengths) for name, values in given.items()}, state, lengths=torch.tensor(lengths)
    )
    assert_close(steps.t() if model.batch_first else steps, torch.arange(T)[:, None] < torch.tensor(lengths), **exact)
    weights = [torch.randn_like(value) for value in (*whole, *after)]
    ours = sum((weight * value).sum() for weight, value in zip(weights, (*whole, *after), strict=True))
    alone = 0 * next(model.parameters()).sum()
    for b, length in enumerate(lengths):
        before = [column(model, leaf, b) for leaf in state or leaves(zeros)]
        if length:
            part = {name: values[:length, b : b + 1] for name, values in given.items()}
            expected, last, _ = run(part, before if state else [])
        else:
            expected, last = [value[:0, :1].detach() for value in whole], before
        for value, weight, own in zip(whole, weights, expected, strict=False):
            assert_close(value[:length, b : b + 1], own, **tight)
            assert_close(value[length:, b], torch.zeros_like(value[length:, b]), **exact)
            alone = alone + (weight[:length, b : b + 1] * own).sum()
        for value, weight, own in zip(after, weights[len(whole) :], last, strict=True):
            assert_close(column(model, value, b), own, **tight)
            alone = alone + (column(model, weight, b) * own).sum()
    options = {"allow_unused": True, "materialize_grads": True}
    ours = ours + 0 * next(model.parameters()).sum()
    assert_close(torch.autograd.grad(ours, inputs, **options), torch.autograd.grad(alone, inputs, **options), **tight)


@pytest.mark.parametrize("options", CELLS, ids=str)
@pytest.mark.parametrize("emission", EMISSIONS)
@pytest.mark.parametrize("make", [VRNN, CharRNN])
def test_every_kind_of_model_reads_each_sequence_as_if_it_were_alone(make, emission, options):
    model = model_of(make, emission, **options)
    assert_as_one_by_one(model, EMISSIONS[emission][1], LENGTHS, T)


@pytest.mark.parametrize("emission", EMISSIONS)
def test_so_does_the_path_that_autograd_knows(emission):
    assert_as_one_by_one(model_of(VRNN, emission), EMISSIONS[emission][1], LENGTHS, T, by_hand=False)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("emission", ["codes", "vectors with holes", "pen that knows where it is"])
def test_so_do_models_without_noise_and_those_of_a_standard_prior(emission, options):
    assert_as_one_by_one(model_of(VRNN, emission, **options), EMISSIONS[emission][1], LENGTHS, T)


@pytest.mark.parametrize("heard", [False, True], ids=["", "with an rnn_input"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["", "batch first"])
@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}], ids=str)
@pytest.mark.parametrize("emission", ["codes", "three codes", "vectors", "scaled pen"])
@pytest.mark.parametrize("make", [VRNN, CharRNN])
def test_so_they_do_from_a_state_whichever_axis_comes_first(make, emission, options, batch_first, heard):
    model = model_of(make, emission, batch_first=batch_first, **options)
    assert_as_one_by_one(model, EMISSIONS[emission][1], LENGTHS, T, start=True, heard=heard)


class OfItsOwn(VRNNCell):
    def prior(self, h):
        return super().prior(2 * h)


@pytest.mark.parametrize("emission", ["codes", "three codes", "vectors with holes", "pen that knows where it is"])
@pytest.mark.parametrize("start", [False, True], ids=["", "from a state"])
def test_so_does_a_cell_that_is_called_step_by_step(emission, start):
    kind, what, size = EMISSIONS[emission]
    for batch_first in (False, True):
        model = spread(VRNN(OfItsOwn(size, 6, 3, embedding_size=4, emission=kind, num_layers=2), batch_first))
        assert_as_one_by_one(model, what, LENGTHS, T, start=start, heard=start)


@given(
    st.sampled_from([VRNN, CharRNN]),
    st.sampled_from(sorted(EMISSIONS)),
    st.sampled_from(CELLS),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(0, 2),
    st.sampled_from([None, False]),
    *[st.booleans()] * 3,
)
def test_so_they_do_for_any_lengths(make, emission, options, lengths, behind, by_hand, batch_first, start, heard):
    """All of them 0, too, and fewer than there are steps."""
    model = model_of(make, emission, batch_first=batch_first, **options)
    T, what = max(1, max(lengths) + behind), EMISSIONS[emission][1]
    assert_as_one_by_one(model, what, lengths, T, start=start, heard=heard, by_hand=by_hand)


@pytest.mark.parametrize("make", [VRNN, CharRNN])
def test_lengths_of_all_steps_change_nothing(make):
    model = model_of(make, "codes")
    x = some_x("codes", T, 2)
    options = {"noise": torch.randn(T, 2, 3).double()} if make is VRNN else {}
    whole, plain = model(x, lengths=torch.tensor([T, T]), **options), model(x, **options)
    for name in ("reconstruction", "kl", "hidden"):
        assert_close(getattr(whole, name), getattr(plain, name), **exact)
    assert_close(whole.state, plain.state, **exact)


@pytest.mark.parametrize(
    "lengths, sentence",
    [
        ([3, 0], r"lengths must be an int64 tensor of shape \(2,\), one for each sequence, not \[3, 0\]"),
        (torch.tensor([3.0, 0.0]), r"lengths must be an int64 tensor of shape \(2,\), .* not torch.float32 \(2,\)"),
        (torch.tensor([3, 0, 1]), r"lengths must be an int64 tensor of shape \(2,\), .* not torch.int64 \(3,\)"),
        (torch.tensor([[3, 0]]), r"lengths must be an int64 tensor of shape \(2,\), .* not torch.int64 \(1, 2\)"),
        (torch.tensor([6, 0]), "lengths must lie between 0 and T=5; these go from 0 to 6"),
        (torch.tensor([3, -1]), "lengths must lie between 0 and T=5; these go from -1 to 3"),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_first", [False, True], ids=["", "batch first"])
@pytest.mark.parametrize("make", [VRNN, CharRNN])
def test_lengths_that_cannot_be_are_refused(make, batch_first, lengths, sentence):
    model, x = model_of(make, "vectors", batch_first=batch_first), some_x("vectors", T, 2)
    with pytest.raises(ValueError, match=sentence):
        model(x.transpose(0, 1) if batch_first else x, lengths=lengths)


@pytest.mark.parametrize("make", [VRNN, CharRNN])
def test_what_no_x_may_hold_is_refused_before_the_end(make):
    model, x = model_of(make, "codes"), some_x("codes", T, 2)
    x[2, 1] = 7
    model(x, lengths=torch.tensor([T, 2]))
    with pytest.raises(ValueError, match="x holds codes from . to 7; this model knows 0 to 4"):
        model(x, lengths=torch.tensor([T, 3]))


# What is computed of sequences


class Noise:
    """In place of what is drawn: the same numbers for a sequence alone as beside others, read on from call to call."""

    def __init__(self, monkeypatch, T: int, columns: int):
        generator = torch.Generator().manual_seed(8)
        self.table = torch.randn(T, columns, 3, generator=generator).double()
        for room in ("vrnn", "probes"):
            monkeypatch.setattr(f"vrnn_tutorial.{room}.standard_normal", self.draw)
        monkeypatch.setattr(torch, "multinomial", self.systematic)
        self.of(slice(None))

    def of(self, columns: slice) -> None:
        """Of the sequence's columns, from the first step."""
        self.columns, self.start = columns, 0

    def draw(self, shape, like, generator=None):
        self.start += shape[0]
        drawn = self.table[self.start - shape[0] : self.start, self.columns]
        assert drawn.shape == shape
        return drawn

    @staticmethod
    def systematic(w, K, replacement, generator):
        """Ancestors by the weights of each sequence and no chance, in place of torch.multinomial."""
        return torch.searchsorted(w.cumsum(1), (torch.arange(K) + 0.5).expand(len(w), -1).div(K)).clamp(max=K - 1)


PATHS = {"by hand": {}, "open": {"stochastic": False}, "step by step": {}}


def reader(path: str, emission: str = "codes") -> VRNN:
    model = model_of(VRNN, emission, **PATHS[path])
    if path == "step by step":
        model.cell.phi_z.register_forward_hook(lambda *call: None)
    return model


@pytest.mark.parametrize("resample_below", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("path", PATHS)
def test_a_bound_is_each_sequences_own(path, resample_below, monkeypatch):
    model, K = reader(path), 4
    x, noise = some_x("codes", T, len(LENGTHS)), Noise(monkeypatch, T, K * len(LENGTHS))

    def bound_of(x, lengths=None):
        if resample_below:
            return bounds.fivo(model, x, K, resample_below=resample_below, lengths=lengths)
        return bounds.iwae(model, x, K, lengths=lengths)

    together = bound_of(spoiled(x, LENGTHS), torch.tensor(LENGTHS))
    for b, length in enumerate(LENGTHS):
        noise.of(slice(b * K, (b + 1) * K))
        alone = bound_of(x[:length, b : b + 1]) if length else torch.zeros(1).double()
        assert_close(together[b : b + 1], alone, **tight)


@pytest.mark.parametrize("steps_at_once", [1, 2, 500])
@pytest.mark.parametrize("batch_first", [False, True], ids=["", "batch first"])
@pytest.mark.parametrize("make", [VRNN, CharRNN])
def test_held_out_losses_are_means_over_the_steps_that_there_are(make, batch_first, steps_at_once, monkeypatch):
    model, draws = model_of(make, "vectors", batch_first=batch_first), 2 if make is VRNN else 1
    x, noise = some_x("vectors", T, len(LENGTHS)), Noise(monkeypatch, T, draws * len(LENGTHS))
    given = spoiled(x, LENGTHS)
    batch = given.transpose(0, 1) if batch_first else given, torch.tensor(LENGTHS)
    together = evaluate(model, batch, draws=draws, steps_at_once=steps_at_once)
    sums = torch.zeros(2).double()
    for b, length in enumerate(LENGTHS):
        if length:
            noise.of(slice(b * draws, (b + 1) * draws))
            part = x[:length, b : b + 1]
            alone = evaluate(model, part.transpose(0, 1) if batch_first else part, draws=draws)
            sums += length * torch.tensor([alone.reconstruction, alone.kl], dtype=torch.float64)
    expected = (sums / sum(LENGTHS)).tolist()
    assert [together.reconstruction, together.kl] == pytest.approx(expected, rel=1e-10)
    assert together.characters == sum(LENGTHS)


@pytest.mark.parametrize("relative", [False, True], ids=["", "relative"])
@pytest.mark.parametrize("source", ["posterior", "prior", "zeros"])
def test_a_swap_is_scored_within_each_sequence(source, relative, monkeypatch):
    model, lengths = model_of(VRNN, "vectors"), torch.tensor(LENGTHS)
    # The model draws T of each sequence, and after it the probe.
    x, noise = some_x("vectors", T, len(LENGTHS)), Noise(monkeypatch, 2 * T, len(LENGTHS))
    together = swap_z(model, spoiled(x, LENGTHS), source, relative=relative, lengths=lengths)
    for b, length in enumerate(LENGTHS):
        assert_close(together[length:, b], torch.zeros(T - length).double(), **exact)
        if length:
            rows = torch.cat([torch.arange(length), T + torch.arange(length)])
            whole, noise.table = noise.table, noise.table[rows]
            noise.of(slice(b, b + 1))
            alone = swap_z(model, x[:length, b : b + 1], source, relative=relative)
            noise.table = whole
            assert_close(together[:length, b : b + 1], alone, **tight)


def test_a_neighbours_z_is_zeros_behind_its_end():
    model, lengths = model_of(VRNN, "vectors"), torch.tensor(LENGTHS)
    x, cell = some_x("vectors", T, len(LENGTHS)), model.cell
    z = model(x, generator=torch.Generator().manual_seed(0), lengths=lengths).z
    together = swap_z(model, spoiled(x, LENGTHS), "other", lengths=lengths)
    for b, length in enumerate(LENGTHS):
        h = torch.zeros(1, 6).double()
        for t in range(length):
            theirs = z[t, b - 1][None] if t < LENGTHS[b - 1] else torch.zeros(1, 3).double()
            x_t = x[t, b : b + 1]
            assert_close(together[t, b : b + 1], -cell.emission(theirs, h).log_prob(x_t), **tight)
            h = cell.rnn(x_t, theirs, h)


def test_active_units_are_counted_over_the_steps_that_there_are(monkeypatch):
    model, lengths = model_of(VRNN, "vectors"), torch.tensor(LENGTHS)
    x, noise = some_x("vectors", T, len(LENGTHS)), Noise(monkeypatch, T, len(LENGTHS))
    moved = []
    for b, length in enumerate(LENGTHS):
        if length:
            noise.of(slice(b, b + 1))
            out = model(x[:length, b : b + 1])
            moved.append((out.posterior.mean - out.prior.mean)[:, 0])
    variances = sorted(torch.cat(moved).var(0).tolist())
    for active, variance in zip((3, 2, 1), variances, strict=True):
        for near, count in ((variance - 1e-9, active), (variance + 1e-9, active - 1)):
            noise.of(slice(None))
            assert active_units(model, spoiled(x, LENGTHS), threshold=near, lengths=lengths) == count
