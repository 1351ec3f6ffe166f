"""Every slider and surface; none has logic, but calls a plain, seeded function of its values (all chapters)."""

from .canvas import Canvas
from .controls import choice, place_in, slider, text_box
from .listening import Blind, Listen, Player
from .live_text import LiveText, Written
from .pictures import Chart, Picture, pad
from .text import OWN, fitted, generation, text_of
from .walking import walk

__all__ = [
    "OWN",
    "Blind",
    "Canvas",
    "Chart",
    "Listen",
    "LiveText",
    "Picture",
    "Player",
    "Written",
    "choice",
    "fitted",
    "generation",
    "pad",
    "place_in",
    "slider",
    "text_box",
    "text_of",
    "walk",
]
