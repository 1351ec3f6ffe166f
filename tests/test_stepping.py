"""Tests of vrnn_tutorial/stepping.py: the quick way makes the steps that the models' own parts make."""

import pytest
import torch
from helpers import char_rnn, exact, tight, vrnn
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.emissions import Categorical
from vrnn_tutorial.emissions.codes import draw_code
from vrnn_tutorial.generation import generate, generate_many
from vrnn_tutorial.stepping import stepper
from vrnn_tutorial.vrnn import VRNN

KINDS = [
    {},
    {"rnn": "lstm"},
    {"rnn": "rnn", "depth": 3},
    {"num_layers": 3, "dropout": 0.5},
    {"rnn": "lstm", "num_layers": 2, "depth": 2},
    {"characters": 2},
    {"batch_first": True, "weight_dropout": 0.5},
]
every_kind = pytest.mark.parametrize("options", KINDS, ids=str)
every_model = pytest.mark.parametrize("make", [vrnn, char_rnn])
TEMPERATURES = [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.0, 0.0)]


def plain(model, state, *temperatures, generator=None, shift=None):
    drawn = model.draw(state, *temperatures, generator=generator, shift=shift)
    return drawn, model.advance(drawn.x, drawn.z, state)


@pytest.fixture
def own_steps(monkeypatch):
    """How often a model's own draw was asked."""
    calls = []
    for kind in (VRNN, CharRNN):
        draw = kind.draw
        monkeypatch.setattr(kind, "draw", lambda *a, draw=draw, **k: calls.append(1) or draw(*a, **k))
    return calls


@pytest.mark.parametrize("temperatures", TEMPERATURES, ids=str)
@every_kind
@every_model
def test_a_quick_step_is_the_models_own(make, options, temperatures, own_steps):
    model = make(**options)
    ours = theirs = model.zero_state(torch.zeros(3, 1).double())
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    shift = torch.randn(3, 3).double() if make is vrnn else None
    with torch.no_grad():
        step = stepper(model)
        for _ in range(8):
            quick, ours = step(ours, *temperatures, generators[0], shift)
            assert not own_steps
            slow, theirs = plain(model, theirs, *temperatures, generator=generators[1], shift=shift)
            own_steps.clear()
            assert torch.equal(quick.x, slow.x)
            assert_close(quick.z, slow.z, **tight)
            assert_close(tuple(quick.emission)[:1], tuple(slow.emission)[:1], **tight)
            assert type(quick.emission) is type(slow.emission)
            assert_close(ours, theirs, **tight)
    assert_close(generators[0].get_state(), generators[1].get_state(), **exact)


@every_kind
@every_model
def test_a_seed_gives_the_text_that_the_models_own_steps_give(make, options, monkeypatch):
    model, texts = make(**options), []
    for way in (stepper, lambda model: lambda s, t, p, g, shift: plain(model, s, t, p, generator=g, shift=shift)):
        monkeypatch.setattr("vrnn_tutorial.generation.stepper", way)
        texts.append((list(generate(model, "Rome", length=40, seed=1)), generate_many(model, 3, length=21, seed=2)))
    assert texts[0] == texts[1]
    assert list(map(len, texts[0][1])) == [21] * 3


@every_model
def test_a_step_changes_neither_the_state_it_starts_from_nor_what_was_drawn(make):
    model = make()
    with torch.no_grad():
        step, state = (
            stepper(model),
            torch.utils._pytree.tree_map(lambda s: s + 0.5, model.zero_state(torch.zeros(2, 1))),
        )
        state = torch.utils._pytree.tree_map(torch.Tensor.double, state)
        before = torch.utils._pytree.tree_map(torch.clone, state)
        first, after = step(state, 1.0, 1.0, torch.Generator().manual_seed(1), None)
        logits, kept = first.emission.logits.clone(), after.clone()
        step(after, 1.0, 1.0, torch.Generator().manual_seed(1), None)
        again, _ = step(state, 1.0, 1.0, torch.Generator().manual_seed(1), None)
    assert_close(state, before, **exact)
    assert_close(after, kept, **exact)
    assert_close(first.emission.logits, logits, **exact)
    assert_close(again.emission.logits, logits, **exact)


class Mine(Categorical):
    pass


class OwnDraw(VRNN):
    def draw(self, *given, **options):
        return super().draw(*given, **options)


class OwnEmission(CharRNN):
    def emission(self, h):
        return super().emission(-h)


def hooked(model):
    model.get_submodule("cell.phi_z" if isinstance(model, VRNN) else "emission_net").register_forward_hook(
        lambda *_: None
    )
    return model


def exchanged(model):
    (model.cell if isinstance(model, VRNN) else model).phi_x.net[1] = nn.Tanh()
    return model


def drawing_itself(model):
    draw = model.draw
    model.draw = lambda *given, **options: draw(*given, **options)
    return model


PLAIN = {
    "vectors": lambda: vrnn(input_size=4, emission="gaussian"),
    "a chain": lambda: vrnn(emission="chained", characters=2),
    "an emission of one's own": lambda: vrnn(emission=Mine()),
    "without noise": lambda: vrnn(stochastic=False),
    "a standard prior": lambda: vrnn(prior="standard"),
    "a draw of one's own": lambda: OwnDraw(vrnn().cell).double().eval(),
    "an emission method": lambda: OwnEmission(hidden_size=6).double().eval(),
    **{
        f"{make.__name__}, {change.__name__}": lambda make=make, change=change: change(make())
        for make in (vrnn, char_rnn)
        for change in (hooked, exchanged, drawing_itself)
    },
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_all_else_is_asked_itself(make, own_steps):
    model = make()
    state = model.zero_state(torch.zeros(2, 1).double())
    with torch.no_grad():
        drawn, after = stepper(model)(state, 1.0, 1.0, torch.Generator().manual_seed(1), None)
        assert own_steps
        expected, state = plain(model, state, 1.0, 1.0, generator=torch.Generator().manual_seed(1))
    assert_close(drawn.x, expected.x, **exact)
    assert_close(after, state, **exact)


@every_kind
@every_model
def test_under_autocast_it_goes_on(make, options):
    model = make(**options).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        step, state = stepper(model), model.zero_state(torch.zeros(2, 1))
        for _ in range(3):
            drawn, state = step(state, 1.0, 1.0, None, None)
    assert drawn.x.shape == ((2,) if "characters" not in options else (2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1, 128), (64, 128), (3, 2, 5), (7,)], ids=str)
def test_a_code_is_drawn_as_torch_draws_it(shape, dtype):
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    logits = torch.randn(shape, dtype=dtype)
    for temperature in (1.0, 0.3, 5.0):
        p = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
        expected = torch.multinomial(p.view(-1, shape[-1]), 1, generator=theirs).view(shape[:-1])
        assert torch.equal(draw_code(logits, temperature, ours), expected)
