"""Tests of data/experiments/pen.py: rows that are equal in all but what they are held against, chosen on validation."""

import itertools
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from chapters import ROOT
from helpers import experiment

from vrnn_tutorial import CharRNN, evaluate
from vrnn_tutorial.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from vrnn_tutorial.corpora.kanji import CREDIT
from vrnn_tutorial.drawing import to_steps
from vrnn_tutorial.lengths import pad

tuned, runs = experiment("tuned"), experiment("pen")

SQUARE = to_steps([[(20, 20), (90, 20), (90, 90)], [(20, 20), (20, 90), (90, 90)]])
CROSS = to_steps([[(50, 10), (50, 100)], [(10, 50), (100, 50)], [(70, 70)]])


@pytest.fixture
def few(tmp_path, monkeypatch, quiet_disk):
    """Two drawings in place of the 6,355, small models, two updates, and an empty folder in the project's."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(runs, "UPDATES", 5)
    parts = {part: [SQUARE, CROSS] for part in ("train", "validation", "test")}
    monkeypatch.setattr(runs, "kanji", lambda: SimpleNamespace(**parts))
    monkeypatch.setattr(runs, "ROWS", {name: row._replace(hidden=4) for name, row in runs.ROWS.items()})
    monkeypatch.setattr(runs, "INVENTED", 4)
    monkeypatch.setattr(runs, "PARTICLES", 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return tmp_path


def every_run() -> list:
    """All that there can be, whatever dropout is chosen."""
    return [tuned.Run(row, p, seed) for row in runs.ROWS for p in runs.DROPOUTS for seed in range(tuned.SEEDS)]


def figures(loss: float, **more) -> dict:
    return {"parameters": 7, "validation": [{"update": 1, "loss": loss + 1}, {"update": 2, "loss": loss}], **more}


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_rows_have_equally_many_parameters_and_differ_in_what_their_names_say():
    models = {name: row.model(0.1) for name, row in runs.ROWS.items()}
    counts = [parameters(model) for model in models.values()]
    assert max(counts) / min(counts) < 1.02 and all(abs(count / 100_000 - 1) < 0.01 for count in counts)
    same = {"depth": 2, "dropout": 0.1, "embedding_size": 64, "num_layers": 1, "rnn": "gru", "input_size": 5}
    for name, model in models.items():
        emission, kind = name.split("-", 1)
        configuration = model.configuration
        assert configuration | same == configuration
        assert isinstance(model, CharRNN) == (kind == "rnn")
        if kind != "rnn":
            assert model.latent_size == 16
            assert configuration["prior"] == ("standard" if kind == "vrnn-standard" else "conditional")
        inner = model.emission_type.emission
        expected = {
            "gauss": (1, False, False),
            "mixture": (20, False, False),
            "joint": (20, True, False),
            "position": (20, True, True),
        }[emission]
        assert (inner.components, inner.joint, inner.position) == expected


def test_every_row_is_tuned_alike_and_no_two_runs_share_a_name():
    assert len({run.name for run in every_run()}) == len(every_run())
    for row in runs.ROWS:
        assert [run.dropout for run in runs.experiment().tuning(runs.ROWS) if run.row == row] == [0.1, 0.2, 0.0]
    assert {run.seed for run in runs.experiment().tuning(runs.ROWS)} == {0}


def test_all_trainings_are_asked_for_the_same_but_for_model_seed_and_folder(few, monkeypatch):
    asked = {}

    def stopped(model, corpus, **options):
        asked[options["out"].name] = corpus, options
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", stopped)
    monkeypatch.setattr(runs, "UPDATES", 4000)
    for run in every_run():
        with pytest.raises(KeyboardInterrupt):
            runs.make(run)
        corpus, options = asked[run.name]
        assert options.pop("out") == few / runs.FOLDER / run.name
        assert options.pop("seed") == corpus.seed == run.seed
        rate, weight = options["learning_rate"], options["kl_weight"]
        assert (rate(100), rate(4000), weight(0), weight(800)) == (0.01, 0, 0, 1) and weight(799) < 1
        assert options["updates"] == 4000 and options["resume"]
        assert corpus.batch_size == 64 and corpus.width == (1, 1, 0, 0, 0)
    for (one, ours), (other, theirs) in itertools.pairwise(asked.values()):
        assert ours == theirs
        assert torch.equal(one.validation[0], other.validation[0])  # whatever the seed
    noise = (one.validation[0] - pad([SQUARE, CROSS])[0])[..., :2]
    assert 0.3 < noise.abs().max() <= 0.5


def test_all_runs_fit_into_three_hours_of_two_cores():
    times = len(runs.DROPOUTS) + tuned.SEEDS - 1
    assert times * sum(runs.UPDATES * row.seconds for row in runs.ROWS.values()) < 0.9 * 3 * 3600 * 2


def test_a_run_goes_on_where_it_was_stopped_and_leaves_its_line_and_its_weights(few, capsys, monkeypatch):
    run = tuned.Run("gauss-vrnn", 0.1, 0)
    folder = few / runs.FOLDER / run.name
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "figures_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        runs.make(run)
    assert runs.experiment().read() == {} and (folder / "last.safetensors").exists()
    found = runs.make(run)
    assert [entry["update"] for entry in found["validation"]] == [0, 5]
    assert found["parameters"] == parameters(runs.ROWS[run.row].model(0))
    assert set(found["invented"]) == {"ended", "inside", "copies"}
    runs.experiment().keep(run, found)
    assert capsys.readouterr().out == f"{run.name} is done\n" and not folder.exists()
    assert runs.experiment().read() == {run.name: json.loads(json.dumps(found))}
    # What was evaluated is what was kept.
    path = folder.with_name("gauss-vrnn.safetensors")
    model, _, about = read_checkpoint(path)
    assert about["credit"] == CREDIT and path.stat().st_size < 2.6 * parameters(model) + 4000
    again = runs.figures_of(model.eval(), runs.dequantised([SQUARE, CROSS], runs.WIDTH))
    assert again == found["test"]


@pytest.mark.parametrize(("seed", "other", "evaluated"), [(0, 0.0, False), (0, 1e6, True), (1, 0.0, True)])
def test_a_run_of_the_first_seed_is_evaluated_only_if_it_is_the_best_so_far(few, seed, other, evaluated):
    kept = few / runs.FOLDER / "gauss-rnn.safetensors"
    save_checkpoint(kept, CharRNN(hidden_size=4))
    before = kept.read_bytes()
    path = few / runs.RESULTS
    path.parent.mkdir(parents=True)
    # Another row's is no rival.
    lines = {tuned.Run("gauss-rnn", 0.1, 0): figures(other), tuned.Run("mixture-rnn", 0.1, 0): figures(-1.0)}
    path.write_text(json.dumps({run.name: line for run, line in lines.items()}))
    run = tuned.Run("gauss-rnn", 0.2, seed)
    found = runs.make(run)
    assert ("test" in found) == ("invented" in found) == evaluated
    runs.experiment().keep(run, found)
    assert (kept.read_bytes() != before) == (evaluated and seed == 0)


def test_the_other_seeds_have_the_dropout_that_was_best_on_validation(few):
    losses = {0.1: 3.0, 0.2: 2.0, 0.0: 4.0}
    for row, dropout in itertools.product(("gauss-rnn", "joint-rnn"), runs.DROPOUTS):
        if (row, dropout) != ("joint-rnn", 0.0):
            run = tuned.Run(row, dropout, 0)
            weights = runs.experiment().weights(run)
            weights.parent.mkdir(parents=True, exist_ok=True)
            weights.write_bytes(str(dropout).encode())
            runs.experiment().keep(run, figures(losses[dropout]))
    assert runs.experiment().best("gauss-rnn") == ("gauss-rnn", 0.2, 0) and runs.experiment().best("joint-rnn") == (
        "joint-rnn",
        0.2,
        0,
    )
    assert runs.experiment().further(runs.ROWS) == [
        ("gauss-rnn", 0.2, 1),
        ("gauss-rnn", 0.2, 2),
    ]  # the other row is still being tuned
    assert (few / runs.FOLDER / "gauss-rnn.safetensors").read_text() == "0.2"
    lines = (few / runs.RESULTS).read_text().splitlines()
    assert len(lines) == 7 and lines[1].startswith('"gauss-rnn-dropout-0-seed-0": {"parameters": 7')


def test_figures_of_a_model_without_z_add_up(few):
    model = runs.ROWS["gauss-rnn"].model(0.1).eval()
    found = runs.figures_of(model, [SQUARE, CROSS])
    # Of 11 steps each stroke's first is a jump.
    assert (found["jumps"]["steps"], found["strokes"]["steps"]) == (5, 6)
    assert found["loss"] == pytest.approx(evaluate(model, [SQUARE, CROSS]).loss, abs=1e-4)
    both = 5 * found["jumps"]["reconstruction"] + 6 * found["strokes"]["reconstruction"]
    assert both / 11 == pytest.approx(found["loss"], abs=1e-4)
    first = model(SQUARE[:, None]).reconstruction[:, 0]
    assert found["drawings"] == pytest.approx([first.sum().item(), both - first.sum().item()], abs=1e-3)
    cross = model(CROSS[:, None]).reconstruction[:, 0]
    jumps = first[[0, 3]].sum() + cross[[0, 2, 4]].sum()
    assert found["jumps"]["reconstruction"] == pytest.approx(jumps.item() / 5, abs=1e-4)
    assert {"iwae", "fivo", "live", "entries"}.isdisjoint(found)


def test_figures_of_a_model_with_z_add_up(few, monkeypatch):
    monkeypatch.setattr(runs, "PARTICLES", 16)
    torch.manual_seed(1)
    model = runs.ROWS["gauss-vrnn"].model(0.1).eval()
    cell = model.cell
    with torch.no_grad():  # of 16 entries one tells of x
        for layer in (cell.prior_net[-1], cell.posterior_net[-1]):
            layer.bias.zero_(), layer.weight.mul_(0.1)
        cell.posterior_net[-1].weight[3] *= 100
    drawings = [SQUARE, CROSS] * 20
    found = runs.figures_of(model, drawings)
    assert found["live"] == [3]
    assert max(found["entries"]) == found["entries"][3]
    both = 5 * found["jumps"]["kl"] + 6 * found["strokes"]["kl"]
    assert sum(found["entries"]) == pytest.approx(both / 11, abs=1e-3) == pytest.approx(found["kl"], rel=0.1)
    for bound in ("iwae", "fivo"):
        assert found[bound]["loss"] < found["loss"] and 0 < found[bound]["error"] < 0.05
    assert sum(found["drawings"]) / sum(map(len, drawings)) == pytest.approx(found["fivo"]["loss"], abs=1e-4)
    # In their order, which is not that of their lengths.
    square, cross = found["drawings"][::2], found["drawings"][1::2]
    assert max(square) - min(square) < abs(sum(square) - sum(cross)) / 20 > max(cross) - min(cross)


def test_the_list_has_what_is_missing(few, monkeypatch, capsys):
    (few / runs.RESULTS).parent.mkdir(parents=True)
    done = {run.name: figures(1.0) for run in runs.experiment().tuning(runs.ROWS) if run.row == "gauss-rnn"}
    (few / runs.RESULTS).write_text(json.dumps(done))
    monkeypatch.setattr(sys, "argv", ["pen.py", "--list"])
    runs.main()
    *listed, last = capsys.readouterr().out.splitlines()
    names = [line.split()[-1] for line in listed]
    assert names[:2] == ["gauss-vrnn-dropout-0.1-seed-0", "gauss-vrnn-standard-dropout-0.1-seed-0"]
    assert names[-2:] == ["gauss-rnn-dropout-0.1-seed-1", "gauss-rnn-dropout-0.1-seed-2"] and len(names) == 26
    assert last.startswith("26 runs are missing, ") and last.endswith("and 16 whose dropout is still to be chosen")


def test_what_is_committed_came_from_these_runs():
    """Of each row that has a line the weights of seed 0 at the best dropout, each below 0.4 MB; and no others."""
    found, folder = runs.experiment().read(), ROOT / runs.FOLDER
    assert set(found) <= {run.name for run in every_run()}
    rows = {run.row for run in runs.experiment().tuning(runs.ROWS) if run.name in found}
    assert {path.stem for path in folder.glob("*.safetensors")} == rows
    for run in every_run():
        if run.name in found:
            line = found[run.name]
            assert line["parameters"] == parameters(runs.ROWS[run.row].model(0))
            assert [entry["update"] for entry in line["validation"]] == list(range(0, runs.UPDATES + 1, 250))
    for row in rows:
        run, path = runs.experiment().best(row), folder / f"{row}.safetensors"
        model = load_checkpoint(path)
        assert path.stat().st_size < 400_000 and model.configuration["dropout"] == run.dropout
        assert "test" in found[run.name] and "invented" in found[run.name]
