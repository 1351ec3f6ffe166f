"""The nets of one step and their losses, as boxes and arrows: the VRNN's two phases, and the VAE (chapters 1 and 3)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Outline

from .style import AMBER, BLUE, GREEN, INK, ORANGE, PURPLE, STYLE


class Net(NamedTuple):
    """A net of the VRNN; the drawing's arrows are made from inputs and output."""

    name: str  # the source article's
    term: str  # the field's
    formula: str
    part: str  # VRNNCell's method
    inputs: tuple[str, ...]
    output: str
    color: str


ENCODER = Net("encoder net", "posterior", r"$q(z_t\,|\,x_t,h_{t-1})$", "posterior", ("x_t", "h_{t-1}"), "z_t", ORANGE)
PRIOR = Net("prior net", "prior", r"$p(z_t\,|\,h_{t-1})$", "prior", ("h_{t-1}",), "z_t", BLUE)
DECODER = Net("decoder net", "emission", r"$p(x_t\,|\,z_t,h_{t-1})$", "emission", ("z_t", "h_{t-1}"), "x_t", GREEN)
RNN = Net("RNN net", "recurrence", r"$h_t=f(x_t,z_t,h_{t-1})$", "rnn", ("x_t", "z_t", "h_{t-1}"), "h_t", PURPLE)
#: The nets in the order in which they take their turn.
PHASES = {"generation": (PRIOR, DECODER, RNN), "training": (ENCODER, DECODER, PRIOR, RNN)}
CAPTIONS = {
    "generation": "1 sample $z_t$ from the prior,  2 sample $x_t$ from the decoder,  3 update the state",
    "training": "1 sample $z_t$ from the encoder,  2 score the data $x_t$ with the decoder,  "
    "3 compare encoder and prior,  4 update the state",
}
#: What each loss is called, what it is, and what it compares.
LOSSES = (
    ("loss 1", ("reconstruction", r"$-\log\,p(x_t\,|\,z_t,h_{t-1})$"), ("decoder net", "x_t")),
    ("loss 2", (r"KL(posterior $\|$ prior)",), ("encoder net", "prior net")),
)
#: Centres, half widths and half heights in inches.
LOW = {"h_{t-1}": (0.8, 1.2), "decoder net": (5.1, 2.6), "x_t": (9.0, 2.6), "RNN net": (9.0, 1.2), "h_t": (10.9, 1.2)}
LOSS = {"loss 1": (7.36, 2.6), "loss 2": (2.85, 4.95)}
PLACES = {
    "generation": LOW | {"prior net": (2.85, 4.1), "z_t": (5.1, 4.1)},
    "training": LOW | LOSS | {"encoder net": (2.85, 6.1), "z_t": (5.1, 6.1), "prior net": (2.85, 3.8)},
}
HALF = dict.fromkeys(("h_{t-1}", "z_t", "x_t", "h_t"), (0.4, 0.4)) | {"loss 1": (0.94, 0.52), "loss 2": (1.0, 0.32)}
HALF |= dict.fromkeys((net.name for net in PHASES["training"]), (1.02, 0.52))
#: The VAE's: its nets are the VRNN's without a state, and its prior is no net.
VAE_PLACES = {
    "x": (0.95, 2.2),
    "encoder net": (2.85, 2.2),
    "mean\nlog_std": (4.95, 2.2),
    "z": (6.5, 2.2),
    "decoder net": (8.4, 2.2),
    "logits": (10.6, 2.2),
    "noise": (6.5, 3.7),
    "prior": (2.85, 3.7),
    "loss 2": (4.95, 3.7),
    "loss 1": (10.6, 0.95),
}
VAE_WIRES = (
    ("x", "encoder net", ORANGE),
    ("encoder net", "mean\nlog_std", ORANGE),
    ("mean\nlog_std", "z", ORANGE),
    ("noise", "z", ORANGE),
    ("z", "decoder net", GREEN),
    ("decoder net", "logits", GREEN),
    ("mean\nlog_std", "loss 2", AMBER),
    ("prior", "loss 2", AMBER),
    ("logits", "loss 1", AMBER),
    ("x", "loss 1", AMBER),
)
HALF |= dict.fromkeys(("x", "mean\nlog_std", "z", "noise", "logits"), (0.4, 0.4)) | {"prior": (0.9, 0.42)}


@plt.style.context(STYLE)
def network(phase: str) -> Figure:
    """One time step of the VRNN in the phase "generation" or "training": Chung et al. 2015 (arXiv 1506.02216), fig. 1.

    Each box is a net under the source article's name, with the field's term and the formula below it; the numbers are
    the order of computation. Raises ValueError for another phase.
    """
    if phase not in PHASES:
        raise ValueError(f'phase must be "generation" or "training", not {phase!r}.')
    places, training = PLACES[phase], phase == "training"
    height = places["z_t"][1] + (2.05 if training else 1.7)
    fig, ax = _sheet(height, phase.capitalize(), CAPTIONS[phase])
    for name, below in (("h_{t-1}", "from the\nstep before"), ("z_t", ""), ("x_t", ""), ("h_t", "to the\nnext step")):
        x, y = places[name]
        draw_variable(ax, (x, y), 0.4, name in ("z_t", "x_t"), training and name == "x_t")
        ax.text(x, y, f"${name}$", size=19, ha="center", va="center", zorder=5)
        ax.text(x, y - 0.48, below, ha="center", va="top")
    for turn, net in enumerate(PHASES[phase], 1):
        _box(ax, places, net.name, (net.term, net.formula), net.color)
        _number(ax, np.add(places[net.name], (-0.98, 0.48)), turn)
        for variable in net.inputs:
            _wire(ax, places, variable, net.name, net.color)
        # In training z_t comes from the encoder, and x_t is data.
        if net in (ENCODER, RNN) or not training:
            _wire(ax, places, net.name, net.output, net.color)
    if training:
        ax.text(7.08, 4.35, "trained to minimise\nloss 1 + loss 2 = \u2212ELBO", size=13, ha="center", linespacing=1.5)
        for name, lines, compared in LOSSES:
            _box(ax, places, name, lines, AMBER, rounding=0.22)
            for side in compared:
                _wire(ax, places, side, name, AMBER)
    _key(ax, training)
    return fig


@plt.style.context(STYLE)
def vae_network() -> Figure:
    """The VAE in training, drawn as the VRNN is by `network`: Kingma and Welling 2014 (arXiv 1312.6114)."""
    places = VAE_PLACES
    caption = "1 encode $x$, and draw $z$,  2 score $x$ with the decoder,  3 compare encoder and prior"
    fig, ax = _sheet(5.35, "The VAE, in training", caption)
    for name in ("x", "mean\nlog_std", "z", "noise", "logits"):
        draw_variable(ax, places[name], 0.4, name in ("x", "z", "noise"), name == "x")
        text, size = (f"${name}$", 19) if len(name) == 1 else (name, 11.5)
        ax.text(*places[name], text, size=size, ha="center", va="center", zorder=5)
    _box(ax, places, "encoder net", ("posterior", r"$q(z\,|\,x)$"), ORANGE)
    _box(ax, places, "decoder net", ("emission", r"$p(x\,|\,z)$"), GREEN)
    _box(ax, places, "prior", (r"$p(z)=\mathcal{N}(0,I)$",), BLUE)
    _box(ax, places, "loss 1", ("reconstruction", r"$-\log\,p(x\,|\,z)$"), AMBER, rounding=0.22)
    _box(ax, places, "loss 2", (r"KL(posterior $\|$ prior)",), AMBER, rounding=0.22)
    for turn, name in enumerate(("encoder net", "decoder net", "prior"), 1):
        _number(ax, np.add(places[name], HALF[name] * np.array([-1, 1]) + (0.04, -0.04)), turn)
    for start, end, color in VAE_WIRES:
        _wire(ax, places, start, end, color)
    ax.text(6.5, 1.5, "z = mean + exp(log_std) \u00b7 noise", ha="center", va="center")
    ax.text(
        9.1,
        3.7,
        "trained to minimise\nloss 1 + loss 2 = \u2212ELBO",
        size=13,
        ha="center",
        va="center",
        linespacing=1.5,
    )
    _key(ax, training=True, waves=False)
    return fig


def _sheet(height, title, caption) -> tuple[Figure, Axes]:
    """A new figure, and axes in inches that fill it, under a title and a caption."""
    width = 11.7
    fig = plt.figure(figsize=(width, height))
    plt.close(fig)  # it is the caller's: pyplot would show it a second time in a notebook
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    ax.text(0.42, height - 0.42, title, size=18, weight="bold", va="center")
    ax.text(0.42, height - 0.8, caption, size=13, va="center")
    return fig, ax


def draw_variable(ax, center, half, random, observed=False) -> None:
    """A variable's shape, as graphical models have it.

    Args:
        ax: where to draw.
        center, half: the place of its center, and half its width.
        random: whether it is a circle, not a square.
        observed: whether it is grey, not white.
    """
    shape = Circle(center, half) if random else Rectangle(np.subtract(center, half), 2 * half, 2 * half)
    shape.set(facecolor="#D5D5D5" if observed else "white", edgecolor=INK, lw=1.8, zorder=4)
    ax.add_patch(shape)


def _box(ax, places, name, lines, color, rounding=0.12) -> None:
    (x, y), (dx, dy) = places[name], HALF[name]
    boxstyle, tint = f"round,pad=0,rounding_size={rounding}", [0.85 + 0.15 * part for part in to_rgb(color)]
    ax.add_patch(FancyBboxPatch((x - dx, y - dy), 2 * dx, 2 * dy, boxstyle, fc=tint, ec=color, lw=2, zorder=4))
    for row, line in enumerate((name, *lines)):
        options = {"size": 15 if line[0] == "$" else 12} if row else {"size": 14, "weight": "bold"}
        ax.text(x, y + 0.3 * (len(lines) / 2 - row), line, ha="center", va="center", zorder=5, **options)


def _number(ax, center, number) -> None:
    ax.add_patch(Circle(center, 0.17, facecolor=INK, edgecolor="white", lw=1.5, zorder=6))
    ax.text(*center, number, weight="bold", color="white", ha="center", va="center_baseline", zorder=7)


def _wire(ax, places, start, end, color) -> None:
    """An arrow from border to border; a wave for a sample, which is what a net makes of z_t and x_t."""
    (x0, y0), (x1, y1) = places[start], places[end]
    points = [(x0, y0), (x1, y1)]
    if start == "h_{t-1}" and y0 != y1:
        # One lane for each net above, the highest one's leftmost, so that they do not cross.
        above = sorted((y for name, (_, y) in places.items() if name.endswith("net") and y > y0), reverse=True)
        lane = x0 + 0.2 * (above.index(y1) - (len(above) - 1) / 2)
        points = [(lane, y0), (lane, y1), (x1, y1)]
    elif (start, end) == ("z_t", "RNN net"):
        points = [(x0, y0), (x1 + 0.75, y0), (x1 + 0.75, y1)]
    elif (start, end) == ("x_t", "encoder net"):
        points = [(x0, y0), (x0, y1 + 0.9), (x1, y1 + 0.9), (x1, y1)]
    elif (start, end) == ("x", "loss 1"):
        points = [(x0, y0), (x0, y1), (x1, y1)]
    points = np.array(points)
    points[0] += np.sign(points[1] - points[0]) * HALF[start]
    points[-1] += np.sign(points[-2] - points[-1]) * HALF[end]
    draw_arrow(ax, points, color, sampled=end in ("z_t", "x_t"))


def draw_arrow(ax, points, color, sampled=False, style="-") -> None:
    """A wire with a head at its end, over whatever it crosses.

    Args:
        ax: where to draw.
        points: its corners, which are rounded.
        color, style: of the line, as matplotlib has them.
        sampled: whether it is a wave, which must be level.
    """
    vertices, codes = [points[0]], [Outline.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:]):
        vertices += [corner + 0.2 * np.sign(before - corner), corner, corner + 0.2 * np.sign(after - corner)]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    if sampled:
        (x0, y), (x1, _) = points
        x = np.linspace(x0, x1 - 0.3, 200)  # the rest is straight, for the arrow's head
        turns = 2 * np.pi * round((x1 - x0 - 0.3) / 0.22) * np.linspace(0, 1, 200)
        vertices += zip(x, y + 0.09 * np.sin(turns))
        codes += [Outline.LINETO] * 200
    outline = Outline([*vertices, points[-1]], [*codes, Outline.LINETO])
    ax.add_patch(PathPatch(outline, fill=False, edgecolor="white", lw=7, zorder=3))  # to pass over another wire
    head = "-|>,head_length=7.5,head_width=3.75"
    ax.add_patch(FancyArrowPatch(path=outline, arrowstyle=head, color=color, lw=2, ls=style, zorder=3))


def _key(ax, training, waves=True) -> None:
    """What the signs mean, in one row at the foot."""
    x, y = 1.85 if training else 2.5, 0.32
    _number(ax, (x, y), "1")
    ax.text(x + 0.25, y, "order", va="center_baseline")
    shapes = [("deterministic", 1.1, False, False), ("random", 2.85, True, False), ("data", 4.1, True, True)]
    for text, step, random, observed in shapes[: 3 if training else 2]:
        draw_variable(ax, (x + step, y), 0.14, random, observed)
        ax.text(x + step + 0.25, y, text, va="center_baseline")
    for text, step in (("computed", 0), ("sampled", 1.9))[: 1 + waves]:
        start = x + step + (5.05 if training else 3.95)
        draw_arrow(ax, np.array([(start, y), (start + 0.8, y)]), INK, text == "sampled")
        ax.text(start + 0.9, y, text, va="center_baseline")
