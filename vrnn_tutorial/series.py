"""Readings out of a CSV file as sequences; their parts, windows, and differences from a season ago (chapter 9)."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple, TextIO

import torch
from torch import Tensor

from .corpora.piano_rolls import Parts
from .files import sha256


class Series(NamedTuple):
    """Sequences of readings, each (T_i, D) float32, with NaN where there is none, in the order of the file."""

    columns: tuple[str, ...]
    names: list[str]  # of each sequence; of the one that a file is, the file's
    sequences: list[Tensor]
    times: list[list[datetime]]  # of each sequence's steps; empty if the file was read without a column of time


class _Row(NamedTuple):
    where: str  # "mine.csv, line 7"
    cells: dict[str, str]


def read_csv(
    file: Path | str | TextIO, columns: Sequence[str], *, time: str | None = None, sequence: str | None = None
) -> Series:
    """The readings in some columns of a CSV file, whose first line has the names of its columns.

    An empty cell, or "nan", is a reading that is missing. A DataFrame is read by way of what it writes:
    `read_csv(io.StringIO(frame.to_csv()), ...)`.

    file: a path, or an open file of text. columns: those to read, D names. time: the column of dates, in the forms of
    ISO 8601, as 2001-12-29, 20011229 or 2001-12-29T18:30; they have to grow. sequence: the column that says which
    sequence a row belongs to; without it the file is one. A sequence's rows stand together.

    Raises OSError if the file cannot be read, and ValueError, in a sentence that says where: for one that is no text in
    UTF-8, or without names of columns, or without a column that is asked for; for a row of too many or too few cells,
    text in place of a number, an infinite one; for a column without any reading, a sequence of one row, or one that
    begins twice; for what is no date, and for one that does not come after the one before it.
    """
    if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
        raise ValueError(f"columns must be a list of different names, not {columns!r}.")
    if isinstance(file, Path | str):
        with open(file, encoding="utf-8-sig", newline="") as opened:
            try:
                return _read(opened, Path(file).name, columns, time, sequence)
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is not a text in UTF-8 ({error.reason} at byte {error.start}).") from None
    return _read(file, getattr(file, "name", "the table"), columns, time, sequence)


def _read(file: TextIO, name: str, columns: Sequence[str], time: str | None, sequence: str | None) -> Series:
    asked = [*columns, *(column for column in (time, sequence) if column is not None)]
    rows: dict[str, list[_Row]] = {}
    last = None
    for row in _rows(file, name, asked):
        key = row.cells[sequence] if sequence else name
        if key != last and key in rows:
            raise ValueError(f"{row.where}: sequence {key!r} goes on after another one; its rows must stand together.")
        rows.setdefault(key, []).append(row)
        last = key
    for key, own in rows.items():
        if len(own) < 2:
            what = f"sequence {key!r} in {name}" if sequence else name
            raise ValueError(f"{what} has one row of readings: nothing follows on it; two rows are the least.")
    if not rows:
        raise ValueError(f"{name} has names of columns, and no row of readings under them.")
    for column in columns:
        if all(math.isnan(_number(row, column)) for own in rows.values() for row in own):
            raise ValueError(f"{name}: column {column!r} has no reading in any of its rows.")
    numbers = [torch.tensor([[_number(row, column) for column in columns] for row in own]) for own in rows.values()]
    times = [list(_dates(own, time)) for own in rows.values()] if time else []
    return Series(tuple(columns), list(rows), numbers, times)


def _rows(file: TextIO, name: str, asked: list[str]) -> Iterator[_Row]:
    lines = csv.reader(file)
    names = [cell.strip() for cell in next(lines, [])]
    if not any(names):
        raise ValueError(f"{name} has no first line with the names of its columns.")
    if all(map(_is_number, names)):
        raise ValueError(f"{name} begins with numbers, {', '.join(names)}: its first line must name the columns.")
    for column in asked:
        if names.count(column) != 1:
            found = "has no" if column not in names else "has more than one"
            raise ValueError(f"{name} {found} column {column!r}; its columns are {', '.join(map(repr, names))}.")
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{name}, line {lines.line_num}"
        if len(cells) != len(names):
            raise ValueError(f"{where} has {len(cells)} cells, and there are {len(names)} columns.")
        yield _Row(where, {column: cell.strip() for column, cell in zip(names, cells)})


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(row: _Row, column: str) -> float:
    cell = row.cells[column]
    if not cell:
        return math.nan
    if not _is_number(cell):
        raise ValueError(
            f"{row.where}: {cell!r} in column {column!r} is no number; leave the cell empty where a reading is missing."
        )
    if math.isinf(float(cell)):
        raise ValueError(f"{row.where}: column {column!r} is infinite; no density reaches there.")
    return float(cell)


def _dates(rows: list[_Row], column: str) -> Iterator[datetime]:
    before = None
    for row in rows:
        cell = row.cells[column]
        try:
            date = datetime.fromisoformat(cell)
        except ValueError:
            raise ValueError(f"{row.where}: {cell!r} in column {column!r} is no date, such as 2001-12-29.") from None
        if before is not None and date <= before:
            raise ValueError(f"{row.where}: {date} does not come after {before}, the row before it: sort the rows.")
        yield date
        before = date


def evenly_spaced(series: Series) -> Series:
    """With a row of NaN, and its date, for each row that is absent: nets take all rows to be equally far apart.

    The usual step is the median of the steps between dates. Where two rows lie n of them apart, rounded, n - 1 are
    absent, so that months may have 28 days or 31. Raises ValueError for readings that were read without dates.
    """
    if not series.times:
        raise ValueError("these readings have no dates: name their column, read_csv(..., time=...).")
    usual = median((after - before).total_seconds() for times in series.times for before, after in pairwise(times))
    sequences, dates = [], []
    for x, times in zip(series.sequences, series.times, strict=True):
        lags = [(after - before).total_seconds() for before, after in pairwise(times)]
        counts = [max(round(lag / usual), 1) for lag in lags]
        rows = torch.tensor([0, *counts]).cumsum(0)
        filled = x.new_full((int(rows[-1]) + 1, x.shape[1]), torch.nan)
        filled[rows] = x
        sequences.append(filled)
        between = zip(times, times[1:], counts)
        own = [before + i * (after - before) / count for before, after, count in between for i in range(count)]
        dates.append([*own, times[-1]])
    return series._replace(sequences=sequences, times=dates)


def split_by_time(sequences: Iterable[Tensor], validation: float = 0.15, test: float = 0.15) -> Parts[Tensor]:
    """Each sequence (T, D) in three: what came first to learn from, then to choose by, and the last to report on.

    So no model has seen what came after that by which it is judged. validation, test: their shares. Raises ValueError
    for shares, or for a sequence, that would leave a part without steps.
    """
    parts: Parts[Tensor] = Parts([], [], [])
    for x in sequences:
        ends = [round(len(x) * share) for share in (1 - validation - test, 1 - test, 1)]
        if not 0 < ends[0] < ends[1] < ends[2]:
            raise ValueError(f"{len(x)} steps cannot be split with shares of {validation} and {test}.")
        for part, steps in zip(parts, x.tensor_split(ends[:2])):
            part.append(steps)
    return parts


def split_by_group(
    sequences: Sequence[Tensor], groups: Sequence[str], validation: float = 0.15, test: float = 0.15
) -> Parts[Tensor]:
    """The sequences in three parts, those of a group, say of one speaker or one machine, in the same part.

    So no model is judged by what comes from where it has learned. Groups are taken in the order of a hash of their
    names until a part has its share of them; fewer than three make no three parts, for which ValueError is raised.
    """
    ordered = sorted(set(groups), key=lambda group: sha256(group.encode()))
    first, second = (round(len(ordered) * share) for share in (1 - validation - test, 1 - test))
    names = ordered[:first], ordered[first:second], ordered[second:]
    if not all(names):
        raise ValueError(f"{len(ordered)} groups cannot be split with shares of {validation} and {test}.")
    return Parts(*([x for x, group in zip(sequences, groups, strict=True) if group in part] for part in names))


def windows(x: Tensor, length: int, stride: int) -> list[Tensor]:
    """The stretches (length, D) of a long sequence (T, D) that begin at each `stride`-th step.

    Raises ValueError if it is shorter than one of them.
    """
    if len(x) < length:
        raise ValueError(f"{len(x)} steps hold no window of {length}.")
    return list(x.unfold(0, length, stride).transpose(1, 2))


def differences(x: Tensor, lag: int) -> Tensor:
    """x_t - x_{t-lag}, (T - lag, D): what is left to explain when x_{t-lag} is known. NaN where either is missing.

    Raises ValueError if no step has one `lag` steps before it.
    """
    if not 0 < lag < len(x):
        raise ValueError(f"lag={lag}: from 1 to less than the sequence's {len(x)} steps.")
    return x[lag:] - x[:-lag]


def restored(past: Tensor, draws: Tensor, lag: int) -> Tensor:
    """Futures (..., S, D) of x itself, where the draws (..., S, D) are futures of its differences.

    past: (P, D), x up to where the futures begin, with P of at least `lag`; a step whose x a lag before is missing is
    NaN. Raises ValueError for a shorter past.
    """
    if not 0 < lag <= len(past):
        raise ValueError(f"lag={lag}: from 1 to the past's {len(past)} steps.")
    steps = list(past[-lag:].expand(*draws.shape[:-2], -1, -1).unbind(-2))
    for step in draws.unbind(-2):
        steps.append(steps[-lag] + step)
    return torch.stack(steps[lag:], -2)
