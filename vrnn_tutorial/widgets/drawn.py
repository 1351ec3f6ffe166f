"""Drawings side by side as a page, whose strokes may come in one after the other (chapter 7)."""

import html
from collections.abc import Sequence

import numpy as np

from ..drawing import SIDE, Line, write_grid, write_path, write_svg
from ..plots import INK, ORANGE

#: How fast a pen goes, in units of the grid a second, and how long it is in the air between two strokes, in seconds.
SPEED, PAUSE = 250.0, 0.12


def drawn(
    drawings: Sequence[Sequence[np.ndarray]],
    columns: int,
    *,
    given: int = 0,
    pace: float = 0.0,
    credit: str,
    note: str = "",
    scale: float = 0.7,
) -> str:
    """Drawings in rows of so many, given strokes dark, invented ones orange, as HTML: an SVG, and below it the credit.

    Args:
        drawings: each a list of strokes (n, 2) in units of the grid.
        columns: how many to a row.
        given: how many strokes of each were there; at least one more follows, which is invented.
        pace: 0 shows all at once; at 1 the invented strokes of all drawings come in at the pace of a pen, at 2 twice as
            fast.
        credit: whose drawings these are made of.
        note: what is said of them, between drawings and credit.
        scale: pixels of the screen for each unit.

    Raises:
        ValueError: for less than one column, a drawing without a stroke that is invented, and as `drawing.to_grid`.
    """
    rows = -(-len(drawings) // columns)
    lines = [Line(write_grid([strokes[:given] for strokes in drawings], columns), INK)] if given else []
    if pace:
        for i, strokes in enumerate(drawings):
            place, begin = np.array([i % columns, i // columns]) * SIDE, 0.0
            for stroke in strokes[given:]:
                seconds = max(np.hypot(*np.diff(stroke, axis=0).T).sum(), 1.0) / SPEED / pace
                lines.append(Line(write_path([stroke + place]), ORANGE, begin, seconds))
                begin += seconds + PAUSE / pace
    else:
        lines.append(Line(write_grid([strokes[given:] for strokes in drawings], columns), ORANGE))
    svg = write_svg(lines, columns * SIDE, rows * SIDE, credit, scale)
    said = f"<div>{html.escape(note)}</div>" if note else ""
    return f'{svg}{said}<div style="font-size:8px;line-height:1.3">{html.escape(credit)}</div>'
