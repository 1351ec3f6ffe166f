"""Tests of vrnn_tutorial/series.py: a reader's CSV, whatever is wrong with it, and how sequences are cut."""

import io
import itertools
import math

import pytest
import torch
from helpers import exact

from vrnn_tutorial import Gaussian, Scaled
from vrnn_tutorial.series import (
    differences,
    evenly_spaced,
    read_csv,
    restored,
    split_by_group,
    split_by_time,
    windows,
)

GOOD = "date,a,b\n2001-12-01,1,2.5\n2001-12-08,,-3e2\n2001-12-29,4,nan\n"
SEVERAL = "who,a\nx,1\nx,2\ny,3\ny,4\ny,5\n"


@pytest.fixture
def csv(tmp_path):
    """A function that writes a CSV file and returns its path."""

    def write(text: str | bytes):
        path = tmp_path / "mine.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_columns_are_read_in_the_order_in_which_they_are_asked_for(csv):
    found = read_csv(csv(GOOD), ["b", "a"], time="date")
    (x,) = found.sequences
    torch.testing.assert_close(x, torch.tensor([[2.5, 1], [-300, math.nan], [math.nan, 4]]), equal_nan=True, **exact)
    assert found.columns == ("b", "a") and found.names == ["mine.csv"] and x.dtype == torch.float32
    assert [date.isoformat() for date in found.times[0]] == [f"2001-12-{day}T00:00:00" for day in ("01", "08", "29")]
    assert read_csv(csv(GOOD), ["a"]).times == []


@pytest.mark.parametrize(
    "text", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD + "\n,,\n", GOOD.replace("date,a", " date , a")]
)
def test_what_other_programs_write_is_the_same_table(csv, text):
    one, other = (read_csv(csv(t), ["a", "b"], time="date") for t in (GOOD, text))
    torch.testing.assert_close(one.sequences, other.sequences, equal_nan=True, **exact)
    assert one.times == other.times


def test_an_open_file_is_read_as_a_frame_writes_it():
    assert read_csv(io.StringIO(",a\n0,1.0\n1,2.0\n"), ["a"]).sequences[0].tolist() == [[1], [2]]


def test_dates_may_be_written_without_dashes_and_with_the_time_of_the_day(csv):
    found = read_csv(csv("t,a\n20011229,1\n2001-12-29T18:30,2\n"), ["a"], time="t")
    assert (found.times[0][1] - found.times[0][0]).total_seconds() == 18.5 * 3600


def test_each_sequence_has_its_rows(csv):
    found = read_csv(csv(SEVERAL), ["a"], sequence="who")
    assert found.names == ["x", "y"] and [x.tolist() for x in found.sequences] == [[[1], [2]], [[3], [4], [5]]]


def test_dates_start_anew_with_each_sequence(csv):
    text = "who,t,a\nx,2001-02-02,1\nx,2001-02-03,1\ny,2001-02-01,1\ny,2001-02-02,1\n"
    assert [len(times) for times in read_csv(csv(text), ["a"], time="t", sequence="who").times] == [2, 2]


WRONG = [
    ("", r"^mine\.csv has no first line with the names of its columns"),
    ("1,2\n3,4\n", r"begins with numbers, 1, 2: its first line must name the columns"),
    ("date,a\n", r"no row of readings"),
    ("date,b\n2001-01-01,1\n2001-01-02,2\n", r"has no column 'a'; its columns are 'date', 'b'"),
    ("a,date,a\n1,2001-01-01,2\n", r"has more than one column 'a'"),
    (GOOD.replace(",4,", ",n/a,"), r"mine\.csv, line 4: 'n/a' in column 'a' is no number; leave the cell empty"),
    (GOOD.replace(",4,", ",-inf,"), r"line 4: column 'a' is infinite"),
    (GOOD.replace(",1,", ",,").replace(",4,", ",NaN,"), r"column 'a' has no reading in any of its rows"),
    ("date,a\n2001-12-01,1\n", r"has one row of readings"),
    (GOOD.replace("-29,", "-08,"), r"line 4: 2001-12-08 00:00:00 does not come after 2001-12-08 00:00:00"),
    (GOOD.replace("-29,", "-07,"), r"line 4: 2001-12-07 00:00:00 does not come after"),
    (GOOD.replace("2001-12-29", "29.12.2001"), r"line 4: '29\.12\.2001' in column 'date' is no date"),
    (GOOD.replace(",4,", ","), r"line 4 has 2 cells, and there are 3 columns"),
    (GOOD.replace(",4,", ",4,5,"), r"line 4 has 4 cells, and there are 3 columns"),
    (GOOD.encode("utf-16"), r"mine\.csv is not a text in UTF-8"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence(csv, text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_csv(csv(text), ["a"], time="date")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("columns", ["a", [], ["a", "a"]])
def test_columns_are_a_list_of_different_names(csv, columns):
    with pytest.raises(ValueError, match="list of different names"):
        read_csv(csv(GOOD), columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SEVERAL + "x,6\n", "line 7: sequence 'x' goes on after another one"),
        (SEVERAL + "z,6\n", "sequence 'z' in .* has one row"),
        (SEVERAL.replace("who", "whom"), "no column 'who'"),
    ],
)
def test_what_is_wrong_with_several_sequences(csv, text, message):
    with pytest.raises(ValueError, match=message):
        read_csv(csv(text), ["a"], sequence="who")


def test_a_column_may_be_empty_in_some_of_the_sequences(csv):
    found = read_csv(csv(SEVERAL.replace("x,1\nx,2", "x,\nx,")), ["a"], sequence="who")
    assert torch.isnan(found.sequences[0]).all() and found.sequences[1].isfinite().all()


def test_absent_rows_become_missing_ones_with_their_dates(csv):
    text = "who,t,a\nx,2001-01-01,1\nx,2001-01-02,2\nx,2001-01-05,3\ny,2001-03-01,4\ny,2001-03-02,5\n"
    found = evenly_spaced(read_csv(csv(text), ["a"], time="t", sequence="who"))
    assert [f"{x[:, 0].tolist()}" for x in found.sequences] == ["[1.0, 2.0, nan, nan, 3.0]", "[4.0, 5.0]"]
    assert [[date.day for date in times] for times in found.times] == [[1, 2, 3, 4, 5], [1, 2]]
    assert (found.names, found.columns) == (["x", "y"], ("a",))


def test_months_are_evenly_spaced_as_they_are(csv):
    months = [f"2001-{month:02}-01" for month in range(1, 13) if month != 8]
    found = evenly_spaced(read_csv(csv("t,a\n" + "".join(f"{day},1\n" for day in months)), ["a"], time="t"))
    assert torch.isnan(found.sequences[0]).nonzero().tolist() == [[7, 0]]
    assert [date.month for date in found.times[0]] == list(range(1, 13))
    # Two readings of a day are more than usual, and nothing is absent between them.
    twice = "t,a\n2001-01-01,1\n2001-01-02,2\n2001-01-02T06:00,3\n2001-01-03,4\n2001-01-04,5\n"
    assert len(evenly_spaced(read_csv(csv(twice), ["a"], time="t")).sequences[0]) == 5


def test_without_dates_nothing_is_known_to_be_absent(csv):
    with pytest.raises(ValueError, match="no dates: name their column"):
        evenly_spaced(read_csv(csv(GOOD), ["a"]))


def test_by_time_what_is_learned_from_came_first():
    long, short = torch.arange(100.0)[:, None], torch.arange(20.0)[:, None]
    parts = split_by_time([long, short], 0.2, 0.1)
    assert [list(map(len, part)) for part in parts] == [[70, 14], [20, 4], [10, 2]]
    for i, x in enumerate((long, short)):
        torch.testing.assert_close(torch.cat([part[i] for part in parts]), x, **exact)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.0, 0.1), (0.1, 0.0), (0.01, 0.2)])
def test_by_time_no_part_is_empty(shares):
    with pytest.raises(ValueError, match="20 steps cannot be split"):
        split_by_time([torch.zeros(20, 1)], *shares)


def test_by_group_each_is_in_one_part_and_all_are_somewhere():
    sequences = [torch.full((2, 1), float(i)) for i in range(40)]
    groups = [f"machine {i % 10}" for i in range(40)]
    parts = split_by_group(sequences, groups, 0.2, 0.2)
    found = [{float(x[0, 0]) % 10 for x in part} for part in parts]
    assert [len(part) for part in parts] == [24, 8, 8] and [len(part) for part in found] == [6, 2, 2]
    assert not any(one & other for one, other in itertools.combinations(found, 2))
    # Neither the order of the sequences nor that of Python's hashes has to do with it.
    again = split_by_group(sequences[::-1], groups[::-1], 0.2, 0.2)
    assert [{float(x[0, 0]) % 10 for x in part} for part in again] == found


def test_two_groups_make_no_three_parts():
    with pytest.raises(ValueError, match="2 groups cannot be split"):
        split_by_group([torch.zeros(2, 1)] * 4, ["a", "b"] * 2)


def test_windows_begin_at_each_stride_and_are_whole():
    x = torch.arange(20.0).view(10, 2)
    found = windows(x, 4, 3)
    assert [float(window[0, 0]) / 2 for window in found] == [0, 3, 6]
    torch.testing.assert_close(found[1], x[3:7], **exact)
    with pytest.raises(ValueError, match="10 steps hold no window of 11"):
        windows(x, 11, 1)


@pytest.mark.parametrize("lag", [1, 3])
def test_what_differences_took_away_comes_back(lag):
    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)).double()
    changes = differences(x, lag)
    assert changes.shape == (12 - lag, 2)
    torch.testing.assert_close(restored(x[:5], changes[5 - lag :], lag), x[5:])
    # Several futures at a time, each by itself.
    both = restored(x[:5], torch.stack([changes[5 - lag :], 0 * changes[5 - lag :]]), lag)
    torch.testing.assert_close(both[0], x[5:])
    torch.testing.assert_close(both[1], x[torch.arange(5, 12).sub(5) % lag + 5 - lag])


def test_a_missing_reading_leaves_out_two_differences():
    x = torch.arange(6.0)[:, None]
    x[2] = torch.nan
    assert torch.isnan(differences(x, 2)[:, 0]).tolist() == [True, False, True, False]
    assert torch.isnan(restored(x[:4], torch.zeros(4, 1), 2)[:, 0]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("lag", [0, 6])
def test_a_lag_lies_within_the_sequence(lag):
    with pytest.raises(ValueError, match=f"lag={lag}"):
        differences(torch.zeros(6, 1), lag)
    with pytest.raises(ValueError, match=f"lag={lag}"):
        restored(torch.zeros(5, 1), torch.zeros(4, 1), lag)


def test_the_scaler_comes_back_by_itself():
    """Nets see standardised numbers; densities and draws are in the file's own units, so that nothing is undone."""
    x = 300 + 20 * torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)).double()
    x[::7, 0] = torch.nan
    emission = Scaled.fit(Gaussian(missing=True), [x[:2000], x[2000:]])
    seen = emission.inputs(x)[:, :2]
    known = ~torch.isnan(x)
    assert [float(seen[known[:, i], i].mean()) for i in (0, 1)] == pytest.approx([0, 0], abs=1e-9)
    assert [float(seen[known[:, i], i].square().mean()) for i in (0, 1)] == pytest.approx([1, 1], abs=1e-9)
    unit = emission.distribution(torch.zeros(5000, 4).double())
    drawn = unit.sample(generator=torch.Generator().manual_seed(1))
    assert drawn.mean(0).tolist() == pytest.approx([300, 300], abs=1)
    assert drawn.std(0).tolist() == pytest.approx([20, 20], abs=1)
    # log p in the file's units, by torch's own Gaussian.
    each = torch.distributions.Normal(emission.shift, emission.scale).log_prob(x.nan_to_num(0.0))
    expected = each.masked_fill(~known, 0.0).sum(1)
    torch.testing.assert_close(unit.log_prob(x), expected, rtol=1e-2, atol=0.05)
