"""What one z says of several characters: a map of quadruples, and the softmaxes at a point of it (chapter 6)."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from .style import BLUE, INK, STYLE

#: Blank and newline, as they are drawn.
SIGNS = str.maketrans(" \n", "·¶")


@plt.style.context(STYLE)
def quadruple_map(names: list[str], places: Tensor, room: tuple[float, float] = (0.042, 0.04)) -> Figure:
    """Labels in a plane, the first ones first, and none on top of another.

    places: (N, 2). room: of a label, in shares of the plane's width and height.
    """
    low, high = places.amin(0), places.amax(0)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    figure = Figure(figsize=(6.6, 4.8), layout="constrained")
    ax = figure.add_subplot(xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
    space, shown = places.new_tensor(room) * (high - low), []
    for name, place in zip(names, places):
        if all(((place - other).abs() >= space).any() for other in shown):
            shown.append(place)
            ax.text(*place.tolist(), name.translate(SIGNS), ha="center", va="center", fontsize=8, color=INK)
    ax.set(xlabel="first direction, prior's deviations", ylabel="second direction, prior's deviations")
    return figure


@plt.style.context(STYLE)
def softmaxes(p: Tensor, vocabulary: str, top: int = 6) -> Figure:
    """The likeliest characters at each of k places: p (k, V), over a vocabulary of V characters; a column a place."""
    values, codes = p.topk(top)
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    ax = figure.add_subplot(xlim=(-0.15, len(p)), ylim=(top - 0.5, -0.5))
    for place, (column, of) in enumerate(zip(values.tolist(), codes.tolist())):
        ax.barh(range(top), [0.75 * value for value in column], left=place, height=0.8, color=BLUE)
        for row, (value, code) in enumerate(zip(column, of)):
            label = vocabulary[code].translate(SIGNS)
            ax.text(place - 0.08, row, label, ha="center", va="center", family="monospace")
            ax.text(place + 0.75 * value + 0.02, row, f"{value:.2f}".lstrip("0"), va="center", fontsize=8, color=INK)
    ax.set(xticks=[place + 0.35 for place in range(len(p))], xticklabels=[f"{i}." for i in range(1, len(p) + 1)])
    ax.set(yticks=[], xlabel="character of the step (· blank, ¶ new line)")
    ax.spines[:].set_visible(False)
    return figure
