"""Checks of chapter 3's exercises; the notebook says what each answer must do.

All is computed in PyTorch's default type, which the notebook sets, so that tensors of the reader's own fit.
"""

import math
from unittest import mock

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ..cell import VRNNCell
from ..gaussian import DiagonalGaussian
from .checking import same, tensor


def _refused(*_):
    raise AssertionError("the method kl gives the formula away: write it out, from .mean and .log_std.")


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


def _same(answer: Tensor, wanted: Tensor) -> bool:
    """After a network's products, float32 has rounded more than once."""
    return same(answer, wanted, 1e-4)


def _check_three(answer, names: str) -> None:
    assert isinstance(answer, tuple | list), f"it should give {names}, not one {type(answer).__name__}."
    assert len(answer) == 3, f"it should give {names}, not {len(answer)} things."


def check_3_1(kl_bits) -> str:
    """kl_bits(posterior, prior): two DiagonalGaussians with parameters (B, Z) to loss 2 of one step, bits (B,)."""
    for shape in ((3, 4), (5, 2)):
        posterior, prior = (DiagonalGaussian(*0.7 * _random(2, *shape, seed=seed)) for seed in (0, 1))
        q, p = (Normal(g.mean, g.log_std.exp()) for g in (posterior, prior))
        with mock.patch.object(DiagonalGaussian, "kl", _refused):
            bits = kl_bits(posterior, prior)
        nats = kl_divergence(q, p)
        wanted = nats.sum(-1) / math.log(2)
        bits = tensor(bits, shape[:1], "it", "one number for each sequence")
        assert not _same(bits, kl_divergence(p, q).sum(-1) / math.log(2)), (
            "this is KL(prior || posterior): exchange them."
        )
        assert not _same(bits, kl_divergence(q, Normal(0.0, 1.0)).sum(-1) / math.log(2)), (
            "this is the KL from a standard normal, as in the VAE; a VRNN's prior has a mean and deviation of its own."
        )
        assert not _same(bits, nats.sum(-1)), "these are nats; a bit is log 2 nats."
        assert not _same(bits, nats.mean(-1) / math.log(2)), (
            "this is the mean over the dimensions of z; the KL is their sum."
        )
        halved = kl_divergence(*(Normal(g.mean, (g.log_std / 2).exp()) for g in (posterior, prior)))
        assert not _same(bits, halved.sum(-1) / math.log(2)), (
            "log_std is the log of the deviation, not of the variance."
        )
        assert _same(bits, wanted), f"the first sequence pays {wanted[0]:.3f} bits, not {bits[0].item():.3f}."
    return "So many bits, at most, z tells about x beyond what the past had told; what the past knows already is free."


def check_3_2(generation_step) -> str:
    """generation_step(cell, state, generator): a step of the generation phase: x (B,), z (B, Z), the new state."""
    cell = _cell()
    for streams in (6, 20_000):
        # Two pasts in turn: a z drawn from the first stream's prior does not do for the second.
        h = _random(2, 5, seed=1).tanh().repeat(streams // 2, 1)
        with torch.no_grad():
            answer = generation_step(cell, h, torch.Generator().manual_seed(0))
            _check_three(answer, "x, z and the new state")
            x, z, state = answer
            tensor(x, (streams,), "x", "one code for each stream")
            tensor(z, (streams, 4), "z", "one row for each stream")
            tensor(state, (streams, 5), "the state", "one row for each stream")
            assert x.dtype == torch.int64 and x.min() >= 0 and x.max() < 3, (
                "x should hold codes, int64 from 0 to V - 1, as the emission draws them."
            )
            again = generation_step(cell, h, torch.Generator().manual_seed(0))
            assert torch.equal(x, again[0]) and torch.equal(z, again[1]), (
                "the same seed gives another x or z: pass the generator to both draws."
            )
    with torch.no_grad():
        prior = cell.prior(h)
        whitened = (z - prior.mean) / prior.log_std.exp()
        # A product of matrices may round its rows apart, hence no test for equal rows.
        assert all(whitened[i::2].std(0).max() > 1e-3 for i in range(2)), (
            "every stream has the same z: draw one for each, do not take the prior's mean."
        )
        other = generation_step(cell, h, torch.Generator().manual_seed(1))
        assert not torch.equal(x, other[0]) and not torch.equal(z, other[1]), (
            "another seed gives the same x or z: draw from the generator that is given, and set no seed."
        )
        # Means of 10,000 draws of deviation 1 stay within five hundredths; a square's deviation is 1.4.
        for own in (whitened[0::2], whitened[1::2]):
            products = own.T @ own / len(own)
            assert own.mean(0).abs().max() < 0.05 and (products.diagonal() - 1).abs().max() < 0.07, (
                "z does not have the prior's mean and deviation: is it drawn from cell.prior(h), with h = the old "
                "state?"
            )
            assert same(products, torch.eye(4), 0.07), "the dimensions of z share their noise: draw one for each."
        logits, *_ = cell.emission(z, h)
        probabilities = logits.softmax(-1)
        assert not torch.equal(x, probabilities.argmax(-1)), (
            "x is the likeliest code each time: draw it from the emission."
        )
        # Against each z's own probabilities: weighted with z, lest an x drawn for another z pass, and with their logs,
        # which sees another temperature.
        excess = torch.nn.functional.one_hot(x, 3) - probabilities
        weights = torch.cat([torch.ones(len(z), 1), whitened], 1)
        apart = max((excess.T @ weights / len(z)).abs().max(), (excess * probabilities.log()).sum(1).mean().abs())
        assert apart < 0.025, "x is not drawn from the emission of this z and the old state, cell.emission(z, h)."
        assert not _same(state, h), "the state is still the old one: the RNN net's turn is missing."
        wanted = cell.hidden(cell.rnn(x, z, h))
        assert _same(state, wanted), "the new state should come from this very x, this z and the old state."
    return "Prior, z, decoder, x, RNN: nothing of it needs the encoder, nor the x that it is going to draw."


def check_3_3(repaired) -> str:
    """repaired(cell, x, state, noise): a step of the training phase: loss 1 (B,), loss 2 (B,), the new state."""
    cell = _cell()
    for x in (torch.tensor([0, 1, 2, 2, 1, 0, 1]), torch.tensor([2, 0])):
        noise, h = _random(len(x), 4, seed=2), _random(len(x), 5, seed=3).tanh()
        with torch.no_grad():
            step = cell(x, h, noise)
            answer = repaired(cell, x, h, noise)
            _check_three(answer, "loss 1, loss 2 and the new state")
            loss_1, loss_2, state = answer
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
                assert not _same(loss_1, -cell.emission(z, seen).log_prob(x)), f"loss 1: {fault}."
            wanted = -step.emission.log_prob(x)
            assert _same(loss_1, wanted), f"loss 1 of the first x is {wanted[0]:.3f} nats, not {loss_1[0].item():.3f}."
            assert not _same(loss_2, step.prior.kl(step.posterior)), (
                "loss 2: this is KL(prior || posterior), which the ELBO does not hold; exchange them."
            )
            wanted = step.posterior.kl(step.prior)
            assert _same(loss_2, wanted), f"loss 2 of the first x is {wanted[0]:.3f} nats, not {loss_2[0].item():.3f}."
            assert _same(state, step.state), "both losses are right; the new state comes from x, z and the old state."
    return (
        "None of the three raised an error: every shape fits, and the loss goes down. Who sees what is what to check."
    )
