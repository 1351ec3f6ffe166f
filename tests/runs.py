"""Small runs for the tests of training and of what a run leaves behind: models, data, and what lies in a folder."""

import json
import multiprocessing
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import load_checkpoint
from vrnn_tutorial.run import Record
from vrnn_tutorial.text import encode
from vrnn_tutorial.training import train
from vrnn_tutorial.vrnn import VRNN

TEXT = "the quick brown fox jumps over the lazy dog. "
CODES = encode(TEXT * 10)
SIZES = {"hidden_size": 5, "embedding_size": 4}


def text_model(kind: str = "VRNN", **options) -> VRNN | CharRNN:
    torch.manual_seed(0)
    return CharRNN(**SIZES, **options) if kind == "CharRNN" else VRNN(VRNNCell(**SIZES, latent_size=3, **options))


def vector_model(**options) -> VRNN:
    torch.manual_seed(0)
    return VRNN(VRNNCell(2, 4, 3, embedding_size=3, **{"emission": "gaussian", **options}))


def vectors(count: int = 2, seed: int = 1) -> list[torch.Tensor]:
    """Batches x (3, 2, 2)."""
    return list(torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)))


def run(model, corpus, updates: int, **options) -> list[Record]:
    return list(train(model, corpus, updates=updates, progress=False, **options))


def weights(model: nn.Module | Path) -> dict[str, bytes]:
    model = load_checkpoint(model) if isinstance(model, Path) else model
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def history(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text())


def learned(folder: Path) -> tuple:
    """All that a run has to show but its clock: losses, validation, and every tensor of its checkpoints."""
    figures = {name: history(folder)[name] for name in ("reconstruction", "kl", "gradient_norm", "validation")}
    return figures, {path.name: tensors(path) for path in folder.glob("*.safetensors")}


def tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.double().numpy().tobytes() for name, tensor in safetensors.torch.load_file(path).items()}


def contents(folder: Path) -> dict[str, bytes]:
    """Its files, but for the lock that a training at work has there."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def in_a_process_of_its_own(function, *arguments) -> int:
    """Its exit code, or minus the signal that killed it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "safetensors.torch", "tqdm.auto", "pytest"])
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join(300)
    if process.is_alive():
        process.kill()
        pytest.fail("the process did not end")
    return process.exitcode


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)
