"""The runs of the chapter on a reader's own sequences: is z worth it beside an RNN, and an RNN beside least squares?

    python data/experiments/series.py           make what is missing, two runs at a time
    python data/experiments/series.py --list    print what is missing, and what it costs

Three sets of series (SETS): `vowels`, spoken, of 12 entries; `co2`, weekly readings less those of 52 weeks before;
`walks`, made, whose next step has two peaks. On each the rows of ROWS, equally many parameters to 2%: a VRNN and an RNN
without z, with a Gaussian for each entry, or a mixture of some for all. Every run of a set makes as many updates, those
called `longer` five times as many, with a learning rate that falls from 0.01 to zero along a cosine and a KL weight
that rises to 1 over the first fifth. Each row is tuned alike: with seed 0 it is trained at each dropout of DROPOUTS;
the one that is best on validation is taken, and trained with two seeds more. What is evaluated is the best on
validation of a run, by the ELBO, with its weights rounded to float16, as they are kept.

Against them stand LINEAR, autoregressions by least squares on the same inputs, whose order is chosen on validation.

A run lives in data/checkpoints/series/NAME. Stopped at any moment, by Ctrl-C or worse, it goes on where it was when the
script is called again. It is done when data/experiments/series.json has its name, a line for each; then the folder
goes. Of each row data/checkpoints/series/ROW.safetensors has the weights of seed 0 at the dropout that is best so far.
A run at a dropout that is not is never evaluated on test. To make a run anew, delete its line.

A line has the seconds, the number of parameters, the losses on validation, or of an autoregression its `order`; and
under `test`, in nats per step, in the units of the file:

    loss       minus the ELBO, over DRAWS of z, with its `kl`; of what has no z log p itself
    fivo       with PARTICLES; of what has a z
    live       entries of z that the posterior moves, the most first
    sequences  of each sequence in its order, nats: minus FIVO, or log p
    coverage   of the 80% band, crps: of FUTURES futures of each past, a list with a number for each step ahead
"""

import argparse
import functools
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from results import read, record
from torch import Tensor

from vrnn_tutorial import VRNN, CharRNN, Gaussian, GaussianMixture, Scaled, Sequences, VRNNCell, evaluate, train
from vrnn_tutorial.baselines import LinearAR
from vrnn_tutorial.bounds import fivo
from vrnn_tutorial.calibration import covered, crps
from vrnn_tutorial.checkpoint import Model, load_checkpoint, save_checkpoint
from vrnn_tutorial.corpora.piano_rolls import Parts
from vrnn_tutorial.corpora.series import COEFFICIENTS, co2, vowels, walks
from vrnn_tutorial.emissions import Emission
from vrnn_tutorial.gaussian import seeded
from vrnn_tutorial.generation import forecast
from vrnn_tutorial.lengths import pad
from vrnn_tutorial.probes import live_entries
from vrnn_tutorial.schedules import Cosine, Ramp
from vrnn_tutorial.series import differences, read_csv, split_by_time, windows

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("data/checkpoints/series")
RESULTS = Path("data/experiments/series.json")
DROPOUTS = (0.2, 0.4, 0.0)
SEEDS = 3
DRAWS, PARTICLES, FUTURES = 10, 64, 100
LEVEL = 0.8
SEASON = 52  # weeks


class Set(NamedTuple):
    """How a set of series is learned and judged."""

    updates: int
    past: int  # steps that a forecast hears
    ahead: int  # steps that it looks ahead
    orders: tuple[int, ...]  # of autoregressions; the best on validation is taken


SETS = {
    "vowels": Set(600, 5, 5, (1, 2, 3)),
    "co2": Set(400, 104, 52, (1, 2, 4, 8, 16, 52)),
    "walks": Set(600, 10, 10, (1, 2, 4, 8)),
}


@functools.cache
def data_of(name: str) -> Parts[Tensor]:
    """The sequences of a set, in three parts."""
    if name == "walks":
        made = walks(600, 20)
        return Parts(made[:200], made[200:300], made[300:])
    if name == "vowels":
        read = read_csv(vowels(), COEFFICIENTS, sequence="utterance")
        named = list(zip(read.names, read.sequences, strict=True))
        return Parts(*([x for label, x in named if label.startswith(part)] for part in Parts._fields))
    parts = split_by_time([differences(read_csv(co2(), ["co2"], time="date").sequences[0], SEASON)])
    # Three years each: to learn from, they overlap.
    strides = Parts(8, 52, 8)
    return Parts(*(windows(part[0], 3 * SEASON, stride) for part, stride in zip(parts, strides)))


class Row(NamedTuple):
    """A model; and the processor seconds of an update on one core."""

    set: str
    emission: Emission
    hidden: int
    seconds: float
    latent: int = 0  # 0: an RNN
    times: int = 1  # the set's updates

    @property
    def updates(self) -> int:
        return self.times * SETS[self.set].updates

    def model(self, dropout: float) -> VRNN | CharRNN:
        """With fresh weights; it standardises by what is learned from."""
        train = data_of(self.set).train
        emission = Scaled.fit(self.emission, train)
        options = {"embedding_size": 32, "emission": emission, "depth": 2, "dropout": dropout}
        if not self.latent:
            return CharRNN(train[0].shape[1], self.hidden, **options)
        return VRNN(VRNNCell(train[0].shape[1], self.hidden, latent_size=self.latent, **options))


ROWS = {
    "walks-gauss-rnn": Row("walks", Gaussian(), 21, 0.01),
    "walks-gauss-vrnn": Row("walks", Gaussian(), 13, 0.02, 4),
    "walks-mixture-rnn": Row("walks", GaussianMixture(2), 21, 0.01),
    "co2-gauss-rnn": Row("co2", Gaussian(missing=True), 21, 0.06),
    "co2-gauss-vrnn": Row("co2", Gaussian(missing=True), 13, 0.1, 4),
    "vowels-gauss-rnn": Row("vowels", Gaussian(), 69, 0.02),
    "vowels-gauss-vrnn": Row("vowels", Gaussian(), 42, 0.03, 8),
    "vowels-mixture-rnn": Row("vowels", GaussianMixture(10), 50, 0.02),
    "vowels-mixture-vrnn": Row("vowels", GaussianMixture(10), 34, 0.03, 8),
}
ROWS |= {f"{name}-longer": row._replace(times=5) for name, row in ROWS.items() if row.set == "vowels"}
#: Order 0 on co2's differences is the seasonal naive forecast.
LINEAR = {
    "walks-linear": ("walks", True, SETS["walks"].orders),
    "co2-naive": ("co2", True, (0,)),
    "co2-linear": ("co2", True, SETS["co2"].orders),
    "vowels-linear-diagonal": ("vowels", False, SETS["vowels"].orders),
    "vowels-linear": ("vowels", True, SETS["vowels"].orders),
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
        return ROWS[self.row].updates * ROWS[self.row].seconds


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
        (run for run in tuning() if run.row == row and run.name in found), key=lambda run: lowest(found[run.name])
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
    row, folder = ROWS[run.row], ROOT / FOLDER / run.name
    data, updates = data_of(row.set), row.updates
    torch.manual_seed(run.seed)
    model = row.model(run.dropout)
    for _ in train(
        model,
        Sequences(data.train, 64, data.validation, run.seed),
        updates=updates,
        learning_rate=Cosine(0.01, updates),
        kl_weight=Ramp(0, 1, updates // 5),
        evaluate_every=50,
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
        save_checkpoint(rounded, load_checkpoint(folder / "best.safetensors"), half=True)
        figures["test"] = figures_of(load_checkpoint(rounded), row.set)
    return figures


def keep(run: Run, figures: dict) -> None:
    """Adds a run to RESULTS, in the order of their names; keeps its weights, if they are the row's best so far."""
    folder = ROOT / FOLDER / run.name
    if run.seed == 0 and is_wanted(run, figures):
        shutil.copyfile(folder / "rounded.safetensors", folder.with_name(f"{run.row}.safetensors"))
    record(ROOT / RESULTS, run.name, figures)
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{run.name} is done", flush=True)


def results() -> dict[str, dict]:
    """What is known of each run, by its name."""
    return read(ROOT / RESULTS)


@torch.no_grad()
def figures_of(model: Model, name: str) -> dict:
    """What RESULTS tells of a model under `test`."""
    test = data_of(name).test
    x, lengths = pad(test)
    held_out = evaluate(model, (x, lengths), draws=DRAWS)
    figures = {"loss": held_out.loss, "error": held_out.elbo_error, "kl": held_out.kl}
    if model.latent_size:
        nats = -fivo(model, x, PARTICLES, seeded(0), lengths=lengths)
        figures |= {"fivo": nats.sum().item() / len(torch.cat(test)), "live": live_entries(model, x, lengths=lengths)}
    else:
        nats = model(x, lengths=lengths).reconstruction.sum(0)
    return rounded({**figures, "sequences": nats.tolist(), **calibration_of(model, name)})


def linear(name: str, full: bool, orders: tuple[int, ...]) -> dict:
    """What RESULTS tells of an autoregression by least squares."""
    data = data_of(name)
    fitted = {order: LinearAR.fit(data.train, order, full=full) for order in orders}
    losses = {order: -torch.cat([model.log_prob(x) for x in data.validation]).mean() for order, model in fitted.items()}
    order = min(losses, key=lambda order: losses[order])
    nats = [-fitted[order].log_prob(x) for x in data.test]
    test = {"loss": torch.cat(nats).mean().item(), "sequences": [each.sum().item() for each in nats]}
    return {"order": order, "test": rounded({**test, **calibration_of(fitted[order], name)})}


def calibration_of(model: Model | LinearAR, name: str) -> dict:
    """What comes of forecasts from the past of each of a set's test sequences that is long enough."""
    past, ahead = SETS[name].past, SETS[name].ahead
    test = [x for x in data_of(name).test if len(x) >= past + ahead]
    pasts, came = [x[:past] for x in test], torch.stack([x[past : past + ahead] for x in test], 1)
    options = {"draws": FUTURES, "seed": 0}
    if isinstance(model, LinearAR):
        draws = model.forecast(pasts, ahead, **options).draws
    else:
        draws = forecast(model, pasts, ahead, **options).draws
    found = {"coverage": covered(draws, came, LEVEL), "crps": crps(draws, came)}
    return {key: values.nanmean((1, 2)).tolist() for key, values in found.items()}


def rounded(value):
    """Numbers with five decimals; of a list with four."""
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
    for name, asked in LINEAR.items():
        if name not in results():
            record(ROOT / RESULTS, name, linear(*asked))
    # Processes: torch has one source of chance for all threads.
    with ProcessPoolExecutor(options.j, multiprocessing.get_context("spawn")) as pool:
        several = pool.map if options.j > 1 else map
        for runs in (tuning, further):
            missing = [run for run in runs() if run.name not in results()]
            for run, figures in zip(missing, several(make, missing), strict=True):
                keep(run, figures)


if __name__ == "__main__":
    main()
