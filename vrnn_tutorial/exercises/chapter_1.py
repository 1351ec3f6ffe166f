"""Checks of chapter 1's exercises; the notebook says what each answer must do."""

import math
from unittest.mock import patch

import torch
from torch.distributions import Bernoulli, Distribution, Normal, kl_divergence

from .checking import Without, refusing, same, tensor, three


def check_1_1(reconstruction) -> str:
    """reconstruction(logits, x): logits and pixels, each (B, D), to loss 1, -log p(x | z), nats per digit (B,)."""
    ready_made = "no ready-made cross-entropy, please, nor a distribution: write it with plain functions."
    losses = (
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy",
        "cross_entropy",
        "nll_loss",
        "soft_margin_loss",
        "multilabel_soft_margin_loss",
    )
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, -4.0, 0.5]])
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # Each pixel alone is a digit; black comes last.
    sure, pixel = torch.tensor([[800.0], [-800.0], [800.0], [-800.0]]), torch.tensor([[0.0], [0.0], [1.0], [1.0]])

    def answer(logits, x):
        with Without(*losses, because=ready_made), patch.object(Distribution, "__init__", refusing(ready_made)):
            nats = reconstruction(logits, x)
        return tensor(nats, x.shape[:1], "the loss", "one number per digit")

    nats, wanted = answer(logits, x), -Bernoulli(logits=logits).log_prob(x).sum(-1)
    assert not same(nats, -wanted), "this is log p, which is never positive; the loss is minus that."
    assert not same(nats, wanted / 3), "this is the mean over the pixels; a digit's log p is their sum."
    assert not same(nats, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert same(nats, wanted), f"the first digit costs {wanted[0]:.3f} nats, not {nats[0]:.3f}."
    for logit, colour, cost in zip(sure.flatten().tolist(), pixel.flatten().tolist(), answer(sure, pixel).tolist()):
        case = f"a logit of {logit:.0f} and a {'black' if colour else 'white'} pixel"
        assert math.isfinite(cost), (
            f"{case} give {cost}: exp(800) is infinite on a computer, and so is the log of a probability rounded to 0."
        )
        wanted = 800 if (logit > 0) != colour else 0
        assert abs(cost - wanted) < 1e-3, f"{case} should cost {wanted} nats, not {cost:.1f}."
    return "A pixel that is surely black and turns out white costs its whole logit; one that is undecided costs log 2."


def check_1_2(kl_and_slopes) -> str:
    """kl_and_slopes(mean, log_std): (B, Z) each, to loss 2 (B,) and its slopes in mean and log_std, (B, Z) each."""
    by_hand = "no autograd, please: work the slopes out on paper, and write them down as formulas."
    mean = torch.tensor([[0.0, 1.5, 0.7], [0.3, -2.0, -0.1]])
    log_std = torch.tensor([[0.0, -1.0, 0.5], [0.4, -2.0, -0.3]])
    with Without("grad", "backward", "_make_dual", because=by_hand):
        answer = kl_and_slopes(mean.clone(), log_std.clone())
    nats, *slopes = three(answer, "the KL and its slopes in mean and in log_std")
    kl = tensor(nats, (2,), "the KL", "one number per digit")
    slopes = [
        tensor(part, (2, 3), f"the slope in {name}", "one number per digit and dimension")
        for part, name in zip(slopes, ("mean", "log_std"))
    ]

    def divergence(mean, log_std):
        return kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1)

    with torch.enable_grad():
        parameters = mean.requires_grad_(), log_std.requires_grad_()
        wanted = divergence(*parameters)
        in_mean, in_log_std = torch.autograd.grad(wanted.sum(), parameters)
    wanted, std = wanted.detach(), log_std.detach().exp()
    assert not same(kl, wanted / 3), "this is the mean over the dimensions of z; a digit's KL is their sum."
    variance = divergence(mean.detach(), log_std.detach() / 2)
    assert not same(kl, variance), "log_std is the log of the deviation, not of the variance."
    assert same(kl, wanted), f"the first KL is {wanted[0]:.3f} nats, not {kl[0]:.3f}."
    assert same(slopes[0], in_mean), "KL is right; moving the mean by a little changes it otherwise."
    assert not same(slopes[1], in_log_std + 1), "the slope in log_std lacks the -1 that comes from -log std."
    assert not same(slopes[1], in_log_std / std), "this is the slope in the deviation; log_std is its logarithm."
    assert same(slopes[1], in_log_std), "KL is right; with s = log std, the slope of exp(2 s) / 2 is exp(2 s)."
    return "The KL pulls each mean towards 0 like a spring, and each deviation towards 1; only there is it at rest."


def check_1_3(bound) -> str:
    """bound(log_weights): K log weights per digit, (B, K), to the importance-weighted bound, nats per digit (B,)."""
    log_w = torch.tensor([[-20.0, -18.0, -25.0, -19.0], [-17.0, -17.0, -17.0, -17.0]])

    def answer(log_w):
        return tensor(bound(log_w.clone()), log_w.shape[:1], "the bound", "one number per digit")

    nats, wanted = answer(log_w), log_w.logsumexp(1) - math.log(4)
    assert not same(nats, log_w.mean(1)), "this is the mean of the logs, the ELBO; take the log of the mean."
    assert not same(nats, wanted + math.log(4)), "this is the log of the sum: log K is still to come off."
    assert same(nats, wanted), f"the first bound is {wanted[0]:.3f} nats, not {nats[0]:.3f}."
    low = torch.tensor([0.0, 1000.0])  # one digit's alone: no number common to both brings them back
    stable = same(answer(log_w - low[:, None]), wanted - low)
    assert stable, "weights as small as exp(-1000) vanish: stay in logs, with logsumexp over each row."
    fewer = log_w.view(4, 2)
    assert same(answer(fewer), fewer.logsumexp(1) - math.log(2)), "right for K = 4, wrong for K = 2: count the columns."
    return "One good draw in K is enough, for the price of log K; the mean of the logs pays for each bad one."
