"""The page of the microscope in a headless Chromium: a trace against PyTorch's, and what a reader moves and sees."""

import functools
import re

import matplotlib
import numpy as np
import pytest
import site_pages
import torch
from chapters import ROOT
from helpers import tight, vrnn
from playwright.sync_api import expect
from site_pages import check_picture_in_its_place, check_weights, check_whole, doubles, normals_of

from vrnn_tutorial import load_checkpoint
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.emissions import Categorical
from vrnn_tutorial.gaussian import DiagonalGaussian
from vrnn_tutorial.probes import Trace, trace
from vrnn_tutorial.text import encode

READ = ROOT / "data" / "checkpoints" / "source-lr-0.01" / "best.safetensors"
SENTENCE = "Now is the winter of our discomputer"
TRACE = """async ([path, text, noises]) => {
    const model = await (await import("/site/models.js")).load(path);
    const lists = of => (ArrayBuffer.isView(of) ? [...of]
        : of?.mean ? { mean: [...of.mean], deviation: [...of.deviation] } : of);
    return (await import("/site/trace.js")).trace(model, model.encode(text), noises)
        .map(step => Object.fromEntries(Object.entries(step).map(([name, of]) => [name, lists(of)])));
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with site_pages.served(tmp_path_factory.mktemp) as served:
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
    served.page.goto(f"{served.address}site/microscope.html")
    expect(served.page.locator("#step")).not_to_have_text("")
    return served.page


def traced(model, text, noise, of_prior):
    """As `trace` in probes.py, by noise (N, draws, Z) for z from the posterior and from the prior."""
    out = model(encode(text, model.emission_type.vocabulary)[:, None].repeat(1, noise.shape[1]), noise=noise)
    before = torch.cat([torch.zeros_like(out.hidden[:1]), out.hidden[:-1]])
    expected = model.cell.emission(out.prior.rsample(of_prior), before).logits.softmax(-1).mean(1)
    prior, posterior = (DiagonalGaussian(*(part[:, 0] for part in q)) for q in (out.prior, out.posterior))
    kl, reconstruction = (nats.mean(1) / torch.tensor(2.0).double().log() for nats in (out.kl, out.reconstruction))
    return Trace(text, out.hidden[:, 0], prior, posterior, expected, kl, reconstruction + kl)


def check_alike(found, expected):
    """That steps of the script are those of a trace."""
    for name in "hidden", "expected", "kl", "surprise":
        torch.testing.assert_close(doubles([step[name] for step in found]), getattr(expected, name), **tight)
    for name in "prior", "posterior":
        mean, deviation = (doubles([step[name][part] for step in found]) for part in ("mean", "deviation"))
        torch.testing.assert_close(mean, getattr(expected, name).mean, **tight)
        torch.testing.assert_close(deviation, getattr(expected, name).log_std.exp(), **tight)


@torch.no_grad()
@pytest.mark.parametrize("rnn, layers", [("gru", 1), ("lstm", 2)])
def test_for_given_noise_the_trace_is_pythons(script, served, rnn, layers):
    emission = Categorical(vocabulary="\n abcdefé")
    save_checkpoint(
        served.folder / "small.safetensors",
        vrnn(input_size=9, rnn=rnn, num_layers=layers, emission=emission).float(),
    )
    model, text = load_checkpoint(served.folder / "small.safetensors").double(), "bad fé\nfacade"
    generator = torch.Generator().manual_seed(0)
    noise, of_prior = (torch.randn(len(text), 4, 3, generator=generator).double() for _ in range(2))
    noises = [[{"posterior": a, "prior": b} for a, b in zip(*pair)] for pair in zip(noise.tolist(), of_prior.tolist())]
    check_alike(script.evaluate(TRACE, ["/small.safetensors", text, noises]), traced(model, text, noise, of_prior))


@torch.no_grad()
def test_that_trace_is_the_one_of_the_notebook(script):
    model, generator = load_checkpoint(READ).double(), torch.Generator().manual_seed(0)
    drawn = [torch.randn(len(SENTENCE), 10, 64, dtype=torch.float64, generator=generator) for _ in range(2)]
    noises = [[{"posterior": a, "prior": b} for a, b in zip(*pair)] for pair in zip(*(d.tolist() for d in drawn))]
    found = script.evaluate(TRACE, [f"/{READ.relative_to(ROOT)}", SENTENCE, noises])
    check_alike(found, trace(model, SENTENCE, seed=0))


@functools.cache
def pages_own(text):
    """The trace of a sentence by Python, with the page's numbers."""
    mulberry, model = [0], load_checkpoint(READ).double()
    drawn = doubles([[[normals_of(mulberry, 64) for _ in range(2)] for _ in range(10)] for _ in text])
    with torch.no_grad():
        return traced(model, text, drawn[:, :, 0], drawn[:, :, 1])


def check_shown(page, text, position):
    """That the page shows that step of the sentence."""
    expected, came = pages_own(text), {" ": "␣"}.get(text[position - 1], text[position - 1])
    told = f"Step {position} of {len(text)}: {came} came, a surprise of "
    expect(page.locator("#step")).to_have_text(re.compile(re.escape(told)))
    bits = re.search(r"([\d.]+) bits", page.locator("#step").inner_text())[1]
    t = position - 1
    assert abs(float(bits) - expected.surprise[t]) <= 0.0501
    assert abs(float(page.locator("#kl").inner_text()) - expected.kl[t]) <= 0.000501
    rows = page.locator("#expected tr").evaluate_all(
        "rows => rows.map(row => [row.className, ...[...row.children].map(cell => cell.textContent)])"
    )
    codes = expected.expected[t].topk(8).indices.tolist()
    code = ord(text[t])
    codes = codes if code in codes else [*codes[:-1], code]
    assert [name for _, name, *_ in rows] == [{" ": "␣", "\n": "↵"}.get(chr(c), chr(c)) for c in codes]
    assert [kind == "posterior" for kind, *_ in rows] == [c == code for c in codes]
    np.testing.assert_allclose([float(p) for *_, p in rows], expected.expected[t, codes], atol=0.000501)
    letters = page.locator("#letters span").evaluate_all("all => all.map(one => [one.className, one.textContent])")
    assert "".join(letter for _, letter in letters).replace("␣", " ") in text
    return letters


def test_opened_it_shows_the_step_of_the_notebook(page):
    letters = check_shown(page, SENTENCE, 33)
    assert [kind for kind, _ in letters] == [""] * 32 + ["posterior"] + ["later"] * 3


def test_the_colours_of_h_are_those_of_the_notebook(page):
    width, height, pixels = page.locator("canvas").evaluate(
        """canvas => {
            const { width, height } = canvas;
            return [width, height, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
        }"""
    )
    pixels = np.array(pixels).reshape(height, width, 4)
    assert (width, height) == (len(SENTENCE), 64)
    expected = 255 * matplotlib.colormaps["PuOr"](pages_own(SENTENCE).hidden.T.numpy() / 2 + 0.5)
    assert (pixels[:, 33:, 3] == 0).all(), "what has not been read is shown"
    assert np.abs(pixels[:, :33] - expected[:, :33]).max() <= 4  # Matplotlib has 256 colours


def test_the_bars_of_z_reach_as_far_as_its_deviations(page):
    ways = page.locator("#gaussians path:not(.line)").evaluate_all(
        "bars => bars.map(bar => [bar.getAttribute('class'), bar.getAttribute('d')])"
    )
    lines = page.locator("#gaussians").evaluate(
        "svg => [...svg.querySelectorAll('text')].map(text => [text.textContent, +text.getAttribute('y') - 4])"
    )
    at = {int(name.replace("−", "-")): y for name, y in lines}
    for name in "prior", "posterior":
        q = getattr(pages_own(SENTENCE), name)
        shown = doubles([
            [float(number) for number in re.fullmatch(r"M.*,(.*)V(.*)M.*,(.*)h2", way).groups()]
            for kind, way in ways if kind == name
        ])  # fmt: skip
        values = (shown - at[0]) / (at[1] - at[0])
        mean, std = q.mean[32], q.log_std[32].exp()
        torch.testing.assert_close(values, torch.stack([mean - std, mean + std, mean], -1), atol=1e-6, rtol=0)


def test_the_keyboard_types_a_sentence_and_steps_through_it(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "sentence"
    page.keyboard.press("Control+a")
    page.keyboard.type("O Roméo, 東")
    check_shown(page, "O Romeo, ", 9)  # at what was typed last
    expect(page.locator("output")).to_have_text("9")
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    check_shown(page, "O Romeo, ", 6)
    page.get_by_label("Sentence").fill("")
    expect(page.locator("#step")).to_have_text("Type a sentence.")


def test_so_does_the_mouse(page):
    page.get_by_role("slider").click()  # in its middle
    expect(page.locator("output")).to_have_text(re.compile("1[89]"))
    check_shown(page, SENTENCE, int(page.locator("output").inner_text()))


def test_of_a_long_sentence_the_part_around_the_step_is_shown(page):
    text = ("To be, or not to be, that is the question: " * 7)[:300]
    page.get_by_label("Sentence").fill(text)
    expect(page.get_by_role("slider")).to_have_attribute("max", "300")
    page.get_by_role("slider").fill("150")
    letters = check_shown(page, text, 150)
    assert 50 < len(letters) < 100 and letters[len(letters) // 2][0] == "posterior"
    page.get_by_role("slider").fill("300")
    assert check_shown(page, text, 300)[-1][0] == "posterior"


def test_a_model_that_is_not_there_is_told_and_tried_again(served, page):
    page.route("**/best.safetensors", lambda route: route.fulfill(status=404))
    page.reload()
    expect(page.locator("#step")).to_have_text(re.compile("could not be fetched: the server answers 404"))
    assert "404" in served.errors.pop()
    page.unroute("**/best.safetensors")
    page.get_by_role("slider").press("ArrowLeft")
    check_shown(page, SENTENCE, 32)


def test_a_browser_that_cannot_run_it_shows_a_picture_and_a_sentence(served):
    check_picture_in_its_place(served, "microscope")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_keeps_to_the_width_of_a_phone_and_to_the_readers_colours(page, scheme):
    check_whole(page, scheme, lambda: None)


def test_readme_tells_what_the_page_weighs(served, page):
    check_weights(served, "microscope")
