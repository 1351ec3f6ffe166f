"""Checks of chapter 4's exercises; the notebook says what each answer must do."""

import math

import torch

from ..cell import VRNNCell
from ..vrnn import VRNN


def check_4_1(streams) -> str:
    """streams(codes, batch_size, length): codes (N,) to a list of x (length, batch_size), B contiguous streams."""
    codes = torch.arange(100)
    batches = streams(codes, 3, 5)
    assert len(batches) == 6, (
        f"100 codes in 3 streams are 33 steps each, 6 whole batches of 5; yours are {len(batches)}."
    )
    shapes = {tuple(x.shape) for x in batches}
    assert shapes == {(5, 3)}, f"each x should be (length, batch_size), time first: (5, 3), not {shapes}."
    whole = torch.cat(list(batches))
    assert not torch.equal(whole.flatten(), codes[:90]), (
        "neighbours in time must be neighbours in the text: a stream is a column."
    )
    starts = whole[0].tolist()
    assert torch.equal(whole, whole[0] + torch.arange(30)[:, None]), (
        f"the columns start at {starts}, but do not go on from there one by one, across the border of the batches."
    )
    assert starts == [0, 33, 66], f"the three streams should start at 0, 33 and 66, evenly spread, not at {starts}."
    return "Column b of a batch goes on where column b of the batch before stopped, so its state may be carried over."


def check_4_2(update) -> str:
    """update(model, optimizer, x, state, clip): one training step; returns the state to start the next one from."""
    torch.manual_seed(0)
    model = VRNN(VRNNCell(hidden_size=4, latent_size=2, embedding_size=3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # so that there is something to clip
    x, clip = torch.randint(128, (6, 2)), 0.01
    seen = []

    class Watched(torch.optim.SGD):
        def step(self):
            norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()
            seen.append(norm)
            return super().step()

    optimizer = Watched(model.parameters(), lr=0.0)
    torch.manual_seed(1)
    state = update(model, optimizer, x, None, clip)
    assert len(seen) == 1, f"one update takes one step of the optimizer; yours took {len(seen)}."
    assert isinstance(state, torch.Tensor) and state.shape == (2, 4), (
        "the state after the batch should come back, (2, 4)."
    )
    assert not state.requires_grad, "the state still hangs on the graph of this batch: detach it."
    assert seen[0] > 0, "when the optimizer stepped, no gradient had been computed."
    assert seen[0] < clip * 1.001, (
        f"the gradient that the optimizer saw has the norm {seen[0]:.2g}, not at most {clip}: "
        "clip after backward, before the step."
    )
    torch.manual_seed(1)
    wanted = model(x).state.detach()
    assert torch.allclose(state, wanted), "the state is not the one that the model had after this batch."
    first = [parameter.grad.clone() for parameter in model.parameters()]
    torch.manual_seed(1)
    update(model, optimizer, x, None, 1e9)
    unclipped = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.manual_seed(1)
    update(model, optimizer, x, None, 1e9)
    again = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert torch.isclose(unclipped, again), (
        "two updates on the same batch: gradients add up if they are not set to zero first."
    )
    expected = torch.cat([gradient.flatten() for gradient in first])
    found = torch.cat([p.grad.flatten() for p in model.parameters()]) * clip / again
    assert torch.allclose(expected, found, rtol=1e-3, atol=1e-8), (
        "clipping should scale the whole gradient, not each entry."
    )
    out_state = torch.randn(2, 4, dtype=torch.float64)
    torch.manual_seed(2)
    carried = update(model, optimizer, x, out_state, clip)
    torch.manual_seed(2)
    assert torch.allclose(carried, model(x, out_state).state), (
        "the state that was given is not what the batch started from."
    )
    return (
        "Zero, forward from the state, backward, clip, step, detach: each of the six has been forgotten in public code."
    )


def check_4_3(information) -> str:
    """information(log_q): log q(z_i | x_j), (N, N), z_i drawn given x_i, to nats of information z carries of x."""
    log_q = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -3.0], [0.0, 0.2, 0.4]], dtype=torch.float64)
    wanted = (log_q.diagonal() - (log_q.logsumexp(1) - math.log(3))).mean()
    nats = torch.as_tensor(information(log_q))
    assert nats.numel() == 1, f"it should be one number, the mean over i, not of shape {tuple(nats.shape)}."
    transposed = (log_q.diagonal() - (log_q.logsumexp(0) - math.log(3))).mean()
    assert not torch.isclose(nats, wanted - math.log(3)), (
        "the aggregate is the mean of the N posteriors, not their sum."
    )
    assert not torch.isclose(nats, transposed), "the aggregate at z_i is a mean over all x_j: over a row, not a column."
    of_logs = (log_q.diagonal() - log_q.mean(1)).mean()
    assert not torch.isclose(nats, of_logs), "this is the mean of the logs; the aggregate is the log of the mean."
    assert not torch.isclose(nats, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert torch.isclose(nats, wanted), f"here it is {wanted:.3f} nats, not {nats.item():.3f}."
    low = torch.as_tensor(information(log_q - 1000))
    assert torch.isclose(low, wanted), "densities as small as exp(-1000) vanish: stay in logs, with logsumexp."
    return "With N data it is at most log N, when each z tells its x apart from all others; and 0 when z tells nothing."
