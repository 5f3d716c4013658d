"""`Column`: one number for each row of a table, in memory for half a million rows and in a temporary file beyond.

Owns the keeping. A file is read and written in pieces and never mapped, so that it never counts as resident.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_IN_MEMORY", "Column", "Scratch", "reuse_memory"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

MAX_IN_MEMORY = 1 << 19
"""Rows up to which a column is an array, of 4 MiB then."""

PIECE = 1 << 16
"""Numbers of a column that are looked at together."""

_REUSED = 30 << 20


class Scratch:
    """A temporary file that several threads write and read at places of their own; it vanishes with its last user."""

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="rectest-", buffering=0))  # noqa: SIM115 its life is ours
        self._lock = threading.Lock()

    def write(self, values: Array, offset: int) -> None:
        """Put the bytes of an array at an offset."""
        view, done = np.ascontiguousarray(values).view(np.uint8).reshape(-1).data, 0
        with self._lock:
            self._file.seek(offset)
            while done < len(view):
                done += self._file.write(view[done:])

    def read_into(self, values: Array, offset: int) -> None:
        """Fill a C-contiguous array from an offset."""
        view, done = values.view(np.uint8).reshape(-1).data, 0
        with self._lock:
            self._file.seek(offset)
            while done < len(view):
                num = self._file.readinto(view[done:])  # type: ignore[attr-defined]
                if not num:
                    msg = "a temporary file was cut short"
                    raise OSError(msg)
                done += num

    def __del__(self) -> None:
        self._file.close()


class Column:
    """Float64 numbers by row, written in stretches."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._kept = np.full(num_rows, np.nan) if num_rows <= MAX_IN_MEMORY else None
        self._scratch = Scratch() if self._kept is None else None

    def __len__(self) -> int:
        return self._num_rows

    def write(self, first: int, values: Floats) -> None:
        """Set the numbers of the rows from `first` on."""
        if self._kept is not None:
            self._kept[first : first + len(values)] = values
        elif self._scratch is not None:
            self._scratch.write(values, 8 * first)

    def read(self, first: int, stop: int) -> Floats:
        """The numbers of the rows from `first` to `stop`; not to be written to."""
        if self._kept is not None:
            return self._kept[first:stop]
        values = np.empty(max(0, min(stop, self._num_rows) - first))
        if self._scratch is not None:
            self._scratch.read_into(values, 8 * first)
        return values

    def pieces(self) -> Iterator[tuple[int, Floats]]:
        """First row and numbers of consecutive stretches."""
        for first in range(0, self._num_rows, PIECE):
            yield first, self.read(first, min(first + PIECE, self._num_rows))

    def at(self, row: int) -> float:
        """The number of one row."""
        return float(self.read(row, row + 1)[0])

    def whole(self) -> Floats:
        """All numbers as one array: for those who hold other arrays of one number a row anyway."""
        return self.read(0, self._num_rows)

    def every(self, stride: int) -> Floats:
        """The numbers of the rows 0, `stride`, twice `stride` and so on."""
        return np.concatenate([values[-first % stride :: stride].copy() for first, values in self.pieces()])


def reuse_memory(num_bytes: int = _REUSED) -> None:
    """Have the C library keep memory that is freed, up to twice so many bytes, for the next piece of work.

    glibc hands freed memory back to the system above a size that it learns from the largest piece freed so far, up to
    32 MB; before it has learned, each piece pays anew for its pages. That doubled the time of reading ten million ids,
    and was a third of that of scanning a table.
    """
    np.empty(num_bytes, dtype=np.uint8)
