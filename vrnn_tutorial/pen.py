"""A model of a pen's steps at work: it draws characters, ends those begun, says where a pen may go next (chapter 7).

Steps are those of `drawing`, (T, 5) for T of them, in units of the grid.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .batches import dequantised
from .drawing import SIDE, Gallery, is_inside, to_strokes
from .gaussian import seeded
from .generation import sample
from .models import SequenceModel

#: By how much a step (dx, dy, goes on, stroke ends, character ends) is moved: half of this to either side.
WIDTH = (1.0, 1.0, 0.0, 0.0, 0.0)
#: The longest of the drawings that models learn from has 81 steps.
MOST = 100
#: Root mean square distance, in units of the grid, below which an invented character counts as a copy.
COPY = 7.0


def draw(
    model: SequenceModel,
    count: int,
    begun: Tensor | None = None,
    *,
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    shift: Tensor | None = None,
    shifted: int = MOST,
    seed: int | None = None,
    most: int = MOST,
) -> list[Tensor]:
    """Characters that the model invents, side by side, or endings of one that is begun: steps (T_i, 5) of each.

    The last step ends the character, or it is one that came to no end within `most` steps.

    Args:
        model: of a pen's steps.
        count: how many.
        begun: steps (P, 5) with which each begins, and which it holds; if they end a character, it goes on all the
            same, with its next stroke.
        temperature: of the emission: divides logits, multiplies variances.
        prior_temperature: multiplies the deviation of z, also while what is begun is read.
        shift: (Z,), by which z is moved, in units of the prior's deviation; or (count, Z), another one for each.
        shifted: in how many of the steps that are drawn; 1 moves the z of the next point alone.
        seed: of all that is drawn; the same one gives the same characters.
        most: steps of a character, those begun among them.

    Raises:
        ValueError: for fewer than one character, and as `generation.sample`.
    """
    begun = _opened(begun)
    options = {"temperature": temperature, "prior_temperature": prior_temperature, "streams": count}
    stream = sample(model, prime=begun, shift=shift if shifted else None, seed=seed, **options)
    steps = [step[None].expand(count, -1) for step in begun]
    ended = torch.zeros(count, dtype=torch.bool)
    while len(steps) < most and not ended.all():
        step = next(stream)
        steps.append(step.x)
        ended |= step.x[:, 4] == 1
        if shift is not None and len(steps) == len(begun) + shifted:
            # With another seed: the same noise twice would be a pattern.
            stream = sample(model, state=step.state, seed=None if seed is None else seed + 1, **options)
    drawn = torch.stack(steps, 1)  # (B, T, 5)
    return [steps[: _length(steps)].clone() for steps in drawn]


def _opened(begun: Tensor | None) -> Tensor:
    """The steps (P, 5) of a drawing that is to go on: its end is only that of a stroke."""
    if begun is None or not len(begun):
        return torch.zeros(0, 5)
    begun = begun.clone()
    if begun[-1, 4] == 1:
        begun[-1, 2:] = torch.tensor([0.0, 1.0, 0.0])
    return begun


def _length(steps: Tensor) -> int:
    """Up to the character's first end, or all."""
    ends = steps[:, 4].nonzero()
    return int(ends[0]) + 1 if len(ends) else len(steps)


@torch.no_grad()
def next_density(
    model: SequenceModel,
    begun: Tensor | None = None,
    *,
    cells: int = SIDE,
    draws: int = 64,
    seed: int = 0,
) -> Tensor:
    """Where the pen goes next: p of the next point's place, per square unit of the grid, (cells, cells).

    Row i and column j stand for the middle of that cell of the grid's square, from above and from the left. What the
    pen does there is left open. The square's sum times a cell's area is the chance that the pen stays inside.

    Args:
        model: of a pen's steps.
        begun: steps (P, 5) that were drawn; None for a character's first point.
        cells: in a row and in a column.
        draws: of z, for a model that has one: those of the past from the posterior, the next from the prior. Their
            densities' mean is taken.
        seed: of these.
    """
    begun = _opened(begun)
    streams = draws if model.latent_size else 1
    emission = next(sample(model, prime=begun, streams=streams, seed=seed)).emission
    middles = (torch.arange(cells) + 0.5) * SIDE / cells
    down, right = torch.meshgrid(middles, middles, indexing="ij")
    offsets = torch.stack([right, down], -1).view(-1, 1, 2) - begun[:, :2].sum(0)
    # Without a state it is the density of the offset alone.
    log_p = emission.log_prob(torch.nn.functional.pad(offsets, (0, 3)))  # (cells^2, streams)
    return (log_p.logsumexp(-1) - math.log(streams)).exp().view(cells, cells)


@torch.no_grad()
def surprise(model: SequenceModel, steps: Tensor, *, draws: int = 16, seed: int = 0) -> Tensor:
    """What each step costs the model, (T,): nats, a mean over `draws` of the noise on a whole number, and of z.

    Of a model with z it is loss 1 and loss 2, minus the ELBO; of another, minus log p. steps: (T, 5), read from zeros.
    """
    x = torch.stack(dequantised([steps] * draws, WIDTH, seed), 0 if model.batch_first else 1)
    was_training = model.training
    model.eval()
    out = model(x, generator=seeded(seed))
    model.train(was_training)
    return (out.reconstruction + out.kl).mean(0 if model.batch_first else 1)


def of_strokes(values: Tensor, steps: Tensor) -> Tensor:
    """The sum of the values (T,) of a drawing's steps (T, 5) over each of its S strokes: (S,)."""
    ends = (steps[:, 3:].sum(-1) > 0).long()
    stroke = ends.cumsum(0) - ends  # a step that ends a stroke belongs to it
    return values.new_zeros(int(stroke[-1]) + 1).index_add(0, stroke, values)


class Quality(NamedTuple):
    """Shares of invented characters, each of all of them."""

    ended: float  # came to an end
    inside: float  # lie wholly inside the grid's square
    copies: float  # lie nearer than COPY to a character that was there


def quality(invented: Sequence[Tensor], gallery: Gallery) -> Quality:
    """How good invented characters are, as far as can be counted. gallery: of the real ones."""
    drawings = [to_strokes(steps) for steps in invented]
    each = [
        (float(steps[-1, 4] == 1), is_inside(strokes), gallery.nearest(strokes).distance < COPY)
        for steps, strokes in zip(invented, drawings, strict=True)
    ]
    return Quality(*(sum(found) / len(each) for found in zip(*each, strict=True)))
