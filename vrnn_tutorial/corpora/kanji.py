"""Japanese characters as drawings, out of the wheel of KanjiVG, an archive of SVG files."""

import json
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..drawing import SAMPLES, read_svg, spread, to_grid, to_steps
from ..files import sha256
from .wheels import SOURCES, from_wheel

#: What stands beside every figure of these drawings, and of what is made of them; it names their licence.
CREDIT: str = json.loads(SOURCES.read_text(encoding="utf-8"))["kanji"]["credit"]

#: Where each part ends when the groups are spread evenly between 0 and 1.
PARTS = {"train": 0.8, "validation": 0.9, "test": 1.0}
#: Root mean square distance, in units of the grid, below which two drawings count as the same one; no pair lies within
#: 0.02 of it, so that no rounding decides.
NEAR = 6.5


@dataclass(frozen=True, eq=False)
class Kanji:
    """Drawings in three parts, each a list of float32 tensors (T_i, 5), in whole units of a grid of 109.

    A row is a step of the pen: `dx`, `dy`, then one-hot: goes on, stroke ends, character ends. `drawing.to_strokes`
    gives a drawing's strokes. `characters` has a string for each part's name, whose i-th character the i-th drawing
    shows.
    """

    train: list[Tensor]
    validation: list[Tensor]
    test: list[Tensor]
    characters: dict[str, str]


def kanji(folder: Path | None = None) -> Kanji:
    """One drawing of each of the 6,355 characters of JIS X 0208, levels 1 and 2: 37 steps on average, at most 81.

    They are `kanji.safetensors` in `folder` (by default that of `files.data_folder()`). If it is missing, or its
    SHA-256 is not the recorded one, it is built, in some ten seconds, out of a wheel that pip fetches. Raises
    ConnectionError if that is needed and there is no network, ValueError if the wheel is not the recorded one, OSError
    if the file cannot be written; in each case the folder stays as it was. The drawings are KanjiVG's, simplified:
    whoever distributes what is made of them names it, as data/README.md says.
    """
    tensors = safetensors.torch.load(from_wheel("kanji", "kanji.safetensors", folder, _build))
    characters = {part: "".join(map(chr, tensors[f"{part} characters"].tolist())) for part in PARTS}
    return Kanji(**{part: _unpacked(tensors[part]) for part in PARTS}, characters=characters)


def _jis() -> str:
    """The characters of levels 1 and 2 in the order of JIS X 0208, its rows 16 to 84, as Python's euc_jp has them."""
    codes = (bytes([row, column]) for row in range(0xB0, 0xF5) for column in range(0xA1, 0xFF))
    return "".join(code.decode("euc_jp", errors="ignore") for code in codes)


def _build(archive: zipfile.ZipFile, source: dict) -> bytes:
    drawings = {character: _drawing(archive, character) for character in _jis()}
    members = {part: "" for part in PARTS}
    for character, group in _groups(drawings).items():
        members[_part(group)] += character
    tensors = {part: _packed([to_steps(drawings[character]) for character in members[part]]) for part in PARTS}
    tensors |= {f"{part} characters": torch.tensor([ord(c) for c in members[part]]).int() for part in PARTS}
    return safetensors.torch.save(tensors, metadata={"credit": source["credit"]})


def _drawing(archive: zipfile.ZipFile, character: str) -> list[np.ndarray]:
    # Variants, whose names go on behind the code, are left out: most are the same drawing, moved a little.
    name = f"kanji/{ord(character):05x}.svg"
    try:
        return to_grid(read_svg(archive.read(name)))
    except ValueError as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


def _groups(drawings: dict[str, list[np.ndarray]]) -> dict[str, str]:
    """For each character that of its group which Unicode has first: a group is joined by pairs of near-duplicates.

    Near are two drawings with equally many strokes whose points, 8 evenly spread along each stroke, lie less than 6.5
    apart, root mean square.
    """
    alike = defaultdict(list)
    for character, strokes in drawings.items():
        alike[len(strokes)].append(character)
    groups = {character: {character} for character in drawings}
    for count, characters in alike.items():
        points = np.stack([spread(drawings[c], SAMPLES).ravel() for c in characters])
        squares = (points**2).sum(1)
        distances = squares[:, None] + squares - 2 * points @ points.T
        for a, b in np.argwhere(np.triu(distances < NEAR**2 * count * SAMPLES, 1)):
            joined = groups[characters[a]] | groups[characters[b]]
            groups |= dict.fromkeys(joined, joined)
    return {character: min(group) for character, group in groups.items()}


def _part(group: str) -> str:
    """A group falls into the same part whatever other groups there are: its name's hash says where."""
    place = int(sha256(group.encode())[:8], 16) / 16**8
    return next(part for part, end in PARTS.items() if place < end)


def _packed(drawings: list[Tensor]) -> Tensor:
    """The steps of all drawings, one below the other, as int8 (N, 3): `dx`, `dy`, pen."""
    steps = torch.cat(drawings)
    return torch.cat([steps[:, :2], steps[:, 2:].argmax(1, keepdim=True)], 1).to(torch.int8)


def _unpacked(rows: Tensor) -> list[Tensor]:
    steps = torch.cat([rows[:, :2], one_hot(rows[:, 2].long(), 3)], 1).float()
    ends = (rows[:, 2] == 2).nonzero()[:, 0].tolist()
    return [steps[before + 1 : end + 1] for before, end in zip([-1, *ends], ends)]
