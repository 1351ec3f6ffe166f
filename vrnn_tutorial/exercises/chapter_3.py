"""Checks of chapter 3's exercises; the notebook says what each answer must do."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from ..cell import VRNNCell
from ..gaussian import DiagonalGaussian


def _cell() -> VRNNCell:
    """A cell whose z matters to all it touches: weights larger than those a network starts with."""
    cell = VRNNCell(3, 5, 4, embedding_size=6).double()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=noise))
    return cell


def check_3_1(kl_bits) -> str:
    """kl_bits(posterior, prior): two DiagonalGaussians with parameters (B, Z) to loss 2 of one step, bits (B,)."""
    noise = torch.Generator().manual_seed(0)
    posterior, prior = (DiagonalGaussian(*0.7 * torch.randn(2, 3, 4, generator=noise).double()) for _ in range(2))
    q, p, standard = (
        Normal(posterior.mean, posterior.log_std.exp()),
        Normal(prior.mean, prior.log_std.exp()),
        Normal(0, 1),
    )
    bits, nats = kl_bits(posterior, prior), kl_divergence(q, p)
    wanted = nats.sum(-1) / math.log(2)
    assert bits.shape == (3,), f"it should be one number per sequence, (3,), but its shape is {tuple(bits.shape)}."
    assert not torch.allclose(bits, kl_divergence(p, q).sum(-1) / math.log(2)), (
        "this is KL(prior || posterior): exchange them."
    )
    assert not torch.allclose(bits, kl_divergence(q, standard).sum(-1) / math.log(2)), (
        "this is the KL from a standard normal, as in the VAE; a VRNN's prior has a mean and a deviation of its own."
    )
    assert not torch.allclose(bits, nats.sum(-1)), "these are nats; a bit is log 2 nats."
    assert not torch.allclose(bits, wanted / 4), "this is the mean over the dimensions of z; the KL is their sum."
    halved = kl_divergence(*(Normal(g.mean, (g.log_std / 2).exp()) for g in (posterior, prior))).sum(-1) / math.log(2)
    assert not torch.allclose(bits, halved), "log_std is the log of the deviation, not of the variance."
    assert torch.allclose(bits, wanted), f"the first sequence pays {wanted[0]:.3f} bits, not {bits[0].item():.3f}."
    return "So many bits z tells about x beyond what the past had told; what the past knows already is free."


def check_3_2(generation_step) -> str:
    """generation_step(cell, state, generator): a step of the generation phase: x (B,), z (B, Z), the new state."""
    cell, streams = _cell(), 20_000
    h = torch.linspace(-1, 1, 5, dtype=torch.float64).expand(streams, 5)
    with torch.no_grad():
        answer = generation_step(cell, h, torch.Generator().manual_seed(0))
        assert len(answer) == 3, f"it should give x, z and the new state, not {len(answer)} things."
        x, z, state = answer
        assert x.shape == (streams,), f"x should be one code for each stream, ({streams},), not {tuple(x.shape)}."
        assert z.shape == (streams, 4), f"z should be ({streams}, 4), but its shape is {tuple(z.shape)}."
        again = generation_step(cell, h, torch.Generator().manual_seed(0))
        assert torch.equal(x, again[0]) and torch.equal(z, again[1]), (
            "the same seed gives another x or z: pass the generator to both draws."
        )
        prior = cell.prior(h[0])
        assert (z != z[0]).any(), "every stream has the same z: draw it, do not take the prior's mean."
        whitened = (z - prior.mean) / prior.log_std.exp()
        # Means of 20,000 draws of deviation 1 stay within five hundredths; a square's deviation is 1.4.
        right = whitened.mean(0).abs().max() < 0.05 and (whitened.square().mean(0) - 1).abs().max() < 0.07
        assert right, (
            "z does not have the prior's mean and deviation: is it drawn from cell.prior(h), with h = the old state?"
        )
        probabilities = cell.emission(z, h).logits.softmax(-1)
        assert not torch.equal(x, probabilities.argmax(-1)), (
            "x is the likeliest code each time: draw it from the emission."
        )
        shares = torch.nn.functional.one_hot(x, 3)
        # Against each z's own probabilities, and weighted with z, lest an x drawn for another z pass.
        excess = shares - probabilities
        apart = max(excess.mean(0).abs().max(), (excess[:, :, None] * whitened[:, None]).mean(0).abs().max())
        assert apart < 0.025, "x is not drawn from the emission of this z and the old state, cell.emission(z, h)."
        wanted = cell.rnn(x, z, h)
        assert state.shape == wanted.shape, f"the state should be {tuple(wanted.shape)}, not {tuple(state.shape)}."
        assert not torch.equal(state, h), "the state is still the old one: the RNN net's turn is missing."
        assert torch.allclose(state, wanted), "the new state should come from this very x, this z and the old state."
    return "Prior, z, decoder, x, RNN: nothing of it needs the encoder, nor the x that it is going to draw."


def check_3_3(repaired) -> str:
    """repaired(cell, x, state, noise): a step of the training phase: loss 1 (B,), loss 2 (B,), the new state."""
    cell, noise = _cell(), torch.randn(7, 4, generator=torch.Generator().manual_seed(2)).double()
    x, h = torch.tensor([0, 1, 2, 2, 1, 0, 1]), torch.linspace(-1, 1, 35, dtype=torch.float64).view(7, 5)
    with torch.no_grad():
        step = cell(x, h, noise)
        answer = repaired(cell, x, h, noise)
        assert len(answer) == 3, f"it should give loss 1, loss 2 and the new state, not {len(answer)} things."
        loss_1, loss_2, state = answer
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
            assert not torch.allclose(loss_1, -cell.emission(z, seen).log_prob(x)), f"loss 1: {fault}."
        wanted = -step.emission.log_prob(x)
        assert torch.allclose(loss_1, wanted), (
            f"loss 1 of the first x is {wanted[0]:.3f} nats, not {loss_1[0].item():.3f}."
        )
        assert not torch.allclose(loss_2, step.prior.kl(step.posterior)), (
            "loss 2: this is KL(prior || posterior), which the ELBO does not hold; exchange them."
        )
        wanted = step.posterior.kl(step.prior)
        assert torch.allclose(loss_2, wanted), (
            f"loss 2 of the first x is {wanted[0]:.3f} nats, not {loss_2[0].item():.3f}."
        )
        assert torch.allclose(state, step.state), (
            "both losses are right; the new state comes from x, z and the old state."
        )
    return (
        "None of the three raised an error: every shape fits, and the loss goes down. Who sees what is what to check."
    )
