"""Linear and recurrent layers over T steps, each step forward and its gradient backward, written by hand.

A layer writes into buffers that its caller made for all steps. Its weights' gradients are one matrix product each, once
all steps are done.
"""

import torch
from torch import Tensor

# What autograd calls: a gradient times a function's slope, given the function's value, in one operation.
elu_backward = torch.ops.aten.elu_backward.grad_input
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def columns(values: Tensor, count: int) -> list:
    """(T, B, count H) as `count` lists of T tensors (B, H)."""
    return [part.unbind() for part in values.chunk(count, -1)]


class Linear:
    """A linear layer.

    Args:
        weight, bias: its own.
        out: (T, B, .), where its outputs come; without a bias, what is to be added to them stands there before.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, out: Tensor):
        self.weight, self.transposed, self.bias, self.out = weight, weight.t(), bias, out.unbind()
        self.whole, self.added = out, self.out if bias is None else [bias] * len(out)

    def forward(self, t: int, inputs: Tensor) -> Tensor:
        return torch.addmm(self.added[t], inputs, self.transposed, out=self.out[t])

    def start_backward(self, d: Tensor) -> None:
        """d: (T, B, .), where the gradient of its outputs will stand, at each step before `backward` is called."""
        self.d, self.d_at = d, d.unbind()

    def backward(self, t: int) -> Tensor:
        """The gradient of its inputs."""
        return self.d_at[t] @ self.weight

    def backward_of_elu(self, t: int, d: Tensor) -> Tensor:
        """The same, given the gradient (B, .) of the outputs after an ELU, which was made in their place."""
        elu_backward(d, 1.0, 1.0, 1.0, True, self.out[t], grad_input=self.d_at[t])
        return self.backward(t)

    def gradients(self, inputs: Tensor) -> tuple:
        """Of weight and bias, given the inputs (T, B, .) of all steps."""
        return product(self.d, inputs), None if self.bias is None else self.d.sum((0, 1))


def product(d: Tensor, inputs: Tensor) -> Tensor:
    """The sum over T steps and B columns of d (T, B, n) times inputs (T, B, m): (n, m)."""
    return d.flatten(0, 1).t() @ inputs.flatten(0, 1)


class Recurrent:
    """A recurrent layer, whose gates are computed from x, what is below it, and h.

    Args:
        weights: (W_i, b_i, W_h, b_h), as PyTorch's cells have them; with a b_i of None, what is to be added to the gates
            stands in their place before.
        gates: (T, B, gates H), where the gates come.
        kept: (T, B, keeps H), where comes what else is needed backwards.
        h: (T + 1, B, H), where h comes; before the first step it stands there already.
    """

    gates: int
    keeps: int
    #: How many gradients there are of the products' parts: the first `gates` of them are x's, the last `gates` are h's.
    slopes: int

    def __init__(self, weights: tuple, gates: Tensor, kept: Tensor, h: Tensor):
        W_i, b_i, self.weight, self.bias = weights
        self.of_x, self.transposed = Linear(W_i, b_i, gates), self.weight.t()
        self.gate_at, self.kept, self.path, self.h = columns(gates, self.gates), kept.unbind(), h, h.unbind()

    def of_h(self, t: int) -> Tensor:
        return torch.addmm(self.bias, self.h[t], self.transposed)

    def start_backward(self) -> None:
        T, B, H = len(self.kept), *self.h[0].shape
        self.d = self.weight.new_empty(T, B, self.slopes * H)
        self.d_of_h = self.d[..., -self.gates * H :]
        self.d_at, self.d_of_h_at = list(zip(*columns(self.d, self.slopes), strict=True)), self.d_of_h.unbind()
        # In `d` x's parts come first by as many places as there are more slopes than gates.
        self.shift = (self.slopes - self.gates) * H
        self.of_x.weight = self.of_x.weight.roll(self.shift, 0)
        self.of_x.start_backward(self.d[..., : self.gates * H])

    def in_order(self, d: Tensor, axis: int) -> Tensor:
        """Of `d`, or of what was computed from it, what belongs to x, in the order of the gates."""
        return d.narrow(axis, 0, self.gates * self.h[0].shape[-1]).roll(-self.shift, axis)

    def gradients(self, inputs: Tensor) -> tuple:
        """Of the weights, given x (T, B, .) of all steps."""
        d_W_i, d_b_i = self.of_x.gradients(inputs)
        d_b_i = None if d_b_i is None else self.in_order(d_b_i, 0)
        return self.in_order(d_W_i, 0), d_b_i, product(self.d_of_h, self.path[:-1]), self.d_of_h.sum((0, 1))


class GRU(Recurrent):
    """Gates r, u and n; kept is h's part of n, which r multiplies. Slopes: x's part of n, r, u, h's part of n."""

    gates, keeps, slopes = 3, 1, 4

    def __init__(self, weights: tuple, gates: Tensor, kept: Tensor, h: Tensor):
        super().__init__(weights, gates, kept, h)
        self.r_u = gates[..., : 2 * h.shape[-1]].unbind()

    def forward(self, t: int, x: Tensor) -> None:
        self.of_x.forward(t, x)
        (r, u, n), h, n_of_h = (gate[t] for gate in self.gate_at), self.h[t], self.kept[t]
        of_h = self.of_h(t)
        n_of_h.copy_(of_h[:, 2 * h.shape[-1] :])
        self.r_u[t].add_(of_h[:, : 2 * h.shape[-1]]).sigmoid_()
        torch.lerp(n.addcmul_(r, n_of_h).tanh_(), h, u, out=self.h[t + 1])

    def backward(self, t: int, d_h: Tensor) -> list[Tensor]:
        (r, u, n), (d_n, d_r, d_u, d_n_of_h) = (gate[t] for gate in self.gate_at), self.d_at[t]
        d_h_before = d_h * u
        tanh_backward(d_h - d_h_before, n, grad_input=d_n)
        torch.mul(d_n, r, out=d_n_of_h)
        sigmoid_backward(d_n * self.kept[t], r, grad_input=d_r)
        sigmoid_backward(d_h * (self.h[t] - n), u, grad_input=d_u)
        return [d_h_before.addmm_(self.d_of_h_at[t], self.weight)]


class LSTM(Recurrent):
    """Gates i, f, g and o, in the slopes as well; kept is tanh(c) after each step. c: (T + 1, B, H), as h."""

    gates, keeps, slopes = 4, 1, 4

    def __init__(self, weights: tuple, gates: Tensor, kept: Tensor, h: Tensor, c: Tensor):
        super().__init__(weights, gates, kept, h)
        self.all, self.i_f, self.c = gates.unbind(), gates[..., : 2 * h.shape[-1]].unbind(), c.unbind()

    def forward(self, t: int, x: Tensor) -> None:
        self.of_x.forward(t, x)
        self.all[t].add_(self.of_h(t))
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
        return [self.d_of_h_at[t] @ self.weight, d_c * f]


class RNN(Recurrent):
    """The one gate is h before its tanh; nothing else is kept."""

    gates, keeps, slopes = 1, 0, 1

    def forward(self, t: int, x: Tensor) -> None:
        torch.add(self.of_x.forward(t, x), self.of_h(t), out=self.h[t + 1]).tanh_()

    def backward(self, t: int, d_h: Tensor) -> list[Tensor]:
        tanh_backward(d_h, self.h[t + 1], grad_input=self.d_at[t][0])
        return [self.d_of_h_at[t] @ self.weight]


RECURRENT = {"gru": GRU, "lstm": LSTM, "rnn": RNN}
