"""A step of generation: as a model's parts make it, or quicker, by what is the same at every step (chapter 5).

The quick way computes phi_x and its products once for each code, and what reads h in one product. It draws the same
numbers in the same order, and differs in rounding alone.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import VRNNCell, is_hooked, structure, what_changed
from .char_rnn import CharRNN
from .emissions import Categorical
from .gaussian import from_raw, standard_normal
from .inputs import InputFeatures
from .models import Drawn, SequenceModel
from .paths import GATES
from .vrnn import VRNN

#: Takes a state, temperature, prior_temperature, generator and shift, as a model's `draw` has them; gives what was
#: drawn, and the state after it.
Stepper = Callable[[Any, float, float, torch.Generator | None, Tensor | None], tuple[Drawn, Any]]


def stepper(model: SequenceModel) -> Stepper:
    """How to make the model's steps, by the weights that it has now: the quick way, where its parts are our own.

    The model is in evaluation mode, and gradients are off.
    """
    if type(model.emission_type) is Categorical and not {"draw", "advance", "rnn", "emission"} & vars(model).keys():
        if type(model) is VRNN and not what_changed(model.cell) and model.cell.stochastic and model.cell.prior_net:
            return _vrnn_stepper(model.cell)
        if type(model) is CharRNN and structure(model) == getattr(model, "made_of", None) and not is_hooked(model):
            return _char_rnn_stepper(model)

    def step(state, temperature, prior_temperature, generator, shift):
        drawn = model.draw(state, temperature, prior_temperature, generator=generator, shift=shift)
        return drawn, model.advance(drawn.x, drawn.z, state)

    return step


def _vrnn_stepper(cell: VRNNCell) -> Stepper:
    assert cell.prior_net is not None
    weights, (of_h, of_z) = cell.first_weights(), cell.emission_weights()
    prior, emission = _first(cell.prior_net), _first(cell.emission_net)
    inputs, hidden = (
        [(getattr(c, f"weight_{way}"), getattr(c, f"bias_{way}")) for c in cell.rnn_cells] for way in ("ih", "hh")
    )
    read_top = _product(prior, (of_h, emission[1]), hidden[-1])
    sizes = [len(prior[0]), len(of_h), len(hidden[-1][0])]
    prior_rest, emission_rest, phi_z = _net(cell.prior_net[1:]), _net(cell.emission_net[1:]), _net(cell.phi_z[0])
    emission_z, rnn_z = of_z.t().contiguous(), weights.rnn_z.t().contiguous()
    gates_of_x, climb = _looked_up(cell.phi_x, weights.rnn_x, weights.rnn_bias), _climber(cell.rnn_type, inputs, hidden)

    def step(state, temperature, prior_temperature, generator, shift):
        layers = cell.layer_states(state)
        raw, to_emission, gates_h = read_top(cell.layer_hidden(layers[-1])).split_with_sizes(sizes, -1)
        prior = from_raw(prior_rest(raw))
        std, z = prior.log_std.exp(), prior.mean
        if prior_temperature:
            noise = standard_normal(z.shape, z, generator)
            z = torch.addcmul(z, std, noise if prior_temperature == 1 else prior_temperature * noise)
        z = z if shift is None else z + shift.to(z) * std
        z_features = F.elu_(phi_z(z))
        emission = cell.emission_type.distribution(emission_rest(torch.addmm(to_emission, z_features, emission_z)))
        x = emission.sample(temperature, generator)
        return Drawn(x, z, emission), cell.state_of(
            climb(torch.addmm(gates_of_x(x), z_features, rnn_z), gates_h, layers)
        )

    return step


def _char_rnn_stepper(model: CharRNN) -> Stepper:
    rnn, L, lstm = model.layers, model.num_layers, model.rnn_type == "lstm"
    inputs, hidden = (
        [(getattr(rnn, f"weight_{way}_l{i}"), getattr(rnn, f"bias_{way}_l{i}")) for i in range(L)]
        for way in ("ih", "hh")
    )
    first, emission_rest = _first(model.emission_net), _net(model.emission_net[1:])
    read_top, sizes = _product(first, hidden[-1]), [len(first[0]), len(hidden[-1][0])]
    gates_of_x, climb = _looked_up(model.phi_x, *inputs[0]), _climber(model.rnn_type, inputs, hidden)

    def step(state, temperature, prior_temperature, generator, shift):
        raw, gates_h = read_top((state[0] if lstm else state)[-1]).split_with_sizes(sizes, -1)
        emission = model.emission_type.distribution(emission_rest(raw))
        x = emission.sample(temperature, generator)
        after = climb(gates_of_x(x), gates_h, tuple(zip(*state, strict=True)) if lstm else state.unbind())
        state = tuple(map(torch.stack, zip(*after, strict=True))) if lstm else torch.stack(after)
        return Drawn(x, None, emission), state

    return step


def _first(net: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight and bias of a net's first layer."""
    first = net[0]
    assert isinstance(first, nn.Linear)
    return first.weight, first.bias


def _product(*layers: tuple[Tensor, Tensor]) -> Callable[[Tensor], Tensor]:
    """What linear layers, of weights (., H) and biases (.,), make of an h (B, H) that they all read, in one product."""
    weight, bias = (torch.cat(parts) for parts in zip(*layers, strict=True))
    weight = weight.t().contiguous()
    return lambda h: torch.addmm(bias, h, weight)


def _net(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """The same as a net of linear layers and ELU, less what it takes to call a module."""
    parts = [_product((part.weight, part.bias)) if isinstance(part, nn.Linear) else F.elu for part in net.children()]

    def apply(values: Tensor) -> Tensor:
        for part in parts:
            values = part(values)
        return values

    return apply


def _looked_up(phi_x: InputFeatures, weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """x's share in the gates (B, .): of single codes (B,) looked up, of several at once (B, k) computed."""
    if phi_x.characters > 1:
        return lambda x: F.linear(phi_x.features(x), weight, bias)
    table = F.linear(phi_x.features(torch.arange(phi_x.input_size, device=weight.device)), weight, bias)
    return lambda x: table.index_select(0, x)


def _climber(kind: str, inputs: list, hidden: list) -> Callable[[Tensor, Tensor, tuple], tuple]:
    """What makes layers' states of those before, given the lowest one's gates and, of the top one's, what h adds.

    inputs, hidden: each layer's weights and biases.
    """
    own, below, lstm = (
        [_product(layer) for layer in hidden[:-1]],
        [_product(layer) for layer in inputs[1:]],
        kind == "lstm",
    )
    gates = _gru if kind == "gru" else GATES[kind]

    def climb(gates_x: Tensor, top: Tensor, layers: tuple) -> tuple:
        after = []
        for i, layer in enumerate(layers):
            gates_x = below[i - 1](after[-1][0] if lstm else after[-1]) if i else gates_x
            gates_h = own[i](layer[0] if lstm else layer) if i < len(own) else top
            after.append(gates(gates_x, gates_h, layer))
        return tuple(after)

    return climb


def _gru(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    """As in GATES, in gates_x's own memory."""
    sizes = [2 * h.shape[-1], h.shape[-1]]
    (ru, n), (ru_h, n_h) = gates_x.split_with_sizes(sizes, -1), gates_h.split_with_sizes(sizes, -1)
    r, u = ru.add_(ru_h).sigmoid_().chunk(2, -1)
    return torch.lerp(n.addcmul_(r, n_h).tanh_().to(h.dtype), h, u.to(h.dtype))
