"""What takes long: each chapter with ten seeds, and with each of its code cells run twice in a row (make test-all)."""

import re

import nbformat
import papermill
import pytest
from chapters import CHAPTERS, ROOT, SOLUTIONS
from nbclient import NotebookClient
from nbval.plugin import get_sanitize_patterns
from store import VIEW

RULES = get_sanitize_patterns((ROOT / "tests" / "sanitize.cfg").read_text())


@pytest.mark.parametrize("seed", range(1, 10))  # with 0 nbval runs it
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_every_seed_bears_out_what_a_chapter_asserts(tmp_path, path, seed):
    papermill.execute_notebook(path, tmp_path / "out.ipynb", {"seed": seed}, cwd=tmp_path, progress_bar=False)


def printed(cell):
    """What a cell says in words, without what nbval passes over, and without bars: a second run may need none."""
    if "NBVAL_IGNORE_OUTPUT" in cell.source:
        return None
    said = [output for output in cell.outputs if VIEW not in output.get("data", ())]
    text = "\n".join(output.get("text", "") or output.data["text/plain"] for output in said)
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=lambda path: str(path.relative_to(ROOT / "notebooks")))
def test_a_cell_that_is_run_again_says_the_same(path):
    notebook = nbformat.read(path, as_version=4)
    once = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = [nbformat.from_dict(cell | {"id": f"{cell.id}-{turn}"}) for cell in once for turn in (1, 2)]
    where = {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=None, coalesce_streams=True, resources=where).execute()
    for first, second in zip(notebook.cells[::2], notebook.cells[1::2]):
        assert printed(second) == printed(first), first.id
