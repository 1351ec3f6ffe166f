"""Surfaces to draw on and to point at with a mouse, a pen or a finger; what they do in the browser, canvas.js says."""

from pathlib import Path

import anywidget
import traitlets
from ipywidgets import ValueWidget


class Surface(anywidget.AnyWidget, ValueWidget):
    """A control that is a picture, `picture` (PNG), on which a reader draws or points: its `value` says what or where.

    box: the part that answers, in shares of the picture's width and height: left, top, width, height.
    """

    _esm = Path(__file__).with_suffix(".js")
    description = traitlets.Unicode().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    box = traitlets.Tuple((0.0, 0.0, 1.0, 1.0)).tag(sync=True)

    def __repr__(self):
        return "Run this cell to get the surface; a stored notebook shows a picture of it."


class Canvas(Surface):
    """A square sheet to draw on.

    value: the strokes, each a list of points [x, y] in the unit square, x to the right and y downwards.
    """

    value = traitlets.List().tag(sync=True)
    size = traitlets.Int().tag(sync=True)

    def __init__(self, label: str, size: int = 200):
        """size: of a side, in pixels of the page."""
        super().__init__(description=label, size=size)

    def clear(self) -> None:
        self.value = []


class Pad(Surface):
    """A picture to point at, also with the arrow keys.

    Args:
        picture: as PNG.
        box: the part that answers, as in every Surface.
        limits: x at the box's left and right edges, y at its bottom and top; `pictures.pad` takes both from a figure.
        value: the point (x, y) of that plane.
        label: what stands beside it.
    """

    value = traitlets.Tuple(traitlets.Float(), traitlets.Float()).tag(sync=True)
    limits = traitlets.Tuple().tag(sync=True)

    def __init__(self, picture: bytes, box: tuple, limits: tuple, value: tuple[float, float], label: str):
        super().__init__(description=label, picture=picture, box=box, limits=limits, value=value)
