"""The slider of chapter 5: what models write, side by side."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from ..char_rnn import CharRNN
from ..checkpoint import load_checkpoint
from ..emissions.codes import ASCII, CategoricalDistribution, ChainedDistribution
from ..generation import sample
from ..models import SequenceModel
from ..text import decode, encode, respell
from ..text_statistics import entropy, share_known, words
from ..vrnn import VRNN
from .controls import choice, slider, text_box
from .live_text import LiveText, Written

OWN = "own checkpoint"
SHOWN = 100  # characters of a prime; of a longer one the end
Model = Path | str | VRNN | CharRNN


def fitted(prime: str, model: SequenceModel) -> str:
    r"""The prime as the model can read it: respelt, `\n` a newline, filled up in front to whole steps by newlines."""
    emission = model.emission_type
    prime = respell(prime.replace(r"\n", "\n"), emission.vocabulary or ASCII)
    return prime.rjust(math.ceil(len(prime) / emission.characters) * emission.characters, "\n")


def write(
    model: SequenceModel,
    prime: str = "",
    temperature: float = 1.0,
    prior_temperature: float = 1.0,
    length: int = 600,
    seed: int | None = None,
    shift: Tensor | None = None,
    known: Collection[str] = (),
) -> Iterator[Written]:
    """What `generate` gives, as it grows, and what can be counted of it.

    The note has the mean entropy of the tempered softmaxes that the characters came from, in nats per character.

    Args:
        model, prime, temperature, prior_temperature, length, seed, shift: as in `generate`.
        known: words of which the note has the share among those of the text so far, if any are given.

    Raises:
        ValueError: for a model whose x is no text, and as `sample`.
    """
    emission = model.emission_type
    if not emission.takes_codes or emission.vocabulary is None:
        raise ValueError("This model writes no text: choose another.")
    k, codes = emission.characters, None
    if prime:
        codes = encode(prime, emission.vocabulary)
        codes = codes if k == 1 else codes.view(-1, k)
    shown = prime if len(prime) <= SHOWN else f"…{prime[-SHOWN:]}"
    steps = sample(model, prime=codes, temperature=temperature, prior_temperature=prior_temperature,
                   seed=seed, shift=shift)  # fmt: skip
    text, nats = "", 0.0
    yield Written(text, shown)
    for number in range(1, math.ceil(length / k) + 1):
        step = next(steps)
        text = (text + decode(step.x.view(-1), emission.vocabulary))[:length]
        if temperature:
            softmaxes = step.emission.given(step.x) if isinstance(step.emission, ChainedDistribution) else step.emission
            assert isinstance(softmaxes, CategoricalDistribution)
            nats += entropy(softmaxes.logits, temperature).sum().item()
        share = share_known(words(text), known) if known else math.nan
        found = "" if math.isnan(share) else f"known words {share:.0%} · "
        yield Written(text, shown, f"{found}entropy {nats / (number * k):.2f} nats per character")


def text_of(
    checkpoint: Model,
    prime: str,
    temperature: float,
    prior_temperature: float,
    seed: int,
    length: int = 600,
    path: str = "",
    known: Collection[str] = (),
) -> Iterator[Written]:
    """`write` for a checkpoint's path or a model, with the prime as it is `fitted` to it.

    Args:
        checkpoint: either; or OWN, for the checkpoint whose path is `path`.
        prime, temperature, prior_temperature, seed, length, known: as in `write`.
        path: of a reader's own checkpoint.

    Raises:
        ValueError: for OWN without a path and for a VAE; and whatever load_checkpoint and `write` raise.
    """
    if checkpoint == OWN and not path.strip():
        raise ValueError("Write the path of your checkpoint into its box, then press Enter.")
    chosen = path.strip() if checkpoint == OWN else checkpoint
    model: Any = load_checkpoint(chosen) if isinstance(chosen, Path | str) else chosen
    if not hasattr(model, "zero_state"):
        raise ValueError(f"{chosen} holds a {type(model).__name__}, which writes no text: choose a VRNN or a CharRNN.")
    return write(model, fitted(prime, model), temperature, prior_temperature, length, seed, known=known)


def generation(
    checkpoints: dict[str, dict[str, Model]],
    *,
    prime: str = "ROMEO:",
    temperature: float = 0.8,
    length: int = 600,
    known: Collection[str] = (),
) -> LiveText:
    """The slider of chapter 5: texts side by side, one for each title; what streams is what `generate` gives.

    Args:
        checkpoints: for each title what there is to choose from, label -> path or model, the first being chosen; as in
            {"VRNN": {"best": path}, "CharRNN": {"same width": path, "same count": path}}. A reader's own can be chosen
            as well, by its path.
        prime, temperature: at first.
        length: characters of each text.
        known: the words of the training text, a set for speed.

    Raises:
        ValueError: for a title that another control has.
    """
    if taken := {"temperature", "prior_temperature", "prime", "seed"} & set(checkpoints):
        raise ValueError(f"a column cannot be called {min(taken)}: that is another control's name.")

    def column(title):
        def stream(prime, temperature, prior_temperature, seed, **chosen):
            return text_of(
                chosen[title], prime, temperature, prior_temperature, seed, length, chosen[f"{title}_path"], known
            )

        return stream

    over = {title: (title, f"{title}_path") for title in checkpoints}
    controls = {}
    for title, each in checkpoints.items():
        controls[title] = choice(each | {OWN: OWN}, next(iter(each.values())), title)
        controls[f"{title}_path"] = text_box("", "path of " + OWN)
        controls[f"{title}_path"].continuous_update = False  # half a path is an error
    live = LiveText(
        {title: column(title) for title in checkpoints},
        over,
        temperature=slider(0.0, 2.0, temperature, 0.05, "temperature"),
        prior_temperature=slider(0.0, 3.0, 1.0, 0.1, "prior's deviation ×"),
        prime=text_box(prime, "prime"),
        seed=slider(0, 20, 0, 1, "seed"),
        **controls,
    )
    for title in checkpoints:

        def only_where_used(_=None, chooser=controls[title], box=controls[f"{title}_path"]):
            box.layout.display = "" if chooser.value == OWN else "none"

        controls[title].observe(only_where_used, names="value")
        only_where_used()
    return live
