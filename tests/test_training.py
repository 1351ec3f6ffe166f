"""Tests of vrnn_tutorial/training.py: a batch, a step, what is reported of it, and what stops it."""

import contextlib
import itertools
import math
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.torch
import torch
from runs import (
    CODES,
    SIZES,
    TEXT,
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
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial import learner, training, vrnn
from vrnn_tutorial.batches import ContiguousStreams, RandomWindows, Sequences
from vrnn_tutorial.bounds import fivo, iwae
from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.checkpoint import load_checkpoint
from vrnn_tutorial.emissions import Gaussian, Scaled
from vrnn_tutorial.evaluation import Evaluation, evaluate
from vrnn_tutorial.generation import generate
from vrnn_tutorial.text import Corpus
from vrnn_tutorial.training import train
from vrnn_tutorial.vae import VAE
from vrnn_tutorial.vrnn import VRNN


class Watch:
    """What a model is given and what it makes of it, call by call."""

    def __init__(self, model: nn.Module):
        self.x, self.states, self.after = [], [], []
        model.register_forward_hook(self.see, with_kwargs=True)

    def see(self, module, arguments, options, output):
        x, *rest = arguments
        state = rest[0] if rest else options.get("state")
        # Before anything runs on: a graph that is still attached shall be seen here, not end in an error.
        assert state is None or not any(part.requires_grad for part in leaves(state))
        self.x.append(x)
        self.states.append(state)
        self.after.append([part.detach() for part in leaves(output.state)])


def leaves(state) -> list[torch.Tensor]:
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


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
            state = learner._detach(out.state)
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


# Averaged weights, and bfloat16


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_is_validated_and_kept_and_the_model_has_its_weights(decay, tmp_path):
    """After the first update it is the weights; at each one after it moves towards them."""
    models, expected = text_model("CharRNN"), None
    options = {"learning_rate": 0.05, "validation": CODES[:30], "evaluate_every": 1, "keep": range(1, 5)}
    for record in train(models, ContiguousStreams(CODES, 3, 6), updates=4, ema_decay=decay, out=tmp_path, **options):
        now = [weight.detach().clone() for weight in models.parameters()]
        expected = now if expected is None else [decay * a + (1 - decay) * b for a, b in zip(expected, now)]
        kept = load_checkpoint(tmp_path / f"update-{record.update}.safetensors")
        assert_close(list(kept.parameters()), expected)
        assert evaluate(kept, CODES[:30], draws=1).loss == pytest.approx(record.validation.loss, rel=1e-6)
        assert record.sample == "".join(generate(kept, length=200, seed=0))
    plain = text_model("CharRNN")
    run(plain, ContiguousStreams(CODES, 3, 6), 4, learning_rate=0.05)
    assert_close(list(models.parameters()), list(plain.parameters()), rtol=0, atol=0)
    assert_close(list(load_checkpoint(tmp_path / "last.safetensors").parameters()), now, rtol=0, atol=0)


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_that_averages_nothing_or_for_ever_is_refused(decay):
    with pytest.raises(ValueError, match=f"^ema_decay={decay}: from 0, which averages nothing, to less than 1.$"):
        train(text_model(), [CODES], ema_decay=decay)


@pytest.mark.parametrize("kind", ["VRNN", "CharRNN"])
def test_in_bfloat16_the_losses_are_those_of_autocast_and_all_else_is_single(kind, tmp_path):
    options = {"rnn": "lstm", "num_layers": 2}
    model, plain = text_model(kind, **options), text_model(kind, **options)
    x = next(iter(RandomWindows(CODES, 3, 6)))
    [record] = run(model, [x], 1, bfloat16=True, validation=CODES[:30], evaluate_every=1, seed=1, out=tmp_path)
    with learner._seeded(1, 0, x.device), torch.autocast("cpu", torch.bfloat16):
        out = plain(x)
    assert record.reconstruction == out.reconstruction.mean().item()
    with learner._seeded(1, 0, x.device):
        single = plain(x).reconstruction.mean().item()
    assert record.reconstruction != single and record.reconstruction == pytest.approx(single, rel=0.01)
    assert record.validation == evaluate(model, CODES[:30], draws=1, seed=1)
    saved = safetensors.torch.load_file(tmp_path / "last.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


# Sequences of unequal length


SERIES = [torch.randn(n, 2, generator=torch.Generator().manual_seed(n)) for n in (3, 1, 4, 0, 2, 5)]
LENGTHS = torch.tensor([len(series) for series in SERIES])


def padded(padding: float = 0.0, batch_first: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    x = nn.utils.rnn.pad_sequence(SERIES, batch_first=batch_first, padding_value=padding)
    return x, LENGTHS


@pytest.mark.parametrize("options", [{}, {"objective": "iwae", "particles": 3}, {"objective": "fivo", "particles": 3}])
def test_all_forms_of_a_batch_are_one(options):
    """And what stands in the padding changes nothing."""
    x, lengths = padded()
    forms = [(x, lengths), list(padded(math.nan)), SERIES, [each.numpy() for each in SERIES]]
    learned = [run(vector_model(), [form], 2, **options) for form in forms]
    model = vector_model()
    model.batch_first = True
    learned.append(run(model, [padded(9.0, batch_first=True)], 2, **options))
    for records in learned[1:]:
        assert_close([r[:4] for r in records], [r[:4] for r in learned[0]], rtol=1e-5, atol=1e-6)
    whole = vectors(1)[0]
    [record], [other], [as_a_loader_gives_it] = (
        run(vector_model(), [form], 1, **options) for form in (whole, (whole, torch.tensor([3, 3])), [whole])
    )
    assert record[:4] == as_a_loader_gives_it[:4]
    assert_close(other[:4], record[:4], rtol=1e-6, atol=0)


def test_the_loss_is_the_mean_over_the_steps_that_there_are(monkeypatch):
    """As of the sequences one by one, weighted by their lengths. Without noise, which is drawn for the padding too."""
    monkeypatch.setattr(vrnn, "standard_normal", lambda shape, like, generator: like.new_zeros(shape))
    [record] = run(vector_model(), [padded()], 1)
    model = vector_model()
    outs = [model(series[:, None]) for series in SERIES if len(series)]
    reconstruction, kl = (sum(getattr(out, name).sum() for out in outs) / 15 for name in ("reconstruction", "kl"))
    (reconstruction + kl).backward()
    norm = torch.linalg.vector_norm(torch.cat([p.grad.view(-1) for p in model.parameters()]))
    assert_close(record[1:4], (reconstruction.item(), kl.item(), norm.item()), rtol=1e-5, atol=0)


def test_a_corpus_of_sequences_is_trained_validated_and_resumed(tmp_path, quiet_disk):
    def corpus(first=SERIES[0]):
        return Sequences([first, *SERIES[1:]], 2, validation=SERIES[:3], seed=1)

    run(vector_model(), corpus(), 7, out=tmp_path / "whole", evaluate_every=3)
    for updates in (3, 7):
        options = {"out": tmp_path / "parts", "evaluate_every": 3, "resume": True}
        records = run(vector_model(), corpus(), updates, **options)
    assert learned(tmp_path / "parts") == learned(tmp_path / "whole")
    model = load_checkpoint(tmp_path / "parts" / "last.safetensors")
    assert records[-1].validation == evaluate(model, SERIES[:3], draws=1)
    assert (
        "Sequences(sequences=5 long, batch_size=2, validation=2 long, seed=1" in history(tmp_path / "parts")["corpus"]
    )
    with pytest.raises(ValueError, match="was made with other data"):
        train(vector_model(), corpus(-SERIES[0]), updates=9, **options)


# Other bounds


@pytest.mark.parametrize("bound", [iwae, fivo])
def test_another_bound_is_trained_by_its_gradient(bound):
    """K particles for each of two sequences of three steps; the records tell the losses of all."""
    x, ours, theirs = vectors(1)[0], vector_model(), vector_model()
    [record] = run(ours, [x], 1, seed=3, objective=bound.__name__, particles=4, learning_rate=0.0)
    for function in (lambda: bound(theirs, x, 4), lambda: theirs(x, particles=4)):
        torch.manual_seed(3 * 0x9E3779B1 % 2**32)
        out = function()
        if isinstance(out, torch.Tensor):
            (-out.sum() / 6).backward()
    norm = torch.linalg.vector_norm(torch.cat([p.grad.view(-1) for p in theirs.parameters()]))
    assert record.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
    if bound is iwae:
        assert record[1:3] == (out.reconstruction.mean().item(), out.kl.mean().item())


@pytest.mark.parametrize("objective", ["iwae", "fivo"])
def test_a_bounds_particles_are_carried_on_and_resumed(objective, tmp_path, quiet_disk):
    options = {"objective": objective, "particles": 3}
    for name, updates in (("whole", [4]), ("parts", [2, 4])):
        for each in updates:
            corpus = ContiguousStreams(CODES, 2, 6)
            run(text_model(), corpus, each, out=tmp_path / name, resume=True, **options)
    assert learned(tmp_path / "parts") == learned(tmp_path / "whole")
    assert safetensors.torch.load_file(tmp_path / "whole" / "last.safetensors")["state.0"].shape == (6, 5)
    with pytest.raises(ValueError, match="other settings: particles 3 there, 2 here"):
        train(text_model(), corpus, out=tmp_path / "whole", resume=True, **options | {"particles": 2})


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (vector_model, {"objective": "vae"}, "objective must be one of elbo, iwae, fivo, not 'vae'."),
        (vector_model, {"particles": 2}, "particles=2: the ELBO has one; train with objective='iwae' or 'fivo'."),
        (vector_model, {"objective": "iwae", "kl_weight": 0.5}, "iwae takes neither a KL weight nor free bits."),
        (vector_model, {"objective": "fivo", "free_bits": 0.5}, "fivo takes neither a KL weight nor free bits."),
        (vector_model, {"objective": "fivo", "particles": 0}, "particles must be at least 1, not 0."),
        (lambda: text_model("CharRNN"), {"objective": "iwae"}, "iwae needs z, which a CharRNN has not."),
        (lambda: VAE(4, 8, 2), {"objective": "fivo"}, "fivo is of sequences, and the x of a VAE follow on nothing."),
    ],
)
def test_a_bound_that_cannot_be_is_refused(model, options, sentence):
    with pytest.raises(ValueError) as error:
        train(model(), vectors(), **options)
    assert str(error.value) == sentence


@pytest.mark.parametrize("options", [{}, {"objective": "iwae", "particles": 2}])
def test_a_vae_is_trained_too(options):
    """Its x has one axis beside D, and no steps."""
    torch.manual_seed(0)
    model, x = VAE(4, 8, 2), (torch.rand(2, 30, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    losses = [r.reconstruction + r.kl for r in run(model, list(x), 150, learning_rate=0.03, **options)]
    assert losses[0] > 2.7 and sum(losses[-10:]) / 10 < losses[0] - 0.05


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


@pytest.mark.parametrize(
    ("model", "corpus", "options", "expected"),
    [
        (text_model, RandomWindows(CODES, 3, 6), {}, 18),
        (lambda: text_model(characters=2), RandomWindows(CODES, 3, 6, 2), {}, 36),
        (vector_model, vectors(), {}, 6),
        (vector_model, [padded()], {}, 15),
        (text_model, RandomWindows(CODES, 3, 6), {"objective": "iwae", "particles": 4}, 18),
        (vector_model, [padded()], {"objective": "fivo", "particles": 4}, 15),
    ],
    ids=["one character a step", "two", "vectors", "of unequal length", "particles", "particles, of unequal length"],
)
def test_speed_counts_characters_or_steps(model, corpus, options, expected, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(ticks)))  # each look at the clock: a second
    assert [r.characters_per_second for r in run(model(), corpus, 2, **options)] == [expected, expected]


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


def test_word_dropout_hides_the_characters_of_a_step_one_by_one():
    model, seen = text_model(characters=2), []
    model.register_forward_hook(lambda _, x, options, __: seen.append(options["rnn_input"] == 0), with_kwargs=True)
    run(model, RandomWindows(CODES, 20, 50, 2), 1, word_dropout=0.5)
    assert seen[0].shape == (50, 20, 2)
    assert abs((seen[0][..., 0] == seen[0][..., 1]).float().mean().item() - 0.5) < 0.08


@pytest.mark.parametrize(("characters", "streams"), [(900, 1), (3500, 3), (40_000, 16)])
def test_a_text_is_validated_in_streams_of_a_thousand_characters_or_more_at_most_sixteen(
    characters, streams, monkeypatch
):
    asked = []
    monkeypatch.setattr(training, "evaluate", lambda *_, **options: asked.append(options) or Evaluation(1, 1, 0.0, 9))
    run(text_model(), RandomWindows(CODES, 2, 5), 1, validation=CODES.repeat(90)[:characters])
    assert {options["streams"] for options in asked} == {streams} and {options["draws"] for options in asked} == {1}


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


def test_what_an_update_made_is_gone_before_the_next_begins():
    model, made, kept = text_model(), [], []
    model.register_forward_pre_hook(lambda model, given: kept.extend(each() is not None for each in made))
    model.register_forward_hook(lambda model, given, out: made.extend(map(weakref.ref, (out.z, out.reconstruction))))
    run(model, RandomWindows(CODES, 3, 6), 3)
    assert kept == [False] * (2 + 4)


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


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_corpus_with_its_axes_the_other_way_round_is_refused(batch_first):
    """Its steps would be taken for sequences, and its sequences for steps."""
    model = VRNN(VRNNCell(128, 4, 3, embedding_size=4), batch_first)
    sequences = [CODES[:5], CODES[5:8]]
    corpora = [RandomWindows(CODES, 3, 6), ContiguousStreams(CODES, 3, 6), Corpus("codes", CODES), Sequences(sequences)]
    others = [Sequences(sequences, batch_first=True)]
    for corpus in others if batch_first else corpora:
        train(model, corpus).close()
    told = f"the corpus has batch_first={not batch_first}, and the model batch_first={batch_first}: they must agree."
    for corpus in corpora if batch_first else others:
        with pytest.raises(ValueError) as error:
            train(model, corpus)
        assert str(error.value) == told


ZERO_OR_MORE = "must be a finite number, zero or more"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("updates", 0, "updates must be at least 1, not 0."),
        ("updates", 2.5, "updates must be a whole number, not 2.5."),
        ("updates", math.nan, "updates must be a whole number, not nan."),
        ("evaluate_every", 0, "evaluate_every must be at least 1, not 0."),
        ("evaluate_every", 2.5, "evaluate_every must be a whole number, not 2.5."),
        ("keep", [1, 2.5], "keep must be a whole number, not 2.5."),
        ("keep", [-1], "keep must be at least 0, not -1."),
        ("particles", 1.5, "particles must be a whole number, not 1.5."),
        ("seed", 0.5, "seed must be a whole number, not 0.5."),
        ("seed", 10**23, f"seed must be from {-(2**63)} to {2**64 - 1}, not {10**23}."),
        ("clip", 0.0, "clip must be a positive number, not 0.0."),
        ("clip", -1.0, "clip must be a positive number, not -1.0."),
        ("clip", math.nan, "clip must be a positive number, not nan."),
        *(
            (name, value, f"{name} {ZERO_OR_MORE}, not {value}.")
            for name in ("learning_rate", "kl_weight", "free_bits", "weight_decay")
            for value in (-0.1, math.nan, math.inf)
        ),
        ("out", "", "out names no folder; without it, nothing is kept."),
    ],
)
def test_settings_that_make_no_run_are_refused_at_the_call(name, value, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = vector_model()
    with pytest.raises(ValueError) as error:
        train(model, vectors(), **{"updates": 3, "out": tmp_path / "run", name: value})
    assert str(error.value) == sentence
    assert contents(tmp_path) == {} and weights(model) == weights(vector_model())


@pytest.mark.parametrize("seed", [-(2**63), 2**64 - 1])
def test_the_seeds_that_torch_takes_are_taken(seed):
    assert len(run(text_model(), RandomWindows(CODES, 3, 6), 1, seed=seed, validation=CODES[:30])) == 1


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path, quiet_disk):
    """They are recorded as such, and one's own are the same settings."""
    given = {
        "seed": np.int64(3),
        "evaluate_every": np.int32(2),
        "clip": np.float32(0.5),
        "learning_rate": torch.tensor(0.25),
    }
    own = {"seed": 3, "evaluate_every": 2, "clip": 0.5, "learning_rate": 0.25}
    run(vector_model(), vectors(), np.int64(2), out=tmp_path, **given)
    assert {name: history(tmp_path)[name] for name in own} == own
    assert len(history(tmp_path)["learning_rates"]) == 1
    records = run(vector_model(), vectors(), 4, out=tmp_path, resume=True, **own)
    whole = run(vector_model(), vectors(), 4, **own)
    assert [tuple(r)[:4] for r in records] == [tuple(r)[:4] for r in whole[2:]]
    assert len(history(tmp_path)["learning_rates"]) == 1


def test_a_schedule_that_fails_later_names_the_update_and_keeps_what_was_learned(tmp_path, quiet_disk):
    model = vector_model()
    with pytest.raises(ValueError, match=f"kl_weight after 3 updates {ZERO_OR_MORE}, not nan"):
        run(model, vectors(), 9, out=tmp_path, kl_weight=lambda n: math.nan if n == 3 else 1.0)
    assert weights(tmp_path / "last.safetensors") == weights(model)
    assert len(history(tmp_path)["kl"]) == 3


# When something goes wrong


@pytest.mark.filterwarnings("ignore:update")  # of its validation, if it does not stop
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


@pytest.mark.parametrize(
    ("x", "emission", "told"),
    [
        (lambda: vectors(1)[0] * 1e25, "gaussian", True),
        (lambda: torch.where(vectors(1)[0] > 0, 1e25, math.nan), Gaussian(missing=True), True),
        (lambda: vectors(1)[0], "gaussian", False),
        (lambda: vectors(1)[0] * 1e25 + 1e25, Scaled(Gaussian(), 1e25, 1e25), False),
    ],
    ids=["far", "far, with holes", "near", "scaled"],
)
def test_a_loss_that_is_not_finite_tells_of_values_far_from_zero(x, emission, told):
    model, x = vector_model(emission=emission), x()
    with torch.no_grad():
        model.cell.prior_net[0].bias.fill_(math.nan if not told else 0.0)
    with pytest.raises(FloatingPointError) as error:
        run(model, [x], 2)
    real = x[~x.isnan()]
    sentence = f"x lies between {real.min():.4g} and {real.max():.4g}: standardise it, as emissions.Scaled does"
    assert (sentence in str(error.value)) == told and ("standardise" in str(error.value)) == told
    assert "update 1: not finite: losses (" in str(error.value)
    assert str(error.value).endswith("training stopped, the model keeps the last good weights.")


@pytest.mark.parametrize("batch_first", [False, True])
def test_what_stands_in_the_padding_is_not_told(batch_first):
    x = torch.full((4, 2, 2), 1e25)
    x[:2, 0], x[2:, 0] = 2e25, 9e25
    model = vector_model()
    model.batch_first = batch_first
    with pytest.raises(FloatingPointError, match=r"x lies between 1e\+25 and 2e\+25: standardise"):
        run(model, [(x.transpose(0, 1) if batch_first else x, torch.tensor([2, 4]))], 1)


@pytest.mark.parametrize("rate", [math.inf, math.nan, -0.1, None, 1e30])
def test_a_learning_rate_that_would_destroy_the_model_is_not_saved(rate, tmp_path, quiet_disk):
    """What is no rate is refused before the step, what is too large found after it."""
    options = {"out": tmp_path, "learning_rate": lambda n: rate if n == 2 else 0.001, "evaluate_every": 2}
    told = (
        "update 4: not finite"
        if rate == 1e30
        else f"learning_rate after 2 updates must be a .* zero or more, not {rate}"
    )
    with pytest.raises(FloatingPointError if rate == 1e30 else ValueError, match=told):
        run(vector_model(), vectors(), 5, **options)
    model = load_checkpoint(tmp_path / "last.safetensors")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert len(history(tmp_path)["reconstruction"]) == 2


# Ctrl-C, and threads


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


def test_trainings_in_several_threads_are_what_they_are_alone():
    """Where signals cannot be handled, and torch's generator is everyone's; a notebook's widgets may train there."""
    two_layers = {"rnn": "lstm", "num_layers": 2, "dropout": 0.3}
    trainings = [
        lambda: (vector_model(), vectors(), {}),
        lambda: (text_model(dropout=0.3), RandomWindows(CODES, 3, 6), {"word_dropout": 0.5}),
        lambda: (text_model(**two_layers), ContiguousStreams(CODES, 3, 6), {"seed": 3}),
        lambda: (text_model("CharRNN", **two_layers), RandomWindows(CODES, 3, 6), {"seed": 4}),
    ]

    def losses(model, corpus, options):
        return [tuple(r)[:4] for r in run(model, corpus, 4, **options)]

    alone = [losses(*training()) for training in trainings]
    made, all_are_seeded = [training() for training in trainings], threading.Barrier(len(trainings))

    def wait(*_):
        with contextlib.suppress(threading.BrokenBarrierError):
            all_are_seeded.wait(0.5)

    for model, *_ in made:
        model.register_forward_pre_hook(wait)
    with ThreadPoolExecutor(len(made)) as threads:
        assert list(threads.map(lambda training: losses(*training), made)) == alone


def test_a_training_that_nobody_iterates_over_warns_that_nothing_was_trained():
    model = vector_model()
    before = weights(model)
    with pytest.warns(UserWarning, match="nobody asked for one: nothing was trained"):
        train(model, vectors(), updates=2)
    assert weights(model) == before
