"""Generation: prior, sample z, decoder, sample x, RNN, and again; a stream of symbols (chapter 5)."""

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .emissions import Distribution
from .gaussian import seeded
from .inputs import as_tensor
from .lengths import pad
from .models import SequenceModel, check_sequences
from .stepping import Stepper, stepper
from .text import encode


class Sampled(NamedTuple):
    """One generated step of B streams."""

    x: Tensor  # (B,), (B, k) or (B, D)
    z: Tensor | None  # (B, Z), drawn from the prior; None for a model without z
    emission: Distribution  # of x given z, untouched by any temperature
    state: Any  # after the step: `sample` goes on from it


def sample(
    model: SequenceModel,
    *,
    prime: Tensor | list[Tensor] | None = None,
    state: Any = None,
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    streams: int | None = None,
    seed: int | None = None,
    shift: Tensor | None = None,
) -> Iterator[Sampled]:
    """An endless stream of generated steps, of several sequences at once.

    Weights are those of the moment of the call: training may go on meanwhile.

    Args:
        model: what generates.
        prime: what went before, codes (P,), (P, k) or vectors (P, D), the same for each stream; or a list of such, one
            for each stream, of any lengths. The posterior reads it.
        state: what to go on from, the `state` of an earlier step or a model's output; None for the beginning.
        temperature: divides logits and multiplies a Gaussian's variance; at 0 x is the most likely one given z.
        prior_temperature: multiplies the deviation of z, also while the prime is read; with both at 0 all is certain.
        streams: how many sequences; as many as the list of primes or the state has, else 1.
        seed: the same one gives the same stream; None draws one.
        shift: (Z,), by which each generated z is moved, in units of the prior's deviation; or (B, Z), with one for each
            stream (chapters 6 and 7).

    Raises:
        ValueError: for a temperature that is negative, NaN or infinite, fewer than one stream, streams that are not as
            many as primes or states, a prime of other axes, a shift that is not of z's size, or for a model without
            z, for one whose numbers are not finite, and for a VAE.
    """
    check_sequences(model, "sample")
    for name, value in (("temperature", temperature), ("prior_temperature", prior_temperature)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number, zero or more, not {value}.")
    if prime is not None and not isinstance(prime, list | tuple):
        prime = as_tensor(prime)
    model = copy.deepcopy(model).eval()
    weight = next(model.parameters())
    generator = seeded(seed, weight.device)
    with torch.no_grad():
        counts: set[int] = set() if streams is None else {streams}
        if state is not None:
            counts.add(len(model.hidden(state)))
        if isinstance(prime, list | tuple):
            counts.add(len(prime))
        if len(counts) > 1 or min(counts, default=1) < 1:
            raise ValueError(f"streams, primes and states must be equally many, at least 1, not {sorted(counts)}.")
        (B,) = counts or {1}
        if shift is not None and shift.shape not in ((model.latent_size,), (B, model.latent_size)):
            raise ValueError(
                f"shift moves z, which has {model.latent_size} entries in each of {B} streams, but its shape is "
                f"{tuple(shift.shape)}."
            )
        state = model.zero_state(weight.new_empty(B, 0)) if state is None else state
        if prime is not None and any(map(len, [prime] if isinstance(prime, Tensor) else prime)):
            x, lengths = _side_by_side(model, prime, B)
            x = x.to(weight.device)
            state = model.read(x, state, lengths, prior_temperature, generator)
        likeliest = model.draw(state, 0.0, 0.0, generator=seeded(0, weight.device))
        if not likeliest.emission.log_prob(likeliest.x).isfinite().all():
            raise ValueError("nothing can be drawn from this model: it computes numbers that are not finite.")
        step = stepper(model)
    return _stream(step, state, temperature, prior_temperature, generator, shift)


def _side_by_side(model: SequenceModel, prime: Tensor | list[Tensor], streams: int):
    """The primes as x, (T, B, ...) or (B, T, ...), and their lengths, None if they are equally long."""
    if isinstance(prime, Tensor):
        axes = 2 if not model.emission_type.takes_codes or model.emission_type.characters > 1 else 1
        if prime.dim() != axes:
            what = ("P", *([] if axes == 1 else ["k" if model.emission_type.takes_codes else "D"]))
            raise ValueError(f"x must be ({', '.join(what)}), none of them 0, but its shape is {tuple(prime.shape)}.")
        prime = [prime] * streams
    x, lengths = pad(prime, model.batch_first)
    return x, None if len(set(lengths.tolist())) == 1 else lengths


def _stream(step: Stepper, state, temperature, prior_temperature, generator, shift) -> Iterator[Sampled]:
    while True:
        # Entered anew at each step: a context must not stay open while the caller has the turn.
        with torch.no_grad():
            drawn, state = step(state, temperature, prior_temperature, generator, shift)
        yield Sampled(drawn.x, drawn.z, drawn.emission, state)


class Forecast(NamedTuple):
    """Futures of B sequences, and bands around them."""

    draws: Tensor  # (N, S, B, ...): N futures of S steps
    bands: Tensor  # (Q, S, B, ...): the quantiles asked for, of each entry at each step by itself


def forecast(
    model: SequenceModel,
    pasts: list[Tensor],
    steps: int,
    *,
    draws: int = 100,
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    seed: int | None = None,
) -> Forecast:
    """Many futures of several sequences, all in one call, with bands: 0.1 to 0.9 holds four of five of the model's own.

    Args:
        model: of any x.
        pasts: B sequences (T_i, ...) of any lengths; the posterior reads each of them `draws` times.
        steps: S, how far to look.
        draws: N, futures of each.
        quantiles: Q numbers from 0 to 1.
        temperature, prior_temperature, seed: as in `sample`.

    Raises:
        ValueError: for pasts that are no list, or none, fewer than one step or draw, a quantile outside 0 to 1, and as
            `sample`.
    """
    if not isinstance(pasts, list | tuple):
        raise ValueError(f"pasts must be a list of sequences, as in [past], not a {type(pasts).__name__}.")
    if min(len(pasts), steps, draws) < 1 or not all(0 <= q <= 1 for q in quantiles):
        raise ValueError(
            f"one past, step and draw at least, and quantiles from 0 to 1: {len(pasts)}, {steps}, {draws}, {quantiles}."
        )
    primes = [past for past in pasts for _ in range(draws)]
    stream = sample(model, prime=primes, temperature=temperature, prior_temperature=prior_temperature, seed=seed)
    x = torch.stack([next(stream).x for _ in range(steps)])  # (S, B N, ...)
    x = x.unflatten(1, (len(pasts), draws)).movedim(2, 0)
    return Forecast(x, torch.quantile(x.double(), torch.tensor(quantiles).double(), 0).to(x.dtype))


def generate(
    model: SequenceModel,
    prime: str = "",
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    length: int = 300,
    seed: int | None = None,
    shift: Tensor | None = None,
) -> Iterator[str]:
    """A stream of `length` characters that follow on `prime`; the prime itself is not among them.

    The pieces are single characters, or k at a time for a model of k characters per step.

    Args:
        model: of a text.
        prime: what was written before, in the model's vocabulary; a multiple of k characters.
        temperature, prior_temperature, seed, shift: as in `sample`.
        length: how many characters.

    Raises:
        ValueError: for a prime outside the vocabulary, a negative length, a model whose x is no text, and as `sample`.
    """
    pieces = _pieces(model, prime, temperature, prior_temperature, length, seed, 1, shift)
    return (piece[0] for piece in pieces)


def generate_many(
    model: SequenceModel,
    streams: int,
    prime: str = "",
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    length: int = 300,
    seed: int | None = None,
    shift: Tensor | None = None,
) -> list[str]:
    """Independent texts, generated side by side.

    Args:
        streams: how many.
        model, prime, temperature, prior_temperature, length, seed, shift: as in `generate`, whose errors it raises.
    """
    pieces = _pieces(model, prime, temperature, prior_temperature, length, seed, streams, shift)
    return ["".join(column) for column in zip(*pieces, strict=True)] or [""] * streams


def _pieces(model, prime, temperature, prior_temperature, length, seed, streams, shift) -> Iterator[list[str]]:
    emission = model.emission_type
    if not emission.takes_codes:
        raise ValueError("generate makes text, and this model emits vectors; use sample.")
    if emission.vocabulary is None:
        raise ValueError("generate makes text, and this model's codes have no vocabulary; use sample.")
    if length < 0:
        raise ValueError(f"length must be zero or more, not {length}.")
    k = emission.characters
    if len(prime) % k:
        raise ValueError(f"the prime holds {len(prime)} characters, and this model reads {k} at a time.")
    codes = encode(prime, vocabulary=emission.vocabulary) if prime else None
    if k > 1 and codes is not None:
        codes = codes.view(-1, k)
    steps = sample(
        model,
        prime=codes,
        temperature=temperature,
        prior_temperature=prior_temperature,
        streams=streams,
        seed=seed,
        shift=shift,
    )

    letters = emission.vocabulary.__getitem__

    def pieces():
        for start in range(0, length, k):
            rows = next(steps).x.view(streams, k).tolist()
            yield ["".join(map(letters, row))[: length - start] for row in rows]

    return pieces()
