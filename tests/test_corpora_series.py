"""Tests of vrnn_tutorial/corpora/series.py. Its two files may need a network, if they are missing in data/."""

import itertools
import json
import math
import zipfile
from collections import Counter

import pytest
import torch
from helpers import sha256
from scipy import stats

from vrnn_tutorial.corpora import series as recipe
from vrnn_tutorial.corpora import wheels
from vrnn_tutorial.corpora.series import COEFFICIENTS, co2, vowels, walks, walks_log_prob
from vrnn_tutorial.files import FOLDER
from vrnn_tutorial.series import read_csv

README = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
SOURCES = json.loads(wheels.SOURCES.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def spoken():
    return read_csv(vowels(), COEFFICIENTS, sequence="utterance")


@pytest.fixture(scope="module")
def weekly():
    return read_csv(co2(), ["co2"], time="date")


@pytest.mark.parametrize(("file", "name"), [(co2, "co2"), (vowels, "vowels")])
def test_the_files_are_the_recorded_ones_and_the_readme_says_where_they_are_from(file, name):
    assert sha256(file().read_bytes()) == SOURCES[name]["sha256"]
    for said in (SOURCES[name]["sha256"], SOURCES[name]["wheel_sha256"], SOURCES[name]["requirement"]):
        assert said in README


def test_the_vowels_are_the_literatures(spoken):
    """270 utterances to learn from, 30 of each speaker, and 370 to be tested by."""
    parts = Counter(name.split("/")[0] for name in spoken.names)
    assert parts == {"train": 216, "validation": 54, "test": 370}
    learned = [name.split("/") for name in spoken.names if not name.startswith("test")]
    assert Counter(speaker for _, speaker, _ in learned) == {str(speaker): 30 for speaker in range(1, 10)}
    for part, speaker, number in learned:
        assert (part == "validation") == (int(number) > 24), (part, speaker, number)
    lengths = [len(x) for x in spoken.sequences]
    assert (min(lengths), max(lengths)) == (7, 29)
    # The first numbers of the first speaker's first utterance.
    assert spoken.sequences[0][:2, 0].tolist() == pytest.approx([1.860936, 1.891651])
    assert spoken.sequences[0][0, 1].item() == pytest.approx(-0.207383)
    for part, count in parts.items():
        steps = sum(len(x) for x, name in zip(spoken.sequences, spoken.names) if name.startswith(part))
        assert f"| `{part}` | {count} | {steps:,} |" in README


def test_the_air_has_a_reading_in_most_weeks_and_more_of_its_carbon_dioxide_in_each_decade(weekly):
    (x,), (times,) = weekly.sequences, weekly.times
    assert {(b - a).days for a, b in itertools.pairwise(times)} == {7}
    missing = int(torch.isnan(x).sum())
    assert f"{len(x):,} weeks, {missing} of them without a reading" in co2.__doc__
    assert f"{len(x):,} weeks" in README and f"{missing} have no reading" in README
    decades = [x[i : i + 520].nanmean().item() for i in range(0, len(x) - 300, 520)]
    assert decades == sorted(decades) and x[0].item() == pytest.approx(316.1)


def test_a_package_with_a_wheel_for_each_system_is_asked_for_the_recorded_one(monkeypatch, tmp_path):
    asked = []

    def stopped(command, **options):
        asked.extend(map(str, command))
        raise KeyboardInterrupt

    monkeypatch.setattr(wheels.subprocess, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        co2(tmp_path)
    assert {"--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--only-binary=:all:", "--no-deps"} < {*asked}


def test_the_vowels_rows_are_written_as_they_were_found(tmp_path):
    head = "#0.5:0.25:8\n@classLabel true 1 2\n@data\n"
    lines = {"train": "1.50,2:3,-4e-1:1\n" * 25 + "7:8:2\n", "test": "9:10:2\n"}
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        for part, text in lines.items():
            archive.writestr(f"{part}.ts", head + text)
        rows = recipe._utterances(archive, {"members": {"train": "train.ts", "test": "test.ts"}}).decode().split("\n")
    assert rows[1:4] == ["train/1/01,1.50,3", "train/1/01,2,-4e-1", "train/1/02,1.50,3"]
    assert rows[-5:] == ["validation/1/25,1.50,3", "validation/1/25,2,-4e-1", "train/2/01,7,8", "test/2/01,9,10", ""]


# Walks


def test_a_walk_goes_left_or_right_and_mostly_as_before():
    x = torch.stack(walks(4000, 10, seed=3))[..., 0]
    signs = x.sign()
    assert signs[:, 0].mean().abs() < 0.05
    assert (signs[:, 1:] == signs[:, :-1]).float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert (x - signs).std().item() == pytest.approx(0.1, abs=0.003) and (x - signs).mean().abs() < 0.003
    assert torch.equal(x[0], walks(4000, 10, seed=3)[0][:, 0]) and not torch.equal(x[0], walks(1, 10)[0][:, 0])


def test_a_walks_likelihood_is_the_sum_over_all_its_directions():
    x = torch.tensor([0.9, 0.1, -1.2, -0.3])[:, None].double()
    total = 0.0
    for number in range(2**4):
        signs = [1 if number >> t & 1 else -1 for t in range(4)]
        p = 0.5 * math.prod(0.9 if a == b else 0.1 for a, b in itertools.pairwise(signs))
        total += p * math.prod(stats.norm(s, 0.1).pdf(float(v)) for s, v in zip(signs, x))
    assert walks_log_prob(x).sum().item() == pytest.approx(math.log(total))
    # Of each step given those before it, and not of all steps at once.
    torch.testing.assert_close(walks_log_prob(x[:2]), walks_log_prob(x)[:2])


def test_nothing_is_more_likely_on_average_than_the_process_itself():
    nats = torch.cat([-walks_log_prob(x)[1:] for x in walks(500, 40, seed=1)])
    entropy = stats.norm(0, 0.1).entropy() + stats.bernoulli(0.1).entropy()
    assert nats.mean().item() == pytest.approx(entropy, abs=0.02)
