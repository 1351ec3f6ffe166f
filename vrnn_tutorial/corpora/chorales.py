"""Bach's chorales for four voices, out of the scores in a Python package's wheel; a frame is a quarter note.

Each frame is coded twice, and both codings say the same: which of a piano's 88 keys sound, as the literature has it;
and what each voice does: it rests, holds its note of the frame before, or begins one of the notes of its range.
"""

import itertools
import math
import re
import zipfile
from collections.abc import Iterable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import safetensors.torch
import torch
from torch import Tensor

from ..files import sha256
from .piano_rolls import KEYS, LOWEST, Parts
from .wheels import from_wheel

#: The codes that are no notes: the voice is silent, or its note goes on and is not struck again.
RESTS, HELD = 0, 1


class Voice(NamedTuple):
    """A voice, and the MIDI numbers of the lowest and highest note that Bach gives it, whose codes are its 2 and last.

    `codes` is how many codes it has.
    """

    name: str
    lowest: int
    highest: int

    @property
    def codes(self) -> int:
        return self.highest - self.lowest + 3

    def encode(self, pitches: Tensor, held: Tensor) -> Tensor:
        """Codes (T,), int64, of MIDI numbers (T,), 0 where the voice rests, and whether each is held, (T,) `bool`.

        Raises ValueError if there are no frames, a note is out of the voice's range, or one is held that did not sound
        in the frame before.
        """
        if not len(pitches):
            raise ValueError(f"the {self.name} has no frames")
        sounds = pitches != 0
        outside = sounds & ~((self.lowest <= pitches) & (pitches <= self.highest))
        if outside.any():
            t, note = int(outside.nonzero()[0]), pitches[outside][0]
            notes = f"notes go from {self.lowest} to {self.highest}, and 0 is a rest"
            raise ValueError(f"the {self.name} has the note {note} in frame {t}; its {notes}")
        unheard = held & ~(sounds & (pitches == pitches.roll(1)) & (torch.arange(len(pitches)) > 0))
        if unheard.any():
            t = int(unheard.nonzero()[0])
            raise ValueError(f"the {self.name} holds a note in frame {t} that does not sound in the frame before")
        begun = torch.where(sounds, pitches - self.lowest + 2, RESTS)
        return torch.where(held, HELD, begun)

    def decode(self, codes: Tensor) -> Tensor:
        """MIDI numbers (T,), int64, of codes (T,): 0 where the voice rests, or would hold what it has not begun.

        Notes above the voice's range have the codes that follow on its own: no score has such, but a model, whose
        voices have all the same number of codes, may draw them. Raises ValueError for what is no voice's code.
        """
        pitches = []
        for t, code in enumerate(codes.tolist()):
            if not 0 <= code < CODES:
                raise ValueError(f"the {self.name} has the code {code} in frame {t}; codes go from 0 to {CODES - 1}")
            if code == HELD:
                pitches.append(pitches[-1] if pitches else 0)
            else:
                pitches.append(0 if code == RESTS else code - 2 + self.lowest)
        return torch.tensor(pitches)


#: Those of a chorale's columns, in the order of a score.
VOICES = (Voice("soprano", 57, 81), Voice("alto", 53, 74), Voice("tenor", 48, 69), Voice("bass", 36, 64))
#: Of the voice that has the most, and so of a model of all four.
CODES = max(voice.codes for voice in VOICES)


class Chorale(NamedTuple):
    """A piece of T frames, and its name, which is its number in the catalogue of Bach's works, such as "bwv1.6".

    roll: (T, 88) float32, one where a key sounds, else zero. voices: (T, 4) int64, the codes of `VOICES`.
    """

    name: str
    roll: Tensor
    voices: Tensor


def chorales(folder: Path | None = None) -> Parts[Chorale]:
    """Bach's 364 chorales for four voices alone; those that harmonise the same melody are in the same part.

    They are `chorales.safetensors` in `folder` (by default that of `files.data_folder()`). If it is missing, or its
    SHA-256 is not the recorded one, it is built out of a wheel that pip fetches. Raises ConnectionError if that is
    needed and there is no network, ValueError if the wheel is not the recorded one, OSError if the file cannot be
    written; in each case the folder stays as it was.
    """
    try:
        content = from_wheel("chorales", "chorales.safetensors", folder, _build)
    except ConnectionError as error:
        own = "or read piano rolls of your own with piano_rolls(path)"
        raise ConnectionError(f"{error}; {own}") from error
    parts = Parts([], [], [])
    for key, codes in sorted(safetensors.torch.load(content).items()):
        part, name = key.split("/")
        voices = codes.long()
        getattr(parts, part).append(Chorale(name, roll_of(pitches_of(voices)), voices))
    return parts


def pitches_of(voices: Tensor) -> Tensor:
    """MIDI numbers (T, 4), int64, of codes (T, 4); 0 where a voice rests. Raises ValueError as `Voice.decode` does."""
    return torch.stack([voice.decode(codes) for voice, codes in zip(VOICES, voices.unbind(1))], 1)


def roll_of(pitches: Tensor) -> Tensor:
    """The piano roll (T, 88), float32 of zeros and ones, of MIDI numbers (T, n), 0 where there is none."""
    return (pitches[:, :, None] == torch.arange(LOWEST, LOWEST + KEYS)).any(1).float()


def _build(archive: zipfile.ZipFile, source: dict) -> bytes:
    scores, melodies = {}, {}
    for member in archive.namelist():
        if named := re.fullmatch(source["members"], member):
            score = _score(archive.read(member))
            if len(score.findall("part")) == len(VOICES):
                voices = _notes(score)
                scores[named[1]] = _frames(voices)
                on_beats = scores[named[1]][0][:, 0].tolist()
                melodies[named[1]] = _fingerprints([note.pitch for note in voices[0]], on_beats)
    codes = {}
    for part, names in _split(_groups(melodies))._asdict().items():
        for name in names:
            pitches, held = (columns.unbind(1) for columns in scores[name])
            coded = [voice.encode(*columns) for voice, *columns in zip(VOICES, pitches, held)]
            codes[f"{part}/{name}"] = torch.stack(coded, 1).to(torch.uint8)
    return safetensors.torch.save(codes)


# Reading a score: compressed MusicXML, part by part


class _Note(NamedTuple):
    pitch: int  # its MIDI number
    start: Fraction  # in quarter notes from the first bar's beginning
    end: Fraction


SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def _score(compressed: bytes) -> ElementTree.Element:
    """The score out of a zip whose container says where it lies."""
    with zipfile.ZipFile(BytesIO(compressed)) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        rootfile = next(element for element in container.iter() if element.tag.endswith("rootfile"))
        return ElementTree.fromstring(archive.read(rootfile.attrib["full-path"]))


def _notes(score: ElementTree.Element) -> list[list[_Note]]:
    """The notes of each part in the order of their beginnings, tied ones as one; grace notes are left out.

    A bar begins in all parts where the longest of the bars before it ends, so that the parts stay together.
    """
    parts = score.findall("part")
    notes: list[list[_Note]] = [[] for _ in parts]
    divisions = [1] * len(parts)
    start = Fraction(0)
    for bars in zip(*(part.findall("measure") for part in parts), strict=True):
        ends = []
        for i, bar in enumerate(bars):
            divisions[i], end = _read(bar, start, divisions[i], notes[i])
            ends.append(end)
        start = max(ends)
    return [sorted(voice, key=lambda note: (note.start, note.pitch)) for voice in notes]


def _read(bar: ElementTree.Element, start: Fraction, divisions: int, notes: list[_Note]) -> tuple[int, Fraction]:
    """Adds the bar's notes; returns the divisions of a quarter note that hold from here on, and the bar's end."""
    now = onset = end = start
    for element in bar:
        divisions = int(element.findtext("divisions") or divisions)
        duration = Fraction(element.findtext("duration") or 0) / divisions
        if element.tag == "backup":
            now -= duration
        elif element.tag == "forward":
            now += duration
        elif element.tag == "note" and duration:
            if element.find("chord") is None:  # else it begins with the note before it
                onset, now = now, now + duration
            if (pitch := element.find("pitch")) is not None:
                _add(notes, _Note(_midi(pitch), onset, onset + duration), element.find("tie[@type='stop']") is not None)
        end = max(end, now)
    return divisions, end


def _midi(pitch: ElementTree.Element) -> int:
    step, alter, octave = (pitch.findtext(name) for name in ("step", "alter", "octave"))
    assert step and octave, "MusicXML gives each pitch both"
    return 12 * (int(octave) + 1) + SEMITONES[step] + int(alter or 0)


def _add(notes: list[_Note], note: _Note, tied: bool) -> None:
    if tied:
        for i, before in enumerate(notes):
            if (before.pitch, before.end) == (note.pitch, note.start):
                notes[i] = before._replace(end=note.end)
                return
    notes.append(note)


def _frames(voices: list[list[_Note]]) -> tuple[Tensor, Tensor]:
    """What sounds as each quarter note begins: MIDI numbers (T, n), 0 for silence, and whether each is held, (T, n).

    Where one voice has several notes at a time, the one that began last stands for it, and of a chord the highest.
    Before the first note and after the last one there are no frames.
    """
    first = min(math.floor(note.start) for voice in voices for note in voice)
    last = max(math.ceil(note.end) for voice in voices for note in voice)
    pitches, order = torch.zeros(2, last - first, len(voices), dtype=torch.int64)
    for i, voice in enumerate(voices):
        for number, note in enumerate(voice, 1):
            frames = slice(math.ceil(note.start) - first, math.ceil(note.end) - first)
            pitches[frames, i], order[frames, i] = note.pitch, number
    held = (pitches != 0) & (order == order.roll(1, 0))
    held[0] = False
    return pitches, held


# Melodies


def _fingerprints(melody: list[int], on_beats: list[int]) -> set[tuple[int, ...]]:
    """By which a melody is known, in whatever key, rhythm and ornament it comes: two that share one are the same.

    Its steps, in semitones, are those between successive notes that differ. Fingerprints are its first 8 steps and each
    run of 14, or of 12 if only the notes on the beats are looked at, 0 being a rest. With runs so long the largest
    group of the 364 chorales has 13; with runs of one less it has twice as many, which have only scales in common.
    """
    fingerprints = set()
    for notes, run in ((melody, 14), ([note for note in on_beats if note], 12)):
        steps = [b - a for a, b in itertools.pairwise(notes) if a != b]
        fingerprints |= {tuple(steps[:8])} | {tuple(steps[i : i + run]) for i in range(len(steps) - run + 1)}
    return fingerprints


def _groups(fingerprints: dict[str, set[tuple[int, ...]]]) -> Iterable[list[str]]:
    """The names in groups, such that two which share a fingerprint are in the same group."""
    groups: list[tuple[list[str], set[tuple[int, ...]]]] = []
    for name, own in fingerprints.items():
        related = [group for group in groups if not own.isdisjoint(group[1])]
        groups = [group for group in groups if group not in related]
        groups.append((sum((names for names, _ in related), [name]), own.union(*(prints for _, prints in related))))
    return [names for names, _ in groups]


def _split(groups: Iterable[list[str]]) -> Parts[str]:
    """The names in three parts, each group in one: in the order of a hash, the first 70% train, the next 15% choose."""
    parts: Parts[str] = Parts([], [], [])
    ordered = sorted(groups, key=lambda group: sha256(min(group).encode()))
    total, before = sum(map(len, ordered)), 0
    for group in ordered:
        part = parts.train if before < 0.7 * total else parts.validation if before < 0.85 * total else parts.test
        part.extend(group)
        before += len(group)
    return parts
