"""Tests of data/experiments/: commands that the command line knows, controls that are the controls they are called."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
import torch
from chapters import ROOT

from vrnn_tutorial import VRNN, VRNNCell, load_checkpoint
from vrnn_tutorial import __main__ as command_line
from vrnn_tutorial.char_rnn import ChainedCharRNN, CharRNN
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.data import corpus_from_file
from vrnn_tutorial.evaluation import evaluate

PATH = ROOT / "data" / "experiments" / "latent.py"
spec = importlib.util.spec_from_file_location("latent", PATH)
latent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(latent)


@pytest.fixture(scope="module")
def trained() -> dict[str, dict]:
    """What each run would train: its model and its options, by its name."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line.torch, "set_num_threads", lambda _: None)
        for run in latent.runs():
            patch.setattr(command_line, "train", lambda model, _, name=run.name, **options: found.update(
                {name: {"model": model, **options}}) or iter([]))  # fmt: skip
            assert command_line.main(["train", *run.arguments]) == 0
    return found


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_each_run_has_its_own_folder_and_goes_on_where_it_was(trained):
    assert len(trained) == len(latent.runs())
    for name, options in trained.items():
        assert options["out"] == latent.FOLDER / name and options["resume"]


def test_controls_have_the_width_or_the_number_of_parameters(trained):
    for name, options in trained.items():
        kind, seed = name.split("-", 1)[1].rsplit("-seed-", 1)
        if kind not in ("width", "count", "chained"):
            continue
        model, vrnn = options["model"], trained[f"{name.split('-')[0]}-vrnn-seed-{seed}"]
        assert type(model) is (ChainedCharRNN if kind == "chained" else CharRNN)
        if kind == "count":
            assert abs(parameters(model) / parameters(vrnn["model"]) - 1) < 0.01
        else:
            assert model.hidden_size == vrnn["model"].cell.hidden_size
        same = ("updates", "seed", "clip", "weight_decay", "evaluate_every")
        assert [options[key] for key in same] == [vrnn[key] for key in same]


def test_what_does_not_minimise_the_elbo_is_judged_by_its_last_weights(trained):
    for run in latent.runs():
        options = trained[run.name]
        elbo = options["kl_weight"] == 1 or getattr(options["kl_weight"], "stop", None) == 1
        kept = [options["updates"]] * (not elbo or options["free_bits"] > 0)
        assert options["keep"] == kept
        assert run.weights == (f"update-{options['updates']}.safetensors" if kept else "best.safetensors")


def test_all_runs_fit_into_three_hours_of_two_cores():
    assert sum(run.seconds for run in latent.runs()) < 0.8 * 3 * 3600 * 2  # the rest is for evaluation and bounds


@pytest.fixture
def fox(tmp_path, monkeypatch) -> Path:
    """A short text in Shakespeare's place, and an empty folder in the project's."""
    text = tmp_path / "fox.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    monkeypatch.setattr(latent, "ROOT", tmp_path)
    monkeypatch.setattr(latent, "shakespeare", lambda: corpus_from_file(text))
    return text


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_is_trained_evaluated_bounded_and_not_made_again(tmp_path, fox, seed, monkeypatch, capsys):
    name = f"a-seed-{seed}"
    run = latent.Run(name, f"--text {fox} --hidden 4 --batch 2 --length 8 --updates 2 --keep 2 --resume --out "
                     f"{latent.FOLDER / name}".split(), 1.0, "update-2.safetensors")  # fmt: skip
    evaluated, real = [], subprocess.run

    def evaluate_the_text(command, **options):
        if "evaluate" in command:
            evaluated.append(command)
            command = [*command, "--text", fox, "--draws", "1"]
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", evaluate_the_text)
    latent.make(run)
    folder = tmp_path / latent.FOLDER / name
    kept = {"update-2.safetensors"} if seed == 0 else set()
    assert {path.name for path in folder.iterdir()} == {"history.json", "evaluation.json", "bounds.json", *kept}
    if seed == 0:
        assert load_checkpoint(folder / "update-2.safetensors").cell.hidden_size == 4
    latent.make(run)
    assert len(evaluated) == 1 and latent.FOLDER / name / "update-2.safetensors" in evaluated[0]
    assert capsys.readouterr().out == f"{name} is done\n"


@pytest.mark.parametrize("k", [1, 2])
def test_bounds_are_of_pieces_spread_over_the_test_part(tmp_path, fox, k):
    torch.manual_seed(0)
    rnn, vrnn = CharRNN(hidden_size=4, characters=k), VRNN(VRNNCell(hidden_size=4, latent_size=3, characters=k))
    found = {}
    for name, model in (("rnn", rnn), ("vrnn", vrnn)):
        save_checkpoint(tmp_path / name / "best.safetensors", model)
        latent.write_bounds(tmp_path / name / "best.safetensors", 16)
        found[name] = json.loads((tmp_path / name / "bounds.json").read_text())
    test = corpus_from_file(fox).test
    first, last = evaluate(rnn, test[:300]).loss, evaluate(rnn, test[-300:]).loss
    assert len(found["rnn"]["exact"]) == 64
    assert [found["rnn"]["exact"][i] for i in (0, -1)] == pytest.approx([first, last], abs=1e-4)
    assert list(found["vrnn"]["iwae"]) == list(found["vrnn"]["fivo"]) == ["1", "4", "16"]
    for ladder in found["vrnn"].values():
        means = {K: sum(values) / 64 for K, values in ladder.items()}
        assert means["16"] < means["4"] < means["1"] == pytest.approx(evaluate(vrnn, test[:300]).loss, abs=0.1)
