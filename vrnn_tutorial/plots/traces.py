"""What a VRNN made of a text, step by step and character by character (chapter 3)."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from ..probes import Trace
from .style import BLUE, INK, ORANGE, STYLE

WINDOW = 75  # characters of a microscope, as many as can be read side by side


def _visible(character: str) -> str:
    return {"\n": "\u21b5", " ": "\u2423"}.get(character, repr(character)[1:-1])


class Microscope:
    """One figure for the steps of traces, one after the other, as a slider moves over them.

    Above: h after each character read so far. Below: prior and posterior of z_t, dimension by dimension, and the eight
    characters that were expected most; the one that came is orange, and takes the last place if it is not among them.
    What moves from step to step is `animated`: so a widget draws the rest once.
    """

    @plt.style.context(STYLE)
    def __init__(self, units: int, dimensions: int):
        """units: of h. dimensions: of z."""
        self.figure = fig = Figure(figsize=(11.7, 6), dpi=80)
        # with fixed margins: a layout that measures each text would make the slider lag
        fig.subplots_adjust(left=0.07, right=0.985, bottom=0.09, top=0.89, hspace=0.4, wspace=0.14)
        panels = fig.subplot_mosaic([["state", "state"], ["z", "next"]], width_ratios=(2.4, 1))
        state, self.z, self.next = panels["state"], panels["z"], panels["next"]
        empty, extent = np.full((units, 1), np.nan), (0, 1, units - 0.5, -0.5)
        look = {"cmap": "PuOr", "vmin": -1, "vmax": 1, "aspect": "auto", "interpolation": "nearest"}
        self.image = state.imshow(empty, extent=extent, **look)
        state.set(ylabel="unit of h", xticks=[])
        below = {"y": 1.04 * units - 0.5, "ha": "center", "va": "top", "size": 12, "family": "monospace"}
        self.letters = [state.text(0, s="", **below) for _ in range(WINDOW)]

        places, still = np.arange(dimensions), np.zeros(dimensions)
        self.bars = [
            self.z.errorbar(places + shift, still, still, color=color, fmt=".", ms=4, lw=1.5, label=name)
            for name, color, shift in (("prior", BLUE, -0.18), ("posterior", ORANGE, 0.18))
        ]
        self.z.set(xlabel="dimension of $z_t$", ylabel="mean \u00b1 deviation", ylim=(-1, 1))
        self.z.legend(loc="upper right", ncols=2)

        self.chances = self.next.barh(range(8), [0.0] * 8)
        left = {"transform": self.next.get_yaxis_transform(), "ha": "right", "va": "center", "family": "monospace"}
        self.names = [self.next.text(-0.03, i, "", **left) for i in range(8)]
        self.next.set(xlim=(0, 1), ylim=(7.6, -0.6), yticks=[], xlabel="probability")

        self.titles = [ax.set_title("", y=1, linespacing=1.5) for ax in panels.values()]
        frames = [*state.spines.values(), *self.next.spines.values()]  # they lie over what moves
        moving = [self.image, *frames, *self.letters, *self.chances, *self.names, *self.titles]
        for artist in moving + [artist for bars in self.bars for artist in bars.get_children()]:
            artist.set_animated(True)

    def show(self, trace: Trace, position: int) -> Figure:
        """The figure, at one step of a trace: `position` counts from 1, and a larger one is the last step."""
        t = min(position, len(trace.text)) - 1
        start = max(0, min(t - WINDOW // 2, len(trace.text) - WINDOW))
        text, came, code = trace.text[start : start + WINDOW], _visible(trace.text[t]), ord(trace.text[t])
        part = "" if len(text) == len(trace.text) else f" (characters {start + 1} to {start + len(text)})"
        titles = (
            f"step {t + 1} of {len(trace.text)}: {came} came, a surprise of {trace.surprise[t]:.1f} bits\n"
            f"h after each character{part}: \u22121 orange, 0 white, 1 purple",
            f"prior and posterior of $z_t$: KL {trace.kl[t]:.3f} bits",
            f"expected before {came} came",
        )
        for title, words in zip(self.titles, titles):
            title.set_text(words)

        hidden = trace.hidden[start : start + WINDOW].clone()
        hidden[t + 1 - start :] = torch.nan
        self.image.set_data(hidden.T.numpy())
        for i, letter in enumerate(self.letters):
            letter.set_visible(i < len(text))
            if i < len(text):
                color = ORANGE if i == t - start else INK if i < t - start else "#AAAAAA"
                letter.set(x=(i + 0.5) / len(text), text=_visible(text[i]), color=color)

        sides = trace.prior, trace.posterior
        reach = max((q.mean.abs() + q.log_std.exp()).max().item() for q in sides)  # of all steps: a steady axis
        if self.z.get_ylim() != (limits := (-reach, 1.35 * reach)):
            self.z.set_ylim(limits)
        for bars, gaussian in zip(self.bars, sides):
            mean, std = gaussian.mean[t].numpy(), gaussian.log_std[t].exp().numpy()
            line, _, (whiskers,) = bars.lines
            line.set_ydata(mean)
            whiskers.set_segments(
                [[(x, m - s), (x, m + s)] for x, m, s in zip(np.asarray(line.get_xdata()), mean, std)]
            )

        codes = trace.expected[t].topk(8).indices.tolist()
        codes = codes if code in codes else [*codes[:-1], code]
        for bar, name, c in zip(self.chances, self.names, codes):
            bar.set(width=trace.expected[t, c].item(), color=ORANGE if c == code else BLUE)
            name.set(text=_visible(chr(c)), color=ORANGE if c == code else INK)  # its bar may be too short to be seen
        return self.figure


def microscope(trace: Trace, position: int) -> Figure:
    """One step of a trace in a figure of its own: see `Microscope`."""
    return Microscope(trace.hidden.shape[1], trace.prior.mean.shape[1]).show(trace, position)


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
