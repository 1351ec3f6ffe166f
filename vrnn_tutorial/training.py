"""The training loop: a generator of records that can be watched, stopped and taken up again (chapter 4)."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import bounds
from .checkpoint import Model
from .evaluation import Evaluation, evaluate
from .generation import generate
from .lengths import as_batch, mean_over_steps
from .run import Record, Run
from .schedules import Schedule

#: Bounds to train with beside the ELBO.
OBJECTIVES = {"iwae": bounds.iwae_bound, "fivo": bounds.fivo_bound}


def train(
    model: Model,
    corpus: Iterable,
    *,
    updates: int = 2000,
    learning_rate: Schedule = 0.001,
    kl_weight: Schedule = 1.0,
    free_bits: Schedule = 0.0,
    word_dropout: float = 0.0,
    objective: str = "elbo",
    particles: int = 1,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    validation: Tensor | tuple | list | None = None,
    evaluate_every: int = 100,
    keep: Iterable[int] = (),
    out: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Iterator[Record]:
    """Trains `model` in place, one record per update; leaving the loop early keeps what was learned.

    corpus: any iterable of batches in one of the forms of `lengths.as_batch`, gone through again and again; a Corpus
    gives the source's random windows of 64 x 300. If it says `carries_state`, the state at the end of a batch,
    detached, starts the next. Adam (with decoupled weight decay, arXiv 1711.05101, if any) on the mean loss per time
    step. objective: "elbo"; or "iwae" or "fivo" (see bounds), with K = `particles`, which take neither a KL weight nor
    free bits. learning_rate, kl_weight and free_bits (see bounds.loss) are numbers or functions of the updates done;
    the gradient's norm is clipped to `clip` before each step. word_dropout: share of the characters that the recurrence
    reads as code 0, NUL, which no text holds (Bowman et al. 2015, arXiv 1511.06349, section 3.1). As there, the encoder
    sees x_t itself all the while, so that z_t may tell h_t of it. validation: held-out text or sequences (the corpus'
    own by default), scored every `evaluate_every` updates and at the last.

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
    if objective not in ("elbo", *OBJECTIVES):
        raise ValueError(f"objective must be one of elbo, {', '.join(OBJECTIVES)}, not {objective!r}.")
    if objective == "elbo" and particles != 1:
        raise ValueError(f"particles={particles}: the ELBO has one; train with objective='iwae' or 'fivo'.")
    if objective != "elbo" and (kl_weight != 1 or free_bits != 0 or particles < 1):
        raise ValueError(f"{objective} takes one particle or more, and neither a KL weight nor free bits.")
    if objective != "elbo" and not getattr(model, "latent_size", 1):
        raise ValueError(f"{objective} averages over z, which a {type(model).__name__} has not.")
    settings = {
        "model": type(model).__name__,
        "configuration": model.configuration,
        "corpus": corpus,
        "learning_rate": learning_rate,
        "kl_weight": kl_weight,
        "free_bits": free_bits,
        "word_dropout": word_dropout,
        "weight_decay": weight_decay,
        "clip": clip,
        "evaluate_every": evaluate_every,
        "seed": seed,
        "objective": objective,
        "particles": particles,
    }
    run = Run(model.to(device), settings, weight_decay, None if out is None else Path(out), resume)
    if validation is None:
        validation = getattr(corpus, "validation", None)
    schedules = [
        value if callable(value) else lambda _, value=value: value for value in (learning_rate, kl_weight, free_bits)
    ]
    return _loop(run, corpus, updates, schedules, clip, validation, evaluate_every, set(keep), device, progress)


def _loop(run, corpus, updates, schedules, clip, validation, evaluate_every, keep, device, progress):
    model, optimizer = run.model, run.optimizer
    seed, word_dropout = run.settings["seed"], run.settings["word_dropout"]
    objective, particles = run.settings["objective"], run.settings["particles"]
    carries_state = getattr(corpus, "carries_state", False)
    batches = islice(_again_and_again(corpus), run.update, None)

    def due():
        return run.update % evaluate_every == 0 or run.update == updates or run.update in keep

    try:
        # At the start; or where a run was left between a step and its validation.
        if due() and not run.validated:
            evaluation, text = _examine(run, validation, keep)
            run.save()
            if run.update and evaluation is not None:
                yield Record._make((run.update, *run.losses, math.nan, evaluation, text))
        bar = tqdm(total=updates, initial=run.update, unit="update", disable=not progress)
        with bar:
            while run.update < updates:
                started, processor = time.perf_counter(), time.process_time()
                batch = next(batches, None)
                if batch is None:
                    raise ValueError(f"the corpus gave no batch for update {run.update + 1}.")
                x, lengths = as_batch(batch, model.batch_axis == 0)
                x, given = x.to(device), {}  # given: as the model's forward takes it
                if lengths is not None:
                    given["lengths"] = lengths.to(device)
                rate, kl_weight, free_bits = (schedule(run.update) for schedule in schedules)
                model.train()
                with _seeded(seed, run.update, x.device):
                    if word_dropout:
                        given["rnn_input"] = x.masked_fill(torch.rand_like(x, dtype=torch.float) < word_dropout, 0)
                    if objective == "elbo":
                        result = model(x, run.state if carries_state else None, **given)
                        loss = bounds.loss(result, kl_weight, free_bits)
                    else:
                        if carries_state:
                            given["state"] = run.state
                        result = OBJECTIVES[objective](model, x, particles, **given)
                        loss = result.loss()
                optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), clip).item()
                steps = getattr(result, "steps", None)  # a VAE's x have none
                losses = tuple(mean_over_steps(part, steps).item() for part in (result.reconstruction, result.kl))
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
                    state = _detach(result.state) if carries_state else None
                    run.step_done(state, (*losses, norm), seconds, time.process_time() - processor)
                evaluation = text = None
                if due():
                    evaluation, text = _examine(run, validation, keep)
                    run.save()
                scored = result.reconstruction.numel() // particles if lengths is None else int(lengths.sum())
                speed = scored * model.emission_type.characters / seconds
                bar.set_postfix_str(f"{losses[0]:.3f} + KL {losses[1]:.3f} nats, {speed:,.0f} characters/s", False)
                bar.update()
                yield Record._make((run.update, *losses, norm, speed, evaluation, text))
    except (FloatingPointError, OSError):
        raise
    except BaseException:
        # Left early: by break, Ctrl-C, or an error in the caller's loop.
        run.save()
        raise


def _examine(
    run: Run, validation: Tensor | tuple | list | None, keep: set[int]
) -> tuple[Evaluation | None, str | None]:
    """Validation ELBO and a sample of the weights as they are, which are kept if they are the best or asked for."""
    if run.update in keep:
        run.keep()
    if validation is None or not len(validation):
        return None, None
    seed = run.settings["seed"]
    is_one = isinstance(validation, Tensor) and validation.dim() == 1
    streams = min(16, max(len(validation) // 1000, 1)) if is_one else 1
    evaluation = evaluate(run.model, validation, draws=1, streams=streams, seed=seed)
    is_text = run.model.emission_type.vocabulary is not None
    text = "".join(generate(run.model, length=200, seed=seed)) if is_text else None
    run.validation_done(evaluation, text)
    return evaluation, text


def _again_and_again(corpus):
    """Its batches without end; an end, if there is none in it, or if it was an iterator that is used up."""
    found = True
    while found:
        found = False
        for x in corpus:
            found = True
            yield x


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
