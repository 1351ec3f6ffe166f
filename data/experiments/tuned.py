"""Experiments whose rows are tuned alike: each is trained at every dropout, and the best on validation with more seeds.

A run lives in a folder of its own, FOLDER/NAME. Stopped at any moment, by Ctrl-C or worse, it goes on where it was when
its script is called again. It is done when the file of results has its name, a line for each; then the folder goes. Its
weights, in half precision, stay in FOLDER/runs, and those of seed 0 at the dropout that is best so far are committed,
as FOLDER/ROW.safetensors. The figures of a run are those of such weights. A run at a dropout that is not the best so
far is never evaluated on test. To make a run anew, delete its line.
"""

import argparse
import json
import multiprocessing
import shutil
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from results import read, record

from vrnn_tutorial import load_checkpoint
from vrnn_tutorial.checkpoint import Model, save_checkpoint

SEEDS = 3


class Run(NamedTuple):
    """One training run."""

    row: str
    dropout: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row}-dropout-{self.dropout:g}-seed-{self.seed}"


@dataclass(frozen=True)
class Experiment:
    """What is to be run, and where it goes."""

    rows: Mapping[str, Any]  # by their names; each has its number of `updates`, and processor `seconds` of one
    dropouts: tuple[float, ...]
    results: Path
    folder: Path

    def read(self) -> dict[str, dict]:
        """What is known of each run, by its name."""
        return read(self.results)

    def tuning(self, rows: Collection[str]) -> list[Run]:
        """The runs of these rows that choose a dropout; each row's first ones first."""
        return [Run(row, dropout, 0) for dropout in self.dropouts for row in rows]

    def further(self, rows: Collection[str]) -> list[Run]:
        """The other seeds, of those of these rows whose dropout is chosen."""
        found = self.read()
        done = [row for row in rows if all(run.name in found for run in self.tuning([row]))]
        return [Run(row, self.best(row).dropout, seed) for seed in range(1, SEEDS) for row in done]

    def best(self, row: str) -> Run:
        """The run of seed 0 that is best on validation, of those that are done. Raises ValueError if none is."""
        found = self.read()
        done = [run for run in self.tuning([row]) if run.name in found]
        return min(done, key=lambda run: chosen_by(found[run.name]))

    def is_wanted(self, run: Run, figures: dict) -> bool:
        """Whether a run is to be evaluated on test: a further seed's, or the row's best so far."""
        found = self.read()
        rivals = [found[other.name] for other in self.tuning([run.row]) if other.name in found and other != run]
        return run.seed > 0 or all(chosen_by(figures) < chosen_by(rival) for rival in rivals)

    def weights(self, run: Run) -> Path:
        """Where a run's weights stay."""
        return self.folder / "runs" / f"{run.name}.safetensors"

    def learned(self, run: Run, weights: str, parts: int = 1, **about) -> dict:
        """What is to be recorded of a run's training; leaves its weights.

        Args:
            run: whose folder holds what it was trained to.
            weights: the checkpoint in the folder that is taken, without its suffix.
            parts: of a step, between which its nats were divided; what is recorded is of whole steps.
            about: facts to keep beside the weights.
        """
        own = self.folder / run.name
        history = json.loads((own / "history.json").read_text())
        model = load_checkpoint(own / f"{weights}.safetensors")
        save_checkpoint(self.weights(run), model, half=True, **about)
        validation = [
            {"update": entry["update"], **{key: parts * entry[key] for key in ("loss", "kl")}}
            for entry in history["validation"]
        ]
        return {
            **{name: history[name] for name in ("versions", "seconds", "processor_seconds")},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "validation": validation,
        }

    def tested(self, run: Run, figures: dict, test: Callable[[Model], dict]) -> dict:
        """The run's figures, and those that its model has on test, if it is wanted."""
        return figures | (test(load_checkpoint(self.weights(run))) if self.is_wanted(run, figures) else {})

    def keep(self, run: Run, figures: dict) -> None:
        """Adds a run to the results; its weights are the row's, if they are the best so far."""
        if run.seed == 0 and self.is_wanted(run, figures):
            shutil.copyfile(self.weights(run), self.folder / f"{run.row}.safetensors")
        record(self.results, run.name, figures)
        shutil.rmtree(self.folder / run.name, ignore_errors=True)
        print(f"{run.name} is done", flush=True)

    def make(self, rows: Collection[str], work: Callable[[Run], dict], jobs: int) -> None:
        """Makes what is missing of these rows, so many runs at a time; `work` trains and measures."""
        # Processes: torch has one source of chance for all threads.
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for runs in (self.tuning, self.further):
                missing = [run for run in runs(rows) if run.name not in self.read()]
                for run, figures in zip(missing, (pool.map if jobs > 1 else map)(work, missing), strict=True):
                    self.keep(run, figures)

    def list_missing(self, rows: Collection[str]) -> None:
        """Prints the runs of these rows that are missing, and what they cost."""
        found, all_ = self.read(), [*self.tuning(rows), *self.further(rows)]
        missing = [run for run in all_ if run.name not in found]
        for run in missing:
            print(f"{self.seconds(run):4.0f} s  {run.name}")
        unknown = len(rows) * (len(self.dropouts) + SEEDS - 1) - len(set(all_))
        print(f"{len(missing)} runs are missing, {sum(map(self.seconds, missing)) / 60:.0f} minutes of one core to "
              f"train; and {unknown} whose dropout is still to be chosen")  # fmt: skip

    def seconds(self, run: Run) -> float:
        """Of one core, to train."""
        return self.rows[run.row].updates * self.rows[run.row].seconds


def chosen_by(figures: dict) -> float:
    """What a run is chosen by on validation: what it says itself, or the least loss that it had."""
    return figures["chosen"] if "chosen" in figures else min(entry["loss"] for entry in figures["validation"])


def rounded(value):
    """Numbers with five decimals; of a list with four."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [round(part, 4) for part in value] if isinstance(value, list) else round(value, 5)


def parser(text: str) -> argparse.ArgumentParser:
    """The options that every such script has; `text` is its docstring."""
    found = argparse.ArgumentParser(description=text.splitlines()[0])
    found.add_argument("--list", action="store_true", help="print the runs that are missing, and make nothing")
    found.add_argument("-j", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    return found
