"""Checks of chapter 3's exercises; the notebook says what each answer must do.

All is computed in PyTorch's default type, which the notebook sets, so that tensors of the reader's own fit.
"""

import math
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ..cell import VRNNCell
from ..gaussian import DiagonalGaussian
from .checking import refusing, same, tensor, three


def _random(*shape: int, seed: int = 0) -> Tensor:
    """The same standard normal numbers whatever the default type is."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.to(torch.get_default_dtype())


def _cell() -> VRNNCell:
    """A cell whose z matters to all it touches: weights larger than those a network starts with."""
    cell = VRNNCell(3, 5, 4, embedding_size=6)
    numbers = 0.6 * _random(sum(parameter.numel() for parameter in cell.parameters()))
    torch.nn.utils.vector_to_parameters(numbers, cell.parameters())
    return cell


def check_3_1(kl_bits) -> str:
    """kl_bits(posterior, prior): two DiagonalGaussians with parameters (B, Z) to loss 2 of one step, bits (B,)."""
    given_away = "the method kl gives the formula away: write it out, from .mean and .log_std."
    for shape in ((3, 4), (5, 2)):
        posterior, prior = (DiagonalGaussian(*0.7 * _random(2, *shape, seed=seed)) for seed in (0, 1))
        q, p = (Normal(g.mean, g.log_std.exp()) for g in (posterior, prior))
        with patch.object(DiagonalGaussian, "kl", refusing(given_away)):
            bits = kl_bits(posterior, prior)
        nats = kl_divergence(q, p)
        wanted = nats.sum(-1) / math.log(2)
        tensor(bits, shape[:1], "it", "one number for each sequence")
        assert not same(bits, kl_divergence(p, q).sum(-1) / math.log(2)), (
            "this is KL(prior || posterior): exchange them."
        )
        assert not same(bits, kl_divergence(q, Normal(0.0, 1.0)).sum(-1) / math.log(2)), (
            "this is the KL from a standard normal, as in the VAE; a VRNN's prior has a mean and deviation of its own."
        )
        assert not same(bits, nats.sum(-1)), "these are nats; a bit is log 2 nats."
        assert not same(bits, nats.mean(-1) / math.log(2)), (
            "this is the mean over the dimensions of z; the KL is their sum."
        )
        halved = kl_divergence(*(Normal(g.mean, (g.log_std / 2).exp()) for g in (posterior, prior)))
        assert not same(bits, halved.sum(-1) / math.log(2)), "log_std is the log of the deviation, not of the variance."
        assert same(bits, wanted), f"the first sequence pays {wanted[0]:.3f} bits, not {bits[0].item():.3f}."
    return "So many bits, at most, z tells about x beyond what the past had told; what the past knows already is free."


def check_3_2(generation_step) -> str:
    """generation_step(cell, state, generator): a step of the generation phase: x (B,), z (B, Z), the new state."""
    cell = _cell()

    def step(h, seed):
        return three(generation_step(cell, h, torch.Generator().manual_seed(seed)), "x, z and the new state")

    with torch.no_grad():
        for streams in (6, 20_000):
            # Two pasts in turn: a z drawn from the first stream's prior does not do for the second.
            h = _random(2, 5, seed=1).tanh().repeat(streams // 2, 1)
            x, z, state = step(h, seed=0)
            tensor(x, (streams,), "x", "one code for each stream")
            tensor(z, (streams, 4), "z", "one row for each stream")
            tensor(state, (streams, 5), "the state", "one row for each stream")
            assert x.dtype == torch.int64 and x.min() >= 0 and x.max() < 3, (
                "x should hold codes, int64 from 0 to V - 1, as the emission draws them."
            )
            again = step(h, seed=0)
            assert torch.equal(x, again[0]) and torch.equal(z, again[1]), (
                "the same seed gives another x or z: pass the generator to both draws."
            )
        prior = cell.prior(h)

        def expected(z):
            logits, *_ = cell.emission(z, h)
            return logits.softmax(-1)

        def surprises(x, z):
            """The noise that z was made from, and how far x is from what the emission of this z expects."""
            return (z - prior.mean) / prior.log_std.exp(), F.one_hot(x, 3) - expected(z)

        noise, excess = surprises(x, z)
        # A product of matrices may round its rows apart, hence no test for equal rows.
        assert all(noise[i::2].std(0).max() > 1e-3 for i in range(2)), (
            "every stream has the same z: draw one for each, do not take the prior's mean."
        )
        # Means of 10,000 draws of deviation 1 stay within five hundredths; a square's deviation is 1.4.
        for own in (noise[0::2], noise[1::2]):
            assert own.mean(0).abs().max() < 0.05 and (own.square().mean(0) - 1).abs().max() < 0.07, (
                "z does not have the prior's mean and deviation: is it drawn from cell.prior(h), with h = the old "
                "state?"
            )
        together = noise.T @ noise / streams - torch.eye(4)
        assert together.abs().max() < 0.05, "the entries of z move together: each needs a noise of its own."
        probabilities = expected(z)
        assert not torch.equal(x, probabilities.argmax(-1)), (
            "x is the likeliest code each time: draw it from the emission."
        )
        # Weighted with z and with log p, lest an x drawn for another z or at another temperature pass.
        weights = torch.cat([torch.ones(streams, 1), noise], 1)
        apart = (excess.T @ weights / streams).abs().max()
        too_sure = (excess * probabilities.log()).sum(-1).mean().abs()
        assert max(apart, too_sure) < 0.025, (
            "x is not drawn from the emission of this z and the old state, cell.emission(z, h)."
        )
        others = surprises(*step(h, seed=1)[:2])
        alike = [(one * other).sum(-1).mean().abs() for one, other in zip((noise, excess), others)]
        assert max(alike) < 0.1, "another seed draws the same again: take both draws from the generator that is given."
        assert not same(state, h), "the state is still the old one: the RNN net's turn is missing."
        wanted = cell.hidden(cell.rnn(x, z, h))
        assert same(state, wanted), "the new state should come from this very x, this z and the old state."
    return "Prior, z, decoder, x, RNN: nothing of it needs the encoder, nor the x that it is going to draw."


def check_3_3(repaired) -> str:
    """repaired(cell, x, state, noise): a step of the training phase: loss 1 (B,), loss 2 (B,), the new state."""
    cell = _cell()
    for x in (torch.tensor([0, 1, 2, 2, 1, 0, 1]), torch.tensor([2, 0])):
        noise, h = _random(len(x), 4, seed=2), _random(len(x), 5, seed=3).tanh()
        with torch.no_grad():
            step = cell(x, h, noise)
            answer = repaired(cell, x, h, noise)
            loss_1, loss_2, state = three(answer, "loss 1, loss 2 and the new state")
            for what, loss in (("loss 1", loss_1), ("loss 2", loss_2)):
                tensor(loss, (len(x),), what, "one number for each sequence")
            tensor(state, (len(x), 5), "the new state", "one row for each sequence")
            of_prior = step.prior.rsample(noise)
            wrong = {
                "the decoder reads the new h, which holds x_t: it has only to copy": (step.z, step.state),
                "z is drawn from the prior: in training, the posterior's z is what the decoder learns to read": (
                    of_prior,
                    h,
                ),
                "z is drawn from the prior, and the decoder reads the new h": (of_prior, cell.rnn(x, of_prior, h)),
            }
            for fault, (z, seen) in wrong.items():
                assert not same(loss_1, -cell.emission(z, seen).log_prob(x)), f"loss 1: {fault}."
            wanted = -step.emission.log_prob(x)
            assert same(loss_1, wanted), f"loss 1 of the first x is {wanted[0]:.3f} nats, not {loss_1[0].item():.3f}."
            assert not same(loss_2, step.prior.kl(step.posterior)), (
                "loss 2: this is KL(prior || posterior), which the ELBO does not hold; exchange them."
            )
            wanted = step.posterior.kl(step.prior)
            assert same(loss_2, wanted), f"loss 2 of the first x is {wanted[0]:.3f} nats, not {loss_2[0].item():.3f}."
            assert same(state, step.state), "both losses are right; the new state comes from x, z and the old state."
    return (
        "None of the three raised an error: every shape fits, and the loss goes down. Who sees what is what to check."
    )
