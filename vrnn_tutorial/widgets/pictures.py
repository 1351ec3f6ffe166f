"""Pictures that follow controls, or a loop."""

import io
import threading
import time
from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from .canvas import Pad
from .controls import Controlled, shown

NATURAL = {"max_width": "100%", "margin": "0", "align_self": "flex-start"}  # no scroll bar; not stretched by a box


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def pad(figure: Figure, value: tuple[float, float], label: str) -> Pad:
    """A figure as a control: its value is the point of its first axes, which are linear, at which a reader points."""
    picture, ax = png(figure), figure.axes[0]  # drawing it lays it out
    left, bottom, width, height = ax.get_position().bounds
    return Pad(picture, (left, 1 - bottom - height, width, height), (*ax.get_xlim(), *ax.get_ylim()), value, label)


class Picture(Controlled):
    """A picture that follows its controls.

    draw(**values of the controls) gives a matplotlib Figure, made by matplotlib.figure.Figure: pyplot would keep each.
    The first picture is drawn here, and an error in it is raised; an error after a move stands below the controls, and
    the last picture stays, until a move goes well.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget):
        self.draw, self._lock = draw, threading.Lock()
        self.image, self.error = ipywidgets.Image(layout=NATURAL), ipywidgets.HTML()
        super().__init__(controls, self.error, self.image)
        self.image.value = png(self.draw(**self.values()))

    def _moved(self, _):
        # Drawn in the thread that brings the move, since matplotlib does not bear two; meanwhile the browser holds back
        # all moves but the latest. The values are read under the lock: whoever draws last draws the last ones.
        with self._lock:
            try:
                self.image.value, self.error.value = png(self.draw(**self.values())), ""
            except Exception as error:
                self.error.value = shown(error)


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
