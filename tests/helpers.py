"""What several files of tests use: small models whose weights are large enough for the state and for z to matter."""

import hashlib
import importlib
import sys
from pathlib import Path

import pytest
import torch
from chapters import ROOT

from vrnn_tutorial import __main__ as command_line
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.vrnn import VRNN

#: How close assert_close asks for.
exact = {"rtol": 0, "atol": 0}
tight = {"rtol": 1e-10, "atol": 1e-10}
RNNS = ["gru", "lstm", "rnn"]
#: Each with its number of codes at a step.
EMISSIONS = [("categorical", 1), ("categorical", 3), ("bernoulli", 1), ("gaussian", 1)]
#: A model's options, a shape that no x of it has, and the axes that it has instead.
OTHER_AXES = [
    ({}, (), "T, B"),
    ({}, (3,), "T, B"),
    ({}, (3, 3, 3), "T, B"),
    ({"characters": 3}, (3, 3), "T, B, k"),
    ({"characters": 3}, (3, 3, 3, 3), "T, B, k"),
    ({"emission": "gaussian"}, (5, 5), "T, B, D"),
    ({"emission": "bernoulli"}, (5, 5, 5, 5), "T, B, D"),
]


def spread(model):
    """The model in float64 with other weights, for evaluation."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.double().eval()


def vrnn(batch_first: bool = False, **options) -> VRNN:
    return spread(VRNN(VRNNCell(**{"hidden_size": 6, "latent_size": 3, "embedding_size": 4, **options}), batch_first))


def char_rnn(**options) -> CharRNN:
    return spread(CharRNN(**{"hidden_size": 6, "embedding_size": 4, **options}))


def some_x(model: VRNNCell | CharRNN, *shape: int) -> torch.Tensor:
    """Random input with the given leading axes; vectors can carry gradients."""
    size = model.phi_x.input_size
    if model.phi_x.takes_codes:
        return torch.randint(size, shape if model.characters == 1 else (*shape, model.characters))
    x = torch.randn(*shape, size).double()
    return (x if model.configuration["emission"] == "gaussian" else 0.1 + 0.8 * (x > 0).double()).requires_grad_()


def some_state(cell: VRNNCell, batch: int):
    """A random state, whose tensors can carry gradients."""

    def layer():
        h = torch.randn(batch, cell.hidden_size).double()
        lstm = cell.rnn_type == "lstm"
        return (torch.tanh(h).requires_grad_(), (3 * h).requires_grad_()) if lstm else torch.tanh(h).requires_grad_()

    layers = tuple(layer() for _ in range(cell.num_layers))
    return layers[0] if cell.num_layers == 1 else layers


def experiment(name: str):
    """The module of a script in data/experiments, whose neighbours it finds as it does when it runs."""
    folder = str(ROOT / "data" / "experiments")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


def trained_by(runs: list) -> dict[str, dict]:
    """What an experiment's runs, calls of the command line, would train: model and options of each, by its name."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "set_num_threads", lambda _: None)
        for run in runs:
            patch.setattr(command_line, "train", lambda model, corpus, name=run.name, **options: found.update(
                {name: {"model": model, "corpus": corpus, **options}}) or iter([]))  # fmt: skip
            assert command_line.main(["train", *run.arguments]) == 0
    return found


def count(model) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
