"""Music to look at and to listen to; what it does in the browser, player.js says (chapter 8)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anywidget
import ipywidgets
import torch
import traitlets

from ..gaussian import seeded
from ..music import Note, midi
from ..plots import piano_roll
from . import pictures
from .pictures import Following

REPR = "Run this cell to listen; a stored notebook shows a picture of it."


class Player(anywidget.AnyWidget):
    """A piano roll with a button that plays it, and a link to take it away as MIDI.

    The notes go to the browser, which makes the sound itself, when it is asked to: no sound is stored or sent, and a
    kernel that is busy keeps nobody from listening. Only one player of a page sounds at a time.
    """

    _esm = Path(__file__).with_name("player.js")
    label = traitlets.Unicode().tag(sync=True)
    tempo = traitlets.Float().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    box = traitlets.Tuple().tag(sync=True)  # the roll's axes in the picture, as a Surface has its own
    notes = traitlets.List().tag(sync=True)  # [pitch, start, length] of each
    quarters = traitlets.Int().tag(sync=True)
    midi = traitlets.Bytes().tag(sync=True)

    def __init__(self, notes: Sequence[Note], label: str = "", tempo: float = 80):
        """label: the title of the roll. tempo: quarter notes per minute. Raises ValueError as `music.midi`."""
        super().__init__(label=label, tempo=tempo)
        self.show(notes)

    def show(self, notes: Sequence[Note]) -> None:
        """Another piece, which sounds at once if one does. Raises ValueError as `music.midi`."""
        content = midi(notes, self.tempo)
        figure = piano_roll({self.label: notes})
        picture = pictures.png(figure)
        with self.hold_sync():
            self.picture, self.box, self.midi = picture, pictures.box_of(figure), content
            self.quarters = max(note.start + note.length for note in notes)
            self.notes = [[note.pitch, note.start, note.length] for note in notes]

    def __repr__(self):
        return REPR


class Listen(Following):
    """Music that follows its controls: compose(**values of the controls) gives its notes.

    The first piece is composed here, and an error in that is raised; an error after a move stands by the text box, or
    else below the controls, and the last piece stays. tempo: quarter notes per minute.
    """

    def __init__(self, compose: Callable[..., Sequence[Note]], tempo: float = 80, **controls: ipywidgets.ValueWidget):
        self.compose = compose
        values = {name: control.value for name, control in controls.items()}
        self.player = Player(compose(**values), tempo=tempo)
        super().__init__(self.player, **controls)

    def follow(self, **values) -> None:
        self.player.show(self.compose(**values))

    def __repr__(self):
        return REPR


class Blind(ipywidgets.VBox):
    """Pieces to be told apart by ear: numbered, in an order that the seed draws; a button says which was which."""

    def __init__(self, pieces: Mapping[str, Sequence[Note]], seed: int, tempo: float = 80):
        """pieces: their notes, by the names that are hidden. tempo: quarter notes per minute."""
        self.order = shuffled(list(pieces), seed)
        self.players = [Player(pieces[name], f"piece {i}", tempo) for i, name in enumerate(self.order, 1)]
        self.button, self.answer = ipywidgets.Button(description="Which was which?"), ipywidgets.HTML()
        self.button.on_click(self._reveal)
        super().__init__([*self.players, self.button, self.answer])

    def _reveal(self, _):
        self.answer.value = "<br>".join(f"piece {i}: <b>{name}</b>" for i, name in enumerate(self.order, 1))

    def __repr__(self):
        return REPR


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """The names in an order that the seed draws."""
    order = torch.randperm(len(names), generator=seeded(seed))
    return [names[int(i)] for i in order]
