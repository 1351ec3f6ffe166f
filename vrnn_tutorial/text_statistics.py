"""What can be said of a text without a model of it, and of a model's softmax: words, lines, entropy (chapter 5)."""

import math
import re
from collections.abc import Collection, Hashable

import torch
from torch import Tensor


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The entropy of softmax(logits / temperature), in nats: logits (..., V) give (...). temperature: above zero."""
    return torch.distributions.Categorical(logits=logits / temperature).entropy()


def words(text: str) -> list[str]:
    """The words of a text in lower case: letters, with apostrophes only inside, as in `lov'd`.

    What stands after the last white space is left out, since a text that is cut off may end inside a word.
    """
    whole = re.sub(r"\S+\Z", "", text)
    return re.findall(r"[a-z]+(?:'[a-z]+)*", whole.lower())


def whole_lines(text: str, shortest: int = 20) -> list[str]:
    """The lines of a text that have at least `shortest` characters and are whole: a newline ends them."""
    return [line for line in text.split("\n")[:-1] if len(line) >= shortest]


def share_known(pieces: Collection[Hashable], known: Collection[Hashable]) -> float:
    """The share of the pieces that are among the known ones, a set for speed; NaN where there is no piece.

    Of words(generated) among set(words(train)) it is the share of words that occur in the training text; of lines, the
    share of lines that are copied from it.
    """
    return sum(piece in known for piece in pieces) / len(pieces) if pieces else math.nan
