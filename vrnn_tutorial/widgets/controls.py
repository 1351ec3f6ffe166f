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


def place_in(box: ipywidgets.Text, value: int, label: str) -> ipywidgets.IntSlider:
    """A slider over the characters of a text box, counted from 1: its end is the text's, whatever is typed.

    Who stands at the end stays there while the text grows. Make it before the picture that follows both, which then
    sees a text and a place that fit.
    """
    place = ipywidgets.IntSlider(value, min=1, max=max(1, len(box.value)), description=label, **LABEL)

    def typed(change):
        if change["new"]:  # an empty box is an error, and says nothing of where its reader was
            at_end = place.value == place.max
            place.max = len(change["new"])  # which takes the handle along, if need be
            if at_end:
                place.value = place.max

    box.observe(typed, names="value")
    return place


class Controlled(ipywidgets.VBox):
    """Controls, and below them what they show; a surface stands beside it.

    `error` stands under the text box, which is where most errors come from, or else under all controls.
    """

    def __init__(
        self,
        controls: dict[str, ipywidgets.ValueWidget],
        *below: ipywidgets.Widget,
        error: ipywidgets.Widget | None = None,
    ):
        self.controls = controls  # set their .value: it is as if a reader had moved them
        surfaces = [control for control in controls.values() if isinstance(control, Surface)]
        others = [control for control in controls.values() if not isinstance(control, Surface)]
        if error:
            box = next((control for control in others if isinstance(control, ipywidgets.Text)), None)
            below = below if box else (error, *below)
            others = [ipywidgets.VBox([box, error]) if control is box else control for control in others]
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
    """A ValueError says in a sentence what a reader can mend; of any other the kind is told, too."""
    words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return ERROR.format(html.escape(words[:1].upper() + words[1:]))
