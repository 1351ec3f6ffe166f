"""The runs of chapter 6, each a call of `python -m vrnn_tutorial train`, then one of `evaluate`.

    python data/experiments/latent.py           make what is missing, two runs at a time
    python data/experiments/latent.py --list    print each run's command and what it costs, and make nothing

A run lives in data/checkpoints/latent/NAME. Stopped at any moment, by Ctrl-C or worse, it goes on where it was when the
script is called again. It is done when its `evaluation.json` is there; then `last.safetensors`, three times the size of
the weights alone, is deleted. Seed 0 of everything comes first.

What is evaluated is `best.safetensors`, the best on validation by the ELBO. Where training minimises something else,
with free bits or another weight of the KL, that could be a model which has learned nothing yet: there it is the last.

Every run has contiguous streams of 64 x 150 characters, dropout 0.1, and a learning rate that falls from 0.006 to zero
along a cosine. What differs:

    k1-...  the source's sizes, 1,500 updates: the KL's weight from 0 to 2; free bits; annealing; word dropout
    k2-...  two characters per step, hidden 128 and z 32, 3,000 updates: the VRNN, three controls, and the same cures
    k4-...  four characters per step, likewise

`width` is the CharRNN of the VRNN's width, `count` the one of its number of parameters, `chained` the one of its width
whose characters of one step depend on each other.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("data/checkpoints/latent")
COMMON = "--threads 1 --resume --batching streams --cosine --learning-rate 0.006 --dropout 0.1 --evaluate-every 250"
UPDATES = {1: 1500, 2: 3000, 4: 3000}
SIZES = {
    1: {"vrnn": "", "width": "--model charrnn", "count": "--model charrnn --hidden 120"},
    2: {
        "vrnn": "--hidden 128 --latent 32",
        "width": "--model charrnn --hidden 128",
        "count": "--model charrnn --hidden 202",
        "chained": "--model chained --hidden 128",
    },
    4: {
        "vrnn": "--hidden 128 --latent 32",
        "width": "--model charrnn --hidden 128",
        "count": "--model charrnn --hidden 209",
        "chained": "--model chained --hidden 128",
    },
}
#: What is done to the VRNN's z, under the name of the run. At two characters per step its KL is near two bits unasked.
TREATMENTS = {
    1: {
        **{f"kl-weight-{weight}": f"--kl-weight {weight}" for weight in (0, 0.25, 0.5, 2)},
        **{f"free-bits-{bits}": f"--free-bits {bits}" for bits in (0.5, 1, 2)},
        "annealing": "--anneal 750",
        "word-dropout": "--word-dropout 0.25",
    },
    2: {
        "annealing": "--anneal 1500",
        "free-bits-4": "--free-bits 4",
        "word-dropout": "--word-dropout 0.25",
    },
    4: {},
}
#: Processor seconds of an update, measured on one core of two.
SECONDS = {
    1: {"vrnn": 0.115, "width": 0.07, "count": 0.115},
    2: {"vrnn": 0.12, "width": 0.075, "count": 0.145, "chained": 0.1},
    4: {"vrnn": 0.08, "width": 0.05, "count": 0.09, "chained": 0.085},
}
SEEDS = 3


class Run(NamedTuple):
    """One training run; its folder in FOLDER, the arguments of `train`, its cost on one core."""

    name: str
    arguments: list[str]
    seconds: float
    weights: str  # the checkpoint to evaluate


def runs() -> list[Run]:
    """All runs, those of seed 0 first; the cures at two characters per step have that seed alone."""
    found = []
    for seed in range(SEEDS):
        for k, sizes in SIZES.items():
            shape = f"--characters {k} --length {-(-150 // k)} --updates {UPDATES[k]} --seed {seed}"
            variants = [(kind, kind, options) for kind, options in sizes.items()]
            if k == 1 or seed == 0:
                variants += [(name, "vrnn", f"{sizes['vrnn']} {options}") for name, options in TREATMENTS[k].items()]
            for name, kind, options in variants:
                name = f"k{k}-{name}-seed-{seed}"
                weights = "best"
                if "--kl-weight" in options or "--free-bits" in options:
                    weights, options = f"update-{UPDATES[k]}", f"{options} --keep {UPDATES[k]}"
                arguments = f"{COMMON} {shape} {options} --out {FOLDER / name}".split()
                found.append(Run(name, arguments, UPDATES[k] * SECONDS[k][kind], f"{weights}.safetensors"))
    return found


def make(run: Run) -> None:
    """Trains and evaluates, from where both were left. Raises CalledProcessError if either fails."""
    folder = ROOT / FOLDER / run.name
    if (folder / "evaluation.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = [
        "--checkpoint",
        FOLDER / run.name / run.weights,
        "--out",
        FOLDER / run.name / "evaluation.json",
    ]
    with (folder / "log.tmp").open("a") as log:
        for command in (["train", *run.arguments], ["evaluate", *evaluation]):
            subprocess.run(
                [sys.executable, "-m", "vrnn_tutorial", *command], cwd=ROOT, stdout=log, stderr=log, check=True
            )
    (folder / "last.safetensors").unlink()
    (folder / "log.tmp").unlink()
    print(f"{run.name} is done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the runs and make nothing")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    options = parser.parse_args()
    if options.list:
        for run in runs():
            print(f"{run.seconds:4.0f} s  python -m vrnn_tutorial train {' '.join(run.arguments)}")
        print(f"{len(runs())} runs, {sum(run.seconds for run in runs()) / 60:.0f} minutes of one core to train")
        return
    with ThreadPoolExecutor(options.j) as pool:
        list(pool.map(make, runs()))


if __name__ == "__main__":
    main()
