"""CONTRIBUTING.md: its floor plan has every room of the module, in an order against which nothing is imported."""

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re

import pytest
import seconds
from chapters import ROOT

import vrnn_tutorial

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


def with_many_arguments():
    """Public functions, methods and constructors of five arguments or more: docstring and arguments, by name."""
    found = {}
    for room in pkgutil.walk_packages(vrnn_tutorial.__path__, "vrnn_tutorial."):
        if room.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(room.name)).items():
            if getattr(value, "__module__", None) != room.name or name.startswith("_"):
                continue
            if inspect.isclass(value):
                made = "__init__" in vars(value) and not dataclasses.is_dataclass(value)
                members = {name: value} if made else {}
                members |= {f"{name}.{m}": f for m, f in vars(value).items() if inspect.isfunction(f) and m[0] != "_"}
            else:
                members = {name: value} if inspect.isfunction(value) else {}
            for label, member in members.items():
                arguments = [argument for argument in inspect.signature(member).parameters if argument != "self"]
                if len(arguments) >= 5:
                    found[f"{room.name.removeprefix('vrnn_tutorial.')}.{label}"] = member.__doc__ or "", arguments
    return found


MANY = with_many_arguments()


@pytest.mark.parametrize("name", sorted(MANY))
def test_what_takes_many_arguments_lists_them(name):
    docstring, arguments = MANY[name]
    listed = re.search(r"\n +Args:\n(.+?)(?=\n\n|\n +(?:Returns|Raises):|\Z)", docstring, re.DOTALL)
    assert listed, "there is no Args:"
    names = re.findall(r"^ +((?:\w+,\s+)*\w+):", listed[1], re.MULTILINE)
    assert sorted(re.split(r",\s+", ", ".join(names))) == sorted(arguments)


def test_the_models_and_the_loop_are_among_them():
    assert {"cell.VRNNCell", "char_rnn.CharRNN", "vae.VAE", "vrnn.VRNN.forward", "training.train"} <= set(MANY)
