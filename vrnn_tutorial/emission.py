"""Emission distributions p(x_t | z_t, h_{t-1}): from a network's raw output to log p and to samples (chapter 3)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .gaussian import DiagonalGaussian


class Categorical(NamedTuple):
    """A softmax over V codes; with `characters` k > 1, k independent softmaxes for the k characters of one step.

    logits: (..., V), or (..., k, V). x: int64 codes (...), or (..., k).
    """

    logits: Tensor
    characters: int = 1

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over the k characters of a step: (...)."""
        log_p = -F.cross_entropy(self.logits.flatten(0, -2), x.flatten(), reduction="none").view(x.shape)
        return log_p if self.characters == 1 else log_p.sum(-1)

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Codes (...), or (..., k), drawn from softmax(logits / temperature); at 0 the most likely codes."""
        # Closer to zero than the logits' type can say, too, since dividing by that is dividing by zero.
        if temperature < torch.finfo(self.logits.dtype).tiny:
            return self.logits.argmax(-1)
        # Subtracting the maximum first keeps a tiny temperature from dividing into infinities.
        scaled = (self.logits - self.logits.amax(-1, keepdim=True)) / temperature
        probabilities = scaled.softmax(-1).flatten(0, -2)
        return torch.multinomial(probabilities, 1, generator=generator).view(self.logits.shape[:-1])


class Bernoulli(NamedTuple):
    """D independent coins. logits: (..., D). x: (..., D), zeros and ones (or, as targets, anything between)."""

    logits: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over D: (...)."""
        return -F.binary_cross_entropy_with_logits(self.logits, x, reduction="none").sum(-1)

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Zeros and ones (..., D), drawn with logits / temperature; at 0 the more likely side of each coin."""
        if temperature < torch.finfo(self.logits.dtype).tiny:
            return (self.logits > 0).to(self.logits.dtype)
        return torch.bernoulli(torch.sigmoid(self.logits / temperature), generator=generator)


class Gaussian(DiagonalGaussian):
    """D independent Gaussians: "univariate Gaussian" in Chung et al. 2015 (arXiv 1506.02216), section 5.

    mean, log_std, x: (..., D). Temperature multiplies the deviation.
    """


Emission = Categorical | Bernoulli | Gaussian


def raw_size(kind: str, input_size: int, characters: int = 1) -> int:
    """How many numbers a network must put out per step for an emission of this kind.

    Raises ValueError for a kind that is not "categorical", "bernoulli" or "gaussian".
    """
    sizes = {"categorical": characters * input_size, "bernoulli": input_size, "gaussian": 2 * input_size}
    if kind not in sizes:
        raise ValueError(f"emission must be one of {', '.join(sizes)}, not {kind!r}.")
    return sizes[kind]


def from_raw(raw: Tensor, kind: str, characters: int = 1) -> Emission:
    """The distribution of this kind whose parameters are a network's raw output (..., raw_size)."""
    if kind == "categorical":
        return Categorical(raw if characters == 1 else raw.unflatten(-1, (characters, -1)), characters)
    return Bernoulli(raw) if kind == "bernoulli" else Gaussian(*raw.chunk(2, -1))
