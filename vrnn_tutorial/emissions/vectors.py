"""Emissions of vectors: coins, Gaussians, a mixture of them, and a scaler around any of these (chapters 1 and 9)."""

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gaussian import DiagonalGaussian, standard_normal
from .codes import draw_code
from .contract import Emission, check_uniforms

#: No density of ours grows without end where the data are constant: exp(-6) is the least deviation.
LEAST_LOG_STD, LARGEST_LOG_STD = -6.0, 10.0


def bounded(log_std: Tensor) -> Tensor:
    """The log deviation that a net's number stands for: itself, but from -6, which it nears smoothly, to 10.

    Smoothly, so that a gradient leads back from below.
    """
    return (LEAST_LOG_STD + F.softplus(log_std - LEAST_LOG_STD, beta=4)).clamp(max=LARGEST_LOG_STD)


def normal(like: Tensor, generator: torch.Generator | None, uniforms: Tensor | None) -> Tensor:
    """Standard normal numbers of the shape of `like`: drawn, or by the inverse of the distribution function."""
    return standard_normal(like.shape, like, generator) if uniforms is None else torch.special.ndtri(uniforms).to(like)


class BernoulliDistribution(NamedTuple):
    """D independent coins. logits: (..., D). x: (..., D), zeros and ones (or, as targets, anything between)."""

    logits: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over D: (...)."""
        return self.log_prob_of_each(x).sum(-1)

    def log_prob_of_each(self, x: Tensor) -> Tensor:
        """log p of each entry, (..., D)."""
        return -F.binary_cross_entropy_with_logits(self.logits, x, reduction="none")

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms: Tensor | None = None
    ) -> Tensor:
        """Zeros and ones (..., D), drawn with logits / temperature; at 0 the more likely side of each coin."""
        if uniforms is not None:
            check_uniforms(uniforms, self.logits.shape)
        if temperature < torch.finfo(self.logits.dtype).tiny:
            return (self.logits > 0).to(self.logits.dtype)
        p = torch.sigmoid(self.logits / temperature)
        return torch.bernoulli(p, generator=generator) if uniforms is None else (uniforms >= 1 - p).to(p)


class GaussianDistribution(DiagonalGaussian):
    """D independent Gaussians: "univariate Gaussian" in Chung et al. 2015 (arXiv 1506.02216), section 5.

    mean, log_std, x: (..., D).
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """log density of x (..., D) in nats, summed over D: (...)."""
        return self.log_prob_of_each(value).sum(-1)

    def log_prob_of_each(self, x: Tensor) -> Tensor:
        """log density of each entry, (..., D)."""
        whitened = (x - self.mean) * torch.exp(-self.log_std)
        return -(0.5 * whitened.square() + self.log_std + 0.5 * math.log(2 * math.pi))

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms: Tensor | None = None
    ) -> Tensor:
        """x (..., D) from p^(1 / temperature), which multiplies the variance by `temperature`; at 0 the mean."""
        if uniforms is not None:
            check_uniforms(uniforms, self.mean.shape)
        with torch.no_grad():
            if temperature == 0:
                return self.mean.clone()
            return self.mean + math.sqrt(temperature) * self.log_std.exp() * normal(self.mean, generator, uniforms)


class PartlyObserved(NamedTuple):
    """Independent entries of which some are NaN in x: log p sums those that are there, the others' marginal."""

    every: BernoulliDistribution | GaussianDistribution

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of the entries of x (..., D) that are there, in nats: (...)."""
        missing = torch.isnan(x)
        return self.every.log_prob_of_each(x.masked_fill(missing, 0.0)).masked_fill(missing, 0.0).sum(-1)

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms=None) -> Tensor:
        """x (..., D), whole, as `every` draws it."""
        return self.every.sample(temperature, generator, uniforms)


@dataclass(frozen=True)
class _Independent(Emission):
    """Entries that are independent given z and h, so that some of them may be missing.

    missing: whether an entry of x may be NaN. Then log p sums the others, and phi_x reads 0 in its place, and behind x
    a mask (..., D), ones where there is something; else NaN is refused.
    """

    missing: bool = False

    def reads(self, input_size: int) -> int:
        return (1 + self.missing) * input_size

    def inputs(self, x: Tensor) -> Tensor:
        if not self.missing:
            return x
        absent = torch.isnan(x)
        return torch.cat([x.masked_fill(absent, 0.0), (~absent).to(x)], -1)

    def check(self, x: Tensor, input_size: int) -> None:
        if self.missing:
            x = x.nan_to_num(0.0, torch.inf, -torch.inf)
        elif bool(torch.isnan(x).any()):
            raise ValueError(
                f"x holds {int(torch.isnan(x).sum())} NaN; if they stand for missing entries, "
                f"give the model emission={type(self).__name__}(missing=True)."
            )
        super().check(x, input_size)

    def of(self, distribution):
        return PartlyObserved(distribution) if self.missing else distribution


@dataclass(frozen=True)
class Bernoulli(_Independent):
    """x: D coins, zeros and ones or probabilities between them (as targets), independent given z and h.

    missing: whether entries of x may be NaN. Raises ValueError for other numbers in x.
    """

    def size(self, input_size: int) -> int:
        return input_size

    def check(self, x: Tensor, input_size: int) -> None:
        super().check(x, input_size)
        if bool(((x < 0) | (x > 1)).any()):
            known = x.detach()[~torch.isnan(x)]
            raise ValueError(
                f"x holds numbers from {float(known.min()):g} to {float(known.max()):g}; a Bernoulli's are 0 to 1."
            )

    def distribution(self, raw: Tensor) -> BernoulliDistribution | PartlyObserved:
        return self.of(BernoulliDistribution(raw))


@dataclass(frozen=True)
class Gaussian(_Independent):
    """x: D real numbers, each with a Gaussian of its own, independent given z and h; the least deviation is exp(-6).

    Standardised data are expected: see `Scaled`. missing: whether entries of x may be NaN.
    """

    def size(self, input_size: int) -> int:
        return 2 * input_size

    def distribution(self, raw: Tensor) -> GaussianDistribution | PartlyObserved:
        mean, log_std = raw.chunk(2, -1)
        return self.of(GaussianDistribution(mean, bounded(log_std)))


class GaussianMixtureDistribution(NamedTuple):
    """A mixture of K Gaussians of diagonal covariance. logits: (..., K). mean, log_std: (..., K, D). x: (..., D)."""

    logits: Tensor
    mean: Tensor
    log_std: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of x in nats: (...)."""
        each = DiagonalGaussian(self.mean, self.log_std).log_prob(x[..., None, :])
        return (self.logits.log_softmax(-1) + each).logsumexp(-1)

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms: Tensor | None = None
    ) -> Tensor:
        """x (..., D): the weights' logits are divided by `temperature`, variances multiplied (Ha and Eck 2017).

        At 0 the mean of the likeliest component. uniforms: (..., 1 + D), for the component and for the entries of x.
        """
        first = rest = None
        if uniforms is not None:
            check_uniforms(uniforms, (*self.mean.shape[:-2], 1 + self.mean.shape[-1]))
            first, rest = uniforms[..., 0], uniforms[..., 1:]
        with torch.no_grad():
            chosen = draw_code(self.logits, temperature, generator, first)[..., None, None]
            mean, log_std = (p.take_along_dim(chosen, -2).squeeze(-2) for p in (self.mean, self.log_std))
            return GaussianDistribution(mean, log_std).sample(temperature, generator, rest)


@dataclass(frozen=True)
class GaussianMixture(Emission):
    """x: D real numbers at once, a mixture of K = `components` Gaussians of diagonal covariance.

    "GMM" in Chung et al. 2015 (arXiv 1506.02216), section 5. The least deviation is exp(-6), of standardised data: see
    `Scaled`. Raises ValueError for fewer than one component.
    """

    components: int = 20

    def __post_init__(self):
        if self.components < 1:
            raise ValueError(f"components={self.components}: one or more.")

    def size(self, input_size: int) -> int:
        return self.components * (1 + 2 * input_size)

    def distribution(self, raw: Tensor) -> GaussianMixtureDistribution:
        logits, rest = raw.tensor_split([self.components], -1)
        mean, log_std = rest.unflatten(-1, (2, self.components, -1)).unbind(-3)
        return GaussianMixtureDistribution(logits, mean, bounded(log_std))


class ScaledDistribution(NamedTuple):
    """x = shift + scale * y, where y has the `standard` distribution."""

    standard: Any
    scaled: "Scaled"

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of x (..., D), in x's own units, in nats: (...)."""
        # An entry that is missing has no density to be changed by its unit.
        change = torch.where(torch.isnan(x), 0.0, self.scaled.scale.log().to(x))
        return self.standard.log_prob(self.scaled.standardised(x)) - change.sum(-1)

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None, **uniforms) -> Tensor:
        """x (..., D), in its own units. uniforms: as `standard` takes them."""
        y = self.standard.sample(temperature, generator, **uniforms)
        return self.scaled.shift.to(y) + self.scaled.scale.to(y) * y


class Scaled(Emission, nn.Module):
    """Vectors in units of their own around an emission of standardised ones: nets see (x - shift) / scale.

    Losses and samples are in x's units. shift, scale: D numbers, or one for all; they are options, so that a
    checkpoint keeps them. `Scaled.fit(emission, x)` takes them from data. Raises ValueError for an emission of codes or
    coins, and for a scale that is not positive.
    """

    def __init__(self, emission: Emission, shift: float | list[float], scale: float | list[float]):
        super().__init__()
        if emission.takes_codes or isinstance(emission, Bernoulli):
            raise ValueError(f"{type(emission).__name__} has no units: there is nothing to scale.")
        self.emission = emission
        self.memory_size, self.reads_context = emission.memory_size, emission.reads_context
        self.shift, self.scale = (torch.as_tensor(numbers, dtype=torch.float64) for numbers in (shift, scale))
        finite = bool(torch.isfinite(self.shift).all() and torch.isfinite(self.scale).all())
        if not finite or bool((self.scale <= 0).any()):
            raise ValueError(f"shift and scale must be finite, and scale positive, not {shift} and {scale}.")

    @classmethod
    def fit(cls, emission: Emission, x: Tensor | list[Tensor]) -> "Scaled":
        """Around `emission`, with the mean and the deviation of each of the D entries of x as shift and scale.

        x: training data (..., D), or sequences (T_i, D); NaN are left out. An entry that never moves has scale 1.

        Raises ValueError for an entry of which nothing is there, or something is infinite.
        """
        parts = x if isinstance(x, list | tuple) else [x]
        rows = torch.cat([torch.as_tensor(part).flatten(0, -2) for part in parts]).double()
        mean = rows.nanmean(0)
        deviation = (rows - mean).square().nanmean(0).sqrt()
        # Not by the deviation, which rounding alone keeps from zero.
        moves = rows.nan_to_num(-torch.inf).amax(0) > rows.nan_to_num(torch.inf).amin(0)
        return cls(emission, mean.tolist(), torch.where(moves, deviation, 1.0).tolist())

    @property
    def options(self) -> dict:
        return {"emission": self.emission, "shift": self.shift.tolist(), "scale": self.scale.tolist()}

    def size(self, input_size: int) -> int:
        return self.emission.size(input_size)

    def distribution(self, raw: Tensor) -> ScaledDistribution:
        return ScaledDistribution(self.emission.distribution(raw), self)

    def check(self, x: Tensor, input_size: int) -> None:
        self.emission.check(self.standardised(x), input_size)

    def standardised(self, x: Tensor) -> Tensor:
        return (x - self.shift.to(x)) / self.scale.to(x)

    def reads(self, input_size: int) -> int:
        return self.emission.reads(input_size)

    def inputs(self, x: Tensor) -> Tensor:
        return self.emission.inputs(self.standardised(x))

    def remember(self, x: Tensor, before: Tensor) -> Tensor:
        return self.emission.remember(self.standardised(x), before)

    def bind(self, input_size: int, context_size: int, embedding_size: int, width: int) -> "Scaled":
        if not {self.shift.shape, self.scale.shape} <= {(), (1,), (input_size,)}:
            raise ValueError(f"shift and scale must hold {input_size} numbers each, or be one for all.")
        bound = copy.deepcopy(self)  # of a subclass, too
        bound.emission = self.emission.bind(input_size, context_size, embedding_size, width)
        return bound
