"""VRNN: the cell over a sequence, as nn.GRU is to nn.GRUCell (chapter 3).

Only what passes from h to h has to wait for its turn. Everything else leaves the time loop and is done for all steps
in one batch: phi_x and its products with the first weights of posterior and recurrence before it; prior, emission and
both losses after it.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .by_hand import gated_path
from .cell import State, VRNNCell
from .emission import Emission
from .gaussian import DiagonalGaussian, standard_normal


class Output(NamedTuple):
    """What a VRNN computes over T steps of a batch of B (the two axes change places with batch_first)."""

    reconstruction: Tensor  # (T, B): loss 1, -log p(x_t | z_t, h_{t-1}), nats per time step
    kl: Tensor  # (T, B): loss 2, KL(posterior || prior) of z_t, nats per time step
    state: State  # after the last step
    prior: DiagonalGaussian  # parameters (T, B, Z)
    posterior: DiagonalGaussian  # parameters (T, B, Z)
    z: Tensor  # (T, B, Z)
    hidden: Tensor  # (T, B, H): h_1 to h_T of the top layer
    emission: Emission  # parameters (T, B, ...)


class VRNN(nn.Module):
    """`out = VRNN(cell)(x, state)`: a VRNNCell, the source's by default, over a sequence.

    Neither loss is weighted or clamped; that is the business of `bounds`. Minus their sum is the ELBO per step:
    Chung et al. 2015 (arXiv 1506.02216), equation 11.
    """

    def __init__(self, cell: VRNNCell | None = None, batch_first: bool = False):
        super().__init__()
        self.cell = VRNNCell() if cell is None else cell
        self.batch_first = batch_first

    @property
    def batch_axis(self) -> int:
        return 0 if self.batch_first else 1

    @property
    def configuration(self) -> dict:
        """The arguments that make this model again."""
        return {**self.cell.configuration, "batch_first": self.batch_first}

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        rnn_input: Tensor | None = None,
    ) -> Output:
        """x: codes (T, B), (T, B, k), or vectors (T, B, D). state: before the first step, None is zeros.

        noise: (T, B, Z), standard normal, drawn if not given. rnn_input: what the recurrence reads in place of x, whose
        shape it has; posterior and losses keep to x. With batch_first x, noise and rnn_input start (B, T).
        Raises ValueError for an x of the wrong type, axes or size, or of no steps.
        """
        self.cell.phi_x.check_axes(x, *("BT" if self.batch_first else "TB"))
        if self.batch_first:
            x = x.transpose(0, 1)
            noise, rnn_input = (None if given is None else given.transpose(0, 1) for given in (noise, rnn_input))
        out = self.run(x, state, noise, generator, rnn_input)
        if self.batch_first:
            out = out._replace(**{name: _swap(v) for name, v in out._asdict().items() if name != "state"})
        return out

    def run(self, x, state, noise, generator, rnn_input=None) -> Output:
        cell = self.cell
        x_posterior, x_rnn = self.input_products(x)
        if rnn_input is not None:
            x_rnn = self.input_products(rnn_input)[1]
        if noise is None:
            noise = standard_normal((*x_rnn.shape[:2], cell.latent_size), x_rnn, generator)
        if state is None:
            state = cell.zero_state(x_rnn[0])
        # One mask per step, drawn before the loop, so that posterior, prior and emission see the same h.
        mask = None
        if cell.training and cell.dropout:
            mask = F.dropout(torch.ones_like(x_rnn[..., : cell.hidden_size]), cell.dropout)
        before = cell.hidden(state)
        by_hand = cell.rnn_type == "gru" and cell.num_layers == 1 and len(cell.posterior_net) == 1
        path = gated_path if by_hand else open_path
        hidden, raw_posterior, z, z_features, state = path(cell, x_posterior, x_rnn, noise, state, mask)
        seen = torch.cat([before[None], hidden[:-1]])
        seen = seen if mask is None else seen * mask
        prior, posterior = cell.prior(seen), DiagonalGaussian(*raw_posterior.chunk(2, -1))
        emission = cell.emission_from_features(z_features, seen)
        return Output(-emission.log_prob(x), posterior.kl(prior), state, prior, posterior, z, hidden, emission)

    def input_products(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The share of x in the first layer of the posterior (T, B, .) and in the recurrence's gates (T, B, .)."""
        cell, weights = self.cell, self.cell.first_weights()
        # A text of more characters than there are codes needs each product once per code, not once per character.
        table = cell.phi_x.takes_codes and cell.characters == 1 and x.numel() > cell.phi_x.input_size
        features = cell.phi_x(torch.arange(cell.phi_x.input_size, device=x.device) if table else x)
        x_posterior = F.linear(features, weights.posterior_x, weights.posterior_bias)
        x_rnn = F.linear(features, weights.rnn_x, weights.rnn_bias)
        if not table:
            return x_posterior, x_rnn
        cell.phi_x.check(x)
        return F.embedding(x, x_posterior), F.embedding(x, x_rnn)


def open_path(cell: VRNNCell, x_posterior: Tensor, x_rnn: Tensor, noise: Tensor, state: State, mask: Tensor | None):
    """What recurs, one step after the other, for every kind and number of layers.

    Returns hidden (T, B, H), the posterior's parameters (T, B, 2Z), z (T, B, Z), phi_z(z) (T, B, H) and the state.
    """
    rest, weights = cell.posterior_net[1:], cell.first_weights()
    steps = []
    masks = [None] * len(noise) if mask is None else mask
    # unbind, not [t]: the gradient of an index is a tensor of all T steps, made anew at each of them.
    columns = zip(x_posterior.unbind(), x_rnn.unbind(), noise, masks, strict=True)
    for x_to_posterior, x_to_rnn, noise_t, mask_t in columns:
        h = cell.hidden(state)
        seen = h if mask_t is None else h * mask_t
        raw = rest(x_to_posterior + F.linear(seen, weights.posterior_h))
        z = DiagonalGaussian(*raw.chunk(2, -1)).rsample(noise_t)
        z_features = cell.phi_z(z)
        bottom = cell.layer_states(state)[0]
        gates_x = x_to_rnn + F.linear(z_features, weights.rnn_z)
        gates_h = F.linear(cell.layer_hidden(bottom), weights.rnn_h, weights.rnn_h_bias)
        state = cell.upper_layers(GATES[cell.rnn_type](gates_x, gates_h, bottom), state)
        steps.append((cell.hidden(state), raw, z, z_features))
    return *(torch.stack(column) for column in zip(*steps, strict=True)), state


def _gru(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    (r_x, u_x, n_x), (r_h, u_h, n_h) = gates_x.chunk(3, -1), gates_h.chunk(3, -1)
    candidate = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    return torch.lerp(candidate, h, torch.sigmoid(u_x + u_h))


def _lstm(gates_x: Tensor, gates_h: Tensor, layer: tuple) -> tuple:
    i, f, g, o = (gates_x + gates_h).chunk(4, -1)
    c = torch.sigmoid(f) * layer[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _rnn(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(gates_x + gates_h)


#: nn.GRUCell, nn.LSTMCell and nn.RNNCell after their matrix products, in PyTorch's order of gates.
GATES = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}


def _swap(value):
    """(T, B, ...) to (B, T, ...), in a tensor or in each tensor of a distribution."""
    if isinstance(value, Tensor):
        return value.transpose(0, 1)
    return type(value)(*(_swap(v) if isinstance(v, Tensor) else v for v in value))
