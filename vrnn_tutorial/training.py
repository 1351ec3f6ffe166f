"""The training loop: a generator of records that can be watched, stopped and taken up again (chapter 4)."""

import contextlib
import math
import operator
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import bounds
from .checkpoint import Model
from .evaluation import Evaluation, evaluate
from .generation import generate
from .run import Record, Run
from .schedules import Schedule, non_negative, value_at


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
    out: Path | str | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Iterator[Record]:
    """Trains `model` in place, one record per update; nothing happens until the records are iterated over.

    Adam on the mean loss per time step (see bounds.loss), its gradient clipped. Leaving the loop early keeps what was
    learned. Noise and dropout depend on `seed` and the update alone; torch's generator is left as it was.

    Args:
        model: in training mode from then on.
        corpus: any iterable of x that the model reads, gone through again and again; a Corpus gives the source's random
            windows of 64 x 300. If it says `carries_state`, the state at the end of a batch, detached, starts the next.
        updates: steps in all, those of a run that is resumed among them.
        learning_rate, kl_weight, free_bits: numbers, or functions of the updates done that give them.
        word_dropout: share of the characters that the recurrence reads as code 0, NUL, which no text holds (Bowman et
            al. 2015, arXiv 1511.06349, section 3.1). As there, the encoder sees x_t itself all the while, so that z_t
            may tell h_t of it.
        weight_decay: decoupled from the gradient (arXiv 1711.05101).
        clip: largest norm of the gradient; infinity for any.
        validation: held-out text, the corpus' own by default, or sequences as the model reads them; scored every
            `evaluate_every` updates, at the first and at the last.
        keep: updates whose weights are kept in checkpoints of their own.
        out: a folder for `history.json`, `last.safetensors`, `best.safetensors` (by validation) and those of `keep`. All
            are written whole or not at all, when validation is taken, and when the loop ends or is left.
        resume: go on with the run in `out`, if there is one. It may have another learning rate from there on; all else
            must be as it was: KL weight and free bits in the updates done, and the data, of which a hash is kept (of a
            corpus that is none of ours, of its first batch). With our corpora, the losses are the very ones that it
            would have had.
        seed: of noise, dropout, validation and samples.
        device: to which the model is moved. progress: whether to show a bar.

    Returns:
        An iterator of records, one for each update that is still to be done.

    Raises:
        ValueError: at the call for settings that make no run, for a run in `out` that was made with others, and for one
            that was pruned; later for a schedule that gives no such number, and a corpus without a batch.
        FileExistsError: if `out` holds a run, and resume is not asked for.
        FloatingPointError: if a loss or gradient is not finite; files stay as last saved.
        OSError: if a file cannot be written.

    Warns:
        RuntimeWarning: if the loss on validation is not finite.
    """
    updates, evaluate_every = _whole("updates", updates, 1), _whole("evaluate_every", evaluate_every, 1)
    kept = {_whole("keep", update, 0) for update in keep}
    seed = _whole("seed", seed, -(2**63), 2**64 - 1)  # torch's bounds
    if not clip > 0:
        raise ValueError(f"clip must be a positive number, not {clip}.")
    if not 0 <= word_dropout <= 1 or (word_dropout and model.configuration["emission"] != "categorical"):
        raise ValueError(f"word_dropout={word_dropout}: a share from 0 to 1, of characters and not of vectors.")
    if out == "":
        raise ValueError("out names no folder; None keeps nothing.")
    settings = {
        "model": type(model).__name__,
        "configuration": model.configuration,
        "corpus": corpus,
        "learning_rate": _schedule("learning_rate", learning_rate),
        "kl_weight": _schedule("kl_weight", kl_weight),
        "free_bits": _schedule("free_bits", free_bits),
        "word_dropout": float(word_dropout),
        "weight_decay": non_negative("weight_decay", weight_decay),
        "clip": float(clip),
        "evaluate_every": evaluate_every,
        "seed": seed,
    }
    run = Run(model.to(device), settings, None if out is None else Path(out), resume)
    if validation is None:
        validation = getattr(corpus, "validation", None)
    return _loop(run, settings, updates, validation, kept, device, progress)


def _whole(name: str, value, least: int, most: float = math.inf) -> int:
    """The value as an int, which NumPy's are not. Raises ValueError unless it is a whole number within these bounds."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, not {value}.") from None
    if not least <= number <= most:
        bounds = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}.")
    return number


def _schedule(name: str, value: Schedule) -> Schedule:
    return value if callable(value) else non_negative(name, value)


def _loop(run: Run, settings: dict, updates: int, validation: Tensor | None, keep: set[int], device, progress):
    model, optimizer, corpus = run.model, run.optimizer, settings["corpus"]
    seed, word_dropout = settings["seed"], settings["word_dropout"]
    carries_state = getattr(corpus, "carries_state", False)
    batches = _batches(corpus, run)

    def due():
        return run.update % settings["evaluate_every"] == 0 or run.update == updates or run.update in keep

    try:
        # At the start; or where a run was left between a step and its validation.
        if due() and not run.validated:
            evaluation, text = _examine(run, validation, keep, seed)
            run.save()
            if run.update and evaluation is not None:
                yield Record._make((run.update, *run.losses, math.nan, evaluation, text))
        bar = tqdm(total=updates, initial=run.update, unit="update", disable=not progress)
        with bar:
            while run.update < updates:
                started, processor = time.perf_counter(), time.process_time()
                x = next(batches, None)
                if x is None:
                    raise ValueError(f"the corpus gave no batch for update {run.update + 1}.")
                x = x.to(device)
                rate, kl_weight, free_bits = (
                    value_at(name, settings[name], run.update) for name in ("learning_rate", "kl_weight", "free_bits")
                )
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
                norm = nn.utils.clip_grad_norm_(model.parameters(), settings["clip"]).item()
                losses = result.reconstruction.mean().item(), result.kl.mean().item()
                if not all(map(math.isfinite, (*losses, norm))):
                    raise FloatingPointError(
                        f"update {run.update + 1}: not finite: losses {losses}, gradient {norm}, rate {rate}; "
                        f"{_far_from_zero(x)}"
                        f"training stopped, {'files keep' if run.out else 'the model keeps'} the last good weights."
                    )
                with _uninterrupted():
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    seconds = time.perf_counter() - started
                    state = _detach(result.state) if carries_state else None
                    run.step_done(state, (*losses, norm), seconds, time.process_time() - processor)
                evaluation = text = None
                if due():
                    evaluation, text = _examine(run, validation, keep, seed)
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


def _examine(run: Run, validation: Tensor | None, keep: set[int], seed: int) -> tuple[Evaluation | None, str | None]:
    """Validation ELBO and a sample of the weights as they are, which are kept if they are the best or asked for."""
    if run.update in keep:
        run.keep()
    if validation is None or not len(validation):
        return None, None
    streams = min(16, max(len(validation) // 1000, 1)) if validation.dim() == 1 else 1
    evaluation = evaluate(run.model, validation, draws=1, streams=streams, seed=seed)
    takes_codes = validation.dtype == torch.int64
    text = "".join(generate(run.model, length=200, seed=seed)) if takes_codes else None
    run.validation_done(evaluation, text)
    if not math.isfinite(evaluation.loss):
        warnings.warn(
            f"update {run.update}: the loss on validation is not finite (reconstruction {evaluation.reconstruction}, "
            f"KL {evaluation.kl}), and these weights cannot be the best; look for such values in the validation data, "
            "or train at a lower learning rate.",
            RuntimeWarning,
            stacklevel=3,
        )
    return evaluation, text


def _batches(corpus, run: Run):
    """The run's batches from its next update on; the first of all is looked at in any case."""
    updates = run.update
    for number, x in enumerate(_again_and_again(corpus)):
        if number == 0:
            run.check_data(x)
        if number >= updates:
            yield x


def _again_and_again(corpus):
    """Its batches without end; an end, if there is none in it, or if it was an iterator that is used up."""
    found = True
    while found:
        found = False
        for x in corpus:
            found = True
            yield x


def _far_from_zero(x: Tensor) -> str:
    """What is to be said of the values of x, if they are what made a loss overflow."""
    real = x[x.isfinite()] if x.is_floating_point() else x[:0]
    if not real.numel() or real.abs().max() <= 10:  # more deviations than data that were standardised have
        return ""
    return f"x lies between {real.min():.4g} and {real.max():.4g}: standardise it, to mean 0 and deviation 1; "


def _detach(state):
    """The same state with its history cut off: gradients stop at the batch's border."""
    return state.detach() if isinstance(state, Tensor) else tuple(map(_detach, state))


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
