"""Tests of vrnn_tutorial/configuration.py and of `describe`: what a model is made of comes back out of JSON."""

import inspect
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import spread
from torch.testing import assert_close

from vrnn_tutorial import VRNN, CharRNN, VRNNCell, generate, load_checkpoint
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.emissions import (
    Bernoulli,
    Categorical,
    Chained,
    Emission,
    Gaussian,
    GaussianMixture,
    Pen,
    Scaled,
    describe,
    emission_of,
)
from vrnn_tutorial.generation import generate_many, sample
from vrnn_tutorial.text import encode
from vrnn_tutorial.vae import VAE

NAMED = {
    "categorical": Categorical(),
    "chained": Chained(),
    "bernoulli": Bernoulli(),
    "gaussian": Gaussian(),
}
DESCRIBED = {
    "Categorical": (Categorical(2, "abc"), {"characters": 2, "vocabulary": "abc"}),
    "Chained": (Chained(3, "äß"), {"characters": 3, "vocabulary": "äß"}),
    "Bernoulli": (Bernoulli(missing=True), {"missing": True}),
    "Gaussian": (Gaussian(missing=True), {"missing": True}),
    "GaussianMixture": (GaussianMixture(7), {"components": 7}),
    "Pen": (Pen(3, joint=True, position=True), {"components": 3, "joint": True, "position": True}),
    "Scaled": (
        Scaled(Scaled(Pen(2), 1 / 3, [0.1, 1e-300, 2, 3, 4]), -0.0, 7),
        {
            "emission": {
                "name": "Scaled",
                "emission": {"name": "Pen", "components": 2, "joint": False, "position": False},
                "shift": 1 / 3,
                "scale": [0.1, 1e-300, 2.0, 3.0, 4.0],
            },
            "shift": -0.0,
            "scale": 7.0,
        },
    ),
    "Scaled, of a name": (Scaled(Gaussian(), 1.0, 2.0), {"emission": "gaussian", "shift": 1.0, "scale": 2.0}),
}


@pytest.mark.parametrize("name", NAMED)
def test_an_emission_of_defaults_is_described_by_its_name_alone(name):
    assert describe(NAMED[name]) == name
    assert describe(emission_of(name, NAMED[name].characters)) == name


@pytest.mark.parametrize("name", DESCRIBED)
def test_an_emission_with_options_is_described_by_class_and_options_and_comes_back(name):
    emission, options = DESCRIBED[name]
    said = json.loads(json.dumps(describe(emission)))
    assert said == {"name": name.partition(",")[0], **options}
    again = emission_of(said)
    assert type(again) is type(emission) and describe(again) == said


@pytest.mark.parametrize(
    "make",
    [
        lambda: VRNNCell(5, 4, 3, embedding_size=2, num_layers=2, rnn="lstm", depth=2, dropout=0.25, prior="standard"),
        lambda: VRNNCell(5, 4, 3, dropout=0.25, locked_dropout=True, weight_dropout=0.125),
        lambda: VRNNCell(5, 4, 3, emission="categorical", characters=3, stochastic=False),
        lambda: VRNNCell(5, 4, 3, emission=Pen(2, position=True)),
        lambda: VRNNCell(5, 4, 3, emission=Scaled(GaussianMixture(2), 0.1, [1.0, 2.0, 3.0, 4.0, 5.0])),
        lambda: CharRNN(5, 4, emission=Chained(2, "abcde"), batch_first=True, rnn="rnn"),
        lambda: VAE(5, 4, 3, emission=Scaled(Gaussian(missing=True), 0.0, 2.0), depth=1),
    ],
)
def test_a_configuration_makes_the_model_again_through_json(make):
    model = make()
    said = json.loads(json.dumps(model.configuration))
    again = type(model)(**said)
    assert again.configuration == said == model.configuration
    assert [(n, p.shape) for n, p in again.named_parameters()] == [(n, p.shape) for n, p in model.named_parameters()]
    assert set(said) == set(inspect.signature(type(model)).parameters)


# Signatures

RECURRENT = {
    "embedding_size": 64,
    "num_layers": 1,
    "rnn": "gru",
    "emission": "categorical",
    "characters": 1,
    "depth": 1,
    "dropout": 0.0,
    "locked_dropout": False,
    "weight_dropout": 0.0,
}
SIGNATURES = {
    VRNNCell: (
        {"input_size": 128, "hidden_size": 64, "latent_size": 64},
        RECURRENT | {"prior": "conditional", "stochastic": True},
    ),
    CharRNN: ({"input_size": 128, "hidden_size": 64}, RECURRENT | {"batch_first": False}),
    VAE: ({"input_size": 64, "hidden_size": 128, "latent_size": 2}, {"emission": "bernoulli", "depth": 2}),
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_the_signature_shows_all_arguments_in_order_with_their_defaults(kind):
    positional, by_name = SIGNATURES[kind]
    shown = inspect.signature(kind).parameters.values()
    assert {p.name: p.default for p in shown} == positional | by_name
    assert [p.name for p in shown if p.kind is p.POSITIONAL_OR_KEYWORD] == list(positional)
    assert {p.name for p in shown if p.kind is p.KEYWORD_ONLY} == set(by_name)
    assert kind().configuration == positional | by_name


def test_sizes_in_order_are_those_of_x_h_and_z():
    cell = VRNNCell(5, 4, 3)
    assert (cell.configuration["input_size"], cell.hidden_size, cell.latent_size) == (5, 4, 3)
    assert cell.prior_net[0].weight.shape == (6, 4)
    model = CharRNN(5, 4)
    assert model.zero_state(torch.zeros(2, 1)).shape == (1, 2, 4) and model.emission_net[0].weight.shape == (5, 4)
    vae = VAE(5, 4, 3)
    assert [layer.weight.shape for layer in vae.emission_net if hasattr(layer, "weight")] == [(4, 3), (5, 4)]


@pytest.mark.parametrize("kind", [VRNNCell, CharRNN])
@pytest.mark.parametrize("name", NAMED)
def test_a_name_and_an_instance_make_the_same_model(kind, name):
    k = NAMED[name].characters
    models = []
    for options in ({"emission": name, "characters": k}, {"emission": NAMED[name]}):
        torch.manual_seed(0)
        models.append(kind(5, 4, **options))
    assert models[0].configuration == models[1].configuration
    assert models[0].configuration["emission"] == name and models[0].configuration["characters"] == k
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_numpys_integers_are_integers():
    cell = VRNNCell(np.int64(5), np.int32(4), np.int64(3))
    assert json.loads(json.dumps(cell.configuration)) == VRNNCell(5, 4, 3).configuration


# Refusals


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: VRNNCell(emission=Categorical(2), characters=3), "characters=3, but the emission has 2 per step"),
        (
            lambda: VRNNCell(emission={"name": "Categorical", "characters": 2}, characters=3),
            "characters=3, but the emission has 2 per step",
        ),
        (lambda: VRNNCell(5, emission=Gaussian(), characters=2), "characters=2, but the emission has 1 per step"),
        (lambda: VRNNCell(5, emission="gaussian", characters=2), "characters=2: one or more, and .* only for codes"),
        (lambda: VRNNCell(5, emission="chained"), "a chain needs two characters per step or more"),
        (lambda: VRNNCell(5, emission=Gaussian), "emission must be one of .* or an instance, not <class"),
        (lambda: VRNNCell(5, emission=None), "emission must be one of .* or an instance, not None"),
        (lambda: VRNNCell(5, emission=["gaussian"]), "emission must be one of"),
        (lambda: VRNNCell(5, emission={"components": 2}), "emission must be one of"),
        (lambda: VRNNCell(5, emission={"name": "Mine"}), "Mine is not a class of this package"),
        (lambda: VRNNCell(0), "must be at least 1 .*'input_size': 0"),
        (lambda: VRNNCell(5, 4, -1), "must be at least 1 .*'latent_size': -1"),
        (lambda: CharRNN(5, 0), "must be at least 1 .*'hidden_size': 0"),
        (lambda: VAE(5, 4, 0), "must be at least 1 .*'latent_size': 0"),
        (lambda: VAE(5, 4, depth=0), "must be at least 1 .*'depth': 0"),
        (lambda: VRNNCell(hidden_size=64.0), "hidden_size must be a whole number, not 64.0"),
        (lambda: VAE("5"), "input_size must be a whole number, not '5'"),
        (lambda: VRNNCell(dropout=1.0), "0 <= dropout < 1"),
        (lambda: VRNNCell(dropout=math.nan), "0 <= dropout < 1"),
        (lambda: VRNNCell(rnn="GRU"), "rnn must be one of gru, lstm, rnn, not 'GRU'"),
        (lambda: VRNNCell(prior="normal"), "prior must be conditional or standard, not 'normal'"),
        (lambda: VRNNCell(prior="standard", stochastic=False), "for a standard prior is always zero"),
        (lambda: VAE(5, emission="categorical"), "its x is a vector, not a code"),
        (lambda: VAE(5, emission=Pen(2, position=True)), "a VAE has no past"),
        (lambda: VAE(5, emission=Scaled(Pen(2, position=True), 0.0, 1.0)), "a VAE has no past"),
    ],
)
def test_arguments_that_make_no_model_are_refused_in_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: VRNNCell(128, 64, 64, 64), "VRNNCell: too many positional arguments"),
        (lambda: CharRNN(128, 64, 64), "CharRNN: too many positional arguments"),
        (lambda: VRNNCell(colour=1), "VRNNCell: got an unexpected keyword argument 'colour'"),
        (lambda: VAE(5, input_size=5), "VAE: multiple values for argument 'input_size'"),
    ],
)
def test_arguments_that_are_none_name_the_model(make, sentence):
    with pytest.raises(TypeError, match=sentence):
        make()


# Classes of a reader's own


class Own(Emission):
    """Without any option."""

    def size(self, input_size):
        return 2 * input_size

    def distribution(self, raw):
        return Gaussian().distribution(raw)


@dataclass(frozen=True)
class OwnDataclass(Own):
    width: float = 1.0
    names: tuple = ("a", "b")


class OwnOptions(Own):
    def __init__(self, width, *, names=("a", "b")):
        self.width, self.names = width, list(names)

    @property
    def options(self):
        return {"width": self.width, "names": self.names}


@pytest.mark.parametrize(
    "emission, options",
    [
        (Own(), {}),
        (OwnDataclass(2.0), {"width": 2.0, "names": ["a", "b"]}),
        (OwnOptions(3.0, names="xy"), {"width": 3.0, "names": ["x", "y"]}),
    ],
    ids=["without options", "a dataclass", "with options"],
)
def test_a_class_of_ones_own_is_described_by_its_options_and_comes_back(emission, options):
    said = json.loads(json.dumps(VRNNCell(5, 4, 3, emission=emission).configuration["emission"]))
    assert said == {"name": type(emission).__name__, **options}
    again = emission_of(said, classes=[type(emission)])
    assert type(again) is type(emission) and describe(again) == said
    with pytest.raises(ValueError, match=f"{type(emission).__name__} is not a class of this package"):
        emission_of(said)


class Silent(Own):
    def __init__(self, width=1.0):
        self.width = width


class Doubling(OwnOptions):
    @property
    def options(self):
        return {"width": 2 * self.width, "names": self.names}


class OfTensors(OwnOptions):
    @property
    def options(self):
        return {"width": torch.tensor(self.width), "names": self.names}


class Talkative(OwnOptions):
    @property
    def options(self):
        return {**super().options, "colour": "blue"}


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Silent(2.0), r"Silent: its arguments \['width'\] would be lost; name them in its options"),
        (lambda: Doubling(2.0), r"Doubling: made of its own options .*'width': 4.0.* it has others, .*'width': 8.0"),
        (lambda: OfTensors(2.0), "OfTensors: its `options` must be JSON, .*Tensor is not JSON serializable"),
        (lambda: Talkative(2.0), "Talkative: its `options` must .* be the arguments .*'colour'"),
    ],
)
def test_options_that_do_not_make_an_emission_again_are_refused(make, sentence):
    for use in (lambda emission: VRNNCell(5, emission=emission), lambda emission: describe(Scaled(emission, 0.0, 1.0))):
        with pytest.raises(ValueError, match=sentence) as error:
            use(make())
        assert "\n" not in str(error.value)


def test_a_class_that_lacks_what_it_needs_says_so():
    class Half(Emission):
        pass

    with pytest.raises(NotImplementedError, match=r"Half must say how many numbers a net puts out: size\(input_size\)"):
        VRNNCell(5, emission=Half())
    Half.size = lambda self, input_size: input_size
    with pytest.raises(NotImplementedError, match=r"Half must make a distribution of numbers: distribution\(raw\)"):
        VRNN(VRNNCell(5, emission=Half()))(torch.zeros(1, 1, 5))


# A vocabulary

VOCABULARIES = {
    "Greek": "\0 αβγδεζηθικλμνξοπρςστυφχψω",
    "German": "\0\nÄÖÜßäöü" + "abcdefghijklmnopqrstuvwxyz",
    "a thousand characters": "\0" + "".join(map(chr, range(0x4E00, 0x4E00 + 999))),
}


@pytest.mark.parametrize("size", [25, 29, 128])
def test_a_vocabulary_of_another_size_than_the_codes_is_refused(size):
    vocabulary = VOCABULARIES["Greek"]
    for emission in (Categorical(vocabulary=vocabulary), Chained(2, vocabulary)):
        expected = f"the vocabulary has {len(vocabulary)} characters, and input_size is {size}"
        with pytest.raises(ValueError, match=expected):
            VRNNCell(size, emission=emission)
        with pytest.raises(ValueError, match=expected):
            CharRNN(size, emission=emission)


@pytest.mark.parametrize("kind", [Categorical, Chained])
def test_a_vocabulary_with_a_character_twice_is_refused(kind):
    with pytest.raises(ValueError, match="each of its characters once"):
        kind(2, "abca")


def test_128_codes_are_ascii_and_other_numbers_no_text():
    assert VRNNCell().emission_type.vocabulary == "".join(map(chr, range(128)))
    assert VRNNCell(emission=Categorical(2)).emission_type.vocabulary == "".join(map(chr, range(128)))
    assert CharRNN(99).emission_type.vocabulary is None and CharRNN(129).emission_type.vocabulary is None
    with pytest.raises(ValueError, match="codes have no vocabulary"):
        generate(CharRNN(99, 4))


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("kind", ["VRNN", "CharRNN", "chained"])
def test_a_vocabulary_is_kept_in_a_checkpoint_and_used_by_primes_and_text(name, kind, tmp_path):
    vocabulary = VOCABULARIES[name]
    options = {"input_size": len(vocabulary), "hidden_size": 8, "embedding_size": 4}
    make = {
        "VRNN": lambda: VRNN(VRNNCell(**options, latent_size=3, emission=Categorical(vocabulary=vocabulary))),
        "CharRNN": lambda: CharRNN(**options, emission=Categorical(vocabulary=vocabulary)),
        "chained": lambda: CharRNN(**options, emission=Chained(2, vocabulary)),
    }[kind]
    model = spread(make())
    save_checkpoint(tmp_path / "model.safetensors", model)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.emission_type.vocabulary == vocabulary
    prime = vocabulary[-4:]
    text = "".join(generate(loaded, prime, length=60, seed=0))
    assert len(text) == 60 and set(text) <= set(vocabulary) and len(set(text)) > 5
    codes = torch.tensor([vocabulary.index(character) for character in prime])
    stream = sample(model, prime=codes.view(-1, 2) if kind == "chained" else codes, seed=0)
    drawn = [next(stream).x.flatten() for _ in range(30 if kind == "chained" else 60)]
    assert text == "".join(vocabulary[code] for code in torch.cat(drawn))
    assert [len(one) for one in generate_many(loaded, 3, prime, length=20, seed=0)] == [20] * 3
    with pytest.raises(ValueError, match="~"):
        generate(loaded, "~~")


def test_codes_are_the_places_of_their_characters():
    vocabulary = VOCABULARIES["a thousand characters"]
    assert encode(vocabulary[5] + vocabulary[999], vocabulary=vocabulary).tolist() == [5, 999]
    model = CharRNN(1000, 8, emission=Categorical(vocabulary=vocabulary))
    with torch.no_grad():
        model.emission_net[0].weight.zero_()
        model.emission_net[0].bias.zero_()[700] = 50.0
    assert "".join(generate(model, length=3, seed=0)) == 3 * vocabulary[700]
