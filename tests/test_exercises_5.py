"""Chapter 5's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import numpy as np
import pytest
import torch
from answers import Answers, confirmed, refused

from vrnn_tutorial.text_statistics import entropy

pytestmark = pytest.mark.usefixtures("precision")


class TestAnswers(Answers):
    notebook = "05_generation.ipynb"


def by_stepping(cell, codes, noise):
    state = None
    for x, noise_t in zip(codes[:, None], noise):
        state = cell(x, state, noise_t).state
    return state


def bisected(mean_entropy, nats, low=1e-3, high=1e3):
    for _ in range(50):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean_entropy(middle) < nats else (low, middle)
    return middle


def by_a_fine_grid(logits, nats):
    grid = torch.logspace(-2, 2, 4000, dtype=torch.float64)
    return min(grid, key=lambda t: abs(entropy(logits, t).mean() - nats))


def by_masking(probabilities, mass):
    before = torch.stack([probabilities[probabilities > p].sum() for p in probabilities])
    kept = probabilities.masked_fill(before >= mass, 0)
    return kept / kept.sum()


def by_counting(probabilities, mass):
    ordered = probabilities.sort(descending=True)
    last = (ordered.values.cumsum(0) >= mass).nonzero()[0].item()
    kept = torch.zeros_like(probabilities)
    kept[ordered.indices[: last + 1]] = ordered.values[: last + 1]
    return (kept / kept.sum()).float()


RIGHT = [
    ("5.1", by_stepping),
    ("5.1", lambda cell, codes, noise: by_stepping(cell, codes, noise).float()),
    ("5.2", by_a_fine_grid),
    ("5.2", lambda logits, nats: bisected(lambda t: entropy(logits.float(), t).mean(), nats)),
    ("5.2", lambda logits, nats: torch.tensor([bisected(lambda t: entropy(logits, t).mean(), nats)])),
    ("5.2", lambda logits, nats: np.array([bisected(lambda t: entropy(logits, t).mean(), nats)])),
    ("5.3", by_masking),
    ("5.3", by_counting),
]


@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other):
    confirmed(number, other)


def reading(cell, codes, noise, z=lambda cell, x, h, n: cell.posterior(x, h).rsample(n), fed=lambda cell, x, z, h: x):
    h = cell.zero_state(noise[0])
    for x, noise_t in zip(codes[:, None], noise):
        drawn = z(cell, x, h, noise_t)
        h = cell.rnn(fed(cell, x, drawn, h), drawn, h)
    return h


def sorted_only(p, mass):
    ordered = p.sort(descending=True).values
    kept = ordered * (ordered.cumsum(0) - ordered < mass)
    return kept / kept.sum()


def too_few(p, mass):
    ordered, codes = p.sort(descending=True)
    kept = torch.zeros_like(p).scatter(0, codes, ordered * (ordered.cumsum(0) <= mass))
    return kept / kept.sum()


def one_too_many(p, mass):
    ordered, codes = p.sort(descending=True)
    kept = torch.zeros_like(p).scatter(0, codes, ordered * (ordered.cumsum(0) - ordered <= mass))
    return kept / kept.sum()


MISTAKES = [
    ("5.1", lambda c, x, n: reading(c, x, n, z=lambda c, x, h, n: c.prior(h).rsample(n)), "z comes from the prior"),
    (
        "5.1",
        lambda c, x, n: reading(c, x, n, z=lambda c, x, h, n: c.posterior(x, h).mean),
        "times the noise is missing",
    ),
    (
        "5.1",
        lambda c, x, n: reading(c, x, n, fed=lambda c, x, z, h: c.emission(z, h).logits.argmax(-1)),
        "not the state that the VRNN has",
    ),
    ("5.1", lambda c, x, n: reading(c, x[:-1], n), "the last character of the prime is still to be read"),
    ("5.1", lambda c, x, n: reading(c, x[1:], n), "the first character of the prime has been left out"),
    ("5.1", lambda c, x, n: c(x[-1:], noise=n[-1]).state, "each step starts from zeros"),
    ("5.1", lambda c, x, n: reading(c, x[:6], n), "right for a prime of six characters, wrong for one of seven"),
    ("5.1", lambda c, x, n: reading(c, x.view(6), n), "right for one size and fails for another"),
    ("5.1", lambda c, x, n: reading(c, x, n)[0], "(1, 6), but its shape is (6,)"),
    ("5.1", lambda c, x, n: "ROMEO:", "the state should be a tensor, but it is of type str"),
    ("5.2", lambda a, n: bisected(lambda t: entropy(a, t).mean() / math.log(2), n), "for this many bits"),
    ("5.2", lambda a, n: 1 / bisected(lambda t: entropy(a, t).mean(), n), "the temperature divides the logits"),
    ("5.2", lambda a, n: bisected(lambda t: entropy((a / t).softmax(-1).mean(0).log()), n), "the mean distribution"),
    (
        "5.2",
        lambda a, n: sum(bisected(lambda t, row=row: entropy(row, t), n) for row in a) / len(a),
        "for 1.3 nats you say",
    ),
    ("5.2", lambda a, n: bisected(lambda t: entropy(a, t).mean(), n, 0.2, 2), "for 0.2 nats you say"),
    ("5.2", lambda a, n: bisected(lambda t: entropy(a, t).mean(), n, 0.01, 2), "higher, outside of where you look"),
    ("5.2", lambda a, n: bisected(lambda t: entropy(a, t).mean(), n, 0.01, 5), "for 3.2 nats you say 5.000"),
    ("5.2", lambda a, n: bisected(lambda t: entropy(a, t).mean(), n, 0.3, 100), "lower, outside of where you look"),
    ("5.2", lambda a, n: 1.0, "the one that is sought is lower."),
    ("5.2", lambda a, n: float("inf"), "finite and above zero, not inf"),
    ("5.2", lambda a, n: 0, "finite and above zero, not 0.0"),
    ("5.2", lambda a, n: torch.ones(40), "one number, a temperature, not of shape (40,)"),
    ("5.2", lambda a, n: "warm", "one number, a temperature, not of type str"),
    ("5.3", too_few, "0.4 + 0.25 is not 0.7 yet"),
    ("5.3", lambda p, m: by_masking(p, m) * 0.85, "divide by their sum"),
    ("5.3", sorted_only, "these are sorted"),
    ("5.3", lambda p, m: p * (p > 1 - m) / p[p > 1 - m].sum(), "you make [0.0, 1.0, 0.0, 0.0, 0.0]"),
    ("5.3", lambda p, m: by_masking(p, m)[by_masking(p, m) > 0], "(5,), but its shape is (3,)"),
    ("5.3", lambda p, m: by_masking(p, m).tolist(), "should be a tensor, but it is of type list"),
    ("5.3", one_too_many, "0.5 + 0.25 is 0.75 already"),
    ("5.3", lambda p, m: by_masking(p, min(m, 0.9)), "with mass 1 all the codes"),
    ("5.3", lambda p, m: by_masking(p, max(m, 0.6)), "the likeliest code alone"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)
