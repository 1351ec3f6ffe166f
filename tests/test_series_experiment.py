"""Tests of data/experiments/series.py: rows that differ in what they are held against alone, chosen on validation."""

import itertools
import json
import sys

import pytest
import torch
from chapters import ROOT
from helpers import count, exact, experiment

from vrnn_tutorial import CharRNN, evaluate
from vrnn_tutorial.calibration import covered, crps
from vrnn_tutorial.checkpoint import load_checkpoint, save_checkpoint
from vrnn_tutorial.corpora.piano_rolls import Parts
from vrnn_tutorial.corpora.series import walks
from vrnn_tutorial.generation import forecast

tuned, runs = experiment("tuned"), experiment("series")


def small(name: str) -> Parts[torch.Tensor]:
    """Short sequences in place of a set's, of as many entries; some of them too short for a forecast."""
    x = walks(9, 8, seed=1)
    x = [x.expand(-1, 12) + torch.arange(12) * x.roll(1, 0) if name == "vowels" else x for x in x]
    return Parts(x[:4], x[4:6], [*x[6:], x[0][:5]])


@pytest.fixture
def few(tmp_path, monkeypatch, quiet_disk):
    """Nine short sequences, small models, five updates, and an empty folder in the project's."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(runs, "SETS", {name: runs.Set(5, 4, 3, (1, 2)) for name in runs.SETS})
    monkeypatch.setattr(runs, "data_of", small)
    monkeypatch.setattr(runs, "ROWS", {name: row._replace(hidden=4) for name, row in runs.ROWS.items()})
    monkeypatch.setattr(runs, "PARTICLES", 2)
    monkeypatch.setattr(runs, "FUTURES", 5)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return tmp_path


def every_run() -> list:
    """All that there can be, whatever dropout is chosen."""
    return [tuned.Run(row, p, seed) for row in runs.ROWS for p in runs.DROPOUTS for seed in range(tuned.SEEDS)]


def figures(loss: float, **more) -> dict:
    return {"parameters": 7, "validation": [{"update": 1, "loss": loss + 1}, {"update": 2, "loss": loss}], **more}


def test_rows_of_a_set_have_equally_many_parameters_and_differ_in_what_their_names_say(monkeypatch):
    monkeypatch.setattr(runs, "data_of", small)
    models = {name: row.model(0.1) for name, row in runs.ROWS.items()}
    for name in runs.SETS:
        counts = [count(model) for label, model in models.items() if label.startswith(name)]
        assert len(counts) >= 2 and max(counts) / min(counts) < 1.02
    same = {"depth": 2, "dropout": 0.1, "embedding_size": 32, "num_layers": 1, "rnn": "gru"}
    for name, model in models.items():
        set_, emission, kind, *_ = name.split("-")
        assert model.configuration | same | {"input_size": 12 if set_ == "vowels" else 1} == model.configuration
        assert isinstance(model, CharRNN) == (kind == "rnn") and runs.ROWS[name].set == set_
        learned = torch.cat(small(set_).train).double().mean(0)
        torch.testing.assert_close(model.emission_type.shift, learned, rtol=0, atol=1e-6)
        inner = model.emission_type.emission
        assert (type(inner).__name__ == "GaussianMixture") == (emission == "mixture")
        assert getattr(inner, "missing", False) == (set_ == "co2")  # the others have no holes


def test_the_parts_hold_what_they_are_named_for():
    vowels, air, made = (runs.data_of(name) for name in ("vowels", "co2", "walks"))
    assert [len(part) for part in vowels] == [216, 54, 370] and vowels.train[0].shape == (20, 12)
    assert {x.shape for part in air for x in part} == {(156, 1)} and min(map(len, air)) > 3
    # Less what was a year ago, a little more than one part per million is left, and no window is in two parts.
    assert 0.5 < air.train[0].nanmean() < 1 < torch.stack(air.test).nanmean() < 2.5
    ends = [(part[0][0].item(), part[-1][-1].item()) for part in air]
    assert len(set(itertools.chain(*ends))) == 6
    assert [len(part) for part in made] == [200, 100, 300]
    assert not {x[0].item() for x in made.train} & {x[0].item() for x in made.test}


def test_every_row_is_tuned_alike_and_no_two_runs_share_a_name():
    names = [run.name for run in every_run()]
    assert len(set(names)) == len(names) and not set(names) & set(runs.LINEAR)
    for row in runs.ROWS:
        assert tuple(run.dropout for run in runs.experiment().tuning(runs.ROWS) if run.row == row) == runs.DROPOUTS
    assert {run.seed for run in runs.experiment().tuning(runs.ROWS)} == {0}


def test_all_trainings_are_asked_for_the_same_but_for_model_set_seed_and_folder(few, monkeypatch):
    asked = {}

    def stopped(model, corpus, **options):
        asked[options["out"].name] = corpus, options
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", stopped)
    monkeypatch.setattr(runs, "SETS", {name: runs.Set(1000, 4, 3, (1,)) for name in runs.SETS})
    for run in every_run():
        with pytest.raises(KeyboardInterrupt):
            runs.make(run)
        corpus, options = asked[run.name]
        assert options.pop("out") == few / runs.FOLDER / run.name
        assert options.pop("seed") == corpus.seed == run.seed
        rate, weight, updates = options.pop("learning_rate"), options.pop("kl_weight"), options.pop("updates")
        assert updates == (5000 if "longer" in run.name else 1000)
        assert (rate(100), rate(updates), weight(0), weight(updates // 5)) == (0.01, 0, 0, 1)
        assert weight(updates // 5 - 1) < 1 and rate(updates - 1) > 0
        assert options["resume"] and corpus.batch_size == 64
        data = small(runs.ROWS[run.row].set)
        torch.testing.assert_close([corpus.sequences[0], corpus.validation[0][:, 0]], [data[0][0], data[1][0]], **exact)
    for (_, ours), (_, theirs) in itertools.pairwise(asked.values()):
        assert ours == theirs


def test_all_runs_fit_into_an_hour_of_two_cores():
    times = len(runs.DROPOUTS) + tuned.SEEDS - 1
    assert times * sum(row.updates * row.seconds for row in runs.ROWS.values()) < 0.9 * 3600 * 2
    long, short = (runs.experiment().seconds(tuned.Run(f"vowels-gauss-rnn{name}", 0, 0)) for name in ("-longer", ""))
    assert long == 5 * short


@pytest.mark.parametrize("row", ["vowels-gauss-vrnn", "co2-gauss-rnn"])
def test_a_run_goes_on_where_it_was_stopped_and_leaves_its_line_and_its_weights(few, capsys, row):
    run = tuned.Run(row, 0.2, 0)
    folder = few / runs.FOLDER / run.name
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "figures_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        runs.make(run)
    assert runs.experiment().read() == {} and (folder / "last.safetensors").exists()
    found = runs.make(run)
    assert [entry["update"] for entry in found["validation"]] == [0, 5]
    assert found["parameters"] == count(runs.ROWS[run.row].model(0))
    runs.experiment().keep(run, found)
    assert capsys.readouterr().out == f"{run.name} is done\n" and not folder.exists()
    assert runs.experiment().read() == {run.name: json.loads(json.dumps(found))}
    # What was evaluated is what was kept.
    path = folder.with_name(f"{row}.safetensors")
    assert path.stat().st_size < 2.6 * found["parameters"] + 5000
    assert runs.figures_of(load_checkpoint(path), runs.ROWS[row].set) == found["test"]


@pytest.mark.parametrize(("seed", "other", "evaluated"), [(0, -1e6, False), (0, 1e6, True), (1, -1e6, True)])
def test_a_run_of_the_first_seed_is_evaluated_only_if_it_is_the_best_so_far(few, seed, other, evaluated):
    kept = few / runs.FOLDER / "walks-gauss-rnn.safetensors"
    save_checkpoint(kept, CharRNN(hidden_size=4))
    before = kept.read_bytes()
    path = few / runs.RESULTS
    path.parent.mkdir(parents=True)
    # Another row's is no rival.
    lines = {tuned.Run("walks-gauss-rnn", 0.2, 0): figures(other), tuned.Run("co2-gauss-rnn", 0.2, 0): figures(-1e7)}
    path.write_text(json.dumps({run.name: line for run, line in lines.items()}))
    run = tuned.Run("walks-gauss-rnn", 0.4, seed)
    found = runs.make(run)
    assert ("test" in found) == evaluated
    runs.experiment().keep(run, found)
    assert (kept.read_bytes() != before) == (evaluated and seed == 0)


def test_the_other_seeds_have_the_dropout_that_was_best_on_validation(few):
    losses = dict(zip(runs.DROPOUTS, (3.0, 2.0, 4.0)))
    for row, dropout in itertools.product(("vowels-gauss-rnn", "co2-gauss-vrnn"), runs.DROPOUTS):
        if (row, dropout) != ("co2-gauss-vrnn", 0.0):
            run = tuned.Run(row, dropout, 0)
            weights = runs.experiment().weights(run)
            weights.parent.mkdir(parents=True, exist_ok=True)
            weights.write_bytes(str(dropout).encode())
            runs.experiment().keep(run, figures(losses[dropout]))
    assert (
        runs.experiment().best("vowels-gauss-rnn").dropout
        == runs.experiment().best("co2-gauss-vrnn").dropout
        == runs.DROPOUTS[1]
    )
    # The other row is still being tuned.
    assert runs.experiment().further(runs.ROWS) == [("vowels-gauss-rnn", runs.DROPOUTS[1], seed) for seed in (1, 2)]
    assert (few / runs.FOLDER / "vowels-gauss-rnn.safetensors").read_text() == str(runs.DROPOUTS[1])
    lines = (few / runs.RESULTS).read_text().splitlines()
    assert len(lines) == 7 and lines[1].startswith('"co2-gauss-vrnn-dropout-0.2-seed-0": {"parameters": 7')


def test_figures_of_a_model_are_those_of_the_test_part(few):
    torch.manual_seed(0)
    model = runs.ROWS["walks-gauss-rnn"].model(0.0).eval()
    test = small("walks").test
    found = runs.figures_of(model, "walks")
    assert found["loss"] == pytest.approx(evaluate(model, test).loss, abs=1e-4)
    each = [model(x[:, None]).reconstruction.sum().item() for x in test]
    assert found["sequences"] == pytest.approx(each, abs=1e-3)
    assert sum(each) / sum(map(len, test)) == pytest.approx(found["loss"], abs=1e-4)
    assert {"fivo", "live"}.isdisjoint(found)
    # Of the last one, of 5 steps, there is no future of 3.
    draws = forecast(model, [x[:4] for x in test[:3]], 3, draws=5, seed=0).draws
    came = torch.stack([x[4:7] for x in test[:3]], 1)
    assert found["crps"] == pytest.approx(crps(draws, came).mean((1, 2)).tolist(), abs=1e-4)
    assert found["coverage"] == pytest.approx(covered(draws, came, 0.8).mean((1, 2)).tolist(), abs=1e-4)


def test_of_a_model_with_z_each_sequence_has_its_bound(few, monkeypatch):
    monkeypatch.setattr(runs, "PARTICLES", 64)
    torch.manual_seed(0)
    found = runs.figures_of(runs.ROWS["walks-gauss-vrnn"].model(0.0).eval(), "walks")
    assert len(found["sequences"]) == 4
    assert sum(found["sequences"]) / 29 == pytest.approx(found["fivo"], abs=1e-4) and found["fivo"] < found["loss"]


def test_the_order_of_an_autoregression_is_chosen_on_validation(few, monkeypatch):
    # What is tested by goes to and fro: there the mean alone does better than the step before.
    x = walks(8, 8, seed=1)
    fro = [(-1.0) ** torch.arange(8)[:, None] + 0.1 * each for each in x[:3]]
    data = Parts(x[:5], x[5:], fro)
    monkeypatch.setattr(runs, "data_of", lambda name: data)
    found = runs.linear("walks", True, (0, 1))
    losses = [-torch.cat([runs.LinearAR.fit(data.train, order).log_prob(y) for y in fro]).mean() for order in (0, 1)]
    assert found["order"] == 1 and losses[0] < losses[1]
    nats = [-runs.LinearAR.fit(data.train, 1).log_prob(y).sum().item() for y in fro]
    assert found["test"]["sequences"] == pytest.approx(nats, abs=1e-3)
    assert found["test"]["loss"] == pytest.approx(losses[1].item(), abs=1e-4)
    assert len(found["test"]["crps"]) == 3


def test_the_list_has_what_is_missing(few, monkeypatch, capsys):
    (few / runs.RESULTS).parent.mkdir(parents=True)
    done = {run.name: figures(1.0) for run in runs.experiment().tuning(runs.ROWS) if run.row == "vowels-gauss-rnn"}
    (few / runs.RESULTS).write_text(json.dumps(done))
    monkeypatch.setattr(sys, "argv", ["series.py", "--list"])
    runs.main()
    *listed, last = capsys.readouterr().out.splitlines()
    names = [line.split()[-1] for line in listed]
    assert names[0] == "walks-gauss-rnn-dropout-0.2-seed-0" and len(names) == 38
    assert names[-2:] == ["vowels-gauss-rnn-dropout-0.2-seed-1", "vowels-gauss-rnn-dropout-0.2-seed-2"]
    assert last.startswith("38 runs are missing, ") and last.endswith("and 24 whose dropout is still to be chosen")


def test_what_is_committed_came_from_these_runs():
    lines = runs.experiment().read()
    known = {run.name: run for run in every_run()}
    assert set(lines) <= set(known) | set(runs.LINEAR) and set(runs.LINEAR) <= set(lines)
    for name, run in known.items():
        if name in lines:
            assert lines[name]["parameters"] == count(runs.ROWS[run.row].model(0))
    for row in runs.ROWS:
        path = ROOT / runs.FOLDER / f"{row}.safetensors"
        of_row = [run.name for run in runs.experiment().tuning(runs.ROWS) if run.row == row and run.name in lines]
        assert path.exists() == bool(of_row)
        if of_row:
            best = min(of_row, key=lambda name: tuned.chosen_by(lines[name]))
            assert len(lines[best]["test"]["sequences"]) == len(runs.data_of(runs.ROWS[row].set).test)
            assert (
                load_checkpoint(path).configuration
                == runs.ROWS[row].model(float(best.split("-dropout-")[1].split("-")[0])).configuration
            )
