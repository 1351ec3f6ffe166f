"""Tests of vrnn_tutorial/cell.py: one step, held against formulas written out here with plain weights."""

import pytest
import torch
import torch.nn.functional as F
from helpers import EMISSIONS, RNNS, exact, some_state, some_x, tight
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.emissions import GaussianDistribution as Gaussian
from vrnn_tutorial.inputs import net


def small_cell(seed: int = 0, **options) -> VRNNCell:
    torch.manual_seed(seed)
    return VRNNCell(5, 4, 3, embedding_size=6, **options).double()


def top_h(cell: VRNNCell, state):
    top = state if cell.num_layers == 1 else state[-1]
    return top[0] if cell.rnn_type == "lstm" else top


# The model


def test_the_default_cell_has_the_source_articles_number_of_parameters():
    assert sum(parameter.numel() for parameter in VRNNCell().parameters()) == 95_104


def test_the_default_cell_is_the_source_articles():
    """Every net written out, from the table in the article: which weights see what, and in which order."""
    torch.manual_seed(0)
    cell = VRNNCell().double()
    x, h, noise = torch.randint(128, (7,)), torch.randn(7, 64).double(), torch.randn(7, 64).double()
    phi_x = F.elu(cell.phi_x.net[0][0](cell.phi_x.embedding.weight[x]))
    mean, log_std = cell.posterior_net[0](torch.cat([phi_x, h], 1)).split(64, 1)
    z = mean + log_std.exp() * noise
    phi_z = F.elu(cell.phi_z[0][0](z))
    logits = cell.emission_net[0](torch.cat([h, phi_z], 1))
    prior_mean, prior_log_std = cell.prior_net[0](h).split(64, 1)
    gru = nn.GRUCell(128, 64).double()
    gru.load_state_dict(cell.rnn_cells[0].state_dict())
    step = cell(x, h, noise)
    assert_close(tuple(step.posterior), (mean, log_std), **tight)
    assert_close(tuple(step.prior), (prior_mean, prior_log_std), **tight)
    assert_close(step.z, z, **tight)
    assert_close(step.emission.logits, logits, **tight)
    assert_close(step.state, gru(torch.cat([phi_x, phi_z], 1), h), **tight)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_net_is_linear_layers_with_elu_between(depth, inputs, width, outputs):
    torch.manual_seed(0)
    layers = net(inputs, width, outputs, depth)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [width] * (depth - 1) + [outputs]
    x = expected = torch.randn(9, inputs)
    for layer in linear[:-1]:
        expected = F.elu(layer(expected))
    assert_close(layers(x), linear[-1](expected))


@pytest.mark.parametrize("emission, characters", EMISSIONS)
def test_input_features_join_the_embeddings_of_the_characters_in_order(emission, characters):
    cell = small_cell(emission=emission, characters=characters, depth=2)
    x, phi = some_x(cell, 7), cell.phi_x
    if emission == "categorical":
        joined = torch.cat([phi.embedding.weight[column] for column in x.view(7, characters).T], 1)
    else:
        joined = x @ phi.embedding.weight.T + phi.embedding.bias
    first, second = phi.net[0][0], phi.net[0][2]
    assert_close(phi(x), F.elu(second(F.elu(first(joined)))), **tight)


# One step


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("rnn", RNNS)
def test_a_step_is_made_of_the_four_nets_each_given_the_old_h(rnn, emission, characters, layers):
    cell = small_cell(rnn=rnn, num_layers=layers, emission=emission, characters=characters, depth=layers)
    x, state, noise = some_x(cell, 2), some_state(cell, 2), torch.randn(2, 3).double()
    step, h = cell(x, state, noise), top_h(cell, state)
    assert_close(tuple(step.prior), tuple(cell.prior(h)), **tight)
    assert_close(tuple(step.posterior), tuple(cell.posterior(x, h)), **tight)
    assert_close(step.z, step.posterior.mean + step.posterior.log_std.exp() * noise, **tight)
    assert_close(tuple(step.emission), tuple(cell.emission(step.z, h)), **tight)
    assert_close(step.state, cell.rnn(x, step.z, state), **tight)
    assert_close(step.hidden, top_h(cell, step.state), **exact)
    assert_close(cell.hidden(state), h, **exact)


def recurrence(kind: str, cell, inputs, before):
    """The textbook's equations; PyTorch's order of gates."""
    h = before[0] if kind == "lstm" else before
    from_x = (inputs @ cell.weight_ih.T + cell.bias_ih).split(4, 1)
    from_h = (h @ cell.weight_hh.T + cell.bias_hh).split(4, 1)
    if kind == "rnn":
        return torch.tanh(from_x[0] + from_h[0])
    if kind == "gru":
        r, u = torch.sigmoid(from_x[0] + from_h[0]), torch.sigmoid(from_x[1] + from_h[1])
        return (1 - u) * torch.tanh(from_x[2] + r * from_h[2]) + u * h
    i, f, g, o = (a + b for a, b in zip(from_x, from_h, strict=True))
    c = torch.sigmoid(f) * before[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("rnn", RNNS)
def test_the_recurrence_reads_x_and_z_and_each_layer_the_new_h_of_the_one_below(rnn, layers):
    cell = small_cell(rnn=rnn, num_layers=layers)
    x, z, state = some_x(cell, 2), torch.randn(2, 3).double(), some_state(cell, 2)
    inputs, states = torch.cat([cell.phi_x(x), cell.phi_z(z)], 1), []
    for layer, before in zip(cell.rnn_cells, [state] if layers == 1 else state, strict=True):
        states.append(recurrence(rnn, layer, inputs, before))
        inputs = states[-1][0] if rnn == "lstm" else states[-1]
    assert_close(cell.rnn(x, z, state), states[0] if layers == 1 else tuple(states), **tight)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("rnn", RNNS)
def test_no_state_is_a_state_of_zeros(rnn, layers):
    cell = small_cell(rnn=rnn, num_layers=layers)
    layer = (torch.zeros(2, 4).double(),) * 2 if rnn == "lstm" else torch.zeros(2, 4).double()
    zeros = layer if layers == 1 else (layer,) * layers
    assert_close(cell.zero_state(torch.ones(2, 1).double()), zeros, **exact)
    x, noise = some_x(cell, 2), torch.randn(2, 3).double()
    assert_close(cell(x, None, noise).state, cell(x, zeros, noise).state, **exact)
    assert_close(tuple(cell(x, None, noise).prior), tuple(cell(x, zeros, noise).prior), **exact)


def test_noise_is_drawn_from_the_generator():
    cell, x = small_cell(), torch.tensor([1, 2])
    drawn = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    seeded = [cell(x, generator=torch.Generator().manual_seed(seed)).z for seed in (5, 5, 6)]
    assert_close(seeded[0], cell(x, noise=drawn).z, **exact)
    assert_close(seeded[0], seeded[1], **exact)
    assert (seeded[0] != seeded[2]).all()


# What sees what, by differentiating


@pytest.mark.parametrize("emission, characters", EMISSIONS)
@pytest.mark.parametrize("rnn", RNNS)
def test_the_emission_sees_x_through_z_alone_and_the_prior_not_at_all(rnn, emission, characters):
    cell = small_cell(rnn=rnn, emission=emission, characters=characters)
    seen = []
    cell.phi_x.register_forward_hook(lambda module, arguments, features: seen.append(features))
    state = some_state(cell, 1)
    step, h = cell(some_x(cell, 1), state, torch.randn(1, 3).double()), top_h(cell, state)
    (features,) = seen

    def jacobian(of, wrt):
        rows = [
            torch.autograd.grad(part, wrt, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for part in of.flatten()
        ]
        return torch.stack(rows).view(of.numel(), -1)

    assert (jacobian(torch.cat(step.posterior), features) != 0).any(1).all()
    assert not jacobian(torch.cat(step.prior), features).any()
    emitted = torch.cat([part.flatten() for part in step.emission if isinstance(part, torch.Tensor)])
    through_z = jacobian(emitted, step.z) @ jacobian(step.z, features)
    assert (through_z != 0).any(1).all()
    assert_close(jacobian(emitted, features), through_z, **tight)
    # With z held, x does not matter.
    held = cell.emission(step.z.detach(), h)
    held = torch.cat([part.flatten() for part in held if isinstance(part, torch.Tensor)])
    assert_close(held, emitted, **tight)
    assert not jacobian(held, features).any()
    assert (jacobian(step.hidden, features) != 0).any(1).all()
    assert (jacobian(step.hidden, step.z) != 0).any(1).all()


# Dropout


def transparent_cell(**options) -> VRNNCell:
    """Prior, posterior and emission put out the h that they see as their mean."""
    torch.manual_seed(0)
    cell = VRNNCell(4, 4, 4, embedding_size=4, emission="gaussian", dropout=0.5, **options).double()
    with torch.no_grad():
        for linear, h_begins in ((cell.prior_net[0], 0), (cell.posterior_net[0], 4), (cell.emission_net[0], 0)):
            linear.weight.zero_(), linear.bias.zero_()
            linear.weight[:4, h_begins : h_begins + 4] = torch.eye(4)
    return cell


@pytest.mark.parametrize("rnn", RNNS)
def test_in_training_a_step_draws_the_weights_from_h_to_h_that_are_zero(rnn):
    cells = []
    for weight_dropout in (0.5, 0.0):
        torch.manual_seed(0)
        cells.append(VRNNCell(5, 4, 3, rnn=rnn, num_layers=2, weight_dropout=weight_dropout).double())
    x, state, noise = torch.tensor([1, 2]), some_state(cells[0], 2), torch.randn(2, 3).double()
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in cells[1].rnn_cells:
            layer.weight_hh.copy_(torch.nn.functional.dropout(layer.weight_hh, 0.5))
    torch.manual_seed(1)
    assert_close(cells[0](x, state, noise).state, cells[1](x, state, noise).state, **tight)


def assert_dropped(seen, whole):
    """Each entry is either 0 or twice what it was (dropout 0.5), about half of them each."""
    kept = seen != 0
    assert_close(seen, 2 * whole * kept)
    assert 0.4 < kept.double().mean() < 0.6


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("rnn", RNNS)
def test_in_training_the_three_nets_see_the_same_dropped_h_and_the_recurrence_the_whole_one(rnn, layers):
    cell = transparent_cell(rnn=rnn, num_layers=layers).train()
    x, state = torch.randn(500, 4).double(), some_state(cell, 500)
    step = cell(x, state)
    assert_dropped(step.prior.mean, top_h(cell, state))
    assert_close(step.posterior.mean, step.prior.mean, **exact)
    assert_close(step.emission.mean, step.prior.mean, **exact)
    bottom, before = (step.state, state) if layers == 1 else (step.state[0], state[0])
    inputs = torch.cat([cell.phi_x(x), cell.phi_z(step.z)], 1)
    assert_close(bottom, recurrence(rnn, cell.rnn_cells[0], inputs, before), **tight)


@pytest.mark.parametrize("rnn", RNNS)
def test_in_evaluation_nothing_is_dropped(rnn):
    cell = transparent_cell(rnn=rnn, num_layers=3).eval()
    x, state, noise = torch.randn(50, 4).double(), some_state(cell, 50), torch.randn(50, 4).double()
    step, again = cell(x, state, noise), cell(x, state, noise)
    for seen in (step.prior.mean, step.posterior.mean, step.emission.mean):
        assert_close(seen, top_h(cell, state), **exact)
    assert_close(step.state, again.state, **exact)


def test_the_layer_above_sees_a_dropped_h():
    cell = transparent_cell(rnn="rnn", num_layers=2).train()
    upper = cell.rnn_cells[1]
    with torch.no_grad():
        for parameter in upper.parameters():
            parameter.zero_()
        upper.weight_ih.copy_(torch.eye(4))
    lower_h, upper_h = cell(torch.randn(500, 4).double(), some_state(cell, 500)).state
    assert_dropped(torch.atanh(upper_h), lower_h)


# What is refused


@pytest.mark.parametrize(
    "options",
    [
        {"input_size": 0},
        {"hidden_size": 0},
        {"latent_size": 0},
        {"embedding_size": -1},
        {"num_layers": 0},
        {"depth": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": float("nan")},
    ],
    ids=str,
)
def test_sizes_that_make_no_model_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"at least 1 and 0 <= dropout < 1: .*'{name}': {value}"):
        VRNNCell(**options)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"rnn": "GRU"}, "rnn must be one of gru, lstm, rnn, not 'GRU'"),
        (
            {"emission": "poisson"},
            "emission must be one of categorical, chained, bernoulli, gaussian, or an instance, not 'poisson'",
        ),
        ({"characters": 0}, "characters=0: one or more"),
        ({"emission": "gaussian", "characters": 2}, "characters=2: .* more than one only for codes"),
    ],
)
def test_unknown_kinds_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        VRNNCell(**options)


@pytest.mark.parametrize(
    "options, x, sentence",
    [
        ({}, torch.tensor([1, 5]), "x holds codes from 1 to 5; this model knows 0 to 4"),
        ({}, torch.tensor([-1, 4]), "x holds codes from -1 to 4; this model knows 0 to 4"),
        ({}, torch.tensor([1.0, 2.0]), "x must hold int64 codes, not torch.float32"),
        ({}, torch.tensor([1, 2], dtype=torch.int32), "x must hold int64 codes, not torch.int32"),
        ({"characters": 3}, torch.tensor([[1, 2]]), r"must end in an axis of 3 characters; its shape is \(1, 2\)"),
        ({"emission": "gaussian"}, torch.zeros(2, 4), r"real vectors of size 5, not torch.float64 \(2, 4\)"),
        ({"emission": "bernoulli"}, torch.ones(2, 5).long(), r"real vectors of size 5, not torch.int64 \(2, 5\)"),
    ],
)
def test_an_x_of_the_wrong_type_or_size_is_refused(options, x, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_cell(**options)(x)


@given(st.sampled_from(EMISSIONS), st.lists(st.integers(0, 5), max_size=4))
def test_an_x_of_other_axes_is_refused(emission, shape):
    """Whatever the sizes: some would fit by chance, and be broadcast into a loss of nothing."""
    cell = small_cell(emission=emission[0], characters=emission[1])
    own = (["k"] if emission[1] > 1 else []) if cell.phi_x.takes_codes else ["D"]
    x = torch.zeros(shape, dtype=torch.int64 if cell.phi_x.takes_codes else torch.float64)
    fits = len(shape) == 1 + len(own) and 0 not in shape and shape[1:] in ([], [5 if "D" in own else 3])
    if fits:
        assert cell(x).z.shape == (shape[0], 3)
    else:
        with pytest.raises((ValueError, RuntimeError, IndexError)) as error:
            cell(x)
        assert error.type is ValueError and "x must" in str(error.value) and str(tuple(shape)) in str(error.value)


@given(
    st.sampled_from(RNNS),
    st.sampled_from(EMISSIONS),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_any_sizes_make_a_step_of_the_shapes_promised(rnn, emission, layers, depth, hidden, latent, embedding, batch):
    cell = VRNNCell(
        5,
        hidden,
        latent,
        embedding_size=embedding,
        num_layers=layers,
        rnn=rnn,
        emission=emission[0],
        characters=emission[1],
        depth=depth,
    ).double()
    step = cell(some_x(cell, batch))
    assert step.z.shape == step.prior.mean.shape == step.posterior.log_std.shape == (batch, latent)
    assert step.hidden.shape == (batch, hidden)
    size = (batch, 5) if emission[1] == 1 else (batch, emission[1], 5)
    assert (step.emission.mean if isinstance(step.emission, Gaussian) else step.emission.logits).shape == size
    remade = VRNNCell(**cell.configuration)
    assert [p.shape for p in remade.parameters()] == [p.shape for p in cell.parameters()]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("part", ["phi_x.net", "phi_z", "prior_net", "posterior_net", "emission_net"])
def test_each_net_has_as_many_layers_as_the_depth_says(part, depth):
    layers = VRNNCell(depth=depth).get_submodule(part).modules()
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == depth
