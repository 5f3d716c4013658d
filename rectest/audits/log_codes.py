"""Codes for raw ids: one vocabulary for a column of several files, in the order of the ids.

Ids that are all plain whole numbers are compared as numbers, which is many times as fast as text and gives the order
that people mean by "sorted by id".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Codes", "codes_of", "numbers_of"]

Ints = NDArray[np.int64]
Texts = NDArray[np.str_]

_DIGITS = 18
_ROWS = 1 << 20
_SMALL = 1 << 24
"""Numbers below it are looked up in a table, of at most 128 MiB."""
UNKNOWN = -2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Codes:
    """Raw ids in ascending order; the place of each is its code."""

    raws: NDArray[Any]
    """int64 where all ids are plain whole numbers, else text."""

    def __len__(self) -> int:
        return len(self.raws)

    @property
    def names(self) -> list[str]:
        """The ids as text, by code."""
        return [str(raw) for raw in self.raws.tolist()]

    def encode(self, column: NDArray[Any]) -> Ints:
        """The codes of raw ids, text or numbers; -2 where the vocabulary has no such id."""
        if self.raws.dtype.kind == "i":
            values = column.astype(np.int64) if column.dtype.kind in "iu" else numbers_of(column)
            if values is None:
                return self._encode_mixed(column)
        else:
            values = column if column.dtype.kind == "U" else column.astype(np.str_)
        if self.raws.dtype.kind == "i" and _is_dense(self.raws):
            return self._looked_up(values)
        place = np.minimum(np.searchsorted(self.raws, values), max(len(self.raws) - 1, 0))
        return np.where(self.raws[place] == values, place, UNKNOWN).astype(np.int64)

    def _looked_up(self, values: Ints) -> Ints:
        table = np.full(int(self.raws[-1]) + 2, UNKNOWN, dtype=np.int64)
        table[self.raws] = np.arange(len(self.raws))
        inside = (values >= 0) & (values <= self.raws[-1])
        found: Ints = table[np.where(inside, values, -1)]
        return found

    def _encode_mixed(self, column: Texts) -> Ints:
        """Text of which only some cells are plain numbers."""
        known = {name: code for code, name in enumerate(self.names)}
        return np.array([known.get(cell, UNKNOWN) for cell in column.ravel().tolist()], dtype=np.int64).reshape(
            column.shape
        )


def codes_of(columns: Sequence[NDArray[Any]]) -> Codes:
    """The vocabulary of the ids in some columns of text or whole numbers."""
    numbers = [column if column.dtype.kind == "i" else numbers_of(column) for column in columns]
    kept = [values for values in numbers if values is not None]
    if len(kept) == len(columns):
        return Codes(raws=_union(kept))
    return Codes(raws=_union([column.astype(np.str_) for column in columns]))


def _union(columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.unique(np.concatenate([_distinct(column) for column in columns]))


def _distinct(column: NDArray[Any]) -> NDArray[Any]:
    """The different values, ascending: marked in a table where they are small numbers, sorted elsewhere."""
    if column.dtype.kind == "i" and column.size and int(column.min()) >= 0 and int(column.max()) < _SMALL:
        marked = np.zeros(int(column.max()) + 1, dtype=bool)
        marked[column] = True
        return np.flatnonzero(marked)
    return np.unique(column)


def _is_dense(raws: Ints) -> bool:
    """Whether a table over all numbers up to the largest is small."""
    return bool(len(raws)) and int(raws[0]) >= 0 and int(raws[-1]) < _SMALL


def numbers_of(column: Texts) -> Ints | None:
    """Text as whole numbers where every cell is one in its plain form (no sign, no leading zero), else None.

    >>> numbers_of(np.array(["10", "7"])), numbers_of(np.array(["07", "7"]))
    (array([10,  7]), None)
    """
    width = column.dtype.itemsize // 4
    if not column.size or not 1 <= width <= _DIGITS:
        return None
    flat = np.ascontiguousarray(column).reshape(-1)
    values = np.empty(len(flat), dtype=np.int64)
    for start in range(0, len(flat), _ROWS):
        part = flat[start : start + _ROWS].view(np.uint32).reshape(-1, width)
        found = _plain(part)
        if found is None:
            return None
        values[start : start + _ROWS] = found
    return values.reshape(column.shape)


def _plain(characters: NDArray[np.uint32]) -> Ints | None:
    """Numbers from rows of code points, ended by zeros; None where one is not plain."""
    values = np.zeros(len(characters), dtype=np.int64)
    for place in range(characters.shape[1]):
        live = characters[:, place] != 0
        digit = characters[:, place].astype(np.int64) - ord("0")
        if (live & ((digit < 0) | (digit > 9))).any() or (place == 0 and not live.all()):
            return None
        if place == 1 and (live & (values == 0)).any():
            return None
        values = np.where(live, 10 * values + digit, values)
    return values
