"""Tests of vrnn_tutorial/char_rnn.py: the control must be the VRNN without z, and no more."""

import itertools
import math

import pytest
import torch
from helpers import EMISSIONS, OTHER_AXES, RNNS, exact, some_x, tight
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import load_checkpoint, save_checkpoint
from vrnn_tutorial.emissions import CategoricalDistribution
from vrnn_tutorial.evaluation import evaluate
from vrnn_tutorial.generation import generate
from vrnn_tutorial.training import train
from vrnn_tutorial.vrnn import VRNN


def small_model(codes: int = 5, **options) -> CharRNN:
    torch.manual_seed(0)
    return CharRNN(codes, 4, embedding_size=6, **options).double()


def some_state(model: CharRNN, batch: int):
    h, c = torch.randn(2, model.num_layers, batch, model.hidden_size).double().unbind()
    return (torch.tanh(h), c) if model.rnn_type == "lstm" else torch.tanh(h)


def test_one_control_has_the_vrnns_width_and_one_its_number_of_parameters():
    same_width, same_count = (
        sum(parameter.numel() for parameter in CharRNN(**options).parameters())
        for options in ({}, {"hidden_size": 120})
    )
    assert same_width == 45_632
    assert abs(same_count - 95_104) < 0.01 * 95_104


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("rnn", RNNS)
def test_it_is_a_vrnn_whose_z_is_not_listened_to(rnn, emission, characters, layers):
    """The VRNN with the control's weights, and zeros where z would come in."""
    options = {"rnn": rnn, "emission": emission, "characters": characters, "num_layers": layers}
    control = small_model(**options)
    vrnn = VRNN(VRNNCell(5, 4, 3, embedding_size=6, **options)).double()
    cell = vrnn.cell
    with torch.no_grad():
        cell.phi_x.load_state_dict(control.phi_x.state_dict())
        cell.emission_net[0].weight.zero_()[:, :4] = control.emission_net[0].weight
        cell.emission_net[0].bias.copy_(control.emission_net[0].bias)
        for i, layer in enumerate(cell.rnn_cells):
            for name, parameter in layer.named_parameters():
                weight = getattr(control.layers, f"{name}_l{i}")
                parameter.zero_()[tuple(slice(size) for size in weight.shape)] = weight
    x, state = some_x(control, 5, 2), some_state(control, 2)
    layers_of = list(zip(*state, strict=True)) if rnn == "lstm" else list(state)
    reference = vrnn(x, layers_of[0] if layers == 1 else tuple(layers_of))
    ours = control(x, state)
    assert_close(ours.reconstruction, reference.reconstruction, **tight)
    assert_close(ours.hidden, reference.hidden, **tight)
    assert_close(tuple(ours.emission), tuple(reference.emission), **tight)
    assert_close(ours.kl, torch.zeros(5, 2).double(), **exact)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("rnn", RNNS)
def test_the_sequence_equals_stepping(rnn, emission, characters, layers):
    model = small_model(rnn=rnn, emission=emission, characters=characters, num_layers=layers, depth=2)
    x = some_x(model, 5, 2)
    out, state = model(x), model.zero_state(torch.ones(2, 1).double())
    for t in range(5):
        assert_close(out.reconstruction[t], -model.emission(model.hidden(state)).log_prob(x[t]), **tight)
        state = model.rnn(x[t], state)
        assert_close(out.hidden[t], model.hidden(state), **tight)
    assert_close(out.state, state, **tight)


@pytest.mark.parametrize("rnn", RNNS)
def test_the_first_step_is_scored_from_zeros(rnn):
    model = small_model(rnn=rnn)
    x = some_x(model, 3, 2)
    logits = model.emission_net(torch.zeros(4).double())
    assert_close(model(x).reconstruction[0], -logits.log_softmax(0)[x[0]], **tight)


@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}], ids=str)
def test_the_emission_is_blind_to_the_present(options):
    model = small_model(**options)
    features = []  # phi_x(x): codes carry no gradient
    model.phi_x.register_forward_hook(lambda module, arguments, output: features.append(output))
    out = model(some_x(model, 4, 2))
    rows = []
    for logits in out.emission.logits:
        weighted = (torch.randn_like(logits) * logits).sum()
        (gradient,) = torch.autograd.grad(weighted, features, retain_graph=True, materialize_grads=True)
        rows.append((gradient != 0).flatten(1).any(1))
    assert_close(torch.stack(rows), torch.ones(4, 4).tril(-1).bool())


@given(st.sampled_from(RNNS), st.sampled_from(EMISSIONS), *[st.integers(1, 3)] * 5)
def test_two_parts_with_carried_state_are_the_whole_for_any_sizes(rnn, emission, layers, depth, first, second, batch):
    model = small_model(rnn=rnn, emission=emission[0], characters=emission[1], num_layers=layers, depth=depth)
    x = some_x(model, first + second, batch)
    whole, start = model(x), model(x[:first])
    rest = model(x[first:], start.state)
    assert_close(torch.cat([start.reconstruction, rest.reconstruction]), whole.reconstruction, **tight)
    assert_close(torch.cat([start.hidden, rest.hidden]), whole.hidden, **tight)
    assert_close(rest.state, whole.state, **tight)


@pytest.mark.parametrize("steps, batch", [(3, 3), (5, 2)])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
def test_batch_first_is_the_same_transposed(emission, characters, steps, batch):
    options = {"rnn": "lstm", "num_layers": 2, "emission": emission, "characters": characters}
    model, batch_first = small_model(**options), small_model(batch_first=True, **options)
    x, state = some_x(model, steps, batch), some_state(model, batch)
    ours, reference = batch_first(x.transpose(0, 1), state), model(x, state)
    for name in ("reconstruction", "kl", "hidden"):
        assert_close(getattr(ours, name), getattr(reference, name).transpose(0, 1), **tight)
    assert_close(ours.emission[0], reference.emission[0].transpose(0, 1), **tight)
    assert_close(ours.state, reference.state, **tight)


def test_in_training_the_emission_sees_a_dropped_h_and_the_recurrence_the_whole_one():
    torch.manual_seed(0)
    model = CharRNN(4, 4, embedding_size=4, emission="gaussian", dropout=0.5).double().train()
    with torch.no_grad():
        model.emission_net[0].weight.zero_()[:4] = torch.eye(4)  # the mean is the h that it sees
        model.emission_net[0].bias.zero_()
    x, state = some_x(model, 5, 100), some_state(model, 100)
    out = model(x, state)
    before = torch.cat([state, out.hidden[:-1]])
    kept = out.emission.mean != 0
    assert_close(out.emission.mean, 2 * before * kept)
    assert abs(kept.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(kept.numel())
    model.eval()
    assert_close(model(x, state).hidden, out.hidden, **exact)
    assert_close(model(x, state).emission.mean, before, **tight)


def dropped_once(model: CharRNN) -> None:
    """A part of its weights from h to h is zero from now on, drawn as weight dropout draws it."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.layers.named_parameters():
            if name.startswith("weight_hh"):
                weight.copy_(torch.nn.functional.dropout(weight, 0.5))
    torch.manual_seed(1)


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 2, 0])], ids=["", "lengths"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("rnn", RNNS)
def test_in_training_a_part_of_the_weights_from_h_to_h_is_zero_in_all_steps(rnn, layers, lengths):
    options = {"rnn": rnn, "num_layers": layers}
    model, plain = small_model(weight_dropout=0.5, **options).train(), small_model(**options)
    x, state = some_x(model, 5, 3), some_state(model, 3)
    assert_close(model.eval()(x, state).hidden, plain(x, state).hidden, **exact)
    dropped_once(plain)
    ours, theirs = model.train()(x, state, lengths=lengths), plain(x, state, lengths=lengths)
    assert_close((ours.hidden, ours.reconstruction, ours.state), (theirs.hidden, theirs.reconstruction, theirs.state))
    ours.reconstruction.sum().backward(), theirs.reconstruction.sum().backward()
    for (name, weight), dropped in zip(model.layers.named_parameters(), plain.layers.parameters(), strict=True):
        expected = 2 * dropped.grad * (dropped != 0) if name.startswith("weight_hh") else dropped.grad
        assert_close(weight.grad, expected, msg=name)


def test_a_locked_mask_hides_the_same_of_a_sequence_in_all_steps():
    """From the net above, and from the layer above, which puts out what it sees of the h below it."""
    torch.manual_seed(0)
    options = {"rnn": "rnn", "num_layers": 2, "emission": "gaussian", "dropout": 0.5, "locked_dropout": True}
    model = CharRNN(4, 4, embedding_size=4, **options).double().train()
    with torch.no_grad():
        for name, weight in model.layers.named_parameters():
            if name.endswith("l1"):
                weight.copy_(torch.eye(4)) if name == "weight_ih_l1" else weight.zero_()
        model.emission_net[0].weight.zero_()[:4] = torch.eye(4)
        model.emission_net[0].bias.zero_()
    out = model(some_x(model, 6, 200), some_state(model, 200))
    heard, seen = out.hidden != 0, out.emission.mean[1:] != 0
    assert (heard == heard[0]).all() and (seen == seen[0]).all()
    assert_close(out.emission.mean[1:], 2 * out.hidden[:-1] * seen)
    for share, expected in ((heard[0], 0.5), (seen[0], 0.25), (heard[0, 1:] == heard[0, :-1], 0.5)):
        assert abs(share.double().mean() - expected) < 4 * 0.5 / math.sqrt(share.numel())


def test_in_training_upper_layers_see_a_dropped_h():
    model = small_model(num_layers=2, dropout=0.5)
    x = some_x(model, 5, 2)
    whole, again = model.eval()(x).hidden, model.eval()(x).hidden
    assert_close(whole, again, **exact)
    assert ((model.train()(x).hidden - whole).abs() > 1e-3).any()


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"hidden_size": 0}, "at least 1 and 0 <= dropout < 1: .*'hidden_size': 0"),
        ({"depth": 0}, "at least 1 and 0 <= dropout < 1: .*'depth': 0"),
        ({"dropout": 1.0}, "at least 1 and 0 <= dropout < 1: .*'dropout': 1.0"),
        ({"weight_dropout": 1.0}, "at least 1 and 0 <= dropout < 1: .*'weight_dropout': 1.0"),
        ({"rnn": "GRU"}, "rnn must be one of gru, lstm, rnn, not 'GRU'"),
        (
            {"emission": "poisson"},
            "emission must be one of categorical, chained, bernoulli, gaussian, or an instance, not 'poisson'",
        ),
        ({"emission": "gaussian", "characters": 2}, "characters=2: .* more than one only for codes"),
    ],
)
def test_sizes_and_kinds_that_make_no_model_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        CharRNN(**options)


@pytest.mark.parametrize(
    "x, sentence",
    [
        (torch.full((4, 2), 5), "x holds codes from 5 to 5; this model knows 0 to 4"),
        (torch.zeros(4, 2), "x must hold int64 codes, not torch.float32"),
        (torch.zeros(4, dtype=torch.int64), r"x must be \(T, B\), none of them 0, but its shape is \(4,\)"),
        (torch.zeros(0, 2, dtype=torch.int64), r"x must be .* but its shape is \(0, 2\)"),
    ],
)
def test_an_x_of_the_wrong_type_or_shape_is_refused(x, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_model()(x)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options, shape, axes", OTHER_AXES, ids=str)
def test_an_x_of_other_axes_is_refused_not_broadcast(options, shape, axes, batch_first):
    """Even where every size would fit."""
    model = small_model(batch_first=batch_first, **options)
    x = torch.zeros(shape, dtype=torch.float64 if "emission" in options else torch.int64)
    axes = axes.replace("T, B", "B, T") if batch_first else axes
    with pytest.raises(ValueError) as error:
        model(x)
    assert str(error.value) == f"x must be ({axes}), none of them 0, but its shape is {shape}."


# What the recurrence reads may be another x than the one scored


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_recurrence_reads_what_it_is_given_and_x_is_scored(batch_first):
    model = small_model(batch_first=batch_first)
    x, read = some_x(model, 4, 3), some_x(model, 4, 3)
    out, plain = (model(y, rnn_input=r) for y, r in ((x, read), (read, None)))
    assert_close(out.hidden, plain.hidden, **exact)
    assert_close(out.emission.logits, plain.emission.logits, **exact)
    assert_close(out.reconstruction, -out.emission.log_prob(x), **exact)
    assert (out.reconstruction != plain.reconstruction).any()


# The chain


def chain(codes: int = 5, characters: int = 2, **options) -> CharRNN:
    """With weights large enough for each link to matter."""
    torch.manual_seed(0)
    model = CharRNN(codes, 4, embedding_size=6, emission="chained", characters=characters, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


@pytest.mark.parametrize("characters", [2, 3])
def test_the_chains_probabilities_of_all_chunks_sum_to_one(characters):
    model, h = chain(3, characters), torch.randn(2, 4).double()
    chunks = torch.tensor(list(itertools.product(range(3), repeat=characters)))[:, None].expand(-1, 2, -1)
    log_p = model.emission(h.expand(len(chunks), -1, -1)).log_prob(chunks)
    assert log_p.shape == (3**characters, 2)
    assert_close(log_p.exp().sum(0), torch.ones(2).double(), **tight)
    alone = model.emission(h.expand(len(chunks), -1, -1)).logits
    independent = CategoricalDistribution(alone, characters).log_prob(chunks)
    assert (log_p - independent).abs().max() > 0.5


def test_each_character_hears_those_before_it_and_no_others():
    model, h = chain(5, 4), torch.randn(4).double()
    embedded = []
    embedding = model.emission_type.embedding
    embedding.register_forward_hook(lambda *call: embedded.append(call[2]) or call[2].requires_grad_())
    x = torch.tensor([3, 1, 0, 2])
    log_p = model.emission(h).given(x).logits.log_softmax(-1)[torch.arange(4), x]
    for i in range(4):
        (gradient,) = torch.autograd.grad(log_p[i], embedded[-1], retain_graph=True, allow_unused=True)
        heard = torch.zeros(4) if gradient is None else gradient.abs().sum(-1)
        assert (heard[:i] > 0).all() and (heard[i:] == 0).all()


def test_with_links_of_zero_it_is_the_char_rnn():
    model = chain(5, 3)
    with torch.no_grad():
        for link in model.emission_type.links:
            link[-1].weight.zero_(), link[-1].bias.zero_()
    plain = CharRNN(**{**model.configuration, "emission": "categorical"}).double()
    plain.load_state_dict({n: p for n, p in model.state_dict().items() if not n.startswith("emission_type")})
    x = some_x(model, 6, 2)
    assert_close(model(x).reconstruction, plain(x).reconstruction, **tight)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_chain_draws_chunks_as_often_as_it_gives_them(temperature):
    model, h = chain(3), torch.randn(4).double()
    emission = model.emission(h.expand(60_000, -1))
    drawn = emission.sample(temperature, torch.Generator().manual_seed(0))
    assert drawn.shape == (60_000, 2)
    first = (model.emission(h).logits[0] / temperature).softmax(-1)
    after = model.emission(h.expand(3, -1)).given(torch.tensor([[0, 0], [1, 0], [2, 0]]))
    second = (after.logits[:, 1] / temperature).softmax(-1)
    p = (first[:, None] * second).flatten().detach()
    frequency = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9) / 60_000
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / 60_000).sqrt() + 1e-9).all()
    greedy = emission.sample(0.0)
    assert (
        (greedy == greedy[0]).all() and greedy[0, 0] == first.argmax() and greedy[0, 1] == second[greedy[0, 0]].argmax()
    )


def test_the_chain_learns_what_independent_softmaxes_cannot():
    """Pairs of equal characters: log 4 nats per pair, and twice that where the two do not hear each other."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(4, (8, 32, 1), generator=generator).expand(-1, -1, 2) for _ in range(20)]
    losses = {}
    for emission in ("categorical", "chained"):
        torch.manual_seed(0)
        model = CharRNN(4, 6, embedding_size=4, emission=emission, characters=2)
        records = list(train(model, batches, updates=150, learning_rate=0.03, progress=False))
        losses[emission] = sum(record.reconstruction for record in records[-10:]) / 10
    assert losses["chained"] == pytest.approx(math.log(4), abs=0.1)
    assert losses["categorical"] == pytest.approx(2 * math.log(4), abs=0.1)


def test_a_chain_is_saved_evaluated_and_generates(tmp_path):
    torch.manual_seed(0)
    model = CharRNN(hidden_size=4, embedding_size=3, emission="chained", characters=2).eval()
    save_checkpoint(tmp_path / "chain.safetensors", model)
    loaded = load_checkpoint(tmp_path / "chain.safetensors")
    assert loaded.configuration == model.configuration
    codes = torch.randint(128, (41,))
    x = codes[:40].view(20, 1, 2)
    assert evaluate(loaded, codes).loss == pytest.approx(model(x).reconstruction.sum().item() / 40, rel=1e-6)
    text = "".join(generate(loaded, prime="ab", length=9, seed=0))
    assert len(text) == 9 and text == "".join(generate(model, prime="ab", length=9, seed=0))


def test_a_chain_of_one_is_refused():
    with pytest.raises(ValueError, match="two characters per step or more"):
        CharRNN(emission="chained")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("part", ["phi_x.net", "emission_net"])
def test_each_net_has_as_many_layers_as_the_depth_says(part, depth):
    layers = CharRNN(depth=depth).get_submodule(part).modules()
    assert sum(isinstance(layer, torch.nn.Linear) for layer in layers) == depth
