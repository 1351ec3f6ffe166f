"""Generation: prior, sample z, decoder, sample x, RNN, and again; a stream of symbols (chapter 5)."""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .char_rnn import Chained, CharRNN
from .emission import Emission
from .text import decode, encode
from .vrnn import VRNN


class Sampled(NamedTuple):
    """One generated step of B streams."""

    x: Tensor  # (B,), (B, k) or (B, D)
    z: Tensor | None  # (B, Z), drawn from the prior; None for a CharRNN
    emission: Emission | Chained  # of x given z, untouched by any temperature


def sample(
    model: VRNN | CharRNN,
    *,
    prime: Tensor | None = None,
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    streams: int = 1,
    seed: int | None = None,
    shift: Tensor | None = None,
) -> Iterator[Sampled]:
    """An endless stream of generated steps, of `streams` sequences at once.

    prime: what went before, codes (P,), (P, k) or vectors (P, D), the same for each stream; the posterior reads it.
    temperature divides the logits (a Gaussian's deviation is multiplied by it); at 0 x is the most likely one given z.
    prior_temperature multiplies the deviation of z, also while the prime is read; with both at 0 nothing is random.
    shift: (Z,), by which each generated z is moved, in units of the prior's deviation (chapter 6); None for not at all.
    The same seed gives the same stream. Weights are those of the moment of the call: training may go on meanwhile.

    Raises ValueError for a temperature that is negative, NaN or infinite, fewer than one stream, a prime of other axes,
    and a shift that is not of z's size, or for a model without z.
    """
    for name, value in (("temperature", temperature), ("prior_temperature", prior_temperature)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number, zero or more, not {value}.")
    if streams < 1:
        raise ValueError(f"streams must be at least 1, not {streams}.")
    if shift is not None:
        latent_size = model.cell.latent_size if isinstance(model, VRNN) else 0
        if shift.shape != (latent_size,):
            raise ValueError(f"shift moves z, which has {latent_size} entries, but its shape is {tuple(shift.shape)}.")
    model = copy.deepcopy(model).eval()
    weight = next(model.parameters())
    generator = torch.Generator(weight.device)
    generator.seed() if seed is None else generator.manual_seed(seed)
    with torch.no_grad():
        cell = model.cell if isinstance(model, VRNN) else model
        state = cell.zero_state(weight.new_empty(streams, 0))
        if prime is not None and len(prime):
            cell.phi_x.check_axes(prime, "P")
            x = prime.to(weight.device)[:, None].expand(-1, streams, *prime.shape[1:])
            state = _read(model, x, state, prior_temperature, generator)
    return _stream(model, state, temperature, prior_temperature, generator, shift)


def _read(model, x, state, prior_temperature, generator):
    if isinstance(model, CharRNN):
        return model(x.transpose(0, 1) if model.batch_first else x, state).state
    shape = (*x.shape[:2], model.cell.latent_size)
    noise = prior_temperature * torch.randn(shape, generator=generator, device=x.device)
    return model.run(x, state, noise.to(next(model.parameters()).dtype), None).state


def _stream(model, state, temperature, prior_temperature, generator, shift) -> Iterator[Sampled]:
    while True:
        # Entered anew at each step: a context must not stay open while the caller has the turn.
        with torch.no_grad():
            if isinstance(model, VRNN):
                cell = model.cell
                h = cell.hidden(state)
                prior = cell.prior(h)
                z = prior.sample(prior_temperature, generator)
                if shift is not None:
                    z = z + shift.to(z) * prior.log_std.exp()
                emission = cell.emission(z, h)
                x = emission.sample(temperature, generator)
                state = cell.rnn(x, z, state)
            else:
                z, emission = None, model.emission(model.hidden(state))
                x = emission.sample(temperature, generator)
                state = model.rnn(x, state)
        yield Sampled(x, z, emission)


def generate(
    model: VRNN | CharRNN,
    prime: str = "",
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    length: int = 300,
    seed: int | None = None,
    shift: Tensor | None = None,
) -> Iterator[str]:
    """A stream of `length` characters that follow on `prime`; the prime itself is not among them.

    The pieces are single characters, or k at a time for a model of k characters per step, whose prime must then hold
    a multiple of k. Temperatures, seed, shift and errors as in `sample`; ValueError too for a prime outside ASCII, a
    negative length, and a model that does not emit codes.
    """
    pieces = _pieces(model, prime, temperature, prior_temperature, length, seed, 1, shift)
    return (piece[0] for piece in pieces)


def generate_many(
    model: VRNN | CharRNN,
    streams: int,
    prime: str = "",
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    length: int = 300,
    seed: int | None = None,
    shift: Tensor | None = None,
) -> list[str]:
    """`streams` independent texts of `length` characters, generated side by side. Otherwise as `generate`."""
    pieces = _pieces(model, prime, temperature, prior_temperature, length, seed, streams, shift)
    return ["".join(column) for column in zip(*pieces, strict=True)] or [""] * streams


def _pieces(model, prime, temperature, prior_temperature, length, seed, streams, shift) -> Iterator[list[str]]:
    phi_x = (model.cell if isinstance(model, VRNN) else model).phi_x
    if not phi_x.takes_codes:
        raise ValueError("generate makes text, and this model emits vectors; use sample.")
    if length < 0:
        raise ValueError(f"length must be zero or more, not {length}.")
    k = phi_x.characters
    if len(prime) % k:
        raise ValueError(f"the prime holds {len(prime)} characters, and this model reads {k} at a time.")
    codes = encode(prime) if prime else None
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

    def pieces():
        for start in range(0, length, k):
            x = next(steps).x.view(streams, k)
            yield [decode(row)[: length - start] for row in x]

    return pieces()
