"""The files of results that experiments write and notebooks read: a line for each model, sorted by their names."""

import json
import threading
from pathlib import Path

from vrnn_tutorial.files import write_atomically

_ONE_AT_A_TIME = threading.Lock()  # several runs may be done at once


def read(path: Path) -> dict[str, dict]:
    """What is known of each model, by its name."""
    return json.loads(path.read_text()) if path.exists() else {}


def record(path: Path, name: str, figures: dict) -> None:
    """Adds a model to the file; or replaces what it says of it."""
    with _ONE_AT_A_TIME:
        models = sorted({**read(path), name: figures}.items())
        lines = [f"{json.dumps(name)}: {json.dumps(figures)}" for name, figures in models]
        write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
