"""What a VRNN made of a text, step by step and character by character (chapter 3)."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from ..probes import Trace
from .style import BLUE, INK, ORANGE, STYLE


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
