"""The default cell's path through time with its gradient written by hand: the same numbers, in half the time.

Autograd would keep some twenty small tensors per step and visit each again. Here the forward pass keeps what the
chain rule asks for; whatever that rule can compute for all steps at once is computed before the backward loop, and
each weight's gradient is one matrix product after it.
"""

import torch
from torch import Tensor

from .cell import VRNNCell
from .gaussian import LARGEST_LOG_STD, LEAST_POSTERIOR_LOG_STD, posterior_from_raw
from .inputs import values_are_there


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
    cell: VRNNCell,
    x_posterior: Tensor,
    x_rnn: Tensor,
    noise: Tensor,
    layers: tuple,
    mask: Tensor | None,
    memory: Tensor | None,
    steps: Tensor | None,
):
    """paths.open_path for one GRU layer and nets of depth 1.

    Args:
        cell, x_posterior, x_rnn, noise, layers, mask, memory, steps: as there, and so is what it returns.
    """
    weights, (phi,) = cell.first_weights(), cell.phi_z[0].children()
    hidden, raw, z, z_features = _GatedPath.apply(
        x_posterior,
        x_rnn,
        noise,
        layers[0],
        mask,
        weights.posterior_h,
        phi.weight,
        phi.bias,
        weights.rnn_z,
        cell.hidden_weights()[0],
        weights.rnn_h_bias,
    )
    if steps is None:
        return hidden, raw, z, z_features, (hidden[-1],)
    every = torch.cat([layers[0][None], hidden])
    return hidden, raw, z, z_features, (every.take_along_dim(steps.sum(0)[None, :, None], 0)[0],)


def _steps(x_posterior, x_rnn, noise, h, mask, W_q, W_z, b_z, W_i, W_h, b_h):
    """The path as operations that autograd knows, for what is differentiated twice."""
    columns = []
    for t in range(len(noise)):
        raw = x_posterior[t] + (h if mask is None else h * mask[t]) @ W_q.t()
        z = posterior_from_raw(raw).rsample(noise[t])
        z_features = torch.nn.functional.elu(torch.addmm(b_z, z, W_z.t()))
        r_x, u_x, n_x = torch.addmm(x_rnn[t], z_features, W_i.t()).chunk(3, -1)
        r_h, u_h, n_h = torch.addmm(b_h, h, W_h.t()).chunk(3, -1)
        candidate = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        h = torch.lerp(candidate, h, torch.sigmoid(u_x + u_h))
        columns.append((h, raw, z, z_features))
    return tuple(torch.stack(column) for column in zip(*columns, strict=True))


class _GatedPath(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_posterior, x_rnn, noise, h, mask, W_q, W_z, b_z, W_i, W_h, b_h):
        inputs = x_posterior, x_rnn, noise, h, mask, W_q, W_z, b_z, W_i, W_h, b_h
        T, B, H, Z = *x_rnn.shape[:2], h.shape[-1], noise.shape[-1]
        new = x_rnn.new_empty
        raw, std, z, z_features = new(T, B, 2 * Z), new(T, B, Z), new(T, B, Z), new(T, B, H)
        gates, n_h, path = new(T, B, 3 * H), new(T, B, H), new(T + 1, B, H)
        path[0] = h
        W_q_t, W_z_t, W_i_t, W_h_t = W_q.t(), W_z.t(), W_i.t(), W_h.t()
        for t in range(T):
            h = path[t]
            torch.addmm(x_posterior[t], h if mask is None else h * mask[t], W_q_t, out=raw[t])
            torch.clamp(raw[t, :, Z:], LEAST_POSTERIOR_LOG_STD, LARGEST_LOG_STD, out=std[t]).exp_()
            torch.addcmul(raw[t, :, :Z], std[t], noise[t], out=z[t])
            torch.nn.functional.elu_(torch.addmm(b_z, z[t], W_z_t, out=z_features[t]))
            from_x = torch.addmm(x_rnn[t], z_features[t], W_i_t)
            from_h = torch.addmm(b_h, h, W_h_t)
            ru, n = gates[t, :, : 2 * H], gates[t, :, 2 * H :]
            torch.sigmoid(torch.add(from_x[:, : 2 * H], from_h[:, : 2 * H]), out=ru)
            n_h[t] = from_h[:, 2 * H :]
            torch.tanh(torch.addcmul(from_x[:, 2 * H :], ru[:, :H], n_h[t]), out=n)
            torch.lerp(n, h, ru[:, H:], out=path[t + 1])
        ctx.save_for_backward(*inputs, raw, std, z, z_features, gates, n_h, path)
        # A copy, since what is returned must not share memory with what is kept.
        return path[1:].clone(), raw, z.clone(), z_features.clone()

    # Torch's own signature is (ctx, *grad_outputs), which cannot say that these are four.
    @staticmethod
    def backward(ctx, d_hidden, d_raw, d_z, d_z_features):  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, raw, std, z, z_features, gates, n_h, path = ctx.saved_tensors
        if torch.is_grad_enabled():
            # This gradient is to be differentiated in its turn, and what is written below cannot be. Each input is seen
            # through a view of its own, since one may have been computed from others: h, by the same weights.
            seen = [None if given is None else given.view_as(given) for given in inputs]
            wanted = [needed and given is not None for needed, given in zip(ctx.needs_input_grad, seen, strict=True)]
            found = torch.autograd.grad(
                _steps(*seen),
                tuple(given for given, want in zip(seen, wanted, strict=True) if given is not None and want),
                (d_hidden, d_raw, d_z, d_z_features),
                create_graph=True,
                allow_unused=True,
            )
            each = iter(found)
            return tuple(next(each) if want else None for want in wanted)
        _, _, noise, _, mask, W_q, W_z, _, W_i, W_h, _ = inputs
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
        # At its bounds the log deviation does not move.
        raw_log_std = raw[..., z.shape[-1] :]
        inside = (raw_log_std > LEAST_POSTERIOR_LOG_STD) & (raw_log_std < LARGEST_LOG_STD)
        moves = torch.where(inside, std * noise, 0.0)
        to_raw = torch.stack([torch.ones_like(std), moves], 2)
        d_raw = d_raw.unflatten(-1, (2, -1)).clone()
        d_phi, d_noise = torch.empty_like(z_features), torch.empty_like(z)
        d_h = torch.zeros_like(path[0])
        for t in reversed(range(T)):
            d_h = d_h + d_hidden[t]
            torch.mul(d_h[:, None], slope[t], out=slope[t])
            d_gates = slope[t].flatten(1)
            d_features = torch.addmm(d_z_features[t], d_gates[:, : 3 * H], W_i_nru)
            torch.mul(d_features, elu_slope[t], out=d_phi[t])
            torch.addmm(d_z[t], d_phi[t], W_z, out=d_noise[t])
            d_raw[t].addcmul_(d_noise[t, :, None], to_raw[t])
            d_h = torch.addmm(d_h * u[t], d_gates[:, H:], W_h)
            d_seen = d_raw[t].flatten(1) @ W_q
            d_h += d_seen if mask is None else d_seen * mask[t]
        d_raw = d_raw.flatten(2)
        d_from_x = torch.cat([slope[:, :, 1:3].flatten(2), slope[:, :, 0]], -1)
        d_from_h = slope[:, :, 1:].flatten(2)

        def product(gradient, inputs):
            return gradient.flatten(0, 1).t() @ inputs.flatten(0, 1)

        return (
            d_raw,
            d_from_x,
            d_noise * std,
            d_h,
            None,
            product(d_raw, h if mask is None else h * mask),
            product(d_phi, z),
            d_phi.sum((0, 1)),
            product(d_from_x, z_features),
            product(d_from_h, h),
            d_from_h.sum((0, 1)),
        )
