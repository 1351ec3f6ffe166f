"""What the checks of several chapters ask of an answer; each that fails says so in a sentence."""

import math
from collections.abc import Callable
from typing import SupportsFloat

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Without(TorchFunctionMode):
    """While it is entered, no function of torch may be called that bears one of these names."""

    def __init__(self, *names: str, because: str):
        super().__init__()
        self.names, self.because = names, because

    def __torch_function__(self, function, types, args=(), kwargs=None):
        __tracebackhide__ = True  # what fails below is the answer's
        self.refuse(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))

    def refuse(self, name: str) -> None:
        assert name not in self.names, self.because


def tensor(value, shape: tuple, what: str, one: str) -> Tensor:
    """The value in float64, if it is a tensor of that shape; `one` says what has a number each."""
    assert isinstance(value, Tensor), f"{what} should be a tensor, but it is of type {type(value).__name__}."
    assert value.shape == shape, f"{what} should be {one}, {tuple(shape)}, but its shape is {tuple(value.shape)}."
    return value.double()


def number(answer, what: str) -> Tensor:
    """The one number that is the answer, in float64."""
    assert isinstance(answer, SupportsFloat), f"it should be one number, a {what}, not of type {type(answer).__name__}."
    shape = tuple(getattr(answer, "shape", ()))
    assert math.prod(shape) == 1, f"it should be one number, a {what}, not of shape {shape}."
    return torch.as_tensor(answer, dtype=torch.float64).reshape(())


def same(value: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal, but for what float32 rounds off."""
    return torch.allclose(value.double(), wanted.double(), rtol=tolerance, atol=tolerance)


def of_another_size(answer: Callable) -> Callable:
    """The answer, for inputs of another size than before: what it raises now becomes a sentence."""

    def called(*arguments):
        try:
            return answer(*arguments)
        except (RuntimeError, IndexError, ValueError) as error:
            shape = next(tuple(given.shape) for given in reversed(arguments) if isinstance(given, Tensor))
            sentence = f"it is right for one size and fails for another: try an input of shape {shape}."
            raise AssertionError(sentence) from error

    return called
