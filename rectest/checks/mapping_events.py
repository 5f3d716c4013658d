"""An id map against the events that it is used for: whether every raw id is known, and who the popular ones are.

The numbers of a map alone are judged in `mapping_indices.py`; whether its rows carry the items' signal, in
`table_signal.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_entries import NO_INDEX, Entries
from rectest.checks.mapping_ids import RawIds
from rectest.checks.result import CheckResult, count_of, judged, sample
from rectest.checks.rowsource import RowSource

__all__ = ["Counted", "count_ids", "coverage", "popular_ids"]

Ints = npt.NDArray[np.int64]

NUM_NAMED = 10
"""So many popular ids are shown with their counts and rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """How often each raw id occurs in one field of the events."""

    known: Ints
    """Events of each entry of the map, in its order; of a repeated raw id, all with the last of its entries."""

    unknown: tuple[tuple[str, int], ...]
    """Raw ids that have no index, with their events, the most popular first."""

    @property
    def num_events(self) -> int:
        """Events in all."""
        return int(self.known.sum()) + self.num_lost

    @property
    def num_lost(self) -> int:
        """Events of unknown ids."""
        return sum(num for _, num in self.unknown)

    @property
    def num_ids(self) -> int:
        """Different raw ids in the field."""
        return int(np.count_nonzero(self.known)) + len(self.unknown)

    def popular(self, num: int) -> list[tuple[str | None, int, int]]:
        """The most popular ids: raw id where it is unknown, its events, and its place in the map where it is known."""
        top = np.argsort(-self.known, kind="stable")[:num].tolist()
        known = [(None, int(self.known[place]), place) for place in top if self.known[place]]
        unknown = [(raw, events, -1) for raw, events in self.unknown[:num]]
        return sorted([*unknown, *known], key=lambda entry: -entry[1])[:num]


def count_ids(entries: Entries, field: npt.NDArray[np.str_]) -> Counted:
    """How often each id occurs in a field, raw ids as text, one for each event."""
    places = entries.ids.find(RawIds.from_array(field))
    lost = (places < 0) | (entries.index[places] == NO_INDEX)
    texts, counts = np.unique(field[lost], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return Counted(
        known=np.bincount(places[~lost], minlength=len(entries)),
        unknown=tuple(zip(texts[order].tolist(), counts[order].tolist(), strict=True)),
    )


def coverage(counted: Counted, subject: str) -> CheckResult:
    """Whether every event of a field has a raw id that the map knows."""
    unknown = counted.unknown
    ok = not unknown and counted.num_events > 0
    lost = count_of(counted.num_lost, counted.num_events, "events lost")
    return judged(
        "mapping/coverage",
        subject,
        ok=ok,
        figure=f"{count_of(len(unknown), counted.num_ids, 'raw ids are unknown to the map')}, {lost}",
        limit="0 unknown, and some events",
        worst=f"{unknown[0][0]!r}, {unknown[0][1]} events" if unknown else "",
        outside=sample(f"{raw!r} ({num})" for raw, num in unknown[:6]) if unknown else "",
        detail=_why_lost(counted),
        advice="build the map from all fields and splits that it encodes, and read ids as text everywhere",
        rows=sample((repr(raw) for raw, _ in unknown), limit=1000),
    )


def _why_lost(counted: Counted) -> str:
    if not counted.num_events:
        return "a field without events shows nothing"
    if not counted.unknown:
        return ""
    if not counted.known.any():
        return "no id of the field is in the map: another vocabulary, or ids written in another way"
    return "events of unknown ids are dropped, or become padding, and both in silence"


def popular_ids(entries: Entries, counted: Counted, subject: str, *, table: RowSource | None = None) -> CheckResult:
    """Whether the most popular ids of a field have an index and, where a table is given, a row that is not zero."""
    lines, bad = [], []
    for raw, events, place in counted.popular(NUM_NAMED):
        name = entries.ids[place] if raw is None else raw
        index = int(entries.index[place]) if raw is None else None
        norm = None if table is None or index is None else _norm(table, index)
        line = f"{name!r} {events} events, {_place(index, norm, with_table=table is not None)}"
        lines.append(line)
        if index is None or (norm is not None and not 0 < norm < np.inf) or (table is not None and norm is None):
            bad.append(line)
    ok = bool(lines) and not bad
    return judged(
        "mapping/popular_items",
        subject,
        ok=ok,
        figure="; ".join(lines[:3]) if ok else count_of(len(bad), len(lines), "of the most popular ids have no row"),
        expected="" if ok else "an index" if table is None else "an index, and a row that is finite and not zero",
        worst=bad[0] if bad else "",
        outside="; ".join(bad[:5]),
        detail="" if ok else "what most users met is nothing to the model",
        advice="look for ids used as rows, for a second vocabulary, and for a map made from a part of the events",
        rows="; ".join(lines),
    )


def _norm(table: RowSource, index: int) -> float | None:
    """The length of a row; None where there is no such row."""
    if not 0 <= index < table.shape[0]:
        return None
    row: npt.NDArray[Any] = table.take(np.array([index])).astype(np.float64)
    return float(np.sqrt((row * row).sum()))


def _place(index: int | None, norm: float | None, *, with_table: bool) -> str:
    if index is None:
        return "not in the map"
    if not with_table:
        return f"index {index}"
    return f"index {index}, norm {norm:.4g}" if norm is not None else f"index {index}, which is no row of the table"
