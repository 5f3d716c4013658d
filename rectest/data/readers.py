"""Readers of the formats that recommender data comes in; each gives a `RawLog`, which `index_log` makes a world of.

Whatever is wrong with a file is a DataError with the path, the line and what was needed: a reader never skips a row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rectest.data.rawlog import RawLog, finite_floats, index_log, read_lines, split_columns, whole_numbers
from rectest.errors import DataError

__all__ = [
    "RawLog",
    "index_log",
    "read_behaviour_rows",
    "read_inter",
    "read_inter_lines",
    "read_pairs",
    "read_udata",
    "read_user_lines",
]

_FIELD_TYPES = ("token", "token_seq", "float", "float_seq")
_WANTED = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
_NEEDED = ("user_id", "item_id")


def read_inter(path: Path | str) -> RawLog:
    """RecBole's ``.inter``: tab-separated, with a typed header such as ``user_id:token item_id:token rating:float``.

    `user_id` and `item_id` are needed, `rating` and `timestamp` used when there, other typed columns ignored.
    """
    file = Path(path)
    return read_inter_lines(read_lines(file), path=file)


def read_inter_lines(lines: list[str], *, path: Path) -> RawLog:
    """The same for lines that were read already; `path` is for messages."""
    names = _header(lines[0].split("\t"), path)
    if len(lines) == 1:
        msg = "holds a header but no row"
        raise DataError(msg, path=path, line=1)
    columns = split_columns(lines[1:], path=path, names=names, separator="\t", first_line=2)
    cells = dict(zip(names, columns, strict=True))
    rating = time = None
    if "rating" in cells:
        rating = finite_floats(cells["rating"], path=path, name="rating", first_line=2).astype(np.float32)
    if "timestamp" in cells:
        time = whole_numbers(cells["timestamp"], path=path, name="timestamp", first_line=2)
    return RawLog(path=path, user=np.array(cells["user_id"]), item=np.array(cells["item_id"]), time=time, rating=rating)


def _header(fields: list[str], path: Path) -> list[str]:
    """Field names of a typed header, after checking every type."""
    names = []
    for text in fields:
        name, colon, kind = text.partition(":")
        if not colon or kind not in _FIELD_TYPES:
            found = f"type {kind!r}" if colon else "no type"
            msg = f"header field {text!r} has {found}, needed name:type with a type of {', '.join(_FIELD_TYPES)}"
            raise DataError(msg, path=path, line=1)
        if _WANTED.get(name, kind) != kind:
            msg = f"header field {name!r} has type {kind!r}, needed {_WANTED[name]!r}"
            raise DataError(msg, path=path, line=1)
        names.append(name)
    missing = [name for name in _NEEDED if name not in names]
    if missing or len(set(names)) != len(names):
        msg = f"the header has the fields {', '.join(names)}, needed each once and among them {', '.join(_NEEDED)}"
        raise DataError(msg, path=path, line=1)
    return names


def read_udata(path: Path | str) -> RawLog:
    """MovieLens ``u.data``: user, item, rating and time as tab-separated numbers, no header."""
    file = Path(path)
    names = ("user", "item", "rating", "timestamp")
    user, item, rating, time = split_columns(read_lines(file), path=file, names=names, separator="\t")
    for name, cells in (("user", user), ("item", item)):
        whole_numbers(cells, path=file, name=name)
    return RawLog(
        path=file,
        user=np.array(user),
        item=np.array(item),
        rating=finite_floats(rating, path=file, name="rating").astype(np.float32),
        time=whole_numbers(time, path=file, name="timestamp"),
    )


def read_user_lines(path: Path | str) -> RawLog:
    """One line per user, ``user item item ...`` in time order; ids are any strings, such as ASINs."""
    file = Path(path)
    users: list[str] = []
    items: list[str] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(file), start=1):
        user, *own = line.split() or [""]
        if not own:
            msg = f"found {user!r} and no item, needed: user item item ..."
            raise DataError(msg, path=file, line=number)
        if line_of.setdefault(user, number) != number:
            msg = f"user {user!r} had a line already (line {line_of[user]}), needed one line per user"
            raise DataError(msg, path=file, line=number)
        users.extend([user] * len(own))
        items.extend(own)
    return RawLog(path=file, user=np.array(users), item=np.array(items))


def read_pairs(path: Path | str) -> RawLog:
    """Rows ``user item`` of integers, in time order; the row order is all the time there is."""
    file = Path(path)
    user, item = split_columns(read_lines(file), path=file, names=("user", "item"), separator=None)
    for name, cells in (("user", user), ("item", item)):
        whole_numbers(cells, path=file, name=name)
    return RawLog(path=file, user=np.array(user), item=np.array(item))


def read_behaviour_rows(path: Path | str) -> RawLog:
    """Rows ``user item behaviour time`` separated by blanks, such as ``17 2041 cart 1511561733``."""
    file = Path(path)
    names = ("user", "item", "behaviour", "time")
    user, item, behaviour, time = split_columns(read_lines(file), path=file, names=names, separator=None)
    return RawLog(
        path=file,
        user=np.array(user),
        item=np.array(item),
        behaviour=np.array(behaviour),
        time=whole_numbers(time, path=file, name="time"),
    )
