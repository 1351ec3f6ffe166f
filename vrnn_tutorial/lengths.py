"""Sequences of unequal length side by side: padded to T steps, with the lengths (B,) that say which steps are real.

A batch is one of these, and `as_batch` tells them apart:

- a tensor or array x, (T, B, ...), or a VAE's (B, D): each of its steps is real;
- a `tuple` or list of two, x and its lengths: x has two axes or more, lengths are int64 (B,);
- a `tuple` or list of one tensor or array: x, as a stock DataLoader gives it;
- any other `tuple` or list: the sequences themselves, each (T_i, ...), where T_i may be 0.

With batch_first, x starts (B, T). A sequence's own first axis is its time in any case.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def real_steps(lengths: Tensor, T: int) -> Tensor:
    """(T, B) `bool`: whether a step is its sequence's own, and not padding behind its end. lengths: (B,)."""
    return torch.arange(T, device=lengths.device)[:, None] < lengths


def mean_over_steps(values: Tensor, steps: Tensor | None = None) -> Tensor:
    """The mean of `values` over the steps that are real, a scalar; what stands in the padding, NaN too, is not read.

    values: (T, B). steps: (T, B) `bool`, or None where all are real. Raises ValueError if none is.
    """
    if steps is None:
        return values.mean()
    if not steps.any():
        raise ValueError("the batch has no real step: each of its sequences has length 0.")
    return values[steps].mean()


def check_lengths(lengths: Tensor, T: int, B: int) -> None:
    """Raises ValueError unless `lengths` are those of B sequences of up to T steps: int64 (B,), each from 0 to T."""
    if not isinstance(lengths, Tensor) or lengths.dtype != torch.int64 or lengths.shape != (B,):
        found = f"{lengths.dtype} {tuple(lengths.shape)}" if isinstance(lengths, Tensor) else repr(lengths)
        raise ValueError(f"lengths must be an int64 tensor of shape ({B},), one for each sequence, not {found}.")
    # What is compiled or exported must not depend on the numbers.
    if not torch.compiler.is_compiling() and B and not 0 <= int(lengths.min()) <= int(lengths.max()) <= T:
        raise ValueError(f"lengths must lie between 0 and T={T}; these go from {lengths.min()} to {lengths.max()}.")


def as_sequences(sequences: Iterable[Tensor | np.ndarray]) -> list[Tensor]:
    """The sequences as tensors (T_i, ...) that can stand in one batch.

    Raises ValueError if there are none, if all are empty, and if they differ in type or in any axis but the first.
    """
    tensors = [_tensor(sequence) for sequence in sequences]
    forms = {f"{tensor.dtype} ({', '.join(['T', *map(str, tensor.shape[1:])][: tensor.dim()])})" for tensor in tensors}
    if len(forms) > 1 or not all(tensor.dim() for tensor in tensors):
        found = " and ".join(sorted(forms))
        raise ValueError(f"sequences must have an axis of time, and be alike in type and all other axes, not {found}.")
    if not any(map(len, tensors)):
        raise ValueError(f"at least one sequence must have a step, and none has (sequences given: {len(tensors)}).")
    return tensors


def pad(sequences: Iterable[Tensor | np.ndarray], batch_first: bool = False) -> tuple[Tensor, Tensor]:
    """x (T, B, ...), zeros behind each sequence's end, and lengths (B,); T is the longest. Raises as `as_sequences`."""
    tensors = as_sequences(sequences)
    return pad_sequence(tensors, batch_first), torch.tensor([len(tensor) for tensor in tensors])


def as_batch(batch, batch_first: bool = False) -> tuple[Tensor, Tensor | None]:
    """x, and the lengths of its sequences, None where all have all steps, out of any form of a batch (see above).

    Types are kept: float64 stays float64. Raises ValueError for what is no batch, and for lengths that are not x's.
    """
    if not isinstance(batch, (tuple, list)):
        return _tensor(batch), None
    parts = [_tensor(part) for part in batch]
    if len(parts) == 1:
        return parts[0], None
    # Two sequences have equally many axes: one that has fewer than its neighbour must be the lengths.
    if len(parts) == 2 and parts[0].dim() >= 2 and parts[1].dim() == 1:
        x, lengths = parts
        T, B = x.shape[:2] if not batch_first else (x.shape[1], x.shape[0])
        check_lengths(lengths, T, B)
        return x, lengths
    return pad(parts, batch_first)


def _tensor(values: Tensor | np.ndarray) -> Tensor:
    if isinstance(values, Tensor):
        return values
    try:
        # Copied: an array may be read-only, or run backwards.
        return torch.from_numpy(values.copy())
    except (AttributeError, TypeError, ValueError):
        found = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise ValueError(
            "a batch is x, (x, lengths), [x] or a list of sequences, all of them tensors or arrays of numbers; "
            f"{found} is none of these."
        ) from None
