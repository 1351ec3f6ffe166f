"""The package outside its checkout: built as it is published, and installed, for reading only, beside what it requires.

Nothing is fetched. The environment is a new one, without pip; its other packages are links to those of this one.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import matplotlib
import platformdirs
import pytest
from chapters import ROOT
from packaging.requirements import Requirement

from vrnn_tutorial import __version__, generate, load_checkpoint, shakespeare
from vrnn_tutorial.files import BEST, data_folder

NAME = f"vrnn_tutorial-{__version__}"
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = """
from vrnn_tutorial import benchmark
from vrnn_tutorial.__main__ import main

if __name__ == "__main__":  # the benchmark starts processes, which read this file
    benchmark.report.__defaults__ = (2, 8, 1, (2,), (1,))  # instead of minutes
    for command in (
        "data",
        "train --text fox.txt --out run --hidden 4 --latent 3 --embedding 5 --batch 2 --length 8 --updates 1",
        "evaluate --text fox.txt --draws 1 --out evaluation.json",
        "evaluate --text fox.txt --draws 1 --checkpoint run/best.safetensors",
        "generate --length 20 --seed 1",
        "benchmark",
        "figures",
    ):
        print(command, main(command.split()))
"""


def run(command: list, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """A program that knows nothing of this checkout, in a folder of its own."""
    quick = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    known = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", **quick, **variables}
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    # A copy, since a build leaves files in the folder that it reads, and takes up what an earlier one left there.
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "*build", "dist", "data", "notebooks", "runs")
    shutil.copytree(ROOT, folder / "tree", ignore=left_out)
    run([sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('..')"], folder / "tree")
    return folder / f"{NAME}.tar.gz"


@pytest.fixture(scope="module")
def wheel(source_archive) -> Path:
    folder = source_archive.parent
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    run([*pip, source_archive], folder)
    return folder / f"{NAME}-py3-none-any.whl"


def requirements(wheel: Path) -> set[str]:
    """The names of all that the wheel requires, and of what these require in turn."""
    with zipfile.ZipFile(wheel) as archive:
        told = archive.read(f"{NAME}.dist-info/METADATA").decode()
    todo = [(Requirement(line), "") for line in re.findall("^Requires-Dist: (.*)", told, flags=re.MULTILINE)]
    seen = set()
    while todo:
        required, extra = todo.pop()
        if required.marker is None or required.marker.evaluate({"extra": extra}):
            for extra in {"", *required.extras} - {extra for name, extra in seen if name == required.name}:
                seen.add((required.name, extra))
                todo += [(Requirement(line), extra) for line in metadata.requires(required.name) or []]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of an environment that has the wheel and its requirements, and cannot be written to."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for name in requirements(wheel):
        distribution = metadata.distribution(name)
        for part in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (packages / part).exists():
                (packages / part).symlink_to(Path(str(distribution.locate_file(part))))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    run([*pip, wheel], folder)
    installed = packages / "vrnn_tutorial"
    folders = [packages, installed, *filter(Path.is_dir, installed.rglob("*"))]
    for path in folders:
        path.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in folders}
    yield folder / "bin" / "python"
    for path in folders:
        path.chmod(0o755)
    # The superuser could have made a file all the same.
    assert {path: path.stat().st_mtime_ns for path in folders} == before


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user's home folder, whose cache has the corpus."""
    corpus = shakespeare()
    text = data_folder() / f"{corpus.name}.txt"
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cache = platformdirs.user_cache_path("vrnn-tutorial", appauthor=False)
    cache.mkdir(parents=True)
    shutil.copy(text, cache)
    return tmp_path / "home"


@pytest.fixture
def elsewhere(python, home, tmp_path):
    """Runs the environment's Python in an empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def call(*arguments: str) -> str:
        known = {"HOME": str(home), "MPLCONFIGDIR": matplotlib.get_cachedir()}  # the fonts are known
        return run([python, *arguments], folder, **known).stdout

    call.folder = folder
    return call


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    files = [path.relative_to(ROOT) for path in (ROOT / "vrnn_tutorial").rglob("*") if path.is_file()]
    with zipfile.ZipFile(wheel) as archive:
        held = [Path(name) for name in archive.namelist()]
    about = {path for path in held if path.parts[0] == f"{NAME}.dist-info"}
    assert set(held) - about == {path for path in files if "__pycache__" not in path.parts}
    assert Path(f"{NAME}.dist-info/licenses/LICENSE") in about and Path("vrnn_tutorial/py.typed") in held


def test_the_source_archive_holds_what_the_wheel_is_built_from_and_nothing_else(source_archive):
    with tarfile.open(source_archive) as archive:
        held = {Path(name).parts[1] for name in archive.getnames() if "/" in name}
    assert held == {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "setup.py"} | {
        "vrnn_tutorial",
        "vrnn_tutorial.egg-info",
    }


def test_the_programs_of_the_readme_run(elsewhere):
    (elsewhere.folder / "programs.py").write_text("\n".join(PROGRAMS))
    printed = elsewhere("programs.py")
    assert printed.count("nats per character, held out") == 2 and printed.count("nats per time step, held out") == 1
    assert {path.name for path in elsewhere.folder.iterdir()} == {"programs.py", "mine"}  # a run's folder


def test_each_command_does_what_it_is_there_for(elsewhere):
    (elsewhere.folder / "fox.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 20)
    (elsewhere.folder / "commands.py").write_text(COMMANDS)
    printed = elsewhere("commands.py")
    codes = [printed.count(f"{command} 0\n") for command in re.findall(r'^ +"(.+)",$', COMMANDS, flags=re.MULTILINE)]
    assert codes == [1] * 7
    assert printed.startswith("shakespeare: 1,115,838 characters ")
    assert "".join(generate(load_checkpoint(BEST), length=20, seed=1)) in printed
    made = {str(path.relative_to(elsewhere.folder)) for path in elsewhere.folder.rglob("*") if path.is_file()}
    assert made >= {"run/history.json", "run/best.safetensors", "evaluation.json", "figures/unrolled.png"}
