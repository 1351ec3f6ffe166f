"""Tests of vrnn_tutorial/drawing.py: its own few lines against paths drawn by hand and against exact fractions."""

import itertools
import math
import re
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vrnn_tutorial.drawing import (
    Gallery,
    Line,
    is_inside,
    read_path,
    read_svg,
    simplify,
    spread,
    to_grid,
    to_steps,
    to_strokes,
    write_grid,
    write_path,
    write_svg,
)

whole = st.integers(-120, 120)
points = st.tuples(whole, whole)
drawings = st.lists(st.lists(points, min_size=1, max_size=6), min_size=1, max_size=5)


def equal(strokes, expected, tolerance=0.0):
    assert len(strokes) == len(expected)
    for stroke, points in zip(strokes, expected):
        np.testing.assert_allclose(stroke, np.array(points, dtype=float), rtol=0, atol=tolerance)
    return True


# Reading a path


def halved(points, t):
    """De Casteljau: the point at t of the curve with these control points."""
    while len(points) > 1:
        points = [((1 - t) * a + t * b, (1 - t) * c + t * d) for (a, c), (b, d) in itertools.pairwise(points)]
    return points[0]


def curve(*control):
    return [halved(control, k / 16) for k in range(1, 17)]


def test_a_cubic_that_is_a_parabola_is_flattened_to_points_on_it():
    (stroke,) = read_path("M0,0 C10,0 20,30 30,90")  # x = 30 t, y = 90 t^2
    t = np.linspace(0, 1, 17)
    assert equal([stroke], [np.stack([30 * t, 90 * t**2], axis=1)], 1e-12)


@given(control=st.lists(points, min_size=4, max_size=4))
def test_a_cubic_is_flattened_to_sixteen_points_of_its_closed_form(control):
    (x, y), (a, b), (c, d), (e, f) = control
    assert equal(read_path(f"M{x},{y}C{a},{b},{c},{d},{e},{f}"), [[(x, y), *curve(*control)]], 1e-12)


@given(start=points, moves=st.lists(points, min_size=5, max_size=5))
def test_small_letters_count_from_where_the_pen_is(start, moves):
    absolute = [(start[0] + x, start[1] + y) for x, y in moves[:3]]
    absolute += [(absolute[2][0] + x, absolute[2][1] + y) for x, y in moves[3:]]
    c, s = (" ".join(f"{x},{y}" for x, y in part) for part in (moves[:3], moves[3:]))
    upper_c, upper_s = (" ".join(f"{x},{y}" for x, y in part) for part in (absolute[:3], absolute[3:]))
    small = read_path(f"m{start[0]},{start[1]}c{c}s{s}")
    assert equal(small, read_path(f"M{start[0]},{start[1]}C{upper_c}S{upper_s}"), 1e-9)


def test_a_smooth_curve_mirrors_the_handle_before_it():
    assert equal(
        read_path("M0,0 C0,10 10,10 10,0 S20,-20 20,0 S40,5 40,0"),
        read_path("M0,0 C0,10 10,10 10,0 C10,-10 20,-20 20,0 C20,20 40,5 40,0"),
    )


@pytest.mark.parametrize("before", ["M0,0 3,4", "M3,4"])
def test_a_smooth_curve_behind_no_curve_begins_with_a_handle_in_its_own_start(before):
    assert equal([read_path(f"{before} S5,9 7,4")[0][-16:]], [read_path("M3,4 C3,4 5,9 7,4")[0][-16:]])


def test_one_letter_stands_for_several_curves():
    assert equal(read_path("M1,2c1,1,2,2,3,0,1,1,2,2,3,0"), read_path("M1,2c1,1,2,2,3,0c1,1,2,2,3,0"))


def test_each_move_begins_a_stroke_and_further_points_are_straight_lines():
    assert equal(read_path("M1,2 3,4 m5,5 1,-1"), [[(1, 2), (3, 4)], [(8, 9), (9, 8)]])
    assert equal(read_path("m1,2 3,4"), [[(1, 2), (4, 6)]])


def test_numbers_need_no_separators():
    assert equal(read_path("\tM10-5\n.5.25 +7,  -0.5 "), [[(10, -5), (0.5, 0.25), (7, -0.5)]])


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("M1,2Q3,4,5,6", "the path command 'Q' is none of M m C c S s"),
        ("M1,2c1,1,2,2,3,0z", "the path command 'z' is none of M m C c S s"),
        ("M1,2e3,4", "the path command 'e' is none of M m C c S s"),
        ("M1,2c1,1,2,2,3", "the path command 'c' takes 6 numbers at a time, not '1,1,2,2,3'"),
        ("M1,2S1,1,2", "the path command 'S' takes 4 numbers at a time, not '1,1,2'"),
        ("M1,2c", "the path command 'c' takes 6 numbers at a time, not ''"),
        ("M1,2#3,4", "the path command 'M' takes 2 numbers at a time, not '1,2#3,4'"),
        ("M1", "the path command 'M' takes 2 numbers at a time, not '1'"),
        ("c1,1,2,2,3,0", "a path begins with M or m, not with 'c1,1,2,2,3,0'"),
        ("1,2M3,4", "a path begins with M or m, not with '1,2M3,4'"),
        ("", "a path begins with M or m, not with ''"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_in_one_sentence(path, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_path(path)


SVG = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 109 109">
<g><path d="M1,2 3,4"/><g><path d="M5,6 7,8"/></g></g><path d="M9,9 8,8 M1,1"/><text>M</text>
</svg>"""


def test_the_strokes_of_an_svg_come_in_the_order_of_its_paths():
    assert equal(read_svg(SVG), [[(1, 2), (3, 4)], [(5, 6), (7, 8)], [(9, 9), (8, 8)], [(1, 1)]])


@pytest.mark.parametrize("svg", [SVG[:-1], SVG[:100], b"", b"M1,2 3,4"])
def test_a_truncated_svg_is_refused_in_one_sentence(svg):
    with pytest.raises(ValueError, match=r"^the SVG is not whole: .+") as error:
        read_svg(svg)
    assert "\n" not in str(error.value)


def test_a_path_without_a_line_in_it_is_refused():
    with pytest.raises(ValueError, match="a path begins with M or m"):
        read_svg(b'<svg xmlns="http://www.w3.org/2000/svg"><path/></svg>')


# Writing a path


def test_a_path_is_written_with_few_letters():
    strokes = [[(1, 2), (3.5, -4)], [(0.126, 7), (1e-7, 100), (0.004, 5.999)]]
    assert write_path(strokes) == "M1,2 3.5,-4M0.13,7 0,100 0,6"


@given(drawing=drawings.filter(lambda strokes: min(map(len, strokes)) > 1))
def test_a_path_that_was_written_reads_as_it_was(drawing):
    hundredths = [np.array(stroke) / 100 for stroke in drawing]
    assert equal(read_path(write_path(hundredths)), hundredths)


def test_a_dot_is_written_as_a_line_that_round_ends_show():
    assert write_path([[(3, 4)]]) == "M3,4 3,4"
    assert equal(to_grid(read_path("M3,4 3,4")), [[(3, 4)]])


# Steps of a pen


def test_steps_are_offsets_and_what_the_pen_does_behind_them():
    steps = to_steps([[(10, 20), (15, 18)], [(12, 30)], [(1, 1), (2, 2), (2, 0)]])
    assert steps.dtype == torch.float32
    assert steps.tolist() == [
        [10, 20, 1, 0, 0],
        [5, -2, 0, 1, 0],
        [-3, 12, 0, 1, 0],
        [-11, -29, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [0, -2, 0, 0, 1],
    ]


@given(drawing=drawings)
def test_strokes_come_back_from_their_steps(drawing):
    assert equal(to_strokes(to_steps(drawing)), drawing)


@given(offsets=st.lists(st.tuples(points, st.sampled_from([0, 1])), min_size=1, max_size=9))
def test_steps_come_back_from_their_strokes(offsets):
    pen = torch.eye(3)[[lifted for _, lifted in offsets[:-1]] + [2]]
    steps = torch.cat([torch.tensor([offset for offset, _ in offsets]).float(), pen], 1)
    assert torch.equal(to_steps(to_strokes(steps)), steps)


def test_what_stands_behind_the_end_is_ignored():
    steps = to_steps([[(1, 2), (3, 4)], [(5, 6)]])
    for behind in (torch.zeros(2, 5), to_steps([[(7, 7)]]), steps):
        assert equal(to_strokes(torch.cat([steps, behind])), [[(1, 2), (3, 4)], [(5, 6)]])


@pytest.mark.parametrize("pen", [[1.0, 0, 0], [0, 1.0, 0]])
def test_a_drawing_without_an_end_ends_with_its_last_step(pen):
    steps = to_steps([[(1, 2), (3, 4)], [(5, 6), (7, 8)]])
    steps[-1, 2:] = torch.tensor(pen)
    assert equal(to_strokes(steps), [[(1, 2), (3, 4)], [(5, 6), (7, 8)]])


def test_steps_of_a_graph_are_read_too():
    assert equal(to_strokes(to_steps([[(1, 2), (3.5, 4)]]).requires_grad_()), [[(1, 2), (3.5, 4)]])


@pytest.mark.parametrize("shape", [(0, 5), (4, 3), (5,), (4, 2, 5)])
def test_steps_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=rf"shape \(T, 5\) with at least one step, not {re.escape(str(shape))}$"):
        to_strokes(torch.zeros(shape))


# Simplifying


def exactly(points, tolerance):
    """Ramer, Douglas and Peucker by their definition, in fractions, with the distance to the line between the ends."""
    (ax, ay), (bx, by) = points[0], points[-1]

    def square(x, y):
        length = (bx - ax) ** 2 + (by - ay) ** 2
        t = Fraction((x - ax) * (bx - ax) + (y - ay) * (by - ay), length) if length else Fraction(0)
        t = min(max(t, Fraction(0)), Fraction(1))
        return (ax + t * (bx - ax) - x) ** 2 + (ay + t * (by - ay) - y) ** 2

    squares = [square(*point) for point in points[1:-1]]
    if not squares or max(squares) <= tolerance**2:
        return [points[0], points[-1]]
    middle = 1 + squares.index(max(squares))
    return exactly(points[: middle + 1], tolerance)[:-1] + exactly(points[middle:], tolerance)


near = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(stroke=st.lists(near, min_size=2, max_size=12), tolerance=st.sampled_from([1, 2, Fraction(3, 2)]))
def test_simplified_as_the_definition_says(stroke, tolerance):
    assert equal([simplify(stroke, float(tolerance))], [exactly(stroke, tolerance)])


@given(stroke=st.lists(st.tuples(st.floats(0, 109), st.floats(0, 109)), min_size=2, max_size=40))
def test_what_is_left_out_lies_no_farther_than_the_tolerance_from_what_is_kept(stroke):
    kept = simplify(stroke, 1.0).tolist()
    assert tuple(kept[0]) == stroke[0] and tuple(kept[-1]) == stroke[-1]
    for point in np.array(stroke):
        distances = []
        for a, b in itertools.pairwise(np.array(kept)):
            t = (point - a) @ (b - a) / max((b - a) @ (b - a), 1e-300)
            distances.append(np.linalg.norm(a + min(max(t, 0), 1) * (b - a) - point))
        assert min(distances) <= 1 + 1e-9


def test_a_point_as_far_away_as_the_tolerance_is_left_out_and_one_farther_is_kept():
    assert equal([simplify([(0, 0), (5, 1), (10, 0)], 1.0)], [[(0, 0), (10, 0)]])
    assert equal([simplify([(0, 0), (5, 1.001), (10, 0)], 1.0)], [[(0, 0), (5, 1.001), (10, 0)]])


def test_a_stroke_that_turns_back_or_closes_keeps_its_shape():
    back, square = [(0, 0), (10, 0), (4, 0)], [(0, 0), (9, 0), (9, 9), (0, 9), (0, 0)]
    assert equal([simplify(back, 1.0), simplify(square, 1.0)], [back, square])


def test_a_long_scribble_is_simplified_too():
    """Where one half of each span is a single line, a recursion would go too deep."""
    steps = np.arange(1500)
    scribble = np.stack([steps % 2 * 50.0, 1.5 * steps], axis=1)
    assert len(simplify(scribble, 1.0)) == 1500


# What a reader draws


def test_a_canvas_is_simplified_and_rounded_and_what_coincides_goes():
    drawn = [[(0.2, 0.1), (5, 0.9), (9.8, 0.4), (9.9, 6.6)], [(3.3, 3.4)], [(7.1, 7.2), (7.3, 6.9), (6.8, 7.1)]]
    assert equal(to_grid(drawn), [[(0, 0), (10, 0), (10, 7)], [(3, 3)], [(7, 7)]])


@pytest.mark.parametrize(("bend", "middle"), [(1.39, []), (1.41, [(5, 1)])])
def test_a_canvas_is_simplified_at_one_before_it_is_rounded(bend, middle):
    assert equal(to_grid([[(0, 0.4), (5, bend), (10, 0.4)]]), [[(0, 0), *middle, (10, 0)]])


def test_what_coincides_goes_only_where_it_follows():
    assert equal(to_grid([[(0, 0), (5, 5), (0, 0)]]), [[(0, 0), (5, 5), (0, 0)]])
    assert equal(to_grid([[(0, 0), (4, 0.4), (4, 2.4)], [(4, 2)]]), [[(0, 0), (4, 0), (4, 2)], [(4, 2)]])


@pytest.mark.parametrize(
    "function", [to_grid, to_steps, write_path, is_inside, Gallery([[[(0, 0)]]]).nearest, lambda d: write_grid([d], 2)]
)
@pytest.mark.parametrize(
    ("strokes", "sentence"),
    [
        ([], "there is no stroke: a drawing has at least one"),
        ([[(1, 2)], []], r"a stroke must have shape \(n, 2\) with at least one point, not \(0,\)"),
        ([np.zeros((0, 2))], r"a stroke must have shape \(n, 2\) with at least one point, not \(0, 2\)"),
        ([[(1, 2, 3)]], r"a stroke must have shape \(n, 2\) with at least one point, not \(1, 3\)"),
        ([[(1, 2), (float("nan"), 2)]], "the points of a stroke must be finite numbers"),
    ],
)
def test_what_is_no_drawing_is_refused_in_one_sentence(function, strokes, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        function(strokes)


# Many drawings


@given(some=st.lists(drawings.filter(lambda strokes: min(map(len, strokes)) > 1), min_size=1, max_size=7))
def test_a_grid_reads_as_the_drawings_each_in_its_place(some):
    expected = [
        [(x + 100 * (i % 3), y + 100 * (i // 3)) for x, y in stroke] for i, drawn in enumerate(some) for stroke in drawn
    ]
    assert equal(read_path(write_grid(some, 3, 100)), expected, 1e-9)


def test_a_grid_without_a_column_is_refused():
    with pytest.raises(ValueError, match="^a grid has at least one column, not 0$"):
        write_grid([[[(1, 2)]]], 0)


def test_an_svg_has_its_paths_their_colours_and_the_credit_and_reads_as_it_was():
    real, invented = [[(1, 2), (30, 4)]], [[(5, 6), (7, 8)], [(9, 9), (10, 9)]]
    svg = write_svg(
        [Line(write_path(real), "black"), Line(write_path(invented), "#b00")], 218, 109, "after <A & B>", 0.5
    )
    assert equal(read_svg(svg.encode()), [*real, *invented])
    root = ElementTree.fromstring(svg)
    paths = list(root.iter("{http://www.w3.org/2000/svg}path"))
    assert [path.get("stroke") for path in paths] == ["black", "#b00"]
    assert root.findtext("{http://www.w3.org/2000/svg}desc") == "after <A & B>"
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("109", "54.5", "0 0 218 109")


def test_a_line_of_an_svg_may_be_drawn_in_its_time():
    still, moving = write_path([[(1, 2), (3, 4)]]), write_path([[(5, 6), (7, 8)]])
    svg = write_svg([Line(still, "black"), Line(moving, "red", 1.5, 0.25)], 109, 109, "")
    assert svg.count("@keyframes") == 1 and equal(read_svg(svg.encode()), [[(1, 2), (3, 4)], [(5, 6), (7, 8)]])
    first, second = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
    assert set(first.attrib) == {"d", "stroke"}
    assert second.get("style") == "animation-delay:1.50s;animation-duration:0.25s" and second.get("class") == "timed"
    assert "@keyframes" not in write_svg([Line(still, "black"), Line(moving, "red", 1.5)], 109, 109, "")


@pytest.mark.parametrize("point", [(-0.1, 50), (50, -0.1), (109.1, 50), (50, 109.1)])
def test_a_drawing_is_inside_if_all_of_it_is(point):
    corners = [[(0, 0), (109, 109)], [(0, 109), (109, 0)]]
    assert is_inside(corners) and not is_inside([*corners, [(5, 5), point]])
    assert is_inside([[(0, 0), (8, 9)]], side=9) and not is_inside([[(0, 0), (8, 9)]], side=8)


@given(drawing=drawings)
def test_points_lie_evenly_along_each_stroke_by_itself(drawing):
    for stroke, points in zip(drawing, spread(drawing, 5), strict=True):
        corners = np.array(stroke, dtype=float)
        lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        for share, point in zip((0, 0.25, 0.5, 0.75, 1), points, strict=True):
            left, at = share * lengths.sum(), corners[0]
            for length, (a, b) in zip(lengths, itertools.pairwise(corners)):
                step = min(left, length)
                at, left = (a + (b - a) * step / length, left - step) if length and left else (at, left)
            np.testing.assert_allclose(point, at, atol=1e-6)


def test_the_nearest_drawing_has_as_many_strokes_and_the_least_root_mean_square():
    line, far, two = [[(0, 0), (70, 0)]], [[(0, 40), (70, 40)]], [[(0, 0), (70, 0)], [(0, 9), (70, 9)]]
    gallery = Gallery([two, far, line])
    assert gallery.nearest([[(0, 3), (70, 3)]]) == (2, pytest.approx(3))
    assert gallery.nearest([[(70, 30), (0, 30)]])[0] == 1  # both are drawn the other way round
    assert gallery.nearest([[(0, 4), (70, 4)], [(0, 9), (70, 9)]]) == (0, pytest.approx(math.sqrt(8)))
    assert gallery.nearest([*two, *line]) == (-1, math.inf)
