"""Chapter 1's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch.nn.functional as F
from answers import Answers

from vrnn_tutorial import exercises


class TestAnswers(Answers):
    notebook = "01_vae.ipynb"


def cross_entropy(logits, x):
    return (F.softplus(logits) - x * logits).sum(-1)


def sigmoid_first(logits, x):
    p = logits.sigmoid()
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


def kl(mean, log_std):
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(-1)


def slopes(mean, log_std):
    return kl(mean, log_std), mean, (2 * log_std).exp() - 1


def log_mean_exp(log_w):
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


WRONG = [
    ("1.1", lambda logits, x: cross_entropy(logits, x).mean(), "one number per digit"),
    ("1.1", lambda logits, x: -cross_entropy(logits, x), "never positive"),
    ("1.1", lambda logits, x: cross_entropy(logits, x) / logits.shape[1], "mean over the pixels"),
    ("1.1", lambda logits, x: cross_entropy(logits, x) / math.log(2), "these are bits"),
    (
        "1.1",
        lambda logits, x: -(x * F.logsigmoid(logits)).sum(-1),
        r"digit costs 1\.133 nats, not 0\.820",
    ),
    ("1.1", sigmoid_first, "it overflows"),
    ("1.1", lambda logits, x: cross_entropy(logits.clamp(-20, 20), x), "a logit of 800 should cost 800 nats, not 20"),
    ("1.2", lambda mean, log_std: slopes(mean, log_std)[:2], "three tensors, .* not 2"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std).mean(), mean, log_std), "one number per digit"),
    ("1.2", lambda mean, log_std: slopes(mean, log_std / 2), "not of the variance"),
    ("1.2", lambda mean, log_std: (2 * kl(mean, log_std), mean, log_std), r"the first KL is 1\.693 nats, not 3\.385"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), -mean, log_std), "moving the mean"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), mean, (2 * log_std).exp()), "lacks the -1"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), mean, log_std.exp() - 1), r"is exp\(2 s\)"),
    ("1.3", lambda log_w: log_mean_exp(log_w).mean(), "one number per digit"),
    ("1.3", lambda log_w: log_w.mean(1), "mean of the logs"),
    ("1.3", lambda log_w: log_w.logsumexp(1), "log K is still to come off"),
    ("1.3", lambda log_w: log_w.amax(1), r"the first bound is -18\.978 nats, not -18\.000"),
    ("1.3", lambda log_w: log_w.exp().mean(1).log(), "stay in logs"),
]


@pytest.mark.parametrize(("number", "mistake", "verdict"), WRONG)
def test_a_mistake_is_named(number, mistake, verdict, capsys):
    with pytest.raises(AssertionError, match=verdict):
        exercises.check(number, mistake)
    assert capsys.readouterr().out == ""
