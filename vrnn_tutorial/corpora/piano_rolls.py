"""Piano rolls in the form in which the literature shares them: of each frame the notes that sound in it."""

import gzip
import json
import operator
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

#: A piano's keys, and the MIDI number of the lowest of them, an A. That of the highest, a C, is 108.
KEYS, LOWEST = 88, 21

T = TypeVar("T")


class Parts(NamedTuple, Generic[T]):
    """Pieces of music, split by piece: to learn from, to choose by, to report on."""

    train: list[T]
    validation: list[T]
    test: list[T]


def piano_rolls(path: Path | str) -> Parts[Tensor]:
    """The piano rolls of a file, each (T, 88) float32 of zeros and ones; column 0 is the lowest key of a piano.

    The file is a dict whose "train", "valid" and "test" are lists of pieces, a piece being a list of frames; what else
    is in it is not read. It is of one of two kinds, either of which may be compressed by gzip:

    - JSON, a frame being the list of the columns that sound, 0 to 87;
    - a pickle, as Boulanger-Lewandowski et al. (2012) published JSB Chorales, MuseData, Nottingham and Piano-midi.de, a
      frame being the MIDI numbers of the notes that sound, 21 to 108. Of a pickle nothing is built but numbers, lists
      and arrays of whole numbers, and nothing is called: if it asks for more, it is refused.

    Raises OSError if the file cannot be read, ValueError if it is of another kind, has a note that a piano has not, or
    a part without pieces, or a piece without frames.
    """
    content = Path(path).read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        if content.lstrip().startswith(b"{"):  # as no pickle does
            parts, lowest = json.loads(content), 0
        else:
            parts, lowest = _Unpickler(BytesIO(content), encoding="latin1").load(), LOWEST
        pieces = [_plain(parts[name]) for name in ("train", "valid", "test")]
        return Parts(*(_rolls(pieces[i], lowest, name) for i, name in enumerate(("train", "valid", "test"))))
    except _Refused as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # what a damaged pickle raises is not specified
        form = 'a JSON or pickle of a dict whose "train", "valid" and "test" are lists of lists of lists of notes'
        raise ValueError(f"{path} is not {form}") from error


class _Refused(Exception):
    """The file's form is understood; the rest of a sentence that begins with its name says what is wrong."""


def _rolls(pieces: Any, lowest: int, part: str) -> list[Tensor]:
    if not len(pieces):
        raise _Refused(f"has no pieces in {part!r}")
    return [_roll(_plain(piece), lowest, f"{part}[{i}]") for i, piece in enumerate(pieces)]


def _roll(frames: Any, lowest: int, piece: str) -> Tensor:
    if not len(frames):
        raise _Refused(f"has no frames in {piece}")
    roll = torch.zeros(len(frames), KEYS)
    for t, frame in enumerate(frames):
        columns = [operator.index(_plain(note)) - lowest for note in _plain(frame)]
        for column in columns:
            if not 0 <= column < KEYS:
                numbers = f"those of a piano go from {lowest} to {lowest + KEYS - 1}"
                raise _Refused(f"has the note {column + lowest} in {piece}[{t}]: {numbers} in such a file")
        roll[t, columns] = 1
    return roll


class _Recorded:
    """Stands for what a pickle asks to be called, with the arguments and the state that it gives to it."""

    arguments: tuple
    state: Any

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: Any) -> "_Recorded":
        called = _Recorded(self.name)
        called.arguments = arguments
        return called

    def __setstate__(self, state: Any) -> None:
        self.state = state


_DESCRIPTIONS = {"numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"}
_DESCRIPTIONS |= {"numpy.core.numeric._frombuffer", "_codecs.encode", "__builtin__.bytes"}


class _Unpickler(pickle.Unpickler):
    """Records the few calls by which a pickle describes the numbers and arrays of `numpy`, and refuses all others.

    Nor are those made: a description is checked before `_plain` builds an array of it, whereas `numpy` trusts it.
    """

    def find_class(self, module: str, name: str) -> _Recorded:
        asked = f"{module}.{name}"
        if asked.replace("numpy._core.", "numpy.core.") not in _DESCRIPTIONS:
            raise _Refused(f"asks for {asked!r}, of which piano rolls have no need: nothing was called")
        return _Recorded(name)


def _plain(value: Any) -> Any:
    """The number or array that a recorded call describes; any other value as it is."""
    if not isinstance(value, _Recorded):
        return value
    match value.name:
        case "scalar":
            dtype, content = value.arguments
            return _array(content, dtype, (), "C")[()]
        case "_reconstruct":
            _, shape, dtype, columns_first, content = value.state
            return _array(content, dtype, shape, "F" if columns_first else "C")
        case "_frombuffer":
            return _array(*value.arguments)
    raise TypeError(f"{value.name} is no number")


def _array(content: Any, dtype: _Recorded, shape: tuple[int, ...], order: Any) -> np.ndarray:
    described = np.dtype(dtype.state[1] + dtype.arguments[0])
    if described.kind not in "iu":  # one of objects would take what the file says for their addresses
        raise _Refused(f"has an array of type {str(described)!r}, where only whole numbers are notes")
    if isinstance(content, _Recorded):  # before protocol 3 there were no bytes
        content = content.arguments[0] if content.arguments else b""
    if isinstance(content, str):
        content = content.encode("latin1")
    # Of no content NumPy would make an array of whatever lies in memory.
    return np.ndarray(shape, described, memoryview(content), order=order)
