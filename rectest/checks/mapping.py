"""Id maps: bijection, no gaps, complete for all phases, one key format, one vocabulary, popular items present.

`check_mapping` judges a bare list of raw ids by dense index (a file from elsewhere), `mapping` the maps of a record.
Whether the vectors of a table belong to the items of a map is judged by `table_signal.py`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_entries import Entries
from rectest.checks.mapping_format import FORMATS, canonical, written_alike
from rectest.checks.mapping_ids import RawIds
from rectest.checks.mapping_indices import bijection, blank, gaps
from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent, places, sample
from rectest.record import RunRecord

__all__ = ["FORMATS", "canonical", "check_entries", "check_mapping", "mapping", "one_vocabulary", "table_rows"]

Array = npt.NDArray[Any]

NUM_POPULAR = 100


def mapping(record: RunRecord) -> list[CheckResult]:
    """Every property of every id map in a record, and the agreement of maps of one id space.

    Uses ``idmap/<name>``, the facts of the maps and tables, the lengths of ``table/<name>`` and ``popularity/<space>``,
    and as phases the rows of ``rows/<name>`` and the ids of ``used/<map>/<phase>`` where they were recorded.
    """
    names = record.names("idmap/")
    if not names:
        advice = "return the id maps in System.id_maps or pass id_maps to run.start(...)"
        return [not_measured("mapping", record.spec.system, "the record has no id map", advice=advice)]
    results = []
    for name in names:
        raws = record[f"idmap/{name}"]
        facts = record.facts.get("idmaps", {}).get(name, {})
        first_index = int(facts.get("first_index", 1 if len(raws) and raws[0] == "" else 0))
        space = facts.get("space", name)
        results += check_mapping(
            raws[first_index:].tolist(),
            name,
            first_index=first_index,
            tables=_table_rows(record, space),
            used=_used(record, name, space),
        )
        results += _popular(record, name, space)
    return [*results, *_vocabularies(record, names)]


def _table_rows(record: RunRecord, space: str) -> dict[str, int]:
    tables = record.facts.get("tables", {})
    found = {n: len(record[f"table/{n}"]) for n in record.names("table/") if tables.get(n, {}).get("space") == space}
    if f"popularity/{space}" in record:
        found["the popularity counts"] = len(record[f"popularity/{space}"])
    return found


def _used(record: RunRecord, name: str, space: str) -> dict[str, Array]:
    used: dict[str, Array] = {p: record[f"used/{name}/{p}"] for p in record.names(f"used/{name}/")}
    if f"popularity/{space}" in record:
        used["training"] = np.flatnonzero(record[f"popularity/{space}"])
    return used


def check_mapping(
    raw_ids: Sequence[str],
    name: str = "item",
    *,
    first_index: int = 1,
    tables: Mapping[str, int] | None = None,
    used: Mapping[str, Array] | None = None,
) -> list[CheckResult]:
    """Every property of one map from raw ids to first_index, first_index + 1, ...

    Args:
        raw_ids: raw id by dense index, padding left out; an empty entry is a gap.
        tables: rows of each table that the dense indices address; first_index + len(raw_ids) are needed.
        used: dense indices that occur in each phase (training, evaluation, serving).
    """
    if not len(raw_ids):
        return [not_measured("mapping", name, "the map is empty")]
    index = np.arange(first_index, first_index + len(raw_ids))
    results = check_entries(Entries(ids=RawIds.from_texts(map(str, raw_ids)), index=index), name)
    results += [table_rows(table, num, name, first_index + len(raw_ids)) for table, num in (tables or {}).items()]
    results += [_complete(phase, ids, name, first_index, len(raw_ids)) for phase, ids in (used or {}).items()]
    return results


def check_entries(entries: Entries, name: str, *, promised: re.Pattern[str] | None = None) -> list[CheckResult]:
    """The properties that every list of entries has, in an order or with indices of their own.

    Args:
        entries: the map; entries that stand for no item by their names (padding, unknown) are asked for no format.
        name: what the map is of.
        promised: the pattern that every raw id matches, instead of the one that nearly all of them have.
    """
    missing = blank(entries.ids)
    unnamed = missing.copy()
    unnamed[entries.special()] = True
    ids = entries.ids.take(np.flatnonzero(~unnamed)) if unnamed.any() else entries.ids
    return [
        bijection(entries, name),
        gaps(entries, name, missing=missing),
        *written_alike(ids, name, promised=promised),
    ]


def table_rows(table: str, num_rows: int, name: str, needed: int) -> CheckResult:
    off = num_rows - needed
    return judged(
        "mapping/table_rows",
        f"{name} and {table}",
        ok=off == 0,
        figure=f"{num_rows} rows",
        expected=f"{needed}: one for each id, and one for padding where there is one",
        limit="equal",
        outside=f"{abs(off)} rows too {'many' if off > 0 else 'few'}" if off else "",
        detail="some ids have no row, or some rows no id: everything may be shifted by one" if off else "",
        advice="make the table from the size of the map",
    )


def _complete(phase: str, ids: Array, name: str, first_index: int, num_ids: int) -> CheckResult:
    flat = np.asarray(ids).reshape(-1)
    outside = flat[(flat < first_index) | (flat >= first_index + num_ids)]
    return judged(
        "mapping/complete",
        f"{name} in {phase}",
        ok=not outside.size and flat.size > 0,
        figure=count_of(outside.size, flat.size, "ids are outside of the map") if flat.size else "no ids at all",
        expected=f"{first_index} to {first_index + num_ids - 1}",
        limit="0 outside, and some ids",
        worst=f"id {outside[0]}" if outside.size else "",
        outside=f"ids {sample(np.unique(outside).tolist())}" if outside.size else "",
        detail="unknown ids became padding or rows of nobody" if outside.size else "",
        advice="never default to 0 for an unknown raw id; fail or drop the event",
    )


def _popular(record: RunRecord, name: str, space: str) -> Iterator[CheckResult]:
    """Whether the most popular ids take part in training, for each table of the space that counted its rows."""
    counts = record.arrays.get(f"popularity/{space}")
    tables = [n for n in record.names("rows/") if record.facts.get("tables", {}).get(n, {}).get("space") == space]
    for table in tables:
        rows = record[f"rows/{table}"]
        subject = f"{name} in {table}"
        if counts is None or not rows.any():
            missing = f"popularity/{space}" if counts is None else f"counts in rows/{table}"
            yield not_measured("mapping/popular_items", subject, f"the record has no {missing}")
            continue
        yield _popular_in(counts, rows, subject)


def _popular_in(counts: Array, rows: Array, subject: str) -> CheckResult:
    seen = np.flatnonzero(counts > 0)
    top = seen[np.argsort(-counts[seen], kind="stable")][:NUM_POPULAR]
    taken = np.array([bool(i < len(rows) and rows[i] > 0) for i in top], dtype=bool)
    share = float(counts[top[taken]].sum() / max(1, counts[top].sum()))
    limit = 0.5 * _expected_share(counts, top, num_draws=int(rows.sum()) // 10)
    ok = top.size > 0 and share >= limit
    missing = top[~taken]
    return judged(
        "mapping/popular_items",
        subject,
        ok=ok,
        figure=f"{percent(share)} of the events of the {top.size} most popular ids reached the table",
        limit=f">= {percent(limit)}",
        worst=f"id {missing[0]}, {counts[missing[0]]} events" if missing.size else "",
        outside=count_of(missing.size, top.size, "popular ids never took part") if missing.size else "",
        detail="" if ok else "the table is addressed by other ids than the events",
        advice="look for raw ids used as rows, or a second vocabulary",
    )


def _expected_share(counts: Array, top: Array, *, num_draws: int) -> float:
    """Share of the events of the `top` ids whose id comes up in independent draws by popularity.

    Draws of one batch hang together, so the caller takes a tenth of them as independent.
    """
    rate = counts[top] / max(1, counts.sum())
    return float((rate * (1 - (1 - rate) ** num_draws)).sum() / max(rate.sum(), np.finfo(np.float64).tiny))


def _vocabularies(record: RunRecord, names: list[str]) -> Iterator[CheckResult]:
    """For every two maps of one id space: the same raw id has the same index in both."""
    facts = record.facts.get("idmaps", {})
    for first, second in itertools.combinations(names, 2):
        if facts.get(first, {}).get("space", first) == facts.get(second, {}).get("space", second):
            yield _one_vocabulary(record, first, second)


def _one_vocabulary(record: RunRecord, first: str, second: str) -> CheckResult:
    left, right = (_entries_of(record[f"idmap/{name}"]) for name in (first, second))
    return one_vocabulary(left, right, f"{first} and {second}")


def _entries_of(raws: Array) -> Entries:
    index = np.flatnonzero(raws != "")
    return Entries(ids=RawIds.from_array(raws[index]), index=index)


def one_vocabulary(first: Entries, second: Entries, subject: str) -> CheckResult:
    """Whether each raw id of both maps has the same index in both, and there is one at all."""
    theirs = second.ids.find(first.ids)
    common = np.flatnonzero(theirs >= 0)
    other = second.index[theirs[common]]
    bad = common[first.index[common] != other]
    shifts = np.unique(second.index[theirs[bad]] - first.index[bad])
    worst = first.ids.texts(bad[:6].tolist())
    here, there = (int(m.index[i]) for m, i in ((first, bad[0]), (second, theirs[bad[0]]))) if bad.size else (0, 0)
    shift = f"; each index of the second is {shifts[0]:+d}" if shifts.size == 1 and bad.size == common.size > 1 else ""
    figure = count_of(bad.size, common.size, "common raw ids have two indices") + shift
    return judged(
        "mapping/one_vocabulary",
        subject,
        ok=not bad.size and bool(common.size),
        figure=figure if common.size else "no common raw id",
        limit="0, and some common ids",
        worst=f"{worst[0]!r}: {here} and {there}" if worst else "",
        outside=sample(map(repr, worst)),
        detail="histories and targets speak of different items, so training is close to chance" if worst else "",
        advice="build one map over all fields that name the same things",
        rows=f"entries {places(bad.tolist())}" if worst else "",
    )
