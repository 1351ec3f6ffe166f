"""Tests of vrnn_tutorial/vae.py."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import exact, tight
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial.vae import VAE

EMISSIONS = ["bernoulli", "gaussian"]


def small_model(**options) -> VAE:
    torch.manual_seed(0)
    return VAE(5, 4, 3, **options).double()


def some_x(model: VAE, batch: int):
    x = torch.randn(batch, 5).double()
    return x if model.configuration["emission"] == "gaussian" else (x > 0).double()


def written_out(layers: nn.Sequential, x):
    """Linear layers with ELU between them."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer in linear[:-1]:
        x = F.elu(x @ layer.weight.T + layer.bias)
    return x @ linear[-1].weight.T + linear[-1].bias


@given(st.sampled_from(EMISSIONS), st.integers(1, 3), st.integers(1, 4), st.integers(0, 100))
def test_a_pass_written_out(emission, depth, batch, seed):
    model = small_model(emission=emission, depth=depth)
    torch.manual_seed(seed)
    x, noise = some_x(model, batch), torch.randn(batch, 3).double()
    mean, log_std = written_out(model.posterior_net, x).split(3, 1)
    z = mean + log_std.exp() * noise
    raw = written_out(model.emission_net, z)
    if emission == "bernoulli":
        log_p = torch.distributions.Bernoulli(logits=raw).log_prob(x)
    else:
        log_p = torch.distributions.Normal(raw[:, :5], raw[:, 5:].exp()).log_prob(x)
    out = model(x, noise)
    assert_close(tuple(out.posterior), (mean, log_std), **tight)
    assert_close(out.z, z, **tight)
    assert_close(out.reconstruction, -log_p.sum(1), **tight)
    # Kingma and Welling 2014, appendix B: the KL divergence from the standard normal.
    assert_close(out.kl, -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp()).sum(1), **tight)
    assert_close(tuple(out.prior), (torch.zeros(batch, 3).double(),) * 2, **exact)
    assert_close(tuple(model.posterior(x)), (mean, log_std), **tight)
    assert_close(model.emission(z).log_prob(x), log_p.sum(1), **tight)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("emission", EMISSIONS)
def test_gradients_agree_with_finite_differences(emission, depth):
    model = small_model(emission=emission, depth=depth)
    x, noise = some_x(model, 2), torch.randn(2, 3).double()
    names, parameters = zip(*model.named_parameters(), strict=True)

    def losses(noise, *weights):
        out = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x, noise))
        return out.reconstruction, out.kl

    assert torch.autograd.gradcheck(losses, (noise.requires_grad_(), *parameters), raise_exception=False)


def test_noise_is_drawn_from_the_generator():
    model = small_model()
    x = some_x(model, 4)
    drawn = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    seeded = [model(x, generator=torch.Generator().manual_seed(seed)).z for seed in (5, 5, 6)]
    assert_close(seeded[0], model(x, drawn).z, **exact)
    assert_close(seeded[0], seeded[1], **exact)
    assert (seeded[0] != seeded[2]).all()


def test_noise_is_standard_normal():
    model = small_model()
    torch.manual_seed(0)
    out = model(some_x(model, 5000))
    noise = (out.z - out.posterior.mean) / out.posterior.log_std.exp()
    n = noise.numel()
    assert abs(noise.mean()) < 4 / math.sqrt(n)
    assert abs(noise.var() - 1) < 4 * math.sqrt(2 / n)


def test_no_example_is_mixed_with_another():
    model = small_model()
    x, noise = some_x(model, 4), torch.randn(4, 3).double()
    alone = [model(x[i : i + 1], noise[i : i + 1]) for i in range(4)]
    assert_close(torch.cat([out.reconstruction for out in alone]), model(x, noise).reconstruction, **tight)
    assert_close(torch.cat([out.kl for out in alone]), model(x, noise).kl, **tight)


@pytest.mark.parametrize(
    "emission, sentence",
    [
        ("categorical", "a VAE's emission is bernoulli or gaussian"),
        ("poisson", "emission must be one of categorical, chained, bernoulli, gaussian, or an instance, not 'poisson'"),
    ],
)
def test_an_emission_that_makes_no_vae_is_refused(emission, sentence):
    with pytest.raises(ValueError, match=sentence):
        VAE(emission=emission)


@pytest.mark.parametrize("x", [torch.zeros(3, 5), torch.zeros(4), torch.zeros(2, 3, 4), torch.zeros(3, 4).long()])
def test_an_x_of_another_size_axes_or_type_is_refused(x):
    with pytest.raises(ValueError, match=r"^x must hold real vectors \(B, 4\), not torch\.\w+ \([\d, ]+\)\.$"):
        VAE(4, 8, 2)(x)


@pytest.mark.parametrize("shape", [(3, 4), (1, 2), (2,)])
def test_a_noise_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match=r"^noise must be torch.float32 \(3, 2\), not torch.float32 \([\d, ]+\)\.$"):
        VAE(4, 8, 2)(torch.zeros(3, 4), torch.zeros(shape))


def test_a_noise_of_another_type_is_refused():
    with pytest.raises(ValueError, match=r"^noise must be torch.float32 \(3, 2\), not torch.float64 \(3, 2\)\.$"):
        VAE(4, 8, 2)(torch.zeros(3, 4), torch.zeros(3, 2).double())


@pytest.mark.parametrize("given", [np.float64, np.float32, np.float16])
def test_arrays_and_other_precisions_are_converted(given):
    model, noise = small_model(emission="gaussian").float(), torch.zeros(3, 3)
    rows = np.linspace(-1, 1, 15).reshape(3, 5).astype(given)
    expected = model(torch.from_numpy(rows).float(), noise).reconstruction.flip(0)
    for x in (rows[::-1], torch.from_numpy(rows).flip(0)):
        assert_close(model(x, noise).reconstruction, expected, **exact)
