"""The notebooks as papermill runs them, with parameters of the caller's."""

import datetime
import json
import re

import nbformat
import papermill
import pytest
import torch
from chapters import CHAPTERS, ROOT
from nbclient import NotebookClient

from vrnn_tutorial import load_checkpoint

FOLDER = ROOT / "notebooks"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_papermill_can_tell_what_each_parameter_is(path):
    parameters = papermill.inspect_notebook(path)
    assert "seed" in parameters
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
        assert given and set(given) <= set(papermill.inspect_notebook(FOLDER / notebook)), command


@pytest.fixture
def text(tmp_path):
    (tmp_path / "letters.txt").write_text("Dear Anna,\nthe roses are out, and so is the cat.\n" * 200)
    return tmp_path / "letters.txt"


def test_training_on_a_text_of_the_readers_own(text, tmp_path):
    parameters = {
        "text": str(text),
        "updates": 3,
        "batch_size": 4,
        "length": 20,
        "out": str(tmp_path / "run"),
        "seed": 1,
    }
    papermill.execute_notebook(
        FOLDER / "04_training.ipynb", tmp_path / "out.ipynb", parameters, cwd=tmp_path, progress_bar=False
    )
    cells = {cell.id: cell for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells}
    assert "letters {" in cells["setup"].outputs[0].text
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(history["reconstruction"]) == 3 and history["seed"] == 1
    assert "batch_size=4, length=20" in history["corpus"]
    assert [entry["update"] for entry in history["validation"]] == [0, 3]


@pytest.fixture
def readings(tmp_path):
    """Two columns over some 60 weeks of days, with a hole and a day that is absent."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(420.0)
    a = 5 + 2 * torch.sin(6.2832 * t / 7) + 0.3 * torch.randn(420, generator=generator)
    b = 100 * a + 0.1 * t + torch.randn(420, generator=generator)
    days = [datetime.date(2001, 1, 1) + datetime.timedelta(days=i) for i in range(420)]
    rows = [f"{day},{a[i]:.3f},{b[i]:.2f}" for i, day in enumerate(days) if i != 50]
    rows[20] = f"{days[20]},,{b[20]:.2f}"
    path = tmp_path / "mine.csv"
    path.write_text("day,a,b\n" + "\n".join(rows) + "\n")
    return path


OWN = {"dates": "day", "season": 7, "past": 14, "ahead": 7, "updates": 4}


def own_sequences(path, **parameters) -> dict:
    """What chapter 9's cells printed for a reader's file."""
    out = path.with_name("out.ipynb")
    parameters = {"file": str(path), "columns": "a, b", **OWN} | parameters
    chapter = FOLDER / "09_your_own_sequences.ipynb"
    papermill.execute_notebook(chapter, out, parameters, cwd=path.parent, progress_bar=False)
    cells = nbformat.read(out, as_version=4).cells
    return {
        cell.id: "".join(o.text for o in cell.outputs if o.output_type == "stream")
        for cell in cells
        if cell.cell_type == "code"
    }


def test_a_forecast_of_the_readers_own_file(readings, tmp_path):
    printed = own_sequences(readings, out=str(tmp_path / "kept"))
    assert "420 rows, 2 with something missing\nfrom 01.01.2001 to 24.02.2002" in printed["read"]
    assert "order   7" in printed["orders"] and "order   8" in printed["orders"]
    assert printed["orders"].count("order") == 7
    for name in ("naive", "linear", "RNN", "VRNN"):
        assert re.search(rf"^{name}.*%.*%", printed["coverage"], flags=re.MULTILINE)
    model = load_checkpoint(tmp_path / "kept" / "vrnn.safetensors")
    assert model.configuration["input_size"] == 2
    # In the file's own units: the second column is a hundred times as wide as the first.
    one, two = model.emission_type.scale
    assert 50 < two / one < 200
    assert (tmp_path / "kept" / "fan.png").read_bytes().startswith(b"\x89PNG")


WRONG_FILES = {
    "another column": ({"columns": "a,c"}, "mine.csv has no column 'c'; its columns are 'day', 'a', 'b'"),
    "no file": ({"file": "nowhere.csv"}, "nowhere.csv"),
    "too short": ({"past": 300}, "steps hold no window of 307"),
}


@pytest.mark.parametrize("parameters, sentence", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_cannot_be_forecast_is_told_so(readings, parameters, sentence):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        own_sequences(readings, **parameters)
    assert sentence in error.value.evalue


# A run of chapter 4, stopped and taken up again


#: As the stop button does: after the record of this update,
STOP = """
import signal

def stop(records):
    if len(records) == {update}:
        signal.raise_signal(signal.SIGINT)

chart.update = stop
"""
GO_ON = "del chart.update"
#: and in the midst of the second validation, that of update 3.
STOP_VALIDATION = """
import signal
from vrnn_tutorial import training

def stopped(*arguments, **options):
    if records:
        training.evaluate = evaluate
        signal.raise_signal(signal.SIGINT)
    return evaluate(*arguments, **options)

evaluate, training.evaluate, run["evaluate_every"] = training.evaluate, stopped, 3
"""
RUN = ["imports", "parameters", "setup", "loop", "loop-equal", "draw", "run", "chart"]
AFTERWARDS = ["resume", "live-picture", "resume-equal", "unigram"]


@pytest.fixture
def chapter_4(text, monkeypatch):
    """Runs these of its cells, in this order, in one kernel: what each printed. What is no cell's id is a cell itself.

    A cell whose id bears a ! ends in KeyboardInterrupt, and no other in an error.
    """
    monkeypatch.chdir(text.parent)
    notebook = nbformat.read(FOLDER / "04_training.ipynb", as_version=4)
    sources = {cell.id: cell.source for cell in notebook.cells}

    def run(names, **parameters):
        given = {"text": str(text), "updates": 12, "batch_size": 4, "length": 20} | parameters
        set_parameters = "\n".join(f"{name} = {value!r}" for name, value in given.items())
        notebook.cells = []
        for name in names:
            cell = nbformat.v4.new_code_cell(sources.get(name.removesuffix("!"), name))
            cell.source += f"\n{set_parameters}" if name == "parameters" else ""
            cell.metadata["tags"] = ["raises-exception"] if name.endswith("!") else []
            notebook.cells.append(cell)
        NotebookClient(notebook, timeout=300).execute()
        printed = {}
        for name, cell in zip(names, notebook.cells, strict=True):
            errors = [output.ename for output in cell.outputs if output.output_type == "error"]
            assert errors == (["KeyboardInterrupt"] if name.endswith("!") else []), name
            printed[name] = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
        return printed

    return run


def history(folder):
    return json.loads((folder / "history.json").read_text())


def whole(folder, printed, updates=12):
    """The folder holds that many updates and nothing twice, and what was printed afterwards says so."""
    told = history(folder)
    taken = [entry["update"] for entry in told["validation"]]
    assert len(told["reconstruction"]) == updates and taken == sorted(set(taken)) and taken[-1] == updates
    assert printed["resume"] == f"updates 1 to {updates} without a gap: True\n"
    assert "the same losses to the last digit" in printed["resume-equal"]


def test_a_reader_who_presses_stop_runs_the_cell_again_in_the_same_folder(chapter_4, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the notebook makes a folder
    printed = chapter_4([*RUN, STOP.format(update=3), "live!", GO_ON, "live", *AFTERWARDS])
    [folder] = (path.parent for path in tmp_path.rglob("history.json"))
    whole(folder, printed)
    assert printed["live"].startswith("left after update 4 of 12\n")


def test_a_reader_who_stops_the_first_cell_may_go_on_with_the_next(chapter_4, tmp_path):
    printed = chapter_4([*RUN, STOP.format(update=2), "live!", GO_ON, *AFTERWARDS], out=str(tmp_path / "run"))
    whole(tmp_path / "run", printed)


def test_a_validation_that_was_stopped_is_made_up_for(chapter_4, tmp_path):
    """The record of its update comes once more then, and takes its place."""
    printed = chapter_4([*RUN, STOP_VALIDATION, "live!", "live", *AFTERWARDS], out=str(tmp_path / "run"))
    whole(tmp_path / "run", printed)
    assert [entry["update"] for entry in history(tmp_path / "run")["validation"]] == [0, 3, 6, 9, 12]


def test_a_run_that_is_kept_is_there_when_the_chapter_is_run_again(chapter_4, tmp_path):
    """Complete, it is shown; given more updates than before, it goes on."""
    out = tmp_path / "run"
    for _ in range(2):
        whole(out, chapter_4([*RUN, "live", *AFTERWARDS], out=str(out)))
    before = history(out)
    whole(out, chapter_4([*RUN, "live", *AFTERWARDS], out=str(out), updates=20), updates=20)
    assert history(out)["reconstruction"][:12] == before["reconstruction"]


def test_a_run_that_was_stopped_goes_on_when_the_chapter_is_run_again(chapter_4, tmp_path):
    chapter_4([*RUN, STOP.format(update=3), "live!"], out=str(tmp_path / "run"))
    assert len(history(tmp_path / "run")["reconstruction"]) == 3
    whole(tmp_path / "run", chapter_4([*RUN, "live", *AFTERWARDS], out=str(tmp_path / "run")))
