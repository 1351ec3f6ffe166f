"""The training loss, and bounds on log p(x): the ELBO, importance weighting, a particle filter (chapters 1, 4, 6)."""

import math

import torch
from torch import Tensor

from .gaussian import standard_normal


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


def fivo(
    model, x: Tensor, particles: int, generator: torch.Generator | None = None, resample_below: float = 0.5
) -> Tensor:
    """The particle filter's bound on log p(x), from K = `particles` per sequence: (B,), nats per sequence.

    Maddison et al. 2017, "Filtering Variational Objectives" (arXiv 1705.09279), algorithm 1, with the posterior as
    proposal: sum_t log sum_k w_{t-1}^k p(x_t, z_t^k | h_{t-1}^k) / q(z_t^k | x_t, h_{t-1}^k). When the effective sample
    size 1 / sum_k (w_t^k)^2 falls under `resample_below` K, K ancestors are drawn in proportion to the weights, which
    start anew from 1/K; at 0 none ever is, and this is `iwae`. In expectation it is the ELBO at K = 1 and at most
    log p(x), to which it tends; that it never falls as K grows is not certain, unlike with `iwae`.
    model: a VRNN, x (T, B, ...), whose sequences start from zeros. Raises ValueError for fewer than one particle.
    """
    if particles < 1:
        raise ValueError(f"particles must be at least 1, not {particles}.")
    cell = model.cell
    columns = (x.transpose(0, 1) if model.batch_first else x).repeat_interleave(particles, 1)
    shape = (*columns.shape[:2], cell.latent_size)
    weight = next(model.parameters())
    state, log_w, bound = None, -math.log(particles), weight.new_zeros(())
    for x_t, noise in zip(columns, standard_normal(shape, weight, generator), strict=True):
        step = cell(x_t, state, noise)
        state, z = step.state, step.z
        log_ratio = step.prior.log_prob(z) - step.posterior.log_prob(z) + step.emission.log_prob(x_t)
        log_w = log_w + log_ratio.view(-1, particles)
        total = log_w.logsumexp(1, keepdim=True)
        bound, log_w = bound + total[:, 0], log_w - total
        w = log_w.detach().exp()
        poor = w.square().sum(1, keepdim=True) * resample_below * particles > 1
        if poor.any():
            drawn = torch.multinomial(w, particles, replacement=True, generator=generator)
            ancestors = torch.where(poor, drawn, torch.arange(particles, device=w.device))
            log_w = log_w.masked_fill(poor, -math.log(particles))
            state = _columns(state, (ancestors + particles * torch.arange(len(w), device=w.device)[:, None]).flatten())
    return bound


def _columns(state, chosen: Tensor):
    """The state that is made of these columns of a state's batch."""
    return state[chosen] if isinstance(state, Tensor) else tuple(_columns(part, chosen) for part in state)
