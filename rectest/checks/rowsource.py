"""`RowSource`: the rows of an embedding table wherever they lie, taken in chunks or a few at a time.

The judges of tables read through it, so that one that fills memory, one in a file and one in many shards are judged by
the same code. Files are opened in `rectest.audits`; here is the protocol, and the source for an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayRows", "RowSource", "as_source", "mantissa_bits"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@runtime_checkable
class RowSource(Protocol):
    """A table [rows, dim] of floating-point numbers that need not be in memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dim."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating-point type of the rows as they are handed out."""
        ...

    def chunks(self, num_rows: int, *, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array]]:
        """First row and rows of consecutive chunks of at most `num_rows`, C-contiguous, from `start` to `stop`.

        A chunk may be overwritten by the next; a caller that keeps rows copies them. Two threads may each take their
        own range.
        """
        ...

    def take(self, rows: Ints) -> Array:
        """A copy of the rows of these numbers, in their order."""
        ...


class ArrayRows:
    """A table in memory, or memory-mapped."""

    def __init__(self, table: Array) -> None:
        if table.ndim != 2 or table.dtype.kind != "f" or 0 in table.shape:
            msg = f"an embedding table must be floating point [rows, dim], got {table.dtype} {table.shape}"
            raise ValueError(msg)
        self._table = table

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dim."""
        return self._table.shape[0], self._table.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the table."""
        return self._table.dtype

    def chunks(self, num_rows: int, *, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array]]:
        """Views where the rows are C-contiguous, copies elsewhere."""
        stop = len(self._table) if stop is None else min(stop, len(self._table))
        for first in range(start, stop, max(1, num_rows)):
            yield first, np.ascontiguousarray(self._table[first : min(first + num_rows, stop)])

    def take(self, rows: Ints) -> Array:
        """A copy of the rows of these numbers."""
        taken: Array = np.ascontiguousarray(self._table[rows])
        return taken


def as_source(table: Array | RowSource) -> RowSource:
    """The table itself where it is a source already.

    Raises:
        ValueError: an array that is not floating point [rows, dim].
    """
    return ArrayRows(table) if isinstance(table, np.ndarray) else table


def mantissa_bits(source: RowSource) -> int:
    """Bits of the mantissa of the numbers as they were stored, which a source that widens them tells.

    >>> mantissa_bits(ArrayRows(np.ones((1, 1), np.float16)))
    10
    """
    return int(getattr(source, "mantissa_bits", np.finfo(source.dtype).nmant))
