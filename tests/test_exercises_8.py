"""Chapter 8's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
from answers import PRECISIONS, Answers, computed_in, confirmed, refused

from vrnn_tutorial.counterpoint import FIFTH, parallels

pytestmark = pytest.mark.usefixtures("precision")


class TestAnswers(Answers):
    notebook = "08_bach.ipynb"


def effective(log_w):
    return 1 / log_w.softmax(-1).square().sum(-1)


def out_of_reach(log_w):
    w = log_w.exp()
    return w.sum(-1).square() / w.square().sum(-1)


def entropy(p):
    return -torch.xlogy(p, p).sum()


def lost(joint):
    return entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)


def with_logs(joint):
    return (joint * (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log()).sum()


def fifths(upper, lower, interval=7, rests=True, both=True, moving=True, together=True, above=True, octaves=True):
    apart = upper - lower
    fifth = (apart % 12 if octaves else apart) == interval
    if above:
        fifth &= apart > 0
    if rests:
        fifth &= (upper > 0) & (lower > 0)
    up, down = upper.diff(), lower.diff()
    found = fifth[1:] & (fifth[:-1] | (not both))
    found &= (up * down >= 0) | (not together)
    return found & (((up != 0) & (down != 0)) | (not moving))


MISTAKES = [
    ("8.1", lambda a: 1 / a.square().sum(-1), "weights are their exponentials"),
    ("8.1", lambda a: 1 / a.exp().square().sum(-1), "add up to 1 before they are squared"),
    ("8.1", lambda a: a.softmax(-1).square().sum(-1), "asked is 1 over it"),
    ("8.1", lambda a: 1 / a.softmax(-1).amax(-1), "1 over the largest weight"),
    ("8.1", lambda a: torch.distributions.Categorical(logits=a).entropy().exp(), "exponential of the entropy"),
    ("8.1", lambda a: effective(2 * a), "of the first 5 weights"),
    ("8.1", out_of_reach, "take the largest away first"),
    ("8.1", lambda a: effective(a.clamp(-1000, 1000)), "next to nothing two count"),
    ("8.1", lambda a: effective(a).flatten(), "one number for K weights"),
    ("8.1", lambda a: effective(a.view(3, 2, 5)), "fails for another"),
    ("8.2", lambda p: -lost(p), "independence can only cost"),
    ("8.2", lambda p: lost(p) / math.log(2), "these are bits"),
    ("8.2", lambda p: entropy(p.sum(1)) + entropy(p.sum(0)), "this is what the margins cost"),
    ("8.2", entropy, "this is what the table costs"),
    ("8.2", lambda p: (p.log() - p.sum(1, keepdim=True).log() - p.sum(0).log()).mean(), "not equally likely"),
    ("8.2", lambda p: math.log(p.numel()) - entropy(p), "against notes that are all equally likely"),
    ("8.2", lambda p: lost(p) + 0.1, "the margins of this table lose"),
    ("8.2", with_logs, "a chord that never comes costs nothing"),
    ("8.2", lambda p: with_logs(p.clamp(min=0.1)) if (p == 0).any() else lost(p), "equally likely chords"),
    ("8.2", lambda p: lost(p).clamp(min=0.02), "independent lose nothing"),
    ("8.2", lambda p: lost(p.view(3, 4)), "fails for another"),
    ("8.2", lambda p: p, "it should be one number"),
    ("8.3", lambda a, b: fifths(a, b, interval=5), "parallel fourths"),
    ("8.3", lambda a, b: fifths(a, b, octaves=False), "19 semitones"),
    ("8.3", lambda a, b: fifths(a, b, moving=False), "that repeat or hold"),
    ("8.3", lambda a, b: fifths(a, b, together=False), "towards or away"),
    ("8.3", lambda a, b: fifths(a, b, both=False), "in both quarters"),
    ("8.3", lambda a, b: fifths(a, b, above=False), "a fourth turned round"),
    ("8.3", lambda a, b: ~fifths(a, b), "that is a parallel fifth"),
    ("8.3", lambda a, b: fifths(a, b) | (a[1:] == 0), "that is not a parallel fifth"),
    ("8.3", lambda a, b: fifths(a, b, rests=False), "has no fifth"),
    ("8.3", lambda a, b: torch.zeros(2) if len(a) == 3 else fifths(a, b), "wrong for another"),
    ("8.3", lambda a, b: fifths(a, b)[1:], "one truth value for two quarters"),
    ("8.3", lambda a, b: fifths(a.view(17), b), "fails for another"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)


RIGHT = [
    ("8.1", effective),
    ("8.1", lambda a: torch.exp(2 * a.logsumexp(-1) - (2 * a).logsumexp(-1))),
    ("8.2", lost),
    ("8.2", lambda p: sum(torch.special.entr(q).sum() for q in (p.sum(1), p.sum(0))) - torch.special.entr(p).sum()),
    ("8.3", fifths),
    ("8.3", lambda a, b: (parallels(torch.stack([a, b], 1), FIFTH) > 0) & (a > b)[1:] & (a > b)[:-1]),
]


@PRECISIONS
@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other, dtype):
    confirmed(number, computed_in(dtype, other))
