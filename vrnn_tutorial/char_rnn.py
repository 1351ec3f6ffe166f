"""CharRNN: the control without z (chapter 4); ChainedCharRNN: the one without independence in a step (chapter 6)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import InputFeatures, net
from .emission import Categorical, Emission, from_raw, raw_size

RNN_LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class CharRNNOutput(NamedTuple):
    """What a CharRNN computes over T steps of a batch of B, named as in a VRNN's output."""

    reconstruction: Tensor  # (T, B): -log p(x_t | h_{t-1}), nats per time step
    kl: Tensor  # (T, B): zeros; there is no z to pay for
    state: Tensor | tuple  # after the last step, as nn.GRU or nn.LSTM keep it
    hidden: Tensor  # (T, B, H): h_1 to h_T of the top layer
    emission: "Emission | Chained"  # parameters (T, B, ...)


class CharRNN(nn.Module):
    """A VRNN with z and all that touches it taken out: x_t is scored from h_{t-1}, and h_0 is zeros.

    Two controls come of it. With the VRNN's sizes it shows what z adds (45,632 parameters at the default); with
    hidden_size=120 it has as many parameters as the default VRNN (94,800), and shows whether z pays.
    Arguments and errors are VRNNCell's, without latent_size.
    """

    def __init__(
        self,
        input_size: int = 128,
        hidden_size: int = 64,
        *,
        embedding_size: int = 64,
        num_layers: int = 1,
        rnn: str = "gru",
        emission: str = "categorical",
        characters: int = 1,
        depth: int = 1,
        dropout: float = 0.0,
        batch_first: bool = False,
    ):
        super().__init__()
        self.configuration = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        if min(input_size, hidden_size, embedding_size, num_layers, depth) < 1 or not 0 <= dropout < 1:
            raise ValueError(f"sizes, layers and depth must be at least 1 and 0 <= dropout < 1: {self.configuration}.")
        if rnn not in RNN_LAYERS:
            raise ValueError(f"rnn must be one of {', '.join(RNN_LAYERS)}, not {rnn!r}.")
        outputs = raw_size(emission, input_size, characters)
        self.rnn_type, self.emission_kind, self.characters, self.dropout = rnn, emission, characters, dropout
        self.hidden_size, self.num_layers, self.batch_first = hidden_size, num_layers, batch_first
        self.phi_x = InputFeatures(input_size, embedding_size, emission, characters, depth)
        self.emission_net = net(hidden_size, hidden_size, outputs, depth)
        # nn.GRU warns of a dropout between layers that has no layer to stand before.
        self.layers = RNN_LAYERS[rnn](embedding_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0)

    def forward(self, x: Tensor, state: Tensor | tuple | None = None, rnn_input: Tensor | None = None) -> CharRNNOutput:
        """x: codes (T, B), (T, B, k), or vectors (T, B, D); (B, T, ...) with batch_first. state: None is zeros.

        rnn_input: what the recurrence reads in place of x, whose shape it has.
        """
        self.phi_x.check_axes(x, *("BT" if self.batch_first else "TB"))
        features = self.phi_x(x if rnn_input is None else rnn_input)
        if self.batch_first:
            features = features.transpose(0, 1)
        state = self.zero_state(features[0]) if state is None else state
        hidden, after = self.layers(features, state)
        before = torch.cat([self.hidden(state)[None], hidden[:-1]])
        if self.batch_first:
            before, hidden = before.transpose(0, 1), hidden.transpose(0, 1)
        emission = self.emission(F.dropout(before, self.dropout, self.training))
        reconstruction = -emission.log_prob(x)
        return CharRNNOutput(reconstruction, torch.zeros_like(reconstruction), after, hidden, emission)

    def emission(self, h: Tensor) -> "Emission | Chained":
        """p(x_t | h_{t-1}). h: (..., H)."""
        return from_raw(self.emission_net(h), self.emission_kind, self.characters)

    def rnn(self, x: Tensor, state: Tensor | tuple) -> Tensor | tuple:
        """The state after x_t: codes (B,), (B, k), or vectors (B, D)."""
        return self.layers(self.phi_x(x)[None], state)[1]

    def zero_state(self, like: Tensor) -> Tensor | tuple:
        """The state before the first step, zeros, for the batch of `like` (B, ...), with its type and device."""
        zeros = like.new_zeros(self.num_layers, len(like), self.hidden_size)
        return (zeros, zeros) if self.rnn_type == "lstm" else zeros

    def hidden(self, state: Tensor | tuple) -> Tensor:
        """h (B, H) of the top layer."""
        return (state[0] if self.rnn_type == "lstm" else state)[-1]


class Chained(NamedTuple):
    """p(x_t | h_{t-1}) as a chain: character i of a step is told the i - 1 before it.

    logits: (..., k, V) and h: (..., H), of the model. x: int64 codes (..., k).
    """

    logits: Tensor  # what h alone says, as in a Categorical
    h: Tensor
    model: "ChainedCharRNN"

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over the k characters of a step: (...)."""
        return self.given(x).log_prob(x)

    def sample(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Codes (..., k), drawn one after the other, each as a Categorical draws them; at 0 each the most likely."""
        x = torch.zeros(self.logits.shape[:-1], dtype=torch.int64, device=self.logits.device)
        for i in range(x.shape[-1]):
            x[..., i] = Categorical(self.given(x).logits[..., i, :]).sample(temperature, generator)
        return x

    def given(self, x: Tensor) -> Categorical:
        """The k softmaxes, each given the characters of x before its own."""
        embedded = self.model.phi_x.embedding(x).flatten(-2)
        E = self.model.phi_x.embedding_size
        heard = [link(torch.cat([self.h, embedded[..., : i * E]], -1)) for i, link in enumerate(self.model.links, 1)]
        return Categorical(self.logits + torch.stack([torch.zeros_like(heard[0]), *heard], -2), len(heard) + 1)


class ChainedCharRNN(CharRNN):
    """A CharRNN of k > 1 characters per step that does not take them for independent, given h.

    p(x_t | h_{t-1}) = prod_i p(x_t,i | x_t,1 ... x_t,i-1, h_{t-1}), exact like every chain rule: what it gains on the
    CharRNN is what independent softmaxes cost. To the logits of each character but the first, a net of h and of the
    earlier characters' embeddings adds its own; with these at zero it is the CharRNN. Arguments and errors are
    CharRNN's; ValueError too for one character per step, or vectors.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.characters == 1:
            raise ValueError("a chain needs two characters per step or more.")
        V, H, E = self.phi_x.input_size, self.hidden_size, self.phi_x.embedding_size
        self.links = nn.ModuleList(net(H + i * E, H, V, depth=2) for i in range(1, self.characters))

    def emission(self, h: Tensor) -> Chained:
        """p(x_t | h_{t-1}). h: (..., H)."""
        logits, *_ = super().emission(h)
        return Chained(logits, h, self)
