"""Every slider; none has logic of its own, but calls a plain, seeded function of its values (all chapters)."""

import html
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .char_rnn import CharRNN
from .checkpoint import load_checkpoint
from .generation import generate
from .vae import VAE
from .vrnn import VRNN

OWN = "own checkpoint"
DEBOUNCE = 0.15  # seconds for which a control must rest before a stream starts
FRAME = 1 / 20  # seconds from one frame of a stream to the next
ERROR = '<span class="error" style="color:var(--jp-error-color1,#b00)">{}</span>'
COLUMNS = "display:grid;grid-template-columns:repeat({},minmax(0,1fr));gap:1em;line-height:1.35"
# Turned upside down twice, so that the box stays scrolled to where the text goes on, although each frame replaces it.
PRE = (
    "height:15em;margin:0;padding:.4em;border:1px solid #8888;overflow-y:auto;white-space:pre-wrap;"
    "overflow-wrap:anywhere;word-break:normal;display:flex;flex-direction:column-reverse"
)
LABEL = {"style": {"description_width": "initial"}, "layout": {"width": "27em"}}
NATURAL = {"max_width": "100%", "margin": "0", "align_self": "flex-start"}  # no scroll bar; not stretched by a box
Stream = Callable[..., Iterator[str]]


def slider(low: float, high: float, value: float, step: float, label: str) -> ipywidgets.ValueWidget:
    """A slider from low to high, of whole numbers if value and step are such; it is read while it moves."""
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


class _Controlled(ipywidgets.VBox):
    """Controls, and below them what they show."""

    def __init__(self, controls: dict[str, ipywidgets.ValueWidget], *below: ipywidgets.Widget):
        self.controls = controls  # set their .value: it is as if a reader had moved them
        super().__init__([ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}), *below])
        for control in controls.values():
            control.observe(self._moved, names="value")

    def _moved(self, _):
        """A control has a new value: show what comes of it."""

    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def __repr__(self):
        return "Run this cell to get the sliders; a stored notebook shows a picture of them."


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _shown(error: Exception) -> str:
    return ERROR.format(html.escape(f"{type(error).__name__}: {error}"))


class Picture(_Controlled):
    """A picture that follows its controls.

    draw(**values of the controls) gives a matplotlib Figure, made by matplotlib.figure.Figure: pyplot would keep each.
    The first picture is drawn here, and an error in it is raised; an error after a move takes the picture's place.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget):
        self.draw, self._lock = draw, threading.Lock()
        self.image, self.error = ipywidgets.Image(layout=NATURAL), ipywidgets.HTML()
        super().__init__(controls, self.image, self.error)
        self.image.value = _png(self.draw(**self.values()))

    def _moved(self, _):
        # Drawn in the thread that brings the move, since matplotlib does not bear two; meanwhile the browser holds back
        # all moves but the latest. The values are read under the lock: whoever draws last draws the last ones.
        with self._lock:
            try:
                self.image.value, self.error.value = _png(self.draw(**self.values())), ""
                self.image.layout.visibility = "visible"
            except Exception as error:
                self.image.layout.visibility, self.error.value = "hidden", _shown(error)


class Chart(ipywidgets.Image):
    """A picture that a loop redraws while it runs: chart.update(...) shows draw(...), at most twice a second.

    Display it before the loop. draw is as for `Picture`; an error in it is raised where `update` was called.
    """

    def __init__(self, draw: Callable[..., Figure]):
        self.draw, self._due = draw, 0.0
        super().__init__(layout=NATURAL)

    def update(self, *data) -> None:
        if time.monotonic() >= self._due:
            self.value = _png(self.draw(*data))
            self._due = time.monotonic() + 0.5

    def __repr__(self):
        return "Run this cell to watch the picture grow; a stored notebook shows it grown."


class LiveText(_Controlled):
    """Text that streams while the kernel is free for other cells, and starts afresh at each move of a control.

    stream(**values of the controls) yields pieces of text; a dict of titles and such functions shows them side by side,
    a piece of each in turn. It starts with its button or a move, never by itself; whatever ran before is cancelled, and
    writes no more. An error appears under what its stream had given; the other streams go on.
    """

    def __init__(self, stream: Stream | Mapping[str, Stream], **controls: ipywidgets.ValueWidget):
        self.streams = dict(stream) if isinstance(stream, Mapping) else {"": stream}
        self._lock, self._run, self._worker = threading.Lock(), 0, None
        self._button = ipywidgets.Button()
        self._button.on_click(lambda _: self.stop() if self.running else self.start())
        self.html = ipywidgets.HTML(layout={"width": "auto"}).add_class("live-text")
        super().__init__(controls, self._button, self.html)
        self._show(0, dict.fromkeys(self.streams, ""), {}, "Press Start, or move a control.", running=False)

    @property
    def text(self) -> str | dict[str, str]:
        """What is shown, for each title if there are several."""
        return dict(self._texts) if len(self._texts) > 1 else next(iter(self._texts.values()))

    def start(self, delay: float = 0.0) -> None:
        """Streams afresh with the controls' values of this moment, after `delay` seconds; returns at once."""
        with self._lock:
            self._run += 1
            self._worker = threading.Thread(target=self._work, args=(self._run, self.values(), delay), daemon=True)
            self._set_running(True)
            self._worker.start()

    def stop(self) -> None:
        """Cancels what runs; the text so far stays."""
        with self._lock:
            self._run += 1
            run = self._run
        self._show(run, self._texts, self._errors, "stopped", running=False)

    def wait(self, timeout: float = 60.0) -> None:
        """Returns when nothing runs any more. Raises TimeoutError, or else what a stream has raised."""
        if self._worker:
            self._worker.join(timeout)
        if self.running:
            raise TimeoutError(f"The text still streams after {timeout} seconds.")
        for error in self._errors.values():
            raise error

    def _moved(self, _):
        self.start(DEBOUNCE)

    def _work(self, run, values, delay):
        time.sleep(delay)
        # In this thread alone: at a batch of one, further threads gain nothing, and cost a busy machine dearly.
        torch.set_num_threads(1)
        texts, errors = dict.fromkeys(self.streams, ""), {}
        begun = shown = time.monotonic()  # the first frame has more than a character or two to show
        with torch.inference_mode():
            pieces = {title: _begin(stream, values) for title, stream in self.streams.items()}
            while pieces and run == self._run:
                for title in list(pieces):
                    try:
                        texts[title] += next(pieces[title])
                    except StopIteration:
                        del pieces[title]
                    except Exception as error:  # a thread's traceback would reach the server's log only
                        errors[title] = error
                        del pieces[title]
                if time.monotonic() - shown >= FRAME:
                    self._show(run, texts, errors, "streaming")
                    shown = time.monotonic()
        done = f"{max(map(len, texts.values()))} characters in {time.monotonic() - begun:.1f} s"
        self._show(run, texts, errors, done, running=False)

    def _show(self, run, texts, errors, status, running=True):
        columns = "".join(
            f"<div><b>{html.escape(title)}</b>"
            f'<pre style="{PRE}"><span style="margin-bottom:auto">{html.escape(text)}</span></pre>'
            f"{_shown(errors[title]) if title in errors else ''}</div>"
            for title, text in texts.items()
        )
        with self._lock:  # a cancelled run can never overwrite its successor
            if run == self._run:
                self._texts, self._errors = dict(texts), dict(errors)
                self.html.value = f'<div style="{COLUMNS.format(len(texts))}">{columns}</div><small>{status}</small>'
                self._set_running(running)

    def _set_running(self, running):
        self.running = running
        self._button.description, self._button.icon = ("Stop", "stop") if running else ("Start", "play")


def _begin(stream, values) -> Iterator[str]:
    """The stream, called only when its first piece is asked for."""
    yield from stream(**values)


def text_of(
    checkpoint: Path | str | VRNN | CharRNN,
    prime: str,
    temperature: float,
    prior_temperature: float,
    seed: int,
    length: int = 600,
    own: str = "",
) -> Iterator[str]:
    """`generate` for a checkpoint's path or a model; for OWN in its place, the checkpoint whose path is `own`.

    Raises ValueError for OWN without a path and for a VAE, and whatever load_checkpoint and generate raise.
    """
    if checkpoint == OWN and not own.strip():
        raise ValueError("Write the path of your checkpoint into its box, then press Enter.")
    chosen = own.strip() if checkpoint == OWN else checkpoint
    model = load_checkpoint(chosen) if isinstance(chosen, Path | str) else chosen
    if isinstance(model, VAE):
        raise ValueError(f"{chosen} holds a VAE, which writes no text: choose a VRNN or a CharRNN.")
    return generate(model, prime, temperature, prior_temperature, length, seed)


def generation(
    checkpoints: dict[str, dict[str, Path | str | VRNN | CharRNN]],
    *,
    prime: str = "ROMEO:",
    temperature: float = 0.8,
    length: int = 600,
) -> LiveText:
    """The slider of chapter 5: texts side by side, one for each title; what streams is what `generate` gives.

    checkpoints: for each title what there is to choose from, label -> path or model, the first being chosen; as in
    {"VRNN": {"best": path}, "CharRNN": {"same width": path, "same count": path}}. A reader's own can be chosen as well.
    """

    def column(title):
        return lambda own, prime, temperature, prior_temperature, seed, **chosen: text_of(
            chosen[title], prime, temperature, prior_temperature, seed, length, own
        )

    own = text_box("", "path of " + OWN)
    own.continuous_update = False  # half a path is an error
    return LiveText(
        {title: column(title) for title in checkpoints},
        temperature=slider(0.0, 2.0, temperature, 0.05, "temperature"),
        prior_temperature=slider(0.0, 3.0, 1.0, 0.1, "prior's deviation ×"),
        prime=text_box(prime, "prime"),
        seed=slider(0, 20, 0, 1, "seed"),
        **{name: choice(each | {OWN: OWN}, next(iter(each.values())), name) for name, each in checkpoints.items()},
        own=own,
    )


def walk(model: VRNN, directions: Tensor, *, prime: str = "", temperature: float = 0.5, length: int = 400) -> LiveText:
    """The slider of chapter 6: each z moved along one of the directions (D, Z), by so many of the prior's deviations.

    What streams is what `generate` gives for shift = amount * directions[direction - 1].
    """

    def stream(direction, amount, seed):
        return generate(model, prime, temperature, length=length, seed=seed, shift=amount * directions[direction - 1])

    return LiveText(
        stream,
        direction=slider(1, len(directions), 1, 1, "direction"),
        amount=slider(-4.0, 4.0, 0.0, 0.25, "prior's deviations along it"),
        seed=slider(0, 20, 0, 1, "seed"),
    )
