"""The path through time with its gradient written by hand: paths.open_path's numbers, in less time.

Autograd would keep some twenty small tensors per step and visit each again. Here the forward pass writes into buffers
what the chain rule asks for, the backward pass goes through them from the last step to the first, and each weight's
gradient is one matrix product of all steps after it.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import RECURRENT, Linear, columns
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
    noise: Tensor | None  # (T, B, Z)
    seen: Tensor | None  # (T, B, H), as in Dropped
    below: Tensor | None  # (T, L - 1, B, H), as in Dropped
    x_posterior: Tensor  # (T, B, .) or (V, .)
    x_rnn: Tensor  # (T, B, gates H) or (V, gates H)
    states: tuple  # of each recurrent layer (h,) or (h, c), (B, H) each, before the first step
    posterior: tuple  # of each linear layer (W, b); the first reads h, and has its b in x_posterior: None
    phi: tuple  # of each linear layer (W, b)
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
    before, raw, z, z_features, *after = _Path.apply(cell.rnn_type, _nest(given), *_leaves(given))
    hidden = after[-len(states[0])]
    if steps is None:
        last = [part[-1].clone() for part in after]
    else:
        every = [torch.cat([start[None], part]) for start, part in zip(_leaves(states), after, strict=True)]
        last = [part.take_along_dim(steps.sum(0)[None, :, None], 0)[0] for part in every]
    last = _arranged(_nest(states), iter(last))
    return before, hidden, raw, z, z_features, last if len(states[0]) > 1 else tuple(h for (h,) in last)


def _weights(net: nn.Module) -> tuple:
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


def _buffers(rnn_type: str, p: _Given) -> _Kept:
    kind, (T, B, _), H, new = RECURRENT[rnn_type], p.noise.shape, p.states[0][0].shape[-1], p.noise.new_empty
    # What x adds stands in its place before the loop begins: a copy, to which the other shares are added.
    of_posterior, of_rnn = (
        share.clone() if codes is None else F.embedding(codes, share)
        for codes, share in ((p.x, p.x_posterior), (p.heard, p.x_rnn))
    )
    paths = [[torch.cat([start[None], new(T, B, H)]) for start in state] for state in p.states]
    return _Kept(
        *(new(p.noise.shape), new(p.noise.shape)),
        (of_posterior, *(new(T, B, len(W)) for W, _ in p.posterior[1:])),
        tuple(new(T, B, len(W)) for W, _ in p.phi),
        tuple(
            (new(T, B, kind.gates * H) if i else of_rnn, new(T, B, kind.keeps * H), *path)
            for i, path in enumerate(paths)
        ),
    )


def _blocks(rnn_type: str, p: _Given, kept: _Kept) -> tuple[list[Linear], list[Linear], list]:
    """The posterior's linear layers, phi_z's, and the recurrent ones."""
    kind = RECURRENT[rnn_type]
    return (
        [Linear(*weights, out) for weights, out in zip(p.posterior, kept.posterior, strict=True)],
        [Linear(*weights, out) for weights, out in zip(p.phi, kept.phi, strict=True)],
        [kind(weights, *buffers) for weights, buffers in zip(p.layers, kept.layers, strict=True)],
    )


class _Path(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rnn_type, nest, *given):
        p = _Given(*_arranged(nest, iter(given)))
        kept = _buffers(rnn_type, p)
        posterior, phi, layers = _blocks(rnn_type, p, kept)
        (mean, log_std), std, z, noise = (
            columns(kept.posterior[-1], 2),
            kept.std.unbind(),
            kept.z.unbind(),
            p.noise.unbind(),
        )
        for t in range(len(noise)):
            features = _masked(layers[-1].h[t], p.seen, t)
            for linear in posterior[:-1]:
                features = F.elu_(linear.forward(t, features))
            posterior[-1].forward(t, features)
            torch.clamp(log_std[t], *BOUNDS, out=std[t]).exp_()
            features = torch.addcmul(mean[t], std[t], noise[t], out=z[t])
            for linear in phi:
                features = F.elu_(linear.forward(t, features))
            for i, layer in enumerate(layers):
                layer.forward(t, _masked(layers[i - 1].h[t + 1], p.below, (t, i - 1)) if i else features)
        ctx.save_for_backward(*given, *_leaves(kept))
        ctx.rnn_type, ctx.nests = rnn_type, (nest, _nest(kept))
        ctx.set_materialize_grads(False)
        # Copies of what a caller sees, since that must not share memory with what is kept.
        after = [path[1:] for _, _, *paths in kept.layers for path in paths]
        top = len(after) - len(p.states[-1])
        return (
            layers[-1].path[:-1],
            kept.posterior[-1],
            kept.z.clone(),
            kept.phi[-1],
            *after[:top],
            after[top].clone(),
            *after[top + 1 :],
        )

    # Torch's own signature is (ctx, *grad_outputs), which cannot say what these are.
    @staticmethod
    def backward(ctx, d_before, d_raw, d_z, d_z_features, *d_after):  # pyright: ignore[reportIncompatibleMethodOverride]
        leaves, needed = iter(ctx.saved_tensors), ctx.needs_input_grad[2:]
        p, kept = _Given(*_arranged(ctx.nests[0], leaves)), _Kept(*_arranged(ctx.nests[1], leaves))
        if torch.is_grad_enabled():
            outside = d_before, d_raw, d_z, d_z_features, *d_after
            return None, None, *_differentiable(ctx.rnn_type, p, needed, outside)
        posterior, phi, layers = _blocks(ctx.rnn_type, p, kept)
        raw, std, noise = kept.posterior[-1], kept.std.unbind(), p.noise.unbind()
        d_raw = torch.zeros_like(raw) if d_raw is None else d_raw.clone()
        d_noise = torch.empty_like(p.noise) if needed[2] else None
        for linear in (*posterior[:-1], *phi):
            linear.start_backward(torch.empty_like(linear.whole))
        posterior[-1].start_backward(d_raw)
        for layer in layers:
            layer.start_backward()
        (d_mean, d_log_std), (_, log_std) = columns(d_raw, 2), columns(raw, 2)
        d_states = [[torch.zeros_like(part) for part in state] for state in p.states]
        d_after = _arranged(_nest(p.states), iter(d_after))
        for t in reversed(range(len(noise))):
            for i in reversed(range(len(layers))):
                for d, outside in zip(d_states[i], d_after[i], strict=True):
                    if outside is not None:
                        d += outside[t]
                d_states[i] = layers[i].backward(t, *d_states[i])
                d_features = layers[i].of_x.backward(t)
                if i:
                    d_states[i - 1][0] += _masked(d_features, p.below, (t, i - 1))
            if d_z_features is not None:
                d_features += d_z_features[t]
            for linear in reversed(phi):
                d_features = linear.backward_of_elu(t, d_features)
            if d_z is not None:
                d_features += d_z[t]
            d_mean[t].add_(d_features)
            d_features *= std[t]
            if d_noise is not None:
                d_noise[t] = d_features
            d_log_std[t].add_(hardtanh_backward(d_features.mul_(noise[t]), log_std[t], *BOUNDS))
            d_features = posterior[-1].backward(t)
            for linear in reversed(posterior[:-1]):
                d_features = linear.backward_of_elu(t, d_features)
            d_states[-1][0] += _masked(d_features, p.seen, t)
            if d_before is not None:
                d_states[-1][0] += d_before[t]
        seen = _masked(layers[-1].path[:-1], p.seen, slice(None))
        below = [_masked(layer.path[1:], p.below, (slice(None), i)) for i, layer in enumerate(layers[:-1])]
        of_posterior, of_rnn = posterior[0].d, layers[0].d
        gradients = _Given(
            *(None, None, d_noise, None, None),
            of_posterior if p.x is None else _of_codes(of_posterior, p.x, p.x_posterior),
            layers[0].in_order(of_rnn if p.heard is None else _of_codes(of_rnn, p.heard, p.x_rnn), -1),
            tuple(map(tuple, d_states)),
            tuple(map(Linear.gradients, posterior, (seen, *kept.posterior))),
            tuple(map(Linear.gradients, phi, (kept.z, *kept.phi))),
            tuple(layer.gradients(x) for layer, x in zip(layers, (kept.phi[-1], *below), strict=True)),
        )
        return None, None, *_leaves(gradients)


def _masked(values: Tensor, mask: Tensor | None, part) -> Tensor:
    """What a part of a mask leaves of the values."""
    return values if mask is None else values * mask[part]


def _of_codes(d: Tensor, codes: Tensor, table: Tensor) -> Tensor:
    """The gradient of the table (V, .) in which steps (T, B, .) looked up their rows."""
    return embedding_backward(d, codes, len(table), -1, False)


def _steps(kind: str, p: _Given) -> tuple:
    """The path as operations that autograd knows, for what is differentiated twice."""
    x_posterior, x_rnn = p.x_posterior, p.x_rnn
    if p.x is not None:
        x_posterior, x_rnn = F.embedding(p.x, x_posterior), F.embedding(p.heard, x_rnn)
    states, columns = p.states, []
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
        columns.append((before, raw, z, z_features, *_leaves(states)))
    return tuple(torch.stack(column) for column in zip(*columns, strict=True))


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
