"""The default cell's path through time with its gradient written by hand: the same numbers, in half the time.

Autograd would keep some twenty small tensors per step and visit each again. Here the forward pass keeps what the
chain rule asks for; whatever that rule can compute for all steps at once is computed before the backward loop, and
each weight's gradient is one matrix product after it.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .cell import State


def gated_path(cell, x_posterior: Tensor, x_rnn: Tensor, noise: Tensor, state: State, mask: Tensor | None):
    """vrnn.open_path for one GRU layer and nets of depth 1, whose arguments and results it shares."""
    weights, phi = cell.first_weights(), cell.phi_z[0][0]
    hidden, raw, z, z_features = _GatedPath.apply(
        x_posterior,
        x_rnn,
        noise,
        state,
        mask,
        weights.posterior_h,
        phi.weight,
        phi.bias,
        weights.rnn_z,
        weights.rnn_h,
        weights.rnn_h_bias,
    )
    return hidden, raw, z, z_features, hidden[-1]


class _GatedPath(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_posterior, x_rnn, noise, h, mask, W_q, W_z, b_z, W_i, W_h, b_h):
        T, B, H, Z = *x_rnn.shape[:2], h.shape[-1], noise.shape[-1]
        new = x_rnn.new_empty
        raw, std, z, z_features = new(T, B, 2 * Z), new(T, B, Z), new(T, B, Z), new(T, B, H)
        gates, n_h, path = new(T, B, 3 * H), new(T, B, H), new(T + 1, B, H)
        path[0] = h
        W_q_t, W_z_t, W_i_t, W_h_t = W_q.t(), W_z.t(), W_i.t(), W_h.t()
        for t in range(T):
            h = path[t]
            torch.addmm(x_posterior[t], h if mask is None else h * mask[t], W_q_t, out=raw[t])
            torch.exp(raw[t, :, Z:], out=std[t])
            torch.addcmul(raw[t, :, :Z], std[t], noise[t], out=z[t])
            torch.nn.functional.elu_(torch.addmm(b_z, z[t], W_z_t, out=z_features[t]))
            from_x = torch.addmm(x_rnn[t], z_features[t], W_i_t)
            from_h = torch.addmm(b_h, h, W_h_t)
            ru, n = gates[t, :, : 2 * H], gates[t, :, 2 * H :]
            torch.sigmoid(torch.add(from_x[:, : 2 * H], from_h[:, : 2 * H]), out=ru)
            n_h[t] = from_h[:, 2 * H :]
            torch.tanh(torch.addcmul(from_x[:, 2 * H :], ru[:, :H], n_h[t]), out=n)
            torch.lerp(n, h, ru[:, H:], out=path[t + 1])
        ctx.save_for_backward(noise, mask, std, z, z_features, gates, n_h, path, W_q, W_z, W_i, W_h)
        # A copy, since what is returned must not share memory with what is kept.
        return path[1:].clone(), raw, z.clone(), z_features.clone()

    # Torch's own signature is (ctx, *grad_outputs), which cannot say that these are four.
    @staticmethod
    @once_differentiable
    def backward(ctx, d_hidden, d_raw, d_z, d_z_features):  # pyright: ignore[reportIncompatibleMethodOverride]
        noise, mask, std, z, z_features, gates, n_h, path, W_q, W_z, W_i, W_h = ctx.saved_tensors
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
        to_raw = torch.stack([torch.ones_like(std), std * noise], 2)
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
