"""Chapter 1's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
import torch.nn.functional as F
from answers import Answers, confirmed, refused
from torch import nn
from torch.distributions import Bernoulli, Binomial, Categorical

from vrnn_tutorial import emissions

pytestmark = [
    pytest.mark.usefixtures("precision"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),  # by torch's own forward mode
]


class TestAnswers(Answers):
    notebook = "01_vae.ipynb"


def cross_entropy(logits, x):
    return (F.softplus(logits) - x * logits).sum(-1)


def sigmoid_first(logits, x):
    p = logits.sigmoid()
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


def exponential_first(logits, x):
    return ((1 + logits.exp()).log() - x * logits).sum(-1)


def infinite_for_surely_white(logits, x):
    return torch.where(x == 1, (1 + (-logits).exp()).log(), F.softplus(logits)).sum(-1)


def both_sides(logits):
    """The logits of white and of black, (B, 2, D)."""
    return torch.stack([torch.zeros_like(logits), logits], 1)


def kl(mean, log_std):
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(-1)


def slopes(mean, log_std):
    return kl(mean, log_std), mean, (2 * log_std).exp() - 1


def through_autograd(mean, log_std):
    mean, log_std = mean.requires_grad_(), log_std.requires_grad_()
    nats = kl(mean, log_std)
    return nats, *torch.autograd.grad(nats.sum(), (mean, log_std))


def through_backward(mean, log_std):
    mean, log_std = mean.requires_grad_(), log_std.requires_grad_()
    nats = kl(mean, log_std)
    nats.sum().backward()
    return nats, mean.grad, log_std.grad


def through_func(mean, log_std):
    return kl(mean, log_std), *torch.func.grad(lambda *both: kl(*both).sum(), argnums=(0, 1))(mean, log_std)


def through_forward_mode(mean, log_std):
    return kl(mean, log_std), *torch.func.jacfwd(lambda *both: kl(*both).sum(), argnums=(0, 1))(mean, log_std)


def log_mean_exp(log_w):
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


RIGHT = [
    ("1.1", cross_entropy),
    ("1.1", lambda logits, x: -(x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(-1)),
    ("1.1", lambda logits, x: torch.logaddexp(torch.zeros(()), (1 - 2 * x) * logits).sum(1)),
    ("1.2", slopes),
    ("1.2", lambda mean, log_std: list(slopes(mean, log_std))),
    ("1.3", log_mean_exp),
    ("1.3", lambda log_w: (log_w - log_w.amax(1, keepdim=True)).exp().mean(1).log() + log_w.amax(1)),
]


@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other):
    confirmed(number, other)


MISTAKES = [
    ("1.1", lambda logits, x: cross_entropy(logits, x).mean(), "one number per digit"),
    ("1.1", lambda logits, x: -cross_entropy(logits, x), "never positive"),
    ("1.1", lambda logits, x: cross_entropy(logits, x) / logits.shape[1], "mean over the pixels"),
    ("1.1", lambda logits, x: cross_entropy(logits, x) / math.log(2), "these are bits"),
    ("1.1", lambda logits, x: -(x * F.logsigmoid(logits)).sum(-1), "digit costs 1.133 nats, not 0.820"),
    ("1.1", sigmoid_first, "a logit of 800 and a white pixel give inf: exp(800) is infinite on a computer"),
    ("1.1", exponential_first, "a logit of 800 and a white pixel give inf: exp(800) is infinite on a computer"),
    ("1.1", infinite_for_surely_white, "a logit of -800 and a black pixel give inf: exp(800) is infinite"),
    (
        "1.1",
        lambda logits, x: cross_entropy(logits.clamp(-20, 20), x),
        "a logit of 800 and a white pixel should cost 800 nats, not 20.0",
    ),
    (
        "1.1",
        lambda logits, x: cross_entropy(logits.clamp(min=-20), x),
        "a logit of -800 and a black pixel should cost 800 nats, not 20.0",
    ),
    (
        "1.1",
        lambda logits, x: F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1),
        "no ready-made cross-entropy",
    ),
    (
        "1.1",
        lambda logits, x: F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(-1),
        "no ready-made cross-entropy",
    ),
    (
        "1.1",
        lambda logits, x: F.cross_entropy(both_sides(logits), x.long(), reduction="none").sum(-1),
        "no ready-made cross-entropy",
    ),
    (
        "1.1",
        lambda logits, x: F.nll_loss(both_sides(logits).log_softmax(1), x.long(), reduction="none").sum(-1),
        "no ready-made cross-entropy",
    ),
    (
        "1.1",
        lambda logits, x: F.soft_margin_loss(logits, 2 * x - 1, reduction="none").sum(-1),
        "no ready-made cross-entropy",
    ),
    (
        "1.1",
        lambda logits, x: F.multilabel_soft_margin_loss(logits, x, reduction="none") * x.shape[1],
        "no ready-made cross-entropy",
    ),
    ("1.1", lambda logits, x: -Binomial(1, logits=logits).log_prob(x).sum(-1), "nor a distribution"),
    ("1.1", lambda logits, x: -Categorical(logits=both_sides(logits).mT).log_prob(x).sum(-1), "nor a distribution"),
    ("1.1", lambda logits, x: -emissions.BernoulliDistribution(logits).log_prob(x), "no ready-made cross-entropy"),
    ("1.1", lambda logits, x: nn.BCEWithLogitsLoss(reduction="none")(logits, x).sum(-1), "no ready-made cross-entropy"),
    ("1.1", lambda logits, x: -Bernoulli(logits=logits).log_prob(x).sum(-1), "no ready-made cross-entropy"),
    ("1.2", lambda mean, log_std: slopes(mean, log_std)[:2], "the KL and its slopes in mean and in log_std, not 2"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std).mean(), mean, log_std), "one number per digit"),
    ("1.2", lambda mean, log_std: slopes(mean, log_std / 2), "not of the variance"),
    ("1.2", lambda mean, log_std: (2 * kl(mean, log_std), mean, log_std), "the first KL is 2.297 nats, not 4.594"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std) / 3, mean, log_std), "mean over the dimensions"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std).sum(), mean, log_std), "the KL should be one number per digit"),
    (
        "1.2",
        lambda mean, log_std: (kl(mean, log_std), mean.sum(-1), log_std),
        "the slope in mean should be one number per digit and dimension, (2, 3), but its shape is (2,)",
    ),
    (
        "1.2",
        lambda mean, log_std: (*slopes(mean, log_std)[:2], ((2 * log_std).exp() - 1).sum()),
        "the slope in log_std should be one number per digit and dimension, (2, 3), but its shape is ()",
    ),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), -mean, log_std), "moving the mean"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), mean, (2 * log_std).exp()), "lacks the -1"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), mean, log_std.exp() - 1), "is exp(2 s)"),
    (
        "1.2",
        lambda mean, log_std: (kl(mean, log_std), mean, log_std.exp() - (-log_std).exp()),
        "this is the slope in the deviation",
    ),
    ("1.2", through_autograd, "no autograd"),
    ("1.2", through_backward, "no autograd"),
    ("1.2", through_func, "no autograd"),
    ("1.2", through_forward_mode, "no autograd"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), ..., ...), "but it is of type ellipsis"),
    ("1.3", lambda log_w: log_mean_exp(log_w).mean(), "one number per digit"),
    ("1.3", lambda log_w: log_w.mean(1), "mean of the logs"),
    ("1.3", lambda log_w: log_w.logsumexp(1), "log K is still to come off"),
    ("1.3", lambda log_w: log_w.amax(1), "the first bound is -18.978 nats, not -18.000"),
    ("1.3", lambda log_w: log_w.exp().mean(1).log(), "stay in logs"),
    (
        "1.3",
        lambda log_w: (log_w - log_w.max()).exp().mean(1).log() + log_w.max(),
        "stay in logs, with logsumexp over each row",
    ),
    ("1.3", lambda log_w: log_w.logsumexp(1) - math.log(4), "right for K = 4, wrong for K = 2"),
    ("1.3", lambda log_w: log_w.logsumexp(0) - math.log(4), "one number per digit, (2,), but its shape is (4,)"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)


@pytest.mark.parametrize("thing", [3, 2.5, "nats", [1.0, 2.0], (1.0, 2.0, 3.0), {"kl": 1.0}, torch.zeros(5, 5), math])
@pytest.mark.parametrize("number", ["1.1", "1.2", "1.3"])
def test_whatever_is_returned_gets_a_sentence(number, thing):
    refused(number, lambda *arguments: thing, "should")
