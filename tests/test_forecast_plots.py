"""Tests of vrnn_tutorial/plots/forecasts.py: the numbers are read back from the figures."""

import numpy as np
import pytest
import torch

from vrnn_tutorial.plots import coverage_by_horizon, fan_chart, pit_histogram

DRAWS = torch.linspace(0, 1, 101)[:, None] * torch.tensor([1.0, 2.0, 4.0])


def test_a_fan_holds_the_middle_of_the_futures_and_the_widest_band_lies_lowest():
    figure = fan_chart(torch.tensor([5.0, 6.0]), {"one": DRAWS, "two": DRAWS + 1}, levels=(0.5, 0.8), label="ppm")
    for ax, title, shift in zip(figure.axes, ("one", "two"), (0, 1)):
        assert ax.get_title(loc="left") == title
        for band, (low, high) in zip(ax.collections, ((0.1, 0.9), (0.25, 0.75))):
            points = {(round(float(x), 3), round(float(y), 3)) for x, y in band.get_paths()[0].vertices}
            for step, size in zip((1, 2, 3), (1, 2, 4)):
                assert {(step, round(low * size + shift, 3)), (step, round(high * size + shift, 3))} <= points
        (past,) = (line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] == -1)
        assert past.get_ydata().tolist() == [5, 6]
    assert figure.axes[0].get_ylabel() == "ppm"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["80%", "50%"]
    # Each in its own colour, the inner one darker, in the legend as in the picture.
    wide, narrow = (sum(handle.get_facecolor()[:3]) for handle in figure.legends[0].legend_handles)
    assert wide > narrow == sum(figure.axes[0].collections[1].get_facecolor()[0][:3])


def test_what_came_and_some_of_the_futures_are_drawn_if_they_are_asked_for():
    came = torch.tensor([7.0, 8.0, 9.0])
    figure = fan_chart(torch.zeros(1), {"": DRAWS}, came, lines=3)
    drawn = [line.get_ydata().tolist() for line in figure.axes[0].lines if list(line.get_xdata()) == [1, 2, 3]]
    assert drawn == [*DRAWS[:3].tolist(), [7, 8, 9]]
    assert figure.legends[0].get_texts()[-1].get_text() == "what came"


def test_ranks_are_counted_and_missing_ones_left_out():
    ranks = torch.tensor([[0.05, 0.06, 0.55], [0.95, torch.nan, torch.nan]])
    ax = pit_histogram({"model": ranks, "other": ranks}, bins=10).axes[1]
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, [5, 0, 0, 0, 0, 2.5, 0, 0, 0, 2.5])
    assert [bar.get_x() for bar in ax.patches] == pytest.approx(np.arange(10) / 10)


def test_coverage_is_drawn_in_percent_beside_what_was_promised():
    figure = coverage_by_horizon({"a": torch.tensor([0.8, 0.7]), "b": torch.tensor([0.5, 0.6])}, 0.8)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["a"].get_xdata().tolist() == [1, 2]
    assert lines["a"].get_ydata() == pytest.approx([80, 70]) and lines["b"].get_ydata() == pytest.approx([50, 60])
    assert lines["promised"].get_ydata() == pytest.approx([80, 80])
    assert "80% band" in figure.axes[0].get_ylabel()


@pytest.mark.parametrize("draw", [lambda: fan_chart(torch.zeros(2), {}), lambda: pit_histogram({})])
def test_nothing_is_no_picture(draw):
    with pytest.raises(ValueError, match="to draw"):
        draw()
