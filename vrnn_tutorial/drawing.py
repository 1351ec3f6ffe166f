"""Drawings: as strokes, as the steps that a pen takes, and as SVG.

A stroke is an array (n, 2) of points x, y in units of a grid, x to the right and y downwards, joined by straight lines;
a drawing is a list of strokes. As steps it is a float32 tensor (T, 5) with a row for each point: the offset in x and in
y from the point before (from 0, 0 for the first), then one-hot what the pen does behind it: it goes on, the stroke
ends, the drawing ends.
"""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

#: Units of KanjiVG's grid, to the right and downwards.
SIDE = 109
#: Points of each stroke at which two drawings are compared.
SAMPLES = 8
#: How far `to_grid` may leave the line that was drawn before it rounds, in units of the grid.
TOLERANCE = 1.0
#: Straight pieces for each curve: no curve of KanjiVG, whose grid has 109 units, leaves them by more than 0.3.
PIECES = 16
#: How a line is drawn in its time: of a length of 1, that of the dash which comes in grows from 0.
_PEN = (
    "<style>@media (prefers-reduced-motion: no-preference) { .timed { animation: pen linear both } } "
    "@keyframes pen { from { stroke-dashoffset: 1; visibility: hidden } to { stroke-dashoffset: 0 } }</style>"
)
_TIMED = ' class="timed" pathLength="1" stroke-dasharray="1" style="animation-delay:{:.2f}s;animation-duration:{:.2f}s"'
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_T = np.arange(1, PIECES + 1)[:, None] / PIECES
_BERNSTEIN = ((1 - _T) ** 3, 3 * _T * (1 - _T) ** 2, 3 * _T**2 * (1 - _T), _T**3)


def to_grid(strokes: Sequence[ArrayLike]) -> list[np.ndarray]:
    """What was drawn, in units of the grid, with few points and whole numbers, as the drawings of `corpora/kanji.py`.

    Each stroke is simplified at a tolerance of 1, and rounded; of neighbours that then coincide one is left. Raises
    ValueError if there is no stroke, or if one is not an array (n, 2) of finite numbers with n at least 1.
    """
    rounded = [np.rint(simplify(stroke, TOLERANCE)) for stroke in _checked(strokes)]
    return [points[np.append(True, (points[1:] != points[:-1]).any(1))] for points in rounded]


def to_steps(strokes: Sequence[ArrayLike]) -> Tensor:
    """The steps (T, 5) of a pen along the strokes, T points in all. Raises ValueError as `to_grid` does."""
    strokes = _checked(strokes)
    points = np.concatenate(strokes)
    pen = np.zeros(len(points), dtype=int)
    pen[np.cumsum([len(stroke) for stroke in strokes]) - 1] = 1
    pen[-1] = 2
    offsets = np.diff(points, axis=0, prepend=np.zeros((1, 2)))
    return torch.from_numpy(np.concatenate([offsets, np.eye(3)[pen]], axis=1)).float()


def to_strokes(steps: Tensor) -> list[np.ndarray]:
    """The strokes along which a pen takes the steps (T, 5); the inverse of `to_steps`.

    What stands behind the drawing's end is ignored; a drawing without an end ends with its last step. Raises ValueError
    for another shape, and for T = 0.
    """
    if steps.dim() != 2 or steps.shape[1] != 5 or not len(steps):
        raise ValueError(f"steps must have shape (T, 5) with at least one step, not {tuple(steps.shape)}")
    steps = steps.detach().cpu().double()
    pen = steps[:, 2:].argmax(1).numpy()
    last = np.flatnonzero(np.append(pen == 2, True))[0]
    points = steps[:, :2].cumsum(0).numpy()[: last + 1]
    return np.split(points, np.flatnonzero(pen[: len(points) - 1]) + 1)


def simplify(stroke: ArrayLike, tolerance: float) -> np.ndarray:
    """Those points of a stroke (n, 2) that Ramer, Douglas and Peucker keep: (m, 2), the two ends among them.

    Between two kept points the one farthest from the line that joins them is kept too, if it is farther away than
    `tolerance`; and so on in both halves. The distance is that to the nearest point between the line's ends, so that a
    stroke may turn back or close. Raises ValueError as `to_grid` does.
    """
    (points,) = _checked([stroke])
    kept = np.zeros(len(points), dtype=bool)
    kept[[0, -1]] = True
    spans = [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        (x, y), (across, down) = (points[first + 1 : last] - points[first]).T, points[last] - points[first]
        # All times the line's squared length, so that whole numbers stay whole; a line of no length is its first end.
        length = (across * across + down * down) or 1.0
        along = np.clip(x * across + y * down, 0, length)
        square = (x * length - along * across) ** 2 + (y * length - along * down) ** 2
        farthest = int(square.argmax())
        if square[farthest] > (tolerance * length) ** 2:
            middle = first + 1 + farthest
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return points[kept]


def write_path(strokes: Sequence[ArrayLike]) -> str:
    """The strokes as one SVG path of straight lines, with two decimals: the attribute `d` of a `<path>`.

    A stroke of a single point becomes a line of no length, which round ends make a dot. Raises ValueError as `to_grid`
    does.
    """
    return "".join(
        "M" + " ".join(map(_pair, points if len(points) > 1 else points.repeat(2, 0))) for points in _checked(strokes)
    )


def _pair(point: np.ndarray) -> str:
    return ",".join(np.format_float_positional(number, precision=2, trim="-") for number in point)


def read_path(path: str) -> list[np.ndarray]:
    """The strokes of an SVG path that has no commands but M m (and the straight lines of further points), C c S s.

    Each curve becomes 16 straight pieces between points on it. Raises ValueError for another command, and for
    numbers that are none or do not suffice.
    """
    before, *parts = re.split(r"([A-Za-z])", path)
    if before.strip() or not parts or parts[0] not in "Mm":
        raise ValueError(f"a path begins with M or m, not with {path[:20]!r}")
    strokes, here, handle = [], np.zeros(2), np.zeros(2)
    for command, arguments in zip(parts[::2], parts[1::2]):
        size = {"M": 2, "C": 6, "S": 4}.get(command.upper())
        if size is None:
            raise ValueError(f"the path command {command!r} is none of M m C c S s")
        numbers = [float(number) for number in _NUMBER.findall(arguments)]
        if not numbers or len(numbers) % size or _NUMBER.sub("", arguments).strip(" ,\t\r\n"):
            raise ValueError(f"the path command {command!r} takes {size} numbers at a time, not {arguments.strip()!r}")
        if size == 2:
            strokes.append([])
        for points in np.array(numbers).reshape(-1, size // 2, 2):
            points = points + here if command.islower() else points
            if size == 2:
                strokes[-1].append(points)
                handle = points[-1]
            else:
                # S and s leave out the first handle, which is the last one mirrored in the point between the curves.
                handles = [2 * here - handle, *points] if size == 4 else points
                strokes[-1].append(sum(w * p for w, p in zip(_BERNSTEIN, [here, *handles])))
                handle = points[-2]
            here = points[-1]
    return [np.concatenate(pieces) for pieces in strokes]


def read_svg(svg: bytes) -> list[np.ndarray]:
    """The strokes of an SVG file's paths, in their order. Raises ValueError if it is not whole, or as `read_path`."""
    try:
        paths = list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"))
    except ElementTree.ParseError as error:
        raise ValueError(f"the SVG is not whole: {error}") from None
    return [stroke for path in paths for stroke in read_path(path.get("d", ""))]


def write_grid(drawings: Iterable[Sequence[ArrayLike]], columns: int, cell: float = SIDE) -> str:
    """Many drawings as one SVG path, in rows of so many, each in a square whose side is `cell`.

    A drawing that leaves its square runs into its neighbours. Raises ValueError for less than one column, and as
    `to_grid` does.
    """
    if columns < 1:
        raise ValueError(f"a grid has at least one column, not {columns}")
    places = (np.array([i % columns, i // columns]) * cell for i in itertools.count())
    return "".join(write_path([stroke + place for stroke in _checked(d)]) for d, place in zip(drawings, places))


class Line(NamedTuple):
    """A path of an SVG, as `write_path` and `write_grid` give it, with the name of its colour; and when it is drawn."""

    path: str
    colour: str
    begin: float = 0.0  # seconds from the moment when the SVG is shown
    seconds: float = 0.0  # of drawing it; 0: it is there from the beginning


def write_svg(lines: Iterable[Line], width: float, height: float, credit: str, scale: float = 1.0) -> str:
    """An SVG of lines, and with the credit of what it shows, which is not drawn.

    Who has asked the system for less motion sees all lines at once.

    Args:
        lines: in the order in which they are drawn over one another.
        width, height: in units of the grid.
        credit: whose drawings these are; `corpora.kanji.CREDIT`, if they come from there.
        scale: pixels of the screen for each unit.
    """
    lines = list(lines)
    paths = "".join(
        f'<path d="{line.path}" stroke="{escape(line.colour)}"'
        f"{_TIMED.format(line.begin, line.seconds) if line.seconds else ''}/>"
        for line in lines
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale:g}" height="{height * scale:g}" '
        f'viewBox="0 0 {width:g} {height:g}" style="max-width:100%;height:auto"><desc>{escape(credit)}</desc>'
        f"{_PEN if any(line.seconds for line in lines) else ''}"
        f'<g fill="none" stroke-width="3" stroke-linecap="round" stroke-linejoin="round">{paths}</g></svg>'
    )


def is_inside(strokes: Sequence[ArrayLike], side: float = SIDE) -> bool:
    """Whether a drawing lies wholly in the square from 0 to `side`. Raises ValueError as `to_grid` does."""
    points = np.concatenate(_checked(strokes))
    return bool((points >= 0).all() and (points <= side).all())


def spread(strokes: Sequence[ArrayLike], count: int) -> np.ndarray:
    """Points (S, count, 2) at equal distances along each of S strokes, its ends among them; count is at least 2.

    Raises ValueError as `to_grid` does.
    """
    strokes = _checked(strokes)
    points = np.concatenate(strokes)
    ends = np.cumsum([len(stroke) for stroke in strokes])
    lengths = np.sqrt((np.diff(points, axis=0) ** 2).sum(1))
    lengths[ends[:-1] - 1] = 1.0  # so that where one stroke ends and the next one begins are two places
    along = np.append(0, lengths.cumsum())
    first, last = along[np.append(0, ends[:-1])], along[ends - 1]
    places = np.linspace(first, last, count, axis=1)
    return np.stack([np.interp(places, along, points[:, axis]) for axis in range(2)], axis=-1)


class Match(NamedTuple):
    """A drawing of a gallery, and how far another one is from it."""

    index: int  # -1 if the gallery has none of as many strokes
    distance: float  # root mean square, in units of the grid; infinite if there is none


class Gallery:
    """Drawings among which the one nearest to another is looked for.

    The distance is between the points of both, 8 evenly spread along each stroke, in the order in which they were
    drawn: two drawings of unlike numbers of strokes have none. Raises ValueError as `to_grid` does.
    """

    def __init__(self, drawings: Iterable[Sequence[ArrayLike]]):
        drawings = list(drawings)
        counts = np.array([len(strokes) for strokes in drawings])
        points = spread([stroke for strokes in drawings for stroke in strokes], SAMPLES)
        each = np.split(points, counts.cumsum()[:-1])
        self._of_count = {
            count: (members, np.stack([each[i] for i in members]))
            for count in set(counts.tolist())
            for members in [np.flatnonzero(counts == count)]
        }

    def nearest(self, strokes: Sequence[ArrayLike]) -> Match:
        """The drawing nearest to these strokes. Raises ValueError as `to_grid` does."""
        points = spread(strokes, SAMPLES)
        if len(points) not in self._of_count:
            return Match(-1, math.inf)
        indices, members = self._of_count[len(points)]
        squares = ((members - points) ** 2).sum(-1).mean((1, 2))
        return Match(int(indices[squares.argmin()]), math.sqrt(squares.min()))


def _checked(strokes: Sequence[ArrayLike]) -> list[np.ndarray]:
    arrays = [np.asarray(stroke, dtype=float) for stroke in strokes]
    if not arrays:
        raise ValueError("there is no stroke: a drawing has at least one")
    for points in arrays:
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise ValueError(f"a stroke must have shape (n, 2) with at least one point, not {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError("the points of a stroke must be finite numbers")
    return arrays
