"""What a reader sees of a wrong answer: one sentence in a notebook, and never the check, which holds the solution."""

import contextlib
import functools
import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

from vrnn_tutorial import exercises
from vrnn_tutorial.exercises import WrongAnswer

SOURCES = Path(exercises.__file__).parent
ANSI = re.compile(r"\x1b\[[\d;]*m")


def checks_lines():
    """Every line of a check that is more than a bracket."""
    lines = (line.strip() for path in SOURCES.glob("chapter_*.py") for line in path.read_text().splitlines())
    return [line for line in lines if len(line) > 12]


def shown(source):
    """What IPython prints for a cell that fails."""
    shell, out = InteractiveShell(config=Config(HistoryManager={"enabled": False})), io.StringIO()
    with contextlib.redirect_stdout(out):
        result = shell.run_cell(f"import torch\nfrom vrnn_tutorial import exercises\n{source}")
    assert not result.success, "the cell does not fail, so nbval would let it pass"
    text = ANSI.sub("", out.getvalue())
    assert [line for line in checks_lines() if line in text] == [], "a reader sees the check"
    return text


def test_the_check_is_looked_for_in_what_is_shown():
    with pytest.raises(AssertionError, match="a reader sees the check"):
        shown("from vrnn_tutorial.exercises import chapter_1\nchapter_1.check_1_3(lambda log_weights: log_weights)")


def test_a_wrong_answer_shows_its_sentence_alone():
    text = shown('exercises.check("1.3", lambda log_weights: log_weights.mean(1))')
    assert text.strip() == "Exercise 1.3: this is the mean of the logs, the ELBO; take the log of the mean."


def test_a_wrong_answer_fails_its_cell_in_a_kernel():
    source = 'from vrnn_tutorial import exercises\nexercises.check("1.3", lambda log_weights: log_weights.mean(1))'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "error" and output.ename == "WrongAnswer"
    assert output.traceback == ["Exercise 1.3: this is the mean of the logs, the ELBO; take the log of the mean."]


UNPREPARED = """
def check_0_1(mean):
    \"""mean(x, trace): numbers (N,) to their mean, a tensor (); what it traces it hands to trace.\"""
    return str(mean(torch.ones(2), lambda x: x.item()).item())
"""
UNREADABLE = {
    "lambda x, trace: 1.0": "a float came back",
    "lambda x, trace: x": r"a tensor of shape \(2,\) came back",
    "lambda x, trace: [x, x]": "a list of 2 came back",
    "lambda x, trace: trace(x)": "the function fails before it gives anything back",
}


@pytest.mark.parametrize("answer, form", list(UNREADABLE.items()))
def test_what_a_check_cannot_even_look_at_gets_a_sentence_too(answer, form, monkeypatch):
    module = ModuleType("vrnn_tutorial.exercises.chapter_0")
    module.torch = torch
    exec(UNPREPARED, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    text = shown(f'exercises.check("0.1", {answer})').strip()
    assert re.fullmatch(rf"Exercise 0\.1: {form}, which is not what is asked for: mean\(x, trace\): [^\n]+\.", text)


FAILS_INSIDE = """
def bound(log_weights):
    worst = log_weights.amin(1)
    {fault}

exercises.check("1.3", bound)
"""
FAILS_UNDER_A_BAN = """
def reconstruction(logits, x):
    {fault}

exercises.check("1.1", reconstruction)
"""
FAULTS = {
    "return worst[7]": "IndexError",
    "yield worst[7]": "IndexError",
    "assert worst.sum() > 0": "AssertionError",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
}


@pytest.mark.parametrize("fault, error", list(FAULTS.items()))
def test_an_answer_that_raises_shows_its_own_line_and_no_check(fault, error):
    text = shown(FAILS_INSIDE.format(fault=fault))
    assert re.search(rf"-+> +\d+ +{re.escape(fault)}", text) and error in text
    assert "vrnn_tutorial/exercises" not in text


@pytest.mark.parametrize(
    "fault, error",
    [
        ("return torch.matmul(logits, x)", "RuntimeError"),
        ("return torch.stack([logits, x[0]])", "RuntimeError"),
        ("return logits @ x", "RuntimeError"),
    ],
)
def test_so_it_does_where_functions_are_banned(fault, error):
    text = shown(FAILS_UNDER_A_BAN.format(fault=fault))
    assert re.search(rf"-+> +\d+ +{re.escape(fault)}", text) and error in text
    assert "vrnn_tutorial/exercises" not in text


def test_a_ban_shows_its_sentence_alone():
    text = shown(FAILS_UNDER_A_BAN.format(fault="return torch.nn.functional.nll_loss(logits, x)"))
    assert re.fullmatch(r"Exercise 1\.1: no ready-made cross-entropy, please[^\n]+\.", text.strip())


def test_an_answers_own_chain_of_errors_stays():
    text = shown(
        FAILS_INSIDE.format(fault="try: worst[7]\n    except IndexError as error: raise ValueError('seven') from error")
    )
    assert "ValueError: seven" in text and "direct cause" in text and "worst[7]" in text


def test_plain_python_shows_no_check_either():
    source = 'from vrnn_tutorial import exercises\nexercises.check("1.3", lambda log_weights: log_weights.mean(1))'
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert run.returncode == 1 and "chapter_1" not in run.stderr
    assert [line for line in checks_lines() if line in run.stderr] == []
    assert run.stderr.rstrip().endswith(
        "Exercise 1.3: this is the mean of the logs, the ELBO; take the log of the mean."
    )


def test_a_function_that_computes_and_returns_nothing_is_no_stub(capsys):
    def forgetful(log_weights):
        log_weights.logsumexp(1)

    with pytest.raises(WrongAnswer, match="is its return missing"):
        exercises.check("1.3", forgetful)
    for silent in (torch.nn.Module(), functools.partial(forgetful)):
        silent.forward = forgetful
        with pytest.raises(WrongAnswer, match="is its return missing"):
            exercises.check("1.3", silent)
    exercises.check("1.3", lambda log_weights: ...)
    assert capsys.readouterr().out == "Exercise 1.3: not attempted\n"


def test_a_generator_is_a_list_to_a_check(capsys):
    def streams(codes, batch_size, length):
        rows = codes[: len(codes) // batch_size * batch_size].view(batch_size, -1).T
        yield from (x for x in rows.split(length) if len(x) == length)

    exercises.check("4.1", streams)
    assert capsys.readouterr().out.startswith("Exercise 4.1: right.")
    with pytest.raises(WrongAnswer, match="6 whole batches"):
        exercises.check("4.1", lambda codes, batch_size, length: itertools.repeat(codes[:15].view(5, 3)))


def test_an_answer_need_not_be_a_function(capsys):
    class Bound(torch.nn.Module):
        def forward(self, log_weights):
            return log_weights.logsumexp(1) - torch.tensor(log_weights.shape[1]).log()

    exercises.check("1.3", Bound())
    assert capsys.readouterr().out.startswith("Exercise 1.3: right.")
