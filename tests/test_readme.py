"""The README's code runs as it stands, and its table says what the committed runs measured."""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT, SERIES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
ROWS = re.findall(r"^\| \[([^\]]+)\]\(data/checkpoints/([^)/]+)/\) \|(.*)\|$", README, flags=re.MULTILINE)

TRIALS = re.findall(
    r"^\| \[(\w+)\]\(([^)]+)/\) \|(.*)\|$",
    (ROOT / "data" / "README.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


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


def test_the_table_has_every_committed_run():
    committed = {path.parent.name for path in (ROOT / "data" / "checkpoints").glob("*/history.json")}
    assert {folder for _, folder, _ in ROWS} == committed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_row_says_what_was_measured(row):
    _, folder, cells = row
    history = json.loads((ROOT / "data" / "checkpoints" / folder / "history.json").read_text())
    measured = json.loads((ROOT / "data" / "checkpoints" / folder / "evaluation.json").read_text())
    parameters, updates, minutes, *losses = (cell.strip() for cell in cells.split("|"))
    assert parameters == f"{measured['parameters']:,}"
    assert updates == f"{len(history['reconstruction']):,}"
    assert minutes == f"{history['processor_seconds'] / 60:.0f}"
    assert losses == [f"{measured[name]['loss']:.3f}" for name in ("validation", "test", "last_tenth")] + [
        f"{measured['last_tenth']['kl']:.4f}"
    ]


def test_the_table_of_trials_has_every_run_on_streams():
    checkpoints = ROOT / "data" / "checkpoints"
    histories = set(checkpoints.rglob("history.json")) - set(checkpoints.glob("latent/*/history.json"))
    on_streams = {path.parent for path in histories if "ContiguousStreams" in json.loads(path.read_text())["corpus"]}
    assert {ROOT / "data" / folder for _, folder, _ in TRIALS} == on_streams


@pytest.mark.parametrize("row", TRIALS, ids=lambda row: row[1])
def test_a_trial_says_what_was_tried_and_measured(row):
    model, folder, cells = row
    history = json.loads((ROOT / "data" / folder / "history.json").read_text())
    peak, updates = re.fullmatch(r"Cosine\(peak=(.*), updates=(\d+), warmup=100\)", history["learning_rate"]).groups()
    configuration, best = history["configuration"], min(entry["loss"] for entry in history["validation"])
    assert model == history["model"] and int(updates) == len(history["reconstruction"])
    assert [cell.strip() for cell in cells.split("|")] == [
        str(configuration["hidden_size"]),
        str(configuration["dropout"]),
        str(history["weight_decay"]),
        peak,
        f"{int(updates):,}",
        f"{best:.3f}",
    ]
