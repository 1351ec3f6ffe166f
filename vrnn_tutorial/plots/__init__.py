"""Every figure: plain data in, a matplotlib Figure out (all chapters). Nothing is shown; only `save_figures` saves."""

import io
import json
from pathlib import Path

import matplotlib.pyplot as plt

from ..files import FOLDER, write_atomically
from .drawings import Moment, Panel, characters, next_places, surprising
from .forecasts import coverage_by_horizon, fan_chart, pit_histogram
from .losses import SOURCE, running_mean, training_loss
from .nets import PHASES, network, vae_network
from .quadruples import quadruple_map
from .rolls import piano_roll
from .steps import unrolled, wirings
from .style import AMBER, BLUE, GREEN, INK, ORANGE, PURPLE, STYLE
from .traces import Microscope, microscope, strip

__all__ = [
    "AMBER",
    "BLUE",
    "GREEN",
    "INK",
    "ORANGE",
    "PHASES",
    "PURPLE",
    "SOURCE",
    "STYLE",
    "Microscope",
    "Moment",
    "Panel",
    "characters",
    "coverage_by_horizon",
    "fan_chart",
    "microscope",
    "network",
    "next_places",
    "piano_roll",
    "pit_histogram",
    "quadruple_map",
    "running_mean",
    "save_figures",
    "strip",
    "surprising",
    "training_loss",
    "unrolled",
    "vae_network",
    "wirings",
]

#: Runs of the source article's configuration, at the learning rate of its notebook and at its own.
HISTORIES = tuple(FOLDER / "checkpoints" / f"source-lr-{rate}" / "history.json" for rate in ("0.01", "0.001"))


@plt.style.context(STYLE)
def save_figures(folder: Path) -> list[Path]:
    """Draws every figure of the README and the notebooks into `folder`; returns their paths.

    The loss figure needs both files of HISTORIES and is left out without them. The same inputs give the same bytes.
    Raises OSError if a file cannot be written; what was there before is whole then.
    """
    figures = {f"network-{phase}.png": network(phase) for phase in PHASES}
    figures |= {"unrolled.png": unrolled(), "wirings.png": wirings()}
    if all(path.exists() for path in HISTORIES):
        figures["training-loss.png"] = training_loss([json.loads(path.read_text()) for path in HISTORIES])
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=200, metadata={"Software": None})
        write_atomically(Path(folder) / name, content.getvalue())
    return [Path(folder) / name for name in figures]
