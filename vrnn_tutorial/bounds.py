"""The training loss, and bounds on log p(x): the ELBO, importance weighting, a particle filter (chapters 1, 4, 6)."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .lengths import mean_over_steps
from .models import check_latent, check_sequences


def loss(out, kl_weight: float = 1.0, free_bits: float = 0.0) -> Tensor:
    """What training minimises: mean reconstruction + kl_weight * mean KL, nats per time step, a scalar.

    out: the output of a VRNN, CharRNN or VAE. With kl_weight 1 and no free bits this is minus the ELBO (Chung et al.
    2015, arXiv 1506.02216, equation 11). kl_weight below 1 is the annealing of Bowman et al. 2015 (arXiv 1511.06349).
    free_bits: bits per time step of mean KL that cost nothing more than they would at that many bits (Kingma et al.
    2016, arXiv 1606.04934, appendix C.8, with all of z_t as one group).
    """
    steps = getattr(out, "steps", None)  # a VAE's x have none
    kl = mean_over_steps(out.kl, steps)
    if free_bits:
        kl = kl.clamp(min=free_bits * math.log(2))
    return mean_over_steps(out.reconstruction, steps) + kl_weight * kl


class Bound(NamedTuple):
    """A bound on log p(x) by K particles for each of B sequences, and the losses of all of them."""

    log_p: Tensor  # (B,), nats per sequence
    reconstruction: Tensor  # (T, B K), nats per time step; of a VAE (B K,)
    kl: Tensor  # likewise
    steps: Tensor | None  # (T, B K), bool: which steps there are; None for all
    state: Any  # after the last step, B K columns; None of a VAE
    particles: int

    def loss(self) -> Tensor:
        """What training minimises: minus the bound, in nats per time step, a scalar."""
        steps = self.reconstruction.numel() if self.steps is None else self.steps.sum()
        return -self.log_p.sum() * self.particles / steps


def log_weights(out, dim: int | None = None) -> Tensor:
    """log p(x, z) - log q(z | x) in nats, of the z that was drawn; summed over time, axis `dim`, if there is one.

    Where a sequence has ended nothing is added.
    """
    log_w = out.prior.log_prob(out.z) - out.posterior.log_prob(out.z) - out.reconstruction
    steps = getattr(out, "steps", None)  # a VAE's x have none
    log_w = log_w if steps is None else log_w.masked_fill(~steps, 0.0)
    return log_w if dim is None else log_w.sum(dim)


def iwae(
    model, x: Tensor, samples: int, generator: torch.Generator | None = None, *, lengths: Tensor | None = None
) -> Tensor:
    """The importance-weighted bound on log p(x), from K = `samples` draws of z per x: (B,), nats per x or sequence.

    log 1/K sum_k p(x, z_k) / q(z_k | x); Burda et al. 2016 (arXiv 1509.00519), equation 8. In expectation it is the
    ELBO at K = 1, never falls as K grows, and tends to log p(x).

    Args:
        model: a VAE, or a VRNN, whose sequences start from zeros.
        x: (B, D) of a VAE; (T, B, ...) of a VRNN.
        samples: K.
        generator: draws z.
        lengths: (B,), of sequences.

    Raises:
        ValueError: for fewer than one sample, and a model without z.
    """
    options = {} if lengths is None else {"lengths": lengths}
    return iwae_bound(model, x, samples, generator=generator, **options).log_p


def fivo(
    model,
    x: Tensor,
    particles: int,
    generator: torch.Generator | None = None,
    resample_below: float = 0.5,
    *,
    lengths: Tensor | None = None,
) -> Tensor:
    """The particle filter's bound on log p(x), from K = `particles` per sequence: (B,), nats per sequence.

    Maddison et al. 2017, "Filtering Variational Objectives" (arXiv 1705.09279), algorithm 1, with the posterior as
    proposal: sum_t log sum_k w_{t-1}^k p(x_t, z_t^k | h_{t-1}^k) / q(z_t^k | x_t, h_{t-1}^k). When the effective sample
    size 1 / sum_k (w_t^k)^2 falls under `resample_below` K, K ancestors are drawn in proportion to the weights, which
    start anew from 1/K; at 0 none ever is, and this is `iwae`. In expectation it is the ELBO at K = 1 and at most
    log p(x), to which it tends; that it never falls as K grows is not certain, unlike with `iwae`. Its gradient leaves
    out which ancestors were drawn, as theirs does (section 3.2).

    Args:
        model: a VRNN, whose sequences start from zeros.
        x: (T, B, ...).
        particles: K.
        generator: draws z and ancestors.
        resample_below: the share of K.
        lengths: (B,), of sequences.

    Raises:
        ValueError: for fewer than one particle, a VAE, and a model without z.
    """
    return fivo_bound(model, x, particles, resample_below, generator=generator, lengths=lengths).log_p


def iwae_bound(model, x: Tensor, samples: int, **options) -> Bound:
    """`iwae`, and what else a training loop needs. options: as a VRNN's forward takes them."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}.")
    check_latent(model, "iwae")
    sequences = hasattr(model, "zero_state")  # else a VAE
    out = model(x, particles=samples, **options) if sequences else model(x.repeat_interleave(samples, 0), **options)
    log_w = log_weights(out, 1 - model.batch_axis if sequences else None)
    log_p = log_w.unflatten(0, (-1, samples)).logsumexp(1) - math.log(samples)
    steps, state = (out.steps, out.state) if sequences else (None, None)
    return Bound(log_p, out.reconstruction, out.kl, steps, state, samples)


def fivo_bound(model, x: Tensor, particles: int, resample_below: float = 0.5, **options) -> Bound:
    """`fivo`, and what else a training loop needs.

    Args:
        model, x, particles, resample_below: as there.
        options: as a VRNN's forward takes them.
    """
    if particles < 1:
        raise ValueError(f"particles must be at least 1, not {particles}.")
    check_sequences(model, "fivo")
    check_latent(model, "fivo")
    filter = ParticleFilter(particles, resample_below, options.get("generator"))
    out = model(x, particles=particles, resample=filter.resample, **options)
    ratios = log_weights(out)
    ratios = ratios.transpose(0, 1) if model.batch_axis == 0 else ratios
    # Between two resamplings a particle's ratios add up, and each such stretch counts with its mean weight.
    ratios, stretches = ratios.unflatten(1, (-1, particles)), filter.stretches()
    sums = ratios.new_zeros(int(stretches.max()) + 1, *ratios.shape[1:])
    sums = sums.scatter_add(0, stretches.expand_as(ratios), ratios)
    log_p = (sums.logsumexp(2) - math.log(particles)).sum(0)
    return Bound(log_p, out.reconstruction, out.kl, out.steps, out.state, particles)


class ParticleFilter:
    """The weights of K particles for each of B sequences, as the steps come, without gradients."""

    def __init__(self, particles: int, below: float, generator: torch.Generator | None):
        """particles, below, generator: as `fivo` has them."""
        self.particles, self.below, self.generator = particles, below, generator
        self.log_w: Tensor | float = -math.log(particles)  # (B, K) after a step: those of the next one's beginning
        self.log_p: Tensor | float = 0.0  # (B,): what `fivo` sums over the steps, in nats
        self.effective: list[Tensor] = []  # (B,), of each step: how many particles count
        self.resampled: list[Tensor] = []  # (B, 1), bool, of each step: which sequences were, after it

    def resample(self, t: int, log_ratio: Tensor) -> Tensor | None:
        """The columns (B K,) from which the next step goes on, given log p(x_t, z_t) - log q(z_t) of those before."""
        K = self.particles
        self.log_w, total = _normalised(self.log_w + log_ratio.view(-1, K))
        self.log_p = self.log_p + total
        w = self.log_w.exp()
        squares = w.square().sum(1, keepdim=True)
        self.effective.append(1 / squares[:, 0])
        poor = squares * self.below * K > 1
        self.resampled.append(poor)
        if not poor.any():
            return None
        drawn = torch.multinomial(w, K, replacement=True, generator=self.generator)
        ancestors = torch.where(poor, drawn, torch.arange(K, device=w.device))
        self.log_w = self.log_w.masked_fill(poor, -math.log(K))
        return (ancestors + K * torch.arange(len(w), device=w.device)[:, None]).flatten()

    def stretches(self) -> Tensor:
        """(T, B, 1), int64: how often its sequence had been resampled before a step."""
        resampled = torch.stack(self.resampled)
        return resampled.cumsum(0) - resampled.long()


def _normalised(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, K) that sum to one, and the log (B,) of what they summed to."""
    total = log_w.logsumexp(1, keepdim=True)
    return log_w - total, total[:, 0]
