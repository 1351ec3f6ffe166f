"""Checks of chapter 1's exercises; the notebook says what each answer must do."""

import math

import torch
from torch.distributions import Bernoulli, Normal, kl_divergence


def check_1_1(reconstruction) -> str:
    """reconstruction(logits, x): logits and pixels, each (B, D), to loss 1, -log p(x | z), nats per digit (B,)."""
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, -4.0, 0.5]], dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    nats, wanted = reconstruction(logits, x), -Bernoulli(logits=logits).log_prob(x).sum(-1)
    assert nats.shape == (2,), f"it should be one number per digit, (2,), but its shape is {tuple(nats.shape)}."
    assert not torch.allclose(nats, -wanted), "this is log p, which is never positive; the loss is minus that."
    assert not torch.allclose(nats, wanted / 3), "this is the mean over the pixels; a digit's log p is their sum."
    assert not torch.allclose(nats, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert torch.allclose(nats, wanted), f"the first digit costs {wanted[0]:.3f} nats, not {nats[0].item():.3f}."
    sure = reconstruction(torch.tensor([[800.0, -800.0]]).double(), torch.tensor([[0.0, 0.0]]).double())
    assert torch.isfinite(sure), "at a logit of 800 it overflows: the sigmoid there is 1, and log(1 - 1) is no number."
    assert torch.allclose(sure, torch.full_like(sure, 800)), f"a logit of 800 should cost 800 nats, not {sure.item()}."
    return "A pixel that is surely black and turns out white costs its whole logit; one that is undecided costs log 2."


def check_1_2(kl_and_gradient) -> str:
    """kl_and_gradient(mean, log_std): (B, Z) each, to loss 2 (B,) and its slopes in mean and log_std, (B, Z) each."""
    mean = torch.tensor([[0.0, 1.5], [0.3, -2.0]], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([[0.0, -1.0], [0.4, -2.0]], dtype=torch.float64, requires_grad=True)
    answer = kl_and_gradient(mean, log_std)
    assert len(answer) == 3, f"it should give three tensors, KL, slope in mean, slope in log_std, not {len(answer)}."
    wanted = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1)
    assert answer[0].shape == (2,), f"KL should be one number per digit, (2,), not of shape {tuple(answer[0].shape)}."
    variance = kl_divergence(Normal(mean, (log_std / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    assert not torch.allclose(answer[0], variance), "log_std is the log of the deviation, not of the variance."
    assert torch.allclose(answer[0], wanted), f"the first KL is {wanted[0]:.3f} nats, not {answer[0][0].item():.3f}."
    slopes = torch.autograd.grad(wanted.sum(), (mean, log_std))
    assert torch.allclose(answer[1], slopes[0]), "KL is right; moving the mean by a little changes it otherwise."
    assert not torch.allclose(answer[2], slopes[1] + 1), "the slope in log_std lacks the -1 that comes from -log std."
    assert torch.allclose(answer[2], slopes[1]), "KL is right; with s = log std, the slope of exp(2 s) / 2 is exp(2 s)."
    return "The KL pulls each mean towards 0 like a spring, and each deviation towards 1; only there is it at rest."


def check_1_3(bound) -> str:
    """bound(log_weights): K log weights per digit, (B, K), to the importance-weighted bound, nats per digit (B,)."""
    log_w = torch.tensor([[-20.0, -18.0, -25.0, -19.0], [-17.0, -17.0, -17.0, -17.0]], dtype=torch.float64)
    nats, wanted = bound(log_w), log_w.logsumexp(1) - math.log(4)
    assert nats.shape == (2,), f"it should be one number per digit, (2,), but its shape is {tuple(nats.shape)}."
    assert not torch.allclose(nats, log_w.mean(1)), "this is the mean of the logs, the ELBO; take the log of the mean."
    assert not torch.allclose(nats, wanted + math.log(4)), "this is the log of the sum: log K is still to come off."
    assert torch.allclose(nats, wanted), f"the first bound is {wanted[0]:.3f} nats, not {nats[0].item():.3f}."
    low = bound(log_w - 1000)
    assert torch.allclose(low, wanted - 1000), "weights as small as exp(-1000) vanish: stay in logs, with logsumexp."
    return "One good draw in K is enough, for the price of log K; the mean of the logs pays for each bad one."
