"""phi_x: what the nets of a model see of x_t, and what an x has to be (chapter 3)."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from .emissions import Emission


def net(inputs: int, width: int, outputs: int, depth: int) -> nn.Sequential:
    """`depth` linear layers with ELU between them; the inner ones are `width` wide."""
    sizes = [inputs, *[width] * (depth - 1), outputs]
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ELU())]
    return nn.Sequential(*layers[:-1])


class InputFeatures(nn.Module):
    """phi_x: what the nets see of x_t. Codes are embedded, vectors go through a linear layer; then linear and ELU.

    x: int64 codes (...), or (..., k) for k characters per step, whose embeddings are joined; or real vectors (..., D).
    Returns features (..., E). Raises ValueError for an x of the wrong type or size, and for values that the emission
    does not know.
    """

    def __init__(self, input_size: int, embedding_size: int, emission: Emission, depth: int):
        super().__init__()
        self.input_size, self.embedding_size = input_size, embedding_size
        self.characters, self.takes_codes = emission.characters, emission.takes_codes
        # A tuple hides it from torch: an emission with weights of its own is a part of the model, not of this module.
        self._emission = (emission,)
        self.embedding = (
            nn.Embedding(input_size, embedding_size)
            if self.takes_codes
            else nn.Linear(emission.reads(input_size), embedding_size)
        )
        self.net = nn.Sequential(net(self.characters * embedding_size, embedding_size, embedding_size, depth), nn.ELU())

    @property
    def emission_type(self) -> Emission:
        return self._emission[0]

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return self.features(x)

    def features(self, x: Tensor) -> Tensor:
        """phi_x of an x that has been checked."""
        features = self.embedding(x if self.takes_codes else self.emission_type.inputs(x))
        return self.net(features if self.characters == 1 else features.flatten(-2))

    def read(self, x, *leading: str) -> Tensor:
        """x as a tensor of the type that the nets read, its axes checked: these, and k or D behind them.

        x may be a NumPy array; real numbers of another precision are converted. Raises ValueError for other axes, and
        for an axis without an entry.
        """
        x = as_tensor(x)
        axes = (*leading, *(["k"] * (self.characters > 1) if self.takes_codes else ["D"]))
        if x.dim() != len(axes) or x.numel() == 0:
            raise ValueError(f"x must be ({', '.join(axes)}), none of them 0, but its shape is {tuple(x.shape)}.")
        return x.to(self.embedding.weight.dtype) if x.is_floating_point() and not self.takes_codes else x

    def check(self, x: Tensor) -> None:
        """Raises ValueError unless x (..., k) or (..., D) has the type, the size and values of this model's."""
        if not self.takes_codes:
            if not x.is_floating_point() or x.shape[-1] != self.input_size:
                raise ValueError(f"x must hold real vectors of size {self.input_size}, not {x.dtype} {tuple(x.shape)}.")
        elif x.dtype != torch.int64:
            raise ValueError(f"x must hold int64 codes, not {x.dtype}.")
        elif self.characters > 1 and x.shape[-1] != self.characters:
            raise ValueError(f"x must end in an axis of {self.characters} characters; its shape is {tuple(x.shape)}.")
        if values_are_there():
            self.emission_type.check(x, self.input_size)


def as_tensor(x) -> Tensor:
    """x, which may be a NumPy array, as a tensor."""
    # Copied: an array may be read-only, or run backwards.
    return x if isinstance(x, Tensor) else torch.from_numpy(np.array(x))


def without_padding(x: Tensor, steps: Tensor | None, phi_x: InputFeatures) -> Tensor:
    """x (T, B, ...), its real steps checked; what stands behind a sequence's end is replaced by one of these."""
    if steps is None:
        phi_x.check(x)
        return x
    phi_x.check(x[steps] if values_are_there() else x)
    longest = x[0].index_select(0, steps.sum(0).argmax(0, keepdim=True))
    there = steps.view(*steps.shape, *[1] * (x.dim() - 2))
    return torch.where(there, x, torch.where(there.any(), longest, 0))


def values_are_there() -> bool:
    """Whether numbers may be looked at: not while torch makes a program of the operations, to be run on others."""
    tracing = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return not (tracing or torch._C._are_functorch_transforms_active())
