"""Tests of vrnn_tutorial/text_statistics.py."""

import math

import pytest
import torch

from vrnn_tutorial.text_statistics import entropy, share_known, whole_lines, words


def test_entropy_is_that_of_the_tempered_softmax():
    probabilities = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    logits = probabilities.log() + torch.tensor([[3.0], [-700.0]], dtype=torch.float64)
    assert entropy(logits).tolist() == pytest.approx([1.5 * math.log(2), 0])
    # At temperature 1/2 the probabilities are squared: 4/6, 1/6 and 1/6.
    assert entropy(logits, 0.5)[0].item() == pytest.approx(math.log(6) - 4 / 6 * math.log(4))
    assert entropy(torch.zeros(2, 3, 128), 1.3).tolist() == [[pytest.approx(math.log(128))] * 3] * 2
    assert entropy(logits, 1e-3)[0].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My lov'd lord's 'tis ", ["my", "lov'd", "lord's", "tis"]),
        ("The End,\nthe--end; to-day o' 3 days ", ["the", "end", "the", "end", "to", "day", "o", "days"]),
        ("cut off in the mid", ["cut", "off", "in", "the"]),
        ("cut at a line's end.\n", ["cut", "at", "a", "line's", "end"]),
        ("one", []),
        ("\n", []),
        ("", []),
    ],
)
def test_words_are_letters_and_the_last_one_only_if_it_is_whole(text, expected):
    assert words(text) == expected


def test_lines_are_whole_and_long_enough():
    text = f"{'a' * 20}\n{'b' * 19}\n\n {'c' * 19}\n{'d' * 30}"
    assert whole_lines(text) == ["a" * 20, " " + "c" * 19]
    assert whole_lines(text, 19) == ["a" * 20, "b" * 19, " " + "c" * 19]
    assert whole_lines("d" * 30) == whole_lines("") == []


def test_share_counts_every_piece():
    assert share_known(["a", "b", "a", "c"], {"a"}) == 0.5
    assert share_known(["a"], {"a", "b"}) == 1
    assert share_known(words("Romeo, zounds! Romeo "), {"romeo"}) == 2 / 3
    assert math.isnan(share_known([], {"a"}))
