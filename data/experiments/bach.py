"""The runs of chapter 8: what z is worth to four voices, and which bound to train with.

    python data/experiments/bach.py                  make what is missing, two runs at a time
    python data/experiments/bach.py --rolls FILE     likewise; piano rolls are those of a file as `piano_rolls` reads it
    python data/experiments/bach.py --list           print what is missing, and what it costs
    python data/experiments/bach.py --results FILE   with results, weights and folders beside a file of your own

ROWS has the models: at most 40,000 parameters each, nets of depth 2, states that begin as zeros. `rolls` are 88 binary
notes; without --rolls they are left out, for those on which the literature reports its figures are in no package.
`voices` are the four voices of our own chorales, each a category, independent given z and h or, where a row says
chained, each told those before it. In the rows that say moved, each batch transposes its pieces at random, by at most
half an octave and as far as the piano's keys, or the voices' ranges, allow.

Every run begins with the ELBO, as the row that it is `after` does; or goes on from that row's run, at the same dropout
and seed, with another bound and 8 particles. Updates are of 32 pieces, the learning rate falls to zero along a cosine,
and the KL's weight rises to 1 over the first fifth. The emission begins at how often a note sounds, or a voice has a
code, in the pieces to learn from; of a roll's 88 notes some four sound, and what reads them begins with weights INPUT
times as large as usual. (From torch's own beginning a VRNN of rolls ends half a nat higher.) `tuned.py` tells how each
row gets its dropout, by the bound that it trains with, and its seeds, and where a run lives. A row that trains with the
ELBO is taken at its best update; another at the best of QUARTERS.

Results go into data/experiments/bach.json, weights into data/checkpoints/bach. In a line stand the seconds, the number
of parameters, the losses on validation, `chosen`, which is what a run is chosen by; and under `test`, for a row's best
and its further seeds, in nats per frame:

    loss           minus the ELBO over 10 draws of z, with its `kl`; of a model without z minus log p itself
    iwae, fivo     with 8, 32, 128 particles, and with 1,000 FIVO
"""

import functools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from tuned import Experiment, Run, chosen_by, parser

from vrnn_tutorial import VRNN, CharRNN, VRNNCell, bounds, evaluate, load_checkpoint, train
from vrnn_tutorial.batches import Sequences
from vrnn_tutorial.checkpoint import Model
from vrnn_tutorial.corpora.chorales import CODES, VOICES, chorales
from vrnn_tutorial.corpora.piano_rolls import KEYS, Parts, piano_rolls
from vrnn_tutorial.emissions import Bernoulli, Categorical, Chained, Emission
from vrnn_tutorial.lengths import pad
from vrnn_tutorial.schedules import Cosine, Ramp

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "experiments" / "bach.json"
FOLDER = ROOT / "data" / "checkpoints" / "bach"
DROPOUTS = (0.2, 0.4, 0.6)
#: Of the updates of a run that trains with another bound than the ELBO.
QUARTERS = (0.25, 0.5, 0.75, 1.0)
PARTICLES = 8
LADDER = (8, 32, 128)
COLUMNS = 4096  # pieces times particles in memory at a time
INPUT = 5
#: Semitones, down and up.
FARTHEST = (-5, 6)


class Row(NamedTuple):
    """A model and its training; and the processor seconds of an update on one core."""

    emission: Emission
    hidden: int
    updates: int
    seconds: float
    latent: int = 16  # 0: an RNN
    moved: bool = False
    objective: str = "elbo"
    after: str | None = None  # the row whose runs it goes on from

    @property
    def coding(self) -> str:
        return "voices" if self.emission.takes_codes else "rolls"

    def model(self, dropout: float) -> VRNN | CharRNN:
        """With fresh weights."""
        size, embedding = (CODES, 16) if self.coding == "voices" else (KEYS, 32)
        options = {"embedding_size": embedding, "emission": self.emission, "depth": 2, "dropout": dropout}
        if not self.latent:
            return CharRNN(size, self.hidden, **options)
        return VRNN(VRNNCell(size, self.hidden, self.latent, **options))


def rows() -> dict[str, Row]:
    """All rows, each behind the one that it is after."""
    found = {
        "rolls-rnn": Row(Bernoulli(), 72, 1500, 0.05, latent=0),
        "rolls-vrnn": Row(Bernoulli(), 44, 1500, 0.07),
        "voices-rnn": Row(Categorical(4), 77, 1500, 0.06, latent=0),
        "voices-vrnn": Row(Categorical(4), 47, 1500, 0.08),
        "voices-chained-rnn": Row(Chained(4), 51, 1500, 0.08, latent=0),
        "voices-chained-vrnn": Row(Chained(4), 35, 1500, 0.1),
    }
    for name in ("rolls-vrnn", "voices-vrnn"):
        for objective in ("iwae", "fivo"):
            found[f"{name}-{objective}"] = found[name]._replace(
                objective=objective, after=name, updates=600, seconds=6 * found[name].seconds
            )
    for name, row in list(found.items()):
        if row.objective != "iwae":
            after = row.after and f"{row.after}-moved"
            found[f"{name}-moved"] = row._replace(moved=True, after=after, updates=2 * row.updates)
    return found


ROWS = rows()


def room(x: Tensor) -> tuple[int, int]:
    """By how many semitones a piece may be moved down and up: a roll (T, 88), or voices (T, 4) in their codes."""
    if x.is_floating_point():
        keys = x.any(0).nonzero()
        low, high = (int(-keys.min()), KEYS - 1 - int(keys.max())) if len(keys) else (0, 0)
    else:
        low, high = -KEYS, KEYS
        for voice, codes in zip(VOICES, x.T):
            notes = codes[codes > 1]
            if len(notes):
                low, high = max(low, 2 - int(notes.min())), min(high, voice.codes - 1 - int(notes.max()))
    return max(low, FARTHEST[0]), min(high, FARTHEST[1])


def moved(x: Tensor, semitones: int) -> Tensor:
    """The piece in another key. What rests or is held stays so."""
    if x.is_floating_point():
        return x.roll(semitones, -1)
    return torch.where(x > 1, x + semitones, x)


@dataclass(frozen=True, eq=False)
class Transposed(Sequences):
    """`Sequences` of pieces that each batch moves by a number of semitones, drawn from those that leave them in range.

    Fixed by `seed`, too.
    """

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        for x, lengths in super().__iter__():
            pieces = []
            for piece, length in zip(x.unbind(1), lengths.tolist()):
                low, high = room(piece[:length])
                pieces.append(moved(piece, int(torch.randint(low, high + 1, (), generator=generator))))
            yield torch.stack(pieces, 1), lengths


@torch.no_grad()
def begin(model: VRNN | CharRNN, pieces: list[Tensor]) -> None:
    """Gives a fresh model what the pieces are like without their past: see above."""
    part, frames = getattr(model, "cell", model), torch.cat(pieces)
    if model.emission_type.takes_codes:
        # half a frame more of each code, so that none is impossible
        counts = functional.one_hot(frames, CODES).sum(0) + 0.5
        part.emission_net[-1].bias.copy_((counts / counts.sum(-1, keepdim=True)).log().flatten())
    else:
        shares = (frames.sum(0) + 0.5) / (len(frames) + 1)
        part.emission_net[-1].bias.copy_(shares.logit())
        part.phi_x.embedding.weight.mul_(INPUT)


@functools.cache
def data_of(coding: str, rolls: Path | None) -> Parts[Tensor]:
    """The pieces of a coding, in three parts."""
    if coding == "rolls":
        return piano_rolls(rolls)
    return Parts(*([piece.voices for piece in part] for part in chorales()))


def learn(run: Run, rolls: Path | None, experiment: Experiment) -> dict:
    """Trains, from where it was left, and measures on validation; leaves the run's weights."""
    row, data, own = ROWS[run.row], data_of(ROWS[run.row].coding, rolls), experiment.folder / run.name
    torch.manual_seed(run.seed)
    model = row.model(run.dropout)
    if row.after:
        before = run._replace(row=row.after)
        if not experiment.weights(before).exists():
            learn(before, rolls, experiment)
            shutil.rmtree(experiment.folder / before.name)
        model.load_state_dict(load_checkpoint(experiment.weights(before)).state_dict())
        quarters = [round(share * row.updates) for share in QUARTERS]
        settings: dict = {"learning_rate": Cosine(0.003, row.updates), "keep": quarters}
        settings |= {"objective": row.objective, "particles": PARTICLES}
    else:
        begin(model, data.train)
        settings = {"learning_rate": Cosine(0.01, row.updates), "kl_weight": Ramp(0, 1, row.updates // 5)}
    corpus = (Transposed if row.moved else Sequences)(data.train, 32, data.validation, run.seed)
    for _ in train(
        model, corpus, updates=row.updates, evaluate_every=50, out=own, resume=True, seed=run.seed, progress=False,
        **settings,
    ):  # fmt: skip
        pass
    voices = row.emission.characters
    if row.after:
        tried = {update: bound_of(row.objective, load_checkpoint(own / f"update-{update}.safetensors"), data.validation,
                                  LADDER[1]) for update in settings["keep"]}  # fmt: skip
        update = min(tried, key=tried.__getitem__)
        figures = experiment.learned(run, f"update-{update}", voices) | {"chosen": tried[update]}
    else:
        figures = experiment.learned(run, "best", voices)
        figures["chosen"] = chosen_by(figures)
    return figures


def make(run: Run, rolls: Path | None, experiment: Experiment) -> dict:
    """Trains and evaluates; returns what is to be recorded."""
    torch.set_num_threads(1)
    test = data_of(ROWS[run.row].coding, rolls).test
    return experiment.tested(run, learn(run, rolls, experiment), lambda model: {"test": figures_of(model, test)})


@torch.no_grad()
def figures_of(model: Model, pieces: list[Tensor]) -> dict:
    """What RESULTS tells of a model under `test`."""
    held_out, voices = evaluate(model, pad(pieces)), model.emission_type.characters
    figures = {"loss": voices * held_out.loss, "error": voices * held_out.elbo_error, "kl": voices * held_out.kl}
    if model.latent_size:
        for bound in ("iwae", "fivo"):
            ladder = (*LADDER, 1000) if bound == "fivo" else LADDER
            figures[bound] = {K: bound_of(bound, model, pieces, K) for K in ladder}
    return figures


@torch.no_grad()
def bound_of(bound: str, model: Model, pieces: list[Tensor], particles: int) -> float:
    """Minus the bound, in nats per frame; those of like lengths side by side."""
    generator, total = torch.Generator().manual_seed(0), 0.0
    order = torch.tensor([len(piece) for piece in pieces]).argsort()
    for part in order.split(max(COLUMNS // particles, 1)):
        x, lengths = pad([pieces[i] for i in part.tolist()])
        total -= float(getattr(bounds, bound)(model, x, particles, generator, lengths=lengths).double().sum())
    return total / sum(map(len, pieces))


def main() -> None:
    wanted = parser(__doc__)
    wanted.add_argument("--rolls", type=Path, metavar="FILE", help="piano rolls, JSON or pickle")
    wanted.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where results go")
    options = wanted.parse_args()
    folder = FOLDER if options.results == RESULTS else options.results.with_suffix("")
    experiment = Experiment(ROWS, DROPOUTS, options.results, folder)
    names = [name for name, row in ROWS.items() if row.coding == "voices" or options.rolls or options.list]
    if options.list:
        experiment.list_missing(names)
        return
    for name in names:  # one after the other: some go on from others
        experiment.make([name], functools.partial(make, rolls=options.rolls, experiment=experiment), options.j)


if __name__ == "__main__":
    main()
