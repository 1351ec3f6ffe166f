"""What nbval would let pass: notebooks without outputs, cells that ignore theirs, parameters nobody can name."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))


def name(path):
    return str(path.relative_to(ROOT / "notebooks"))


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=name)
def test_every_cell_was_run_once_in_order_and_none_failed(path):
    """Strict nbval compares nothing in a cell without an execution count."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) / 3, "a lesson that shows next to nothing"


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=name)
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
