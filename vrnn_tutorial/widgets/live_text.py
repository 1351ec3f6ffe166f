"""Text that streams while the kernel is free for other cells."""

import html
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import ipywidgets
import torch

from .controls import Controlled, shown

DEBOUNCE = 0.15  # seconds for which a control must rest before a stream starts
FRAME = 1 / 20  # seconds from one frame of a stream to the next
COLUMNS = "display:grid;grid-template-columns:repeat({},minmax(0,1fr));gap:1em;line-height:1.35"
# Turned upside down twice, so that the box stays scrolled to where the text goes on, although each frame replaces it.
PRE = (
    "height:15em;margin:0;padding:.4em;border:1px solid #8888;overflow-y:auto;white-space:pre-wrap;"
    "overflow-wrap:anywhere;word-break:normal;display:flex;flex-direction:column-reverse"
)
Stream = Callable[..., Iterator[str]]


class LiveText(Controlled):
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
            f"{shown(errors[title]) if title in errors else ''}</div>"
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
