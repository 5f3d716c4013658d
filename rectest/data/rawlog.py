"""`RawLog` (columns of a file, ids still as text) and `index_log`, the one way from raw columns to a `World`.

Reading text safely, with the line number of whatever is wrong, is here too; the formats themselves are in `readers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.data.idmap import IdMap, IdOrder
from rectest.data.interactions import Interactions
from rectest.data.world import World
from rectest.errors import DataError

__all__ = ["RawLog", "finite_floats", "index_log", "read_lines", "split_columns", "whole_numbers"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawLog:
    """The rows of a file in file order; absent columns are None."""

    path: Path
    user: NDArray[np.str_]
    item: NDArray[np.str_]
    time: NDArray[np.int64] | None = None
    rating: NDArray[np.float32] | None = None
    behaviour: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: NDArray[np.bool_]) -> RawLog:
        """The rows of a mask, for filters on raw columns such as ``rating >= 4``."""
        picked: dict[str, Any] = {}
        for name in ("user", "item", "time", "rating", "behaviour"):
            column = getattr(self, name)
            picked[name] = None if column is None else column[rows]
        return RawLog(path=self.path, **picked)


def index_log(
    raw: RawLog,
    *,
    name: str | None = None,
    user_order: IdOrder = "sorted",
    item_order: IdOrder = "sorted",
    behaviours: Sequence[str] | None = None,
) -> World:
    """Give every raw id a dense index and make a world of the rows, which stay in file order.

    `behaviours` names the kinds in the order of their codes 1, 2, ...; without it they are sorted. A kind in the file
    that is not named is a DataError.
    """
    if len(raw) == 0:
        msg = "no events to index"
        raise DataError(msg, path=raw.path)
    users = IdMap.from_raw(raw.user, first_index=0, order=user_order)
    items = IdMap.from_raw(raw.item, first_index=1, order=item_order)
    kinds = None
    if raw.behaviour is not None:
        kinds = IdMap(raws=tuple(behaviours)) if behaviours else IdMap.from_raw(raw.behaviour)
    log = Interactions(
        user=users.encode(raw.user),
        item=items.encode(raw.item),
        time=raw.time,
        rating=raw.rating,
        behaviour=None if kinds is None or raw.behaviour is None else kinds.encode(raw.behaviour),
        num_users=len(users),
        num_items=len(items),
    )
    return World(
        name=name or raw.path.stem,
        interactions=log,
        users=users,
        items=items,
        behaviours=kinds,
        oracle=None,
        source=str(raw.path),
    )


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file without their ends; DataError if it cannot be read, is empty or is not text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"cannot be read ({error.strerror or error}), needed a text file"
        raise DataError(msg, path=path) from error
    binary = content.find(b"\0")
    if binary >= 0:
        msg = "holds a NUL byte, needed UTF-8 text"
        raise DataError(msg, path=path, line=1 + content.count(b"\n", 0, binary))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"byte {content[error.start]:#04x} is not UTF-8, needed UTF-8 text"
        raise DataError(msg, path=path, line=1 + content.count(b"\n", 0, error.start)) from error
    if not text.strip():
        msg = "is empty, needed at least one row"
        raise DataError(msg, path=path)
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def split_columns(
    lines: Sequence[str], *, path: Path, names: Sequence[str], separator: str | None, first_line: int = 1
) -> list[list[str]]:
    """Columns of rows that must all have the same named cells, none of them empty; `separator` None is any blank."""
    rows = [line.split(separator) for line in lines]
    width = len(names)
    for number, row in enumerate(rows, start=first_line):
        if len(row) != width or "" in row:
            found = f"{len(row)} cells" if len(row) != width else "an empty cell"
            last = " (the last line: is the file truncated?)" if number == first_line + len(rows) - 1 else ""
            msg = f"found {found}{last}, needed {width}: {', '.join(names)}"
            raise DataError(msg, path=path, line=number)
    return [list(column) for column in zip(*rows, strict=True)]


def finite_floats(cells: Sequence[str], *, path: Path, name: str, first_line: int = 1) -> NDArray[np.float64]:
    """A column of finite numbers, or a DataError with the line of the first cell that is none."""
    try:
        values = np.array([float(cell) for cell in cells], dtype=np.float64)
        good = np.isfinite(values)
    except ValueError:
        good = np.array([_is_number(cell) for cell in cells])
    if not good.all():
        row = int(np.argmin(good))
        msg = f"{name} is {cells[row]!r}, needed a finite number"
        raise DataError(msg, path=path, line=first_line + row)
    return values


def whole_numbers(cells: Sequence[str], *, path: Path, name: str, first_line: int = 1) -> NDArray[np.int64]:
    """A column of integers; 881250949.0 is one (typed headers call times floats), 1.5 is not."""
    values = finite_floats(cells, path=path, name=name, first_line=first_line)
    good = (values == np.floor(values)) & (np.abs(values) < 2.0**53)
    if not good.all():
        row = int(np.argmin(good))
        msg = f"{name} is {cells[row]!r}, needed a whole number below 2**53"
        raise DataError(msg, path=path, line=first_line + row)
    return values.astype(np.int64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
