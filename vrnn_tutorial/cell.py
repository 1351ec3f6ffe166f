"""VRNNCell: one time step of a variational recurrent neural network, in the style of nn.GRUCell (chapter 3).

Chung et al. 2015, "A Recurrent Latent Variable Model for Sequential Data" (arXiv 1506.02216), equations 5 to 9. Four
nets make a step, each named after the distribution or the state that it computes:

    posterior   x_t, h_{t-1}      -> z_t     the encoder, q(z_t | x_t, h_{t-1}): in training only
    prior       h_{t-1}           -> z_t     p(z_t | h_{t-1})
    emission    z_t, h_{t-1}      -> x_t     the decoder, p(x_t | z_t, h_{t-1}): x_t, not x_{t+1}
    rnn         x_t, z_t, h_{t-1} -> h_t     the recurrence
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .configuration import CellConfiguration, made_of
from .emissions import Distribution, Emission
from .gaussian import DiagonalGaussian, check_noise, from_raw, posterior_from_raw, single
from .inputs import InputFeatures, net

RNN_CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell, "rnn": nn.RNNCell}

#: What a GRUCell keeps (h), what an LSTMCell keeps (h, c), or with L layers a tuple of L of them. Where the emission
#: remembers the past: a pair of that and the memory (B, M).
State = Tensor | tuple


class Step(NamedTuple):
    """What one step of a VRNNCell computes, for a batch of B."""

    state: State  # after the step
    hidden: Tensor  # (B, H): h_t, the top layer's (and the memory behind it, if there is one)
    prior: DiagonalGaussian  # of z_t, each parameter (B, Z)
    posterior: DiagonalGaussian  # of z_t, each parameter (B, Z)
    z: Tensor  # (B, Z), drawn from the posterior
    emission: Distribution  # of x_t


class FirstWeights(NamedTuple):
    """The first layers of posterior and recurrence, cut by what their columns multiply: phi_x(x), h or phi_z(z)."""

    posterior_x: Tensor  # (., E)
    posterior_h: Tensor  # (., H)
    posterior_memory: Tensor  # (., M)
    posterior_bias: Tensor  # (.,)
    rnn_x: Tensor  # (gates H, E)
    rnn_z: Tensor  # (gates H, H)
    rnn_bias: Tensor  # (gates H,), beside phi_x(x) and phi_z(z)
    rnn_h_bias: Tensor  # (gates H,), beside h


#: The methods by which a step is made.
PARTS = (
    *("forward", "prior", "posterior", "posterior_from_features", "emission", "emission_from_features", "rnn"),
    *("rnn_from_features", "upper_layers", "remember", "hidden", "look", "state_of", "layer_states", "layer_hidden"),
    "first_weights",  # by which a VRNN makes many steps at once
)


def start_from(state: State | None, zeros: State) -> State:
    """The state, or zeros if there is none. Raises ValueError for a state of other parts or sizes than these have."""
    if state is None:
        return zeros
    if form_of(state) != form_of(zeros):
        raise ValueError(f"state must have the shape {form_of(zeros)}, as zero_state makes it, not {form_of(state)}.")
    return state


def form_of(state):
    """The shape of a tensor; of what holds several the form of each, as a tuple."""
    if isinstance(state, Tensor):
        return tuple(state.shape)
    return tuple(map(form_of, state)) if isinstance(state, tuple | list) else repr(state)


def structure(module: nn.Module) -> tuple:
    """What a module consists of, but for the numbers in its weights: of each part its class, settings and weights."""
    return tuple(
        (
            name,
            type(part),
            tuple(getattr(part, setting) for setting in getattr(part, "__constants__", ())),
            tuple(weight for weight, values in part._parameters.items() if values is not None),
        )
        for name, part in module.named_modules()
    )


class VRNNCell(nn.Module):
    """One VRNN step: `step = cell(x, state)`, with `cell.prior`, `.posterior`, `.emission` and `.rnn` as its parts.

    The defaults are the source article's configuration: 95,104 parameters.

    Args:
        input_size: number of codes V, or the size D of a real or binary vector.
        hidden_size, latent_size, embedding_size: H of the state, Z of z, E of phi_x's features.
        num_layers: recurrent layers; the top one's h feeds the nets.
        rnn: "gru", "lstm" or "rnn" (tanh).
        emission: "categorical" or "chained" (x: codes), "bernoulli" or "gaussian" (x: vectors), or an instance of an
            Emission.
        characters: codes per step, for an emission given by name.
        depth: linear layers in each net.
        dropout: share of h that the nets (and the layer above) do not see in training.
        locked_dropout: whether it is the same share in all steps of a sequence.
        weight_dropout: share of the weights from h to h that are zero in training, the same ones in all steps of a
            sequence. A step alone draws both anew.
        prior: "conditional", or "standard", N(0, 1) at every step, the VRNN-I of Chung et al., section 4.
        stochastic: False takes the noise out: z is the prior's mean, there is no encoder, and the KL is zero.

    Raises:
        ValueError: for an unknown rnn, emission or prior and for sizes that make no model.
    """

    @made_of(CellConfiguration)
    def __init__(self, c: CellConfiguration):
        super().__init__()
        self.configuration = c.as_dict()
        self.rnn_type, self.characters, self.dropout, self.stochastic = c.rnn, c.characters, c.dropout, c.stochastic
        self.hidden_size, self.latent_size, self.num_layers = c.hidden_size, c.latent_size, c.num_layers
        self.embedding_size, self.depth = c.embedding_size, c.depth
        self.locked_dropout, self.weight_dropout = c.locked_dropout, c.weight_dropout
        H, Z, E, seen = c.hidden_size, c.latent_size, c.embedding_size, c.hidden_size + c.emission_type.memory_size
        self.emission_type = c.emission_type.bind(c.input_size, seen + H, E, H)
        self.phi_x = InputFeatures(c.input_size, E, self.emission_type, c.depth)
        self.phi_z = nn.Sequential(net(Z, H, H, c.depth), nn.ELU())
        self.posterior_net = net(E + seen, H, 2 * Z, c.depth) if c.stochastic else None
        self.prior_net = net(seen, H, 2 * Z, c.depth) if c.prior == "conditional" else None
        self.emission_net = net(seen + H, H, self.emission_type.size(c.input_size), c.depth)
        inputs = [E + H, *[H] * (c.num_layers - 1)]
        self.rnn_cells = nn.ModuleList(RNN_CELLS[c.rnn](size, H) for size in inputs)
        self.made_of = structure(self)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        rnn_input: Tensor | None = None,
    ) -> Step:
        """One training step: x_t and the state before it give both distributions of z_t, a z_t, x_t's emission, h_t.

        z_t comes from the posterior through the reparameterization trick. Gradients flow from step to step.

        Args:
            x: codes (B,), (B, k), or vectors (B, D).
            state: before the step; None is zeros.
            noise: (B, Z), standard normal, drawn with the generator if not given.
            generator: torch's own if there is none.
            rnn_input: what the recurrence reads in place of x, whose shape it has.

        Raises:
            ValueError: for an x of the wrong type, axes, size or values, a state of other parts or sizes, and noise of
                another type or size.
        """
        x = self.phi_x.read(x, "B")
        state = start_from(state, self.zero_state(next(self.parameters()).new_empty(x.shape[0], 0)))
        features, h = self.phi_x(x), self.look(state)
        prior = self.prior(h)
        # A method that a subclass overrides is called as it stands; our own are given what is computed already.
        own = self.own_parts()
        posterior = self.posterior(x, h) if "posterior" in own else self.posterior_from_features(features, h)
        if noise is not None:
            check_noise(noise, posterior.mean.shape, next(self.parameters()))
        z = posterior.rsample(noise, generator) if self.stochastic else posterior.mean
        z_features = self.phi_z(z)
        emission = self.emission(z, h) if "emission" in own else self.emission_from_features(z_features, h)
        heard = x if rnn_input is None else self.phi_x.read(rnn_input, "B")
        if "rnn" in own:
            state = self.rnn(heard, z, state)
        else:
            features = features if heard is x else self.phi_x(heard)
            state = self.rnn_from_features(features, z_features, state, self.remember(heard, state))
        return Step(state, self.hidden(state), prior, posterior, z, emission)

    def own_parts(self) -> list[str]:
        """Which of the methods that make a step are not VRNNCell's."""
        return [n for n in PARTS if n in vars(self) or getattr(type(self), n) is not getattr(VRNNCell, n)]

    def prior(self, h: Tensor) -> DiagonalGaussian:
        """p(z_t | h_{t-1}), Chung equation 5. h: (..., H) gives parameters (..., Z)."""
        if self.prior_net is None:
            zeros = h.new_zeros(*h.shape[:-1], self.latent_size)
            return DiagonalGaussian(zeros, zeros)
        return from_raw(self.prior_net(h))

    def posterior(self, x: Tensor, h: Tensor) -> DiagonalGaussian:
        """q(z_t | x_t, h_{t-1}), Chung equation 9. x: as in forward; h: (..., H) gives parameters (..., Z)."""
        return self.posterior_from_features(self.phi_x(x), h)

    def posterior_from_features(self, features: Tensor, h: Tensor) -> DiagonalGaussian:
        """The posterior, given phi_x(x) (..., E) in place of x."""
        if self.posterior_net is None:
            return self.prior(h)
        return posterior_from_raw(self.posterior_net(torch.cat([features, h], -1)))

    def emission(self, z: Tensor, h: Tensor) -> Any:
        """p(x_t | z_t, h_{t-1}), Chung equation 6: of x_t, from the h *before* the step. z: (..., Z), h: (..., H)."""
        return self.emission_from_features(self.phi_z(z), h)

    def emission_from_features(self, z_features: Tensor, h: Tensor) -> Any:
        """The emission, given phi_z(z) (..., H) in place of z."""
        return emit(self.emission_net, torch.cat([h, z_features], -1), self.emission_type)

    def first_weights(self) -> FirstWeights:
        """The first layers' weights of posterior and recurrence, cut where the methods around this one join inputs."""
        rnn = self.rnn_cells[0]
        assert isinstance(rnn, nn.RNNCellBase)
        rnn_x, rnn_z = rnn.weight_ih.split([self.embedding_size, self.hidden_size], 1)
        E, H, posterior = self.embedding_size, self.hidden_size, [rnn_x.new_empty(0)] * 4
        if self.posterior_net is not None:
            first = self.posterior_net[0]
            assert isinstance(first, nn.Linear)
            posterior = [*first.weight.tensor_split([E, E + H], 1), first.bias]
        of_x, of_h, of_memory, bias = posterior
        return FirstWeights(of_x, of_h, of_memory, bias, rnn_x, rnn_z, rnn.bias_ih, rnn.bias_hh)

    def emission_weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the emission's first layer, cut likewise: by h and memory (., H + M), and phi_z(z) (., H)."""
        first = self.emission_net[0]
        assert isinstance(first, nn.Linear)
        of_seen, of_z = first.weight.tensor_split([-self.hidden_size], 1)
        return of_seen, of_z

    def rnn(self, x: Tensor, z: Tensor, state: State) -> State:
        """The state after x_t and z_t: the recurrence, Chung equation 7."""
        return self.rnn_from_features(self.phi_x(x), self.phi_z(z), state, self.remember(x, state))

    def rnn_from_features(
        self, features: Tensor, z_features: Tensor, state: State, memory: Tensor | None = None
    ) -> State:
        """The recurrence, given phi_x(x) (B, E) and phi_z(z) (B, H) in place of x and z, and the memory after x."""
        layers, hidden = self.layer_states(state), self.hidden_weights()
        bottom = layer_step(self.rnn_cells[0], torch.cat([features, z_features], -1), layers[0], hidden[0])
        return self.state_of(self.upper_layers(bottom, layers, hidden), memory)

    def remember(self, x: Tensor, state: State) -> Tensor | None:
        """The memory (B, M) after x, if the emission keeps one."""
        return self.emission_type.remember(x[None], state[1])[0] if self.emission_type.memory_size else None

    def upper_layers(
        self, bottom: Tensor | tuple, layers: tuple, hidden: list[Tensor], masks: Tensor | None = None
    ) -> tuple:
        """The layers' new states, given the lowest one's: each layer above reads the h of the one below it.

        hidden: hidden_weights() of all layers. masks: (L - 1, B, H), what each layer above sees of the h below it;
        drawn if not given.
        """
        states = [bottom]
        for i, cell in enumerate(self.rnn_cells[1:]):
            below = self.layer_hidden(states[-1])
            below = F.dropout(below, self.dropout, self.training) if masks is None else below * masks[i]
            states.append(layer_step(cell, below, layers[i + 1], hidden[i + 1]))
        return tuple(states)

    def dropout_masks(self, count: int, like: Tensor, particles: int) -> Tensor:
        """What dropout leaves of h, (count, B K, H), as many columns as `like` (T, B K, .) has.

        The K particles of a sequence share theirs: they differ in z alone, or their weights would tell of the masks.
        """
        ones = like.new_ones(count, like.shape[1] // particles, self.hidden_size)
        return F.dropout(ones, self.dropout).repeat_interleave(particles, 1)

    def hidden_weights(self) -> list[Tensor]:
        """Each layer's weights from h to h (gates H, H); in training, weight dropout makes a part of them zero."""
        weights: list[Any] = [cell.weight_hh for cell in self.rnn_cells]  # torch.func exchanges them for tensors
        if self.training and self.weight_dropout:
            return [F.dropout(weight, self.weight_dropout) for weight in weights]
        return weights

    def zero_state(self, like: Tensor) -> State:
        """The state before the first step, zeros, for the batch of `like` (B, ...), with its type and device."""
        # shape[0] and not len, which would be a fixed number in an exported program.
        zeros = like.new_zeros(like.shape[0], self.hidden_size)
        layer = (zeros, zeros) if self.rnn_type == "lstm" else zeros
        return self.state_of((layer,) * self.num_layers, like.new_zeros(like.shape[0], self.emission_type.memory_size))

    def hidden(self, state: State) -> Tensor:
        """h (B, H) of the top layer, which the nets read; and behind it the memory, if the emission keeps one."""
        h = self.layer_hidden(self.layer_states(state)[-1])
        return torch.cat([h, state[1]], -1) if self.emission_type.memory_size else h

    def look(self, state: State) -> Tensor:
        """What the nets see of `hidden(state)`: in training, dropout hides a part of h."""
        h, memory = self.hidden(state).tensor_split([self.hidden_size], -1)
        h = F.dropout(h, self.dropout, self.training)
        return torch.cat([h, memory], -1) if self.emission_type.memory_size else h

    def state_of(self, layers: tuple, memory: Tensor | None = None) -> State:
        """The state made of the layers' states, and of the memory (B, M), if the emission keeps one."""
        state = layers[0] if self.num_layers == 1 else layers
        return (state, memory) if self.emission_type.memory_size else state

    def layer_states(self, state: State) -> tuple:
        layers = state[0] if self.emission_type.memory_size else state
        return (layers,) if self.num_layers == 1 else tuple(layers)

    def layer_hidden(self, layer: Tensor | tuple) -> Tensor:
        return layer if isinstance(layer, Tensor) else layer[0]


def layer_step(cell: nn.Module, x: Tensor, state: Tensor | tuple, hidden: Tensor) -> Tensor | tuple:
    """A recurrent layer's next state, its weights from h to h being `hidden`."""
    if hidden is cell.weight_hh:
        return cell(x, state)
    return functional_call(cell, {"weight_hh": hidden}, (x, state))


def what_changed(cell: VRNNCell) -> str | None:
    """What makes a cell another than the one that was made, so that it has to be called step by step; or None."""
    if own := cell.own_parts():
        return f"the cell has a {own[0]} of its own"
    if structure(cell) != cell.made_of:
        return "a part of the cell was exchanged"
    return "a part of the cell has a hook, or a forward of its own" if is_hooked(cell) else None


def is_hooked(module: nn.Module) -> bool:
    """Whether a part of it has a hook, or a forward that is not its class's."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any("forward" in vars(part) or any(getattr(part, hook) for hook in hooks) for part in module.modules())


def emit(emission_net: nn.Module, context: Tensor, emission: Emission) -> Any:
    """The distribution of x that the emission's net makes of what it reads, `context` (..., C)."""
    raw = single(emission_net(context))
    return emission.distribution(torch.cat([raw, context], -1) if emission.reads_context else raw)
