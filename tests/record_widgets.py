"""Takes the pictures in figures/widgets: each chapter's widgets in JupyterLab, their controls moved by a mouse.

python tests/record_widgets.py notebooks/01_vae.ipynb ...
"""

import sys
from pathlib import Path

import nbformat
from browser import Notebook, desk
from playwright.sync_api import Locator
from record_slider import MOUSE, WIDTH
from store import PICTURES

#: As far along its way each slider is taken.
SHARE = 0.3
CAPTION = """element => element.insertAdjacentHTML("beforeend",
    "<p style='margin:.6em .2em .2em;font:italic 15px sans-serif'>A picture. Run this cell for the live version.</p>")
"""
WIDGET = ".widget-vbox, .widget-image"  # a bar is neither


def use(notebook: Notebook, widget: Locator) -> None:
    """Points into each pad, moves each slider, the first one last, where the mouse stays; then waits until nothing
    changes any more.
    """
    for field in widget.locator(".pad-field").all():
        box = field.bounding_box()
        field.click(position={"x": (1 - SHARE) * box["width"], "y": SHARE * box["height"]})
    for label in reversed(widget.locator(".widget-hslider .widget-label").all_inner_texts()):
        notebook.drag(label, SHARE)
    before = None
    while before != (before := widget.inner_html()):
        notebook.page.wait_for_timeout(2000)


def record(notebook: Notebook, path: Path) -> None:
    page = notebook.page
    page.evaluate(MOUSE)
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for number, name in enumerate(ids):
        cell = notebook.panel.locator(".jp-CodeCell").nth(number)
        output = cell.locator(".jp-OutputArea-output", has=page.locator(WIDGET))
        if output.count():
            page.mouse.move(0, 0)
            room = page.viewport_size["width"] - output.bounding_box()["width"]
            page.set_viewport_size({"width": round(room + WIDTH), "height": 1100})
            use(notebook, output)
            output.evaluate(CAPTION)
            output.scroll_into_view_if_needed()
            picture = PICTURES / f"{path.stem}-{name}.png"
            page.wait_for_timeout(1000)  # until the page rests
            output.screenshot(path=picture)
            print(f"{picture.name}: {picture.stat().st_size:,} bytes", flush=True)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with desk() as (page, _, address):
        for path in map(Path, sys.argv[1:]):
            notebook = Notebook(page, address, f"notebooks/{path.name}")
            notebook.run_all(seconds=900)
            record(notebook, path)


if __name__ == "__main__":
    main()
