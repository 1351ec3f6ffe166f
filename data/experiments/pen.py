"""The runs of chapter 7: what z is worth beside four emissions of a pen's steps, each held against an RNN.

    python data/experiments/pen.py           make what is missing, two runs at a time
    python data/experiments/pen.py --list    print what is missing, and what it costs

ROWS has the models: about 100,000 parameters each, equally many to 1%, nets of depth 2, states that begin as zeros.
Every run makes as many updates of 64 drawings, with fresh noise of half a unit to either side on the offsets, a
learning rate that falls from 0.01 to zero along a cosine, and a KL weight that rises to 1 over the first fifth. What is
evaluated is the best on validation of a run, by the ELBO. `tuned.py` tells how each row gets its dropout and its seeds,
and where a run lives; results go into data/experiments/pen.json, weights into data/checkpoints/pen.

A line has the seconds, the number of parameters, the losses on validation; `invented`, of INVENTED characters at
temperature 1 the shares that end, lie wholly in the square, and are copies; and under `test`, all in nats, of steps in
units of KanjiVG's grid:

    loss           minus the ELBO per step, over DRAWS of z, with its `error`; of a model without z log p itself
    iwae, fivo     with PARTICLES, per step, each REPEATS times; their mean and its standard error
    strokes, jumps KL and reconstruction per step within strokes and of steps to a stroke's first point
    entries        the KL per step of each entry of z; `live` are those that the posterior moves, the most first
    drawings       of each drawing in its order, nats per drawing: minus FIVO, or log p
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tuned import Experiment, Run, parser, rounded

from vrnn_tutorial import VRNN, CharRNN, Pen, Scaled, VRNNCell, bounds, evaluate, train
from vrnn_tutorial.batches import Dequantised, dequantised
from vrnn_tutorial.checkpoint import Model
from vrnn_tutorial.corpora.kanji import CREDIT, kanji
from vrnn_tutorial.drawing import Gallery, to_strokes
from vrnn_tutorial.gaussian import DiagonalGaussian, seeded
from vrnn_tutorial.lengths import pad
from vrnn_tutorial.pen import WIDTH, draw, quality
from vrnn_tutorial.probes import live_entries
from vrnn_tutorial.schedules import Cosine, Ramp

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("data/checkpoints/pen")
RESULTS = Path("data/experiments/pen.json")
UPDATES = 4000
DROPOUTS = (0.1, 0.2, 0.0)
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

    @property
    def updates(self) -> int:
        return UPDATES

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


def experiment() -> Experiment:
    return Experiment(ROWS, DROPOUTS, ROOT / RESULTS, ROOT / FOLDER)


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

    def test(model: Model) -> dict:
        invented = quality(draw(model, INVENTED, seed=run.seed), Gallery(map(to_strokes, data.train)))
        return {"test": figures_of(model, dequantised(data.test, WIDTH)), "invented": invented._asdict()}

    return experiment().tested(run, experiment().learned(run, "best", credit=CREDIT), test)


@torch.no_grad()
def figures_of(model: Model, drawings: list[Tensor]) -> dict:
    """What RESULTS tells of a model under `test`."""
    x, lengths = pad(drawings)
    held_out = evaluate(model, (x, lengths), draws=DRAWS)
    figures = {"loss": held_out.loss, "error": held_out.elbo_error, "kl": held_out.kl}
    out = model(x, lengths=lengths, generator=seeded(0))
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
    generator = seeded(seed)
    order = torch.tensor([len(drawing) for drawing in drawings]).argsort()
    found = torch.empty(len(drawings))
    for part in order.split(AT_ONCE):
        x, lengths = pad([drawings[i] for i in part.tolist()])
        found[part] = bound(model, x, PARTICLES, generator, lengths=lengths)
    return found


def main() -> None:
    options = parser(__doc__).parse_args()
    if options.list:
        experiment().list_missing(ROWS)
    else:
        experiment().make(ROWS, make, options.j)


if __name__ == "__main__":
    main()
