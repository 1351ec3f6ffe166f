"""What an emission is: the contract between a model and its x."""

from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Distribution(Protocol):
    """p(x_t | ...): what an emission makes of raw numbers whose leading axes are (...)."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over what one step holds: (...)."""
        ...

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """x, drawn after raising each softmax, coin and Gaussian to the power 1 / temperature, renormalised.

        That divides logits and multiplies variances; at 0 each gives its likeliest value. No gradient.

        Ours take `uniforms=`, too, in place of a generator: numbers in (0, 1), which the inverse of the distribution
        function turns into x, so that another program can draw the same. Their shape is x's, unless a class says so.
        """
        ...


def check_uniforms(uniforms: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError for uniforms that are not as many as what is drawn by them."""
    if uniforms.shape != shape:
        raise ValueError(f"uniforms must be {tuple(shape)}, one for each number drawn, not {tuple(uniforms.shape)}.")


class Emission:
    """What an x is, for a model to be given. Of its attributes and methods only `size` and `distribution` are needed.

    A dataclass has its options by itself; other classes with arguments give them as `options`, with which a checkpoint
    makes the instance again.
    """

    takes_codes = False  # x: int64 codes (...), or (..., k); else real vectors (..., D)
    characters = 1  # k, codes per step
    vocabulary: str | None = None  # the characters that the codes stand for, in order
    memory_size = 0  # M: numbers that `remember` keeps of the past
    reads_context = False  # whether the raw numbers are to be followed by what the emission's net has read

    def size(self, input_size: int) -> int:
        """How many raw numbers a net puts out for one step. input_size: number of codes V, or D of a vector."""
        raise NotImplementedError(f"{type(self).__name__} must say how many numbers a net puts out: size(input_size).")

    def distribution(self, raw: Tensor) -> Any:
        """The distribution whose parameters are a net's raw numbers (..., size)."""
        raise NotImplementedError(f"{type(self).__name__} must make a distribution of numbers: distribution(raw).")

    @property
    def options(self) -> dict:
        """The arguments, as JSON, with which the class makes this emission again."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init} if is_dataclass(self) else {}

    def check(self, x: Tensor, input_size: int) -> None:
        """Raises ValueError for an x of the right type and axes that holds what it must not."""
        if not self.takes_codes and not bool(torch.isfinite(x).all()):
            raise ValueError(f"x holds {int((~torch.isfinite(x)).sum())} numbers that are NaN or infinite.")

    def reads(self, input_size: int) -> int:
        """How many numbers `inputs` gives of a vector."""
        return input_size

    def inputs(self, x: Tensor) -> Tensor:
        """What phi_x reads of vectors x (..., D): (..., reads)."""
        return x

    def remember(self, x: Tensor, before: Tensor) -> Tensor:
        """What nets read of the past beside h, without its being scored, after each of the steps x (T, B, ...).

        before: (B, M), after the step before these; zeros at the start. Returns (T, B, M).
        """
        raise NotImplementedError

    def bind(self, input_size: int, context_size: int, embedding_size: int, width: int) -> "Emission":
        """The emission that a model of these sizes keeps; one with weights of its own makes them here.

        context_size: how many numbers the emission's net reads. Raises ValueError for sizes that it cannot serve.
        """
        return self
