"""Colours and settings that all drawings share.

The colours follow Okabe and Ito, moved a little so that colour-blind readers can tell any two apart; the ground is
white, so that a picture reads on a dark page too.
"""

from matplotlib.rcsetup import cycler

BLUE, ORANGE, GREEN, PURPLE, AMBER, INK = "#0072B2", "#D55E00", "#00A87B", "#A65283", "#EBA200", "#222222"
STYLE = [
    "default",
    {
        "font.size": 11.5,
        "mathtext.fontset": "cm",
        "text.color": INK,
        "axes.prop_cycle": cycler(color=(BLUE, ORANGE, GREEN, PURPLE, AMBER, INK)),
    },
]
