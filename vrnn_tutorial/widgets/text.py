"""The sliders of chapters 5 and 6: what a model writes."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ..char_rnn import CharRNN
from ..checkpoint import load_checkpoint
from ..generation import generate
from ..vae import VAE
from ..vrnn import VRNN
from .controls import choice, slider, text_box
from .live_text import LiveText

OWN = "own checkpoint"


def text_of(
    checkpoint: Path | str | VRNN | CharRNN,
    prime: str,
    temperature: float,
    prior_temperature: float,
    seed: int,
    length: int = 600,
    own: str = "",
) -> Iterator[str]:
    """`generate` for a checkpoint's path or a model.

    Args:
        checkpoint: either; or OWN, for the checkpoint whose path is `own`.
        prime, temperature, prior_temperature, seed, length: as in `generate`.
        own: a path.

    Raises:
        ValueError: for OWN without a path and for a VAE; and whatever load_checkpoint and generate raise.
    """
    if checkpoint == OWN and not own.strip():
        raise ValueError("Write the path of your checkpoint into its box, then press Enter.")
    chosen = own.strip() if checkpoint == OWN else checkpoint
    model = load_checkpoint(chosen) if isinstance(chosen, Path | str) else chosen
    if isinstance(model, VAE):
        raise ValueError(f"{chosen} holds a VAE, which writes no text: choose a VRNN or a CharRNN.")
    return generate(model, prime, temperature, prior_temperature, length, seed)


def generation(
    checkpoints: dict[str, dict[str, Path | str | VRNN | CharRNN]],
    *,
    prime: str = "ROMEO:",
    temperature: float = 0.8,
    length: int = 600,
) -> LiveText:
    """The slider of chapter 5: texts side by side, one for each title; what streams is what `generate` gives.

    checkpoints: for each title what there is to choose from, label -> path or model, the first being chosen; as in
    {"VRNN": {"best": path}, "CharRNN": {"same width": path, "same count": path}}. A reader's own can be chosen as well.
    """

    def column(title):
        return lambda own, prime, temperature, prior_temperature, seed, **chosen: text_of(
            chosen[title], prime, temperature, prior_temperature, seed, length, own
        )

    own = text_box("", "path of " + OWN)
    own.continuous_update = False  # half a path is an error
    return LiveText(
        {title: column(title) for title in checkpoints},
        temperature=slider(0.0, 2.0, temperature, 0.05, "temperature"),
        prior_temperature=slider(0.0, 3.0, 1.0, 0.1, "prior's deviation ×"),
        prime=text_box(prime, "prime"),
        seed=slider(0, 20, 0, 1, "seed"),
        **{name: choice(each | {OWN: OWN}, next(iter(each.values())), name) for name, each in checkpoints.items()},
        own=own,
    )


def walk(model: VRNN, directions: Tensor, *, prime: str = "", temperature: float = 0.5, length: int = 400) -> LiveText:
    """The slider of chapter 6: each z moved along one of the directions (D, Z), by so many of the prior's deviations.

    What streams is what `generate` gives for shift = amount * directions[direction - 1].

    Args:
        model: whose z is moved.
        directions: (D, Z), each in units of the prior's deviation.
        prime, temperature, length: as in `generate`.
    """

    def stream(direction, amount, seed):
        return generate(model, prime, temperature, length=length, seed=seed, shift=amount * directions[direction - 1])

    return LiveText(
        stream,
        direction=slider(1, len(directions), 1, 1, "direction"),
        amount=slider(-4.0, 4.0, 0.0, 0.25, "prior's deviations along it"),
        seed=slider(0, 20, 0, 1, "seed"),
    )
