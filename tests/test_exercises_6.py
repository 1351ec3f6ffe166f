"""Chapter 6's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
from answers import PRECISIONS, Answers, computed_in, confirmed, refused

pytestmark = pytest.mark.usefixtures("precision")


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


def with_one_maximum(log_w, log_ratio):
    increment, after, effective = out_of_the_logs(log_w, log_ratio - log_ratio.max())
    return increment + log_ratio.max(), after, effective


def entropy(p):
    return -torch.xlogy(p, p).sum()


def two_softmaxes(joint):
    return entropy(joint.sum(0)) + entropy(joint.sum(1))


def with_logs(joint):
    return (joint * (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).log()).sum()


def halves(joint):
    return (two_softmaxes(joint) - entropy(joint)) / 2


MISTAKES = [
    ("6.1", lambda q, p, t: count(q.flatten(0, 1).var(0), t), "also where it tells nothing of x"),
    ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).square().mean(0), t), "Take the variance, not the square"),
    ("6.1", lambda q, p, t: count((q - p).var(0).mean(0), t), "two of the six are active, not 1"),
    ("6.1", lambda q, p, t: count((q - p).mean(0).var(0), t), "two of the six are active, not 1"),
    ("6.1", lambda q, p, t: count(q.flatten(0, 1).var(0) - p.flatten(0, 1).var(0), t), "variance of the difference"),
    ("6.1", lambda q, p, t: (q - p).flatten(0, 1).var(0) > t, "one number, a count of entries, not of shape (6,)"),
    ("6.1", lambda q, p, t: count((q - p).var(0), t), "two of the six are active, not 5"),
    ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).std(0), t), "a standard deviation of 0.05"),
    ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).var(0), 0.01), "with a threshold of 0.001"),
    ("6.1", lambda q, p, t: count((q - p).reshape(-1, 6).var(0), t), "with other numbers of steps, sequences"),
    ("6.1", lambda q, p, t: count((q - p).reshape(2000, 6).var(0), t), "fails for another"),
    ("6.1", lambda q, p, t: sum(count((q - p)[..., i].var(), t) for i in range(6) if i < q.shape[2]), "miscounts"),
    ("6.2", instead(0, lambda w, r: r.logsumexp(1) - math.log(4)), "not each with 1/K"),
    ("6.2", instead(0, lambda w, r: (w.exp() * r).sum(1)), "the mean of the logs"),
    ("6.2", instead(0, lambda w, r: (w + r).logsumexp(1) - math.log(4)), "no further 1/K"),
    ("6.2", instead(0, lambda w, r: (w + r).logsumexp(0)[:2]), "the bound grows by"),
    ("6.2", instead(1, lambda w, r: w + r), "should add up to one"),
    ("6.2", instead(1, lambda w, r: (w + r).softmax(1)), "their logarithms are asked for"),
    ("6.2", instead(1, lambda w, r: r.log_softmax(1)), "its weight before times its ratio"),
    ("6.2", instead(2, lambda w, r: 1 / w.exp().square().sum(1)), "of the weights *after* the step"),
    ("6.2", instead(2, lambda w, r: (w + r).softmax(1).square().sum(1)), "of equal weight count as four"),
    ("6.2", out_of_the_logs, "stay in logs"),
    ("6.2", with_one_maximum, "logsumexp over each row"),
    ("6.2", instead(2, lambda w, r: out_of_the_logs(w, r)[2]), "stay in logs"),
    ("6.2", instead(2, lambda w, r: 1 / (w + r).softmax(1)[:, :4].square().sum(1)), "with five particles"),
    ("6.2", instead(2, lambda w, r: 1 / (w + r).softmax(1).view(2, 4).square().sum(1)), "fails for another"),
    ("6.2", lambda w, r: weigh(w, r)[0], "three things, increment, log weights and effective number, not one Tensor"),
    ("6.2", lambda w, r: tuple(value[0] for value in weigh(w, r)), "the increment should be one number per sequence"),
    ("6.3", two_softmaxes, "how much more that is"),
    ("6.3", lambda joint: entropy(joint) - two_softmaxes(joint), "the sign is turned"),
    ("6.3", lambda joint: (two_softmaxes(joint) - entropy(joint)) / math.log(2), "these are bits"),
    ("6.3", halves, "this is per character"),
    ("6.3", with_logs, "use torch.xlogy"),
    ("6.3", lambda joint: two_softmaxes(joint.view(3, 3)) - entropy(joint), "fails for another"),
    ("6.3", lambda joint: two_softmaxes(joint[:3, :3]) - entropy(joint[:3, :3]), "of four kinds, are independent"),
    ("6.3", lambda joint: entropy(joint), "here it is"),
    ("6.3", lambda joint: two_softmaxes(joint) - entropy(joint) + (joint.min() > 0) / 100, "nothing is lost"),
    ("6.3", lambda joint: joint, "one number, a price in nats, not of shape (3, 3)"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)


def in_place(log_w, log_ratio):
    log_w += log_ratio
    increment = log_w.logsumexp(1)
    log_w -= increment[:, None]
    return [increment, log_w, 1 / log_w.exp().square().sum(1)]


def pair_by_pair(joint):
    first, second = joint.sum(1).tolist(), joint.sum(0).tolist()
    return sum(
        p * math.log(p / (first[i] * second[j]))
        for i, row in enumerate(joint.tolist())
        for j, p in enumerate(row)
        if p > 0
    )


RIGHT = [
    ("6.1", lambda q, p, t: count((q - p).flatten(0, 1).var(0), t)),
    ("6.1", lambda q, p, t: ((q - p).var((0, 1), correction=0) > t).sum()),
    ("6.1", lambda q, p, t: float(sum(d.var() > t for d in (q - p).unbind(-1)))),
    ("6.2", weigh),
    ("6.2", in_place),
    ("6.3", lambda joint: two_softmaxes(joint) - entropy(joint)),
    ("6.3", lambda joint: (two_softmaxes(joint) - entropy(joint)).reshape(1)),
    ("6.3", pair_by_pair),
]


@PRECISIONS
@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other, dtype):
    confirmed(number, computed_in(dtype, other))
