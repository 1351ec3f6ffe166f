"""Checks of chapter 4's exercises; the notebook says what each answer must do."""

import math
from collections.abc import Iterable
from itertools import islice

import torch

from .. import bounds
from ..cell import VRNNCell
from ..vrnn import VRNN
from .checking import number, same


def check_4_1(streams) -> str:
    """streams(codes, batch_size, length): codes (N,) to a list of x (length, batch_size), B contiguous streams."""
    codes = torch.arange(100)
    batches = _batches(streams(codes, 3, 5))
    assert len(batches) == 6, (
        f"100 codes in 3 streams are 33 steps each, 6 whole batches of 5; yours are {len(batches)}."
    )
    shapes = {tuple(x.shape) for x in batches}
    assert shapes == {(5, 3)}, f"each x should be (length, batch_size), time first: (5, 3), not {shapes}."
    whole = torch.cat(batches)
    assert not torch.equal(whole.flatten(), codes[:90]), (
        "neighbours in time must be neighbours in the text: a stream is a column."
    )
    starts = whole[0].tolist()
    assert torch.equal(whole, whole[0] + torch.arange(30)[:, None]), (
        f"the columns start at {starts}, but do not go on from there one by one, across the border of the batches."
    )
    assert starts == [0, 33, 66], f"the three streams should start at 0, 33 and 66, evenly spread, not at {starts}."
    for count, batch_size, length in ((90, 3, 5), (23, 2, 4)):
        batches = _batches(streams(torch.arange(count), batch_size, length))
        steps = count // batch_size
        many = steps // length
        case = f"{count} codes in {batch_size} streams are {steps} steps each, {many} whole batches of {length}"
        assert len(batches) == many, f"{case}; yours are {len(batches)}."
        wanted = torch.arange(batch_size) * steps + torch.arange(many * length)[:, None]
        assert torch.equal(torch.cat(batches), wanted), f"{case}; yours hold other codes."
    return "Column b of a batch goes on where column b of the batch before stopped, so its state may be carried over."


def _batches(answer) -> list[torch.Tensor]:
    """The batches of a list, or of what else gives them one by one, and may have no end."""
    assert isinstance(answer, Iterable), f"it should be a list of batches, not of type {type(answer).__name__}."
    batches = list(islice(answer, 50))
    assert all(isinstance(x, torch.Tensor) and x.dim() == 2 for x in batches), (
        "each batch of the list should be a tensor of two dimensions, (length, batch_size)."
    )
    assert all(x.dtype == torch.int64 for x in batches), "codes are int64, and so should be those of each batch."
    return batches


def check_4_2(update) -> str:
    """update(model, optimizer, x, state, clip): one training step; returns the state to start the next one from."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = VRNN(VRNNCell(hidden_size=4, latent_size=2, embedding_size=3)).double()
        x, clip, far = torch.randint(128, (6, 2)), 0.01, 1e9
        given = torch.randn(2, 4, dtype=torch.float64)
    parameters, seen = list(model.parameters()), []

    def gradient():
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        return torch.cat([grad.flatten() for grad in grads]).clone()

    class Watched(torch.optim.SGD):
        """Keeps the gradient that it should step along, and stays where it is."""

        def step(self, closure=None):
            __tracebackhide__ = True
            loss = None if closure is None else closure()
            seen.append(gradient())
            return loss

    optimizer = Watched(parameters)

    def updated(state, clip):
        """The state that comes back, and the gradient that the optimizer saw, with the same noise each time."""
        seen.clear()
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            after = update(model, optimizer, x, state, clip)
        assert len(seen) == 1, f"one update takes one step of the optimizer; yours took {len(seen)}."
        assert isinstance(after, torch.Tensor) and after.shape == (2, 4), (
            "the state after the batch should come back, (2, 4)."
        )
        return after, seen[0]

    def wanted(state, loss=bounds.loss):
        with torch.random.fork_rng([]), torch.enable_grad():
            torch.manual_seed(1)
            out = model(x, state)
        slopes = torch.autograd.grad(loss(out), parameters, allow_unused=True, materialize_grads=True)
        return out.state.detach(), torch.cat([slope.flatten() for slope in slopes])

    state, clipped = updated(None, clip)
    assert not state.requires_grad, "the state still hangs on the graph of this batch: detach it."
    assert clipped.norm() > 0, "when the optimizer stepped, no gradient had been computed."
    assert clipped.norm() < clip * 1.001, (
        f"the gradient that the optimizer saw has the norm {clipped.norm():.2g}, not at most {clip}: "
        "clip after backward, before the step."
    )
    state_after, slope = wanted(None)
    assert same(state, state_after), "the state is not the one that the model had after this batch."
    model.zero_grad()  # each of these updates shall be a first one
    _, unclipped = updated(None, far)
    assert unclipped.norm() < far / 2, "a gradient that is shorter than clip already should be left as it is."
    for mistake, sentence in (
        (-slope, "the gradient points the other way: this step makes the loss larger."),
        (wanted(None, lambda out: out.reconstruction.mean())[1], "this is the gradient of loss 1 alone; add loss 2."),
        (wanted(None, lambda out: out.kl.mean())[1], "this is the gradient of loss 2 alone; add loss 1."),
    ):
        assert not same(unclipped, mistake), sentence
    factor = unclipped @ slope / (slope @ slope)
    assert same(factor, torch.ones(())) or not same(unclipped / factor, slope), (
        f"the gradient is {factor:.3g} times that of bounds.loss, which is a mean."
    )
    assert same(unclipped, slope), "the gradient that the optimizer saw is not that of bounds.loss(model(x, state))."
    assert same(clipped / clip, slope / slope.norm()), "clipping should scale the whole gradient, not each entry."
    assert same(updated(None, far)[1], slope), (
        "two updates on the same batch: gradients add up if they are not set to zero first."
    )
    from_given, slope = updated(given, far)
    assert same(from_given, wanted(given)[0]), "the state that was given is not what the batch started from."
    assert same(slope, wanted(given)[1]), "from a state that is given, the gradient is another than bounds.loss has."
    return "Zero, forward from the state, backward, clip, step, detach: the six go on in this order, update by update."


def check_4_3(information) -> str:
    """information(log_q): log q(z_i | x_j), (N, N), z_i drawn given x_i, to nats of information z carries of x."""
    log_q = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -3.0], [0.0, 0.2, 0.4]], dtype=torch.float64)

    def told(log_q):
        return (log_q.diagonal() - (log_q.logsumexp(1) - math.log(len(log_q)))).mean()

    def answer(log_q):
        return number(information(log_q.clone()), "mean over i")

    nats, wanted = answer(log_q), told(log_q)
    transposed = told(log_q.T)
    assert not same(nats, 3 * wanted), "this is the sum over i; it should be the mean."
    assert not same(nats, -wanted), "the sign is turned round: what z tells is never negative on average."
    assert not same(nats, wanted - math.log(3)), "the aggregate is the mean of the N posteriors, not their sum."
    assert not same(nats, transposed), "the aggregate at z_i is a mean over all x_j: over a row, not a column."
    of_logs = (log_q.diagonal() - log_q.mean(1)).mean()
    assert not same(nats, of_logs), "this is the mean of the logs; the aggregate is the log of the mean."
    assert not same(nats, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert same(nats, wanted), f"here it is {wanted:.3f} nats, not {nats:.3f}."
    low = log_q - torch.tensor([0.0, 1000.0, 500.0])[:, None]  # no number common to all rows brings them back
    assert same(answer(low), wanted), (
        "densities as small as exp(-1000) vanish: stay in logs, with logsumexp over each row."
    )
    for n in (2, 5):
        single = torch.randn(n, n, generator=torch.Generator().manual_seed(n))
        assert same(answer(single), told(single)), f"right for N = 3, wrong for N = {n}."
    return "With N data it is at most log N, when each z tells its x apart from all others; and 0 when z tells nothing."
