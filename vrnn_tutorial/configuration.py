"""The arguments that make a model, with their defaults: one list for constructors, files and the command line."""

import functools
import inspect
import operator
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Concatenate, ParamSpec, TypeVar

from .emissions import Emission, describe, emission_of

P = ParamSpec("P")
C = TypeVar("C")
S = TypeVar("S")


@dataclass(frozen=True)
class RecurrentConfiguration:
    """What every recurrent model is made of; the defaults are the source article's.

    Args:
        input_size: number of codes V, or the size D of a vector.
        hidden_size: H of the state.
        embedding_size: E of phi_x's features.
        num_layers: recurrent layers; the top one's h feeds the nets.
        rnn: "gru", "lstm" or "rnn" (tanh).
        emission: what x is, an instance of an Emission, or "categorical" or "chained" (x: codes), "bernoulli" or
            "gaussian" (x: vectors); as JSON, what `emissions.describe` says of one.
        characters: codes per step, of an emission given by name.
        depth: linear layers in each net.
        dropout: share of h that the nets (and the layer above) do not see in training.
        locked_dropout: whether it is the same share in all steps of a sequence (Gal and Ghahramani 2016, arXiv
            1512.05287).
        weight_dropout: share of the weights from h to h that are zero in training, the same ones in all steps (Merity
            et al. 2018, arXiv 1708.02182).

    Raises:
        ValueError: for an unknown rnn or emission and for sizes that make no model.
    """

    input_size: int = 128
    hidden_size: int = 64
    _: KW_ONLY
    embedding_size: int = 64
    num_layers: int = 1
    rnn: str = "gru"
    emission: str | dict | Emission = "categorical"
    characters: int = 1
    depth: int = 1
    dropout: float = 0.0
    locked_dropout: bool = False
    weight_dropout: float = 0.0
    emission_type: Emission = field(init=False, repr=False)

    def __post_init__(self):
        emission = emission_of(self.emission, self.characters)
        object.__setattr__(self, "emission_type", emission)
        object.__setattr__(self, "characters", emission.characters)
        _check_sizes(self, dropout=self.dropout, weight_dropout=self.weight_dropout)
        if self.rnn not in ("gru", "lstm", "rnn"):
            raise ValueError(f"rnn must be one of gru, lstm, rnn, not {self.rnn!r}.")

    def as_dict(self) -> dict:
        """The arguments as JSON; the constructor takes them back."""
        return _arguments(self)


@dataclass(frozen=True)
class CellConfiguration(RecurrentConfiguration):
    """Of a VRNNCell.

    Args:
        input_size, hidden_size, embedding_size, num_layers, rnn, emission, characters, depth, dropout, locked_dropout,
            weight_dropout: as in every RecurrentConfiguration.
        latent_size: Z.
        prior: "conditional", of h, or "standard", N(0, 1) at every step (VRNN-I).
        stochastic: False takes the noise out: z is the prior's mean, there is no encoder, and no KL.

    Raises:
        ValueError: likewise, for an unknown prior, and for a standard prior without noise.
    """

    latent_size: int = 64
    _: KW_ONLY
    prior: str = "conditional"
    stochastic: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.prior not in ("conditional", "standard"):
            raise ValueError(f"prior must be conditional or standard, not {self.prior!r}.")
        if self.prior == "standard" and not self.stochastic:
            raise ValueError("without noise z is the prior's mean, which for a standard prior is always zero.")


@dataclass(frozen=True)
class CharRNNConfiguration(RecurrentConfiguration):
    """Of a CharRNN.

    Args:
        input_size, hidden_size, embedding_size, num_layers, rnn, emission, characters, depth, dropout, locked_dropout,
            weight_dropout: as in every RecurrentConfiguration.
        batch_first: whether x is (B, T, ...) in place of (T, B, ...).
    """

    _: KW_ONLY
    batch_first: bool = False


@dataclass(frozen=True)
class VAEConfiguration:
    """Of a VAE.

    Args:
        input_size: D of its vectors.
        hidden_size: width of the inner layers.
        latent_size: Z.
        emission: an Emission of vectors that keeps no past, or "bernoulli" or "gaussian".
        depth: linear layers in each net; at depth 1 encoder and decoder are linear.

    Raises:
        ValueError: for an emission of codes, or one with a past, and for sizes that make no model.
    """

    input_size: int = 64
    hidden_size: int = 128
    latent_size: int = 2
    _: KW_ONLY
    emission: str | dict | Emission = "bernoulli"
    depth: int = 2
    emission_type: Emission = field(init=False, repr=False)

    def __post_init__(self):
        emission = emission_of(self.emission)
        _check_sizes(self)
        if emission.takes_codes:
            raise ValueError("a VAE's emission is bernoulli or gaussian: its x is a vector, not a code.")
        if emission.memory_size or emission.reads_context:
            raise ValueError(f"a VAE has no past: {type(emission).__name__} reads more than its z.")
        object.__setattr__(self, "emission_type", emission.bind(self.input_size, self.latent_size, 0, self.hidden_size))

    def as_dict(self) -> dict:
        """The arguments as JSON; the constructor takes them back."""
        return _arguments(self)


def _check_sizes(configuration: RecurrentConfiguration | VAEConfiguration, **shares: float) -> None:
    sizes = {f.name: getattr(configuration, f.name) for f in fields(configuration) if f.type is int}
    for name, size in sizes.items():
        try:
            object.__setattr__(configuration, name, operator.index(size))  # NumPy's integers are no JSON
        except TypeError:
            raise ValueError(f"{name} must be a whole number, not {size!r}.") from None
    if min(sizes.values()) < 1 or not all(0 <= share < 1 for share in shares.values()):
        raise ValueError(f"sizes, layers and depth must be at least 1 and 0 <= dropout < 1: {sizes | shares}.")


def _arguments(configuration: RecurrentConfiguration | VAEConfiguration) -> dict:
    arguments = {f.name: getattr(configuration, f.name) for f in fields(configuration) if f.init}
    return arguments | {"emission": describe(configuration.emission_type)}


def made_of(
    configuration: Callable[P, C],
) -> Callable[[Callable[[S, C], None]], Callable[Concatenate[S, P], None]]:
    """Gives a constructor `__init__(self, c)` the arguments of a dataclass, of which c is an instance."""

    def decorate(init: Callable[[S, C], None]) -> Callable[Concatenate[S, P], None]:
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = inspect.Signature([own, *inspect.signature(configuration).parameters.values()])

        @functools.wraps(init)
        def constructor(self: S, *args: P.args, **options: P.kwargs) -> None:
            try:
                signature.bind(self, *args, **options)
            except TypeError as error:
                raise TypeError(f"{type(self).__name__}: {error}.") from None
            init(self, configuration(*args, **options))

        said: Any = constructor
        said.__signature__ = signature
        return constructor

    return decorate
