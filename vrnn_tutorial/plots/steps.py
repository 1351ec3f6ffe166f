"""Several steps of a VRNN as a graph: unrolled, and the four ways to wire a step of generation (chapter 3)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .nets import DECODER, ENCODER, PRIOR, RNN, draw_arrow, draw_variable
from .style import STYLE

#: In the drawings of several steps h, x and z have a row each, and each step as much room as the next: inches.
ROWS, STRIDE, HALF_NODE = {"h": 1.05, "x": 2.15, "z": 3.35}, 3.3, 0.34
SMOOTHER = "#777777"


@plt.style.context(STYLE)
def unrolled() -> Figure:
    """Three time steps of the VRNN, which variable depends on which: above the model p, below the posterior q.

    Each net's arrows are those of one step; dashed, what q would read besides, were it a smoother and not a filter.
    """
    titles = ("The model $p$: what each variable is made from", "The posterior $q$: what the encoder reads")
    fig, axes = _sheets(1, 11.7, titles)
    for ax, nets, observed in zip(axes, ((PRIOR, DECODER, RNN), (ENCODER, RNN)), (False, True)):
        later = [("x_t", 2, 1), ("x_t", 3, 1), ("x_t", 3, 2)] if observed else []
        for variable, source, t in later:
            _straight(ax, _spot(variable, source), _spot("z_t", t), SMOOTHER, style="--")
        for t in (1, 2, 3):
            for net in nets:
                for variable in net.inputs:
                    _straight(ax, _spot(variable, t), _spot(net.output, t), net.color)
        _node(ax, _spot("h_t", 0), "h_0", observed)
        for t in (1, 2, 3):
            for name in ("z_t", "x_t", "h_t"):
                _node(ax, _spot(name, t), f"{name[0]}_{t}", observed)
        _colors(ax, {net.name: net.color for net in nets} | ({"a smoother only": SMOOTHER} if observed else {}), 2.7)
    return fig


@plt.style.context(STYLE)
def wirings() -> Figure:
    """Four decoders in training: each reads the old h or the new one, and says this x or the next (chapter 3).

    Encoder and RNN net are the same in all.
    """
    versions = {
        f"{age} h, {which} x": (h, x)
        for age, h in (("old", "h_{t-1}"), ("new", "h_t"))
        for which, x in (("this", "x_t"), ("next", "x_{t+1}"))
    }
    fig, axes = _sheets(2, 6.3, versions)
    for ax, (h, x) in zip(axes, versions.values()):
        nets = (DECODER._replace(inputs=("z_t", h), output=x), ENCODER, RNN)
        for net in nets:
            for variable in net.inputs:
                _straight(ax, _spot(variable, 1), _spot(net.output, 1), net.color, aside=0.09)
        for name in dict.fromkeys(("h_{t-1}", "z_t", "x_t", "h_t", x)):
            _node(ax, _spot(name, 1), name, observed=True)
        _colors(ax, {net.name: net.color for net in nets}, 2.0)
    return fig


def _sheets(columns, width, titles) -> tuple[Figure, list]:
    """A figure of drawings in inches, each with its title."""
    height, rows = 4.6, len(titles) // columns
    fig = plt.figure(figsize=(columns * width, rows * height))
    plt.close(fig)
    axes = []
    for i, title in enumerate(titles):
        corner = (i % columns / columns, 1 - (i // columns + 1) / rows, 1 / columns, 1 / rows)
        axes.append(fig.add_axes(corner, xlim=(0, width), ylim=(0, height)))
        axes[-1].axis("off")
        axes[-1].text(0.42, height - 0.4, title, size=15, weight="bold", va="center")
    return fig, axes


def _spot(name, t) -> np.ndarray:
    """Where an input or output of a net stands in step t; h between the x and z of its step and those of the next."""
    step = t + {"{t-1}": -1, "t": 0, "{t+1}": 1}[name[2:]]
    return np.array([0.8 + STRIDE * (step - 0.5 * (name[0] != "h")), ROWS[name[0]]])


def _node(ax, center, label, observed) -> None:
    draw_variable(ax, center, HALF_NODE, label[0] != "h", observed and label[0] == "x")
    ax.text(*center, f"${label}$", size=16, ha="center", va="center", zorder=5)


def _straight(ax, start, end, color, style="-", aside=0.0) -> None:
    """An arrow between two nodes, moved to its right by so much that one in the other direction has room beside it."""
    along = (end - start) / np.linalg.norm(end - start)
    reach = [HALF_NODE / (max(abs(along)) if y == ROWS["h"] else 1) for y in (start[1], end[1])]
    line = np.array([start + reach[0] * along, end - reach[1] * along])
    draw_arrow(ax, line + aside * np.array([along[1], -along[0]]), color, style=style)


def _colors(ax, colors, step) -> None:
    """The key at the foot."""
    for i, (text, color) in enumerate(colors.items()):
        x = 0.46 + step * i
        draw_arrow(ax, np.array([(x, 0.35), (x + 0.7, 0.35)]), color, style="--" if color == SMOOTHER else "-")
        ax.text(x + 0.8, 0.35, text, va="center_baseline")
