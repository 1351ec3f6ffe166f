"""Tests of vrnn_tutorial/text.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial.text import Corpus, corpus_from_file, decode, encode

exact = {"rtol": 0, "atol": 0}


# Codes


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=127), min_size=1))
def test_decode_is_the_inverse_of_encode(text):
    codes = encode(text)
    assert codes.dtype == torch.int64 and codes.shape == (len(text),)
    assert codes.tolist() == [ord(c) for c in text]
    assert decode(codes) == text
    assert_close(encode(text, to_ascii=True), codes, **exact)


@settings(deadline=None)
@given(st.text(min_size=1))
def test_to_ascii_gives_ascii_or_names_what_it_cannot_spell(text):
    try:
        assert decode(encode(text, to_ascii=True)).isascii()
    except ValueError as error:
        assert str(error) == "the text is empty" or "no ASCII form; the first is" in str(error)


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("naïve Æsop’s “œuvre”", 'naive AEsop\'s "oeuvre"'),
        ("no—more… 1–2", "no--more... 1-2"),
        ("ﬁne cafe\u0301\u00a0½", "fine cafe 1/2"),
        ("\ufeffStraße, Łódź, Þór", "Strasse, Lodz, Thor"),
    ],
)
def test_to_ascii_spells_what_can_be_spelt(text, spelt):
    assert decode(encode(text, to_ascii=True)) == spelt


def test_foreign_characters_are_counted_and_the_first_is_named():
    with pytest.raises(ValueError, match=r"^2 of 5 characters .*to_ascii=True.*'é' at position 2$"):
        encode("abéc中")
    with pytest.raises(ValueError, match=r"^1 of 5 characters have no ASCII form; the first is '中' at position 4$"):
        encode("Æbéc中", to_ascii=True)


def test_empty_texts_and_impossible_codes_are_refused():
    with pytest.raises(ValueError, match="empty"):
        encode("")
    assert decode(torch.tensor([], dtype=torch.int64)) == ""
    for codes in (torch.tensor([128]), torch.tensor([-1]), torch.tensor([300])):
        with pytest.raises(ValueError, match="between 0 and 127"):
            decode(codes)
    for codes in (torch.tensor(65), torch.tensor([[65, 66]])):
        with pytest.raises(ValueError, match=r"shape \(N,\)"):
            decode(codes)


# A text of one's own


def test_a_text_file_of_ones_own(tmp_path):
    file = tmp_path / "rhyme.txt"
    file.write_bytes("\ufeffTwinkle, twinkle,\r\nlittle bat!\r\n".encode())
    corpus = corpus_from_file(str(file))
    assert corpus.name == "rhyme" and decode(corpus.codes) == "Twinkle, twinkle,\nlittle bat!\n"
    file.write_text("Où est ma chatte?", encoding="utf-8")
    assert decode(corpus_from_file(file, to_ascii=True).codes) == "Ou est ma chatte?"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0", "decode"),
        (b"PK\x03\x04\0\0", "NUL"),
        ("hi".encode("utf-16-le"), "NUL"),
        ("Où?".encode(), "'ù' at position 1"),
    ],
)
def test_a_file_that_is_no_ascii_text_is_refused(tmp_path, content, complaint):
    file = tmp_path / "own.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        corpus_from_file(file)
    assert str(error.value).startswith(str(file))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.txt"):
        corpus_from_file(tmp_path / "none.txt")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        corpus_from_file(tmp_path)


# Its three parts


@settings(deadline=None)
@given(st.integers(0, 3000))
def test_the_parts_lie_side_by_side(n):
    corpus = Corpus("numbers", torch.arange(n))
    assert_close(torch.cat([corpus.train, corpus.validation, corpus.test]), corpus.codes, **exact)
    assert_close(torch.cat([corpus.validation, corpus.test]), corpus.last_tenth, **exact)
    assert len(corpus.train) == n * 90 // 100
    assert len(corpus.train) + len(corpus.validation) == n * 95 // 100


def test_a_corpus_serves_its_train_part():
    corpus = Corpus("numbers", torch.arange(10_000))
    x = next(iter(corpus))
    assert x.shape == (300, 64) and x.max() < 9000
    assert_close(x, next(iter(corpus.windows(64, 300, 1, 0))), **exact)
    for batches in (corpus.windows(8, 20, 2, seed=1), corpus.streams(8, 20, 2)):
        assert next(iter(batches)).shape == (20, 8, 2)
        assert_close(batches.codes, corpus.train, **exact)
        assert_close(batches.validation, corpus.validation, **exact)
    assert corpus.windows(seed=1).seed == 1


def test_a_short_corpus_may_have_nothing_held_out():
    corpus = Corpus("numbers", torch.arange(9))
    assert len(corpus.train) == 8 and len(corpus.validation) == 0
    assert corpus.windows(length=8).validation is None and corpus.streams(length=8).validation is None
    with pytest.raises(ValueError, match="the text has 8 characters"):
        next(iter(corpus))
