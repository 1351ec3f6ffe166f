"""Every slider and surface; none has logic, but calls a plain, seeded function of its values (all chapters)."""

from .canvas import Canvas
from .controls import choice, place_in, slider, text_box
from .drawn import drawn
from .listening import Blind, Listen, Player
from .live_text import LiveText, Written
from .pictures import Chart, Page, Picture, pad
from .text import OWN, fitted, generation, text_of
from .walking import walk

__all__ = [
    "OWN",
    "Blind",
    "Canvas",
    "Chart",
    "Listen",
    "LiveText",
    "Page",
    "Picture",
    "Player",
    "Written",
    "choice",
    "drawn",
    "fitted",
    "generation",
    "pad",
    "place_in",
    "slider",
    "text_box",
    "text_of",
    "walk",
]
