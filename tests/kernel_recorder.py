"""In a notebook's kernel: records each figure as it is drawn, and moves the controls of each widget that was made."""

import json
import re
from collections.abc import Iterator

from IPython import get_ipython
from IPython.display import display
from matplotlib.backend_bases import FigureCanvasBase
from recorder import of_svg, quoted, record

from vrnn_tutorial import widgets
from vrnn_tutorial.files import sha256
from vrnn_tutorial.widgets import pictures as room

MIME = "application/vnd.vrnn-tutorial.record+json"
figures: list[list[str]] = []  # the records of what the running cell has drawn
made: list = []  # all widgets, in the order in which they were made
pictures: dict[bytes, list[str]] = {}  # of what a widget shows, the record


def install() -> None:
    """From now on each cell has an output more: the records of its figures, and the numbers of its widgets."""
    print_figure, png, update = FigureCanvasBase.print_figure, room.png, widgets.Chart.update

    def printing(canvas, *args, **kwargs):
        result = print_figure(canvas, *args, **kwargs)
        figures.append(record(canvas.figure))
        return result

    def picturing(figure):
        picture = png(figure)
        pictures[picture] = record(figure)
        return picture

    def updating(chart, *data):
        chart.latest = data
        update(chart, *data)

    def made_by(kind, build):
        def building(widget, *args, **kwargs):
            build(widget, *args, **kwargs)
            made.append(widget)

        kind.__init__ = building

    FigureCanvasBase.print_figure, room.png, widgets.Chart.update = printing, picturing, updating
    for kind in (widgets.Picture, widgets.Page, widgets.LiveText, widgets.Chart, widgets.Listen, widgets.Blind):
        made_by(kind, kind.__init__)
    published = 0

    def publish(_) -> None:
        nonlocal published
        if figures or published < len(made):
            display({MIME: {"figures": figures, "widgets": list(range(published, len(made)))}}, raw=True)
        figures.clear()
        published = len(made)

    get_ipython().events.register("post_run_cell", publish)


def shown(widget) -> list[str]:
    """What a reader sees of it now, in lines."""
    if isinstance(widget, widgets.Chart):
        widget._due = 0  # it draws twice a second at most: which of its pictures is the last is a matter of chance
        widget.update(*widget.latest)
        return pictures[widget.value]
    if isinstance(widget, widgets.Picture | widgets.Page):
        return [widget.error.value] if widget.error.value else seen(widget.screen.value)
    if isinstance(widget, widgets.Listen):
        return [widget.error.value] if widget.error.value else heard(widget.player)
    if isinstance(widget, widgets.Blind):
        widget.button.click()
        answers = re.findall("<b>(.+?)</b>", widget.answer.value)
        return [line for name, player in zip(answers, widget.players) for line in (quoted(name), *heard(player))]
    if not widget._worker:
        widget.start()  # what a move does, too
    widget.wait()
    return [f"{title}: {written.text}" for title, written in widget._written.items()]


def wanted(plain: str | dict[str, str], values: dict) -> list[str]:
    """What the plain function gives for the controls' values; of streams, the function of each title."""
    names = get_ipython().user_ns | values
    if isinstance(plain, dict):
        return [f"{title}: {''.join(eval(stream, names))}" for title, stream in plain.items()]
    drawn = eval(plain, names)
    if isinstance(drawn, list):
        return heard(widgets.Player(drawn))
    if isinstance(drawn, dict):  # pieces in the order in which they are hidden
        players = [(name, widgets.Player(notes, f"piece {i}")) for i, (name, notes) in enumerate(drawn.items(), 1)]
        return [line for name, player in players for line in (quoted(name), *heard(player))]
    return seen(drawn if isinstance(drawn, str) else room.png(drawn))


def heard(player: widgets.Player) -> list[str]:
    """The record of a roll, and a digest of what the browser plays and of the file that a reader takes away."""
    digest = sha256(json.dumps(player.notes).encode() + player.midi)[:16]
    return [*seen(player.picture), f"{len(player.notes)} notes {quoted(digest)}"]


def seen(screen: bytes | str) -> list[str]:
    """The record of what a screen shows, a picture or a page."""
    return of_svg(screen) if isinstance(screen, str) else pictures[screen]


def others(controls: dict) -> Iterator[tuple[str, object]]:
    """For each control two values far apart, or all there are to choose from; a text is turned round."""
    for name, control in controls.items():
        if hasattr(control, "options"):
            values = [value for _, value in control._options_full]
        elif hasattr(control, "step"):
            steps = round((control.max - control.min) / control.step)
            values = [round(control.min + part * steps // 4 * control.step, 6) for part in (1, 3)]
        else:
            values = [control.value[::-1]]
        yield from ((name, value) for value in values if value != control.value)


def blocks(lines: list[str]) -> list[list[str]]:
    """Each thing that is drawn, with its numbers."""
    grouped = []
    for line in lines:
        if line.startswith(" "):
            grouped[-1].append(line)
        else:
            grouped.append([line])
    return grouped


def told(name: str, control) -> str:
    """What a reader can read off a control before it is moved."""
    words = [name, f"{quoted(control.description)}:"]
    if hasattr(control, "options"):
        words += [quoted(control.label), "of", *map(quoted, control._options_labels)]
    elif isinstance(control.value, tuple):
        words += [quoted(tuple(round(number, 2) for number in control.value))]
    else:
        words += [quoted(control.value)]
    if hasattr(control, "step"):
        words += ["from", quoted(control.min), "to", quoted(control.max), "by", quoted(control.step)]
    return " ".join(words)


def exercise(number: int, plain: str | dict[str, str], moves: list[tuple[str, str]] | None) -> None:
    """Moves every control of a widget; gives the record of what that changes, and all that is wrong.

    plain: an expression of the controls' names, or one for each title. moves: controls, and expressions of values.
    """
    widget, names = made[number], get_ipython().user_ns
    controls, wrong = getattr(widget, "controls", {}), []
    moves = [(name, eval(value, names)) for name, value in moves] if moves else list(others(controls))
    lines = [type(widget).__name__, *(told(name, control) for name, control in controls.items())]
    pictured, now = not isinstance(widget, widgets.LiveText), shown(widget)
    lines += now if pictured else []

    def check(now: list[str], after: str) -> None:
        if now != wanted(plain, {name: control.value for name, control in controls.items()}):
            wrong.append(f"{after} it shows another thing than {plain}")

    check(now, "untouched,")
    answers = dict.fromkeys(controls, False)
    for name, value in moves:
        before, controls[name].value = now, value
        now = shown(widget)
        check(now, f"after {name} = {value!r}")
        answers[name] |= now != before
        if pictured:
            old, new = blocks(before), blocks(now)
            lines += [f"{name} = {quoted(value)}:", *(line for block in new if block not in old for line in block)]
            lines += [f"without {block[0]}" for block in old if block[0] not in {block[0] for block in new}]
    wrong += [f"{name} changes nothing" for name, answered in answers.items() if not answered]
    display({MIME: {"lines": lines, "wrong": wrong}}, raw=True)
