"""Tests of vrnn_tutorial/checkpoint.py: what is saved comes back bit for bit, and nothing else is ever let in."""

import contextlib
import errno
import glob
import json
import os
import pickle
import resource
import sys
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import Malicious
from hypothesis import given, settings
from hypothesis import strategies as st

from vrnn_tutorial import checkpoint, shakespeare
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import classes_of, load_checkpoint, read_checkpoint, read_parts, save_checkpoint
from vrnn_tutorial.emissions import (
    Bernoulli,
    Categorical,
    Chained,
    Emission,
    Gaussian,
    GaussianDistribution,
    GaussianMixture,
    Pen,
    Scaled,
    describe,
)
from vrnn_tutorial.files import BEST, write_atomically
from vrnn_tutorial.gaussian import DiagonalGaussian
from vrnn_tutorial.vae import VAE
from vrnn_tutorial.vrnn import VRNN

SIZES = {"input_size": 5, "hidden_size": 4, "embedding_size": 3}


def vrnn(batch_first: bool = False, **options) -> VRNN:
    return VRNN(VRNNCell(**SIZES, latent_size=2, **options), batch_first)


MODELS = {
    "VRNN": vrnn(),
    "VRNN, two LSTM layers, dropout": vrnn(rnn="lstm", num_layers=2, dropout=0.25),
    "VRNN, locked and weight dropout": vrnn(dropout=0.25, locked_dropout=True, weight_dropout=0.125),
    "CharRNN, locked and weight dropout": CharRNN(**SIZES, dropout=0.25, locked_dropout=True, weight_dropout=0.125),
    "VRNN, tanh, deep nets": vrnn(rnn="rnn", depth=2),
    "VRNN, two characters a step": vrnn(characters=2),
    "VRNN, Bernoulli, batch first": vrnn(batch_first=True, emission="bernoulli"),
    "VRNN, Gaussian": vrnn(emission="gaussian"),
    "VRNN, double precision": vrnn().double(),
    "CharRNN": CharRNN(**SIZES),
    "CharRNN, two LSTM layers, dropout": CharRNN(**SIZES, rnn="lstm", num_layers=2, dropout=0.25),
    "CharRNN, two characters a step, batch first": CharRNN(**SIZES, characters=2, batch_first=True),
    "VRNN, chained": vrnn(emission="chained", characters=2),
    "VRNN, mixture": vrnn(emission=GaussianMixture(3)),
    "VRNN, pen, joint, with its position": vrnn(emission=Pen(2, joint=True, position=True)),
    "VRNN, scaled pen": vrnn(emission=Scaled(Pen(2), 0.0, [20.0, 20.0, 1.0, 1.0, 1.0])),
    "VRNN, scaled mixture": vrnn(emission=Scaled(GaussianMixture(2), [1 / 3, 0.1, -2e-17, 1e300, 0.0], 2 / 3)),
    "VRNN, scaled Gaussian with holes": vrnn(emission=Scaled(Gaussian(missing=True), 0.1, 7.0)),
    "VRNN, Bernoulli with holes": vrnn(emission=Bernoulli(missing=True)),
    "VRNN, a vocabulary": vrnn(emission=Categorical(vocabulary="\0äßλ€")),
    "VRNN, standard prior": vrnn(prior="standard"),
    "VRNN, no noise": vrnn(stochastic=False),
    "CharRNN, chained, a vocabulary": CharRNN(**SIZES, emission=Chained(3, "\0äßλ€")),
    "VAE, scaled": VAE(5, 4, 2, emission=Scaled(Gaussian(), 1 / 3, 0.7)),
    "VAE": VAE(5, 4, 2),
    "VAE, Gaussian": VAE(5, 4, 2, emission="gaussian", depth=1),
}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


def sentence(error: pytest.ExceptionInfo) -> str:
    """The message of an error, of which a reader sees one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path) -> Path:
    """A checkpoint of a tiny VRNN, alone in its folder."""
    folder = tmp_path / "run"
    save_checkpoint(folder / "last.safetensors", MODELS["VRNN"])
    return folder / "last.safetensors"


# What is saved comes back


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_bit_for_bit(name, tmp_path):
    model = MODELS[name]
    with torch.no_grad():  # what a careless round trip through text or another type would lose
        first = next(model.parameters()).view(-1)
        first[:3] = torch.tensor([-0.0, 1 / 3, 1e-40], dtype=torch.float64).to(first.dtype)
    save_checkpoint(tmp_path / "model.safetensors", model)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert type(loaded) is type(model) and loaded.configuration == model.configuration
    assert type(loaded.emission_type) is type(model.emission_type)
    assert describe(loaded.emission_type) == describe(model.emission_type)
    assert loaded.emission_type.vocabulary == model.emission_type.vocabulary
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        assert ours[key].dtype == theirs[key].dtype and bits(ours[key]) == bits(theirs[key]), key
    assert not any(module.training for module in loaded.modules())
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@given(
    st.sampled_from([VRNN, CharRNN]),
    st.sampled_from(["gru", "lstm", "rnn"]),
    st.sampled_from(["categorical", "bernoulli", "gaussian"]),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    *[st.integers(1, 3)] * 6,
)
def test_so_does_one_of_any_kind_and_sizes(kind, rnn, emission, batch_first, dropout, V, H, E, layers, depth, k):
    options = {"rnn": rnn, "emission": emission, "dropout": dropout, "num_layers": layers, "depth": depth}
    options |= {"input_size": V, "hidden_size": H, "embedding_size": E}
    options["characters"] = k if emission == "categorical" else 1
    model = CharRNN(**options, batch_first=batch_first) if kind is CharRNN else VRNN(VRNNCell(**options), batch_first)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder, "model.safetensors"), model)
        loaded = load_checkpoint(Path(folder, "model.safetensors"))
    assert type(loaded) is kind and loaded.configuration == model.configuration
    ours, theirs = ({name: bits(tensor) for name, tensor in m.state_dict().items()} for m in (model, loaded))
    assert ours == theirs


def test_a_batch_first_model_reads_batches_first_when_it_is_back(tmp_path):
    model = MODELS["CharRNN, two characters a step, batch first"].eval()
    save_checkpoint(tmp_path / "model.safetensors", model)
    x = torch.arange(12).view(3, 2, 2) % 5
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert torch.equal(loaded(x).reconstruction, model(x).reconstruction)


def test_a_model_that_is_back_has_nothing_to_do_with_the_file_any_more(path):
    save_checkpoint(path, MODELS["VRNN"], {"counts": torch.arange(1000)})
    model, others, _ = read_checkpoint(path)
    with open(path, "r+b") as file:  # in place, as a careless copy would
        file.write(bytes(path.stat().st_size))
    assert all(bits(a) == bits(b) for a, b in zip(model.parameters(), MODELS["VRNN"].parameters(), strict=True))
    assert torch.equal(others["counts"], torch.arange(1000))


def test_other_tensors_and_facts_are_kept_beside_the_weights(tmp_path):
    tensors = {"state.0": torch.tensor([[0.1, -0.0]]), "counts": torch.arange(3)}
    save_checkpoint(tmp_path / "a.safetensors", MODELS["VAE"], tensors, update=7, note="é\n")
    model, others, about = read_checkpoint(tmp_path / "a.safetensors")
    assert type(model) is VAE
    assert {name: bits(tensor) for name, tensor in others.items()} == {n: bits(t) for n, t in tensors.items()}
    assert about == {"update": 7, "note": "é\n"}


def test_in_half_precision_a_file_has_half_the_size_and_is_loaded_in_single(tmp_path):
    model = CharRNN(hidden_size=120)
    save_checkpoint(tmp_path / "whole.safetensors", model)
    save_checkpoint(tmp_path / "half.safetensors", model, half=True)
    whole, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half"))
    assert half / whole == pytest.approx(0.5, abs=0.01)
    assert all(tensor.dtype == torch.float16 for tensor in read_parts(tmp_path / "half.safetensors")[1].values())
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert theirs.dtype == torch.float32 and bits(theirs) == bits(ours.half().float())
    assert not all(bits(a) == bits(b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert next(model.parameters()).dtype == torch.float32


def test_what_half_precision_cannot_hold_is_not_saved_in_it(path):
    model, before = vrnn(), path.read_bytes()
    with torch.no_grad():
        model.cell.phi_x.embedding.weight[0, 0] = 70_000
    with pytest.raises(ValueError) as error:
        save_checkpoint(path, model, half=True)
    assert sentence(error) == "cell.phi_x.embedding.weight has values beyond float16's; save it without half=True."
    assert path.read_bytes() == before
    save_checkpoint(path, model)
    assert load_checkpoint(path).cell.phi_x.embedding.weight[0, 0] == 70_000


def test_a_later_checkpoint_takes_the_place_of_the_earlier_one(path):
    save_checkpoint(path, MODELS["VAE"])
    assert type(load_checkpoint(path)) is VAE
    assert list(path.parent.iterdir()) == [path]


def test_a_scalers_numbers_come_back_to_the_last_digit(tmp_path):
    model = MODELS["VRNN, scaled mixture"]
    save_checkpoint(tmp_path / "a.safetensors", model.float())
    scaled = load_checkpoint(tmp_path / "a.safetensors").emission_type
    assert scaled.shift.tolist() == [1 / 3, 0.1, -2e-17, 1e300, 0.0] and scaled.scale.item() == 2 / 3


# Classes from outside the package


class Laplace(Emission):
    """An emission of a reader's, which has an argument and says so."""

    def __init__(self, least: float = 0.1):
        self.least = least

    @property
    def options(self):
        return {"least": self.least}

    def size(self, input_size):
        return 2 * input_size

    def distribution(self, raw):
        mean, width = raw.chunk(2, -1)
        return GaussianDistribution(mean, width.clamp(min=self.least))


class WideGaussian(Gaussian):
    """A subclass of an emission of the package's."""

    def distribution(self, raw):
        mean, log_std = super().distribution(raw)
        return GaussianDistribution(mean, log_std + 1)


class TimidCell(VRNNCell):
    """A subclass with an argument more, which it puts into its configuration."""

    def __init__(self, *args, factor: float = 0.5, **options):
        super().__init__(*args, **options)
        self.factor = factor
        self.configuration["factor"] = factor

    def prior(self, h):
        mean, log_std = super().prior(h)
        return DiagonalGaussian(mean * self.factor, log_std)


class BoundedCell(TimidCell):
    """A subclass of a subclass, each with an argument more."""

    def __init__(self, *args, most: float = 1.0, **options):
        super().__init__(*args, **options)
        self.most = most
        self.configuration["most"] = most

    def prior(self, h):
        mean, log_std = super().prior(h)
        return DiagonalGaussian(mean.clamp(max=self.most), log_std)


class OwnVRNN(VRNN):
    def forward(self, x, *args, **options):
        out = super().forward(x, *args, **options)
        return out._replace(kl=2 * out.kl)


class LouderVRNN(VRNN):
    """A subclass with an argument more, which it puts into its configuration."""

    def __init__(self, *args, gain: float = 1.0, **options):
        super().__init__(*args, **options)
        self.gain = gain

    @property
    def configuration(self):
        return {**super().configuration, "gain": self.gain}

    def forward(self, x, *args, **options):
        out = super().forward(x, *args, **options)
        return out._replace(kl=self.gain * out.kl)


class OwnCharRNN(CharRNN):
    def emission(self, h):
        return super().emission(-h)


OWN = {
    "emission": (vrnn(emission=Laplace(0.3)), [Laplace]),
    "emission, in a CharRNN": (CharRNN(**SIZES, emission=Laplace(0.3)), [Laplace]),
    "emission, in a VAE": (VAE(5, 4, 2, emission=Laplace(0.3)), [Laplace]),
    "emission, a subclass": (vrnn(emission=WideGaussian()), [WideGaussian]),
    "emission, in a scaler": (vrnn(emission=Scaled(Laplace(0.3), 1.0, 2.0)), [Laplace]),
    "emission, in two scalers": (vrnn(emission=Scaled(Scaled(Laplace(0.3), 1.0, 2.0), 3.0, 4.0)), [Laplace]),
    "cell": (VRNN(TimidCell(**SIZES, latent_size=2, factor=0.25)), [TimidCell]),
    "cell, a subclass's subclass": (
        VRNN(BoundedCell(**SIZES, latent_size=2, factor=0.25, most=0.01)),
        [BoundedCell],
    ),
    "VRNN": (OwnVRNN(VRNNCell(**SIZES, latent_size=2), batch_first=True), [OwnVRNN]),
    "VRNN, an argument": (LouderVRNN(VRNNCell(**SIZES, latent_size=2), batch_first=True, gain=3.0), [LouderVRNN]),
    "VRNN and cell, an argument each": (
        LouderVRNN(TimidCell(**SIZES, latent_size=2, factor=0.25), gain=3.0),
        [LouderVRNN, TimidCell],
    ),
    "CharRNN": (OwnCharRNN(**SIZES, characters=2), [OwnCharRNN]),
    "VRNN, cell and emission": (
        OwnVRNN(TimidCell(**SIZES, latent_size=2, factor=0.25, emission=Laplace(0.3))),
        [Laplace, TimidCell, OwnVRNN],
    ),
}


def losses(model) -> list[float]:
    """What a model says of some x, with one seed."""
    model = model.eval()
    generator = torch.Generator().manual_seed(0)
    if not model.emission_type.takes_codes:
        x = torch.rand((3, 5) if isinstance(model, VAE) else (3, 2, 5), generator=generator)
    else:
        k = model.emission_type.characters
        x = torch.randint(5, (3, 2, k) if k > 1 else (3, 2), generator=generator)
    out = model(x, generator=generator)
    return [*out.reconstruction.flatten().tolist(), *out.kl.flatten().tolist()]


@pytest.mark.parametrize("name", OWN)
def test_what_is_not_the_packages_is_loaded_with_its_class_and_refused_without(name, tmp_path):
    model, classes = OWN[name]
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, model)
    loaded = load_checkpoint(path, classes)
    assert type(loaded) is type(model) and loaded.configuration == model.configuration
    assert losses(loaded) == losses(model)
    assert losses(load_checkpoint(path, classes_of(model))) == losses(model)
    for left_out in classes:
        with pytest.raises(ValueError) as error:
            load_checkpoint(path, [found for found in classes if found is not left_out])
        asked = f"{left_out.__name__} is not a class of this package: give yours"
        assert sentence(error).startswith(f"{path}: {asked}") and sentence(error).endswith("nothing was loaded.")


def test_an_argument_of_a_subclass_comes_back(tmp_path):
    save_checkpoint(tmp_path / "own.safetensors", OWN["VRNN, cell and emission"][0])
    loaded = load_checkpoint(tmp_path / "own.safetensors", [Laplace, TimidCell, OwnVRNN])
    assert loaded.cell.factor == 0.25 and loaded.emission_type.least == 0.3


def test_a_subclass_that_would_lose_an_argument_is_not_saved(tmp_path):
    class Forgetful(VRNNCell):
        def __init__(self, *args, factor=0.5, **options):
            super().__init__(*args, **options)

    class Labelled(VRNN):
        def __init__(self, cell, label, batch_first=False):
            super().__init__(cell, batch_first)

    models = {
        r"Forgetful: its arguments \['factor'\]": VRNN(Forgetful(**SIZES)),
        r"Labelled: its arguments \['label'\]": Labelled(VRNNCell(**SIZES), "a"),
    }
    for expected, model in models.items():
        with pytest.raises(ValueError, match=expected + r" would be lost; name them in its configuration\.$"):
            save_checkpoint(tmp_path / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == []


def test_a_vrnn_that_does_not_take_a_cell_or_the_order_of_axes_is_not_saved(tmp_path):
    class Small(VRNN):
        def __init__(self, batch_first=False):
            super().__init__(VRNNCell(**SIZES), batch_first)

    class TimeFirst(VRNN):
        def __init__(self, cell):
            super().__init__(cell)

    for model in (Small(), TimeFirst(VRNNCell(**SIZES))):
        name = type(model).__name__
        with pytest.raises(ValueError, match=rf"^{name}: to be made again, it must take a cell and \['batch_first'\]"):
            save_checkpoint(tmp_path / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind, arguments",
    [
        (Categorical, ()),
        (Chained, (2, "abcde")),
        (Bernoulli, ()),
        (Gaussian, ()),
        (GaussianMixture, (2,)),
        (Pen, (2,)),
        (Scaled, (Gaussian(), 0.0, [2.0] * 5)),
    ],
)
@pytest.mark.parametrize("model", [vrnn, lambda **options: CharRNN(**SIZES, **options)], ids=["VRNN", "CharRNN"])
def test_a_subclass_of_any_emission_is_asked_and_comes_back_as_itself(kind, arguments, model, tmp_path):
    class Shifted(kind):
        def distribution(self, raw):
            return super().distribution(raw + 0.5)

    torch.manual_seed(0)
    plain = model(emission=kind(*arguments))
    torch.manual_seed(0)
    made = model(emission=Shifted(*arguments))
    save_checkpoint(tmp_path / "own.safetensors", made)
    with pytest.raises(ValueError, match=r"load_checkpoint\(..., classes=\[Shifted\]\); nothing was loaded"):
        load_checkpoint(tmp_path / "own.safetensors")
    loaded = load_checkpoint(tmp_path / "own.safetensors", [Shifted])
    raw = torch.randn(3, 200)[:, : plain.emission_type.size(5) + 9 * kind.reads_context]
    expected, *others = (each.emission_type.distribution(raw) for each in (plain, made, loaded))
    for other in others:
        for ours, theirs in zip(parameters_of(other), parameters_of(expected), strict=True):
            assert not torch.equal(ours, theirs)


def parameters_of(distribution) -> list[torch.Tensor]:
    distribution = getattr(distribution, "standard", distribution)
    return [part for part in distribution[:2] if isinstance(part, torch.Tensor)]


def test_a_subclass_of_its_parents_name_is_refused(tmp_path):
    models = [
        type("VRNN", (VRNN,), {})(VRNNCell(**SIZES)),
        VRNN(type("VRNNCell", (VRNNCell,), {})(**SIZES)),
        type("CharRNN", (CharRNN,), {})(**SIZES),
        type("VAE", (VAE,), {})(),
    ]
    for model in models:
        with pytest.raises(ValueError, match="is this package's: give yours a name of its own"):
            save_checkpoint(tmp_path / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="a class of the name Gaussian is this package's"):
        vrnn(emission=type("Gaussian", (Gaussian,), {})())


@pytest.mark.parametrize("classes", [Laplace, [Laplace()], "Laplace"], ids=["a class", "an instance", "a name"])
def test_classes_that_are_none_are_refused_in_one_sentence(tmp_path, classes):
    save_checkpoint(tmp_path / "own.safetensors", OWN["emission"][0])
    with pytest.raises(ValueError, match=r"classes must be a list of classes, as in classes=\[Mine\]") as error:
        load_checkpoint(tmp_path / "own.safetensors", classes)
    sentence(error)


@pytest.mark.parametrize("what", ["model", "cell", "both"])
def test_a_compiled_model_saves_what_can_be_loaded(tmp_path, what):
    model = vrnn()
    before = losses(model)
    names = list(model.state_dict())
    # Wrapped; the first call, which would compile, is not made.
    if what != "model":
        model.cell = torch.compile(model.cell, backend="eager")
    saved = torch.compile(model, backend="eager") if what != "cell" else model
    assert any("_orig_mod." in name for name in saved.state_dict())
    save_checkpoint(tmp_path / "compiled.safetensors", saved)
    assert set(read_parts(tmp_path / "compiled.safetensors")[1]) == set(names)
    loaded = load_checkpoint(tmp_path / "compiled.safetensors")
    assert type(loaded) is VRNN and type(loaded.cell) is VRNNCell
    assert list(loaded.state_dict()) == names and losses(loaded) == before


def test_nothing_is_imported_because_a_file_says_so(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\nclass Mine: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    save_checkpoint(tmp_path / "a.safetensors", MODELS["VRNN"])
    for name in ("trap.Mine", "trap", "os.system", "builtins.print"):
        emission = json.dumps({**MODELS["VRNN"].configuration, "emission": {"name": name}})
        for changed in ({"model": name}, {"cell": name}, {"configuration": emission}):
            rewrite(tmp_path / "a.safetensors", **changed)
            with pytest.raises(ValueError, match=f"{name} is not a class of this package"):
                load_checkpoint(tmp_path / "a.safetensors")
            save_checkpoint(tmp_path / "a.safetensors", MODELS["VRNN"])
    assert "trap" not in sys.modules


# The committed ones

COMMITTED = [
    BEST,
    *sorted(map(Path, glob.glob(f"{BEST.parents[1]}/data/checkpoints/**/*.safetensors", recursive=True))),
]


def test_every_committed_checkpoint_is_loaded_weight_by_weight():
    assert len(COMMITTED) > 30
    for path in COMMITTED:
        model, _, _ = read_checkpoint(path)
        with safetensors.safe_open(path, "pt") as file:
            weights = sum(file.get_tensor(n).numel() for n in file.keys() if n.startswith("model."))  # noqa: SIM118
            old = file.metadata()["model"] == "ChainedCharRNN"
        # An old chain shared phi_x's embedding, and has its own now.
        own = model.phi_x.embedding.weight.numel() if old else 0
        assert sum(weight.numel() for weight in model.parameters()) == weights + own, path
        assert all(bool(weight.isfinite().all()) for weight in model.parameters()), path


@pytest.mark.parametrize("name", ["k2-chained-seed-0", "k4-chained-seed-0"])
def test_a_chain_of_the_first_edition_gives_the_losses_that_it_gave(name):
    data = BEST.parents[1] / "data"
    model = load_checkpoint(data / f"checkpoints/latent/{name}.safetensors")
    k, text = int(name[1]), shakespeare().test
    assert type(model) is CharRNN and type(model.emission_type) is Chained and model.emission_type.characters == k
    # 64 pieces of 300 characters, as data/experiments/latent.py takes them.
    starts = torch.linspace(0, len(text) - 300, 64).long()
    x = text.unfold(0, 300, 1)[starts].view(64, -1, k).transpose(0, 1)
    with torch.no_grad():
        found = (model(x).reconstruction.sum(0) / 300).tolist()
    measured = json.loads((data / "experiments/latent.json").read_text())[name]["bounds"]["exact"]
    assert found == pytest.approx(measured, abs=1e-5)


# Nothing else is let in


def test_a_checkpoint_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError) as error:
            load_checkpoint(path)
        assert str(path) in sentence(error), length


CHECKPOINT = safetensors.torch.save(
    {"model." + name: tensor for name, tensor in MODELS["CharRNN"].state_dict().items()},
    {
        "format": "vrnn_tutorial 1",
        "model": "CharRNN",
        "configuration": json.dumps(MODELS["CharRNN"].configuration),
        "about": "{}",
    },
)


@given(st.integers(0, 8 + int.from_bytes(CHECKPOINT[:8], "little") - 1), st.integers(0, 255))
@settings(max_examples=200)
def test_a_damaged_header_gives_a_model_or_a_value_error(tmp_path_factory, position, byte):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(CHECKPOINT[:position] + bytes([byte]) + CHECKPOINT[position + 1 :])
    try:
        model = load_checkpoint(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(
            len(bits(p)) == len(bits(q))
            for p, q in zip(model.parameters(), MODELS["CharRNN"].parameters(), strict=True)
        )


def test_a_checkpoint_that_was_damaged_anywhere_is_refused(path):
    """Weights, too, of which any bit pattern is a number; of the header all but what the format leaves free."""
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    told = load_checkpoint(path).state_dict()
    for position in [*range(0, header, 7), *range(header, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            found = load_checkpoint(path).state_dict()
        except ValueError as error:
            assert str(path) in str(error) and "nothing was loaded" in str(error)
        else:  # another name for the digest, or a blank at the header's end
            assert position < header and all(torch.equal(found[name], told[name]) for name in told)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged: it does not hold what was saved; nothing was loaded"):
        load_checkpoint(path)


@pytest.mark.parametrize("change", [{"about": '{"update": 3}'}, {"add": {"state.0": torch.zeros(2)}}], ids=str)
def test_what_stands_beside_the_weights_is_held_to_the_hash_too(path, change):
    with safetensors.safe_open(path, "pt") as file:
        seal = file.metadata()["sha256"]
    rewrite(path, sha256=seal)
    load_checkpoint(path)  # it is the change that is refused
    rewrite(path, sha256=seal, **change)
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("how", ["torch.save", "torch.save, the old format", "pickle"])
def test_nothing_is_ever_unpickled(tmp_path, how):
    path, victim = tmp_path / "model.pt", tmp_path / "victim"  # as such files are called
    content = {"model.weight": Malicious(victim)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch.save")
    with contextlib.suppress(Exception):
        load_checkpoint(path)
    assert not victim.exists()
    with pytest.raises(ValueError) as error:
        load_checkpoint(path)
    assert str(path) in sentence(error)
    pickle.loads(pickle.dumps(Malicious(victim)))
    assert victim.exists()  # it would have worked


def rewrite(path: Path, drop: str = "", add: dict | None = None, **changed: str) -> None:
    """The checkpoint again, with other facts or tensors in it."""
    with safetensors.safe_open(path, "pt") as file:
        # Without the hash, as of a file that was saved before there was one.
        metadata = {key: told for key, told in file.metadata().items() if key != "sha256"} | changed
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118 (not a dict)
    path.write_bytes(safetensors.torch.save(tensors | (add or {}), metadata))


OTHER = {**MODELS["VRNN"].configuration, "hidden_size": 6}


@pytest.mark.parametrize(
    "change",
    [
        {"configuration": json.dumps(OTHER)},
        {"configuration": json.dumps({**OTHER, "hidden_size": -4})},
        {"configuration": json.dumps({**OTHER, "colour": "blue"})},
        {"configuration": "no JSON"},
        {"configuration": "[]"},
        {"model": "CharRNN"},
        {"model": "system"},
        {"drop": "model.cell.phi_x.embedding.weight"},
        {"add": {"model.cell.phi_y.weight": torch.zeros(2)}},
        {"add": {"model.cell.phi_x.embedding.weight": torch.zeros(2)}},
        {"format": "vrnn_tutorial 2"},
        {"format": "pt"},
    ],
    ids=lambda change: f"{next(iter(change))}: {next(iter(change.values()))}"[-60:],
)
def test_weights_without_their_configuration_are_refused(path, change):
    rewrite(path)
    load_checkpoint(path)  # it is the change that is refused
    rewrite(path, **change)
    with pytest.raises(ValueError) as error:
        load_checkpoint(path)
    assert str(path) in sentence(error) and "nothing was loaded" in sentence(error)


@pytest.mark.parametrize("layers", ["num_layers", "depth"])
def test_layers_that_the_weights_cannot_be_of_are_not_even_made(path, layers, monkeypatch):
    """They would take a minute for two hundred thousand."""
    rewrite(path, configuration=json.dumps({**MODELS["VRNN"].configuration, layers: 200_000}))
    monkeypatch.setattr(checkpoint, "make_model", lambda *arguments: pytest.fail("made"))
    with pytest.raises(ValueError, match="do not belong together; nothing was loaded") as error:
        load_checkpoint(path)
    assert str(path) in sentence(error)


def test_a_safetensors_file_from_elsewhere_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file(MODELS["VRNN"].state_dict(), path)
    with pytest.raises(ValueError, match="not saved by this project") as error:
        load_checkpoint(path)
    assert str(path) in sentence(error)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):  # a folder is none, either
        with pytest.raises(FileNotFoundError) as error:
            load_checkpoint(path)
        assert str(path) in sentence(error)


def test_a_file_that_cannot_be_read_is_not_said_to_be_missing(tmp_path):
    path = tmp_path / ("long" * 100)
    with pytest.raises(OSError, match="cannot be read") as error:
        load_checkpoint(path)
    assert not isinstance(error.value, FileNotFoundError) and str(path) in sentence(error)


# When the disk is full


@contextlib.contextmanager
def largest_file(size: int):
    """The system refuses to let a file grow beyond `size` bytes, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def disk_full_at(call: str):
    with pytest.MonkeyPatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, call, full)
        yield


FAILURES = {
    "write": lambda: largest_file(100),
    "fsync": lambda: disk_full_at("fsync"),
    "rename": lambda: disk_full_at("replace"),
}


@pytest.mark.parametrize("moment", FAILURES)
def test_a_save_that_fails_leaves_what_was_there(path, moment):
    before = path.read_bytes()
    with FAILURES[moment](), pytest.raises(OSError) as error:
        save_checkpoint(path, MODELS["CharRNN"])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert str(path) in sentence(error)
    assert error.value.errno == (errno.EFBIG if moment == "write" else errno.ENOSPC)


@pytest.mark.parametrize("moment", FAILURES)
def test_a_first_save_that_fails_leaves_nothing(tmp_path, moment):
    with FAILURES[moment](), pytest.raises(OSError):
        save_checkpoint(tmp_path / "model.safetensors", MODELS["CharRNN"])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(path):
    for place in (path / "below-a-file.safetensors", path.with_name("n" * 300), path.parent):
        with pytest.raises(OSError) as error:
            write_atomically(place, b"content")
        assert f"{place} could not be saved" in sentence(error)
    assert list(path.parent.iterdir()) == [path]
    assert [entry.name for entry in path.parent.parent.iterdir()] == ["run"]


def test_folders_on_the_way_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c.txt", b"content")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"content"
