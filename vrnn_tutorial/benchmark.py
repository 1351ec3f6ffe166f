"""Speed and memory on the machine at hand: `for line in report(): print(line)`.

VRNN runs against the source's loop over the cell, which it should outrun by 1.4 times at least, and against the floor
that its matrix products set; then it is seen how an update's time and memory grow with the sequence: linearly, and from
`paths.AT_ONCE` characters on with less memory for each.
"""

import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import bounds
from .cell import VRNNCell
from .char_rnn import CharRNN
from .generation import generate_many
from .vrnn import VRNN


class Speed(NamedTuple):
    characters: int  # in one round
    seconds: list[float]  # of each round

    @property
    def per_second(self) -> float:  # in the median round
        return self.characters / statistics.median(self.seconds)


class Cost(NamedTuple):
    length: int  # T
    seconds: float  # of the fastest update
    memory: int  # bytes at the peak of an update, beyond what program, model and batch take


def source_loop(cell: VRNNCell, x: Tensor, noise: Tensor | None = None) -> Tensor:
    """Minus the ELBO, a scalar, nats per time step, the source's way: one cell call and one loss per step.

    It equals `bounds.loss(VRNN(cell)(x, noise=noise))`. x: codes (T, B). noise: (T, B, Z), drawn if not given.
    """
    state, total = None, torch.zeros(())
    for t, x_t in enumerate(x):
        step = cell(x_t, state, None if noise is None else noise[t])
        state = step.state
        total = total - step.emission.log_prob(x_t).mean() + step.posterior.kl(step.prior).mean()
    return total / len(x)


def matrix_products(cell: VRNNCell, length: int, batch_size: int) -> Callable[[], None]:
    """A function that forms the matrix products of one VRNN update and does nothing else: the floor under its time.

    Each weight W takes three: forward, inputs times W; backward, gradient times W and gradient times inputs.
    - What recurs, that is W of phi_z, the GRU's for phi_z and for h, the posterior's for h: the first two products step
      by step, on (B, .), the third for all T steps in one.
    - Prior and emission: each of the three on (T B, .).
    - What x alone enters, that is W of phi_x, and the posterior's and the GRU's for phi_x: each of the three once per
      code (per character, if these are fewer), since characters of one code share their products.
    All else is left out: biases, nonlinearities, noise, losses, look-ups, sums, the optimizer. cell: of codes, one per
    step, with one GRU layer and nets of depth 1.
    """
    first, weight, characters = cell.first_weights(), cell.get_parameter, length * batch_size
    recurrent = weight("phi_z.0.0.weight"), first.rnn_z, weight("rnn_cells.0.weight_hh"), first.posterior_h
    batched = weight("prior_net.0.weight"), weight("emission_net.0.weight")
    per_code = weight("phi_x.net.0.0.weight"), first.posterior_x, first.rnn_x
    codes = min(cell.phi_x.input_size, characters)
    operands = [
        (W.detach(), torch.randn(*shape, W.shape[1]), torch.randn(*shape, W.shape[0]))
        for weights, *shape in ((recurrent, length, batch_size), (batched, 1, characters), (per_code, 1, codes))
        for W in weights
    ]

    def multiply() -> None:
        for W, inputs, gradients in operands:
            for step in inputs:
                torch.matmul(step, W.t())
            for step in gradients:
                torch.matmul(step, W)
            torch.matmul(gradients.flatten(0, 1).t(), inputs.flatten(0, 1))

    return multiply


def training_update(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """A function that makes one update of `model`: forward pass, loss, backward pass, Adam's step."""
    optimizer = torch.optim.Adam(model.parameters())

    def update() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return update


def interleave(runs: dict[str, tuple[int, Callable]], rounds: int) -> dict[str, Speed]:
    """Times runs, name: (characters, function), in turn, A B C A B C, so that a slow moment of the machine hits all.

    One round goes before those that count: in it libraries load what they need.
    """
    seconds = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, (_, run) in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: Speed(characters, seconds[name][1:]) for name, (characters, _) in runs.items()}


def training_speed(batch_size: int = 64, length: int = 300, rounds: int = 15) -> dict[str, Speed]:
    """Updates (see training_update) of the default models on random codes (length, batch_size), and the floor."""
    x = torch.randint(128, (length, batch_size))
    cell, vrnn, char_rnn = VRNNCell(), VRNN(), CharRNN()
    runs = {
        "source's loop": training_update(cell, lambda: source_loop(cell, x)),
        "VRNN": training_update(vrnn, lambda: bounds.loss(vrnn(x))),
        "CharRNN, same width": training_update(char_rnn, lambda: bounds.loss(char_rnn(x))),
        "matrix products": matrix_products(cell, length, batch_size),
    }
    return interleave({name: (x.numel(), run) for name, run in runs.items()}, rounds)


def generation_speed(streams: int = 64, length: int = 300, rounds: int = 15) -> dict[str, Speed]:
    """Texts of `length` characters by the default VRNN: one alone, and `streams` side by side."""
    write = partial(generate_many, VRNN(), length=length)
    return interleave({f"streams: {n}": (n * length, partial(write, n)) for n in (1, streams)}, rounds)


def growth(lengths: Iterable[int], batch_size: int, updates: int = 4) -> Iterator[Cost]:
    """What an update of the default VRNN costs for each length.

    Memory is how far it moves the high-water mark of the process' resident memory. The mark never falls, so each length
    has a fresh process, in which an update on one character goes first and loads what libraries need.
    """
    for length in lengths:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            yield fresh.submit(_cost, length, batch_size, updates, torch.get_num_threads()).result()


def _cost(length: int, batch_size: int, updates: int, threads: int) -> Cost:
    torch.set_num_threads(threads)
    model, x = VRNN(), torch.randint(128, (length, batch_size))
    training_update(model, lambda: bounds.loss(model(x[:1, :1])))()
    before, update = _high_water(), training_update(model, lambda: bounds.loss(model(x)))
    speed = interleave({"VRNN": (x.numel(), update)}, updates)["VRNN"]
    return Cost(length, min(speed.seconds), _high_water() - before)


def _high_water() -> int:
    """The most bytes of memory that this process has held, on Linux and macOS."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux a process inherits its mark, and a small child would show its parent's.
        (kilobytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return 1024 * int(kilobytes)
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def report(batch_size=64, length=300, rounds=15, lengths=(75, 150, 300, 600, 1200), batch_sizes=(16, 64, 256)):
    """Yields the benchmark as lines of text, each as soon as it is known: about two minutes on two cores.

    Torch uses the threads that the caller has set. Each ratio is the quotient of two printed numbers.

    Args:
        batch_size, length, rounds: of the speeds; in generation, the streams and characters of each.
        lengths, batch_sizes: of growth; the lengths ascend.
    """
    cpuinfo = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    yield f"{name[1] if name else platform.processor()}, {platform.system()}, threads: {torch.get_num_threads()}"
    yield f"Python {platform.python_version()}, torch {torch.__version__}"
    yield f"\nTraining, {batch_size} x {length} characters per update, median of {rounds} rounds"
    training = training_speed(batch_size, length, rounds)
    yield from map(_line, training.items())
    for other, note in ("source's loop", " (expected: 1.4 or more)"), ("matrix products", ""):
        yield f"VRNN / {other}: {training['VRNN'].per_second / training[other].per_second:.2f}{note}"
    yield f"\nGeneration, {length} characters per stream, median of {rounds} rounds"
    yield from map(_line, generation_speed(batch_size, length, rounds).items())
    yield "\nGrowth: one update of VRNN on B sequences of length T"
    yield f"{'B':>6}{'T':>7}{'ms':>11}{'µs/character':>15}{'MB':>11}"
    for B in batch_sizes:
        costs = []
        for cost in growth(lengths, B):
            costs.append(cost)
            T, seconds, memory = cost
            yield f"{B:6}{T:7}{1e3 * seconds:11.1f}{1e6 * seconds / (B * T):15.2f}{memory / 1e6:11.1f}"
        times, slower, larger = (last / first for first, last in zip(costs[0], costs[-1]))
        ratios = f"time {slower / times:.2f}, memory {larger / times:.2f}"
        yield f"T = {lengths[-1]} / T = {lengths[0]}, divided by {times:g}: {ratios}"


def _line(named: tuple[str, Speed]) -> str:
    name, speed = named
    return f"{name:22}{speed.per_second:10,.0f} characters/s{1e3 * statistics.median(speed.seconds):10.1f} ms"
