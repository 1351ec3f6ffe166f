"""Controls, and the frame in which they stand above what they show."""

import html

import ipywidgets

from .canvas import Surface

ERROR = '<span class="error" style="color:var(--jp-error-color1,#b00)">{}</span>'
WRAPPED = {"flex_flow": "row wrap"}
BESIDE = {"flex": "1 1 0", "min_width": "20em"}  # of a surface: what room it leaves, or the next row
LABEL = {"style": {"description_width": "initial"}, "layout": {"width": "27em"}}


def slider(low: float, high: float, value: float, step: float, label: str) -> ipywidgets.ValueWidget:
    """A slider, which is read while it moves.

    Args:
        low, high: its ends.
        value, step: where it stands, and how far it goes at once; of whole numbers if both are such.
        label: what stands before it.
    """
    whole = isinstance(value, int) and isinstance(step, int)
    digits = 0 if whole else len(f"{step:.6f}".rstrip("0").partition(".")[2])
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    form = "d" if whole else f".{digits}f"
    return kind(value, min=low, max=high, step=step, description=label, readout_format=form, **LABEL)


def choice(options: list | dict, value, label: str) -> ipywidgets.Dropdown:
    """A list to choose one of; of a dict the keys are shown, and `value` and the choice are its values."""
    return ipywidgets.Dropdown(options=options, value=value, description=label, **LABEL)


def text_box(value: str, label: str) -> ipywidgets.Text:
    """A line of text, read with every key."""
    return ipywidgets.Text(value, description=label, **LABEL)


class Controlled(ipywidgets.VBox):
    """Controls, and below them what they show; a surface stands beside it."""

    def __init__(self, controls: dict[str, ipywidgets.ValueWidget], *below: ipywidgets.Widget):
        self.controls = controls  # set their .value: it is as if a reader had moved them
        surfaces = [control for control in controls.values() if isinstance(control, Surface)]
        others = [control for control in controls.values() if not isinstance(control, Surface)]
        if surfaces:
            below = (ipywidgets.HBox([*surfaces, ipywidgets.VBox(below, layout=BESIDE)], layout=WRAPPED),)
        super().__init__([ipywidgets.HBox(others, layout=WRAPPED), *below])
        for control in controls.values():
            control.observe(self._moved, names="value")

    def _moved(self, _):
        """A control has a new value: show what comes of it."""

    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def __repr__(self):
        return "Run this cell to get the sliders; a stored notebook shows a picture of them."


def shown(error: Exception) -> str:
    return ERROR.format(html.escape(f"{type(error).__name__}: {error}"))
