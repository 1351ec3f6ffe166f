"""Tests of vrnn_tutorial/benchmark.py: that it compares like with like, and that VRNN keeps its promise of speed."""

import re
from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from vrnn_tutorial import VRNN, VRNNCell, benchmark, bounds
from vrnn_tutorial.benchmark import Cost, Speed, growth, interleave, matrix_products, source_loop, training_speed


def test_the_source_s_loop_and_vrnn_have_the_same_loss_and_gradients():
    torch.manual_seed(0)
    model = VRNN(VRNNCell(20, 7, 5, embedding_size=6)).double()
    x, noise = torch.randint(20, (9, 4)), torch.randn(9, 4, 5, dtype=torch.float64)
    losses, gradients = [], []
    for loss in (source_loop(model.cell, x, noise), bounds.loss(model(x, noise=noise))):
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    assert_close(*losses, rtol=1e-10, atol=0)
    assert_close(*gradients, rtol=1e-8, atol=1e-10)


def flops(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


# With 6 x 4 characters there are fewer of them than codes; with 9 x 4 there are more, and VRNN looks the products of x
# up in a table with one row per code, so that their cost stays what it is however long the sequence.
@pytest.mark.parametrize("length", [6, 9])
def test_the_floor_multiplies_as_often_as_an_update_of_vrnn(length):
    cell = VRNNCell(30, 7, 5, embedding_size=6)
    model, x = VRNN(cell), torch.randint(30, (length, 4))
    update = flops(lambda: bounds.loss(model(x)).backward())
    # By hand: three products per weight, two operations per multiplication; the weights in the order of the docstring.
    recurrent, batched, of_x = 7 * 5 + 21 * 7 + 21 * 7 + 10 * 7, 10 * 7 + 30 * 14, 6 * 6 + 10 * 6 + 21 * 6
    assert update == 3 * 2 * (length * 4 * (recurrent + batched) + min(length * 4, 30) * of_x)
    assert flops(matrix_products(cell, length, 4)) == update


def test_runs_take_turns_and_the_first_round_does_not_count(monkeypatch):
    clock, calls = [0.0], []

    def run(name, seconds):
        calls.append(name)
        clock[0] += seconds if len(calls) > 2 else 1000.0

    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    speeds = interleave({"A": (10, lambda: run("A", 2.0)), "B": (12, lambda: run("B", 3.0))}, rounds=3)
    assert "".join(calls) == "ABABABAB"
    assert speeds == {"A": Speed(10, [2.0, 2.0, 2.0]), "B": Speed(12, [3.0, 3.0, 3.0])}


def test_speed_is_that_of_the_median_round():
    assert Speed(100, [1.0, 50.0, 2.0]).per_second == 50.0


def test_an_update_changes_the_parameters_by_the_gradient_of_one_loss_alone():
    weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    model = torch.nn.ParameterList([weight])
    update = benchmark.training_update(model, lambda: weight.square().sum())
    update()
    assert_close(weight.data, torch.tensor([0.999, -0.999]))  # Adam's first step is the learning rate, 0.001
    update()
    assert_close(weight.grad, 2 * torch.tensor([0.999, -0.999]))  # not added to the first one's


def test_generation_counts_the_characters_that_are_written(monkeypatch):
    written = []
    generate_many = benchmark.generate_many
    monkeypatch.setattr(benchmark, "generate_many", lambda *a, **k: written.append(generate_many(*a, **k)))
    speeds = benchmark.generation_speed(streams=3, length=5, rounds=1)
    assert [speed.characters for speed in speeds.values()] == [sum(map(len, texts)) for texts in written[:2]] == [5, 15]


def test_vrnn_trains_at_least_1_4_times_as_fast_as_the_source_s_loop():
    # A busy machine only adds time, so each one's fastest round tells most, and more rounds tell more.
    source, vrnn = [], []
    for _ in range(5):
        speeds = training_speed(batch_size=64, length=300, rounds=2)
        source += speeds["source's loop"].seconds
        vrnn += speeds["VRNN"].seconds
        if min(source) >= 1.4 * min(vrnn):
            return
    pytest.fail(f"fastest update in seconds: source's loop {min(source)}, VRNN {min(vrnn)}")


def test_memory_is_that_of_the_update_alone_and_grows_linearly():
    held = torch.ones(200_000_000)  # 800 MB of this process, of which the children must show nothing
    short, long = growth([75, 300], 64)
    del held
    model, x = VRNN(), torch.randint(128, (300, 64))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        benchmark.training_update(model, lambda: bounds.loss(model(x)))()
    events = profile.profiler.kineto_results.events()
    # What torch had allocated at the peak. The process holds somewhat more: what is freed does not all go back at once.
    peak = max(accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
    assert peak < long.memory < 2 * peak
    assert 3.2 < long.memory / short.memory < 4.8
    assert (short.length, long.length) == (75, 300) and short.seconds < long.seconds


def test_of_a_long_sequence_about_half_is_kept_of_what_a_short_one_keeps():
    short, long = growth([300, 1200], 64)
    assert long.memory < 0.55 * 4 * short.memory


def test_the_report_prints_the_quotients_of_its_numbers(monkeypatch):
    costs = {
        4: [Cost(20, 0.010, 2_000_000), Cost(60, 0.033, 5_400_000)],
        8: [Cost(20, 0.2, 10**7), Cost(60, 0.5, 10**8)],
    }
    monkeypatch.setattr(benchmark, "growth", lambda lengths, batch_size: costs[batch_size])
    text = "\n".join(benchmark.report(batch_size=8, length=20, rounds=1, lengths=(20, 60), batch_sizes=(4, 8)))
    assert f"threads: {torch.get_num_threads()}" in text and f"torch {torch.__version__}" in text
    speed = {name: float(number.replace(",", "")) for name, number in re.findall(r"(.+?) +([\d,]+) characters/s", text)}
    ratio = {name: float(number) for name, number in re.findall(r"VRNN / (.+?): ([\d.]+)", text)}
    assert ratio.keys() == {"source's loop", "matrix products"} and "streams: 8" in speed
    for name in ratio:
        assert ratio[name] == pytest.approx(speed["VRNN"] / speed[name], rel=0.005, abs=0.006)
    growth_lines = text.splitlines()[-6:]
    assert [line.split() for line in growth_lines if not line.startswith("T")] == [
        ["4", "20", "10.0", "125.00", "2.0"],
        ["4", "60", "33.0", "137.50", "5.4"],
        ["8", "20", "200.0", "1250.00", "10.0"],
        ["8", "60", "500.0", "1041.67", "100.0"],
    ]
    assert growth_lines[2] == "T = 60 / T = 20, divided by 3: time 1.10, memory 0.90"
    assert growth_lines[5] == "T = 60 / T = 20, divided by 3: time 0.83, memory 3.33"
