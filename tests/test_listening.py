"""Tests of widgets/listening.py and player.js: what is sent to the browser, and what it makes of that.

The browser's page is empty but for the player: no notebook.
"""

import base64
import io
import os
import tempfile
import time
from pathlib import Path

import browser
import ipywidgets
import matplotlib.image
import numpy as np
import pytest
from browser import CHROMIUM

from vrnn_tutorial import widgets
from vrnn_tutorial.music import Note, midi, sound

NOTES = [Note(72, 0, 2), Note(60, 0, 1, 1), Note(64, 1, 1, 1), Note(48, 0, 4, 3)]
OTHER = [Note(69, 0, 8), Note(57, 2, 2, 2)]


def dark(picture):
    """Where a PNG is not white: (height, width)."""
    return matplotlib.image.imread(io.BytesIO(picture))[..., :3].min(-1) < 0.99


# In the kernel


def test_a_player_has_the_notes_their_roll_and_their_midi_and_no_sound():
    player = widgets.Player(NOTES, "Bach", tempo=100)
    assert player.notes == [[72, 0, 2], [60, 0, 1], [64, 1, 1], [48, 0, 4]]
    assert (player.quarters, player.tempo, player.midi) == (4, 100, midi(NOTES, 100))
    assert sum(len(value) for value in player.get_state().values() if isinstance(value, bytes)) < 50_000
    roll, (left, top, width, height) = dark(player.picture), player.box
    rows, columns = roll.shape
    # The bass is the lowest thing inside the axes, and sounds from their left edge to almost their right one.
    inside = roll[int((top + height * 0.8) * rows) : int((top + height) * rows) - 4,
                  int(left * columns) + 4 : int((left + width) * columns) - 4]  # fmt: skip
    assert inside.any(0)[: int(0.97 * inside.shape[1])].all()
    player.show(OTHER)
    assert (player.notes[0], player.quarters, player.midi) == ([69, 0, 8], 8, midi(OTHER, 100))
    assert not np.array_equal(dark(player.picture), roll)


def test_what_cannot_be_played_leaves_the_last_piece():
    player = widgets.Player(NOTES)
    before = player.picture, player.notes, player.midi
    for wrong, sentence in (([], "there is no note to be heard"), ([Note(128, 0, 1)], "there is none for 128")):
        with pytest.raises(ValueError, match=sentence):
            player.show(wrong)
        with pytest.raises(ValueError, match=sentence):
            widgets.Player(wrong)
    assert (player.picture, player.notes, player.midi) == before


def test_music_follows_its_controls_and_says_what_cannot_be():
    def compose(pitch, length):
        return [Note(pitch, 0, length)] if pitch else []

    listen = widgets.Listen(compose, 60, pitch=widgets.slider(0, 80, 60, 1, "pitch"),
                            length=widgets.choice([1, 2], 2, "length"))  # fmt: skip
    assert (listen.player.notes, listen.player.tempo) == ([[60, 0, 2]], 60)
    listen.controls["pitch"].value = 62
    assert listen.player.notes == [[62, 0, 2]] and listen.player.midi == midi([Note(62, 0, 2)], 60)
    listen.controls["pitch"].value = 0
    assert listen.player.notes == [[62, 0, 2]], "the last piece is gone"
    assert listen.error.value == widgets.controls.ERROR.format("There is no note to be heard")
    listen.controls["length"].value = 1
    listen.controls["pitch"].value = 64
    assert (listen.player.notes, listen.error.value) == ([[64, 0, 1]], "")
    with pytest.raises(ValueError, match="there is no note to be heard"):
        widgets.Listen(compose, pitch=widgets.slider(0, 80, 0, 1, "pitch"), length=widgets.choice([1, 2], 2, "length"))


PIECES = {"Bach": NOTES, "VRNN": OTHER, "GRU": [Note(50, 0, 1)]}


def states_of(widget):
    """All that the browser is told of a widget and what is in it."""
    yield str({name: value for name, value in widget.get_state().items() if name != "_esm"})
    for child in getattr(widget, "children", ()):
        yield from states_of(child)


@pytest.mark.parametrize("seed", range(4))
def test_of_pieces_to_be_told_apart_the_names_are_hidden_until_they_are_asked_for(seed):
    blind = widgets.Blind(PIECES, seed)
    assert sorted(blind.order) == ["Bach", "GRU", "VRNN"]
    for name, player in zip(blind.order, blind.players):
        assert player.midi == midi(PIECES[name])
    assert [player.label for player in blind.players] == ["piece 1", "piece 2", "piece 3"]
    hidden = " ".join(states_of(blind))
    assert not any(name in hidden for name in PIECES)
    blind.button.click()
    assert blind.answer.value == "<br>".join(f"piece {i}: <b>{blind.order[i - 1]}</b>" for i in (1, 2, 3))


def test_the_order_is_the_seeds_and_any_may_come():
    orders = {seed: tuple(widgets.listening.shuffled(["a", "b", "c"], seed)) for seed in range(60)}
    assert len(set(orders.values())) == 6
    assert tuple(widgets.listening.shuffled(["a", "b", "c"], 7)) == orders[7]


@pytest.mark.parametrize(
    "make",
    [
        lambda: widgets.Player(NOTES),
        lambda: widgets.Blind(PIECES, 0),
        lambda: widgets.Listen(lambda: NOTES),
    ],
)
def test_a_stored_notebook_tells_how_to_listen(make):
    assert repr(make()) == "Run this cell to listen; a stored notebook shows a picture of it."


def test_a_drawn_melody_is_a_control_of_music():
    canvas = widgets.Canvas("melody")
    listen = widgets.Listen(lambda strokes: [Note(60 + len(strokes), 0, 1)], strokes=canvas)
    canvas.value = [[[0.1, 0.2]]]
    assert listen.player.notes == [[61, 0, 1]]
    assert isinstance(listen.children[1], ipywidgets.HBox) and canvas in listen.children[1].children


# In the browser

#: Renders a player in the page, on a model that does as anywidget's; a second one by another name.
RENDER = """async ([name, source, traits, bytes]) => {
    const {default: {render}} = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
    const listeners = {}, told = each => listeners[each] ?? [];
    for (const [each, content] of Object.entries(bytes)) {
        traits[each] = new DataView(Uint8Array.from(atob(content), letter => letter.charCodeAt()).buffer);
    }
    const model = {
        get: each => traits[each],
        set: (each, value) => { traits[each] = value; told(`change:${each}`).forEach(listener => listener()); },
        on: (each, listener) => { listeners[each] = [...told(each), listener]; },
        off: (each, listener) => { listeners[each] = told(each).filter(one => one !== listener); },
    };
    const el = document.body.appendChild(document.createElement("div"));
    el.id = name;
    const leave = render({model, el});
    window[name] = {model, leave: () => { leave(); return Object.values(listeners).flat().length; }};
}"""
SOUND = """async ([source, notes, tempo, seconds, rate]) => {
    const {schedule} = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
    const context = new OfflineAudioContext(1, Math.round(seconds * rate), rate);
    schedule(context, notes, tempo, 0);
    const samples = (await context.startRendering()).getChannelData(0);
    return [...samples];
}"""


@pytest.fixture(scope="module")
def page():
    if CHROMIUM is None:
        no_browser = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        no_browser("Chromium is not installed; on Debian, apt-get install chromium brings it.")
    with tempfile.TemporaryDirectory() as folder, browser.chromium(Path(folder)) as (page, errors):
        page.route("**/empty", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
        yield page
        assert errors == []


class Shown:
    """A player in the page."""

    def __init__(self, page, player, name="one"):
        state = player.get_state()
        traits = {each: state[each] for each in ("label", "tempo", "box", "notes", "quarters")}
        content = {each: base64.b64encode(state[each]).decode() for each in ("picture", "midi")}
        page.evaluate(RENDER, [name, state["_esm"], traits, content])
        self.page, self.name, self.place = page, name, page.locator(f"#{name}")
        self.button = self.place.get_by_role("button")
        page.wait_for_function("() => [...document.images].every(image => image.complete && image.naturalWidth)")

    def head(self):
        """Where the line is, in shares of the roll's axes, and its height; None if there is none."""
        if not self.place.locator(".roll-head").is_visible():
            return None
        return self.page.evaluate(
            """name => {
                const at = kind => document.querySelector(`#${name} ${kind}`).getBoundingClientRect();
                const [line, image, box] = [at(".roll-head"), at("img"), window[name].model.get("box")];
                return [((line.left - image.left) / image.width - box[0]) / box[2],
                        ((line.top - image.top) / image.height - box[1]) / box[3],
                        line.height / image.height / box[3]];
            }""",
            self.name,
        )

    def leave(self):
        assert self.page.evaluate("name => window[name].leave()", self.name) == 0


@pytest.fixture
def show(page):
    page.goto("https://vrnn.test/empty")
    return lambda *arguments: Shown(page, *arguments)


def test_what_the_browser_plays_is_what_sound_gives(show, page):
    rate, tempo = 44100, 120
    notes = [Note(69, 0, 1), Note(57, 1, 2), Note(64, 1, 1, 1), Note(81, 3, 1)]
    player = widgets.Player(notes, tempo=tempo)
    wanted = sound(notes, tempo, rate)
    source = player.get_state()["_esm"]
    heard = np.array(page.evaluate(SOUND, [source, player.notes, tempo, len(wanted) / rate, rate]))
    loudness = heard @ wanted / (wanted @ wanted)
    assert 0.1 < loudness < 0.5
    assert np.abs(heard - loudness * wanted).max() < 0.02 * loudness


def test_a_line_goes_along_while_it_sounds_and_the_button_ends_it(show):
    player = show(widgets.Player(NOTES, tempo=30))  # eight seconds
    assert player.button.inner_text() == "Play" and player.head() is None
    player.button.click()
    begun = time.monotonic()
    assert player.button.inner_text() == "Stop"
    places = []
    for _ in range(3):
        player.page.wait_for_timeout(400)
        places.append((player.head(), time.monotonic() - begun))
    for (x, y, height), seconds in places:
        assert x == pytest.approx((seconds - 0.1) / 8, abs=0.06)
        assert (y, height) == pytest.approx((0, 1), abs=0.02)
    assert places[0][0][0] < places[1][0][0] < places[2][0][0]
    player.button.click()
    assert player.button.inner_text() == "Play" and player.head() is None
    player.leave()


def test_at_its_end_a_piece_stops_by_itself(show):
    player = show(widgets.Player([Note(60, 0, 1)], tempo=300))
    player.button.click()
    player.page.wait_for_function("() => document.querySelector('#one button').textContent === 'Play'")
    assert player.head() is None


def test_only_one_player_sounds_and_another_piece_begins_where_one_was_heard(show, page):
    one, two = show(widgets.Player(NOTES, tempo=20)), show(widgets.Player(OTHER, tempo=20), "two")
    two.page.evaluate("() => two.model.set('notes', [[60, 0, 1]])")
    assert two.button.inner_text() == "Play", "it sounds unasked"
    one.button.click()
    two.button.click()
    assert (one.button.inner_text(), two.button.inner_text()) == ("Play", "Stop")
    page.wait_for_function("() => parseFloat(document.querySelector('#two .roll-head').style.left) > 6")
    before = two.head()[0]
    page.evaluate("() => two.model.set('notes', [[62, 0, 1]])")
    assert two.button.inner_text() == "Stop" and two.head()[0] < before
    one.leave()
    two.leave()
    assert two.button.inner_text() == "Play"


def test_midi_is_taken_away_by_a_link(show, page):
    player = show(widgets.Player(NOTES, "Bach"))
    with page.expect_download() as download:
        player.place.get_by_role("link").click()
    assert download.value.suggested_filename == "Bach.mid"
    assert download.value.path().read_bytes() == midi(NOTES)
