"""Every figure: plain data in, a matplotlib Figure out (all chapters).

The colours follow Okabe and Ito, moved a little so that colour-blind readers can tell any two apart; the ground is
white, so that a picture reads on a dark page too. Nothing is shown here, and only `save_figures` saves.
"""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.ticker import LogLocator, NullFormatter

from .data import FOLDER, write_atomically
from .evaluation import Trace

BLUE, ORANGE, GREEN, PURPLE, AMBER, INK = "#0072B2", "#D55E00", "#00A87B", "#A65283", "#EBA200", "#222222"
STYLE = ["default", {"font.size": 11.5, "mathtext.fontset": "cm", "text.color": INK,
                     "axes.prop_cycle": plt.cycler(color=(BLUE, ORANGE, GREEN, PURPLE, AMBER, INK))}]
#: Runs of the source article's configuration, at the learning rate of its notebook and at its own.
HISTORIES = tuple(FOLDER / "checkpoints" / f"source-lr-{rate}" / "history.json" for rate in ("0.01", "0.001"))


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
    "x": (0.95, 2.2), "encoder net": (2.85, 2.2), "mean\nlog_std": (4.95, 2.2), "z": (6.5, 2.2),
    "decoder net": (8.4, 2.2), "logits": (10.6, 2.2), "noise": (6.5, 3.7), "prior": (2.85, 3.7),
    "loss 2": (4.95, 3.7), "loss 1": (10.6, 0.95),
}
VAE_WIRES = (
    ("x", "encoder net", ORANGE), ("encoder net", "mean\nlog_std", ORANGE), ("mean\nlog_std", "z", ORANGE),
    ("noise", "z", ORANGE), ("z", "decoder net", GREEN), ("decoder net", "logits", GREEN),
    ("mean\nlog_std", "loss 2", AMBER), ("prior", "loss 2", AMBER), ("logits", "loss 1", AMBER), ("x", "loss 1", AMBER),
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
    ax = _sheet(height, phase.capitalize(), CAPTIONS[phase])
    for name, below in (("h_{t-1}", "from the\nstep before"), ("z_t", ""), ("x_t", ""), ("h_t", "to the\nnext step")):
        x, y = places[name]
        _variable(ax, (x, y), 0.4, name in ("z_t", "x_t"), training and name == "x_t")
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
    return ax.figure


@plt.style.context(STYLE)
def vae_network() -> Figure:
    """The VAE in training, drawn as the VRNN is by `network`: Kingma and Welling 2014 (arXiv 1312.6114)."""
    places = VAE_PLACES
    caption = "1 encode $x$, and draw $z$,  2 score $x$ with the decoder,  3 compare encoder and prior"
    ax = _sheet(5.35, "The VAE, in training", caption)
    for name in ("x", "mean\nlog_std", "z", "noise", "logits"):
        _variable(ax, places[name], 0.4, name in ("x", "z", "noise"), name == "x")
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
    ax.text(9.1, 3.7, "trained to minimise\nloss 1 + loss 2 = \u2212ELBO", size=13, ha="center", va="center",
            linespacing=1.5)
    _key(ax, training=True, waves=False)
    return ax.figure


def _sheet(height, title, caption) -> Axes:
    """Axes in inches that fill a new figure, under a title and a caption."""
    width = 11.7
    fig = plt.figure(figsize=(width, height))
    plt.close(fig)  # it is the caller's: pyplot would show it a second time in a notebook
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    ax.text(0.42, height - 0.42, title, size=18, weight="bold", va="center")
    ax.text(0.42, height - 0.8, caption, size=13, va="center")
    return ax


def _variable(ax, center, half, random, observed=False) -> None:
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
    _arrow(ax, points, color, sampled=end in ("z_t", "x_t"))


def _arrow(ax, points, color, sampled=False, style="-") -> None:
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
        _variable(ax, (x + step, y), 0.14, random, observed)
        ax.text(x + step + 0.25, y, text, va="center_baseline")
    for text, step in (("computed", 0), ("sampled", 1.9))[: 1 + waves]:
        start = x + step + (5.05 if training else 3.95)
        _arrow(ax, np.array([(start, y), (start + 0.8, y)]), INK, text == "sampled")
        ax.text(start + 0.9, y, text, va="center_baseline")


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
    versions = {f"{age} h, {which} x": (h, x) for age, h in (("old", "h_{t-1}"), ("new", "h_t"))
                for which, x in (("this", "x_t"), ("next", "x_{t+1}"))}
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
    _variable(ax, center, HALF_NODE, label[0] != "h", observed and label[0] == "x")
    ax.text(*center, f"${label}$", size=16, ha="center", va="center", zorder=5)


def _straight(ax, start, end, color, style="-", aside=0.0) -> None:
    """An arrow between two nodes, moved to its right by so much that one in the other direction has room beside it."""
    along = (end - start) / np.linalg.norm(end - start)
    reach = [HALF_NODE / (max(abs(along)) if y == ROWS["h"] else 1) for y in (start[1], end[1])]
    line = np.array([start + reach[0] * along, end - reach[1] * along])
    _arrow(ax, line + aside * np.array([along[1], -along[0]]), color, style=style)


def _colors(ax, colors, step) -> None:
    """The key at the foot."""
    for i, (text, color) in enumerate(colors.items()):
        x = 0.46 + step * i
        _arrow(ax, np.array([(x, 0.35), (x + 0.7, 0.35)]), color, style="--" if color == SMOOTHER else "-")
        ax.text(x + 0.8, 0.35, text, va="center_baseline")


#: Training losses that the source's notebook logged at learning rate 0.01, in nats per 300 characters: at each update
#: loss 1 + loss 2, loss 1, loss 2. At update 600 only the sum is known.
SOURCE = {
    0: (4114, 1461, 2653),
    200: (634.6, 627.3, 7.3),
    600: (515.4, None, None),
    1000: (487.2, 483.2, 4.1),
    1800: (468.7, 466.0, 2.7),
}


@plt.style.context(STYLE)
def training_loss(histories: Sequence[dict], source: dict[int, tuple] = SOURCE) -> Figure:
    """The source article's figure: loss 1, loss 2 and their sum, minus the ELBO, in nats per character, per update.

    histories: what `training.train` leaves in history.json, of one or two runs. Each batch is a faint line, their
    running mean a strong one, the held-out validation text a dashed one. source: points beside them, shaped as SOURCE.

    Raises ValueError for a pruned history, which has the losses of its last updates alone.
    """
    fig = plt.figure(figsize=(11.7, 6), layout="constrained")
    plt.close(fig)
    fig.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    panels = fig.subplot_mosaic([["loss", "reconstruction"], ["loss", "kl"]], width_ratios=(3, 2), sharex=True)
    titles = ("loss 1 + loss 2 = \u2212ELBO", "loss 1: reconstruction", r"loss 2: KL(posterior $\|$ prior)")
    for column, (name, title) in enumerate(zip(("loss", "reconstruction", "kl"), titles)):
        ax = panels[name]
        for history, color in zip(histories, (BLUE, ORANGE)):
            losses = {key: np.array(history[key]) for key in ("reconstruction", "kl")}
            batches = losses[name] if name in losses else losses["reconstruction"] + losses["kl"]
            updates, held_out = ([entry[key] for entry in history["validation"]] for key in ("update", name))
            if len(batches) < max(updates, default=0):
                raise ValueError(f"only {len(batches)} of {updates[-1]} updates have their losses: a pruned history.")
            rate = history["learning_rate"]
            run = rate if isinstance(rate, str) else f"learning rate {rate}"
            ax.plot(batches, color=color, alpha=0.25, lw=0.8)
            ax.plot(running_mean(batches), color=color, lw=2, label=f"{run}, training")
            ax.plot(updates, held_out, color=color, lw=1.5, ls="--", label=f"{run}, held-out")
        label = "the article's notebook, training"
        updates = [update for update, losses in source.items() if losses[column] is not None]
        points = [source[update][column] / 300 for update in updates]
        ax.plot(updates, points, "D", mfc="white", mec=INK, mew=1.6, ms=7, zorder=5, label=label)
        ax.set(yscale="log", ylabel="nats per character", xlabel="" if name == "reconstruction" else "update")
        ax.yaxis.set_major_locator(LogLocator(subs=(1,) if name == "kl" else (1, 1.5, 2, 3, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_title(title, loc="left", weight="bold", size=12.5)
        ax.tick_params(labelsize=11)
        ax.locator_params(axis="x", nbins=5)
        ax.margins(x=0.02)
        ax.grid(color="#E4E4E4")
        ax.spines[["top", "right"]].set_visible(False)
    panels["loss"].legend(loc="upper right", framealpha=1, edgecolor="none")
    return fig


def running_mean(values: np.ndarray, half: int = 20) -> np.ndarray:
    """The mean of each of N values and `half` neighbours on either side, fewer at the ends: (N,).

    At the beginning it takes as many after as before, so that a steep first fall stays where it is.
    """
    sums, i = np.concatenate([[0], np.cumsum(values)]), np.arange(len(values))
    before = np.minimum(half, i)
    after = np.minimum(before, i[::-1])
    return (sums[i + after + 1] - sums[i - before]) / (before + after + 1)


def _visible(character: str) -> str:
    return {"\n": "\u21b5", " ": "\u2423"}.get(character, repr(character)[1:-1])


@plt.style.context(STYLE)
def microscope(trace: Trace, position: int) -> Figure:
    """One step of a trace, `position` counted from 1 (a larger one is the last step).

    Above: h after each character read so far. Below: prior and posterior of z_t, dimension by dimension, and the eight
    characters that were expected most; the one that came is orange, and takes the last place if it is not among them.
    """
    t, size = min(position, len(trace.text)) - 1, min(12, 900 / len(trace.text))
    came, code = _visible(trace.text[t]), ord(trace.text[t])
    fig = Figure(figsize=(11.7, 6))  # with fixed margins: a layout that measures each text would make the slider lag
    fig.subplots_adjust(left=0.07, right=0.985, bottom=0.09, top=0.89, hspace=0.4, wspace=0.14)
    panels = fig.subplot_mosaic([["state", "state"], ["z", "next"]], width_ratios=(2.4, 1))
    fig.suptitle(f"step {t + 1} of {len(trace.text)}: {came} came, a surprise of {trace.surprise[t]:.1f} bits")

    ax, hidden = panels["state"], trace.hidden.clone()
    hidden[t + 1 :] = torch.nan
    ax.imshow(hidden.T.numpy(), cmap="PuOr", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    ax.set(ylabel="unit of h", xticks=[], title="h after each character: \u22121 orange, 0 white, 1 purple")
    for i, character in enumerate(trace.text):
        style = {"color": ORANGE if i == t else INK if i < t else "#AAAAAA", "size": size, "family": "monospace"}
        ax.text(i, 1.04 * hidden.shape[1] - 0.5, _visible(character), ha="center", va="top", **style)

    ax, sides = panels["z"], (("prior", trace.prior, BLUE, -0.18), ("posterior", trace.posterior, ORANGE, 0.18))
    for name, gaussian, color, shift in sides:
        mean, std = gaussian.mean[t].numpy(), gaussian.log_std[t].exp().numpy()
        ax.errorbar(np.arange(len(mean)) + shift, mean, std, color=color, fmt=".", ms=4, lw=1.5, label=name)
    reach = max((g.mean.abs() + g.log_std.exp()).max().item() for _, g, _, _ in sides)  # of all steps: a steady axis
    title = f"prior and posterior of $z_t$: KL {trace.kl[t]:.3f} bits"
    ax.set(xlabel="dimension of $z_t$", ylabel="mean \u00b1 deviation", ylim=(-reach, 1.35 * reach), title=title)
    ax.legend(loc="upper right", ncols=2)

    ax, codes = panels["next"], trace.expected[t].topk(8).indices.tolist()
    codes = codes if code in codes else [*codes[:-1], code]
    ax.barh(range(8), trace.expected[t, codes].tolist(), color=[ORANGE if c == code else BLUE for c in codes])
    ax.set_yticks(range(8), [_visible(chr(c)) for c in codes], family="monospace")
    ax.get_yticklabels()[codes.index(code)].set_color(ORANGE)  # its bar may be too short to be seen
    ax.set(xlim=(0, 1), ylim=(7.6, -0.6), xlabel="probability", title=f"expected before {came} came")
    return fig


@plt.style.context(STYLE)
def strip(trace: Trace, columns: int = 60) -> Figure:
    """A text, coloured by the surprise of each character, and by its KL, both in bits."""
    rows, columns = math.ceil(len(trace.text) / columns), min(columns, len(trace.text))
    fig = Figure(figsize=(11.7, 1.4 + 0.7 * rows), layout="constrained")
    shades = (("surprise", trace.surprise, "Oranges"), ("KL", trace.kl, "Blues"))
    for ax, (name, bits, cmap) in zip(fig.subplots(2, 1), shades):
        cells = np.pad(bits.numpy(), (0, rows * columns - len(bits)), constant_values=np.nan)
        image = ax.imshow(cells.reshape(rows, columns), cmap=cmap, vmin=0, aspect="auto")
        for i, character in enumerate(trace.text):
            style = {"color": "white" if bits[i] > 0.6 * bits.max() else INK, "family": "monospace"}
            ax.text(i % columns, i // columns, _visible(character), ha="center", va="center", **style)
        fig.colorbar(image, ax=ax, label="bits", pad=0.01)
        ax.set_title(name, loc="left")
        ax.axis("off")
    return fig


@plt.style.context(STYLE)
def save_figures(folder: Path) -> list[Path]:
    """Draws every figure of the README and the notebooks into `folder`; returns their paths.

    The loss figure needs both files of HISTORIES and is left out without them. The same inputs give the same bytes.
    Raises OSError if a file cannot be written; what was there before is whole then.
    """
    figures = {f"network-{phase}.png": network(phase) for phase in PHASES}
    figures |= {"unrolled.png": unrolled(), "wirings.png": wirings()}
    if all(path.exists() for path in HISTORIES):
        figures["training-loss.png"] = training_loss([json.loads(path.read_text()) for path in HISTORIES])
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=200, metadata={"Software": None})
        write_atomically(Path(folder) / name, content.getvalue())
    return [Path(folder) / name for name in figures]
