"""Tests of vrnn_tutorial/run.py: what a run leaves in its folder, and that it goes on from there as it would have."""

import contextlib
import errno
import itertools
import json
import linecache
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
import runs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import (
    CODES,
    SIZES,
    contents,
    history,
    in_a_process_of_its_own,
    learned,
    press_ctrl_c,
    run,
    text_model,
    vector_model,
    vectors,
    weights,
)
from torch.testing import assert_close

from vrnn_tutorial import training
from vrnn_tutorial.batches import ContiguousStreams, RandomWindows
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from vrnn_tutorial.emissions import Gaussian
from vrnn_tutorial.evaluation import Evaluation
from vrnn_tutorial.run import read_records
from vrnn_tutorial.schedules import Cosine, Ramp
from vrnn_tutorial.training import train
from vrnn_tutorial.vrnn import VRNN

# What a run keeps


def test_a_history_adds_up_what_the_updates_took_by_the_clock_and_of_the_processor(tmp_path, monkeypatch):
    """Over all calls that the run was made in."""
    watches = types.SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(processor))
    wall, processor = itertools.count(0, 7), itertools.count(100, 2)
    monkeypatch.setattr(training, "time", watches)
    for updates in (3, 5):
        run(text_model(), RandomWindows(CODES, 2, 5), updates, out=tmp_path, resume=updates == 5)
        history = json.loads((tmp_path / "history.json").read_text())
        assert history["seconds"] == 7 * updates and history["processor_seconds"] == 2 * updates


def test_history_holds_every_record_to_the_last_digit(tmp_path):
    records = run(text_model(), RandomWindows(CODES, 3, 6), 4, out=tmp_path, learning_rate=Ramp(0.01, 0.0, 4), seed=3)
    told = history(tmp_path)
    for name in ("reconstruction", "kl", "gradient_norm"):
        single = torch.tensor(told[name])  # nine digits are as many as single precision holds
        assert single.tolist() == [getattr(record, name) for record in records]
    assert told["model"] == "VRNN" and told["configuration"] == text_model().configuration
    assert "RandomWindows" in told["corpus"] and "codes=450 long, batch_size=3, length=6" in told["corpus"]
    assert told["learning_rate"] == "Ramp(start=0.01, stop=0.0, updates=4)"
    assert (told["seed"], told["clip"], told["kl_weight"], told["weight_decay"]) == (3, 1.0, 1.0, 0.0)
    assert told["versions"]["torch"] == torch.__version__


def test_the_best_is_the_one_of_the_lowest_held_out_loss(tmp_path, monkeypatch):
    """Not of the lowest reconstruction, which is update 1's, nor the last one, nor the first of two that are alike."""
    script = iter([Evaluation(*losses, 0.0, 9) for losses in ((3, 1), (1, 4), (2, 1), (2, 0.5), (1, 1.5), (2.5, 1))])
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: next(script))
    run(vector_model(), vectors(), 5, out=tmp_path, validation=vectors(1)[0], evaluate_every=1, keep=range(6))
    kept = [weights(tmp_path / f"update-{n}.safetensors") for n in range(6)]
    assert kept.index(weights(tmp_path / "best.safetensors")) == 3
    assert weights(tmp_path / "last.safetensors") == kept[5]


def finite(text: str) -> dict:
    """JSON, which has no NaN and no infinity."""
    return json.loads(text, parse_constant=pytest.fail)


def test_a_validation_that_is_not_finite_is_told_and_is_never_the_best(tmp_path, monkeypatch, quiet_disk):
    """The first one that is finite is; in the history stands null, and in the records NaN again."""
    losses = [(math.nan, 1.0), (2.0, math.inf), (2.0, 1.0), (-math.inf, 1.0), (math.nan, 0.0), (3.0, 1.0)]
    script = iter([Evaluation(*each, 0.0, 9) for each in losses])
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: next(script))
    options = {"out": tmp_path, "validation": vectors(1)[0], "evaluate_every": 1, "keep": range(6), "resume": True}
    with pytest.warns(RuntimeWarning) as told:
        records = run(vector_model(), vectors(), 1, **options)
        assert not (tmp_path / "best.safetensors").exists()
        records += run(vector_model(), vectors(), 5, **options)
    sentences = [str(each.message) for each in told]
    assert [sentence.split(":")[0] for sentence in sentences] == [f"update {n}" for n in (0, 1, 3, 4)]
    assert "the loss on validation is not finite (reconstruction 2.0, KL inf), and these weights cannot" in sentences[1]
    assert {each.filename for each in told} == {runs.__file__}  # where the records are iterated over
    assert (tmp_path / "best.safetensors").exists()
    assert weights(tmp_path / "best.safetensors") == weights(tmp_path / "update-2.safetensors")
    entries = finite((tmp_path / "history.json").read_text())["validation"]
    assert [entry["loss"] for entry in entries] == [None, None, 3.0, None, None, 4.0]
    assert entries[1]["reconstruction"] == 2.0 and entries[1]["kl"] is None
    assert_close(
        [r.validation[:2] for r in read_records(tmp_path)],
        [(2.0, math.nan), (2.0, 1.0), (math.nan, 1.0), *losses[4:]],
        equal_nan=True,
    )


def test_an_older_history_with_a_bare_nan_goes_on(tmp_path, quiet_disk):
    options = {"out": tmp_path, "validation": vectors(1)[0], "evaluate_every": 1, "clip": math.inf}
    run(vector_model(), vectors(), 2, **options)
    assert finite((tmp_path / "history.json").read_text())["clip"] is None
    told = history(tmp_path)
    told["validation"][0]["loss"], told["clip"] = math.nan, math.inf
    (tmp_path / "history.json").write_text(json.dumps(told))
    assert "NaN" in (tmp_path / "history.json").read_text()
    run(vector_model(), vectors(), 3, resume=True, **options)
    entries = finite((tmp_path / "history.json").read_text())["validation"]
    assert [entry["loss"] is None for entry in entries] == [True, False, False, False]


# Leaving early


def test_what_was_learned_before_a_break_is_kept(tmp_path, quiet_disk):
    model = vector_model()
    for record in train(model, vectors(), updates=10, out=tmp_path, progress=False):
        if record.update == 3:
            break
    assert weights(tmp_path / "last.safetensors") == weights(model)
    assert len(history(tmp_path)["reconstruction"]) == 3


def test_what_was_learned_before_an_error_of_the_callers_is_kept(tmp_path, quiet_disk):
    model = vector_model()
    with pytest.raises(KeyError):
        for record in train(model, vectors(), updates=10, out=tmp_path, progress=False):
            if record.update == 3:
                raise KeyError("a plot of the caller's")
    assert weights(tmp_path / "last.safetensors") == weights(model)
    assert len(history(tmp_path)["reconstruction"]) == 3


ROOMS = ("training", "run", "checkpoint", "files", "evaluation")
FILES = [str(Path(training.__file__).with_name(f"{name}.py")) for name in ROOMS]


@contextlib.contextmanager
def at_line(n: int, action):
    """Runs `action` before the n-th line that the module executes: any moment of a run, and the same one each time.

    But for those of with statements, which are seen a second time when they are left: what is raised then, as no
    signal's exception can be, leaves them without their exit.
    """
    count = itertools.count(1)

    def trace(frame, event, _):
        name = frame.f_code.co_filename
        if name not in FILES:
            return None
        leaves_a_with = linecache.getline(name, frame.f_lineno).lstrip().startswith("with ")
        if event == "line" and not leaves_a_with and next(count) == n:
            action()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def lines_of(function) -> int:
    with at_line(0, None) as count:
        function()
    return next(count) - 1


def small_run(out: Path, resume: bool = False) -> None:
    run(
        vector_model(dropout=0.3),
        vectors(3),
        4,
        out=out,
        resume=resume,
        validation=vectors(1, 2)[0],
        evaluate_every=2,
        keep=[3],
        learning_rate=0.05,
    )


@pytest.mark.filterwarnings("ignore:unclosed file")  # Ctrl-C may come before a with statement's exit
def test_ctrl_c_at_any_moment_leaves_a_run_that_goes_on_as_if_nothing_had_happened(tmp_path, quiet_disk, ctrl_c):
    small_run(tmp_path / "whole")
    expected = learned(tmp_path / "whole")
    lines = lines_of(lambda: small_run(tmp_path / "counted"))
    for n in sorted(random.Random(0).sample(range(1, lines), 40)):
        out = tmp_path / str(n)
        with pytest.raises(KeyboardInterrupt), at_line(n, press_ctrl_c):
            small_run(out)
        if out.exists():
            assert not list(out.glob(".*")), f"line {n} of {lines}: a temporary file is left"
            if (out / "last.safetensors").exists():
                _, _, about = read_checkpoint(out / "last.safetensors")
                assert about["update"] == len(history(out)["reconstruction"])
        small_run(out, resume=True)
        assert learned(out) == expected, f"line {n} of {lines}"
        shutil.rmtree(out)


def test_an_update_whose_validation_was_stopped_gets_its_record_on_resume(tmp_path, monkeypatch, quiet_disk, ctrl_c):
    settings = dict(validation=vectors(1, 2)[0], evaluate_every=2, resume=True)
    whole = run(vector_model(), vectors(), 4, out=tmp_path / "whole", **settings)
    examine, records = training.evaluate, []

    def stopped(*arguments, **options):
        if records:
            press_ctrl_c()
        return examine(*arguments, **options)

    monkeypatch.setattr(training, "evaluate", stopped)
    with pytest.raises(KeyboardInterrupt):
        for record in train(vector_model(), vectors(), updates=4, out=tmp_path / "stopped", progress=False, **settings):
            records.append(record)
    monkeypatch.undo()
    records += run(vector_model(), vectors(), 4, out=tmp_path / "stopped", **settings)
    assert [r._replace(characters_per_second=0) for r in records] == [
        r._replace(characters_per_second=0) for r in whole
    ]
    assert math.isnan(records[1].characters_per_second) and run(
        vector_model(), vectors(), 4, out=tmp_path / "stopped", **settings) == []  # fmt: skip


# Resuming


def resumable(kind: str, out: Path, resume: bool = False) -> None:
    two_layers = {"rnn": "lstm", "num_layers": 2, "dropout": 0.3}
    hidden = two_layers | {"locked_dropout": True, "weight_dropout": 0.3}
    model, corpus = {
        "VRNN": lambda: (text_model(dropout=0.3), ContiguousStreams(CODES, 3, 6)),
        "VRNN, two LSTM layers": lambda: (text_model(**two_layers), ContiguousStreams(CODES, 3, 6)),
        "CharRNN, two LSTM layers": lambda: (text_model("CharRNN", **two_layers), ContiguousStreams(CODES, 3, 6)),
        "VRNN, all that is hidden": lambda: (text_model(**hidden), ContiguousStreams(CODES, 3, 6)),
        "CharRNN, all that is hidden": lambda: (text_model("CharRNN", **hidden), ContiguousStreams(CODES, 3, 6)),
        "CharRNN, windows": lambda: (text_model("CharRNN"), RandomWindows(CODES, 3, 6)),
    }[kind]()
    run(
        model,
        corpus,
        10,
        out=out,
        resume=resume,
        validation=CODES[:30],
        evaluate_every=4,
        keep=[6],
        learning_rate=Cosine(0.05, 10, 3),
        kl_weight=Ramp(0.0, 1.0, 8),
        **({"ema_decay": 0.7, "bfloat16": True} if "hidden" in kind else {}),
    )


def killed_at_line(n: int, kind: str, out: Path) -> None:
    with at_line(n, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        resumable(kind, out, resume=True)


def killed_in_a_write(size: int, kind: str, out: Path) -> None:
    """The system kills the process when it has written `size` bytes of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resumable(kind, out, resume=True)


KINDS = ["VRNN", "VRNN, two LSTM layers", "CharRNN, two LSTM layers", "CharRNN, windows"]


@pytest.mark.parametrize("kind", [*KINDS, "VRNN, all that is hidden", "CharRNN, all that is hidden"])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(kind, tmp_path, quiet_disk):
    resumable(kind, tmp_path / "whole")
    lines = lines_of(lambda: resumable(kind, tmp_path / "counted"))
    chance, out = random.Random(kind), tmp_path / "killed"
    assert in_a_process_of_its_own(killed_at_line, chance.randrange(lines // 2), kind, out) == -signal.SIGKILL
    size = (out / "last.safetensors").stat().st_size if (out / "last.safetensors").exists() else 5000
    assert in_a_process_of_its_own(killed_in_a_write, size - 1000, kind, out) == -signal.SIGXFSZ
    for n in (chance.randrange(lines), chance.randrange(lines // 2)):
        if in_a_process_of_its_own(killed_at_line, n, kind, out) == 0:
            break
        for path in out.glob("*.safetensors"):
            load_checkpoint(path)
    resumable(kind, out, resume=True)
    assert learned(out) == learned(tmp_path / "whole")


@given(
    st.sampled_from(["VRNN", "CharRNN"]),
    st.sampled_from(["gru", "lstm", "rnn"]),
    st.sampled_from([ContiguousStreams, RandomWindows]),
    *[st.integers(1, 3)] * 3,
    st.integers(1, 4),
)
@settings(max_examples=15)
def test_a_run_of_any_kind_goes_on_wherever_it_was_left(kind, rnn, batches, layers, characters, batch, left_after):
    def go_on(out, updates):
        model = text_model(kind, rnn=rnn, num_layers=layers, characters=characters, dropout=0.2)
        corpus = batches(CODES, batch, 4, characters)
        for record in train(model, corpus, updates=5, learning_rate=0.05, out=out, resume=True, progress=False):
            if record.update == updates:
                break

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        go_on(Path(folder, "whole"), 5)
        for updates in (left_after, 5):
            go_on(Path(folder, "left"), updates)
        assert learned(Path(folder, "left")) == learned(Path(folder, "whole"))


SETTINGS = {
    "learning_rate": 1 / 3,
    "kl_weight": 0.1 + 0.2,
    "free_bits": Ramp(1 / 3, 0.0, 7),
    "weight_decay": 1e-3 / 3,
}


def test_a_finished_run_can_be_given_more_updates(tmp_path, quiet_disk):
    """Settings with many digits are recognised, too."""
    run(vector_model(), vectors(), 5, out=tmp_path / "whole", **SETTINGS)
    run(vector_model(), vectors(), 3, out=tmp_path / "longer", **SETTINGS)
    assert run(vector_model(), vectors(), 3, out=tmp_path / "longer", resume=True, **SETTINGS) == []
    records = run(vector_model(), vectors(), 5, out=tmp_path / "longer", resume=True, **SETTINGS)
    assert [r.update for r in records] == [4, 5]
    assert learned(tmp_path / "longer") == learned(tmp_path / "whole")


def test_the_records_of_a_run_are_read_back_from_its_folder(tmp_path, quiet_disk):
    """However often it was left; of a history that is ahead of the last checkpoint, those up to that."""

    def kept(records):
        nine_digits = [r.validation and [f"{loss:.9g}" for loss in r.validation[:3]] for r in records]
        return [(*r[:4], evaluation, r.sample) for r, evaluation in zip(records, nine_digits, strict=True)]

    assert read_records(tmp_path) == []
    options = {"validation": CODES[:90], "evaluate_every": 2, "out": tmp_path, "resume": True, "progress": False}
    records = []
    for left_after in (3, 7):
        for record in train(text_model(), ContiguousStreams(CODES, 3, 6), updates=9, **options):
            records.append(record)
            if record.update == left_after:
                break
        assert kept(read_records(tmp_path)) == kept(records)
    assert [r.update for r in records if r.validation] == [r.update for r in records if r.sample] == [2, 4, 6]
    ahead = history(tmp_path)
    ahead["validation"].append(ahead["validation"][-1] | {"update": 8})
    ahead |= {name: [*ahead[name], 9.0] for name in ("reconstruction", "kl", "gradient_norm")}
    (tmp_path / "history.json").write_text(json.dumps(ahead))
    read = read_records(tmp_path)
    assert kept(read) == kept(records)
    assert all(math.isnan(r.characters_per_second) for r in read) and math.isnan(read[1].validation.characters)


class Laplace(Gaussian):
    """An emission of a reader's own."""

    def distribution(self, raw):
        return self.of(torch.distributions.Independent(torch.distributions.Laplace(raw[..., :2], 1.0), 1))


def test_a_run_whose_emission_is_the_readers_own_goes_on_and_is_read_back(tmp_path, quiet_disk):
    records = run(vector_model(emission=Laplace()), vectors(), 2, out=tmp_path)
    records += run(vector_model(emission=Laplace()), vectors(), 3, out=tmp_path, resume=True)
    assert [r[:4] for r in read_records(tmp_path)] == [r[:4] for r in records] and len(records) == 3
    with pytest.raises(ValueError, match="Laplace"):
        run(vector_model(), vectors(), 4, out=tmp_path, resume=True)


def test_a_compiled_model_goes_on_and_so_does_the_plain_one(tmp_path, quiet_disk):
    for compiled, updates in ((True, 1), (True, 2), (False, 3)):
        model = torch.compile(vector_model(), backend="eager") if compiled else vector_model()
        [record] = run(model, vectors(), updates, out=tmp_path, resume=True)
    assert_close(record[:4], run(vector_model(), vectors(), 3)[-1][:4], rtol=1e-5, atol=0)
    assert history(tmp_path)["model"] == "VRNN"


def make_older(out: Path, **told) -> None:
    """The run as it was when neither the data's hash was told nor the schedules' values, nor one of today's options."""
    path = out / "history.json"
    told = history(out) | told
    del told["configuration"]["dropout"]
    for name in ("learning_rates", "data", "objective", "particles", "word_dropout"):
        del told[name]
    path.write_text(json.dumps(told))
    model, others, about = read_checkpoint(out / "last.safetensors")
    save_checkpoint(out / "last.safetensors", model, others, update=about["update"])


def test_a_run_that_is_older_goes_on(tmp_path, quiet_disk):
    """Once a ramp was called Linear, too."""
    options = {"kl_weight": Ramp(0.0, 1.0, 8), "learning_rate": 0.02}
    for part in ("old", "new"):
        run(text_model(), RandomWindows(CODES, 3, 6), 2, out=tmp_path / part, **options)
    make_older(tmp_path / "old", kl_weight="Linear(start=0.0, stop=1.0, updates=8)")
    with pytest.raises(ValueError, match=r"other settings: kl_weight Ramp\(.*8\) there, Ramp\(.*9\) here\.$"):
        other = {"kl_weight": Ramp(0.0, 1.0, 9), "out": tmp_path / "old", "resume": True}
        train(text_model(), RandomWindows(CODES, 3, 6), updates=3, **other)
    for part in ("old", "new"):
        for updates, rate in ((3, 0.02), (4, 0.01)):
            options |= {"out": tmp_path / part, "resume": True, "learning_rate": rate}
            run(text_model(), RandomWindows(CODES, 3, 6), updates, **options)
    assert learned(tmp_path / "old") == learned(tmp_path / "new")
    old, new = history(tmp_path / "old"), history(tmp_path / "new")
    assert all(old[name] == new[name] for name in ("kl_weight", "learning_rate", "learning_rates", "data"))


def test_a_run_from_before_word_dropout_goes_on(tmp_path, quiet_disk):
    for part in ("old", "new"):
        run(vector_model(), vectors(), 2, out=tmp_path / part)
    told = history(tmp_path / "old")
    for name in ("word_dropout", "ema_decay", "bfloat16"):
        del told[name]
    (tmp_path / "old" / "history.json").write_text(json.dumps(told))
    for part in ("old", "new"):
        run(vector_model(), vectors(), 4, out=tmp_path / part, resume=True)
    assert learned(tmp_path / "old") == learned(tmp_path / "new")
    told = {key: value for key, value in history(tmp_path / "old").items() if key != "word_dropout"}
    (tmp_path / "old" / "history.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="word_dropout 0.0 there, 0.5 here"):
        train(text_model(), vectors(), out=tmp_path / "old", resume=True, word_dropout=0.5)


@pytest.mark.parametrize("left_after", [1, 3])
def test_averaged_weights_go_on_from_their_average(left_after, tmp_path, quiet_disk):
    options = {"ema_decay": 0.9, "learning_rate": 0.05, "validation": CODES[:30], "evaluate_every": 2}
    run(text_model(), ContiguousStreams(CODES, 3, 6), 5, out=tmp_path / "whole", **options)
    for updates in (left_after, 5):
        model = text_model()
        for record in train(model, ContiguousStreams(CODES, 3, 6), updates=5, out=tmp_path / "left", resume=True,
                            progress=False, **options):  # fmt: skip
            if record.update == updates:
                break
    assert learned(tmp_path / "left") == learned(tmp_path / "whole")
    assert weights(tmp_path / "left" / "best.safetensors") != weights(model)


def test_resuming_where_there_is_no_run_starts_one(tmp_path, quiet_disk):
    assert [r.update for r in run(vector_model(), vectors(), 2, out=tmp_path / "new", resume=True)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [
        ("kl_weight", Ramp(0, 1, 5), Ramp(0, 1, 6)),
        ("kl_weight", lambda n: 1.0, lambda n: 1.0 + n),
        ("free_bits", 0.0, 0.1),
        ("weight_decay", 0.0, 0.1),
        ("clip", 1.0, 2.0),
        ("ema_decay", 0.5, 0.75),
        ("ema_decay", 0.0, 0.75),
        ("bfloat16", False, True),
        ("evaluate_every", 100, 10),
        ("seed", 0, 1),
    ],
    ids=lambda value: "a function" if callable(value) and not isinstance(value, Ramp) else str(value),
)
def test_other_settings_are_no_continuation(name, there, here, tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path, **{name: there})
    before = contents(tmp_path)
    with pytest.raises(ValueError) as error:
        train(vector_model(), vectors(), updates=4, out=tmp_path, resume=True, **{name: here})
    [told] = str(error.value).split(": ", 1)[1].split("; ")  # this setting and no other
    assert told.startswith(f"{name} ") and str(tmp_path) in str(error.value)
    assert contents(tmp_path) == before


class OwnCell(VRNNCell):
    pass


def own_cell():
    return VRNN(OwnCell(**SIZES, latent_size=3))


@pytest.mark.parametrize(
    ("name", "model", "corpus"),
    [
        ("model", lambda: text_model("CharRNN"), RandomWindows(CODES, 3, 6)),
        ("model VRNN there, VRNN of OwnCell", own_cell, RandomWindows(CODES, 3, 6)),
        ("configuration", lambda: text_model(dropout=0.1), RandomWindows(CODES, 3, 6)),
        ("corpus", text_model, RandomWindows(CODES, 3, 7)),
        ("corpus", text_model, RandomWindows(CODES, 3, 6, seed=1)),
        ("corpus", text_model, ContiguousStreams(CODES, 3, 6)),
        ("corpus", text_model, RandomWindows(CODES[:-1], 3, 6)),
    ],
    ids=["model", "cell", "dropout", "length", "seed of the windows", "streams", "text"],
)
def test_another_model_or_text_is_no_continuation(name, model, corpus, tmp_path, quiet_disk):
    run(text_model(), RandomWindows(CODES, 3, 6), 1, out=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"other settings: .*{name} "):
        train(model(), corpus, updates=4, out=tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_schedules_of_the_loss_may_differ_in_what_is_still_to_come(tmp_path, quiet_disk):
    """A weight of 1 for two updates is any schedule that is 1 for two updates, however it is written."""
    later = Ramp(0.0, 2.0, 2)
    run(vector_model(), vectors(), 2, out=tmp_path, kl_weight=1, free_bits=lambda n: n / 3)
    options = {"kl_weight": lambda n: 1.0 if n < 2 else later(n), "free_bits": lambda n: min(n / 3, 1 / 3)}
    records = run(vector_model(), vectors(), 4, out=tmp_path, resume=True, **options)
    whole = run(vector_model(), vectors(), 4, **options)
    assert [tuple(r)[:4] for r in records] == [tuple(r)[:4] for r in whole[2:]]
    with pytest.raises(
        ValueError, match="kl_weight <lambda> there, 1.0 here, whose values differ within the 4 updates"
    ):
        train(vector_model(), vectors(), updates=6, out=tmp_path, resume=True, **options | {"kl_weight": 1.0})


def test_a_new_learning_rate_holds_from_here_on_and_the_history_tells(tmp_path, quiet_disk):
    """Ask a run whose cosine ended for more: it needs a longer cosine."""
    rates = [1 / 300, 1 / 300, Cosine(0.05, 6, 2), Cosine(0.05, 9, 2), Cosine(0.05, 9, 2)]
    for updates, rate in zip((1, 2, 4, 6, 8), rates, strict=True):
        run(vector_model(), vectors(), updates, out=tmp_path / "parts", resume=True, learning_rate=rate)
    held = [1 / 300, 1 / 300, *map(rates[2], (2, 3)), *map(rates[4], (4, 5, 6, 7))]
    run(vector_model(), vectors(), 8, out=tmp_path / "whole", learning_rate=held.__getitem__)
    assert learned(tmp_path / "parts") == learned(tmp_path / "whole")
    told = history(tmp_path / "parts")
    assert told["learning_rate"] == "Cosine(peak=0.05, updates=9, warmup=2)"
    assert [tuple(entry.values()) for entry in told["learning_rates"]] == [
        (0, 0.00333333333),
        (2, "Cosine(peak=0.05, updates=6, warmup=2)"),
        (4, "Cosine(peak=0.05, updates=9, warmup=2)"),
    ]


def test_a_learning_rate_that_no_update_had_is_not_told(tmp_path, quiet_disk):
    """Of a history that is ahead of its checkpoint, or of a run that was resumed and left at once."""
    run(vector_model(), vectors(), 2, out=tmp_path, learning_rate=0.01)
    told = history(tmp_path)
    told["learning_rates"].append({"from": 2, "learning_rate": 0.5})
    (tmp_path / "history.json").write_text(json.dumps(told))
    run(vector_model(), vectors(), 3, out=tmp_path, resume=True, learning_rate=0.02)
    assert [tuple(entry.values()) for entry in history(tmp_path)["learning_rates"]] == [(0, 0.01), (2, 0.02)]


class Opaque:
    """A corpus that cannot be looked into, as a DataLoader is."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


LINES = CODES.view(3, 25, 6)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (RandomWindows(CODES, 3, 6), RandomWindows(CODES.flip(0), 3, 6)),
        (RandomWindows(CODES, 3, 6, validation=CODES), RandomWindows(CODES, 3, 6, validation=CODES.flip(0))),
        (list(LINES), list(LINES[1:])),
        (Opaque(LINES), Opaque(LINES[1:])),
    ],
    ids=["text", "held-out text", "a list's first batch", "first batch"],
)
def test_other_data_are_no_continuation(there, here, tmp_path, quiet_disk):
    """Though they be of the same name and as long."""
    run(text_model(), there, 1, out=tmp_path)
    before = contents(tmp_path)
    model = text_model()
    with pytest.raises(ValueError, match=f"the run in {tmp_path} was made with other data"):
        run(model, here, 2, out=tmp_path, resume=True)
    assert contents(tmp_path) == before
    if isinstance(here, RandomWindows):  # which need not be gone through
        assert weights(model) == weights(text_model())
    assert len(run(text_model(), there, 2, out=tmp_path, resume=True)) == 1


def test_of_a_corpus_that_cannot_be_looked_into_the_first_batch_must_be_the_same(tmp_path, quiet_disk):
    run(text_model(), Opaque(LINES), 1, out=tmp_path)
    assert len(run(text_model(), Opaque([LINES[0].clone()]), 2, out=tmp_path, resume=True)) == 1


def test_a_run_is_not_overwritten_by_accident(tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError) as error:
        train(vector_model(), vectors(), updates=2, out=tmp_path)
    assert str(tmp_path) in str(error.value) and "resume" in str(error.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_pruned_run_says_why_it_cannot_go_on(resume, tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    deleted = "last.safetensors was deleted"
    (tmp_path / "history.json").write_text(json.dumps(history(tmp_path) | {"pruned": deleted}))
    (tmp_path / "last.safetensors").unlink()
    before, sentence = contents(tmp_path), f"the run in {tmp_path} cannot go on: {deleted}; train into another folder."
    for call in (
        lambda: train(vector_model(), vectors(), updates=4, out=tmp_path, resume=resume),
        lambda: read_records(tmp_path),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == sentence
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}"], ids=str)
def test_a_run_whose_history_is_lost_does_not_go_on(content, tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    path = tmp_path / "history.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError) as error:
        train(vector_model(), vectors(), updates=4, out=tmp_path, resume=True)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kl": None}, "'kl' is missing"),
        ({"reconstruction": 3}, "has no len"),
        ({"validation": [7]}, "not subscriptable"),
        ({"kl": [0.5]}, "it ends before update 2, after which last.safetensors was saved"),
    ],
    ids=["missing", "a number", "another form", "behind"],
)
def test_a_history_of_another_form_or_that_is_behind_does_not_go_on(change, reason, tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    path = tmp_path / "history.json"
    told = {key: value for key, value in (history(tmp_path) | change).items() if value is not None and key != "sha256"}
    path.write_text(json.dumps(told))
    for call in (
        lambda: train(vector_model(), vectors(), updates=4, out=tmp_path, resume=True),
        lambda: read_records(tmp_path),
    ):
        with pytest.raises(ValueError, match=f"{path} cannot be read .*{reason}.*; the run cannot go on."):
            call()


def test_a_history_that_was_damaged_anywhere_does_not_go_on(tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    path = tmp_path / "history.json"
    whole = path.read_bytes()
    seal = whole.index(b'"sha256"')
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            read_records(tmp_path)
        except ValueError as error:
            assert f"{path} cannot be read" in str(error)
        else:  # another name for the hash
            assert position > seal
    path.write_bytes(whole)
    assert len(read_records(tmp_path)) == 2


# Two runs, one folder

AT_WORK = """
import sys
from pathlib import Path
import runs
from vrnn_tutorial.training import train
for record in train(runs.vector_model(), runs.vectors(), updates=9, out=sys.argv[1], evaluate_every=2, progress=False):
    if record.update == 3:
        print("at work", flush=True)
        sys.stdin.read()
"""


def test_a_folder_in_which_another_process_trains_is_refused_until_that_ends_or_is_killed(tmp_path, quiet_disk):
    out = tmp_path / "run"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", AT_WORK, out]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=here) as other:
        assert other.stdout.readline() == "at work\n"
        before = contents(out)
        for resume in (True, False):
            with pytest.raises(FileExistsError) as error:
                train(vector_model(), vectors(), updates=9, out=out, resume=resume, evaluate_every=2).close()
            told = f"another training is at work in {out}; wait for its end, or choose another folder."
            assert str(error.value) == told and contents(out) == before
        other.kill()
    run(vector_model(), vectors(), 9, out=out, resume=True, evaluate_every=2)
    run(vector_model(), vectors(), 9, out=tmp_path / "whole", evaluate_every=2)
    assert learned(out) == learned(tmp_path / "whole")


def test_a_run_that_was_left_between_two_updates_hands_what_it_learned_to_the_next(tmp_path, quiet_disk):
    """As after an error in a notebook's loop, whose traceback keeps the loop alive."""
    out = tmp_path / "run"
    records = train(vector_model(), vectors(), updates=9, out=out, evaluate_every=4, progress=False)
    for _ in range(3):
        next(records)
    model = vector_model()
    later = train(model, vectors(), updates=6, out=out, evaluate_every=4, progress=False, resume=True)
    assert [record.update for record in later] == [4, 5, 6]
    run(vector_model(), vectors(), 6, out=tmp_path / "whole", evaluate_every=4)
    assert learned(out) == learned(tmp_path / "whole")
    before = contents(out)
    with pytest.raises(ValueError, match="another training has taken this run's folder over"):
        next(records)
    records.close()
    assert contents(out) == before


def test_a_training_that_nobody_began_leaves_its_folder_to_the_next(tmp_path, quiet_disk):
    out = tmp_path / "run"
    run(vector_model(), vectors(), 2, out=out)
    before = contents(out)
    waiting = train(vector_model(), vectors(), updates=4, out=out, resume=True, progress=False)
    assert [record.update for record in train(vector_model(), vectors(), updates=4, out=out, resume=True)] == [3, 4]
    with pytest.raises(ValueError, match="another training has taken"):
        next(waiting)
    assert contents(out) != before


def test_a_training_asked_for_before_another_made_the_folder_does_not_overwrite_it(tmp_path, quiet_disk):
    out = tmp_path / "run"
    waiting = train(vector_model(), vectors(), updates=4, out=out, progress=False)
    run(vector_model(), vectors(), 2, out=out)
    before = contents(out)
    with pytest.raises(FileExistsError, match="holds a run by now; resume it, or choose another folder"):
        next(waiting)
    assert contents(out) == before


def test_a_folder_is_free_after_a_training_that_could_not_begin(tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    with pytest.raises(ValueError, match="other settings") as kept:
        train(vector_model(), vectors(), updates=4, out=tmp_path, resume=True, clip=3.0)
    assert in_a_process_of_its_own(_train_on, tmp_path) == 0
    assert len(read_records(tmp_path)) == 4
    del kept


def test_a_folder_is_free_when_a_training_has_ended(tmp_path, quiet_disk):
    records = train(vector_model(), vectors(), updates=2, out=tmp_path, progress=False)
    assert len(list(records)) == 2
    assert in_a_process_of_its_own(_train_on, tmp_path) == 0
    del records


def _train_on(out: Path) -> None:
    run(vector_model(), vectors(), 4, out=out, resume=True)


def test_a_place_where_no_folder_can_be_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="nothing can be saved in .*file/run"):
        run(vector_model(), vectors(), 2, out=tmp_path / "file" / "run")


# A disk that is full


def test_a_full_disk_ends_the_run_and_spares_the_files(tmp_path, quiet_disk):
    options = {"evaluate_every": 2, "validation": vectors(1, 2)[0], "keep": [4]}
    records = train(vector_model(), vectors(), updates=6, out=tmp_path / "run", progress=False, **options)
    for _ in range(3):
        next(records)
    before, limit = contents(tmp_path / "run"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))  # no file can grow beyond that
    try:
        with pytest.raises(OSError, match="could not be saved"):
            next(records)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert contents(tmp_path / "run") == before
    run(vector_model(), vectors(), 6, out=tmp_path / "run", resume=True, **options)
    run(vector_model(), vectors(), 6, out=tmp_path / "whole", **options)
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")


@pytest.mark.parametrize("name", ["history.json", "last.safetensors"])
def test_of_history_and_checkpoint_either_may_be_the_one_that_could_not_be_saved(name, tmp_path, quiet_disk):
    options = {"evaluate_every": 2, "validation": vectors(1, 2)[0]}
    replace = os.replace

    def full(source, target):
        if target.name == name and target.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match=f"{name} could not be saved"):
        patch.setattr(os, "replace", full)
        run(vector_model(), vectors(), 6, out=tmp_path / "run", **options)
    _, _, about = read_checkpoint(tmp_path / "run" / "last.safetensors")
    assert len(history(tmp_path / "run")["kl"]) >= about["update"], "losses of updates that were made are lost"
    run(vector_model(), vectors(), 6, out=tmp_path / "run", resume=True, **options)
    run(vector_model(), vectors(), 6, out=tmp_path / "whole", **options)
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")
