"""Tests of vrnn_tutorial/text.py."""

import random

import pytest
import torch
from helpers import exact
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial.text import (
    ASCII,
    Corpus,
    corpus_from_file,
    corpus_from_text,
    decode,
    encode,
    respell,
    visible,
    vocabulary_of,
)

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
@given(st.text(min_size=1), st.integers())
def test_a_code_is_its_characters_place_in_the_vocabulary(text, seed):
    vocabulary = "".join(random.Random(seed).sample(sorted(set(text) | set("abc")), len(set(text) | set("abc"))))
    codes = encode(text, vocabulary)
    assert codes.dtype == torch.int64 and codes.tolist() == [vocabulary.index(c) for c in text]
    assert decode(codes, vocabulary) == text


@pytest.mark.parametrize("size", [255, 256, 257, 60_000])
def test_a_large_vocabulary_has_all_its_codes(size):
    vocabulary = "".join(map(chr, range(0x10000, 0x10000 + size)))
    assert encode(vocabulary[::-1], vocabulary).tolist() == list(range(size))[::-1]
    assert decode(torch.arange(size), vocabulary) == vocabulary


def test_a_texts_own_vocabulary_is_sorted_behind_a_nul_that_no_text_holds():
    assert vocabulary_of("Übel\nüber Übel") == "\0\n belrÜü"
    with pytest.raises(ValueError, match="the text holds NUL"):
        vocabulary_of("a\0b")


@settings(deadline=None)
@given(st.text(min_size=1))
def test_to_ascii_gives_ascii_or_names_what_it_cannot_spell(text):
    try:
        assert decode(encode(text, to_ascii=True)).isascii()
    except ValueError as error:
        assert str(error) == "the text is empty" or "characters are not ASCII: " in str(error)


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


@pytest.mark.parametrize(
    ("text", "arguments", "complaint"),
    [
        ("abéc中é", {}, "3 of 6 characters are not ASCII: 'é' (2), '中' (1)"),
        ("Æbéc中", {"to_ascii": True}, "1 of 6 characters are not ASCII: '中' (1)"),
        (
            "a\nbb" * 1000,
            {"vocabulary": "a"},
            "3,000 of 4,000 characters are not in the vocabulary: 'b' (2,000), '\\n' (1,000)",
        ),
        ("naïve", {"vocabulary": "nave", "to_ascii": True}, "1 of 5 characters are not in the vocabulary: 'i' (1)"),
    ],
)
def test_all_foreign_characters_are_named_and_counted(text, arguments, complaint):
    with pytest.raises(ValueError) as error:
        encode(text, **arguments)
    # The sliders show the class beside the sentence.
    assert type(error.value) is ValueError and str(error.value) == complaint


def test_of_very_many_foreign_characters_the_hundred_most_frequent_are_named():
    often, seldom = ("".join(map(chr, range(start, start + size))) for start, size in ((0x4E00, 100), (0x5E00, 50)))
    with pytest.raises(ValueError, match=r"'.' \(1\)$"):
        encode(often)
    with pytest.raises(ValueError) as error:
        encode(seldom + 2 * often)
    named, others = str(error.value).split(", and ")
    assert named.count("(2)") == 100 and "(1)" not in named and others == "50 others"


def test_empty_texts_and_impossible_codes_and_vocabularies_are_refused():
    with pytest.raises(ValueError, match="empty"):
        encode("")
    with pytest.raises(ValueError, match="each of its characters once"):
        encode("aha", "aha")
    assert decode(torch.tensor([], dtype=torch.int64)) == ""
    for codes in (torch.tensor([128]), torch.tensor([-1]), torch.tensor([300])):
        with pytest.raises(ValueError, match="between 0 and 127"):
            decode(codes)
    with pytest.raises(ValueError, match="between 0 and 2"):
        decode(torch.tensor([0, 3]), "abc")
    for codes in (torch.tensor(65), torch.tensor([[65, 66]])):
        with pytest.raises(ValueError, match=r"shape \(N,\)"):
            decode(codes)


# A text as a corpus


def test_a_corpus_has_the_vocabulary_asked_for():
    text = "Der Fluß fließt"
    own, known = corpus_from_text(text, vocabulary="own"), corpus_from_text(text, vocabulary=ASCII + "ß")
    respelt = corpus_from_text(text, "river", to_ascii=True)
    assert own.vocabulary == "\0 DFefilrtuß" and own.codes.tolist()[:3] == [2, 4, 8]
    assert known.vocabulary == ASCII + "ß" and known.codes.tolist()[7] == 128
    assert respelt.vocabulary == ASCII and (own.name, respelt.name) == ("text", "river")
    assert decode(respelt.codes) == "Der Fluss fliesst"
    assert corpus_from_text("Straße 中", to_ascii=True, vocabulary="own").vocabulary == "\0 Saerst中"
    for corpus in (own, known):
        assert decode(corpus.codes, corpus.vocabulary) == text


@pytest.mark.parametrize(
    ("text", "arguments", "advice"),
    [
        ("éé", {}, "'é' (2); to_ascii=True respells them, or vocabulary=\"own\" takes them as they are"),
        ("é中", {}, "'é' (1), '中' (1); vocabulary=\"own\" takes them as they are"),
        ("é中", {"to_ascii": True}, "'中' (1); vocabulary=\"own\" takes them as they are"),
        ("é", {"vocabulary": "ea"}, "'é' (1); to_ascii=True respells them"),
        ("é", {"vocabulary": "a"}, "'é' (1)"),
    ],
)
def test_only_what_helps_is_advised(text, arguments, advice):
    with pytest.raises(ValueError) as error:
        corpus_from_text(text, **arguments)
    assert str(error.value).split(": ")[1] == advice


@pytest.mark.parametrize(("size", "dtype"), [(255, torch.uint8), (256, torch.int32)])
def test_a_large_text_is_stored_small_and_read_as_int64(size, dtype):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + size))) * 9
    corpus = corpus_from_text(text, vocabulary="own")  # and NUL
    assert corpus.codes.dtype == dtype
    assert corpus.windows().codes.dtype == corpus.streams().codes.dtype == dtype
    for codes in (corpus.train, corpus.validation, corpus.test, corpus.last_tenth, next(iter(corpus))):
        assert codes.dtype == torch.int64 and 0 < codes.min() <= codes.max() <= size
    for batches in (corpus.windows(2, 8, 3), corpus.streams(2, 8, 3)):
        assert next(iter(batches)).dtype == batches.validation.dtype == torch.int64
        assert decode(next(iter(batches))[:, 0].flatten(), corpus.vocabulary) in text


# A text of one's own


def test_a_text_file_of_ones_own(tmp_path, capsys):
    file = tmp_path / "rhyme.txt"
    file.write_bytes("\ufeffTwinkle, twinkle,\r\nlittle bat!\rHow I\n\r\n".encode())
    corpus = corpus_from_file(str(file))
    assert corpus.name == "rhyme" and corpus.vocabulary == ASCII
    assert decode(corpus.codes) == "Twinkle, twinkle,\nlittle bat!\nHow I\n\n"
    file.write_text("Où est ma chatte?", encoding="utf-8")
    assert decode(corpus_from_file(file, to_ascii=True).codes) == "Ou est ma chatte?"
    own = corpus_from_file(file, vocabulary="own")
    assert own.vocabulary == "\0 ?Oacehmstù" and decode(own.codes, own.vocabulary) == "Où est ma chatte?"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_is_read_in_its_encoding(encoding, tmp_path):
    file = tmp_path / "own.txt"
    file.write_bytes(("\ufeff" * (encoding == "utf-16-be") + "Größe\r\n").encode(encoding))
    corpus = corpus_from_file(file, vocabulary="own", encoding=encoding)
    assert decode(corpus.codes, corpus.vocabulary) == "Größe\n"


def test_a_folder_is_its_text_files_in_order_as_one_text(tmp_path, monkeypatch, capsys):
    for name, text in {"b.txt": "two\n", "a.txt": "one", "c.md": "no", ".d.txt": "no", "e.d/f.txt": "no"}.items():
        (tmp_path / "letters" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "letters" / name).write_text(text)
    monkeypatch.chdir(tmp_path / "letters")
    corpus = corpus_from_file(".")
    assert decode(corpus.codes) == "one\ntwo\n" and corpus.name == "letters"
    told = capsys.readouterr().err
    assert told.startswith("reading 2 files as one text, from ") and "a.txt to " in told and told.endswith("b.txt\n")


def test_several_files_and_folders_are_read_in_the_order_given(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for name in ("x", "folder/z", "folder/y"):
        (tmp_path / f"{name}.txt").write_text(name[-1])
    corpus = corpus_from_file([tmp_path / "x.txt", str(tmp_path / "folder"), tmp_path / "x.txt"])
    assert decode(corpus.codes) == "x\ny\nz\nx" and corpus.name == "x and 2 more"
    assert "4 files" in capsys.readouterr().err
    (tmp_path / "x.txt").write_text("é")
    with pytest.raises(ValueError, match=r"x.txt and 1 more cannot be used as a text: 1 of 3 characters are not ASCII"):
        corpus_from_file([tmp_path / "x.txt", tmp_path / "folder" / "y.txt"])


@pytest.mark.parametrize(
    ("content", "arguments", "complaint"),
    [
        (b"", {}, "the text is empty"),
        (b"\xff\xd8\xff\xe0", {}, "'utf-8' codec can't decode byte 0xff in position 0.*encoding=\"cp1252\" or enc"),
        (b"o\x9d\x81", {"encoding": "cp1252"}, "'charmap' codec can't decode byte 0x9d .*; if its encoding is another"),
        (b"odd", {"encoding": "utf-16"}, "'utf-16-le' codec .* truncated data; if its encoding is another"),
        (b"PK\x03\x04\0\0", {}, "NUL; if its encoding is another"),
        ("hi".encode("utf-16-le"), {}, 'NUL; if its encoding is another, name it, as in .*encoding="utf-16"'),
        ("Où?".encode(), {}, "1 of 3 characters are not ASCII: 'ù' .1.; to_ascii=True respells"),
    ],
)
def test_a_file_that_is_no_such_text_is_refused(tmp_path, content, arguments, complaint):
    file = tmp_path / "own.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        corpus_from_file(file, **arguments)
    assert str(error.value).startswith(f"{file} cannot be used as a text: ")


@pytest.mark.parametrize("encoding", ["klingon", "hex"])
def test_an_encoding_that_there_is_not_is_refused(encoding, tmp_path):
    (tmp_path / "own.txt").write_text("text")
    with pytest.raises(ValueError, match=f"no encoding '{encoding}'; utf-8, .* are some"):
        corpus_from_file(tmp_path / "own.txt", encoding=encoding)


def test_where_no_text_is_none_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.txt"):
        corpus_from_file(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="no .txt file in the folder"):
        corpus_from_file(tmp_path)
    with pytest.raises(ValueError, match="give the path"):
        corpus_from_file([])


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
    assert corpus.windows(length=8).validation is None and corpus.streams(8, 8).validation is None
    with pytest.raises(ValueError, match="the text has 8 characters"):
        next(iter(corpus))


@pytest.mark.parametrize("batching", ["windows", "streams"])
def test_of_a_long_validation_part_the_training_loop_scores_stretches_evenly_spread(batching):
    whole = Corpus("numbers", torch.arange(2_000_000))  # its validation part is 100,000 long
    assert_close(getattr(whole, batching)().validation, whole.validation, **exact)
    longer = Corpus("numbers", torch.arange(6_400_000))
    scored = getattr(longer, batching)().validation.view(16, -1)
    assert scored.shape == (16, 6250)
    assert_close(scored[:, 0], 5_760_000 + 20_000 * torch.arange(16), **exact)
    assert_close(scored, scored[:, :1] + torch.arange(6250), **exact)
    assert len(longer.validation) == 320_000


def test_a_text_is_respelt_only_where_its_vocabulary_does_not_know_it():
    assert respell("é Æ’日", ASCII) == "e AE'"
    assert respell("é Æ", "é A") == "é A", "a form of which the vocabulary knows a part"


def test_of_control_codes_only_newline_and_tab_are_left_and_each_other_is_one_character():
    codes = "".join(map(chr, range(160)))
    assert visible(codes[:33]) == "".join(c if c in "\t\n" else chr(0x2400 + ord(c)) for c in codes[:32]) + " "
    assert visible(codes[32:127]) == codes[32:127] and visible(codes[127:]) == "␡" + "\ufffd" * 32
