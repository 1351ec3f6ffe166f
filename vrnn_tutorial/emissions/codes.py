"""Emissions of codes: a softmax for each of a step's characters, independent or chained (chapters 3 and 6)."""

import copy
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import Emission, check_uniforms


class CategoricalDistribution(NamedTuple):
    """A softmax over V codes; with `characters` k > 1, k independent softmaxes for the k characters of one step.

    logits: (..., V), or (..., k, V). x: int64 codes (...), or (..., k).
    """

    logits: Tensor
    characters: int = 1

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over the k characters of a step: (...)."""
        log_p = -F.cross_entropy(self.logits.flatten(0, -2), x.flatten(), reduction="none").view(x.shape)
        return log_p if self.characters == 1 else log_p.sum(-1)

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms: Tensor | None = None
    ) -> Tensor:
        """Codes (...), or (..., k), drawn from softmax(logits / temperature); at 0 the most likely codes."""
        return draw_code(self.logits, temperature, generator, uniforms)

    def complete(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x with its OPEN entries drawn, and log p of the others in nats, summed over a step: (...)."""
        x, log_p = _completed(self.logits, x, generator)
        return x, log_p if self.characters == 1 else log_p.sum(-1)


def draw_code(logits: Tensor, temperature: float, generator=None, uniforms: Tensor | None = None) -> Tensor:
    """Codes (...) from the softmax of logits / temperature, (..., V); uniforms: (...).

    Raises ValueError if there is no such softmax, and for uniforms of another shape.
    """
    if uniforms is not None:
        check_uniforms(uniforms, logits.shape[:-1])
    largest = logits.amax(-1, keepdim=True)
    if not math.isfinite(largest.detach().sum()):  # argmax would take the first code, or a NaN's
        raise ValueError("nothing can be drawn from this model: it computes numbers that are not finite.")
    # Closer to zero than the logits' type can say, too, since dividing by that is dividing by zero.
    if temperature < torch.finfo(logits.dtype).tiny:
        return logits.argmax(-1)
    if temperature != 1:
        # Subtracting the maximum first keeps a tiny temperature from dividing into infinities.
        logits = (logits - largest) / temperature
    probabilities = logits.softmax(-1)
    if uniforms is None:
        # What torch.multinomial does for a single draw, without its checks: of exponential times, each running so much
        # faster as its code is likelier, the first one to ring.
        return (probabilities / torch.empty_like(probabilities).exponential_(generator=generator)).argmax(-1)
    # The first code at which the distribution function exceeds u. The last sum may fall short of 1 by a rounding.
    return (probabilities.cumsum(-1) <= uniforms[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)


#: In the place of a code that is not known, for `complete` to draw.
OPEN = -1


def _completed(logits: Tensor, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """x (...) with its OPEN entries drawn from softmaxes (..., V), and log p of each (...); of those drawn it is 0."""
    known = x != OPEN
    x = torch.where(known, x, draw_code(logits, 1.0, generator))
    log_p = logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]
    return x, log_p.masked_fill(~known, 0.0)


#: The vocabulary of a model of 128 codes that was given none.
ASCII = "".join(map(chr, range(128)))


class _Codes(Emission):
    takes_codes = True

    def __post_init__(self):
        if self.characters < 1:
            raise ValueError(f"characters={self.characters}: one or more.")
        if self.vocabulary is not None and len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("a vocabulary holds each of its characters once.")

    def check(self, x: Tensor, input_size: int) -> None:
        if x.is_cpu and x.numel() and not 0 <= int(x.min()) <= int(x.max()) < input_size:
            low, high = int(x.min()), int(x.max())
            raise ValueError(f"x holds codes from {low} to {high}; this model knows 0 to {input_size - 1}.")

    def vocabulary_of(self, input_size: int) -> str | None:
        """The characters of V = input_size codes: those given, or ASCII's 128."""
        if self.vocabulary is None:
            return ASCII if input_size == len(ASCII) else None
        if len(self.vocabulary) != input_size:
            raise ValueError(f"the vocabulary has {len(self.vocabulary)} characters, and input_size is {input_size}.")
        return self.vocabulary


@dataclass(frozen=True)
class Categorical(_Codes):
    """x: one of V codes, or k at once, each from a softmax of its own, independent given z and h.

    vocabulary: the V characters that the codes stand for; None is ASCII, if V is 128, else codes that are no text.
    Raises ValueError for fewer than one character, and a vocabulary with one twice or of another size than V.
    """

    characters: int = 1
    vocabulary: str | None = None

    def size(self, input_size: int) -> int:
        return self.characters * input_size

    def bind(self, input_size: int, context_size: int, embedding_size: int, width: int) -> "Categorical":
        return replace(self, vocabulary=self.vocabulary_of(input_size))

    def distribution(self, raw: Tensor) -> CategoricalDistribution:
        return CategoricalDistribution(
            raw if self.characters == 1 else raw.unflatten(-1, (self.characters, -1)), self.characters
        )


class ChainedDistribution(NamedTuple):
    """p(x_t | ...) as a chain: character i of a step is told the i - 1 before it.

    logits: (..., k, V), what the net alone says, as in a CategoricalDistribution. context: (..., C), what it read.
    x: int64 codes (..., k).
    """

    logits: Tensor
    context: Tensor
    chain: "Chained"

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, summed over the k characters of a step: (...)."""
        return self.given(x).log_prob(x)

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None, uniforms: Tensor | None = None
    ) -> Tensor:
        """Codes (..., k), drawn one after the other, each from its softmax; at 0 each the most likely."""
        x = torch.zeros(self.logits.shape[:-1], dtype=torch.int64, device=self.logits.device)
        if uniforms is not None:
            check_uniforms(uniforms, x.shape)
        for i in range(x.shape[-1]):
            u = None if uniforms is None else uniforms[..., i]
            x[..., i] = draw_code(self.given(x).logits[..., i, :], temperature, generator, u)
        return x

    def complete(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x with its OPEN entries drawn, each given those before it; and log p of the others, likewise, summed: (...).

        Of what stands behind it a drawn entry knows nothing: only if all the OPEN ones come last are they drawn from
        p(OPEN | others), and is the sum log p(others).
        """
        completed, total = x.clamp(min=0), 0.0
        for i in range(x.shape[-1]):
            logits = self.given(completed).logits[..., i, :]
            completed[..., i], log_p = _completed(logits, x[..., i], generator)
            total = total + log_p
        return completed, torch.as_tensor(total)

    def given(self, x: Tensor) -> CategoricalDistribution:
        """The k softmaxes, each given the characters of x before its own."""
        embedded, chain = self.chain.embedding(x), self.chain
        heard = [
            link(torch.cat([self.context, embedded[..., :i, :].flatten(-2)], -1))
            for i, link in enumerate(chain.links, 1)
        ]
        return CategoricalDistribution(
            self.logits + torch.stack([torch.zeros_like(heard[0]), *heard], -2), chain.characters
        )


class Chained(_Codes, nn.Module):
    """x: k > 1 of V codes at once, each told the ones before it: no independence within a step (chapter 6).

    p(x_t | .) = prod_i p(x_t,i | x_t,1 ... x_t,i-1, .), exact like every chain rule: what it gains on a Categorical is
    what independent softmaxes cost. To the logits of each character but the first, a net of two layers adds its own; it
    reads what the emission's net reads, and the earlier characters' embeddings. With these nets at zero it is the
    Categorical. Raises ValueError for fewer than two characters, else as Categorical.
    """

    reads_context = True
    # Made by `bind`:
    codes: int  # V
    embedding: nn.Embedding
    links: nn.ModuleList

    def __init__(self, characters: int = 2, vocabulary: str | None = None):
        super().__init__()
        if characters < 2:
            raise ValueError("a chain needs two characters per step or more.")
        self.characters, self.vocabulary = characters, vocabulary
        self.__post_init__()

    @property
    def options(self) -> dict:
        return {"characters": self.characters, "vocabulary": self.vocabulary}

    def size(self, input_size: int) -> int:
        return self.characters * input_size

    def bind(self, input_size: int, context_size: int, embedding_size: int, width: int) -> "Chained":
        bound = copy.deepcopy(self)  # of a subclass, too
        bound.vocabulary, bound.codes = self.vocabulary_of(input_size), input_size
        bound.embedding = nn.Embedding(input_size, embedding_size)
        bound.links = nn.ModuleList(
            nn.Sequential(nn.Linear(context_size + i * embedding_size, width), nn.ELU(), nn.Linear(width, input_size))
            for i in range(1, self.characters)
        )
        return bound

    def distribution(self, raw: Tensor) -> ChainedDistribution:
        """raw: (..., k V + C), the net's numbers and behind them what it read."""
        logits, context = raw.tensor_split([self.characters * self.codes], -1)
        return ChainedDistribution(logits.unflatten(-1, (self.characters, -1)), context, self)
