"""The page of four voices in a headless Chromium: its pieces are PyTorch's, and what a reader moves and hears."""

import functools
import itertools
import re

import pytest
import site_pages
import torch
from chapters import ROOT
from helpers import char_rnn, tight, vrnn
from playwright.sync_api import expect
from site_pages import (
    NEAR,
    STEPS,
    check_picture_in_its_place,
    check_weights,
    check_whole,
    doubles,
    nearness,
    normals_of,
    uniform_of,
)

from vrnn_tutorial import VRNN, load_checkpoint
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.corpora.chorales import CODES
from vrnn_tutorial.emissions.codes import ChainedDistribution
from vrnn_tutorial.music import notes_of_voices

BACH = ROOT / "data" / "checkpoints" / "bach"
NAMES = ["voices-vrnn", "voices-rnn", "voices-chained-rnn", "voices-chained-vrnn"]
QUARTERS = 32
PITCHES = {f"{name}{octave - 1}": 12 * octave + i for octave in range(3, 8)
           for i, name in enumerate(["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"])}  # fmt: skip
#: Notes of each sound that begins: when it was asked for, pitch, and when it ends, in quarters from the first.
HEAR = """window.contexts = 0;
window.heard = [];
const { start, stop } = OscillatorNode.prototype, Context = window.AudioContext;
window.AudioContext = class extends Context {
    constructor() { super(); window.contexts += 1; window.heard = []; window.latest = this; }
};
OscillatorNode.prototype.start = function (from) { this.from = from; start.call(this, from); };
OscillatorNode.prototype.stop = function (to) {
    const pitch = Math.round(69 + 12 * Math.log2(this.frequency.value / 440));
    window.heard.push([pitch, this.from, to]);
    stop.call(this, to);
};"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with site_pages.served(tmp_path_factory.mktemp, HEAR) as served:
        yield served


@pytest.fixture(autouse=True)
def all_is_found_and_nothing_foreign(served):
    yield
    served.check()


@pytest.fixture
def script(served):
    """An empty page, which can import the script."""
    served.page.goto(f"{served.address}empty.html")
    return served.page


@pytest.fixture
def page(served):
    """The page, opened."""
    served.page.goto(f"{served.address}site/voices.html")
    expect(served.page.locator("#note")).not_to_have_text("")
    return served.page


def composed(model, read, temperature, deviation, length, normals, uniform):
    """What Python's own `draw` composes: codes, z of each step, h behind them, noises, uniforms, how near each came.

    normals, uniform: draw noise of a size, and a uniform, in the page's order.
    """

    def noise():
        noises.append(normals(model.latent_size))
        return doubles([noises[-1]])

    noises, uniforms, codes, z, near = [], [], [], [], []
    with torch.no_grad():
        state = model.zero_state(torch.empty(1, 0).double())
        for x in read:
            of_z = [deviation * noise()[None]] if isinstance(model, VRNN) else []
            state = model(x.view(1, 1, -1), state, *of_z).state
        for _ in range(length):
            of_z = noise()
            emission = model.draw(state, temperature, deviation, noise=of_z).emission
            x = torch.zeros(1, model.emission_type.characters, dtype=torch.int64)
            uniforms.append([])
            near.append([])
            for i in range(x.shape[1]):  # those of a chain hang on what was drawn before
                softmaxes = emission.given(x) if isinstance(emission, ChainedDistribution) else emission
                logits = softmaxes.logits[0, i]
                uniforms[-1].append(uniform(logits))
                near[-1].append(nearness(logits, temperature, uniforms[-1][-1]))
                rest = [0.5] * (x.shape[1] - i - 1)
                given = doubles([uniforms[-1] + rest])
                x = model.draw(state, temperature, deviation, noise=of_z, uniforms=given).x
            drawn = model.draw(state, temperature, deviation, noise=of_z, uniforms=doubles([uniforms[-1]]))
            codes.append(drawn.x[0].tolist())
            z.append([] if drawn.z is None else drawn.z[0].tolist())
            state = model.advance(drawn.x, drawn.z, state)
        return codes, z, model.hidden(state)[0].tolist(), noises, uniforms, [min(step) for step in near]


def check_given(script, path, read, temperature, deviation, model, length=24):
    """That the script composes what Python does, for the same noise and uniforms, none of them near a bound."""
    generator = torch.Generator().manual_seed(0)

    def normals(size):
        return torch.randn(size, generator=generator).double().tolist()

    def uniform(logits):
        draws = (torch.rand((), generator=generator).item() for _ in itertools.count())
        return next(u for u in draws if temperature == 0 or nearness(logits, temperature, u) > NEAR)

    codes, z, hidden, noises, uniforms, near = composed(model, read, temperature, deviation, length, normals, uniform)
    assert min(near) > NEAR
    found = script.evaluate(STEPS, [path, read.tolist(), temperature, deviation, noises, uniforms])
    assert found["x"] == codes
    for numbers, expected in (found["z"], z), (found["hidden"], hidden):
        torch.testing.assert_close(doubles(numbers), doubles(expected), **tight)


SETTINGS = list(itertools.product([0.0, 0.7, 1.0], [0.0, 1.0]))


@pytest.mark.parametrize("emission", ["categorical", "chained"])
@pytest.mark.parametrize("make", [vrnn, char_rnn])
def test_for_given_noise_and_uniforms_the_codes_are_pythons(script, served, make, emission):
    save_checkpoint(
        served.folder / "small.safetensors", make(input_size=6, emission=emission, characters=3, depth=2).float()
    )
    model = load_checkpoint(served.folder / "small.safetensors").double()
    for temperature, deviation in SETTINGS:
        check_given(script, "/small.safetensors", torch.tensor([[0, 5, 2], [1, 1, 3]]), temperature, deviation, model)


@pytest.mark.parametrize("name", NAMES)
def test_so_are_those_of_the_committed_models(script, name):
    path = BACH / f"{name}.safetensors"
    read = torch.tensor([[12, 10, 9, 14], [1, 12, 0, 1]])
    for temperature, deviation in SETTINGS:
        where = f"/{path.relative_to(ROOT)}"
        check_given(script, where, read, temperature, deviation, load_checkpoint(path).double())


def test_the_notes_are_those_of_the_notebook(script):
    generator = torch.Generator().manual_seed(0)
    voices = torch.randint(CODES, (200, 4), generator=generator)
    voices = torch.where(torch.rand(200, 4, generator=generator) < 0.4, torch.randint(2, (200, 4)), voices)
    voices[0] = 1  # held, and not begun
    found = script.evaluate(
        """async codes => {
            const { nameOf, notesOf } = await import("/site/music.js");
            return [notesOf(codes), [60, 70, 36].map(nameOf)];
        }""",
        voices.tolist(),
    )
    assert found == [[list(note) for note in notes_of_voices(voices)], ["C4", "A#4", "C2"]]


@functools.cache
def pages_own(name, temperature, deviation, seed):
    """The notes that the page draws, by Python out of the page's numbers, and the first quarter that came too near."""
    mulberry = [seed]
    normals, uniform = functools.partial(normals_of, mulberry), lambda _: uniform_of(mulberry)
    model = load_checkpoint(BACH / f"{name}.safetensors").double()
    codes, *_, near = composed(model, [], temperature, deviation, QUARTERS, normals, uniform)
    exempt = next((t for t, distance in enumerate(near) if distance <= NEAR), QUARTERS)
    assert exempt >= QUARTERS // 2, "too near too soon for the piece to tell anything: choose another seed"
    return notes_of_voices(torch.tensor(codes)), exempt


def check_shown(page, name="voices-vrnn", temperature=0.7, deviation=1.0, seed=3):
    """That the page shows, and tells, the notes that Python composes."""
    notes, exempt = pages_own(name, temperature, deviation, seed)
    bars = page.locator("#roll rect")
    count = len(notes) if exempt == QUARTERS else r"\d+"
    expect(page.locator("#note")).to_have_text(re.compile(rf"^32 quarters, {count} notes, from \S+ to \S+\.$"))
    found = bars.evaluate_all(
        """bars => bars.map(bar => [
            ...["x", "y", "width", "height"].map(name => Number(bar.getAttribute(name))),
            Number(bar.getAttribute("class").slice(-1)), bar.ownerSVGElement.clientWidth - 28,
        ])"""
    )
    quarter, semitone = found[0][-1] / QUARTERS, found[0][3]
    high = PITCHES[re.search(r"to (\S+)\.", page.locator("#note").inner_text())[1]] + 2
    shown = [
        (
            round(high - (y + height / 2) / semitone),
            round((x - 28) / quarter),
            round(width / quarter + 0.08, 2),
            voice,
        )
        for x, y, width, height, voice, _ in found
    ]
    assert [note for note in shown if sum(note[1:3]) < exempt] == [note for note in notes if sum(note[1:3]) < exempt]
    return notes


def test_opened_it_shows_a_piece_which_is_pythons(page):
    check_shown(page)


@pytest.mark.parametrize("name", NAMES[1:])
def test_so_do_the_other_models(page, name):
    page.get_by_label("Model").select_option(value=f"../data/checkpoints/bach/{name}.safetensors")
    expect(page.get_by_role("slider", name="deviation")).to_be_enabled(enabled=name.endswith("vrnn"))
    check_shown(page, name)


def test_the_keyboard_comes_to_each_control_and_moves_it(page):
    reached = []
    for moves in [], ["ArrowLeft"] * 2, ["Home"], ["ArrowRight"], []:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        for move in moves:
            page.keyboard.press(move)
    assert reached == ["model", "temperature", "deviation", "seed", "play"]
    assert page.locator("output").all_inner_texts() == ["0.6", "0", "4"]
    check_shown(page, temperature=0.6, deviation=0.0, seed=4)


def sounded(page, notes):
    """That these notes are what was begun last, from the same moment on."""
    heard = page.evaluate("heard")
    begin, quarter = min(start for _, start, _ in heard), 60 / 80
    rounded = [(pitch, round((a - begin) / quarter, 3), round((b - 0.1 - a) / quarter, 3)) for pitch, a, b in heard]
    first = min(note.start for note in notes)
    assert sorted(rounded) == sorted((note.pitch, note.start - first, note.length) for note in notes)


def test_it_sounds_when_it_is_asked_to_and_a_move_lets_the_next_piece_begin(page):
    button = page.locator("#play")
    notes = check_shown(page)
    assert page.evaluate("contexts") == 0, "sound was made unasked"
    button.click()
    expect(button).to_have_text("Stop")
    sounded(page, notes)
    expect(page.locator("#head")).to_have_attribute("visibility", "visible")
    places = []
    for _ in range(2):
        places.append(page.locator("#head").get_attribute("transform"))
        page.wait_for_function("before => document.getElementById('head').getAttribute('transform') !== before",
                               arg=places[-1])  # fmt: skip
    page.get_by_role("slider", name="Seed").press("ArrowRight")
    notes = check_shown(page, seed=4)
    assert page.evaluate("contexts") == 2, "who listens is left with the old piece"
    sounded(page, notes)
    expect(button).to_have_text("Stop")
    button.press("Enter")
    expect(button).to_have_text("Play")
    expect(page.locator("#head")).to_have_attribute("visibility", "hidden")
    page.get_by_role("slider", name="Seed").press("ArrowLeft")
    check_shown(page)
    assert page.evaluate("contexts") == 2, "a piece begins though nobody listens"


def test_it_stops_at_the_end(page):
    page.locator("#play").click()
    expect(page.locator("#play")).to_have_text("Stop")
    page.evaluate("Object.defineProperty(latest, 'currentTime', { value: latest.currentTime + 32 * 0.75 + 0.2 })")
    expect(page.locator("#play")).to_have_text("Play")


def test_a_browser_without_sound_shows_the_roll_and_says_so(served):
    served.page.goto(f"{served.address}site/voices.html")
    silent = served.page.get_by_text("Your browser makes no sound of its own.")
    expect(silent).to_be_hidden()
    served.page.route("**/voices.js", lambda route: route.fulfill(
        content_type="text/javascript",
        body="delete window.AudioContext;" + (ROOT / "site" / "voices.js").read_text(encoding="utf-8"),
    ))  # fmt: skip
    served.page.reload()
    check_shown(served.page)
    expect(silent).to_be_visible()
    expect(served.page.locator("#play")).to_be_hidden()
    served.page.unroute("**/voices.js")


def test_a_model_that_is_not_there_is_told_and_tried_again(served, page):
    page.route("**/voices-rnn.safetensors", lambda route: route.fulfill(status=404))
    page.get_by_label("Model").select_option(index=1)
    expect(page.locator("#note")).to_have_text(re.compile("could not be fetched: the server answers 404"))
    assert "404" in served.errors.pop()
    page.unroute("**/voices-rnn.safetensors")
    page.get_by_role("slider", name="Seed").press("ArrowRight")
    check_shown(page, "voices-rnn", seed=4)


def test_a_browser_that_cannot_run_it_shows_a_picture_and_a_sentence(served):
    check_picture_in_its_place(served, "voices")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_keeps_to_the_width_of_a_phone_and_to_the_readers_colours(page, scheme):
    check_whole(page, scheme, lambda: check_shown(page))


def test_readme_tells_what_the_page_weighs(served, page):
    check_weights(served, "voices")
