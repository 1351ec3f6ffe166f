"""Tests of data/experiments/bach.py: sizes, pieces in other keys, one training that goes on from another."""

import json

import pytest
import torch
from helpers import count, experiment

from vrnn_tutorial import VRNN, CharRNN, VRNNCell, bounds, load_checkpoint
from vrnn_tutorial.batches import Sequences
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.corpora.chorales import HELD, RESTS, VOICES, pitches_of
from vrnn_tutorial.corpora.piano_rolls import Parts
from vrnn_tutorial.lengths import pad

tuned, bach = experiment("tuned"), experiment("bach")


def of(folder) -> "tuned.Experiment":
    """The experiment whose results and weights are in a folder."""
    return tuned.Experiment(bach.ROWS, bach.DROPOUTS, folder / "bach.json", folder)


def test_every_model_is_as_large_as_forty_thousand_parameters_allow():
    counts = {name: count(row.model(0.0)) for name, row in bach.ROWS.items()}
    assert all(39_000 < count <= 40_000 for count in counts.values()), counts


def test_what_is_compared_differs_in_one_thing():
    for name, row in bach.ROWS.items():
        if name.endswith("-moved"):
            still = bach.ROWS[name.removesuffix("-moved")]
            after = row.after and row.after.removesuffix("-moved")
            assert row._replace(moved=False, after=after, updates=still.updates) == still and row.moved
        if row.after:
            before = bach.ROWS[row.after]
            same = ("emission", "hidden", "latent", "moved")
            assert [getattr(row, key) for key in same] == [getattr(before, key) for key in same]
            assert list(bach.ROWS).index(row.after) < list(bach.ROWS).index(name)
    rnns = {name for name, row in bach.ROWS.items() if type(row.model(0.0)) is CharRNN}
    assert rnns == {name for name in bach.ROWS if "rnn" in name.split("-")}


def roll_of(*keys: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([keys]).T, 88).amax(0).float()


@pytest.mark.parametrize(
    ("keys", "room"), [((40, 50), (-5, 6)), ((2, 50), (-2, 6)), ((40, 85), (-5, 2)), ((0, 87), (0, 0))]
)
def test_a_roll_may_move_as_far_as_the_keys_reach(keys, room):
    roll = roll_of(*keys)
    assert bach.room(roll) == room
    for semitones in room:
        there = bach.moved(roll, semitones)
        assert there[0].nonzero().flatten().tolist() == [key + semitones for key in keys]
        assert torch.equal(bach.moved(there, -semitones), roll)


def test_silence_stays_where_it_is():
    assert bach.room(torch.zeros(3, 88)) == (0, 0)
    voices = torch.full((3, 4), RESTS)
    low, high = bach.room(voices)
    assert low <= 0 <= high and torch.equal(bach.moved(voices, 3), voices)


def test_voices_move_together_within_their_ranges():
    """The highest soprano may go down alone; pitches move by the semitones, and what is held is held."""
    voices = torch.tensor([[VOICES[0].codes - 1, 10, 10, 3], [HELD, 12, HELD, RESTS], [20, HELD, 9, 5]])
    assert bach.room(voices) == (-1, 0)
    there = bach.moved(voices, -1)
    before, after = pitches_of(voices), pitches_of(there)
    assert torch.equal(after, torch.where(before > 0, before - 1, 0))
    assert torch.equal(there == HELD, voices == HELD) and torch.equal(there == RESTS, voices == RESTS)


def test_each_batch_moves_its_pieces_anew_and_a_seed_fixes_how():
    pieces = [roll_of(40, 44 + i).repeat(2 + i, 1) for i in range(6)]
    corpus = bach.Transposed(pieces, 3, seed=1)
    ours, again, still = (iter(c) for c in (corpus, bach.Transposed(pieces, 3, seed=1), Sequences(pieces, 3, seed=1)))
    seen = set()
    for _ in range(60):
        (x, lengths), (same, _), (plain, real) = next(ours), next(again), next(still)
        assert torch.equal(x, same) and torch.equal(lengths, real)
        for b, length in enumerate(lengths.tolist()):
            semitones = int(x[0, b].nonzero()[0]) - int(plain[0, b].nonzero()[0])
            seen.add(semitones)
            assert torch.equal(x[:, b], bach.moved(plain[:, b], semitones))
            assert not x[length:, b].any()
    assert seen == set(range(-5, 7))


def test_bounds_are_means_over_all_frames_of_all_pieces():
    torch.manual_seed(0)
    model = VRNN(VRNNCell(88, 6, 3, embedding_size=4, emission="bernoulli")).double().eval()
    pieces = [(torch.rand(t, 88) < 0.1).double() for t in (3, 9, 5)]
    assert {len(piece) for piece in pieces} == {3, 5, 9}
    total = 0.0
    with torch.no_grad():
        x, lengths = pad([pieces[0], pieces[2], pieces[1]])
        total = -bounds.fivo(model, x, 8, torch.Generator().manual_seed(0), lengths=lengths).sum().item()
    assert bach.bound_of("fivo", model, pieces, 8) == pytest.approx(total / 17, abs=1e-12)
    single, many = (bach.bound_of("iwae", model, pieces * 40, K) for K in (1, 128))
    assert many < single
    figures = bach.figures_of(model, pieces)
    assert list(figures["fivo"]) == [8, 32, 128, 1000] and list(figures["iwae"]) == [8, 32, 128]
    assert figures["fivo"][8] == pytest.approx(total / 17, abs=1e-12)


def test_losses_are_of_frames_not_of_voices(tmp_path, monkeypatch):
    """By hand: all nats of all pieces over the number of frames."""
    torch.manual_seed(0)
    pieces = [torch.stack([torch.randint(voice.codes, (t,)) for voice in VOICES], 1) for t in (4, 7)]
    model = bach.ROWS["voices-rnn"].model(0.0).eval()
    with torch.no_grad():
        per_frame = sum(model(piece[:, None]).reconstruction.sum().item() for piece in pieces) / 11
    assert bach.figures_of(model, pieces)["loss"] == pytest.approx(per_frame)
    monkeypatch.setattr(bach, "data_of", lambda coding, rolls: Parts(pieces, pieces, pieces))
    monkeypatch.setattr(bach, "ROWS", {"a": bach.ROWS["voices-rnn"]._replace(updates=5)})
    figures = bach.make(tuned.Run("a", 0.0, 0), None, of(tmp_path))
    kept = load_checkpoint(of(tmp_path).weights(tuned.Run("a", 0.0, 0)))
    assert figures["chosen"] == min(entry["loss"] for entry in figures["validation"])
    assert figures["chosen"] == pytest.approx(bach.figures_of(kept, pieces)["loss"], rel=1e-3)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Rows of few updates on few pieces, and a folder of their own."""
    torch.manual_seed(0)
    pieces = [(torch.rand(4 + i % 3, 88) < 0.05).float() for i in range(9)]
    parts = Parts(pieces[:5], pieces[5:7], pieces[7:])
    monkeypatch.setattr(bach, "data_of", lambda coding, rolls: parts)
    first = bach.Row(bach.Bernoulli(), 4, 5, 1.0, latent=2)
    monkeypatch.setattr(bach, "ROWS", {"a": first, "b": first._replace(objective="fivo", after="a", updates=4)})
    monkeypatch.setattr(bach, "LADDER", (2, 3))
    return tmp_path, parts


def test_a_run_goes_on_from_the_one_that_it_is_after(small, monkeypatch):
    """From its weights as they were chosen, made again if they are not there, at the same dropout and seed."""
    folder, parts = small
    asked, real = [], bach.train

    def told(model, corpus, **options):
        asked.append((model, {name: tensor.clone() for name, tensor in model.state_dict().items()}, options))
        return real(model, corpus, **options)

    monkeypatch.setattr(bach, "train", told)
    figures = bach.make(tuned.Run("b", 0.1, 1), None, of(folder))
    (_, _, first), (model, began, second) = asked
    assert [options.get("objective", "elbo") for options in (first, second)] == ["elbo", "fivo"]
    assert second["keep"] == [1, 2, 3, 4] and second["particles"] == 8 and model.cell.dropout == 0.1
    before = load_checkpoint(folder / "runs" / "a-dropout-0.1-seed-1.safetensors").state_dict()
    assert all(torch.equal(began[name], tensor) for name, tensor in before.items())
    kept = load_checkpoint(of(folder).weights(tuned.Run("b", 0.1, 1)))
    assert figures["chosen"] == pytest.approx(bach.bound_of("fivo", kept, parts.validation, 3), abs=0.01)
    assert figures["test"] == bach.figures_of(kept, parts.test)
    assert [entry["update"] for entry in figures["validation"]] == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in folder.iterdir()) == ["b-dropout-0.1-seed-1", "runs"]


def test_a_row_keeps_its_best_and_tests_nothing_else(small):
    folder, _ = small
    experiment = of(folder)
    runs = experiment.tuning(["a"])
    assert [run.dropout for run in runs] == [0.2, 0.4, 0.6] and {run.seed for run in runs} == {0}

    def recorded(run, chosen):
        save_checkpoint(experiment.weights(run), bach.ROWS["a"].model(run.dropout))
        experiment.keep(run, experiment.tested(run, {"chosen": chosen}, lambda model: {"test": model.cell.dropout}))
        return experiment.read()[run.name]

    torch.manual_seed(0)
    found = [recorded(run, chosen) for run, chosen in zip(runs[:2], (3.0, 2.0))]
    assert experiment.further(["a"]) == []  # there is a dropout to come
    found.append(recorded(runs[2], 2.5))
    assert [figures.get("test") for figures in found] == [0.2, 0.4, None]
    assert experiment.best("a") == runs[1]
    kept, own = (load_checkpoint(path).state_dict() for path in (folder / "a.safetensors", experiment.weights(runs[1])))
    assert all(torch.equal(kept[name], tensor) for name, tensor in own.items())
    assert experiment.further(["a"]) == [tuned.Run("a", 0.4, seed) for seed in (1, 2)]
    assert recorded(tuned.Run("a", 0.4, 1), 9.0)["test"] == 0.4
    later = load_checkpoint(folder / "a.safetensors").state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in later.items())


def test_the_command_makes_what_is_missing_and_lists_it(small, monkeypatch, capsys, tmp_path):
    assert small[1].train
    results = tmp_path / "mine.json"

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["bach.py", "--results", str(results), "-j", "1", *arguments])
        bach.main()
        return capsys.readouterr().out.splitlines()

    assert command() == []  # rolls without a file
    assert len(command("--list")) == 7
    monkeypatch.setattr(bach, "DROPOUTS", (0.1,))
    done = command("--rolls", str(tmp_path / "some.json"))
    assert done == [f"{row}-dropout-0.1-seed-{seed} is done" for row in "ab" for seed in range(3)]
    assert set(json.loads(results.read_text())) == {line.removesuffix(" is done") for line in done}
    assert all("test" in figures for figures in json.loads(results.read_text()).values())
    assert sorted(path.name for path in (tmp_path / "mine").glob("*.safetensors")) == ["a.safetensors", "b.safetensors"]
    assert command("--rolls", "x") == []
    (last,) = command("--list")
    assert last.startswith("0 runs are missing, 0 minutes of one core to train; and 0 ")


@pytest.mark.parametrize("name", ["voices-vrnn", "voices-chained-rnn", "voices-rnn"])
def test_a_model_of_voices_begins_at_how_often_each_has_its_codes(name):
    """With weights of zero but for the emission's last bias, what it says of a frame are these shares."""
    pieces = [torch.tensor([[0, 5, 1, 7], [0, 5, 1, 8]]), torch.tensor([[3, 5, 1, 8]])]
    model = bach.ROWS[name].model(0.0).eval()
    bach.begin(model, pieces)
    part = getattr(model, "cell", model)
    bias = part.emission_net[-1].bias.detach().view(4, -1).softmax(-1)
    of = 3 + bach.CODES / 2
    assert (of * bias[0, [0, 3]]).tolist() == pytest.approx([2.5, 1.5])
    assert (of * bias[:, 5]).tolist() == pytest.approx([0.5, 3.5, 0.5, 0.5])
    assert bias.sum(-1).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("name", ["rolls-vrnn", "rolls-rnn"])
def test_a_model_of_rolls_begins_at_how_often_each_note_sounds(name):
    torch.manual_seed(0)
    model = bach.ROWS[name].model(0.0)
    usual = getattr(model, "cell", model).phi_x.embedding.weight.detach().clone()
    bach.begin(model, [roll_of(40, 50), roll_of(50), roll_of(50, 87)])
    part = getattr(model, "cell", model)
    sound = part.emission_net[-1].bias.detach().sigmoid()
    assert sound[[0, 40, 50, 87]].tolist() == pytest.approx([0.125, 0.375, 0.875, 0.375])
    assert torch.equal(part.phi_x.embedding.weight, bach.INPUT * usual)


def committed() -> dict[str, "tuned.Run"]:
    """Of each row that has results its best run, whose weights are kept."""
    experiment = tuned.Experiment(bach.ROWS, bach.DROPOUTS, bach.RESULTS, bach.FOLDER)
    found = experiment.read()
    done = [row for row in bach.ROWS if any(run.name in found for run in experiment.tuning([row]))]
    return {row: experiment.best(row) for row in done}


def test_of_every_row_that_has_results_the_best_weights_are_kept():
    assert {path.stem for path in bach.FOLDER.glob("*.safetensors")} == set(committed())
    assert sum(path.stat().st_size for path in bach.FOLDER.glob("*.safetensors")) < 2e6
    results = tuned.read(bach.RESULTS)
    for row, run in committed().items():
        model, figures = load_checkpoint(bach.FOLDER / f"{row}.safetensors"), results[run.name]
        assert figures["parameters"] == count(model) <= 40_000
        assert model.configuration["dropout"] == run.dropout


@pytest.mark.parametrize("row", [row for row in committed() if bach.ROWS[row].coding == "voices"])
def test_the_committed_results_are_those_of_the_committed_weights(row):
    """The exact loss, or the bound of eight particles."""
    told = tuned.read(bach.RESULTS)[committed()[row].name]["test"]
    model, pieces = load_checkpoint(bach.FOLDER / f"{row}.safetensors"), bach.data_of("voices", None).test
    if model.latent_size:
        assert bach.bound_of("fivo", model, pieces, 8) == pytest.approx(told["fivo"]["8"], abs=0.02)
        assert told["fivo"]["1000"] < told["fivo"]["8"] < told["iwae"]["8"] < told["loss"]
    else:
        x, lengths = pad(pieces)
        with torch.no_grad():
            nats = model.eval()(x, lengths=lengths).reconstruction.sum().item()
        assert nats / sum(lengths).item() == pytest.approx(told["loss"], abs=1e-3)
