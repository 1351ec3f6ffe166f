"""Runs notebooks and stores what they gave, so that a page which nobody runs shows it, too.

python tests/store.py notebooks/01_vae.ipynb ...

The view of a widget is nothing without its kernel. In its place stand, for a progress bar, how it ended, without its
times; for any other widget, its picture in figures/widgets, which tests/record_widgets.py takes. What the cell below a
figure says of it in words becomes its alternative text.
"""

import base64
import html
import sys
from pathlib import Path

import nbformat
from chapters import ROOT, in_words
from nbclient import NotebookClient
from tqdm.std import Bar

PICTURES = ROOT / "figures" / "widgets"
VIEW = "application/vnd.jupyter.widget-view+json"


def run(path: Path, pictures: Path = PICTURES) -> nbformat.NotebookNode:
    """The notebook, run in its own folder from top to bottom; an error in a cell is raised."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=None, record_timing=False, coalesce_streams=True,
                            resources={"metadata": {"path": path.parent}})  # fmt: skip
    client.execute()
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for data in (output.data for output in cell.get("outputs", ()) if VIEW in output.get("data", ())):
            data |= still(client.widget_state, data.pop(VIEW)["model_id"], pictures / f"{path.stem}-{cell.id}.png")
    for cell, words in in_words(notebook.cells):
        cell.metadata["alt"] = words
    return notebook


def still(states: dict[str, dict], model: str, picture: Path) -> dict[str, str]:
    """What stands for a widget: how a bar ended, and of any other its picture."""
    parts = [states[child.removeprefix("IPY_MODEL_")] for child in states[model].get("children", ())]
    if [part["_model_name"] for part in parts] == ["HTMLModel", "FloatProgressModel", "HTMLModel"]:
        return {"text/plain": bar(*parts)}
    return {"image/png": base64.b64encode(picture.read_bytes()).decode()}


def bar(left: dict, progress: dict, right: dict) -> str:
    """A bar of tqdm's, in the words in which it is printed: `VAE: 100%|##########| 1000/1000`."""
    before, after = (html.unescape(part["value"]).replace("\N{FIGURE SPACE}", " ") for part in (left, right))
    blocks = Bar(progress["value"] / progress["max"], 10, Bar.ASCII)
    return f"{before}|{blocks}|{after.partition(' [')[0]}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, flush=True)
        nbformat.write(run(Path(name)), name)
