"""Tests of vrnn_tutorial/probes.py, but for `trace`: each figure against a step-by-step computation, or an integral."""

import math

import numpy as np
import pytest
import torch
from helpers import vrnn

from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.probes import active_units, live_entries, mutual_information, swap_z, trace
from vrnn_tutorial.text import encode
from vrnn_tutorial.vae import VAE
from vrnn_tutorial.vrnn import VRNN

TEXT = encode("What's in a name? that which we call a rose")  # 43 characters
X = TEXT[:42].view(3, 14).t()  # three sequences of 14 characters


def reread(model: VRNN, x: torch.Tensor, z_of) -> torch.Tensor:
    """Loss 1 of each step, (T, B), where z_of(t, the cell's h) gives z_t."""
    cell, losses = model.cell, []
    state = cell.zero_state(torch.zeros(x.shape[1], 1, dtype=torch.float64))
    for t, x_t in enumerate(x):
        h = cell.hidden(state)
        z = z_of(t, h)
        losses.append(-cell.emission(z, h).log_prob(x_t))
        state = cell.rnn(x_t, z, state)
    return torch.stack(losses).detach()


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}, {"characters": 2}], ids=str)
def test_swapping_nothing_is_the_models_own_loss_and_a_swap_is_not(options, relative):
    model, x = vrnn(**options), X if "characters" not in options else X.view(7, 2, 3).transpose(1, 2)
    own = model(x, generator=torch.Generator().manual_seed(3)).reconstruction
    torch.testing.assert_close(swap_z(model, x, "posterior", relative=relative, seed=3), own.detach())
    swapped = [swap_z(model, x, source, relative=relative, seed=3) for source in ("prior", "zeros", "other")]
    for one, another in zip([own, *swapped], [*swapped, own], strict=True):
        assert one.shape == x.shape[:2] and (one - another).abs().min() > 1e-6


def test_zeros_and_anothers_z_are_given_to_decoder_and_recurrence():
    model = vrnn()
    out = model(X, generator=torch.Generator().manual_seed(3))
    noise = (out.z - out.prior.mean) / out.prior.log_std.exp()
    for source, z, relative_z in (
        ("zeros", 0 * out.z, 0 * noise),
        ("other", out.z[:, [2, 0, 1]], noise[:, [2, 0, 1]]),
    ):
        expected = reread(model, X, lambda t, h, z=z: z[t])
        torch.testing.assert_close(swap_z(model, X, source, seed=3), expected)

        def from_prior(t, h, noise=relative_z):
            prior = model.cell.prior(h)
            return prior.mean + prior.log_std.exp() * noise[t]

        torch.testing.assert_close(swap_z(model, X, source, relative=True, seed=3), reread(model, X, from_prior))


@pytest.mark.parametrize("relative", [False, True])
def test_a_prior_sample_has_the_priors_deviation(relative):
    """The loss at t = 0, where h is known, averaged over many sequences, is that of samples drawn here."""
    model, x = vrnn(), X[:1, :1].repeat(1, 20_000)
    h = torch.zeros(6, dtype=torch.float64)
    prior = model.cell.prior(h)
    z = torch.distributions.Normal(prior.mean, prior.log_std.exp()).sample((20_000,))
    expected = -model.cell.emission(z, h.expand(20_000, -1)).log_prob(x[0]).detach()
    found = swap_z(model, x, "prior", relative=relative)[0]
    assert abs(found.mean() - expected.mean()) < 4 * math.hypot(found.std(), expected.std()) / math.sqrt(20_000)
    assert found.std().item() == pytest.approx(expected.std().item(), rel=0.05)


def test_the_seed_decides_what_is_swapped_in_and_dropout_is_off():
    model = vrnn(dropout=0.5).train()
    assert torch.equal(swap_z(model, X, "prior", seed=1), swap_z(model, X, "prior", seed=np.int64(1)))
    assert not torch.equal(swap_z(model, X, "prior", seed=1), swap_z(model, X, "prior", seed=2))
    assert model.training
    first = vrnn(batch_first=True)
    assert torch.equal(swap_z(vrnn(), X, "other"), swap_z(first, X, "other")) and first.batch_first


def test_only_known_sources_are_swapped_in():
    with pytest.raises(ValueError, match="one of posterior, prior, zeros, other, not 'mother'"):
        swap_z(vrnn(), X, "mother")


def test_a_unit_is_active_where_the_posteriors_mean_moves_away_from_the_priors():
    """Of three entries of z, one listens to x, one to h with its prior, and one to h alone."""
    model = vrnn(hidden_size=3, latent_size=3)
    cell = model.cell
    with torch.no_grad():
        E = cell.posterior_net[0].in_features - 3
        for layer in (cell.posterior_net[0], cell.prior_net[0]):
            layer.weight.zero_()
        cell.posterior_net[0].weight[0, :E] = 3.0
        cell.posterior_net[0].weight[1, E:] = 1.0
        cell.prior_net[0].weight[1] = 1.0
        cell.posterior_net[0].bias.fill_(0.7), cell.prior_net[0].bias.fill_(-0.4)  # apart, but always as far
    out = model(X, generator=torch.Generator().manual_seed(0))
    posterior, apart = (mean.flatten(0, 1).var(0) for mean in (out.posterior.mean, out.posterior.mean - out.prior.mean))
    assert posterior[1] > 0.01 and apart[0] > 0.01 and apart[1:].max() < 1e-20
    assert active_units(model, X) == 1
    assert [active_units(model, X, threshold=share * apart[0].item()) for share in (0.99, 1.01)] == [1, 0]
    with torch.no_grad():
        cell.posterior_net[0].weight[2, E:] = 1.0
    assert active_units(model, X) == 2 and live_entries(model, X) == [0, 2]
    with torch.no_grad():
        cell.posterior_net[0].weight[2, E:] = 30.0
    assert live_entries(model, X) == [2, 0]  # the one that moves more is the first


def two_codes(mean: float, log_std: float = 0.0, bias: float = 0.0, slope: float = 0.0) -> VRNN:
    """Two codes and one z, all apart from h: q(z | x) has mean -mean or +mean, the prior is standard normal, and the
    logits of the codes are 0 and bias + slope ELU(z + 9), which is bias + slope (z + 9).
    """
    model = vrnn(input_size=2, latent_size=1, hidden_size=1)
    cell = model.cell
    with torch.no_grad():
        for layer in (cell.prior_net[0], cell.posterior_net[0], cell.emission_net[0]):
            layer.weight.zero_(), layer.bias.zero_()
        low, high = cell.phi_x(torch.tensor([0, 1]))
        direction = (high - low) / (high - low).square().sum()
        cell.posterior_net[0].weight[0, : len(low)] = 2 * mean * direction
        cell.posterior_net[0].bias.copy_(torch.tensor([-mean - 2 * mean * (direction @ low), log_std]))
        cell.phi_z[0][0].weight.fill_(1), cell.phi_z[0][0].bias.fill_(9)
        cell.emission_net[0].weight[1, 1] = slope
        cell.emission_net[0].bias[1] = bias
    return model


def binary_entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def of_two_codes(model: VRNN, **options) -> tuple[float, float]:
    """The mean of I over 2000 steps, which are all alike, and its standard error."""
    values = mutual_information(model, torch.zeros(20, 100, dtype=torch.int64), **options)
    assert values.shape == (20, 100)
    return values.mean().item(), values.std().item() / math.sqrt(2000)


@pytest.mark.parametrize("bias", [0.0, 1.0, -3.0])
def test_posteriors_far_apart_tell_the_code_and_equal_ones_nothing(bias):
    p = 1 / (1 + math.exp(-bias))
    assert of_two_codes(two_codes(50.0, bias=bias))[0] == pytest.approx(binary_entropy(p), rel=1e-9)
    assert of_two_codes(two_codes(0.0, bias=bias))[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("mean", "log_std", "bias"), [(1.0, 0.0, 0.0), (0.5, -0.5, 1.0), (0.7, 0.2, -1.0)])
def test_the_information_of_overlapping_posteriors_is_the_integral(mean, log_std, bias):
    p, std = 1 / (1 + math.exp(-bias)), math.exp(log_std)
    z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    low, high = (torch.distributions.Normal(m, std).log_prob(z).exp() for m in (-mean, mean))
    mixture = (1 - p) * low + p * high
    entropy_of_mixture = -torch.trapezoid(torch.xlogy(mixture, mixture), z).item()
    expected = entropy_of_mixture - 0.5 * math.log(2 * math.pi * math.e * std**2)
    found, error = of_two_codes(two_codes(mean, log_std, bias), draws=1)
    assert abs(found - expected) < 4 * error < 0.25 * expected


def test_the_codes_are_weighted_by_the_emission_averaged_over_the_prior():
    """Where the logits follow z steeply, p(x | h) is far from the emission at the prior's mean."""
    model = two_codes(50.0, slope=4.0, bias=-4.0 * 8.0)
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    p = torch.trapezoid(torch.sigmoid(4 * (z + 1)) * torch.distributions.Normal(0, 1).log_prob(z).exp(), z).item()
    assert binary_entropy(p) - binary_entropy(1 / (1 + math.exp(-4))) > 0.3
    assert of_two_codes(model, draws=500)[0] == pytest.approx(binary_entropy(p), rel=0.01)


def test_the_information_is_that_of_each_steps_own_h():
    """Four steps with h driven by x alone, so that columns of the same x share it, against pairs drawn one by one."""
    model = vrnn(input_size=5)
    cell = model.cell
    with torch.no_grad():
        cell.rnn_cells[0].weight_ih[:, 4:] = 0
        cell.prior_net[0].weight.mul_(4), cell.posterior_net[0].weight.mul_(2), cell.emission_net[0].weight.mul_(5)
    x = torch.tensor([3, 0, 4, 1])[:, None]
    found = mutual_information(model, x.repeat(1, 1000), draws=200)
    before = torch.cat([torch.zeros(1, 6).double(), model(x).hidden[:-1, 0]])
    torch.manual_seed(0)
    for values, h in zip(found, before, strict=True):
        several = h.expand(20_000, -1)
        drawn = cell.emission(cell.prior(several).sample(), several).sample()
        posterior = cell.posterior(torch.arange(5), h.expand(5, -1))
        q = torch.distributions.Normal(posterior.mean, posterior.log_std.exp())
        z = q.sample((20_000,))[torch.arange(20_000), drawn]
        log_q = q.log_prob(z[:, None]).sum(-1)
        frequency = torch.bincount(drawn, minlength=5) / 20_000
        pairs = log_q[torch.arange(20_000), drawn] - (log_q + frequency.log()).logsumexp(1)
        error = math.hypot(values.std().item() / math.sqrt(1000), pairs.std().item() / math.sqrt(20_000))
        assert abs(values.mean() - pairs.mean()) < 4 * error < 0.15 * pairs.mean()
    assert found.mean(1).std() > 0.05


@pytest.mark.parametrize("options", [{"characters": 2}, {"emission": "gaussian"}], ids=str)
def test_the_information_is_a_sum_over_the_codes_of_one_character(options):
    with pytest.raises(ValueError, match="one character per time step"):
        mutual_information(vrnn(**options), X)


@pytest.mark.parametrize(
    "probe",
    [lambda m, x: swap_z(m, x, "zeros"), active_units, live_entries, mutual_information, lambda m, x: trace(m, "abc")],
    ids=["swap", "active", "live", "information", "trace"],
)
@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (CharRNN(128), "the probe needs z, which a CharRNN has not."),
        (VAE(5, 4, 2), "the probe is of sequences, and the x of a VAE follow on nothing."),
    ],
)
def test_a_model_without_a_z_for_each_step_is_refused(probe, model, sentence):
    with pytest.raises(ValueError) as caught:
        probe(model, X)
    assert str(caught.value) == sentence
