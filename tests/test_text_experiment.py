"""Tests of data/experiments/text.py: controls of equal size, its two rulers and its descent, each by hand."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import char_rnn, count, experiment, trained_by, vrnn

from vrnn_tutorial import VRNN, load_checkpoint
from vrnn_tutorial import __main__ as command_line
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.evaluation import evaluate
from vrnn_tutorial.text import corpus_from_file

text = experiment("text")


@pytest.fixture(scope="module")
def trained() -> dict[str, dict]:
    return trained_by(text.runs())


def test_what_is_compared_has_as_many_parameters(trained):
    large = [count(trained[name]["model"]) for name in text.LARGE]
    assert max(large) <= 3_000_000 and max(large) < 1.01 * min(large)
    assert 0.98 * 95_104 < count(trained["small"]["model"]) <= 95_104
    tenth = [count(options["model"]) for name, options in trained.items() if name.startswith("deeper")]
    assert len(tenth) == 12 and max(tenth) < 1.01 * min(tenth)


def test_the_deeper_models_share_one_recipe(trained):
    """Seeds, models and folders differ, and nothing else."""
    deeper = {name: options for name, options in trained.items() if name.startswith("deeper")}
    told = [{k: repr(o[k]) for k in o if k not in ("model", "out", "seed")} for o in deeper.values()]
    assert all(each == told[0] for each in told)
    for kind, layers in (("vrnn", 1), ("vrnn", 2), ("charrnn", 1), ("charrnn", 2)):
        of_kind = [deeper[f"deeper-{kind}-{layers}-seed-{seed}"] for seed in range(3)]
        assert [options["seed"] for options in of_kind] == [0, 1, 2]
        for options in of_kind:
            configuration = options["model"].configuration
            assert type(options["model"]) is (VRNN if kind == "vrnn" else CharRNN)
            assert configuration["num_layers"] == layers and configuration["rnn"] == "lstm"
            regularised = [configuration[key] for key in ("dropout", "locked_dropout", "weight_dropout")]
            assert regularised == [0.2, True, 0.2]


def test_the_two_large_models_are_treated_alike(trained):
    for key in ("learning_rate", "weight_decay", "ema_decay", "clip", "seed", "evaluate_every"):
        ours, theirs = (trained[name][key] for name in text.LARGE)
        assert getattr(ours, "peak", ours) == getattr(theirs, "peak", theirs)
    ours, theirs = (trained[name]["model"].configuration for name in text.LARGE)
    different = {key for key in theirs if key in ours and ours[key] != theirs[key]}
    assert different == {"hidden_size"} and ours["input_size"] == 65


def test_a_run_has_its_own_folder_and_goes_on_where_it_was(trained):
    assert len(trained) == len(text.runs())
    for name, options in trained.items():
        assert Path(options["out"]) == text.FOLDER / name and options["resume"]


@pytest.fixture
def fox(tmp_path, monkeypatch) -> Path:
    """A short text in Shakespeare's place, and an empty folder in the project's."""
    path = tmp_path / "fox.txt"
    path.write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    monkeypatch.setattr(text, "ROOT", tmp_path)
    monkeypatch.setattr(text, "shakespeare", lambda: corpus_from_file(path))
    return path


@pytest.mark.parametrize(("name", "bfloat16"), [("vrnn", True), ("vrnn", False), ("deeper-vrnn-1-seed-0", True)])
def test_a_run_is_trained_measured_and_not_made_again(tmp_path, fox, name, bfloat16, monkeypatch, capsys):
    """The figures are those of the weights in half precision."""
    asked = f"--text {fox} --vocabulary own --hidden 4 --batch 2 --length 8 --updates 2 --resume --threads 1"
    run = text.Run(name, f"{asked} --out {text.FOLDER / name}".split(), 1.0)
    commands, real, folder = [], subprocess.run, tmp_path / text.FOLDER / name

    def told(command, **options):
        commands.append(command)
        return real(command, **options)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", told)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(text, "measured", stopped)
        text.make(run, bfloat16)
    history = json.loads((folder / "history.json").read_text())
    whole = load_checkpoint(folder / "best.safetensors").state_dict()
    of_half = {}
    monkeypatch.setattr(
        text,
        "measured",
        lambda weights, dynamically: of_half.update(load_checkpoint(weights).state_dict()) or {"dynamic": dynamically},
    )
    for _ in range(2):
        text.make(run, bfloat16)
    assert capsys.readouterr().out == f"{name} is done\n" and len(commands) == 2
    assert [("--bfloat16" in command) for command in commands] == [bfloat16 and name == "vrnn"] * 2
    for key, tensor in whole.items():
        assert torch.equal(of_half[key], tensor.half().float())
    assert any(not torch.equal(of_half[key], tensor) for key, tensor in whole.items())
    kept = [path.name for path in folder.parent.iterdir()]
    assert kept == (["vrnn.safetensors"] if name == "vrnn" else [])
    figures = text.read(tmp_path / text.RESULTS)[name]
    assert figures.pop("dynamic") == (name == "vrnn")
    for entry, known in zip(figures.pop("validation"), history["validation"], strict=True):
        assert entry == {key: known[key] for key in ("update", "loss", "kl")}
    assert set(figures) == {"command", "versions", "seconds", "processor_seconds"}
    assert figures["command"].startswith(f"python -m vrnn_tutorial train {asked}")


def test_a_model_is_measured_on_the_parts_that_are_named(tmp_path, fox, monkeypatch):
    torch.manual_seed(0)
    own = corpus_from_file(fox, vocabulary="own")
    model = CharRNN(len(own.vocabulary), 8, emission=command_line.Categorical(1, own.vocabulary)).eval()
    save_checkpoint(tmp_path / "model.safetensors", model)
    figures = text.measured(tmp_path / "model.safetensors", True)
    assert figures["parameters"] == count(model)
    for part in ("validation", "test", "last_tenth"):
        assert figures["evaluation"][part]["loss"] == pytest.approx(evaluate(model, getattr(own, part)).loss)
    assert figures["blocks"] == pytest.approx(text.in_blocks(model, own.last_tenth))
    dynamic = figures["dynamic"]
    assert list(dynamic["tried"]) == list(text.RATES)
    assert dynamic["tried"][dynamic["rate"]] == min(dynamic["tried"].values())
    half = own.validation[: len(own.validation) // 2]
    assert dynamic["tried"][0.0] == pytest.approx(evaluate(model, half).loss)
    followed = text.followed(load_checkpoint(tmp_path / "model.safetensors"), own.last_tenth, dynamic["rate"])
    assert dynamic["last_tenth"] == pytest.approx(followed)
    assert dynamic["last_tenth"] < figures["evaluation"]["last_tenth"]["loss"]
    assert "dynamic" not in text.measured(tmp_path / "model.safetensors", False)


def test_a_rate_at_which_a_model_comes_apart_is_null_and_is_not_taken(tmp_path, fox, monkeypatch):
    own = corpus_from_file(fox, vocabulary="own")
    model = CharRNN(len(own.vocabulary), 4, emission=command_line.Categorical(1, own.vocabulary)).eval()
    save_checkpoint(tmp_path / "model.safetensors", model)
    losses = {0.0: 2.0, 0.01: 1.5, 0.03: 1.6, 0.1: float("nan"), 0.3: float("inf")}
    monkeypatch.setattr(text, "followed", lambda model, codes, rate: losses[rate])
    dynamic = text.measured(tmp_path / "model.safetensors", True)["dynamic"]
    assert dynamic == {"rate": 0.01, "tried": {**losses, 0.1: None, 0.3: None}, "last_tenth": 1.5}


@pytest.mark.parametrize("model", [char_rnn(), vrnn()], ids=["charrnn", "vrnn"])
def test_blocks_are_read_from_nothing_but_the_character_before(model):
    """By hand: one block after the other, one step after the other."""
    codes = torch.randint(128, (2 * text.BLOCK + 100,))
    generator, noise = torch.Generator().manual_seed(0), None
    if isinstance(model, VRNN):  # drawn for both blocks at once
        shape = (text.BLOCK + 1, 2, model.cell.latent_size)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    total = 0.0
    for i in range(2):
        block = codes[i * text.BLOCK : (i + 1) * text.BLOCK + 1]
        out = model(block[:, None], **({} if noise is None else {"noise": noise[:, i : i + 1]}))
        total += (out.reconstruction + out.kl)[1:].sum().item()
    assert text.in_blocks(model, codes) == pytest.approx(total / (2 * text.BLOCK), abs=1e-9)


def test_weights_that_stand_still_give_the_carried_loss():
    model, codes = char_rnn(), torch.randint(128, (130,))
    assert text.followed(model, codes, 0.0) == pytest.approx(evaluate(model, codes).loss, abs=1e-9)


def test_each_segment_is_scored_before_the_weights_follow_it():
    """By hand, with stochastic gradient descent as torch has it."""
    model, other, codes = char_rnn(), char_rnn(), torch.randint(128, (3 * text.SEGMENT - 5,))
    descent, total, state = torch.optim.SGD(other.parameters(), 0.05), 0.0, None
    for part in codes.split(text.SEGMENT):
        out = other(part[:, None], state)
        total += out.reconstruction.sum().item()
        state = out.state.detach()
        descent.zero_grad()
        out.reconstruction.mean().backward()
        descent.step()
    assert text.followed(model, codes, 0.05) == pytest.approx(total / len(codes), abs=1e-9)


def test_what_is_committed_came_from_these_commands():
    """But for --bfloat16, which a processor may have or not; and no weights lie there but those that are kept."""
    results, made = text.read(text.ROOT / text.RESULTS), {run.name: run for run in text.runs()}
    assert set(results) <= set(made)
    for name, figures in results.items():
        command = figures["command"].removesuffix(" --bfloat16")
        assert command == f"python -m vrnn_tutorial train {' '.join(made[name].arguments)}"
    kept = {f"{name}.safetensors" for name in results if name in text.KEPT}
    assert {path.name for path in (text.ROOT / text.FOLDER).glob("*.safetensors")} == kept


def test_the_list_has_the_runs_that_are_missing(fox, monkeypatch, capsys):
    first, *others = text.runs()
    for run in others:
        text.record(text.ROOT / text.RESULTS, run.name, {})
    monkeypatch.setattr("sys.argv", ["text.py", "--list"])
    text.main()
    listed, last = capsys.readouterr().out.splitlines()
    assert listed.split("train ")[1] == " ".join(first.arguments)
    assert last == f"1 of {len(text.runs())} runs are missing: {first.seconds / 60:.0f} minutes of one core to train"
    monkeypatch.setattr("sys.argv", ["text.py", "--list", "deeper"])
    text.main()
    assert capsys.readouterr().out == "0 of 12 runs are missing: 0 minutes of one core to train\n"
