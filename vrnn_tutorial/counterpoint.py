"""What can be counted of music for several voices, without a model of it: chords, parallels, ranges, notes (chapter 8).

Voices are MIDI numbers (T, n), 0 where one rests, from the highest voice to the lowest, as `pitches_of` gives them of a
chorale's codes.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .corpora.chorales import pitches_of
from .music import notes_of_voices
from .text_statistics import share_known

#: Intervals in semitones but for octaves, as `parallels` takes them.
FIFTH, OCTAVE = 7, 0


def chords(pitches: Tensor) -> list[frozenset[int]]:
    """Of each frame that is not silent, the chord: how many semitones its notes lie above the lowest, but for octaves.

    So a chord is the same in every key and however it is spread over the voices, but not whichever of its notes is the
    lowest: that is what a figured bass writes above a bass note. C E G is {0, 4, 7}, E G C {0, 3, 8}. Of the frames of
    Bach's test pieces 0.3% have a chord that none of his training pieces has. Counted with the spread it would be 3.6%,
    among which a model's own inventions are lost. Of his voices shifted against one another, 21% are new; were a chord
    and its inversions one, 6%.
    """
    frames = ([pitch for pitch in frame if pitch] for frame in pitches.tolist())
    return [frozenset((pitch - min(frame)) % 12 for pitch in frame) for frame in frames if frame]


def crossings(pitches: Tensor) -> Tensor:
    """(T,), `bool`: whether a voice sounds higher than one that stands above it. Rests cross nothing."""
    n = pitches.shape[1]
    crossed = [_both(pitches, i, j) & (pitches[:, i] < pitches[:, j]) for i, j in itertools.combinations(range(n), 2)]
    return torch.stack(crossed).any(0)


def changes(pitches: Tensor) -> Tensor:
    """(T - 1,), `bool`: whether any voice has another note, or none, than in the frame before: the chord changes."""
    return (pitches[1:] != pitches[:-1]).any(1)


def parallels(pitches: Tensor, interval: int) -> Tensor:
    """How many pairs of voices move in parallel by this interval from one frame to the next: (T - 1,).

    Two voices are in parallel fifths (FIFTH) or octaves (OCTAVE, unisons among them) if they are a perfect fifth or
    octave apart in both frames, be it with octaves between, and both move, in the same direction. That is what
    counterpoint has forbidden since the 14th century (Fux 1725, "Gradus ad Parnassum"; Aldwell and Schachter, "Harmony
    and Voice Leading", on parallel fifths, octaves and unisons). Nothing is parallel in voices that repeat or hold
    their notes, or of which one does; nor in contrary motion, from a fifth to a twelfth, which is another rule. Frames
    that are quarter notes show no note between them, so that Bach's own pieces are not free of what is counted here.
    """
    steps = pitches.diff(dim=0)
    found = torch.zeros(len(steps), dtype=torch.int64)
    for i, j in itertools.combinations(range(pitches.shape[1]), 2):
        apart = _both(pitches, i, j) & ((pitches[:, i] - pitches[:, j]).abs() % 12 == interval)
        found += apart[1:] & apart[:-1] & (steps[:, i] * steps[:, j] > 0)
    return found


def _both(pitches: Tensor, i: int, j: int) -> Tensor:
    """(T,), `bool`: whether neither voice rests."""
    return (pitches[:, i] > 0) & (pitches[:, j] > 0)


class Statistics(NamedTuple):
    """Of pieces for voices; NaN is a share of nothing."""

    new_chords: float  # the share of frames whose chord is not among the known ones
    out_of_range: float  # the share of notes that lie outside their voice's range
    crossings: float  # the share of frames in which voices cross
    parallel_fifths: float  # of pairs of voices, for every 100 changes of the chord
    parallel_octaves: float  # likewise
    note_lengths: tuple[float, ...]  # of each voice the mean, in frames


class Reference(NamedTuple):
    """What occurs in pieces, to hold others against."""

    chords: frozenset[frozenset[int]]
    ranges: tuple[tuple[int, int], ...]  # of each voice the MIDI numbers of its lowest and highest note


def reference_of(pieces: Sequence[Tensor]) -> Reference:
    """The chords and the ranges of chorales, codes (T, 4). Raises ValueError for no piece, and as `pitches_of`."""
    _check(pieces)
    pitches = torch.cat([pitches_of(piece) for piece in pieces])
    ranges = [(int(voice[voice > 0].min()), int(voice.max())) if voice.any() else (0, 0) for voice in pitches.T]
    return Reference(frozenset(chords(pitches)), tuple(ranges))


def statistics(pieces: Sequence[Tensor], reference: Reference) -> Statistics:
    """All of it, over all pieces, codes (T, 4) each. Raises ValueError for no piece, and as `pitches_of`."""
    _check(pieces)
    all_pitches = [pitches_of(piece) for piece in pieces]
    joined = torch.cat(all_pitches)
    notes = [note for piece in pieces for note in notes_of_voices(piece)]
    outside = 0
    for note in notes:
        low, high = reference.ranges[note.voice]
        outside += not low <= note.pitch <= high
    changed = sum(int(changes(pitches).sum()) for pitches in all_pitches)

    def in_parallel(interval):
        count = sum(int(parallels(pitches, interval).sum()) for pitches in all_pitches)
        return 100 * count / changed if changed else math.nan

    lengths = []
    for voice in range(joined.shape[1]):
        own = [note.length for note in notes if note.voice == voice]
        lengths.append(sum(own) / len(own) if own else math.nan)
    return Statistics(
        1 - share_known(chords(joined), reference.chords),
        outside / len(notes) if notes else math.nan,
        float(crossings(joined).double().mean()),
        in_parallel(FIFTH),
        in_parallel(OCTAVE),
        tuple(lengths),
    )


def _check(pieces: Sequence[Tensor]) -> None:
    if not len(pieces):
        raise ValueError("there is no piece to count in")
