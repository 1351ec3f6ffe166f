"""Tests of `probes.trace`, step against step, and of the pictures that plots/traces.py draws of it."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import vrnn
from matplotlib.colors import same_color
from PIL import Image
from torch.testing import assert_close

from vrnn_tutorial import evaluate, plots
from vrnn_tutorial.probes import trace
from vrnn_tutorial.text import decode, encode
from vrnn_tutorial.widgets.pictures import png

TEXT = "What's in a name? that which we call\na rose"


@pytest.fixture(scope="module")
def read():
    return trace(vrnn(), TEXT, seed=1)


@pytest.mark.parametrize("options", [{}, {"rnn": "lstm", "num_layers": 2}, {"batch_first": True, "dropout": 0.5}])
def test_a_trace_holds_what_each_step_computes(options):
    model = vrnn(**options).train()
    read = trace(model, TEXT, draws=3, seed=5)
    assert model.training and model.batch_first == options.get("batch_first", False) and read.text == TEXT
    cell, generator = model.eval().cell, torch.Generator().manual_seed(5)
    noise, of_prior = (torch.randn(len(TEXT), 3, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    state = cell.zero_state(noise[0])
    for t, code in enumerate(encode(TEXT)):
        h, x = cell.hidden(state), code.expand(3)
        step = cell(x, state, noise[t])
        z = step.prior.mean + step.prior.log_std.exp() * of_prior[t]
        kl = step.posterior.kl(step.prior).mean() / math.log(2)
        assert_close(read.expected[t], cell.emission(z, h).logits.softmax(-1).mean(0))
        assert_close(read.hidden[t], step.hidden[0])
        assert_close(read.prior.mean[t], step.prior.mean[0])
        assert_close(read.prior.log_std[t], step.prior.log_std[0])
        assert_close(read.posterior.mean[t], step.posterior.mean[0])
        assert_close(read.posterior.log_std[t], step.posterior.log_std[0])
        assert_close(read.kl[t], kl)
        assert_close(read.surprise[t], kl - step.emission.log_prob(x).mean() / math.log(2))
        state = step.state


def test_the_mean_surprise_is_minus_the_elbo_and_the_seed_decides_the_draws():
    model = vrnn()
    read = trace(model, TEXT, draws=4, seed=7)
    evaluation = evaluate(model, encode(TEXT), draws=4, seed=7)
    assert read.surprise.mean().item() == pytest.approx(evaluation.bits, rel=1e-10)
    assert read.kl.mean().item() == pytest.approx(evaluation.kl / math.log(2), rel=1e-10)
    assert torch.equal(read.surprise, trace(model, TEXT, draws=4, seed=np.int64(7)).surprise)
    assert not torch.equal(read.surprise, trace(model, TEXT, draws=4, seed=8).surprise)
    assert not read.surprise.requires_grad and not read.expected.requires_grad


def test_what_is_expected_knows_the_past_and_nothing_else():
    one, other = (trace(vrnn(), text, draws=1) for text in ("to be, or not", "to be; or nut"))
    assert torch.equal(one.expected[:6], other.expected[:6])  # "to be" and the mark, before it is seen
    assert not torch.allclose(one.expected[6], other.expected[6])
    assert torch.equal(one.hidden[:5], other.hidden[:5]) and not torch.allclose(one.hidden[5], other.hidden[5])
    assert torch.equal(one.prior.mean[5], other.prior.mean[5])
    assert not torch.allclose(one.posterior.mean[5], other.posterior.mean[5])


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("", {}, "empty"),
        ("caf\u00e9", {}, "1 of 4 characters are not ASCII: '\u00e9'"),
        ("abcd", {"characters": 2}, r"must be \(T, B, k\)"),
    ],
)
def test_a_text_that_cannot_be_traced_is_refused(text, options, message):
    with pytest.raises(ValueError, match=message):
        trace(vrnn(**options), text, draws=3)


# The microscope


def panels(figure):
    return dict(zip(("state", "z", "next"), figure.axes))


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def letters(figure):
    return [text for text in panels(figure)["state"].texts if text.get_visible()]


@pytest.mark.parametrize("position", [1, 12, len(TEXT), 99])
def test_the_microscope_shows_the_numbers_of_its_step(read, position):
    t = min(position, len(TEXT)) - 1
    figure = plots.microscope(read, position)
    ax = panels(figure)["state"]
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(shown[:, : t + 1], read.hidden[: t + 1].T)
    assert np.isnan(np.ma.filled(shown, np.nan)[:, t + 1 :]).all(), "a state that the model has not reached yet"
    assert f"step {t + 1} of {len(TEXT)}: " in ax.get_title()
    assert f"{read.surprise[t]:.1f} bits" in ax.get_title()

    ax = panels(figure)["z"]
    for bars, gaussian, color in zip(ax.containers, (read.prior, read.posterior), (plots.BLUE, plots.ORANGE)):
        line, _, (whiskers,) = bars.lines
        mean, std = gaussian.mean[t], gaussian.log_std[t].exp()
        np.testing.assert_allclose(line.get_ydata(), mean)
        np.testing.assert_allclose([w[:, 1] for w in whiskers.get_segments()], torch.stack([mean - std, mean + std], 1))
        assert same_color(line.get_color(), color)
    assert f"{read.kl[t]:.3f} bits" in ax.get_title()


def test_the_microscope_marks_the_character_that_came(read):
    for position in range(1, len(TEXT) + 1, 4):
        ax = panels(plots.microscope(read, position))["next"]
        characters = [label.get_text().replace("\u21b5", "\n").replace("\u2423", " ") for label in ax.texts]
        orange = [same_color(bar.get_facecolor(), plots.ORANGE) for bar in ax.patches]
        likeliest = decode(read.expected[position - 1].topk(8).indices)
        came = TEXT[position - 1]
        wanted = likeliest if came in likeliest else likeliest[:-1] + came
        assert characters == [repr(c)[1:-1] if c not in "\n " else c for c in wanted]
        assert [c for c, mark in zip(wanted, orange) if mark] == [came]
        assert [same_color(label.get_color(), plots.ORANGE) for label in ax.texts] == orange
        widths = [bar.get_width() for bar in ax.patches]
        np.testing.assert_allclose(widths, read.expected[position - 1, encode(wanted)])
        plt.close("all")


def test_characters_to_come_are_grey(read):
    texts = letters(plots.microscope(read, 5))
    colors = [text.get_color() for text in texts]
    assert colors == [plots.INK] * 4 + [plots.ORANGE] + ["#AAAAAA"] * (len(TEXT) - 5)
    assert texts[6].get_text() == "\u2423" and texts[TEXT.index("\n")].get_text() == "\u21b5"


@pytest.mark.parametrize("position, first", [(1, 1), (60, 23), (129, 55)])
def test_of_a_long_text_the_microscope_shows_the_part_around_its_step(position, first):
    text = 3 * TEXT
    long = trace(vrnn(), text, draws=1)
    figure = plots.microscope(long, position)
    part = text[first - 1 : first + 74].replace(" ", "\u2423").replace("\n", "\u21b5")
    assert "".join(letter.get_text() for letter in letters(figure)) == part
    ax = panels(figure)["state"]
    assert f"(characters {first} to {first + 74})" in ax.get_title() and f"step {position} of 129" in ax.get_title()
    np.testing.assert_array_equal(
        ax.images[0].get_array()[:, : position + 1 - first], long.hidden[first - 1 : position].T
    )
    (orange,) = [i for i, letter in enumerate(letters(figure)) if same_color(letter.get_color(), plots.ORANGE)]
    assert orange == position - first


def test_one_microscope_shows_step_after_step_and_text_after_text(read):
    other = trace(vrnn(), "Another", seed=2)
    scope = plots.Microscope(read.hidden.shape[1], read.prior.mean.shape[1])
    for shown, position in ((read, 40), (other, 3), (read, 2), (read, 39)):
        figure, fresh = scope.show(shown, position), plots.microscope(shown, position)
        assert figure is scope.figure
        np.testing.assert_array_equal(pixels(png(figure)), pixels(png(fresh)))
        drawn = io.BytesIO()
        fresh.savefig(drawn, format="png")
        wrong = (pixels(png(figure)) != pixels(drawn.getvalue())).any(2).mean()
        assert wrong < 0.01, "a cell shows what a widget does not"


# The strip


def test_the_strip_colours_each_character_with_its_bits(read):
    figure = plots.strip(read, columns=16)
    for ax, bits in zip(figure.axes, (read.surprise, read.kl)):
        cells = np.ma.filled(ax.images[0].get_array(), np.nan)
        assert cells.shape == (3, 16)
        np.testing.assert_array_equal(cells.ravel()[: len(TEXT)], bits)
        assert np.isnan(cells.ravel()[len(TEXT) :]).all()
        assert ax.images[0].get_clim() == pytest.approx((0, bits.max().item()))
        for i, text in enumerate(ax.texts):
            assert text.get_position() == (i % 16, i // 16)
            assert text.get_text() == {" ": "\u2423", "\n": "\u21b5"}.get(TEXT[i], TEXT[i])
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["surprise", "KL"]


def test_pictures_of_a_trace_are_their_callers_alone(read):
    plots.microscope(read, 3).savefig("/dev/null", format="png")
    plots.strip(trace(vrnn(), "a$\x07\\")).savefig("/dev/null", format="png")
    assert plt.get_fignums() == []
