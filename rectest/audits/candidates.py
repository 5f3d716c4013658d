"""Files of candidate sets, read into rows of raw ids: arrays, JSON, JSON lines, and text with a line for each row.

What the rows say is judged in `rectest.checks.candidate_sets`; here they are found and matched with held-out events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.audits.log_codes import Codes
from rectest.checks.candidate_sets import ABSENT, Candidates, padded
from rectest.checks.event_log import Events
from rectest.data.rawlog import read_lines
from rectest.errors import DataError

__all__ = ["RawCandidates", "matched", "read_candidates"]

Ints = NDArray[np.int64]

_LISTS = ("candidates", "items", "negatives", "item_id_list")
_USERS = ("user", "user_id")
_EMPTY = ("", "0", "-1", "None", "null")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawCandidates:
    """Candidate sets as a file has them."""

    path: Path
    rows: Ints | list[list[str]]
    """[B, C] of whole numbers, or lists of texts."""
    users: tuple[str, ...] = ()
    """Whose row it is; empty where rows follow the order of the held-out file."""

    def __len__(self) -> int:
        return len(self.rows)


def read_candidates(path: Path | str) -> RawCandidates:
    """Read ``.npy`` int[B, C], JSON (an object from user to list, or a list of lists), JSON lines, or text.

    A JSON line is a list, or an object with ``user`` and ``candidates``; a text line is ``user item item ...``,
    separated by commas or blanks.

    Raises:
        DataError: the file cannot be read as that.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix == ".npy":
        return RawCandidates(path=file, rows=_array(file))
    if suffix == ".json":
        return _collected(file, _json_rows(file))
    if suffix in (".jsonl", ".ndjson"):
        return _collected(file, _json_lines(file))
    cut = (line.replace(",", " ").split() for line in read_lines(file))
    return _collected(file, [(number, cells[0], cells[1:]) for number, cells in enumerate(cut, start=1) if cells])


def _array(file: Path) -> Ints:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"cannot be read as an array ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise DataError(msg, path=file) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        msg = f"holds {found}, needed whole numbers [rows, candidates]"
        raise DataError(msg, path=file)
    return array.astype(np.int64)


_Row = tuple[int, str, list[str]]


def _json_rows(file: Path) -> list[_Row]:
    value = _parsed("\n".join(read_lines(file)), file, None)
    if isinstance(value, Mapping):
        return [(1, str(user), _cells(items, file, 1)) for user, items in value.items()]
    if isinstance(value, list):
        return [_row(entry, file, None) for entry in value]
    msg = f"holds a JSON {type(value).__name__}, needed an object from user to candidates, or a list of rows"
    raise DataError(msg, path=file)


def _json_lines(file: Path) -> list[_Row]:
    lines = enumerate(read_lines(file), start=1)
    return [_row(_parsed(line, file, number), file, number) for number, line in lines if line.strip()]


def _parsed(text: str, file: Path, number: int | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = number or getattr(error, "lineno", None)
        msg = f"is no JSON ({error})"
        raise DataError(msg, path=file, line=line) from error


def _row(entry: Any, file: Path, number: int | None) -> _Row:
    if not isinstance(entry, Mapping):
        return number or 0, "", _cells(entry, file, number)
    lists = [entry[name] for name in _LISTS if name in entry]
    owners = [entry[name] for name in _USERS if name in entry]
    if not lists:
        msg = f"has the keys {', '.join(map(str, entry))}, needed one of {', '.join(_LISTS)}"
        raise DataError(msg, path=file, line=number)
    return number or 0, str(owners[0]) if owners else "", _cells(lists[0], file, number)


def _cells(items: Any, file: Path, number: int | None) -> list[str]:
    plain = isinstance(items, Sequence) and not isinstance(items, str)
    if not plain or any(isinstance(item, float | list | dict) for item in items):
        msg = f"found {str(items)[:40]!r}, needed a list of item ids (text or whole numbers)"
        raise DataError(msg, path=file, line=number)
    return ["" if item is None else str(item) for item in items]


def _collected(file: Path, rows: Sequence[_Row]) -> RawCandidates:
    if not rows or not any(items for _, _, items in rows):
        msg = "holds no candidates"
        raise DataError(msg, path=file)
    users = tuple(user for _, user, _ in rows)
    named = [bool(user) for user in users]
    if any(named) and not all(named):
        line = rows[named.index(False)][0] or None
        msg = "has rows with a user and rows without one"
        raise DataError(msg, path=file, line=line)
    return RawCandidates(path=file, rows=[items for _, _, items in rows], users=users if all(named) else ())


def matched(raw: RawCandidates, held_out: Events, users: Codes, items: Codes) -> Candidates:
    """The rows as codes, each with the held-out event that it belongs to.

    Rows with a user belong to the user's held-out event, of which there must be one; others follow the file's order.

    Raises:
        DataError: the rows are not as many as the held-out events, or of users who have none or several.
    """
    where = _events_of(raw, held_out, users)
    return Candidates(
        name=raw.path.name,
        items=_codes(raw, items),
        target=held_out.item[where],
        user=held_out.user[where],
    )


def _events_of(raw: RawCandidates, held_out: Events, users: Codes) -> Ints:
    if not raw.users:
        if len(raw) != len(held_out):
            msg = f"has {len(raw)} rows where {held_out.name} has {len(held_out)} events, needed one for each"
            raise DataError(msg, path=raw.path, hint="name the user in every row, or give the file that it belongs to")
        return np.arange(len(raw))
    code = users.encode(np.array(raw.users, dtype=np.str_))
    owners, first, counts = np.unique(held_out.user, return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(owners, code), len(owners) - 1)
    wrong = (owners[place] != code) | (counts[place] != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        num = int(counts[place[row]]) if owners[place[row]] == code[row] else 0
        msg = f"user {raw.users[row]!r} has {num} events in {held_out.name}, needed one"
        raise DataError(msg, path=raw.path, line=row + 1)
    return first[place]


def _codes(raw: RawCandidates, items: Codes) -> Ints:
    """Codes of the candidates; what stands for an empty slot, and is no item, is `ABSENT`."""
    if isinstance(raw.rows, np.ndarray):
        found = items.encode(raw.rows)
        return np.where((found < 0) & (raw.rows <= 0), ABSENT, found)
    flat = np.array(list(_flat(raw.rows)), dtype=np.str_)
    codes = items.encode(flat)
    codes = np.where((codes < 0) & np.isin(flat, _EMPTY), ABSENT, codes)
    ends = np.cumsum([len(row) for row in raw.rows])
    return padded([part.tolist() for part in np.split(codes, ends[:-1])])


def _flat(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield from row
