"""Pictures that follow controls, or a loop; pages that follow controls."""

import io
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import ipywidgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from .canvas import Pad
from .controls import Controlled, shown

NATURAL = {"max_width": "100%", "margin": "0", "align_self": "flex-start"}  # no scroll bar; not stretched by a box


_grounds: WeakKeyDictionary[Figure, Any] = WeakKeyDictionary()  # of each figure what stays, until it changes


def png(figure: Figure) -> bytes:
    """The figure as PNG. Of one that is drawn again and again, only what is `animated` is drawn each time."""
    moving = sorted(figure.findobj(Artist.get_animated), key=Artist.get_zorder)  # may make ticks, which is a change
    canvas, ground = figure.canvas, _grounds.get(figure)
    if not isinstance(canvas, FigureCanvasAgg):
        canvas = FigureCanvasAgg(figure)
    if ground is None:
        canvas.draw()
        _grounds[figure] = canvas.copy_from_bbox(figure.bbox)
        figure.stale_callback = _forget
    else:
        canvas.restore_region(ground)
    for artist in moving:
        artist.draw(canvas.get_renderer())
    buffer = io.BytesIO()
    imsave(buffer, np.asarray(canvas.buffer_rgba()), pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def _forget(figure: Any, _) -> None:
    _grounds.pop(figure, None)


def pad(figure: Figure, value: tuple[float, float], label: str) -> Pad:
    """A figure as a control: its value is the point of its first axes, which are linear, at which a reader points."""
    picture, ax = png(figure), figure.axes[0]
    return Pad(picture, box_of(figure), (*ax.get_xlim(), *ax.get_ylim()), value, label)


def box_of(figure: Figure) -> tuple[float, float, float, float]:
    """Where the first axes lie in a picture of the figure, as a Surface's `box`, which has laid it out."""
    left, bottom, width, height = figure.axes[0].get_position().bounds
    return left, 1 - bottom - height, width, height


class Following(Controlled):
    """What follows its controls: each move calls `follow` with their values.

    An error in it stands by the text box, or else below the controls, and what was shown stays, until a move goes well.
    """

    def __init__(self, screen: Any, **controls: ipywidgets.ValueWidget):
        self.screen, self._lock, self.error = screen, threading.Lock(), ipywidgets.HTML()
        super().__init__(controls, screen, error=self.error)
        self._drawn = self.values()

    def follow(self, **values) -> None:
        """Shows what belongs to these values."""
        raise NotImplementedError

    def _moved(self, _):
        # Drawn in the thread that brings the move, since matplotlib does not bear two; meanwhile the browser holds back
        # all moves but the latest. The values are read under the lock: whoever draws last draws the last ones; and two
        # controls that move together are drawn once.
        with self._lock:
            if self._drawn == (values := self.values()):
                return
            self._drawn = values
            try:
                self.follow(**values)
                self.error.value = ""
            except Exception as error:
                self.error.value = shown(error)


class Picture(Following):
    """A picture that follows its controls.

    draw(**values of the controls) gives a matplotlib Figure, made by matplotlib.figure.Figure: pyplot would keep each.
    The first picture is drawn here, and an error in it is raised.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget):
        self.draw = draw
        super().__init__(ipywidgets.Image(layout=NATURAL), **controls)
        self.follow(**self.values())

    def follow(self, **values) -> None:
        self.screen.value = png(self.draw(**values))


class Page(Following):
    """HTML that follows its controls: draw(**values of the controls) gives it, the first time here."""

    def __init__(self, draw: Callable[..., str], **controls: ipywidgets.ValueWidget):
        self.draw = draw
        super().__init__(ipywidgets.HTML(layout={"max_width": "100%"}), **controls)
        self.follow(**self.values())

    def follow(self, **values) -> None:
        self.screen.value = self.draw(**values)


class Chart(ipywidgets.Image):
    """A picture that a loop redraws while it runs: chart.update(...) shows draw(...), at most twice a second.

    Display it before the loop. draw is as for `Picture`; an error in it is raised where `update` was called.
    """

    def __init__(self, draw: Callable[..., Figure]):
        self.draw, self._due = draw, 0.0
        super().__init__(layout=NATURAL)

    def update(self, *data) -> None:
        if time.monotonic() >= self._due:
            self.value = png(self.draw(*data))
            self._due = time.monotonic() + 0.5

    def __repr__(self):
        return "Run this cell to watch the picture grow; a stored notebook shows it grown."
