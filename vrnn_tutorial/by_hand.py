"""The default cell's path through time with its gradient written by hand: the same numbers, in half the time.

Autograd would keep some twenty small tensors per step and visit each again. Here the forward pass keeps what the
chain rule asks for; whatever that rule can compute for all steps at once is computed before the backward loop, and
each weight's gradient is one matrix product after it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .cell import VRNNCell
from .gaussian import LARGEST_LOG_STD, LEAST_POSTERIOR_LOG_STD, posterior_from_raw
from .inputs import values_are_there
from .paths import Dropped, Shares


def why_not_by_hand(cell: VRNNCell) -> str | None:
    """Why the gradient written here does not serve; None where it does."""
    if (cell.rnn_type, cell.num_layers, cell.depth, cell.stochastic) != ("gru", 1, 1, True):
        return "it is written for one GRU layer, nets of depth 1 and a z with noise"
    if torch.is_autocast_enabled(next(cell.parameters()).device.type):
        return "autocast chooses the precision of each operation, and it is one"
    if torch._C._are_functorch_transforms_active():
        return "torch.func transforms what autograd has recorded"
    if not values_are_there():
        return "a compiler reads single operations"
    return None


def gated_path(
    cell: VRNNCell, shares: Shares, noise: Tensor, layers: tuple, dropped: Dropped, steps: Tensor | None
) -> tuple:
    """paths.open_path for one GRU layer and nets of depth 1.

    Args:
        cell, shares, noise, layers, dropped, steps: as there, and so is what it returns.
    """
    weights, (phi,) = cell.first_weights(), cell.phi_z[0].children()
    before, hidden, raw, z, z_features = _GatedPath.apply(
        *(shares.codes or (None, None)),
        noise,
        dropped.seen,
        shares.posterior,
        shares.rnn,
        layers[0],
        weights.posterior_h,
        phi.weight,
        phi.bias,
        weights.rnn_z,
        dropped.weights[0],
        weights.rnn_h_bias,
    )
    if steps is None:
        return before, hidden, raw, z, z_features, (hidden[-1],)
    every = torch.cat([layers[0][None], hidden])
    return before, hidden, raw, z, z_features, (every.take_along_dim(steps.sum(0)[None, :, None], 0)[0],)


def _steps(x, heard, noise, mask, x_posterior, x_rnn, h, W_q, W_z, b_z, W_i, W_h, b_h):
    """The path as operations that autograd knows, for what is differentiated twice."""
    if x is not None:
        x_posterior, x_rnn = F.embedding(x, x_posterior), F.embedding(heard, x_rnn)
    columns = []
    for t in range(len(noise)):
        before, raw = h, x_posterior[t] + (h if mask is None else h * mask[t]) @ W_q.t()
        z = posterior_from_raw(raw).rsample(noise[t])
        z_features = F.elu(torch.addmm(b_z, z, W_z.t()))
        r_x, u_x, n_x = torch.addmm(x_rnn[t], z_features, W_i.t()).chunk(3, -1)
        r_h, u_h, n_h = torch.addmm(b_h, h, W_h.t()).chunk(3, -1)
        candidate = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        h = torch.lerp(candidate, h, torch.sigmoid(u_x + u_h))
        columns.append((before, h, raw, z, z_features))
    return tuple(torch.stack(column) for column in zip(*columns, strict=True))


class _GatedPath(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, heard, noise, mask, x_posterior, x_rnn, h, W_q, W_z, b_z, W_i, W_h, b_h):
        (T, B, Z), H = noise.shape, h.shape[-1]
        given = x, heard, noise, mask, x_posterior, x_rnn, h, W_q, W_z, b_z, W_i, W_h, b_h
        # What x adds stands in its place before the loop begins: a copy, to which the other shares are added.
        raw = x_posterior.clone() if x is None else F.embedding(x, x_posterior)
        gates = x_rnn.clone() if heard is None else F.embedding(heard, x_rnn)
        new = x_rnn.new_empty
        z, z_features, n_h, path = new(T, B, Z), new(T, B, H), new(T, B, H), new(T + 1, B, H)
        path[0] = h
        W_q_t, W_z_t, W_i_t, W_h_t = W_q.t(), W_z.t(), W_i.t(), W_h.t()
        for t in range(T):
            h, raw_t, gates_t = path[t], raw[t], gates[t]
            torch.addmm(raw_t, h if mask is None else h * mask[t], W_q_t, out=raw_t)
            mean, log_std = raw_t.chunk(2, -1)
            std = log_std.clamp(LEAST_POSTERIOR_LOG_STD, LARGEST_LOG_STD).exp_()
            torch.addcmul(mean, std, noise[t], out=z[t])
            F.elu_(torch.addmm(b_z, z[t], W_z_t, out=z_features[t]))
            torch.addmm(gates_t, z_features[t], W_i_t, out=gates_t)
            ru, n = gates_t.split([2 * H, H], -1)
            ru_h, n_h[t] = torch.addmm(b_h, h, W_h_t).split([2 * H, H], -1)
            ru.add_(ru_h).sigmoid_()
            n.addcmul_(ru[:, :H], n_h[t]).tanh_()
            torch.lerp(n, h, ru[:, H:], out=path[t + 1])
        ctx.save_for_backward(*given, raw, z, z_features, gates, n_h, path)
        ctx.set_materialize_grads(False)
        # Copies of what a caller sees, since that must not share memory with what is kept.
        return path[:-1], path[1:].clone(), raw, z.clone(), z_features

    # Torch's own signature is (ctx, *grad_outputs), which cannot say that these are five.
    @staticmethod
    def backward(ctx, d_before, d_hidden, d_raw, d_z, d_z_features):  # pyright: ignore[reportIncompatibleMethodOverride]
        *given, raw, z, z_features, gates, n_h, path = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable(given, ctx.needs_input_grad, (d_before, d_hidden, d_raw, d_z, d_z_features))
        x, heard, noise, mask, x_posterior, x_rnn, _, W_q, W_z, _, W_i, W_h, _ = given
        T, B, H = n_h.shape
        h = path[:-1]
        r, u, n = gates.chunk(3, -1)
        # d h_t times these is the gradient of the four pre-activations: n from x, r, u, n from h. The order lets
        # the gates' share from x be the first three blocks, and the share from h the last three.
        slope = h.new_empty(T, B, 4, H)
        slope[:, :, 0] = (1 - u) * (1 - n * n)
        slope[:, :, 1] = slope[:, :, 0] * n_h * r * (1 - r)
        slope[:, :, 2] = (h - n) * u * (1 - u)
        slope[:, :, 3] = slope[:, :, 0] * r
        W_i_nru = torch.cat([W_i[2 * H :], W_i[: 2 * H]])
        elu_slope = z_features.clamp(max=0) + 1
        raw_log_std = raw[..., z.shape[-1] :]
        std = raw_log_std.clamp(LEAST_POSTERIOR_LOG_STD, LARGEST_LOG_STD).exp_()
        # At its bounds the log deviation does not move.
        inside = (raw_log_std > LEAST_POSTERIOR_LOG_STD) & (raw_log_std < LARGEST_LOG_STD)
        moves = torch.where(inside, std * noise, 0.0)
        to_raw = torch.stack([torch.ones_like(std), moves], 2)
        d_raw = (torch.zeros_like(raw) if d_raw is None else d_raw.clone()).unflatten(-1, (2, -1))
        d_z_features = torch.zeros_like(z_features) if d_z_features is None else d_z_features
        d_phi, d_noise = torch.empty_like(z_features), torch.empty_like(z)
        d_h = torch.zeros_like(path[0])
        for t in reversed(range(T)):
            if d_hidden is not None:
                d_h += d_hidden[t]
            torch.mul(d_h[:, None], slope[t], out=slope[t])
            d_gates = slope[t].flatten(1)
            d_features = torch.addmm(d_z_features[t], d_gates[:, : 3 * H], W_i_nru)
            torch.mul(d_features, elu_slope[t], out=d_phi[t])
            torch.mm(d_phi[t], W_z, out=d_noise[t])
            if d_z is not None:
                d_noise[t] += d_z[t]
            d_raw[t].addcmul_(d_noise[t, :, None], to_raw[t])
            d_h = torch.addmm(d_h * u[t], d_gates[:, H:], W_h)
            d_seen = d_raw[t].flatten(1) @ W_q
            d_h += d_seen if mask is None else d_seen * mask[t]
            if d_before is not None:
                d_h += d_before[t]
        d_raw = d_raw.flatten(2)
        d_from_x = torch.cat([slope[:, :, 1:3].flatten(2), slope[:, :, 0]], -1)
        d_from_h = slope[:, :, 1:].flatten(2)
        return (
            *(None, None, d_noise * std if ctx.needs_input_grad[2] else None, None),
            d_raw if x is None else _of_codes(d_raw, x, x_posterior),
            d_from_x if heard is None else _of_codes(d_from_x, heard, x_rnn),
            d_h,
            _product(d_raw, h if mask is None else h * mask),
            _product(d_phi, z),
            d_phi.sum((0, 1)),
            _product(d_from_x, z_features),
            _product(d_from_h, h),
            d_from_h.sum((0, 1)),
        )


def _product(gradient: Tensor, inputs: Tensor) -> Tensor:
    """A weight's gradient, given that of what it put out and what it was given, at all steps."""
    return gradient.flatten(0, 1).t() @ inputs.flatten(0, 1)


def _of_codes(gradient: Tensor, codes: Tensor, table: Tensor) -> Tensor:
    """The gradient of the table (V, .) in which steps (T, B, .) looked up their rows."""
    return torch.ops.aten.embedding_dense_backward(gradient, codes, len(table), -1, False)


def _differentiable(given, needed, gradients) -> tuple:
    """The gradient as something that can be differentiated in its turn, which what is written by hand cannot."""
    # Each input is seen through a view of its own, since one may have been computed from others: h, by the weights.
    seen = [None if part is None else part.view_as(part) for part in given]
    asked = [(out, d) for out, d in zip(_steps(*seen), gradients, strict=True) if d is not None and out.requires_grad]
    found = torch.autograd.grad(
        [out for out, _ in asked],
        [part for part, want in zip(seen, needed, strict=True) if part is not None and want],
        [d for _, d in asked],
        create_graph=True,
        allow_unused=True,
    )
    each = iter(found)
    return tuple(next(each) if want else None for want in needed)
