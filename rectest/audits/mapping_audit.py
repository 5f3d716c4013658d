"""``rectest audit mapping``: reads an id map and whatever it is to be held against, and asks the checks.

Which columns of an interaction file the map should know is decided here: those that were named, else those whose name
speaks of items (of users, where the map's ids are found there and nowhere else).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.audits.maps import RawMapping, read_mapping
from rectest.audits.report import Audit
from rectest.checks.mapping import check_entries, one_vocabulary, table_rows
from rectest.checks.mapping_entries import NO_INDEX, PADDINGS, Entries
from rectest.checks.mapping_events import count_ids, coverage, popular_ids
from rectest.checks.mapping_format import key_pattern
from rectest.checks.mapping_indices import first_index as check_first_index
from rectest.checks.mapping_indices import index_type, one_index, padding, table_index
from rectest.checks.result import CheckResult
from rectest.checks.rowsource import RowSource
from rectest.errors import DataError

__all__ = ["MapQuestions", "audit_mapping_file"]

_ITEM_WORDS = ("item", "product", "asin", "iid", "movie", "track", "song", "book", "news", "article", "sku", "isbn")
_NO_IDS = (
    "rating",
    "score",
    "star",
    "label",
    "time",
    "date",
    "count",
    "price",
    "weight",
    "behavio",
    "quantity",
    "rank",
)
"""Words in the names of columns whose small numbers are among the ids of nearly every map, and mean none of them."""

_KNOWN_SHARE = 0.5
"""A column that speaks of nothing known is the map's where at least this share of its different ids is in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapQuestions:
    """What a map is held against; what is left out is not asked."""

    interactions: tuple[Path, ...] = ()
    columns: tuple[str, ...] = ()
    """Columns of the interactions that the map should know; none: found by name."""

    key_pattern: str | None = None
    """Name of a pattern or a regular expression that every raw id must match."""

    table: Path | None = None
    table_name: str | None = None
    same_as: Path | None = None
    """A second map of the same ids."""

    first_index: int | None = None
    padding: int | None = None
    """The index that nobody may have; unset, 0 where the map begins at 1 or the table's row 0 is all zeros."""


def audit_mapping_file(
    path: Path, *, key: str | None = None, index: str | None = None, questions: MapQuestions | None = None
) -> Audit:
    """The audit of an id map in a file of any kind that `read_mapping` reads.

    Raises:
        DataError: a file cannot be read.
        ValueError: the key pattern is no regular expression.
    """
    asked = questions or MapQuestions()
    promised = None if asked.key_pattern is None else key_pattern(asked.key_pattern)
    raw = read_mapping(path, key=key, index=index)
    entries, name = raw.entries, path.stem
    table = _open_table(asked)
    row = _padding_row(entries, table, asked)
    results = [
        *check_entries(entries, name, promised=promised),
        one_index(entries, name),
        check_first_index(_without_padding(entries), name, expected=asked.first_index),
        index_type(entries, name),
    ]
    if row is not None:
        results.append(padding(entries, name, index=row))
    if table is not None:
        results += _against_table(entries, table, name, row)
    if asked.same_as is not None:
        other = read_mapping(asked.same_as, key=key if _has_key(asked.same_as, key) else None)
        results.append(one_vocabulary(entries, other.entries, f"{name} and {asked.same_as.stem}"))
    notes = list(_not_asked(asked))
    for log in asked.interactions:
        found, seen = _against_events(entries, log, asked.columns, table)
        results += found
        notes.append(seen)
    return Audit(kind="mapping", subject=str(path), results=tuple(results), facts=_facts(raw), notes=tuple(notes))


def _facts(raw: RawMapping) -> dict[str, Any]:
    low, high = _bounds(raw.entries)
    special = raw.entries.ids.texts(raw.entries.special().tolist())
    return {
        "form": raw.layout,
        "entries": raw.num_entries,
        "indices": f"{low} to {high}" if high >= low and (low, high) != (-1, -1) else "none",
    } | ({"special": " ".join(special)} if special else {})


def _has_key(path: Path, key: str | None) -> bool:
    """Whether the key may name something in a second file as well: it does where reading with it succeeds."""
    if key is None:
        return False
    try:
        read_mapping(path, key=key)
    except DataError:
        return False
    return True


def _open_table(asked: MapQuestions) -> RowSource | None:
    if asked.table is None:
        return None
    from rectest.audits.tables import open_table

    return open_table(asked.table, name=asked.table_name)


def _paddings(entries: Entries) -> npt.NDArray[np.int64]:
    """Places of entries that are padding by their names."""
    return np.array([i for i in entries.special().tolist() if entries.ids[i].lower() in PADDINGS], dtype=np.int64)


def _without_padding(entries: Entries) -> Entries:
    named = _paddings(entries)
    if not named.size or named.size == len(entries):
        return entries
    kept = np.setdiff1d(np.arange(len(entries)), named)
    return Entries(ids=entries.ids.take(kept), index=entries.index[kept], odd=entries.odd)


def _padding_row(entries: Entries, table: RowSource | None, asked: MapQuestions) -> int | None:
    """The index of padding: as asked, as the map names it, or 0 where the map or the table leaves it free."""
    if asked.padding is not None:
        return asked.padding
    named = entries.index[_paddings(entries)]
    if named.size and named[0] != NO_INDEX:
        return int(named[0])
    if asked.first_index == 1 or _bounds(entries)[0] == 1:
        return 0
    return 0 if table is not None and not table.take(np.array([0])).any() else None


def _bounds(entries: Entries) -> tuple[int, int]:
    """The first and the last index; -1 and -1 where no entry has one."""
    numbers = entries.numbers()
    return (-1, -1) if numbers is None else (numbers.low, numbers.high)


def _against_table(entries: Entries, table: RowSource, name: str, row: int | None) -> list[CheckResult]:
    rows = table.shape[0]
    label = getattr(table, "name", "") or "the table"
    needed = max(_bounds(entries)[1], -1 if row is None else row) + 1
    return [table_rows(label, rows, name, needed), table_index(entries, label, rows, name)]


def _against_events(
    entries: Entries, path: Path, columns: Sequence[str], table: RowSource | None
) -> tuple[list[CheckResult], str]:
    """Coverage and popular ids of each field of one file, and which columns were looked at."""
    from rectest.audits.logs import read_columns

    held = read_columns(path)
    fields = _fields(entries, held, columns, path)
    results = []
    for field in fields:
        counted = count_ids(entries, held[field])
        subject = f"{field} in {path.name}"
        results += [coverage(counted, subject), popular_ids(entries, counted, subject, table=table)]
    left = [name for name in held if name not in fields]
    return results, f"{path.name}: looked at {', '.join(fields)}" + (f", not at {', '.join(left)}" if left else "")


def _fields(
    entries: Entries, held: Mapping[str, npt.NDArray[np.str_]], columns: Sequence[str], path: Path
) -> list[str]:
    """The columns that hold ids of the map.

    Raises:
        DataError: a named column is not there, or no column seems to hold ids of the map.
    """
    known = ", ".join(map(repr, held))
    for name in columns:
        if name not in held:
            problem = f"has no column {name!r}; known: {known}"
            raise DataError(problem, path=path)
    if columns:
        return list(columns)
    shares = {name: _known_share(entries, values) for name, values in held.items()}
    by_name = [name for name in held if any(word in name.lower() for word in _ITEM_WORDS)]
    numbers = [name for name in held if any(word in name.lower() for word in _NO_IDS)]
    by_share = [name for name, share in shares.items() if share >= _KNOWN_SHARE and name not in numbers]
    users = [name for name in by_share if "user" in name.lower()]
    if users and not any(shares[name] >= _KNOWN_SHARE for name in by_name):
        return users
    found = [name for name in held if name in by_name or (name in by_share and "user" not in name.lower())]
    if not found:
        problem = f"no column seems to hold ids of the map; known: {known}"
        raise DataError(problem, path=path, hint="name the columns with --item or --user")
    return found


def _known_share(entries: Entries, values: npt.NDArray[np.str_]) -> float:
    """Share of known ids among the different ones of the first events."""
    distinct = np.unique(values[:20_000])
    return float((entries.find(_raw(distinct)) >= 0).mean()) if distinct.size else 0.0


def _raw(texts: npt.NDArray[np.str_]) -> Any:
    from rectest.checks.mapping_ids import RawIds

    return RawIds.from_array(texts)


def _not_asked(asked: MapQuestions) -> list[str]:
    notes = []
    if not asked.interactions:
        notes.append("coverage was not asked: --interactions LOG tells which events the map loses")
    if asked.table is None:
        notes.append("no table was given: --table FILE tells whether rows and indices are off by one")
    return notes
