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
from answers import confirmed, printed, refused
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

from vrnn_tutorial import exercises

SOURCES = Path(exercises.__file__).parent
ANSI = re.compile(r"\x1b\[[\d;]*m")


def checks_lines():
    """Every line of a check that is more than a bracket."""
    lines = (line.strip() for path in SOURCES.glob("[!_]*.py") for line in path.read_text().splitlines())
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


@pytest.mark.parametrize("name", ["9.9", "2.9", "2", "", 2.1 + 8])
def test_an_exercise_that_is_none_is_named(name):
    with pytest.raises(ValueError, match="there is no exercise .*; they are called as in '2.1'.") as error:
        exercises.check(name, lambda: None)
    assert repr(name) in str(error.value)


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


BELOW_A_HOOK = {
    "logits.view(7)": ("1.1", "RuntimeError"),
    "logits.apply_(lambda logit: 1 / 0)": ("1.1", "ZeroDivisionError"),
    "mean.view(7)": ("1.2", "RuntimeError"),
    "mean.apply_(positive)": ("1.2", "AssertionError"),
    "optimizer.step(lambda: x[7])": ("4.2", "IndexError"),
}
HOOKED = """
def positive(number):
    assert number > 0

def reconstruction(logits, x): {line}
def kl_and_slopes(mean, log_std): {line}
def update(model, optimizer, x, state, clip): {line}
"""


@pytest.mark.parametrize("line", list(BELOW_A_HOOK))
def test_so_does_an_answer_that_raises_where_the_check_listens_in(line):
    number, error = BELOW_A_HOOK[line]
    answers = {"1.1": "reconstruction", "1.2": "kl_and_slopes", "4.2": "update"}
    text = shown(f'{HOOKED.format(line=line)}\nexercises.check("{number}", {answers[number]})')
    assert re.search(rf"-+> +\d+ +def {answers[number]}.*{re.escape(line)}", text) and error in text
    assert "vrnn_tutorial/exercises" not in text


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


def forgetful(log_weights):
    log_weights.logsumexp(1)


class Forgetful(torch.nn.Module):
    def forward(self, log_weights):
        log_weights.logsumexp(1)


@pytest.mark.parametrize(
    "answer", [forgetful, Forgetful(), functools.partial(forgetful)], ids=["a function", "a module", "a partial"]
)
def test_what_computes_and_returns_nothing_is_no_stub(answer):
    refused("1.3", answer, "gives back None: is its return missing?")


def test_dots_are_a_stub():
    assert printed("1.3", lambda log_weights: ...) == "Exercise 1.3: not attempted\n"


def test_a_generator_is_a_list_to_a_check():
    def streams(codes, batch_size, length):
        rows = codes[: len(codes) // batch_size * batch_size].view(batch_size, -1).T
        yield from (x for x in rows.split(length) if len(x) == length)

    confirmed("4.1", streams)
    refused("4.1", lambda codes, batch_size, length: itertools.repeat(codes[:15].view(5, 3)), "6 whole batches")


def test_an_answer_need_not_be_a_function():
    class Bound(torch.nn.Module):
        def forward(self, log_weights):
            return log_weights.logsumexp(1) - torch.tensor(log_weights.shape[1]).log()

    confirmed("1.3", Bound())
