"""A run: a model in training with all that its next update needs, in memory and in a folder (chapter 4).

The folder holds `history.json`, `last.safetensors`, `best.safetensors` and the checkpoints that were asked for.
"""

import contextlib
import hashlib
import json
import math
import os
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .checkpoint import classes_of, read_checkpoint, read_parts, save_checkpoint
from .evaluation import Evaluation
from .history import LOSSES, as_json, history_of, number, read_history, write_history
from .provenance import command, data_hash, describe, name_of, versions
from .schedules import value_at

#: The schedules that shape the loss, whose values must have been the same in all updates of a run.
LOSS_SCHEDULES = ("kl_weight", "free_bits")


class Record(NamedTuple):
    """One update."""

    update: int  # 1 for the first
    reconstruction: float  # loss 1 of its batch before the step, nats per time step
    kl: float  # loss 2 likewise, unweighted
    gradient_norm: float  # before clipping
    characters_per_second: float  # of this update (time steps, if x holds vectors); NaN if stopped before
    validation: Evaluation | None  # after the step, at the updates where it is taken
    sample: str | None  # text generated then, from a model of codes


#: The run that has a folder, of those of this process.
_HOLDERS: WeakValueDictionary[Path, "Run"] = WeakValueDictionary()


class Run:
    """A run's model, optimizer, carried state and history. While it lasts, its folder is locked.

    Args:
        model: what is trained.
        settings: the corpus, the schedules and the other settings of `training.train`, by name.
        out: the folder to keep it all in; None keeps nothing.
        resume: whether to go on with the run in `out`, if there is one.

    Raises:
        ValueError, FileExistsError, OSError: as `training.train`, for a folder that cannot be locked, or holds a run
            that cannot go on with these settings.
    """

    def __init__(self, model, settings: dict, out: Path | None, resume: bool):
        self.model, self.out = model, out
        settings = {"model": name_of(model), "configuration": model.configuration, **settings}
        # As history.json has them, with nine digits.
        self.settings: dict = json.loads(as_json({name: describe(value) for name, value in settings.items()}))
        self.schedules = {name: settings[name] for name in LOSS_SCHEDULES}
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=settings["weight_decay"])
        decay = settings["ema_decay"]
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
        self.update, self.state, self.saved, self.knows_data = 0, None, None, False
        self.history = {
            **self.settings,
            "learning_rates": [],
            "data": None,
            "seconds": 0.0,
            "processor_seconds": 0.0,
            "versions": versions(),
            "command": command(),
            "reconstruction": [],
            "kl": [],
            "gradient_norm": [],
            "validation": [],
        }
        self.rests, self.left, self._lock = True, False, None
        if out is not None and out.exists():
            self.claim()
        try:
            self._begin(settings["corpus"], resume)
        except BaseException:
            self.release()
            raise

    def _begin(self, corpus, resume: bool) -> None:
        """Goes on from what is in the folder, if there is a run."""
        parts = None
        if self.out is not None and _holds_run(self.out):
            if not resume:
                raise FileExistsError(f"{self.out} holds a run already; resume it, or choose another folder.")
            parts = self._read(self.out)
        if is_dataclass(corpus):
            self.check_data(corpus)
        if parts is not None:
            self._restore(*parts)
        rates, rate = self.history["learning_rates"], self.settings["learning_rate"]
        if not rates or rates[-1]["learning_rate"] != rate:
            rates.append({"from": self.update, "learning_rate": rate})

    def claim(self) -> None:
        """Locks the folder, which it makes. A run of this process that has it, and rests, is saved and loses it.

        Such a run is left over where an error, or Ctrl-C, came between two updates and is still being told of.
        """
        if self.out is None or self._lock is not None:
            return
        place = self.out.resolve()
        if (former := _HOLDERS.get(place)) is not None and former.rests:
            former.leave()
        lock = FileLock(place / ".lock", thread_local=False)
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(
                f"another training is at work in {self.out}; wait for its end, or choose another folder."
            ) from None
        except OSError as error:
            raise OSError(error.errno, f"nothing can be saved in {self.out} ({error.strerror})") from error
        self._lock, _HOLDERS[place] = lock, self

    def start(self) -> None:
        """Before the first update. Raises FileExistsError if the folder was made, and trained into, since the call."""
        unseen = self._lock is None and self.out is not None and not self.left
        self.claim()
        self.go_on()
        if unseen and self.out is not None and _holds_run(self.out):
            raise FileExistsError(f"{self.out} holds a run by now; resume it, or choose another folder.")

    def release(self) -> None:
        """Gives the folder free."""
        if self._lock is not None:
            with contextlib.suppress(OSError):  # where no file can go that is open
                os.unlink(self._lock.lock_file)
            self._lock.release()
            self._lock = None

    def leave(self) -> None:
        """Saves what was learned, and nothing from then on."""
        if self.update:
            self.save()
        self.release()
        self.out, self.left = None, True

    def go_on(self) -> None:
        """Ends a rest. Raises ValueError if another run has taken the folder meanwhile."""
        self.rests = False
        if self.left:
            raise ValueError("another training has taken this run's folder over, and goes on from where this one was.")

    @property
    def validated(self) -> bool:
        """Whether the weights have been validated as they are."""
        return any(entry["update"] == self.update for entry in self.history["validation"])

    @property
    def averaged(self) -> Any:
        """The model with the average of its weights, if there is one; else with its weights."""
        return self.model if self._average is None else self._average.module

    @property
    def losses(self) -> list[float]:
        """The last update's, in single precision, which the history's nine digits give back exactly."""
        losses = [self.history[name][-1] for name in LOSSES]
        return torch.tensor(losses, dtype=next(self.model.parameters()).dtype).tolist()

    def check_data(self, data) -> None:
        """Notes a hash of all tensors that the data hold, if any, or raises ValueError for another than was noted.

        data: one of our corpora, which hold all that they give; of anything else, which may not, the first batch.
        """
        if self.out is None or self.knows_data or (found := data_hash(data)) is None:
            return
        if self.history["data"] not in (None, found):
            raise ValueError(
                f"the run in {self.out} was made with other data; give it those, or train into another folder."
            )
        self.history["data"], self.knows_data = found, True

    def step_done(self, state, losses: tuple[float, ...], seconds: float, processor_seconds: float) -> None:
        """Notes an update: the weights, in their average; the state to carry on; its LOSSES; and what it took."""
        if self._average is not None:
            self._average.update_parameters(self.model)
        self.update, self.state = self.update + 1, state
        self.history["seconds"] += seconds
        self.history["processor_seconds"] += processor_seconds
        for name, value in zip(LOSSES, losses, strict=True):
            self.history[name].append(value)

    def keep(self) -> None:
        """Keeps the weights as they are in a checkpoint of their own."""
        self._save_weights(f"update-{self.update}", self.averaged)

    def validation_done(self, evaluation: Evaluation, sample: str | None) -> None:
        """Keeps the weights if they are the best. The history hears of it last: what it tells has been done."""
        losses = [number(entry["loss"]) for entry in self.history["validation"]]
        if -math.inf < evaluation.loss < min(filter(math.isfinite, losses), default=math.inf):
            self._save_weights("best", self.averaged)
        self.saved = None
        figures = {name: getattr(evaluation, name) for name in ("loss", "kl", "reconstruction")}
        self.history["validation"].append({"update": self.update, **figures, "sample": sample})

    def save(self) -> None:
        """History first: a history that is ahead of `last` is cut back to it, one behind could not be mended."""
        if self.out is None or self.saved == self.update:
            return
        write_history(self.out, self.history)
        tensors = {f"state.{i}": tensor for i, tensor in enumerate(_leaves(self.state))}
        names = dict(zip(self.model.parameters(), (name for name, _ in self.model.named_parameters()), strict=True))
        for parameter, moments in self.optimizer.state.items():
            tensors |= {f"{key}.{names[parameter]}": moments[key] for key in ("exp_avg", "exp_avg_sq")}
        if self._average is not None:
            tensors |= {f"average.{name}": weight.data for name, weight in self.averaged.named_parameters()}
        schedules = {name: self._values_hash(name, self.update) for name in LOSS_SCHEDULES}
        self._save_weights("last", self.model, tensors, schedules=schedules)
        self.saved = self.update

    def _save_weights(self, name: str, model, tensors: dict[str, Tensor] | None = None, **about) -> None:
        if self.out is not None:
            save_checkpoint(self.out / f"{name}.safetensors", model, tensors, update=self.update, **about)

    def _values_hash(self, schedule: str, updates: int) -> str:
        """Of the values that a schedule has in so many updates, each with nine digits."""
        values = (value_at(schedule, self.schedules[schedule], done) for done in range(updates))
        return hashlib.sha256(" ".join(f"{value:.9g}" for value in values).encode()).hexdigest()

    def _read(self, out: Path) -> tuple[nn.Module, dict[str, Tensor]]:
        """The model and the tensors of the run that goes on, which has the same settings."""
        model, tensors, about = read_checkpoint(out / "last.safetensors", classes_of(self.model))
        update, history = about["update"], read_history(out, about["update"])
        # Of its configuration an older run does not tell all that there is today; its checkpoint's model does.
        there = history | json.loads(as_json({"configuration": model.configuration}))
        here = self.settings
        changed = {name: "" for name in here if name != "learning_rate" and there[name] != here[name]}
        for name, had in about.get("schedules", {}).items():
            changed.pop(name, None)
            if had != self._values_hash(name, update):
                changed[name] = f", whose values differ within the {update} updates done"
        if changed:
            told = [f"{name} {there[name]} there, {here[name]} here{how}" for name, how in changed.items()]
            raise ValueError(f"the run in {out} was made with other settings: {'; '.join(told)}.")
        self.update = self.saved = update
        self.history = history | {name: here[name] for name in ("learning_rate", *LOSS_SCHEDULES)}
        return model, tensors

    def _restore(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        """Weights, their average, moments and state."""
        self.model.load_state_dict(model.state_dict())
        if self._average is not None:
            self._average.n_averaged.fill_(self.update)
            for name, weight in self.averaged.named_parameters():
                weight.data.copy_(tensors[f"average.{name}"])
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
    metadata, weights, _ = read_parts(out / "last.safetensors")
    history = read_history(out, json.loads(metadata["about"])["update"])
    precision = next(iter(weights.values())).dtype  # whose numbers nine digits give back
    losses = torch.tensor([history[name] for name in LOSSES], dtype=precision)
    taken = {
        entry["update"]: (
            Evaluation(number(entry["reconstruction"]), number(entry["kl"]), 0.0, math.nan),
            entry["sample"],
        )
        for entry in history["validation"]
    }
    return [
        Record._make((update, *three, math.nan, *taken.get(update, (None, None))))
        for update, three in enumerate(losses.T.tolist(), 1)
    ]


def _holds_run(out: Path) -> bool:
    """Whether there is a run. Raises ValueError for a pruned one, whose history tells what was deleted."""
    if (out / "history.json").exists() and (deleted := history_of(out).get("pruned")):
        raise ValueError(f"the run in {out} cannot go on: {deleted}; train into another folder.")
    return (out / "last.safetensors").exists()


def _leaves(state) -> list[Tensor]:
    """The tensors of a state, which may be one, or several states."""
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in _leaves(part)]
