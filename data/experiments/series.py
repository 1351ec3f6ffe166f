"""The runs of the chapter on a reader's own sequences: is z worth it beside an RNN, and an RNN beside least squares?

    python data/experiments/series.py           make what is missing, two runs at a time
    python data/experiments/series.py --list    print what is missing, and what it costs

Three sets of series (SETS): `vowels`, spoken, of 12 entries; `co2`, weekly readings less those of 52 weeks before;
`walks`, made, whose next step has two peaks. On each the rows of ROWS, equally many parameters to 2%: a VRNN and an RNN
without z, with a Gaussian for each entry, or a mixture of some for all. Every run of a set makes as many updates, those
called `longer` five times as many, with a learning rate that falls from 0.01 to zero along a cosine and a KL weight
that rises to 1 over the first fifth. What is evaluated is the best on validation of a run, by the ELBO. `tuned.py`
tells how each row gets its dropout and its seeds, and where a run lives; results go into data/experiments/series.json,
weights into data/checkpoints/series.

Against them stand LINEAR, autoregressions by least squares on the same inputs, whose order is chosen on validation.

A line has the seconds, the number of parameters, the losses on validation, or of an autoregression its `order`; and
under `test`, in nats per step, in the units of the file:

    loss       minus the ELBO, over DRAWS of z, with its `kl`; of what has no z log p itself
    fivo       with PARTICLES; of what has a z
    live       entries of z that the posterior moves, the most first
    sequences  of each sequence in its order, nats: minus FIVO, or log p
    coverage   of the 80% band, crps: of FUTURES futures of each past, a list with a number for each step ahead
"""

import functools
from pathlib import Path
from typing import NamedTuple

import torch
from results import record
from torch import Tensor
from tuned import Experiment, Run, parser, rounded

from vrnn_tutorial import VRNN, CharRNN, Gaussian, GaussianMixture, Scaled, Sequences, VRNNCell, evaluate, train
from vrnn_tutorial.baselines import LinearAR
from vrnn_tutorial.bounds import fivo
from vrnn_tutorial.calibration import covered, crps
from vrnn_tutorial.checkpoint import Model
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


def experiment() -> Experiment:
    return Experiment(ROWS, DROPOUTS, ROOT / RESULTS, ROOT / FOLDER)


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
    figures = experiment().learned(run, "best")
    return experiment().tested(run, figures, lambda model: {"test": figures_of(model, row.set)})


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


def main() -> None:
    options = parser(__doc__).parse_args()
    if options.list:
        experiment().list_missing(ROWS)
        return
    for name, asked in LINEAR.items():
        if name not in experiment().read():
            record(ROOT / RESULTS, name, linear(*asked))
    experiment().make(ROWS, make, options.j)


if __name__ == "__main__":
    main()
