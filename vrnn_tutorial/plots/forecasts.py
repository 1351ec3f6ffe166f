"""Forecasts: a fan of bands, and whether they hold what they promise (chapter 9)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from .style import BLUE, INK, STYLE


@plt.style.context(STYLE)
def fan_chart(
    past: Tensor,
    futures: Mapping[str, Tensor],
    came: Tensor | None = None,
    *,
    levels: tuple[float, ...] = (0.5, 0.8, 0.95),
    label: str = "",
    lines: int = 0,
) -> Figure:
    """What was, (P,), and for each title futures (N, S) of it side by side: bands that hold the middle of them.

    So that no line is taken for *the* forecast, all of the distribution is shaded, its middle the darkest.

    Args:
        past: readings up to now, step 0; NaN leaves a gap.
        futures: N futures of S steps, under the title that they stand under.
        came: (S,), what came after all.
        levels: shares of the futures that the bands hold.
        label: of the axis of readings.
        lines: how many of the futures are drawn, too.

    Raises:
        ValueError: if there are no futures.
    """
    if not futures:
        raise ValueError("there are no futures to draw.")
    figure = Figure(figsize=(0.8 + 4.1 * len(futures), 3.2), layout="constrained")
    axes = figure.subplots(1, len(futures), sharey=True, squeeze=False)[0]
    for ax, (title, draws) in zip(axes, futures.items()):
        steps = np.arange(1, draws.shape[1] + 1)
        for depth, level in enumerate(sorted(levels, reverse=True), 1):
            edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype)
            low, high = torch.quantile(draws, edges, 0)
            share = 0.2 + 0.5 * depth / len(levels)
            color = [1 - share * (1 - part) for part in to_rgb(BLUE)]  # opaque, so that the legend has it
            ax.fill_between(steps, low, high, color=color, linewidth=0, label=f"{100 * level:g}%")
        ax.plot(steps, draws[:lines].T, color=BLUE, linewidth=0.6, alpha=0.5)
        ax.plot(np.arange(1 - len(past), 1), past, color=INK, linewidth=1.2)
        if came is not None:
            ax.plot(steps, came, color=INK, linewidth=1.2, linestyle=":", label="what came")
        ax.axvline(0, color="#bbbbbb", linewidth=0.8)
        ax.set_title(title, loc="left", fontsize="medium")
        ax.set_xlabel("steps from now")
        ax.locator_params(axis="x", integer=True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small", frameon=False)
    return figure


@plt.style.context(STYLE)
def pit_histogram(ranks: Mapping[str, Tensor], bins: int = 10) -> Figure:
    """For each title a histogram of `calibration.pit`, of any shape: level if the forecasts are right.

    NaN are left out. Raises ValueError if there is nothing to draw.
    """
    if not ranks:
        raise ValueError("there are no ranks to draw.")
    figure = Figure(figsize=(0.8 + 2.6 * len(ranks), 2.6), layout="constrained")
    axes = figure.subplots(1, len(ranks), sharey=True, squeeze=False)[0]
    for ax, (title, values) in zip(axes, ranks.items()):
        known = values[~torch.isnan(values)]
        counts, edges = np.histogram(known.numpy(), bins, (0, 1))
        ax.bar(edges[:-1], counts * bins / len(known), width=1 / bins, align="edge", color=BLUE, edgecolor="white")
        ax.axhline(1, color=INK, linewidth=1, linestyle="--")
        ax.set_title(title, loc="left", fontsize="medium")
        ax.set(xlim=(0, 1), xlabel="share of futures below")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("density of what came")
    return figure


@plt.style.context(STYLE)
def coverage_by_horizon(shares: Mapping[str, Tensor], level: float) -> Figure:
    """How much of what came lay in the bands for `level` of it, as far ahead as the bands go, (S,) for each label."""
    figure = Figure(figsize=(7.0, 3.0), layout="constrained")
    ax = figure.subplots()
    for label, values in shares.items():
        ax.plot(np.arange(1, len(values) + 1), 100 * values, label=label, marker=".", linewidth=1.2)
    ax.axhline(100 * level, color=INK, linewidth=1, linestyle="--", label="promised")
    ax.set(ylim=(0, 105), xlabel="steps ahead", ylabel=f"in the {100 * level:g}% band, %")
    ax.locator_params(axis="x", integer=True)
    ax.legend(loc="lower left", fontsize="small", frameon=False, ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
