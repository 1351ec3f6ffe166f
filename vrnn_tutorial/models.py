"""What every model of sequences has in common: what generation, evaluation and training ask of it, and nothing else."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .emissions import Distribution, Emission


class Drawn(NamedTuple):
    """One generated step of B sequences."""

    x: Tensor  # (B,), (B, k) or (B, D)
    z: Tensor | None  # (B, Z), drawn from the prior; None for a model without z
    emission: Distribution  # of x given z, untouched by any temperature


class SequenceModel(Protocol):
    """A VRNN, a CharRNN, and whatever keeps this contract, which they document.

    An nn.Module besides.
    """

    @property
    def configuration(self) -> dict:
        """The arguments that make the model again."""
        ...

    @property
    def emission_type(self) -> Emission:
        """What its x is."""
        ...

    @property
    def latent_size(self) -> int:
        """Z; 0 for a model without z."""
        ...

    @property
    def batch_first(self) -> bool:
        """Whether x is (B, T, ...) in place of (T, B, ...)."""
        ...

    # Of every nn.Module:
    training: bool

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...

    def __call__(
        self,
        x: Tensor,
        state: Any = None,
        *,
        generator: torch.Generator | None = None,
        rnn_input: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Any:
        """An output with `reconstruction`, `kl`, `state`, `hidden` and `steps`, as in a VRNN's."""
        ...

    def zero_state(self, like: Tensor) -> Any:
        """The state before the first step, for the batch of `like` (B, ...), with its type and device."""
        ...

    def hidden(self, state: Any) -> Tensor:
        """What the nets read of a state: (B, H)."""
        ...

    def read(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None = None,
        prior_temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The state after x, which went before what is to be generated.

        Args:
            x, state, lengths: as in `forward`.
            prior_temperature: multiplies the deviation of a z that the posterior gives.
            generator: draws z.
        """
        ...

    def draw(
        self,
        state: Any,
        temperature: float = 1.0,
        prior_temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        shift: Tensor | None = None,
        noise: Tensor | None = None,
        uniforms: Tensor | None = None,
    ) -> Drawn:
        """The next step of each sequence.

        Args:
            state: what the sequences were so far, B of them.
            temperature: of x, as its distribution's `sample` has it.
            prior_temperature: multiplies z's deviation.
            generator: draws z and x.
            shift: (Z,) or (B, Z), by which z is moved, in units of the prior's deviation.
            noise: (B, Z), standard normal, for z, in the generator's place.
            uniforms: for x, in the generator's place, as its distribution's `sample` says.
        """
        ...

    def advance(self, x: Tensor, z: Tensor | None, state: Any) -> Any:
        """The state after x and z."""
        ...

    def columns(self, state: Any, chosen: Tensor | None) -> Any:
        """The state of the sequences (N,) chosen among a state's, by their numbers; None for all as they are."""
        ...


def check_sequences(model, what: str) -> None:
    """Raises ValueError for a VAE, where `what` is of sequences."""
    if not hasattr(model, "zero_state"):
        raise ValueError(f"{what} is of sequences, and the x of a {type(model).__name__} follow on nothing.")


def check_latent(model, what: str) -> None:
    """Raises ValueError for a model without z, where `what` needs it."""
    if not getattr(model, "latent_size", 1):  # a VAE has one, and does not keep this contract
        raise ValueError(f"{what} needs z, which a {type(model).__name__} has not.")


def sample_of(
    emission: Distribution, temperature: float, generator: torch.Generator | None, uniforms: Tensor | None
) -> Tensor:
    """x out of a distribution: by the uniforms, if there are any, else by the generator."""
    if uniforms is None:
        return emission.sample(temperature, generator)
    return emission.sample(temperature, uniforms=uniforms)  # pyright: ignore[reportCallIssue]
