"""The items of a table: their names, how often they occur, their rows, and which go together.

Owns the join of an interaction file, an id map and row numbers. Judging is in `table_audit.py` and `rectest.checks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.audits.maps import RawMapping
from rectest.checks.table_signal import consecutive_pairs
from rectest.data.rawlog import RawLog
from rectest.errors import DataError

__all__ = ["REACH", "LoggedItems", "item_orders", "join_items"]

Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

REACH = 3
"""Events of a user up to this many places apart are a pair: three times the pairs, and hardly weaker ones."""

MAX_PAIRS = 300_000
MAX_SORTED = 2_000_000
"""A larger map is not sorted to look for other orders of its ids."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoggedItems:
    """The distinct items of a log; arrays have one entry for each."""

    raws: Texts
    count: Ints
    first: Ints
    """Number of the first event of each item, in the order of the file."""

    row: Ints
    """Row of the table; -1 where the item has none."""

    pairs: Ints
    """int64[P, 2] rows of items that follow each other in a user's sequence."""

    num_users: int

    @property
    def num_events(self) -> int:
        """Events in the log."""
        return int(self.count.sum())

    def popularity(self, num_rows: int) -> Ints:
        """Events by row [num_rows]."""
        counts = np.zeros(num_rows, dtype=np.int64)
        known = self.row >= 0
        np.add.at(counts, self.row[known], self.count[known])
        return counts


def join_items(log: RawLog, num_rows: int, *, dim: int, mapping: RawMapping | None = None) -> LoggedItems:
    """The items of a log with their rows in a table of `num_rows`; events without a time stay in the order of the file.

    Raises:
        DataError: there is no map, and the items are not row numbers.
    """
    raws, first, inverse, count = np.unique(log.item, return_index=True, return_inverse=True, return_counts=True)
    row = mapping.find(raws) if mapping is not None else _row_numbers(log, raws)
    row = np.where(row < num_rows, row, -1)
    users, user = np.unique(log.user, return_inverse=True)
    order = np.argsort(user, kind="stable") if log.time is None else np.lexsort((log.time, user))
    events = order[row[inverse[order]] >= 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user[events], minlength=len(users)))])
    most = max(10_000, min(MAX_PAIRS, (1 << 24) // dim))
    pairs = consecutive_pairs(row[inverse[events]], offsets, max_pairs=most, reach=REACH)
    return LoggedItems(
        raws=raws,
        count=count.astype(np.int64),
        first=first.astype(np.int64),
        row=row.astype(np.int64),
        pairs=pairs,
        num_users=len(users),
    )


def _row_numbers(log: RawLog, raws: Texts) -> Ints:
    try:
        numbers: Ints = raws.astype(np.int64)
    except (ValueError, OverflowError):
        odd = next(raw for raw in raws.tolist() if not raw.isdecimal())
        problem = f"item {odd!r} is no row number"
        raise DataError(problem, path=log.path, hint="name the map from ids to rows with --mapping") from None
    if (numbers < 0).any():
        problem = f"item {int(numbers.min())} is no row number"
        raise DataError(problem, path=log.path, hint="name the map from ids to rows with --mapping")
    return numbers


def item_orders(num_rows: int, items: LoggedItems, mapping: RawMapping | None = None) -> dict[str, Ints]:
    """Other orders of the ids that a table may be in: for each, the row there of each row, -1 for none."""
    found = {}
    for name, own, other in _orders(items, mapping):
        rows = np.full(num_rows, -1, dtype=np.int64)
        inside = (own >= 0) & (own < num_rows)
        rows[own[inside]] = other[inside]
        if not np.array_equal(own[inside], other[inside]):
            found[name] = rows
    return found


def _orders(items: LoggedItems, mapping: RawMapping | None) -> Iterator[tuple[str, Ints, Ints]]:
    """Name, own rows and rows in the other order, which starts at the same first row."""
    known = items.row >= 0
    if not known.any():
        return
    own, base = items.row[known], int(items.row[known].min())
    if mapping is not None and mapping.num_entries <= MAX_SORTED:
        index, texts = mapping.index, mapping.entries.ids.texts()
        base = int(index[index >= 0].min()) if (index >= 0).any() else base
        yield "the entries of the map", index, base + np.arange(len(index))
        yield from _by_name("the map", index, texts, base)
    else:
        yield from _by_name("the interactions", own, items.raws[known].tolist(), base)
    yield "popularity, most events first", own, base + _ranks(np.lexsort((items.first[known], -items.count[known])))
    yield "the first events of the items", own, base + _ranks(np.argsort(items.first[known], kind="stable"))


def _by_name(of: str, own: Ints, texts: list[str], base: int) -> Iterator[tuple[str, Ints, Ints]]:
    ids = np.array(texts, dtype=np.str_)
    yield f"the sorted ids of {of}", own, base + _ranks(np.argsort(ids, kind="stable"))
    if all(text.isdecimal() and len(text) < 18 for text in texts):
        numbers = ids.astype(np.int64)
        yield f"the ids of {of} as numbers", own, base + _ranks(np.argsort(numbers, kind="stable"))
        yield f"the numbers that are the ids of {of}", own, numbers


def _ranks(order: npt.NDArray[np.intp]) -> Ints:
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
