"""What a trained VRNN does with its z: a trace through a text, z exchanged, active entries, information (chapter 6)."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from .gaussian import DiagonalGaussian, seeded, standard_normal
from .inputs import without_padding
from .models import check_latent, check_sequences
from .text import ASCII, encode
from .vrnn import VRNN


class Trace(NamedTuple):
    """What a VRNN expects of each of the N characters of a text, and what it makes of it; both costs are in bits."""

    text: str
    hidden: Tensor  # (N, H): h_1 to h_N of the top layer; of the first draw of z, as are the next two
    prior: DiagonalGaussian  # parameters (N, Z)
    posterior: DiagonalGaussian  # parameters (N, Z)
    expected: Tensor  # (N, V): the probabilities of x_t before it is seen, with z_t drawn from the prior
    kl: Tensor  # (N,): loss 2, a mean over the draws of z
    surprise: Tensor  # (N,): loss 1 + loss 2; averaged over the text it is minus the ELBO, as `evaluate` has it


@torch.no_grad()
def trace(model: VRNN, text: str, *, draws: int = 10, seed: int = 0) -> Trace:
    """Reads a text from a state of zeros, with `draws` of z side by side; the same seed gives the same draws.

    Raises ValueError for an empty text, for characters outside the model's vocabulary, and for a model of more than one
    in each step.
    """
    model, generator = _reader(model, torch.device("cpu"), seed)
    codes = encode(text, model.emission_type.vocabulary or ASCII)
    out = model(codes[:, None].repeat(1, draws), generator=generator)
    before = torch.cat([torch.zeros_like(out.hidden[:1]), out.hidden[:-1]])
    logits, *_ = model.cell.emission(out.prior.sample(generator=generator), before)
    prior, posterior = (DiagonalGaussian(*(parameter[:, 0] for parameter in q)) for q in (out.prior, out.posterior))
    kl, reconstruction = (nats.mean(1) / math.log(2) for nats in (out.kl, out.reconstruction))
    return Trace(text, out.hidden[:, 0], prior, posterior, logits.softmax(-1).mean(1), kl, reconstruction + kl)


@torch.no_grad()
def swap_z(
    model: VRNN,
    x: Tensor,
    source: str,
    *,
    relative: bool = False,
    seed: int = 0,
    lengths: Tensor | None = None,
) -> Tensor:
    """Loss 1 in nats per time step, (T, B), when decoder and recurrence are given another z: does it matter which?

    A z tells of h as well, since the prior's mean moves with h, and a z out of place is missed for that alone.

    Args:
        model: whose z it is.
        x: (T, B, ...), also for a model with batch_first, read from zeros.
        source: "posterior", the z that x itself gives, so that this is the model's own loss 1; "prior", drawn from the
            prior at the h that such draws lead to; "zeros"; or "other", what the posterior drew for the neighbouring
            sequence.
        relative: whether not z is swapped but (z - mean_p) / std_p, all that can tell of x_t: then zeros are the
            prior's mean.
        seed: of the draws.
        lengths: (B,), behind which the loss is 0 (and a neighbour's z, if that is shorter, zeros).

    Raises:
        ValueError: for another source, and for "other" with one sequence, which has no neighbour.
    """
    model, generator = _reader(model, x.device, seed)
    if source == "other" and x.shape[1] < 2:
        raise ValueError('source="other" takes z from a neighbour, and there is one sequence.')
    out, cell = model(x, generator=generator, lengths=lengths), model.cell
    x = without_padding(x, out.steps, cell.phi_x)
    own = (out.z - out.prior.mean) * torch.exp(-out.prior.log_std) if relative else out.z
    drawn = standard_normal(own.shape, own, generator)
    swapped = {"posterior": own, "prior": drawn, "zeros": torch.zeros_like(own), "other": own.roll(1, 1)}
    if source not in swapped:
        raise ValueError(f"source must be one of {', '.join(swapped)}, not {source!r}.")
    losses, state = [], cell.zero_state(own[0])
    for x_t, z in zip(x, swapped[source], strict=True):
        h = cell.hidden(state)
        z = cell.prior(h).rsample(z) if relative or source == "prior" else z
        losses.append(-cell.emission(z, h).log_prob(x_t))
        state = cell.rnn(x_t, z, state)
    losses = torch.stack(losses)
    return losses if out.steps is None else losses.masked_fill(~out.steps, 0.0)


@torch.no_grad()
def active_units(
    model: VRNN, x: Tensor, *, threshold: float = 0.01, seed: int = 0, lengths: Tensor | None = None
) -> int:
    """How many of z's Z entries tell of x: as many as `live_entries` finds.

    Args:
        model, x, threshold, seed, lengths: as there.
    """
    return len(live_entries(model, x, threshold=threshold, seed=seed, lengths=lengths))


@torch.no_grad()
def live_entries(
    model: VRNN, x: Tensor, *, threshold: float = 0.01, seed: int = 0, lengths: Tensor | None = None
) -> list[int]:
    """Those of z's Z entries that tell of x: whose mean_q - mean_p varies by more than `threshold`; the most first.

    Burda et al. 2016 (arXiv 1509.00519), section 5.2, take the variance of the posterior's mean. Here the prior is
    conditional, and that mean moves with h even where it says nothing of x_t, so the prior's is taken from it first.

    Args:
        model: whose z it is.
        x: (T, B, ...), also for a model with batch_first, read from zeros.
        threshold: of the variance, over all steps.
        seed: of the draws of z.
        lengths: (B,); steps behind them do not count.
    """
    model, generator = _reader(model, x.device, seed)
    out = model(x, generator=generator, lengths=lengths)
    moved = out.posterior.mean - out.prior.mean
    variance = (moved.flatten(0, 1) if out.steps is None else moved[out.steps]).var(0)
    return [i for i in variance.argsort(descending=True).tolist() if variance[i] > threshold]


@torch.no_grad()
def mutual_information(model: VRNN, x: Tensor, *, draws: int = 100, seed: int = 0) -> Tensor:
    """I(x_t; z_t | h_{t-1}) in nats per time step, (T, B), of x_t ~ p(x_t | h_{t-1}) and z_t ~ q(z_t | x_t, h_{t-1}).

    sum_x p(x | h) E_q(z | x, h) [log q(z | x, h) - log q(z | h)], where q(z | h) = sum_x p(x | h) q(z | x, h), the
    aggregate posterior (Hoffman and Johnson 2016, "ELBO surgery", with all V codes in place of a data set). Both sums
    over x are exact. Two things need samples: p(x | h), the mean of the emission over `draws` of z from the prior; and
    the mixture's entropy, for which each of the V posteriors gives one z, so that the error falls with the number of
    steps averaged. If x_t is distributed as the model says, the ELBO's KL is on average this and KL(q(z|h) || p(z|h)).

    x: codes (T, B), also for a model with batch_first, read from zeros, which gives the h. Raises ValueError for a
    model that does not emit one code per time step.
    """
    model, generator = _reader(model, x.device, seed)
    if not model.emission_type.takes_codes or model.emission_type.characters > 1:
        raise ValueError("the mutual information is a sum over the codes of one character per time step.")
    out, cell = model(x, generator=generator), model.cell
    features = cell.phi_x(torch.arange(cell.phi_x.input_size, device=x.device))  # (V, E)
    steps = []
    for h in torch.cat([torch.zeros_like(out.hidden[:1]), out.hidden[:-1]]):  # (B, H)
        several = h.expand(draws, *h.shape)
        logits, *_ = cell.emission(cell.prior(several).rsample(generator=generator), several)
        p = logits.softmax(-1).mean(0).double()  # (B, V)
        q = cell.posterior_from_features(features.expand(len(h), -1, -1), h[:, None].expand(-1, len(features), -1))
        z, mean, log_std = (value.double() for value in (q.rsample(generator=generator), *q))  # (B, V, Z)
        # log q of each z under each of the V posteriors, but for a constant, as matrix products.
        precision = torch.exp(-2 * log_std)
        log_q = (
            z @ (precision * mean).mT
            - z.square() @ precision.mT / 2
            - (precision * mean.square() / 2 + log_std).sum(-1)[:, None]
        )  # (B, V of z, V of q)
        log_mixture = (log_q + p.log()[:, None]).logsumexp(-1)
        steps.append((p * (log_q.diagonal(dim1=1, dim2=2) - log_mixture)).sum(-1))
    return torch.stack(steps)


def _reader(model: VRNN, device: torch.device, seed: int) -> tuple[VRNN, torch.Generator]:
    """A copy of the model that reads x (T, B, ...) and drops nothing out, and its source of noise."""
    check_sequences(model, "the probe")
    check_latent(model, "the probe")
    model = copy.deepcopy(model).to(device).eval()
    model.batch_first = False
    return model, seeded(seed, device)
