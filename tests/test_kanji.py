"""Tests of vrnn_tutorial/corpora/kanji.py. Only `corpus` may need a network: if data/kanji.safetensors is missing."""

import hashlib
import itertools
import json
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import sha256
from scipy.spatial.distance import cdist

from vrnn_tutorial.corpora import kanji as recipe
from vrnn_tutorial.corpora import wheels
from vrnn_tutorial.corpora.kanji import Kanji, kanji
from vrnn_tutorial.corpora.wheels import fetch_wheel
from vrnn_tutorial.drawing import to_strokes
from vrnn_tutorial.files import FOLDER, data_folder

README = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
SOURCE = json.loads(wheels.SOURCES.read_text(encoding="utf-8"))["kanji"]
PARTS = ("train", "validation", "test")


# The drawings themselves


@pytest.fixture(scope="module")
def corpus() -> Kanji:
    return kanji()


@pytest.fixture(scope="module")
def drawings(corpus) -> dict[str, torch.Tensor]:
    """By character, those of all parts."""
    assert list(corpus.characters) == list(PARTS)
    named = [pair for part in PARTS for pair in zip(corpus.characters[part], getattr(corpus, part), strict=True)]
    assert len(dict(named)) == len(named), "a character is there twice"
    return dict(named)


@pytest.fixture(scope="module")
def strokes(drawings) -> dict[str, list[np.ndarray]]:
    return {character: to_strokes(steps) for character, steps in drawings.items()}


def test_the_file_is_the_recorded_one_and_names_whose_it_is(corpus):
    content = (data_folder() / "kanji.safetensors").read_bytes()
    assert sha256(content) == SOURCE["sha256"]
    with safetensors.safe_open(data_folder() / "kanji.safetensors", "pt") as file:
        assert file.metadata() == {"credit": SOURCE["credit"]}


def test_the_characters_are_those_of_both_levels_once_each(drawings):
    assert sorted(drawings) == sorted(recipe._jis())
    first, second = recipe._jis()[:2965], recipe._jis()[2965:]
    assert (first[0], first[-1], second[0], second[-1], len(second)) == ("亜", "腕", "弌", "熙", 3390)


def test_a_drawing_has_the_strokes_that_are_taught(strokes):
    known = {"一": 1, "乙": 1, "口": 3, "山": 3, "日": 4, "永": 5, "漢": 13, "龍": 16, "鷹": 24, "鬱": 29}
    assert {character: len(strokes[character]) for character in known} == known
    (only,) = strokes["一"]
    assert only[0, 0] < 20 and only[-1, 0] > 90 and np.ptp(only[:, 1]) < 10  # from left to right, level


def test_each_step_has_whole_units_and_one_pen_and_only_the_last_one_ends(drawings):
    steps = torch.cat(list(drawings.values()))
    assert steps.dtype == torch.float32 and steps.shape[1] == 5
    assert torch.equal(steps[:, :2], steps[:, :2].round())
    assert ((steps[:, 2:] == 0) | (steps[:, 2:] == 1)).all() and (steps[:, 2:].sum(1) == 1).all()
    assert all(drawing[:, 4].nonzero().tolist() == [[len(drawing) - 1]] for drawing in drawings.values())


def test_each_stroke_has_a_line_and_lies_on_the_grid(strokes):
    everything = list(itertools.chain(*strokes.values()))
    assert min(map(len, everything)) >= 2
    assert all((stroke[1:] != stroke[:-1]).any(1).all() for stroke in everything)
    points = np.concatenate(everything)
    assert points.min() > 0 and points.max() < 109


def test_the_readme_tells_what_is_measured(corpus, drawings, strokes):
    lengths = [len(drawing) for drawing in drawings.values()]
    for part in PARTS:
        assert f"| `{part}` | {len(getattr(corpus, part)):,} |" in README
    assert (
        f"{len(lengths):,} characters, {sum(map(len, strokes.values())):,} strokes and {sum(lengths):,} steps" in README
    )
    assert f"{np.mean(lengths):.1f} steps on average, at least {min(lengths)} and at most {max(lengths)}" in README
    assert f"{np.mean(lengths):.0f} steps on average, at most {max(lengths)}." in kanji.__doc__
    assert f"the {len(lengths):,} characters" in kanji.__doc__


def test_the_readme_names_the_source_and_the_licence():
    for said in (SOURCE["wheel_sha256"], SOURCE["sha256"], SOURCE["credit"]):
        assert said in README


def test_no_drawing_has_a_near_duplicate_in_another_part(corpus, strokes):
    points = {part: {} for part in PARTS}
    for part, characters in corpus.characters.items():
        for drawn in map(strokes.get, characters):
            spread = recipe.spread(drawn, 8)
            points[part].setdefault(len(drawn), []).append(spread.ravel() / np.sqrt(8 * len(drawn)))
    nearest = min(
        cdist(points[one][count], points[other][count]).min()
        for one, other in itertools.combinations(PARTS, 2)
        for count in set(points[one]) & set(points[other])
    )
    assert 6.5 <= nearest < 7


def test_a_group_lies_in_one_part(corpus, strokes):
    part_of = {character: part for part, characters in corpus.characters.items() for character in characters}
    groups = {}
    for character, group in recipe._groups(strokes).items():
        groups.setdefault(group, []).append(character)
    assert all(len({part_of[character] for character in group}) == 1 for group in groups.values())
    assert f"{sum(len(group) > 1 for group in groups.values())} groups have more than one character" in README
    for known in ("己已巳", "且旦目", "成戌戍", "冑胃胄", "未末", "扶抉"):
        assert any(set(group) == set(known) for group in groups.values())


# Building them, from a wheel with four small drawings, two of which are near-duplicates


def svg(*paths: str) -> str:
    drawn = "".join(f'<path d="{path}"/>' for path in paths)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 109 109"><g>{drawn}</g></svg>'


FILES = {
    "kanji/04e00.svg": svg("M10.2,50c20,0.3,60,0.2,80,0.4"),
    "kanji/04e00-Kaisho.svg": svg("M1,1 2,2"),
    "kanji/04e5d.svg": svg("M10,20 10,30", "M30,40 30,60"),
    "kanji/05341.svg": svg("M10,50 90,50", "M50,10 50,100"),
    "kanji/05bf8.svg": svg("M13,50 94,51"),  # its own hash would have it in the test part
}
TENSORS = {
    "train": [[13, 50, 0], [81, 1, 2], [10, 50, 0], [80, 0, 2]],
    "train characters": [0x5BF8, 0x4E00],
    "validation": [[10, 20, 0], [0, 10, 1], [20, 10, 0], [0, 20, 2]],
    "validation characters": [0x4E5D],
    "test": [[10, 50, 0], [80, 0, 1], [-40, -40, 0], [0, 90, 2]],
    "test characters": [0x5341],
}
CONTENT = safetensors.torch.save(
    {
        name: torch.tensor(values, dtype=torch.int32 if "characters" in name else torch.int8)
        for name, values in TENSORS.items()
    },
    metadata={"credit": "ours"},
)


METADATA = {
    "drawings-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: drawings\nVersion: 1.0\n",
    "drawings-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "drawings-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def wheel_of(tmp_path, monkeypatch):
    """Makes a wheel of files, and has `kanji` build from it, for four characters, without pip."""

    def wheel_of(files: dict[str, str]) -> Path:
        wheel = tmp_path / "wheels" / "drawings-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in (files | METADATA).items():
                archive.writestr(name, text)
        source = {"requirement": "drawings==1.0", "wheel_sha256": sha256(wheel.read_bytes())}
        source |= {"credit": "ours", "sha256": sha256(CONTENT)}
        sources = tmp_path / "sources.json"
        sources.write_text(json.dumps({"kanji": source}))
        monkeypatch.setattr(wheels, "SOURCES", sources)
        monkeypatch.setattr(recipe, "_jis", lambda: "十寸一九")
        monkeypatch.setattr(wheels, "fetch_wheel", lambda requirement, recorded, folder: wheel)
        return wheel

    return wheel_of


@pytest.fixture
def pip_finds(monkeypatch):
    """Has pip fetch after all, without an index: it finds nothing but the wheels of the folder that it is told of."""

    def pip_finds(folder: Path) -> None:
        monkeypatch.setattr(wheels, "fetch_wheel", fetch_wheel)
        for name, value in (("NO_INDEX", "1"), ("CONFIG_FILE", os.devnull), ("FIND_LINKS", str(folder))):
            monkeypatch.setenv(f"PIP_{name}", value)

    return pip_finds


def test_the_drawings_are_built_from_the_wheel_that_pip_fetches(wheel_of, pip_finds, tmp_path, capsys):
    pip_finds(wheel_of(FILES).parent)
    corpus = kanji(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kanji.safetensors"]
    assert (tmp_path / "new" / "kanji.safetensors").read_bytes() == CONTENT
    assert corpus.characters == {"train": "寸一", "validation": "九", "test": "十"}
    assert [drawing.tolist() for drawing in corpus.test] == [
        [[10, 50, 1, 0, 0], [80, 0, 0, 1, 0], [-40, -40, 1, 0, 0], [0, 90, 0, 0, 1]]
    ]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "fetching drawings==1.0" in said[0] and "built" in said[1]


def test_what_is_built_is_only_read_the_second_time(wheel_of, tmp_path, monkeypatch, capsys):
    wheel_of(FILES)
    kanji(tmp_path / "new")
    monkeypatch.setattr(wheels, "fetch_wheel", None)
    capsys.readouterr()
    drawings = kanji(tmp_path / "new").train
    assert [d.tolist() for d in drawings] == [
        [[13, 50, 1, 0, 0], [81, 1, 0, 0, 1]],
        [[10, 50, 1, 0, 0], [80, 0, 0, 0, 1]],
    ]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damaged", [CONTENT[:-1] + b"\1", CONTENT[:-1], b""], ids=["changed", "cut off", "empty"])
def test_a_damaged_file_is_built_again(wheel_of, tmp_path, damaged):
    wheel_of(FILES)
    (tmp_path / "kanji.safetensors").write_bytes(damaged)
    assert kanji(tmp_path).characters["test"] == "十"
    assert (tmp_path / "kanji.safetensors").read_bytes() == CONTENT


def test_several_that_build_at_once_do_no_harm(wheel_of, tmp_path, monkeypatch):
    """Each is held at the wheel until all have found the drawings missing."""
    wheel = wheel_of(FILES)
    barrier = threading.Barrier(4, timeout=60)
    monkeypatch.setattr(wheels, "fetch_wheel", lambda *arguments: barrier.wait() + 1 and wheel)
    with ThreadPoolExecutor(4) as pool:
        corpora = list(pool.map(kanji, [tmp_path / "new"] * 4))
    assert [corpus.characters["train"] for corpus in corpora] == ["寸一"] * 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kanji.safetensors"]
    assert (tmp_path / "new" / "kanji.safetensors").read_bytes() == CONTENT


def test_without_network_one_sentence_and_nothing_changed(wheel_of, pip_finds, tmp_path):
    wheel_of(FILES)
    pip_finds(tmp_path)
    (tmp_path / "kanji.safetensors").write_text("half")
    with pytest.raises(ConnectionError, match=r"could not fetch drawings==1\.0 .*network is needed, once$") as error:
        kanji(tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "kanji.safetensors").read_text() == "half"


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (svg("M10,50 90,50", "M50,10 50,100")[:-9], "kanji/05341.svg cannot be read: the SVG is not whole: .*"),
        (svg("M10,50Q1,2,3,4"), "kanji/05341.svg cannot be read: the path command 'Q' is none of M m C c S s"),
        (svg(), "kanji/05341.svg cannot be read: there is no stroke: a drawing has at least one"),
        (svg("M10,50 90,50", "M50,10 50,99"), "what was built from drawings-1.0.* has not the recorded SHA-256"),
    ],
    ids=["truncated", "unknown command", "empty", "another drawing"],
)
def test_what_is_not_the_recorded_drawing_is_refused_and_not_written(wheel_of, tmp_path, file, sentence):
    wheel_of(FILES | {"kanji/05341.svg": file})
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        kanji(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# Groups and parts


def shifted(right: float, strokes: int = 1) -> list[np.ndarray]:
    return [np.array([(10.0 + right, 10 + 9 * i), (60 + right, 10 + 9 * i)]) for i in range(strokes)]


def test_a_group_is_joined_by_pairs_that_are_near():
    chain = {"b": shifted(6), "z": shifted(40), "c": shifted(12), "a": shifted(0)}
    assert recipe._groups(chain) == {"b": "a", "z": "z", "c": "a", "a": "a"}


def test_two_chains_that_meet_are_one_group():
    chains = {"a": shifted(0), "b": shifted(6), "d": shifted(18), "e": shifted(24), "c": shifted(12)}
    assert set(recipe._groups(chains).values()) == {"a"}


@pytest.mark.parametrize(("apart", "groups"), [(6.49, {"a"}), (6.51, {"a", "b"})])
@pytest.mark.parametrize("strokes", [1, 3])
def test_near_is_a_root_mean_square_below_six_and_a_half(apart, groups, strokes):
    assert set(recipe._groups({"a": shifted(0, strokes), "b": shifted(apart, strokes)}).values()) == groups


def test_what_has_other_strokes_is_not_near():
    assert recipe._groups({"a": shifted(0), "b": shifted(0, 2)}) == {"a": "a", "b": "b"}
    there, back = shifted(0), [shifted(0)[0][::-1]]
    assert recipe._groups({"a": there, "b": back}) == {"a": "a", "b": "b"}


def test_points_lie_evenly_along_a_stroke_with_a_corner():
    corner = np.array([(0.0, 0), (3, 0), (3, 4)])
    even = [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2], [3, 3], [3, 4]]
    assert recipe.spread([corner], 8).tolist() == [even]


def test_the_part_follows_from_the_hash_of_the_groups_name_alone():
    for name in recipe._jis()[:500]:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()) / 2**256
        assert recipe._part(name) == ("train" if place < 0.8 else "validation" if place < 0.9 else "test")
