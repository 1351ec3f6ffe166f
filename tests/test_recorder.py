"""Figures that differ in one thing, whatever its kind, have records that differ; and numbers bear rounding."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Ellipse, FancyArrowPatch
from recorder import of_svg, record
from records import alike, settled

from vrnn_tutorial import widgets

X = np.linspace(0, 3, 50)
GRID = np.add.outer(np.arange(4.0), 3 * np.arange(5.0) ** 2)
ERRORS = np.array([0.5, 0.2, 0.4])


def drawn(draw) -> list[str]:
    fig, ax = plt.subplots()
    draw(ax)
    fig.draw_without_rendering()
    plt.close(fig)
    return record(fig)


def test_a_pages_record_tells_its_strokes_their_colours_times_and_words():
    drawings = [[np.array([[0, 0], [9, 9]]), np.array([[9, 9], [8, 3]])]] * 2
    options = {"columns": 2, "given": 1, "pace": 0.0, "credit": "who", "note": "what"}
    records = [
        of_svg(widgets.drawn(drawings, **options | change))
        for change in ({}, {"columns": 1}, {"given": 0}, {"pace": 1.0}, {"credit": "who else"}, {"note": "how"})
    ]
    records.append(of_svg(widgets.drawn([drawings[0], drawings[0][::-1]], **options)))
    assert len({tuple(lines) for lines in records}) == len(records)
    assert records[0] == [
        "page",
        "2 strokes #222222, in 1 lines",
        "  x 0. 9. 109. 118.",
        "  y 0. 9. 0. 9.",
        "2 strokes #D55E00, in 1 lines",
        "  x 9. 8. 118. 117.",
        "  y 9. 3. 9. 3.",
        '"what"',
        '"who"',
    ]


def two_lines(ax, labels=("one", "two"), legend=()):
    ax.plot(X, X**2, color="blue", label=labels[0])
    ax.plot(X, X, "--", color="red", label=labels[1])
    ax.legend(*legend)


def bars(ax, heights=(1, 2, 4), errors=ERRORS, label="share", **options):
    ax.bar(list("abc"), heights, yerr=errors, label=label, **options)
    ax.legend()


def image(ax, grid=GRID, colorbar="bits", **options):
    shown = ax.imshow(grid, **{"cmap": "Purples", "vmin": 0, "vmax": 60} | options)
    ax.figure.colorbar(shown, label=colorbar)


def scatter(ax, x=X, y=X**2, **options):
    ax.scatter(x, y, **{"s": 20, "c": X} | options)


def text(ax, x=0.3, words="here", color="black"):
    ax.text(x, 0.5, words, color=color)


def note(ax, to=(0.2, 0.3), at=(0.6, 0.7), words="gap", style="->"):
    ax.annotate(words, to, at, arrowprops={"arrowstyle": style})


def contour(ax, grid=GRID, kind="contourf", levels=5, **options):
    getattr(ax, kind)(range(grid.shape[1]), range(grid.shape[0]), grid, levels=levels, **options)


def quiver(ax, u=X, v=-X, x=X):
    ax.quiver(x, X, u, v)


def ellipse(ax, middle=(1, 2), sides=(2, 1), label="prior", color="blue"):
    ax.add_patch(Ellipse(middle, *sides, fill=False, ec=color, label=label))
    ax.set(xlim=(0, 4), ylim=(0, 4))
    ax.legend()


def inset(ax, values=X):
    ax.inset_axes((0.1, 0.1, 0.3, 0.3)).plot(values)


def many_texts(ax, words="abcdefghij" * 4, step=1):
    for i, word in enumerate(words):
        ax.text(step * i, i, word)
    ax.set(xlim=(0, 50), ylim=(0, 50))


SEVERAL = np.sin(np.arange(36.0)).reshape(4, 9)
#: For each kind of artist a figure, and figures that differ from it in one thing.
PAIRS = {
    "line, other data": (two_lines, lambda ax: two_lines(ax) or ax.lines[0].set_ydata(X**3)),
    "line, x and y exchanged": (lambda ax: ax.plot(X, 3 - X**2 / 3), lambda ax: ax.plot(3 - X**2 / 3, X)),
    "line, in another order": (lambda ax: ax.plot(X, np.sin(X)), lambda ax: ax.plot(X, np.sin(X)[::-1])),
    "line, colour": (two_lines, lambda ax: two_lines(ax) or ax.lines[0].set_color("green")),
    "line, style": (two_lines, lambda ax: two_lines(ax) or ax.lines[1].set_linestyle(":")),
    "line, marker": (lambda ax: ax.plot(X, X, "o"), lambda ax: ax.plot(X, X, "s")),
    "line, marker's face": (lambda ax: ax.plot(X, X, "o"), lambda ax: ax.plot(X, X, "o", mfc="white")),
    "legend, entries exchanged": (two_lines, lambda ax: two_lines(ax, legend=(["two", "one"],))),
    "legend, labels exchanged": (two_lines, lambda ax: two_lines(ax, labels=("two", "one"))),
    "legend, missing": (two_lines, lambda ax: two_lines(ax) or ax.get_legend().remove()),
    "line across, another height": (lambda ax: ax.axhline(1.0), lambda ax: ax.axhline(1.1)),
    "axis, label": (lambda ax: ax.set(xlabel="t, nats"), lambda ax: ax.set(xlabel="t, bits")),
    "axis, limits": (lambda ax: ax.set(ylim=(0, 1)), lambda ax: ax.set(ylim=(0, 1.1))),
    "axis, turned round": (lambda ax: ax.set(ylim=(0, 1)), lambda ax: ax.set(ylim=(1, 0))),
    "axis, scale": (lambda ax: ax.set(xlim=(1, 10)), lambda ax: ax.set(xlim=(1, 10), xscale="log")),
    "axis, ticks": (lambda ax: ax.set_xticks([0, 1], "ab"), lambda ax: ax.set_xticks([0, 1], "ba")),
    "axis, unit of ticks": (lambda ax: None, lambda ax: ax.yaxis.set_major_formatter("{x:g} %")),
    "axis, not shown": (lambda ax: ax.set(xlabel="t"), lambda ax: ax.set(xlabel="t") and ax.axis("off")),
    "title": (lambda ax: ax.set_title("k = 1"), lambda ax: ax.set_title("k = 2")),
    "title of all": (lambda ax: ax.figure.suptitle("1"), lambda ax: ax.figure.suptitle("2")),
    "bars, exchanged": (bars, lambda ax: bars(ax, heights=(2, 1, 4))),
    "bars, called otherwise": (bars, lambda ax: bars(ax, label="probability")),
    "bars, hatched": (bars, lambda ax: bars(ax, hatch="/")),
    "bars, variance for deviation": (bars, lambda ax: bars(ax, errors=ERRORS**2)),
    "error bars, variance for deviation": (
        lambda ax: ax.errorbar(X, X, 0.1 + X),
        lambda ax: ax.errorbar(X, X, (0.1 + X) ** 2),
    ),
    "error bars, of x": (lambda ax: ax.errorbar(X, X, X), lambda ax: ax.errorbar(X, X, xerr=X)),
    "scatter, x and y exchanged": (scatter, lambda ax: scatter(ax, X**2, X)),
    "scatter, colours": (scatter, lambda ax: scatter(ax, c=X[::-1])),
    "scatter, colour map": (scatter, lambda ax: scatter(ax, cmap="magma")),
    "scatter, sizes": (scatter, lambda ax: scatter(ax, s=40)),
    "scatter, shape": (scatter, lambda ax: scatter(ax, marker="^")),
    "band": (lambda ax: ax.fill_between(X, X - 1, X + 1), lambda ax: ax.fill_between(X, X - 1, X + 2)),
    "steps": (lambda ax: ax.stairs([1, 3, 2]), lambda ax: ax.stairs([3, 1, 2])),
    "image, transposed": (lambda ax: image(ax, GRID[:, :4]), lambda ax: image(ax, GRID[:, :4].T)),
    "image, of other extent": (image, lambda ax: image(ax, extent=(0, 1, 0, 1))),
    "image, upside down": (image, lambda ax: image(ax, GRID[::-1])),
    "image, colours": (image, lambda ax: image(ax, cmap="Blues")),
    "image, their span": (image, lambda ax: image(ax, vmax=90)),
    "image, a hole": (image, lambda ax: image(ax, np.where(GRID == 4, np.nan, GRID))),
    "image, its bar's unit": (image, lambda ax: image(ax, colorbar="nats")),
    "images, one of several": (
        lambda ax: [ax.imshow(row.reshape(3, 3), vmin=-1, vmax=1) for row in SEVERAL],
        lambda ax: [ax.imshow(row.reshape(3, 3), vmin=-1, vmax=1) for row in SEVERAL[[1, 0, 2, 3]]],
    ),
    "image of colours": (
        lambda ax: ax.imshow(np.eye(3)[:, None] * [1, 0, 0]),
        lambda ax: ax.imshow(np.eye(3)[:, None] * [0, 1, 0]),
    ),
    "text, words": (text, lambda ax: text(ax, words="there")),
    "text, place": (text, lambda ax: text(ax, x=0.4)),
    "text, colour": (text, lambda ax: text(ax, color="red")),
    "many texts, words": (many_texts, lambda ax: many_texts(ax, "abcdefghji" * 4)),
    "many texts, places": (many_texts, lambda ax: many_texts(ax, step=1.1)),
    "arrow, head": (note, lambda ax: note(ax, to=(0.2, 0.4))),
    "arrow, end": (note, lambda ax: note(ax, at=(0.6, 0.8))),
    "arrow, words": (note, lambda ax: note(ax, words="bound")),
    "arrow, form": (note, lambda ax: note(ax, style="<->")),
    "arrow without a word": (lambda ax: note(ax, words=""), lambda ax: note(ax, words="", to=(0.2, 0.4))),
    "arrow of its own": (
        lambda ax: ax.add_patch(FancyArrowPatch((0, 0), (1, 0.5))),
        lambda ax: ax.add_patch(FancyArrowPatch((1, 0.5), (0, 0))),
    ),
    "contour, transposed": (
        lambda ax: contour(ax, GRID[:, :4]),
        lambda ax: contour(ax, GRID[:, :4].T),
    ),
    "contour, levels": (contour, lambda ax: contour(ax, levels=9)),
    "contour, lines": (contour, lambda ax: contour(ax, kind="contour")),
    "contour, colour": (lambda ax: contour(ax, colors=["red"]), lambda ax: contour(ax, colors=["blue"])),
    "arrows, u and v exchanged": (quiver, lambda ax: quiver(ax, u=-X, v=X)),
    "arrows, places": (quiver, lambda ax: quiver(ax, x=X[::-1])),
    "ellipse, place": (ellipse, lambda ax: ellipse(ax, middle=(2, 1))),
    "ellipse, variance for deviation": (ellipse, lambda ax: ellipse(ax, sides=(4, 1))),
    "ellipse, called otherwise": (ellipse, lambda ax: ellipse(ax, label="posterior")),
    "axes within axes": (inset, lambda ax: inset(ax, values=X[::-1])),
    "second axis": (lambda ax: ax.twinx().plot(X), lambda ax: ax.twinx().plot(X**2)),
}


@pytest.mark.parametrize("draw, other", PAIRS.values(), ids=PAIRS)
def test_one_difference_is_recorded(draw, other):
    record = drawn(draw)
    assert settled(record, drawn(other)) != record


def test_the_same_drawn_again_has_the_same_record():
    assert drawn(image) == drawn(image) and drawn(bars) == drawn(bars)


def test_a_record_can_be_read():
    assert drawn(two_lines)[1:] == [
        "axes in row 0, column 0",
        'x: -0.150 3.150 linear, ""',
        'y: -0.450 9.450 linear, ""',
        'legend "": "one" - #0000ff, "two" -- #ff0000',
        'Line2D - #0000ff = "one"',
        "  x (50) 0.000 to 3.000, 1.500 ± 0.884, in order 0.184 0.612 1.010 1.378 1.745 2.112 2.480 2.847",
        "  y (50) 0.000 to 9.000, 3.031 ± 2.741, in order 0.049 0.390 1.031 1.909 3.056 4.473 6.159 8.116",
        'Line2D -- #ff0000 = "two"',
        "  x (50) 0.000 to 3.000, 1.500 ± 0.884, in order 0.184 0.612 1.010 1.378 1.745 2.112 2.480 2.847",
        "  y (50) 0.000 to 3.000, 1.500 ± 0.884, in order 0.184 0.612 1.010 1.378 1.745 2.112 2.480 2.847",
    ]


def test_a_legends_sign_that_nothing_looks_like_names_nothing():
    def crossed(ax):
        two_lines(ax)
        ax.legend([plt.Line2D([], [], color="green")], ["green"])

    assert not [line for line in drawn(crossed) if line.endswith('= "green"')]


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("y 2.499 0.500", "y 2.501 0.503", True),
        ("y 2.499", "y 2.505", False),
        ("y 1.234e-7", "y 1.238e-7", True),
        ("y 1.234e-7", "y 1.234e-6", False),
        ("y 9.998", "y 10.00", True),
        ("y 250.", "y 252.", True),
        ("y -0.001", "y 0.001", True),
        ("y (50) 0.100", "y (51) 0.100", False),
        ('"0.499" 1.000', '"0.500" 1.000', False),
        ("y 0.500 0.500", "y 0.500", False),
        ("y nan", "y 0.500", False),
    ],
)
def test_strings_and_counts_are_exact_and_numbers_nearly(one, other, same):
    assert alike(one, other) == alike(other, one) == same


def test_last_digits_alone_leave_a_record_as_it_is():
    record = ['Line2D - #0000ff = "a"', "  y 1.000 2.000", 'Line2D - #ff0000 = "b"', "  y 3.000"]
    assert settled(record, [record[0], "  y 1.001 1.999", *record[2:]]) == record
    moved = [record[0], "  y 1.001 2.100", *record[2:]]
    assert settled(record, moved) == moved
    more = ["Line2D - #000000", "  y 1.000 2.001", record[0], "  y 1.001 2.000", *record[2:]]
    assert settled(record, more) == [*more[:3], record[1], *more[4:]]


def test_rounding_does_not_show_but_a_hundredth_of_the_axis_does():
    noise = 1e-5 * np.sin(np.arange(50) ** 2)
    line, near, far = ([*drawn(lambda ax, y=y: ax.plot(X, y))] for y in (X**2, X**2 + noise, X**2 + 0.09))
    assert settled(line, near) == line
    assert settled(line, far) != line
