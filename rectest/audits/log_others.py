"""Logs that cannot be cut at every separator: CSV with quoted cells, and Parquet, which needs an extra.

Quoted cells go through the standard library; Parquet through pyarrow, or polars where only that is installed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.data.rawlog import read_lines
from rectest.errors import DataError

__all__ = ["header_names", "parquet_columns", "parquet_names", "quoted_columns"]

Column = NDArray[np.str_] | NDArray[np.int64]


def header_names(file: Path, line: str, *, separator: str) -> tuple[str, ...]:
    """The names in the first line of a CSV file, without blanks and quotes.

    Raises:
        DataError: the line cannot be read as CSV.
    """
    try:
        return tuple(name.strip() for name in next(csv.reader([line], delimiter=separator, strict=True)))
    except csv.Error as error:
        msg = f"is no CSV header ({error})"
        raise DataError(msg, path=file, line=1) from error


def quoted_columns(file: Path, wanted: Sequence[str], *, separator: str) -> dict[str, Column]:
    """The named columns of a CSV file with a header, in which cells may be quoted and hold separators or line ends.

    Raises:
        DataError: a row has more or fewer cells than the header, or the quoting is broken.
    """
    text = "\n".join(read_lines(file)) + "\n"
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
        absent = [name for name in wanted if name not in names]
        if absent:
            msg = f"the header has no column {absent[0]!r} once its quotes are read"
            raise DataError(msg, path=file, line=1)
        places = [names.index(name) for name in wanted]
        rows = []
        for row in reader:
            if len(row) != len(names):
                msg = f"found {len(row)} cells, needed {len(names)}: {', '.join(names)}"
                raise DataError(msg, path=file, line=reader.line_num)
            rows.append([row[place] for place in places])
    except csv.Error as error:
        msg = f"is no CSV file ({error})"
        raise DataError(msg, path=file, line=reader.line_num) from error
    if not rows:
        msg = "holds a header but no row"
        raise DataError(msg, path=file, line=1)
    return {name: np.array([row[place] for row in rows], dtype=np.str_) for place, name in enumerate(wanted)}


def parquet_names(file: Path) -> tuple[str, ...]:
    """The names of the columns of a Parquet file."""
    return tuple(str(name) for name in _table(file, None).columns)


def parquet_columns(file: Path, wanted: Sequence[str]) -> dict[str, Column]:
    """The named columns of a Parquet file: whole numbers as they are, everything else as text.

    Raises:
        DataError: neither pyarrow nor polars is installed, the file cannot be read, is empty, or has an absent id.
    """
    table = _table(file, wanted)
    return {name: _column(file, name, table.values(name)) for name in wanted}


class _Arrow:
    def __init__(self, file: Path, wanted: Sequence[str] | None) -> None:
        parquet: Any = import_module("pyarrow.parquet")
        if wanted is None:
            self.columns: list[str] = parquet.read_schema(file).names
        else:
            self._table: Any = parquet.read_table(file, columns=list(wanted))

    def values(self, name: str) -> tuple[NDArray[Any], int]:
        column = self._table.column(name)
        return column.to_numpy(), column.null_count


class _Polars:
    def __init__(self, file: Path, wanted: Sequence[str] | None) -> None:
        polars: Any = import_module("polars")
        if wanted is None:
            self.columns: list[str] = list(polars.read_parquet_schema(file))
        else:
            self._table: Any = polars.read_parquet(file, columns=list(wanted))

    def values(self, name: str) -> tuple[NDArray[Any], int]:
        column = self._table[name]
        return column.to_numpy(), column.null_count()


def _table(file: Path, wanted: Sequence[str] | None) -> _Arrow | _Polars:
    if not file.is_file():
        msg = "cannot be read (no such file), needed a Parquet file"
        raise DataError(msg, path=file)
    for kind in (_Arrow, _Polars):
        try:
            return kind(file, wanted)
        except ImportError:
            continue
        except Exception as error:
            msg = f"cannot be read as Parquet ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            raise DataError(msg, path=file) from error
    msg = "Parquet needs pyarrow"
    raise DataError(msg, path=file, hint="install it with: pip install 'rectest[parquet]'")


def _column(file: Path, name: str, found: tuple[NDArray[Any], int]) -> Column:
    values, num_absent = found
    if not len(values):
        msg = "holds no row"
        raise DataError(msg, path=file)
    if num_absent:
        msg = f"column {name} has {num_absent} absent values, needed one in every row"
        raise DataError(msg, path=file)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.int64)
    return values.astype(np.str_)
