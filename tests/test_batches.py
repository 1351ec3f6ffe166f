"""Tests of vrnn_tutorial/batches.py."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial.batches import ContiguousStreams, RandomWindows
from vrnn_tutorial.text import Corpus

exact = {"rtol": 0, "atol": 0}


def take(batches, n: int) -> list:
    return list(itertools.islice(batches, n))


def counting(n: int) -> torch.Tensor:
    """A text in which each code is its own position, so that a batch shows where it was read."""
    return torch.arange(n)


sizes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.integers(0, 60))


@settings(deadline=None)
@given(sizes)
def test_windows_are_stretches_of_the_text(size):
    b, t, k, more = size
    windows = RandomWindows(counting(t * k + more), b, t, k)
    for x in take(windows, 5):
        assert x.dtype == torch.int64 and x.shape == ((t, b, k) if k > 1 else (t, b))
        text = x.reshape(t, b, k).transpose(0, 1).reshape(b, t * k)
        assert_close(text, text[:, :1] + counting(t * k), **exact)
        assert text.min() >= 0 and text.max() < len(windows.codes)


def test_windows_reach_both_ends_of_the_text_and_nothing_else_is_left_out():
    starts = torch.cat([x[0] for x in take(RandomWindows(counting(12), 8, length=5), 50)])
    assert set(starts.tolist()) == set(range(8))


def test_windows_are_fixed_by_the_seed():
    def first(seed):
        return torch.stack(take(RandomWindows(counting(5000), 4, 10, seed=seed), 3))

    windows = RandomWindows(counting(5000), 4, 10, seed=3)
    assert_close(first(3), first(3), **exact)
    assert not torch.equal(first(3), first(4))
    iterator = iter(windows)
    next(iterator)
    assert_close(next(iter(windows)), first(3)[0], **exact)  # each iter() starts afresh
    assert_close(next(iterator), first(3)[1], **exact)  # and disturbs no other
    torch.manual_seed(0)
    assert_close(first(3), torch.stack(take(windows, 3)), **exact)


@settings(deadline=None)
@given(sizes)
def test_streams_read_on_where_they_stopped(size):
    b, t, k, more = size
    n = t * k + more
    streams = ContiguousStreams(counting(n), b, t, k)
    xs = take(streams, 6)
    assert all(x.dtype == torch.int64 and x.shape == ((t, b, k) if k > 1 else (t, b)) for x in xs)
    columns = torch.cat(xs).reshape(6 * t, b, k).transpose(0, 1).reshape(b, -1)
    expected = (torch.arange(b)[:, None] * (n // b) + torch.arange(6 * t * k)) % n
    assert_close(columns, expected, **exact)
    assert_close(take(streams, 1)[0], xs[0], **exact)


def test_a_pass_of_the_streams_reads_each_character_once():
    xs = take(ContiguousStreams(counting(240), 4, 10), 6)
    assert sorted(torch.cat(xs).flatten().tolist()) == list(range(240))


@pytest.mark.parametrize("batches", [RandomWindows, ContiguousStreams])
def test_characters_per_step_only_fold_the_same_text(batches):
    one, four = take(batches(counting(500), 3, 20), 4), take(batches(counting(500), 3, 5, 4), 4)
    for x, folded in zip(one, four, strict=True):
        assert_close(folded.transpose(1, 2).reshape(20, 3), x, **exact)


def test_only_streams_carry_state():
    assert RandomWindows.carries_state is Corpus.carries_state is False
    assert ContiguousStreams.carries_state is True


@pytest.mark.parametrize("batches", [RandomWindows, ContiguousStreams])
def test_impossible_sizes_are_refused(batches):
    assert next(iter(batches(counting(12), 2, 4, 3))).shape == (4, 2, 3)
    with pytest.raises(ValueError, match="11 characters, but one window takes 12: give a longer text, or"):
        batches(counting(11), 2, 4, 3)
    for name in ("batch_size", "length", "characters"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            batches(counting(100), **{name: 0})
