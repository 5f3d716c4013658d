"""Reads "some items for each row" in the shapes in which callers have them, as sorted (row, item) pairs.

Owns the shapes and the range checks. What relevant, excluded or candidate items mean is in `targets.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Csr", "Ints", "ItemLists", "item_pairs"]

Ints = npt.NDArray[np.int64]


@runtime_checkable
class Csr(Protocol):
    """Lists laid end to end: list `i` is `items[offsets[i]:offsets[i + 1]]` (`rectest.data.Sequences` is one)."""

    @property
    def items(self) -> Ints: ...
    @property
    def offsets(self) -> Ints: ...


ItemLists = Sequence[npt.ArrayLike] | npt.NDArray[np.integer[Any]] | Csr
"""One list of items a row: a sequence of lists, a `Csr`, int[B] (at most one item a row) or int[B, L].

In the two arrays 0, the padding, means "no item".
"""


def item_pairs(
    lists: ItemLists, *, num_rows: int | None = None, what: str, drop_padding: bool = False
) -> tuple[Ints, Ints]:
    """The lists as (row int64[N], item int64[N]), rows ascending, items of a row in the order given.

    A 0 in a sequence or `Csr` is dropped with `drop_padding`, and otherwise a `ValueError`: the padding can be
    seen, but nobody can want it. `what` names the lists in errors; `num_rows` is checked where it is given.
    """
    lengths, item = _flat(lists, what=what)
    if num_rows is not None and len(lengths) != num_rows:
        msg = f"{what} items are given for {len(lengths)} rows, expected {num_rows}, one list for each row of scores"
        raise ValueError(msg)
    row = np.repeat(np.arange(len(lengths)), lengths)
    if drop_padding:
        row, item = row[item != 0], item[item != 0]
    if len(item) and item.min() < 1:
        worst = int(item.argmin())
        msg = f"{what} items must be at least 1 (0 is the padding), got {item[worst]} in row {row[worst]}"
        raise ValueError(msg)
    return row, item


def _flat(lists: ItemLists, *, what: str) -> tuple[Ints, Ints]:
    if isinstance(lists, Csr):
        return np.diff(lists.offsets), np.asarray(lists.items, dtype=np.int64)
    if isinstance(lists, np.ndarray) and lists.dtype != object:
        return _flat_array(lists, what=what)
    arrays = [np.asarray(one) for one in lists]
    for row, one in enumerate(arrays):
        if one.ndim != 1 or (one.size and one.dtype.kind not in "iu"):
            msg = f"{what} items of row {row} must be a list of integers, got {one.dtype}{list(one.shape)}"
            raise ValueError(msg)
    lengths = np.array([len(one) for one in arrays], dtype=np.int64)
    joined = np.concatenate(arrays) if arrays else lengths
    return lengths, joined.astype(np.int64)


def _flat_array(table: npt.NDArray[Any], *, what: str) -> tuple[Ints, Ints]:
    if table.dtype.kind not in "iu" or table.ndim not in (1, 2):
        msg = f"{what} items must be int[B] or int[B, L], got {table.dtype}{list(table.shape)}"
        raise ValueError(msg)
    wide = table.reshape(len(table), -1) if table.size else table.reshape(len(table), 0)
    present = wide != 0
    return present.sum(axis=1), wide[present].astype(np.int64)
