"""The colours of the figures, as eyes see them that lack one kind of cones."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from vrnn_tutorial import plots

#: Machado, Oliveira, Fernandes 2009: what is left of linear red, green and blue, table 1 at severity 1.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
#: A distance in CIE Lab. About 2.3 can just be seen; in matplotlib's own cycle, two are 5 apart under protanopia.
APART = 20


def lab(color, eye):
    """A colour's place in CIE Lab (D65), where distances are as they are seen."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(EYES[eye] @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = to_xyz @ seen / (to_xyz @ np.ones(3))
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colors, eye):
    """The two colours that are least apart, and how far."""
    return min((np.linalg.norm(lab(a, eye) - lab(b, eye)), a, b) for a, b in itertools.combinations(colors, 2))


@pytest.mark.parametrize("eye", EYES)
def test_any_two_colors_can_be_told_apart(eye):
    with plt.style.context(plots.STYLE):
        cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert cycle == [plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE, plots.AMBER, plots.INK]
    assert nearest(cycle, eye) >= (APART,)


def test_a_red_and_a_green_cannot():
    pair = ["#d62728", "#2ca02c"]
    assert nearest(pair, "deuteranopia") < (APART,) < nearest(pair, "all cones")
