"""The runs of chapter 7: what z is worth beside four emissions of a pen's steps, each held against an RNN.

    python data/experiments/pen.py           make what is missing, two runs at a time
    python data/experiments/pen.py --list    print what is missing, and what it costs

ROWS has the models: about 100,000 parameters each, equally many to 1%, nets of depth 2, states that begin as zeros.
Every run makes as many updates of 64 drawings, with fresh noise of half a unit to either side on the offsets, a
learning rate that falls from 0.01 to zero along a cosine, and a KL weight that rises to 1 over the first fifth. Each
row is tuned alike: with seed 0 it is trained at each dropout of DROPOUTS; the one that is best on validation is taken,
and trained with two seeds more. What is evaluated is the best on validation of a run, by the ELBO, with its weights
rounded to float16, as they are kept.

A run lives in data/checkpoints/pen/NAME. Stopped at any moment, by Ctrl-C or worse, it goes on where it was when the
script is called again. It is done when data/experiments/pen.json has its name, a line for each; then the folder goes.
Of each row data/checkpoints/pen/ROW.safetensors has the weights of seed 0 at the dropout that is best so far. A run at
a dropout that is not is never evaluated on test. To make a run anew, delete its line.

A line has the seconds, the number of parameters, the losses on validation; `invented`, of INVENTED characters at
temperature 1 the shares that end, lie wholly in the square, and are copies; and under `test`, all in nats, of steps in
units of KanjiVG's grid:

    loss           minus the ELBO per step, over DRAWS of z, with its `error`; of a model without z log p itself
    iwae, fivo     with PARTICLES, per step, each REPEATS times; their mean and its standard error
    strokes, jumps KL and reconstruction per step within strokes and of steps to a stroke's first point
    entries        the KL per step of each entry of z; `live` are those that the posterior moves, the most first
    drawings       of each drawing in its order, nats per drawing: minus FIVO, or log p
"""

import argparse
import json
import math
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vrnn_tutorial import VRNN, CharRNN, Pen, Scaled, VRNNCell, bounds, evaluate, load_checkpoint, train
from vrnn_tutorial.batches import Dequantised, dequantised
from vrnn_tutorial.checkpoint import Model, save_checkpoint
from vrnn_tutorial.corpora.kanji import CREDIT, kanji
from vrnn_tutorial.drawing import Gallery, to_strokes
from vrnn_tutorial.files import write_atomically
from vrnn_tutorial.gaussian import DiagonalGaussian
from vrnn_tutorial.lengths import pad
from vrnn_tutorial.pen import WIDTH, draw, quality
from vrnn_tutorial.probes import live_entries
from vrnn_tutorial.schedules import Cosine, Ramp

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("data/checkpoints/pen")
RESULTS = Path("data/experiments/pen.json")
UPDATES = 4000
DROPOUTS = (0.1, 0.2, 0.0)
SEEDS = 3
#: Nets see offsets of such a size as most have.
SCALE = [20.0, 20.0, 1.0, 1.0, 1.0]
DRAWS, PARTICLES, REPEATS = 10, 64, 2
AT_ONCE = 32  # drawings, with all their particles
INVENTED = 500


class Row(NamedTuple):
    """A model; and the processor seconds of an update on one core."""

    emission: Pen
    hidden: int
    seconds: float
    prior: str | None = None  # of a VRNN; None: an RNN

    def model(self, dropout: float) -> VRNN | CharRNN:
        """With fresh weights."""
        options = {"embedding_size": 64, "emission": Scaled(self.emission, 0, SCALE), "depth": 2, "dropout": dropout}
        if self.prior is None:
            return CharRNN(5, self.hidden, **options)
        return VRNN(VRNNCell(5, self.hidden, latent_size=16, prior=self.prior, **options))


GAUSS, MIXTURE, JOINT = Pen(1), Pen(20), Pen(20, joint=True)
POSITION = Pen(20, joint=True, position=True)
#: The most telling ones first.
ROWS = {
    "gauss-rnn": Row(GAUSS, 127, 0.09),
    "gauss-vrnn": Row(GAUSS, 76, 0.1, "conditional"),
    "gauss-vrnn-standard": Row(GAUSS, 81, 0.1, "standard"),
    "position-rnn": Row(POSITION, 111, 0.1),
    "mixture-rnn": Row(MIXTURE, 116, 0.1),
    "mixture-vrnn": Row(MIXTURE, 72, 0.11, "conditional"),
    "joint-rnn": Row(JOINT, 111, 0.1),
    "joint-vrnn": Row(JOINT, 70, 0.12, "conditional"),
    "position-vrnn": Row(POSITION, 70, 0.13, "conditional"),
}


class Run(NamedTuple):
    """One training run."""

    row: str
    dropout: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row}-dropout-{self.dropout:g}-seed-{self.seed}"

    @property
    def seconds(self) -> float:
        """Of one core, to train."""
        return UPDATES * ROWS[self.row].seconds


def tuning() -> list[Run]:
    """The runs that choose a dropout; each row's first ones first."""
    return [Run(row, dropout, 0) for dropout in DROPOUTS for row in ROWS]


def further() -> list[Run]:
    """The other seeds, of rows whose dropout is chosen."""
    found = results()
    done = [row for row in ROWS if all(run.name in found for run in tuning() if run.row == row)]
    return [Run(row, best(row).dropout, seed) for seed in range(1, SEEDS) for row in done]


def best(row: str) -> Run:
    """The run of seed 0 that is best on validation, of those that are done. Raises ValueError if none is."""
    found = results()
    return min(
        (run for run in tuning() if run.row == row and run.name in found),
        key=lambda run: lowest(found[run.name]),
    )


def lowest(figures: dict) -> float:
    """The least loss on validation that a run had."""
    return min(entry["loss"] for entry in figures["validation"])


def is_wanted(run: Run, figures: dict) -> bool:
    """Whether a run's weights are to be evaluated: a further seed's, or the row's best so far."""
    rivals = [other for other in tuning() if other.row == run.row and other.name in results()]
    return run.seed > 0 or all(lowest(figures) < lowest(results()[other.name]) for other in rivals)


def make(run: Run) -> dict:
    """Trains, from where it was left, and evaluates; returns what is to be recorded."""
    torch.set_num_threads(1)
    data, folder = kanji(), ROOT / FOLDER / run.name
    torch.manual_seed(run.seed)
    model = ROWS[run.row].model(run.dropout)
    for _ in train(
        model,
        Dequantised(data.train, 64, dequantised(data.validation, WIDTH), run.seed, width=WIDTH),
        updates=UPDATES,
        learning_rate=Cosine(0.01, UPDATES),
        kl_weight=Ramp(0, 1, UPDATES // 5),
        evaluate_every=250,
        out=folder,
        resume=True,
        seed=run.seed,
        progress=False,
    ):
        pass
    history = json.loads((folder / "history.json").read_text())
    figures = {
        **{name: history[name] for name in ("versions", "seconds", "processor_seconds")},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "validation": [{key: entry[key] for key in ("update", "loss", "kl")} for entry in history["validation"]],
    }
    if is_wanted(run, figures):
        rounded = folder / "rounded.safetensors"
        save_checkpoint(rounded, load_checkpoint(folder / "best.safetensors"), half=True, credit=CREDIT)
        kept = load_checkpoint(rounded)
        figures["test"] = figures_of(kept, dequantised(data.test, WIDTH))
        gallery = Gallery(map(to_strokes, data.train))
        figures["invented"] = quality(draw(kept, INVENTED, seed=run.seed), gallery)._asdict()
    return figures


def record(run: Run, figures: dict) -> None:
    """Adds a run to RESULTS, in the order of their names; keeps its weights, if they are the row's best so far."""
    folder = ROOT / FOLDER / run.name
    if run.seed == 0 and is_wanted(run, figures):
        shutil.copyfile(folder / "rounded.safetensors", folder.with_name(f"{run.row}.safetensors"))
    models = sorted({**results(), run.name: figures}.items())
    lines = [f"{json.dumps(name)}: {json.dumps(figures)}" for name, figures in models]
    write_atomically(ROOT / RESULTS, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{run.name} is done", flush=True)


def results() -> dict[str, dict]:
    """What is known of each run, by its name."""
    path = ROOT / RESULTS
    return json.loads(path.read_text()) if path.exists() else {}


@torch.no_grad()
def figures_of(model: Model, drawings: list[Tensor]) -> dict:
    """What RESULTS tells of a model under `test`."""
    x, lengths = pad(drawings)
    held_out = evaluate(model, (x, lengths), draws=DRAWS)
    figures = {"loss": held_out.loss, "error": held_out.elbo_error, "kl": held_out.kl}
    out = model(x, lengths=lengths, generator=torch.Generator().manual_seed(0))
    # A stroke's first point is where a pen goes that was lifted before: at the start, too.
    lifted = torch.cat([torch.ones_like(x[:1, :, 3]), x[:-1, :, 3]]).bool()
    for name, steps in (("strokes", ~lifted & out.steps), ("jumps", lifted & out.steps)):
        parts = {part: getattr(out, part)[steps].mean().item() for part in ("reconstruction", "kl")}
        figures[name] = {"steps": int(steps.sum()), **parts}
    if not model.latent_size:
        return rounded({**figures, "drawings": out.reconstruction.sum(0).tolist()})
    posterior, prior = (DiagonalGaussian(*(part[..., None] for part in q)) for q in (out.posterior, out.prior))
    figures["entries"] = posterior.kl(prior)[out.steps].mean(0).tolist()
    figures["live"] = live_entries(model, x, lengths=lengths)
    for name, bound in (("iwae", bounds.iwae), ("fivo", bounds.fivo)):
        nats = torch.stack([-log_p(bound, model, drawings, seed) for seed in range(REPEATS)])
        per_step = nats.sum(1) / lengths.sum()
        figures[name] = {"loss": per_step.mean().item(), "error": per_step.std().item() / math.sqrt(REPEATS)}
    return rounded({**figures, "drawings": nats.mean(0).tolist()})


def log_p(bound, model: Model, drawings: list[Tensor], seed: int) -> Tensor:
    """The bound of each drawing, nats per drawing; those of like lengths side by side."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.tensor([len(drawing) for drawing in drawings]).argsort()
    found = torch.empty(len(drawings))
    for part in order.split(AT_ONCE):
        x, lengths = pad([drawings[i] for i in part.tolist()])
        found[part] = bound(model, x, PARTICLES, generator, lengths=lengths)
    return found


def rounded(value):
    """Numbers with five decimals; of a list, which has one for each drawing or entry, with four."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [round(part, 4) for part in value] if isinstance(value, list) else round(value, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the runs that are missing, and make nothing")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    options = parser.parse_args()
    if options.list:
        missing = [run for run in (*tuning(), *further()) if run.name not in results()]
        for run in missing:
            print(f"{run.seconds:4.0f} s  {run.name}")
        unknown = len(ROWS) * (len(DROPOUTS) + SEEDS - 1) - len({run.name for run in (*tuning(), *further())})
        seconds = sum(run.seconds for run in missing)
        print(f"{len(missing)} runs are missing, {seconds / 60:.0f} minutes of one core to train; and {unknown} "
              "whose dropout is still to be chosen")  # fmt: skip
        return
    # Processes: torch has one source of chance for all threads.
    with ProcessPoolExecutor(options.j, multiprocessing.get_context("spawn")) as pool:
        several = pool.map if options.j > 1 else map
        for runs in (tuning, further):
            missing = [run for run in runs() if run.name not in results()]
            for run, figures in zip(missing, several(make, missing), strict=True):
                record(run, figures)


if __name__ == "__main__":
    main()
