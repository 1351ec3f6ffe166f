"""The losses of training runs (chapter 4)."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter

from .style import BLUE, INK, ORANGE, STYLE

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
    fig = plt.figure(figsize=(11.7, 6), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1))
    plt.close(fig)
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
