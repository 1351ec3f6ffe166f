"""CONTRIBUTING.md: its floor plan has every room of the module, in an order against which nothing is imported."""

import ast
import json
import re

import pytest
import seconds
from chapters import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLAN = re.findall(r"\n\| `(\w+(?:\.py|/))` \|[^|]+\|([^|]+)\|", TEXT.split("|---|---|---|---|")[1])
ROOMS = [re.sub(r"/|\.py", "", room) for room, _ in PLAN]
PACKAGE = ROOT / "vrnn_tutorial"


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source, depth):
    """The rooms that a file imports from, which lies so many folders below the package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            found |= {node.module.split(".")[0]} if node.module else {name.name for name in node.names}
    return found


def test_every_room_has_its_place():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(ROOMS) == sorted(rooms)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_imported_from_a_room_further_down(path):
    if path != PACKAGE / "__init__.py":
        above = ROOMS[: ROOMS.index(room_of(path))]
        assert imported(path.read_text(encoding="utf-8"), len(path.relative_to(PACKAGE).parts) - 1) <= set(above)


def test_an_import_is_seen():
    assert imported("from .cell import State\nfrom . import bounds, vae", 0) == {"cell", "bounds", "vae"}
    assert imported("from ..text import encode\nfrom .wheels import fetch_wheel", 1) == {"text"}


def test_the_tests_that_it_names_are_there():
    named = re.findall(r"`(test_\w+\.py)`", TEXT)
    assert len(named) > len(PLAN) and [name for name in named if not (ROOT / "tests" / name).exists()] == []
    assert [room for room, tests in PLAN if "`test_" not in tests] == []


def test_the_seconds_are_those_that_were_measured():
    measured = json.loads(seconds.SECONDS.read_text())
    assert sorted(measured) == seconds.files(), "make seconds measures them, or tests/seconds.py the missing one"
    assert set(measured.values()) <= set(seconds.STEPS)
    assert seconds.told(TEXT, measured) == TEXT
