"""A table beside an id map and a log: as many rows as indices, a row for every item, good rows for popular items.

Owns these three judgements on arrays. Whether the map itself is sound is judged in the checks of maps, and whether a
row belongs to its item in `table_signal.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, Verdict, count_of, judged, not_measured, percent, places, sample
from rectest.checks.rowsource import RowSource

__all__ = ["NUM_POPULAR", "coverage", "popular_items", "rows_match"]

Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

NUM_POPULAR, NUM_SHOWN = 100, 5


def rows_match(index: Ints, num_rows: int, name: str, *, padding_row: int | None = None) -> CheckResult:
    """Whether the indices of a map are the rows of a table: none outside, none left, none of them padding."""
    check, valid = "embeddings/rows_match", index[index >= 0]
    if not valid.size:
        return not_measured(check, name, "the map holds no index")
    low, high = int(valid.min()), int(valid.max())
    figure = f"indices {low} to {high}, rows 0 to {num_rows - 1}"
    left = np.ones(num_rows, dtype=bool)
    left[valid[valid < num_rows]] = False
    if padding_row is not None:
        left[padding_row] = False
    detail = _mismatch(valid, num_rows, padding_row)
    if detail:
        return judged(
            check,
            name,
            ok=False,
            figure=figure,
            expected="every index is a row, and padding is none of them",
            limit="the largest index is the last row",
            outside=count_of(int((valid >= num_rows).sum()), len(valid), "entries have no row"),
            detail=detail,
            advice="make table and map from the same ids; decide on one first index (1 where row 0 is padding)",
        )
    extra = np.flatnonzero(left)
    return CheckResult(
        check=check,
        subject=name,
        verdict=Verdict.SUSPICIOUS if extra.size else Verdict.PASS,
        figure=figure,
        outside=count_of(extra.size, num_rows, "rows belong to no entry of the map") if extra.size else "",
        rows=places(extra.tolist()),
        detail="the table was made for more items than the map knows" if extra.size else "",
        advice="name the padding row with --padding, or look for entries that the map has lost" if extra.size else "",
    )


def _mismatch(index: Ints, num_rows: int, padding_row: int | None) -> str:
    low, high = int(index.min()), int(index.max())
    if padding_row is not None and (index == padding_row).any():
        one = ", and the table has one row more than the map: off by one" if high == num_rows - 2 else ""
        return f"an item has index {padding_row}, which is the padding row{one}"
    if high == num_rows and low >= 1:
        return "off by one: indices count from 1 and rows from 0, and the last item has no row"
    if high >= num_rows:
        return f"the table is {high + 1 - num_rows} rows too short for the map: it was made from other ids"
    return ""


def coverage(raws: Texts, row: Ints, count: Ints, name: str) -> CheckResult:
    """Whether every item of the interactions has a row.

    Args:
        raws: distinct raw ids.
        row: the row of each; -1 for none.
        count: events of each.
        name: the table.
    """
    missing = np.flatnonzero(row < 0)
    events, total = int(count[missing].sum()), int(count.sum())
    ok, none = not missing.size, missing.size == len(raws)
    by_events = missing[np.argsort(-count[missing], kind="stable")]
    return CheckResult(
        check="embeddings/coverage",
        subject=name,
        verdict=Verdict.PASS if ok else (Verdict.FAIL if none else Verdict.SUSPICIOUS),
        figure=count_of(missing.size, len(raws), "items of the interactions have no row"),
        limit="0 items",
        worst="" if ok else f"{raws[by_events[0]]}: {count[by_events[0]]} events",
        outside="" if ok else f"{count_of(events, total, 'events')}: {sample(raws[by_events].tolist())}",
        detail="" if ok else "where such an item falls back to row 0, it is padding and silently scores nothing",
        advice="" if ok else "compare the form of the ids in both files, and the filters that both went through",
    )


def popular_items(source: RowSource, raws: Texts, row: Ints, count: Ints, name: str) -> CheckResult:
    """Whether the items of the most events have rows that are finite and not zero; the first are named."""
    check, top = "embeddings/popular_items", np.argsort(-count, kind="stable")[:NUM_POPULAR]
    if not top.size:
        return not_measured(check, name, "the interactions hold no item")
    lengths = np.full(len(top), np.nan)
    known = row[top] >= 0
    vectors = source.take(row[top[known]]).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths[known] = np.sqrt((vectors**2).sum(axis=1))
    bad = ~(np.isfinite(lengths) & (lengths > 0))
    words = [
        f"{raws[i]}: {count[i]} events, row {row[i] if row[i] >= 0 else 'none'}, norm {length:.4g}"
        for i, length in zip(top.tolist(), lengths.tolist(), strict=True)
    ]
    return judged(
        check,
        name,
        ok=not bad.any(),
        figure="; ".join(words[:NUM_SHOWN]),
        limit=f"each of the {len(top)} items of most events has a row with a length",
        worst=words[int(np.argmax(bad))] if bad.any() else "",
        outside=f"{count_of(int(bad.sum()), len(top), 'popular items')}, {percent(_share(count, top[bad]))} of events"
        if bad.any()
        else "",
        detail="the items that most lists should hold cannot be scored" if bad.any() else "",
        advice="look these ids up in the map and in the table by hand: the form of the key is the usual reason",
    )


def _share(count: Ints, chosen: npt.NDArray[np.intp]) -> float:
    return float(count[chosen].sum()) / float(count.sum())
