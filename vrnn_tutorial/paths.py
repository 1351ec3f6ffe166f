"""The cell's path through time: what has to wait for its turn, one step after the other, for every kind of cell."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .cell import State, VRNNCell
from .gaussian import posterior_from_raw
from .inputs import values_are_there

#: More columns times steps than this are computed in parts. Then what is needed in between, but not for the gradient,
#: stays in the processor's caches, and in memory that the process has already.
AT_ONCE = 20_000


def steps_at_once(noise: Tensor) -> int:
    """How many steps of noise (T, B, Z) a part has: as many as T, where a part is all, in parts of equal length."""
    T, B = noise.shape[:2]
    if not values_are_there() or T * B <= AT_ONCE:
        return T
    return -(-T // -(-T * B // AT_ONCE))


class Shares(NamedTuple):
    """What the path through time reads of x: of each step's, or of each code, for the steps to look up."""

    posterior: Tensor  # (T, B K, .), or of V codes (V, .): the share in the posterior's first layer
    rnn: Tensor  # likewise: the share of x, or of what the recurrence reads in its place, in the gates
    codes: tuple[Tensor, Tensor] | None  # (T, B K) each: the rows of both that the steps take; None: a row is a step's
    memory: Tensor | None  # (T + 1, B K, M): before each step and after the last, if the emission keeps one

    def of_steps(self) -> tuple[Tensor, Tensor]:
        """Both for each step, (T, B K, .)."""
        if self.codes is None:
            return self.posterior, self.rnn
        x, heard = self.codes
        return F.embedding(x, self.posterior), F.embedding(heard, self.rnn)


def shares_of(cell: VRNNCell, x: Tensor, heard: Tensor, state: State, particles: int) -> Shares:
    """The shares of x and of what the recurrence reads in its place, both (T, B, ...), for K particles of each.

    Args:
        cell, x, heard: as said.
        state: before the first step, of B K columns.
        particles: K.
    """
    weights, phi_x, emission, stochastic = cell.first_weights(), cell.phi_x, cell.emission_type, cell.stochastic
    # A text of more characters than there are codes needs each product once per code, not once per character.
    table = phi_x.takes_codes and cell.characters == 1 and x.numel() > phi_x.input_size
    seen = phi_x.features(torch.arange(phi_x.input_size, device=x.device) if table else x)
    read = seen if heard is x or table else phi_x.features(heard)
    of_rnn = F.linear(read, weights.rnn_x, weights.rnn_bias)
    of_posterior = F.linear(seen, weights.posterior_x, weights.posterior_bias) if stochastic else of_rnn[..., :0]
    codes, memory = (x, heard) if table else None, None
    if particles > 1 and table:
        codes = x.repeat_interleave(particles, 1), heard.repeat_interleave(particles, 1)
    elif particles > 1:
        of_posterior, of_rnn = (part.repeat_interleave(particles, 1) for part in (of_posterior, of_rnn))
    if emission.memory_size:
        heard = heard.repeat_interleave(particles, 1)
        memory = torch.cat([state[1][None], emission.remember(heard, state[1])])
        if stochastic:
            of_posterior = of_posterior + F.linear(memory[:-1], weights.posterior_memory)
    return Shares(of_posterior, of_rnn, codes, memory)


class Dropped(NamedTuple):
    """What dropout leaves in a sequence, drawn before its first step."""

    seen: Tensor | None  # (T, B, H): of h, what posterior, prior and emission see of it; None for all of it
    below: Tensor | None  # (T, L - 1, B, H): what each layer sees of the one below it; None for all of it
    weights: list[Tensor]  # of each layer, from h to h: (gates H, H)

    def part(self, steps: slice) -> "Dropped":
        """What is left in some of the steps."""
        seen, below = (None if mask is None else mask[steps] for mask in self[:2])
        return Dropped(seen, below, self.weights)


def drop(cell: VRNNCell, noise: Tensor, particles: int) -> Dropped:
    """What the cell's dropout leaves of T steps and B K columns, as many as noise (T, B K, Z) has."""
    seen, below = None, None
    if cell.training and cell.dropout:
        # One mask per step, or one for all: posterior, prior and emission see the same h.
        masks = 1 if cell.locked_dropout else len(noise)
        seen = cell.dropout_masks(masks, noise, particles).expand(len(noise), -1, -1)
    weights = cell.hidden_weights()
    if cell.training and cell.dropout and cell.num_layers > 1:
        drawn = 1 if cell.locked_dropout else len(noise)
        below = torch.stack([cell.dropout_masks(cell.num_layers - 1, noise, particles) for _ in range(drawn)])
        below = below.expand(len(noise), -1, -1, -1)
    return Dropped(seen, below, weights)


def open_path(
    cell: VRNNCell,
    shares: Shares,
    noise: Tensor,
    layers: tuple,
    dropped: Dropped,
    steps: Tensor | None,
    choose: Callable[..., tuple] | None = None,
):
    """What recurs, one step after the other, for every kind and number of layers.

    Args:
        cell: whose path it is.
        shares: what it reads of x.
        noise: (T, B, Z), standard normal.
        layers: the layers' states before the first step; behind a sequence's end they stay as they are.
        dropped: what dropout leaves.
        steps: (T, B), which of them are real; None for all.
        choose: is called after each step with all that it computed, and gives the layers' states from which to go on.

    Returns:
        The top layer's h before each step (T, B, H) and after it (T, B, H), the posterior's parameters (T, B, 2Z), z
        (T, B, Z), phi_z(z) (T, B, H), the layers' states after the last step.
    """
    weights, (mask, masks, hidden), memory, columns = cell.first_weights(), dropped, shares.memory, []
    before = cell.layer_hidden(layers[-1])[None]
    x_posterior, x_rnn = shares.of_steps()
    posterior_h, rnn_z, rnn_h = (w.t() for w in (weights.posterior_h, weights.rnn_z, hidden[0]))
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
    after, *rest = (torch.stack(column) for column in zip(*columns, strict=True))
    return torch.cat([before, after[:-1]]), after, *rest, layers


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
