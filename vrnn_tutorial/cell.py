"""VRNNCell: one time step of a variational recurrent neural network, in the style of nn.GRUCell (chapter 3).

Chung et al. 2015, "A Recurrent Latent Variable Model for Sequential Data" (arXiv 1506.02216), equations 5 to 9. Four
nets make a step, each named after the distribution or the state that it computes:

    posterior   x_t, h_{t-1}      -> z_t     the encoder, q(z_t | x_t, h_{t-1}): in training only
    prior       h_{t-1}           -> z_t     p(z_t | h_{t-1})
    emission    z_t, h_{t-1}      -> x_t     the decoder, p(x_t | z_t, h_{t-1}): x_t, not x_{t+1}
    rnn         x_t, z_t, h_{t-1} -> h_t     the recurrence
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .emission import Emission, from_raw, raw_size
from .gaussian import DiagonalGaussian

RNN_CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell, "rnn": nn.RNNCell}

#: What a GRUCell keeps (h), what an LSTMCell keeps (h, c), or with L layers a tuple of L of them.
State = Tensor | tuple


class Step(NamedTuple):
    """What one step of a VRNNCell computes, for a batch of B."""

    state: State  # after the step
    hidden: Tensor  # (B, H): h_t, the top layer's
    prior: DiagonalGaussian  # of z_t, each parameter (B, Z)
    posterior: DiagonalGaussian  # of z_t, each parameter (B, Z)
    z: Tensor  # (B, Z), drawn from the posterior
    emission: Emission  # of x_t


class FirstWeights(NamedTuple):
    """The first layers of posterior and recurrence, cut by what their columns multiply: phi_x(x), h or phi_z(z)."""

    posterior_x: Tensor  # (., E)
    posterior_h: Tensor  # (., H)
    posterior_bias: Tensor  # (.,)
    rnn_x: Tensor  # (gates H, E)
    rnn_z: Tensor  # (gates H, H)
    rnn_h: Tensor  # (gates H, H)
    rnn_bias: Tensor  # (gates H,), beside phi_x(x) and phi_z(z)
    rnn_h_bias: Tensor  # (gates H,), beside h


def net(inputs: int, width: int, outputs: int, depth: int) -> nn.Sequential:
    """`depth` linear layers with ELU between them; the inner ones are `width` wide."""
    sizes = [inputs, *[width] * (depth - 1), outputs]
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ELU())]
    return nn.Sequential(*layers[:-1])


class InputFeatures(nn.Module):
    """phi_x: what the nets see of x_t. Codes are embedded, vectors go through a linear layer; then linear and ELU.

    x: int64 codes (...), or (..., k) for k characters per step, whose embeddings are joined; or real vectors (..., D).
    Returns features (..., E). Raises ValueError for an x of the wrong type or size.
    """

    def __init__(self, input_size: int, embedding_size: int, emission: str, characters: int, depth: int):
        super().__init__()
        self.input_size, self.embedding_size = input_size, embedding_size
        self.characters, self.takes_codes = characters, emission == "categorical"
        if characters < 1 or (characters > 1 and not self.takes_codes):
            raise ValueError(f"characters={characters}: one or more, and more than one only for codes.")
        make = nn.Embedding if self.takes_codes else nn.Linear
        self.embedding = make(input_size, embedding_size)
        self.net = nn.Sequential(net(characters * embedding_size, embedding_size, embedding_size, depth), nn.ELU())

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        features = self.embedding(x)
        return self.net(features if self.characters == 1 else features.flatten(-2))

    def check_axes(self, x: Tensor, *leading: str) -> None:
        """Raises ValueError unless x has just these axes, each of one entry or more, and k or D behind them."""
        axes = (*leading, *(["k"] * (self.characters > 1) if self.takes_codes else ["D"]))
        if x.dim() != len(axes) or x.numel() == 0:
            raise ValueError(f"x must be ({', '.join(axes)}), none of them 0, but its shape is {tuple(x.shape)}.")

    def check(self, x: Tensor) -> None:
        if not self.takes_codes:
            if not x.is_floating_point() or x.shape[-1] != self.input_size:
                raise ValueError(f"x must hold real vectors of size {self.input_size}, not {x.dtype} {tuple(x.shape)}.")
        elif x.dtype != torch.int64:
            raise ValueError(f"x must hold int64 codes, not {x.dtype}.")
        elif self.characters > 1 and x.shape[-1] != self.characters:
            raise ValueError(f"x must end in an axis of {self.characters} characters; its shape is {tuple(x.shape)}.")
        elif x.is_cpu and x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.input_size:
            raise ValueError(
                f"x holds codes from {int(x.min())} to {int(x.max())}; this model knows 0 to {self.input_size - 1}."
            )


class VRNNCell(nn.Module):
    """One VRNN step: `step = cell(x, state)`, with `cell.prior`, `.posterior`, `.emission` and `.rnn` as its parts.

    input_size: number of codes V, or the size D of a real or binary vector.
    hidden_size, latent_size, embedding_size: H of the state, Z of z, E of phi_x's features.
    num_layers: recurrent layers; the top one's h feeds the nets. rnn: "gru", "lstm" or "rnn" (tanh).
    emission: "categorical" (x: codes), "bernoulli" or "gaussian" (x: vectors). characters: codes per step.
    depth: linear layers in each net. dropout: share of h that the nets (and the layer above) do not see in training.

    The defaults are the source article's configuration: 95,104 parameters.
    Raises ValueError for an unknown rnn or emission and for sizes that make no model.
    """

    def __init__(
        self,
        input_size: int = 128,
        hidden_size: int = 64,
        latent_size: int = 64,
        *,
        embedding_size: int = 64,
        num_layers: int = 1,
        rnn: str = "gru",
        emission: str = "categorical",
        characters: int = 1,
        depth: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.configuration = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        if min(input_size, hidden_size, latent_size, embedding_size, num_layers, depth) < 1 or not 0 <= dropout < 1:
            raise ValueError(f"sizes, layers and depth must be at least 1 and 0 <= dropout < 1: {self.configuration}.")
        if rnn not in RNN_CELLS:
            raise ValueError(f"rnn must be one of {', '.join(RNN_CELLS)}, not {rnn!r}.")
        outputs = raw_size(emission, input_size, characters)
        self.rnn_type, self.emission_kind, self.characters, self.dropout = rnn, emission, characters, dropout
        self.hidden_size, self.latent_size, self.num_layers = hidden_size, latent_size, num_layers
        self.embedding_size = embedding_size
        self.phi_x = InputFeatures(input_size, embedding_size, emission, characters, depth)
        self.phi_z = nn.Sequential(net(latent_size, hidden_size, hidden_size, depth), nn.ELU())
        self.posterior_net = net(embedding_size + hidden_size, hidden_size, 2 * latent_size, depth)
        self.prior_net = net(hidden_size, hidden_size, 2 * latent_size, depth)
        self.emission_net = net(hidden_size + hidden_size, hidden_size, outputs, depth)
        inputs = [embedding_size + hidden_size, *[hidden_size] * (num_layers - 1)]
        self.rnn_cells = nn.ModuleList(RNN_CELLS[rnn](size, hidden_size) for size in inputs)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Step:
        """One training step: x_t and the state before it give both distributions of z_t, a z_t, x_t's emission, h_t.

        x: codes (B,), (B, k), or vectors (B, D). state: None is zeros. noise: (B, Z), drawn if not given.
        z_t comes from the posterior through the reparameterization trick. Gradients flow from step to step.
        """
        self.phi_x.check_axes(x, "B")
        features = self.phi_x(x)
        state = self.zero_state(features) if state is None else state
        seen = F.dropout(self.hidden(state), self.dropout, self.training)
        prior = self.prior(seen)
        posterior = self.posterior_from_features(features, seen)
        z = posterior.rsample(noise, generator)
        z_features = self.phi_z(z)
        emission = self.emission_from_features(z_features, seen)
        state = self.rnn_from_features(features, z_features, state)
        return Step(state, self.hidden(state), prior, posterior, z, emission)

    def prior(self, h: Tensor) -> DiagonalGaussian:
        """p(z_t | h_{t-1}), Chung equation 5. h: (..., H) gives parameters (..., Z)."""
        return DiagonalGaussian(*self.prior_net(h).chunk(2, -1))

    def posterior(self, x: Tensor, h: Tensor) -> DiagonalGaussian:
        """q(z_t | x_t, h_{t-1}), Chung equation 9. x: as in forward; h: (..., H) gives parameters (..., Z)."""
        return self.posterior_from_features(self.phi_x(x), h)

    def posterior_from_features(self, features: Tensor, h: Tensor) -> DiagonalGaussian:
        """The posterior, given phi_x(x) (..., E) in place of x."""
        return DiagonalGaussian(*self.posterior_net(torch.cat([features, h], -1)).chunk(2, -1))

    def emission(self, z: Tensor, h: Tensor) -> Emission:
        """p(x_t | z_t, h_{t-1}), Chung equation 6: of x_t, from the h *before* the step. z: (..., Z), h: (..., H)."""
        return self.emission_from_features(self.phi_z(z), h)

    def emission_from_features(self, z_features: Tensor, h: Tensor) -> Emission:
        """The emission, given phi_z(z) (..., H) in place of z."""
        return from_raw(self.emission_net(torch.cat([h, z_features], -1)), self.emission_kind, self.characters)

    def first_weights(self) -> FirstWeights:
        """The weights by which the two methods around this one, posterior's and recurrence's, join their inputs."""
        posterior, rnn = self.posterior_net[0], self.rnn_cells[0]
        assert isinstance(posterior, nn.Linear) and isinstance(rnn, nn.RNNCellBase)
        split = [self.embedding_size, self.hidden_size]
        posterior_x, posterior_h = posterior.weight.split(split, 1)
        rnn_x, rnn_z = rnn.weight_ih.split(split, 1)
        return FirstWeights(
            posterior_x, posterior_h, posterior.bias, rnn_x, rnn_z, rnn.weight_hh, rnn.bias_ih, rnn.bias_hh
        )

    def rnn(self, x: Tensor, z: Tensor, state: State) -> State:
        """The state after x_t and z_t: the recurrence, Chung equation 7."""
        return self.rnn_from_features(self.phi_x(x), self.phi_z(z), state)

    def rnn_from_features(self, features: Tensor, z_features: Tensor, state: State) -> State:
        """The recurrence, given phi_x(x) (B, E) and phi_z(z) (B, H) in place of x and z."""
        bottom = self.rnn_cells[0](torch.cat([features, z_features], -1), self.layer_states(state)[0])
        return self.upper_layers(bottom, state)

    def upper_layers(self, bottom: Tensor | tuple, state: State) -> State:
        """The new state, given the lowest layer's: each layer above reads the h of the one below it."""
        states = [bottom]
        for cell, before in zip(self.rnn_cells[1:], self.layer_states(state)[1:], strict=True):
            below = F.dropout(self.layer_hidden(states[-1]), self.dropout, self.training)
            states.append(cell(below, before))
        return states[0] if self.num_layers == 1 else tuple(states)

    def zero_state(self, like: Tensor) -> State:
        """The state before the first step, zeros, for the batch of `like` (B, ...), with its type and device."""
        zeros = like.new_zeros(len(like), self.hidden_size)
        layer = (zeros, zeros) if self.rnn_type == "lstm" else zeros
        return layer if self.num_layers == 1 else (layer,) * self.num_layers

    def hidden(self, state: State) -> Tensor:
        """h (B, H) of the top layer, which the nets read."""
        return self.layer_hidden(self.layer_states(state)[-1])

    def layer_states(self, state: State) -> tuple:
        return (state,) if self.num_layers == 1 else tuple(state)

    def layer_hidden(self, layer: Tensor | tuple) -> Tensor:
        return layer if isinstance(layer, Tensor) else layer[0]
