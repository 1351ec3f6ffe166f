"""Piano rolls: of a piece for voices what sounds when, each voice in a colour of its own (chapter 8)."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..corpora.chorales import VOICES
from ..music import Note
from .style import BLUE, GREEN, ORANGE, PURPLE, STYLE

VOICE_COLORS = (BLUE, ORANGE, GREEN, PURPLE)


@plt.style.context(STYLE)
def piano_roll(pieces: Mapping[str, Sequence[Note]], *, width: float = 9.0, height: float = 2.0) -> Figure:
    """Pieces below one another, each under its title, all to one scale: quarters to the right, semitones upwards.

    A note that is struck again begins behind a gap. If there is more than one voice, a legend tells whose colour is
    whose. width, height: in inches, of the figure and of each piece in it. Raises ValueError for no piece, and for one
    without notes.
    """
    if not pieces:
        raise ValueError("there is no piece to draw")
    for title, notes in pieces.items():
        if not notes:
            raise ValueError(f"{title or 'the piece'} has no notes")
    every = [note for notes in pieces.values() for note in notes]
    low, high = min(note.pitch for note in every) - 2, max(note.pitch for note in every) + 2
    figure = Figure(figsize=(width, height * len(pieces) + 0.7), layout="constrained")
    axes = figure.subplots(len(pieces), sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, (title, notes) in zip(axes, pieces.items()):
        for voice in sorted({note.voice for note in notes}):
            bars = [_bar(note) for note in notes if note.voice == voice]
            ax.add_collection(PolyCollection(bars, facecolors=VOICE_COLORS[voice], linewidths=0))
        ax.set_title(title, fontsize="small", loc="left")
    cs = range(-(-low // 12) * 12, high + 1, 12)
    ax = axes[-1]
    ax.set(xlim=(0, max(note.start + note.length for note in every)), ylim=(low, high), xlabel="quarter notes")
    ax.set_yticks(cs, [f"C{c // 12 - 1}" for c in cs])
    for ax in axes:
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
    voices = sorted({note.voice for note in every})
    if len(voices) > 1:
        handles = [Patch(color=VOICE_COLORS[voice], label=VOICES[voice].name) for voice in voices]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(voices), fontsize="small", frameon=False)
    return figure


def _bar(note: Note) -> list[tuple[float, float]]:
    left, right = note.start, note.start + note.length - 0.08
    return [(left, note.pitch - 0.5), (right, note.pitch - 0.5), (right, note.pitch + 0.5), (left, note.pitch + 0.5)]
