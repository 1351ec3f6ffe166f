"""Music to take away and to listen to: the notes of a piano roll or of four voices, as a MIDI file and as sound."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np
from torch import Tensor

from .corpora.chorales import HELD, SEMITONES, pitches_of
from .corpora.piano_rolls import KEYS, LOWEST

#: Of a quarter note, the unit of time in our MIDI files.
TICKS = 480
#: In the MIDI standard's list of instruments, which it counts from 0, the church organ; and its channel of drums.
ORGAN, DRUMS = 19, 9


class Note(NamedTuple):
    """The MIDI number of a note, the frame in which it begins, how many it lasts, and the voice that has it, 0 to 3."""

    pitch: int
    start: int
    length: int
    voice: int = 0


def pitch_of(name: str) -> int:
    """The MIDI number of a note by its name: a letter from A to G, perhaps # or b, and an octave; C4 is 60.

    Raises ValueError for another name.
    """
    parts = re.fullmatch("([A-Ga-g])([#b]?)(-?[0-9])", name)
    if not parts:
        raise ValueError(f"{name!r} is no note; one is a letter from A to G, perhaps # or b, and an octave, as in F#4")
    return 12 * (int(parts[3]) + 1) + SEMITONES[parts[1].upper()] + {"": 0, "#": 1, "b": -1}[parts[2]]


def notes_of_roll(roll: Tensor) -> list[Note]:
    """The notes of a piano roll (T, 88) of zeros and ones, all of them voice 0's, from the lowest key to the highest.

    A key that sounds in successive frames is one note, since a roll does not say whether it is struck again. Raises
    ValueError for another shape and for other numbers.
    """
    keys = roll.detach().cpu().numpy()
    if keys.ndim != 2 or keys.shape[1] != KEYS or not np.isin(keys, (0, 1)).all():
        raise ValueError(f"a piano roll is (T, {KEYS}), all zeros and ones; this is {keys.shape} of {keys.dtype}")
    changes = np.diff(keys.T.astype(np.int8), prepend=0, append=0)
    (columns, starts), (_, ends) = np.nonzero(changes == 1), np.nonzero(changes == -1)
    return [Note(LOWEST + int(k), int(s), int(e - s)) for k, s, e in zip(columns, starts, ends)]


def notes_of_voices(voices: Tensor) -> list[Note]:
    """The notes of a chorale's voices, codes (T, 4), one voice after the other. Raises ValueError as `pitches_of`."""
    notes = []
    for i, (pitches, codes) in enumerate(zip(pitches_of(voices).T.tolist(), voices.T.tolist())):
        for t, (pitch, code) in enumerate(zip(pitches, codes)):
            if pitch and code == HELD:
                notes[-1] = notes[-1]._replace(length=notes[-1].length + 1)
            elif pitch:
                notes.append(Note(pitch, t, 1, i))
    return notes


def notes_of_midi(path: Path | str) -> list[Note]:
    """The notes of all tracks of a MIDI file but drums, in the order of frames, pitches and lengths, all of voice 0.

    A frame is a quarter note: a note begins with the nearest one, and lasts one at least. One that is struck while it
    sounds ends there. Raises OSError if the file cannot be read, and ValueError for one that is no MIDI, or damaged,
    that counts in frames of a film, or holds no note.
    """
    content = Path(path).read_bytes()
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
    except Exception:  # what mido raises for bytes that are something else may be anything
        raise ValueError(f"{path} is no MIDI file, or a damaged one") from None
    if file.ticks_per_beat < 1:
        raise ValueError(f"{path} counts time in frames of a film; write it in quarter notes")
    notes, sounding, now = [], {}, 0

    def end(key):
        start, stop = (int(ticks / file.ticks_per_beat + 0.5) for ticks in (sounding.pop(key), now))
        notes.append(Note(key[1], start, max(stop - start, 1)))

    for message in mido.merge_tracks(file.tracks):
        now += message.time
        if message.type in ("note_on", "note_off") and message.channel != DRUMS:
            key = message.channel, message.note
            if key in sounding:
                end(key)
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
    for key in list(sounding):
        end(key)
    if not notes:
        raise ValueError(f"{path} holds no note")
    return sorted(notes, key=lambda note: (note.start, note.pitch, note.length))


def midi(notes: Sequence[Note], tempo: float = 80) -> bytes:
    """The notes as a MIDI file of format 1, a track for each voice, played by a church organ.

    tempo: quarter notes, that is frames, per minute. Raises ValueError if there are no notes, for one that MIDI has
    not, and for a tempo outside of 4 to 1,000.
    """
    _check(notes, tempo)
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=round(60e6 / tempo))]))
    for voice in sorted({note.voice for note in notes}):
        events = []  # sorted, what goes off comes before what goes on then, so that a repeated note is heard
        for note in notes:
            if note.voice == voice:
                events.append((TICKS * note.start, "note_on", note.pitch))
                events.append((TICKS * (note.start + note.length), "note_off", note.pitch))
        track, now = mido.MidiTrack([mido.Message("program_change", channel=voice, program=ORGAN)]), 0
        for time, kind, pitch in sorted(events):
            track.append(mido.Message(kind, channel=voice, note=pitch, velocity=80, time=time - now))
            now = time
        file.tracks.append(track)
    written = io.BytesIO()
    file.save(file=written)
    return written.getvalue()


def sound(notes: Sequence[Note], tempo: float = 80, rate: int = 22050) -> np.ndarray:
    """The notes as samples (N,), float32 from -1 to 1, `rate` of them per second; for `IPython.display.Audio`.

    Each note is a sum of its first eight harmonics, each 0.6 times as loud as the one before, those left out that the
    rate cannot carry; it begins and ends softly and dies away slowly. tempo and errors as in `midi`.
    """
    _check(notes, tempo)
    seconds = 60 / tempo
    attack, release, decay = 0.02, 0.1, 3.0  # seconds
    end = max(note.start + note.length for note in notes)
    samples = np.zeros(int((end * seconds + release) * rate) + 1, dtype=np.float32)
    for note in notes:
        t = np.arange(int((note.length * seconds + release) * rate)) / rate
        frequency = 440 * 2 ** ((note.pitch - 69) / 12)
        wave = np.zeros_like(t)
        for k in range(1, 9):
            if k * frequency < rate / 2:
                wave += 0.6 ** (k - 1) * np.sin(2 * np.pi * k * frequency * t)
        fade = np.minimum(t / attack, 1) * np.minimum((t[-1] - t) / release, 1)
        start = int(note.start * seconds * rate)
        samples[start : start + len(t)] += wave * fade * np.exp(-t / decay)
    return samples / np.abs(samples).max()


def _check(notes: Sequence[Note], tempo: float) -> None:
    if not notes:
        raise ValueError("there is no note to be heard")
    for note in notes:
        if not 0 <= note.pitch <= 127:
            raise ValueError(f"MIDI's notes go from 0 to 127; there is none for {note.pitch}")
    if not 4 <= tempo <= 1000:
        raise ValueError(f"tempo={tempo}: from 4 to 1,000 quarter notes per minute")
