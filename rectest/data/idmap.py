"""`IdMap`: raw ids of a data set (strings, or integers as strings) to dense indices and back.

The order of a map is always a documented function of its input, never of a set's iteration order (which changes
with `PYTHONHASHSEED`). An unknown id is an error that names it: it is never mapped to 0, which is padding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectest.data.interactions import digest_arrays
from rectest.errors import DataError

__all__ = ["IdMap", "IdOrder"]

IdOrder = Literal["sorted", "first_seen", "popularity"]

_ORDERS = ("sorted", "first_seen", "popularity")
_CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]*")


def _as_raw(value: object) -> str:
    """A raw id as text; floats are refused, because 487.0 and 487 would silently be two users."""
    if isinstance(value, str):
        if "\0" in value:
            msg = f"raw id {value!r} holds a NUL, which arrays of ids cannot keep"
            raise DataError(msg)
        return str(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    msg = f"a raw id must be a string or an integer, got {value!r} of type {type(value).__name__}"
    raise TypeError(msg)


def _as_column(values: Iterable[object] | ArrayLike) -> NDArray[Any]:
    """A one-dimensional array of raw ids as text."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            msg = f"raw ids must be one-dimensional, got shape {values.shape}"
            raise TypeError(msg)
        if values.dtype.kind in "iuU":
            return values.astype(np.str_)
    if isinstance(values, (str, bytes)):
        msg = f"raw ids must be a collection of ids, got one {type(values).__name__} {values!r}"
        raise TypeError(msg)
    texts = [_as_raw(value) for value in values]  # type: ignore[union-attr]
    return np.array(texts, dtype=np.str_) if texts else np.zeros(0, dtype="<U1")


def _sorted_order(raws: NDArray[Any]) -> NDArray[np.int64]:
    """Numeric order when every id is a plain integer, else order by code point."""
    texts = raws.tolist()
    if all(_CANONICAL_INTEGER.fullmatch(text) for text in texts):
        return np.array(sorted(range(len(texts)), key=lambda i: int(texts[i])), dtype=np.int64)
    return np.array(sorted(range(len(texts)), key=lambda i: texts[i]), dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdMap:
    """A bijection between distinct raw ids and first_index..first_index + n - 1.

    >>> items = IdMap.from_raw(["b", "a", "b"], order="popularity")
    >>> items.raws, items.index("a"), items.raw(1)
    (('b', 'a'), 2, 'b')
    """

    raws: tuple[str, ...]
    first_index: int = 1
    """Dense index of the first raw id: 1 for items (0 is padding), 0 for users."""
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.first_index not in (0, 1):
            msg = f"first_index must be 0 or 1, got {self.first_index}"
            raise ValueError(msg)
        table: dict[str, int] = {}
        for index, raw in enumerate(self.raws, start=self.first_index):
            if not isinstance(raw, str):
                msg = f"raws must be strings, got {raw!r}"
                raise TypeError(msg)
            if raw in table:
                msg = f"raw id {raw!r} occurs twice in an id map (indices {table[raw]} and {index})"
                raise DataError(msg)
            if not _as_raw(raw):
                msg = f"raw id at index {index} is empty, which is the mark of padding"
                raise DataError(msg)
            table[raw] = index
        if not table:
            msg = "an id map needs at least one raw id, found none"
            raise DataError(msg)
        object.__setattr__(self, "_index", table)

    @classmethod
    def from_raw(
        cls, values: Iterable[object] | ArrayLike, *, first_index: int = 1, order: IdOrder = "sorted"
    ) -> IdMap:
        """The map of all ids that occur in a column (repeats welcome).

        ``sorted``: numeric when all are plain integers, else by code point. ``first_seen``: as they come; refused for
        sets. ``popularity``: falling count, ties in ``sorted`` order. Floats raise TypeError.
        """
        if order not in _ORDERS:
            msg = f"order must be one of {', '.join(_ORDERS)}, got {order!r}"
            raise ValueError(msg)
        if order == "first_seen" and isinstance(values, (set, frozenset)):
            msg = "a set has no first-seen order (it depends on the hash seed); pass the column itself"
            raise TypeError(msg)
        unique, first, counts = np.unique(_as_column(values), return_index=True, return_counts=True)
        if order == "first_seen":
            unique = unique[np.argsort(first)]
        else:
            by_name = _sorted_order(unique)
            if order == "popularity":
                by_name = by_name[np.argsort(-counts[by_name], kind="stable")]
            unique = unique[by_name]
        return cls(raws=tuple(unique.tolist()), first_index=first_index)

    def __len__(self) -> int:
        return len(self.raws)

    def __contains__(self, raw: object) -> bool:
        return _as_raw(raw) in self._index

    def index(self, raw: str | int) -> int:
        """The dense index of a raw id; DataError names an id that is unknown."""
        text = _as_raw(raw)
        if text not in self._index:
            raise DataError(self._unknown(text))
        return self._index[text]

    def raw(self, index: int) -> str:
        """The raw id of a dense index; DataError outside the map, and so for padding."""
        if not self.first_index <= index < self.first_index + len(self):
            raise DataError(self._outside(index))
        return self.raws[index - self.first_index]

    def encode(self, values: Iterable[object] | ArrayLike) -> NDArray[np.int64]:
        """Dense indices of a column of raw ids; DataError names the first unknown one in the order of the column."""
        unique, first, inverse = np.unique(_as_column(values), return_index=True, return_inverse=True)
        found = np.array([self._index.get(raw, -1) for raw in unique.tolist()], dtype=np.int64)
        if (found < 0).any():
            raw = min(zip(first[found < 0].tolist(), unique[found < 0].tolist(), strict=True))[1]
            raise DataError(self._unknown(raw))
        return found[inverse]

    def decode(self, indices: ArrayLike) -> NDArray[np.str_]:
        """Raw ids of dense indices, as a string array of the same shape."""
        array = np.asarray(indices)
        if array.dtype.kind not in "iu":
            msg = f"dense indices must be integers, got {array.dtype}"
            raise TypeError(msg)
        outside = (array < self.first_index) | (array >= self.first_index + len(self))
        if outside.any():
            raise DataError(self._outside(int(array[outside].flat[0])))
        raws: NDArray[np.str_] = np.array(self.raws, dtype=np.str_)[array - self.first_index]
        return raws

    def take(self, indices: ArrayLike) -> IdMap:
        """The map that gives the raw ids of `indices` new dense indices in that order."""
        return IdMap(raws=tuple(self.decode(indices).tolist()), first_index=self.first_index)

    def to_array(self) -> NDArray[np.str_]:
        """Raw id by dense index; position 0 is "" when it is padding."""
        return np.array(("",) * self.first_index + self.raws, dtype=np.str_)

    def digest(self) -> str:
        """A digest of the ids, their order and the first index; independent of the process and its hash seed."""
        joined = np.frombuffer("\0".join(self.raws).encode(), dtype=np.uint8)
        return digest_arrays([("raws", joined), ("first_index", np.array([self.first_index], dtype=np.int64))])

    def _unknown(self, raw: str) -> str:
        return f"unknown raw id {raw!r}: the map holds {len(self)} ids from {self.raws[0]!r} to {self.raws[-1]!r}"

    def _outside(self, index: int) -> str:
        return f"dense index {index} is outside {self.first_index}..{self.first_index + len(self) - 1}"
