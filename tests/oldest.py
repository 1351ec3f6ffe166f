"""Prints each direct dependency at the lower end of its range, as pip's constraints; PyTorch as constraints.txt has it.

    python tests/oldest.py > oldest.txt

A range in pyproject.toml is a claim: `make test-oldest` runs the tests with its lower ends. What those need in turn is
left to pip. A lower end that was withdrawn, or is excluded, is what the range must not begin with.
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def oldest(requirement: Requirement) -> str:
    """The constraint of a range that has one lower end. Raises ValueError for another."""
    lower = [part.version for part in requirement.specifier if part.operator == ">="]
    if len(lower) != 1:
        raise ValueError(f"{requirement} does not say where its range begins")
    return f"{requirement.name}=={lower[0]}"


def constraints() -> list[str]:
    """One for each direct dependency, of the module, of the notebooks and of the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    torch = [line for line in pinned if line.startswith("torch==")]
    return torch + [oldest(requirement) for requirement in requirements if requirement.name != "torch"]


if __name__ == "__main__":
    print("\n".join(constraints()))
