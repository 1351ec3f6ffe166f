"""Where a run came from, as its history tells it: settings in words, a hash of the data, versions, the command."""

import itertools
import platform
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from torch import Tensor

from .cell import VRNNCell
from .checkpoint import tensor_hash, uncompiled


def name_of(model) -> str:
    """Its class, and its cell's, if that is not the usual one."""
    cell = uncompiled(getattr(model, "cell", None))
    name = type(model).__name__
    return name if cell is None or type(cell) is VRNNCell else f"{name} of {type(cell).__name__}"


def describe(value):
    """What history.json says of a setting."""
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        parts = {
            name: part if next(_tensors(part), None) is None else f"{len(part)} long" for name, part in parts.items()
        }
        return f"{type(value).__name__}({', '.join(f'{name}={part}' for name, part in parts.items())})"
    if isinstance(value, (int, float, str, dict)):
        return value
    return getattr(value, "__name__", type(value).__name__)


def data_hash(data) -> str | None:
    """Of all tensors that the data hold, or None if they hold none."""
    tensors = _tensors(data)
    first = next(tensors, None)
    return None if first is None else tensor_hash(itertools.chain([first], tensors))


def _tensors(data) -> Iterator[Tensor]:
    """The tensors that these are, or hold as entries of lists or as fields of dataclasses."""
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, np.ndarray) and data.dtype.kind in "biuf":
        yield torch.from_numpy(data.copy())
    elif isinstance(data, (list, tuple)):
        for part in data:
            yield from _tensors(part)
    elif is_dataclass(data):
        yield from _tensors([getattr(data, field.name) for field in fields(data)])


def versions() -> dict:
    """What the run was made with."""
    return {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}


def command() -> str | None:
    """The call of the command line that makes the run, if it is one."""
    return shlex.join(["python", *sys.orig_argv[1:]]) if "vrnn_tutorial" in sys.orig_argv else None
