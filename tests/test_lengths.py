"""Tests of vrnn_tutorial/lengths.py."""

import math

import numpy as np
import pytest
import torch
from helpers import exact
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from vrnn_tutorial.lengths import as_batch, as_sequences, check_lengths, mean_over_steps, pad, real_steps


def lengths_of(*lengths: int) -> torch.Tensor:
    return torch.tensor(lengths, dtype=torch.int64)


# Which steps are real, and means over them


def test_the_steps_before_a_sequences_end_are_real():
    expected = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 1]]).bool()
    assert_close(real_steps(lengths_of(0, 2, 3), 3), expected, **exact)


def test_the_mean_is_taken_over_real_steps_each_counted_once():
    values = torch.tensor([[1.0, 2.0], [3.0, 100.0], [5.0, 100.0]])
    mean = mean_over_steps(values, real_steps(lengths_of(3, 1), 3))
    assert mean.shape == () and mean.item() == 11 / 4


def test_without_steps_the_mean_is_the_plain_one_to_the_last_bit():
    values = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    assert_close(mean_over_steps(values), values.mean(), **exact)
    assert_close(mean_over_steps(values.T), values.T.mean(), **exact)


@pytest.mark.parametrize("padding", [math.nan, math.inf])
def test_what_stands_in_the_padding_reaches_neither_mean_nor_gradient(padding):
    values = torch.tensor([[1.0, 2.0], [4.0, padding]], requires_grad=True)
    mean = mean_over_steps(values, real_steps(lengths_of(2, 1), 2))
    mean.backward()
    assert mean.item() == pytest.approx(7 / 3)
    assert_close(values.grad, torch.tensor([[1.0, 1.0], [1.0, 0.0]]) / 3)


def test_a_batch_of_no_real_step_has_no_mean():
    with pytest.raises(ValueError, match="no real step"):
        mean_over_steps(torch.zeros(3, 2), real_steps(lengths_of(0, 0), 3))


# Lengths


def test_lengths_from_none_to_all_steps_are_taken():
    check_lengths(lengths_of(0, 5, 3), 5, 3)


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        (lengths_of(1, 2), r"shape \(3,\), one for each sequence, not torch.int64 \(2,\)"),
        (lengths_of(1, 2, 3)[None], r"not torch.int64 \(1, 3\)"),
        (lengths_of(1, 2, 3).int(), r"must be an int64 tensor .*not torch.int32 \(3,\)"),
        (lengths_of(1, 2, 3).float(), r"not torch.float32"),
        ([1, 2, 3], r"not \[1, 2, 3\]"),
        (lengths_of(1, 6, 3), "between 0 and T=5; these go from 1 to 6"),
        (lengths_of(-1, 5, 3), "between 0 and T=5; these go from -1 to 5"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_lengths(lengths, 5, 3)


def test_an_exported_program_does_not_depend_on_the_lengths():
    class Masked(torch.nn.Module):
        def forward(self, x, lengths):
            check_lengths(lengths, *x.shape)
            return x * real_steps(lengths, len(x))

    x = torch.ones(3, 2)
    program = torch.export.export(Masked(), (x, lengths_of(3, 1))).module()
    assert program(x, lengths_of(0, 2)).sum(0).tolist() == [0, 2]


# Padding


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any), st.sampled_from([(), (2,), (2, 3)]), st.booleans()
)
def test_padding_keeps_each_sequence_and_puts_zeros_behind_it(sizes, rest, batch_first):
    sequences = [torch.arange(1, 1 + size * math.prod(rest)).view(size, *rest) for size in sizes]
    x, lengths = pad(sequences, batch_first)
    assert lengths.dtype == torch.int64 and lengths.tolist() == sizes
    x = x if batch_first else x.transpose(0, 1)
    assert x.shape == (len(sizes), max(sizes), *rest) and x.dtype == torch.int64
    for row, sequence in zip(x, sequences, strict=True):
        assert_close(row[: len(sequence)], sequence, **exact)
        assert not row[len(sequence) :].any()


@pytest.mark.parametrize(
    ("sequences", "complaint"),
    [
        ([], r"none has \(sequences given: 0\)"),
        ([torch.zeros(0, 2), torch.zeros(0, 2)], r"none has \(sequences given: 2\)"),
        ([torch.zeros(3, 2), torch.zeros(3, 4)], r"alike .*torch.float32 \(T, 2\) and torch.float32 \(T, 4\)"),
        (
            [torch.zeros(3), torch.zeros(3, 2), torch.zeros(3)],
            r"alike .*torch.float32 \(T\) and torch.float32 \(T, 2\)",
        ),
        ([torch.zeros(3, 2), torch.zeros(3, 2).double()], r"alike .*torch.float32 \(T, 2\) and torch.float64 \(T, 2\)"),
        ([torch.zeros(3), torch.tensor(1.0)], r"an axis of time, .*torch.float32 \(\) and torch.float32 \(T\)"),
        ([torch.tensor(1.0), torch.tensor(2.0)], r"an axis of time, .*torch.float32 \(\)"),
        ([torch.zeros(2), [1.0, 2.0]], "; a list is none"),
        ([np.array(["a", "b"])], "; an array of <U1 is none"),
    ],
)
def test_sequences_that_make_no_batch_are_refused(sequences, complaint):
    for function in (pad, as_sequences):
        with pytest.raises(ValueError, match=complaint):
            function(sequences)


# What a batch is


@pytest.mark.parametrize("as_is", [torch.Tensor.clone, torch.Tensor.numpy])
def test_an_x_alone_has_no_lengths(as_is):
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    for batch in (as_is(x), [as_is(x)], (as_is(x),)):
        found, lengths = as_batch(batch)
        assert lengths is None
        assert_close(found, x, **exact)


def test_a_dataloaders_batch_is_its_x():
    rows = torch.randn(6, 5, 2)
    x, lengths = as_batch(next(iter(DataLoader(TensorDataset(rows), batch_size=4))), batch_first=True)
    assert lengths is None
    assert_close(x, rows[:4], **exact)


@pytest.mark.parametrize("pair", [tuple, list])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
def test_two_of_which_the_second_counts_the_steps_are_x_and_lengths(pair, shape):
    x, lengths = torch.randn(shape), lengths_of(4, 0, 2)
    for batch in (pair((x, lengths)), pair((x.numpy(), lengths.numpy()))):
        for found, expected in zip(as_batch(batch), (x, lengths), strict=True):
            assert_close(found, expected, **exact)
    found, _ = as_batch(pair((x.transpose(0, 1), lengths)), batch_first=True)
    assert found.shape[:2] == (3, 4)


def test_lengths_of_another_type_or_of_another_x_are_refused_and_not_read_as_a_sequence():
    x = torch.randn(4, 3, 2)
    for lengths, complaint in (
        (lengths_of(4, 0, 2).int(), "int64"),
        (np.array([4.0, 0.0, 2.0]), "int64"),
        (lengths_of(4, 0), r"shape \(3,\)"),
        (lengths_of(4, 0, 5), "T=4"),
    ):
        with pytest.raises(ValueError, match=complaint):
            as_batch((x, lengths))
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        as_batch((x, lengths_of(3, 0, 2)), batch_first=True)


def test_two_sequences_of_codes_are_two_sequences():
    x, lengths = as_batch([lengths_of(7, 8, 9), lengths_of(5, 6)])
    assert x.tolist() == [[7, 5], [8, 6], [9, 0]] and lengths.tolist() == [3, 2]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("outer", [tuple, list])
def test_any_other_list_holds_sequences_one_of_which_may_be_empty(outer, count, batch_first):
    sequences = [np.ones((3, 2)), np.zeros((0, 2)), np.ones((1, 2))][:count]
    x, lengths = as_batch(outer(sequences), batch_first)
    assert x.dtype == torch.float64 and lengths.tolist() == [3, 0, 1][:count]
    assert x.shape == ((count, 3, 2) if batch_first else (3, count, 2))
    assert x.sum((1, 2) if batch_first else (0, 2)).tolist() == [6, 0, 2][:count]


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(3, 2)[::-1], np.broadcast_to(np.arange(2.0), (3, 2)), np.arange(12.0).reshape(6, 2)[::2]],
)
def test_arrays_that_run_backwards_or_are_read_only_are_taken(array):
    assert_close(as_batch(array)[0], torch.tensor(array.tolist(), dtype=torch.float64), **exact)


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (None, "a NoneType"),
        ("text", "a str"),
        ({"x": torch.zeros(3, 2)}, "a dict"),
        ([[1.0, 2.0], [3.0]], "a list"),
        ([torch.zeros(3, 2), [3, 2]], "a list"),
        (np.array([np.zeros(2), np.zeros(3)], dtype=object), "an array of object"),
        (np.arange(3, dtype=">i4"), "an array of >i4"),
    ],
)
def test_what_is_no_batch_is_refused(batch, found):
    with pytest.raises(ValueError, match=f"^a batch is x, .*; {found} is none of these.$"):
        as_batch(batch)


def test_an_empty_list_is_no_batch():
    with pytest.raises(ValueError, match=r"none has \(sequences given: 0\)"):
        as_batch([])
