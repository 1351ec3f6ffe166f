"""Chapter 7's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
from answers import PRECISIONS, Answers, computed_in, confirmed, refused
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

pytestmark = pytest.mark.usefixtures("precision")


class TestAnswers(Answers):
    notebook = "07_the_pen.ipynb"


def each(mean, log_std, x):
    """The log density of each Gaussian at x: (..., K)."""
    return Normal(mean, log_std.exp()).log_prob(x[..., None, :]).sum(-1)


def mixture(logits, mean, log_std, x):
    return (logits.log_softmax(-1) + each(mean, log_std, x)).logsumexp(-1)


def densities(logits, mean, log_std, x):
    return (logits.softmax(-1) * each(mean, log_std, x).exp()).sum(-1).log()


def beyond(a):
    """The probability of lying more than `a` deviations to the right."""
    return torch.erfc(a / math.sqrt(2)) / 2


def code(mean, std, x):
    distance = (x - mean).abs()
    return -(beyond((distance - 0.5) / std) - beyond((distance + 0.5) / std)).log()


def between(mean, std, low, high):
    return -(beyond((low - mean) / std) - beyond((high - mean) / std)).log()


def where(steps, ends=(4,), before=True):
    place, places = torch.zeros_like(steps[0, :, :2]), []
    for step in steps:
        after = (place + step[:, :2]) * (1 - step[:, ends].sum(-1, keepdim=True))
        places.append(place if before else after)
        place = after
    return torch.stack(places)


MISTAKES = [
    ("7.1", lambda a, m, s, x: mixture(a, m, s, x).exp(), "its logarithm is asked for"),
    ("7.1", lambda a, m, s, x: (a.softmax(-1) * each(m, s, x)).sum(-1), "the mean of the log densities"),
    ("7.1", lambda a, m, s, x: (a + each(m, s, x)).logsumexp(-1), "no log probabilities yet"),
    ("7.1", lambda a, m, s, x: each(m, s, x).logsumexp(-1) - math.log(4), "a share of its own, by its logit"),
    ("7.1", lambda a, m, s, x: mixture(a, m, s, x) + math.log(2 * math.pi), "two numbers have the constant"),
    ("7.1", lambda a, m, s, x: mixture(a, m, s, x) + math.log(2 * math.pi) / 2, "has half of log(2 pi)"),
    ("7.1", lambda a, m, s, x: mixture(a, m, s / 2, x), "the first point has"),
    ("7.1", densities, "stay in logs"),
    ("7.1", lambda a, m, s, x: mixture(a, m, s, x.clamp(-50, 50)), "that one's log density"),
    ("7.1", lambda a, m, s, x: mixture(a, m, s, x).flatten(), "one number per point"),
    ("7.1", lambda a, m, s, x: mixture(a.view(3, 2, 4), m, s, x), "fails for another"),
    ("7.2", lambda m, s, x: -Normal(m, s).log_prob(x), "take the interval's probability"),
    ("7.2", lambda m, s, x: (-code(m, s, x)).exp(), "its cost is minus the logarithm"),
    ("7.2", lambda m, s, x: -code(m, s, x), "the sign is turned"),
    ("7.2", lambda m, s, x: code(m, s, x) / math.log(2), "these are bits"),
    ("7.2", lambda m, s, x: between(m, s, x - 1, x + 1), "one unit wide in all"),
    ("7.2", lambda m, s, x: between(m, s, x, x + 1), "x stands in the middle"),
    ("7.2", lambda m, s, x: code(m, torch.ones_like(s), x), "divide by the deviation"),
    ("7.2", lambda m, s, x: code(m, s / 2, x), "the first number costs"),
    ("7.2", lambda m, s, x: between(m, s, x - 0.5, x + 0.5), "use that a Gaussian is symmetric"),
    ("7.2", lambda m, s, x: code(m, s, x).clamp(max=30), "ten deviations away it should be"),
    ("7.2", lambda m, s, x: code(m, s, x).sum(), "one number per whole number"),
    ("7.2", lambda m, s, x: code(m.view(4), s, x), "fails for another"),
    ("7.3", lambda steps: steps[..., :2].cumsum(0), "no character's end takes it back to 0"),
    ("7.3", lambda steps: steps[..., :2].cumsum(0) - steps[..., :2], "the pen is at 0, 0 again"),
    ("7.3", lambda steps: where(steps, before=False), "asked is the one before it"),
    ("7.3", lambda steps: where(steps, (3, 4)), "not that of a stroke"),
    ("7.3", lambda steps: where(steps) + 1, "before its first step each pen is at 0, 0"),
    ("7.3", lambda steps: where(steps).flip(1) if steps.shape[1] == 3 else where(steps), "sum of its own offsets"),
    ("7.3", lambda steps: where(steps).transpose(0, 1), "two numbers per step and pen"),
    ("7.3", lambda steps: where(steps.reshape(6, 3, 5)), "fails for another"),
    ("7.3", lambda steps: torch.cat([where(steps[:6]), 0 * steps[6:, :, :2]]), "with other numbers of steps and pens"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)


def by_torch(logits, mean, log_std, x):
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, log_std.exp()), 1)).log_prob(x)


def in_one_sum(steps):
    """The cumulative sum, less what it was when the last character ended."""
    after = steps[..., :2].cumsum(0)
    ended = torch.where(steps[..., 4:] == 1, after, torch.zeros_like(after))
    since = [torch.zeros_like(after[0])]
    for t in range(len(steps) - 1):
        since.append(torch.where(steps[t, :, 4:] == 1, ended[t], since[-1]))
    return torch.cat([0 * after[:1], after[:-1]]) - torch.stack(since)


def either_side(mean, std, x):
    low, high = (x - 0.5 - mean) / std, (x + 0.5 - mean) / std
    left = (low < 0).to(low) * (high + low)  # an interval that begins on the left, mirrored
    return -(beyond(low - left) - beyond(high - left)).log()


RIGHT = [
    ("7.1", mixture),
    ("7.1", by_torch),
    ("7.2", code),
    ("7.2", either_side),
    ("7.3", where),
    ("7.3", in_one_sum),
]


@PRECISIONS
@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other, dtype):
    confirmed(number, computed_in(dtype, other))
