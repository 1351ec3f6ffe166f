"""The training loop: a generator of records that can be watched, stopped and taken up again (chapter 4)."""

import contextlib
import json
import math
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import bounds
from .checkpoint import Model, read_checkpoint, save_checkpoint
from .evaluation import Evaluation, evaluate
from .files import write_atomically
from .generation import generate
from .schedules import Schedule

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


def train(
    model: Model,
    corpus: Iterable[Tensor],
    *,
    updates: int = 2000,
    learning_rate: Schedule = 0.001,
    kl_weight: Schedule = 1.0,
    free_bits: Schedule = 0.0,
    word_dropout: float = 0.0,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    validation: Tensor | None = None,
    evaluate_every: int = 100,
    keep: Iterable[int] = (),
    out: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Iterator[Record]:
    """Trains `model` in place, one record per update; leaving the loop early keeps what was learned.

    corpus: any iterable of x that the model reads, gone through again and again; a Corpus gives the source's random
    windows of 64 x 300. If it says `carries_state`, the state at the end of a batch, detached, starts the next.
    Adam (with decoupled weight decay, arXiv 1711.05101, if any) on the mean loss per time step. learning_rate,
    kl_weight and free_bits (see bounds.loss) are numbers or functions of the updates done; the gradient's norm is
    clipped to `clip` before each step. word_dropout: share of the characters that the recurrence reads as code 0, NUL,
    which no text holds (Bowman et al. 2015, arXiv 1511.06349, section 3.1). As there, the encoder sees x_t itself all
    the while, so that z_t may tell h_t of it. validation: held-out text (the corpus' own by default), scored every
    `evaluate_every` updates and at the last.

    out: a folder for `history.json`, `last.safetensors`, `best.safetensors` (by validation) and a checkpoint for each
    update in `keep`; all are written whole or not at all, when validation is taken, and when the loop ends or is left.
    resume: go on with the run in `out`, if there is one, with the very losses that it would have had.

    Raises ValueError for settings that make no run or differ from those of the run resumed, or for a run that was
    pruned; FileExistsError if `out` holds a run and resume is not asked for; FloatingPointError if a loss or gradient
    is not finite (files stay as last saved); OSError if a file cannot be written.
    """
    if updates < 1 or evaluate_every < 1 or not clip > 0:
        raise ValueError(f"updates, evaluate_every and clip must be positive: {updates}, {evaluate_every}, {clip}.")
    if not 0 <= word_dropout <= 1 or (word_dropout and not model.emission_type.takes_codes):
        raise ValueError(f"word_dropout={word_dropout}: a share from 0 to 1, of characters and not of vectors.")
    settings = {
        name: _describe(value)
        for name, value in (
            ("model", type(model).__name__),
            ("configuration", model.configuration),
            ("corpus", corpus),
            ("learning_rate", learning_rate),
            ("kl_weight", kl_weight),
            ("free_bits", free_bits),
            ("word_dropout", word_dropout),
            ("weight_decay", weight_decay),
            ("clip", clip),
            ("evaluate_every", evaluate_every),
            ("seed", seed),
        )
    }
    run = _Run(model.to(device), settings, weight_decay, None if out is None else Path(out), resume)
    if validation is None:
        validation = getattr(corpus, "validation", None)
    schedules = [
        value if callable(value) else lambda _, value=value: value for value in (learning_rate, kl_weight, free_bits)
    ]
    return _loop(run, corpus, updates, schedules, clip, validation, evaluate_every, set(keep), device, progress)


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


def _loop(run, corpus, updates, schedules, clip, validation, evaluate_every, keep, device, progress):
    model, optimizer = run.model, run.optimizer
    seed, word_dropout = run.settings["seed"], run.settings["word_dropout"]
    carries_state = getattr(corpus, "carries_state", False)
    batches = islice(_again_and_again(corpus), run.update, None)

    def due():
        return run.update % evaluate_every == 0 or run.update == updates or run.update in keep

    try:
        # At the start; or where a run was left between a step and its validation.
        if due() and run.update not in (entry["update"] for entry in run.history["validation"]):
            evaluation, text = run.examine(validation, keep, seed)
            run.save()
            if run.update and evaluation is not None:
                losses = [run.history[name][-1] for name in LOSSES]
                losses = torch.tensor(losses, dtype=next(model.parameters()).dtype).tolist()  # from nine digits
                yield Record._make((run.update, *losses, math.nan, evaluation, text))
        bar = tqdm(total=updates, initial=run.update, unit="update", disable=not progress)
        with bar:
            while run.update < updates:
                started, processor = time.perf_counter(), time.process_time()
                x = next(batches, None)
                if x is None:
                    raise ValueError(f"the corpus gave no batch for update {run.update + 1}.")
                x = x.to(device)
                rate, kl_weight, free_bits = (schedule(run.update) for schedule in schedules)
                model.train()
                with _seeded(seed, run.update, x.device):
                    heard = (
                        {"rnn_input": x.masked_fill(torch.rand_like(x, dtype=torch.float) < word_dropout, 0)}
                        if word_dropout
                        else {}
                    )
                    result = model(x, run.state if carries_state else None, **heard)
                optimizer.zero_grad()
                bounds.loss(result, kl_weight, free_bits).backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), clip).item()
                losses = result.reconstruction.mean().item(), result.kl.mean().item()
                if not all(map(math.isfinite, (*losses, norm, rate))):
                    raise FloatingPointError(
                        f"update {run.update + 1}: not finite: losses {losses}, gradient {norm}, rate {rate}; "
                        f"training stopped, {'files keep' if run.out else 'the model keeps'} the last good weights."
                    )
                with _uninterrupted():
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    seconds = time.perf_counter() - started
                    run.step_done(
                        _detach(result.state) if carries_state else None,
                        losses,
                        norm,
                        seconds,
                        time.process_time() - processor,
                    )
                evaluation = text = None
                if due():
                    evaluation, text = run.examine(validation, keep, seed)
                    run.save()
                speed = (x if x.dtype == torch.int64 else x[..., 0]).numel() / seconds
                bar.set_postfix_str(f"{losses[0]:.3f} + KL {losses[1]:.3f} nats, {speed:,.0f} characters/s", False)
                bar.update()
                yield Record(run.update, *losses, norm, speed, evaluation, text)
    except (FloatingPointError, OSError):
        raise
    except BaseException:
        # Left early: by break, Ctrl-C, or an error in the caller's loop.
        run.save()
        raise


def _again_and_again(corpus):
    """Its batches without end; an end, if there is none in it, or if it was an iterator that is used up."""
    found = True
    while found:
        found = False
        for x in corpus:
            found = True
            yield x


class _Run:
    """A run's model, optimizer, carried state and history, in memory and in its folder."""

    def __init__(self, model, settings, weight_decay, out, resume):
        self.model, self.settings, self.out = model, settings, out
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=weight_decay)
        self.update, self.state, self.saved = 0, None, None
        self.history = {
            **settings,
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
            self.load()

    def step_done(self, state, losses, norm, seconds, processor_seconds):
        self.update, self.state = self.update + 1, state
        self.history["seconds"] += seconds
        self.history["processor_seconds"] += processor_seconds
        for name, value in zip(LOSSES, (*losses, norm), strict=True):
            self.history[name].append(value)

    def examine(self, validation, keep, seed):
        """Validation ELBO and a sample of the weights as they are; keeps them if they are the best or asked for.

        The history hears of it last: what it tells has been done.
        """
        if self.out is not None and self.update in keep:
            save_checkpoint(self.out / f"update-{self.update}.safetensors", self.model, update=self.update)
        if validation is None or not len(validation):
            return None, None
        streams = min(16, max(len(validation) // 1000, 1)) if validation.dim() == 1 else 1
        evaluation = evaluate(self.model, validation, draws=1, streams=streams, seed=seed)
        is_text = self.model.emission_type.vocabulary is not None
        text = "".join(generate(self.model, length=200, seed=seed)) if is_text else None
        best = min((entry["loss"] for entry in self.history["validation"]), default=math.inf)
        if self.out is not None and evaluation.loss < best:
            save_checkpoint(self.out / "best.safetensors", self.model, update=self.update)
        self.saved = None
        self.history["validation"].append(
            {
                "update": self.update,
                "loss": evaluation.loss,
                "kl": evaluation.kl,
                "reconstruction": evaluation.reconstruction,
                "sample": text,
            }
        )
        return evaluation, text

    def save(self):
        """History first: a history that is ahead of `last` is cut back to it, one behind could not be mended."""
        if self.out is None or self.saved == self.update:
            return
        write_atomically(self.out / "history.json", _to_json(self.history).encode())
        tensors = {f"state.{i}": tensor for i, tensor in enumerate(_leaves(self.state))}
        names = dict(zip(self.model.parameters(), (name for name, _ in self.model.named_parameters()), strict=True))
        for parameter, moments in self.optimizer.state.items():
            tensors |= {f"{key}.{names[parameter]}": moments[key] for key in ("exp_avg", "exp_avg_sq")}
        save_checkpoint(self.out / "last.safetensors", self.model, tensors, update=self.update)
        self.saved = self.update

    def load(self):
        model, tensors, about = read_checkpoint(self.out / "last.safetensors")
        history = _read_history(self.out, about["update"])
        # As history.json has them: nine digits.
        changed = [name for name, value in json.loads(_to_json(self.settings)).items() if history.get(name) != value]
        if changed:
            raise ValueError(
                f"the run in {self.out} was made with other settings: "
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

    def _nest(self, leaves):
        """The state made of these tensors, in the order of _leaves."""

        parts = iter(leaves)
        return _map(lambda _: next(parts), self.model.zero_state(leaves[0].new_zeros(1, 1)))


def _holds_run(out: Path) -> bool:
    """Whether there is a run. Raises ValueError for a pruned one, whose history tells what was deleted."""
    if (out / "history.json").exists() and (deleted := _history(out).get("pruned")):
        raise ValueError(f"the run in {out} cannot go on: {deleted}; train into another folder.")
    return (out / "last.safetensors").exists()


def _history(out: Path) -> dict:
    try:
        # Older runs do not tell of word dropout, and call a ramp by its former name.
        text = (out / "history.json").read_text().replace('"Linear(', '"Ramp(')
        return {"word_dropout": 0.0, **json.loads(text)}
    except (OSError, ValueError) as error:
        raise ValueError(f"{out / 'history.json'} cannot be read ({error}); the run cannot go on.") from error


def _read_history(out: Path, update: int) -> dict:
    """history.json up to this update, of which the last checkpoint is: it may be ahead."""
    history = _history(out)
    for name in LOSSES:
        history[name] = history[name][:update]
    history["validation"] = [entry for entry in history["validation"] if entry["update"] <= update]
    return history


def _map(function, state):
    """A state with the function applied to each of its tensors."""
    return function(state) if isinstance(state, Tensor) else tuple(_map(function, part) for part in state)


def _leaves(state) -> list[Tensor]:
    leaves: list[Tensor] = []
    if state is not None:
        _map(leaves.append, state)
    return leaves


def _detach(state):
    """The same state with its history cut off: gradients stop at the batch's border."""
    return _map(Tensor.detach, state)


@contextlib.contextmanager
def _seeded(seed: int, update: int, device: torch.device):
    """Seeds noise and dropout by the update's number, so that a resumed run draws what it would have drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed((seed * 0x9E3779B1 + update) % 2**32)
        yield


@contextlib.contextmanager
def _uninterrupted():
    """Holds Ctrl-C back while weights, moments and history change together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed and callable(handler):
        handler(signal.SIGINT, None)


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
