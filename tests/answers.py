"""What a chapter's notebooks answer to its exercises; its file of tests adds other ways to the same, and mistakes."""

import contextlib
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
import torch.nn.functional as F

from vrnn_tutorial import bounds, exercises
from vrnn_tutorial.exercises import WrongAnswer
from vrnn_tutorial.text_statistics import entropy

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
#: What an answer may be computed in, whatever it is given.
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["in float32", "in float64"])


def computed_in(dtype: torch.dtype, answer: Callable) -> Callable:
    """The answer, given its tensors in that type."""
    return lambda *arguments: answer(*(x.to(dtype) if isinstance(x, torch.Tensor) else x for x in arguments))


def printed(number: str, answer: Callable) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exercises.check(number, answer)
    return out.getvalue()


def confirmed(number: str, answer: Callable) -> None:
    assert re.fullmatch(rf"Exercise {number}: right\. [A-Z][^\n]+\.\n", printed(number, answer))


def refused(number: str, answer: Callable, part: str) -> None:
    """With one sentence that holds this part."""
    with pytest.raises(WrongAnswer) as error:
        exercises.check(number, answer)
    sentence = str(error.value)
    assert re.fullmatch(rf"Exercise {number}: [^\n]+[.?]", sentence)
    assert part in sentence


class Answers:
    """The tests that every chapter has; a subclass names its notebook."""

    notebook: str

    @pytest.fixture(params=(1, 2, 3))
    def number(self, request):
        return f"{int(self.notebook[:2])}.{request.param}"

    def defined(self, folder: str, cell_with: str) -> dict:
        """What the cells that hold this text define, and the answers that they give to be checked."""
        answers = {}
        names = {"math": math, "torch": torch, "F": F, "bounds": bounds, "entropy": entropy}
        names["exercises"] = SimpleNamespace(check=answers.__setitem__)
        for cell in nbformat.read(NOTEBOOKS / folder / self.notebook, as_version=4).cells:
            if cell.cell_type == "code" and cell_with in cell.source:
                exec(cell.source, names)
        return names | answers

    def answer(self, folder: str, number: str):
        return self.defined(folder, f'exercises.check("{number}"')[number]

    def test_the_solution_is_right(self, number):
        confirmed(number, self.answer("solutions", number))

    def test_the_stub_is_not_attempted(self, number):
        assert printed(number, self.answer(".", number)) == f"Exercise {number}: not attempted\n"
