"""Chapter 4's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math
import re

import pytest
import torch
from answers import Answers

from vrnn_tutorial import bounds, exercises


class TestAnswers(Answers):
    notebook = "04_training.ipynb"


def clip_to(model, clip):
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)


def update(*order):
    """A training step that does just these things, in this order."""

    def step(model, optimizer, x, state, clip):
        out = model(x, None if "from zeros" in order else state)
        for action in order:
            if action == "zero":
                optimizer.zero_grad()
            elif action == "backward":
                bounds.loss(out).backward()
            elif action == "clip":
                clip_to(model, clip)
            elif action == "clip values":
                torch.nn.utils.clip_grad_value_(model.parameters(), clip / 200)
            elif action == "step":
                optimizer.step()
        return out.state if "attached" in order else out.state.detach()

    return step


def cut(codes, batch_size, length):
    """Streams in rows of memory."""
    steps = len(codes) // batch_size
    return list(codes[: steps * batch_size].view(batch_size, steps).T.split(length))


def whole(batches, length):
    return [x for x in batches if len(x) == length]


MISTAKES = [
    ("4.1", cut, "6 whole batches of 5; yours are 7"),
    ("4.1", lambda c, b, n: [x.T for x in whole(cut(c, b, n), n)], "time first: (5, 3), not {(3, 5)}"),
    ("4.1", lambda c, b, n: list(c[:90].view(6, 5, 3)), "a stream is a column"),
    ("4.1", lambda c, b, n: [x.T for x in c[:90].view(6, 3, 5)], "do not go on from there one by one"),
    ("4.1", lambda c, b, n: whole(cut(c[:90], b, n), n), "start at 0, 33 and 66, evenly spread, not at [0, 30, 60]"),
    ("4.2", update("zero", "backward", "step", "clip"), "clip after backward, before the step"),
    ("4.2", update("zero", "clip", "backward", "step"), "clip after backward, before the step"),
    ("4.2", update("backward", "clip", "step"), "gradients add up"),
    ("4.2", update("zero", "backward", "clip", "step", "attached"), "detach it"),
    ("4.2", update("zero", "backward", "clip", "step", "from zeros"), "not what the batch started from"),
    ("4.2", update("zero", "backward", "clip values", "step"), "the whole gradient, not each entry"),
    ("4.2", update("zero", "backward", "clip", "step", "step"), "yours took 2"),
    ("4.2", update("zero", "backward", "clip"), "yours took 0"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1)).mean(), "not their sum"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(0) + math.log(3)).mean(), "over a row, not a column"),
    ("4.3", lambda q: (q.diagonal() - q.mean(1)).mean(), "the log of the mean"),
    ("4.3", lambda q: q.diagonal() - q.logsumexp(1) + math.log(3), "one number, the mean over i"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1) + math.log(3)).mean() / math.log(2), "these are bits"),
    ("4.3", lambda q: (q.diagonal() - q.exp().mean(1).log()).mean(), "stay in logs"),
]


@pytest.mark.parametrize("number, mistake, message", MISTAKES)
def test_a_mistake_is_named(number, mistake, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        exercises.check(number, mistake)
