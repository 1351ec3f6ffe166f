"""CharRNN: the control without z (chapter 4)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import InputFeatures, net
from .emission import Bernoulli, Categorical, Gaussian, from_raw, raw_size

RNN_LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class CharRNNOutput(NamedTuple):
    """What a CharRNN computes over T steps of a batch of B, named as in a VRNN's output."""

    reconstruction: Tensor  # (T, B): -log p(x_t | h_{t-1}), nats per time step
    kl: Tensor  # (T, B): zeros; there is no z to pay for
    state: Tensor | tuple  # after the last step, as nn.GRU or nn.LSTM keep it
    hidden: Tensor  # (T, B, H): h_1 to h_T of the top layer
    emission: Categorical | Bernoulli | Gaussian  # parameters (T, B, ...)


class CharRNN(nn.Module):
    """A VRNN with z and all that touches it taken out: x_t is scored from h_{t-1}, and h_0 is zeros.

    Two controls come of it. With the VRNN's sizes it shows what z adds (45,632 parameters at the default); with
    hidden_size=120 it has as many parameters as the default VRNN (94,800), and shows whether z pays.
    Arguments and errors are VRNNCell's, without latent_size.
    """

    def __init__(self, input_size: int = 128, hidden_size: int = 64, *, embedding_size: int = 64, num_layers: int = 1,
                 rnn: str = "gru", emission: str = "categorical", characters: int = 1, depth: int = 1,
                 dropout: float = 0.0, batch_first: bool = False):
        super().__init__()
        self.configuration = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        if min(input_size, hidden_size, embedding_size, num_layers, depth) < 1 or not 0 <= dropout < 1:
            raise ValueError(f"sizes, layers and depth must be at least 1 and 0 <= dropout < 1: {self.configuration}.")
        if rnn not in RNN_LAYERS:
            raise ValueError(f"rnn must be one of {', '.join(RNN_LAYERS)}, not {rnn!r}.")
        outputs = raw_size(emission, input_size, characters)
        self.kind, self.emission_kind, self.characters, self.dropout = rnn, emission, characters, dropout
        self.hidden_size, self.num_layers, self.batch_first = hidden_size, num_layers, batch_first
        self.phi_x = InputFeatures(input_size, embedding_size, emission, characters, depth)
        self.emission_net = net(hidden_size, hidden_size, outputs, depth)
        # nn.GRU warns of a dropout between layers that has no layer to stand before.
        self.layers = RNN_LAYERS[rnn](embedding_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0)

    def forward(self, x: Tensor, state: Tensor | tuple | None = None) -> CharRNNOutput:
        """x: codes (T, B), (T, B, k), or vectors (T, B, D); (B, T, ...) with batch_first. state: None is zeros."""
        self.phi_x.check_axes(x, *("BT" if self.batch_first else "TB"))
        if self.batch_first:
            x = x.transpose(0, 1)
        features = self.phi_x(x)
        state = self.zero_state(features[0]) if state is None else state
        hidden, after = self.layers(features, state)
        before = torch.cat([self.hidden(state)[None], hidden[:-1]])
        if self.batch_first:
            x, before, hidden = x.transpose(0, 1), before.transpose(0, 1), hidden.transpose(0, 1)
        emission = self.emission(F.dropout(before, self.dropout, self.training))
        reconstruction = -emission.log_prob(x)
        return CharRNNOutput(reconstruction, torch.zeros_like(reconstruction), after, hidden, emission)

    def emission(self, h: Tensor) -> Categorical | Bernoulli | Gaussian:
        """p(x_t | h_{t-1}). h: (..., H)."""
        return from_raw(self.emission_net(h), self.emission_kind, self.characters)

    def rnn(self, x: Tensor, state: Tensor | tuple) -> Tensor | tuple:
        """The state after x_t: codes (B,), (B, k), or vectors (B, D)."""
        return self.layers(self.phi_x(x)[None], state)[1]

    def zero_state(self, like: Tensor) -> Tensor | tuple:
        """The state before the first step, zeros, for the batch of `like` (B, ...), with its type and device."""
        zeros = like.new_zeros(self.num_layers, len(like), self.hidden_size)
        return (zeros, zeros) if self.kind == "lstm" else zeros

    def hidden(self, state: Tensor | tuple) -> Tensor:
        """h (B, H) of the top layer."""
        return (state[0] if self.kind == "lstm" else state)[-1]
