"""The runs of chapter 6, each a call of `python -m vrnn_tutorial train`, then one of `evaluate`, then its bounds.

    python data/experiments/latent.py           make what is missing, two runs at a time
    python data/experiments/latent.py --list    print what is missing, each run's command and what it costs

A run lives in data/checkpoints/latent/NAME. Stopped at any moment, by Ctrl-C or worse, it goes on where it was when the
script is called again. It is done when data/experiments/latent.json has its name. There stand its figures, its command,
and the losses on validation from its history. Then the folder goes; the weights stay, as NAME.safetensors beside it,
where the chapter reads them. To make a run anew, delete its entry there; or call its command by hand, and the folder
stays with all that is in it. Seed 0 of everything comes first.

What is evaluated is `best.safetensors`, the best on validation by the ELBO. Where training minimises something else,
with free bits, another weight of the KL or another bound, that could be a model which has learned nothing yet: there it
is the last.

A run's `bounds` are, of 64 pieces of 300 characters of the test part, each read from zeros, what IWAE and FIVO with K
particles say of log p, or what it is where there is no z: nats per character, with the sign turned, one figure for each
piece. The models of chapter 4 get theirs as well.

Every run has contiguous streams of 64 x 150 characters, dropout 0.1, and a learning rate that falls from 0.006 to zero
along a cosine. What differs:

    k1-...  the source's sizes, 1,500 updates: the KL's weight from 0 to 2; free bits; annealing; word dropout
    k2-...  two characters per step, hidden 128, z 32, nets of two layers, 3,000 updates: the VRNN, three controls, the
            same cures; and VRNN and control with nets of one layer
    k4-...  four characters per step, likewise

CONTROLS adds, with three seeds each: the VRNN with chained characters; without noise; trained by IWAE and by FIVO, on
16 sequences per update with 4 particles each, and by the ELBO on those 16, its KL in closed form or, as IWAE with one
particle has it, by a draw; free bits for four characters; annealing with a whole cosine behind it.

`width` is the CharRNN of the VRNN's width, `count` the one of its number of parameters, `chained` the one of its width
whose characters of one step depend on each other.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from results import read, record
from torch import Tensor

from vrnn_tutorial import VRNN, bounds, load_checkpoint, shakespeare
from vrnn_tutorial.files import BEST

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("data/checkpoints/latent")
RESULTS = Path("data/experiments/latent.json")
COMMON = "--threads 1 --resume --batching streams --cosine --learning-rate 0.006 --dropout 0.1 --evaluate-every 250"
UPDATES = {1: 1500, 2: 3000, 4: 3000}
WIDE = "--hidden 128 --depth 2"
SIZES = {
    1: {"vrnn": "", "width": "--model charrnn", "count": "--model charrnn --hidden 120"},
    2: {
        "vrnn": f"{WIDE} --latent 32",
        "width": f"{WIDE} --model charrnn",
        "count": "--model charrnn --depth 2 --hidden 208",
        "chained": f"{WIDE} --model chained",
    },
    4: {
        "vrnn": f"{WIDE} --latent 32",
        "width": f"{WIDE} --model charrnn",
        "count": "--model charrnn --depth 2 --hidden 199",
        "chained": f"{WIDE} --model chained",
    },
}
#: What is done to the VRNN's z, under the name of the run. At two characters per step its KL is above one bit unasked.
TREATMENTS = {
    1: {
        **{f"kl-weight-{weight}": f"--kl-weight {weight}" for weight in (0, 0.25, 0.5, 2)},
        **{f"free-bits-{bits}": f"--free-bits {bits}" for bits in (0.5, 2)},
        "annealing": "--anneal 750",
        "short-annealing": "--anneal 300",
        "word-dropout": "--word-dropout 0.25",
    },
    2: {
        "annealing": "--anneal 1500",
        "free-bits-2": "--free-bits 2",
        "word-dropout": "--word-dropout 0.25",
        "shallow": "--depth 1",
        "width-shallow": "--model charrnn --depth 1",
    },
    4: {},
}
#: What asks whether it is z that helps: k, name, options of the VRNN, updates, processor seconds of an update. IWAE and
#: FIVO with 4 particles of 16 sequences cost what the ELBO of 64 does; `elbo-16` sees what they see, and its KL is in
#: closed form, that of `sampled-kl-16` a draw as theirs. In the trainings called `longer`, the rate rises for 750
#: updates, half as long as it then takes to fall: so much of it, two thirds, comes after the annealing.
FEW = "--batch 16"
LONGER = "--warmup 750"
CONTROLS = [
    (2, "vrnn-chained", "--emission chained", 3000, 0.21),
    (1, "no-noise", "--no-noise", 1500, 0.115),
    (2, "no-noise", "--no-noise", 3000, 0.17),
    (2, "elbo-16", FEW, 3000, 0.06),
    (2, "sampled-kl-16", f"{FEW} --objective iwae --particles 1", 3000, 0.06),
    (2, "fivo-16", f"{FEW} --objective fivo --particles 4", 3000, 0.2),
    (2, "iwae-16", f"{FEW} --objective iwae --particles 4", 3000, 0.17),
    (4, "free-bits-6", "--free-bits 6", 3000, 0.11),
    (4, "elbo-16", FEW, 3000, 0.04),
    (4, "fivo-16", f"{FEW} --objective fivo --particles 4", 3000, 0.13),
    (4, "iwae-16", f"{FEW} --objective iwae --particles 4", 3000, 0.11),
    (1, "longer", LONGER, 2250, 0.115),
    (1, "longer-annealing", f"{LONGER} --anneal 750", 2250, 0.115),
    (1, "longer-annealing-word-dropout", f"{LONGER} --anneal 750 --word-dropout 0.25", 2250, 0.115),
]
#: Processor seconds of an update, measured on one core of two.
SECONDS = {
    1: {"vrnn": 0.115, "width": 0.07, "count": 0.115},
    2: {"vrnn": 0.16, "width": 0.09, "count": 0.15, "chained": 0.11},
    4: {"vrnn": 0.11, "width": 0.06, "count": 0.1, "chained": 0.095},
}
SEEDS = 3
#: Of these runs the chapter reads figures alone; of all others, with seed 0, the weights as well.
FIGURES_ALONE = (
    *("k1-width", "k1-count", "k1-kl-weight", "k2-width-shallow"),
    *(f"k{k}-{name}-seed" for k, name, *_ in CONTROLS),
)
#: The models of chapter 4 whose bounds are wanted.
EARLIER = [
    *("source-lr-0.001", "source-lr-0.01", "source-charrnn-same-width", "source-charrnn-same-count"),
    *("best", "charrnn-same-width", "charrnn-same-count"),
]
PIECES, CHARACTERS = 64, 300
BOUNDS = {"iwae": bounds.iwae, "fivo": bounds.fivo}


class Run(NamedTuple):
    """One training run; its folder in FOLDER, the arguments of `train`, its cost on one core."""

    name: str
    arguments: list[str]
    seconds: float
    weights: str  # the checkpoint to evaluate

    @property
    def keeps_weights(self) -> bool:
        return self.name.endswith("-seed-0") and not self.name.startswith(FIGURES_ALONE)


def runs() -> list[Run]:
    """All runs, those of seed 0 first. At two characters per step only the cure that helped has more seeds."""
    found = []
    for seed in range(SEEDS):
        for k, sizes in SIZES.items():
            variants = [(kind, options, SECONDS[k][kind]) for kind, options in sizes.items()]
            for name, options in TREATMENTS[k].items():
                if k == 1 or seed == 0 or name == "free-bits-2":
                    variants.append((name, f"{sizes['vrnn']} {options}", SECONDS[k]["vrnn"]))
            found += [run_of(k, name, options, UPDATES[k], seconds, seed) for name, options, seconds in variants]
        for k, name, options, updates, seconds in CONTROLS:
            found.append(run_of(k, name, f"{SIZES[k]['vrnn']} {options}", updates, seconds, seed))
    return found


def run_of(k: int, name: str, options: str, updates: int, seconds: float, seed: int) -> Run:
    """The run of a seed; `seconds` are those of one update. What does not minimise the ELBO is judged by its end."""
    name, weights = f"k{k}-{name}-seed-{seed}", "best"
    if any(other in options for other in ("--kl-weight", "--free-bits", "--objective")):
        weights, options = f"update-{updates}", f"{options} --keep {updates}"
    shape = f"--characters {k} --length {-(-150 // k)} --updates {updates} --seed {seed}"
    arguments = f"{COMMON} {shape} {options} --out {FOLDER / name}".split()
    return Run(name, arguments, updates * seconds, f"{weights}.safetensors")


def make(run: Run) -> None:
    """Trains, evaluates and bounds, from where each was left. Raises CalledProcessError if either command fails."""
    if run.name in results():
        return
    folder = ROOT / FOLDER / run.name
    folder.mkdir(parents=True, exist_ok=True)
    weights, evaluation = FOLDER / run.name / run.weights, FOLDER / run.name / "evaluation.json"
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # two that wait for a core that is taken wait long
    with (folder / "log.tmp").open("a") as log:
        for command in (["train", *run.arguments], ["evaluate", "--checkpoint", weights, "--out", evaluation]):
            command = [sys.executable, "-m", "vrnn_tutorial", *command]
            subprocess.run(command, cwd=ROOT, env=one_thread, stdout=log, stderr=log, check=True)
    history = json.loads((folder / "history.json").read_text())
    if run.keeps_weights:
        shutil.copyfile(ROOT / weights, folder.with_name(f"{run.name}.safetensors"))
    record(ROOT / RESULTS, run.name, {
        **{name: history[name] for name in ("command", "versions", "seconds", "processor_seconds")},
        "validation": [{key: entry[key] for key in ("update", "loss", "kl")} for entry in history["validation"]],
        "evaluation": json.loads((ROOT / evaluation).read_text()),
        # A longer ladder for the VRNN as it is.
        "bounds": bounds_of(ROOT / weights, 256 if run.name.endswith("-vrnn-seed-0") else 64),
    })  # fmt: skip
    shutil.rmtree(folder)
    print(f"{run.name} is done", flush=True)


def bound_earlier(name: str) -> None:
    """The bounds of a model of chapter 4, unless they are there."""
    if name not in results():
        weights = BEST if name == "best" else ROOT / "data" / "checkpoints" / name / "best.safetensors"
        record(ROOT / RESULTS, name, {"bounds": bounds_of(weights, 256)})


def results() -> dict[str, dict]:
    return read(ROOT / RESULTS)


@torch.no_grad()
def bounds_of(checkpoint: Path, most: int) -> dict:
    """The bounds with K = 1, 4, 16 ... `most` particles, or the exact figures of a model without z; of each piece."""
    torch.set_num_threads(1)
    model = load_checkpoint(checkpoint).eval()
    x = pieces(shakespeare().test, model.configuration["characters"])
    if model.configuration.get("stochastic"):  # else there is no z, or no chance in it
        ladder = [4**i for i in range(5) if 4**i <= most]
        return {name: {K: bound_of(bound, model, x, K) for K in ladder} for name, bound in BOUNDS.items()}
    return {"exact": per_character(model(x).reconstruction.sum(0))}


def pieces(text: Tensor, k: int) -> Tensor:
    """PIECES of the text, spread evenly over it, each of CHARACTERS characters: (T, B), or (T, B, k) for k > 1."""
    starts = torch.linspace(0, len(text) - CHARACTERS, PIECES).long()
    x = text.unfold(0, CHARACTERS, 1)[starts].view(PIECES, -1, k).transpose(0, 1)
    return x.squeeze(-1) if k == 1 else x


def bound_of(bound, model: VRNN, x: Tensor, particles: int) -> list[float]:
    """Minus the bound, for each of the pieces x; so many at a time as fit into memory with all their particles."""
    generator = torch.Generator().manual_seed(0)
    at_once = max(4096 // particles, 1)
    return per_character(-torch.cat([bound(model, part, particles, generator) for part in x.split(at_once, 1)]))


def per_character(nats: Tensor) -> list[float]:
    return [round(value / CHARACTERS, 5) for value in nats.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the runs that are missing, and make nothing")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    options = parser.parse_args()
    if options.list:
        missing = [run for run in runs() if run.name not in results()]
        for run in missing:
            print(f"{run.seconds:4.0f} s  python -m vrnn_tutorial train {' '.join(run.arguments)}")
        minutes = sum(run.seconds for run in missing) / 60
        print(f"{len(missing)} of {len(runs())} runs are missing: {minutes:.0f} minutes of one core to train")
        return
    with ThreadPoolExecutor(options.j) as pool:
        list(pool.map(make, runs()))
        list(pool.map(bound_earlier, EARLIER))


if __name__ == "__main__":
    main()
