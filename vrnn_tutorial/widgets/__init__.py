"""Every slider; none has logic of its own, but calls a plain, seeded function of its values (all chapters)."""

from .controls import choice, slider, text_box
from .live_text import LiveText
from .pictures import Chart, Picture
from .text import OWN, generation, text_of, walk

__all__ = ["OWN", "Chart", "LiveText", "Picture", "choice", "generation", "slider", "text_box", "text_of", "walk"]
