"""What a VRNN computes over a sequence; of a long one the distributions when they are asked for."""

from typing import NamedTuple

from torch import Tensor

from .cell import State
from .emissions import Distribution
from .gaussian import DiagonalGaussian


class Output(NamedTuple):
    """What a VRNN computes over T steps of a batch of B (the two axes change places with batch_first).

    Behind the end of a sequence that is shorter than T, losses, z and hidden are zero, and the parameters of the
    distributions mean nothing.
    """

    reconstruction: Tensor  # (T, B): loss 1, -log p(x_t | z_t, h_{t-1}), nats per time step
    kl: Tensor  # (T, B): loss 2, KL(posterior || prior) of z_t, nats per time step
    state: State  # after the last step, each sequence's own
    prior: DiagonalGaussian  # parameters (T, B, Z)
    posterior: DiagonalGaussian  # parameters (T, B, Z)
    z: Tensor  # (T, B, Z)
    hidden: Tensor  # (T, B, H): h_1 to h_T of the top layer (and the emission's memory behind it)
    emission: Distribution  # parameters (T, B, ...)
    steps: Tensor | None = None  # (T, B), bool: which steps there are; None for all


class LongOutput(Output):
    """The same of a long sequence: its distributions are computed when they are asked for.

    In the place of each stands a function that computes it.
    """

    prior = property(lambda self: tuple.__getitem__(self, 3)())  # pyright: ignore[reportAssignmentType]
    posterior = property(lambda self: tuple.__getitem__(self, 4)())  # pyright: ignore[reportAssignmentType]
    emission = property(lambda self: tuple.__getitem__(self, 7)())  # pyright: ignore[reportAssignmentType]

    def __iter__(self):
        return (getattr(self, field) for field in self._fields)

    def __getitem__(self, key):
        return tuple(self)[key]

    @classmethod
    def _make(cls, iterable) -> Output:
        return Output(*iterable)  # with some parts replaced it is one whose distributions are there


def put_out(
    losses, state: State, distributions, z: Tensor, hidden: Tensor, steps: Tensor | None, kind=Output
) -> Output:
    """An Output; losses, z and hidden are made zero behind each sequence's end.

    Args:
        losses: reconstruction and KL.
        distributions: prior, posterior and emission, or for a LongOutput functions that compute them.
        state, z, hidden, steps: as in an Output.
        kind: Output or LongOutput.
    """
    reconstruction, kl = losses
    if steps is not None:
        reconstruction, kl = (values.masked_fill(~steps, 0.0) for values in losses)
        z, hidden = (values.masked_fill(~steps[..., None], 0.0) for values in (z, hidden))
    prior, posterior, emission = distributions
    return kind(reconstruction, kl, state, prior, posterior, z, hidden, emission, steps)
