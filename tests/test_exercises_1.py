"""Chapter 1's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
import torch.nn.functional as F

from vrnn_tutorial import exercises

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NUMBERS = ("1.1", "1.2", "1.3")


def answer(path: Path, number: str):
    """The function that a notebook gives to the check of this exercise."""
    answers = {}
    names = {"torch": torch, "F": F, "math": math, "exercises": SimpleNamespace(check=answers.__setitem__)}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and f'exercises.check("{number}"' in cell.source:
            exec(cell.source, names)
    return answers[number]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_is_right(number, capsys):
    exercises.check(number, answer(NOTEBOOKS / "solutions" / "01_vae.ipynb", number))
    assert re.fullmatch(rf"Exercise {number}: right\. [A-Z][^\n]+\.\n", capsys.readouterr().out)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_stub_is_not_attempted(number, capsys):
    exercises.check(number, answer(NOTEBOOKS / "01_vae.ipynb", number))
    assert capsys.readouterr().out == f"Exercise {number}: not attempted\n"


def cross_entropy(logits, x):
    return (F.softplus(logits) - x * logits).sum(-1)


def sigmoid_first(logits, x):
    p = logits.sigmoid()
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


def kl(mean, log_std):
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(-1)


def slopes(mean, log_std):
    return kl(mean, log_std), mean, (2 * log_std).exp() - 1


def log_mean_exp(log_w):
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


WRONG = [
    ("1.1", lambda logits, x: cross_entropy(logits, x).mean(), "one number per digit"),
    ("1.1", lambda logits, x: -cross_entropy(logits, x), "never positive"),
    ("1.1", lambda logits, x: cross_entropy(logits, x) / logits.shape[1], "mean over the pixels"),
    ("1.1", lambda logits, x: cross_entropy(logits, x) / math.log(2), "these are bits"),
    (
        "1.1",
        lambda logits, x: -(x * F.logsigmoid(logits)).sum(-1),
        r"digit costs 1\.133 nats, not 0\.820",
    ),
    ("1.1", sigmoid_first, "it overflows"),
    ("1.1", lambda logits, x: cross_entropy(logits.clamp(-20, 20), x), "a logit of 800 should cost 800 nats, not 20"),
    ("1.2", lambda mean, log_std: slopes(mean, log_std)[:2], "three tensors, .* not 2"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std).mean(), mean, log_std), "one number per digit"),
    ("1.2", lambda mean, log_std: slopes(mean, log_std / 2), "not of the variance"),
    ("1.2", lambda mean, log_std: (2 * kl(mean, log_std), mean, log_std), r"the first KL is 1\.693 nats, not 3\.385"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), -mean, log_std), "moving the mean"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), mean, (2 * log_std).exp()), "lacks the -1"),
    ("1.2", lambda mean, log_std: (kl(mean, log_std), mean, log_std.exp() - 1), r"is exp\(2 s\)"),
    ("1.3", lambda log_w: log_mean_exp(log_w).mean(), "one number per digit"),
    ("1.3", lambda log_w: log_w.mean(1), "mean of the logs"),
    ("1.3", lambda log_w: log_w.logsumexp(1), "log K is still to come off"),
    ("1.3", lambda log_w: log_w.amax(1), r"the first bound is -18\.978 nats, not -18\.000"),
    ("1.3", lambda log_w: log_w.exp().mean(1).log(), "stay in logs"),
]


@pytest.mark.parametrize(("number", "mistake", "verdict"), WRONG)
def test_a_mistake_is_named(number, mistake, verdict, capsys):
    with pytest.raises(AssertionError, match=verdict):
        exercises.check(number, mistake)
    assert capsys.readouterr().out == ""
