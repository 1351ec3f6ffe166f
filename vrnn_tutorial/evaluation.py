"""Held-out figures of any model (chapters 4 and 6)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .gaussian import seeded
from .lengths import as_batch, check_lengths
from .models import SequenceModel


class Evaluation(NamedTuple):
    """Held-out losses, each a mean in nats per character (per time step, if x holds vectors)."""

    reconstruction: float
    kl: float
    elbo_error: float  # standard error of the mean over the draws of z; 0 for a single draw
    characters: float  # how many were scored, once each; NaN where that is not known

    @property
    def loss(self) -> float:
        """reconstruction + kl: minus the ELBO, in nats per character."""
        return self.reconstruction + self.kl

    @property
    def bits(self) -> float:
        """minus the ELBO in bits per character."""
        return self.loss / math.log(2)


def evaluate(
    model: SequenceModel,
    held_out: Tensor | tuple | list,
    *,
    draws: int = 10,
    streams: int = 1,
    seed: int = 0,
    steps_at_once: int = 500,
) -> Evaluation:
    """The ELBO of a text or of sequences, averaged over `draws` of z; a state is carried from first step to last.

    Args:
        model: of sequences.
        held_out: codes (N,) of a text; or a batch as the model reads it: sequences x (T, B, ...), x and their lengths,
            or a list of sequences of any lengths. The mean is over the steps that there are.
        draws: of z, for a model that has one.
        streams: 1 reads a text as one; S reads S equal parts side by side, each from zeros, which is faster, and leaves
            out up to S - 1 steps at the end.
        seed: of the draws.
        steps_at_once: how many are in memory; it changes nothing else.

    Raises:
        ValueError: for a text that has not one step per stream, fewer than one draw or stream, and a model that does
            not read sequences.
    """
    if min(draws, streams, steps_at_once) < 1:
        raise ValueError(f"draws, streams and steps_at_once must be at least 1: {draws}, {streams}, {steps_at_once}.")
    if not hasattr(model, "zero_state"):
        raise ValueError(f"evaluate reads sequences; the loss of a {type(model).__name__} is bounds.loss(model(x)).")
    characters = model.emission_type.characters
    draws = draws if model.latent_size else 1
    x, lengths = as_batch(held_out, model.batch_first)
    if x.dim() == 1 and lengths is None:
        steps = len(x) // characters // streams
        if steps < 1:
            raise ValueError(f"{len(x)} characters are too few for {streams} streams of {characters} a step.")
        x = x[: steps * streams * characters].view(streams, steps, characters).transpose(0, 1)
        x = x.squeeze(-1) if characters == 1 else x
    elif model.batch_first:
        x = x.transpose(0, 1)
    weight = next(model.parameters())
    columns = x.shape[1]
    if lengths is not None:
        check_lengths(lengths, *x.shape[:2])
        lengths = lengths.repeat_interleave(draws).to(weight.device)
    x = x.repeat_interleave(draws, 1).to(weight.device)
    generator = seeded(seed, weight.device)
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, columns, draws, dtype=torch.float64)
    state = None
    try:
        with torch.no_grad():
            for start in range(0, len(x), steps_at_once):
                part = x[start : start + steps_at_once]
                left = None if lengths is None else (lengths - start).clamp(0, len(part))
                part = part.transpose(0, 1) if model.batch_first else part
                out = model(part, state, generator=generator, lengths=left)
                state = out.state
                losses = torch.stack([out.reconstruction, out.kl]).double()
                sums += losses.sum(2 if model.batch_first else 1).view(2, columns, draws).cpu()
    finally:
        model.train(was_training)
    scored = (len(x) * columns if lengths is None else int(lengths.sum()) // draws) * characters
    per_draw = sums.sum(1) / scored
    error = per_draw.sum(0).std().item() / math.sqrt(draws) if draws > 1 else 0.0
    reconstruction, kl = per_draw.mean(1).tolist()
    return Evaluation(reconstruction, kl, error, scored)
