"""Tests of vrnn_tutorial/bounds.py, on models whose exact log p(x) is known: by principal components, or by Kalman.

A VAE with linear nets and a Gaussian emission of constant deviation s is probabilistic principal component analysis:
x = W z + b + s noise, so p(x) = N(b, W W^T + s^2 I), and p(z | x) = N(M^-1 W^T (x - b), s^2 M^-1), M = W^T W + s^2 I
(Tipping and Bishop 1999, "Probabilistic Principal Component Analysis"). With orthogonal columns in W, M is diagonal,
so that the encoder can be the exact posterior; then every importance weight is p(x), whatever z was drawn.
"""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from helpers import tight
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal
from torch.testing import assert_close

from vrnn_tutorial.bounds import fivo, fivo_bound, iwae, iwae_bound, log_weights, loss
from vrnn_tutorial.cell import Step, VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.emissions import GaussianDistribution as Gaussian
from vrnn_tutorial.gaussian import DiagonalGaussian, standard_normal
from vrnn_tutorial.vae import VAE
from vrnn_tutorial.vrnn import VRNN

# The training loss


def losses(reconstruction, kl) -> SimpleNamespace:
    return SimpleNamespace(reconstruction=torch.tensor(reconstruction), kl=torch.tensor(kl, requires_grad=True))


def test_the_loss_is_the_mean_reconstruction_and_the_weighted_mean_kl():
    out = losses([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]], [[0.5, 0.5, 0.5], [0.5, 0.5, 2.0]])
    assert_close(loss(out), torch.tensor(4.0 + 0.75))
    assert_close(loss(out, kl_weight=0.2), torch.tensor(4.0 + 0.15))
    assert_close(loss(out, kl_weight=0.0), torch.tensor(4.0))


@pytest.mark.parametrize("kl_weight", [1.0, 0.5])
def test_free_bits_are_a_floor_under_the_mean_kl_in_bits(kl_weight):
    # The mean is 1 nat, or 1.44 bits, though one step has more and one less.
    out = losses([3.0, 5.0], [0.25, 1.75])
    for bits, floor in [(0.0, 1.0), (1.0, 1.0), (1.44, 1.0), (1.45, 1.45 * math.log(2)), (3.0, 3 * math.log(2))]:
        assert_close(loss(out, kl_weight, bits), torch.tensor(4 + kl_weight * floor))


@pytest.mark.parametrize("bits, slope", [(1.4, 0.5), (1.5, 0.0)])
def test_below_the_free_bits_the_kl_has_no_gradient_and_above_its_whole_one(bits, slope):
    out = losses([3.0, 5.0], [0.25, 1.75])
    (gradient,) = torch.autograd.grad(loss(out, free_bits=bits), out.kl)
    assert_close(gradient, torch.full((2,), slope))


@pytest.mark.parametrize("make", [VAE, VRNN, CharRNN])
def test_the_loss_of_each_model_is_minus_its_elbo_per_step(make):
    torch.manual_seed(0)
    model = make()
    x = torch.rand(7, 64).round() if make is VAE else torch.randint(128, (5, 7))
    out = model(x)
    assert_close(loss(out), (out.reconstruction + out.kl).sum() / out.kl.numel())
    assert (loss(out, 0.5) < loss(out)) == (make is not CharRNN)


# Models whose log p(x) is known

S = 0.6  # the emission's deviation
W = torch.tensor([[0.8, 0.5], [0.8, -0.5], [-0.4, 1.0], [0.4, 1.0]]).double() @ torch.diag(
    torch.tensor([1.0, 0.7]).double()
)
B = torch.tensor([0.3, -0.2, 1.0, 0.0]).double()
M = W.T @ W + S**2 * torch.eye(2).double()


def log_p(x):
    """Exact log p(x) of principal_components(), in nats."""
    return MultivariateNormal(B, W @ W.T + S**2 * torch.eye(4).double()).log_prob(x)


def true_posterior(x) -> DiagonalGaussian:
    mean = (x - B) @ W @ M.inverse()
    return DiagonalGaussian(mean, (S**2 / M.diag()).log().div(2).expand_as(mean))


def principal_components(shift: float = 0.0, widening: float = 0.0) -> VAE:
    """The VAE of the docstring; its encoder's means are off by `shift`, its log deviations by `widening`."""
    model = VAE(4, latent_size=2, emission="gaussian", depth=1).double()
    encoder, decoder = model.posterior_net[0], model.emission_net[0]
    with torch.no_grad():
        decoder.weight.copy_(torch.cat([W, torch.zeros(4, 2)]))
        decoder.bias.copy_(torch.cat([B, torch.full((4,), math.log(S), dtype=torch.float64)]))
        encoder.weight.copy_(torch.cat([M.inverse() @ W.T, torch.zeros(2, 4)]))
        posterior = true_posterior(torch.zeros(4).double())
        encoder.bias.copy_(torch.cat([posterior.mean + shift, posterior.log_std + widening]))
    return model


def some_x(*shape: int):
    """Drawn from principal_components()."""
    z, noise = torch.randn(*shape, 2).double(), torch.randn(*shape, 4).double()
    return z @ W.T + B + S * noise


def exact_elbo(model: VAE, x):
    """The ELBO with its expectation over z worked out: the loss is a quadratic of the noise, whose mean over
    N(0, 1) is its mean over -1 and +1 (two-point Gauss-Hermite quadrature).
    """
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2))).double()
    outs = [model(x, noise.expand(len(x), 2)) for noise in signs]
    return torch.stack([-out.reconstruction - out.kl for out in outs]).mean(0)


# The ELBO and the importance-weighted bound of a VAE


def test_the_columns_of_w_are_orthogonal():
    assert_close(M, torch.diag(M.diag()), **tight)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_with_the_exact_posterior_every_draw_gives_log_p(batch, samples, seed):
    torch.manual_seed(seed)
    model, x = principal_components(), some_x(batch)
    assert_close(iwae(model, x, samples), log_p(x), **tight)
    assert_close(log_weights(model(x)), log_p(x), **tight)
    assert_close(exact_elbo(model, x), log_p(x), **tight)


@pytest.mark.parametrize("shift, widening", [(0.5, 0.0), (0.0, 0.7), (0.0, -0.7), (-0.3, 0.4)])
def test_with_another_encoder_the_elbo_is_too_low_by_its_kl_from_the_true_posterior(shift, widening):
    torch.manual_seed(0)
    model, x = principal_components(shift, widening), some_x(6)
    gap = model.posterior(x).kl(true_posterior(x))
    assert gap.min() > 0.1
    assert_close(exact_elbo(model, x), log_p(x) - gap, **tight)


def test_iwae_is_the_elbo_at_one_sample_rises_with_more_and_tends_to_log_p():
    model = principal_components(0.3, 0.5)
    torch.manual_seed(0)
    x = some_x(1)
    generator = torch.Generator().manual_seed(0)
    means, errors = [], []
    for samples in (1, 2, 4, 16, 256):
        bound = torch.cat([iwae(model, x.expand(2000, -1), samples, generator) for _ in range(2)])
        means.append(bound.mean().item())
        errors.append(bound.std().item() / math.sqrt(len(bound)))
    assert abs(means[0] - exact_elbo(model, x).item()) < 4 * errors[0]
    for lower, higher, a, b in zip(means, means[1:], errors, errors[1:], strict=False):
        assert higher - lower > 4 * math.hypot(a, b)
    assert abs(means[-1] - log_p(x).item()) < 0.01 < log_p(x).item() - means[-2]


def test_each_x_is_bounded_by_its_own_samples():
    torch.manual_seed(0)
    model, x = principal_components(0.3, 0.5), some_x(3)
    bound = iwae(model, x, 10_000, torch.Generator().manual_seed(0))
    assert (log_p(x)[:, None] - log_p(x)).abs().add(torch.eye(3)).min() > 0.1  # so they cannot be confounded
    assert_close(bound, log_p(x), rtol=0, atol=0.03)


def test_a_generator_fixes_the_bound():
    model, x = principal_components(0.3, 0.5), torch.ones(2, 4).double()
    bounds = [iwae(model, x, 3, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)]
    assert_close(bounds[0], bounds[1], rtol=0, atol=0)
    assert (bounds[0] != bounds[2]).all()


@pytest.mark.parametrize("samples", [0, -1])
def test_fewer_than_one_sample_is_refused(samples):
    with pytest.raises(ValueError, match=f"samples must be at least 1, not {samples}"):
        iwae(principal_components(), torch.ones(2, 4).double(), samples)


# The bound of a VRNN: its steps must be summed before samples are averaged


def linear_vrnn(batch_first: bool) -> VRNN:
    """A VRNN with h driven by x alone, and linear in its nets: x_t = a z_t + S noise, z_t = A h_{t-1} + noise.

    phi_x and phi_z are made linear by a bias of 30, far above the bend of their ELU.
    """
    torch.manual_seed(0)
    cell = VRNNCell(2, 3, 2, embedding_size=2, emission="gaussian").double()
    a, prior_weight = torch.tensor([1.5, -0.8]).double(), torch.randn(2, 3).double()
    variance = 1 / (1 + a**2 / S**2)  # of z_t given x_t
    eye, zeros = torch.eye(2).double(), torch.zeros
    with torch.no_grad():
        cell.phi_x.embedding.weight.copy_(eye), cell.phi_x.embedding.bias.zero_()
        cell.phi_x.net[0][0].weight.copy_(eye), cell.phi_x.net[0][0].bias.fill_(30.0)
        cell.phi_z[0][0].weight.copy_(torch.cat([eye, zeros(1, 2)])), cell.phi_z[0][0].bias.fill_(30.0)
        cell.prior_net[0].weight.copy_(torch.cat([prior_weight, zeros(2, 3)])), cell.prior_net[0].bias.zero_()
        # [h, phi_z]: the mean is a z.
        cell.emission_net[0].weight.zero_()[:2, 3:5] = torch.diag(a)
        cell.emission_net[0].bias.copy_(torch.cat([-30 * a, torch.full((2,), math.log(S), dtype=torch.float64)]))
        # [phi_x, h]: the exact posterior, variance (A h + a x / S^2).
        weight = torch.cat([torch.diag(a / S**2), prior_weight], 1) * variance[:, None]
        cell.posterior_net[0].weight.copy_(torch.cat([weight, zeros(2, 5)]))
        cell.posterior_net[0].bias.copy_(torch.cat([-30 * variance * a / S**2, variance.log() / 2]))
        cell.rnn_cells[0].weight_ih[:, 2:] = 0  # h does not hear z
    return VRNN(cell, batch_first)


def log_p_of_sequences(model: VRNN, x):
    """Exact log p(x_1, ..., x_T) of linear_vrnn(), x: (T, B, 2). In nats per sequence, (B,)."""
    cell = model.cell
    a = cell.emission_net[0].weight[:2, 3:5].diag()
    h, total = torch.zeros(x.shape[1], 3).double(), 0
    for x_t in x:
        mean = a * (h @ cell.prior_net[0].weight[:2].T)
        total = total + Normal(mean, (a**2 + S**2).sqrt()).log_prob(x_t).sum(-1)
        h = cell.rnn_cells[0](torch.cat([x_t + 30, torch.zeros(len(h), 3)], 1), h)
    return total


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("steps, batch, samples", [(3, 3, 1), (3, 3, 3), (2, 5, 4), (6, 1, 2)])
def test_with_the_exact_posterior_a_vrnns_bound_is_log_p_of_each_sequence(steps, batch, samples, batch_first):
    model = linear_vrnn(batch_first)
    x = torch.randn(steps, batch, 2).double()
    bound = iwae(model, x.transpose(0, 1) if batch_first else x, samples)
    assert_close(bound, log_p_of_sequences(model, x), rtol=1e-8, atol=1e-8)


def test_with_another_encoder_a_vrnns_bound_tends_to_log_p():
    model = linear_vrnn(False)
    with torch.no_grad():
        model.cell.posterior_net[0].bias += torch.tensor([0.3, -0.3, 0.3, 0.3])
    torch.manual_seed(1)
    x = torch.randn(3, 2, 2).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        one, many = (
            iwae(model, x.repeat_interleave(20, 1), samples, generator).view(2, 20).mean(1) for samples in (1, 500)
        )
    assert (log_p_of_sequences(model, x) - one).min() > 0.2
    assert_close(many, log_p_of_sequences(model, x), rtol=0, atol=0.03)


@pytest.mark.parametrize("k", [1, 3])
def test_a_vrnn_of_codes_has_one_bound_per_sequence(k):
    """Worked out from outputs of its own: the samples of a sequence are neighbours in the batch."""
    torch.manual_seed(0)
    model = VRNN(VRNNCell(5, 4, 3, embedding_size=6, characters=k)).double()
    x = torch.randint(5, (4, 2) if k == 1 else (4, 2, k))
    noise = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = []
    for column in range(6):
        out = model(x[:, column // 3, None], noise=noise[:, column, None])
        p, q = (Normal(d.mean, d.log_std.exp()).log_prob(out.z).sum() for d in (out.prior, out.posterior))
        weights.append((p - q - out.reconstruction.sum()).exp())
    expected = torch.stack(weights).view(2, 3).mean(1).log()
    assert_close(iwae(model, x, 3, torch.Generator().manual_seed(0)), expected, **tight)


# The particle filter's bound, where z passes from step to step


class RandomWalk(torch.nn.Module):
    """A linear-Gaussian state-space model with a VRNN's and its cell's interface: z_1 ~ N(0, 1), z_t = 0.8 z_{t-1} +
    noise, x_t = z_t + noise; h_t is z_t. Its encoder knows nothing: each z is proposed by the prior, widened.
    """

    batch_axis, batch_first, latent_size = 1, False, 1
    decay, deviation = 0.8, 1.0

    def __init__(self, widening: float = 0.2):
        super().__init__()
        self.widening = torch.nn.Parameter(torch.tensor(widening).double())

    def zero_state(self, like):
        return like.new_zeros(len(like), 1)

    def __call__(self, x, generator=None, particles=1, resample=None, lengths=None):
        return self.sequence(x.repeat_interleave(particles, 1), generator, resample)

    def step(self, state, noise) -> Step:
        prior = DiagonalGaussian(self.decay * state, 0 * noise)
        posterior = DiagonalGaussian(prior.mean, prior.log_std + self.widening)
        z = posterior.rsample(noise)
        return Step(z, z, prior, posterior, z, Gaussian(z, torch.full_like(z, math.log(self.deviation))))

    def sequence(self, x, generator, resample) -> SimpleNamespace:
        state, steps = self.zero_state(x[0]), []
        for t, (x_t, noise_t) in enumerate(zip(x, standard_normal(x.shape, x, generator), strict=True)):
            step = self.step(state, noise_t)
            log_x = step.emission.log_prob(x_t)
            chosen = None
            if resample is not None:
                chosen = resample(t, (step.prior.log_prob(step.z) - step.posterior.log_prob(step.z) + log_x).detach())
            state = step.state if chosen is None else step.state[chosen]
            steps.append((step, -log_x))
        stacked = {
            name: DiagonalGaussian(*map(torch.stack, zip(*(getattr(step, name) for step, _ in steps), strict=True)))
            for name in ("prior", "posterior")
        }
        z, reconstruction = torch.stack([step.z for step, _ in steps]), torch.stack([loss for _, loss in steps])
        return SimpleNamespace(
            **stacked,
            z=z,
            reconstruction=reconstruction,
            kl=stacked["posterior"].kl(stacked["prior"]),
            state=state,
            steps=None,
        )

    def log_p(self, x):
        """Exact log p(x), (B,) nats per sequence, by the Kalman filter."""
        mean, variance, total = torch.zeros(x.shape[1]).double(), 1.0, 0
        for x_t in x[..., 0]:
            total = total + Normal(mean, math.sqrt(variance + self.deviation**2)).log_prob(x_t)
            gain = variance / (variance + self.deviation**2)
            mean = self.decay * (mean + gain * (x_t - mean))
            variance = self.decay**2 * (1 - gain) * variance + 1
        return total

    def some_x(self, steps: int):
        z, xs = 0, []
        generator = torch.Generator().manual_seed(3)
        for noise in torch.randn(steps, 2, generator=generator).double():
            z = self.decay * z + noise[0]
            xs.append(z + self.deviation * noise[1])
        return torch.stack(xs).view(steps, 1, 1)


def gaps(bound, model, x, k: int, repeats: int) -> tuple[float, float]:
    """log p(x) less the bound's mean over repeats, and the standard error of that mean."""
    with torch.no_grad():
        values = model.log_p(x) - bound(model, x.expand(-1, repeats, -1), k, torch.Generator().manual_seed(k))
    return values.mean().item(), values.std().item() / math.sqrt(repeats)


def test_the_kalman_filter_agrees_with_the_joint_gaussian():
    model = RandomWalk()
    x = model.some_x(4)
    mixing = torch.tensor([[0.8 ** (t - s) if s <= t else 0 for s in range(4)] for t in range(4)]).double()
    covariance = mixing @ mixing.T + torch.eye(4).double()
    assert_close(model.log_p(x)[0], MultivariateNormal(torch.zeros(4).double(), covariance).log_prob(x[:, 0, 0]))


@pytest.mark.parametrize("bound", [iwae, fivo])
@pytest.mark.parametrize("k", [2, 8])
def test_averaged_over_draws_the_weights_are_p(bound, k):
    """Both estimate p(x) itself, before the logarithm, without bias, whatever is resampled."""
    model = RandomWalk()
    x = model.some_x(5)
    with torch.no_grad():
        ratio = (bound(model, x.expand(-1, 40_000, -1), k, torch.Generator().manual_seed(1)) - model.log_p(x)).exp()
    error = ratio.std().item() / math.sqrt(len(ratio))
    assert abs(ratio.mean().item() - 1) < 4 * error < 0.1


def test_all_bounds_lie_below_log_p_and_come_nearer_with_more_particles():
    model = RandomWalk()
    x = model.some_x(5)
    with torch.no_grad():
        out = model(x.expand(-1, 4000, -1), generator=torch.Generator().manual_seed(0))
    elbo_gap = (model.log_p(x) + (out.reconstruction + out.kl).sum(0)).mean().item()
    for bound in (iwae, fivo):
        found = [gaps(bound, model, x, k, 2000) for k in (1, 4, 16, 64)]
        assert abs(found[0][0] - elbo_gap) < 5 * found[0][1]  # one particle: the ELBO
        for (farther, a), (nearer, b) in itertools.pairwise(found):
            assert farther - nearer > 4 * math.hypot(a, b)
        assert 4 * found[-1][1] < found[-1][0] < 0.1


def test_the_particle_filter_stays_near_log_p_where_sequences_grow_long():
    model = RandomWalk()
    importance, filtered = (
        [gaps(bound, model, model.some_x(steps), 32, 100)[0] for steps in (10, 80)] for bound in (iwae, fivo)
    )
    assert importance[1] > 20 * importance[0]
    assert filtered[1] < 12 * filtered[0]
    assert importance[1] > 10 * filtered[1]


MODELS = {
    "the default kind": {},
    "two LSTM layers": {"rnn": "lstm", "num_layers": 2},
    "two characters a step": {"characters": 2},
    "vectors": {"emission": "gaussian"},
}


def sharp_vrnn(batch_first: bool = False, **options) -> VRNN:
    """With weights so large that particles differ."""
    torch.manual_seed(0)
    model = VRNN(VRNNCell(5, 4, 3, embedding_size=6, **options), batch_first).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model


def some_sequences(steps: int, batch: int, characters: int = 1, emission: str = "categorical", **_):
    if emission == "gaussian":
        return torch.randn(steps, batch, 5).double() / 2
    return torch.randint(5, (steps, batch) if characters == 1 else (steps, batch, characters))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_without_resampling_it_is_the_importance_weighted_bound(options, batch_first):
    model = sharp_vrnn(batch_first, **options)
    x = some_sequences(7, 3, **options)
    x = x.transpose(0, 1) if batch_first else x
    same = [torch.Generator().manual_seed(4) for _ in range(3)]
    assert_close(fivo(model, x, 8, same[0], resample_below=0), iwae(model, x, 8, same[1]), **tight)
    assert (fivo(model, x, 8, same[2]) - iwae(model, x, 8, same[0].manual_seed(4))).abs().max() > 0.01


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_one_particle_is_the_draw_of_the_elbo(options):
    model, x = sharp_vrnn(**options), some_sequences(7, 3, **options)
    out = model(x, generator=torch.Generator().manual_seed(2))
    assert_close(fivo(model, x, 1, torch.Generator().manual_seed(2)), log_weights(out, 0), **tight)


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_each_particle_goes_on_from_its_ancestor(options):
    """The algorithm with one call of the cell for each particle, in the paper's own quantities."""
    model, T, B, K = sharp_vrnn(**options), 12, 3, 6
    x = some_sequences(T, B, **options)
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn(T, B, K, 3, dtype=torch.float64, generator=generator)
    states, weights = [[None] * K for _ in range(B)], torch.ones(B, K).double() / K
    log_p, resampled = torch.zeros(B).double(), []
    for t in range(T):
        for b in range(B):
            for k in range(K):
                step = model.cell(x[t, b, None], states[b][k], noise[t, b, k, None])
                p, q = (Normal(d.mean, d.log_std.exp()).log_prob(step.z).sum() for d in (step.prior, step.posterior))
                weights[b, k] *= (p - q + step.emission.log_prob(x[t, b, None])[0]).exp().detach()
                states[b][k] = step.state
        log_p += weights.sum(1).log()
        weights = weights / weights.sum(1, keepdim=True)
        poor = [1 / w.square().sum() < K / 2 for w in weights]
        resampled += poor
        if any(poor):
            ancestors = torch.multinomial(weights, K, replacement=True, generator=generator)
            for b in range(B):
                if poor[b]:
                    states[b] = [states[b][k] for k in ancestors[b]]
                    weights[b] = 1 / K
    assert 0 < sum(resampled) < len(resampled)
    assert_close(fivo(model, x, K, torch.Generator().manual_seed(9)), log_p, **tight)


@pytest.mark.parametrize("batch_first", [False, True])
def test_with_the_exact_posterior_every_filter_gives_log_p(batch_first):
    model = linear_vrnn(batch_first)
    x = torch.randn(6, 3, 2).double()
    for resample_below in (0, 0.5, 2):
        bound = fivo(model, x.transpose(0, 1) if batch_first else x, 4, resample_below=resample_below)
        assert_close(bound, log_p_of_sequences(model, x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("particles", [0, -1])
def test_fewer_than_one_particle_is_refused(particles):
    with pytest.raises(ValueError, match=f"particles must be at least 1, not {particles}"):
        fivo(linear_vrnn(False), torch.ones(2, 1, 2).double(), particles)


# What training asks of a bound


@pytest.mark.parametrize("bound", [iwae_bound, fivo_bound])
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_the_gradient_is_that_of_finite_differences_with_the_same_ancestors(bound, options):
    """A step so small that the generator draws the same ancestors on both sides of it."""
    model, x = sharp_vrnn(**options), some_sequences(9, 2, **options)

    def value() -> torch.Tensor:
        return bound(model, x, 5, generator=torch.Generator().manual_seed(3)).loss()

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
    ways = [torch.randn_like(parameter) for parameter in parameters]
    sides = []
    with torch.no_grad():
        for h in (1e-6, -1e-6):
            for parameter, way in zip(parameters, ways, strict=True):
                parameter += h * way
            sides.append(value())
            for parameter, way in zip(parameters, ways, strict=True):
                parameter -= h * way
    slope = sum((gradient * way).sum() for gradient, way in zip(gradients, ways, strict=True))
    assert_close((sides[0] - sides[1]) / 2e-6, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("resample_below", [0, 0.5])
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_padding_adds_nothing_to_a_bound_and_resamples_nobody(options, resample_below):
    model, lengths = sharp_vrnn(**options), torch.tensor([4, 7, 0])
    x, K = some_sequences(7, 3, **options), 6
    generator = torch.Generator().manual_seed(5)
    whole = fivo_bound(model, x, K, resample_below, generator=generator, lengths=lengths)
    other = x.clone()
    other[4:, 0], other[:, 2] = x[:3, 1], x[:, 1]
    again = fivo_bound(model, other, K, resample_below, generator=generator.manual_seed(5), lengths=lengths)
    assert_close(whole.log_p, again.log_p, **tight)
    assert whole.log_p[2] == 0 and (whole.reconstruction[4:, :K] == 0).all() and (whole.kl[4:, :K] == 0).all()
    assert_close(whole.loss(), -whole.log_p.sum() / 11, **tight)
    if resample_below == 0:
        noise = torch.randn(7, 3 * K, 3, dtype=torch.float64, generator=generator.manual_seed(5))
        for b, length in enumerate([4, 7]):
            out = model(x[:length, b : b + 1], noise=noise[:length, b * K : (b + 1) * K], particles=K)
            assert_close(whole.log_p[b], log_weights(out, 0).logsumexp(0) - math.log(K), **tight)
        assert_close(iwae(model, x, K, generator.manual_seed(5), lengths=lengths), whole.log_p, **tight)


@pytest.mark.parametrize(
    ("bound", "model", "sentence"),
    [
        (iwae, CharRNN(7), "iwae needs z, which a CharRNN has not."),
        (fivo, CharRNN(7), "fivo needs z, which a CharRNN has not."),
        (fivo, VAE(5, 4, 2), "fivo is of sequences, and the x of a VAE follow on nothing."),
    ],
)
def test_a_model_that_a_bound_cannot_serve_is_refused(bound, model, sentence):
    with pytest.raises(ValueError) as caught:
        bound(model, torch.zeros(3, 2, dtype=torch.int64), 4)
    assert str(caught.value) == sentence


def test_a_bounds_loss_is_minus_it_per_step():
    model, x = sharp_vrnn(), some_sequences(7, 3)
    for bound in (iwae_bound(model, x, 4), fivo_bound(model, x, 4)):
        assert_close(bound.loss(), -bound.log_p.sum() / 21, **tight)
        assert bound.reconstruction.shape == bound.kl.shape == (7, 12)
    vae = VAE(5, 4, 2).double()
    bound = iwae_bound(vae, (torch.randn(3, 5) > 0).double(), 4)
    assert_close(bound.loss(), -bound.log_p.mean(), **tight)


@pytest.mark.parametrize("bound", [iwae_bound, fivo_bound])
def test_a_bound_goes_on_from_the_particles_it_ended_with(bound):
    """Without resampling two parts have the noise, the weights apart, and the states of the whole."""
    model, x, K = sharp_vrnn(), some_sequences(6, 2), 4
    options = {} if bound is iwae_bound else {"resample_below": 0}
    generator = torch.Generator().manual_seed(1)
    whole = bound(model, x, K, generator=generator, **options)
    start = bound(model, x[:2], K, generator=generator.manual_seed(1), **options)
    rest = bound(model, x[2:], K, state=start.state, generator=generator, **options)
    assert_close(torch.cat([start.reconstruction, rest.reconstruction]), whole.reconstruction, **tight)
    assert_close(rest.state, whole.state, **tight)
