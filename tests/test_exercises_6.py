"""Chapter 6's exercises: what their checks say of plausible mistakes, and of what is right."""

import math
import re

import pytest
import torch
from answers import Answers

from vrnn_tutorial import exercises


class TestAnswers(Answers):
    notebook = "06_is_the_latent_alive.ipynb"


def count(values, threshold):
    return int((values > threshold).sum())


def weigh(log_w, log_ratio):
    both = log_w + log_ratio
    increment = both.logsumexp(1)
    after = both - increment[:, None]
    return increment, after, 1 / after.exp().square().sum(1)


def instead(i, value):
    """`weigh`, but for the i-th of what it returns, which is value(log_w, log_ratio)."""

    def mistaken(log_w, log_ratio):
        right = list(weigh(log_w, log_ratio))
        right[i] = value(log_w, log_ratio)
        return tuple(right)

    return mistaken


def out_of_the_logs(log_w, log_ratio):
    w = log_w.exp() * log_ratio.exp()
    total = w.sum(1)
    w = w / total[:, None]
    return total.log(), w.log(), 1 / w.square().sum(1)


def entropy(p):
    return -torch.xlogy(p, p).sum()


def two_softmaxes(joint):
    return entropy(joint.sum(0)) + entropy(joint.sum(1))


def with_logs(joint):
    return (joint * (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).log()).sum()


MISTAKES = [
    ("6.1", lambda q, p, t: count(q.flatten(0, 1).var(0), t), "also where it tells nothing of x"),
    ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).square().mean(0), t), "Take the variance, not the square"),
    ("6.1", lambda q, p, t: count((q - p).var(0).mean(0), t), "two of the five entries are active, not 1"),
    ("6.1", lambda q, p, t: count((q - p).mean(0).var(0), t), "two of the five entries are active, not 1"),
    ("6.1", lambda q, p, t: (q - p).flatten(0, 1).var(0) > t, "one number, not of shape (5,)"),
    ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).var(0), 0.01), "with a threshold of 0.001"),
    ("6.2", instead(0, lambda w, r: r.logsumexp(1) - math.log(4)), "not each with 1/K"),
    ("6.2", instead(0, lambda w, r: (w.exp() * r).sum(1)), "the mean of the logs"),
    ("6.2", instead(0, lambda w, r: (w + r).logsumexp(1) - math.log(4)), "no further 1/K"),
    ("6.2", instead(0, lambda w, r: (w + r).logsumexp(0)[:2]), "the bound grows by"),
    ("6.2", instead(1, lambda w, r: w + r), "should add up to one"),
    ("6.2", instead(1, lambda w, r: r.log_softmax(1)), "its weight before times its ratio"),
    ("6.2", instead(2, lambda w, r: 1 / w.exp().square().sum(1)), "of the weights *after* the step"),
    (
        "6.2",
        instead(2, lambda w, r: (w + r).softmax(1).square().sum(1)),
        "of equal weight count as four",
    ),
    ("6.2", out_of_the_logs, "stay in logs"),
    ("6.2", lambda w, r: weigh(w, r)[0], "three things should come back"),
    ("6.2", lambda w, r: tuple(value[0] for value in weigh(w, r)), "their shapes should be"),
    ("6.3", two_softmaxes, "how much more that is"),
    ("6.3", lambda joint: entropy(joint) - two_softmaxes(joint), "the sign is turned"),
    ("6.3", lambda joint: (two_softmaxes(joint) - entropy(joint)) / math.log(2), "these are bits"),
    ("6.3", with_logs, "use torch.xlogy"),
    ("6.3", lambda joint: entropy(joint), "here it is"),
    ("6.3", lambda joint: two_softmaxes(joint) - entropy(joint) + (joint.min() > 0) / 100, "nothing is lost"),
    ("6.3", lambda joint: joint, "one number, not of shape (3, 3)"),
]


@pytest.mark.parametrize("number, mistake, message", MISTAKES)
def test_a_mistake_is_named(number, mistake, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        exercises.check(number, mistake)


@pytest.mark.parametrize(
    "number, answer",
    [
        ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).var(0), t)),
        ("6.2", weigh),
        ("6.3", lambda joint: two_softmaxes(joint) - entropy(joint)),
    ],
)
def test_what_is_right_is_confirmed(number, answer, capsys):
    exercises.check(number, answer)
    assert re.fullmatch(rf"Exercise {number}: right\. [A-Z][^\n]+\.\n", capsys.readouterr().out)
