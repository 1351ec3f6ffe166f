"""Chapter 9's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
from answers import PRECISIONS, Answers, computed_in, confirmed, refused

from vrnn_tutorial.baselines import LinearAR
from vrnn_tutorial.calibration import covered

pytestmark = pytest.mark.usefixtures("precision")


class TestAnswers(Answers):
    notebook = "09_your_own_sequences.ipynb"


def rows_of(x, p, ahead=1):
    lags = [x[p - j : len(x) - j + 1 - ahead] for j in range(1, p + 1)]
    return torch.stack([torch.ones_like(lags[0]), *lags], 1), x[p + ahead - 1 :]


def least_squares(x, p, order=None, ahead=1):
    rows, targets = rows_of(x, p, ahead)
    weights = torch.linalg.lstsq(rows, targets[:, None]).solution[:, 0]
    return weights if order is None else weights[order]


def without_constant(x, p):
    rows, targets = rows_of(x, p)
    weights = torch.linalg.lstsq(rows[:, 1:], targets[:, None]).solution[:, 0]
    return torch.cat([weights.new_zeros(1), weights])


def of_the_mean(x, p):
    """A fit of what is left of the mean, as the baseline's own."""
    fitted = LinearAR.fit([x[:, None]], p)
    weights = fitted.stages[-1].weights[:, 0]
    constant = weights[0] + fitted.mean[0] * (1 - weights[1:].sum())
    return torch.cat([constant[None], weights[1:]])


def crps(mean, std, x, last=math.pi**-0.5, twice=2.0, unit=True):
    normal = torch.distributions.Normal(0.0, 1.0)
    w = (x - mean) / std
    found = w * (twice * normal.cdf(w) - 1) + 2 * normal.log_prob(w).exp() - last
    return std * found if unit else found


def held(draws, x, level, edges=None, axis=0, there=True):
    low, high = edges or ((1 - level) / 2, (1 + level) / 2)
    low, high = torch.quantile(draws, torch.tensor([low, high], dtype=draws.dtype), axis)
    inside = ((low <= x) & (x <= high)).to(x)
    return inside[~torch.isnan(x)].mean() if there else inside.mean()


MISTAKES = [
    ("9.1", lambda x, p: least_squares(x, p, [0, *range(p, 0, -1)]), "the oldest last"),
    ("9.1", lambda x, p: least_squares(x, p, [*range(1, p + 1), 0]), "the constant's weight comes first."),
    ("9.1", lambda x, p: least_squares(x, p, [*range(p, -1, -1)]), "comes first, the oldest's last"),
    ("9.1", without_constant, "give it a column of ones"),
    ("9.1", lambda x, p: least_squares(x, p, ahead=2), "the reading after next"),
    ("9.1", lambda x, p: least_squares(torch.cat([x.new_zeros(p), x]), p), "leave them out"),
    ("9.1", lambda x, p: least_squares(x, p) + 0.1, "the weights are"),
    ("9.1", lambda x, p: least_squares(x, 2), "one for the constant and one for each lag"),
    ("9.1", lambda x, p: least_squares(x, p, None if p == 2 else [0, 2, 1, 3]), "right for p = 2 alone"),
    ("9.1", lambda x, p: least_squares(x.view(60), p), "fails for another"),
    ("9.2", lambda m, s, x: crps(m, s, x, unit=False), "in the unit of x"),
    ("9.2", lambda m, s, x: crps(m, s, x, last=1 / math.sqrt(2 * math.pi)), "not of 2 pi"),
    ("9.2", lambda m, s, x: crps(m, s, x, last=0), "the last term is missing"),
    ("9.2", lambda m, s, x: crps(m, s, x, twice=1), "counts twice"),
    ("9.2", lambda m, s, x: -crps(m, s, x), "the sign is turned"),
    ("9.2", lambda m, s, x: crps(m, s**2, x), "not by the variance"),
    ("9.2", lambda m, s, x: crps(m, s**0.5, x), "no root is to be taken"),
    ("9.2", lambda m, s, x: -torch.distributions.Normal(m, s).log_prob(x), "these are nats"),
    ("9.2", lambda m, s, x: (x - m).abs(), "of the first forecast it is"),
    ("9.2", lambda m, s, x: crps(m, s.clamp(min=0.4), x), "the absolute error"),
    ("9.2", lambda m, s, x: crps(m, s, x).mean(), "one number for each x"),
    ("9.2", lambda m, s, x: crps(m.view(2, 4), s, x), "fails for another"),
    ("9.3", lambda d, x, level: held(d, torch.where(x.isnan(), x, x), level, there=False), "counts as outside"),
    ("9.3", lambda d, x, level: x.mean(), "it is NaN"),
    ("9.3", lambda d, x, level: 100 * held(d, x, level), "a percentage"),
    ("9.3", lambda d, x, level: held(d, x, level) * (~x.isnan()).sum(), "this is how many"),
    ("9.3", lambda d, x, level: 1 - held(d, x, level), "what lies outside"),
    ("9.3", lambda d, x, level: held(d, x, level, (1 - level, level)), "each end loses half"),
    ("9.3", lambda d, x, level: held(d, x, level, (0.0, level)), "begins at the lowest future"),
    ("9.3", lambda d, x, level: held(d.flatten(), x, level), "one for all of them"),
    ("9.3", lambda d, x, level: held(d, x, level) + 0.1, "lie in the 60% band"),
    ("9.3", lambda d, x, level: held(d, x, 0.6), "goes from 1 to 3"),
    ("9.3", lambda d, x, level: held(d, x, level)[None].expand(2), "it should be one number"),
    ("9.3", lambda d, x, level: held(d.view(50, 40), x, level), "fails for another"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)


RIGHT = [
    ("9.1", least_squares),
    ("9.1", of_the_mean),
    ("9.1", lambda x, p: torch.linalg.pinv(rows_of(x, p)[0].double()) @ rows_of(x, p)[1].double()),
    ("9.2", crps),
    ("9.2", lambda m, s, x: (x - m) * torch.erf((x - m) / s / 2**0.5) + s * (
        math.sqrt(2 / math.pi) * torch.exp(-(((x - m) / s) ** 2) / 2) - math.pi**-0.5
    )),
    ("9.3", held),
    ("9.3", lambda d, x, level: covered(d[:, :, None, None], x[:, None, None], level).nanmean()),
]  # fmt: skip


@PRECISIONS
@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other, dtype):
    confirmed(number, computed_in(dtype, other))
