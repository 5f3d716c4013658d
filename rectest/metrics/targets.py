"""`Targets`: which columns of which score rows must be ranked, and which columns are no candidates.

Owns the reading of relevant, seen and candidate items in their several shapes, and everything about them that can
be wrong before a score exists. Knows nothing of scores: `ranks.py` (NumPy) and `rectest.training.evaluate` (torch)
both count against the same `Targets`, so they cannot disagree about who competes with whom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.errors import MetricError
from rectest.metrics.lists import Ints, ItemLists, item_pairs

__all__ = ["TargetBlock", "Targets", "repeated_slots"]

_BLOCK_ELEMENTS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetBlock:
    """The part of `Targets` that concerns the rows `start..stop-1`; rows count from 0 within the block."""

    position: slice
    """Where these targets stand among all targets."""
    row: Ints
    column: Ints
    ignored_row: Ints
    ignored_column: Ints
    num_rows: int

    def pairs(self) -> tuple[Ints, Ints]:
        """Every target with every ignored column of its row, as (index of the target, column)."""
        if not len(self.ignored_row):
            return self.ignored_row, self.ignored_column
        per_row = np.bincount(self.ignored_row, minlength=self.num_rows)
        starts = np.cumsum(per_row) - per_row
        lengths = per_row[self.row]
        target = np.repeat(np.arange(len(self.row)), lengths)
        within = np.arange(len(target)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return target, self.ignored_column[starts[self.row][target] + within]

    def ignored_mask(self, num_columns: int, *, first_column: int) -> npt.NDArray[np.bool_]:
        """bool[rows, num_columns]: True where a score is of no candidate."""
        mask = np.zeros((self.num_rows, num_columns), dtype=bool)
        mask[:, :first_column] = True
        mask[self.ignored_row, self.ignored_column] = True
        return mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """The columns to rank, sorted by row; made by `full`, `within` or `slots`, reusable for every evaluation."""

    num_rows: int
    first_column: int
    """1 for scores over the catalogue, whose column 0 is the padding; 0 for candidate lists."""
    num_columns: int | None
    """Width that the scores must have; None if any width that holds all columns will do."""
    row: Ints
    column: Ints
    ignored_row: Ints
    """Rows, ascending, of the (row, column) pairs that are no candidates; without repeats and without targets."""
    ignored_column: Ints

    @classmethod
    def full(cls, relevant: ItemLists, *, num_rows: int, excluded: ItemLists | None = None) -> Targets:
        """Targets among all items of the catalogue but the `excluded` (seen) ones of their row.

        A relevant item that is also excluded stays a candidate: a repeat purchase that must be predicted competes
        like any other item. Excluded lists may repeat items, as histories do.
        """
        row, item = item_pairs(relevant, num_rows=num_rows, what="relevant")
        _refuse_repeats(row, item)
        ignored_row, ignored_item = (
            (row[:0], item[:0])
            if excluded is None
            else item_pairs(excluded, num_rows=num_rows, what="excluded", drop_padding=True)
        )
        width = int(max(item.max(initial=0), ignored_item.max(initial=0))) + 1
        ignored = np.setdiff1d(ignored_row * width + ignored_item, row * width + item)
        return cls(
            num_rows=num_rows,
            first_column=1,
            num_columns=None,
            row=row,
            column=item,
            ignored_row=ignored // width,
            ignored_column=ignored % width,
        )

    @classmethod
    def within(cls, candidates: npt.ArrayLike, relevant: ItemLists) -> Targets:
        """Targets among the candidates of their row, int[B, C] item ids; 0 is an empty slot and no candidate.

        Each relevant item must stand exactly once among its row's candidates. Other repeats are not refused, since
        negatives drawn with replacement are common practice; `repeated_slots` counts them.
        """
        table = np.asarray(candidates)
        if table.ndim != 2 or table.dtype.kind not in "iu":
            msg = f"candidates must be int[B, C], got {table.dtype}{list(table.shape)}"
            raise ValueError(msg)
        row, item = item_pairs(relevant, num_rows=len(table), what="relevant")
        _refuse_repeats(row, item)
        empty_row, empty_column = np.nonzero(table == 0)
        return cls(
            num_rows=len(table),
            first_column=0,
            num_columns=table.shape[1],
            row=row,
            column=_find_columns(table, row, item),
            ignored_row=empty_row,
            ignored_column=empty_column,
        )

    @classmethod
    def slots(cls, slot: npt.ArrayLike, *, num_columns: int) -> Targets:
        """One target a row, given as its column; -1 for a row without a target. Every column is a candidate."""
        column = np.asarray(slot)
        if column.ndim != 1 or column.dtype.kind not in "iu":
            msg = f"slot must be int[B], got {column.dtype}{list(column.shape)}"
            raise ValueError(msg)
        if len(column) and not -1 <= column.min() <= column.max() < num_columns:
            msg = f"slots must be -1 or in 0..{num_columns - 1}, got {column.min()}..{column.max()}"
            raise ValueError(msg)
        row = np.flatnonzero(column >= 0)
        none = np.empty(0, dtype=np.int64)
        return cls(
            num_rows=len(column),
            first_column=0,
            num_columns=num_columns,
            row=row,
            column=column[row].astype(np.int64),
            ignored_row=none,
            ignored_column=none,
        )

    def check_width(self, num_columns: int) -> None:
        """Raise unless scores with `num_columns` columns hold every column that is spoken of."""
        if num_columns <= self.first_column:
            msg = f"scores have {num_columns} columns, expected at least {self.first_column + 1}: nobody can be ranked"
            raise ValueError(msg)
        if self.num_columns is not None and num_columns != self.num_columns:
            msg = f"scores have {num_columns} columns, expected {self.num_columns}, one for each candidate"
            raise ValueError(msg)
        for name, row, column in (
            ("relevant", self.row, self.column),
            ("excluded", self.ignored_row, self.ignored_column),
        ):
            if len(column) and column.max() >= num_columns:
                worst = int(column.argmax())
                msg = (
                    f"{name} item {column[worst]} of row {row[worst]} has no score: the scores have {num_columns} "
                    f"columns, items 0..{num_columns - 1}; score the whole catalogue, padding included"
                )
                raise MetricError(msg)

    def num_candidates(self, num_columns: int) -> Ints:
        """int64[T]: how many candidates each target is ranked among, itself included."""
        if not len(self.ignored_row):
            return np.full(len(self.row), num_columns - self.first_column)
        ignored = np.bincount(self.ignored_row, minlength=self.num_rows)
        return num_columns - self.first_column - ignored[self.row]

    def block(self, start: int, stop: int) -> TargetBlock:
        """What concerns the rows `start..stop-1`."""
        first, last = np.searchsorted(self.row, [start, stop])
        low, high = np.searchsorted(self.ignored_row, [start, stop])
        return TargetBlock(
            position=slice(int(first), int(last)),
            row=self.row[first:last] - start,
            column=self.column[first:last],
            ignored_row=self.ignored_row[low:high] - start,
            ignored_column=self.ignored_column[low:high],
            num_rows=stop - start,
        )


def repeated_slots(candidates: npt.ArrayLike) -> Ints:
    """int64[B]: how many slots of each row of int[B, C] candidates repeat another slot; empty slots (0) do not count.

    >>> repeated_slots([[4, 2, 4, 4], [1, 2, 0, 0]]).tolist()
    [2, 0]
    """
    ordered = np.sort(np.asarray(candidates), axis=1)
    repeats: Ints = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0)).sum(axis=1)
    return repeats


def _find_columns(table: npt.NDArray[np.integer], row: Ints, item: Ints) -> Ints:
    """int64[T]: the one column in which each item stands among its row's candidates."""
    column = np.empty(len(row), dtype=np.int64)
    step = max(1, _BLOCK_ELEMENTS // max(1, table.shape[1]))
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        found = table[row[part]] == item[part, None]
        times = found.sum(axis=1)
        if (times != 1).any():
            worst = start + int((times != 1).argmax())
            msg = (
                f"relevant item {item[worst]} stands {times[worst - start]} times among the candidates of row "
                f"{row[worst]}, expected once; draw negatives without the relevant items, then add each of those once"
            )
            raise MetricError(msg)
        column[part] = found.argmax(axis=1)
    return column


def _refuse_repeats(row: Ints, item: Ints) -> None:
    if (np.diff(row) > 0).all():
        return
    order = np.lexsort((item, row))
    again = (np.diff(row[order]) == 0) & (np.diff(item[order]) == 0)
    if again.any():
        worst = order[int(again.argmax())]
        msg = (
            f"row {row[worst]} lists the relevant item {item[worst]} more than once; "
            "relevance is a set here, so remove the repeats before ranking"
        )
        raise MetricError(msg)
