"""Tests of vrnn_tutorial/gaussian.py, against torch.distributions and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from helpers import exact
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from vrnn_tutorial.gaussian import DiagonalGaussian, seeded, standard_normal

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)
seeds = st.integers(0, 2**32 - 1)


def gaussian(shape, seed: int = 0) -> DiagonalGaussian:
    torch.manual_seed(seed)
    return DiagonalGaussian(torch.randn(shape).double(), torch.randn(shape).double())


def reference(distribution: DiagonalGaussian) -> Independent:
    return Independent(Normal(distribution.mean, distribution.log_std.exp()), 1)


@given(shapes, seeds)
def test_kl_and_log_prob_are_those_of_torch_distributions(shape, seed):
    q, p, value = gaussian(shape, seed), gaussian(shape, seed + 1), gaussian(shape, seed + 2).mean
    assert_close(q.kl(p), kl_divergence(reference(q), reference(p)))
    assert_close(q.log_prob(value), reference(q).log_prob(value))


@given(shapes, seeds)
def test_kl_is_positive_unless_both_are_the_same(shape, seed):
    q, p = gaussian(shape, seed), gaussian(shape, seed + 1)
    assert_close(q.kl(q), torch.zeros(shape[:-1]).double(), rtol=0, atol=1e-14)
    assert (q.kl(p) > 1e-6).all()


def test_kl_is_in_nats_and_summed_over_the_last_axis():
    zeros, ones = torch.zeros(3), torch.ones(3)
    standard = DiagonalGaussian(zeros, zeros)
    # A shift by one deviation costs half a nat per dimension.
    assert_close(standard.kl(DiagonalGaussian(ones, zeros)), torch.tensor(1.5))
    # From deviation 1 to deviation e: log e + 1 / (2 e^2) - 1/2 nats; back again: -1 + e^2 / 2 - 1/2.
    wide = DiagonalGaussian(zeros, ones)
    assert_close(standard.kl(wide), torch.tensor(3 * (0.5 + math.exp(-2) / 2)))
    assert_close(wide.kl(standard), torch.tensor(3 * (math.exp(2) / 2 - 1.5)))


def test_log_prob_of_the_standard_normal_at_zero():
    zeros = torch.zeros(5)
    assert_close(DiagonalGaussian(zeros, zeros).log_prob(zeros), torch.tensor(-2.5 * math.log(2 * math.pi)))


@given(shapes, seeds)
def test_rsample_is_mean_plus_std_times_noise_with_both_gradients(shape, seed):
    mean, log_std = gaussian(shape, seed)
    noise, weight = gaussian(shape, seed + 1)
    mean.requires_grad_(), log_std.requires_grad_(), noise.requires_grad_()
    sample = DiagonalGaussian(mean, log_std).rsample(noise)
    assert_close(sample, mean + log_std.exp() * noise)
    total = (weight * sample).sum()
    of_mean, of_log_std, of_noise = torch.autograd.grad(total, (mean, log_std, noise), materialize_grads=True)
    assert_close(of_mean, weight)
    assert_close(of_log_std, weight * log_std.exp() * noise)
    assert_close(of_noise, weight * log_std.exp())


def test_samples_have_the_mean_and_the_deviation():
    n = 100_000
    distribution = DiagonalGaussian(torch.tensor([-1.0, 5.0]).expand(n, 2), torch.tensor([0.7, -2.0]).expand(n, 2))
    for sample, scale in [
        (distribution.rsample(generator=torch.Generator().manual_seed(0)), 1.0),
        (distribution.sample(generator=torch.Generator().manual_seed(1)), 1.0),
        (distribution.sample(0.5, torch.Generator().manual_seed(2)), 0.5),
        (distribution.sample(2.0, torch.Generator().manual_seed(3)), 2.0),
    ]:
        whitened = (sample - distribution.mean) / distribution.log_std.exp() / scale
        # Four standard errors: 1 / sqrt(n) of a mean, sqrt(2 / n) of a variance.
        assert whitened.mean(0).abs().max() < 4 / math.sqrt(n)
        assert (whitened.var(0) - 1).abs().max() < 4 * math.sqrt(2 / n)
        assert abs((whitened[:, 0] * whitened[:, 1]).mean()) < 4 / math.sqrt(n)


def test_at_temperature_zero_a_sample_is_a_copy_of_the_mean():
    distribution = gaussian((2, 3))
    sample = distribution.sample(0)
    assert_close(sample, distribution.mean, **exact)
    sample += 1
    assert_close(sample, distribution.mean + 1, **exact)


@pytest.mark.parametrize("temperature", [0, 1])
def test_sample_carries_no_gradient(temperature):
    mean, log_std = (parameter.requires_grad_() for parameter in gaussian((2, 3)))
    assert not DiagonalGaussian(mean, log_std).sample(temperature).requires_grad


def test_a_generator_fixes_the_noise_and_leaves_the_global_one_alone():
    distribution = gaussian((4, 3))
    before = torch.get_rng_state()
    draws = [
        draw(generator=torch.Generator().manual_seed(seed))
        for draw in (distribution.rsample, distribution.sample)
        for seed in (7, 7, 8)
    ]
    assert_close(torch.get_rng_state(), before, **exact)
    assert_close(draws[0], draws[1], **exact)
    assert_close(draws[3], draws[4], **exact)
    assert (draws[0] != draws[2]).all() and (draws[3] != draws[5]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standard_normal_has_the_shape_asked_for_and_the_type_of_its_model(dtype):
    noise = standard_normal((5, 2, 3), torch.zeros(1, dtype=dtype))
    assert (noise.shape, noise.dtype) == ((5, 2, 3), dtype)
    assert len(noise.unique()) == 30


@pytest.mark.parametrize(
    ("seed", "sentence"),
    [
        (0.5, "seed must be a whole number, not 0.5."),
        (2**64, f"seed must be from {-(2**63)} to {2**64 - 1}, not {2**64}."),
        (-(2**63) - 1, f"seed must be from {-(2**63)} to {2**64 - 1}, not {-(2**63) - 1}."),
    ],
)
def test_a_seed_that_torch_does_not_take_is_refused(seed, sentence):
    with pytest.raises(ValueError) as error:
        seeded(seed)
    assert str(error.value) == sentence


def test_the_farthest_seeds_are_taken_and_differ():
    drawn = [torch.rand(3, generator=seeded(seed)).tolist() for seed in (-(2**63), 2**64 - 1, np.int64(1))]
    assert len(set(map(tuple, drawn))) == 3
