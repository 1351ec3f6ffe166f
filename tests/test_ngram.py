"""Tests of data/experiments/ngram.py: probabilities by hand, and the committed figures by the command."""

import json
import math
import re
import string

import pytest
from chapters import ROOT
from helpers import experiment

ngram = experiment("ngram")


def test_probabilities_of_two_letters_are_those_by_hand():
    model = ngram.WittenBell("aab", orders=2, characters=2)
    assert model.probabilities("", "a") == pytest.approx([3 / 5, 3 / 5])  # (2 + 2 * 1/2) / (3 + 2)
    assert model.probabilities("a", "b") == pytest.approx([2 / 5, 9 / 20])  # (1 + 2 * 2/5) / (2 + 2)
    assert model.probabilities("ba", "a") == pytest.approx([3 / 5, 11 / 20])  # only the last letter counts
    assert model.probabilities("b", "a") == pytest.approx([3 / 5, 3 / 5])  # nothing ever followed b
    assert model.losses("aab") == pytest.approx(
        [-math.log(3 / 5 * 3 / 5 * 2 / 5) / 3, -math.log(3 / 5 * 11 / 20 * 9 / 20) / 3]
    )


@pytest.mark.parametrize("past", ["", "t", "the ca", "xyz", "z"])
def test_probabilities_add_up_to_one_for_each_order(past):
    model = ngram.WittenBell("the cat sat on the mat", orders=4)
    of_all = [model.probabilities(past, chr(code)) for code in range(128)]
    assert [sum(p) for p in zip(*of_all)] == pytest.approx([1.0] * 4)
    assert min(min(p) for p in of_all) > 0


def test_longer_contexts_are_used():
    text = "".join(a + b + a + "-" for a in string.ascii_lowercase for b in string.ascii_lowercase) * 3
    losses = ngram.WittenBell(text, orders=3).losses(text)
    assert losses[2] < 0.8 * losses[1] < 0.8 * losses[0]  # the third letter is the one before the last


def test_the_committed_figures_are_the_commands_and_the_readmes(tmp_path, monkeypatch, capsys):
    committed = json.loads(ngram.OUT.read_text())
    monkeypatch.setattr(ngram, "OUT", tmp_path / "ngram.json")
    ngram.main()
    assert json.loads((tmp_path / "ngram.json").read_text()) == committed
    best = min(committed, key=lambda order: committed[order]["validation"])
    readme = " ".join((ROOT / "README.md").read_text().split())
    (order, *figures) = re.search(
        r"Witten-Bell (\d)-gram .*? has (\S+) on validation, (\S+) on test and (\S+) on the last 10%", readme
    ).groups()
    assert order == best
    assert figures == [f"{committed[best][part]:.3f}" for part in ("validation", "test", "last_tenth")]
