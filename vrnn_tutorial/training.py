"""The training loop: a generator of records that can be watched, stopped and taken up again (chapter 4)."""

import contextlib
import inspect
import math
import operator
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import bounds
from .checkpoint import Model, uncompiled
from .evaluation import Evaluation, evaluate
from .gaussian import checked_seed
from .generation import generate
from .interrupts import uninterrupted
from .lengths import as_batch, mean_over_steps, real_steps
from .models import check_latent, check_sequences
from .run import Record, Run
from .schedules import Schedule, non_negative, value_at

#: Bounds to train with beside the ELBO.
OBJECTIVES = {"iwae": bounds.iwae_bound, "fivo": bounds.fivo_bound}

_CHANCE = threading.RLock()


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
    ema_decay: float = 0.0,
    bfloat16: bool = False,
    validation: Tensor | tuple | list | None = None,
    evaluate_every: int = 100,
    keep: Iterable[int] = (),
    out: Path | str | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Iterator[Record]:
    """Trains `model` in place, one record per update; nothing happens until the records are iterated over.

    Adam on the mean loss per time step, its gradient clipped before each step. Leaving the loop early keeps what was
    learned. Chance depends on `seed` and the update alone, also of trainings in several threads, and torch's generator
    is left as it was; but a thread that draws from it while another one trains is in its way.

    Args:
        model: in training mode from then on.
        corpus: any iterable of batches in one of the forms of `lengths.as_batch`, gone through again and again; a
            Corpus gives the source's random windows of 64 x 300. If it says `carries_state`, the state at the end of a
            batch, detached, starts the next.
        updates: steps in all, those of a run that is resumed among them.
        learning_rate: a number, or a function that gives it of the updates done.
        kl_weight, free_bits: likewise; see `bounds.loss`.
        word_dropout: share of the characters that the recurrence reads as code 0, NUL, which no text holds (Bowman et
            al. 2015, arXiv 1511.06349, section 3.1). As there, the encoder sees x_t itself all the while, so that z_t
            may tell h_t of it.
        objective: "elbo"; or "iwae" or "fivo" (see `bounds`), which take neither a KL weight nor free bits.
        particles: K of these two.
        weight_decay: decoupled from the gradient (arXiv 1711.05101).
        clip: largest norm of the gradient; infinity for any.
        ema_decay: what the moving average of the weights keeps of itself at an update. The average is validated,
            sampled, kept and saved as the best; the model has the weights themselves. 0 averages nothing.
        bfloat16: whether the losses are computed under autocast to bfloat16, twice as fast where a processor has such
            products. Weights, gradients, moments and validation stay as precise as they were.
        validation: held-out text or sequences, the corpus' own by default, scored before the first update and after the
            last.
        evaluate_every: updates between, after which it is scored, too.
        keep: updates after which the weights are kept in a checkpoint of their own.
        out: a folder for `history.json`, `last.safetensors`, `best.safetensors` (by validation) and what is to be kept.
            All are written whole or not at all, when validation is taken, and when the loop ends or is left.
        resume: go on with the run in `out`, if there is one, whose weights the model is given at the call. It may have
            another learning rate from there on; all else must be as it was: KL weight and free bits in the updates
            done, and the data, of which a hash is kept (of a corpus that is none of `batches` and `text`, of its first
            batch). With a corpus of these, the losses are the very ones that it would have had.
        seed: of noise, dropouts, validation and samples.
        device: to which the model is moved.
        progress: whether to show a bar.

    Returns:
        An iterator of records, one for each update that is still to be done.

    Raises:
        ValueError: at the call for settings that make no run, and for a run in `out` that was made with others or was
            pruned; later for a schedule that gives no finite number, zero or more, and for a corpus without a batch.
        FileExistsError: if `out` holds a run, and resume is not asked for; or if another training is at work in it.
        FloatingPointError: if a loss or gradient is not finite; files stay as last saved.
        OSError: if a file cannot be written.

    Warns:
        `RuntimeWarning`: if the loss on validation is not finite.
        `UserWarning`: if nobody iterates over the records, and so nothing is trained.
    """
    updates, evaluate_every = _whole("updates", updates, 1), _whole("evaluate_every", evaluate_every, 1)
    particles, kept = _whole("particles", particles, 1), {_whole("keep", update, 0) for update in keep}
    seed = checked_seed(seed)
    if not clip > 0:
        raise ValueError(f"clip must be a positive number, not {clip}.")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay={ema_decay}: from 0, which averages nothing, to less than 1.")
    if not 0 <= word_dropout <= 1 or (word_dropout and not model.emission_type.takes_codes):
        raise ValueError(f"word_dropout={word_dropout}: a share from 0 to 1, of characters and not of vectors.")
    if objective not in ("elbo", *OBJECTIVES):
        raise ValueError(f"objective must be one of elbo, {', '.join(OBJECTIVES)}, not {objective!r}.")
    if objective == "elbo" and particles != 1:
        raise ValueError(f"particles={particles}: the ELBO has one; train with objective='iwae' or 'fivo'.")
    if objective != "elbo" and (kl_weight != 1 or free_bits != 0):
        raise ValueError(f"{objective} takes neither a KL weight nor free bits.")
    if objective != "elbo":
        check_latent(model, objective)
    if objective == "fivo":
        check_sequences(model, objective)
    reads = model.batch_axis == 0
    if (gives := getattr(corpus, "batch_first", reads)) != reads:
        raise ValueError(f"the corpus has batch_first={gives}, and the model batch_first={reads}: they must agree.")
    if out == "":
        raise ValueError("out names no folder; without it, nothing is kept.")
    settings = {
        "corpus": corpus,
        "learning_rate": _schedule("learning_rate", learning_rate),
        "kl_weight": _schedule("kl_weight", kl_weight),
        "free_bits": _schedule("free_bits", free_bits),
        "word_dropout": float(word_dropout),
        "weight_decay": non_negative("weight_decay", weight_decay),
        "clip": float(clip),
        "ema_decay": float(ema_decay),
        "bfloat16": bool(bfloat16),
        "evaluate_every": evaluate_every,
        "seed": seed,
        "objective": objective,
        "particles": particles,
    }
    run = Run(uncompiled(model).to(device), settings, None if out is None else Path(out), resume)
    if validation is None:
        validation = getattr(corpus, "validation", None)
    return _Records(_loop(model, run, settings, updates, validation, kept, device, progress))


class _Records(Iterator[Record]):
    """The loop, which warns if it is thrown away before it began: whoever does not iterate trains nothing."""

    def __init__(self, loop: Generator[Record, None, None]):
        self.loop = loop

    def __next__(self) -> Record:
        return next(self.loop)

    def close(self) -> None:
        """Leaves the loop; what was learned is kept."""
        self.loop.close()

    def __del__(self):
        if inspect.getgeneratorstate(self.loop) == inspect.GEN_CREATED:
            told = "train gives records, one for each update, and nobody asked for one: nothing was trained."
            warnings.warn(told, stacklevel=2)


def _whole(name: str, value, least: int) -> int:
    """The value in Python's own type. Raises ValueError unless it is a whole number, and no less than `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, not {value}.") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {value}.")
    return number


def _schedule(name: str, value: Schedule) -> Schedule:
    return value if callable(value) else non_negative(name, value)


def _loop(model, run: Run, settings: dict, updates: int, validation, keep: set[int], device, progress: bool):
    optimizer, corpus, seed = run.optimizer, settings["corpus"], settings["seed"]
    carries_state = getattr(corpus, "carries_state", False)
    batches = _batches(corpus, run)

    def due():
        return run.update % settings["evaluate_every"] == 0 or run.update == updates or run.update in keep

    try:
        run.start()
        # At the start; or where a run was left between a step and its validation.
        if due() and not run.validated:
            evaluation, text = _examine(run, validation, keep, seed)
            run.save()
            if run.update and evaluation is not None:
                run.rests = True
                yield Record._make((run.update, *run.losses, math.nan, evaluation, text))
                run.go_on()
        bar = tqdm(total=updates, initial=run.update, unit="update", disable=not progress)
        with bar:
            while run.update < updates:
                started, processor = time.perf_counter(), time.process_time()
                batch = next(batches, None)
                if batch is None:
                    raise ValueError(f"the corpus gave no batch for update {run.update + 1}.")
                x, lengths = as_batch(batch, model.batch_axis == 0)
                x, lengths = x.to(device), None if lengths is None else lengths.to(device)
                rate, kl_weight, free_bits = (
                    value_at(name, settings[name], run.update) for name in ("learning_rate", "kl_weight", "free_bits")
                )
                model.train()
                autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=settings["bfloat16"])
                with _seeded(seed, run.update, x.device), autocast:
                    result, loss = _forward(
                        model, x, lengths, run.state if carries_state else None, settings, kl_weight, free_bits
                    )
                optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), settings["clip"]).item()
                steps = getattr(result, "steps", None)  # a VAE's x have none
                losses = tuple(mean_over_steps(part, steps).item() for part in (result.reconstruction, result.kl))
                if not all(map(math.isfinite, (*losses, norm))):
                    raise FloatingPointError(
                        f"update {run.update + 1}: not finite: losses {losses}, gradient {norm}, rate {rate}; "
                        f"{_far_from_zero(model, x, lengths)}"
                        f"training stopped, {'files keep' if run.out else 'the model keeps'} the last good weights."
                    )
                with uninterrupted():
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
                scored = (result.reconstruction.numel() if steps is None else int(steps.sum())) // settings["particles"]
                speed = scored * model.emission_type.characters / seconds
                bar.set_postfix_str(f"{losses[0]:.3f} + KL {losses[1]:.3f} nats, {speed:,.0f} characters/s", False)
                bar.update()
                # The next forward pass makes another, and has no need of this one's memory.
                del result, loss
                run.rests = True
                yield Record._make((run.update, *losses, norm, speed, evaluation, text))
                run.go_on()
    except (FloatingPointError, OSError):
        raise
    except BaseException:
        # Left early: by break, Ctrl-C, or an error in the caller's loop.
        run.save()
        raise
    finally:
        run.release()


def _forward(model, x: Tensor, lengths: Tensor | None, state, settings: dict, kl_weight: float, free_bits: float):
    """What the model makes of a batch, and the loss that is to fall."""
    given = {} if lengths is None else {"lengths": lengths}
    if share := settings["word_dropout"]:
        given["rnn_input"] = x.masked_fill(torch.rand_like(x, dtype=torch.float) < share, 0)
    if state is not None:
        given["state"] = state
    if settings["objective"] == "elbo":
        result = model(x, **given)
        return result, bounds.loss(result, kl_weight, free_bits)
    result = OBJECTIVES[settings["objective"]](model, x, settings["particles"], **given)
    return result, result.loss()


def _examine(run: Run, validation, keep: set[int], seed: int) -> tuple[Evaluation | None, str | None]:
    """Validation ELBO and a sample of the run's weights, which are kept if they are the best or asked for."""
    if run.update in keep:
        run.keep()
    if validation is None or not len(validation):
        return None, None
    is_one = isinstance(validation, Tensor) and validation.dim() == 1
    streams = min(16, max(len(validation) // 1000, 1)) if is_one else 1
    evaluation = evaluate(run.averaged, validation, draws=1, streams=streams, seed=seed)
    is_text = run.averaged.emission_type.vocabulary is not None
    text = "".join(generate(run.averaged, length=200, seed=seed)) if is_text else None
    run.validation_done(evaluation, text)
    if not math.isfinite(evaluation.loss):
        warnings.warn(
            f"update {run.update}: the loss on validation is not finite (reconstruction {evaluation.reconstruction}, "
            f"KL {evaluation.kl}), and these weights cannot be the best; look for such values in the validation data, "
            "or train at a lower learning rate.",
            RuntimeWarning,
            stacklevel=4,
        )
    return evaluation, text


def _batches(corpus, run: Run):
    """The run's batches from its next update on; the first of all is looked at in any case."""
    updates = run.update
    for number, batch in enumerate(_again_and_again(corpus)):
        if number == 0:
            run.check_data(batch)
        if number >= updates:
            yield batch


def _again_and_again(corpus):
    """Its batches without end; an end, if there is none in it, or if it was an iterator that is used up."""
    found = True
    while found:
        found = False
        for x in corpus:
            found = True
            yield x


def _far_from_zero(model, x: Tensor, lengths: Tensor | None) -> str:
    """What is to be said of the values of x, if they are what made a loss overflow."""
    if model.emission_type.takes_codes:
        return ""
    if lengths is not None:
        steps = real_steps(lengths, x.shape[1 - model.batch_axis])
        x = x[steps if model.batch_axis else steps.T]
    seen, x = (values[values.isfinite()] for values in (model.emission_type.inputs(x), x))
    if not seen.numel() or seen.abs().max() <= 10:  # more deviations than standardised data have
        return ""
    return f"x lies between {x.min():.4g} and {x.max():.4g}: standardise it, as emissions.Scaled does; "


def _detach(state):
    """The same state with its history cut off: gradients stop at the batch's border."""
    return state.detach() if isinstance(state, Tensor) else tuple(map(_detach, state))


@contextlib.contextmanager
def _seeded(seed: int, update: int, device: torch.device):
    """Seeds noise and dropout by the update's number, so that a resumed run draws what it would have drawn."""
    # Dropout draws from torch's own generator, which all threads share: only one of them trains meanwhile.
    with _CHANCE, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed((seed * 0x9E3779B1 + update) % 2**32)
        yield
