"""Tests of data/experiments/: commands that the command line knows, controls that are the controls they are called."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers import count, experiment, trained_by

from vrnn_tutorial import VRNN, VRNNCell, load_checkpoint
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.evaluation import evaluate
from vrnn_tutorial.text import corpus_from_file

latent = experiment("latent")
record = experiment("results").record


@pytest.fixture(scope="module")
def trained() -> dict[str, dict]:
    return trained_by(latent.runs())


def told(options: dict) -> dict:
    """What was asked of `train`, in a form that can be compared; without the seed and the folder."""
    model, asked = options["model"].configuration, {key: options[key] for key in options if key not in ("out", "seed")}
    return asked | {"model": model, "corpus": repr(options["corpus"])}


def test_each_run_has_its_own_folder_and_goes_on_where_it_was(trained):
    assert len(trained) == len(latent.runs())
    for name, options in trained.items():
        assert Path(options["out"]) == latent.FOLDER / name and options["resume"]


def test_controls_have_the_width_or_the_number_of_parameters(trained):
    for name, options in trained.items():
        kind, seed = name.split("-", 1)[1].rsplit("-seed-", 1)
        if kind not in ("width", "count", "chained"):
            continue
        model, vrnn = options["model"], trained[f"{name.split('-')[0]}-vrnn-seed-{seed}"]
        assert type(model) is CharRNN
        assert model.configuration["emission"] == ("chained" if kind == "chained" else "categorical")
        if kind == "count":
            assert abs(count(model) / count(vrnn["model"]) - 1) < 0.01
        else:
            assert model.hidden_size == vrnn["model"].cell.hidden_size
        same = ("updates", "seed", "clip", "weight_decay", "evaluate_every")
        assert [options[key] for key in same] == [vrnn[key] for key in same]


def test_what_does_not_minimise_the_elbo_is_judged_by_its_last_weights(trained):
    for run in latent.runs():
        options = trained[run.name]
        weighed_by_one = options["kl_weight"] == 1 or getattr(options["kl_weight"], "stop", None) == 1
        elbo = weighed_by_one and options["objective"] == "elbo"
        kept = [options["updates"]] * (not elbo or options["free_bits"] > 0)
        assert options["keep"] == kept
        assert run.weights == (f"update-{options['updates']}.safetensors" if kept else "best.safetensors")


def test_trainings_are_compared_that_differ_in_one_thing_alone(trained):
    """Each control of the VRNN, beside what it is compared with."""
    for k, name, other, differ in [
        (2, "vrnn-chained", "vrnn", {"model"}),
        *((k, "no-noise", "vrnn", {"model"}) for k in (1, 2)),
        *((k, "elbo-16", "vrnn", {"corpus"}) for k in (2, 4)),
        *(
            (k, f"{bound}-16", "elbo-16", {"objective", "particles", "keep"})
            for k in (2, 4)
            for bound in ("fivo", "iwae")
        ),
        (2, "sampled-kl-16", "elbo-16", {"objective", "keep"}),
        (2, "iwae-16", "sampled-kl-16", {"particles"}),
        (4, "free-bits-6", "vrnn", {"free_bits", "keep"}),
        (1, "longer", "vrnn", {"updates", "learning_rate"}),
        (1, "longer-annealing", "longer", {"kl_weight"}),
        (1, "longer-annealing-word-dropout", "longer-annealing", {"word_dropout"}),
    ]:
        for seed in range(latent.SEEDS):
            ours, theirs = (told(trained[f"k{k}-{kind}-seed-{seed}"]) for kind in (name, other))
            assert {key for key in ours if ours[key] != theirs[key]} == differ


def test_several_particles_see_so_many_sequences_less(trained):
    for name, options in trained.items():
        few = "elbo-16" in name or "sampled-kl-16" in name
        assert len(next(iter(options["corpus"]))[0]) * options["particles"] == (16 if few else 64)


def test_after_the_longer_annealing_the_rate_falls_as_slowly_as_without(trained):
    rate, whole = (trained[f"k1-{kind}-seed-0"]["learning_rate"] for kind in ("longer-annealing", "vrnn"))
    assert (
        trained["k1-longer-annealing-seed-0"]["kl_weight"](749)
        < 1
        == trained["k1-longer-annealing-seed-0"]["kl_weight"](750)
    )
    assert rate(749) == rate.peak and rate.updates - 750 == whole.updates
    of_all = sum(map(rate, range(2250)))
    assert sum(map(rate, range(750, 2250))) / of_all == pytest.approx(2 / 3, abs=0.01)


def test_all_runs_fit_into_six_hours_of_two_cores():
    assert sum(run.seconds for run in latent.runs()) < 0.8 * 6 * 3600 * 2  # the rest is for evaluation and bounds


@pytest.fixture
def fox(tmp_path, monkeypatch) -> Path:
    """A short text in Shakespeare's place, and an empty folder in the project's."""
    text = tmp_path / "fox.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    monkeypatch.setattr(latent, "ROOT", tmp_path)
    monkeypatch.setattr(latent, "shakespeare", lambda: corpus_from_file(text))
    return text


@pytest.mark.parametrize("name", ["a-seed-0", "k1-count-seed-0"])
def test_a_run_is_trained_evaluated_bounded_and_not_made_again(tmp_path, fox, name, monkeypatch, capsys):
    """Stopped before its bounds are there, it leaves its folder; done, its figures, and weights if they are read."""
    run = latent.Run(name, f"--text {fox} --hidden 4 --batch 2 --length 8 --updates 2 --keep 2 --resume --out "
                     f"{latent.FOLDER / name}".split(), 1.0, "update-2.safetensors")  # fmt: skip
    folder, evaluated, real = tmp_path / latent.FOLDER / name, [], subprocess.run

    def evaluate_the_text(command, **options):
        if "evaluate" in command:
            evaluated.append(command)
            command = [*command, "--text", fox, "--draws", "1"]
        return real(command, **options)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", evaluate_the_text)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(latent, "bounds_of", stopped)
        latent.make(run)
    assert latent.results() == {}
    history, evaluation = (json.loads((folder / f"{part}.json").read_text()) for part in ("history", "evaluation"))
    monkeypatch.setattr(latent, "bounds_of", lambda checkpoint, most: [checkpoint.name, most])
    for _ in range(2):
        latent.make(run)
    assert capsys.readouterr().out == f"{name} is done\n" and len(evaluated) == 2
    assert all(latent.FOLDER / name / "update-2.safetensors" in command for command in evaluated)
    kept = [path.name for path in folder.parent.iterdir()]
    assert kept == ([f"{name}.safetensors"] if name == "a-seed-0" else [])
    if kept:
        assert load_checkpoint(folder.parent / kept[0]).cell.hidden_size == 4
    figures = latent.results()[name]
    assert figures.pop("bounds") == ["update-2.safetensors", 64]
    assert figures.pop("evaluation") == evaluation
    for told, entry in zip(figures.pop("validation"), history["validation"], strict=True):
        assert told == {key: entry[key] for key in ("update", "loss", "kl")}
    assert figures == {key: history[key] for key in ("command", "versions", "seconds", "processor_seconds")}


@pytest.mark.parametrize("name", ["best", "charrnn-same-width"])
def test_a_model_of_chapter_4_is_bounded_once(name, tmp_path, fox, monkeypatch):
    path = tmp_path / "data" / "checkpoints" / name / "best.safetensors"
    if name == "best":
        path = tmp_path / "package" / "best.safetensors"
        monkeypatch.setattr(latent, "BEST", path)
    save_checkpoint(path, CharRNN(hidden_size=4))
    latent.bound_earlier(name)
    found = latent.results()
    assert len(found[name]["bounds"]["exact"]) == 64
    monkeypatch.setattr(latent, "bounds_of", None)
    latent.bound_earlier(name)
    assert latent.results() == found


def test_two_runs_that_are_done_at_once_are_both_recorded(tmp_path, fox):
    """In the order of their names, a line for each."""
    names = [f"run-{i:02}" for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: record(tmp_path / latent.RESULTS, name, {"bounds": {}}), reversed(names)))
    assert list(latent.results()) == names
    assert (tmp_path / latent.RESULTS).read_text().splitlines()[1] == '"run-00": {"bounds": {}},'


def test_what_is_committed_came_from_these_commands():
    """What a run with another command left would not be made again; and no weights lie there but those of its runs."""
    results, made = latent.results(), {run.name: run for run in latent.runs() if run.name in latent.results()}
    assert set(results) == {*made, *latent.EARLIER}
    for name, run in made.items():
        assert results[name]["command"] == f"python -m vrnn_tutorial train {' '.join(run.arguments)}"
    kept = {f"{name}.safetensors" for name, run in made.items() if run.keeps_weights}
    assert {path.name for path in (latent.ROOT / latent.FOLDER).glob("*.safetensors")} == kept


def test_the_list_has_the_runs_that_are_missing(fox, monkeypatch, capsys):
    first, *others = latent.runs()
    for run in others[1:]:
        record(latent.ROOT / latent.RESULTS, run.name, {})
    monkeypatch.setattr("sys.argv", ["latent.py", "--list"])
    latent.main()
    *listed, last = capsys.readouterr().out.splitlines()
    assert [line.split("train ")[1] for line in listed] == [" ".join(run.arguments) for run in (first, others[0])]
    minutes = (first.seconds + others[0].seconds) / 60
    assert last == f"2 of {len(latent.runs())} runs are missing: {minutes:.0f} minutes of one core to train"


@pytest.mark.parametrize("k", [1, 2])
def test_bounds_are_of_pieces_spread_over_the_test_part(tmp_path, fox, k):
    torch.manual_seed(0)
    rnn, vrnn = CharRNN(hidden_size=4, characters=k), VRNN(VRNNCell(hidden_size=4, latent_size=3, characters=k))
    noiseless = VRNN(VRNNCell(hidden_size=4, latent_size=3, characters=k, stochastic=False))
    for name, model in (("rnn", rnn), ("vrnn", vrnn), ("noiseless", noiseless)):
        save_checkpoint(tmp_path / name / "best.safetensors", model)
        record(tmp_path / latent.RESULTS, name, latent.bounds_of(tmp_path / name / "best.safetensors", 16))
    found = latent.results()
    test = corpus_from_file(fox).test
    for name, model in (("rnn", rnn), ("noiseless", noiseless)):
        first, last = evaluate(model, test[:300]).loss, evaluate(model, test[-300:]).loss
        assert list(found[name]) == ["exact"] and len(found[name]["exact"]) == 64
        assert [found[name]["exact"][i] for i in (0, -1)] == pytest.approx([first, last], abs=1e-4)
    assert list(found["vrnn"]["iwae"]) == list(found["vrnn"]["fivo"]) == ["1", "4", "16"]
    for ladder in found["vrnn"].values():
        means = {K: sum(values) / 64 for K, values in ladder.items()}
        assert means["16"] < means["4"] < means["1"] == pytest.approx(evaluate(vrnn, test[:300]).loss, abs=0.1)
