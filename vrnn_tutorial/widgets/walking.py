"""The walk of chapter 6: z leans, and one sees where to, what the softmaxes say there, and what is written so."""

import ipywidgets
import torch
from torch import Tensor

from .. import plots
from ..text import decode, encode
from ..vrnn import VRNN
from .controls import slider
from .live_text import LiveText
from .pictures import Picture, pad
from .text import write


class Place:
    """A VRNN that has read a prime, and the plane of two directions (2, Z) in which its next z is moved.

    Points of the plane are in the prior's deviations from the prior's mean.
    """

    def __init__(self, model: VRNN, directions: Tensor, prime: str):
        self.model, self.directions = model, directions[:2].to(next(model.parameters()))
        x = encode(prime, model.emission_type.vocabulary).view(-1, 1, model.emission_type.characters)
        with torch.no_grad():
            read = model(x, generator=torch.Generator().manual_seed(0))
            self.h = read.hidden[-1]  # (1, H)
            self.prior = model.cell.prior(self.h)

    def where(self, codes: Tensor) -> Tensor:
        """The posterior's means of N steps that might follow, codes (N, k): points (N, 2)."""
        with torch.no_grad():
            q = self.model.cell.posterior(codes, self.h.expand(len(codes), -1))
            return ((q.mean - self.prior.mean) * torch.exp(-self.prior.log_std)) @ self.directions.T

    def shift(self, x: float, y: float) -> Tensor:
        """(Z,), the way to a point, in the prior's deviations."""
        return x * self.directions[0] + y * self.directions[1]

    def softmaxes(self, x: float, y: float) -> Tensor:
        """What the decoder says with z at a point: (k, V)."""
        with torch.no_grad():
            z = self.prior.mean + self.shift(x, y) * torch.exp(self.prior.log_std)
            return self.model.cell.emission(z, self.h).logits[0].softmax(-1)
