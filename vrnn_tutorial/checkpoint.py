"""Checkpoints: safetensors and a configuration, written whole or not at all, and never unpickled (chapter 4)."""

import json
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from .cell import VRNNCell
from .char_rnn import ChainedCharRNN, CharRNN
from .files import write_atomically
from .vae import VAE
from .vrnn import VRNN

FORMAT = "vrnn_tutorial 1"
Model = VRNN | CharRNN | VAE
MODELS = {model.__name__: model for model in (VRNN, CharRNN, ChainedCharRNN, VAE)}
WEIGHTS = "model."


def make_model(name: str, configuration: dict) -> Model:
    """The model of that class name (a key of MODELS) and `model.configuration`, with fresh weights."""
    if name != "VRNN":
        return MODELS[name](**configuration)
    options = dict(configuration)
    batch_first = options.pop("batch_first", False)
    return VRNN(VRNNCell(**options), batch_first=batch_first)


def save_checkpoint(path: Path, model: Model, tensors: dict[str, Tensor] | None = None, **about) -> None:
    """Saves a model so that load_checkpoint needs nothing but the file.

    tensors: what else is to be kept, under names of its own. about: facts to keep beside the configuration, as JSON.
    Raises OSError if it cannot be written; a checkpoint that was there before stays.
    """
    content = {WEIGHTS + name: tensor.contiguous() for name, tensor in model.state_dict().items()} | (tensors or {})
    metadata = {
        "format": FORMAT,
        "model": type(model).__name__,
        "configuration": json.dumps(model.configuration),
        "about": json.dumps(about),
    }
    write_atomically(path, safetensors.torch.save(content, metadata))


def read_checkpoint(path: Path | str) -> tuple[Model, dict[str, Tensor], dict]:
    """The model, the other tensors and the facts of a checkpoint. Raises as load_checkpoint does."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Cloned: what get_tensor gives is a window on the file, and changes with it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or is cut short ({error}); nothing was loaded.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} was not saved by this project ({FORMAT!r}): unknown model; nothing was loaded.")
    try:
        model = make_model(metadata["model"], json.loads(metadata["configuration"]))
        weights = {n.removeprefix(WEIGHTS): t for n, t in tensors.items() if n.startswith(WEIGHTS)}
        model.load_state_dict(weights, assign=True)  # takes their precision, too
        about = json.loads(metadata["about"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: weights and configuration do not belong together; nothing was loaded.") from error
    return model, {name: tensor for name, tensor in tensors.items() if not name.startswith(WEIGHTS)}, about


def load_checkpoint(path: Path | str) -> Model:
    """The model saved at `path`, on the CPU, in evaluation mode.

    Raises FileNotFoundError if there is none, and ValueError for a file that is truncated, foreign, pickled or whose
    weights and configuration differ. Nothing is ever unpickled.
    """
    return read_checkpoint(path)[0].eval()
