"""Tests of vrnn_tutorial/plots/: figures are read back, arrow by arrow, text by text and number by number."""

import inspect
import io
import json
import math
from itertools import combinations, islice

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from PIL import Image

from vrnn_tutorial import VAE, VRNN, VRNNCell, plots, train
from vrnn_tutorial.files import FOLDER
from vrnn_tutorial.generation import sample
from vrnn_tutorial.music import Note
from vrnn_tutorial.schedules import Cosine


class Drawing:
    """A rendered figure: the texts that were really drawn, and their boxes in inches."""

    def __init__(self, figure):
        drawn = []
        with pytest.MonkeyPatch.context() as patch:
            draw = Text.draw
            patch.setattr(Text, "draw", lambda text, renderer: (drawn.append(text), draw(text, renderer)))
            figure.savefig(io.BytesIO(), format="png")
        to_inches = figure.dpi_scale_trans.inverted()
        texts = [text for text in dict.fromkeys(drawn) if text.get_visible() and text.get_text()]
        self.figure, self.texts = figure, {text: text.get_window_extent().transformed(to_inches) for text in texts}


class NetworkDrawing(Drawing):
    """Its axes are in inches too. The key at the foot, below 0.6 inches, is left out."""

    def __init__(self, figure):
        super().__init__(figure)
        patches = self.figure.axes[0].patches
        # What has a text in it is a shape: its first line is its name. The numbers, on top of all, lie across borders.
        self.shapes, self.numbers = {}, {}
        for patch in patches:
            outline = patch.get_path().transformed(patch.get_patch_transform()) if patch.get_fill() else None
            if isinstance(patch, FancyArrowPatch) or outline is None or outline.get_extents().y1 < 0.6:
                continue
            lines = [text for text in self.texts if outline.contains_point(text.get_position())]
            if lines[0].get_text().isdigit():
                self.numbers[lines[0].get_text()] = np.array(lines[0].get_position())
            else:
                lines = [line for line in lines if not line.get_text().isdigit()]
                self.shapes[lines[0].get_text().strip("$")] = (patch, outline, lines)
        self.arrows, self.waves = {}, set()
        for patch in patches:
            if isinstance(patch, FancyArrowPatch):
                line, head = patch.get_path().to_polygons(closed_only=False)
                tip = head[1]
                if tip[1] < 0.6:
                    continue
                name = f"{self.shape_at(line[0], line[0] - line[1])} > {self.shape_at(tip, line[-1] - line[-2])}"
                self.arrows[name] = Outline([*line, tip])
                # A wave leaves its level again and again; any other arrow turns three times at most.
                if np.ptp(line[:, 1]) > 0.1 and (np.diff(np.sign(line[:, 1] - tip[1])) != 0).sum() > 3:
                    self.waves.add(name)

    def shape_at(self, end, direction) -> str:
        """The name of the shape that an arrow's end touches: 0.08 inches on, one is inside it."""
        point = end + 0.08 * np.sign(direction * (abs(direction) > 0.9 * abs(direction).max()))
        (name,) = [name for name, (_, outline, _) in self.shapes.items() if outline.contains_point(point)]
        return name


@pytest.fixture(scope="module", params=["generation", "training"])
def drawing(request):
    drawing = NetworkDrawing(plots.network(request.param))
    drawing.phase = request.param
    return drawing


@pytest.fixture(scope="module")
def vae_drawing():
    return NetworkDrawing(plots.vae_network())


@pytest.fixture(scope="module", params=["generation", "training", "vae"])
def any_drawing(request):
    return NetworkDrawing(plots.vae_network() if request.param == "vae" else plots.network(request.param))


# What the network's drawing says

ARROWS = {
    "generation": {
        *("h_{t-1} > prior net", "prior net > z_t"),
        *("z_t > decoder net", "h_{t-1} > decoder net", "decoder net > x_t"),
        *("x_t > RNN net", "z_t > RNN net", "h_{t-1} > RNN net", "RNN net > h_t"),
    },
    "training": {
        *("x_t > encoder net", "h_{t-1} > encoder net", "encoder net > z_t", "h_{t-1} > prior net"),
        *("z_t > decoder net", "h_{t-1} > decoder net"),
        *("x_t > RNN net", "z_t > RNN net", "h_{t-1} > RNN net", "RNN net > h_t"),
        *("decoder net > loss 1", "x_t > loss 1", "encoder net > loss 2", "prior net > loss 2"),
    },
}


def test_every_arrow_leads_from_shape_to_shape_as_the_design_has_it(drawing):
    assert set(drawing.arrows) == ARROWS[drawing.phase]


def test_only_samples_are_waves_and_z_comes_from_the_encoder_in_training(drawing):
    samples = {"generation": {"prior net > z_t", "decoder net > x_t"}, "training": {"encoder net > z_t"}}
    assert drawing.waves == samples[drawing.phase]


def test_encoder_losses_and_data_belong_to_training_alone(drawing):
    words = " ".join(text.get_text() for text in drawing.texts)
    mentioned = {word for word in ("encoder", "posterior", "loss", "data", "KL", "q(") if word in words}
    assert mentioned == ({"encoder", "posterior", "loss", "data", "KL", "q("} if drawing.phase == "training" else set())
    shade = {name: patch.get_facecolor() for name, (patch, _, _) in drawing.shapes.items() if name.endswith("_t")}
    assert (shade["x_t"] == shade["z_t"]) == (drawing.phase == "generation")


def test_each_net_stands_with_its_term_and_its_distribution(drawing):
    written = {name: [line.get_text() for line in lines[1:]] for name, (_, _, lines) in drawing.shapes.items()}
    plain = {name: [line.replace(r"\,", "") for line in lines] for name, lines in written.items()}
    assert plain["prior net"] == ["prior", "$p(z_t|h_{t-1})$"]
    assert plain["decoder net"] == ["emission", "$p(x_t|z_t,h_{t-1})$"]
    assert plain["RNN net"] == ["recurrence", "$h_t=f(x_t,z_t,h_{t-1})$"]
    if drawing.phase == "training":
        assert plain["encoder net"] == ["posterior", "$q(z_t|x_t,h_{t-1})$"]
        assert plain["loss 1"] == ["reconstruction", r"$-\logp(x_t|z_t,h_{t-1})$"]
        assert plain["loss 2"] == [r"KL(posterior $\|$ prior)"]


def numbered_nets(drawing) -> list[str]:
    """The nets in the order of the number at their upper left corner."""
    corners = {
        name: (box := outline.get_extents()).min * [1, 0] + box.max * [0, 1]
        for name, (_, outline, _) in drawing.shapes.items()
        if name.endswith("net") or name == "prior"
    }
    return [
        min(corners, key=lambda name: np.linalg.norm(corners[name] - drawing.numbers[number]))
        for number in sorted(drawing.numbers)
    ]


def test_the_numbers_of_the_generation_phase_are_the_order_in_which_sample_calls_the_cell(monkeypatch):
    called = []

    def recording(net):
        method = getattr(VRNNCell, net.part)
        return lambda cell, *args: (called.append(net.name), method(cell, *args))[1]

    for net in plots.PHASES["training"]:
        monkeypatch.setattr(VRNNCell, net.part, recording(net))
    # Codes would be drawn by a quicker way, which calls no part of the cell.
    steps = sample(VRNN(VRNNCell(5, 4, 2, emission="gaussian")), seed=0)
    called.clear()  # it has looked at a step, whether its numbers are finite
    list(islice(steps, 2))
    assert numbered_nets(NetworkDrawing(plots.network("generation"))) * 2 == called


def test_the_numbers_of_the_training_phase_follow_the_article():
    assert numbered_nets(NetworkDrawing(plots.network("training"))) == [
        "encoder net",
        "decoder net",
        "prior net",
        "RNN net",
    ]


# The arrows against the code

ARGUMENTS = {"x": "x_t", "z": "z_t", "h": "h_{t-1}", "state": "h_{t-1}"}
SIZES = {"x_t": 3, "z_t": 2, "h_{t-1}": 5, "h_t": 5}


def numbers_of(value) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.cat([value.mean, value.log_std], -1)


def needed(output: torch.Tensor, inputs: dict[str, torch.Tensor]) -> set[str]:
    """The inputs on which an output really depends."""
    gradients = torch.autograd.grad(output.sum(), list(inputs.values()), allow_unused=True, retain_graph=True)
    return {name for name, gradient in zip(inputs, gradients) if gradient is not None and gradient.abs().min() > 0}


@pytest.fixture
def cell():
    torch.manual_seed(0)
    return VRNNCell(SIZES["x_t"], SIZES["h_t"], SIZES["z_t"], emission="gaussian")


@pytest.fixture
def values():
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(4, SIZES[name], generator=generator, requires_grad=True) for name in ARGUMENTS.values()}


@pytest.mark.parametrize("net", plots.PHASES["training"], ids=lambda net: net.part)
def test_a_net_reads_and_gives_what_its_row_says(net, cell, values):
    method = getattr(cell, net.part)
    out = method(*(values[ARGUMENTS[name]] for name in inspect.signature(method).parameters))
    assert needed(numbers_of(out), values) == set(net.inputs)
    result = out if isinstance(out, torch.Tensor) else out.mean
    assert result.shape == (4, SIZES[net.output])


def test_a_training_step_is_wired_as_the_rows_say(cell, values):
    noise, x, h = values["z_t"], values["x_t"], values["h_{t-1}"]
    rows = {net.part: set(net.inputs) for net in plots.PHASES["training"]}
    step = cell(x, h, noise=noise)
    assert needed(numbers_of(step.posterior), values) == rows["posterior"]
    assert needed(numbers_of(step.prior), values) == rows["prior"]
    # With a posterior that says the same of every x and h, z_t is the noise and hides nothing behind it.
    with torch.no_grad():
        for parameter in cell.posterior_net.parameters():
            parameter.zero_()
    step = cell(x, h, noise=noise)
    assert torch.equal(step.z, noise)
    assert needed(numbers_of(step.emission), values) == rows["emission"]
    assert needed(step.hidden, values) == rows["rnn"]


# The VAE's

VAE_ARROWS = {
    *("x > encoder net", "encoder net > mean\nlog_std", "mean\nlog_std > z", "noise > z"),
    *("z > decoder net", "decoder net > logits"),
    *("x > loss 1", "logits > loss 1", "mean\nlog_std > loss 2", "prior > loss 2"),
}


def test_the_vaes_arrows_lead_as_its_data_flow(vae_drawing):
    assert set(vae_drawing.arrows) == VAE_ARROWS
    assert vae_drawing.waves == set()  # z is computed, from noise
    assert numbered_nets(vae_drawing) == ["encoder net", "decoder net", "prior"]


def test_what_the_vae_computes_needs_just_what_its_arrows_come_from(values):
    torch.manual_seed(0)
    model, x, noise = VAE(SIZES["x_t"], 4, SIZES["z_t"], emission="gaussian"), values["x_t"], values["z_t"]
    out = model(x, noise)
    sources = {"x": x, "noise": noise}
    assert needed(numbers_of(out.posterior), sources) == needed(out.kl, sources) == {"x"}
    assert needed(out.z, sources) == needed(out.emission.mean, sources) == {"x", "noise"}
    # Given z, neither the emission nor, but for the prior, anything else remembers the encoder.
    z = out.z.detach().requires_grad_()
    assert needed(model.emission(z).mean, sources | {"z": z}) == {"z"}


def test_another_phase_is_refused():
    with pytest.raises(ValueError, match='"generation" or "training", not \'evaluation\''):
        plots.network("evaluation")


# How the figures look


def assert_readable(drawing) -> None:
    """No text lies on another or leaves the sheet."""
    width, height = drawing.figure.get_size_inches()
    for text, box in drawing.texts.items():
        assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height, f"{text.get_text()!r} is cut off"
    for (one, a), (other, b) in combinations(drawing.texts.items(), 2):
        assert not a.overlaps(b), f"{one.get_text()!r} lies on {other.get_text()!r}"


def test_the_networks_texts_can_be_read(drawing):
    assert len(drawing.texts) == {"generation": 26, "training": 37}[drawing.phase]
    assert_readable(drawing)


def test_the_vaes_texts_can_be_read(vae_drawing):
    assert len(vae_drawing.texts) == 31
    assert_readable(vae_drawing)


def test_a_shapes_lines_stay_inside_it(any_drawing):
    for name, (_, outline, lines) in any_drawing.shapes.items():
        for line in lines:
            assert outline.contains_points(any_drawing.texts[line].corners()).all(), (
                f"{line.get_text()} sticks out of {name}"
            )


def test_no_arrow_runs_through_a_text_or_a_foreign_shape(any_drawing):
    for name, line in any_drawing.arrows.items():
        for text, box in any_drawing.texts.items():
            assert not line.intersects_bbox(box, filled=False), f"{name} runs through {text.get_text()!r}"
        for shape, (_, outline, _) in any_drawing.shapes.items():
            if shape not in name.split(" > "):
                assert not line.intersects_path(outline, filled=False), f"{name} runs through {shape}"


def test_arrows_cross_no_more_than_they_must(any_drawing):
    """In training x_t, z_t and h_{t-1} each lead to encoder, RNN and (through loss 1) decoder: K(3, 3), not planar."""
    crossings = {
        frozenset((one, other))
        for (one, a), (other, b) in combinations(any_drawing.arrows.items(), 2)
        if a.intersects_path(b, filled=False)
    }
    pair = frozenset(("x_t > encoder net", "z_t > RNN net"))
    assert crossings == ({pair} if pair <= set(any_drawing.arrows) else set())


def test_a_figure_is_its_callers_alone_so_that_a_notebook_shows_it_once():
    plots.network("generation")
    plots.vae_network()
    plots.unrolled()
    plots.wirings()
    plots.training_loss([])
    assert plt.get_fignums() == []


# The drawings of several steps


def links(ax) -> dict[str, set[str]]:
    """The arrows between nodes, by their colour: from node to node, as written in them. The key is left out."""
    nodes = {text.get_text().strip("$"): np.array(text.get_position()) for text in ax.texts if "_" in text.get_text()}
    found = {}
    for patch in ax.patches:
        if isinstance(patch, FancyArrowPatch):
            line, head = patch.get_path().to_polygons(closed_only=False)
            if head[1][1] > 0.6:
                ends = [min(nodes, key=lambda node: np.linalg.norm(nodes[node] - end)) for end in (line[0], head[1])]
                found.setdefault(patch.get_edgecolor(), set()).add(" > ".join(ends))
    return found


def by_net(ax) -> dict[str, set[str]]:
    """The same by what the key calls each colour."""
    key = {
        text.get_text(): patch.get_edgecolor()
        for text in ax.texts
        for patch in ax.patches
        if isinstance(patch, FancyArrowPatch)
        and abs(patch.get_path().vertices[0] - text.get_position() + [0.8, 0]).max() < 0.01
    }
    found = links(ax)
    assert set(key.values()) == set(found)
    return {name: found[color] for name, color in key.items()}


def over_time(*arrows: str) -> set[str]:
    return {arrow.format(before=t - 1, t=t) for arrow in arrows for t in (1, 2, 3)}


RECURRENCE = over_time("x_{t} > h_{t}", "z_{t} > h_{t}", "h_{before} > h_{t}")


def test_the_unrolled_model_and_its_filter_are_wired_as_the_nets_are():
    model, posterior = map(by_net, plots.unrolled().axes)
    assert model == {
        "prior net": over_time("h_{before} > z_{t}"),
        "decoder net": over_time("h_{before} > x_{t}", "z_{t} > x_{t}"),
        "RNN net": RECURRENCE,
    }
    assert posterior == {
        "encoder net": over_time("h_{before} > z_{t}", "x_{t} > z_{t}"),
        "RNN net": RECURRENCE,
        "a smoother only": {"x_2 > z_1", "x_3 > z_1", "x_3 > z_2"},
    }


def test_the_four_wirings_differ_in_the_decoder_as_their_titles_say():
    axes = plots.wirings().axes
    drawn = {ax.texts[0].get_text(): by_net(ax) for ax in axes}
    decoders = {
        "old h, this x": {"z_t > x_t", "h_{t-1} > x_t"},
        "old h, next x": {"z_t > x_{t+1}", "h_{t-1} > x_{t+1}"},
        "new h, this x": {"z_t > x_t", "h_t > x_t"},
        "new h, next x": {"z_t > x_{t+1}", "h_t > x_{t+1}"},
    }
    assert {title: nets.pop("decoder net") for title, nets in drawn.items()} == decoders
    for nets in drawn.values():
        assert nets == {
            "encoder net": {"x_t > z_t", "h_{t-1} > z_t"},
            "RNN net": {"x_t > h_t", "z_t > h_t", "h_{t-1} > h_t"},
        }


@pytest.mark.parametrize("make", [plots.unrolled, plots.wirings])
def test_the_drawings_of_several_steps_can_be_read(make):
    drawing = Drawing(make())
    assert len(drawing.texts) > 25
    assert_readable(drawing)


# The losses


def made_up(learning_rate, shift) -> dict:
    updates = range(60)
    return {
        "learning_rate": learning_rate,
        "reconstruction": [2 + 3 / (1 + i) + shift + 0.1 * (i % 3) for i in updates],
        "kl": [0.01 + 4 / (1 + i) ** 2 + shift for i in updates],
        "gradient_norm": [1.0 for _ in updates],
        "validation": [
            {"update": i, "loss": 3.3 + shift + i / 100, "reconstruction": 3 + shift, "kl": 0.3 + i / 100, "sample": ""}
            for i in (0, 20, 60)
        ],
    }


HISTORIES = [made_up(0.01, 0.0), made_up("Cosine(peak=0.006, updates=9000, warmup=100)", 0.5)]
PANELS = {
    "loss 1 + loss 2 = \u2212ELBO": "loss",
    "loss 1: reconstruction": "reconstruction",
    r"loss 2: KL(posterior $\|$ prior)": "kl",
}


def panels(figure) -> dict:
    return {PANELS[ax.get_title(loc="left")]: ax for ax in figure.axes}


@pytest.fixture(scope="module")
def loss_figure():
    return plots.training_loss(HISTORIES)


@pytest.mark.parametrize("name", ["loss", "reconstruction", "kl"])
def test_the_curves_are_the_histories_numbers(loss_figure, name):
    lines = panels(loss_figure)[name].get_lines()
    runs = "learning rate 0.01", "Cosine(peak=0.006, updates=9000, warmup=100)"
    for history, run, (raw, mean, held_out) in zip(HISTORIES, runs, (lines[:3], lines[3:6])):
        losses = {key: np.array(history[key]) for key in ("reconstruction", "kl")}
        losses["loss"] = losses["reconstruction"] + losses["kl"]
        # Entry i is the loss before step i + 1, that is at update i.
        np.testing.assert_array_equal(raw.get_xydata(), np.stack([np.arange(60), losses[name]], 1))
        np.testing.assert_array_equal(mean.get_xydata()[:, 1], plots.running_mean(losses[name]))
        expected = [[entry["update"], entry[name]] for entry in history["validation"]]
        np.testing.assert_array_equal(held_out.get_xydata(), expected)
        assert (mean.get_label(), held_out.get_label()) == (f"{run}, training", f"{run}, held-out")
        assert raw.get_color() == mean.get_color() == held_out.get_color()
        assert raw.get_alpha() < 0.5 and held_out.get_linestyle() == "--"


def test_the_articles_points_are_in_nats_per_character(loss_figure):
    points = {name: ax.get_lines()[6].get_xydata() for name, ax in panels(loss_figure).items()}
    expected = {
        "loss": [(0, 13.7133), (200, 2.1153), (600, 1.7180), (1000, 1.6240), (1800, 1.5623)],
        "reconstruction": [(0, 4.8700), (200, 2.0910), (1000, 1.6107), (1800, 1.5533)],
        "kl": [(0, 8.8433), (200, 0.0243), (1000, 0.0137), (1800, 0.0090)],
    }
    for name in expected:
        np.testing.assert_allclose(points[name], expected[name], rtol=0, atol=5.1e-5)
    assert {ax.get_ylabel() for ax in loss_figure.axes} == {"nats per character"}
    assert {ax.get_yscale() for ax in loss_figure.axes} == {"log"}


def test_the_logged_sums_are_the_sums_of_the_logged_losses():
    for total, reconstruction, kl in plots.SOURCE.values():
        assert reconstruction is None or abs(total - reconstruction - kl) < 0.15  # each is rounded to a digit


@pytest.mark.parametrize("histories", [HISTORIES, HISTORIES[:1], []], ids=["two", "one", "none"])
def test_the_loss_figures_texts_can_be_read(histories):
    drawing = Drawing(plots.training_loss(histories))
    assert len(drawing.texts) > 20
    assert_readable(drawing)


def test_a_real_runs_history_file_can_be_drawn(tmp_path):
    codes = torch.arange(60) % 5
    run = train(
        VRNN(VRNNCell(5, 4, 2)),
        [codes[:40].view(10, 4)],
        updates=3,
        evaluate_every=2,
        out=tmp_path,
        learning_rate=Cosine(0.01, 3, 1),
        validation=codes[40:],
        progress=False,
    )
    records = list(run)
    figure = plots.training_loss([json.loads((tmp_path / "history.json").read_text())], source={})
    raw, _, held_out, points = panels(figure)["kl"].get_lines()
    np.testing.assert_allclose(raw.get_xydata(), [[i, record.kl] for i, record in enumerate(records)], rtol=1e-8)
    assert held_out.get_xdata().tolist() == [0, 2, 3] and len(points.get_xdata()) == 0


def test_a_history_without_its_first_batches_is_not_drawn():
    """Its last batches would stand where the first belong."""
    pruned = HISTORIES[0] | {name: HISTORIES[0][name][-10:] for name in ("reconstruction", "kl", "gradient_norm")}
    with pytest.raises(ValueError, match="only 10 of 60 updates have their losses: a pruned history"):
        plots.training_loss([pruned])


def test_the_running_mean_takes_as_many_before_as_after_except_at_the_end():
    values = np.random.default_rng(0).normal(size=30)
    half = 4
    naive = [values[i - min(i, half) : i + min(i, half) + 1].mean() for i in range(30)]  # a slice ends with the values
    np.testing.assert_allclose(plots.running_mean(values, half), naive, rtol=0, atol=1e-12)
    assert plots.running_mean(values)[0] == values[0]


# The files


@pytest.fixture
def two_histories(tmp_path, monkeypatch):
    paths = tmp_path / "a" / "history.json", tmp_path / "b" / "history.json"
    for path, history in zip(paths, HISTORIES):
        path.parent.mkdir()
        path.write_text(json.dumps(history))
    monkeypatch.setattr(plots, "HISTORIES", paths)
    return paths


NAMES = ["network-generation.png", "network-training.png", "unrolled.png", "wirings.png", "training-loss.png"]


def test_the_same_bytes_every_time_whatever_style_the_reader_has_set(tmp_path, two_histories):
    once = plots.save_figures(tmp_path / "once")
    with plt.style.context(["dark_background", {"font.size": 20, "savefig.transparent": True}]):
        again = plots.save_figures(tmp_path / "again")
    assert once == [tmp_path / "once" / name for name in NAMES] and [path.name for path in again] == NAMES
    assert sorted(tmp_path.glob("once/*")) == sorted(once)  # and nothing left beside them
    for one, other in zip(once, again):
        assert one.read_bytes() == other.read_bytes()
        with Image.open(one) as image:
            assert set(image.info) == {"dpi"} and round(image.info["dpi"][0]) == 200
            corners = [
                image.convert("RGBA").getpixel((x, y)) for x in (0, image.width - 1) for y in (0, image.height - 1)
            ]
        assert corners == [(255, 255, 255, 255)] * 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: plots.network("training"),
        plots.vae_network,
        plots.unrolled,
        plots.wirings,
        lambda: plots.training_loss(HISTORIES),
    ],
    ids=["network", "vae", "unrolled", "wirings", "loss"],
)
def test_a_notebook_in_a_dark_style_shows_the_same_picture(make):
    def pixels() -> np.ndarray:
        figure, content = make(), io.BytesIO()
        figure.savefig(content, dpi=50, facecolor=figure.get_facecolor())  # as a notebook's inline display does
        return np.asarray(Image.open(content))

    plain = pixels()
    with plt.style.context(["dark_background", {"font.size": 20}]):
        np.testing.assert_array_equal(pixels(), plain)


def test_the_loss_figure_waits_for_both_histories(tmp_path, two_histories):
    two_histories[1].unlink()
    assert [path.name for path in plots.save_figures(tmp_path)] == NAMES[:-1]


def test_the_committed_pictures_are_what_the_code_draws(tmp_path):
    committed = FOLDER.parent / "figures"
    drawn = plots.save_figures(tmp_path)
    # page.png is a picture of the browser, by record_page.py.
    assert {path.name for path in committed.glob("*.png")} - {"page.png"} == {path.name for path in drawn}
    for path in drawn:
        was, now = (np.asarray(Image.open(p).convert("L"), float) for p in (committed / path.name, path))
        assert was.shape == now.shape
        # Mean grey of squares of a tenth of an inch: another version's anti-aliasing passes, a missing word does not.
        rows, columns = was.shape[0] // 20, was.shape[1] // 20
        changed = (was - now)[: 20 * rows, : 20 * columns].reshape(rows, 20, columns, 20).mean((1, 3))
        assert abs(changed).max() < 25, f"{path.name} is out of date: python -m vrnn_tutorial figures"


# Drawings


SQUARE = [np.array([(10.0, 10), (90, 10), (90, 90)]), np.array([(50.0, 60)])]
BAR = [np.array([(0.0, 100), (109, 100)])]


def lines_of(ax):
    """The strokes drawn in an axes, and their colours."""
    (lines,) = ax.collections
    colors = lines.get_colors() if lines.get_array() is None else lines.get_array().tolist()
    return [segment.tolist() for segment in lines.get_segments()], colors


def test_characters_stand_in_rows_and_what_was_invented_is_told_by_its_colour():
    panels = [plots.Panel("real", [SQUARE, BAR, BAR]), plots.Panel("ended", [SQUARE], 1)]
    figure = plots.characters(panels, 2, credit="after someone " * 9)
    first, second = figure.axes
    strokes, colors = lines_of(first)
    assert strokes[0] == SQUARE[0].tolist() and strokes[1] == [[50, 60], [50, 60]]  # a dot
    assert strokes[2] == [[109, 100], [218, 100]] and strokes[3] == [[0, 209], [109, 209]]
    ink, orange = plt.matplotlib.colors.to_rgba_array([plots.INK, plots.ORANGE])
    np.testing.assert_array_equal(colors, [ink] * 4)
    np.testing.assert_array_equal(lines_of(second)[1], [ink, orange])
    assert first.get_ylim()[0] > 218 > 0 > first.get_ylim()[1] and first.get_ylim() == second.get_ylim()
    drawn = Drawing(figure)
    assert [ax.get_title() for ax in figure.axes] == ["real", "ended"]
    assert all(box.x0 >= 0 and box.x1 <= figure.get_figwidth() for box in drawn.texts.values())


def test_a_density_is_shown_the_right_way_up_with_the_true_point_in_it():
    density = torch.full((4, 4), 1e-4)
    density[0, 3] = 5e-4  # above, on the right
    other = torch.full((4, 4), 1 / 109**2)
    figure = plots.next_places([plots.Moment(SQUARE, (100.0, 10.0), {"one": density, "other": other})] * 2, credit="c")
    assert len(figure.axes) == 4
    ax = figure.axes[0]
    (image,), (ring,) = ax.images, ax.lines
    assert image.get_extent() == [0, 109, 109, 0] and image.get_array()[0, 3] == density.max()
    assert ring.get_xydata().tolist() == [[100, 10]] and ax.get_ylim()[0] > ax.get_ylim()[1]
    assert lines_of(ax)[0][0] == SQUARE[0].tolist()
    share = (15e-4 + 5e-4) * (109 / 4) ** 2
    assert ax.get_title() == f"one\nlog p {math.log(5e-4):.1f}, inside {share:.2f}"
    assert figure.axes[3].get_title() == f"other\nlog p {-2 * math.log(109):.1f}, inside 1.00"


def test_strokes_are_coloured_by_what_they_cost_on_one_scale():
    figure = plots.surprising([("a", SQUARE, torch.tensor([3.0, 9.0])), ("b", BAR, torch.tensor([40.0]))])
    *axes, bar = figure.axes
    assert [lines_of(ax)[1] for ax in axes] == [[3, 9], [40]]
    assert {ax.collections[0].get_clim() for ax in axes} == {(0, 40)}
    assert bar.get_ylabel() == "nats of the stroke"


# Piano rolls


def rolls_of(figure):
    """Of each piece the notes that are drawn: by the colour of their bars (left, right, pitch), in tenths."""
    found = []
    for ax in figure.axes:
        bars = {}
        for collection in ax.collections:
            corners = [path.vertices[:4] for path in collection.get_paths()]
            bars[tuple(collection.get_facecolor()[0])] = [
                (round(c[:, 0].min(), 1), round(c[:, 0].max(), 1), c[:, 1].mean()) for c in corners
            ]
        found.append(bars)
    return found


def test_a_piano_roll_has_each_voice_in_its_colour_and_a_gap_where_a_note_is_struck_again():
    notes = [Note(72, 0, 2), Note(72, 2, 1), Note(48, 0, 3, 3)]
    figure = plots.piano_roll({"one": notes, "other": [Note(67, 4, 2, 1)]})
    first, second = rolls_of(figure)
    assert first == {
        to_rgba(plots.BLUE): [(0, 1.9, 72), (2, 2.9, 72)],
        to_rgba(plots.PURPLE): [(0, 2.9, 48)],
    }
    assert second == {to_rgba(plots.ORANGE): [(4, 5.9, 67)]}
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["one", "other"]
    for ax in figure.axes:  # all to one scale, on which nothing is cut off
        assert (ax.get_xlim(), ax.get_ylim()) == ((0, 6), (46, 74))
    ticks = dict(zip([label.get_text() for label in figure.axes[-1].get_yticklabels()], figure.axes[-1].get_yticks()))
    assert ticks == {"C3": 48, "C4": 60, "C5": 72}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["soprano", "alto", "bass"]
    assert [patch.get_facecolor() for patch in legend.get_patches()] == [
        to_rgba(color) for color in (plots.BLUE, plots.ORANGE, plots.PURPLE)
    ]
    for text, box in Drawing(figure).texts.items():
        assert box.x0 >= 0 and box.x1 <= 9 and box.y0 >= 0 and box.y1 <= 4.7, f"{text.get_text()} is cut off"


def test_a_roll_of_one_voice_needs_no_legend():
    assert plots.piano_roll({"": [Note(72, 0, 2)]}).legends == []


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [({}, "there is no piece to draw"), ({"": []}, "the piece has no notes"), ({"Bach": []}, "Bach has no notes")],
)
def test_what_is_no_music_is_not_drawn(pieces, sentence):
    with pytest.raises(ValueError) as error:
        plots.piano_roll(pieces)
    assert str(error.value) == sentence
