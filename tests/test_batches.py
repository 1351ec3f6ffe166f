"""Tests of vrnn_tutorial/batches.py."""

import itertools

import numpy as np
import pytest
import torch
from helpers import exact
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vrnn_tutorial.batches import ContiguousStreams, Dequantised, RandomWindows, Sequences, dequantised
from vrnn_tutorial.text import Corpus


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

    windows = RandomWindows(counting(5000), 4, 10, seed=np.int64(3))
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
    n = max(t * k + more, b)
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
    assert RandomWindows.carries_state is Corpus.carries_state is Sequences.carries_state is False
    assert ContiguousStreams.carries_state is True


@pytest.mark.parametrize("batches", [RandomWindows, ContiguousStreams])
def test_impossible_sizes_are_refused(batches):
    assert next(iter(batches(counting(12), 2, 4, 3))).shape == (4, 2, 3)
    with pytest.raises(ValueError, match="11 characters, but one window takes 12: give a longer text, or"):
        batches(counting(11), 2, 4, 3)
    for name in ("batch_size", "length", "characters"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            batches(counting(100), **{name: 0})


def test_more_streams_than_characters_are_refused_since_two_would_be_the_same():
    assert next(iter(ContiguousStreams(counting(3), 3, 2)))[0].unique().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="the text has 3 characters, too few for batch_size=4 streams"):
        ContiguousStreams(counting(3), 4, 2)


# Sequences of unequal length


def told_apart(*lengths: int) -> list[torch.Tensor]:
    """Sequences of these lengths, the i-th of which (from 1) holds nothing but i."""
    return [torch.full((length,), i) for i, length in enumerate(lengths, 1)]


def members(x, lengths) -> list[int]:
    """Which of `told_apart` stand in a batch; each is whole, and has nothing but zeros behind it."""
    for column, length in zip(x.T, lengths.tolist(), strict=True):
        assert (column[:length] == column[0]).all() and not column[length:].any()
    return x[0].tolist()


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_each_pass_has_every_sequence_once_and_no_small_batch_at_its_end(lengths, batch_size):
    sequences = Sequences(told_apart(*lengths), batch_size)
    batches = take(sequences, 2 * -(-len(lengths) // batch_size))
    for one_pass in (batches[: len(batches) // 2], batches[len(batches) // 2 :]):
        found = {i: n for x, n_ in one_pass for i, n in zip(members(x, n_), n_.tolist(), strict=True)}
        assert found == dict(enumerate(lengths, 1))
        sizes = [x.shape[1] for x, _ in one_pass]
        assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
        assert all(len(x) == n.max() and x.dtype == n.dtype == torch.int64 for x, n in one_pass)


def test_every_pass_is_shuffled_anew_in_its_batches_and_in_their_order():
    sequences = Sequences(told_apart(*range(40, 80)), 8)
    passes = [[frozenset(members(*batch)) for batch in take(sequences, 20)[i : i + 5]] for i in (0, 5, 10, 15)]
    assert len({frozenset(one) for one in passes}) == 4
    longest = [max(range(5), key=lambda i, one=one: max(one[i])) for one in passes]
    assert len(set(longest)) > 1


def test_sequences_are_fixed_by_the_seed():
    def first(seed):
        return [members(*batch) for batch in take(Sequences(told_apart(*range(1, 30)), 4, seed=seed), 20)]

    sequences = Sequences(told_apart(*range(1, 30)), 4, seed=np.int64(3))
    assert first(3) == first(3) != first(4)
    iterator = iter(sequences)
    next(iterator)
    assert members(*next(iter(sequences))) == first(3)[0]  # each iter() starts afresh
    assert members(*next(iterator)) == first(3)[1]  # and disturbs no other
    torch.manual_seed(0)
    assert [members(*batch) for batch in take(sequences, 20)] == first(3)
    assert Sequences(told_apart(1)).seed == 0 and first(0) != first(3)


def test_little_of_a_batch_is_padding():
    lengths = torch.randint(24, 161, (2000,), generator=torch.Generator().manual_seed(0))
    batches = take(Sequences(told_apart(*lengths.tolist())), 32)
    read = sum(x.numel() for x, _ in batches)
    assert all(x.shape[1] in (62, 63) for x, _ in batches)  # 2000 in the 32 batches that 64 at most make necessary
    # Unsorted, it would be four tenths; sorted, at least what lies between neighbours; and a tenth is stretched.
    assert 0.02 < 1 - lengths.sum() / read < 0.08


def test_arrays_and_vectors_are_taken_and_kept_as_they_are():
    (x, lengths), *_ = take(Sequences([np.ones((2, 3)), np.ones((4, 3))]), 1)
    assert x.dtype == torch.float64 and x.shape == (4, 2, 3)
    assert x.sum((0, 2)).tolist() == [3 * n for n in lengths.tolist()] and sorted(lengths.tolist()) == [2, 4]


def test_sequences_of_no_steps_are_left_out():
    batches = take(Sequences(told_apart(0, 3, 0, 0, 2, 0), 2), 3)
    assert [sorted(members(*batch)) for batch in batches] == [[2, 5]] * 3


def test_held_out_sequences_are_kept_as_x_and_lengths_even_a_single_one():
    assert Sequences(told_apart(3)).validation is None
    for held_out in ([torch.ones(4, 2)], [np.ones((4, 2), dtype=np.float32), torch.ones(1, 2), torch.ones(0, 2)]):
        x, lengths = Sequences([torch.zeros(3, 2)], validation=held_out).validation
        assert lengths.tolist() == [4, 1, 0][: len(held_out)] and x.shape == (4, len(held_out), 2)
        assert x.sum((0, 2)).tolist() == [8, 2, 0][: len(held_out)]


def test_batch_first_holds_for_batches_and_for_what_is_held_out():
    sequences = Sequences([torch.ones(3, 2)] * 5, 5, validation=[torch.ones(4, 2)] * 6, batch_first=True)
    assert next(iter(sequences))[0].shape == (5, 3, 2) and sequences.validation[0].shape == (6, 4, 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (dict(sequences=[]), r"none has \(sequences given: 0\)"),
        (dict(sequences=told_apart(0, 0)), r"none has \(sequences given: 2\)"),
        (dict(sequences=[torch.zeros(3, 2), torch.zeros(3, 1)]), r"alike .*\(T, 1\) and .*\(T, 2\)"),
        (dict(sequences=[torch.zeros(3), torch.zeros(3).long()]), r"alike .*float32 \(T\) and torch.int64 \(T\)"),
        (dict(sequences=told_apart(3), validation=[torch.zeros(3)]), r"alike .*float32 \(T\) and torch.int64 \(T\)"),
        (dict(sequences=told_apart(3), validation=told_apart(0)), r"none has \(sequences given: 1\)"),
        (dict(sequences=told_apart(3), batch_size=0), "batch_size must be at least 1, not 0"),
    ],
)
def test_sequences_that_make_no_corpus_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Sequences(**arguments)


# Noise on whole numbers


def pairs(*lengths: int) -> list[torch.Tensor]:
    """Sequences (T_i, 2), the i-th of which (from 1) holds nothing but i."""
    return [sequence[:, None].expand(-1, 2).float() for sequence in told_apart(*lengths)]


@pytest.mark.parametrize("batch_first", [False, True])
def test_noise_is_as_wide_as_asked_for_fresh_in_each_batch_and_not_in_the_padding(batch_first):
    plain = Sequences(pairs(*range(40, 80)), 8, seed=3, batch_first=batch_first)
    noisy = Dequantised(pairs(*range(40, 80)), 8, seed=3, batch_first=batch_first, width=(1.0, 0.0))
    found = []
    for (x, lengths), (y, same) in zip(take(plain, 20), take(noisy, 20), strict=True):
        assert torch.equal(lengths, same) and torch.equal(x[..., 1], y[..., 1])
        noise = (y - x)[..., 0] if not batch_first else (y - x)[..., 0].T
        real = torch.arange(len(noise))[:, None] < lengths
        assert not noise[~real].any()
        found.append(noise[real])
    every = torch.cat(found)
    assert -0.5 <= every.min() < -0.499 and 0.499 < every.max() <= 0.5 and abs(every.mean()) < 0.01
    assert every.var().item() == pytest.approx(1 / 12, rel=0.03)
    assert len(every.unique()) > 0.99 * len(every)


def test_noise_is_fixed_by_the_seed():
    def first(seed):
        return torch.cat([x.flatten() for x, _ in take(Dequantised(pairs(3, 3, 3), 1, seed=seed), 6)])

    noisy = Dequantised(pairs(3, 3, 3), 1, seed=3)
    next(iter(noisy))
    torch.manual_seed(0)
    assert_close(torch.cat([x.flatten() for x, _ in take(noisy, 6)]), first(3), **exact)
    assert not torch.equal(first(3).round(), first(3)) and not torch.equal(first(3), first(4))


def test_held_out_sequences_get_noise_that_stays():
    held_out = dequantised(pairs(30, 20), (0.0, 2.0), seed=1)
    x, lengths = Dequantised(pairs(3), validation=held_out).validation
    assert lengths.tolist() == [30, 20] and torch.equal(x[:20, 1], held_out[1])
    noise = torch.cat([a - b for a, b in zip(held_out, pairs(30, 20), strict=True)])
    assert not noise[:, 0].any() and noise[:, 1].min() < -0.9 and 0.9 < noise[:, 1].max() <= 1
    assert not torch.equal(noise[:20], noise[30:])
    again, other = (torch.cat(dequantised(pairs(30, 20), (0.0, 2.0), seed)) for seed in (1, 2))
    assert torch.equal(torch.cat(held_out), again) and not torch.equal(torch.cat(held_out), other)


def test_codes_are_not_given_noise():
    with pytest.raises(ValueError, match="noise is added to real numbers, not to torch.int64"):
        next(iter(Dequantised(told_apart(3))))
