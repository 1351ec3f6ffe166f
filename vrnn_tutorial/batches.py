"""Endless mini batches: of a text, x of shape (T, B) whose column b holds T consecutive characters, or of sequences.

`RandomWindows` throws the B columns anywhere into the text, as the source does; `ContiguousStreams` lets each column
read on where it stopped, so that a hidden state carried from one batch to the next belongs to the text before it.
`Sequences` takes whole sequences of unequal length, and pads those of a batch to the longest of them; `Dequantised`
adds noise to them, by which whole numbers have a density.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .gaussian import seeded
from .lengths import as_sequences, pad, real_steps


@dataclass(frozen=True, eq=False)
class _Batches:
    codes: Tensor
    batch_size: int = 64
    length: int = 300
    characters: int = 1
    validation: Tensor | None = None
    batch_first: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "length", "characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if len(self.codes) < self._window:
            raise ValueError(
                f"the text has {len(self.codes)} characters, but one window takes {self._window}: "
                "give a longer text, or a smaller length"
            )

    @property
    def _window(self) -> int:
        return self.length * self.characters

    def _cut(self, text: Tensor, starts: Tensor) -> Tensor:
        """The windows x of `text` that begin at `starts` (B,)."""
        rows = text.unfold(0, self._window, 1)[starts].long()  # (B, T k)
        x = rows.view(-1, self.length, self.characters).transpose(0, 1).contiguous()  # (T, B, k)
        return x.squeeze(-1) if self.characters == 1 else x


@dataclass(frozen=True, eq=False)
class RandomWindows(_Batches):
    """Endless mini batches of windows that start at random positions, the same ones in each `iter()`, fixed by `seed`.

    A window has nothing to do with the one before, so the hidden state must start at zero in each (the source carried
    it on, between unrelated texts).

    codes: (N,) of any integer type, the text; validation: (M,) int64 or None, held-out text for a training loop to
    score. Yields x, int64 of shape (T, B), or (T, B, k) where a step holds characters=k > 1; length is T, batch_size B.
    Raises ValueError if a size is not positive, or the text is shorter than a window of T k characters.
    """

    seed: int = 0
    carries_state: ClassVar[bool] = False

    def __iter__(self) -> Iterator[Tensor]:
        generator = seeded(self.seed)
        while True:
            starts = torch.randint(len(self.codes) - self._window + 1, (self.batch_size,), generator=generator)
            yield self._cut(self.codes, starts)


@dataclass(frozen=True, eq=False)
class ContiguousStreams(_Batches):
    """Endless mini batches in which each column reads on where it stopped; each `iter()` starts afresh.

    Column b starts at position b (N // B) and goes round the text, so the hidden state at the end of a batch belongs to
    the text just before the next one; only where the end of the text meets its beginning does it not. Fields, shapes
    and errors are those of `RandomWindows`, without the seed; and a text of fewer characters than streams is refused.
    """

    carries_state: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.codes) < self.batch_size:
            raise ValueError(
                f"the text has {len(self.codes)} characters, too few for batch_size={self.batch_size} streams"
            )

    def __iter__(self) -> Iterator[Tensor]:
        starts = torch.arange(self.batch_size) * (len(self.codes) // self.batch_size)
        circle = torch.cat([self.codes, self.codes[: self._window]])  # a window may run over the end of the text
        for n in itertools.count():
            yield self._cut(circle, (starts + n * self._window) % len(self.codes))


@dataclass(frozen=True, eq=False)
class Sequences:
    """Endless mini batches of whole sequences, each of them once in every pass; the same ones in each `iter()`.

    Sequences of similar lengths stand side by side, so that little is padding: for each pass they are sorted by their
    lengths, each first stretched at random by up to a tenth, and cut into batches, which are then shuffled. So no two
    passes are alike; all are fixed by `seed`.

    sequences: tensors or arrays (T_i, ...), alike but for T_i; those of no steps are left out. validation: held-out
    sequences for a training loop to score, kept as x and lengths; or None. Yields x (T, B, ...), or (B, T, ...) with
    batch_first, and lengths (B,), int64. B is at most batch_size, and differs by one at most within a pass.
    Raises ValueError if batch_size is not positive, and for sequences that cannot stand in one batch (`as_sequences`).
    """

    sequences: Sequence[Tensor | np.ndarray]
    batch_size: int = 64
    validation: Sequence[Tensor | np.ndarray] | None = None
    seed: int = 0
    batch_first: bool = False
    carries_state: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        sequences = [sequence for sequence in as_sequences(self.sequences) if len(sequence)]
        object.__setattr__(self, "sequences", sequences)
        if self.validation is not None:
            as_sequences([sequences[0], *self.validation])  # alike, too
            object.__setattr__(self, "validation", pad(self.validation, self.batch_first))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = seeded(self.seed)
        lengths = torch.tensor([len(sequence) for sequence in self.sequences])
        count = math.ceil(len(lengths) / self.batch_size)
        while True:
            stretched = lengths * (1 + 0.1 * torch.rand(len(lengths), generator=generator))
            batches = stretched.argsort().tensor_split(count)
            for i in torch.randperm(count, generator=generator).tolist():
                yield pad([self.sequences[j] for j in batches[i].tolist()], self.batch_first)


@dataclass(frozen=True, eq=False)
class Dequantised(Sequences):
    """`Sequences` of float steps to which each batch adds fresh noise, uniform between -width / 2 and width / 2.

    Where the steps hold whole numbers and the width is 1, minus the mean log density of what is given is an upper bound
    on the nats of the whole numbers themselves (Theis et al. 2016, arXiv 1511.01844, section 3.1), so that no density
    gains by growing without end upon a number. The noise, too, is fixed by `seed`.

    width: a number for each entry of a step, or one for all; 0 adds nothing. validation is taken as it is: give it
    noise that stays, by `dequantised`. Other fields, shapes and errors are those of `Sequences`.
    """

    width: float | tuple[float, ...] = 1.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = seeded(self.seed)
        for x, lengths in super().__iter__():
            noise = _noise(x, self.width, generator)
            steps = real_steps(lengths, x.shape[1 if self.batch_first else 0])
            steps = (steps.T if self.batch_first else steps).view(*x.shape[:2], *[1] * (x.dim() - 2))
            yield x + noise * steps, lengths


def dequantised(sequences: Sequence[Tensor], width: float | tuple[float, ...] = 1.0, seed: int = 0) -> list[Tensor]:
    """The sequences (T_i, ...) with noise as `Dequantised` has it, fixed by the seed."""
    generator = seeded(seed)
    return [sequence + _noise(sequence, width, generator) for sequence in sequences]


def _noise(x: Tensor, width: float | tuple[float, ...], generator: torch.Generator) -> Tensor:
    if not x.is_floating_point():
        raise ValueError(f"noise is added to real numbers, not to {x.dtype}: call float() first.")
    return (torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.5) * torch.tensor(width, dtype=x.dtype)
