"""What tests/store.py makes of a notebook's outputs."""

import base64

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from store import VIEW, run

BAR = "from tqdm.auto import tqdm\nfor i in tqdm(range(40), desc='run'):\n    if i == {}: break"
WIDGET = """from matplotlib.figure import Figure
from vrnn_tutorial import widgets
widgets.Picture(lambda z: Figure(), z=widgets.slider(0, 1, 0, 1, "z"))"""
WORDS = "<details><summary>The figure in words</summary>\n\nOne line, which rises.\n\n</details>"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    (folder / "small-slide.png").write_bytes(b"a picture")
    sources = {"done": BAR.format(99), "left": BAR.format(10), "slide": WIDGET,
               "two": "print(1, flush=True)\nimport time; time.sleep(0.5)\nprint(2)"}  # fmt: skip
    cells = [new_code_cell(source, id=name) for name, source in sources.items()]
    cells.insert(3, new_markdown_cell(WORDS))
    nbformat.write(new_notebook(cells=cells), folder / "small.ipynb")
    notebook = run(folder / "small.ipynb", pictures=folder)
    assert "widgets" not in notebook.metadata
    return {cell.id: cell for cell in notebook.cells}


def test_a_bar_says_how_it_ended(cells):
    assert cells["done"].outputs[0].data == {"text/plain": "run: 100%|##########| 40/40"}
    assert cells["left"].outputs[0].data == {"text/plain": "run:  25%|##5       | 10/40"}


def test_a_widget_is_stored_as_its_picture(cells):
    (output,) = cells["slide"].outputs
    assert base64.b64decode(output.data["image/png"]) == b"a picture" and VIEW not in output.data
    assert output.data["text/plain"].startswith("Run this cell")


def test_words_below_a_figure_become_its_alternative_text(cells):
    assert [cell.metadata.get("alt") for cell in cells.values()] == [None, None, "One line, which rises.", None, None]


def test_one_stream_is_one_output(cells):
    assert [output.text for output in cells["two"].outputs] == ["1\n2\n"]


def test_a_cell_that_fails_is_an_error(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), tmp_path / "broken.ipynb")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run(tmp_path / "broken.ipynb")
