"""Small trainings, which test_learner.py runs by one process, and by several under torchrun.

python -m torch.distributed.run --nproc-per-node 2 tests/several_processes.py FOLDER [killed]
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from vrnn_tutorial import VAE, VRNN, CharRNN, Sequences, VRNNCell, train
from vrnn_tutorial.__main__ import main
from vrnn_tutorial.batches import ContiguousStreams
from vrnn_tutorial.learner import processes

TEXT = torch.arange(400).square() % 11 % 9
#: Of the command line, for a training that is soon under way.
SMALL = ["--hidden=8", "--latent=2", "--batch=8", "--length=20", "--batching=streams", "--evaluate-every=5"]
SIZES = {"hidden_size": 5, "embedding_size": 4}


def vrnn(**options) -> VRNN:
    return VRNN(VRNNCell(9, latent_size=3, **SIZES, **options))


def streams() -> ContiguousStreams:
    """Seven columns: not equally many for each of two processes."""
    return ContiguousStreams(TEXT, 7, 6, validation=TEXT[:60])


def sequences(batch_first: bool = False) -> Sequences:
    return Sequences([TEXT[20 * i : 23 * i + 3] for i in range(9)], 5, batch_first=batch_first)


#: Model, corpus, and what else `train` is asked for.
CASES = {
    "gru": lambda: (vrnn(), streams(), {"ema_decay": 0.9, "kl_weight": 0.5}),
    "lstm": lambda: (vrnn(num_layers=2, rnn="lstm", depth=2), streams(), {"word_dropout": 0.3}),
    "batch-first": lambda: (VRNN(vrnn().cell, batch_first=True), sequences(True), {}),
    "without-z": lambda: (CharRNN(9, num_layers=2, **SIZES), streams(), {}),
    "without-noise": lambda: (vrnn(stochastic=False), streams(), {}),
    "iwae": lambda: (vrnn(), streams(), {"objective": "iwae", "particles": 3}),
    # Above the KL of all columns, and below it.
    "bits-that-are-free": lambda: (vrnn(), streams(), {"free_bits": 9.0}),
    "bits-that-cost": lambda: (vrnn(), streams(), {"free_bits": 1e-3}),
    "lengths": lambda: (vrnn(), sequences(), {}),
    "vae": lambda: (VAE(4, 5, 2), [torch.linspace(0, 1, 28, dtype=torch.float64).view(7, 4)], {}),
}


def trained(name: str) -> tuple[list, dict]:
    """The records of some updates in double precision, and the weights after them."""
    torch.manual_seed(0)
    model, corpus, options = CASES[name]()
    options = {"updates": 5, "learning_rate": 0.01, "evaluate_every": 3, "progress": False, **options}
    return list(train(model.double(), corpus, **options)), model.state_dict()


def hidden_shares() -> torch.Tensor:
    """What dropout left of the losses of this process' column, of two that are alike."""
    torch.manual_seed(0)
    model, seen = CharRNN(9, dropout=0.5, **SIZES), []
    model.register_forward_hook(lambda module, given, out: seen.append(out.reconstruction.detach()))
    list(train(model, [TEXT[:20, None].expand(-1, 2)], updates=1, progress=False))
    return seen[0]


def refused() -> str:
    """What is said of a batch of one sequence."""
    try:
        list(train(vrnn(), [TEXT[:20, None]], updates=1, progress=False))
    except ValueError as error:
        return str(error)
    return "nothing"


def updates_of(folder: Path) -> int:
    """How many a run has made and kept."""
    history = folder / "history.json"
    return len(json.loads(history.read_text())["reconstruction"]) if history.exists() else 0


def until_killed(folder: Path) -> int:
    """The command line, under which the second process is killed after some updates."""

    def kill():
        while updates_of(folder) < 5:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ["RANK"] == "1":
        threading.Thread(target=kill, daemon=True).start()
    return main(
        ["train", *SMALL, "--text", str(folder.with_suffix(".txt")), "--updates", "100000", "--out", str(folder)]
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "killed" in sys.argv[2:]:
        sys.exit(until_killed(Path(sys.argv[1])))
    with processes("cpu"):
        found = {name: trained(name) for name in CASES}
        found |= {"hidden": hidden_shares(), "refused": refused()}
        torch.save(found, Path(sys.argv[1]) / f"{torch.distributed.get_rank()}.pt")
