"""Checks of chapter 2's exercises; the notebook says what each answer must do."""

import math

import torch
from torch.distributions import Laplace, Normal, kl_divergence


def check_2_1(laplace) -> str:
    """laplace(mean, log_scale, uniform): uniform noise (N,) made into Laplace samples (N,) that carry gradients."""
    mean, log_scale = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.0, -0.5))
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    z = laplace(mean, log_scale, uniform)
    assert z.shape == (1000,), f"z should have the shape of uniform, (1000,), but has {tuple(z.shape)}."
    assert z.requires_grad, "z carries no gradient: compute it from mean, log_scale and uniform, draw nothing."
    # Sorted, since 1 - uniform is as good a noise as uniform.
    found, wanted = z.sort().values, Laplace(mean, log_scale.exp()).icdf(uniform)
    assert torch.isclose(found.mean(), mean), f"z should average to the mean, 1, but averages to {found.mean():.3f}."
    width, right = (quantiles[750] - quantiles[250] for quantiles in (found, wanted))
    assert torch.isclose(width, right), f"the middle half of z is {width:.3f} wide; it should be {right:.3f}."
    assert torch.allclose(found, wanted), "the middle half of z is as it should be, but its tails are not a Laplace's."
    slopes = torch.autograd.grad(z.square().sum(), (mean, log_scale), materialize_grads=True)
    assert torch.isclose(slopes[0], 2 * z.sum()), "the values are right, but no gradient of 1 reaches the mean."
    assert torch.isclose(slopes[1], 2 * z @ (z - mean)), "the values are right, but dz/dlog_scale should be z - mean."
    return "Any smooth inverse of a distribution function turns uniform noise into samples with gradients."


def check_2_2(best_baseline) -> str:
    """best_baseline(f, score): f(z) and score, each (N,), to the b of least variance of (f - b) * score."""
    # A deviation that is not 1, lest the mean of score^2 be 1; quantiles for noise, so that nothing is left to chance.
    mean, std = 1.0, 0.5
    noise = Normal(0.0, 1.0).icdf((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    f, score = (mean + std * noise) ** 2, noise / std
    b, best = torch.as_tensor(best_baseline(f, score)), (f * score**2).mean() / (score**2).mean()
    assert b.numel() == 1, f"a baseline is one number for all samples, but yours has shape {tuple(b.shape)}."
    left, none, least = (((f - baseline) * score).var() for baseline in (b, 0.0, best))
    verdict = f"It leaves a variance of {left:.1f}; {least:.1f} is possible"
    assert not torch.isclose(b, f.mean()), f"that is the mean of f. {verdict}, if each f weighs as much as its score^2."
    assert not torch.isclose(b, (f * score**2).mean()), f"the weights score^2 do not average to 1 here. {verdict}."
    assert torch.isclose(b, best), f"b = {b.item():.2f} is not the best baseline. {verdict}."
    return f"It takes the variance from {none:.1f} to {least:.1f} here; the pathwise one has {(2 * std) ** 2:.1f}."


def check_2_3(kl_bits) -> str:
    """kl_bits(mean, log_std): a batch of posteriors (B, D) to their mean KL from the standard normal, bits (D,)."""
    mean = torch.tensor([[0.0, 1.5, 0.3], [0.0, -2.0, 0.1]], dtype=torch.float64)
    log_std = torch.tensor([[0.0, -1.0, 0.2], [0.0, -2.0, -0.4]], dtype=torch.float64)
    bits, standard = kl_bits(mean, log_std), Normal(0.0, 1.0)
    assert bits.shape == (3,), f"it should be one number per dimension, (3,), but its shape is {tuple(bits.shape)}."
    nats = kl_divergence(Normal(mean, log_std.exp()), standard)
    assert not torch.allclose(bits, nats.mean(0)), "these are nats; a bit is log 2 nats."
    assert not torch.allclose(bits, nats.sum(0) / math.log(2)), "this is the sum over the batch, not its mean."
    mistaken = kl_divergence(Normal(mean, (log_std / 2).exp()), standard).mean(0) / math.log(2)
    assert not torch.allclose(bits, mistaken), "log_std is the log of the deviation, not of the variance."
    wanted = nats.mean(0) / math.log(2)
    assert torch.allclose(bits, wanted), f"the second dimension costs {wanted[1]:.3f} bits, not {bits[1].item():.3f}."
    return "The dimension that costs 0 bits is one whose posterior is the prior: it says nothing about x."
