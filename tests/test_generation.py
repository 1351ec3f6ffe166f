"""Tests of vrnn_tutorial/generation.py: prior, z, emission, x, recurrence, and nothing but what was asked for."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.generation import forecast, generate, generate_many, sample
from vrnn_tutorial.text import encode
from vrnn_tutorial.vae import VAE
from vrnn_tutorial.vrnn import VRNN

PRIME = "First Citizen:\n"


def spread(model):
    """Weights large enough for every part to matter: at first each distribution is nearly the same everywhere.

    Smaller where the model emits vectors, which would otherwise grow from step to step.
    """
    torch.manual_seed(0)
    scale = 0.5 if model.configuration["emission"] == "categorical" else 0.2
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (scale if parameter.dim() > 1 else 0.1))
    return model.double().eval()


def vrnn(batch_first: bool = False, **options) -> VRNN:
    return spread(VRNN(VRNNCell(**{"hidden_size": 8, "latent_size": 3, "embedding_size": 6, **options}), batch_first))


def char_rnn(**options) -> CharRNN:
    return spread(CharRNN(**{"hidden_size": 8, "embedding_size": 6, **options}))


TWO_LAYERS = {"rnn": "lstm", "num_layers": 2, "dropout": 0.5}
MODELS = {
    "VRNN": vrnn,
    "VRNN, two LSTM layers, dropout": lambda: vrnn(**TWO_LAYERS),
    "VRNN, tanh, deep nets, batch first": lambda: vrnn(rnn="rnn", depth=2, batch_first=True),
    "VRNN, two characters a step": lambda: vrnn(characters=2),
    "VRNN, vectors": lambda: vrnn(input_size=4, emission="gaussian"),
    "VRNN, coins": lambda: vrnn(input_size=4, emission="bernoulli"),
    "CharRNN": char_rnn,
    "CharRNN, two LSTM layers, dropout": lambda: char_rnn(**TWO_LAYERS),
    "CharRNN, batch first": lambda: char_rnn(batch_first=True),
    "CharRNN, two characters a step": lambda: char_rnn(characters=2),
}
TEXT_MODELS = {name: model for name, model in MODELS.items() if "vectors" not in name and "coins" not in name}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
every_text_model = pytest.mark.parametrize("model", TEXT_MODELS.values(), ids=TEXT_MODELS)


def take(model, steps: int, **options) -> list:
    return list(itertools.islice(sample(model, **options), steps))


def text(model, *arguments, **options) -> str:
    return "".join(generate(model, *arguments, **options))


# One step after the other


def retrace(model, prime, steps, prior_temperature=0.0):
    """What each step's prior and emission must be, by the cell's own parts, from the x and z that were generated."""
    streams = len(steps[0].x)
    if isinstance(model, CharRNN):
        state = model.zero_state(torch.zeros(streams, 1, dtype=torch.float64))
        for x in [] if prime is None else prime:
            state = model.rnn(x.expand(streams, *x.shape), state)
        for step in steps:
            yield None, model.emission(model.hidden(state))
            state = model.rnn(step.x, state)
        return
    cell = model.cell
    state = cell.zero_state(torch.zeros(streams, 1, dtype=torch.float64))
    for x in [] if prime is None else prime:
        x = x.expand(streams, *x.shape)
        state = cell.rnn(x, cell.posterior(x, cell.hidden(state)).mean, state)
    for step in steps:
        h = cell.hidden(state)
        yield cell.prior(h), cell.emission(step.z, h)
        state = cell.rnn(step.x, step.z, state)


def prime_for(model):
    phi_x = (model.cell if isinstance(model, VRNN) else model).phi_x
    generator = torch.Generator().manual_seed(4)
    if not phi_x.takes_codes:
        return torch.rand(5, phi_x.input_size, generator=generator, dtype=torch.float64).round()
    shape = (5,) if phi_x.characters == 1 else (5, phi_x.characters)
    return torch.randint(phi_x.input_size, shape, generator=generator)


@every_model
@pytest.mark.parametrize("primed", [False, True], ids=["from zeros", "primed"])
def test_each_emission_is_the_cells_own_from_what_went_before(model, primed):
    """The probability under which x_t was drawn is p(x_t | z_t, h_{t-1}) with the h of the x and z before it."""
    model = model()
    prime = prime_for(model) if primed else None
    steps = take(model, 12, prime=prime, streams=3, seed=1, prior_temperature=0.0 if primed else 1.0)
    with torch.no_grad():
        for step, (prior, emission) in zip(steps, retrace(model, prime, steps), strict=True):
            assert_close(step.emission.log_prob(step.x), emission.log_prob(step.x), rtol=0, atol=1e-10)
            assert_close(tuple(step.emission)[:1], tuple(emission)[:1], rtol=0, atol=1e-10)
            if primed and prior is not None:
                assert_close(step.z, prior.mean, rtol=0, atol=1e-10)


KINDS = st.fixed_dictionaries(
    {
        "rnn": st.sampled_from(["gru", "lstm", "rnn"]),
        "emission": st.sampled_from(["categorical", "bernoulli", "gaussian"]),
        **{name: st.integers(1, 3) for name in ("num_layers", "depth", "characters")},
        **{name: st.integers(1, 5) for name in ("input_size", "hidden_size", "embedding_size")},
        "batch_first": st.booleans(),
    }
).map(lambda options: options | {"characters": options["characters"] if options["emission"] == "categorical" else 1})


@given(KINDS, st.integers(0, 4), st.integers(1, 4), st.integers(1, 3))
def test_so_it_is_for_any_kind_and_sizes(options, latent, steps, streams):
    """A latent size of 0 stands for the CharRNN here."""
    model = vrnn(latent_size=latent, **options) if latent else char_rnn(**options)
    prime = prime_for(model)
    drawn = take(model, steps, prime=prime, streams=streams, seed=1, prior_temperature=0.0)
    with torch.no_grad():
        for step, (_, emission) in zip(drawn, retrace(model, prime, drawn), strict=True):
            assert step.x.shape == (streams, *prime.shape[1:])
            assert_close(tuple(step.emission)[:1], tuple(emission)[:1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, TWO_LAYERS, {"batch_first": True}, {"characters": 2}], ids=str)
def test_a_char_rnn_scores_its_own_text_as_it_drew_it(options):
    model = char_rnn(**options)
    steps = take(model, 20, streams=3, seed=1)
    x = torch.stack([step.x for step in steps])
    drawn = torch.stack([-step.emission.log_prob(step.x) for step in steps])
    with torch.no_grad():
        out = model(x.transpose(0, 1) if model.batch_first else x)
    assert_close(out.reconstruction.t() if model.batch_first else out.reconstruction, drawn, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "options", [{}, TWO_LAYERS, {"characters": 2}, {"input_size": 4, "emission": "gaussian"}], ids=str
)
def test_a_vrnn_scores_its_own_draw_as_it_drew_it(options):
    """Its sequence, given the noise by which the posterior would have drawn the same z, finds the same loss 1."""
    model = vrnn(**options)
    steps = take(model, 15, streams=3, seed=1)
    x, z = torch.stack([step.x for step in steps]), torch.stack([step.z for step in steps])
    noise = torch.zeros_like(z)
    with torch.no_grad():
        for t in range(len(x)):  # noise at t depends on the posterior, which depends on the noise before t
            posterior = model(x, noise=noise).posterior
            noise[t] = ((z - posterior.mean) / posterior.log_std.exp())[t]
        out = model(x, noise=noise)
    assert_close(out.z, z, rtol=0, atol=1e-8)
    drawn = torch.stack([-step.emission.log_prob(step.x) for step in steps])
    assert_close(out.reconstruction, drawn, rtol=0, atol=1e-8)


@pytest.mark.parametrize("prior_temperature", [0.0, 0.5, 1.0, 2.0])
def test_z_is_drawn_from_the_prior_with_its_deviation_scaled(prior_temperature):
    model = vrnn()
    prime = encode(PRIME)
    steps = take(model, 1, streams=4000, seed=2, prior_temperature=prior_temperature)
    prior, _ = next(retrace(model, None, steps))
    whitened = ((steps[0].z - prior.mean) / prior.log_std.exp()).detach()
    assert_close(whitened.std(0), torch.full((3,), prior_temperature, dtype=torch.float64), rtol=0.05, atol=1e-10)
    assert_close(whitened.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.05 * prior_temperature + 1e-10)
    primed = take(model, 1, prime=prime, streams=100, seed=2, prior_temperature=prior_temperature)[0].emission.logits
    assert (primed.std(0).amax() > 1e-6) == (prior_temperature > 0)


def test_a_shift_moves_z_by_as_many_deviations_and_nothing_else():
    model, shift = vrnn(), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    h = torch.zeros(1, 8, dtype=torch.float64)
    plain, moved = (next(sample(model, seed=0, shift=by)) for by in (None, shift))
    prior = model.cell.prior(h)
    assert_close(moved.z - plain.z, shift * prior.log_std.exp())
    assert_close(moved.emission.logits, model.cell.emission(moved.z, h).logits)
    texts = {name: "".join(generate(model, length=20, seed=0, shift=by))
             for name, by in (("none", None), ("zero", 0 * shift), ("moved", shift))}  # fmt: skip
    assert texts["none"] == texts["zero"] != texts["moved"]
    assert generate_many(model, 1, length=20, seed=0, shift=shift) == [texts["moved"]]
    primed = ("".join(generate(model, PRIME, length=1, seed=0, prior_temperature=0.0, temperature=0.0, shift=by))
              for by in (shift, 0 * shift))  # fmt: skip
    h = model(encode(PRIME)[:, None], noise=torch.zeros(len(PRIME), 1, 3, dtype=torch.float64)).hidden[-1]
    prior = model.cell.prior(h)
    for text, by in zip(primed, (shift, 0 * shift), strict=True):
        emission = model.cell.emission(prior.mean + by * prior.log_std.exp(), h)
        assert text == chr(int(emission.logits.argmax())), "the prime was read with z moved as well"


def test_each_stream_may_have_a_shift_of_its_own():
    model, shifts = vrnn(), torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]], dtype=torch.float64)
    options = {"prime": encode(PRIME), "prior_temperature": 0.0, "temperature": 0.0}
    both = take(model, 5, streams=2, shift=shifts, **options)
    for i, shift in enumerate(shifts):
        alone = take(model, 5, shift=shift, **options)
        assert_close([step.z[i] for step in both], [step.z[0] for step in alone])
        assert [step.x[i] for step in both] == [step.x[0] for step in alone]


@pytest.mark.parametrize(
    "model, size", [(vrnn(), (2,)), (char_rnn(), (3,)), (vrnn(), (2, 3)), (vrnn(), (1, 1, 3)), (vrnn(), (1, 2))]
)
def test_a_shift_of_what_is_not_z_is_refused(model, size):
    with pytest.raises(ValueError, match="shift moves z, which has"):
        sample(model, shift=torch.zeros(size))


def test_the_posterior_reads_the_prime_with_its_deviation_scaled():
    """One character of prime: h_1 has the distribution that the cell's own posterior gives it."""
    model, streams = vrnn(), 4000
    cell, x = model.cell, encode("Q")
    for prior_temperature in (0.5, 1.0):
        [step] = take(model, 1, prime=x, streams=streams, seed=3, prior_temperature=prior_temperature)
        with torch.no_grad():
            state = cell.zero_state(torch.zeros(streams, 1, dtype=torch.float64))
            codes = x.expand(streams)
            z = cell.posterior(codes, cell.hidden(state)).sample(prior_temperature, torch.Generator().manual_seed(9))
            h = cell.hidden(cell.rnn(codes, z, state))
            logits = cell.emission(cell.prior(h).sample(prior_temperature, torch.Generator().manual_seed(8)), h).logits
        ours, theirs = step.emission.logits, logits
        quartiles = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        (low, middle, high), expected = torch.quantile(ours, quartiles, 0), torch.quantile(theirs, quartiles, 0)
        spread = expected[2] - expected[0]
        assert ((middle - expected[1]).abs() < 0.1 * spread).all()
        assert_close(high - low, spread, rtol=0.1, atol=0)


# Temperature


def first_frequencies(model, streams: int, **options) -> tuple:
    [step] = take(model, 1, streams=streams, seed=5, **options)
    return torch.bincount(step.x, minlength=step.emission.logits.shape[-1]).double(), step.emission.logits


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["VRNN", "CharRNN"])
def test_the_first_characters_frequencies_are_the_models(kind, temperature):
    """softmax(logits / T), averaged over other draws of z than those it was drawn with; by a chi-squared test."""
    streams = 20_000
    model = vrnn(input_size=12) if kind == "VRNN" else char_rnn(input_size=12)
    counts, _ = first_frequencies(model, streams, temperature=temperature)
    with torch.no_grad():
        if kind == "VRNN":
            h = torch.zeros(200_000, 8, dtype=torch.float64)
            z = model.cell.prior(h).rsample(generator=torch.Generator().manual_seed(6))
            logits = model.cell.emission(z, h).logits
        else:
            logits = model.emission(torch.zeros(1, 8, dtype=torch.float64)).logits
    expected = (logits / temperature).softmax(-1).mean(0) * streams
    rare = expected < 10  # too few for the test; taken together
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]]) if rare.any() else counts
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]]) if rare.any() else expected
    assert len(expected) > 3
    assert scipy.stats.chisquare(counts, expected).pvalue > 0.01


@pytest.mark.parametrize("kind", ["VRNN", "CharRNN"])
def test_at_temperature_zero_x_is_the_most_likely_given_z(kind):
    model = vrnn() if kind == "VRNN" else char_rnn()
    steps = take(model, 30, streams=4, temperature=0.0, seed=1)
    for step in steps:
        assert torch.equal(step.x, step.emission.logits.argmax(-1))
    texts = {text(model, temperature=0, length=30, seed=seed) for seed in range(4)}
    assert len(texts) == (4 if kind == "VRNN" else 1)  # z is still drawn


@every_text_model
@pytest.mark.parametrize("prime", ["", PRIME + "?"], ids=["from zeros", "primed"])
def test_with_both_temperatures_at_zero_the_seed_has_no_influence(model, prime):
    model = model()
    texts = {text(model, prime, temperature=0, prior_temperature=0, length=40, seed=seed) for seed in (0, 1, None)}
    assert len(texts) == 1


def test_vectors_are_drawn_with_their_variance_scaled():
    model = vrnn(input_size=4, emission="gaussian")
    for temperature in (0.0, 0.5):
        [step] = take(model, 1, streams=4000, temperature=temperature, seed=1)
        whitened = (step.x - step.emission.mean) / step.emission.log_std.exp()
        assert_close(whitened.std(0), torch.full((4,), temperature, dtype=torch.float64).sqrt(), rtol=0.05, atol=1e-10)


# The seed


@every_text_model
def test_the_same_seed_gives_the_same_text_and_another_one_another(model):
    model = model()
    first, again, other = (text(model, PRIME + "?", length=40, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_without_a_seed_each_text_is_another():
    model = char_rnn()
    assert len({text(model, length=40) for _ in range(3)}) == 3


def test_the_callers_random_numbers_neither_matter_nor_are_touched():
    model, texts = vrnn(**TWO_LAYERS), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        texts.append(text(model, PRIME, length=20, seed=3))
        assert torch.equal(torch.get_rng_state(), before)
    assert texts[0] == texts[1]


# The prime


@pytest.mark.parametrize("options", [{}, TWO_LAYERS, {"batch_first": True}, {"characters": 2}], ids=str)
def test_a_text_that_is_given_back_as_prime_goes_on_as_it_went_on(options):
    """In a CharRNN: a VRNN's posterior reads another z out of x than the one that the prior drew for it."""
    model = char_rnn(**options)
    whole = text(model, PRIME + "?", temperature=0, length=40)
    for length in (2, 10, 38):
        assert text(model, PRIME + "?" + whole[:length], temperature=0, length=40 - length) == whole[length:]


def test_no_character_of_the_prime_is_lost_or_read_twice():
    model = vrnn()
    logits = [
        take(model, 1, prime=None if p == "" else encode(p), prior_temperature=0.0)[0].emission.logits
        for p in ("", "a", "ab", "b", "aa", "aba", "abab", "abb", "ba")
    ]
    for one, other in itertools.combinations(logits, 2):
        assert (one - other).abs().amax() > 1e-4


def test_an_empty_prime_is_none():
    model = vrnn()
    assert text(model, "", length=20, seed=1) == text(model, length=20, seed=1)
    with_none, with_empty = (take(model, 3, prime=prime, seed=1) for prime in (None, torch.zeros(0, dtype=torch.int64)))
    assert all(torch.equal(a.x, b.x) for a, b in zip(with_none, with_empty, strict=True))


# Pieces, length, streams


@every_text_model
def test_length_counts_characters(model):
    model = model()
    k = (model.cell if isinstance(model, VRNN) else model).characters
    for length in (0, 1, 5, 6):
        pieces = list(generate(model, PRIME + "?", length=length, seed=1))
        assert len("".join(pieces)) == length
        assert all(len(piece) == k for piece in pieces[:-1]) and len(pieces) == math.ceil(length / k)
    assert text(model, length=5, seed=1) == text(model, length=6, seed=1)[:5]


def test_the_text_is_what_was_sampled():
    model = vrnn(characters=2)
    codes = torch.stack([step.x for step in take(model, 10, seed=1)])  # (T, 1, 2)
    assert text(model, length=20, seed=1) == "".join(map(chr, codes.flatten()))


@every_text_model
def test_streams_are_independent_texts_side_by_side(model):
    model = model()
    texts = generate_many(model, 4, PRIME + "?", length=31, seed=1)
    assert len(set(texts)) == 4 and all(len(t) == 31 for t in texts)
    assert generate_many(model, 4, PRIME + "?", length=31, seed=1) == texts
    assert generate_many(model, 1, PRIME + "?", length=31, seed=1) == [text(model, PRIME + "?", length=31, seed=1)]
    assert generate_many(model, 3, length=0) == ["", "", ""]


def test_streams_draw_a_z_each():
    [step] = take(vrnn(), 1, streams=5, seed=1)
    assert len({tuple(z) for z in step.z.tolist()}) == 5


# What a character costs


@pytest.mark.parametrize("kind", ["VRNN", "CharRNN"])
def test_each_character_is_one_step_of_the_recurrence_however_long_the_text(kind):
    model = vrnn() if kind == "VRNN" else char_rnn()
    calls = []
    recurrent = model.cell.rnn_cells[0] if kind == "VRNN" else model.layers
    recurrent.register_forward_hook(lambda _, arguments, __: calls.append(arguments[0].shape))
    stream = sample(model, seed=1)
    for _ in range(50):
        calls.clear()
        next(stream)
        assert calls == [(1, 14) if kind == "VRNN" else (1, 1, 6)]


@every_model
def test_no_graph_grows(model):
    model = model().train()
    for parameter in model.parameters():
        assert parameter.requires_grad
    stream = sample(model, prime=prime_for(model), streams=2, seed=1)
    for _ in range(3):
        step = next(stream)
        tensors = [part for part in (step.x, step.z, *step.emission) if isinstance(part, torch.Tensor)]
        assert not any(tensor.requires_grad for tensor in tensors)
        assert torch.is_grad_enabled()  # the caller, between two steps, may train


# The model that was passed in


@every_model
def test_the_model_is_left_as_it_was(model):
    model = model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    take(model, 3, prime=prime_for(model), streams=2)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@every_text_model
def test_training_mode_makes_no_difference(model):
    model = model()
    calm = text(model, PRIME + "?", length=30, seed=1)
    assert text(model.train(), PRIME + "?", length=30, seed=1) == calm


def test_training_may_go_on_while_a_text_is_drawn():
    model = vrnn()
    expected = text(model, length=30, seed=1)
    pieces = generate(model, length=30, seed=1)
    begun = [next(pieces) for _ in range(3)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert "".join([*begun, *pieces]) == expected


# What is refused, at the call


@pytest.mark.parametrize("which", ["temperature", "prior_temperature"])
@pytest.mark.parametrize("value", [-1.0, -1e-9, math.nan, math.inf, -math.inf])
def test_temperatures_that_mean_nothing_are_refused(which, value):
    for function in (generate, sample, lambda model, **options: generate_many(model, 2, **options)):
        with pytest.raises(ValueError, match=f"^{which} .*{value}"):
            function(vrnn(), **{which: value})


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (vrnn, {"prime": "na\u00efve"}, "not ASCII"),
        (vrnn, {"length": -1}, "length must be zero or more, not -1"),
        (lambda: vrnn(characters=2), {"prime": "odd"}, "3 characters, and this model reads 2 at a time"),
        (lambda: vrnn(input_size=4, emission="gaussian"), {}, "emits vectors"),
        (lambda: vrnn(input_size=4, emission="bernoulli"), {}, "emits vectors"),
        (lambda: vrnn(input_size=50), {"prime": "a"}, "codes have no vocabulary"),
    ],
    ids=["not ASCII", "negative length", "half a step", "Gaussian", "Bernoulli", "no text"],
)
def test_what_cannot_be_generated_is_refused(model, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        generate(model(), **options)
    with pytest.raises(ValueError, match=sentence):
        generate_many(model(), 2, **options)


@pytest.mark.parametrize(
    ("options", "shape", "axes"),
    [
        ({}, (4, 4), "(P)"),
        ({"characters": 2}, (2,), "(P, k)"),
        ({"input_size": 4, "emission": "gaussian"}, (4,), "(P, D)"),
    ],
)
@pytest.mark.parametrize("model", [vrnn, char_rnn], ids=["VRNN", "CharRNN"])
def test_a_prime_of_other_axes_is_refused(model, options, shape, axes):
    prime = torch.zeros(shape, dtype=torch.float64 if "emission" in options else torch.int64)
    with pytest.raises(ValueError) as error:
        sample(model(**options), prime=prime)
    assert str(error.value) == f"x must be {axes}, none of them 0, but its shape is {shape}."


@pytest.mark.parametrize("model", [vrnn, char_rnn], ids=["VRNN", "CharRNN"])
def test_a_prime_may_be_an_array_and_a_seed_numpys(model):
    codes, vectors = encode("to be"), np.linspace(-1, 1, 12).reshape(3, 4)
    for options, prime, own in (
        ({}, codes.numpy(), codes),
        ({}, [codes.numpy(), codes[:2].numpy()], [codes, codes[:2]]),
        ({"input_size": 4, "emission": "gaussian"}, vectors[::-1], torch.from_numpy(vectors).flip(0)),
    ):
        ours = next(sample(model(**options), prime=prime, seed=np.int64(3)))
        assert_close(ours.x, next(sample(model(**options), prime=own, seed=3)).x, rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_diverged_writes_nothing(temperature, value):
    """At temperature zero it would write NULs."""
    model = vrnn()
    with torch.no_grad():
        model.cell.emission_net[-1].bias[3] = value
    with pytest.raises(ValueError, match="it computes numbers that are not finite"):
        generate(model, length=5, temperature=temperature)


def test_no_streams_are_refused():
    with pytest.raises(ValueError, match=r"equally many, at least 1, not \[0\]"):
        sample(vrnn(), streams=0)
    with pytest.raises(ValueError, match=r"equally many, at least 1, not \[0\]"):
        generate_many(vrnn(), 0)


# Chance from outside


def test_draw_takes_its_noise_and_its_uniforms_by_which_another_program_gives_the_same_text():
    """By the inverse of the distribution function, character by character, from the cell's parts."""
    model, generator = vrnn(input_size=12), torch.Generator().manual_seed(3)
    cell, B = model.cell, 3
    state, h = model.zero_state(torch.zeros(B, 1).double()), torch.zeros(B, 8).double()
    for _ in range(12):
        noise = torch.randn(B, 3, generator=generator).double()
        uniforms = torch.rand(B, generator=generator).double()
        with torch.no_grad():
            drawn = model.draw(state, temperature=0.7, prior_temperature=1.5, noise=noise, uniforms=uniforms)
            state = model.advance(drawn.x, drawn.z, state)
            prior = cell.prior(h)
            z = prior.mean + 1.5 * prior.log_std.exp() * noise
            p = (cell.emission(z, h).logits / 0.7).softmax(-1)
            x = []
            for row, u in zip(p.tolist(), uniforms.tolist(), strict=True):
                code, total = 0, row[0]
                while total <= u:
                    code += 1
                    total += row[code]
                x.append(code)
            h = cell.rnn(torch.tensor(x), z, h)
        assert_close(drawn.z, z, rtol=0, atol=1e-10)
        assert drawn.x.tolist() == x
    assert_close(model.hidden(state), h, rtol=0, atol=1e-10)


@every_model
def test_by_noise_and_uniforms_draw_is_certain_whatever_the_generator(model):
    model = model()
    state = model.zero_state(torch.zeros(3, 1).double())
    first = model.draw(state, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(3, 3).double() if model.latent_size else None
    uniforms = torch.rand(first.x.shape).double()
    runs = [
        model.draw(state, noise=noise, uniforms=uniforms, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    ]
    assert_close(runs[0].x, runs[1].x, rtol=0, atol=0)


# A prime for each stream, and going on


def certain(model, steps: int, **options):
    taken = take(model, steps, temperature=0.0, prior_temperature=0.0, **options)
    return torch.stack([step.x for step in taken]), taken[-1].state


@every_model
@pytest.mark.parametrize("lengths", [(5, 1, 3), (2, 0, 4), (0, 0), (3, 3)], ids=str)
def test_primes_of_unequal_lengths_are_read_as_by_one_stream_each(model, lengths):
    model = model()
    primes = [prime_for(model)[:length] for length in lengths]
    together, _ = certain(model, 6, prime=primes)
    for b, prime in enumerate(primes):
        assert_close(together[:, b : b + 1], certain(model, 6, prime=prime)[0], rtol=0, atol=1e-10)


@every_model
def test_from_a_state_it_goes_on_as_if_it_had_never_stopped(model):
    model = model()
    primes = [prime_for(model)[:length] for length in (4, 2)]
    whole, _ = certain(model, 9, prime=primes)
    first, state = certain(model, 4, prime=primes)
    rest, _ = certain(model, 5, state=state)
    assert_close(torch.cat([first, rest]), whole, rtol=0, atol=1e-10)
    # A state may come from the model's own reading, and more be read from it on.
    text = prime_for(model)
    before = text[:2].unsqueeze(model.batch_axis)
    with torch.no_grad():
        state = model.read(before, None, prior_temperature=0.0)
    assert_close(
        certain(model, 3, state=state, prime=text[2:])[0], certain(model, 3, prime=text)[0], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"prime": [encode("a"), encode("b")], "streams": 3}, r"equally many, at least 1, not \[2, 3\]"),
        ({"prime": []}, r"equally many, at least 1, not \[0\]"),
        ({"streams": 0}, r"equally many, at least 1, not \[0\]"),
        ({"state": torch.zeros(2, 8).double(), "streams": 3}, r"equally many, at least 1, not \[2, 3\]"),
        ({"state": torch.zeros(2, 8).double(), "prime": [encode("a")]}, r"equally many, at least 1, not \[1, 2\]"),
        ({"prime": [encode("a"), encode("b")[:, None]]}, "sequences must have an axis of time, and be alike"),
        ({"prime": torch.zeros(2, 2).long()}, r"x must be \(P\), none of them 0, but its shape is \(2, 2\)"),
    ],
)
def test_streams_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        sample(vrnn(), **options)


# Forecasts


PASTS = [torch.randn(n, 4, generator=torch.Generator().manual_seed(n)).double() for n in (5, 2, 3)]


def test_a_model_whose_x_follow_on_nothing_is_refused():
    sentence = "sample is of sequences, and the x of a VAE follow on nothing."
    with pytest.raises(ValueError, match=sentence):
        sample(VAE(5, 4, 2))
    with pytest.raises(ValueError, match=sentence):
        forecast(VAE(5, 4, 2), [torch.zeros(3, 5)], 2)


def test_a_forecast_is_many_samples_of_each_past_and_its_bands_their_quantiles():
    model = vrnn(input_size=4, emission="gaussian")
    draws, bands = forecast(model, PASTS, 6, draws=7, quantiles=(0.0, 0.25, 0.5, 1.0), seed=3)
    assert draws.shape == (7, 6, 3, 4) and bands.shape == (4, 6, 3, 4)
    stream = take(model, 6, prime=[past for past in PASTS for _ in range(7)], seed=3)
    expected = torch.stack([step.x for step in stream]).view(6, 3, 7, 4)
    assert_close(draws, expected.permute(2, 0, 1, 3), rtol=0, atol=0)
    ordered = draws.sort(0).values
    assert_close(bands[0], ordered[0], rtol=0, atol=0)
    assert_close(bands[1], (ordered[1] + ordered[2]) / 2)
    assert_close(bands[2], ordered[3])
    assert_close(bands[3], ordered[-1], rtol=0, atol=0)


def test_a_hundred_futures_are_drawn_and_the_middle_four_fifths_told_unless_asked_otherwise():
    model = vrnn(input_size=4, emission="gaussian")
    plain = forecast(model, PASTS[:1], 2, seed=1)
    told = forecast(model, PASTS[:1], 2, seed=1, draws=100, quantiles=(0.1, 0.5, 0.9), temperature=1.0)
    for ours, theirs in zip(plain, told, strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_a_forecasts_seed_decides_it_and_at_temperature_zero_nothing_is_left_to_chance():
    model = vrnn(input_size=4, emission="gaussian")
    first, again, other = (forecast(model, PASTS, 3, draws=2, seed=seed).draws for seed in (1, 1, 2))
    assert torch.equal(first, again) and (first != other).all()
    draws, bands = forecast(model, PASTS, 3, draws=2, temperature=0.0, prior_temperature=0.0)
    for b, past in enumerate(PASTS):
        expected, _ = certain(model, 3, prime=past)
        assert_close(draws[:, :, b], expected.transpose(0, 1).expand(2, 3, 4), rtol=0, atol=1e-10)
        assert_close(bands[:, :, b], expected.transpose(0, 1).expand(3, 3, 4), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pasts": []},
        {"steps": 0},
        {"draws": 0},
        {"quantiles": (0.5, 1.1)},
        {"quantiles": (math.nan,)},
    ],
    ids=str,
)
def test_a_forecast_that_cannot_be_is_refused(wrong):
    options = {"pasts": PASTS, "steps": 2, **wrong}
    with pytest.raises(ValueError, match="one past, step and draw at least, and quantiles from 0 to 1"):
        forecast(vrnn(input_size=4, emission="gaussian"), **options)


@pytest.mark.parametrize(
    "pasts", [torch.zeros(5, 4).double(), torch.zeros(5, 3, 4).double(), np.zeros((5, 4))], ids=type
)
def test_pasts_are_a_list_since_the_axes_of_a_tensor_might_be_time_or_sequences(pasts):
    with pytest.raises(ValueError, match=r"^pasts must be a list of sequences, as in \[past\], not a "):
        forecast(vrnn(input_size=4, emission="gaussian"), pasts, 2)
