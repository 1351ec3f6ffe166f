"""Tests of vrnn_tutorial/pen.py: characters invented and ended, where the pen goes next, what surprises a model."""

import itertools
import math

import pytest
import scipy.stats
import torch
from helpers import spread
from torch.testing import assert_close

from vrnn_tutorial import VRNN, CharRNN, Pen, Scaled, VRNNCell, evaluate, pen
from vrnn_tutorial.batches import dequantised
from vrnn_tutorial.drawing import Gallery, to_steps, to_strokes
from vrnn_tutorial.generation import sample
from vrnn_tutorial.pen import WIDTH, draw, next_density, of_strokes, quality, surprise

SCALE = [20.0, 20.0, 1.0, 1.0, 1.0]
#: Two strokes, one of them a dot, that end a character at (70, 40).
BEGUN = to_steps([[(40, 50), (60, 30), (65, 45)], [(70, 40)]])


def calm(model):
    """With weights that differ from those it was made with, and yet give deviations of some units."""
    spread(model).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.6)
    return model


def rnn(batch_first: bool = False, components: int = 2, **options) -> CharRNN:
    emission = Scaled(Pen(components, **options), 0, SCALE)
    return calm(CharRNN(5, 6, embedding_size=4, emission=emission, batch_first=batch_first))


def vrnn(batch_first: bool = False, **options) -> VRNN:
    emission = Scaled(Pen(2, **options), 0, SCALE)
    return calm(VRNN(VRNNCell(5, 6, embedding_size=4, latent_size=3, emission=emission), batch_first))


def that_rarely_ends(model):
    """The model, whose pen's last state has a logit less by 3."""
    net = model.cell.emission_net if isinstance(model, VRNN) else model.emission_net
    with torch.no_grad():
        net[-1].bias[-1] -= 3
    return model


MODELS = {"rnn": rnn, "vrnn": vrnn, "position": lambda b=False: vrnn(b, joint=True, position=True)}


@pytest.mark.parametrize("name", MODELS)
def test_a_character_ends_with_its_first_end_or_is_cut(name):
    drawn = draw(that_rarely_ends(MODELS[name]()), 40, seed=0, most=12)
    assert len(drawn) == 40 and {len(steps) for steps in drawn} >= {2, 12}
    for steps in drawn:
        assert steps.shape == (len(steps), 5) and not steps[:-1, 4].any()
        assert len(steps) == 12 or steps[-1, 4] == 1
    assert 0 < sum(steps[-1, 4] == 0 for steps in drawn) < 40


def test_no_step_is_drawn_once_all_have_ended(monkeypatch):
    """The slider waits for the longest of forty, and not for a step at which all of them end at once."""
    taken = []

    def counted(*args, **options):
        for step in sample(*args, **options):
            taken.append(step)
            yield step

    monkeypatch.setattr(pen, "sample", counted)
    drawn = draw(rnn(), 40, seed=0, most=200)
    assert all(steps[-1, 4] == 1 for steps in drawn) and len(taken) == max(map(len, drawn)) < 200


@pytest.mark.parametrize("name", MODELS)
def test_what_is_begun_is_held_and_goes_on_with_a_stroke_of_its_own(name):
    model = MODELS[name]()
    opened = BEGUN.clone()
    opened[-1, 2:] = torch.tensor([0.0, 1.0, 0.0])
    drawn = draw(model, 8, BEGUN, seed=1)
    assert all(torch.equal(steps[:4], opened) and len(steps) > 4 for steps in drawn)
    assert BEGUN[-1, 4] == 1  # as it was
    assert len({tuple(steps[4].tolist()) for steps in drawn}) == 8
    for ours, same in zip(drawn, draw(model, 8, opened, seed=1), strict=True):
        assert torch.equal(ours, same)
    # What it has read decides how it goes on.
    assert not torch.equal(drawn[0][4], draw(model, 8, BEGUN[2:], seed=1)[0][2])


def test_a_stroke_that_goes_on_is_gone_on_with():
    drawn = draw(rnn(), 3, BEGUN[:2], seed=0)
    assert all(torch.equal(steps[:2], BEGUN[:2]) for steps in drawn)


def test_characters_are_fixed_by_the_seed_and_certain_at_temperature_zero():
    model = vrnn()

    def drawn(seed, **options):
        return [steps.tolist() for steps in draw(model, 3, seed=seed, **options)]

    assert drawn(0) == drawn(0) != drawn(1)
    certain = {"temperature": 0.0, "prior_temperature": 0.0, "most": 5}
    assert drawn(0, **certain) == drawn(1, **certain)
    assert drawn(0, temperature=0.0, most=5) != drawn(1, temperature=0.0, most=5)  # z is not
    moved = drawn(0, **certain, shift=torch.tensor([2.0, 0.0, 0.0]))
    assert moved != drawn(0, **certain)
    with pytest.raises(ValueError, match="at least 1"):
        draw(model, 0)


def test_a_shift_may_move_the_next_point_alone():
    model, shift = that_rarely_ends(vrnn()), torch.tensor([2.0, 0.0, 0.0])
    certain = {"temperature": 0.0, "prior_temperature": 0.0, "most": 7, "seed": 0}

    def drawn(**options) -> torch.Tensor:
        return draw(model, 1, BEGUN, **certain, **options)[0]

    plain, once, always = drawn(), drawn(shift=shift, shifted=1), drawn(shift=shift)
    assert not torch.equal(once[4], plain[4]) and torch.equal(once[4], always[4])
    assert not torch.equal(once[5], always[5])
    # From there on it is what the model does by itself.
    state = model.read(plain[:4, None], model.zero_state(torch.zeros(1, 1)), None, 0.0)
    moved = model.draw(state, 0.0, 0.0, shift=shift)
    again = next(sample(model, state=model.advance(moved.x, moved.z, state), temperature=0.0, prior_temperature=0.0))
    assert torch.equal(once[4], moved.x[0]) and torch.equal(once[5], again.x[0])
    assert torch.equal(drawn(shift=shift, shifted=0), plain)


def test_each_character_may_have_a_shift_of_its_own():
    model, shifts = that_rarely_ends(vrnn()), torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, -1.0], [-2.0, 1.0, 0.0]])
    certain = {"begun": BEGUN, "temperature": 0.0, "prior_temperature": 0.0, "most": 9}
    together = draw(model, 3, shift=shifts, **certain)
    for steps, shift in zip(together, shifts, strict=True):
        assert_close(steps, draw(model, 1, shift=shift, **certain)[0])


@pytest.mark.parametrize("begun", [None, BEGUN])
def test_the_density_of_one_gaussian_is_scipys(begun):
    model = rnn(components=1)
    found = next_density(model, begun, cells=20)
    x = torch.zeros(0, 5) if begun is None else begun.clone()
    if begun is not None:
        x[-1, 2:] = torch.tensor([0.0, 1.0, 0.0])
    # The raw numbers after what was begun are those of the emission of a further step.
    after = torch.cat([x, torch.tensor([[0.0, 0, 1, 0, 0]])])
    with torch.no_grad():
        raw = model(after[:, None]).emission.standard
    mean, std = 20 * raw.mean[-1, 0, 0].double(), 20 * raw.log_std[-1, 0, 0].double().exp()
    rho = raw.correlation[-1, 0, 0].item()
    mean = mean + x[:, :2].sum(0)
    covariance = [[std[0] ** 2, rho * std[0] * std[1]], [rho * std[0] * std[1], std[1] ** 2]]
    normal = scipy.stats.multivariate_normal(mean, torch.tensor(covariance))
    for row, column in [(0, 0), (3, 12), (12, 3), (19, 19)]:
        place = [(column + 0.5) * 109 / 20, (row + 0.5) * 109 / 20]
        assert found[row, column].item() == pytest.approx(normal.pdf(place), rel=1e-3)


@pytest.mark.parametrize("name", ["rnn", "vrnn"])
def test_the_density_is_that_of_the_steps_that_are_drawn(name):
    """With z from the posterior for what was begun, and from the prior for what comes."""
    model = MODELS[name]()
    density = next_density(model, BEGUN, cells=36, draws=1000).double() * (109 / 36) ** 2
    points = torch.stack([steps[:5, :2].sum(0) for steps in draw(model, 5000, BEGUN, seed=1, most=5)])
    rows, columns = (points[:, (1, 0)] * 36 / 109).floor().long().T
    shares = []
    for top, left in itertools.product((0, 12, 24), repeat=2):
        shares.append(density[top : top + 12, left : left + 12].sum().item())
        there = (rows >= top) & (rows < top + 12) & (columns >= left) & (columns < left + 12)
        assert shares[-1] == pytest.approx(there.double().mean().item(), abs=0.025)
    assert max(shares) > 0.1 and max(shares) - min(shares) > 0.08


def test_finer_cells_have_the_same_sum():
    coarse, fine = (next_density(rnn(), BEGUN, cells=cells).sum().item() * (109 / cells) ** 2 for cells in (55, 109))
    assert coarse == pytest.approx(fine, rel=1e-3) and 0.3 < fine < 1


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_surprise_is_what_the_steps_cost_with_noise_on_their_offsets(batch_first):
    model = rnn(batch_first)
    found = surprise(model, BEGUN, draws=50, seed=3)
    assert found.shape == (4,)
    copies = dequantised([BEGUN] * 50, WIDTH, seed=3)
    assert found.mean().item() == pytest.approx(evaluate(model, copies).loss, rel=1e-5)
    with_z = surprise(vrnn(batch_first), BEGUN, draws=500)
    expected = evaluate(vrnn(), dequantised([BEGUN] * 500, WIDTH), draws=1, seed=1).loss
    assert with_z.mean().item() == pytest.approx(expected, rel=0.02)


def test_the_strokes_share_the_steps_between_them():
    assert of_strokes(torch.tensor([1.0, 2.0, 4.0, 8.0]), BEGUN).tolist() == [7, 8]
    assert of_strokes(torch.tensor([1.0, 2.0]), BEGUN[:2]).tolist() == [3]  # a stroke that has not ended


def test_quality_counts_ends_places_and_copies():
    real = [[(10, 10), (90, 10)], [(10, 50), (90, 50)]]
    near = [[(10, 16.9), (90, 16.9)], [(10, 56.9), (90, 56.9)]]
    far = [[(10, 17.1), (90, 17.1)], [(10, 57.1), (90, 57.1)]]
    outside = [[(10, 10), (110, 10)]]
    invented = [to_steps(strokes) for strokes in (near, far, outside, far)]
    invented[3][-1, 2:] = torch.tensor([0.0, 1.0, 0.0])
    assert quality(invented, Gallery([real])) == (0.75, 0.75, 0.25)
    assert math.isinf(Gallery([real]).nearest(to_strokes(invented[2])).distance)
