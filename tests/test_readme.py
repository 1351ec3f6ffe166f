"""The README's code runs as it stands, its commands are there, and its table says what the committed runs measured."""

import json
import math
import re
import shlex
import tomllib

import pytest
import safetensors
import scipy.stats
from chapters import NOTEBOOKS, PAGES, ROOT, sections
from torch.distributed.run import get_args_parser

import vrnn_tutorial
from vrnn_tutorial import VRNN, load_checkpoint
from vrnn_tutorial.__main__ import parser
from vrnn_tutorial.evaluation import Evaluation
from vrnn_tutorial.files import BEST
from vrnn_tutorial.run import LOSSES, read_records

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT, SERIES, OWN = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
ROWS = re.findall(r"^\| \[([^\]]+)\]\(data/checkpoints/([^)/]+)/\) \|(.*)\|$", README, flags=re.MULTILINE)
HISTORIES = [path for part in ("*", "trials/*") for path in (ROOT / "data/checkpoints").glob(f"{part}/history.json")]
TRIALS = re.findall(
    r"^\| \[(\w+)\]\(([^)]+)/\) \|(.*)\|$",
    (ROOT / "data" / "README.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def weights_of(folder):
    """The best ones of a committed run; those by which the package generates lie in the package."""
    return BEST if folder.name == "best" else folder / "best.safetensors"


def test_what_the_pages_import_is_there():
    imports = [line for path in PAGES for line in re.findall(r"(?m)^(?:from|import) .*$", path.read_text("utf-8"))]
    assert any("corpus_from_file" in line for line in imports)
    for line in imports:
        exec(line, {})


def test_what_the_readme_tells_to_use_is_exported():
    """Its programs, and what it calls in its sentences, take no second look for the room that a name lies in."""
    rooms = set(re.findall(r"(?m)^from (vrnn_tutorial\S*) import", "\n".join((TEXT, SERIES, OWN))))
    assert rooms == {"vrnn_tutorial"}
    called = {name.partition(".")[0] for name in re.findall(r"`(?:\w+=)?([\w.]+)\(", README.split("## What trains")[0])}
    assert {"forecast", "GaussianMixture", "Scaled"} <= called
    assert called - {"model"} <= set(vrnn_tutorial.__all__)


def test_ten_lines_on_text(capsys):
    names = {}
    exec(TEXT, names)
    output = capsys.readouterr().out
    losses = [float(line.split()[1]) for line in output.splitlines() if line.endswith("nats per character, held out")]
    assert len(losses) == 2 and losses[1] < losses[0] < math.log(128) + 4
    assert losses[1] < 3.4, "not even the commonest letters were learned"
    assert len(output.splitlines()[2:]) >= 1 and len(output.split("held out\n")[-1]) == 101


def test_ten_lines_on_series(capsys):
    import torch

    torch.manual_seed(0)
    names = {}
    exec(SERIES, names)
    series, future = names["series"], names["future"]
    # The best that one Gaussian per coordinate, blind to the past, could do.
    blind = sum(math.log(series[..., d].std()) + 0.5 * math.log(2 * math.pi * math.e) for d in range(2))
    assert names["last"].validation.loss < blind - 0.5
    assert [tuple(x.shape) for x in future] == [(5, 2)] * 10
    assert "nats per time step, held out" in capsys.readouterr().out


def test_an_emission_of_your_own(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    exec(OWN, names)
    model, loaded, x = names["model"], names["loaded"], names["series"]
    assert type(loaded.emission_type) is names["Mine"]
    losses = [m.eval()(x, noise=torch.zeros(30, 8, 2)).reconstruction.mean().item() for m in (model, loaded)]
    assert losses[0] == losses[1] and losses[0] < 1.467  # what the best of all Laplaces that know nothing of x has
    # As often as its distribution function says, at a temperature that divides log p.
    laplace = names["Laplace"](torch.full((20_000,), 3.0), torch.zeros(20_000))
    drawn = laplace.sample(0.5, torch.Generator().manual_seed(0))
    assert scipy.stats.kstest(drawn, scipy.stats.laplace(3, 0.5).cdf).pvalue > 0.01
    with pytest.raises(ValueError, match=r"Mine is not a class of this package: give yours, .* classes=\[Mine\]"):
        load_checkpoint("mine/last.safetensors")


def test_the_table_has_every_committed_run():
    committed = {path.parent.name for path in HISTORIES if path.parent.parent.name == "checkpoints"}
    assert {folder for _, folder, _ in ROWS} == committed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_row_says_what_was_measured(row):
    _, folder, cells = row
    history = json.loads((ROOT / "data" / "checkpoints" / folder / "history.json").read_text())
    measured = json.loads((ROOT / "data" / "checkpoints" / folder / "evaluation.json").read_text())
    parameters, updates, minutes, *losses = (cell.strip() for cell in cells.split("|"))
    assert parameters == f"{measured['parameters']:,}"
    assert updates == f"{history['validation'][-1]['update']:,}"
    assert minutes == f"{history['processor_seconds'] / 60:.0f}"
    assert losses == [f"{measured[name]['loss']:.3f}" for name in ("validation", "test", "last_tenth")] + [
        f"{measured['last_tenth']['kl']:.4f}"
    ]


LARGE = re.findall(r"^\| \[([^\]]+)\]\(data/checkpoints/text/(\w+).safetensors\) \|(.*)\|$", README, flags=re.MULTILINE)


def test_the_table_of_large_models_has_both_and_the_small_one():
    assert [name for _, name, _ in LARGE] == ["vrnn", "charrnn", "small"]


@pytest.mark.parametrize("row", LARGE, ids=lambda row: row[1])
def test_a_row_of_a_large_model_says_what_was_measured(row):
    _, name, cells = row
    measured = json.loads((ROOT / "data" / "experiments" / "text.json").read_text())[name]
    losses = [measured["evaluation"][part]["loss"] for part in ("validation", "test", "last_tenth")]
    assert [cell.strip() for cell in cells.split("|")] == [
        f"{measured['parameters']:,}",
        f"{measured['validation'][-1]['update']:,}",
        f"{measured['processor_seconds'] / 60:.0f}",
        *(f"{loss:.3f}" for loss in losses),
        f"{measured['evaluation']['last_tenth']['kl']:.4f}",
        f"{measured['blocks']:.3f}",
        f"{measured['dynamic']['last_tenth']:.3f}" if name != "small" else "",
    ]


def test_the_table_of_trials_has_every_run_on_streams():
    on_streams = {path.parent for path in HISTORIES if "ContiguousStreams" in json.loads(path.read_text())["corpus"]}
    assert {ROOT / "data" / folder for _, folder, _ in TRIALS} == on_streams


@pytest.mark.parametrize("row", TRIALS, ids=lambda row: row[1])
def test_a_trial_says_what_was_tried_and_measured(row):
    model, folder, cells = row
    history = json.loads((ROOT / "data" / folder / "history.json").read_text())
    peak, updates = re.fullmatch(r"Cosine\(peak=(.*), updates=(\d+), warmup=100\)", history["learning_rate"]).groups()
    configuration, best = history["configuration"], min(entry["loss"] for entry in history["validation"])
    assert model == history["model"] and int(updates) == history["validation"][-1]["update"]
    assert [cell.strip() for cell in cells.split("|")] == [
        str(configuration["hidden_size"]),
        str(configuration["dropout"]),
        str(history["weight_decay"]),
        peak,
        f"{int(updates):,}",
        f"{best:.3f}",
    ]


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.parent.name)
def test_a_committed_run_says_what_of_it_is_not_kept(path):
    history = json.loads(path.read_text())
    told, updates = history["pruned"], history["validation"][-1]["update"]
    weights = "last.safetensors was" if weights_of(path.parent).exists() else "the weights were"
    losses = ", and the losses and gradient norms of all but the last 100 updates"
    assert told in (f"{weights} deleted", f"{weights} deleted{losses}")
    assert {len(history[name]) for name in LOSSES} == {100 if told.endswith(losses) else updates}
    with pytest.raises(ValueError, match=f"cannot go on: {told}; train into another folder"):
        read_records(path.parent)


def commands():
    """The command lines of the pages and the notebooks, each with where it stands: `make ...`, `python -m ...`."""
    for path in PAGES + NOTEBOOKS:
        for section in sections(path):
            text = " ".join("\n".join(section.paragraphs).split())
            for code in re.findall(r"`([^`]+)`", text):
                yield path, code
            for paragraph in section.paragraphs:
                for code in re.findall(r"(?m)^ {4}(.+)$", paragraph.replace("\\\n", " ")):
                    yield path, code.partition("#")[0].strip()


def impossible(command):
    """What is wrong with a command line of the project's, or None."""
    words = shlex.split(command)
    if words[0].startswith("--"):
        known = f'add("{words[0]}"' in COMMAND_LINE or words[0] in TORCHRUN
        return None if known else f"no option {words[0]}"
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if words[0] == "make":
        target = next(word for word in words[1:] if "=" not in word)
        return None if re.search(rf"(?m)^{re.escape(target)}:", MAKEFILE) else f"no target {target}"
    if words[1:3] == ["-m", "vrnn_tutorial"]:
        # A sentence may name a command, or an option, without what it needs.
        needed = ["--out"] * (words[3:] == ["train"]) + ["somewhere"] * (words[-1] in ("train", "--out"))
        try:
            parser().parse_args([*words[3:], *needed])
        except SystemExit as end:
            return f"exit code {end.code}" if end.code else None
    if words[1:3] == ["-m", "pip"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        return None if words[-1] in (".", f".[{','.join(extras)}]") else f"the extras are {','.join(extras)}"
    for name in words[1:]:
        if re.fullmatch(r"[\w/]+\.(py|txt|cfg|yml)", name) and "/" in name and not (ROOT / name).exists():
            return f"no file {name}"
    return None


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMAND_LINE = (ROOT / "vrnn_tutorial" / "__main__.py").read_text(encoding="utf-8")
TORCHRUN = get_args_parser().format_help().split()
COMMAND = re.compile(r"make \w|torchrun |(\S*/)?python -m |python \S+\.py|--[a-z-]+")


def test_every_command_is_one():
    lines = [(path.name, line) for path, line in commands() if COMMAND.match(line)]
    assert len(lines) >= 20
    assert [(name, line, impossible(line)) for name, line in lines if impossible(line)] == []


def test_an_impossible_command_is_found(capsys):
    assert impossible("make test") is None and impossible("make tests") == "no target tests"
    assert impossible('python -m vrnn_tutorial generate --prime "ROMEO:" --temperature 0.8') is None
    assert impossible("python -m vrnn_tutorial generate --heat 0.8") == "exit code 2"
    assert impossible("--resume") is None and impossible("--again") == "no option --again"
    assert impossible("python -m vrnn_tutorial draw") == "exit code 2"
    assert impossible('python -m pip install -e ".[notebooks,tests]"') == "the extras are notebooks,test"
    assert impossible("torchrun --nproc-per-node 2 -m vrnn_tutorial train --updatess 3 --out x") == "exit code 2"
    assert impossible("python data/experiments/none.py") == "no file data/experiments/none.py"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_parameters_are_those_of_the_weights(row):
    _, folder, cells = row
    with safetensors.safe_open(weights_of(ROOT / "data" / "checkpoints" / folder), "np") as weights:
        count = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    assert cells.split("|")[0].strip() == f"{count:,}"


def test_a_sentence_on_parameters_counts_them():
    (counted,) = re.findall(r"the source article's model: ([\d,]+) parameters", README)
    assert counted == f"{sum(weight.numel() for weight in VRNN().parameters()):,}"


def test_the_table_says_in_which_units():
    """An evaluation's losses are in nats per character, as its bits show; the sentence above the table must say so."""
    section = next(s for s in sections(ROOT / "README.md") if s.heading == "## What trains how long to which loss")
    assert section.paragraphs[0].startswith("Minus the ELBO in nats per character on held-out text")
    heading = "| run | parameters | updates | processor minutes | validation | test | last 10% | of it KL |"
    assert section.paragraphs[1].splitlines()[0] == heading
    measured = json.loads((ROOT / "data" / "checkpoints" / "best" / "evaluation.json").read_text())["test"]
    evaluation = Evaluation(*(measured[field] for field in Evaluation._fields))
    assert evaluation.loss == measured["loss"] and evaluation.bits == measured["bits"]
    assert measured["bits"] == pytest.approx(measured["loss"] / math.log(2))
