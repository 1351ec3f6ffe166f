"""Tests of vrnn_tutorial/evaluation.py: each figure against a step-by-step computation on a short text."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.data import encode
from vrnn_tutorial.evaluation import (
    Evaluation,
    active_units,
    entropy,
    evaluate,
    lines,
    mutual_information,
    share,
    swap_z,
    words,
)
from vrnn_tutorial.gaussian import DiagonalGaussian
from vrnn_tutorial.vrnn import VRNN

TEXT = encode("What's in a name? that which we call a rose")  # 43 characters


def spread(model):
    """Weights large enough for the state to matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.double().eval()


def vrnn(batch_first: bool = False, **options) -> VRNN:
    return spread(VRNN(VRNNCell(**{"hidden_size": 6, "latent_size": 3, "embedding_size": 4, **options}), batch_first))


def char_rnn(**options) -> CharRNN:
    return spread(CharRNN(**{"hidden_size": 6, "embedding_size": 4, **options}))


def step_by_step(model: VRNN, x: torch.Tensor, noise: torch.Tensor) -> tuple[float, float]:
    """Sums of both losses over x (T, B, ...), by the cell's own parts and the definition of the KL divergence."""
    cell = model.cell
    state, losses = cell.zero_state(noise[0]), torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for x_t, noise_t in zip(x, noise, strict=True):
            step = cell(x_t, state, noise_t)
            ours, theirs = (torch.distributions.Normal(p.mean, p.log_std.exp()) for p in (step.posterior, step.prior))
            losses[0] -= step.emission.log_prob(x_t).sum()
            losses[1] += torch.distributions.kl_divergence(ours, theirs).sum()
            state = step.state
    return tuple(losses.tolist())


def close(evaluation: Evaluation, *expected: float) -> bool:
    return (evaluation.reconstruction, evaluation.kl) == pytest.approx(expected, rel=1e-10)


def still(monkeypatch) -> None:
    """z is the posterior's mean: what is left is the same for every draw."""
    monkeypatch.setattr(DiagonalGaussian, "rsample", lambda self, noise=None, generator=None: self.mean)
    monkeypatch.setattr("vrnn_tutorial.vrnn.standard_normal", lambda shape, like, _: like.new_zeros(shape))


@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("steps_at_once", [1, 10, 500])
def test_the_elbo_of_a_text_is_that_of_its_steps_one_after_the_other(options, steps_at_once):
    """The noise is the seed's, drawn part by part; the state goes on from part to part."""
    model = vrnn(**options)
    generator = torch.Generator().manual_seed(5)
    shapes = [(len(part), 1, 3) for part in TEXT.split(steps_at_once)]
    noise = torch.cat([torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes])
    reconstruction, kl = step_by_step(model, TEXT[:, None], noise)
    evaluation = evaluate(model, TEXT, draws=1, seed=5, steps_at_once=steps_at_once)
    assert close(evaluation, reconstruction / 43, kl / 43)
    assert evaluation.characters == 43 and evaluation.elbo_error == 0


@given(
    st.sampled_from(["gru", "lstm", "rnn"]),
    st.booleans(),
    *[st.integers(1, 3)] * 3,
    st.integers(3, 12),
    st.integers(1, 5),
)
def test_so_it_is_for_any_kind_and_sizes(rnn, batch_first, layers, characters, draws, length, steps_at_once):
    model = vrnn(batch_first, rnn=rnn, num_layers=layers, characters=characters)
    steps = length // characters
    x = TEXT[: steps * characters].view(steps, 1, characters).expand(-1, draws, -1)
    generator = torch.Generator().manual_seed(5)
    shapes = [(len(part), draws, 3) for part in x.split(steps_at_once)]
    noise = torch.cat([torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes])
    expected = step_by_step(model, x.squeeze(-1) if characters == 1 else x, noise)
    evaluation = evaluate(model, TEXT[:length], draws=draws, seed=5, steps_at_once=steps_at_once)
    assert close(evaluation, *(total / (draws * steps * characters) for total in expected))
    assert evaluation.characters == steps * characters


def test_where_the_text_is_cut_makes_no_difference(monkeypatch):
    still(monkeypatch)
    model = vrnn()
    whole = evaluate(model, TEXT, draws=1)
    for steps_at_once in (1, 7, 42, 43):
        assert close(evaluate(model, TEXT, draws=1, steps_at_once=steps_at_once), whole.reconstruction, whole.kl)
    halves = [evaluate(model, part, draws=1) for part in TEXT.split(22)]
    assert not close(
        whole, *(sum(getattr(h, name) * h.characters for h in halves) / 43 for name in ("reconstruction", "kl"))
    )


@pytest.mark.parametrize("steps_at_once", [5, 500])
@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}, {"batch_first": True}], ids=str)
def test_a_char_rnns_loss_is_that_of_one_pass(options, steps_at_once):
    model = char_rnn(**options)
    with torch.no_grad():
        expected = model(TEXT[None] if model.batch_first else TEXT[:, None]).reconstruction.mean().item()
    evaluation = evaluate(model, TEXT, steps_at_once=steps_at_once)
    assert close(evaluation, expected, 0.0)
    assert evaluation.elbo_error == 0 and evaluation.characters == 43


def test_draws_of_z_are_averaged_and_their_error_estimated():
    model = vrnn()
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(43, 8, 3, dtype=torch.float64, generator=generator)
    draws = [step_by_step(model, TEXT[:, None], noise[:, d : d + 1]) for d in range(8)]
    totals = [(reconstruction + kl) / 43 for reconstruction, kl in draws]
    mean = sum(totals) / 8
    error = math.sqrt(sum((total - mean) ** 2 for total in totals) / 7 / 8)
    evaluation = evaluate(model, TEXT, draws=8, seed=2)
    assert close(evaluation, *(sum(draw[i] for draw in draws) / 8 / 43 for i in range(2)))
    assert evaluation.elbo_error == pytest.approx(error, rel=1e-8) and error > 1e-3


def test_the_seed_decides_the_draws():
    model = vrnn()
    assert evaluate(model, TEXT, draws=2, seed=1) == evaluate(model, TEXT, draws=2, seed=1)
    assert evaluate(model, TEXT, draws=2, seed=1).loss != evaluate(model, TEXT, draws=2, seed=2).loss


@pytest.mark.parametrize(
    "model",
    [vrnn, lambda: vrnn(batch_first=True), char_rnn, lambda: char_rnn(batch_first=True)],
    ids=["VRNN", "batch first", "CharRNN", "batch first"],
)
def test_streams_are_equal_parts_each_from_zeros(model, monkeypatch):
    still(monkeypatch)
    model = model()
    parts = [evaluate(model, TEXT[start : start + 10], draws=1) for start in (0, 10, 20, 30)]
    for draws in (1, 3):
        together = evaluate(model, TEXT, draws=draws, streams=4, steps_at_once=4)
        assert close(together, sum(p.reconstruction for p in parts) / 4, sum(p.kl for p in parts) / 4)
        assert together.characters == 40  # 3 are left out


@pytest.mark.parametrize("model", [vrnn, char_rnn], ids=["VRNN", "CharRNN"])
def test_two_characters_a_step_are_scored_per_character(model, monkeypatch):
    still(monkeypatch)
    model = model(characters=2)
    with torch.no_grad():
        out = model(TEXT[:42].view(21, 1, 2))
    evaluation = evaluate(model, TEXT, draws=1)
    assert close(evaluation, out.reconstruction.sum().item() / 42, out.kl.sum().item() / 42)
    assert evaluation.characters == 42
    with torch.no_grad():
        out = model(TEXT[:42].view(3, 7, 2).transpose(0, 1))
    assert close(
        evaluate(model, TEXT, draws=1, streams=3), out.reconstruction.sum().item() / 42, out.kl.sum().item() / 42
    )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("emission", ["gaussian", "bernoulli"])
def test_sequences_of_vectors_are_scored_per_time_step(batch_first, emission, monkeypatch):
    still(monkeypatch)
    model = vrnn(batch_first, input_size=2, emission=emission)
    x = torch.randn(7, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = x if emission == "gaussian" else (x > 0).double()
    expected = [loss / 21 for loss in step_by_step(model, x, torch.zeros(7, 3, 3, dtype=torch.float64))]
    evaluation = evaluate(model, x.transpose(0, 1) if batch_first else x, draws=2, steps_at_once=3)
    assert close(evaluation, *expected)
    assert evaluation.characters == 21


def test_batches_of_codes_are_scored_too(monkeypatch):
    still(monkeypatch)
    model = vrnn()
    assert evaluate(model, TEXT[:40].view(4, 10).t(), draws=1) == evaluate(model, TEXT, draws=1, streams=4)


def test_the_loss_is_the_sum_of_both_and_bits_are_nats_over_ln_2():
    evaluation = Evaluation(1.5, 0.25, 0.0, 10)
    assert evaluation.loss == 1.75
    assert evaluation.bits == pytest.approx(2.5247, abs=1e-4)


@pytest.mark.parametrize(("characters", "streams", "length"), [(1, 1, 0), (1, 5, 4), (2, 1, 1), (2, 3, 5)])
def test_a_text_too_short_for_one_step_is_refused(characters, streams, length):
    with pytest.raises(
        ValueError, match=f"{length} characters are too few for {streams} streams of {characters} a step"
    ):
        evaluate(vrnn(characters=characters), TEXT[:length], streams=streams)


@pytest.mark.parametrize("model", [lambda: vrnn(dropout=0.5), lambda: char_rnn(dropout=0.5)], ids=["VRNN", "CharRNN"])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_model_left_as_it_was(model, training):
    model = model()
    expected = evaluate(model, TEXT, draws=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert evaluate(model.train(training), TEXT, draws=2) == expected
    assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError):
        evaluate(model, torch.tensor([500]))
    assert model.training == training


# Is z alive?

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
    assert torch.equal(swap_z(model, X, "prior", seed=1), swap_z(model, X, "prior", seed=1))
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
    assert active_units(model, X) == 2


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


def test_entropy_is_that_of_the_tempered_softmax():
    probabilities = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    logits = probabilities.log() + torch.tensor([[3.0], [-700.0]], dtype=torch.float64)
    assert entropy(logits).tolist() == pytest.approx([1.5 * math.log(2), 0])
    # At temperature 1/2 the probabilities are squared: 4/6, 1/6 and 1/6.
    assert entropy(logits, 0.5)[0].item() == pytest.approx(math.log(6) - 4 / 6 * math.log(4))
    assert entropy(torch.zeros(2, 3, 128), 1.3).tolist() == [[pytest.approx(math.log(128))] * 3] * 2
    assert entropy(logits, 1e-3)[0].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My lov'd lord's 'tis ", ["my", "lov'd", "lord's", "tis"]),
        ("The End,\nthe--end; to-day o' 3 days ", ["the", "end", "the", "end", "to", "day", "o", "days"]),
        ("cut off in the mid", ["cut", "off", "in", "the"]),
        ("cut at a line's end.\n", ["cut", "at", "a", "line's", "end"]),
        ("one", []),
        ("\n", []),
        ("", []),
    ],
)
def test_words_are_letters_and_the_last_one_only_if_it_is_whole(text, expected):
    assert words(text) == expected


def test_lines_are_whole_and_long_enough():
    text = f"{'a' * 20}\n{'b' * 19}\n\n {'c' * 19}\n{'d' * 30}"
    assert lines(text) == ["a" * 20, " " + "c" * 19]
    assert lines(text, 19) == ["a" * 20, "b" * 19, " " + "c" * 19]
    assert lines("d" * 30) == lines("") == []


def test_share_counts_every_piece():
    assert share(["a", "b", "a", "c"], {"a"}) == 0.5
    assert share(["a"], {"a", "b"}) == 1
    assert share(words("Romeo, zounds! Romeo "), {"romeo"}) == 2 / 3
    assert math.isnan(share([], {"a"}))
