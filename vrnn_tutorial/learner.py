"""A batch's losses and their gradient, by one process, or by several, each on its share of the columns (chapter 4).

Several are there where torch.distributed has a group of processes, as under torchrun. Each is given the whole batch,
draws the noise of all columns, and takes its own of both; DistributedDataParallel averages the gradients (Li et al.
2020, arXiv 2006.15704). So they are those that a single process would have had. What dropout hides, and the ancestors
of its particles, each draws for itself.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from . import bounds
from .checkpoint import Model
from .gaussian import standard_normal
from .lengths import mean_over_steps

#: Bounds to train with beside the ELBO.
OBJECTIVES = {"iwae": bounds.iwae_bound, "fivo": bounds.fivo_bound}

_CHANCE = threading.RLock()


def is_first() -> bool:
    """Whether this process is the only one, or the one that validates and keeps."""
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())


@contextlib.contextmanager
def processes(device: str) -> Iterator[str]:
    """Joins the group of processes that torchrun has started, if it has; gives the device that is this one's."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


class Learned(NamedTuple):
    """What became of a batch, beside the gradients."""

    losses: tuple[float, float]  # 1 and 2, nats per time step, of all columns
    steps: int  # that were scored, of all columns
    state: Any  # of all columns at the batch's end, detached; None of a VAE


class Learner:
    """Computes a model's gradients, as the settings of `training.train` want them."""

    def __init__(self, model: Model, settings: dict):
        self.model, self.settings = model, settings
        several = distributed.is_available() and distributed.is_initialized()
        self.rank, self.size = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        loss = _Loss(self)
        self._net = DistributedDataParallel(loss) if self.size > 1 else loss

    def begin(self, run) -> None:
        """Gives each process what the first one's run begins with. Raises ConnectionError if that has ended."""
        if self.size > 1:
            found = [(run.update, run.state, run.optimizer.state_dict(), run.history)]
            with _together():
                distributed.broadcast_object_list(found)
            run.update, run.state, moments, run.history = found[0]
            run.optimizer.load_state_dict(moments)

    def learn(
        self, x: Tensor, lengths: Tensor | None, state, update: int, kl_weight: float, free_bits: float
    ) -> Learned:
        """Leaves a batch's gradients with the parameters.

        Args:
            x, lengths, state: of all columns, as the model reads them; None for no lengths, and for a state of zeros.
            update: how many were made before, which fixes all chance.
            kl_weight, free_bits: as `bounds.loss` has them.

        Raises:
            ValueError: for fewer columns than processes.
            ConnectionError: if another process has ended.
        """
        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=self.settings["bfloat16"])
        with _together():
            with _seeded(self.settings["seed"], update, x.device), autocast:
                loss, losses, steps, state = self._net(x, lengths, state, update, kl_weight, free_bits)
            self.model.zero_grad()
            loss.backward()
            state = None if state is None else self._gathered(_detach(state), self.columns(x))
            return Learned(losses, steps, state)

    def columns(self, x: Tensor) -> int:
        """How many there are of a batch, one for each particle."""
        return x.shape[self.model.batch_axis] * self.settings["particles"]

    def own(self, values: Tensor, axis: int, particles: int = 1) -> Tensor:
        """This process' share of what stands along an axis, a sequence's particles together.

        Raises ValueError if there are too few sequences.
        """
        sequences = values.shape[axis] // particles
        if sequences < self.size:
            raise ValueError(f"a batch of {sequences} sequences cannot be shared among {self.size} processes.")
        first, after = (sequences * rank // self.size * particles for rank in (self.rank, self.rank + 1))
        return values.narrow(axis, first, after - first)

    def _gathered(self, state, columns: int):
        """The state of all columns, of which each process has its share; a leaf is (..., columns, H)."""
        if self.size == 1:
            return state
        if not isinstance(state, Tensor):
            return tuple(self._gathered(part, columns) for part in state)
        every = state.new_zeros(*state.shape[:-2], columns, state.shape[-1])
        self.own(every, -2, self.settings["particles"]).copy_(state)
        distributed.all_reduce(every)
        return every


class _Loss(nn.Module):
    """From a batch to the loss of this process' share in it: what DistributedDataParallel wraps."""

    def __init__(self, learner: Learner):
        super().__init__()
        self.model: Any = learner.model
        self.learner = learner

    def forward(self, x: Tensor, lengths: Tensor | None, state, update: int, kl_weight: float, free_bits: float):
        """The loss whose gradients are averaged; both losses of all columns, and their steps; the share's state."""
        learner, settings = self.learner, self.learner.settings
        given: dict[str, Any] = {}
        if share := settings["word_dropout"]:
            given["rnn_input"] = x.masked_fill(torch.rand_like(x, dtype=torch.float) < share, 0)
        given |= {} if lengths is None else {"lengths": lengths}
        given |= {} if state is None else {"state": state}
        if learner.size > 1:
            x, given = self._share(x, given)
            torch.manual_seed(_number(settings["seed"], update) + 1 + learner.rank)  # from here on, each has its own
        if settings["objective"] == "elbo":
            result = self.model(x, **given)
        else:
            result = OBJECTIVES[settings["objective"]](self.model, x, settings["particles"], **given)
        parts, steps = (result.reconstruction, result.kl), getattr(result, "steps", None)  # a VAE's x have none
        scored, part = (parts[0].numel() if steps is None else int(steps.sum())), 1.0
        losses = [mean_over_steps(values, steps).detach() for values in parts]
        if learner.size > 1:
            sums = torch.stack([*(mean.double() * scored for mean in losses), losses[0].new_tensor(scored).double()])
            distributed.all_reduce(sums)
            losses, part, scored = sums[:2] / sums[2], scored * learner.size / sums[2].item(), int(sums[2])
        if settings["objective"] != "elbo":
            loss = result.loss()
        elif learner.size > 1:  # bits are free of the mean over all
            loss = bounds.loss(result, kl_weight if losses[1] >= free_bits * math.log(2) else 0.0)
        else:
            loss = bounds.loss(result, kl_weight, free_bits)
        scored //= settings["particles"]
        return part * loss, tuple(map(float, losses)), scored, getattr(result, "state", None)

    def _share(self, x: Tensor, given: dict) -> tuple[Tensor, dict]:
        """This process' columns of x and of what goes with it, and their noise."""
        learner, model, K = self.learner, self.model, self.learner.settings["particles"]
        axis, weight, columns = model.batch_axis, next(model.parameters()), learner.columns(x)
        share: dict[str, Any] = {}
        if "rnn_input" in given:
            share["rnn_input"] = learner.own(given["rnn_input"], axis)
        if "lengths" in given:
            share["lengths"] = learner.own(given["lengths"], 0)
        if "state" in given:
            own = learner.own(torch.arange(columns, device=weight.device), 0, K)
            share["state"] = model.columns(given["state"], own)
        Z = model.configuration.get("latent_size")
        if Z is not None and hasattr(model, "zero_state"):
            noise = learner.own(standard_normal((x.shape[1 - axis], columns, Z), weight), 1, K)
            share["noise"] = noise.transpose(0, 1) if axis == 0 else noise
        elif Z is not None:  # a VAE
            share["noise"] = learner.own(standard_normal((columns, Z), weight), 0, K)
        return learner.own(x, axis), share


def _detach(state):
    """The same state with its history cut off: gradients stop at the batch's border."""
    return state.detach() if isinstance(state, Tensor) else tuple(map(_detach, state))


def _number(seed: int, update: int) -> int:
    return (seed * 0x9E3779B1 + update) % 2**32


@contextlib.contextmanager
def _seeded(seed: int, update: int, device: torch.device):
    """Seeds noise and dropout by the update's number, so that a resumed run draws what it would have drawn."""
    # Dropout draws from torch's own generator, which all threads share: only one of them trains meanwhile.
    with _CHANCE, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(_number(seed, update))
        yield


@contextlib.contextmanager
def _together():
    """Raises ConnectionError for what torch.distributed raises where another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise ConnectionError(
                "another process of this training has ended; what its folder keeps can be resumed"
            ) from error
        raise
