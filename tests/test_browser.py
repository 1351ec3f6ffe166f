"""The chapters in JupyterLab and a headless Chromium: what a reader sees, moves and stops.

They are copies, so that nothing here can change the tree. The tests of a class share one run of its chapter; each puts
the controls where it needs them.
"""

import base64
import io
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import browser
import nbformat
import numpy as np
import pytest
import torch
from browser import Notebook, crowding
from chapters import CHAPTERS, ROOT
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from playwright.sync_api import expect
from store import PICTURES

from vrnn_tutorial import VRNN, VRNNCell, generate, load_checkpoint, widgets
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.corpora.shakespeare import shakespeare
from vrnn_tutorial.files import FOLDER
from vrnn_tutorial.plots import ORANGE
from vrnn_tutorial.text import decode

#: Seconds in which a widget is to answer, on a machine that does nothing else.
PROMISED = 0.3
STDERR = '[data-mime-type="application/vnd.jupyter.stderr"]'  # tracebacks, too
PIXELS = """image => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""
#: Notes each text that the first column shows, and when, in milliseconds.
FRAMES = """element => {
    window.frames_seen = [];
    const text = () => element.querySelector("pre > span").textContent;
    const note = () => {
        if (window.frames_seen.at(-1)?.[1] !== text()) window.frames_seen.push([performance.now(), text()]);
    };
    new MutationObserver(note)
        .observe(element, {childList: true, subtree: true});
}"""


@pytest.fixture(scope="module")
def desk():
    browser.need_chromium()
    with browser.desk() as found:
        yield found


@pytest.fixture(scope="class")
def opened(request, desk):
    """The class's chapter, as it was saved."""
    page, _, address = desk
    return Notebook(page, address, f"notebooks/{request.cls.chapter}")


@pytest.fixture(scope="class")
def notebook(opened):
    opened.run_all(seconds=600)
    return opened


def in_time(times):
    """Whether the median answer came in time. times: of each answer its seconds, and how crowded the cores were then.

    Twice the promise is allowed, and more where programs share a core: an answer goes through browser, JupyterLab,
    kernel and back, and each of them has to wait for its turn.
    """
    return statistics.median(seconds / crowd for seconds, crowd in times) < 2 * PROMISED


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_in_a_small_window_nothing_scrolls_sideways(desk, path):
    page, _, address = desk
    wide = page.viewport_size
    page.set_viewport_size({"width": 1024, "height": 768})
    cells = Notebook(page, address, f"notebooks/{path.name}").panel
    expect(page.locator(".jp-FileBrowser")).to_be_visible()
    formulas = (
        sum(cell.source.count("$$") for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown") // 2
    )
    expect(cells.locator("mjx-container[display=true]")).to_have_count(formulas)
    boxes = cells.locator(".jp-CodeCell .cm-scroller, .jp-MarkdownOutput, .jp-OutputArea-output")
    first_line = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText.split('\\n')[0])"
    scrolling = boxes.evaluate_all(first_line)
    page.set_viewport_size(wide)
    assert scrolling == []


class Chapter:
    chapter: str

    @pytest.fixture(autouse=True)
    def the_console_stays_silent(self, desk):
        yield
        assert desk[1] == []

    def test_opened_and_not_run_it_shows_pictures_of_its_widgets(self, opened):
        shown = opened.panel.locator(".jp-OutputArea-output img").evaluate_all("all => all.map(e => e.src)")
        pictures = list(PICTURES.glob(f"{Path(self.chapter).stem}-*.png"))
        assert pictures
        for picture in pictures:
            assert f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}" in shown
        expect(opened.panel.get_by_text(re.compile("Run this cell|(Loading|displaying) widget"))).to_have_count(0)

    def test_every_cell_runs_and_none_fails(self, notebook):
        prompts = notebook.prompts()
        assert prompts == [f"[{i}]" for i in range(1, len(prompts) + 1)]
        expect(notebook.panel.locator(STDERR)).to_have_count(0)

    def test_widgets_and_bars_leave_no_text_behind_and_nothing_needs_a_scroll_bar(self, notebook):
        left = re.compile(r"Run this cell|(Loading|displaying) widget|\d%\|")
        expect(notebook.panel.get_by_text(left)).to_have_count(0)
        boxes = notebook.panel.locator(".jp-OutputArea-output, .jp-OutputArea-output .widget-vbox")
        assert boxes.evaluate_all("all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.outerHTML)") == []


class Pictures(Chapter):
    """A chapter whose sliders draw a picture: its first."""

    def picture(self, notebook):
        return notebook.panel.locator("img.widget-image").first

    def seen(self, notebook):
        return self.picture(notebook).evaluate(PIXELS)

    def moved_there_and_back(self, notebook, there, back):
        """The picture follows a move, and is the first again after the way back: moves on the way are forgotten."""
        start = self.seen(notebook)
        there()
        notebook.until(lambda: self.seen(notebook) != start, "another picture")
        back()
        notebook.until(lambda: self.seen(notebook) == start, "the first picture again")

    def pressed_there_and_back(self, notebook, label, there, back):
        self.moved_there_and_back(notebook, lambda: notebook.press(label, there), lambda: notebook.press(label, back))

    def dragged_there_and_back(self, notebook, label, there, value, back):
        def drag():
            notebook.drag(label, there)
            assert notebook.readout(label) == pytest.approx(value, abs=0.1)

        self.moved_there_and_back(notebook, drag, lambda: notebook.drag(label, back))

    def answers_in_time(self, notebook, label):
        keys = ("ArrowLeft", "ArrowRight") * 4
        times = [(notebook.seconds_to_answer(label, key, self.picture(notebook)), crowding()) for key in keys]
        assert in_time(times), times


class TestChapter1(Pictures):
    chapter = "01_vae.ipynb"

    def test_keys_move_z(self, notebook):
        self.pressed_there_and_back(notebook, "z₁", "ArrowRight", "ArrowLeft")
        self.pressed_there_and_back(notebook, "z₂", "ArrowUp", "ArrowDown")
        assert (notebook.readout("z₁"), notebook.readout("z₂")) == (1.2, -1.2)

    def test_the_mouse_moves_z(self, notebook):
        self.dragged_there_and_back(notebook, "z₁", 0.25, -1.5, back=0.7)
        self.dragged_there_and_back(notebook, "z₂", 0.9, 2.4, back=0.3)

    def test_another_beta_draws_with_another_model(self, notebook):
        beta = notebook.control("β").first.locator("select")
        self.moved_there_and_back(notebook, lambda: beta.select_option("6"), lambda: beta.select_option("1"))

    def test_the_picture_follows_in_time(self, notebook):
        self.answers_in_time(notebook, "z₂")

    def test_what_is_drawn_takes_the_held_out_digits_place_until_it_is_cleared(self, notebook):
        sheet, clear = notebook.panel.locator(".canvas-field"), notebook.panel.get_by_role("button", name="Clear")
        picture, lines = notebook.panel.locator("img.widget-image").last, sheet.locator("polyline")
        seen = [picture.evaluate(PIXELS)]
        for ends in (((0.3, 0.2), (0.7, 0.2)), ((0.7, 0.2), (0.45, 0.9))):
            notebook.stroke(sheet, *ends)
            expect(lines).to_have_count(len(seen))
            notebook.until(lambda: picture.evaluate(PIXELS) not in seen, "the drawing's picture")
            seen.append(picture.evaluate(PIXELS))
        clear.click()
        expect(lines).to_have_count(0)
        notebook.until(lambda: picture.evaluate(PIXELS) == seen[0], "the held-out digit again")


class TestChapter2(Pictures):
    chapter = "02_reparameterization_trick.ipynb"

    def picture(self, notebook):
        return notebook.panel.locator("img.widget-image").last

    def numbers(self, notebook):
        """How the legend's two lines look behind their names: KL from q to p, and from p to q."""
        png = base64.b64decode(self.seen(notebook).partition(",")[2])
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        return [picture[rows, 545:620].tobytes() for rows in (slice(158, 174), slice(178, 194))]

    def test_keys_move_q_and_both_divergences_follow(self, notebook):
        for label, before, after in (("shift of q", 1.0, 1.1), ("log ratio", -0.5, -0.4)):
            start, (of_q, of_p) = self.seen(notebook), self.numbers(notebook)
            assert notebook.readout(label) == before
            notebook.press(label, "ArrowRight")
            notebook.until(lambda start=start: self.seen(notebook) != start, "another picture")
            assert notebook.readout(label) == after
            now = self.numbers(notebook)
            assert now[0] != of_q and now[1] != of_p
            notebook.press(label, "ArrowLeft")
            notebook.until(lambda start=start: self.seen(notebook) == start, "the first picture again")

    def test_the_picture_follows_in_time(self, notebook):
        self.answers_in_time(notebook, "shift of q")


class TestChapter3(Pictures):
    chapter = "03_vrnn_cell.ipynb"

    def picture(self, notebook):
        return notebook.panel.locator("img.widget-image").last

    def place(self, notebook, place):
        notebook.until(lambda: notebook.readout("character") == place, f"the slider at {place}")

    def and_back(self, notebook, sentence, before, picture):
        """From a shorter sentence: the slider is at its end, and stays there."""
        sentence.fill(before)
        self.place(notebook, len(before))
        notebook.press("character", *["ArrowLeft"] * (len(before) - 33))
        notebook.until(lambda: self.seen(notebook) == picture, "the first picture again")

    def test_keys_and_mouse_step_through_the_sentence(self, notebook):
        self.pressed_there_and_back(notebook, "character", "ArrowLeft", "ArrowRight")
        self.dragged_there_and_back(notebook, "character", 0, 1, back=32 / 35)

    def test_the_sliders_end_is_the_end_of_the_readers_sentence_however_long(self, notebook):
        sentence = notebook.control("sentence").locator("input")
        before, start = sentence.input_value(), self.seen(notebook)
        sentence.fill(5 * before)
        handle = notebook.control("character").locator(".noUi-handle")
        expect(handle).to_have_attribute("aria-valuemax", f"{5 * len(before)}.0")
        notebook.drag("character", 1)
        self.place(notebook, 5 * len(before))
        notebook.until(lambda: self.seen(notebook) != start, "another picture")
        sentence.fill("To be, or not to be")
        self.place(notebook, 19)
        notebook.press("character", "ArrowRight")
        self.place(notebook, 19)
        self.and_back(notebook, sentence, before, start)

    def test_a_sentence_that_the_model_cannot_read_is_refused_by_its_box_and_the_last_picture_stays(self, notebook):
        sentence, error = notebook.control("sentence").locator("input"), notebook.panel.locator(".widget-html .error")
        before, start = sentence.input_value(), self.seen(notebook)
        for wrong, words in (
            ("", "The text is empty"),
            ("Rom\u00e9o", "1 of 5 characters are not ASCII: '\u00e9' (1)"),
        ):
            sentence.fill(wrong)
            expect(error).to_have_text(re.compile(re.escape(words)))
            box, said, picture = (each.bounding_box() for each in (sentence, error, self.picture(notebook)))
            assert box["y"] + box["height"] <= said["y"] < box["y"] + 2 * box["height"] and said["y"] < picture["y"]
            assert self.seen(notebook) == start
        self.and_back(notebook, sentence, before, start)
        expect(error).to_have_count(0)

    def test_pointing_at_a_z_shows_what_the_decoder_says_there(self, notebook):
        field, picture = notebook.panel.locator(".pad-field"), notebook.panel.locator("img.widget-image").first
        box, seen = field.bounding_box(), [picture.evaluate(PIXELS)]

        def another(move):
            move()
            notebook.until(lambda: picture.evaluate(PIXELS) not in seen, "another picture")
            seen.append(picture.evaluate(PIXELS))

        for share in (0.9, 0.1):
            place = {"x": share * box["width"], "y": box["height"] / 2}
            another(lambda place=place: field.click(position=place))
        another(lambda: field.press("ArrowRight"))
        field.press("ArrowLeft")
        notebook.until(lambda: picture.evaluate(PIXELS) == seen[2], "the picture before the key")

    def test_the_picture_follows_in_time(self, notebook):
        self.answers_in_time(notebook, "character")


class TestChapter4(Pictures):
    chapter = "04_training.ipynb"

    def printed(self, cell):
        return cell.locator('[data-mime-type="application/vnd.jupyter.stdout"]').all_inner_texts()

    def reach(self, notebook):
        """How far to the right the KL's curve has come, in pixels."""
        png = base64.b64decode(self.seen(notebook).partition(",")[2])
        distance = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) / 255 - to_rgb(ORANGE)
        return np.flatnonzero((abs(distance) < 0.1).all(2).any(0)).max(initial=0)

    def test_its_picture_grows_and_a_run_that_the_reader_stops_goes_on_without_loss(self, notebook):
        cells = [*map(notebook.cell, ("if len(records) <", "gapless =", "check = min"))]
        run = cells[0]
        whole, picture, reach = list(map(self.printed, cells)), self.seen(notebook), self.reach(notebook)
        notebook.run(notebook.cell("folder = Path(out"))
        notebook.run(run, until=r"\[\*\]")
        notebook.until(lambda: self.reach(notebook) < reach, "a new curve")
        begun = self.reach(notebook)
        notebook.until(lambda: begun < self.reach(notebook) < reach, "a longer curve")
        notebook.page.get_by_role("button", name="Interrupt the kernel").click()
        expect(run.locator(STDERR)).to_contain_text("KeyboardInterrupt")
        # What is asked of a kernel before it has answered for the interrupted cell is thrown away with it.
        expect(run.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]"))
        for cell in cells:
            notebook.run(cell)
        assert list(map(self.printed, cells)) == whole
        notebook.until(lambda: self.seen(notebook) == picture, "the whole run's picture")


class TestChapter5(Chapter):
    chapter = "05_generation.ipynb"
    # the checkpoints that are chosen at first
    columns = tuple(FOLDER / f"checkpoints/text/{name}.safetensors" for name in ("vrnn", "charrnn"))

    def live(self, notebook):
        return notebook.panel.locator(".live-text")

    def texts(self, notebook):
        return self.live(notebook).locator("pre > span").all_text_contents()

    def status(self, notebook):
        return self.live(notebook).locator(".now")

    def button(self, notebook, name):
        return notebook.panel.locator(".widget-button").filter(has_text=name)

    def write_path(self, notebook, path):
        box = notebook.control("path of own checkpoint").locator("input:visible")
        box.fill(str(path))
        box.press("Enter")

    def streams_what_generate_gives(self, notebook):
        """The texts become those that `generate` gives for the values that the controls show."""
        values = dict(
            prime=notebook.control("prime").locator("input").input_value(),
            temperature=notebook.readout("temperature"),
            prior_temperature=notebook.readout("prior's deviation ×"),
            seed=int(notebook.readout("seed")),
        )
        texts = ["".join(generate(load_checkpoint(path), length=600, **values)) for path in self.columns]
        notebook.until(lambda: self.texts(notebook) == texts, f"the texts of {values}")
        expect(self.status(notebook)).to_contain_text("600 characters in")
        return texts

    @pytest.fixture
    def long_stream(self, notebook, tmp_path):
        """A stream of many seconds in the first column: a reader's own model, large and of few letters."""
        torch.manual_seed(0)
        model = VRNN(VRNNCell(hidden_size=1536))
        with torch.no_grad():
            *_, bias = model.cell.emission_net.parameters()
            bias.fill_(-100)
            bias[ord("a") : ord("z") + 1] = 0
        save_checkpoint(tmp_path / "own.safetensors", model)
        chosen = notebook.control("VRNN").locator("select")
        chosen.select_option("own checkpoint")
        self.write_path(notebook, tmp_path / "own.safetensors")
        expect(self.status(notebook)).to_have_text("streaming")
        notebook.until(lambda: re.match("[a-z]", self.texts(notebook)[0]), "its text")
        yield model
        chosen.select_option(index=0)
        self.streams_what_generate_gives(notebook)

    def test_nothing_streams_before_its_reader_asks(self, notebook):
        assert self.texts(notebook) == ["", ""]
        expect(notebook.control("path of own checkpoint").locator("input:visible")).to_have_count(0)
        expect(self.status(notebook)).to_have_text("Press Start, or move a control.")

    def test_start_and_every_control_stream_what_generate_gives(self, notebook):
        self.button(notebook, "Start").click()
        seen = [self.streams_what_generate_gives(notebook)]
        prime, seed = notebook.control("prime").locator("input"), "seed"
        for move in (
            lambda: notebook.press("temperature", "ArrowRight", "ArrowRight"),
            lambda: notebook.drag("temperature", 0.25),
            lambda: notebook.press("prior's deviation ×", "End"),
            lambda: prime.fill("KING:"),
            lambda: notebook.drag(seed, 0.5),
        ):
            move()
            seen.append(self.streams_what_generate_gives(notebook))
        assert notebook.readout("temperature") == pytest.approx(0.5, abs=0.05) and notebook.readout(seed) == 10
        assert all(one[0] != other[0] for one, other in itertools.pairwise(seen)), "a control that changes nothing"

    def test_text_starts_in_time(self, notebook):
        times = []
        for key in ("ArrowRight", "ArrowLeft") * 3:
            times.append((notebook.seconds_to_answer("seed", key, self.live(notebook)), crowding()))
            self.streams_what_generate_gives(notebook)  # so that the next change is the next stream's
        assert in_time(times), times

    def test_a_move_restarts_what_streams_and_no_text_mixes(self, notebook, long_stream):
        old = self.texts(notebook)[0]
        self.live(notebook).evaluate(FRAMES)
        notebook.press("seed", "ArrowRight")
        new = "".join(generate(long_stream, notebook.control("prime").locator("input").input_value(),
                               notebook.readout("temperature"), notebook.readout("prior's deviation ×"), 60,
                               int(notebook.readout("seed"))))  # fmt: skip
        assert new[:20] != old[:20]
        notebook.until(lambda: self.texts(notebook)[0].startswith(new), "the new stream")
        frames = notebook.page.evaluate("() => window.frames_seen")
        times, texts = zip(*frames)
        restart = next(i for i, text in enumerate(texts) if not text.startswith(old))
        for part in (texts[:restart], texts[restart:]):
            assert all(after.startswith(before) for before, after in itertools.pairwise(part)), "text that flickers"
        assert all((new + "z" * 600).startswith(text[:60]) for text in texts[restart:])
        assert times[-1] - times[restart] > 45 * (len(times) - 1 - restart), "more than about 20 frames a second"

    def test_stop_stops_and_the_text_so_far_stays(self, notebook, long_stream):
        self.button(notebook, "Stop").click()
        expect(self.status(notebook)).to_have_text("stopped")
        stopped = self.texts(notebook)
        assert 0 < len(stopped[0]) < 600
        notebook.run(notebook.cell('exercises.check("5.1"'))
        assert self.texts(notebook) == stopped
        expect(self.button(notebook, "Start")).to_be_visible()

    def test_the_kernel_runs_other_cells_while_text_streams(self, notebook, long_stream):
        notebook.run(notebook.cell('exercises.check("5.1"'))
        expect(self.status(notebook)).to_have_text("streaming", timeout=1)

    def test_a_prime_is_respelt_and_its_text_marked_where_it_differs(self, notebook):
        prime, live = notebook.control("prime").locator("input"), self.live(notebook)
        before = prime.input_value()
        prime.fill("Roméo:")
        expect(live.locator("pre > b").first).to_have_text("Romeo:")
        notebook.until(lambda: [len(text) for text in self.texts(notebook)] == [600, 600], "all of it")
        expect(live.locator("pre mark").first).to_be_visible()
        for note in live.locator(".note").all():
            expect(note).to_have_text(re.compile(r"known words \d+% · entropy \d\.\d\d nats per character"))
        prime.fill(before)
        self.streams_what_generate_gives(notebook)

    def test_an_error_appears_in_its_column_and_goes_with_the_next_move(self, notebook):
        errors = self.live(notebook).locator(".error")
        notebook.control("CharRNN").locator("select").select_option("own checkpoint")
        self.write_path(notebook, "nowhere")
        expect(errors).to_have_count(1)
        expect(errors).to_contain_text("There is no checkpoint")
        notebook.control("CharRNN").locator("select").select_option(index=0)
        self.streams_what_generate_gives(notebook)
        expect(errors).to_have_count(0)

    def test_zz_at_a_readers_pace_it_takes_its_time_and_a_busy_or_a_new_kernel_is_told(self, notebook):
        """The last of its class: it takes the kernel away."""
        live, pace = self.live(notebook), notebook.control("pace").locator("select")
        pace.select_option("slowly")
        notebook.press("seed", "ArrowRight")
        notebook.until(lambda: 5 < len(self.texts(notebook)[0]) < 50, "a text that one can follow")
        notebook.page.wait_for_timeout(1000)
        assert len(self.texts(notebook)[0]) < 100
        self.button(notebook, "Stop").click()
        expect(self.status(notebook)).to_have_text("stopped")
        expect(live.locator(".busy")).not_to_be_visible()
        notebook.run(notebook.cell("counted = np.array("), until=r"\[\*\]")
        expect(live.locator(".busy")).to_be_visible()
        notebook.menu("Kernel", "Restart Kernel…")
        notebook.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        expect(live.locator(".gone")).to_be_visible()
        expect(self.status(notebook)).not_to_be_visible()


class TestChapter6(Chapter):
    chapter = "06_is_the_latent_alive.ipynb"

    def test_at_zero_the_walk_is_what_generate_gives_and_pad_and_sliders_lead_away_and_back(self, notebook):
        model = load_checkpoint(FOLDER / "checkpoints/latent/k4-vrnn-seed-0.safetensors")
        at_zero = "".join(generate(model, decode(shakespeare().test)[:600], 0.5, length=400, seed=0))
        text, said = notebook.panel.locator(".live-text pre > span"), notebook.panel.locator(".live-text .softmaxes")
        before = said.inner_html()
        x, y = "first direction", "second direction"
        notebook.panel.locator(".widget-button").filter(has_text="Start").click()
        notebook.until(lambda: text.text_content() == at_zero, "what generate gives")

        def led_away():
            notebook.until(lambda: said.inner_html() != before, "other softmaxes")
            notebook.until(lambda: text.text_content() not in (at_zero, ""), "another text")

        def led_back():
            notebook.until(lambda: said.inner_html() == before, "the first softmaxes")
            notebook.until(lambda: text.text_content() == at_zero, "what generate gives")

        notebook.press(x, *["PageUp"] * 3)
        led_away()
        notebook.press(x, *["PageDown"] * 3)
        led_back()
        field = notebook.panel.locator(".pad-field")
        box = field.bounding_box()
        field.click(position={"x": 0.8 * box["width"], "y": 0.2 * box["height"]})
        notebook.until(lambda: notebook.readout(x) and notebook.readout(y) > 0, "the point's place")
        led_away()


class TestChapter7(Pictures):
    chapter = "07_the_pen.ipynb"

    def drawn(self, notebook, label):
        """The page of drawings below a control."""
        named = notebook.page.locator(".widget-label").get_by_text(label, exact=True)
        widget = notebook.panel.locator(".jp-OutputArea-output").filter(has=named)
        return widget.locator(".widget-html-content").filter(has=notebook.page.locator("svg"))

    def strokes(self, page):
        """Of each path its colour and its points."""
        return page.locator("path").evaluate_all("all => all.map(e => [e.getAttribute('stroke'), e.getAttribute('d')])")

    def changed_and_back(self, notebook, page, there, back):
        before = self.strokes(page)
        assert before
        there()
        notebook.until(lambda: self.strokes(page) != before, "other drawings")
        back()
        notebook.until(lambda: self.strokes(page) == before, "the first drawings again")

    def test_where_the_pen_may_go_follows_the_strokes(self, notebook):
        self.pressed_there_and_back(notebook, "strokes so far", "ArrowLeft", "ArrowRight")
        self.pressed_there_and_back(notebook, "held-out drawing", "ArrowLeft", "ArrowRight")

    def test_invented_characters_follow_every_control(self, notebook):
        page = self.drawn(notebook, "temperature")
        for label in ("temperature", "seed"):
            press = partial(notebook.press, label)
            self.changed_and_back(notebook, page, partial(press, "ArrowRight"), partial(press, "ArrowLeft"))
        model = notebook.control("model").locator("select")
        first = model.input_value()
        self.changed_and_back(
            notebook, page, lambda: model.select_option("VRNN, one Gaussian"), lambda: model.select_option(first)
        )

    def test_strokes_come_in_at_a_pens_pace_in_their_order(self, notebook):
        page, pace = self.drawn(notebook, "temperature"), notebook.control("strokes").locator("select")
        pace.select_option("by a pen")
        lines = page.locator("path.timed")
        notebook.until(lambda: lines.count() > 40, "a line for each stroke")
        delays = lines.evaluate_all("all => all.map(e => parseFloat(getComputedStyle(e).animationDelay))")
        assert delays.count(0) == 40, "the first stroke of each character does not begin at once"
        hidden = "all => all.filter(e => getComputedStyle(e).visibility === 'hidden').length"
        notebook.until(lambda: 0 < lines.evaluate_all(hidden) < lines.count(), "strokes that are still to come")
        notebook.until(lambda: lines.evaluate_all(hidden) == 0, "all of them")
        pace.select_option("at once")
        notebook.until(lambda: lines.count() == 0, "all at once")

    def test_forty_characters_are_drawn_anew_in_time(self, notebook):
        keys = ("ArrowLeft", "ArrowRight") * 4
        page = self.drawn(notebook, "temperature")
        times = [(notebook.seconds_to_answer("temperature", key, page), crowding()) for key in keys]
        assert in_time(times), times

    def test_a_reader_begins_a_character_and_the_model_ends_it(self, notebook):
        page, sheet = self.drawn(notebook, "their seed"), notebook.panel.locator(".canvas-field")
        before = self.strokes(page)
        expect(page).to_contain_text("The sheet is empty")
        for number, ends in enumerate((((0.2, 0.3), (0.8, 0.3)), ((0.5, 0.3), (0.5, 0.8))), 1):
            notebook.stroke(sheet, *ends)
            expect(page).to_contain_text("your drawing")
            (ink, given), (orange, _) = self.until_given(notebook, page, 8 * number)
            assert given.count("M") == 8 * number and ink != orange
        notebook.panel.get_by_role("button", name="Clear").click()
        notebook.until(lambda: self.strokes(page) == before, "the held-out character again")

    def until_given(self, notebook, page, count):
        notebook.until(lambda: self.strokes(page)[0][1].count("M") == count, f"{count} given strokes")
        return self.strokes(page)

    def test_each_place_of_the_pad_is_another_character(self, notebook):
        field = notebook.panel.locator(".pad-field")
        page = notebook.panel.locator(".widget-html-content").filter(has_text=re.compile("moved by"))
        seen, box = [self.strokes(page)], field.bounding_box()
        for x, y in ((0.2, 0.2), (0.8, 0.7)):
            field.click(position={"x": x * box["width"], "y": y * box["height"]})
            notebook.until(lambda: self.strokes(page) not in seen, "another character")
            seen.append(self.strokes(page))
        given = [strokes[0] for strokes in seen]
        assert given[0] == given[1] == given[2], "what was given has changed"
        field.press("ArrowLeft")
        notebook.until(lambda: "moved by +1" in page.inner_text(), "the place's name")


class TestChapter8(Chapter):
    chapter = "08_bach.ipynb"

    def widget(self, notebook, label):
        """The controls and the player of which one control has this label."""
        named = notebook.page.locator(".widget-label").get_by_text(label, exact=True)
        return notebook.panel.locator(".jp-OutputArea-output").filter(has=named)

    def roll(self, widget):
        """How the roll looks."""
        image = widget.locator("img[alt^='piano roll']")
        widget.page.wait_for_function("image => image.complete", arg=image.element_handle())
        return image.evaluate(PIXELS)

    def changed_and_back(self, notebook, widget, there, back):
        before = self.roll(widget)
        there()
        notebook.until(lambda: self.roll(widget) != before, "another piece")
        back()
        notebook.until(lambda: self.roll(widget) == before, "the first piece again")

    def test_which_was_which_is_told_when_it_is_asked(self, notebook):
        button = notebook.page.get_by_role("button", name="Which was which?")
        widget = notebook.panel.locator(".jp-OutputArea-output").filter(has=button)
        assert widget.locator("img").count() == 3 and widget.locator("b").count() == 0
        button.click()
        expect(widget.locator("b")).to_have_count(3)
        assert sorted(widget.locator("b").all_inner_texts()) == ["Bach", "RNN", "VRNN"]

    @pytest.mark.parametrize("label", ["temperature", "its temperature", "quarters given", "part of the way"])
    def test_a_piece_follows_its_sliders(self, notebook, label):
        press, widget = partial(notebook.press, label), self.widget(notebook, label)
        self.changed_and_back(notebook, widget, partial(press, *["PageUp"] * 3), partial(press, *["PageDown"] * 3))

    def test_a_piece_sounds_when_it_is_asked_and_the_next_one_at_once(self, notebook):
        widget = self.widget(notebook, "temperature")
        play = widget.get_by_role("button", name="Play")
        play.click()
        stop = widget.get_by_role("button", name="Stop")
        self.changed_and_back(
            notebook,
            widget,
            partial(notebook.press, "seed", "ArrowRight"),
            partial(notebook.press, "seed", "ArrowLeft"),
        )
        expect(stop).to_be_visible()
        stop.click()
        expect(play).to_be_visible()

    def test_a_reader_draws_a_melody_or_writes_it_and_what_cannot_be_sung_is_refused(self, notebook):
        widget = self.widget(notebook, "harmonise by")
        sheet, error = widget.locator(".canvas-field"), widget.locator(".error")
        self.changed_and_back(
            notebook,
            widget,
            lambda: notebook.stroke(sheet, (0.1, 0.6), (0.9, 0.3)),
            widget.get_by_role("button", name="Clear").click,
        )
        before, box = self.roll(widget), notebook.control("notes").locator("input")
        written = box.input_value()
        box.fill("G4 A4 C9")
        expect(error).to_have_text(re.compile("The soprano has the note 120 in frame 2"))
        assert self.roll(widget) == before
        box.fill("G4 A4 B4")
        expect(error).to_have_count(0)
        notebook.until(lambda: self.roll(widget) != before, "the written melody")
        box.fill(written)
        notebook.until(lambda: self.roll(widget) == before, "the first melody again")


class TestChapter9(Pictures):
    chapter = "09_your_own_sequences.ipynb"

    @pytest.mark.parametrize("label", ["row of the test part", "temperature"])
    def test_the_fan_follows_its_sliders(self, notebook, label):
        self.pressed_there_and_back(notebook, label, "PageUp", "PageDown")

    @pytest.mark.parametrize("model", ["RNN", "naive", "linear, 52"])
    def test_the_fan_is_of_the_model_that_is_chosen(self, notebook, model):
        choose = notebook.control("model").locator("select").select_option
        self.moved_there_and_back(notebook, partial(choose, model), partial(choose, "VRNN"))


#: Renders a surface in an empty page, on a model that does as anywidget's: `set` tells who listens, and `save_changes`
#: the kernel.
RENDER = """async ([source, traits, picture]) => {
    const {default: {render}} = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
    const listeners = {}, told = name => listeners[name] ?? [];
    traits.picture = new DataView(Uint8Array.from(picture).buffer);
    window.saved = [];
    window.model = {
        get: name => traits[name],
        set: (name, value) => { traits[name] = value; told(`change:${name}`).forEach(listener => listener()); },
        save_changes: () => saved.push(structuredClone(traits.value)),
        on: (name, listener) => { listeners[name] = [...told(name), listener]; },
        off: (name, listener) => { listeners[name] = told(name).filter(each => each !== listener); },
    };
    const leave = render({model, el: document.body});
    window.left_listening = () => { leave(); return Object.values(listeners).flat().length; };
}"""


class Surface:
    """A canvas or a pad in the page, its field, and the hand on it. All places are in shares of the field."""

    def __init__(self, page, widget):
        state = widget.get_state()
        traits = {name: value for name, value in state.items() if name[0] != "_" and name not in ("layout", "picture")}
        page.evaluate(RENDER, [state["_esm"], traits, list(state["picture"])])
        page.wait_for_function("() => [...document.images].every(image => image.complete)")
        self.page, self.field = page, page.get_by_role("application", name=widget.description)
        self.box = self.field.bounding_box()

    def place(self, x, y):
        return self.box["x"] + x * self.box["width"], self.box["y"] + y * self.box["height"]

    def drag(self, start, *further, button="left"):
        self.page.mouse.move(*self.place(*start))
        self.page.mouse.down(button=button)
        for point in further:
            self.page.mouse.move(*self.place(*point))
        self.page.mouse.up(button=button)

    def saved(self):
        """The last value that the kernel was sent, to tenths."""
        return self.page.evaluate("() => saved.at(-1)?.map(stroke => stroke.map(p => p.map(n => +n.toFixed(1))))")

    def ink(self):
        """Where the field is dark: (height, width)."""
        png = self.field.screenshot()
        return np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 128


class TestSurfaces:
    """What canvas.js makes of pointers and keys, without a notebook."""

    @pytest.fixture(params=["https", "http"])
    def show(self, desk, request):
        """An empty page; one that comes over a plain line is denied what browsers hold for a privilege."""
        page, errors, _ = desk
        page.route("**/empty", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
        page.goto(f"{request.param}://vrnn.test/empty")
        yield partial(Surface, page)
        assert (page.evaluate("left_listening()"), errors) == (0, [])

    def test_a_sheet_gives_stroke_after_stroke_and_shows_them_where_they_were_drawn(self, show):
        sheet = show(widgets.Canvas("digit", 160))
        assert (sheet.box["width"], sheet.box["height"]) == (160, 160)
        sheet.drag((0.2, 0.3), (0.5, 0.3), (0.8, 0.3))
        assert sheet.saved() == [[[0.2, 0.3], [0.5, 0.3], [0.8, 0.3]]]
        rows, columns = (sheet.ink().any(axis).nonzero()[0] / 160 for axis in (1, 0))
        assert (rows[0], rows[-1]) == pytest.approx((0.27, 0.33), abs=0.015)
        assert (columns[0], columns[-1]) == pytest.approx((0.17, 0.83), abs=0.015)
        line = sheet.ink().sum()
        sheet.drag((0.6, 0.7))
        assert sheet.saved() == [[[0.2, 0.3], [0.5, 0.3], [0.8, 0.3]], [[0.6, 0.7]]]
        assert sheet.ink().sum() > line, "a dot is not shown"
        sheet.page.get_by_role("button", name="Clear").click()
        assert sheet.saved() == [] and not sheet.ink().any()

    def test_a_stroke_has_the_points_between_two_frames_and_ends_at_the_sheets_edge(self, show):
        sheet = show(widgets.Canvas("digit", 160))
        (x, y), (end, _) = sheet.place(0.4, 0.5), sheet.place(0.6, 0.5)
        sheet.page.mouse.move(*sheet.place(0.2, 0.5))
        sheet.page.mouse.down()
        sheet.field.evaluate(
            """(field, [x, y, end]) => field.dispatchEvent(new PointerEvent("pointermove", {
                pointerId: 1, clientX: end, clientY: y, coalescedEvents: [x, end].map(clientX =>
                    new PointerEvent("pointermove", {pointerId: 1, clientX, clientY: y}))}))""",
            [x, y, end],
        )
        sheet.page.mouse.move(*sheet.place(1.3, -0.2))
        sheet.page.mouse.up()
        told = sheet.page.evaluate("isSecureContext") * [[0.4, 0.5]]
        assert sheet.saved() == [[[0.2, 0.5], *told, [0.6, 0.5], [1, 0]]]

    def test_only_the_pointer_that_began_draws_and_only_while_it_is_down(self, show):
        sheet = show(widgets.Canvas("digit", 160))
        sheet.drag((0.2, 0.5), (0.4, 0.5), button="right")
        assert sheet.saved() is None
        sheet.page.mouse.move(*sheet.place(0.2, 0.5))
        sheet.page.mouse.down()
        for event in ("pointerdown", "pointermove", "pointerup"):  # of a second finger
            where = {"pointerId": 7, "clientX": sheet.box["x"], "clientY": sheet.box["y"]}
            sheet.field.evaluate(
                "(field, [name, how]) => field.dispatchEvent(new PointerEvent(name, how))", [event, where]
            )
        sheet.page.mouse.move(*sheet.place(0.4, 0.5))
        sheet.page.mouse.up()
        sheet.page.mouse.move(*sheet.place(0.9, 0.9))
        assert sheet.saved() == [[[0.2, 0.5], [0.4, 0.5]]]

    def test_a_pad_gives_the_point_under_the_pointer_and_marks_it(self, show):
        figure = Figure(figsize=(4, 2), dpi=50)
        figure.add_axes((0.25, 0.2, 0.5, 0.6), xlim=(-3, 3), ylim=(10, 20))
        pad = show(widgets.pad(figure, (1.5, 12.5), "plane"))

        def value():
            return pad.page.evaluate("saved.at(-1)")

        def mark():
            box = pad.page.locator(".pad-mark").bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        assert (pad.box["width"], pad.box["height"]) == pytest.approx((100, 60), abs=0.1)
        assert mark() == pytest.approx(pad.place(0.75, 0.75), abs=0.6)
        pad.drag((0.2, 0.9), (0.25, 0.1))
        assert value() == pytest.approx([-1.5, 19], abs=0.1)
        assert mark() == pytest.approx(pad.place(0.25, 0.1), abs=0.6)
        pad.page.evaluate("model.set('value', [0, 15])")
        assert mark() == pytest.approx(pad.place(0.5, 0.5), abs=0.6)
        for key, point in (("Right", [0.12, 15]), ("Up", [0.12, 15.2]), ("Left", [0, 15.2]), ("Down", [0, 15])):
            pad.field.press(f"Arrow{key}")
            assert value() == pytest.approx(point)


@pytest.mark.parametrize("classes, kernel, running, told", [
    ("", "idle", False, "now"), ("", "idle", True, "now"), ("", "busy", True, "now"), ("", "busy", False, "now busy"),
    ("jupyter-widgets-disconnected", "busy", False, "gone"), ("jupyter-widgets-disconnected", "idle", True, "gone"),
])  # fmt: skip
def test_beside_a_live_text_stands_what_becomes_of_it(desk, classes, kernel, running, told):
    page, *_ = desk
    page.goto("about:blank")
    live = widgets.LiveText(lambda: map(widgets.Written, itertools.accumulate(itertools.repeat("x"))))
    live.pace.label = "slowly"
    if running:
        live.start()
        while "streaming" not in live.status.value:
            page.wait_for_timeout(20)
    page.set_content(f"""<div class="jp-NotebookPanel">
        <div class="jp-Notebook-ExecutionIndicator" data-status="{kernel}"></div>
        <div class="{" ".join(live._dom_classes)} {classes}">{live.status.value}</div></div>""")
    live.stop()
    assert " ".join(page.locator("small span:visible").evaluate_all("all => all.map(e => e.classList[0])")) == told


def test_the_readmes_animation_moves_loads_quickly_and_is_soon_over():
    path = ROOT / "figures" / "slider.gif"
    with Image.open(path) as animation:
        frames = [(frame.info["duration"], frame.convert("L").tobytes()) for frame in ImageSequence.Iterator(animation)]
    durations, pictures = zip(*frames)
    assert len(set(pictures)) > 20 and sum(durations) < 12_000 and path.stat().st_size < 1_500_000


# ---------------------------------------------------------------------------------------------------------------------
# Where there is no browser


@pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("", "skipped")])
def test_a_missing_browser_skips_these_tests_but_fails_continuous_integration(tmp_path, ci, outcome):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "TestChapter1 and opened"]
    environment = os.environ | {"PATH": str(tmp_path), "CI": ci}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert re.search(rf"^=+ .*1 (error|{outcome})", ran.stdout, re.MULTILINE), ran.stdout
    assert (ran.returncode == 0) == (outcome == "skipped")


@pytest.fixture
def machine(tmp_path):
    """Runs .ci/run where these commands are and no others: its status, its calls of them, and what it complained of."""
    (tmp_path / "project" / ".ci").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / "project" / ".ci/run")
    for name in ("bash", "dirname"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))

    def run(*commands, **environment):
        for name in commands:
            script = tmp_path / "bin" / name
            script.write_text(f'#!/bin/sh\necho "{name} $*" ${{CI:+"[CI=$CI]"}}\n')
            script.chmod(0o755)
        environment |= {"PATH": str(tmp_path / "bin")}
        run = [shutil.which("bash"), tmp_path / "project" / ".ci/run"]
        ran = subprocess.run(run, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return ran.returncode, ran.stdout.splitlines(), ran.stderr

    return run


def test_ci_run_brings_a_browser_if_there_is_none_and_allows_no_skip(machine):
    status, calls, _ = machine("make", "apt-get", "sudo")
    sudo = "" if os.geteuid() == 0 else "sudo "
    assert (status, calls[-1]) == (0, "make test [CI=true]")
    assert [call.removesuffix(" [CI=true]") for call in calls[:-1]] == [
        f"{sudo}apt-get update",
        f"{sudo}apt-get install --yes --no-install-recommends chromium",
    ]


def test_ci_run_installs_nothing_where_a_browser_is(machine):
    assert machine("make", "apt-get", "chromium", CI="true")[:2] == (0, ["make test [CI=true]"])


def test_ci_run_says_what_is_missing_where_it_cannot_install(machine):
    status, calls, error = machine("make")
    assert (status, calls) == (1, []) and "there is no chromium, nor apt-get" in error
