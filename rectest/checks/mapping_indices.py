"""The numbers of an id map: one index for each raw id and one raw id for each index, whole numbers without holes.

Also whether the indices are those of a table: as many rows as ids, and nobody in the row of padding. How the ids are
written is judged in `mapping_format.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_entries import NO_INDEX, PADDINGS, Entries
from rectest.checks.mapping_ids import RawIds
from rectest.checks.mapping_numbers import numbers_of
from rectest.checks.result import CheckResult, count_of, judged, places, sample

__all__ = ["bijection", "blank", "first_index", "gaps", "index_type", "one_index", "padding", "table_index"]

Ints = npt.NDArray[np.int64]

_MAYBE_SPACE = np.isin(np.arange(256), [*range(ord(" ") + 1), *(ord(c) for c in "\xc2\xe1\xe2\xe3")])
"""By the first byte of an id: whether it may begin with a space of any kind."""


def blank(ids: RawIds) -> npt.NDArray[np.bool_]:
    """Which ids are empty or nothing but space."""
    if ids.all_capitals:
        return np.zeros(len(ids), dtype=bool)
    found: npt.NDArray[np.bool_] = ids.length == 0
    likely = np.flatnonzero(~found & _MAYBE_SPACE[ids.first_bytes()])
    found[[i for i in likely.tolist() if not ids[i].strip()]] = True
    return found


def bijection(entries: Entries, name: str) -> CheckResult:
    """Whether no raw id stands in the map twice."""
    twice = [group for group in entries.ids.repeated() if entries.ids[group[0]].strip()]
    texts = [repr(entries.ids[group[0]]) for group in twice[:6]]
    num_distinct = len(entries) - sum(len(group) - 1 for group in twice)
    return judged(
        "mapping/bijection",
        name,
        ok=not twice,
        figure=count_of(len(twice), num_distinct, "raw ids have more than one index"),
        limit="0",
        worst=f"{texts[0]} at {sample(map(_shown, entries.index[twice[0]].tolist()))}" if twice else "",
        outside=sample(texts),
        detail="one item is several items, each trained on a part of its events" if twice else "",
        advice="build the map from the distinct raw ids",
        rows=f"entries {places(sorted(i for group in twice for i in group))}" if twice else "",
    )


def _shown(index: int) -> str:
    return "no index" if index == NO_INDEX else str(index)


def one_index(entries: Entries, name: str) -> CheckResult:
    """Whether no index belongs to two different raw ids."""
    groups: dict[int, set[str]] = {}
    numbers = entries.numbers()
    shared = () if numbers is None or not numbers.shared.size else np.isin(entries.index, numbers.shared)
    for place in np.flatnonzero(shared).tolist():
        groups.setdefault(int(entries.index[place]), set()).add(entries.ids[place])
    bad = {index: sorted(texts) for index, texts in sorted(groups.items()) if len(texts) > 1}
    worst = max(bad, key=lambda index: len(bad[index]), default=0)
    return judged(
        "mapping/shared_index",
        name,
        ok=not bad,
        figure=count_of(len(bad), len(entries), "indices belong to more than one raw id"),
        limit="0",
        worst=f"index {worst}: {sample(map(repr, bad[worst]))}" if bad else "",
        outside=f"indices {sample(bad)}" if bad else "",
        detail="different items share a row, and each is trained on the events of the others" if bad else "",
        advice="number the raw ids anew; a map that is extended must go on after its last index",
        rows=f"indices {places(bad)}" if bad else "",
    )


def index_type(entries: Entries, name: str) -> CheckResult:
    """Whether every index was written as a whole number."""
    odd = entries.odd
    kinds = sorted({entry.kind for entry in odd})
    return judged(
        "mapping/index_type",
        name,
        ok=not odd,
        figure=count_of(len(odd), len(entries), f"indices are {' or '.join(kinds) or 'no whole numbers'}"),
        expected="whole numbers",
        limit="0",
        worst=f"{entries.ids[odd[0].place]!r}: {odd[0].written}" if odd else "",
        outside=sample(f"{entries.ids[entry.place]!r}: {entry.written}" for entry in odd[:6]) if odd else "",
        detail="a missing value turns a column of whole numbers into decimals, and their rows cannot be looked up"
        if odd
        else "",
        advice="find what was missing when the map was written, and write whole numbers",
        rows=f"entries {places(entry.place for entry in odd)}" if odd else "",
    )


def first_index(entries: Entries, name: str, *, expected: int | None = None) -> CheckResult:
    """Whether the indices begin where they should: at 0, at 1 where row 0 is padding, or as expected."""
    numbers = entries.numbers()
    low = NO_INDEX if numbers is None else numbers.low
    allowed = (0, 1) if expected is None else (expected,)
    place = int(np.argmax(entries.index == low))
    negative = np.flatnonzero((entries.index < 0) & (entries.index != NO_INDEX)) if low < 0 else np.zeros(0, np.int64)
    return judged(
        "mapping/first_index",
        name,
        ok=low in allowed,
        figure=f"the indices begin at {low}" if numbers is not None else "no entry has an index",
        expected=" or ".join(map(str, allowed)),
        limit="equal",
        worst=f"{entries.ids[place]!r} at {_shown(low)}",
        outside=f"{negative.size} negative indices" if negative.size else "",
        detail="" if low in allowed else "every row belongs to another id than the map says, or the last ids have none",
        advice="number from 0, or from 1 where row 0 is padding; name an intended start with --first-index",
        rows=f"entries {places(negative.tolist())}" if negative.size else "",
    )


def gaps(entries: Entries, name: str, *, missing: npt.NDArray[np.bool_] | None = None) -> CheckResult:
    """Whether every index between the first and the last has a raw id that is not blank.

    `missing` is `blank` of the ids, where the caller has it.
    """
    holes, total = _holes(entries, blank(entries.ids) if missing is None else missing)
    num = sum(last - first + 1 for first, last in holes)
    return judged(
        "mapping/gaps",
        name,
        ok=not num,
        figure=count_of(num, total, "indices have no raw id"),
        limit="0",
        worst=f"index {holes[0][0]}" if holes else "",
        outside=f"indices {sample(_ranges(holes))}" if holes else "",
        detail="rows without an item can be recommended, and nothing can be shown for them" if holes else "",
        advice="number the raw ids without gaps",
        rows=f"indices {', '.join(_ranges(holes)[:1000])}" if holes else "",
    )


def _ranges(holes: list[tuple[int, int]]) -> list[str]:
    return [f"{first}" if first == last else f"{first}-{last}" for first, last in holes]


def _holes(entries: Entries, missing: npt.NDArray[np.bool_]) -> tuple[list[tuple[int, int]], int]:
    """The holes of an index, blank ids at both ends included, and the number of indices."""
    written = entries.numbers()
    if written is None:
        return [], 0
    low, high = written.low, written.high
    kept = written
    if missing.any():
        index = entries.index[~missing & (entries.index != NO_INDEX)]
        if not index.size:
            return [(low, high)], high - low + 1
        kept = numbers_of(index)
    holes = list(kept.holes)
    if low < kept.low:
        holes.insert(0, (low, kept.low - 1))
    if high > kept.high:
        holes.append((kept.high + 1, high))
    return holes, high - low + 1


def padding(entries: Entries, name: str, *, index: int) -> CheckResult:
    """Whether nobody has the index of padding but an entry that is named so."""
    taken = np.flatnonzero(entries.index == index).tolist()
    bad = [entries.ids[i] for i in taken if entries.ids[i].strip() and entries.ids[i].strip().lower() not in PADDINGS]
    return judged(
        "mapping/padding",
        name,
        ok=not bad,
        figure=f"{len(bad)} raw ids have the index of padding, {index}",
        limit="0",
        worst=repr(bad[0]) if bad else "",
        outside=sample(map(repr, bad)),
        detail="the item is taken for no item: never trained, never recommended, masked in every history"
        if bad
        else "",
        advice="number items from 1, or keep padding in a row of its own",
        rows=f"entries {places(taken)}" if bad else "",
    )


def table_index(entries: Entries, table: str, num_rows: int, name: str) -> CheckResult:
    """Whether every index is that of a row of the table."""
    bad = np.flatnonzero((entries.index < 0) | (entries.index >= num_rows))
    bad = bad[entries.index[bad] != NO_INDEX]
    return judged(
        "mapping/table_index",
        f"{name} and {table}",
        ok=not bad.size,
        figure=count_of(bad.size, len(entries), f"indices are outside of {num_rows} rows"),
        limit=f"0 to {num_rows - 1}",
        worst=f"{entries.ids[int(bad[0])]!r} at {entries.index[bad[0]]}" if bad.size else "",
        outside=sample(map(repr, entries.ids.texts(bad[:6].tolist()))),
        detail="the row does not exist; where it is looked up all the same, it is another item's" if bad.size else "",
        advice="make the table from the size of the map; look whether one counts from 0 and the other from 1",
        rows=f"indices {places(np.unique(entries.index[bad]).tolist())}" if bad.size else "",
    )
