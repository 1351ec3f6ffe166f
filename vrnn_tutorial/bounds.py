"""Losses and bounds on log p(x): the ELBO, weighted or not, and the importance-weighted bound (chapters 1, 4, 6)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def loss(out, kl_weight: float = 1.0, free_bits: float = 0.0) -> Tensor:
    """What training minimises: mean reconstruction + kl_weight * mean KL, nats per time step, a scalar.

    out: the output of a VRNN, CharRNN or VAE. With kl_weight 1 and no free bits this is minus the ELBO (Chung et al.
    2015, arXiv 1506.02216, equation 11). kl_weight below 1 is the annealing of Bowman et al. 2015 (arXiv 1511.06349).
    free_bits: bits per time step of mean KL that cost nothing more than they would at that many bits (Kingma et al.
    2016, arXiv 1606.04934, appendix C.8, with all of z_t as one group).
    """
    kl = out.kl.mean()
    if free_bits:
        kl = kl.clamp(min=free_bits * math.log(2))
    return out.reconstruction.mean() + kl_weight * kl


@dataclass(frozen=True)
class Linear:
    """A function of the update: from `start` to `stop` over the first `updates` updates, then `stop`.

    As KL weight it is the linear annealing of Bowman et al. 2015 (arXiv 1511.06349).
    """

    start: float
    stop: float
    updates: int

    def __call__(self, update: int) -> float:
        return self.start + (self.stop - self.start) * min(update / self.updates, 1.0)


def log_weights(out, dim: int | None = None) -> Tensor:
    """log p(x, z) - log q(z | x) in nats, of the z that was drawn; summed over time, axis `dim`, if there is one."""
    log_w = out.prior.log_prob(out.z) - out.posterior.log_prob(out.z) - out.reconstruction
    return log_w if dim is None else log_w.sum(dim)


def iwae(model, x: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """The importance-weighted bound on log p(x), from K = `samples` draws of z per x: (B,), nats per x or sequence.

    log 1/K sum_k p(x, z_k) / q(z_k | x); Burda et al. 2016 (arXiv 1509.00519), equation 8. In expectation it is the
    ELBO at K = 1, never falls as K grows, and tends to log p(x). model: a VAE, x (B, D), or a VRNN, x (T, B, ...),
    whose sequences start from zeros. Raises ValueError for fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}.")
    axis = model.batch_axis
    out = model(x.repeat_interleave(samples, axis), generator=generator)
    log_w = log_weights(out, None if out.reconstruction.dim() == 1 else 1 - axis)
    return log_w.unflatten(0, (-1, samples)).logsumexp(1) - math.log(samples)
