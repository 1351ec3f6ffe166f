"""A run: a model in training with all that its next update needs, in memory and in a folder (chapter 4).

The folder holds `history.json`, `last.safetensors`, `best.safetensors` and the checkpoints that were asked for.
"""

import json
import math
import platform
import shlex
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .checkpoint import classes_of, read_checkpoint, save_checkpoint
from .evaluation import Evaluation
from .files import write_atomically

#: What the history tells of each update.
LOSSES = ("reconstruction", "kl", "gradient_norm")


class Record(NamedTuple):
    """One update."""

    update: int  # 1 for the first
    reconstruction: float  # loss 1 of its batch before the step, nats per time step
    kl: float  # loss 2 likewise, unweighted
    gradient_norm: float  # before clipping
    characters_per_second: float  # of this update (time steps, if x holds vectors); NaN if stopped before
    validation: Evaluation | None  # after the step, at the updates where it is taken
    sample: str | None  # text generated then, from a model of codes


class Run:
    """A run's model, optimizer, carried state and history, kept in the folder `out`, if there is one.

    Raises as `training.train` does for a folder that holds a run which cannot go on with these settings.
    """

    def __init__(self, model, settings: dict, weight_decay: float, out: Path | None, resume: bool):
        self.model, self.out = model, out
        self.settings: dict = {name: _describe(value) for name, value in settings.items()}
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=weight_decay)
        self.update, self.state, self.saved = 0, None, None
        self.history = {
            **self.settings,
            "seconds": 0.0,
            "processor_seconds": 0.0,
            "versions": _versions(),
            "command": _command(),
            "reconstruction": [],
            "kl": [],
            "gradient_norm": [],
            "validation": [],
        }
        if out is not None and _holds_run(out):
            if not resume:
                raise FileExistsError(f"{out} holds a run already; resume it, or choose another folder.")
            self._load(out)

    @property
    def validated(self) -> bool:
        """Whether the weights have been validated as they are."""
        return any(entry["update"] == self.update for entry in self.history["validation"])

    @property
    def losses(self) -> list[float]:
        """The last update's, in single precision, which the history's nine digits give back exactly."""
        losses = [self.history[name][-1] for name in LOSSES]
        return torch.tensor(losses, dtype=next(self.model.parameters()).dtype).tolist()

    def step_done(self, state, losses: tuple[float, ...], seconds: float, processor_seconds: float) -> None:
        """Notes an update: the state to carry on, and its LOSSES."""
        self.update, self.state = self.update + 1, state
        self.history["seconds"] += seconds
        self.history["processor_seconds"] += processor_seconds
        for name, value in zip(LOSSES, losses, strict=True):
            self.history[name].append(value)

    def keep(self) -> None:
        """Keeps the weights as they are in a checkpoint of their own."""
        self._save_weights(f"update-{self.update}")

    def validation_done(self, evaluation: Evaluation, sample: str | None) -> None:
        """Keeps the weights if they are the best. The history hears of it last: what it tells has been done."""
        best = min((entry["loss"] for entry in self.history["validation"]), default=math.inf)
        if evaluation.loss < best:
            self._save_weights("best")
        self.saved = None
        self.history["validation"].append(
            {
                "update": self.update,
                "loss": evaluation.loss,
                "kl": evaluation.kl,
                "reconstruction": evaluation.reconstruction,
                "sample": sample,
            }
        )

    def save(self) -> None:
        """History first: a history that is ahead of `last` is cut back to it, one behind could not be mended."""
        if self.out is None or self.saved == self.update:
            return
        write_atomically(self.out / "history.json", _to_json(self.history).encode())
        tensors = {f"state.{i}": tensor for i, tensor in enumerate(_leaves(self.state))}
        names = dict(zip(self.model.parameters(), (name for name, _ in self.model.named_parameters()), strict=True))
        for parameter, moments in self.optimizer.state.items():
            tensors |= {f"{key}.{names[parameter]}": moments[key] for key in ("exp_avg", "exp_avg_sq")}
        self._save_weights("last", tensors)
        self.saved = self.update

    def _save_weights(self, name: str, tensors: dict[str, Tensor] | None = None) -> None:
        if self.out is not None:
            save_checkpoint(self.out / f"{name}.safetensors", self.model, tensors, update=self.update)

    def _load(self, out: Path) -> None:
        model, tensors, about = read_checkpoint(out / "last.safetensors", classes_of(self.model))
        history = _read_history(out, about["update"])
        # A configuration of before names no options that came later.
        history["configuration"] = model.configuration
        # As history.json has them: nine digits.
        changed = [name for name, value in json.loads(_to_json(self.settings)).items() if history.get(name) != value]
        if changed:
            raise ValueError(
                f"the run in {out} was made with other settings: "
                + "; ".join(f"{name} {history.get(name)} there, {self.settings[name]} here" for name in changed)
                + "."
            )
        self.update = self.saved = about["update"]
        self.model.load_state_dict(model.state_dict())
        for name, parameter in self.model.named_parameters():
            if f"exp_avg.{name}" in tensors:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.update)),
                    **{key: tensors[f"{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
                }
        leaves = [
            tensors[f"state.{i}"].to(next(self.model.parameters()).device)
            for i in range(sum(name.startswith("state.") for name in tensors))
        ]
        self.state = self._nest(leaves) if leaves else None
        self.history = history

    def _nest(self, leaves: list[Tensor]):
        """The state made of these tensors, in the order of _leaves."""
        parts = iter(leaves)

        def fill(state):
            return next(parts) if isinstance(state, Tensor) else tuple(map(fill, state))

        return fill(self.model.zero_state(leaves[0].new_zeros(1, 1)))


def read_records(out: Path) -> list[Record]:
    """The records of the run in `out`, from its first update to its last; none if there is no run.

    They are those that `train` gave, but for what the folder does not keep: how fast an update was, and how many
    held-out characters were scored, are NaN. Raises ValueError if the history cannot be read, or the run was pruned.
    """
    if not _holds_run(out):
        return []
    model, _, about = read_checkpoint(out / "last.safetensors")
    history = _read_history(out, about["update"])
    losses = torch.tensor([history[name] for name in LOSSES], dtype=next(model.parameters()).dtype)  # from nine digits
    taken = {
        entry["update"]: (Evaluation(entry["reconstruction"], entry["kl"], 0.0, math.nan), entry["sample"])
        for entry in history["validation"]
    }
    return [
        Record._make((update, *three, math.nan, *taken.get(update, (None, None))))
        for update, three in enumerate(losses.T.tolist(), 1)
    ]


def _holds_run(out: Path) -> bool:
    """Whether there is a run. Raises ValueError for a pruned one, whose history tells what was deleted."""
    if (out / "history.json").exists() and (deleted := _history(out).get("pruned")):
        raise ValueError(f"the run in {out} cannot go on: {deleted}; train into another folder.")
    return (out / "last.safetensors").exists()


def _history(out: Path) -> dict:
    try:
        # Older runs do not tell of options that came later, and call a ramp by its former name.
        text = (out / "history.json").read_text().replace('"Linear(', '"Ramp(')
        return {"word_dropout": 0.0, "objective": "elbo", "particles": 1, **json.loads(text)}
    except (OSError, ValueError) as error:
        raise ValueError(f"{out / 'history.json'} cannot be read ({error}); the run cannot go on.") from error


def _read_history(out: Path, update: int) -> dict:
    """history.json up to this update, of which the last checkpoint is: it may be ahead."""
    history = _history(out)
    for name in LOSSES:
        history[name] = history[name][:update]
    history["validation"] = [entry for entry in history["validation"] if entry["update"] <= update]
    return history


def _leaves(state) -> list[Tensor]:
    """The tensors of a state, which may be one, or a tuple of states."""
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in _leaves(part)]


def _describe(value):
    """What history.json says of a setting."""
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        parts = {name: f"{len(part)} long" if isinstance(part, Tensor) else part for name, part in parts.items()}
        return f"{type(value).__name__}({', '.join(f'{name}={part}' for name, part in parts.items())})"
    if isinstance(value, (int, float, str, dict)):
        return value
    return getattr(value, "__name__", type(value).__name__)


def _versions() -> dict:
    return {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}


def _command() -> str | None:
    return shlex.join(["python", *sys.orig_argv[1:]]) if "vrnn_tutorial" in sys.orig_argv else None


def _to_json(history: dict) -> str:
    """One line per entry. Nine digits give a float32 back exactly."""

    def brief(value):
        if isinstance(value, float):
            return float(f"{value:.9g}")
        if isinstance(value, dict):
            return {key: brief(v) for key, v in value.items()}
        return [brief(v) for v in value] if isinstance(value, list) else value

    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(brief(v))}" for k, v in history.items()) + "\n}\n"
