"""CharRNN: the control without z (chapter 4)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .cell import emit, start_from, structure
from .configuration import CharRNNConfiguration, made_of
from .emissions import Distribution
from .inputs import InputFeatures, net, without_padding
from .lengths import check_lengths, real_steps
from .models import Drawn, sample_of

RNN_LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class CharRNNOutput(NamedTuple):
    """What a CharRNN computes over T steps of a batch of B, named as in a VRNN's output."""

    reconstruction: Tensor  # (T, B): -log p(x_t | h_{t-1}), nats per time step
    kl: Tensor  # (T, B): zeros; there is no z to pay for
    state: Tensor | tuple  # after the last step, as nn.GRU or nn.LSTM keep it (and the emission's memory beside it)
    hidden: Tensor  # (T, B, H): h_1 to h_T of the top layer (and the emission's memory behind it)
    emission: Distribution  # parameters (T, B, ...)
    steps: Tensor | None = None  # (T, B), bool: which steps there are; None for all


class CharRNN(nn.Module):
    """A VRNN with z and all that touches it taken out: x_t is scored from h_{t-1}, and h_0 is zeros.

    Two controls come of it. With the VRNN's sizes it shows what z adds (45,632 parameters at the default); with
    hidden_size=120 it has as many parameters as the default VRNN (94,800), and shows whether z pays. With
    emission="chained" it is the control without independence in a step (chapter 6).

    Args:
        input_size, hidden_size, embedding_size, num_layers, rnn, emission, characters, depth, dropout, locked_dropout,
            weight_dropout: as in VRNNCell.
        batch_first: whether x is (B, T, ...) in place of (T, B, ...).

    Raises:
        ValueError: as VRNNCell.
    """

    latent_size = 0

    @made_of(CharRNNConfiguration)
    def __init__(self, c: CharRNNConfiguration):
        super().__init__()
        self.configuration = c.as_dict()
        self.rnn_type, self.characters, self.dropout = c.rnn, c.characters, c.dropout
        self.locked_dropout, self.weight_dropout = c.locked_dropout, c.weight_dropout
        self.hidden_size, self.num_layers, self.batch_first = c.hidden_size, c.num_layers, c.batch_first
        H, E, L, seen = c.hidden_size, c.embedding_size, c.num_layers, c.hidden_size + c.emission_type.memory_size
        self.emission_type = c.emission_type.bind(c.input_size, seen, E, H)
        self.phi_x = InputFeatures(c.input_size, E, self.emission_type, c.depth)
        self.emission_net = net(seen, H, self.emission_type.size(c.input_size), c.depth)
        # nn.GRU warns of a dropout between layers that has no layer to stand before.
        self.layers = RNN_LAYERS[c.rnn](E, H, L, dropout=c.dropout if L > 1 else 0)
        self.made_of = structure(self)

    @property
    def batch_axis(self) -> int:
        return 0 if self.batch_first else 1

    def forward(
        self,
        x: Tensor,
        state: Tensor | tuple | None = None,
        rnn_input: Tensor | None = None,
        generator: torch.Generator | None = None,
        lengths: Tensor | None = None,
    ) -> CharRNNOutput:
        """The loss over a sequence.

        Args:
            x: codes (T, B), (T, B, k), or vectors (T, B, D); (B, T, ...) with batch_first.
            state: before the first step; None is zeros.
            rnn_input: what the recurrence reads in place of x, whose shape it has; the loss keeps to x.
            generator: not used, since there is no noise.
            lengths: (B,), int64, 0 to T: how many steps of each sequence there are; None for all T. What stands behind
                them changes nothing.

        Raises:
            ValueError: for x, state, rnn_input and lengths that a VRNN's `forward` would refuse.
        """
        axes = "BT" if self.batch_first else "TB"
        x = self.phi_x.read(x, *axes)
        heard = x if rnn_input is None else self.phi_x.read(rnn_input, *axes)
        if self.batch_first:
            x, heard = x.transpose(0, 1), heard.transpose(0, 1)
        steps = None
        if lengths is not None:
            check_lengths(lengths, *x.shape[:2])
            steps = real_steps(lengths, len(x))
        x, heard = without_padding(x, steps, self.phi_x), without_padding(heard, steps, self.phi_x)
        features = self.phi_x(heard)
        state = start_from(state, self.zero_state(features[0]))
        recurrent, memory = self._split(state)
        hidden, after = self._recur(features, recurrent, lengths)
        before = torch.cat([self._top(recurrent)[None], hidden[:-1]])
        seen = self._hide(before)
        if memory is not None:
            memory = torch.cat([memory[None], self.emission_type.remember(heard, memory)])
            seen, hidden = torch.cat([seen, memory[:-1]], -1), torch.cat([hidden, memory[1:]], -1)
            memory = memory[-1] if steps is None else memory.take_along_dim(steps.sum(0)[None, :, None], 0)[0]
            after = after, memory
        if self.batch_first:
            x, seen, hidden = (t.transpose(0, 1) for t in (x, seen, hidden))
            steps = None if steps is None else steps.transpose(0, 1)
        emission = self.emission(seen)
        reconstruction = -emission.log_prob(x)
        if steps is not None:
            reconstruction = reconstruction.masked_fill(~steps, 0.0)
            hidden = hidden.masked_fill(~steps[..., None], 0.0)
        return CharRNNOutput(reconstruction, torch.zeros_like(reconstruction), after, hidden, emission, steps)

    def _recur(self, features: Tensor, state: Tensor | tuple, lengths: Tensor | None):
        """The layers over features (T, B, E): the top one's h (T, B, H), and each sequence's last state."""
        if not (self.training and (self.locked_dropout or self.weight_dropout)):
            return _run(self.layers, features, state, lengths)
        hidden, states = features, []
        for i in range(self.num_layers):
            layer = RNN_LAYERS[self.rnn_type](hidden.shape[-1], self.hidden_size, device="meta")
            weights = {name: getattr(self.layers, name.replace("l0", f"l{i}")) for name, _ in layer.named_parameters()}
            weights["weight_hh_l0"] = F.dropout(weights["weight_hh_l0"], self.weight_dropout)
            before = state[i : i + 1] if isinstance(state, Tensor) else tuple(part[i : i + 1] for part in state)
            hidden, after = _run(partial(_call, layer, weights), self._hide(hidden) if i else hidden, before, lengths)
            states.append(after)
        if isinstance(state, Tensor):
            return hidden, torch.cat(states)
        return hidden, tuple(map(torch.cat, zip(*states, strict=True)))

    def _hide(self, h: Tensor) -> Tensor:
        """What is seen of h (T, B, H): in training, dropout hides a part of it."""
        if self.training and self.locked_dropout:
            return h * F.dropout(h.new_ones(h.shape[1:]), self.dropout)
        return F.dropout(h, self.dropout, self.training)

    def emission(self, h: Tensor) -> Any:
        """p(x_t | h_{t-1}). h: (..., H)."""
        return emit(self.emission_net, h, self.emission_type)

    def rnn(self, x: Tensor, state: Tensor | tuple) -> Tensor | tuple:
        """The state after x_t: codes (B,), (B, k), or vectors (B, D)."""
        recurrent, memory = self._split(state)
        after = self.layers(self.phi_x(x)[None], recurrent)[1]
        return after if memory is None else (after, self.emission_type.remember(x[None], memory)[0])

    def read(
        self,
        x: Tensor,
        state: Tensor | tuple | None = None,
        lengths: Tensor | None = None,
        prior_temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | tuple:
        """The state after x.

        Args:
            x: (T, B, ...), or (B, T, ...) with batch_first.
            state, lengths: as in `forward`.
            prior_temperature, generator: not used, since there is no z.
        """
        return self(x, state, lengths=lengths).state

    def draw(
        self,
        state: Tensor | tuple,
        temperature: float = 1.0,
        prior_temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        shift: Tensor | None = None,
        noise: Tensor | None = None,
        uniforms: Tensor | None = None,
    ) -> Drawn:
        """The next x of each sequence, as a VRNN draws it.

        Args:
            state: what the sequences were so far, B of them.
            temperature: of x, as its distribution's `sample` has it.
            generator, uniforms: x is drawn with the one, or given by the others, as its `sample` says.
            prior_temperature, shift, noise: not used, since there is no z.
        """
        emission = self.emission(self.hidden(state))
        return Drawn(sample_of(emission, temperature, generator, uniforms), None, emission)

    def advance(self, x: Tensor, z: Tensor | None, state: Tensor | tuple) -> Tensor | tuple:
        """The state after x."""
        return self.rnn(x, state)

    def columns(self, state: Tensor | tuple, chosen: Tensor | None) -> Tensor | tuple:
        """The state of the sequences (N,) chosen among a state's, by their numbers; None for all as they are."""
        if chosen is None:
            return state
        recurrent, memory = self._split(state)
        recurrent = recurrent[:, chosen] if isinstance(recurrent, Tensor) else tuple(h[:, chosen] for h in recurrent)
        return recurrent if memory is None else (recurrent, memory[chosen])

    def zero_state(self, like: Tensor) -> Tensor | tuple:
        """The state before the first step, zeros, for the batch of `like` (B, ...), with its type and device."""
        zeros = like.new_zeros(self.num_layers, len(like), self.hidden_size)
        recurrent = (zeros, zeros) if self.rnn_type == "lstm" else zeros
        memory = self.emission_type.memory_size
        return (recurrent, like.new_zeros(len(like), memory)) if memory else recurrent

    def hidden(self, state: Tensor | tuple) -> Tensor:
        """h (B, H) of the top layer; and behind it the memory, if the emission keeps one."""
        recurrent, memory = self._split(state)
        h = self._top(recurrent)
        return h if memory is None else torch.cat([h, memory], -1)

    def _split(self, state: Tensor | tuple) -> tuple[Tensor | tuple, Tensor | None]:
        return (state[0], state[1]) if self.emission_type.memory_size else (state, None)

    def _top(self, recurrent: Tensor | tuple) -> Tensor:
        return (recurrent[0] if self.rnn_type == "lstm" else recurrent)[-1]


def _call(layer: nn.Module, weights: dict[str, Tensor], x, state):
    """The layer, with these weights, over x from this state."""
    return functional_call(layer, weights, (x, state))


def _run(layers: Callable, features: Tensor, state: Tensor | tuple, lengths: Tensor | None):
    """Layers over features (T, B, E), which may be of unequal lengths (B,): h (T, B, H) of the top one, last states."""
    if lengths is None:
        return layers(features, state)
    # A packed sequence has a step at least; the state of one that has none is what it was.
    packed = nn.utils.rnn.pack_padded_sequence(features, lengths.clamp(min=1).cpu(), enforce_sorted=False)
    hidden, after = layers(packed, state)
    hidden, _ = nn.utils.rnn.pad_packed_sequence(hidden, total_length=len(features))
    some = (lengths > 0)[None, :, None]
    if isinstance(state, Tensor):
        return hidden, torch.where(some, after, state)
    return hidden, tuple(torch.where(some, *parts) for parts in zip(after, state, strict=True))
