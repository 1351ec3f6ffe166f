"""Tests of vrnn_tutorial/calibration.py, against sums over all pairs, closed forms, and forecasts known to be right."""

import math

import pytest
import torch
from scipy import stats

from vrnn_tutorial.calibration import covered, crps, pit


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_crps_is_the_sum_over_all_pairs():
    draws, x = normal(7, 3, 2, 2), normal(3, 2, 2, seed=1)
    every = [abs(draws[i] - draws[j]) for i in range(7) for j in range(7) if i != j]
    expected = (draws - x).abs().mean(0) - sum(every) / len(every) / 2
    torch.testing.assert_close(crps(draws, x), expected)
    torch.testing.assert_close(crps(draws.flip(0), x), expected)


@pytest.mark.parametrize("y", [-1.5, 0.0, 0.3, 2.0])
def test_crps_of_a_gaussian_has_a_closed_form(y):
    # Gneiting and Raftery 2007, section 4.2.
    z = (y - 5) / 2
    closed = 2 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    found = crps(5 + 2 * normal(100_000, 1, 1, 1), torch.full((1, 1, 1), y).double())
    assert found.item() == pytest.approx(closed, abs=0.01)


def test_crps_does_not_hang_on_how_many_draws_there_are():
    x = torch.zeros(1, 4000, 1).double()
    few, many = (crps(normal(n, 1, 4000, 1, seed=n), x).mean().item() for n in (2, 50))
    assert few == pytest.approx(many, abs=0.03)


def test_crps_compares_at_least_two():
    with pytest.raises(ValueError, match="there are 1"):
        crps(torch.zeros(1, 2, 1, 1), torch.zeros(2, 1, 1))


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_a_band_holds_what_a_right_forecast_promises(level):
    draws, x = normal(400, 2, 3000, 1), normal(2, 3000, 1, seed=1)
    assert covered(draws, x, level).mean().item() == pytest.approx(level, abs=0.015)
    narrow = covered(0.5 * draws, x, level).mean().item()
    assert narrow == pytest.approx(1 - 2 * stats.norm.sf(0.5 * stats.norm.isf((1 - level) / 2)), abs=0.02)


def test_a_band_is_of_each_entry_at_each_step():
    draws = torch.linspace(0, 1, 11)[:, None, None, None] * torch.tensor([[[1.0, 10.0]], [[100.0, 1000.0]]])
    x = torch.tensor([[[0.1, 9.1]], [[90.0, 50.0]]])
    assert covered(draws, x, 0.8)[:, 0].tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        covered(torch.zeros(3, 1, 1, 1), torch.zeros(1, 1, 1), level)


def test_ranks_of_a_right_forecast_are_uniform_and_of_others_are_not():
    draws, x = normal(99, 1, 3000, 1), normal(1, 3000, 1, seed=1)
    right, low, wide = (pit(d, x).flatten().numpy() for d in (draws, draws - 0.5, 3 * draws))
    assert stats.kstest(right, "uniform").pvalue > 0.01
    assert low.mean() > 0.6 and abs(wide.mean() - 0.5) < 0.02 and wide.std() < 0.2 < right.std()


def test_a_rank_is_the_middle_of_its_share_also_among_equals():
    draws = torch.tensor([1.0, 2.0, 2.0, 3.0])[:, None, None, None]
    x = torch.tensor([0.0, 1.5, 2.0, 9.0])[None, :, None]
    assert pit(draws, x).flatten().tolist() == pytest.approx([0.1, 0.3, 0.5, 0.9])


def test_of_what_is_missing_nothing_is_known():
    draws, x = normal(9, 2, 3, 1), normal(2, 3, 1, seed=1)
    x[1, 2] = torch.nan
    for found in (covered(draws, x, 0.8), pit(draws, x), crps(draws, x)):
        assert torch.isnan(found).nonzero().tolist() == [[1, 2, 0]]
