"""What tests/seconds.py measures and writes, on a project of a few files; the order that conftest.py makes of it."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from chapters import ROOT
from conftest import SECONDS, pytest_collection_modifyitems
from seconds import coarse, told

FILES = {
    "tests/test_busy.py": """import subprocess, sys, time

def burn():
    until = time.process_time() + 1
    while time.process_time() < until:
        pass

def test_here():
    burn()

def test_in_a_child():
    subprocess.run([sys.executable, "-c", "import test_busy; test_busy.burn()"], check=True)
""",
    "tests/test_idle.py": "import time\n\ndef test():\n    time.sleep(2)\n",
    "tests/test_broken.py": "def test():\n    assert not True\n",
    "tests/test_other.py": "def test():\n    pass\n",
    "tests/seconds.json": '{"tests/test_broken.py": 50, "tests/test_gone.py": 5, "tests/test_other.py": 20}',
    "CONTRIBUTING.md": "| `busy/` | trade | tests | seconds |\n|---|---|---|---|\n"
    "| `busy.py` | burns | `test_busy.py`, `test_other.py` | |\n| `idle/` | sleeps | `test_idle.py` | 100 |\n",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The project after a call for three of its four files."""
    folder = tmp_path_factory.mktemp("project")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    for name in ("seconds.py", "chapters.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    command = [sys.executable, "tests/seconds.py", *(f"tests/test_{name}.py" for name in ("busy", "idle", "broken"))]
    known = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(folder / "tests")}
    ran = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True)
    assert ran.returncode == 1 and "1 failed, 3 passed" in ran.stdout, ran.stdout + ran.stderr
    return folder


def test_it_counts_the_processors_seconds_of_the_files_that_pass_and_keeps_the_others(measured):
    seconds = {"tests/test_broken.py": 50, "tests/test_busy.py": 2, "tests/test_idle.py": 1, "tests/test_other.py": 20}
    assert json.loads((measured / "tests" / "seconds.json").read_text()) == seconds


def test_the_floor_plan_tells_them_file_by_file(measured):
    rows = (measured / "CONTRIBUTING.md").read_text().splitlines()
    assert rows[0] == "| `busy/` | trade | tests | seconds |"
    assert rows[2:] == ["| `busy.py` | burns | `test_busy.py`, `test_other.py` | 2, 20 |",
                        "| `idle/` | sleeps | `test_idle.py` | 1 |"]  # fmt: skip


def test_a_row_without_seconds_gets_them_and_any_other_table_stays():
    assert told("| `a.py` | b | `test_a.py` |", {"tests/test_a.py": 5}) == "| `a.py` | b | `test_a.py` | 5 |"
    assert told("| room | trade | tests | seconds |\n| a | b | `test_a.py` | c |", {}).endswith("| c |")


def test_they_are_rounded_by_ratio():
    assert list(map(coarse, (0, 0.1, 1.4, 1.5, 3.1, 3.2, 33, 130, 150))) == [1, 1, 1, 2, 2, 5, 50, 100, 200]


def test_processes_that_share_the_tests_begin_with_the_longest_file():
    """What was not measured might be longer still; one process alone goes by the alphabet."""
    short, *_, long = sorted(SECONDS, key=SECONDS.get)
    names = [f"{short}::test_a", f"{long}::test_b", "tests/test_new.py::test_c", f"{long}::test_a"]

    def ordered(**config):
        items = [SimpleNamespace(nodeid=name) for name in names]
        pytest_collection_modifyitems(SimpleNamespace(**config), items)
        return [names.index(item.nodeid) for item in items]

    assert SECONDS[short] < SECONDS[long]
    assert ordered(workerinput={}) == [2, 1, 3, 0]
    assert ordered() == [0, 1, 2, 3]
