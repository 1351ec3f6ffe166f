"""Voices that are drawn to voices that are given: a particle filter over a model of several voices (chapter 8)."""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .bounds import ParticleFilter
from .corpora.chorales import SEMITONES, VOICES
from .emissions.codes import OPEN
from .gaussian import seeded
from .inputs import as_tensor
from .models import SequenceModel, check_sequences
from .music import Note, pitch_of


class Harmony(NamedTuple):
    """Voices that were drawn to others, and how hard that was for the K particles."""

    voices: Tensor  # (T, k), int64: those given, and those drawn to them
    log_p: float  # an estimate of log p(given) in nats; the mean of exp(log_p) over seeds is p(given)
    effective: Tensor  # (T,): how many of the particles counted when a step was weighted, 1 to K


def only(voices: Tensor, *kept: int) -> Tensor:
    """Codes (T, k) of which these columns are given, and the others left to `harmonise`."""
    given = torch.full_like(voices, OPEN)
    given[:, list(kept)] = voices[:, list(kept)]
    return given


def melody(written: str) -> Tensor:
    """A soprano for `harmonise`, (T, 4), of notes by their names, one for each quarter, between white space.

    "-" holds the note before, "r" is a rest: "G4 A4 - B4 r". Raises ValueError for other names, as `pitch_of`, and as
    `Voice.encode`: for no note, one out of the soprano's range, and one held that was not begun.
    """
    pitches: list[int] = []
    for name in (names := written.split()):
        held = pitches[-1] if pitches else 0
        pitches.append(held if name == "-" else 0 if name == "r" else pitch_of(name))
    return _soprano(pitches, [name == "-" for name in names])


def melody_of(notes: Sequence[Note]) -> Tensor:
    """A soprano for `harmonise`, (T, 4), of the highest of the notes in each quarter, from where the first one begins.

    A note that goes on where a higher one ends is struck anew. Raises ValueError for no note, and as `Voice.encode` for
    one out of the soprano's range.
    """
    if not notes:
        raise ValueError("there is no note in this melody")
    begin, end = min(note.start for note in notes), max(note.start + note.length for note in notes)
    highest: list[Note | None] = [
        max((note for note in notes if note.start <= t < note.start + note.length), default=None)
        for t in range(begin, end)
    ]
    held = [note is not None and note is before for before, note in zip([None, *highest], highest)]
    return _soprano([note.pitch if note else 0 for note in highest], held)


def sketch(strokes: Sequence[Sequence[Sequence[float]]], steps: int = 16) -> Tensor:
    """A soprano for `harmonise`, (T, 4), out of lines drawn on a sheet that is so many quarters wide.

    From the bottom of the sheet to its top there are the white keys of the soprano's range. Where a line passes the
    middle of a quarter it gives the note, the later line if there are two; one that passes none gives the quarter in
    which it begins. A note is held as long as its line stays on its key, and where nothing is drawn; another line
    strikes anew. What lies before and behind all lines is left out.

    strokes: points [x, y] of the unit square, y downwards, as a `widgets.Canvas` has them. Raises ValueError for none.
    """
    keys = [p for p in range(VOICES[0].lowest, VOICES[0].highest + 1) if p % 12 in SEMITONES.values()]
    drawn: dict[int, tuple[int, int]] = {}  # of a quarter the line and the note
    for line, points in enumerate(strokes):
        heights = {}
        for (x, y), (to_x, to_y) in itertools.pairwise(points):
            begin, end = x * steps - 0.5, to_x * steps - 0.5
            if begin != end:
                for t in range(math.ceil(min(begin, end)), math.floor(max(begin, end)) + 1):
                    heights[t] = y + (t - begin) / (end - begin) * (to_y - y)
        heights = heights or {min(int(points[0][0] * steps), steps - 1): points[0][1]}
        for t, y in heights.items():
            drawn[t] = line, keys[min(int((1 - y) * len(keys)), len(keys) - 1)]
    if not drawn:
        raise ValueError("there is no melody on the sheet")
    notes = [drawn[max(s for s in drawn if s <= t)] for t in range(min(drawn), max(drawn) + 1)]
    return _soprano([pitch for _, pitch in notes], [False, *(a == b for a, b in itertools.pairwise(notes))])


def _soprano(pitches: list[int], held: list[bool]) -> Tensor:
    given = torch.full((len(pitches), len(VOICES)), OPEN)
    given[:, 0] = VOICES[0].encode(torch.tensor(pitches, dtype=torch.int64), torch.tensor(held, dtype=torch.bool))
    return given


def harmonise(
    model: SequenceModel, given: Tensor, particles: int = 200, *, resample_below: float = 0.5, seed: int | None = None
) -> Harmony:
    """Draws the voices that are not given, out of p(others | given) as nearly as so many particles can.

    Each particle is a history of its own. At each step it draws z_t from the prior, and from the emission given z_t
    those voices that are open; its weight is p(given_t | z_t, h_{t-1}). When the effective sample size falls under
    `resample_below` K, K particles are drawn anew in proportion to the weights, as in `bounds.fivo`; in the end one
    whole history is. This is the bootstrap filter of Gordon, Salmond and Smith 1993 ("Novel approach to
    nonlinear/non-Gaussian Bayesian state estimation"). A model without z goes as well: then particles differ by what
    they have drawn, and nothing else.

    Args:
        model: of k > 1 voices, each a code. One that is chained draws a voice given those before it.
        given: codes (T, k), and OPEN (-1) for each that is to be drawn; any of them, in any step.
        particles: K.
        resample_below: the share of K; at 0 none is drawn anew, and the one taken in the end is chosen among K
            independent histories.
        seed: the same one gives the same voices; None draws one.

    Raises:
        ValueError: for a model of another kind, a `given` of another type or shape, of no step, or with a code that
            the model does not know, and for fewer than one particle.
    """
    return harmonise_many(model, [given], particles, resample_below=resample_below, seed=seed)[0]


@torch.no_grad()
def harmonise_many(
    model: SequenceModel,
    givens: Sequence[Tensor],
    particles: int = 200,
    *,
    resample_below: float = 0.5,
    seed: int | None = None,
) -> list[Harmony]:
    """`harmonise` of several pieces side by side, each with K particles of its own.

    Args:
        givens: pieces of any lengths.
        model, particles, resample_below, seed: as there.

    Raises:
        ValueError: as there, and for no piece.
    """
    givens = [as_tensor(given) for given in givens]
    for given in givens:
        _check(model, given)
    if not givens:
        raise ValueError("there is no piece to harmonise.")
    if particles < 1:
        raise ValueError(f"particles must be at least 1, not {particles}.")
    model = copy.deepcopy(model).eval()
    weight = next(model.parameters())
    generator = seeded(seed, weight.device)
    filter = ParticleFilter(particles, resample_below, generator)
    state = model.zero_state(weight.new_empty(len(givens) * particles, 0))
    # Behind a piece's end all is open, which leaves the weights as they are.
    columns = pad_sequence(givens, padding_value=OPEN).repeat_interleave(particles, 1).to(weight.device)  # (T, B K, k)
    histories = columns[:0]
    for t, known in enumerate(columns):
        _, z, emission = model.draw(state, generator=generator)
        x, log_p = emission.complete(known, generator)  # pyright: ignore[reportAttributeAccessIssue]
        histories = torch.cat([histories, x[None]])
        chosen = filter.resample(t, log_p)
        state = model.columns(model.advance(x, z, state), chosen)
        histories = histories if chosen is None else histories[:, chosen]
    assert isinstance(filter.log_w, Tensor) and isinstance(filter.log_p, Tensor)
    last = torch.multinomial(filter.log_w.exp(), 1, generator=generator)[:, 0].tolist()
    effective = torch.stack(filter.effective, 1).cpu()
    return [
        Harmony(histories[: len(given), i * particles + last[i]].cpu(), log_p, effective[i, : len(given)])
        for i, (given, log_p) in enumerate(zip(givens, filter.log_p.tolist()))
    ]


def _check(model: SequenceModel, given: Tensor) -> None:
    check_sequences(model, "harmonise")
    k = model.emission_type.characters
    if k < 2:
        raise ValueError("harmonise takes a model of several voices, each of them a code; this one's x is another.")
    if given.dtype != torch.int64 or given.dim() != 2 or given.shape[1] != k:
        raise ValueError(f"given must be int64 codes (T, {k}), not {given.dtype} {tuple(given.shape)}.")
    if not len(given):
        raise ValueError("given has no step.")
    codes = model.configuration["input_size"]
    if not (given.min() >= OPEN and given.max() < codes):
        wrong = given[(given < OPEN) | (given >= codes)][0]
        raise ValueError(f"given holds {wrong}; the model's codes go from 0 to {codes - 1}, and {OPEN} is drawn.")
