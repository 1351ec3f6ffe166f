"""Tests of vrnn_tutorial/training.py: a step, what a run leaves behind, and that it goes on where it stopped."""

import contextlib
import errno
import itertools
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial import training, vrnn
from vrnn_tutorial.batches import ContiguousStreams, RandomWindows
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.checkpoint import load_checkpoint, read_checkpoint
from vrnn_tutorial.evaluation import Evaluation, evaluate
from vrnn_tutorial.generation import generate
from vrnn_tutorial.schedules import Cosine, Ramp
from vrnn_tutorial.text import Corpus, encode
from vrnn_tutorial.training import train
from vrnn_tutorial.vrnn import VRNN

TEXT = "the quick brown fox jumps over the lazy dog. "
CODES = encode(TEXT * 10)
SIZES = {"hidden_size": 5, "embedding_size": 4}


def text_model(kind: str = "VRNN", **options) -> VRNN | CharRNN:
    torch.manual_seed(0)
    return CharRNN(**SIZES, **options) if kind == "CharRNN" else VRNN(VRNNCell(**SIZES, latent_size=3, **options))


def vector_model(**options) -> VRNN:
    torch.manual_seed(0)
    return VRNN(VRNNCell(2, 4, 3, embedding_size=3, **{"emission": "gaussian", **options}))


def vectors(count: int = 2, seed: int = 1) -> list[torch.Tensor]:
    """Batches x (3, 2, 2)."""
    return list(torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)))


def run(model, corpus, updates: int, **options) -> list[training.Record]:
    return list(train(model, corpus, updates=updates, progress=False, **options))


def weights(model: nn.Module | Path) -> dict[str, bytes]:
    model = load_checkpoint(model) if isinstance(model, Path) else model
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def history(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text())


def learned(folder: Path) -> tuple:
    """All that a run has to show but its clock: losses, validation, and every tensor of its checkpoints."""
    figures = {name: history(folder)[name] for name in ("reconstruction", "kl", "gradient_norm", "validation")}
    return figures, {path.name: tensors(path) for path in folder.glob("*.safetensors")}


def tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in safetensors.torch.load_file(path).items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Watch:
    """What a model is given and what it makes of it, call by call."""

    def __init__(self, model: nn.Module):
        self.x, self.states, self.after = [], [], []
        model.register_forward_hook(self.see)

    def see(self, module, arguments, output):
        x, state = (*arguments, None)[:2]
        # Before anything runs on: a graph that is still attached shall be seen here, not end in an error.
        assert state is None or not any(part.requires_grad for part in leaves(state))
        self.x.append(x)
        self.states.append(state)
        self.after.append([part.detach() for part in leaves(output.state)])


def leaves(state) -> list[torch.Tensor]:
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


def in_a_process_of_its_own(function, *arguments) -> int:
    """Its exit code, or minus the signal that killed it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "safetensors.torch", "tqdm.auto", "pytest"])
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join(300)
    if process.is_alive():
        process.kill()
        pytest.fail("the process did not end")
    return process.exitcode


@pytest.fixture
def quiet_disk(monkeypatch):
    """fsync guards against a loss of power, which no test here brings about, and waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# What a batch is, and what it starts from


@pytest.mark.parametrize(
    "model",
    [text_model, lambda: text_model(rnn="lstm", num_layers=2), lambda: text_model("CharRNN", rnn="lstm", num_layers=2)],
    ids=["GRU", "two LSTM layers", "CharRNN, two LSTM layers"],
)
def test_a_stream_starts_where_it_stopped_detached(model):
    model = model()
    watch = Watch(model)
    run(model, ContiguousStreams(CODES, 3, 6), 4)
    assert watch.states[0] is None
    for before, state in zip(watch.after, watch.states[1:], strict=False):
        assert all(map(torch.equal, before, leaves(state))) and any(part.any() for part in before)
    for column in torch.cat(watch.x).unbind(1):
        assert "".join(map(chr, column)) in TEXT * 3


def test_a_window_starts_from_zeros():
    model = text_model()
    watch = Watch(model)
    run(model, RandomWindows(CODES, 3, 6), 3)
    assert len(watch.states) == 3 and not any(
        part.any() for state in watch.states if state is not None for part in leaves(state)
    )


def test_a_list_of_batches_is_gone_through_again_and_again():
    model, batches = vector_model(), vectors(3)
    watch = Watch(model)
    run(model, batches, 7)
    assert [next(i for i, b in enumerate(batches) if torch.equal(b, x)) for x in watch.x] == [0, 1, 2, 0, 1, 2, 0]


def runs_out(batches: int) -> None:
    with pytest.raises(ValueError, match=f"no batch for update {batches + 1}"):
        run(vector_model(), iter(vectors(batches)) if batches else [], 5)


@pytest.mark.parametrize("batches", [0, 2])
def test_a_corpus_without_a_batch_and_an_iterator_that_is_used_up_end_the_run(batches):
    """In another process, since what loops forever in C cannot be stopped from within."""
    assert in_a_process_of_its_own(runs_out, batches) == 0


def test_a_generator_without_end_will_do():
    assert len(run(vector_model(), itertools.cycle(vectors(2)), 5)) == 5


def test_a_corpus_brings_the_sources_batches_and_its_own_validation():
    corpus = Corpus("fox", CODES.repeat(3))
    model = text_model()
    watch = Watch(model)
    [record] = run(model, corpus, 1)
    assert [x.shape for x in watch.x if len(x) == 300] == [(300, 64)]
    assert record.validation == evaluate(model, corpus.validation, draws=1)


# A step


@pytest.mark.parametrize("kind", ["VRNN", "CharRNN"])
def test_the_loss_falls_on_a_small_text(kind):
    records = run(text_model(kind), RandomWindows(CODES, 8, 20), 80, learning_rate=0.05)
    start, end = (sum(r.reconstruction + r.kl for r in part) / 5 for part in (records[:5], records[-5:]))
    print(start, end)
    assert start > 4 and end < 2.5  # ln 128 = 4.85 at first; the text's single characters hold 3.1 nats


@pytest.mark.parametrize("emission", ["gaussian", "bernoulli"])
def test_batches_of_vectors_are_learned_too(emission):
    """One phase of a circle per column, as a plain list of (T, B, D)."""
    angles = torch.arange(12)[:, None] * 0.5 + torch.linspace(0, 6, 8)
    x = torch.stack([angles.cos(), angles.sin()], -1)
    x = x if emission == "gaussian" else (x > 0).float()
    records = run(vector_model(emission=emission), [x[:6], x[6:]], 150, learning_rate=0.03)
    losses = [r.reconstruction + r.kl for r in records]
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 0.5


def by_hand(
    model,
    batches,
    updates,
    rate,
    kl_weight=lambda _: 1.0,
    free_bits=lambda _: 0.0,
    clip=1.0,
    weight_decay=0.0,
    carries_state=False,
) -> list[tuple]:
    """The loop without its comforts."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=weight_decay)
    state, records = None, []
    for n, x in zip(range(updates), itertools.cycle(batches), strict=False):
        out = model(x, state)
        kl = out.kl.mean()
        paid = torch.maximum(kl, torch.tensor(free_bits(n) * math.log(2))) if free_bits(n) else kl
        optimizer.zero_grad()
        (out.reconstruction.mean() + kl_weight(n) * paid).backward()
        norm = torch.linalg.vector_norm(torch.cat([p.grad.view(-1) for p in model.parameters()]))
        for parameter in model.parameters():
            parameter.grad *= min(1, clip / norm)
        optimizer.param_groups[0]["lr"] = rate(n)
        optimizer.step()
        if carries_state:
            state = training._detach(out.state)
        records.append((n + 1, out.reconstruction.mean().item(), kl.item(), norm.item()))
    return records


HALVES = {"learning_rate": lambda n: 0.01 / (n + 1), "kl_weight": lambda n: n / 2, "free_bits": lambda n: 0.5 - 0.1 * n}


@pytest.mark.parametrize(
    ("model", "corpus", "options"),
    [
        (text_model, RandomWindows(CODES, 3, 6), {}),
        (text_model, ContiguousStreams(CODES, 3, 6), {}),
        (lambda: text_model(rnn="lstm", num_layers=2), ContiguousStreams(CODES, 3, 6), {"learning_rate": 0.02}),
        (lambda: text_model("CharRNN"), ContiguousStreams(CODES, 3, 6), {"clip": 0.1}),
        (lambda: text_model("CharRNN"), RandomWindows(CODES, 3, 6), {"clip": 1e-7}),
        (text_model, RandomWindows(CODES, 3, 6), {"learning_rate": HALVES["learning_rate"]}),
        (text_model, RandomWindows(CODES, 3, 6), {"kl_weight": HALVES["kl_weight"], "clip": 1e9}),
        (vector_model, vectors(), {"free_bits": HALVES["free_bits"], "kl_weight": 2.0, "clip": 1e9}),
        (text_model, RandomWindows(CODES, 3, 6), {"weight_decay": 0.5, "learning_rate": 0.1}),
    ],
    ids=[
        "windows",
        "streams",
        "two LSTM layers",
        "clipped",
        "clipped to nearly nothing",
        "learning rate",
        "KL weight",
        "free bits",
        "weight decay",
    ],
)
def test_training_is_the_plain_loop(model, corpus, options, monkeypatch):
    """Without noise, which is the one thing that the plain loop cannot draw alike."""
    monkeypatch.setattr(vrnn, "standard_normal", lambda shape, like, generator: like.new_zeros(shape))
    ours, theirs = model(), model()
    records = run(ours, corpus, 5, **options)
    rate, kl_weight, free_bits = (
        value if callable(value := options.get(name, default)) else lambda _, value=value: value
        for name, default in (("learning_rate", 0.001), ("kl_weight", 1.0), ("free_bits", 0.0))
    )
    expected = by_hand(
        theirs,
        corpus,
        5,
        rate,
        kl_weight,
        free_bits,
        options.get("clip", 1.0),
        options.get("weight_decay", 0.0),
        getattr(corpus, "carries_state", False),
    )
    assert_close([tuple(r)[:4] for r in records], expected, rtol=1e-5, atol=1e-6)
    assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_before_the_step_and_its_norm_taken_before_that(tmp_path):
    """After one step Adam's first moment is a tenth of the gradient that it was given."""
    x = RandomWindows(CODES, 3, 6)
    model = text_model("CharRNN")
    model(next(iter(x))).reconstruction.mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
    for clip in (norm / 3, norm * 3):
        out = tmp_path / str(clip)
        [record] = run(text_model("CharRNN"), x, 1, clip=clip, out=out)
        assert record.gradient_norm == pytest.approx(norm, rel=1e-5)
        moments = safetensors.torch.load_file(out / "last.safetensors")
        for name, gradient in gradients.items():
            assert_close(moments[f"exp_avg.{name}"], 0.1 * min(1, clip / norm) * gradient, rtol=1e-4, atol=1e-9)


def test_cosine():
    rate = Cosine(0.8, updates=110, warmup=10)
    expected = {0: 0.08, 4: 0.4, 9: 0.8, 10: 0.8, 60: 0.4, 85: 0.8 * 0.5 * (1 - math.sqrt(0.5)), 110: 0, 500: 0}
    assert {n: rate(n) for n in expected} == pytest.approx(expected, abs=1e-12)


# What a run reports and keeps


def test_the_first_loss_is_that_of_the_weights_before_the_step():
    x = RandomWindows(CODES, 3, 6)
    [record] = run(text_model("CharRNN"), x, 1)
    assert record.reconstruction == text_model("CharRNN")(next(iter(x))).reconstruction.mean().item()
    assert record.kl == 0


def test_validation_is_taken_when_it_is_due(tmp_path):
    model = text_model()
    records = run(
        model,
        ContiguousStreams(CODES, 3, 6),
        7,
        validation=CODES[:50],
        evaluate_every=3,
        keep=iter([2, 7]),
        out=tmp_path,
        seed=5,
    )
    assert [r.update for r in records] == [1, 2, 3, 4, 5, 6, 7]
    due = {r.update: r for r in records if r.validation is not None}
    assert list(due) == [2, 3, 6, 7]
    assert due[7].validation == evaluate(model, CODES[:50], draws=1, seed=5)
    assert due[7].sample == "".join(generate(model, length=200, seed=5))
    assert all((r.sample is None) == (r.validation is None) for r in records)
    entries = history(tmp_path)["validation"]
    assert [entry["update"] for entry in entries] == [0, *due]
    for entry in entries[1:]:
        record = due[entry["update"]]
        assert entry["sample"] == record.sample
        assert entry["loss"] == pytest.approx(entry["reconstruction"] + entry["kl"], abs=1e-7)
        assert_close(entry["reconstruction"], record.validation.reconstruction, rtol=1e-8, atol=0)
        assert_close(entry["kl"], record.validation.kl, rtol=1e-8, atol=0)
    assert set(contents(tmp_path)) == {
        "history.json",
        "last.safetensors",
        "best.safetensors",
        "update-2.safetensors",
        "update-7.safetensors",
    }
    assert weights(tmp_path / "last.safetensors") == weights(tmp_path / "update-7.safetensors") == weights(model)
    assert weights(tmp_path / "update-2.safetensors") != weights(model)


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


@pytest.mark.parametrize(
    ("model", "corpus", "expected"),
    [
        (lambda: text_model(), RandomWindows(CODES, 3, 6), 18),
        (lambda: text_model(characters=2), RandomWindows(CODES, 3, 6, 2), 36),
        (vector_model, vectors(), 6),
    ],
    ids=["one character a step", "two", "vectors"],
)
def test_speed_counts_characters_or_steps(model, corpus, expected, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(ticks)))  # each look at the clock: a second
    assert [r.characters_per_second for r in run(model(), corpus, 2)] == [expected, expected]


def test_the_bar_shows_both_losses_and_the_speed(capsys):
    [*_, record] = train(text_model(), RandomWindows(CODES, 3, 6), updates=3)
    shown = capsys.readouterr().err
    assert "3/3" in shown and f"{record.reconstruction:.3f} + KL {record.kl:.3f} nats" in shown
    assert f"{record.characters_per_second:,.0f} characters/s" in shown
    run(text_model(), RandomWindows(CODES, 3, 6), 1)
    assert capsys.readouterr().err == ""


# Chance


@pytest.mark.parametrize("model", [text_model, lambda: text_model("CharRNN")], ids=["VRNN", "CharRNN"])
def test_word_dropout_hides_that_share_of_the_characters_from_the_recurrence(model):
    """x itself is scored and encoded; which characters are hidden changes from update to update."""
    model, seen = model(), []
    model.register_forward_hook(lambda _, x, options, __: seen.append((x[0], options["rnn_input"])), with_kwargs=True)
    run(model, RandomWindows(CODES, 20, 50), 3, word_dropout=0.3)
    hidden = []
    for x, read in seen:
        assert (x > 0).all() and ((read == x) | (read == 0)).all()
        hidden.append(read == 0)
        assert abs(hidden[-1].float().mean().item() - 0.3) < 0.05
    assert (hidden[0] != hidden[1]).float().mean() > 0.3
    run(model, RandomWindows(CODES, 2, 5), 1, word_dropout=1.0)
    assert (seen[-1][1] == 0).all()


def test_without_word_dropout_nothing_is_hidden_and_nothing_drawn_for_it():
    model, seen = text_model(), []
    model.register_forward_hook(lambda _, x, options, __: seen.append(options), with_kwargs=True)
    run(model, RandomWindows(CODES, 2, 5), 1)
    assert seen[0] == {}


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_word_dropout_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=f"word_dropout={share}: a share from 0 to 1"):
        train(text_model(), RandomWindows(CODES, 2, 5), word_dropout=share)


def test_word_dropout_of_vectors_is_refused():
    with pytest.raises(ValueError, match="of characters and not of vectors"):
        train(vector_model(), vectors(), word_dropout=0.1)


def test_a_run_from_before_word_dropout_goes_on(tmp_path, quiet_disk):
    for part in ("old", "new"):
        run(vector_model(), vectors(), 2, out=tmp_path / part)
    told = history(tmp_path / "old")
    del told["word_dropout"]
    (tmp_path / "old" / "history.json").write_text(json.dumps(told))
    for part in ("old", "new"):
        run(vector_model(), vectors(), 4, out=tmp_path / part, resume=True)
    assert learned(tmp_path / "old") == learned(tmp_path / "new")
    (tmp_path / "old" / "history.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="word_dropout 0.0 there, 0.5 here"):
        train(text_model(), vectors(), out=tmp_path / "old", resume=True, word_dropout=0.5)


def test_chance_comes_from_the_seed_alone():
    def losses(seed, caller):
        torch.manual_seed(caller)
        model = VRNN(VRNNCell(**SIZES, latent_size=3, dropout=0.3))
        model.load_state_dict(text_model().state_dict())
        return [tuple(r)[1:4] for r in run(model, RandomWindows(CODES, 3, 6), 3, seed=seed)]

    assert losses(1, caller=1) == losses(1, caller=2) != losses(2, caller=1)


def test_each_update_draws_other_noise():
    batch = vectors(1)
    records = run(vector_model(), batch, 3, learning_rate=0.0)
    assert len({r.reconstruction for r in records}) == 3


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    records = train(
        text_model(dropout=0.3),
        ContiguousStreams(CODES, 3, 6),
        updates=3,
        validation=CODES[:30],
        evaluate_every=2,
        out=tmp_path,
        progress=False,
    )
    torch.set_rng_state(before)  # making the model took some
    for _ in records:
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_changes_nothing_in_training():
    def losses(**options):
        return [tuple(r)[1:4] for r in run(text_model(dropout=0.3), RandomWindows(CODES, 3, 6), 4, **options)]

    assert losses() == losses(validation=CODES[:50], evaluate_every=2)


# Settings that make no run


@pytest.mark.parametrize(
    "wrong", [{"updates": 0}, {"evaluate_every": 0}, {"clip": 0.0}, {"clip": -1.0}, {"clip": math.nan}], ids=str
)
def test_settings_that_make_no_run_are_refused_at_the_call(wrong, tmp_path):
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        train(vector_model(), vectors(), **{"updates": 3, **wrong}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


FILES = [
    str(Path(training.__file__).with_name(f"{name}.py")) for name in ("training", "checkpoint", "data", "evaluation")
]


@contextlib.contextmanager
def at_line(n: int, action):
    """Runs `action` before the n-th line that the module executes: any moment of a run, and the same one each time."""
    count = itertools.count(1)

    def trace(frame, event, _):
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and next(count) == n:
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


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


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


def test_ctrl_c_waits_for_a_step_that_has_begun(tmp_path, monkeypatch, quiet_disk, ctrl_c):
    step = torch.optim.AdamW.step

    def interrupted(self):
        press_ctrl_c()
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    model = vector_model()
    with pytest.raises(KeyboardInterrupt):
        run(model, vectors(), 3, out=tmp_path / "stopped")
    monkeypatch.undo()
    other = vector_model()
    run(other, vectors(), 1)
    assert weights(model) == weights(other) == weights(tmp_path / "stopped" / "last.safetensors")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_it_stays_ignored(monkeypatch):
    """As in a job that a shell started in the background."""
    step = torch.optim.AdamW.step

    def interrupted(self):
        press_ctrl_c()
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = []
        with contextlib.suppress(KeyboardInterrupt):
            done = run(vector_model(), vectors(), 2)
        assert len(done) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_runs_in_any_thread():
    """Where signals cannot be handled; a notebook's widgets may do so."""
    records = []
    thread = threading.Thread(target=lambda: records.extend(run(vector_model(), vectors(), 2)))
    thread.start()
    thread.join()
    assert [tuple(r)[:4] for r in records] == [tuple(r)[:4] for r in run(vector_model(), vectors(), 2)]


# Resuming


def resumable(kind: str, out: Path, resume: bool = False) -> None:
    two_layers = {"rnn": "lstm", "num_layers": 2, "dropout": 0.3}
    model, corpus = {
        "VRNN": lambda: (text_model(dropout=0.3), ContiguousStreams(CODES, 3, 6)),
        "VRNN, two LSTM layers": lambda: (text_model(**two_layers), ContiguousStreams(CODES, 3, 6)),
        "CharRNN, two LSTM layers": lambda: (text_model("CharRNN", **two_layers), ContiguousStreams(CODES, 3, 6)),
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


@pytest.mark.parametrize("kind", ["VRNN", "VRNN, two LSTM layers", "CharRNN, two LSTM layers", "CharRNN, windows"])
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

    assert training.read_records(tmp_path) == []
    options = {"validation": CODES[:90], "evaluate_every": 2, "out": tmp_path, "resume": True, "progress": False}
    records = []
    for left_after in (3, 7):
        for record in train(text_model(), ContiguousStreams(CODES, 3, 6), updates=9, **options):
            records.append(record)
            if record.update == left_after:
                break
        assert kept(training.read_records(tmp_path)) == kept(records)
    assert [r.update for r in records if r.validation] == [r.update for r in records if r.sample] == [2, 4, 6]
    ahead = history(tmp_path)
    ahead["validation"].append(ahead["validation"][-1] | {"update": 8})
    ahead |= {name: [*ahead[name], 9.0] for name in ("reconstruction", "kl", "gradient_norm")}
    (tmp_path / "history.json").write_text(json.dumps(ahead))
    read = training.read_records(tmp_path)
    assert kept(read) == kept(records)
    assert all(math.isnan(r.characters_per_second) for r in read) and math.isnan(read[1].validation.characters)


def test_a_run_that_is_older_goes_on(tmp_path, quiet_disk):
    """Once a ramp was called Linear, and of word dropout nothing was told."""
    options = {"out": tmp_path, "kl_weight": Ramp(0.0, 1.0, 8)}
    run(text_model(), RandomWindows(CODES, 3, 6), 2, **options)
    told = history(tmp_path)
    assert told.pop("word_dropout") == 0 and told["kl_weight"] == "Ramp(start=0.0, stop=1.0, updates=8)"
    told["kl_weight"] = "Linear(start=0.0, stop=1.0, updates=8)"
    (tmp_path / "history.json").write_text(json.dumps(told))
    run(text_model(), RandomWindows(CODES, 3, 6), 3, resume=True, **options)
    assert history(tmp_path)["kl_weight"].startswith("Ramp(") and len(history(tmp_path)["kl"]) == 3


def test_resuming_where_there_is_no_run_starts_one(tmp_path, quiet_disk):
    assert [r.update for r in run(vector_model(), vectors(), 2, out=tmp_path / "new", resume=True)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [
        ("learning_rate", 0.01, 0.02),
        ("learning_rate", 0.01, Cosine(0.01, 9)),
        ("kl_weight", Ramp(0, 1, 5), Ramp(0, 1, 6)),
        ("free_bits", 0.0, 0.1),
        ("weight_decay", 0.0, 0.1),
        ("clip", 1.0, 2.0),
        ("evaluate_every", 100, 10),
        ("seed", 0, 1),
    ],
    ids=str,
)
def test_other_settings_are_no_continuation(name, there, here, tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path, **{name: there})
    before = contents(tmp_path)
    with pytest.raises(ValueError) as error:
        train(vector_model(), vectors(), updates=4, out=tmp_path, resume=True, **{name: here})
    [told] = str(error.value).split(": ", 1)[1].split("; ")  # this setting and no other
    assert told.startswith(f"{name} ") and str(tmp_path) in str(error.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "model", "corpus"),
    [
        ("model", lambda: text_model("CharRNN"), RandomWindows(CODES, 3, 6)),
        ("configuration", lambda: text_model(dropout=0.1), RandomWindows(CODES, 3, 6)),
        ("corpus", text_model, RandomWindows(CODES, 3, 7)),
        ("corpus", text_model, RandomWindows(CODES, 3, 6, seed=1)),
        ("corpus", text_model, ContiguousStreams(CODES, 3, 6)),
        ("corpus", text_model, RandomWindows(CODES[:-1], 3, 6)),
    ],
    ids=["model", "dropout", "length", "seed of the windows", "streams", "text"],
)
def test_another_model_or_text_is_no_continuation(name, model, corpus, tmp_path, quiet_disk):
    run(text_model(), RandomWindows(CODES, 3, 6), 1, out=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"other settings: .*{name} "):
        train(model(), corpus, updates=4, out=tmp_path, resume=True)
    assert contents(tmp_path) == before


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
        lambda: training.read_records(tmp_path),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == sentence
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", [None, "", "{"], ids=["missing", "empty", "cut short"])
def test_a_run_whose_history_is_lost_does_not_go_on(content, tmp_path, quiet_disk):
    run(vector_model(), vectors(), 2, out=tmp_path)
    path = tmp_path / "history.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError) as error:
        train(vector_model(), vectors(), updates=4, out=tmp_path, resume=True)
    assert str(path) in str(error.value)


# When something goes wrong


def test_a_batch_that_is_not_finite_stops_training_before_the_step(tmp_path, quiet_disk):
    good, poisoned = vectors(5), vectors(5)
    poisoned[3][1, 0, 1] = 1e30
    model, other = vector_model(), vector_model()
    options = {"evaluate_every": 2, "validation": vectors(1, 2)[0]}
    with pytest.raises(FloatingPointError, match="update 4"):
        run(model, poisoned, 5, out=tmp_path / "run", **options)
    run(other, good, 3)
    assert weights(model) == weights(other)
    assert len(history(tmp_path / "run")["reconstruction"]) == 2  # the files are those of the last validation
    run(vector_model(), good, 5, out=tmp_path / "run", resume=True, **options)
    run(vector_model(), good, 5, out=tmp_path / "whole", **options)
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")


@pytest.mark.parametrize("rate", [math.inf, math.nan, 1e30])
def test_a_learning_rate_that_destroys_the_model_is_not_saved(rate, tmp_path, quiet_disk):
    with pytest.raises(FloatingPointError):
        run(
            vector_model(),
            vectors(),
            5,
            out=tmp_path,
            learning_rate=lambda n: rate if n == 2 else 0.001,
            evaluate_every=2,
        )
    model = load_checkpoint(tmp_path / "last.safetensors")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert len(history(tmp_path)["reconstruction"]) == 2


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
    run(vector_model(), vectors(), 6, out=tmp_path / "run", resume=True, **options)
    run(vector_model(), vectors(), 6, out=tmp_path / "whole", **options)
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")
