"""Times of a log as whole numbers: from numbers, fractions of seconds, or dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.errors import DataError

__all__ = ["times_of"]

_EXACT = 2.0**53
_MICRO = 1_000_000


def times_of(column: NDArray[Any], *, path: Path, name: str, first_line: int = 1) -> NDArray[np.int64]:
    """A column of times: whole numbers as they are, a column with fractions in millionths, dates in seconds.

    Raises:
        DataError: a cell is none of these; the message has its line.
    """
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    try:
        values = column.astype(np.float64)
    except ValueError:
        return _dates(column, path=path, name=name, first_line=first_line)
    bad = ~(np.abs(values) < _EXACT)
    if bad.any():
        raise _no_time(column, bad, path=path, name=name, first_line=first_line)
    whole = values == np.floor(values)
    if whole.all():
        return values.astype(np.int64)
    scaled = np.rint(values * _MICRO)
    too_large = ~(np.abs(scaled) < _EXACT)
    if too_large.any():
        raise _no_time(column, too_large & ~whole, path=path, name=name, first_line=first_line)
    return scaled.astype(np.int64)


def _dates(column: NDArray[Any], *, path: Path, name: str, first_line: int) -> NDArray[np.int64]:
    """Dates such as 2014-05-03 or 2014-05-03T12:00:00; numbers among them are refused, a 7 would be the year 7."""
    bad = np.char.find(column, "-") != 4
    if bad.all():
        bad = np.array([not _is_number(cell) for cell in column.tolist()])
    if not bad.any():
        try:
            return column.astype("datetime64[s]").astype(np.int64)
        except ValueError:
            bad = np.array([not _is_date(cell) for cell in column.tolist()])
    raise _no_time(column, bad, path=path, name=name, first_line=first_line)


def _is_date(cell: str) -> bool:
    try:
        np.datetime64(cell, "s")
    except ValueError:
        return False
    return True


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _no_time(column: NDArray[Any], bad: NDArray[np.bool_], *, path: Path, name: str, first_line: int) -> DataError:
    row = int(np.argmax(bad))
    msg = f"{name} is {str(column[row])!r}, needed a whole number below 2**53, or a date"
    return DataError(msg, path=path, line=first_line + row)
