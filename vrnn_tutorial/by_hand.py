"""The path through time with its gradient written by hand: paths.open_path's numbers, in less time.

Autograd would keep some twenty small tensors per step and visit each again. Here the forward pass writes into buffers
what the chain rule asks for, the backward pass goes through them from the last step to the first, and each weight's
gradient is one matrix product of all steps after it.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import RECURRENT, TOGETHER, Linear, columns
from .cell import VRNNCell
from .gaussian import LARGEST_LOG_STD, LEAST_POSTERIOR_LOG_STD, posterior_from_raw
from .inputs import values_are_there
from .paths import GATES, Dropped, Shares

BOUNDS = LEAST_POSTERIOR_LOG_STD, LARGEST_LOG_STD
hardtanh_backward = torch.ops.aten.hardtanh_backward.default
embedding_backward = torch.ops.aten.embedding_dense_backward.default


def why_not_by_hand(cell: VRNNCell) -> str | None:
    """Why the gradient written here does not serve; None where it does."""
    if not cell.stochastic:
        return "it is written for a z with noise"
    if torch.is_autocast_enabled(next(cell.parameters()).device.type):
        return "autocast chooses the precision of each operation, and it is one"
    if torch._C._are_functorch_transforms_active():
        return "torch.func transforms what autograd has recorded"
    if not values_are_there():
        return "a compiler reads single operations"
    return None


class _Given(NamedTuple):
    """What the path is computed from; or the gradient of each of these."""

    x: Tensor | None  # (T, B), codes: the rows of x_posterior that the steps take; None: a row is a step's
    heard: Tensor | None  # likewise of x_rnn
    noise: Any  # (T, B, Z); its gradient is None where nobody asks for it
    seen: Tensor | None  # (T, B, H), as in Dropped
    below: Tensor | None  # (T, L - 1, B, H), as in Dropped
    x_posterior: Tensor  # (T, B, .) or (V, .)
    x_rnn: Tensor  # (T, B, gates H) or (V, gates H)
    states: tuple  # of each recurrent layer (h,) or (h, c), (B, H) each, before the first step
    posterior: tuple[
        tuple[Tensor, Any], ...
    ]  # of each linear layer (W, b); the first reads h, and has its b in x_posterior: None
    phi: tuple[tuple[Tensor, Any], ...]  # of each linear layer (W, b)
    layers: tuple  # of each recurrent layer (W_i, b_i, W_h, b_h); the first has its b_i in x_rnn: None


class _Kept(NamedTuple):
    """What the forward pass keeps, T steps of each."""

    std: Tensor  # (T, B, Z)
    z: Tensor  # (T, B, Z)
    posterior: tuple  # of each linear layer what it puts out, (T, B, .), after its ELU; the last is raw and has none
    phi: tuple  # of each linear layer what it puts out, (T, B, H), after its ELU
    layers: tuple  # of each recurrent layer what its class says


def gated_path(
    cell: VRNNCell, shares: Shares, noise: Tensor, layers: tuple, dropped: Dropped, steps: Tensor | None
) -> tuple:
    """paths.open_path, its gradient by hand.

    Args:
        cell, shares, noise, layers, dropped, steps: as there, and so is what it returns.
    """
    assert cell.posterior_net is not None
    first, states = cell.first_weights(), tuple(layer if isinstance(layer, tuple) else (layer,) for layer in layers)
    of_layers = [[rnn.weight_ih, rnn.bias_ih, W_h, rnn.bias_hh] for rnn, W_h in zip(cell.rnn_cells, dropped.weights)]
    of_layers[0][:2] = first.rnn_z, None
    given = _Given(
        *(shares.codes or (None, None)),
        noise,
        *(dropped.seen, dropped.below),
        *(shares.posterior, shares.rnn),
        states,
        ((first.posterior_h, None), *_weights(cell.posterior_net)[1:]),
        _weights(cell.phi_z[0]),
        tuple(map(tuple, of_layers)),
    )
    before, raw, z, z_features, *after = _ByHand.apply(cell.rnn_type, _nest(given), *_leaves(given))
    hidden = after[-len(states[0])]
    if steps is None:
        last = [part[-1].clone() for part in after]
    else:
        every = [torch.cat([start[None], part]) for start, part in zip(_leaves(states), after, strict=True)]
        last = [part.take_along_dim(steps.sum(0)[None, :, None], 0)[0] for part in every]
    last = _arranged(_nest(states), iter(last))
    return before, hidden, raw, z, z_features, last if len(states[0]) > 1 else tuple(h for (h,) in last)


def _weights(net: nn.Module) -> tuple[tuple[Tensor, Tensor], ...]:
    return tuple((layer.weight, layer.bias) for layer in net.children() if isinstance(layer, nn.Linear))


def _leaves(nest: tuple) -> list:
    """All that stands in a nest of tuples, in order."""
    return [leaf for part in nest for leaf in (_leaves(part) if isinstance(part, tuple) else [part])]


def _arranged(nest: tuple, leaves: Iterator) -> tuple:
    """The leaves in a nest of this form."""
    return tuple(_arranged(part, leaves) if isinstance(part, tuple) else next(leaves) for part in nest)


def _nest(nest: tuple) -> tuple:
    """The form alone."""
    return _arranged(nest, repeat(None))


class _Share:
    """What x adds to a product: (T, B, n), or with codes (T, B) the rows of (V, n) that they name."""

    def __init__(self, share: Tensor, codes: Tensor | None):
        self.share, self.codes = share, codes

    def of_steps(self) -> Tensor:
        """A copy (T, B, n), to which the rest may be added."""
        return self.share.clone() if self.codes is None else F.embedding(self.codes, self.share)

    def start_backward(self) -> None:
        self.d = torch.zeros_like(self.share)

    def collect(self, steps: slice, d: Tensor) -> None:
        """d: the gradient (TOGETHER, B, n) at these steps, or more of them."""
        if self.codes is None:
            self.d[steps] = d[: steps.stop - steps.start]
        else:
            codes = self.codes[steps]
            self.d += embedding_backward(d[: len(codes)], codes, len(self.d), -1, False)


class _Path:
    """T steps of posterior, z, phi_z and the recurrent layers, forward and backward."""

    def __init__(self, rnn_type: str, p: _Given, kept: _Kept | None = None):
        """kept: what another one kept going forward, to go backward; None to go forward."""
        kind: Any = RECURRENT[rnn_type]
        (T, B, _), new = p.noise.shape, p.noise.new_empty
        self.p, self.of_posterior, self.of_rnn = p, _Share(p.x_posterior, p.x), _Share(p.x_rnn, p.heard)
        if kept is None:
            H = p.states[0][0].shape[-1]
            posterior, phi, gates = ([new(T, B, len(W)) for W, *_ in nets] for nets in (p.posterior, p.phi, p.layers))
            posterior[0], gates[0] = self.of_posterior.of_steps(), self.of_rnn.of_steps()
            paths = ([torch.cat([start[None], new(T, B, H)]) for start in state] for state in p.states)
            layers = ((gate, new(T, B, kind.keeps * H), *path) for gate, path in zip(gates, paths, strict=True))
            kept = _Kept(new(p.noise.shape), new(p.noise.shape), tuple(posterior), tuple(phi), tuple(layers))
        self.kept, self.std, self.z, self.noise = kept, kept.std.unbind(), kept.z.unbind(), p.noise.unbind()
        self.mean, self.log_std = columns(kept.posterior[-1], 2)
        self.posterior = [Linear(*weights, out) for weights, out in zip(p.posterior, kept.posterior, strict=True)]
        self.phi = [Linear(*weights, out) for weights, out in zip(p.phi, kept.phi, strict=True)]
        self.layers = [kind(weights, *buffers) for weights, buffers in zip(p.layers, kept.layers, strict=True)]

    def forward(self, t: int) -> None:
        features = _masked(self.layers[-1].h[t], self.p.seen, t)
        for linear in self.posterior[:-1]:
            features = F.elu_(linear.forward(t, features))
        self.posterior[-1].forward(t, features)
        torch.clamp(self.log_std[t], *BOUNDS, out=self.std[t]).exp_()
        features = torch.addcmul(self.mean[t], self.std[t], self.noise[t], out=self.z[t])
        for linear in self.phi:
            features = F.elu_(linear.forward(t, features))
        for i, layer in enumerate(self.layers):
            layer.forward(t, features)
            if i + 1 < len(self.layers):
                features = _masked(layer.h[t + 1], self.p.below, (t, i))

    def outputs(self) -> tuple:
        """h before each step, raw, z, phi_z(z), and the layers' states after each step."""
        after = [path[1:] for _, _, *paths in self.kept.layers for path in paths]
        # Copies of what a caller sees, since that must not share memory with what is kept.
        top = len(after) - len(self.p.states[-1])
        after[top] = after[top].clone()
        return self.layers[-1].path[:-1], self.kept.posterior[-1], self.kept.z.clone(), self.kept.phi[-1], *after

    def start_backward(self, with_noise: bool, d_before, d_raw, d_z, d_z_features, *d_after) -> None:
        """The gradients of the outputs, None where there is none."""
        p, kept, layers = self.p, self.kept, self.layers
        self.d_before, self.d_z, self.d_z_features = d_before, d_z, d_z_features
        self.d_after = _arranged(_nest(p.states), iter(d_after))
        self.d_raw = columns(kept.std.new_zeros(()).expand_as(kept.posterior[-1]) if d_raw is None else d_raw, 2)
        self.d_states = [[torch.zeros_like(part) for part in state] for state in p.states]
        self.d_noise = torch.empty_like(kept.z) if with_noise else None
        everywhere = slice(None)
        for linear, inputs in zip(
            (*self.posterior, *self.phi),
            (_masked(layers[-1].path[:-1], p.seen, everywhere), *kept.posterior[:-1], kept.z, *kept.phi[:-1]),
            strict=True,
        ):
            linear.start_backward(inputs)
        below = [_masked(layer.path[1:], p.below, (everywhere, i)) for i, layer in enumerate(layers[:-1])]
        for layer, x in zip(layers, (kept.phi[-1], *below), strict=True):
            layer.start_backward(x)
        self.of_posterior.start_backward()
        self.of_rnn.start_backward()
        d_mean, d_log_std = columns(self.posterior[-1].d, 2)
        rounds = -(-len(self.noise) // TOGETHER)
        self.d_mean, self.d_log_std = d_mean * rounds, d_log_std * rounds

    def backward(self, t: int) -> None:
        for i in reversed(range(len(self.layers))):
            layer, d_state = self.layers[i], self.d_states[i]
            for d, outside in zip(d_state, self.d_after[i], strict=True):
                _add(d, outside, t)
            self.d_states[i] = layer.backward(t, *d_state)
            d_features = layer.of_x.backward(t)
            if i:
                self.d_states[i - 1][0] += _masked(d_features, self.p.below, (t, i - 1))
        _add(d_features, self.d_z_features, t)
        for linear in reversed(self.phi):
            d_features = linear.backward_of_elu(t, d_features)
        _add(d_features, self.d_z, t)
        torch.add(self.d_raw[0][t], d_features, out=self.d_mean[t])
        d_features *= self.std[t]
        if self.d_noise is not None:
            self.d_noise[t] = d_features
        d_log_std = hardtanh_backward(d_features.mul_(self.noise[t]), self.log_std[t], *BOUNDS)
        torch.add(self.d_raw[1][t], d_log_std, out=self.d_log_std[t])
        d_features = self.posterior[-1].backward(t)
        for linear in reversed(self.posterior[:-1]):
            d_features = linear.backward_of_elu(t, d_features)
        self.d_states[-1][0] += _masked(d_features, self.p.seen, t)
        _add(self.d_states[-1][0], self.d_before, t)

    def collect(self, steps: slice) -> None:
        for block in (*self.posterior, *self.phi, *self.layers):
            block.collect(steps)
        self.of_posterior.collect(steps, self.posterior[0].d)
        self.of_rnn.collect(steps, self.layers[0].d_of_x())

    def gradients(self) -> _Given:
        return _Given(
            *(None, None, self.d_noise, None, None),
            *(self.of_posterior.d, self.of_rnn.d),
            tuple(map(tuple, self.d_states)),
            *(tuple(block.gradients() for block in blocks) for blocks in (self.posterior, self.phi, self.layers)),
        )


def _masked(values: Tensor, mask: Tensor | None, part) -> Tensor:
    """What a part of a mask leaves of the values."""
    return values if mask is None else values * mask[part]


def _add(d: Tensor, outside: Tensor | None, t: int) -> None:
    if outside is not None:
        d += outside[t]


class _ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rnn_type, nest, *given):
        path = _Path(rnn_type, _Given(*_arranged(nest, iter(given))))
        for t in range(len(path.noise)):
            path.forward(t)
        ctx.save_for_backward(*given, *_leaves(path.kept))
        ctx.rnn_type, ctx.nests = rnn_type, (nest, _nest(path.kept))
        ctx.set_materialize_grads(False)
        return path.outputs()

    @staticmethod
    def backward(ctx, *d_outputs):
        leaves, needed = iter(ctx.saved_tensors), ctx.needs_input_grad[2:]
        p, kept = _Given(*_arranged(ctx.nests[0], leaves)), _Kept(*_arranged(ctx.nests[1], leaves))
        if torch.is_grad_enabled():
            return None, None, *_differentiable(ctx.rnn_type, p, needed, d_outputs)
        path, T = _Path(ctx.rnn_type, p, kept), len(p.noise)
        path.start_backward(needed[2], *d_outputs)
        for t in reversed(range(T)):
            path.backward(t)
            if t % TOGETHER == 0:
                path.collect(slice(t, min(t + TOGETHER, T)))
        return None, None, *_leaves(path.gradients())


def _steps(kind: str, p: _Given) -> tuple:
    """The path as operations that autograd knows, for what is differentiated twice."""
    x_posterior, x_rnn = _Share(p.x_posterior, p.x).of_steps(), _Share(p.x_rnn, p.heard).of_steps()
    states, steps = p.states, []
    for t in range(len(p.noise)):
        before = states[-1][0]
        raw = x_posterior[t] + (before if p.seen is None else before * p.seen[t]) @ p.posterior[0][0].t()
        for W, b in p.posterior[1:]:
            raw = F.linear(F.elu(raw), W, b)
        features = z = posterior_from_raw(raw).rsample(p.noise[t])
        for W, b in p.phi:
            features = F.elu(F.linear(features, W, b))
        z_features, after = features, []
        for i, ((W_i, b_i, W_h, b_h), state) in enumerate(zip(p.layers, states, strict=True)):
            of_x, of_h = F.linear(features, W_i, b_i), F.linear(state[0], W_h, b_h)
            new = GATES[kind](of_x if i else of_x + x_rnn[t], of_h, state if len(state) > 1 else state[0])
            after.append(new if isinstance(new, tuple) else (new,))
            features = after[-1][0]
            if p.below is not None and i + 1 < len(states):
                features = features * p.below[t, i]
        states = tuple(after)
        steps.append((before, raw, z, z_features, *_leaves(states)))
    return tuple(torch.stack(column) for column in zip(*steps, strict=True))


def _differentiable(kind: str, p: _Given, needed, gradients) -> tuple:
    """The gradient as something that can be differentiated in its turn, which what is written by hand cannot."""
    # Each input is seen through a view of its own, since one may have been computed from others: h, by the weights.
    seen = [None if part is None else part.view_as(part) for part in _leaves(p)]
    outputs = _steps(kind, _Given(*_arranged(_nest(p), iter(seen))))
    asked = [(out, d) for out, d in zip(outputs, gradients, strict=True) if d is not None and out.requires_grad]
    found = torch.autograd.grad(
        [out for out, _ in asked],
        [part for part, want in zip(seen, needed, strict=True) if part is not None and want],
        [d for _, d in asked],
        create_graph=True,
        allow_unused=True,
    )
    each = iter(found)
    return tuple(next(each) if want else None for want in needed)
