"""Tests of vrnn_tutorial/schedules.py: the schedules, and what is none."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vrnn_tutorial.schedules import Cosine, Ramp, value_at


@given(st.floats(0, 5), st.floats(0, 5), st.integers(1, 1000), st.integers(0, 3000))
def test_a_linear_schedule_goes_from_start_to_stop_and_stays(start, stop, updates, update):
    schedule = Ramp(start, stop, updates)
    assert schedule(0) == start
    expected = stop if update >= updates else start + (stop - start) * update / updates
    assert schedule(update) == pytest.approx(expected, abs=1e-12)


def test_the_linear_annealing_of_the_kl_weight():
    weight = Ramp(0.0, 1.0, 200)
    assert [weight(update) for update in (0, 50, 100, 200, 201, 5000)] == [0, 0.25, 0.5, 1, 1, 1]


def test_cosine():
    rate = Cosine(0.8, updates=110, warmup=10)
    expected = {0: 0.08, 4: 0.4, 9: 0.8, 10: 0.8, 60: 0.4, 85: 0.8 * 0.5 * (1 - math.sqrt(0.5)), 110: 0, 500: 0}
    assert {n: rate(n) for n in expected} == pytest.approx(expected, abs=1e-12)


def test_a_number_is_a_schedule_and_so_is_any_function_of_the_updates_done():
    for schedule in (0.25, np.float32(0.25), torch.tensor(0.25), lambda n: n / 4, lambda n: np.float64(n / 4)):
        assert value_at("rate", schedule, 1) == 0.25 and type(value_at("rate", schedule, 1)) is float
    assert value_at("rate", 0, 1) == 0


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, None, "fast", 1j], ids=str)
def test_what_is_no_finite_number_of_zero_or_more_is_named_with_its_update(value):
    sentence = "must be a finite number, zero or more, not"
    with pytest.raises(ValueError) as error:
        value_at("rate", value, 3)
    assert str(error.value) == f"rate {sentence} {value}."
    with pytest.raises(ValueError) as error:
        value_at("rate", lambda n: value if n == 500 else 1.0, 500)
    assert str(error.value) == f"rate after 500 updates {sentence} {value}."


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ramp(-1.0, 1.0, 5), "a ramp's start must be a finite number, zero or more, not -1.0."),
        (lambda: Ramp(0.0, math.nan, 5), "a ramp's stop must be a finite number, zero or more, not nan."),
        (lambda: Ramp(0.0, 1.0, 0), "a ramp takes one update or more, not 0."),
        (lambda: Ramp(0.0, 1.0, -5), "a ramp takes one update or more, not -5."),
        (lambda: Ramp(0.0, 1.0, math.nan), "a ramp takes one update or more, not nan."),
        (lambda: Cosine(math.inf, 5), "a cosine's peak must be a finite number, zero or more, not inf."),
        (lambda: Cosine(0.1, 0), "a cosine takes one update or more, and none or more to rise, not 0 and 100."),
        (lambda: Cosine(0.1, 5, -1), "a cosine takes one update or more, and none or more to rise, not 5 and -1."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_that_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == sentence
