"""The page of two texts in a headless Chromium: its models against PyTorch's, and what a reader moves and sees."""

import functools
import itertools
import re
import runpy

import pytest
import safetensors.torch
import site_pages
import torch
from browser import crowding
from chapters import ROOT
from helpers import char_rnn, tight, vrnn
from playwright.sync_api import expect
from site_pages import (
    NEAR,
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
from vrnn_tutorial.emissions import Categorical
from vrnn_tutorial.files import BEST
from vrnn_tutorial.text import ASCII, encode, respell
from vrnn_tutorial.text_statistics import entropy, share_known, words
from vrnn_tutorial.widgets.live_text import changes

CHECKPOINTS = ROOT / "data" / "checkpoints"
SAME_COUNT = CHECKPOINTS / "charrnn-same-count" / "best.safetensors"
LARGE, LARGE_RNN, SMALL = (CHECKPOINTS / "text" / f"{name}.safetensors" for name in ("vrnn", "charrnn", "small"))
KNOWN = set((ROOT / "site" / "words.txt").read_text(encoding="ascii").split("\n"))
VOCABULARY = "\n abcdefé😀"
PRIME = "bad\nfé😀"
#: Temperature and the prior's.
SETTINGS = list(itertools.product([0.0, 0.7, 1.0], [0.0, 1.0]))
#: What the script makes of given codes, noise and uniforms, by its own steps: codes and z, and the state after them.
WRITE = """async ([path, codes, temperature, deviation, noises, uniforms]) => {
    const model = await (await import("/site/models.js")).load(path);
    let state = model.read(codes, model.start(), noises, deviation);
    const steps = uniforms.map((uniform, t) => {
        const { x, z } = model.draw(state, temperature, deviation, noises[codes.length + t], uniform);
        state = model.advance(x, z, state);
        return { x, z: [...(z ?? [])] };
    });
    return {
        text: model.decode(steps.map(step => step.x)),
        z: steps.map(step => step.z),
        state: state.layers.map(layer => Object.values(layer).map(values => [...values])),
    };
}"""
#: When the first column has its first text, and when all of it, in milliseconds since the page was asked for.
WATCH = """addEventListener("DOMContentLoaded", () => {
    const text = document.querySelector("pre span");
    if (!text) return;
    window.seen = {};
    new MutationObserver(() => {
        const length = text.textContent.length;
        if (length) window.seen.first ??= [performance.now(), length];
        if (length === 600) window.seen.all ??= performance.now();
    }).observe(text, {childList: true, characterData: true, subtree: true});
});"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with site_pages.served(tmp_path_factory.mktemp, WATCH) as served:
        yield served


@pytest.fixture(autouse=True)
def all_is_found_and_nothing_foreign(served):
    yield
    served.check()


@pytest.fixture
def script(served):
    """An empty page, which can import the script."""
    served[0].goto(f"{served[3]}empty.html")
    return served[0]


@pytest.fixture
def page(served):
    """The page, opened."""
    served[0].goto(f"{served[3]}site/generation.html")
    return served[0]


def written(model, prime, temperature, deviation, length, normals, uniform):
    """What Python's own `draw` writes: text, z of each step, the last state, noises, uniforms, and nearness of each.

    normals, uniform: functions by which noise of a size and a uniform are drawn, in the page's order.
    """
    vocabulary, like = model.emission_type.vocabulary, next(model.parameters())

    def noise():
        noises.append(normals(model.latent_size))
        return torch.tensor([noises[-1]], dtype=like.dtype)

    noises, uniforms, codes, z, near = [], [], [], [], []
    with torch.no_grad():
        state = model.zero_state(like.new_empty(1, 0))
        for x in encode(prime, vocabulary):
            of_z = [deviation * noise()[None]] if isinstance(model, VRNN) else []
            state = model(x.view(1, 1), state, *of_z).state
        for _ in range(length):
            of_z = noise()
            logits = model.draw(state, temperature, deviation, noise=of_z).emission.logits[0]
            uniforms.append(uniform(logits))
            near.append(nearness(logits, temperature, uniforms[-1]))
            u = torch.tensor(uniforms[-1:], dtype=like.dtype)
            drawn = model.draw(state, temperature, deviation, noise=of_z, uniforms=u)
            codes.append(drawn.x.item())
            z.append([] if drawn.z is None else drawn.z[0].tolist())
            state = model.advance(drawn.x, drawn.z, state)
    return "".join(vocabulary[code] for code in codes), z, state, noises, uniforms, near


def given_to_the_script(page, path, prime, temperature, deviation, model, length=60):
    """What the script writes, and what Python does, for the same noise and uniforms, none of them near a bound."""
    generator = torch.Generator().manual_seed(0)

    def normals(size):
        return torch.randn(size, generator=generator).tolist()

    def uniform(logits):
        draws = (torch.rand((), generator=generator).item() for _ in itertools.count())
        return next(u for u in draws if temperature == 0 or nearness(logits, temperature, u) > NEAR)

    text, z, state, noises, uniforms, near = written(model, prime, temperature, deviation, length, normals, uniform)
    assert min(near, default=1) > NEAR
    codes = encode(prime, model.emission_type.vocabulary).tolist()
    return page.evaluate(WRITE, [path, codes, temperature, deviation, noises, uniforms]), text, z, state


def layers_of(state, model):
    """A state as the script has it: of each layer its h, and an LSTM's c."""
    if isinstance(model, VRNN):
        layers = state if model.cell.num_layers > 1 else (state,)
        return [[part[0].tolist() for part in (layer if isinstance(layer, tuple) else (layer,))] for layer in layers]
    parts = state if isinstance(state, tuple) else (state,)
    return [[part[layer, 0].tolist() for part in parts] for layer in range(model.num_layers)]


@pytest.mark.parametrize("size", [(1, 1), (3, 2)], ids=["one layer", "three layers, depth 2"])
@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize("make", [vrnn, char_rnn])
def test_for_given_noise_and_uniforms_the_text_is_pythons(script, served, make, rnn, size):
    emission = Categorical(vocabulary=VOCABULARY)
    options = {"rnn": rnn, "num_layers": size[0], "depth": size[1], "emission": emission}
    model = make(input_size=len(VOCABULARY), **options).float()
    save_checkpoint(served[2] / "small.safetensors", model)
    for temperature, deviation in SETTINGS:
        how = script, "/small.safetensors", PRIME, temperature, deviation
        found, text, *_ = given_to_the_script(*how, model)
        assert found["text"] == text, how
        # In double precision, as the script's sums are, the numbers behind the text agree.
        double = load_checkpoint(served[2] / "small.safetensors").double()
        found, text, z, state = given_to_the_script(*how, double)
        assert found["text"] == text
        for numbers, expected in (found["z"], z), (found["state"], layers_of(state, double)):
            torch.testing.assert_close(doubles(numbers), doubles(expected), **tight)


@pytest.mark.parametrize("path", [BEST, SAME_COUNT], ids=["VRNN", "CharRNN"])
def test_so_is_that_of_the_committed_models(script, path):
    for temperature, deviation in SETTINGS:
        how = f"/{path.relative_to(ROOT)}", "ROMEO:\n", temperature, deviation
        found, text, *_ = given_to_the_script(script, *how, load_checkpoint(path))
        assert found["text"] == text, how


def test_half_precision_is_read_and_log_deviations_are_kept_within_their_bounds(script, served):
    model = vrnn(input_size=len(VOCABULARY), emission=Categorical(vocabulary=VOCABULARY)).float()
    with torch.no_grad():
        for net, first in (model.cell.prior_net, 12.0), (model.cell.posterior_net, -12.0):
            net[-1].weight[-3:] = 0
            net[-1].bias[-3:] = torch.tensor([first, -12.0, -90.0])
        model.cell.phi_z[0][0].weight[0] = torch.tensor([2.0**-24, 3 * 2.0**-16, -0.0])  # below the least normal half
    save_checkpoint(served[2] / "half.safetensors", model, half=True)
    double = load_checkpoint(served[2] / "half.safetensors").double()
    for length in 0, 60:
        found, text, z, state = given_to_the_script(script, "/half.safetensors", PRIME, 0.7, 1.0, double, length)
        assert found["text"] == text
        for numbers, expected in (found["z"], z), (found["state"], layers_of(state, double)):
            torch.testing.assert_close(doubles(numbers), doubles(expected), **tight)
    assert doubles(z).abs().amax(0)[0] > 1e4, "the upper bound was not met"


def refused(script, content):
    """What the script says to a file with this content."""
    return script.evaluate(
        """async bytes => {
            const { modelOf } = await import("/site/models.js");
            try { modelOf(new Uint8Array(bytes).buffer); } catch (error) { return error.message; }
        }""",
        list(content),
    )


FOREIGN = {
    "empty": b"",
    "cut short": safetensors.torch.save({"weight": torch.zeros(9)})[:-4],
    "in double precision": safetensors.torch.save({"weight": torch.zeros(9).double()}),
    "pickled": b"\x80\x02}q\x00." + bytes(99),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_damaged_or_foreign_file_is_told_in_one_sentence(script, content):
    assert refused(script, content) == "This is no safetensors file of single or half precision, or it is cut short."


def test_so_is_a_file_that_is_no_checkpoint(script):
    content = safetensors.torch.save({"weight": torch.zeros(2)})
    assert refused(script, content) == "This is no checkpoint of vrnn_tutorial."


OTHERS = {
    "rnn": {"rnn": "rnn"},
    "emission": {"emission": "gaussian"},
    "prior": {"prior": "standard"},
    "stochastic": {"stochastic": False},
}


@pytest.mark.parametrize("part", OTHERS)
def test_a_model_that_it_does_not_know_is_refused(script, tmp_path, part):
    save_checkpoint(tmp_path / "other.safetensors", vrnn(**OTHERS[part]).float())
    content = (tmp_path / "other.safetensors").read_bytes()
    assert refused(script, content) == f"This page knows no model with such a {part}."


def pages_own(path, prime, temperature, deviation, seed, length=600):
    """What the page writes: Python's text for the numbers of the page's generator; up to the first that comes near."""
    mulberry = [seed]
    normals, uniform = functools.partial(normals_of, mulberry), lambda _: uniform_of(mulberry)
    text, *_, near = written(load_checkpoint(path), prime, temperature, deviation, length, normals, uniform)
    exempt = next((t for t, distance in enumerate(near) if distance <= NEAR), length)
    assert exempt >= 60, "too near too soon for the text to tell anything: choose another seed"
    return text[:exempt]


def column(page, name):
    """Prime and text of the column, once it is written."""
    box = page.get_by_role("region", name=name).locator("pre")
    expect(box).to_have_attribute("aria-busy", "false")
    return [box.locator(part).evaluate("element => element.textContent") for part in ("b", "span")]


def status(page, name):
    return page.get_by_role("region", name=name).get_by_role("status")


def choose(page, name, path):
    page.get_by_role("combobox", name=name).select_option(value=f"../{path.relative_to(ROOT)}")


def note(page, name):
    return page.get_by_role("region", name=name).locator(".note")


@pytest.mark.parametrize("name, path", [("Left", BEST), ("Right", SAME_COUNT)])
def test_opened_each_column_writes_and_its_text_is_pythons(page, name, path):
    prime, text = column(page, name)
    expected = pages_own(path, "ROMEO:", 0.8, 1.0, 0)
    assert (prime, len(text), text[: len(expected)]) == ("ROMEO:", 600, expected)


@pytest.mark.parametrize("path", [LARGE, LARGE_RNN, SMALL], ids=lambda path: path.stem)
def test_so_is_that_of_the_others(page, path):
    choose(page, "Left", path)
    expected = pages_own(path, "ROMEO:", 0.8, 1.0, 0, length=150)
    assert column(page, "Left")[1][: len(expected)] == expected


def test_the_keyboard_comes_to_each_control_and_moves_it(page):
    texts, reached = [column(page, "Left")[1]], []
    for moves in [], ["ArrowLeft"] * 4, ["Home"], ["ArrowRight"], [], []:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        for move in moves:
            page.keyboard.press(move)
        texts += [column(page, "Left")[1]] if moves else []
    assert reached == ["prime", "temperature", "deviation", "seed", "left-model", "right-model"]
    assert page.locator("output").all_inner_texts() == ["0.6", "0", "1"]
    assert len(set(texts)) == 4
    expected = pages_own(BEST, "ROMEO:", 0.6, 0.0, 1)
    assert texts[-1][: len(expected)] == expected


def test_so_does_the_mouse(page):
    page.get_by_role("slider", name="Temperature").click()  # in its middle
    expect(page.locator("output").first).to_have_text("1")
    expected = pages_own(BEST, "ROMEO:", 1.0, 1.0, 0)
    assert column(page, "Left")[1][: len(expected)] == expected


def test_a_prime_is_typed_and_what_is_not_known_is_respelt_or_left_out(page):
    page.get_by_label("Prime").fill("KING:\\nO ")
    prime, text = column(page, "Left")
    expected = pages_own(BEST, "KING:\nO ", 0.8, 1.0, 0)
    assert (prime, text[: len(expected)]) == ("KING:\nO ", expected)
    page.get_by_label("Prime").fill("“Zoé”😀")
    for name, path in ("Left", BEST), ("Right", SAME_COUNT):
        prime, text = column(page, name)
        expected = pages_own(path, '"Zoe"', 0.8, 1.0, 0)
        assert (prime, text[: len(expected)]) == ('"Zoe"', expected)
        expect(status(page, name)).to_have_text("")


def test_where_no_model_has_a_z_its_deviation_cannot_be_moved(page):
    deviation = page.get_by_role("slider", name="deviation")
    for name, model, movable in ("Left", BEST, True), ("Left", SAME_COUNT, False), ("Right", BEST, True):
        choose(page, name, model)
        column(page, name)
        expect(deviation).to_be_enabled(enabled=movable)


def test_what_a_move_changed_is_marked_and_the_rest_is_not(page):
    before = column(page, "Left")[1]
    page.get_by_role("slider", name="Seed").press("ArrowRight")
    column(page, "Left")
    # Two moves, the first of which has no time to write: what stood at a place before is still the text of before.
    page.evaluate(
        """() => {
            const slider = document.getElementById("temperature");
            for (const value of [0.85, 0.9]) {
                slider.value = value;
                slider.dispatchEvent(new Event("input", {bubbles: true}));
            }
        }"""
    )
    text = column(page, "Left")[1]
    stood = pages_own(BEST, "ROMEO:", 0.8, 1.0, 1)
    marked = (
        page.get_by_role("region", name="Left")
        .locator("span")
        .evaluate("element => [...element.childNodes].map(node => [node.textContent, node.nodeName === 'MARK'])")
    )
    assert "".join(run for run, _ in marked) == text != before
    whole = changes(text[: len(stood)], stood)[:-1]  # the last run may go on behind what is told for certain
    assert [tuple(run) for run in marked][: len(whole)] == whole
    assert {changed for _, changed in whole} == {True, False}


@pytest.mark.parametrize("temperature", ["0.8", "0"])
def test_below_each_text_stands_what_is_counted_in_it(page, temperature):
    page.get_by_role("slider", name="Temperature").fill(temperature)
    expect(page.locator("output").first).to_have_text(temperature)
    for name, path in ("Left", BEST), ("Right", SAME_COUNT):
        text = column(page, name)[1]
        share, nats = re.fullmatch(r"known words (\d+)% · entropy ([\d.]+) nats per character",
                                   note(page, name).inner_text()).groups()  # fmt: skip
        assert abs(int(share) - 100 * share_known(words(text), KNOWN)) <= 0.5
        assert float(nats) == pytest.approx(entropy_of(path, text, float(temperature)), abs=0.006)


def entropy_of(path, text, temperature):
    """The mean entropy, in nats, of the softmaxes of what a model wrote; z by the page's own numbers."""
    if temperature == 0:
        return 0
    mulberry = [0]
    model = load_checkpoint(path).double()
    vocabulary, found = model.emission_type.vocabulary, []
    with torch.no_grad():
        state = model.zero_state(torch.empty(1, 0, dtype=torch.float64))
        for x in encode("ROMEO:", vocabulary):
            of_z = [doubles(normals_of(mulberry, model.latent_size)).view(1, 1, -1)] if model.latent_size else []
            state = model(x.view(1, 1), state, *of_z).state
        for x in encode(text, vocabulary):
            of_z = doubles([normals_of(mulberry, model.latent_size)])
            uniform_of(mulberry)
            drawn = model.draw(state, temperature, 1.0, noise=of_z, uniforms=torch.zeros(1, dtype=torch.float64))
            found.append(entropy(drawn.emission.logits, temperature).item())
            state = model.advance(x.view(1), drawn.z, state)
    return sum(found) / len(found)


def test_a_text_is_respelt_and_counted_as_python_does(script):
    texts = ["“Zoé”—Ærøskøbing ½ naïve… ‘’ ß\u00ad﻿ 東京 Å ﬁ ①", "The lov'd quick'ning brown fox-trot, thou", "", "one"]
    found = script.evaluate(
        """async ([texts, vocabularies, known]) => {
            const { respell, shareKnown, entropy } = await import("/site/text.js");
            return [
                texts.map(text => vocabularies.map(vocabulary => respell(text, [...vocabulary]))),
                texts.map(text => String(shareKnown(text, new Set(known)))),
                [entropy([1, 2, 3.5], 0.5), entropy([1, 2, 3.5], 0)],
            ];
        }""",
        [texts, [ASCII, "\n abcdefé"], ["the", "lov'd", "fox"]],
    )
    assert found[0] == [[respell(text, vocabulary) for vocabulary in (ASCII, "\n abcdefé")] for text in texts]
    shares = [share_known(words(text), {"the", "lov'd", "fox"}) for text in texts]
    assert [float(share.lower()) for share in found[1]] == pytest.approx(shares, nan_ok=True)
    assert found[2] == pytest.approx([entropy(doubles([1, 2, 3.5]), 0.5).item(), 0])


def test_readme_tells_what_the_page_weighs(served, page):
    for name in "Left", "Right":
        column(page, name)
        expect(note(page, name)).not_to_have_text("")
    check_weights(served, "generation")


def test_what_a_model_does_not_know_has_no_code(script):
    message = script.evaluate(
        """async () => {
            const model = await (await import("/site/models.js")).load("/vrnn_tutorial/best.safetensors");
            try { model.encode("Zoé"); } catch (error) { return error.message; }
        }"""
    )
    assert message == "The model does not know the character “é”."


def test_the_words_are_those_of_the_training_text():
    known = runpy.run_path(str(ROOT / "site" / "words.py"))["known"]()
    assert (ROOT / "site" / "words.txt").read_text(encoding="ascii") == known


def test_a_move_stops_what_is_being_written(page):
    column(page, "Left")
    page.evaluate(
        """async () => {
            const slider = document.getElementById("seed"), text = document.querySelector("pre span");
            const move = seed => { slider.value = seed; slider.dispatchEvent(new Event("input", {bubbles: true})); };
            move(1);
            while (!text.textContent) await new Promise(requestAnimationFrame);
            move(2);
            window.lengths = [];
            new MutationObserver(() => lengths.push(text.textContent.length)).observe(text, {childList: true});
        }"""
    )
    text = column(page, "Left")[1]
    expected = pages_own(BEST, "ROMEO:", 0.8, 1.0, 2)
    assert text[: len(expected)] == expected
    lengths = page.evaluate("lengths.filter(length => length)")
    assert lengths == sorted(set(lengths)) and lengths[-1] == 600, "an older text was written beside the new one"


def test_a_model_that_is_not_there_is_told_and_tried_again(served, page):
    page.route("**/text/vrnn.safetensors", lambda route: route.fulfill(status=404))
    choose(page, "Left", LARGE)
    assert column(page, "Left") == ["", ""]
    expect(note(page, "Left")).to_have_text("")
    where = "../data/checkpoints/text/vrnn.safetensors"
    expect(status(page, "Left")).to_have_text(f"The model {where} could not be fetched: the server answers 404.")
    assert "404" in served[1].pop()
    page.unroute("**/text/vrnn.safetensors")
    page.get_by_role("slider", name="Seed").press("ArrowRight")
    assert len(column(page, "Left")[1]) == 600


def test_a_browser_that_cannot_run_it_shows_a_picture_and_a_sentence(served):
    check_picture_in_its_place(served, "generation")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_keeps_to_the_width_of_a_phone_and_to_the_readers_colours(page, scheme):
    check_whole(page, scheme, lambda: column(page, "Left"))


def test_the_first_text_comes_within_a_second_and_300_characters_in_each(page):
    """Within more where programs share a core: the browser's processes wait for one another."""
    column(page, "Left")
    crowd = crowding()
    (first, length), last = page.evaluate("[seen.first, seen.all]")
    assert first < 1000 * 2 * crowd
    assert (600 - length) / (last - first) > 0.3 / crowd
