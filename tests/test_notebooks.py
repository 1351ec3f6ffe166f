"""What nbval would let pass: notebooks without outputs, figures without words, parameters nobody can name."""

import ast
import base64
import re

import nbformat
import pytest
from chapters import CHAPTERS, NOTEBOOKS, ROOT, in_words
from store import PICTURES, VIEW


def name(path):
    return str(path.relative_to(ROOT / "notebooks"))


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_every_cell_was_run_once_in_order_and_none_failed(path):
    """Strict nbval compares nothing in a cell without an execution count."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) / 3, "a lesson that shows next to nothing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_cell_is_read_at_a_glance(path):
    assert {cell.id: lines for cell in code_cells(path) if (lines := len(cell.source.splitlines())) > 40} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_an_ignored_output_has_its_reason(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in code_cells(path):
        tags = cell.metadata.get("tags", [])
        if "NBVAL_IGNORE_OUTPUT" in cell.source or "nbval-ignore-output" in tags:
            assert re.search(r"#.*NBVAL_IGNORE_OUTPUT: \w+", cell.source), f"ignored without a reason:\n{cell.source}"
        assert "NBVAL_SKIP" not in cell.source and "nbval-skip" not in tags, "a cell that is skipped tests nothing"
        assert "raises-exception" not in tags, "an error that is wanted is caught and printed"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_parameters_have_types_and_comments(path):
    """papermill --help-notebook reads both."""
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.AnnAssign), f"no type: {lines[node.lineno - 1]}"
        assert "# " in lines[node.end_lineno - 1], f"no comment: {lines[node.lineno - 1]}"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_three_exercises_wait_for_the_reader_and_are_solved_beside(path):
    def verdicts(notebook):
        text = "".join(output.get("text", "") for cell in code_cells(notebook) for output in cell.outputs)
        return re.findall(r"Exercise (\d\.\d): (not attempted|right)", text)

    chapter = int(path.name[:2])
    numbers = [f"{chapter}.{i}" for i in (1, 2, 3)]
    assert verdicts(path) == [(number, "not attempted") for number in numbers]
    assert verdicts(path.parent / "solutions" / path.name) == [(number, "right") for number in numbers]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_widget_is_stored_as_its_picture_and_a_bar_as_it_ended(path):
    for cell in code_cells(path):
        for data in (output.data for output in cell.outputs if "data" in output):
            assert VIEW not in data, f"make notebooks stores {cell.id} as a reader can see it"
            assert not re.search(r"\b0%\|", data["text/plain"]), f"a bar of {cell.id} as if it had never run"
            if data["text/plain"].startswith("Run this cell"):
                assert "image/png" in data, f"no picture stands for the widget of {cell.id}: run make notebooks"
                picture = (PICTURES / f"{path.stem}-{cell.id}.png").read_bytes()
                assert base64.b64decode(data["image/png"]) == picture, f"another picture of {cell.id}"


def test_every_picture_of_a_widget_is_shown():
    shown = {
        f"{path.stem}-{cell.id}.png"
        for path in CHAPTERS
        for cell in code_cells(path)
        if any(output.get("data", {}).get("text/plain", "").startswith("Run this cell") for output in cell.outputs)
    }
    assert {picture.name for picture in PICTURES.iterdir()} == shown


def test_every_figure_is_told_in_words_of_its_own():
    told, untold = [], []
    for path in CHAPTERS:
        cells = nbformat.read(path, as_version=4).cells
        words = {cell.id: words for cell, words in in_words(cells)}
        for cell in cells:
            figures = [output for output in cell.get("outputs", ()) if "image/png" in output.get("data", ())]
            if cell.id in words:
                assert len(figures) == 1, f"{name(path)} {cell.id}: one figure, one text"
                assert cell.metadata.get("alt") == words[cell.id], f"{name(path)} {cell.id}: not stored since"
                told.append(words[cell.id])
            elif figures:
                untold.append(f"{name(path)} {cell.id}")
    assert untold == [], "below each figure stands a cell that tells it in words, in the form of IN_WORDS"
    assert [text for text in told if len(text.split()) < 12 or told.count(text) > 1] == []
