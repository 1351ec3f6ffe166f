"""The text models that chapter 5 opens with, the trials behind them, and a VRNN of the article's size.

    python data/experiments/text.py                make what is missing, two runs at a time
    python data/experiments/text.py --bfloat16     likewise, the large ones under autocast, if the processor is made so
    python data/experiments/text.py --list         print what is missing, each run's command and what it costs

A run lives in data/checkpoints/text/NAME, and goes on where it was when the script is called again. It is done when
data/experiments/text.json has its name; then its folder goes. There stand its command, its losses on validation and
its figures. They are those of the weights in half precision, which stay, as NAME.safetensors, where a chapter reads
them.

Every run has contiguous streams of 64 x 150 of the text's own characters, a learning rate that falls to zero along a
cosine, and a weight decay of 0.01. What differs:

    charrnn, vrnn    two layers of LSTM, 2.7 million parameters, with locked dropout and dropped recurrent weights
    deeper-...       the same recipe for a tenth of them, 248,000: VRNN and CharRNN of one layer and of two
    small            a VRNN of the article's 95,104 parameters, otherwise shaped

Its figures, in nats per character; those of a VRNN are minus the ELBO:

    evaluation       validation, test and last tenth, the state carried through each
    blocks           the last tenth in blocks of 256, each read from nothing but the character before it, as nanoGPT
                     measures its models (which it does on random blocks)
    dynamic          the last tenth while the weights follow it by gradient descent (Krause et al. 2018, arXiv
                     1709.07432), at the one of RATES that is best on the first half of validation; of charrnn and vrnn
"""

import argparse
import json
import math
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

from vrnn_tutorial import bounds, evaluate, load_checkpoint, shakespeare
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.text import Corpus, corpus_from_text, decode

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("data/checkpoints/text")
RESULTS = Path("data/experiments/text.json")
COMMON = (
    "--threads 1 --resume --vocabulary own --batching streams --length 150 --cosine --weight-decay 0.01 "
    "--evaluate-every 125"
)
LOCKED = "--rnn lstm --locked-dropout"
LONG = f"{LOCKED} --layers 2 --embedding 128 --dropout 0.4 --weight-dropout 0.3 --learning-rate 0.003"
TRIAL = f"{LOCKED} --dropout 0.2 --weight-dropout 0.2 --learning-rate 0.005 --updates 1500"
#: Name, options, seeds, processor seconds of an update in float32, measured on one core of two.
RUNS = [
    ("charrnn", f"{LONG} --model charrnn --hidden 448 --updates 4000", 1, 3.2),
    ("vrnn", f"{LONG} --hidden 383 --latent 32 --updates 3000", 1, 4.5),
    (
        "small",
        "--hidden 99 --latent 16 --embedding 32 --dropout 0.2 --learning-rate 0.005 --updates 20000",
        1,
        0.15,
    ),
    ("deeper-vrnn-1", f"{TRIAL} --layers 1 --hidden 140 --latent 32", 3, 0.4),
    ("deeper-vrnn-2", f"{TRIAL} --layers 2 --hidden 105 --latent 32", 3, 0.7),
    ("deeper-charrnn-1", f"{TRIAL} --layers 1 --hidden 207 --model charrnn", 3, 0.35),
    ("deeper-charrnn-2", f"{TRIAL} --layers 2 --hidden 128 --model charrnn", 3, 0.4),
]
LARGE = ("charrnn", "vrnn")
KEPT = (*LARGE, "small")
BLOCK = 256
RATES = (0.0, 0.01, 0.03, 0.1, 0.3)
SEGMENT = 25


class Run(NamedTuple):
    """One training run: its name, the arguments of `train`, its cost on one core."""

    name: str
    arguments: list[str]
    seconds: float


def runs() -> list[Run]:
    """All runs, those of seed 0 first."""
    found = []
    for seed in range(3):
        for name, options, seeds, seconds in RUNS:
            if seed < seeds:
                name = name if seeds == 1 else f"{name}-seed-{seed}"
                arguments = f"{COMMON} --seed {seed} {options} --out {FOLDER / name}".split()
                updates = int(arguments[arguments.index("--updates") + 1])
                found.append(Run(name, arguments, updates * seconds))
    return found


def make(run: Run, bfloat16: bool = False) -> None:
    """Trains and measures, from where each was left. Raises CalledProcessError if the training fails."""
    if run.name in read(ROOT / RESULTS):
        return
    folder, weights = ROOT / FOLDER / run.name, (ROOT / FOLDER / run.name).with_suffix(".safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "vrnn_tutorial", "train", *run.arguments]
    if bfloat16 and run.name in LARGE:
        command.append("--bfloat16")
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # two that wait for a core that is taken wait long
    with (folder / "log.tmp").open("a") as log:
        subprocess.run(command, cwd=ROOT, env=one_thread, stdout=log, stderr=log, check=True)
    save_checkpoint(weights, load_checkpoint(folder / "best.safetensors"), half=True)
    history = json.loads((folder / "history.json").read_text())
    figures = {name: history[name] for name in ("command", "versions", "seconds", "processor_seconds")}
    validation = [{key: entry[key] for key in ("update", "loss", "kl")} for entry in history["validation"]]
    record(ROOT / RESULTS, run.name, {**figures, "validation": validation, **measured(weights, run.name in LARGE)})
    if run.name not in KEPT:
        weights.unlink()
    shutil.rmtree(folder)
    print(f"{run.name} is done", flush=True)


def measured(weights: Path, dynamically: bool) -> dict:
    """The figures of a model, as the text above has them."""
    torch.set_num_threads(1)
    model = load_checkpoint(weights)
    corpus = corpus_of(model)
    evaluation = {}
    for part in ("validation", "test", "last_tenth"):
        result = evaluate(model, getattr(corpus, part))
        evaluation[part] = {**result._asdict(), "loss": result.loss}
    figures = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "evaluation": evaluation,
        "blocks": in_blocks(model, corpus.last_tenth),
    }
    if dynamically:
        half = corpus.validation[: len(corpus.validation) // 2]
        tried = {rate: followed(load_checkpoint(weights), half, rate) for rate in RATES}
        finite = {rate: loss for rate, loss in tried.items() if math.isfinite(loss)}
        rate = min(finite, key=finite.__getitem__)
        figures["dynamic"] = {
            "rate": rate,
            "tried": {rate: finite.get(rate) for rate in RATES},  # null: it came apart
            "last_tenth": followed(load_checkpoint(weights), corpus.last_tenth, rate),
        }
    return figures


def corpus_of(model) -> Corpus:
    """Shakespeare in the model's characters."""
    corpus = shakespeare()
    return corpus_from_text(decode(corpus.codes), corpus.name, vocabulary=model.emission_type.vocabulary)


@torch.no_grad()
def in_blocks(model, text: Tensor) -> float:
    """The loss in blocks of BLOCK characters, each read from zeros and the character before it; what is over is left.

    One draw of z, of a model that has one.
    """
    blocks = text.unfold(0, BLOCK + 1, BLOCK)
    generator, total = torch.Generator().manual_seed(0), 0.0
    for x in blocks.split(64):
        out = model(x.T, generator=generator)
        total += float((out.reconstruction + out.kl)[1:].double().sum())
    return total / (len(blocks) * BLOCK)


def followed(model, text: Tensor, rate: float) -> float:
    """The loss of a text which the weights follow: after each SEGMENT, scored first, comes one step down its gradient.

    One draw of z, of a model that has one. The model's weights change.
    """
    generator, total, state = torch.Generator().manual_seed(0), 0.0, None
    for x in text.split(SEGMENT):
        out = model(x[:, None], state, generator=generator)
        state = detached(out.state)
        total += float((out.reconstruction + out.kl).detach().double().sum())
        model.zero_grad()
        bounds.loss(out).backward()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.grad is not None:
                    weight -= rate * weight.grad
    return total / len(text)


def detached(state):
    return state.detach() if isinstance(state, Tensor) else tuple(map(detached, state))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the runs that are missing, and make nothing")
    parser.add_argument("--bfloat16", action="store_true", help="train the two large models under autocast")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    parser.add_argument("names", nargs="*", help="only runs whose names start so (default: all)")
    options = parser.parse_args()
    wanted = [run for run in runs() if run.name.startswith(tuple(options.names) or "")]
    if options.list:
        missing = [run for run in wanted if run.name not in read(ROOT / RESULTS)]
        for run in missing:
            print(f"{run.seconds:5.0f} s  python -m vrnn_tutorial train {' '.join(run.arguments)}")
        minutes = sum(run.seconds for run in missing) / 60
        print(f"{len(missing)} of {len(wanted)} runs are missing: {minutes:.0f} minutes of one core to train")
        return
    with ThreadPoolExecutor(options.j) as pool:
        list(pool.map(lambda run: make(run, options.bfloat16), wanted))


if __name__ == "__main__":
    main()
