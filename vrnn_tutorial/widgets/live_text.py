"""Text that streams while the kernel is free for other cells."""

import html
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import ipywidgets
import torch

from ..text import visible
from .controls import Controlled, choice, shown

DEBOUNCE = 0.15  # seconds for which a control must rest before a stream starts
FRAME = 1 / 20  # seconds from one frame of a stream to the next
PACES = {"at once": 0, "to read along": 30, "slowly": 10}  # characters a second
GRID = {
    "grid_template_columns": "repeat(auto-fill, minmax(min(20em, 100%), 1fr))",
    "grid_gap": "0 1em",
    "width": "100%",
}
PRE = (
    "min-height:24em;margin:0;padding:.4em;border:1px solid #8888;white-space:pre-wrap;overflow-wrap:anywhere;"
    "word-break:normal;line-height:1.35"
)
MARK = '<mark style="color:inherit;background:#ffb00055">{}</mark>'
# What the page knows and the kernel cannot say: that the kernel is gone, or busy with a cell.
STATUS = """<style>
.live-text .gone, .live-text .busy {{ display: none }}
.live-text.jupyter-widgets-disconnected .gone {{ display: inline }}
.live-text.jupyter-widgets-disconnected .now, .live-text.jupyter-widgets-disconnected::before,
    .live-text .jupyter-widgets-disconnected::before {{ display: none }}
.jp-NotebookPanel:has(.jp-Notebook-ExecutionIndicator[data-status=busy])
    .live-text:not(.jupyter-widgets-disconnected) .resting ~ .busy {{ display: inline }}
</style><small><span class="now {0}">{1}</span
><span class="busy"> Kernel busy: the text starts when it is free.</span
><span class="gone">The kernel was started anew and knows nothing of this text: run this cell again.</span></small>"""


class Written(NamedTuple):
    """What a column shows at a moment."""

    text: str  # all that was written so far
    prime: str = ""  # what it goes on from, before it in bold
    note: str = ""  # what is said of it, below


Stream = Callable[..., Iterator[Written]]


def changes(text: str, before: str) -> list[tuple[str, bool]]:
    """The text in runs, each with whether its characters differ from those that stood at their places before.

    Where nothing stood nothing differs. With one seed, each place has its own draw: so this is what a setting moved.
    """
    differs = [a != b for a, b in zip(text, before)] + [False] * (len(text) - len(before))
    runs = itertools.groupby(zip(text, differs), key=lambda pair: pair[1])
    return [("".join(character for character, _ in run), changed) for changed, run in runs]


class LiveText(Controlled):
    """Text that streams while the kernel is free for other cells, and starts afresh at each move of a control.

    stream(**values of the controls) yields `Written`, each with more text; a dict of titles and such functions shows
    them side by side, all equally far. It starts with its button or a move, never by itself; whatever ran before is
    cancelled, and writes no more. What differs from the text before is marked. An error appears under what its stream
    had given; the other streams go on.

    over: for each title the names of the controls that stand over its column; the others stand above all.
    """

    def __init__(
        self,
        stream: Stream | Mapping[str, Stream],
        over: Mapping[str, Sequence[str]] | None = None,
        **controls: ipywidgets.ValueWidget,
    ):
        self.streams = dict(stream) if isinstance(stream, Mapping) else {"": stream}
        self._lock, self._run, self._worker, self._failure = threading.Lock(), 0, None, None
        self._button = ipywidgets.Button()
        self._button.on_click(lambda _: self.stop() if self.running else self.start())
        self.pace = choice(PACES, 0, "pace")  # no control: it takes effect on the text that runs
        self.status = ipywidgets.HTML()
        self.columns = {title: ipywidgets.HTML(layout={"width": "auto"}) for title in self.streams}
        super().__init__(controls)
        over = {} if over is None else over
        common = [control for name, control in controls.items() if name not in itertools.chain(*over.values())]
        columns = [
            ipywidgets.VBox([*(controls[name] for name in over.get(title, ())), column], layout={"min_width": "0"})
            for title, column in self.columns.items()
        ]
        side_by_side = {"grid_template_columns": f"repeat({len(columns)}, minmax(0, 1fr))", "grid_gap": "0 1em"}
        self.children = [
            ipywidgets.GridBox([*common, self.pace], layout=GRID),
            ipywidgets.HBox([self._button, self.status]),
            ipywidgets.GridBox(columns, layout=side_by_side),
        ]
        for control in (*controls.values(), self.pace):
            control.set_trait("layout", {"width": "auto"})
        self.add_class("live-text")
        nothing = dict.fromkeys(self.streams, Written(""))
        self._before = nothing
        self._show(0, nothing, {}, "Press Start, or move a control.", running=False)

    @property
    def text(self) -> str | dict[str, str]:
        """What was written, for each title if there are several."""
        texts = {title: written.text for title, written in self._written.items()}
        return texts if len(texts) > 1 else next(iter(texts.values()))

    def start(self, delay: float = 0.0) -> None:
        """Streams afresh with the controls' values of this moment, after `delay` seconds; returns at once."""
        with self._lock:
            self._run += 1
            self._failure = None
            self._worker = threading.Thread(target=self._work, args=(self._run, self.values(), delay), daemon=True)
            self._set_running(True)
            self._worker.start()

    def stop(self) -> None:
        """Cancels what runs; the text so far stays."""
        with self._lock:
            self._run += 1
            run = self._run
        self._show(run, self._written, self._errors, "stopped", running=False)

    def wait(self, timeout: float = 60.0) -> None:
        """Returns when nothing runs any more. Raises TimeoutError, or else what a stream has raised."""
        if self._worker:
            self._worker.join(timeout)
        if self.running:
            raise TimeoutError(f"The text still streams after {timeout} seconds.")
        for error in (*self._errors.values(), *filter(None, [self._failure])):
            raise error

    def _moved(self, _):
        self.start(DEBOUNCE)

    def _work(self, run, values, delay):
        try:
            time.sleep(delay)
            # In this thread alone: at a batch of one, further threads gain nothing, and cost a busy machine dearly.
            torch.set_num_threads(1)
            with torch.inference_mode():
                self._write(run, values)
        except Exception as error:  # a thread's traceback would reach the server's log only
            with self._lock:
                if run == self._run:
                    self._failure = error
                    self._set_running(False)
                    self.status.value = STATUS.format("", shown(error))

    def _write(self, run, values):
        with self._lock:
            if run == self._run:
                self._before = self._written
        written, errors = dict.fromkeys(self.streams, Written("")), {}
        pieces = {title: _begin(stream, values) for title, stream in self.streams.items()}
        begun = shown = due = time.monotonic()  # the first frame has more than a character or two to show
        while pieces and run == self._run:
            now, pace = time.monotonic(), self.pace.value
            if now - shown >= FRAME:
                self._show(run, written, errors, "streaming")
                shown = now
            if pace and now < due:
                time.sleep(min(FRAME, due - now))
                continue
            title = min(pieces, key=lambda title: len(written[title].text))  # a step may be of several characters
            far = len(written[title].text)
            try:
                written[title] = next(pieces[title])
            except StopIteration:
                del pieces[title]
            except Exception as error:
                errors[title] = error
                del pieces[title]
            if pace:
                due = max(due, now - FRAME) + (len(written[title].text) - far) / pace / len(self.streams)
        length = max(len(each.text) for each in written.values())
        done = f"{length} characters in {time.monotonic() - begun:.1f} s"
        self._show(run, written, errors, done, running=False)

    def _show(self, run, written, errors, status, running=True):
        with self._lock:  # a cancelled run can never overwrite its successor
            if run == self._run:
                self._written, self._errors = dict(written), dict(errors)
                for title, column in self.columns.items():
                    column.value = page(title, written[title], self._before[title].text, errors.get(title))
                self.status.value = STATUS.format("" if running else "resting", status)
                self._set_running(running)

    def _set_running(self, running):
        self.running = running
        self._button.description, self._button.icon = ("Stop", "stop") if running else ("Start", "play")


def page(title: str, written: Written, before: str, error: Exception | None = None) -> str:
    """A column as HTML: what stood `before` tells which characters are marked. Control codes become their pictures."""

    def escaped(text):
        return html.escape(visible(text))

    text = "".join(
        MARK.format(escaped(run)) if changed else escaped(run) for run, changed in changes(written.text, before)
    )
    return (
        f"<b>{html.escape(title)}</b>" * bool(title)
        + f'<pre style="{PRE}"><b>{escaped(written.prime)}</b><span>{text}</span></pre>'
        + f'<small class="note">{html.escape(written.note)}</small>'
        + (f"<div>{shown(error)}</div>" if error else "")
    )


def _begin(stream, values) -> Iterator[Written]:
    """The stream, called only when its first piece is asked for."""
    yield from stream(**values)
