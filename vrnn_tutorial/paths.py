"""The cell's path through time: what has to wait for its turn, one step after the other, for every kind of cell."""

from collections.abc import Callable

import torch
from torch import Tensor

from .cell import VRNNCell
from .gaussian import posterior_from_raw


def open_path(
    cell: VRNNCell,
    x_posterior: Tensor,
    x_rnn: Tensor,
    noise: Tensor,
    layers: tuple,
    mask: Tensor | None,
    memory: Tensor | None,
    steps: Tensor | None,
    particles: int = 1,
    choose: Callable[..., tuple] | None = None,
):
    """What recurs, one step after the other, for every kind and number of layers.

    Args:
        cell: whose path it is.
        x_posterior: (T, B, .), the share of x, and of the memory, in the first layer of the posterior.
        x_rnn: (T, B, .), the share of x, or of what the recurrence reads in its place, in the gates.
        noise: (T, B, Z), standard normal.
        layers: the layers' states before the first step; behind a sequence's end they stay as they are.
        mask: (T, B, H), what dropout leaves of h; None for all of it.
        memory: (T + 1, B, M), if the emission keeps one.
        steps: (T, B), which of them are real; None for all.
        particles: how many columns in turn are of one sequence.
        choose: is called after each step with all that it computed, and gives the layers' states from which to go on.

    Returns:
        hidden (T, B, H), the posterior's parameters (T, B, 2Z), z (T, B, Z), phi_z(z) (T, B, H), the layers' states.
    """
    weights, hidden, masks, columns = cell.first_weights(), cell.hidden_weights(), None, []
    posterior_h, rnn_z, rnn_h = (w.t() for w in (weights.posterior_h, weights.rnn_z, hidden[0]))
    if cell.training and (cell.locked_dropout or particles > 1):
        drawn = 1 if cell.locked_dropout else len(x_rnn)
        masks = cell.dropout_masks(drawn * (cell.num_layers - 1), x_rnn, particles)
        masks = masks.unflatten(0, (drawn, -1)).expand(len(x_rnn), -1, -1, -1)
    # unbind, not [t]: the gradient of an index is a tensor of all T steps, made anew at each of them.
    for t, (x_to_posterior, x_to_rnn) in enumerate(zip(x_posterior.unbind(), x_rnn.unbind(), strict=True)):
        h = cell.layer_hidden(layers[-1])
        seen = h if mask is None else h * mask[t]
        if cell.posterior_net is not None:
            raw = cell.posterior_net[1:](torch.addmm(x_to_posterior, seen, posterior_h))
            z = posterior_from_raw(raw).rsample(noise[t])
        else:
            raw = z = cell.prior(seen if memory is None else torch.cat([seen, memory[t]], -1)).mean
        z_features = cell.phi_z(z)
        gates_x = torch.addmm(x_to_rnn, z_features, rnn_z)
        gates_h = torch.addmm(weights.rnn_h_bias, cell.layer_hidden(layers[0]), rnn_h)
        bottom = GATES[cell.rnn_type](gates_x, gates_h, layers[0])
        after = cell.upper_layers(bottom, layers, hidden, None if masks is None else masks[t])
        layers = after if steps is None else where(steps[t], after, layers)
        if choose is not None:
            layers = choose(t, seen if memory is None else torch.cat([seen, memory[t]], -1), raw, z, z_features, layers)
        columns.append((cell.layer_hidden(layers[-1]), raw, z, z_features))
    return *(torch.stack(column) for column in zip(*columns, strict=True)), layers


def _gru(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    (r_x, u_x, n_x), (r_h, u_h, n_h) = gates_x.chunk(3, -1), gates_h.chunk(3, -1)
    candidate = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    # Under autocast the gates are of less precision than h.
    return torch.lerp(candidate.to(h.dtype), h, torch.sigmoid(u_x + u_h).to(h.dtype))


def _lstm(gates_x: Tensor, gates_h: Tensor, layer: tuple) -> tuple:
    i, f, g, o = (gates_x + gates_h).chunk(4, -1)
    c = torch.sigmoid(f) * layer[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _rnn(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(gates_x + gates_h)


#: nn.GRUCell, nn.LSTMCell and nn.RNNCell after their matrix products, in PyTorch's order of gates.
GATES = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}


def where(chosen: Tensor, state, other):
    """The columns of `state` that are chosen, (B,), and of `other` the rest."""
    if isinstance(state, Tensor):
        return torch.where(chosen[:, None], state, other)
    return tuple(where(chosen, *parts) for parts in zip(state, other, strict=True))


def columns_of(state, chosen: Tensor | None):
    """The state that is made of these columns of a state's batch; None for all as they are."""
    if chosen is None:
        return state
    return state[chosen] if isinstance(state, Tensor) else tuple(columns_of(part, chosen) for part in state)
