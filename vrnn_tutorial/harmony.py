"""Voices that are drawn to voices that are given: a particle filter over a model of several voices (chapter 8)."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .bounds import ParticleFilter
from .emissions.codes import OPEN
from .gaussian import seeded
from .inputs import as_tensor
from .models import SequenceModel


class Harmony(NamedTuple):
    """Voices that were drawn to others, and how hard that was for the K particles."""

    voices: Tensor  # (T, k), int64: those given, and those drawn to them
    log_p: float  # an estimate of log p(given) in nats; the mean of exp(log_p) over seeds is p(given)
    effective: Tensor  # (T,): how many of the particles counted when a step was weighted, 1 to K


def only(voices: Tensor, *kept: int) -> Tensor:
    """Codes (T, k) of which these columns are given, and the others left to `harmonise`."""
    given = torch.full_like(voices, OPEN)
    given[:, list(kept)] = voices[:, list(kept)]
    return given


def harmonise(
    model: SequenceModel, given: Tensor, particles: int = 200, *, resample_below: float = 0.5, seed: int | None = None
) -> Harmony:
    """Draws the voices that are not given, out of p(others | given) as nearly as so many particles can.

    Each particle is a history of its own. At each step it draws z_t from the prior, and from the emission given z_t
    those voices that are open; its weight is p(given_t | z_t, h_{t-1}). When the effective sample size falls under
    `resample_below` K, K particles are drawn anew in proportion to the weights, as in `bounds.fivo`; in the end one
    whole history is. This is the bootstrap filter of Gordon, Salmond and Smith 1993 ("Novel approach to
    nonlinear/non-Gaussian Bayesian state estimation"). A model without z goes as well: then particles differ by what
    they have drawn, and nothing else.

    Args:
        model: of k > 1 voices, each a code. One that is chained draws a voice given those before it.
        given: codes (T, k), and OPEN (-1) for each that is to be drawn; any of them, in any step.
        particles: K.
        resample_below: the share of K; at 0 none is drawn anew, and the one taken in the end is chosen among K
            independent histories.
        seed: the same one gives the same voices; None draws one.

    Raises:
        ValueError: for a model of another kind, a `given` of another type or shape, of no step, or with a code that
            the model does not know, and for fewer than one particle.
    """
    return harmonise_many(model, [given], particles, resample_below=resample_below, seed=seed)[0]


@torch.no_grad()
def harmonise_many(
    model: SequenceModel,
    givens: Sequence[Tensor],
    particles: int = 200,
    *,
    resample_below: float = 0.5,
    seed: int | None = None,
) -> list[Harmony]:
    """`harmonise` of several pieces side by side, each with K particles of its own.

    Args:
        givens: pieces of any lengths.
        model, particles, resample_below, seed: as there.

    Raises:
        ValueError: as there, and for no piece.
    """
    givens = [as_tensor(given) for given in givens]
    for given in givens:
        _check(model, given)
    if not givens:
        raise ValueError("there is no piece to harmonise.")
    if particles < 1:
        raise ValueError(f"particles must be at least 1, not {particles}.")
    model = copy.deepcopy(model).eval()
    weight = next(model.parameters())
    generator = seeded(seed, weight.device)
    filter = ParticleFilter(particles, resample_below, generator)
    state = model.zero_state(weight.new_empty(len(givens) * particles, 0))
    # Behind a piece's end all is open, which leaves the weights as they are.
    columns = pad_sequence(givens, padding_value=OPEN).repeat_interleave(particles, 1).to(weight.device)  # (T, B K, k)
    histories = columns[:0]
    for t, known in enumerate(columns):
        _, z, emission = model.draw(state, generator=generator)
        x, log_p = emission.complete(known, generator)  # pyright: ignore[reportAttributeAccessIssue]
        histories = torch.cat([histories, x[None]])
        chosen = filter.resample(t, log_p)
        state = model.columns(model.advance(x, z, state), chosen)
        histories = histories if chosen is None else histories[:, chosen]
    assert isinstance(filter.log_w, Tensor) and isinstance(filter.log_p, Tensor)
    last = torch.multinomial(filter.log_w.exp(), 1, generator=generator)[:, 0].tolist()
    effective = torch.stack(filter.effective, 1).cpu()
    return [
        Harmony(histories[: len(given), i * particles + last[i]].cpu(), log_p, effective[i, : len(given)])
        for i, (given, log_p) in enumerate(zip(givens, filter.log_p.tolist()))
    ]


def _check(model: SequenceModel, given: Tensor) -> None:
    k = model.emission_type.characters
    if k < 2:
        raise ValueError("harmonise takes a model of several voices, each of them a code; this one's x is another.")
    if given.dtype != torch.int64 or given.dim() != 2 or given.shape[1] != k:
        raise ValueError(f"given must be int64 codes (T, {k}), not {given.dtype} {tuple(given.shape)}.")
    if not len(given):
        raise ValueError("given has no step.")
    codes = model.configuration["input_size"]
    if not (given.min() >= OPEN and given.max() < codes):
        wrong = given[(given < OPEN) | (given >= codes)][0]
        raise ValueError(f"given holds {wrong}; the model's codes go from 0 to {codes - 1}, and {OPEN} is drawn.")
