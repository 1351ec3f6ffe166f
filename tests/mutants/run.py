"""Do the tests notice? Each mutant breaks module or notebooks as a tired person might; the tests must then fail.

    python tests/mutants/run.py             all mutants, one after the other (make mutants)
    python tests/mutants/run.py -j 2 07 31  two at a time, and only those whose names start with 07 or 31

A patch is `NN-name.patch`: comment lines that say what is wrong and what a user would suffer, one line that names the
test files to run, and a small unified diff with a line or two of context (`git diff -U1`):

    # The KL divergence with its arguments exchanged: zero where it should be, and wrong everywhere else.
    # tests: test_gaussian.py
    --- a/vrnn_tutorial/gaussian.py
    +++ b/vrnn_tutorial/gaussian.py
    @@ ...

Numbers only order the table: 01 to 52 the model core, 53 on all else, 300 on notebooks and pages, 400 on the site.
What is wrong in a notebook is an entry of notebooks.toml (figures) or prose.toml (words), and in the site of site.toml:
a cell or a page, the string in it that is replaced, and by what.

Package, tests, notebooks, figures, data, site and pages are copied to a temporary folder, the mutant is made there and
nowhere else, and the named files run there until the first failure. It is *killed* if a test fails on an assertion. It
*survived* if all tests pass; and nothing is proved, which counts as a failure too, if it can no longer be made, if a
test breaks down for another reason (a syntax error kills nothing), or if the tests fail without any mutant, which is
tried first. Exit status 0: all killed; 1: not.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
LATENT = "data/checkpoints/latent"  # large, and never changed: a link will do
LEFT_OUT = shutil.ignore_patterns("__pycache__", "mutants", "latent", "_build")
#: Each attempt is a fork of a process that has the large packages loaded already, and nothing of ours.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch._dynamo", "scipy.stats", "hypothesis", "pytest", "safetensors.torch"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only mutants whose names start so (default: all)")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="mutants tried at a time (default: 1)")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in all_mutants() if mutant.name.startswith(tuple(arguments.names) or "")]
    if not mutants:
        parser.error("no such mutant")
    width = max(len(mutant.name) for mutant in mutants)
    started = time.perf_counter()
    named = sorted({name for mutant in mutants for name in mutant.tests})
    unbroken = attempt(Mutant("unbroken", named, lambda folder: None))
    if unbroken[0] != "survived":
        print(f"Without any mutant the tests fail already, so they would prove nothing: {unbroken[1]}")
        return 1
    print(f"{'unbroken':{width}}  all tests pass", flush=True)
    spared = []
    with ThreadPoolExecutor(arguments.j) as pool:
        for mutant, (verdict, why) in zip(mutants, pool.map(attempt, mutants), strict=True):
            print(f"{mutant.name:{width}}  {verdict if verdict == 'killed' else verdict.upper()}  {why}", flush=True)
            if verdict != "killed":
                spared.append(mutant.name)
    killed = len(mutants) - len(spared)
    print(f"{killed} of {len(mutants)} mutants killed in {time.perf_counter() - started:.0f} s")
    if spared:
        print(f"Not killed: {', '.join(spared)}")
    return 1 if spared else 0


class Mutant(NamedTuple):
    name: str
    tests: list[str]
    make: Callable[[str], str | None]  # in a copy of the project; says why it cannot


def all_mutants() -> list[Mutant]:
    patches = [Mutant(path.stem, tests_of(path), partial(patched, path)) for path in sorted(HERE.glob("*.patch"))]
    faults = {}
    for table in sorted(HERE.glob("*.toml")):
        faults |= tomllib.loads(table.read_text(encoding="utf-8"))
    return patches + [Mutant(name, fault.pop("tests"), partial(replaced, **fault)) for name, fault in faults.items()]


def tests_of(patch: Path) -> list[str]:
    """The test files that a patch's header names."""
    named = re.search(r"^# tests:(.+)$", patch.read_text(encoding="utf-8"), re.MULTILINE)
    if named is None:
        raise SystemExit(f"{patch.name} names no tests.")
    return named[1].split()


def patched(patch: Path, folder: str) -> str | None:
    applied = subprocess.run(["git", "apply", patch], cwd=folder, capture_output=True, text=True)
    return applied.stderr.strip() if applied.returncode else None


def replaced(folder: str, old: str, new: str, notebook: str = "", cell: str = "", page: str = "") -> str | None:
    """In a page, or in a cell of a notebook."""
    path = Path(folder, page or f"notebooks/{notebook}.ipynb")
    content = text = path.read_text(encoding="utf-8")
    if notebook:
        content = json.loads(content)
        (source,) = (each for each in content["cells"] if each["id"] == cell)
        text = "".join(source["source"])
    if text.count(old) != 1:
        return f"{page or cell} holds {old!r} {text.count(old)} times"
    if notebook:
        source["source"] = text.replace(old, new)
    path.write_text(json.dumps(content) if notebook else text.replace(old, new), encoding="utf-8")


def attempt(mutant: Mutant) -> tuple[str, str]:
    """The verdict on a mutant, and why: "killed", "survived", or "broken" where nothing is proved."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vrnn_tutorial", "tests", "notebooks", "figures", "data", "site"):
            shutil.copytree(PROJECT / name, Path(folder, name), ignore=LEFT_OUT)
        Path(folder, LATENT).symlink_to(PROJECT / LATENT)
        for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile"):
            shutil.copy(PROJECT / name, folder)
        if why := mutant.make(folder):
            return "broken", f"cannot be made: {why}"
        receiver, sender = PROCESSES.Pipe(duplex=False)
        run = PROCESSES.Process(target=test_in_copy, args=(folder, mutant.tests, sender))
        run.start()
        sender.close()
        run.join()
        return receiver.recv() if receiver.poll() else ("broken", f"pytest ended with {run.exitcode}")


class Witness:
    """A pytest plugin that sees how the first failing test failed, which hypothesis need not make small."""

    failure, skipped = None, 0

    def pytest_sessionstart(self):
        phases = Phase.explicit, Phase.generate
        settings.register_profile("unshrunk", settings.get_profile("same every time"), phases=phases)
        settings.load_profile("unshrunk")

    def pytest_runtest_logreport(self, report):
        self.skipped += report.skipped

    def pytest_exception_interact(self, node, call, report):
        asserted = report.when == "call" and call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
        verdict = "killed" if asserted else "broken", f"{node.nodeid}: {call.excinfo.typename}"
        self.failure = self.failure or verdict  # what breaks down when a test has failed says no more of it


def test_in_copy(folder: str, tests: list[str], verdict) -> None:
    """Runs in a process of its own: pytest in the copy until the first failure; sends the verdict."""
    os.chdir(folder)
    # In front of everything that is installed: the copy must be what is imported.
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = folder
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    witness = Witness()
    names = [f"tests/{name}" for name in tests]
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *names], plugins=[witness])
    module = sys.modules.get("vrnn_tutorial")
    if module is not None and not Path(module.__file__).resolve().is_relative_to(Path(folder).resolve()):
        verdict.send(("broken", f"the module under test was {module.__file__}, not the copy"))
    elif witness.failure is not None:
        verdict.send(witness.failure)
    elif status == pytest.ExitCode.OK:
        verdict.send(
            ("survived", "all tests pass" + f", but {witness.skipped} that were skipped" * bool(witness.skipped))
        )
    else:
        verdict.send(("broken", f"pytest ended with {status!r}"))


if __name__ == "__main__":
    # Loading the plugins of notebooks and browsers would take longer than most of the mutants live.
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.exit(main())
