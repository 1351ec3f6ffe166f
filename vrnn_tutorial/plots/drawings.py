"""Drawings side by side, where a pen may go next, and strokes by what they cost (chapter 7).

A drawing is a list of strokes (n, 2), in units of the grid, y downwards. `credit` is small print at a figure's foot.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from ..drawing import SIDE
from .style import BLUE, INK, ORANGE, STYLE

Drawing = Sequence[np.ndarray]


class Panel(NamedTuple):
    """Drawings under one title. `given`: how many strokes of each were there; those that follow are invented."""

    title: str
    drawings: Sequence[Drawing]
    given: int | None = None  # None: all


@plt.style.context(STYLE)
def characters(panels: Sequence[Panel], columns: int = 8, *, credit: str = "", width: float = 12.0) -> Figure:
    """Panels beside one another, each with its drawings in rows of so many; given strokes dark, invented ones orange.

    What leaves its square is drawn where it lies, over its neighbours. width: in inches.
    """
    rows = max(-(-len(panel.drawings) // columns) for panel in panels)
    height = width / len(panels) / columns * rows + 0.4
    figure = _figure((width, height), credit)
    for ax, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        lines, colors = [], []
        for i, strokes in enumerate(panel.drawings):
            place = np.array([i % columns, i // columns]) * SIDE
            lines += [_line(stroke) + place for stroke in strokes]
            given = len(strokes) if panel.given is None else panel.given
            colors += [INK if k < given else ORANGE for k in range(len(strokes))]
        ax.add_collection(LineCollection(lines, colors=colors, linewidths=1.0, capstyle="round"))
        _square(ax, columns * SIDE, rows * SIDE)
        ax.set_title(panel.title, fontsize="small")
    return figure


class Moment(NamedTuple):
    """A drawing that is not done: its strokes, where the pen really goes next, and what each model says of that."""

    strokes: Drawing
    point: tuple[float, float]
    densities: Mapping[str, Tensor]  # by the model's name: (cells, cells), as `pen.next_density` gives it


@plt.style.context(STYLE)
def next_places(moments: Sequence[Moment], *, credit: str = "", size: float = 2.6) -> Figure:
    """A row for each moment, a column for each model: the density, dark where it is highest; a ring at the true point.

    Above each is log p of the true point's cell, and the share that lies inside the square. size: of a panel, inches.
    """
    names = list(moments[0].densities)
    figure = _figure((size * len(names), (size + 0.4) * len(moments)), credit)
    axes = figure.subplots(len(moments), len(names), squeeze=False)
    for row, moment in zip(axes, moments):
        for ax, name in zip(row, names):
            density = moment.densities[name]
            cell = SIDE / len(density)
            ax.imshow(density.numpy(), extent=(0, SIDE, SIDE, 0), cmap="magma_r")
            ax.add_collection(LineCollection([_line(s) for s in moment.strokes], colors=INK, linewidths=1.6))
            ax.plot(*moment.point, "o", color=BLUE, fillstyle="none")
            _square(ax, SIDE, SIDE)
            there = density[int(moment.point[1] / cell), int(moment.point[0] / cell)].log().item()
            inside = density.sum().item() * cell**2
            ax.set_title(f"{name}\nlog p {there:.1f}, inside {inside:.2f}", fontsize="small")
    return figure


@plt.style.context(STYLE)
def surprising(drawings: Sequence[tuple[str, Drawing, Tensor]], *, credit: str = "", size: float = 2.6) -> Figure:
    """Drawings, each with its title and a number (S,) for each of its S strokes, in nats, by which it is coloured."""
    most = max(float(values.max()) for _, _, values in drawings)
    figure = _figure((size * len(drawings) + 0.8, size + 0.4), credit)
    axes, lines = figure.subplots(1, len(drawings), squeeze=False)[0], None
    for ax, (title, strokes, values) in zip(axes, drawings):
        lines = LineCollection([_line(stroke) for stroke in strokes], cmap="viridis_r", linewidths=2.5)
        lines.set_array(values.numpy())
        lines.set_clim(0, most)
        ax.add_collection(lines)
        _square(ax, SIDE, SIDE)
        ax.set_title(title, fontsize="small")
    assert lines is not None
    figure.colorbar(lines, ax=axes, label="nats of the stroke")
    return figure


def _figure(size: tuple[float, float], credit: str) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    if credit:
        # A letter of this size is some 0.045 inches wide.
        figure.supxlabel(textwrap.fill(credit, int(size[0] / 0.045)), fontsize=5, color=INK)
    return figure


def _line(stroke: np.ndarray) -> np.ndarray:
    """A dot is a line of no length, which its round ends show."""
    return np.asarray(stroke if len(stroke) > 1 else np.repeat(stroke, 2, axis=0), dtype=float)


def _square(ax: Any, width: float, height: float) -> None:
    margin = 0.02 * width
    ax.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin), aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(NullLocator())
    for spine in ax.spines.values():
        spine.set_visible(False)
