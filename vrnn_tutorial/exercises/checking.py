"""What the chapters' checks share: whether an answer is of the form that was asked for, and close to what is right."""

from collections.abc import Callable
from typing import SupportsFloat

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def refusing(because: str) -> Callable:
    """Stands in for a function that an answer may not call."""

    def refuse(*_, **__):
        raise AssertionError(because)

    return refuse


class Without(TorchFunctionMode):
    """While it is entered, no function of torch may be called that bears one of these names."""

    def __init__(self, *names: str, because: str):
        super().__init__()
        self.names, self.refuse = names, refusing(because)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        __tracebackhide__ = True
        if getattr(function, "__name__", "") in self.names:
            self.refuse()
        return function(*args, **(kwargs or {}))


def tensor(value, shape: tuple, what: str, one: str) -> Tensor:
    """The value in float64, if it is a tensor of that shape; `one` says what has a number each."""
    assert isinstance(value, Tensor), f"{what} should be a tensor, but it is of type {type(value).__name__}."
    assert value.shape == shape, f"{what} should be {one}, {tuple(shape)}, but its shape is {tuple(value.shape)}."
    return value.double()


def number(value, what: str) -> Tensor:
    """The value in float64, if it is one number, of whatever type, or the only one of a tensor or an array."""
    assert isinstance(value, SupportsFloat), f"it should be one number, a {what}, not of type {type(value).__name__}."
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    assert value.numel() == 1, f"it should be one number, a {what}, not of shape {tuple(value.shape)}."
    return value.squeeze()


def three(answer, names: str) -> tuple | list:
    """The answer, if three things came back together."""
    parts = len(answer) if isinstance(answer, tuple | list) else f"one {type(answer).__name__}"
    assert parts == 3, f"it should give three things, {names}, not {parts}."
    return answer


def same(value: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal, but for what float32 rounds off."""
    return torch.allclose(value.double(), wanted.double(), rtol=tolerance, atol=tolerance)


def of_another_size(answer: Callable) -> Callable:
    """The answer, for inputs of another size than before: what it raises now becomes a sentence."""

    def called(*arguments):
        try:
            return answer(*arguments)
        except (RuntimeError, IndexError, ValueError) as error:
            shape = max((tuple(argument.shape) for argument in arguments if isinstance(argument, Tensor)), key=len)
            sentence = f"it is right for one size and fails for another: try an input of shape {shape}."
            raise AssertionError(sentence) from error

    return called
