"""Checks of chapter 2's exercises; the notebook says what each answer must do.

All is computed in PyTorch's default type, which the notebook sets, so that tensors of the reader's own fit.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Laplace, Normal, kl_divergence

from .checking import number, of_another_size, same, tensor


def quantiles(count: int) -> Tensor:
    """The middles of `count` equal parts of the way from 0 to 1: uniform noise that leaves nothing to chance."""
    return (torch.arange(count) + 0.5) / count


def check_2_1(laplace) -> str:
    """laplace(mean, log_scale, uniform): uniform noise (N,) made into Laplace samples (N,) that carry gradients."""
    for answer, count, *parameters in ((laplace, 1000, 1.0, -0.5), (of_another_size(laplace), 12, -2.0, 0.3)):
        mean, log_scale = (torch.tensor(value, requires_grad=True) for value in parameters)
        uniform = quantiles(count)
        z = answer(mean, log_scale, uniform.clone())
        z = tensor(z, (count,), "z", "one number per value of uniform")
        assert z.requires_grad, "z carries no gradient: compute it from mean, log_scale and uniform, draw nothing."
        # Sorted, since 1 - uniform is as good a noise as uniform.
        found, wanted = z.sort().values, Laplace(mean, log_scale.exp()).icdf(uniform).double()
        average = found.mean()
        assert same(average, mean), f"z should average to the mean, {mean:g}, but averages to {average:.3f}."
        width, right = (values[3 * count // 4] - values[count // 4] for values in (found, wanted))
        assert same(width, right), f"the middle half of z is {width:.3f} wide; it should be {right:.3f}."
        # In float32 the outermost quantiles are known to four digits.
        assert same(found, wanted, 1e-4), "the middle half of z is as it should be, but its tails are not a Laplace's."
        slopes = torch.autograd.grad(z.square().sum(), (mean, log_scale), materialize_grads=True)
        of_mean, of_log_scale = 2 * z.sum(), 2 * z @ (z - mean)
        reached = torch.isclose(slopes[0].double(), of_mean, rtol=1e-4)
        assert reached, "the values are right, but no gradient of 1 reaches the mean."
        stretched = torch.isclose(slopes[1].double(), of_log_scale, rtol=1e-4)
        assert stretched, "the values are right, but dz/dlog_scale should be z - mean."
    return "Any smooth inverse of a distribution function turns uniform noise into samples with gradients."


def check_2_2(best_baseline) -> str:
    """best_baseline(f, score): f(z) and score, each (N,), to the b of least variance of (f - b) * score."""
    # Deviations that are not 1, lest the mean of score^2 be 1.
    for answer, count, std in ((best_baseline, 100_000, 0.5), (of_another_size(best_baseline), 1000, 2.0)):
        noise = Normal(0.0, 1.0).icdf(quantiles(count))
        f, score = (1 + std * noise) ** 2, noise / std
        b = answer(f.clone(), score.clone())
        b, f, score = number(b, "baseline for all samples"), f.double(), score.double()
        best = (f * score**2).mean() / (score**2).mean()
        left, none, least = (((f - baseline) * score).var() for baseline in (b, 0.0, best))
        verdict = f"It leaves a variance of {left:.1f}; {least:.1f} is possible"
        assert not same(b, f.mean()), f"that is the mean of f. {verdict}, if each f weighs as much as its score^2."
        assert not same(b, (f * score**2).mean()), f"the weights score^2 do not average to 1 here. {verdict}."
        assert same(b, best), f"b = {b.item():.2f} is not the best baseline. {verdict}."
    return f"It takes the variance from {none:.1f} to {least:.1f} here; the pathwise one has {(2 * std) ** 2:.1f}."


def check_2_3(kl_bits) -> str:
    """kl_bits(mean, log_std): a batch of posteriors (B, D) to their mean KL from the standard normal, bits (D,)."""
    mean = torch.tensor([[0.0, 1.5, 0.3], [0.0, -2.0, 0.1]])
    log_std = torch.tensor([[0.0, -1.0, 0.2], [0.0, -2.0, -0.4]])
    # Five of these two posteriors come first, with a dimension more: of two, the sum is also twice the mean.
    rows, columns = torch.tensor([0, 1, 1, 0, 1])[:, None], torch.tensor([0, 1, 2, 1])
    batches = (kl_bits, mean[rows, columns], log_std[rows, columns]), (of_another_size(kl_bits), mean, log_std)
    for answer, mean, log_std in batches:
        bits = tensor(answer(mean.clone(), log_std.clone()), mean.shape[1:], "it", "one number per dimension")
        standard = Normal(0.0, 1.0)
        nats = kl_divergence(Normal(mean, log_std.exp()), standard)
        assert not same(bits, nats.mean(0)), "these are nats; a bit is log 2 nats."
        assert not same(bits, nats.sum(0) / math.log(2)), "this is the sum over the batch, not its mean."
        mistaken = kl_divergence(Normal(mean, (log_std / 2).exp()), standard).mean(0) / math.log(2)
        assert not same(bits, mistaken), "log_std is the log of the deviation, not of the variance."
        wanted = nats.mean(0) / math.log(2)
        for doubled in (2 * nats, 2 * nats + log_std):
            assert not same(bits, doubled.mean(0) / math.log(2)), "this is right but for a factor of 1/2."
        batch = f"of a batch of shape {tuple(mean.shape)}"
        assert same(bits, wanted), f"{batch} the second dimension costs {wanted[1]:.3f} bits, not {bits[1]:.3f}."
    return "The dimension that costs 0 bits is one whose posterior is the prior: it says nothing about x."
