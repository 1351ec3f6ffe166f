"""Text as codes: encode, decode, and a text of N ASCII codes as a corpus, cut by position into three parts.

corpus = corpus_from_file("my_text.txt")
x = next(iter(corpus.windows(batch_size=64, length=300)))  # (300, 64)
print(decode(x[:, 0]))
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from .batches import ContiguousStreams, RandomWindows

# What Unicode's own decomposition leaves out. The dash is doubled, as it is in the plays.
ASCII_FORMS = str.maketrans("‘’‛′´‹›‚‐‒–−⁄×ØøŁłĐđÐðı", "''''''',----/xOoLlDdDdi")
ASCII_FORMS |= str.maketrans("“”„‟«»", '"' * 6)
ASCII_FORMS |= str.maketrans({"—": "--", "―": "--", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "ß": "ss"})
ASCII_FORMS |= str.maketrans({"Þ": "Th", "þ": "th", "\ufeff": "", "\u200b": "", "\u00ad": ""})


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text, split by position: the first 90% train, the next 5% validation, the last 5% test.

    codes: (N,) int64. `last_tenth` is validation and test together, the part that published numbers use. Iterating over
    a corpus yields the source's mini batches, `windows()` with its defaults. A text may be so short that its validation
    part is empty: it can still be trained on, as long as one window fits into the train part.
    """

    name: str
    codes: Tensor
    carries_state: ClassVar[bool] = False

    @property
    def train(self) -> Tensor:
        return self.codes[: len(self.codes) * 9 // 10]

    @property
    def validation(self) -> Tensor:
        return self.codes[len(self.codes) * 9 // 10 : len(self.codes) * 19 // 20]

    @property
    def test(self) -> Tensor:
        return self.codes[len(self.codes) * 19 // 20 :]

    @property
    def last_tenth(self) -> Tensor:
        return self.codes[len(self.codes) * 9 // 10 :]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.windows())

    def windows(self, batch_size: int = 64, length: int = 300, characters: int = 1, seed: int = 0) -> RandomWindows:
        """Random windows of the train part; see `RandomWindows` for shapes and errors."""
        return RandomWindows(self.train, batch_size, length, characters, self._held_out(characters), seed)

    def streams(self, batch_size: int = 64, length: int = 300, characters: int = 1) -> ContiguousStreams:
        """Contiguous streams over the train part; see `ContiguousStreams` for shapes and errors."""
        return ContiguousStreams(self.train, batch_size, length, characters, self._held_out(characters))

    def _held_out(self, characters: int) -> Tensor | None:
        return self.validation if len(self.validation) >= characters else None


def encode(text: str, *, to_ascii: bool = False) -> Tensor:
    """The ASCII codes of a text, int64 of shape (N,).

    `to_ascii=True` first spells in ASCII whatever can be: accents are dropped, quotes and dashes straightened,
    ligatures taken apart. Raises ValueError for an empty text, and for characters that are not ASCII (or, with
    `to_ascii`, have no ASCII form), naming the first and its position.
    """
    if not text.isascii():
        forms = {c: _ascii_form(c) if to_ascii else c for c in set(text)}
        foreign = [position for position, c in enumerate(text) if not forms[c].isascii()]
        if foreign:
            what = "have no ASCII form" if to_ascii else "are not ASCII (to_ascii=True or --to-ascii respells some)"
            first = f"{text[foreign[0]]!r} at position {foreign[0]}"
            raise ValueError(f"{len(foreign)} of {len(text)} characters {what}; the first is {first}")
        text = text.translate(str.maketrans(forms))
    if not text:
        raise ValueError("the text is empty")
    return torch.tensor(list(text.encode("ascii")))


def decode(codes: Tensor) -> str:
    """The text of the ASCII codes (N,); the inverse of `encode`. Raises ValueError for other shapes and other codes."""
    if codes.dim() != 1:
        raise ValueError(f"codes must have shape (N,), not {tuple(codes.shape)}")
    try:
        return bytes(codes.tolist()).decode("ascii")
    except ValueError:
        raise ValueError("ASCII codes lie between 0 and 127") from None


def _ascii_form(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character.translate(ASCII_FORMS)).translate(ASCII_FORMS)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return plain if plain.isascii() else character


def corpus_from_file(path: Path | str, *, to_ascii: bool = False) -> Corpus:
    """A text file of one's own (UTF-8) as a corpus; Windows line ends become newlines.

    `to_ascii` is that of `encode`. Raises FileNotFoundError, IsADirectoryError, and ValueError if the file is not text,
    is empty or has characters that `encode` refuses.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of one text file")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        if "\0" in text:
            raise ValueError("it contains NUL bytes")
        return Corpus(path.stem, encode(text, to_ascii=to_ascii))
    except ValueError as error:
        raise ValueError(f"{path} cannot be used as a text: {error}") from None
