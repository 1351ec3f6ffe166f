"""What each chapter consists of, in a file that a person can read: tests/outlines/01_vae.txt and so on.

    python tests/outlines.py        writes them anew (make records); the difference is what changed in the chapters

A line for each heading, paragraph, table, formula, exercise, code cell and what it shows, in their order. A paragraph
is told by its first and last words and the number of its sentences: enough to see it vanish or lose its end, little
enough to let a word be mended.
"""

import re
from pathlib import Path

from chapters import CHAPTERS, sections

FOLDER = Path(__file__).parent / "outlines"


def outline(chapter):
    """The lines of a chapter's outline."""
    lines = []
    for section in chapter:
        lines += ["", section.heading]
        for part in section.parts:
            lines.append(told(part) if isinstance(part, str) else coded(part))
    return "\n".join(lines).strip() + "\n"


def told(paragraph):
    """A line on a paragraph, and one on each displayed formula in it."""
    if paragraph.startswith("|"):
        rows = [" | ".join(cell.strip() for cell in row.strip("| ").split("|")) for row in paragraph.splitlines()]
        return line("table", rows[0], len(rows) - 2)
    words = " ".join(paragraph.split())
    kinds = {"**Exercise ": "exercise", "**Predict.": "predict"}
    kind = next((kinds[mark] for mark in kinds if words.startswith(mark)), "text")
    lines = []
    for piece in re.split(r"(\$\$.*?\$\$)", words):
        if piece.startswith("$$"):
            lines.append(line("formula", piece))
        elif piece.strip():
            said = piece.split()
            ends = said if len(said) <= 11 else [*said[:7], "…", *said[-4:]]
            lines.append(line(kind, " ".join(ends), len(re.findall(r"[.?!:](?=[\s)*\"]|$)", piece))))
    return "\n".join(lines)


def coded(cell):
    """A line on a code cell: its id, the functions that it defines, and the kinds of what it shows."""
    names = [f"{name}()" for name in re.findall(r"(?m)^(?:def|class) (\w+)", cell.source)]
    shows = []
    for output in cell.outputs:
        data = output.get("data", {})
        kind = "text" if output.output_type == "stream" else "picture" if "image/png" in data else "result"
        shows.append("bar" if "%|" in data.get("text/plain", "") else kind)
    counted = ", ".join(f"{shows.count(kind)} {kind}" for kind in dict.fromkeys(shows))
    return line("code", " ".join([cell.id, *names, *["->", counted] * bool(shows)]))


def line(kind, text, count=""):
    """The kind of a part, its sentences or rows, and what it is known by."""
    return f"  {kind:8} {count:3} {text}"


def write():
    for path in CHAPTERS:
        (FOLDER / f"{path.stem}.txt").write_text(outline(sections(path)), encoding="utf-8")


if __name__ == "__main__":
    write()
