"""history.json, a run's settings, losses and figures: written with a hash of itself, read with its forms of before."""

import json
import math
from pathlib import Path

from .files import sha256, write_atomically

#: What the history tells of each update.
LOSSES = ("reconstruction", "kl", "gradient_norm")
#: What stands between a history's text and its hash.
SEAL = ',\n"sha256": "'


def write_history(out: Path, history: dict) -> None:
    """Writes the history of the run in `out`. Raises OSError if it cannot be written; one that was there stays."""
    write_atomically(out / "history.json", _sealed(as_json(history)).encode())


def as_json(history: dict) -> str:
    """One line per entry. Nine digits give a float32 back exactly; JSON has no number that is not finite."""

    def brief(value):
        if isinstance(value, float):
            return float(f"{value:.9g}") if math.isfinite(value) else None
        if isinstance(value, dict):
            return {key: brief(v) for key, v in value.items()}
        return [brief(v) for v in value] if isinstance(value, list) else value

    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(brief(v))}" for k, v in history.items()) + "\n}\n"


def history_of(out: Path) -> dict:
    """history.json as it is today's, whatever edition wrote it. Raises ValueError if it cannot be read."""
    try:
        # Older runs call a ramp by its former name, and do not tell of all that is told today.
        text = _unsealed((out / "history.json").read_text()).replace('"Linear(', '"Ramp(')
        history = json.loads(text, parse_constant=lambda _: None)  # they had bare NaN and Infinity, too
        if not isinstance(history, dict):
            raise ValueError("not what a run writes")
        rates = [{"from": 0, "learning_rate": history["learning_rate"]}]
        options = {"word_dropout": 0.0, "objective": "elbo", "particles": 1, "ema_decay": 0.0, "bfloat16": False}
        return {**options, "data": None, "learning_rates": rates, **history}
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(out, error) from error


def read_history(out: Path, update: int) -> dict:
    """history.json up to this update, of which the last checkpoint is: it may be ahead, but not behind.

    Raises ValueError if it is, or cannot be read.
    """
    history = history_of(out)
    try:
        for name in LOSSES:
            if len(history[name]) < update:
                raise ValueError(f"it ends before update {update}, after which last.safetensors was saved")
            history[name] = history[name][:update]
        history["validation"] = [entry for entry in history["validation"] if entry["update"] <= update]
        history["learning_rates"] = [entry for entry in history["learning_rates"] if entry["from"] < update]
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(out, error) from error
    return history


def _unreadable(out: Path, error: Exception) -> ValueError:
    reason = f"{error} is missing" if isinstance(error, KeyError) else error
    return ValueError(f"{out / 'history.json'} cannot be read ({reason}); the run cannot go on.")


def _sealed(text: str) -> str:
    """A JSON object with the hash of all its text before as its last entry, by which damage is known."""
    body = text.removesuffix("\n}\n")
    return f'{body}{SEAL}{sha256(body.encode())}"\n}}\n'


def _unsealed(text: str) -> str:
    """That object without its seal, if it has one. Raises ValueError if it is not that of the text."""
    body, seal, digest = text.rpartition(SEAL)
    if not seal:
        return text
    if digest != f'{sha256(body.encode())}"\n}}\n':
        raise ValueError("damaged: not what was saved")
    return body + "\n}\n"


def number(value: float | None) -> float:
    """A loss out of a history, where one that is not finite is null."""
    return math.nan if value is None else value
