"""Records figures/slider.gif: chapter 5's slider in JupyterLab, a mouse moving it while text streams.

python tests/record_slider.py
"""

import base64
import io
import itertools
import time
from pathlib import Path

from browser import Notebook, desk
from chapters import ROOT
from PIL import Image
from playwright.sync_api import Page

WIDTH, MARGIN = 800, 3  # pixels: of the widget, and around it
COLORS = 32  # of the picture; text and controls are mostly grey
FRAME = 80  # milliseconds between frames that are kept
LAST = 1500  # milliseconds for which the last picture stays
#: As many lines of a text as a reader takes in; a page that grows would not fit into one picture.
LINES = """.live-text pre { box-sizing: content-box; min-height: 0 !important; height: 18.9em; overflow: clip;
    padding-bottom: 0 !important }"""
#: A page does not show the mouse: this draws one that follows it.
MOUSE = """() => {
    const arrow = document.createElement("div");
    arrow.innerHTML = '<svg width="20" height="24"><path d="M1 1v17l4.2-3.8 2.9 6.6 3-1.3-2.9-6.5h5.8z"'
        + ' stroke="white" stroke-width="1.5"/></svg>';
    arrow.style = "position:fixed;left:-50px;z-index:99999;pointer-events:none";
    document.body.append(arrow);
    const follow = event => { [arrow.style.left, arrow.style.top] = [`${event.clientX}px`, `${event.clientY}px`]; };
    for (const name of ["mousemove", "pointermove"]) document.addEventListener(name, follow, true);
}"""


class Screencast:
    """The pictures that the browser paints, each with its second."""

    def __init__(self, page: Page):
        self.shots: list[tuple[float, bytes]] = []
        self.session = page.context.new_cdp_session(page)
        self.session.on("Page.screencastFrame", self._keep)
        self.session.send("Page.startScreencast", {"format": "png"})

    def _keep(self, frame) -> None:
        self.shots.append((frame["metadata"]["timestamp"], base64.b64decode(frame["data"])))
        self.session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def stop(self) -> None:
        self.session.send("Page.stopScreencast")


def glide(page: Page, start: tuple[float, float], end: tuple[float, float], seconds: float) -> None:
    """Moves the mouse in a straight line, as far at each moment as it should be by then."""
    begun, share = time.monotonic(), 0.0
    while share < 1:
        page.wait_for_timeout(30)
        share = min(1.0, (time.monotonic() - begun) / seconds)
        page.mouse.move(*(a + (b - a) * share for a, b in zip(start, end)))


def perform(notebook: Notebook) -> None:
    """Start; then the temperature is taken down, and up, each time while text streams."""
    page = notebook.page

    def middle(locator):
        box = locator.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    button = middle(notebook.panel.locator(".widget-button"))
    handle = middle(notebook.control("temperature").locator(".noUi-handle"))
    way = notebook.control("temperature").locator(".noUi-target").bounding_box()
    glide(page, (button[0] + 150, button[1] + 60), button, 0.6)
    page.mouse.click(*button)
    glide(page, button, handle, 0.9)
    for share in (0.1, 0.65):
        page.mouse.down()
        end = way["x"] + share * way["width"], handle[1]
        glide(page, handle, end, 0.8)
        page.mouse.up()
        page.wait_for_timeout(1500)
        handle = end
    notebook.panel.locator(".live-text .now").get_by_text("characters in").wait_for()


def save(shots: list[tuple[float, bytes]], box: dict, path: Path) -> None:
    """Cuts the box out of every picture that is kept, and makes an animation of them that keeps their times."""
    left, top = round(box["x"]) - MARGIN, round(box["y"]) - MARGIN
    edges = left, top, left + round(box["width"]) + 2 * MARGIN, top + round(box["height"]) + 2 * MARGIN
    frames, times = [], []
    for second, shot in shots:
        if not times or 1000 * (second - times[-1]) >= FRAME:
            picture = Image.open(io.BytesIO(shot)).convert("RGB")
            frames.append(picture.crop(edges))
            times.append(second)
    durations = [round(1000 * (after - before)) for before, after in itertools.pairwise(times)] + [LAST]
    palette = frames[-1].quantize(COLORS, dither=Image.Dither.NONE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    print(f"{path.name}: {len(frames)} frames, {sum(durations) / 1000:.1f} s, {path.stat().st_size:,} bytes")


def main() -> None:
    with desk() as (page, _, address):
        notebook = Notebook(page, address, "notebooks/05_generation.ipynb")
        cell = notebook.cell("widgets.generation(")
        cell.locator(".cm-content").click()
        notebook.menu("Run", "Run All Above Selected Cell")
        notebook.run(cell)
        widget = notebook.panel.locator(".jp-OutputArea-output", has=page.locator(".live-text"))
        room = page.viewport_size["width"] - widget.bounding_box()["width"]
        page.set_viewport_size({"width": round(room + WIDTH), "height": 900})
        notebook.panel.locator(".live-text .now").click()  # lest the first click in the cell scroll the page
        widget.scroll_into_view_if_needed()
        page.evaluate(MOUSE)
        page.add_style_tag(content=LINES)
        page.wait_for_timeout(1000)  # until the page rests
        box = widget.bounding_box()
        screencast = Screencast(page)
        perform(notebook)
        screencast.stop()
        end = widget.bounding_box()  # higher by the counts below the texts
        assert (end["x"], end["y"], end["width"]) == (box["x"], box["y"], box["width"]), "the page scrolled meanwhile"
    save(screencast.shots, end, ROOT / "figures" / "slider.gif")


if __name__ == "__main__":
    main()
