"""Linear and recurrent layers over T steps with their gradients written by hand.

Forward, each step writes into buffers of all T. Backward, the gradients of a few steps' outputs are put side by side,
and of them each weight's gradient is one matrix product: `collect`.
"""

import torch
from torch import Tensor

#: Steps whose gradients are multiplied together: enough for a large product, few enough for a processor's caches.
TOGETHER = 32

# What autograd calls: a gradient times a function's slope, given the function's value, in one operation.
elu_backward = torch.ops.aten.elu_backward.grad_input
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def columns(values: Tensor, count: int) -> list[tuple[Tensor, ...]]:
    """(T, B, count H) as `count` tuples of T tensors (B, H)."""
    return [part.unbind() for part in values.chunk(count, -1)]


class Linear:
    """A linear layer.

    Args:
        weight, bias: its own.
        out: (T, B, n), where its outputs come; without a bias, what is added in its place stands there before.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, out: Tensor):
        self.weight, self.transposed, self.bias, self.out = weight, weight.t(), bias, out.unbind()
        self.added = self.out if bias is None else [bias] * len(out)

    def forward(self, t: int, inputs: Tensor) -> Tensor:
        return torch.addmm(self.added[t], inputs, self.transposed, out=self.out[t])

    def start_backward(self, inputs: Tensor, d: Tensor | None = None) -> None:
        """inputs: (T, B, m). d: (TOGETHER, B, n), where its outputs' gradients will stand, if that is not its own."""
        self.inputs, self.d = inputs, self.weight.new_empty(TOGETHER, *self.out[0].shape) if d is None else d
        self.d_at = self.d.unbind() * -(-len(inputs) // TOGETHER)
        self.d_weight, self.d_bias = torch.zeros_like(self.weight), self.weight.new_zeros(len(self.weight))

    def backward(self, t: int) -> Tensor:
        """The gradient of its inputs (B, m), once `d_at[t]` is that of its outputs."""
        return self.d_at[t] @ self.weight

    def backward_of_elu(self, t: int, d: Tensor) -> Tensor:
        """The same, given the gradient (B, n) of what an ELU made of the outputs in their place."""
        elu_backward(d, 1.0, 1.0, 1.0, True, self.out[t], grad_input=self.d_at[t])
        return self.backward(t)

    def collect(self, steps: slice) -> None:
        inputs = self.inputs[steps]
        d = self.d[: len(inputs)].flatten(0, 1)
        torch.addmm(self.d_weight, d.t(), inputs.flatten(0, 1), out=self.d_weight)
        if self.bias is not None:
            self.d_bias += d.sum(0)

    def gradients(self) -> tuple:
        return self.d_weight, None if self.bias is None else self.d_bias


class Recurrent:
    """A recurrent layer, whose gates are computed from x, what is below it, and h.

    Args:
        weights: (W_i, b_i, W_h, b_h), as PyTorch's cells have them.
        gates: (T, B, gates H), where the gates come; without a b_i, what is added in its place stands there before.
        kept: (T, B, keeps H), where comes what else is needed backward.
        h: (T + 1, B, H), where h comes; that before the first step stands there already.
    """

    gates: int
    keeps: int
    slopes: int  # gradients of parts of the two products, side by side: the first `gates` of x's, the last of h's

    def __init__(self, weights: tuple, gates: Tensor, kept: Tensor, h: Tensor):
        W_i, b_i, W_h, b_h = weights
        self.of_x, self.of_h = Linear(W_i, b_i, gates), Linear(W_h, b_h, gates.new_empty(1, *gates.shape[1:]))
        self.gate_at, self.kept, self.path, self.h = columns(gates, self.gates), kept.unbind(), h, h.unbind()

    def start_backward(self, x: Tensor) -> None:
        """x: (T, B, m)."""
        B, H = self.h[0].shape
        self.d, width = x.new_empty(TOGETHER, B, self.slopes * H), self.gates * H
        self.d_at = list(zip(*columns(self.d, self.slopes), strict=True)) * -(-len(x) // TOGETHER)
        # There x's parts stand turned by as many places as there are more slopes than gates.
        self.turn = (self.slopes - self.gates) * H
        self.of_x.weight = self.of_x.weight.roll(self.turn, 0)
        self.of_x.start_backward(x, self.d[..., :width])
        self.of_h.start_backward(self.path[:-1], self.d[..., -width:])

    def collect(self, steps: slice) -> None:
        self.of_x.collect(steps)
        self.of_h.collect(steps)

    def d_of_x(self) -> Tensor:
        """(TOGETHER, B, gates H): the gradient of x's product, in the order of the gates."""
        return self.of_x.d.roll(-self.turn, -1)

    def gradients(self) -> tuple:
        of_x = (None if d is None else d.roll(-self.turn, 0) for d in self.of_x.gradients())
        return *of_x, *self.of_h.gradients()


class GRU(Recurrent):
    """Gates r, u and n; kept is h's part of n, which r multiplies. Slopes: x's part of n, r, u, h's part of n."""

    gates, keeps, slopes = 3, 1, 4

    def __init__(self, weights: tuple, gates: Tensor, kept: Tensor, h: Tensor):
        super().__init__(weights, gates, kept, h)
        H = h.shape[-1]
        self.r_u, (self.r_u_of_h, self.n_of_h) = gates[..., : 2 * H].unbind(), self.of_h.out[0].split([2 * H, H], -1)

    def forward(self, t: int, x: Tensor) -> None:
        self.of_x.forward(t, x)
        (r, u, n), h, n_of_h = (gate[t] for gate in self.gate_at), self.h[t], self.kept[t]
        self.of_h.forward(0, h)
        self.r_u[t].add_(self.r_u_of_h).sigmoid_()
        torch.lerp(n.addcmul_(r, n_of_h.copy_(self.n_of_h)).tanh_(), h, u, out=self.h[t + 1])

    def backward(self, t: int, d_h: Tensor) -> list[Tensor]:
        (r, u, n), (d_n, d_r, d_u, d_n_of_h) = (gate[t] for gate in self.gate_at), self.d_at[t]
        d_h_before = d_h * u
        tanh_backward(d_h - d_h_before, n, grad_input=d_n)
        torch.mul(d_n, r, out=d_n_of_h)
        sigmoid_backward(d_n * self.kept[t], r, grad_input=d_r)
        sigmoid_backward(d_h * (self.h[t] - n), u, grad_input=d_u)
        return [torch.addmm(d_h_before, self.of_h.d_at[t], self.of_h.weight)]


class LSTM(Recurrent):
    """Gates i, f, g and o, in the slopes as well; kept is tanh(c) after each step; paths are h and c, (T + 1, B, H)."""

    gates, keeps, slopes = 4, 1, 4

    def __init__(self, weights: tuple, gates: Tensor, kept: Tensor, *paths: Tensor):
        h, c = paths
        super().__init__(weights, gates, kept, h)
        self.i_f, self.c = gates[..., : 2 * h.shape[-1]].unbind(), c.unbind()

    def forward(self, t: int, x: Tensor) -> None:
        self.of_x.forward(t, x).add_(self.of_h.forward(0, self.h[t]))
        self.i_f[t].sigmoid_()
        i, f, g, o = (gate[t] for gate in self.gate_at)
        c = torch.addcmul(f * self.c[t], i, g.tanh_(), out=self.c[t + 1])
        torch.mul(o.sigmoid_(), torch.tanh(c, out=self.kept[t]), out=self.h[t + 1])

    def backward(self, t: int, d_h: Tensor, d_c: Tensor) -> list[Tensor]:
        (i, f, g, o), (d_i, d_f, d_g, d_o), tanh_c = (gate[t] for gate in self.gate_at), self.d_at[t], self.kept[t]
        sigmoid_backward(d_h * tanh_c, o, grad_input=d_o)
        d_c = d_c + tanh_backward(d_h * o, tanh_c, grad_input=torch.empty_like(d_h))
        sigmoid_backward(d_c * g, i, grad_input=d_i)
        sigmoid_backward(d_c * self.c[t], f, grad_input=d_f)
        tanh_backward(d_c * i, g, grad_input=d_g)
        return [self.of_h.backward(t), d_c * f]


class RNN(Recurrent):
    """The one gate is h before its tanh, and its slope the only one; nothing else is kept."""

    gates, keeps, slopes = 1, 0, 1

    def forward(self, t: int, x: Tensor) -> None:
        torch.add(self.of_x.forward(t, x), self.of_h.forward(0, self.h[t]), out=self.h[t + 1]).tanh_()

    def backward(self, t: int, d_h: Tensor) -> list[Tensor]:
        tanh_backward(d_h, self.h[t + 1], grad_input=self.d_at[t][0])
        return [self.of_h.backward(t)]


RECURRENT = {"gru": GRU, "lstm": LSTM, "rnn": RNN}
