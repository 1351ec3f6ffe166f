"""The emission of a pen's steps: where it goes next, and whether it is lifted (chapter 7)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .codes import draw_code
from .contract import Emission, check_uniforms
from .vectors import bounded, normal

#: Beyond this correlation a Gaussian of two dimensions would be a line, however large its deviations.
LARGEST_CORRELATION = 0.99


class PenDistribution(NamedTuple):
    """A mixture of K bivariate Gaussians for an offset, and a softmax over the pen's three states.

    logits: (..., K). mean, log_std: (..., K, 2). correlation: (..., K). pen: (..., K, 3), the states' logits of each
    component, or (..., 1, 3) of all. x: (..., 5): dx, dy, and one of (goes on, stroke ends, character ends).
    """

    logits: Tensor
    mean: Tensor
    log_std: Tensor
    correlation: Tensor
    pen: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of the offset and log p of the pen's state in nats, summed: (...).

        Where x has three zeros in place of a state it is the log density of the offset alone, whatever the pen does.

        Graves 2013 (arXiv 1308.0850), equations 24 to 26; with three states, Ha and Eck 2017 (arXiv 1704.03477).
        """
        u, v = ((x[..., None, :2] - self.mean) * torch.exp(-self.log_std)).unbind(-1)
        rest = 1 - self.correlation.square()
        square = (u.square() + v.square() - 2 * self.correlation * u * v) / rest
        offset = -0.5 * (square + rest.log()) - self.log_std.sum(-1) - math.log(2 * math.pi)
        pen = (self.pen.log_softmax(-1) * x[..., None, 2:]).sum(-1)
        return (self.logits.log_softmax(-1) + offset + pen).logsumexp(-1)

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms: Tensor | None = None
    ) -> Tensor:
        """x (..., 5): all logits are divided by `temperature`, variances multiplied (Ha and Eck 2017, equation 8).

        At 0 the mean of the likeliest component, and its likeliest state. uniforms: (..., 4), for the component, the
        two entries of the offset, and the state.
        """
        component = two = state = None
        if uniforms is not None:
            check_uniforms(uniforms, (*self.logits.shape[:-1], 4))
            component, two, state = uniforms[..., 0], uniforms[..., 1:3], uniforms[..., 3]
        with torch.no_grad():
            chosen = draw_code(self.logits, temperature, generator, component)[..., None]
            rho = self.correlation.take_along_dim(chosen, -1)
            mean, log_std = (p.take_along_dim(chosen[..., None], -2).squeeze(-2) for p in (self.mean, self.log_std))
            u, v = normal(mean, generator, two).split(1, -1)
            noise = torch.cat([u, rho * u + (1 - rho.square()).sqrt() * v], -1)
            offset = mean + math.sqrt(temperature) * log_std.exp() * noise
            pen = self.pen.expand(*self.logits.shape, 3).take_along_dim(chosen[..., None], -2).squeeze(-2)
            state = draw_code(pen, temperature, generator, state)
            return torch.cat([offset, torch.nn.functional.one_hot(state, 3).to(offset)], -1)


@dataclass(frozen=True)
class Pen(Emission):
    """x: a pen's step (dx, dy, goes on, stroke ends, character ends), D = 5, the last three one 1 and two 0.

    components: Gaussians in the mixture for the offset, whose least deviation is exp(-6). joint: one mixture over both,
    each component with a softmax of its own over the pen's states, so that offset and state may depend on each other
    without a z; else they are independent given z and h. position: the nets read, beside h, where the pen is: the sum
    of the offsets since the character began, which nothing scores.

    Raises ValueError for fewer than one component, vectors of another size, and states that are not one of three.
    """

    components: int = 20
    joint: bool = False
    position: bool = False

    def __post_init__(self):
        if self.components < 1:
            raise ValueError(f"components={self.components}: one or more.")

    @property
    def memory_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 2 if self.position else 0

    def remember(self, x: Tensor, before: Tensor) -> Tensor:
        """The position (T, B, 2) after each of the steps x (T, B, 5); at a character's end it is the origin again."""
        position, positions = before, []
        for step in x.unbind():
            position = (position + step[:, :2]) * (1 - step[:, 4:])
            positions.append(position)
        return torch.stack(positions)

    def size(self, input_size: int) -> int:
        return self.components * 6 + 3 * (self.components if self.joint else 1)

    def check(self, x: Tensor, input_size: int) -> None:
        super().check(x, input_size)
        pen = x[..., 2:]
        if not bool((((pen == 0) | (pen == 1)).all(-1) & (pen.sum(-1) == 1)).all()):
            raise ValueError("the last three numbers of a pen's step say its state: one of them 1, the others 0.")

    def bind(self, input_size: int, context_size: int, embedding_size: int, width: int) -> "Pen":
        if input_size != 5:
            raise ValueError(f"a pen's step has 5 numbers, but input_size is {input_size}.")
        return self

    def distribution(self, raw: Tensor) -> PenDistribution:
        K = self.components
        logits, mean, log_std, correlation, pen = raw.split([K, 2 * K, 2 * K, K, raw.shape[-1] - 6 * K], -1)
        return PenDistribution(
            logits,
            mean.unflatten(-1, (K, 2)),
            bounded(log_std).unflatten(-1, (K, 2)),
            LARGEST_CORRELATION * torch.tanh(correlation),
            pen.unflatten(-1, (-1, 3)),
        )
