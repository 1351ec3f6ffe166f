"""Held-out figures of any model (chapters 4 and 6)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .char_rnn import CharRNN
from .vrnn import VRNN


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
    model: VRNN | CharRNN,
    held_out: Tensor,
    *,
    draws: int = 10,
    streams: int = 1,
    seed: int = 0,
    steps_at_once: int = 500,
) -> Evaluation:
    """The ELBO of a text, its state carried from the first character to the last, averaged over `draws` of z.

    held_out: codes (N,), or sequences (T, B, ...) as the model reads them. streams: 1 reads the text as one; S reads S
    equal parts side by side, each from zeros, which is faster, and leaves out up to S - 1 steps at the end.
    Raises ValueError for a text that has not one step per stream, and for fewer than one draw or stream.
    """
    if min(draws, streams, steps_at_once) < 1:
        raise ValueError(f"draws, streams and steps_at_once must be at least 1: {draws}, {streams}, {steps_at_once}.")
    if isinstance(model, VRNN):
        characters, batch_first = model.cell.characters, model.batch_first
    else:
        characters, batch_first, draws = model.characters, model.batch_first, 1
    x = held_out
    if x.dim() == 1:
        steps = len(x) // characters // streams
        if steps < 1:
            raise ValueError(f"{len(x)} characters are too few for {streams} streams of {characters} a step.")
        x = x[: steps * streams * characters].view(streams, steps, characters).transpose(0, 1)
        x = x.squeeze(-1) if characters == 1 else x
    elif batch_first:
        x = x.transpose(0, 1)
    weight = next(model.parameters())
    columns = x.shape[1]
    x = x.repeat_interleave(draws, 1).to(weight.device)
    generator = torch.Generator(weight.device).manual_seed(seed)
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, columns, draws, dtype=torch.float64)
    state = None
    try:
        with torch.no_grad():
            for part in x.split(steps_at_once):
                part = part.transpose(0, 1) if batch_first else part
                out = model(part, state, **({"generator": generator} if isinstance(model, VRNN) else {}))
                state = out.state
                losses = torch.stack([out.reconstruction, out.kl]).double()
                sums += losses.sum(2 if batch_first else 1).view(2, columns, draws).cpu()
    finally:
        model.train(was_training)
    scored = len(x) * columns * characters
    per_draw = sums.sum(1) / scored
    error = per_draw.sum(0).std().item() / math.sqrt(draws) if draws > 1 else 0.0
    reconstruction, kl = per_draw.mean(1).tolist()
    return Evaluation(reconstruction, kl, error, scored)
