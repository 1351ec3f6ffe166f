"""The notebooks as papermill runs them, with parameters of the caller's."""

import json
import re
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_papermill_can_tell_what_each_parameter_is(path):
    parameters = papermill.inspect_notebook(path)
    assert parameters
    for name, about in parameters.items():
        assert about["inferred_type_name"] in ("int", "float", "str"), name
        assert re.search(r"[a-z]{3,}", about["help"]), name


def commands():
    """The papermill commands that README and notebooks tell a reader to type."""
    texts = [(ROOT / "README.md").read_text()]
    texts += [c.source for p in CHAPTERS for c in nbformat.read(p, as_version=4).cells if c.cell_type == "markdown"]
    return [
        match for text in texts for match in re.findall(r"papermill ((?:notebooks/)?(\d\d_\w+\.ipynb)[^`\n]*)", text)
    ]


def test_a_command_in_the_prose_names_parameters_that_exist():
    """papermill itself only warns of one that does not."""
    assert {notebook for _, notebook in commands()} >= {"04_training.ipynb"}
    for command, notebook in commands():
        given = re.findall(r"-p (\w+) ", command)
        assert given and set(given) <= set(papermill.inspect_notebook(NOTEBOOKS / notebook)), command


def test_training_on_a_text_of_the_readers_own(tmp_path):
    text = tmp_path / "letters.txt"
    text.write_text("Dear Anna,\nthe roses are out, and so is the cat.\n" * 200)
    parameters = {
        "text": str(text),
        "updates": 3,
        "batch_size": 4,
        "length": 20,
        "out": str(tmp_path / "run"),
        "seed": 1,
    }
    papermill.execute_notebook(
        NOTEBOOKS / "04_training.ipynb", tmp_path / "out.ipynb", parameters, cwd=tmp_path, progress_bar=False
    )
    cells = {cell.id: cell for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells}
    assert "letters {" in cells["setup"].outputs[0].text
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(history["reconstruction"]) == 3 and history["seed"] == 1
    assert "batch_size=4, length=20" in history["corpus"]
    assert [entry["update"] for entry in history["validation"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", (1, 2))  # with 0 nbval runs it; tests/weekly.py has more
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_another_seed_bears_out_what_a_chapter_asserts(tmp_path, path, seed):
    assert "seed" in papermill.inspect_notebook(path)
    papermill.execute_notebook(path, tmp_path / "out.ipynb", {"seed": seed}, cwd=tmp_path, progress_bar=False)
