"""Tests of vrnn_tutorial/emissions/pen.py, against scipy's bivariate normal, and of what the nets read of the past."""

import math

import pytest
import scipy.stats
import torch
from helpers import spread
from test_emissions import CHI_SQUARED_999, chi_squared, exact, randn
from torch.testing import assert_close

from vrnn_tutorial import VRNN, CharRNN, VRNNCell, train
from vrnn_tutorial.emissions import Pen, PenDistribution, Scaled
from vrnn_tutorial.generation import sample

GOES_ON, STROKE_ENDS, CHARACTER_ENDS = torch.eye(3, dtype=torch.float64)


def steps(*shape, seed: int = 0) -> torch.Tensor:
    """A pen's steps (..., 5): offsets, and states of which each is as likely as the others."""
    state = torch.randint(3, shape, generator=torch.Generator().manual_seed(seed))
    return torch.cat([randn(*shape, 2, seed=seed), torch.eye(3, dtype=torch.float64)[state]], -1)


def parameters(joint: bool, raw: torch.Tensor, K: int):
    """The parts of a step's raw numbers, in the order that Pen's are kept in."""
    logits, mean, log_std, rho, pen = raw.tensor_split([K, 3 * K, 5 * K, 6 * K], -1)
    pen = pen.view(*raw.shape[:-1], K if joint else 1, 3)
    return logits, mean.unflatten(-1, (K, 2)), log_std.unflatten(-1, (K, 2)), 0.99 * torch.tanh(rho), pen


@pytest.mark.parametrize("joint", [False, True])
def test_log_p_is_the_mixture_of_scipys_bivariate_normals_and_of_softmaxes(joint):
    K, emission = 3, Pen(3, joint=joint)
    raw, x = randn(6, emission.size(5), seed=1), steps(6, seed=2)
    ours = emission.distribution(raw).log_prob(x)
    for row, one, found in zip(raw, x, ours, strict=True):
        logits, mean, log_std, rho, pen = parameters(joint, row, K)
        weights, states = logits.softmax(-1), pen.softmax(-1)
        p = 0.0
        for k in range(K):
            (a, b), r = log_std[k].exp().tolist(), rho[k].item()
            normal = scipy.stats.multivariate_normal(mean[k], [[a * a, r * a * b], [r * a * b, b * b]])
            state = states[k if joint else 0] @ one[2:]
            p += weights[k].item() * normal.pdf(one[:2]) * state.item()
        assert found.item() == pytest.approx(math.log(p), abs=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_the_density_of_all_steps_sums_to_one(joint):
    emission = Pen(2, joint=joint)
    line = torch.linspace(-14, 14, 561, dtype=torch.float64)
    offsets = torch.cartesian_prod(line, line)
    distribution = emission.distribution(0.6 * randn(emission.size(5), seed=8))
    of_states = [
        distribution.log_prob(torch.cat([offsets, state.expand(len(offsets), 3)], -1)).exp()
        for state in (GOES_ON, STROKE_ENDS, CHARACTER_ENDS)
    ]
    assert sum(of_states).sum().item() * (line[1] - line[0]).item() ** 2 == pytest.approx(1, abs=1e-8)
    # Independent, unless joint: what the offset says of the state.
    share = of_states[0] / sum(of_states)
    near = sum(of_states) > 1e-4
    spread_of_shares = (share[near].max() - share[near].min()).item()
    assert spread_of_shares > 0.05 if joint else spread_of_shares < 1e-12


TWO = {
    "logits": torch.tensor([0.0, 1.0]),
    "mean": torch.tensor([[-60.0, 0.0], [60.0, 5.0]]),
    "log_std": torch.tensor([[0.0, 1.0], [-1.0, 0.5]]),
    "correlation": torch.tensor([0.8, -0.5]),
}


@pytest.mark.parametrize("temperature", [0.5, 1])
@pytest.mark.parametrize("joint", [False, True])
def test_temperature_divides_all_logits_and_multiplies_variances(temperature, joint):
    pen = torch.tensor([[0.0, 1.0, -1.0], [1.5, 0.0, 0.5]])[: 2 if joint else 1]
    distribution = PenDistribution(*(p.expand(40_000, *p.shape) for p in (*TWO.values(), pen)))
    x = distribution.sample(temperature, torch.Generator().manual_seed(0))
    chosen = (x[:, 0] > 0).long()
    assert chi_squared(chosen.bincount(minlength=2), (TWO["logits"] / temperature).softmax(0)) < CHI_SQUARED_999[1]
    for k in (0, 1):
        rows = x[chosen == k]
        deviation = math.sqrt(temperature) * TWO["log_std"][k].exp()
        assert ((rows[:, :2].mean(0) - TWO["mean"][k]).abs() < 4 * deviation / math.sqrt(len(rows))).all()
        assert_close(rows[:, :2].std(0), deviation, rtol=4 / math.sqrt(2 * len(rows)), atol=0)
        assert torch.corrcoef(rows[:, :2].T)[0, 1] == pytest.approx(TWO["correlation"][k].item(), abs=0.03)
        counts, p = rows[:, 2:].sum(0), (pen[k if joint else 0] / temperature).softmax(0)
        assert chi_squared(counts, p) < 13.82  # the 0.999 quantile of two degrees of freedom
    assert (x[:, 2:].sum(-1) == 1).all() and (x[:, 2:].amax(-1) == 1).all()


@pytest.mark.parametrize("joint", [False, True])
def test_at_temperature_zero_a_step_is_the_mean_and_the_state_of_the_likeliest_component(joint):
    emission = Pen(3, joint=joint)
    raw = randn(9, emission.size(5), seed=5)
    x = emission.distribution(raw).sample(0)
    logits, mean, _, _, pen = parameters(joint, raw, 3)
    for row, k in enumerate(logits.argmax(-1).tolist()):
        assert_close(x[row, :2], mean[row, k], **exact)
        assert x[row, 2:].argmax() == pen[row, k if joint else 0].argmax()


@pytest.mark.parametrize("temperature", [0.5, 1])
def test_uniforms_choose_component_offset_and_state_by_inverse_distribution_functions(temperature):
    emission = Pen(2, joint=True)
    raw = randn(200, emission.size(5), seed=6)
    u = torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = emission.distribution(raw).sample(temperature, uniforms=u)
    logits, mean, log_std, rho, pen = parameters(True, raw, 2)
    k = (u[:, 0] > (logits / temperature).softmax(-1)[:, 0]).long()
    rows = torch.arange(200)
    std = math.sqrt(temperature) * log_std[rows, k].exp()
    # The first entry by its own inverse, the second by its inverse given the first.
    a = torch.distributions.Normal(mean[rows, k, 0], std[:, 0]).icdf(u[:, 1])
    r = rho[rows, k]
    centre = mean[rows, k, 1] + r * std[:, 1] / std[:, 0] * (a - mean[rows, k, 0])
    b = torch.distributions.Normal(centre, std[:, 1] * (1 - r * r).sqrt()).icdf(u[:, 2])
    assert_close(x[:, :2], torch.stack([a, b], -1), rtol=1e-5, atol=1e-5)
    heights = (pen[rows, k] / temperature).softmax(-1).cumsum(-1)
    assert torch.equal(x[:, 2:].argmax(-1), torch.searchsorted(heights, u[:, 3:].contiguous())[:, 0])


def test_a_correlation_stays_below_99_hundredths_so_that_no_density_is_a_line():
    raw = torch.zeros(Pen(1).size(5), dtype=torch.float64)
    for number, bound in ((1e6, 0.99), (-1e6, -0.99), (0.0, 0.0)):
        raw[5] = number
        assert Pen(1).distribution(raw).correlation.item() == bound
    x = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).double()
    raw[5] = 1e6
    highest = -math.log(2 * math.pi) - 0.5 * math.log(1 - 0.99**2) - math.log(3)
    assert Pen(1).distribution(raw).log_prob(x).item() == pytest.approx(highest, abs=1e-9)


def test_data_that_lie_on_a_line_have_a_finite_loss():
    torch.manual_seed(0)
    x = torch.zeros(6, 4, 5)
    x[..., :2], x[..., 2] = torch.randn(6, 4, 1), 1.0
    model = VRNN(VRNNCell(5, 8, 2, emission=Pen(2, position=True)))
    losses = [r.reconstruction for r in train(model, [x], updates=100, learning_rate=0.03, clip=10, progress=False)]
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0] - 1


@pytest.mark.parametrize(
    "state", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.5, 0.0], [2.0, -1.0, 0.0], [1.0, math.nan, 0.0]]
)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_without_one_state_is_refused(state, scaled):
    emission = Scaled(Pen(2), 0.0, [20.0, 20.0, 1.0, 1.0, 1.0]) if scaled else Pen(2)
    model = VRNN(VRNNCell(5, 4, 2, emission=emission))
    with pytest.raises(ValueError, match="last three numbers of a pen's step|x holds 1 numbers that are NaN"):
        model(torch.tensor([[[0.1, 0.2, *state]]]))
    model(torch.tensor([[[0.1, 0.2, 0.0, 1.0, 0.0]]]))


def test_a_pen_of_other_vectors_or_without_components_is_refused():
    with pytest.raises(ValueError, match="a pen's step has 5 numbers, but input_size is 3"):
        VRNNCell(3, emission=Pen(2))
    with pytest.raises(ValueError, match="components=0: one or more"):
        Pen(0)


def test_a_scaled_pen_scores_offsets_in_their_own_units():
    scaled = Scaled(Pen(2), 0.0, [20.0, 20.0, 1.0, 1.0, 1.0])
    raw, x = randn(5, scaled.size(5), seed=1), steps(5, seed=2)
    large = x * torch.tensor([20.0, 20.0, 1.0, 1.0, 1.0])
    assert_close(scaled.distribution(raw).log_prob(large), Pen(2).distribution(raw).log_prob(x) - 2 * math.log(20))
    drawn = scaled.distribution(raw).sample(0.5, torch.Generator().manual_seed(0))
    alike = Pen(2).distribution(raw).sample(0.5, torch.Generator().manual_seed(0))
    assert_close(drawn, alike * torch.tensor([20.0, 20.0, 1.0, 1.0, 1.0]))


# Where the pen is


def positions(x: torch.Tensor) -> torch.Tensor:
    """The sum of the offsets since the character began, after each step: one sequence, one step at a time."""
    after = torch.zeros(*x.shape[:2], 2, dtype=x.dtype)
    for b in range(x.shape[1]):
        where = [0.0, 0.0]
        for t in range(x.shape[0]):
            dx, dy, _, _, ends = x[t, b].tolist()
            where = [0.0, 0.0] if ends else [where[0] + dx, where[1] + dy]
            after[t, b] = torch.tensor(where)
    return after


MODELS = {
    "VRNN": lambda **options: VRNN(VRNNCell(5, 6, 3, embedding_size=4, **options)),
    "VRNN, two LSTM layers": lambda **options: VRNN(
        VRNNCell(5, 6, 3, embedding_size=4, rnn="lstm", num_layers=2, **options)
    ),
    "CharRNN": lambda **options: CharRNN(5, 6, embedding_size=4, **options),
    "CharRNN, two LSTM layers": lambda **options: CharRNN(5, 6, embedding_size=4, rnn="lstm", num_layers=2, **options),
}


def both(name: str, **options):
    return spread(MODELS[name](emission=Pen(2, position=True), **options))


@pytest.mark.parametrize("name", MODELS)
def test_the_position_is_the_sum_of_offsets_since_the_character_began(name):
    model, x = both(name), steps(12, 3, seed=4)
    assert x[..., 4].sum() > 3
    out = model(x)
    assert_close(out.hidden[..., -2:], positions(x))
    assert_close(out.state[1], positions(x)[-1])
    assert_close(model.hidden(out.state), out.hidden[-1])


@pytest.mark.parametrize("name", MODELS)
def test_the_position_goes_over_the_border_of_a_batch(name):
    model, x = both(name), steps(12, 3, seed=4)
    noise = randn(12, 3, 3, seed=1)
    give = (lambda part: {"noise": noise[part]}) if isinstance(model, VRNN) else (lambda part: {})
    whole = model(x, **give(slice(None)))
    first = model(x[:5], **give(slice(0, 5)))
    second = model(x[5:], first.state, **give(slice(5, 12)))
    assert_close(torch.cat([first.reconstruction, second.reconstruction]), whole.reconstruction)
    assert_close(torch.cat([first.hidden, second.hidden]), whole.hidden)
    assert (first.state[1].abs() > 1e-3).any()


@pytest.mark.parametrize("name", MODELS)
def test_advance_keeps_the_position(name):
    model, x = both(name), steps(12, 3, seed=4)
    state = model.zero_state(x[0])
    assert_close(model.hidden(state)[:, -2:], torch.zeros(3, 2).double())
    for t, where in enumerate(positions(x)):
        z = model.draw(state).z
        state = model.advance(x[t], z, state)
        assert_close(model.hidden(state)[:, -2:], where)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_generated_keeps_the_position(name):
    model = both(name)
    drawn = [step for _, step in zip(range(15), sample(model, streams=4, seed=0), strict=False)]
    x = torch.stack([step.x for step in drawn])
    assert x[..., 4].sum() > 0
    after = torch.stack([model.hidden(step.state)[:, -2:] for step in drawn])
    assert_close(after, positions(x))


@pytest.mark.parametrize("name", MODELS)
def test_nets_read_the_position_and_nothing_scores_it(name):
    model, x = both(name), steps(1, 3, seed=4)
    state = model.zero_state(x[0])
    moved = (state[0], state[1] + 1)
    assert model.emission_type.size(5) == Pen(2).size(5)
    here, there = (
        model.draw(s, noise=torch.zeros(3, 3).double(), uniforms=torch.full((3, 4), 0.5)) for s in (state, moved)
    )
    assert (here.emission.logits - there.emission.logits).abs().max() > 1e-3
    options = {"noise": torch.zeros(1, 3, 3).double()} if isinstance(model, VRNN) else {}
    losses = [model(x, s, **options).reconstruction for s in (state, moved)]
    assert (losses[0] - losses[1]).abs().min() > 1e-4
    without = MODELS[name](emission=Pen(2))
    assert without.hidden(without.zero_state(x[0])).shape == (3, 6)


def test_in_a_scaled_pen_the_position_is_in_standardised_units():
    emission = Scaled(Pen(2, position=True), 0.0, [20.0, 20.0, 1.0, 1.0, 1.0])
    model, x = spread(VRNN(VRNNCell(5, 6, 3, emission=emission))), steps(12, 3, seed=4)
    large = x * torch.tensor([20.0, 20.0, 1.0, 1.0, 1.0])
    assert_close(model(large).hidden[..., -2:], positions(x))


@pytest.mark.parametrize("name", MODELS)
def test_the_position_of_a_shorter_sequence_is_the_one_at_its_end(name):
    model, x = both(name), steps(7, 3, seed=4)
    lengths = torch.tensor([7, 0, 4])
    state = model(x, lengths=lengths).state
    after = positions(x)
    assert_close(state[1], torch.stack([after[6, 0], torch.zeros(2).double(), after[3, 2]]))
