"""Chapter 4's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
from answers import Answers, confirmed, refused

from vrnn_tutorial import bounds
from vrnn_tutorial.batches import ContiguousStreams

pytestmark = pytest.mark.usefixtures("precision")


class TestAnswers(Answers):
    notebook = "04_training.ipynb"


def scaled_by_hand(model, clip, longest=1.0):
    factor = min(longest, clip / torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    for p in model.parameters():
        p.grad *= factor


ACTIONS = {
    "zero": lambda model, optimizer, out, clip: optimizer.zero_grad(),
    "backward": lambda model, optimizer, out, clip: bounds.loss(out).backward(),
    "ascent": lambda model, optimizer, out, clip: (-bounds.loss(out)).backward(),
    "loss 1": lambda model, optimizer, out, clip: out.reconstruction.mean().backward(),
    "loss 2": lambda model, optimizer, out, clip: out.kl.mean().backward(),
    "sum": lambda model, optimizer, out, clip: (out.reconstruction + out.kl).sum().backward(),
    "half": lambda model, optimizer, out, clip: bounds.loss(out, kl_weight=0.5).backward(),
    "by parts": lambda model, optimizer, out, clip: (out.reconstruction.mean() + out.kl.mean()).backward(),
    "clip": lambda model, optimizer, out, clip: torch.nn.utils.clip_grad_norm_(model.parameters(), clip),
    "clip by hand": lambda model, optimizer, out, clip: scaled_by_hand(model, clip),
    "clip values": lambda model, optimizer, out, clip: torch.nn.utils.clip_grad_value_(model.parameters(), clip / 200),
    "stretch": lambda model, optimizer, out, clip: scaled_by_hand(model, clip, longest=1e99),
    "step": lambda model, optimizer, out, clip: optimizer.step(),
}


def update(*order):
    """A training step that does just these things, in this order."""

    def step(model, optimizer, x, state, clip):
        out = model(x, None if "from zeros" in order else state)
        if "zero at first" in order and state is None:
            optimizer.zero_grad()
        for action in order:
            if action in ACTIONS:
                ACTIONS[action](model, optimizer, out, clip)
        if "run again" in order:
            out = model(x, state)
        if "no return" not in order:
            return out.state if "attached" in order else out.state.detach()

    return step


def with_a_closure(model, optimizer, x, state, clip):
    after = None

    def closure():
        nonlocal after
        optimizer.zero_grad()
        out = model(x, state)
        loss, after = bounds.loss(out), out.state.detach()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        return loss

    assert optimizer.step(closure) > 0
    return after


def cut(codes, batch_size, length):
    """Streams in rows of memory."""
    steps = len(codes) // batch_size
    return list(codes[: steps * batch_size].view(batch_size, steps).T.split(length))


def whole(batches, length):
    return [x for x in batches if len(x) == length]


def in_turn(codes, batch_size, length):
    steps = len(codes) // batch_size
    for start in range(0, steps - length + 1, length):
        yield torch.stack([codes[b * steps + start :][:length] for b in range(batch_size)], 1)


def without_the_last(codes, batch_size, length):
    steps = len(codes) // batch_size
    columns = codes[: steps * batch_size].view(batch_size, steps).T
    return [columns[start : start + length] for start in range(0, steps - length, length)]


def one_by_one(log_q):
    nats = [log_q[i, i].item() - math.log(sum(math.exp(q - row.max()) for q in row) / len(row)) - row.max().item()
            for i, row in enumerate(log_q)]  # fmt: skip
    return sum(nats) / len(nats)


RIGHT = [
    ("4.1", in_turn),
    ("4.1", lambda c, b, n: tuple(in_turn(c, b, n))),
    ("4.1", lambda c, b, n: whole(cut(c, b, n), n)),
    ("4.2", update("zero", "backward", "clip", "step")),
    ("4.2", update("backward", "clip", "step", "zero")),
    ("4.2", update("zero", "by parts", "clip by hand", "step")),
    ("4.2", with_a_closure),
    ("4.3", one_by_one),
    ("4.3", lambda q: float((q.diagonal() - q.logsumexp(1)).mean()) + math.log(len(q))),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1) + math.log(len(q))).mean().float()),
    ("4.3", lambda q: (q.log_softmax(1).diagonal().sum() / len(q) + math.log(len(q))).numpy()),
]


@pytest.mark.parametrize("number, other", RIGHT)
def test_another_way_to_the_same_is_right(number, other):
    confirmed(number, other)


MISTAKES = [
    ("4.1", cut, "6 whole batches of 5; yours are 7"),
    ("4.1", lambda c, b, n: [x.T for x in whole(cut(c, b, n), n)], "time first: (5, 3), not {(3, 5)}"),
    ("4.1", lambda c, b, n: list(c[:90].view(6, 5, 3)), "a stream is a column"),
    ("4.1", lambda c, b, n: [x.T for x in c[:90].view(6, 3, 5)], "do not go on from there one by one"),
    ("4.1", lambda c, b, n: whole(cut(c[:90], b, n), n), "start at 0, 33 and 66, evenly spread, not at [0, 30, 60]"),
    ("4.1", ContiguousStreams, "6 whole batches of 5; yours are 50"),
    ("4.1", without_the_last, "90 codes in 3 streams are 30 steps each, 6 whole batches of 5; yours are 5"),
    (
        "4.1",
        lambda c, b, n: in_turn(c, b, 5),
        "2 whole batches of 4; yours hold other codes",
    ),
    ("4.1", lambda c, b, n: 7, "a list of batches, not of type int"),
    ("4.1", lambda c, b, n: "text", "a tensor of two dimensions"),
    ("4.1", lambda c, b, n: [x.flatten() for x in in_turn(c, b, n)], "a tensor of two dimensions"),
    ("4.1", lambda c, b, n: [x.float() for x in in_turn(c, b, n)], "codes are int64"),
    ("4.2", update("zero", "ascent", "clip", "step"), "makes the loss larger"),
    ("4.2", update("zero", "loss 1", "clip", "step"), "loss 1 alone"),
    ("4.2", update("zero", "loss 2", "clip", "step"), "loss 2 alone"),
    ("4.2", update("zero", "sum", "clip", "step"), "the gradient is 12 times that of bounds.loss"),
    ("4.2", update("zero", "half", "clip", "step"), "not that of bounds.loss(model(x, state))"),
    ("4.2", update("zero", "backward", "stretch", "step"), "should be left as it is"),
    ("4.2", update("backward", "clip", "zero", "step"), "no gradient had been computed"),
    ("4.2", update("zero", "backward", "clip", "step", "no return"), "is its return missing"),
    ("4.2", lambda *arguments: update("zero", "backward", "clip", "step")(*arguments)[0], "should come back, (2, 4)"),
    ("4.2", lambda *arguments: (update("zero", "backward", "clip", "step")(*arguments), 1.5), "come back, (2, 4)"),
    ("4.2", update("zero", "backward", "step", "clip"), "clip after backward, before the step"),
    ("4.2", update("zero", "clip", "backward", "step"), "clip after backward, before the step"),
    ("4.2", update("backward", "clip", "step"), "gradients add up"),
    ("4.2", update("zero", "backward", "clip", "step", "attached"), "detach it"),
    ("4.2", update("zero", "backward", "clip", "step", "from zeros"), "not what the batch started from"),
    ("4.2", update("zero at first", "backward", "clip", "step"), "from a state that is given, the gradient is another"),
    ("4.2", update("zero", "backward", "clip", "step", "run again"), "not the one that the model had after this batch"),
    ("4.2", update("zero", "backward", "clip values", "step"), "the whole gradient, not each entry"),
    ("4.2", update("zero", "backward", "clip", "step", "step"), "yours took 2"),
    ("4.2", update("zero", "backward", "clip"), "yours took 0"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1)).mean(), "not their sum"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(0) + math.log(3)).mean(), "over a row, not a column"),
    ("4.3", lambda q: (q.diagonal() - q.mean(1)).mean(), "the log of the mean"),
    ("4.3", lambda q: q.diagonal() - q.logsumexp(1) + math.log(3), "one number, a mean over i"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1) + math.log(3)).mean() / math.log(2), "these are bits"),
    ("4.3", lambda q: (q.diagonal() - q.exp().mean(1).log()).mean(), "stay in logs"),
    ("4.3", lambda q: (q.diagonal() - (q - q.max()).exp().mean(1).log() - q.max()).mean(), "logsumexp over each row"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1) + math.log(3)).mean(), "right for N = 3, wrong for N = 2"),
    ("4.3", lambda q: (q.diagonal() - q.logsumexp(1) + math.log(len(q))).sum(), "the sum over i"),
    ("4.3", lambda q: -(q.diagonal() - q.logsumexp(1) + math.log(len(q))).mean(), "the sign is turned round"),
    ("4.3", lambda q: q.diagonal().mean(), "here it is 0.608 nats, not 1.133"),
    ("4.3", lambda q: "much", "a mean over i, not of type str"),
    ("4.3", lambda q: q.diagonal().tolist(), "a mean over i, not of type list"),
    ("4.3", lambda q: q, "not of shape (3, 3)"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)
