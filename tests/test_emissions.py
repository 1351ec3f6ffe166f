"""Tests of vrnn_tutorial/emissions/, against torch.distributions and by the frequencies of what is sampled."""

import itertools
import math

import pytest
import scipy.integrate
import scipy.stats
import torch
from helpers import exact, spread
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from vrnn_tutorial import VRNN, CharRNN, VRNNCell, emissions, train
from vrnn_tutorial.emissions import BernoulliDistribution as Bernoulli
from vrnn_tutorial.emissions import CategoricalDistribution as Categorical
from vrnn_tutorial.emissions import GaussianDistribution as Gaussian
from vrnn_tutorial.emissions.vectors import bounded

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


# A mixture of Gaussians


@given(leading, st.integers(1, 4), st.integers(1, 5), seeds)
def test_mixture_log_prob_is_that_of_torch_distributions(shape, size, components, seed):
    emission = emissions.GaussianMixture(components)
    raw = randn(*shape, emission.size(size), seed=seed)
    x = randn(*shape, size, seed=seed + 1)
    # Of a step's numbers: K logits, then K means of D entries, then K log deviations.
    logits, mean, log_std = raw.split([components, components * size, components * size], -1)
    std = bounded(log_std).exp()
    parts = Normal(*(p.reshape(*shape, components, size) for p in (mean, std)))
    reference = MixtureSameFamily(torch.distributions.Categorical(logits=logits), Independent(parts, 1))
    assert_close(emission.distribution(raw).log_prob(x), reference.log_prob(x))


@pytest.mark.parametrize(
    "emission",
    [
        emissions.Gaussian(),
        emissions.GaussianMixture(3),
        emissions.Scaled(emissions.GaussianMixture(2), 2.0, 3.0),
    ],
    ids=["Gaussian", "mixture", "scaled mixture"],
)
def test_a_density_integrates_to_one(emission):
    distribution = emission.distribution(randn(emission.size(1), seed=4))
    x = torch.linspace(-80, 80, 200_001, dtype=torch.float64)[:, None]
    whole = scipy.integrate.simpson(distribution.log_prob(x).exp().numpy(), x=x[:, 0].numpy())
    assert whole == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1])
def test_a_mixtures_temperature_divides_logits_and_multiplies_variances(temperature):
    logits, mean = torch.tensor([0.0, 1.0]), torch.tensor([[-50.0, 0.0], [50.0, 7.0]])
    log_std = torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
    mixture = emissions.GaussianMixtureDistribution(
        *(p.expand(40_000, *p.shape) for p in (logits, mean, log_std)),
    )
    x = mixture.sample(temperature, torch.Generator().manual_seed(0))
    chosen = (x[:, 0] > 0).long()
    assert chi_squared(chosen.bincount(minlength=2), (logits / temperature).softmax(0)) < CHI_SQUARED_999[1]
    for k in (0, 1):
        rows = x[chosen == k]
        deviation = math.sqrt(temperature) * log_std[k].exp()
        assert ((rows.mean(0) - mean[k]).abs() < 4 * deviation / math.sqrt(len(rows))).all()
        assert_close(rows.std(0), deviation, rtol=4 / math.sqrt(2 * len(rows)), atol=0)
        assert torch.corrcoef(rows.T)[0, 1].abs() < 4 / math.sqrt(len(rows))


def test_at_temperature_zero_a_mixture_gives_the_mean_of_its_likeliest_component():
    logits, mean, log_std = randn(7, 3, seed=1), randn(7, 3, 2, seed=2), randn(7, 3, 2, seed=3)
    x = emissions.GaussianMixtureDistribution(logits, mean, log_std).sample(0)
    assert_close(x, torch.stack([m[k] for m, k in zip(mean, logits.argmax(-1), strict=True)]), **exact)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "drawn", [{"temperature": 0.0}, {"temperature": 0.5}, {}, {"uniforms": torch.full((2,), 0.5)}], ids=str
)
def test_nothing_is_drawn_from_logits_that_came_apart(value, drawn):
    """Else what comes is the first code, a character like any other."""
    logits = torch.randn(2, 5)
    logits[1, 3] = value
    with pytest.raises(ValueError, match="it computes numbers that are not finite"):
        Categorical(logits).sample(**drawn)
    # A code that is impossible is none that came apart.
    logits[1, 3] = -math.inf
    Categorical(logits).sample(**drawn)


# Samples by uniforms: the inverse of the distribution function


def test_uniforms_are_turned_into_codes_by_the_inverse_of_the_distribution_function():
    p = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
    u = torch.tensor([0.0, 0.2, 0.26, 0.49, 0.51, 0.99])
    assert Categorical(p.log().expand(6, 3)).sample(uniforms=u).tolist() == [0, 0, 1, 1, 2, 2]
    cold = p.square() / p.square().sum()  # at temperature 0.5: 1/6, 1/6, 2/3
    assert_close(cold, torch.tensor([1, 1, 4]).double() / 6)
    u = torch.tensor([0.16, 0.17, 0.33, 0.34])
    assert Categorical(p.log().expand(4, 3)).sample(0.5, uniforms=u).tolist() == [0, 1, 1, 2]


def test_uniforms_are_turned_into_coins_by_the_inverse_of_the_distribution_function():
    logits = torch.tensor(0.2).logit().expand(4, 1)  # zero up to u = 0.8
    u = torch.tensor([[0.1], [0.79], [0.81], [0.99]])
    assert Bernoulli(logits).sample(uniforms=u).flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("temperature", [0.5, 1])
def test_uniforms_are_turned_into_numbers_by_the_inverse_of_the_distribution_function(temperature):
    mean, log_std = randn(2, 9, 2, seed=0)
    u = torch.linspace(0.01, 0.99, 18, dtype=torch.float64).view(9, 2)
    normal = Normal(mean, math.sqrt(temperature) * log_std.exp())
    assert_close(Gaussian(mean, log_std).sample(temperature, uniforms=u), normal.icdf(u))
    logits, means, log_stds = randn(9, 2, seed=5), randn(9, 2, 2, seed=6), randn(9, 2, 2, seed=7)
    first = torch.linspace(0.05, 0.95, 9, dtype=torch.float64)
    chosen = (first > (logits / temperature).softmax(-1)[:, 0]).long()
    assert chosen.unique().tolist() == [0, 1]
    rows = torch.arange(9)
    expected = Normal(means[rows, chosen], math.sqrt(temperature) * log_stds[rows, chosen].exp()).icdf(u)
    mixture = emissions.GaussianMixtureDistribution(logits, means, log_stds)
    uniforms = torch.cat([first[:, None], u], -1)
    assert_close(mixture.sample(temperature, uniforms=uniforms), expected)
    scaled = emissions.Scaled(emissions.Gaussian(), [3.0, -3.0], [2.0, 10.0])
    x = emissions.ScaledDistribution(Gaussian(mean, log_std), scaled).sample(temperature, uniforms=u)
    assert_close(x, normal.icdf(u) * torch.tensor([2.0, 10.0]) + torch.tensor([3.0, -3.0]))


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("distribution", "takes"),
    [
        (Categorical(randn(4, 3)), (4,)),
        (Categorical(randn(4, 2, 3), 2), (4, 2)),
        (Bernoulli(randn(4, 5)), (4, 5)),
        (Gaussian(randn(4, 5), randn(4, 5)), (4, 5)),
        (emissions.GaussianMixtureDistribution(randn(4, 3), randn(4, 3, 2), randn(4, 3, 2)), (4, 3)),
        (emissions.Pen(2).distribution(randn(4, emissions.Pen(2).size(5))), (4, 4)),
        (
            emissions.Chained(2).bind(3, 2, 2, 2).double().distribution(randn(4, 2 * 3 + 2)),
            (4, 2),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) or hasattr(value, "_fields") else "",
)
def test_uniforms_of_another_size_are_refused_not_stretched(distribution, takes, temperature):
    """One number for all streams, which would go through, makes them all alike."""
    distribution.sample(temperature, uniforms=torch.full(takes, 0.5))
    for size in ((1, *takes[1:]), (*takes[:-1], 1), (*takes[:-1], takes[-1] + 1), takes[1:]):
        if size != takes:
            with pytest.raises(ValueError, match=r"uniforms must be \(.*\), one for each number drawn, not \("):
                distribution.sample(temperature, uniforms=torch.full(size, 0.5))


def test_uniforms_of_more_digits_than_the_numbers_stay_finite():
    u = torch.tensor([1e-12, 1 - 1e-12], dtype=torch.float64)  # 1.0 in single precision
    x = Gaussian(torch.zeros(2), torch.zeros(2)).sample(uniforms=u)
    assert_close(x, Normal(0.0, 1.0).icdf(u).float())
    assert x.isfinite().all()


def test_uniforms_that_are_uniform_give_the_distribution_that_a_generator_gives():
    raw = randn(emissions.GaussianMixture(3).size(1), seed=2)
    mixture = emissions.GaussianMixture(3).distribution(raw.expand(20_000, -1))
    generator = torch.Generator().manual_seed(0)
    drawn = mixture.sample(generator=generator)
    inverted = mixture.sample(uniforms=torch.rand(20_000, 2, generator=generator, dtype=torch.float64))
    assert scipy.stats.ks_2samp(drawn.flatten(), inverted.flatten()).pvalue > 0.001
    shifted = scipy.stats.ks_2samp(drawn.flatten(), inverted.flatten() + 0.1).pvalue
    assert shifted < 1e-6


# A chain


def chain(k: int = 3, codes: int = 3) -> emissions.Chained:
    torch.manual_seed(0)
    bound = emissions.Chained(k).bind(codes, context_size=2, embedding_size=4, width=5)
    with torch.no_grad():
        for parameter in bound.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return bound.double()


@pytest.mark.parametrize("k", [2, 3])
def test_a_chains_probabilities_of_all_that_can_be_said_sum_to_one(k):
    bound = chain(k)
    x = torch.tensor(list(itertools.product(range(3), repeat=k)))
    distribution = bound.distribution(randn(k * 3 + 2, seed=1).expand(len(x), -1))
    assert_close(distribution.log_prob(x).exp().sum(), torch.tensor(1.0).double())
    bits = distribution.log_prob(x).view(3, -1)
    independent = bits.logsumexp(1, keepdim=True) + bits.logsumexp(0, keepdim=True)
    assert (bits - independent).abs().max() > 0.1, "nothing depends on what went before"


@pytest.mark.parametrize("temperature", [0.5, 1])
def test_a_chain_draws_each_character_from_its_softmax_given_those_before_it(temperature):
    bound = chain(2)
    raw = randn(2 * 3 + 2, seed=1)
    x = bound.distribution(raw.expand(20_000, -1)).sample(temperature, torch.Generator().manual_seed(0))
    every = torch.tensor(list(itertools.product(range(3), repeat=2)))
    logits = bound.distribution(raw.expand(9, -1)).given(every).logits
    p = (logits / temperature).softmax(-1).gather(-1, every[..., None]).squeeze(-1).prod(-1)
    assert chi_squared((3 * x[:, 0] + x[:, 1]).bincount(minlength=9), p) < CHI_SQUARED_999[8]
    # The same by uniforms: one for each character, in order.
    u = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(1))
    by_uniforms = bound.distribution(raw.expand(20_000, -1)).sample(temperature, uniforms=u)
    first = (logits[0, 0] / temperature).softmax(-1).cumsum(-1)
    assert torch.equal(by_uniforms[:, 0], torch.searchsorted(first, u[:, 0].double(), right=True))
    counts = (3 * by_uniforms[:, 0] + by_uniforms[:, 1]).bincount(minlength=9)
    assert chi_squared(counts, p) < CHI_SQUARED_999[8]


def test_a_vrnn_can_have_a_chain_too():
    model = spread(VRNN(VRNNCell(5, 4, 2, embedding_size=3, emission="chained", characters=2)))
    x = torch.randint(5, (6, 2, 2), generator=torch.Generator().manual_seed(0))
    out = model(x, generator=torch.Generator().manual_seed(0))
    softmax = torch.distributions.Categorical(logits=out.emission.given(x).logits)
    assert_close(out.reconstruction, -softmax.log_prob(x).sum(-1))
    drawn = model.draw(out.state, uniforms=torch.full((2, 2), 0.5))
    assert drawn.x.shape == (2, 2)
    out.reconstruction.sum().backward()
    assert model.emission_type.embedding.weight.grad.abs().sum() > 0


# The least deviation


def test_the_least_deviation_is_exp_minus_six_as_the_docstrings_say():
    for emission in (emissions.Gaussian, emissions.GaussianMixture, emissions.Pen):
        assert "the least deviation is exp(-6)" in emission.__doc__.lower() or "exp(-6)" in emission.__doc__
    raw = torch.tensor([[0.0, -1e4], [0.0, -1e2], [0.0, 1e4]], dtype=torch.float64)
    log_std = emissions.Gaussian().distribution(raw).log_std
    assert_close(log_std.flatten(), torch.tensor([-6.0, -6.0, 10.0]).double(), **exact)
    mixture = emissions.GaussianMixture(1).distribution(torch.tensor([0.0, 0.0, -1e4]))
    pen = emissions.Pen(1).distribution(torch.tensor([0.0, 0.0, 0.0, -1e4, -1e4, 0.0, 0.0, 0.0, 0.0]))
    assert mixture.log_std.item() == -6 and pen.log_std.flatten().tolist() == [-6, -6]


def test_within_its_bounds_a_log_deviation_is_the_nets_own_number():
    raw = torch.linspace(-3, 9.9, 50, dtype=torch.float64)
    log_std = emissions.Gaussian().distribution(torch.stack([torch.zeros_like(raw), raw], -1)).log_std
    assert_close(log_std.flatten(), raw, rtol=0, atol=2e-6)


def test_a_gradient_leads_back_from_below_the_least_deviation():
    raw = torch.tensor([0.0, -7.0], requires_grad=True)
    (-emissions.Gaussian().distribution(raw).log_prob(torch.tensor([3.0]))).backward()
    assert raw.grad[1] < -1e3  # x is far off: the deviation is to grow


@pytest.mark.parametrize("emission", [emissions.Gaussian(), emissions.GaussianMixture(3)], ids=["Gaussian", "mixture"])
def test_constant_data_have_a_finite_loss(emission):
    torch.manual_seed(0)
    model = VRNN(VRNNCell(2, 8, 2, emission=emission))
    records = list(train(model, [torch.ones(5, 4, 2)], updates=150, learning_rate=0.05, progress=False))
    assert all(math.isfinite(record.gradient_norm) for record in records)
    # Two entries, each at least exp(-6) wide; a mixture cannot be narrower, since its components are not. The steps are
    # large: one too far costs a few updates, and which of them is another matter on another processor.
    least = 2 * (0.5 * math.log(2 * math.pi) - 6)
    assert least < min(record.reconstruction for record in records) < least + 8


# Data that were not standardised

UNSCALED = {
    "20 +- 5": lambda noise: 20 + 5 * noise,
    "70 +- 10": lambda noise: 70 + 10 * noise,
    "0 to 255": lambda noise: 255 * Normal(0.0, 1.0).cdf(noise).round(decimals=2),
}


@pytest.mark.parametrize("name", UNSCALED)
def test_data_that_were_not_standardised_train_without_an_infinite_loss(name):
    for seed in range(10):
        torch.manual_seed(seed)
        x = UNSCALED[name](torch.randn(6, 4, 3))
        losses = [
            r.reconstruction
            for r in train(
                VRNN(VRNNCell(3, emission="gaussian")), [x], updates=30, learning_rate=0.01, seed=seed, progress=False
            )
        ]
        assert len(losses) == 30 and all(map(math.isfinite, losses))


# Entries that are missing

OBSERVED = {
    "Bernoulli": (emissions.Bernoulli(missing=True), lambda raw: torch.distributions.Bernoulli(logits=raw)),
    "Gaussian": (
        emissions.Gaussian(missing=True),
        lambda raw: Normal(raw[..., :4], bounded(raw[..., 4:]).exp()),
    ),
}


@pytest.mark.parametrize("name", OBSERVED)
@given(leading, seeds)
def test_with_entries_missing_log_p_is_the_marginal_of_the_others(name, shape, seed):
    emission, reference = OBSERVED[name]
    raw = randn(*shape, emission.size(4), seed=seed)
    x = (randn(*shape, 4, seed=seed + 1) > 0).double()
    absent = randn(*shape, 4, seed=seed + 2) > 0.3
    each = reference(raw).log_prob(x)
    ours = emission.distribution(raw).log_prob(x.masked_fill(absent, math.nan))
    assert_close(ours, torch.where(absent, 0.0, each).sum(-1))


@pytest.mark.parametrize("name", OBSERVED)
def test_a_missing_entry_has_no_gradient_and_the_others_have_theirs(name):
    emission, _ = OBSERVED[name]
    raw = randn(3, emission.size(4)).requires_grad_()
    x = torch.tensor([[1.0, math.nan, 0.0, math.nan]]).double().expand(3, 4)
    emission.distribution(raw).log_prob(x).sum().backward()
    gradient = raw.grad.unflatten(-1, (-1, 4)).abs().sum(1)
    assert (gradient[:, [0, 2]] > 0).all() and (gradient[:, [1, 3]] == 0).all()


@pytest.mark.parametrize("emission", [pair[0] for pair in OBSERVED.values()], ids=OBSERVED)
def test_phi_x_reads_zero_for_a_missing_entry_and_a_mask_behind_x(emission):
    x = torch.tensor([[1.0, math.nan, 0.0]])
    assert emission.reads(3) == 6 and type(emission)().reads(3) == 3
    assert emission.inputs(x).tolist() == [[1, 0, 0, 1, 0, 1]]
    model = spread(VRNN(VRNNCell(3, 4, 2, embedding_size=3, emission=emission)))
    weight = model.cell.phi_x.embedding.weight
    expected = weight @ torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0]).double() + model.cell.phi_x.embedding.bias
    assert_close(model.cell.phi_x(x.double())[0], model.cell.phi_x.net(expected))
    zero = model.cell.phi_x(torch.tensor([[1.0, 0.0, 0.0]]).double())  # which is there
    assert (zero - model.cell.phi_x(x.double())).abs().max() > 1e-3


@pytest.mark.parametrize("model", [VRNN, CharRNN])
@pytest.mark.parametrize("name", OBSERVED)
def test_a_model_trains_on_data_with_holes(model, name):
    torch.manual_seed(0)
    x = (torch.rand(6, 4, 2) > 0.5).float().masked_fill(torch.rand(6, 4, 2) > 0.6, math.nan)
    emission = OBSERVED[name][0]
    made = CharRNN(2, 8, emission=emission) if model is CharRNN else VRNN(VRNNCell(2, 8, 2, emission=emission))
    records = list(train(made, [x], updates=20, learning_rate=0.02, progress=False))
    assert records[-1].reconstruction < records[0].reconstruction - 0.02


@pytest.mark.parametrize(
    "emission, x, sentence",
    [
        (emissions.Gaussian(), [0.5, math.nan], r"x holds 1 NaN; .*emission=Gaussian\(missing=True\)"),
        (emissions.Bernoulli(), [math.nan, math.nan], r"x holds 2 NaN; .*emission=Bernoulli\(missing=True\)"),
        (emissions.Gaussian(), [math.inf, 0.0], "x holds 1 numbers that are NaN or infinite"),
        (emissions.Gaussian(missing=True), [-math.inf, math.nan], "x holds 1 numbers that are NaN or infinite"),
        (emissions.Bernoulli(missing=True), [math.inf, math.nan], "x holds 1 numbers that are NaN or infinite"),
        (emissions.GaussianMixture(2), [math.nan, 0.0], "x holds 1 numbers that are NaN or infinite"),
        (emissions.Bernoulli(), [1.5, 0.0], "x holds numbers from 0 to 1.5; a Bernoulli's are 0 to 1"),
        (emissions.Bernoulli(missing=True), [math.nan, -0.25], "x holds numbers from -0.25 to -0.25"),
        (emissions.Scaled(emissions.Gaussian(), 1.0, 2.0), [math.nan, 0.0], "x holds 1 NaN"),
    ],
)
@pytest.mark.parametrize("kind", [VRNN, CharRNN])
def test_values_that_an_emission_does_not_know_are_refused_in_one_sentence(kind, emission, x, sentence):
    sizes = {"input_size": 2, "hidden_size": 4, "emission": emission}
    model = CharRNN(**sizes) if kind is CharRNN else VRNN(VRNNCell(**sizes, latent_size=2))
    with pytest.raises(ValueError, match=sentence) as error:
        model(torch.tensor([[x]]))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="x must hold real vectors of size 2"):
        model(torch.zeros(1, 1, 3))


# Units


@pytest.mark.parametrize("shift, scale", [(2.0, 3.0), ([1.0, -2.0, 0.0], [0.5, 10.0, 3.0]), (0.5, [1.0, 2.0, 3.0])])
@pytest.mark.parametrize("inner", [emissions.Gaussian(), emissions.GaussianMixture(2)], ids=["Gaussian", "mixture"])
def test_a_scaled_density_is_that_of_the_changed_variable(inner, shift, scale):
    scaled = emissions.Scaled(inner, shift, scale)
    raw, x = randn(5, scaled.size(3), seed=1), randn(5, 3, seed=2) * 4
    affine = torch.distributions.AffineTransform(
        torch.tensor(shift).double().expand(3), torch.tensor(scale).double().expand(3)
    )
    standard = inner.distribution(raw)
    y = affine.inv(x)
    expected = standard.log_prob(y) - affine.log_abs_det_jacobian(y, x).sum(-1)
    assert_close(scaled.distribution(raw).log_prob(x), expected)
    draws = [d.sample(0.5, torch.Generator().manual_seed(3)) for d in (scaled.distribution(raw), standard)]
    assert_close(draws[0], affine(draws[1]))


def test_a_missing_entry_pays_nothing_for_its_unit():
    scaled = emissions.Scaled(emissions.Gaussian(missing=True), [1.0, 5.0], [2.0, 100.0])
    raw = randn(4, seed=1)
    x = torch.tensor([3.0, math.nan]).double()
    assert_close(scaled.distribution(raw).log_prob(x), Normal(1 + 2 * raw[0], 2 * raw[2].exp()).log_prob(x[0]))


def test_nets_see_standardised_numbers():
    scaled = emissions.Scaled(emissions.Gaussian(missing=True), [1.0, 5.0], [2.0, 100.0])
    assert scaled.inputs(torch.tensor([[5.0, math.nan], [1.0, 105.0]])).tolist() == [[2, 0, 1, 0], [0, 1, 1, 1]]


def test_a_scaler_is_fitted_to_data_with_holes_and_to_sequences():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, 3, generator=generator) * torch.tensor([5.0, 0.01, 1.0]) + torch.tensor([20.0, 3.0, 0.1])
    x = x.double()
    x[..., 2] = 0.1  # never moves, though the rounding of its mean says that it does
    x[2, 3, 0] = math.nan
    rows = x.flatten(0, 1)
    known = rows[~rows[:, 0].isnan(), 0]
    mean = torch.stack([known.mean(), rows[:, 1].mean(), rows[0, 2]])
    scale = torch.stack([known.std(correction=0), rows[:, 1].std(correction=0), torch.tensor(1.0).double()])
    sequences = [x[:3, 0], x[3:, 0], *x[:, 1:].unbind(1)]
    for given_x in (x, sequences, [part.numpy() for part in sequences]):
        scaled = emissions.Scaled.fit(emissions.Gaussian(missing=True), given_x)
        assert_close(scaled.shift, mean)
        assert_close(scaled.scale, scale)


def test_a_scaled_model_scores_in_the_units_of_x():
    """One hundred times the numbers, and log 100 more nats for each of them, whatever the weights."""
    x = randn(6, 3, 2)
    losses = []
    for unit in (1.0, 100.0):
        scaled = emissions.Scaled(emissions.Gaussian(), [0.0, 0.0], unit)
        model = spread(VRNN(VRNNCell(2, 5, 3, emission=scaled)))
        losses.append(model(unit * x, noise=randn(6, 3, 3, seed=9)).reconstruction)
    assert_close(losses[1], losses[0] + 2 * math.log(100))


def test_step_by_step_a_scaled_emission_is_what_it_is_for_all_steps_at_once():
    cell = VRNNCell(2, 5, 3, emission=emissions.Scaled(emissions.Gaussian(), [1.0, -1.0], [2.0, 3.0]))
    model = spread(VRNN(cell))
    x, noise = randn(6, 4, 2), randn(6, 4, 3, seed=1)
    at_once = model(x, noise=noise)
    cell.phi_z.register_forward_hook(lambda *_: None)
    by_step = model(x, noise=noise)
    assert_close(by_step.emission.log_prob(x), -at_once.reconstruction)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: emissions.Scaled(emissions.Categorical(), 0.0, 1.0), "Categorical has no units"),
        (lambda: emissions.Scaled(emissions.Bernoulli(), 0.0, 1.0), "Bernoulli has no units"),
        (lambda: emissions.Scaled(emissions.Gaussian(), 0.0, [1.0, 0.0]), "scale positive"),
        (lambda: emissions.Scaled(emissions.Gaussian(), math.nan, 1.0), "must be finite"),
        (lambda: VRNNCell(3, emission=emissions.Scaled(emissions.Gaussian(), [0.0, 0.0], 1.0)), "hold 3 numbers each"),
        (lambda: VRNNCell(3, emission=emissions.Scaled(emissions.Pen(2), 0.0, 1.0)), "step has 5 numbers"),
        (lambda: emissions.GaussianMixture(0), "components=0: one or more"),
        (lambda: emissions.Categorical(0), "characters=0: one or more"),
        (lambda: emissions.Chained(1), "two characters per step or more"),
    ],
)
def test_an_emission_that_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


class Shouting(emissions.Emission, torch.nn.Module):
    """A Gaussian with a weight of its own, which the model that keeps it must train."""

    reads_context = True

    def size(self, input_size):
        return 2 * input_size

    def bind(self, input_size, context_size, embedding_size, width):
        bound = Shouting()
        bound.more = torch.nn.Linear(context_size, 2 * input_size)
        return bound

    def distribution(self, raw):
        own, context = raw.tensor_split([self.more.out_features], -1)
        return emissions.Gaussian().distribution(own + self.more(context))


def test_an_emission_inside_a_scaler_is_bound_and_trained_with_the_model():
    model = spread(VRNN(VRNNCell(2, 5, 3, emission=emissions.Scaled(Shouting(), 0.0, 2.0))))
    model(randn(4, 3, 2)).reconstruction.sum().backward()
    weight = dict(model.named_parameters())["cell.emission_type.emission.more.weight"]
    assert weight.shape == (4, 10) and weight.grad.abs().sum() > 0
