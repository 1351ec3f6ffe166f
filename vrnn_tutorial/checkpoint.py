"""Checkpoints: safetensors and a configuration, written whole or not at all, and never unpickled (chapter 4)."""

import hashlib
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .cell import VRNNCell
from .char_rnn import CharRNN
from .emissions import Emission, UnknownClass, check_class, emission_of
from .files import write_atomically
from .vae import VAE
from .vrnn import VRNN

FORMAT = "vrnn_tutorial 1"
Model = VRNN | CharRNN | VAE
KNOWN: dict[str, Any] = {made.__name__: made for made in (VRNN, CharRNN, VAE, VRNNCell)}
WEIGHTS = "model."
DIGEST = "sha256"  # the metadata's name for what files have that were saved with one


def make_model(name: str, configuration: dict, cell: str = "VRNNCell", classes: Sequence[type] = ()) -> Model:
    """A model with fresh weights.

    Args:
        name: of its class.
        configuration: its `configuration`.
        cell: the name of its cell's class, if it is a VRNN.
        classes: models, cells and emissions from outside this package.

    Raises:
        UnknownClass: a ValueError, for a name that is neither in this package nor among the classes.
    """
    known = KNOWN | {found.__name__: found for found in classes}
    for wanted in (name, cell):
        if wanted not in known:
            raise UnknownClass(wanted)
    options = dict(configuration)
    if isinstance(options["emission"], dict):
        options["emission"] = emission_of(
            options["emission"], classes=[found for found in classes if issubclass(found, Emission)]
        )
    if not issubclass(known[name], VRNN):
        return known[name](**options)
    own = _of_the_vrnn(known[cell], options)
    return known[name](known[cell](**{n: option for n, option in options.items() if n not in own}), **own)


def _of_the_vrnn(cell: type[VRNNCell], configuration: dict) -> dict:
    """What of a VRNN's configuration the constructors of its cell's class and of that one's parents do not take."""
    kinds = [kind for kind in cell.__mro__ if issubclass(kind, VRNNCell)]
    of_cell = {argument for kind in kinds for argument in inspect.signature(kind).parameters}
    return {argument: option for argument, option in configuration.items() if argument not in of_cell}


def save_checkpoint(
    path: Path, model: Model, tensors: dict[str, Tensor] | None = None, *, half: bool = False, **about
) -> None:
    """Saves a model so that load_checkpoint needs nothing but the file.

    Args:
        path: the file; its folder is made.
        model: also a compiled one, or of a subclass: arguments that its constructor adds must stand in `configuration`.
        tensors: what else is to be kept, under names of its own.
        half: whether the weights are rounded to float16, for half the size; loaded they are float32 again.
        about: facts to keep beside the configuration, as JSON.

    Raises:
        ValueError: for a subclass that could not be made again, that has the name of a class of this package,
            or has weights that float16 cannot hold, if it is to.
        OSError: if the file cannot be written; a checkpoint that was there before stays.
    """
    weights = model.state_dict()
    model = uncompiled(model)
    check_class(type(model), {"cell", *model.configuration}, KNOWN)
    if isinstance(model, VRNN):
        cell = type(uncompiled(model.cell))
        check_class(cell, model.configuration, KNOWN)
        own = _of_the_vrnn(cell, model.configuration)
        try:
            inspect.signature(type(model)).bind(model.cell, **own)
        except TypeError as error:
            raise ValueError(
                f"{type(model).__name__}: to be made again, it must take a cell and {sorted(own)}, but: {error}."
            ) from None
    content = {WEIGHTS + name.replace("_orig_mod.", ""): tensor.contiguous() for name, tensor in weights.items()}
    if half:
        content = {name: tensor.half() for name, tensor in content.items()}
        if lost := [name for name, tensor in content.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{lost[0].removeprefix(WEIGHTS)} has values beyond float16's; save it without half=True.")
    content |= tensors or {}
    metadata = {
        "format": FORMAT,
        "model": type(model).__name__,
        "cell": type(uncompiled(model.cell)).__name__ if isinstance(model, VRNN) else "VRNNCell",
        "configuration": json.dumps(model.configuration),
        "about": json.dumps(about),
    }
    metadata[DIGEST] = _digest(metadata, content)
    write_atomically(path, safetensors.torch.save(content, metadata))


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that a checkpoint holds, by which one is known that was damaged."""
    names = sorted(tensors)
    told = json.dumps([sorted(metadata.items()), names, tensor_hash(tensors[name] for name in names)])
    return hashlib.sha256(told.encode()).hexdigest()


def tensor_hash(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of tensors one after the other: types, shapes and contents."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def classes_of(model) -> list[type]:
    """The classes that a checkpoint of this model has to be loaded with."""
    parts = [uncompiled(model), uncompiled(getattr(model, "cell", model)), model.emission_type]
    while isinstance(inner := getattr(parts[-1], "emission", None), Emission):
        parts.append(inner)
    return [type(part) for part in parts]


def uncompiled(module: Any) -> Any:
    """What torch.compile has wrapped."""
    return getattr(module, "_orig_mod", module)


def read_checkpoint(path: Path | str, classes: Iterable[type] = ()) -> tuple[Model, dict[str, Tensor], dict]:
    """The model, the other tensors and the facts of a checkpoint. Arguments and errors are load_checkpoint's."""
    classes = classes if isinstance(classes, type) else list(classes)
    if isinstance(classes, type) or not all(isinstance(found, type) for found in classes):
        raise ValueError(f"classes must be a list of classes, as in classes=[Mine], not {classes!r}.")
    metadata, weights, others = read_parts(path)
    try:
        name, configuration = metadata["model"], json.loads(metadata["configuration"])
        if name == "ChainedCharRNN":
            name, configuration, weights = _from_chained(configuration, weights)
        if any(dict(configuration).get(layers, 0) > len(weights) for layers in ("num_layers", "depth")):
            raise ValueError("more layers than tensors")  # by the hundred thousand they would take minutes to make
        model = make_model(name, configuration, metadata.get("cell", "VRNNCell"), classes)
        weights = {n: tensor.float() if tensor.dtype == torch.half else tensor for n, tensor in weights.items()}
        model.load_state_dict(weights, assign=True)  # takes their precision, too
        about = json.loads(metadata["about"])
    except UnknownClass as error:
        raise ValueError(f"{path}: {error}; nothing was loaded.") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: weights and configuration do not belong together; nothing was loaded.") from error
    return model, others, about


def read_parts(path: Path | str) -> tuple[dict[str, str], dict[str, Tensor], dict[str, Tensor]]:
    """What a checkpoint's file tells, its weights and its other tensors, whatever class the model is of.

    Raises FileNotFoundError, OSError for a file that cannot be read and, for one that is truncated, damaged, foreign or
    pickled, ValueError.
    """
    path = Path(path)
    try:
        path.open("rb").close()
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"There is no checkpoint {path}.") from None
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be read ({error.strerror}); nothing was loaded") from error
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Cloned: what get_tensor gives is a window on the file, and changes with it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or is cut short ({error}); nothing was loaded.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} was not saved by this project ({FORMAT!r}): unknown model; nothing was loaded.")
    if DIGEST in metadata and metadata.pop(DIGEST) != _digest(metadata, tensors):
        raise ValueError(f"{path} is damaged: it does not hold what was saved; nothing was loaded.")
    weights = {n.removeprefix(WEIGHTS): t for n, t in tensors.items() if n.startswith(WEIGHTS)}
    return metadata, weights, {n: t for n, t in tensors.items() if not n.startswith(WEIGHTS)}


def load_checkpoint(path: Path | str, classes: Iterable[type] = ()) -> Model:
    """The model saved at `path`, on the CPU, in evaluation mode.

    classes: models, cells and emissions from outside this package, of which the checkpoint may hold one: none is ever
    imported because a file says so. Raises FileNotFoundError if there is no file, OSError for one that cannot be read,
    and ValueError for one that is truncated, damaged, foreign, pickled, that holds a class not given, or whose weights
    and configuration differ. Nothing is ever unpickled.
    """
    return read_checkpoint(path, classes)[0].eval()


def _from_chained(configuration: dict, weights: dict[str, Tensor]) -> tuple[str, dict, dict[str, Tensor]]:
    """What a ChainedCharRNN of the first edition is now: a CharRNN whose emission has the chain and its embedding."""
    chain = {n.replace("links.", "emission_type.links.", 1): t for n, t in weights.items() if n.startswith("links.")}
    chain["emission_type.embedding.weight"] = weights["phi_x.embedding.weight"].clone()
    rest = {n: t for n, t in weights.items() if not n.startswith("links.")}
    return "CharRNN", {**configuration, "emission": "chained"}, rest | chain
