"""Text as codes: encode, decode, and a text of N characters as a corpus, cut by position into three parts.

A vocabulary is a string of distinct characters; the code of its i-th character is i, from 0.

corpus = corpus_from_file("my_text.txt")
x = next(iter(corpus.windows(batch_size=64, length=300)))  # (300, 64)
print(decode(x[:, 0]))
"""

import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from .batches import ContiguousStreams, RandomWindows
from .emissions.codes import ASCII

# What Unicode's own decomposition leaves out. The dash is doubled, as it is in the plays.
ASCII_FORMS = str.maketrans("‘’‛′´‹›‚‐‒–−⁄×ØøŁłĐđÐðı", "''''''',----/xOoLlDdDdi")
ASCII_FORMS |= str.maketrans("“”„‟«»", '"' * 6)
ASCII_FORMS |= str.maketrans({"—": "--", "―": "--", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "ß": "ss"})
ASCII_FORMS |= str.maketrans({"Þ": "Th", "þ": "th", "\ufeff": "", "\u200b": "", "\u00ad": ""})


_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: "\N{SYMBOL FOR DELETE}"}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}")

#: Characters of a longer validation part that a training loop scores.
HELD_OUT = 100_000


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text, split by position: the first 90% train, the next 5% validation, the last 5% test.

    codes: (N,), of the smallest type that holds the vocabulary's if the text came from a file; the parts are int64
    (n,), as are all batches. `last_tenth` is validation and test together, the part that published numbers use.
    Iterating over a corpus yields the source's mini batches, `windows()` with its defaults. A text may be so short that
    its validation part is empty: it can still be trained on, as long as one window fits into the train part. Of a long
    validation part a training loop gets 100,000 characters: 16 stretches of it, evenly spread.
    """

    name: str
    codes: Tensor
    vocabulary: str = ASCII
    carries_state: ClassVar[bool] = False
    batch_first: ClassVar[bool] = False

    @property
    def train(self) -> Tensor:
        return self._part(0, 18).long()

    @property
    def validation(self) -> Tensor:
        return self._part(18, 19).long()

    @property
    def test(self) -> Tensor:
        return self._part(19, 20).long()

    @property
    def last_tenth(self) -> Tensor:
        return self._part(18, 20).long()

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.windows())

    def windows(self, batch_size: int = 64, length: int = 300, characters: int = 1, seed: int = 0) -> RandomWindows:
        """Random windows of the train part; see `RandomWindows` for shapes and errors."""
        return RandomWindows(self._part(0, 18), batch_size, length, characters, self._held_out(characters), seed)

    def streams(self, batch_size: int = 64, length: int = 300, characters: int = 1) -> ContiguousStreams:
        """Contiguous streams over the train part; see `ContiguousStreams` for shapes and errors."""
        return ContiguousStreams(self._part(0, 18), batch_size, length, characters, self._held_out(characters))

    def _part(self, start: int, end: int) -> Tensor:
        """The codes between two of the text's twentieths, as they are stored."""
        return self.codes[len(self.codes) * start // 20 : len(self.codes) * end // 20]

    def _held_out(self, characters: int) -> Tensor | None:
        codes = self._part(18, 19)
        if len(codes) > HELD_OUT:
            codes = codes[: len(codes) // 16 * 16].view(16, -1)[:, : HELD_OUT // 16].flatten()
        return codes.long() if len(codes) >= characters else None


def vocabulary_of(text: str) -> str:
    """NUL and the characters that a text has, sorted: code 0 is one that no text holds, which word dropout needs.

    Raises ValueError for a text that does hold NUL.
    """
    if "\0" in text:
        raise ValueError("the text holds NUL, which stands for characters that are hidden from a model")
    return "\0" + "".join(sorted(set(text)))


def encode(text: str, vocabulary: str = ASCII, *, to_ascii: bool = False) -> Tensor:
    """The codes of a text, int64 of shape (N,).

    `to_ascii=True` first spells in ASCII whatever can be: accents are dropped, quotes and dashes straightened,
    ligatures taken apart. Raises ValueError for an empty text, a vocabulary that has a character twice, and characters
    of the text that are not in the vocabulary, with how often each is there.
    """
    try:
        return _codes(_respelt(text) if to_ascii else text, vocabulary).long()
    except _Foreign as error:
        raise ValueError(str(error)) from None


def decode(codes: Tensor, vocabulary: str = ASCII) -> str:
    """The text of the codes (N,); the inverse of `encode`. Raises ValueError for other shapes and other codes."""
    if codes.dim() != 1:
        raise ValueError(f"codes must have shape (N,), not {tuple(codes.shape)}")
    numbers = codes.tolist()
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(vocabulary):
        raise ValueError(f"codes of this vocabulary lie between 0 and {len(vocabulary) - 1}")
    return "".join(map(vocabulary.__getitem__, numbers))


def respell(text: str, vocabulary: str = ASCII) -> str:
    """The text in a vocabulary's characters: each other one in its ASCII form, or left out if it has none there."""

    def form(character):
        return character if character in vocabulary else "".join(c for c in _ascii_form(character) if c in vocabulary)

    return "".join(map(form, text))


def visible(text: str) -> str:
    """The text for a terminal or a page: of control codes only newline and tab are left, the others are pictures of
    themselves, one character each. A model may write any code, and a terminal obeys many.
    """
    return text.translate(_PICTURES)


class _Foreign(ValueError):
    """A text has characters that are not in the vocabulary."""

    def __init__(self, text: str, vocabulary: str):
        counts = Counter(text)
        #: Each with how often it is there, the most frequent ones first.
        self.characters = {c: n for c, n in counts.most_common() if c not in vocabulary}
        named = [f"{c!r} ({n:,})" for c, n in self.characters.items()]
        if len(named) > 100:
            named[100:] = [f"and {len(named) - 100:,} others"]
        where = "ASCII" if vocabulary == ASCII else "in the vocabulary"
        total = sum(self.characters.values())
        super().__init__(f"{total:,} of {len(text):,} characters are not {where}: {', '.join(named)}")


def _codes(text: str, vocabulary: str) -> Tensor:
    """As `encode` has them, in the smallest of uint8 and int32."""
    if not text:
        raise ValueError("the text is empty")
    code_of = {ord(c): code for code, c in enumerate(vocabulary)}
    if len(code_of) < len(vocabulary):
        raise ValueError("a vocabulary has each of its characters once")
    if not set(text) <= set(vocabulary):
        raise _Foreign(text, vocabulary)
    # Each character becomes the one whose code point is its code.
    text = text.translate(code_of)
    if len(vocabulary) <= 256:
        return torch.frombuffer(bytearray(text.encode("latin-1")), dtype=torch.uint8)
    return torch.frombuffer(bytearray(text.encode("utf-32-le", "surrogatepass")), dtype=torch.int32)


def _respelt(text: str) -> str:
    return text if text.isascii() else text.translate({ord(c): _ascii_form(c) for c in set(text)})


def _ascii_form(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character.translate(ASCII_FORMS)).translate(ASCII_FORMS)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return plain if plain.isascii() else character


def corpus_from_text(text: str, name: str = "text", *, to_ascii: bool = False, vocabulary: str = "ascii") -> Corpus:
    """A text as a corpus.

    Args:
        name: what the corpus is to be called.
        to_ascii: as in `encode`; where something has no ASCII form, it stays.
        vocabulary: "ascii"; "own" for `vocabulary_of` this text; or the characters themselves, as a model has them.

    Raises ValueError as `encode` and `vocabulary_of` do.
    """
    if to_ascii:
        text = _respelt(text)
    if vocabulary == "own":
        characters = vocabulary_of(text)
    else:
        characters = ASCII if vocabulary == "ascii" else vocabulary
    try:
        return Corpus(name, _codes(text, characters), characters)
    except _Foreign as error:
        ways = []
        if all(set(_ascii_form(c)) <= set(characters) for c in error.characters):
            ways.append("to_ascii=True respells them")
        if vocabulary == "ascii":
            ways.append('vocabulary="own" takes them as they are')
        raise ValueError(f"{error}{'; ' if ways else ''}{', or '.join(ways)}") from None


def corpus_from_file(
    path: Path | str | Iterable[Path | str],
    *,
    to_ascii: bool = False,
    vocabulary: str = "ascii",
    encoding: str = "utf-8",
) -> Corpus:
    """Text files of one's own as a corpus. Each kind of line end becomes a newline; a byte order mark is dropped.

    Args:
        path: a file; a folder, which stands for the `.txt` files in it, sorted by name; or several of these. Several
            files are joined by a newline into one text.
        to_ascii, vocabulary: as in `corpus_from_text`.
        encoding: of the files, by its Python name.

    Raises FileNotFoundError, and ValueError if a file is not text in that encoding, or the text is empty or has
    characters that are not in the vocabulary.
    """
    paths = [Path(path)] if isinstance(path, (str, os.PathLike)) else list(map(Path, path))
    files = [file for each in paths for file in _files(each)]
    if not files:
        raise ValueError("give the path of a text file, or of a folder that holds some")
    if len(files) > 1:
        print(f"reading {len(files)} files as one text, from {files[0]} to {files[-1]}", file=sys.stderr)
    text = "\n".join(_read(file, encoding) for file in files)
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    try:
        return corpus_from_text(text, paths[0].resolve().stem + more, to_ascii=to_ascii, vocabulary=vocabulary)
    except ValueError as error:
        raise ValueError(f"{paths[0]}{more} cannot be used as a text: {error}") from None


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.glob("*.txt") if not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"there is no .txt file in the folder {path}")
    return files


def _read(path: Path, encoding: str) -> str:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    other = 'if its encoding is another, name it, as in encoding="cp1252" or encoding="utf-16"'
    try:
        text = path.read_bytes().decode(encoding)
    except LookupError:
        raise ValueError(f"there is no encoding {encoding!r}; utf-8, utf-16, latin-1 and cp1252 are some") from None
    except UnicodeError as error:
        raise ValueError(f"{path} cannot be used as a text: {error}; {other}") from None
    if "\0" in text:
        raise ValueError(f"{path} cannot be used as a text: it contains NUL; {other}")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
