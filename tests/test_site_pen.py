"""The page of characters in a headless Chromium: a pen's steps against PyTorch's, and what a reader draws and sees."""

import functools
import itertools
import re

import numpy as np
import pytest
import site_pages
import torch
from browser import crowding
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
from vrnn_tutorial.corpora.kanji import CREDIT, kanji
from vrnn_tutorial.drawing import is_inside, to_grid, to_steps, to_strokes, write_path
from vrnn_tutorial.emissions import Pen, Scaled
from vrnn_tutorial.emissions.codes import draw_code
from vrnn_tutorial.pen import MOST, _opened

PEN = ROOT / "data" / "checkpoints" / "pen"
NAMES = ["position-rnn", "mixture-rnn", "gauss-rnn", "gauss-vrnn"]
#: Of a character, points up to which two roundings lead to the same place: a step reads where the last one went.
CHAOS = 40
#: The first strokes of held-out drawings that the page has: which drawing, and how many.
BEGINNINGS = {3: 3, 100: 3, 40: 2}


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
    served.page.goto(f"{served.address}site/pen.html")
    return served.page


def walked(model, begun, temperature, deviation, length, normals, uniform, ends=False):
    """What Python's own `draw` draws: steps, z of each, h behind them, noises, uniforms, and how near each came.

    normals, uniform: draw noise of a size, and a uniform, in the page's order. ends: whether a character's end is one.
    """

    def noise():
        noises.append(normals(model.latent_size))
        return doubles([noises[-1]])

    noises, uniforms, steps, z, near = [], [], [], [], []
    with torch.no_grad():
        state = model.zero_state(torch.empty(1, 0).double())
        for x in begun.double():
            of_z = [deviation * noise()[None]] if isinstance(model, VRNN) else []
            state = model(x.view(1, 1, 5), state, *of_z).state
        while len(steps) < length and not (ends and steps and steps[-1][4]):
            of_z = noise()
            pen = model.draw(state, temperature, deviation, noise=of_z).emission.standard
            component = uniform(pen.logits[0])
            chosen = draw_code(pen.logits, temperature, None, doubles([component]))
            of_offset, state_logits = normals(2), pen.pen[0, min(chosen.item(), pen.pen.shape[1] - 1)]
            uniforms.append({"component": component, "normals": of_offset, "state": uniform(state_logits)})
            near.append(min(nearness(pen.logits[0], temperature, component),
                            nearness(state_logits, temperature, uniforms[-1]["state"])))  # fmt: skip
            four = [component, *torch.special.ndtr(doubles(of_offset)).tolist(), uniforms[-1]["state"]]
            drawn = model.draw(state, temperature, deviation, noise=of_z, uniforms=doubles([four]))
            steps.append(drawn.x[0].tolist())
            z.append([] if drawn.z is None else drawn.z[0].tolist())
            state = model.advance(drawn.x, drawn.z, state)
        return steps, z, model.hidden(state)[0].tolist(), noises, uniforms, near


def check_given(script, path, begun, temperature, deviation, model, length=40):
    """That the script draws what Python does, for the same noise and uniforms, none of them near a bound."""
    generator = torch.Generator().manual_seed(0)

    def normals(size):
        return torch.randn(size, generator=generator).double().tolist()

    def uniform(logits):
        draws = (torch.rand((), generator=generator).item() for _ in itertools.count())
        return next(u for u in draws if temperature == 0 or nearness(logits, temperature, u) > NEAR)

    steps, z, hidden, noises, uniforms, near = walked(model, begun, temperature, deviation, length, normals, uniform)
    assert min(near) > NEAR
    found = script.evaluate(STEPS, [path, begun.tolist(), temperature, deviation, noises, uniforms])
    for numbers, expected in (found["x"], steps), (found["z"], z), (found["hidden"], hidden):
        torch.testing.assert_close(doubles(numbers), doubles(expected), **tight)
    return doubles(steps)


SETTINGS = list(itertools.product([0.0, 0.7, 1.0], [0.0, 1.0]))
TWO_STROKES = to_steps([[(10, 20), (30, 25), (32, 60)], [(50, 50)], [(20, 90), (80, 88)]])[:4]


@pytest.mark.parametrize("options", [(1, False, False), (3, False, True), (4, True, True)], ids=str)
@pytest.mark.parametrize("make", [vrnn, char_rnn])
def test_for_given_noise_and_uniforms_the_steps_are_pythons(script, served, make, options):
    emission = Scaled(Pen(*options), [0.5, -1.0, 0.0, 0.0, 0.0], [20.0, 10.0, 1.0, 1.0, 1.0])
    save_checkpoint(served.folder / "small.safetensors", make(input_size=5, depth=2, emission=emission).float())
    model = load_checkpoint(served.folder / "small.safetensors").double()
    ended = 0
    for temperature, deviation in SETTINGS:
        steps = check_given(script, "/small.safetensors", TWO_STROKES, temperature, deviation, model)
        ended += (steps[:, 4] > 0.9).sum()
    assert ended, "no position was taken back to the origin"


@pytest.mark.parametrize("name", NAMES)
def test_so_are_those_of_the_committed_models(script, name):
    path = PEN / f"{name}.safetensors"
    for temperature, deviation in SETTINGS:
        where = f"/{path.relative_to(ROOT)}"
        check_given(script, where, TWO_STROKES, temperature, deviation, load_checkpoint(path).double())


def test_log_deviations_are_bounded(script, served):
    model = char_rnn(input_size=5, emission=Scaled(Pen(1), 0.0, 1.0)).float()
    with torch.no_grad():
        model.emission_net[-1].weight[3:5] = 0
        model.emission_net[-1].bias[3:5] = torch.tensor([-9.0, 11.0])
    save_checkpoint(served.folder / "bounded.safetensors", model)
    double = load_checkpoint(served.folder / "bounded.safetensors").double()
    steps = check_given(script, "/bounded.safetensors", TWO_STROKES, 1.0, 1.0, double)
    assert steps[:, 1].abs().max() > 1e4


def lines(seed):
    """Lines as a hand draws them, in shares of a sheet: many points, some of them twice, some at the very middle."""
    random = np.random.default_rng(seed)
    strokes = [random.normal(size=(count, 2)).cumsum(0) * 0.05 + 0.5 for count in (40, 1, 2, 7)]
    strokes.append(np.repeat(strokes[0][:5], 2, axis=0))
    return [(stroke.clip(0, 1) * 109).tolist() for stroke in strokes]


def test_what_is_drawn_becomes_a_pens_steps_as_in_python(script):
    for strokes in [*map(lines, range(5)), [[(54.5, 1.5), (2.5, 0.5), (3.5, 3.5)]], [[(5, 5)]]]:
        found = script.evaluate(
            """async strokes => {
                const { isInside, readPath, toGrid, toSteps, toStrokes, writePath } = await import("/site/drawing.js");
                const grid = toGrid(strokes), steps = toSteps(grid), path = writePath(toStrokes(steps));
                return [grid, steps, path, writePath(readPath(path)), isInside(grid)];
            }""",
            strokes,
        )
        grid = to_grid(strokes)
        steps = _opened(to_steps(grid))
        path = write_path(to_strokes(steps))
        assert found == [[stroke.tolist() for stroke in grid], steps.tolist(), path, path, is_inside(grid)]
    assert script.evaluate('async () => (await import("/site/drawing.js")).isInside([[[0, 109.5]]])') is False


@functools.cache
def model_of(name):
    return load_checkpoint(PEN / f"{name}.safetensors").double()


@functools.cache
def pages_own(name, begun, temperature, deviation, seed):
    """A character that the page draws, by Python, out of the page's numbers: its path; None where one comes too near.

    begun: the path of the strokes with which it begins.
    """
    mulberry = [seed]
    normals, uniform = functools.partial(normals_of, mulberry), lambda _: uniform_of(mulberry)
    given = torch.zeros(0, 5) if not begun else _opened(to_steps(strokes_of(begun)))
    most = MOST - len(given)
    steps, *_, near = walked(model_of(name), given, temperature, deviation, most, normals, uniform, ends=True)
    if min(near) <= NEAR:
        return None
    return to_strokes(torch.cat([given.double(), doubles(steps)]))


def strokes_of(path):
    return [np.array([pair.split(",") for pair in stroke.split(" ")], float) for stroke in path.split("M")[1:]]


def points_of(strokes):
    """Their points, each with whether a stroke begins there; a dot, which is a line of no length, is one of them."""
    strokes = [stroke[:1] if (stroke[0] == stroke[-1]).all() else stroke for stroke in strokes]
    return np.array([[x, y, i == 0] for stroke in strokes for i, (x, y) in enumerate(stroke)])


def drawn(page, name):
    """The characters of a sheet, once they are drawn: of each the paths that were given and those that were drawn."""
    box = page.locator(f"#{name}")
    expect(box).to_have_attribute("aria-busy", "false")
    return box.evaluate(
        "box => [...box.children].map(svg => [...svg.children].map(path => path.getAttribute('d') ?? ''))"
    )


def check_drawn(page, name, begun="", model="position-rnn", temperature=0.4, deviation=1.0, seed=0, count=8):
    """That the first characters of a sheet are Python's."""
    told = 0
    for i, (given, rest) in enumerate(drawn(page, name)[:count]):
        assert given == begun
        expected = pages_own(model, begun, temperature, deviation, 1000 * seed + i)
        if expected is None:
            continue
        told += 1
        found, expected = (points_of(strokes)[:CHAOS] for strokes in (strokes_of(given + rest), expected))
        np.testing.assert_allclose(found, expected, atol=0.00501)  # the page rounds to two decimals
    assert told >= count // 2, "too many came too near for the rest to tell anything"


def beginning(drawing):
    return write_path(to_strokes(kanji().test[drawing])[: BEGINNINGS[drawing]])


def test_opened_it_invents_characters_and_ends_one_as_python_does(page):
    check_drawn(page, "invented")
    check_drawn(page, "endings", beginning(3))
    assert [len(drawn(page, name)) for name in ("invented", "endings")] == [40, 8]


@pytest.mark.parametrize("name", NAMES[1:])
def test_so_do_the_other_models(page, name):
    page.get_by_label("Model").select_option(value=f"../data/checkpoints/pen/{name}.safetensors")
    check_drawn(page, "invented", model=name, count=4)
    check_drawn(page, "endings", beginning(3), model=name, count=4)
    expect(page.get_by_role("slider", name="deviation")).to_be_enabled(enabled=name == "gauss-vrnn")


def test_the_keyboard_comes_to_each_control_and_moves_it(page):
    reached, model = [], "gauss-vrnn"
    page.get_by_label("Model").select_option(value=f"../data/checkpoints/pen/{model}.safetensors")
    drawn(page, "invented")
    page.locator("#model").focus()
    for moves in ["ArrowRight"] * 4, ["Home"], ["ArrowRight"], ["Enter"], [], ["Space"], []:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        for move in moves:
            page.keyboard.press(move)
        drawn(page, "endings")
    assert reached == ["temperature", "deviation", "seed", "Clear", "drawing 3", "drawing 100", "drawing 40"]
    assert page.locator("output").all_inner_texts() == ["0.6", "0", "1"]
    check_drawn(page, "endings", beginning(100), model, 0.6, 0.0, 1)
    check_drawn(page, "invented", "", model, 0.6, 0.0, 1)


def test_a_mouse_draws_on_the_sheet_and_each_stroke_is_gone_on_from(page):
    page.get_by_role("button", name="Clear").click()
    check_drawn(page, "endings")  # of nothing
    box, mouse = page.locator("#sheet").bounding_box(), page.mouse

    def at(x, y):
        return box["x"] + box["width"] * x / 109, box["y"] + box["height"] * y / 109

    for stroke in [(20, 30), (50, 31), (20, 80)], [(60, 20), (62, 300)]:
        mouse.move(*at(*stroke[0]))
        mouse.down()
        for point in stroke[1:]:
            mouse.move(*at(*point), steps=6)
        mouse.up()
    mouse.move(*at(90, 90))  # lifted, it draws nothing
    path = drawn(page, "endings")[0][0]
    first, second = strokes_of(path)
    np.testing.assert_allclose(first, [(20, 30), (50, 31), (20, 80)], atol=1)
    np.testing.assert_allclose(second[[0, -1]], [(60, 20), (62, 109)], atol=1)
    check_drawn(page, "endings", path)
    page.get_by_role("button", name="drawing 40").click()
    check_drawn(page, "endings", beginning(40))
    assert page.locator("#sheet path").get_attribute("d") == beginning(40)


def test_so_does_a_finger(page):
    page.get_by_role("button", name="Clear").click()
    drawn(page, "endings")
    box = page.locator("#sheet").bounding_box()
    touch = page.context.new_cdp_session(page)
    for kind, *down in ("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8), ("touchEnd",):
        points = [{"x": box["x"] + 0.2 * box["width"], "y": box["y"] + y * box["height"]} for y in down]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(page.locator("#sheet path")).not_to_have_attribute("d", "")
    (stroke,) = strokes_of(drawn(page, "endings")[0][0])
    np.testing.assert_allclose(stroke, [(21.8, 21.8), (21.8, 87.2)], atol=1)


def test_the_beginnings_are_held_out_drawings_and_their_credit_stands_below(page):
    buttons = page.get_by_role("button", name="drawing")
    told = {button.inner_text(): button.get_attribute("value") for button in buttons.all()}
    assert told == {f"drawing {i}": beginning(i) for i in BEGINNINGS}
    credit = re.sub(r",? http\S*?(?=[,; ]|/;)/?", "", CREDIT)
    assert credit in " ".join(page.locator("small").inner_text().split())
    for link in re.findall(r"http[^,; ]*", CREDIT):
        assert page.locator(f'small a[href="{link}"]').count() == 1


@pytest.mark.parametrize("temperature", ["0.4", "1.5"])
def test_below_the_characters_stands_how_many_end_and_keep_to_their_square(page, temperature):
    page.get_by_role("slider", name="Temperature").fill(temperature)
    expect(page.locator("output").first).to_have_text(temperature)
    for name in "invented", "endings":
        characters = [strokes_of(given + rest) for given, rest in drawn(page, name)]
        note = page.locator(f"#{name}-note").inner_text()
        ended, count, inside = map(int, re.fullmatch(r"(\d+) of (\d+) come to an end, (\d+) keep to .*", note).groups())
        assert (count, inside) == (len(characters), sum(map(is_inside, characters)))
        assert count - 2 <= ended <= count


def test_a_character_that_never_ends_is_not_counted(page, served):
    model = char_rnn(input_size=5, emission=Scaled(Pen(1), 0.0, [20.0, 20.0, 1.0, 1.0, 1.0])).float()
    with torch.no_grad():
        model.emission_net[-1].bias[-1] = -1e4
    save_checkpoint(served.folder / "endless.safetensors", model)
    drawn(page, "invented")
    page.evaluate("document.getElementById('model').options[1].value = '/endless.safetensors'")
    page.get_by_label("Model").select_option(index=1)
    strokes = strokes_of(drawn(page, "invented")[0][1])
    assert len(points_of(strokes)) == MOST
    expect(page.locator("#invented-note")).to_have_text(re.compile("^0 of 40 come to an end"))


def test_a_move_stops_what_is_being_drawn(page):
    drawn(page, "invented")
    page.evaluate(
        """async () => {
            const slider = document.getElementById("seed"), places = [...document.getElementById("invented").children];
            const move = seed => { slider.value = seed; slider.dispatchEvent(new Event("input", {bubbles: true})); };
            const before = places[0].innerHTML;
            move(1);
            while (places[0].innerHTML === before) await new Promise(requestAnimationFrame);
            move(2);
            window.order = [];
            const note = list => order.push(...list.map(({ target }) => places.indexOf(target.parentElement)));
            new MutationObserver(note).observe(places[0].parentElement, {attributes: true, subtree: true});
        }"""
    )
    check_drawn(page, "invented", seed=2)
    check_drawn(page, "endings", beginning(3), seed=2)
    order = [place for place in page.evaluate("order") if place >= 0]
    assert order == sorted(order) and order[-1] == 39, "an older sheet was drawn beside the new one"


def test_a_model_that_is_not_there_is_told_and_tried_again(served, page):
    where = "../data/checkpoints/pen/gauss-vrnn.safetensors"
    page.route("**/gauss-vrnn.safetensors", lambda route: route.fulfill(status=404))
    page.get_by_label("Model").select_option(value=where)
    for name in "invented", "endings":
        told = f"The model {where} could not be fetched: the server answers 404."
        expect(page.locator(f"#{name}-note")).to_have_text(told)
    assert "404" in served.errors.pop()
    page.unroute("**/gauss-vrnn.safetensors")
    page.get_by_role("slider", name="Seed").press("ArrowRight")
    check_drawn(page, "invented", model="gauss-vrnn", seed=1)


def test_a_browser_that_cannot_run_it_shows_a_picture_and_a_sentence(served):
    check_picture_in_its_place(served, "pen")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_keeps_to_the_width_of_a_phone_and_to_the_readers_colours(page, scheme):
    check_whole(page, scheme, lambda: drawn(page, "invented"))


def test_readme_tells_what_the_page_weighs(served, page):
    drawn(page, "invented")
    check_weights(served, "pen")


def test_a_move_is_followed_within_a_third_of_a_second(page):
    """Within more where programs share a core."""
    drawn(page, "invented")
    page.evaluate(
        """() => {
            const busy = () => document.querySelector("[aria-busy=true]");
            new MutationObserver(() => { if (!busy()) window.took ??= performance.now() - window.moved; })
                .observe(document.body, {attributes: true, subtree: true, attributeFilter: ["aria-busy"]});
            addEventListener("input", () => { window.moved = performance.now(); }, {capture: true});
        }"""
    )
    crowd = crowding()
    page.get_by_role("slider", name="Temperature").press("ArrowRight")
    assert page.wait_for_function("() => window.took").json_value() < 300 * crowd
