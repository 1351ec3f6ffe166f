"""A map of the steps of several characters that one z can tell apart (chapter 6)."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from .style import INK, STYLE

#: Blank and newline, as they are drawn.
SIGNS = str.maketrans(" \n", "·¶")


@plt.style.context(STYLE)
def quadruple_map(names: list[str], places: Tensor, room: tuple[float, float] = (0.08, 0.045)) -> Figure:
    """Labels in a plane, the first ones first, and none on top of another.

    places: (N, 2); the origin, too, lies within the picture.
    room: of a label, in shares of the plane's width and height.
    """
    low, high = places.amin(0).clamp(max=0), places.amax(0).clamp(min=0)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    ax = figure.add_subplot(xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
    space, shown = places.new_tensor(room) * (high - low), []
    for name, place in zip(names, places):
        if all(((place - other).abs() >= space).any() for other in shown):
            shown.append(place)
            ax.text(
                float(place[0]), float(place[1]), name.translate(SIGNS), ha="center", va="center", fontsize=8, color=INK
            )
    ax.set(xlabel="first direction, prior's deviations", ylabel="second direction, prior's deviations")
    return figure
