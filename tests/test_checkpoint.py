"""Tests of vrnn_tutorial/checkpoint.py: what is saved comes back bit for bit, and nothing else is ever let in."""

import contextlib
import errno
import json
import os
import pickle
import resource
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from vrnn_tutorial.files import write_atomically
from vrnn_tutorial.vae import VAE
from vrnn_tutorial.vrnn import VRNN

SIZES = {"input_size": 5, "hidden_size": 4, "embedding_size": 3}


def vrnn(batch_first: bool = False, **options) -> VRNN:
    return VRNN(VRNNCell(**SIZES, latent_size=2, **options), batch_first)


MODELS = {
    "VRNN": vrnn(),
    "VRNN, two LSTM layers, dropout": vrnn(rnn="lstm", num_layers=2, dropout=0.25),
    "VRNN, tanh, deep nets": vrnn(rnn="rnn", depth=2),
    "VRNN, two characters a step": vrnn(characters=2),
    "VRNN, Bernoulli, batch first": vrnn(batch_first=True, emission="bernoulli"),
    "VRNN, Gaussian": vrnn(emission="gaussian"),
    "VRNN, double precision": vrnn().double(),
    "CharRNN": CharRNN(**SIZES),
    "CharRNN, two LSTM layers, dropout": CharRNN(**SIZES, rnn="lstm", num_layers=2, dropout=0.25),
    "CharRNN, two characters a step, batch first": CharRNN(**SIZES, characters=2, batch_first=True),
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


def test_a_later_checkpoint_takes_the_place_of_the_earlier_one(path):
    save_checkpoint(path, MODELS["VAE"])
    assert type(load_checkpoint(path)) is VAE
    assert list(path.parent.iterdir()) == [path]


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


class Malicious:
    """An object that makes a file when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


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
        metadata = {**file.metadata(), **changed}
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
