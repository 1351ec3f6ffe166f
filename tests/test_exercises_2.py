"""Chapter 2's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math
import re

import pytest
import torch
from answers import Answers
from torch.distributions import Laplace, Normal

from vrnn_tutorial import exercises


class TestAnswers(Answers):
    notebook = "02_reparameterization_trick.ipynb"


def laplace(mean, log_scale, uniform):
    return Laplace(mean, log_scale.exp()).icdf(uniform)


def mirrored(mean, log_scale, uniform):
    return laplace(mean, log_scale, 1 - uniform)


def by_regression(f, score):
    return torch.cov(torch.stack([f * score, score]))[0, 1] / score.var()


def by_cross_entropy(mean, log_std):
    entropy = log_std + 0.5 * math.log(2 * math.pi * math.e)
    cross_entropy = 0.5 * (mean**2 + (2 * log_std).exp() + math.log(2 * math.pi))
    return ((cross_entropy - entropy) / math.log(2)).mean(0)


@pytest.mark.parametrize("number, other", [("2.1", mirrored), ("2.2", by_regression), ("2.3", by_cross_entropy)])
def test_another_way_to_the_same_is_right(number, other, capsys):
    exercises.check(number, other)
    assert f"Exercise {number}: right." in capsys.readouterr().out


def nats(mean, log_std):
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).mean(0)


MISTAKES = [
    ("2.1", lambda m, s, u: Laplace(m, s.exp()).sample(u.shape), "carries no gradient"),
    ("2.1", lambda m, s, u: Laplace(m, s.exp()).rsample(), "the shape of uniform, (1000,), but has ()"),
    ("2.1", lambda m, s, u: m - s.exp() * torch.log(u), "should average to the mean, 1, but averages to 1.606"),
    ("2.1", lambda m, s, u: m + s * laplace(0 * m, 0 * s, u), "0.693 wide; it should be 0.841"),
    ("2.1", lambda m, s, u: Normal(m, s.exp()).icdf(u), "0.818 wide; it should be 0.841"),
    ("2.1", lambda m, s, u: laplace(m, s, u.clamp(0.01, 0.99)), "its tails are not a Laplace's"),
    ("2.1", lambda m, s, u: laplace(m, s.detach(), u), "dz/dlog_scale should be z - mean"),
    ("2.1", lambda m, s, u: laplace(m.detach(), s, u), "no gradient of 1 reaches the mean"),
    ("2.2", lambda f, s: f.mean(), "that is the mean of f. It leaves a variance of 10.5; 9.5 is possible"),
    ("2.2", lambda f, s: (f * s**2).mean(), "do not average to 1"),
    ("2.2", lambda f, s: (f * s).mean(), "is not the best baseline. It leaves a variance of 9.7; 9.5 is possible"),
    ("2.2", lambda f, s: f, "one number for all samples, but yours has shape (100000,)"),
    ("2.3", nats, "these are nats"),
    ("2.3", lambda m, s: nats(m, s) * len(m) / math.log(2), "the sum over the batch"),
    ("2.3", lambda m, s: nats(m, s / 2) / math.log(2), "not of the variance"),
    ("2.3", lambda m, s: nats(m, s).sum() / math.log(2), "one number per dimension, (3,), but its shape is ()"),
    ("2.3", lambda m, s: nats(m, s) * math.log(2), "the second dimension costs 3.752 bits, not 1.803"),
]


@pytest.mark.parametrize("number, mistake, message", MISTAKES)
def test_a_mistake_is_named(number, mistake, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        exercises.check(number, mistake)
