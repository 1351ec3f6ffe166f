"""What a chapter's notebooks answer to its exercises; its file of tests adds other ways to the same, and mistakes."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
import torch.nn.functional as F

from vrnn_tutorial import bounds, exercises
from vrnn_tutorial.text_statistics import entropy

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def confirmed(number: str, answer, capsys) -> None:
    """The check finds the answer right, and says one sentence on it."""
    exercises.check(number, answer)
    assert re.fullmatch(rf"Exercise {number}: right\. [A-Z][^\n]+\.\n", capsys.readouterr().out)


def refused(number: str, answer, words: str) -> None:
    """The check finds the answer wrong, in one sentence that has these words."""
    with pytest.raises(exercises.WrongAnswer, match=re.escape(words)) as error:
        exercises.check(number, answer)
    assert "\n" not in str(error.value)


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

    def test_the_solution_is_right(self, number, capsys):
        confirmed(number, self.answer("solutions", number), capsys)

    def test_the_stub_is_not_attempted(self, number, capsys):
        exercises.check(number, self.answer(".", number))
        assert capsys.readouterr().out == f"Exercise {number}: not attempted\n"
