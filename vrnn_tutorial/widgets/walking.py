"""The walk of chapter 6: z leans, and one sees where to, what the softmaxes say there, and what is written so."""

import html

import ipywidgets
import torch
from torch import Tensor

from ..emissions.codes import ASCII
from ..plots import BLUE, quadruple_map
from ..plots.quadruples import SIGNS
from ..text import decode, encode, visible
from ..vrnn import VRNN
from .controls import WRAPPED, slider
from .live_text import LiveText
from .pictures import pad
from .text import write


class Plane:
    """A VRNN that has read a prime, and the plane of two directions (2, Z) in which its next z is moved.

    Points are in the prior's deviations from the prior's mean.
    """

    def __init__(self, model: VRNN, directions: Tensor, prime: str):
        self.model, self.directions = model, directions[:2].to(next(model.parameters()))
        self.vocabulary = model.emission_type.vocabulary or ASCII
        x = encode(prime, self.vocabulary).view(-1, 1, model.emission_type.characters)
        with torch.no_grad():
            self.h = model(x, generator=torch.Generator().manual_seed(0)).hidden[-1]  # (1, H)
            self.prior = model.cell.prior(self.h)

    def where(self, codes: Tensor) -> Tensor:
        """The posterior's means of N steps that might come next, codes (N, k): points (N, 2)."""
        with torch.no_grad():
            q = self.model.cell.posterior(codes, self.h.expand(len(codes), -1))
            return ((q.mean - self.prior.mean) * torch.exp(-self.prior.log_std)) @ self.directions.T

    def shift(self, x: float, y: float) -> Tensor:
        """(Z,): the way to a point."""
        return x * self.directions[0] + y * self.directions[1]

    def softmaxes(self, x: float, y: float) -> Tensor:
        """What the decoder says next with z at a point: (k, V)."""
        with torch.no_grad():
            z = self.prior.mean + self.shift(x, y) * torch.exp(self.prior.log_std)
            return self.model.cell.emission(z, self.h).logits[0].softmax(-1)


def bars(p: Tensor, vocabulary: str, top: int = 6) -> str:
    """The likeliest characters of k softmaxes as bars in HTML, a column for each: p (k, V)."""
    columns = ""
    for place, (values, codes) in enumerate(zip(*map(Tensor.tolist, p.topk(top))), 1):
        rows = "".join(
            f"<tr><td><code>{html.escape(visible(vocabulary[code].translate(SIGNS)))}</code></td>"
            f'<td style="width:4em"><div style="height:.8em;width:{100 * value:.0f}%;background:{BLUE}"></div></td>'
            f"<td>{value:.2f}</td></tr>"
            for value, code in zip(values, codes)
        )
        columns += f'<table style="line-height:1.2"><caption>character {place}</caption>{rows}</table>'
    grid = "display:grid;grid-template-columns:auto auto;gap:.5em 1em;width:fit-content"
    return f'<div class="softmaxes" style="{grid}">{columns}</div>'


def walk(
    model: VRNN, directions: Tensor, codes: Tensor, *, prime: str, temperature: float = 0.5, length: int = 400
) -> LiveText:
    """The pad of chapter 6: each z is moved to the same point of the plane of two directions (2, Z) or more, (D, Z).

    Beside the map stands what the decoder says there; what streams is what `generate` gives for `shift`, the way to the
    point.

    Args:
        model: of k > 1 characters per step, whose z is moved.
        directions: (2, Z) or more, of which the first two count, each in the prior's deviations.
        codes: (N, k), steps that label the map where the posterior puts them after the prime, the commonest first.
        prime, temperature, length: as in `generate`.
    """
    plane = Plane(model, directions, prime)

    def stream(x, y, seed):
        return write(model, prime, temperature, length=length, seed=seed, shift=plane.shift(x, y))

    figure = quadruple_map([decode(each, plane.vocabulary) for each in codes], plane.where(codes))
    (left, right), (low, high) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    point = pad(figure, (0.0, 0.0), "point at where z is to lean")
    x = slider(round(left, 2), round(right, 2), 0.0, 0.01, "first direction")
    y = slider(round(low, 2), round(high, 2), 0.0, 0.01, "second direction")
    live = LiveText(stream, x=x, y=y, seed=slider(0, 20, 0, 1, "seed"))
    said = ipywidgets.HTML()
    following = False  # whichever was not moved by the reader must not move the other in its turn

    def pointed(change):
        nonlocal following
        if not following:
            following = True
            x.value, y.value = (round(number, 2) for number in change["new"])
            following = False

    def slid(_=None):
        nonlocal following
        if not following:
            following = True
            point.value = x.value, y.value
            following = False
        said.value = bars(plane.softmaxes(x.value, y.value), plane.vocabulary)

    point.observe(pointed, names="value")
    for control in (x, y):
        control.observe(slid, names="value")
    slid()
    live.children = [ipywidgets.HBox([point, said], layout=WRAPPED), *live.children]
    return live
