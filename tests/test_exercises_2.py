"""Chapter 2's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import numpy as np
import pytest
import torch
from answers import PRECISIONS, Answers, computed_in, confirmed, refused
from torch.distributions import Laplace, Normal, kl_divergence

pytestmark = pytest.mark.usefixtures("precision")


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


def weighted(f, score):
    return (f @ score**2) / (score @ score)


RIGHT = [
    ("2.1", mirrored),
    ("2.1", lambda mean, log_scale, uniform: laplace(mean, log_scale, uniform.neg_().add_(1))),
    ("2.1", lambda mean, log_scale, uniform: mean + log_scale.exp() * laplace(0 * mean, 0 * mean, uniform).detach()),
    ("2.2", by_regression),
    ("2.2", lambda f, score: weighted(f, score).item()),
    ("2.2", lambda f, score: weighted(f, score)[None]),
    ("2.2", lambda f, score: weighted(f, score).numpy()),
    ("2.2", lambda f, score: np.float64(weighted(f, score))),
    ("2.2", lambda f, score: np.float32(weighted(f, score))),
    ("2.3", by_cross_entropy),
    ("2.3", lambda mean, log_std: kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).mean(0) / math.log(2)),
]


@PRECISIONS
@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other, dtype):
    confirmed(number, computed_in(dtype, other))


def nats(mean, log_std):
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).mean(0)


MISTAKES = [
    ("2.1", lambda m, s, u: Laplace(m, s.exp()).sample(u.shape), "carries no gradient"),
    (
        "2.1",
        lambda m, s, u: Laplace(m, s.exp()).rsample(),
        "z should be one number per value of uniform, (1000,), but its shape is ()",
    ),
    ("2.1", lambda m, s, u: m - s.exp() * torch.log(u), "should average to the mean, 1, but averages to 1.606"),
    ("2.1", lambda m, s, u: m + s * laplace(0 * m, 0 * s, u), "0.693 wide; it should be 0.841"),
    ("2.1", lambda m, s, u: Normal(m, s.exp()).icdf(u), "0.818 wide; it should be 0.841"),
    ("2.1", lambda m, s, u: laplace(m, s, u.clamp(0.01, 0.99)), "its tails are not a Laplace's"),
    ("2.1", lambda m, s, u: laplace(m, s.detach(), u), "dz/dlog_scale should be z - mean"),
    ("2.1", lambda m, s, u: laplace(m.detach(), s, u), "no gradient of 1 reaches the mean"),
    ("2.1", lambda m, s, u: laplace(m, s, u).tolist(), "z should be a tensor, but it is of type list"),
    ("2.1", lambda m, s, u: laplace(m, s, u).sum().item(), "z should be a tensor, but it is of type float"),
    ("2.1", lambda m, s, u: laplace(m, s, u).view(1000), "fails for another: try an input of shape (12,)"),
    ("2.1", lambda m, s, u: laplace(m, s, torch.linspace(0.0005, 0.9995, 1000)), "(12,), but its shape is (1000,)"),
    ("2.1", lambda m, s, u: laplace(m - m.detach() + 1, s, u), "average to the mean, -2, but averages to 1.000"),
    ("2.1", lambda m, s, u: laplace(m, s - s.detach() - 0.5, u), "it should be 1."),
    ("2.2", lambda f, s: f.mean(), "that is the mean of f. It leaves a variance of 10.5; 9.5 is possible"),
    ("2.2", lambda f, s: (f * s**2).mean(), "do not average to 1"),
    ("2.2", lambda f, s: (f * s).mean(), "is not the best baseline. It leaves a variance of 9.7; 9.5 is possible"),
    ("2.2", lambda f, s: f, "one number, a baseline for all samples, not of shape (100000,)"),
    ("2.2", lambda f, s: 2, "b = 2.00 is not the best baseline. It leaves a variance of 9.7; 9.5 is"),
    ("2.2", lambda f, s: [1.75], "one number, a baseline for all samples, not of type list"),
    ("2.2", lambda f, s: "seven", "one number, a baseline for all samples, not of type str"),
    ("2.2", lambda f, s: (f * s**2).mean() / 4, "b = 0.80 is not the best baseline"),
    ("2.2", lambda f, s: weighted(f.view(100_000), s), "fails for another: try an input of shape (1000,)"),
    ("2.3", nats, "these are nats"),
    ("2.3", lambda m, s: nats(m, s) * len(m) / math.log(2), "the sum over the batch"),
    ("2.3", lambda m, s: nats(m, s / 2) / math.log(2), "not of the variance"),
    ("2.3", lambda m, s: 2 * nats(m, s) / math.log(2), "this is right but for a factor of 1/2"),
    ("2.3", lambda m, s: (m**2 + (2 * s).exp() - 1 - s).mean(0) / math.log(2), "right but for a factor of 1/2"),
    ("2.3", lambda m, s: nats(m, s).sum() / math.log(2), "one number per dimension, (4,), but its shape is ()"),
    ("2.3", lambda m, s: nats(m, s).tolist(), "it should be a tensor, but it is of type list"),
    ("2.3", lambda m, s: nats(m.T, s.T) / math.log(2), "one number per dimension, (4,), but its shape is (5,)"),
    ("2.3", lambda m, s: nats(m, s) * len(m) / 5 / math.log(2), "of a batch of shape (2, 3) the second dimension"),
    ("2.3", lambda m, s: nats(m, s).repeat(2)[:4] / math.log(2), "(3,), but its shape is (4,)"),
    ("2.3", lambda m, s: nats(m.view(5, 4), s) / math.log(2), "fails for another: try an input of shape (2, 3)"),
    ("2.3", lambda m, s: nats(m, s) * math.log(2), "(5, 4) the second dimension costs"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)


@pytest.mark.parametrize("thing", [3j, "nats", [1.0, 2.0], (1.0, 2.0, 3.0), {"kl": 1.0}, torch.zeros(5, 5), math])
@pytest.mark.parametrize("number", ["2.1", "2.2", "2.3"])
def test_whatever_is_returned_gets_a_sentence(number, thing):
    refused(number, lambda *arguments: thing, "should")
