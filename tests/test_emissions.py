"""Tests of vrnn_tutorial/emission.py, against torch.distributions and by the frequencies of what is sampled."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial import emissions
from vrnn_tutorial.emissions import BernoulliDistribution as Bernoulli
from vrnn_tutorial.emissions import CategoricalDistribution as Categorical
from vrnn_tutorial.emissions import GaussianDistribution as Gaussian

exact = {"rtol": 0, "atol": 0}
leading = st.lists(st.integers(1, 4), min_size=1, max_size=3)
seeds = st.integers(0, 2**32 - 1)


def randn(*shape, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chi_squared(counts, probabilities) -> float:
    expected = probabilities / probabilities.sum() * counts.sum()
    return ((counts - expected).square() / expected).sum().item()


#: The 0.999 quantiles of chi-squared, by degrees of freedom.
CHI_SQUARED_999 = {1: 10.83, 4: 18.47, 8: 26.12}


# log p


@given(leading, st.integers(1, 4), st.integers(2, 7), seeds)
def test_categorical_log_prob_is_that_of_torch_distributions(shape, k, codes, seed):
    logits = randn(*shape, k, codes, seed=seed)
    x = torch.randint(codes, (*shape, k), generator=torch.Generator().manual_seed(seed))
    reference = torch.distributions.Categorical(logits=logits).log_prob(x).sum(-1)
    ours = Categorical(logits, k) if k > 1 else Categorical(logits.squeeze(-2))
    assert_close(ours.log_prob(x if k > 1 else x.squeeze(-1)), reference)


@given(leading, st.integers(1, 5), seeds)
def test_bernoulli_log_prob_is_that_of_torch_distributions(shape, size, seed):
    logits = randn(*shape, size, seed=seed)
    x = (randn(*shape, size, seed=seed + 1) > 0).double()
    assert_close(Bernoulli(logits).log_prob(x), torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1))


@given(leading, st.integers(1, 5), seeds)
def test_gaussian_log_prob_is_that_of_torch_distributions(shape, size, seed):
    mean, log_std, x = (randn(*shape, size, seed=seed + i) for i in range(3))
    reference = torch.distributions.Normal(mean, log_std.exp()).log_prob(x).sum(-1)
    assert_close(Gaussian(mean, log_std).log_prob(x), reference)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_categorical_probabilities_of_all_that_can_be_said_sum_to_one(k):
    logits = randn(k, 4)
    x = torch.tensor(list(itertools.product(range(4), repeat=k)))
    distribution = Categorical(logits.expand(len(x), k, 4), k) if k > 1 else Categorical(logits.expand(len(x), 4))
    assert_close(distribution.log_prob(x if k > 1 else x[:, 0]).exp().sum(), torch.tensor(1.0).double())


def test_bernoulli_scores_certain_coins_without_infinities():
    logits = torch.tensor([1000.0, -1000.0])
    assert_close(Bernoulli(logits).log_prob(torch.tensor([1.0, 0.0])), torch.tensor(0.0))
    assert_close(Bernoulli(logits).log_prob(torch.tensor([0.0, 0.0])), torch.tensor(-1000.0))


# Samples


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_categorical_samples_as_often_as_softmax_of_logits_over_temperature_says(temperature):
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0])
    x = Categorical(logits.expand(20_000, 5)).sample(temperature, torch.Generator().manual_seed(0))
    counts = x.bincount(minlength=5)
    assert chi_squared(counts, (logits / temperature).softmax(0)) < CHI_SQUARED_999[4]
    for other in {0.5, 1, 2} - {temperature}:
        assert chi_squared(counts, (logits / other).softmax(0)) > 10 * CHI_SQUARED_999[4]


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_the_characters_of_a_step_are_drawn_independently_each_from_its_own_softmax(temperature):
    logits = torch.tensor([[0.0, 1.0, -1.0], [0.5, 0.2, -0.7]])
    x = Categorical(logits.expand(20_000, 2, 3), 2).sample(temperature, torch.Generator().manual_seed(0))
    assert x.shape == (20_000, 2)
    first, second = (logits / temperature).softmax(-1)
    assert (
        chi_squared((3 * x[:, 0] + x[:, 1]).bincount(minlength=9), torch.outer(first, second).flatten())
        < CHI_SQUARED_999[8]
    )


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_bernoulli_samples_as_often_as_sigmoid_of_logits_over_temperature_says(temperature):
    logits = torch.tensor([-1.5, 0.3, 2.0])
    x = Bernoulli(logits.expand(20_000, 3)).sample(temperature, torch.Generator().manual_seed(1))
    for column, p in zip(x.T, torch.sigmoid(logits / temperature), strict=True):
        assert (
            chi_squared(torch.stack([(column == 0).sum(), (column == 1).sum()]), torch.stack([1 - p, p]))
            < CHI_SQUARED_999[1]
        )


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_temperature_multiplies_a_gaussians_variance(temperature):
    mean, log_std = torch.tensor([3.0, -3.0]).expand(50_000, 2), torch.tensor([-1.0, 1.0]).expand(50_000, 2)
    x = Gaussian(mean, log_std).sample(temperature, torch.Generator().manual_seed(0))
    assert_close(x.mean(0), mean[0], rtol=0, atol=0.06)
    assert_close(x.std(0), math.sqrt(temperature) * log_std[0].exp(), rtol=0.015, atol=0)


@given(leading, st.integers(1, 3), seeds)
def test_at_temperature_zero_x_is_the_most_likely_one(shape, k, seed):
    logits = randn(*shape, k, 5, seed=seed)
    x = Categorical(logits, k).sample(0)
    assert (logits.gather(-1, x[..., None]) == logits.amax(-1, keepdim=True)).all()
    coins = logits[..., 0]
    assert_close(Bernoulli(coins).sample(0), (torch.sigmoid(coins) > 0.5).double(), **exact)
    assert_close(Gaussian(logits, logits).sample(0), logits, **exact)


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-37, 1e-42, 1e-320])
def test_a_tiny_temperature_gives_what_temperature_zero_gives(temperature):
    logits = torch.tensor([[1.0, 400.0, 399.0], [-400.0, -402.0, -401.0]])
    try:
        codes = Categorical(logits).sample(temperature)
    except RuntimeError as error:
        pytest.fail(f"the probabilities are no numbers: {error}")
    assert_close(codes, torch.tensor([1, 0]), **exact)
    assert_close(Bernoulli(logits).sample(temperature), torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]), **exact)
    assert_close(Gaussian(logits, logits / 1000).sample(temperature), logits, rtol=0, atol=4 * temperature**0.5)


@pytest.mark.parametrize(
    "distribution",
    [
        Categorical(randn(50, 7)),
        Categorical(randn(20, 3, 7), 3),
        Bernoulli(randn(50, 3)),
        Gaussian(*randn(2, 50, 3)),
    ],
    ids=["categorical", "three characters", "bernoulli", "gaussian"],
)
def test_a_generator_fixes_the_sample(distribution):
    draws = [distribution.sample(generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert_close(draws[0], draws[1], **exact)
    assert not torch.equal(draws[0], draws[2])
    assert_close(distribution.log_prob(draws[0]).shape, draws[0].shape[:1])


# From a network's raw output


def test_raw_output_holds_one_softmax_after_the_other():
    raw = torch.arange(12.0)
    assert emissions.Categorical(3).size(4) == 12 and emissions.Categorical().size(12) == 12
    logits = emissions.Categorical(3).distribution(raw).logits
    assert_close(logits, torch.stack([raw[:4], raw[4:8], raw[8:]]), **exact)
    assert_close(emissions.Categorical().distribution(raw).logits, raw, **exact)


def test_raw_output_holds_the_gaussians_means_before_its_log_deviations():
    raw = torch.arange(12.0).double()
    assert emissions.Gaussian().size(6) == 12
    mean, log_std = emissions.Gaussian().distribution(raw)
    assert_close(mean, raw[:6], **exact)
    assert_close(log_std, raw[6:].clamp(max=10), **exact)


def test_raw_output_of_a_bernoulli_is_its_logits():
    raw = torch.arange(12.0)
    assert emissions.Bernoulli().size(12) == 12
    assert_close(emissions.Bernoulli().distribution(raw).logits, raw, **exact)


@pytest.mark.parametrize("kind", ["Categorical", "softmax", ""])
def test_an_unknown_kind_is_refused(kind):
    names = "categorical, chained, bernoulli, gaussian"
    with pytest.raises(ValueError, match=f"emission must be one of {names}, or an instance, not '{kind}'"):
        emissions.emission_of(kind)
