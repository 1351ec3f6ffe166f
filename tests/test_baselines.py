"""Tests of vrnn_tutorial/baselines.py, against processes whose weights are known and against SciPy's Gaussians."""

import math

import pytest
import torch
from helpers import exact
from scipy import stats

from vrnn_tutorial.baselines import LinearAR

ONE = torch.tensor([[0.5, 0.2], [0.0, 0.4]]).double()
TWO = torch.tensor([[0.3, 0.0], [-0.2, 0.1]]).double()
SPREAD = torch.tensor([[1.0, 0.0], [0.8, 0.3]]).double()
MEAN = torch.tensor([10.0, -3.0]).double()


def process(count: int, steps: int, seed: int = 0) -> list[torch.Tensor]:
    """x_t - m = (x_{t-1} - m) ONE + (x_{t-2} - m) TWO + e SPREAD^T."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.zeros(count, 2).double()] * 2
    for _ in range(steps + 50):
        noise = torch.randn(count, 2, generator=generator).double() @ SPREAD.T
        rows.append(rows[-1] @ ONE + rows[-2] @ TWO + noise)
    return list((torch.stack(rows[52:], 1) + MEAN).unbind(0))


@pytest.fixture(scope="module")
def learned() -> LinearAR:
    return LinearAR.fit(process(60, 400), 2)


def test_the_weights_of_a_known_process_are_found(learned):
    stage = learned.stages[-1]
    torch.testing.assert_close(stage.weights[1:], torch.cat([ONE, TWO]), rtol=0, atol=0.03)
    torch.testing.assert_close(stage.covariance, SPREAD @ SPREAD.T, rtol=0, atol=0.03)
    torch.testing.assert_close(learned.mean, MEAN, rtol=0, atol=0.1)


def test_each_step_is_scored_given_those_before_it(learned):
    x = process(1, 6, seed=5)[0]
    found = learned.log_prob(x)
    centred = x - learned.mean
    for t in range(6):
        weights, covariance = learned.stages[min(t, 2)]
        before = torch.cat([torch.ones(1).double(), *(centred[t - j] for j in range(1, min(t, 2) + 1))])
        expected = stats.multivariate_normal(before @ weights, covariance).logpdf(centred[t])
        assert found[t].item() == pytest.approx(expected)
        torch.testing.assert_close(learned.residuals(x)[t], centred[t] - before @ weights)


def test_of_a_missing_entry_the_other_ones_marginal_is_scored(learned):
    x = process(1, 5, seed=5)[0]
    holed = x.clone()
    holed[3, 0] = torch.nan
    whole, found = learned.log_prob(x), learned.log_prob(holed)
    torch.testing.assert_close(found[:3], whole[:3], **exact)
    centred = x - learned.mean
    weights, covariance = learned.stages[2]
    mean = torch.cat([torch.ones(1), centred[2], centred[1]]) @ weights
    expected = stats.norm(mean[1], covariance[1, 1].sqrt()).logpdf(centred[3, 1])
    assert found[3].item() == pytest.approx(expected)
    assert torch.isnan(learned.residuals(holed)).nonzero().tolist() == [[3, 0]]
    torch.testing.assert_close(learned.log_prob(x[:1]), whole[:1], **exact)
    # As a past, what is missing is taken for the mean.
    x[3, 0] = learned.mean[0]
    assert found[4].item() == pytest.approx(learned.log_prob(x)[4].item())
    assert learned.log_prob(torch.full((3, 2), torch.nan)).tolist() == [0, 0, 0]


def test_the_loss_is_a_mean_over_all_steps_also_those_that_are_missing(learned):
    x, y = process(2, 6, seed=5)
    y[3] = torch.nan
    total = learned.log_prob(x).sum() + learned.log_prob(y).sum()
    assert learned.loss([x, y]) == pytest.approx(-total.item() / 12)


def test_what_is_missing_is_left_out_of_the_fit(learned):
    sequences = process(60, 400)
    for x in sequences:
        x[::20, 0] = torch.nan
    holed = LinearAR.fit(sequences, 2)
    torch.testing.assert_close(holed.stages[2].weights[1:], torch.cat([ONE, TWO]), rtol=0, atol=0.03)


def test_variances_alone_are_the_covariances_diagonal(learned):
    alone = LinearAR.fit(process(60, 400), 2, full=False).stages[-1]
    torch.testing.assert_close(alone.covariance, learned.stages[-1].covariance.diag().diag())
    torch.testing.assert_close(alone.weights, learned.stages[-1].weights)


def test_no_deviation_falls_below_the_emissions_own():
    """Of a circle, whose steps follow from those before without any error, the density would grow without end."""
    # By no whole number of turns, so that its mean is not its middle.
    angles = torch.arange(400).double() * 0.1
    x = [7 * torch.stack([angles.sin(), angles.cos()], 1)]
    stage = LinearAR.fit(x, 1).stages[-1]
    deviations = x[0].std(0, correction=0) * math.exp(-6)
    torch.testing.assert_close(stage.covariance.diag().sqrt(), deviations, rtol=1e-3, atol=0)


def test_futures_are_distributed_as_the_process(learned):
    (past,) = process(1, 10, seed=7)
    found = learned.forecast([past], 2, draws=40_000, seed=0)
    assert found.draws.shape == (40_000, 2, 1, 2)
    centred = past - learned.mean
    weights, covariance = learned.stages[2]
    first = torch.cat([torch.ones(1), centred[-1], centred[-2]]) @ weights
    second = torch.cat([torch.ones(1), first, centred[-1]]) @ weights
    for step, mean in enumerate((first, second)):
        torch.testing.assert_close(found.draws[:, step, 0].mean(0), mean + learned.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(found.draws[:, 0, 0].T.cov(), covariance, rtol=0, atol=0.03)
    after = covariance + weights[1:3].T @ covariance @ weights[1:3]
    torch.testing.assert_close(found.draws[:, 1, 0].T.cov(), after, rtol=0, atol=0.05)


def test_temperature_multiplies_the_variances(learned):
    (past,) = process(1, 10, seed=7)
    plain, hot, still = (learned.forecast([past], 4, temperature=t, seed=0).draws for t in (1.0, 4.0, 0.0))
    # At 0 nothing is left but what follows from the past; of linear futures the deviations are multiplied whole.
    torch.testing.assert_close(hot - still, 2 * (plain - still))
    torch.testing.assert_close(still, still[:1].expand_as(still), **exact)
    centred = past - learned.mean
    mean = torch.cat([torch.ones(1).double(), centred[-1], centred[-2]]) @ learned.stages[2].weights
    torch.testing.assert_close(still[0, 0, 0], mean + learned.mean)
    torch.testing.assert_close(plain, learned.forecast([past], 4, seed=0).draws, **exact)


def test_bands_are_the_draws_quantiles_and_a_seed_gives_them_again(learned):
    pasts = [x[:n] for x, n in zip(process(3, 9, seed=2), (1, 4, 9))]
    found = learned.forecast(pasts, 5, draws=50, quantiles=(0.0, 0.5, 1.0), seed=4)
    assert found.bands.shape == (3, 5, 3, 2)
    torch.testing.assert_close(found.bands[0], found.draws.amin(0), **exact)
    torch.testing.assert_close(found.bands[2], found.draws.amax(0), **exact)
    torch.testing.assert_close(found.draws, learned.forecast(pasts, 5, draws=50, seed=4).draws, **exact)
    assert not torch.equal(found.draws, learned.forecast(pasts, 5, draws=50, seed=5).draws)


def test_a_short_past_is_answered_by_as_many_steps_as_there_are(learned):
    past = process(1, 1, seed=3)[0]
    found = learned.forecast([past], 1, draws=20_000, seed=0).draws[:, 0, 0]
    expected = learned.mean + torch.cat([torch.ones(1), past[0] - learned.mean]) @ learned.stages[1].weights
    torch.testing.assert_close(found.mean(0), expected, rtol=0, atol=0.03)


def test_order_0_is_the_mean_and_its_deviations():
    x = process(20, 100)
    rows = torch.cat(x)
    naive = LinearAR.fit(x, 0)
    found = naive.log_prob(x[3])
    expected = stats.multivariate_normal(rows.mean(0), rows.T.cov(correction=0)).logpdf(x[3])
    assert found.tolist() == pytest.approx(expected, abs=1e-3)
    drawn = naive.forecast([x[0]], 3, draws=20_000, seed=0).draws
    torch.testing.assert_close(drawn[:, 2, 0].mean(0), rows.mean(0), rtol=0, atol=0.05)


def test_orders_that_cannot_be_fitted_are_refused():
    for order in (-1, 9):
        with pytest.raises(ValueError, match=f"order={order}: of the longest sequence's 9 steps none has so many"):
            LinearAR.fit([torch.zeros(9, 1)], order)
    with pytest.raises(ValueError, match=r"order=5: 5 steps are too few for 6 weights each"):
        LinearAR.fit([torch.randn(10, 1)], 5)
