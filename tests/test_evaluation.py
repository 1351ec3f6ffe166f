"""Tests of vrnn_tutorial/evaluation.py: each figure against a step-by-step computation on a short text."""

import math

import numpy as np
import pytest
import torch
from helpers import char_rnn, vrnn
from hypothesis import given
from hypothesis import strategies as st

from vrnn_tutorial.evaluation import Evaluation, evaluate
from vrnn_tutorial.gaussian import DiagonalGaussian
from vrnn_tutorial.text import encode
from vrnn_tutorial.vrnn import VRNN

TEXT = encode("What's in a name? that which we call a rose")  # 43 characters


def step_by_step(model: VRNN, x: torch.Tensor, noise: torch.Tensor) -> tuple[float, float]:
    """Sums of both losses over x (T, B, ...), by the cell's own parts and the definition of the KL divergence."""
    cell = model.cell
    state, losses = cell.zero_state(noise[0]), torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for x_t, noise_t in zip(x, noise, strict=True):
            step = cell(x_t, state, noise_t)
            ours, theirs = (torch.distributions.Normal(p.mean, p.log_std.exp()) for p in (step.posterior, step.prior))
            losses[0] -= step.emission.log_prob(x_t).sum()
            losses[1] += torch.distributions.kl_divergence(ours, theirs).sum()
            state = step.state
    return tuple(losses.tolist())


def close(evaluation: Evaluation, *expected: float) -> bool:
    return (evaluation.reconstruction, evaluation.kl) == pytest.approx(expected, rel=1e-10)


def still(monkeypatch) -> None:
    """z is the posterior's mean: what is left is the same for every draw."""
    monkeypatch.setattr(DiagonalGaussian, "rsample", lambda self, noise=None, generator=None: self.mean)
    monkeypatch.setattr("vrnn_tutorial.vrnn.standard_normal", lambda shape, like, _: like.new_zeros(shape))


@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("steps_at_once", [1, 10, 500])
def test_the_elbo_of_a_text_is_that_of_its_steps_one_after_the_other(options, steps_at_once):
    """The noise is the seed's, drawn part by part; the state goes on from part to part."""
    model = vrnn(**options)
    generator = torch.Generator().manual_seed(5)
    shapes = [(len(part), 1, 3) for part in TEXT.split(steps_at_once)]
    noise = torch.cat([torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes])
    reconstruction, kl = step_by_step(model, TEXT[:, None], noise)
    evaluation = evaluate(model, TEXT, draws=1, seed=5, steps_at_once=steps_at_once)
    assert close(evaluation, reconstruction / 43, kl / 43)
    assert evaluation.characters == 43 and evaluation.elbo_error == 0


@given(
    st.sampled_from(["gru", "lstm", "rnn"]),
    st.booleans(),
    *[st.integers(1, 3)] * 3,
    st.integers(3, 12),
    st.integers(1, 5),
)
def test_so_it_is_for_any_kind_and_sizes(rnn, batch_first, layers, characters, draws, length, steps_at_once):
    model = vrnn(batch_first, rnn=rnn, num_layers=layers, characters=characters)
    steps = length // characters
    x = TEXT[: steps * characters].view(steps, 1, characters).expand(-1, draws, -1)
    generator = torch.Generator().manual_seed(5)
    shapes = [(len(part), draws, 3) for part in x.split(steps_at_once)]
    noise = torch.cat([torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes])
    expected = step_by_step(model, x.squeeze(-1) if characters == 1 else x, noise)
    evaluation = evaluate(model, TEXT[:length], draws=draws, seed=5, steps_at_once=steps_at_once)
    assert close(evaluation, *(total / (draws * steps * characters) for total in expected))
    assert evaluation.characters == steps * characters


def test_where_the_text_is_cut_makes_no_difference(monkeypatch):
    still(monkeypatch)
    model = vrnn()
    whole = evaluate(model, TEXT, draws=1)
    for steps_at_once in (1, 7, 42, 43):
        assert close(evaluate(model, TEXT, draws=1, steps_at_once=steps_at_once), whole.reconstruction, whole.kl)
    halves = [evaluate(model, part, draws=1) for part in TEXT.split(22)]
    assert not close(
        whole, *(sum(getattr(h, name) * h.characters for h in halves) / 43 for name in ("reconstruction", "kl"))
    )


@pytest.mark.parametrize("steps_at_once", [5, 500])
@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}, {"batch_first": True}], ids=str)
def test_a_char_rnns_loss_is_that_of_one_pass(options, steps_at_once):
    model = char_rnn(**options)
    with torch.no_grad():
        expected = model(TEXT[None] if model.batch_first else TEXT[:, None]).reconstruction.mean().item()
    evaluation = evaluate(model, TEXT, steps_at_once=steps_at_once)
    assert close(evaluation, expected, 0.0)
    assert evaluation.elbo_error == 0 and evaluation.characters == 43


def test_draws_of_z_are_averaged_and_their_error_estimated():
    model = vrnn()
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(43, 8, 3, dtype=torch.float64, generator=generator)
    draws = [step_by_step(model, TEXT[:, None], noise[:, d : d + 1]) for d in range(8)]
    totals = [(reconstruction + kl) / 43 for reconstruction, kl in draws]
    mean = sum(totals) / 8
    error = math.sqrt(sum((total - mean) ** 2 for total in totals) / 7 / 8)
    evaluation = evaluate(model, TEXT, draws=8, seed=2)
    assert close(evaluation, *(sum(draw[i] for draw in draws) / 8 / 43 for i in range(2)))
    assert evaluation.elbo_error == pytest.approx(error, rel=1e-8) and error > 1e-3


def test_ten_draws_are_made_of_a_z_unless_another_number_is_given():
    model, x = vrnn(), encode("to be or not")
    assert evaluate(model, x) == evaluate(model, x, draws=10) != evaluate(model, x, draws=9)


def test_the_seed_decides_the_draws():
    model = vrnn()
    assert evaluate(model, TEXT, draws=2, seed=1) == evaluate(model, TEXT, draws=2, seed=np.int64(1))
    assert evaluate(model, TEXT, draws=2, seed=1).loss != evaluate(model, TEXT, draws=2, seed=2).loss


@pytest.mark.parametrize(
    "model",
    [vrnn, lambda: vrnn(batch_first=True), char_rnn, lambda: char_rnn(batch_first=True)],
    ids=["VRNN", "batch first", "CharRNN", "batch first"],
)
def test_streams_are_equal_parts_each_from_zeros(model, monkeypatch):
    still(monkeypatch)
    model = model()
    parts = [evaluate(model, TEXT[start : start + 10], draws=1) for start in (0, 10, 20, 30)]
    for draws in (1, 3):
        together = evaluate(model, TEXT, draws=draws, streams=4, steps_at_once=4)
        assert close(together, sum(p.reconstruction for p in parts) / 4, sum(p.kl for p in parts) / 4)
        assert together.characters == 40  # 3 are left out


@pytest.mark.parametrize("model", [vrnn, char_rnn], ids=["VRNN", "CharRNN"])
def test_two_characters_a_step_are_scored_per_character(model, monkeypatch):
    still(monkeypatch)
    model = model(characters=2)
    with torch.no_grad():
        out = model(TEXT[:42].view(21, 1, 2))
    evaluation = evaluate(model, TEXT, draws=1)
    assert close(evaluation, out.reconstruction.sum().item() / 42, out.kl.sum().item() / 42)
    assert evaluation.characters == 42
    with torch.no_grad():
        out = model(TEXT[:42].view(3, 7, 2).transpose(0, 1))
    assert close(
        evaluate(model, TEXT, draws=1, streams=3), out.reconstruction.sum().item() / 42, out.kl.sum().item() / 42
    )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("emission", ["gaussian", "bernoulli"])
def test_sequences_of_vectors_are_scored_per_time_step(batch_first, emission, monkeypatch):
    still(monkeypatch)
    model = vrnn(batch_first, input_size=2, emission=emission)
    x = torch.randn(7, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = x if emission == "gaussian" else (x > 0).double()
    expected = [loss / 21 for loss in step_by_step(model, x, torch.zeros(7, 3, 3, dtype=torch.float64))]
    evaluation = evaluate(model, x.transpose(0, 1) if batch_first else x, draws=2, steps_at_once=3)
    assert close(evaluation, *expected)
    assert evaluation.characters == 21


def test_batches_of_codes_are_scored_too(monkeypatch):
    still(monkeypatch)
    model = vrnn()
    assert evaluate(model, TEXT[:40].view(4, 10).t(), draws=1) == evaluate(model, TEXT, draws=1, streams=4)


def test_the_loss_is_the_sum_of_both_and_bits_are_nats_over_ln_2():
    evaluation = Evaluation(1.5, 0.25, 0.0, 10)
    assert evaluation.loss == 1.75
    assert evaluation.bits == pytest.approx(2.5247, abs=1e-4)


@pytest.mark.parametrize(("characters", "streams", "length"), [(1, 1, 0), (1, 5, 4), (2, 1, 1), (2, 3, 5)])
def test_a_text_too_short_for_one_step_is_refused(characters, streams, length):
    with pytest.raises(
        ValueError, match=f"{length} characters are too few for {streams} streams of {characters} a step"
    ):
        evaluate(vrnn(characters=characters), TEXT[:length], streams=streams)


@pytest.mark.parametrize("model", [lambda: vrnn(dropout=0.5), lambda: char_rnn(dropout=0.5)], ids=["VRNN", "CharRNN"])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_model_left_as_it_was(model, training):
    model = model()
    expected = evaluate(model, TEXT, draws=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert evaluate(model.train(training), TEXT, draws=2) == expected
    assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError):
        evaluate(model, torch.tensor([500]))
    assert model.training == training
