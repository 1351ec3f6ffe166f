"""The diagonal Gaussian: the distribution of every latent variable here (chapter 2)."""

import math
import operator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Between these lies the log deviation that a net gives a prior; a posterior may be surer still, but no less sure. With
#: data far from standardised their KL would overflow without.
LEAST_LOG_STD, LARGEST_LOG_STD = -10.0, 10.0
LEAST_POSTERIOR_LOG_STD = -80.0


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(log_std))^2), one independent Gaussian per entry of the last axis.

    mean, log_std: (..., D). A network may output any real log deviation, and the deviation stays positive.
    """

    mean: Tensor
    log_std: Tensor

    def rsample(self, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """mean + std * noise, (..., D): a sample through which gradients reach mean and log_std.

        The noise, standard normal of shape (..., D), is drawn if it is not given. This is the reparameterization
        trick of Kingma and Welling 2014 (arXiv 1312.6114), section 2.4.
        """
        if noise is None:
            noise = standard_normal(self.mean.shape, self.mean, generator)
        return torch.addcmul(self.mean, self.log_std.exp(), noise)

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """A sample (..., D) whose deviation is multiplied by `temperature`; at 0 it is the mean. No gradient."""
        with torch.no_grad():
            if temperature == 0:
                return self.mean.clone()
            return self.rsample(temperature * standard_normal(self.mean.shape, self.mean, generator))

    def log_prob(self, value: Tensor) -> Tensor:
        """log density of value (..., D) in nats, summed over D: (...)."""
        whitened = (value - self.mean) * torch.exp(-self.log_std)
        return -(0.5 * whitened.square() + self.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def kl(self, other: "DiagonalGaussian") -> Tensor:
        """KL(self || other) in nats, summed over D: (...). Zero or more; zero only where both are the same.

        Kingma and Welling 2014, appendix B, for a general second Gaussian:
        sum_d log(s2/s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2.
        """
        log_ratio = self.log_std - other.log_std
        shift = (self.mean - other.mean) * torch.exp(-other.log_std)
        return (0.5 * (torch.exp(2 * log_ratio) + shift.square() - 1) - log_ratio).sum(-1)


def from_raw(raw: Tensor, least: float = LEAST_LOG_STD) -> DiagonalGaussian:
    """The Gaussian (..., D) of a net's raw numbers (..., 2D): means, then log deviations, kept from `least` to 10."""
    mean, log_std = single(raw).chunk(2, -1)
    # A clamp, whose gradient takes a third of the time.
    return DiagonalGaussian(mean, F.hardtanh(log_std, least, LARGEST_LOG_STD))


def single(raw: Tensor) -> Tensor:
    """A net's raw numbers; under autocast back in single precision, since losses are small differences of them."""
    return raw.float() if torch.is_autocast_enabled(raw.device.type) else raw


def posterior_from_raw(raw: Tensor) -> DiagonalGaussian:
    """The same of a posterior, whose log deviations are kept from -80 to 10."""
    return from_raw(raw, LEAST_POSTERIOR_LOG_STD)


def standard_normal(shape, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of the given shape, with the type and device of `like`."""
    if generator is None:  # given one, even None, torch.randn takes no shape that a compiler leaves open
        return torch.randn(shape, dtype=like.dtype, device=like.device)
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


def seeded(seed: int | None, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that starts from this seed; None draws one. Raises ValueError as `checked_seed`."""
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(checked_seed(seed))


def checked_seed(seed) -> int:
    """The seed in Python's own type, which may be NumPy's. Raises ValueError unless torch takes such a whole number."""
    try:
        number = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be a whole number, not {seed}.") from None
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"seed must be from {-(2**63)} to {2**64 - 1}, not {seed}.")
    return number


def check_noise(noise: Tensor, shape, like: Tensor) -> None:
    """Raises ValueError for a noise of another shape, which might be broadcast, or of another type than `like`."""
    if noise.shape != shape or noise.dtype != like.dtype:
        raise ValueError(f"noise must be {like.dtype} {tuple(shape)}, not {noise.dtype} {tuple(noise.shape)}.")
