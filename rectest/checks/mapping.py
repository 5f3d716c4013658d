"""Id maps: bijection, no gaps, complete for all phases, one key format, one vocabulary, popular items present.

`check_mapping` judges a bare list of raw ids by dense index (a file from elsewhere), `mapping` the maps of a record.
Whether the vectors of a table belong to the items of a map is judged by `table_signal.py`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent, sample
from rectest.record import RunRecord

__all__ = ["FORMATS", "canonical", "check_mapping", "mapping"]

Array = npt.NDArray[Any]

FORMATS = (
    ("integers", re.compile(r"-?[0-9]+")),
    ("decimals", re.compile(r"-?[0-9]+\.[0-9]+")),
    ("ten capitals or digits (ASIN, ISBN)", re.compile(r"[0-9A-Z]{10}")),
    ("hexadecimal", re.compile(r"(?:0x)?[0-9a-f]{8,}(?:-[0-9a-f]{4,})*", re.IGNORECASE)),
    ("a prefix and a number", re.compile(r"[A-Za-z]+[_:#-]?[0-9]+")),
)
"""Formats of raw ids, the narrowest first; a map of no such format holds free text, in which nothing is odd."""

_NUMBER = re.compile(r"(-?)0*([0-9]+)(?:\.0*)?")

FORMAT_SHARE = 0.9
"""A format is the map's own when this share of the ids has it; the others are then outliers."""

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
    texts = [str(raw) for raw in raw_ids]
    results = [
        _bijection(texts, name, first_index),
        _gaps(texts, name, first_index),
        _format(texts, name),
        _collisions(texts, name),
    ]
    results += [_rows(table, num, name, first_index + len(texts)) for table, num in (tables or {}).items()]
    results += [_complete(phase, ids, name, first_index, len(texts)) for phase, ids in (used or {}).items()]
    return results


def _bijection(texts: list[str], name: str, first_index: int) -> CheckResult:
    counts = Counter(texts)
    twice = [raw for raw, num in counts.items() if num > 1 and raw]
    places = [i + first_index for i, raw in enumerate(texts) if twice and raw == twice[0]]
    return judged(
        "mapping/bijection",
        name,
        ok=not twice,
        figure=count_of(len(twice), len(counts), "raw ids have more than one index"),
        limit="0",
        worst=f"{twice[0]!r} at {sample(places)}" if twice else "",
        outside=sample(map(repr, twice)) if twice else "",
        detail="one item is several items, each trained on a part of its events" if twice else "",
        advice="build the map from the distinct raw ids",
    )


def _gaps(texts: list[str], name: str, first_index: int) -> CheckResult:
    empty = [i + first_index for i, raw in enumerate(texts) if not raw.strip()]
    return judged(
        "mapping/gaps",
        name,
        ok=not empty,
        figure=count_of(len(empty), len(texts), "indices have no raw id"),
        limit="0",
        worst=f"index {empty[0]}" if empty else "",
        outside=f"indices {sample(empty)}" if empty else "",
        detail="rows without an item can be recommended, and nothing can be shown for them" if empty else "",
        advice="number the raw ids without gaps",
    )


def _format(texts: list[str], name: str) -> CheckResult:
    present = [raw for raw in texts if raw.strip()]
    title, outliers = _majority_format(present)
    bad = [*(raw for raw in present if raw != raw.strip()), *outliers]
    return judged(
        "mapping/key_format",
        name,
        ok=not bad,
        figure=f"{title}; {count_of(len(bad), len(texts), 'ids differ')}",
        expected="one format for all raw ids",
        limit="0",
        worst=repr(bad[0]) if bad else "",
        outside=sample(map(repr, bad)) if bad else "",
        detail="ids of another format never match the ids of other files, so their events are lost" if bad else "",
        advice="read id columns as text, and strip them, before anything else",
    )


def _majority_format(texts: list[str]) -> tuple[str, list[str]]:
    """The narrowest format of all ids, or else of nearly all and the ids that differ from it.

    Integers mixed with decimals are never one format, whatever their shares: that is what a missing value does to an
    integer column.
    """
    stripped = [raw.strip() for raw in texts]
    decimals = [raw for raw in stripped if "." in raw and FORMATS[1][1].fullmatch(raw)]
    integers = [raw for raw in stripped if FORMATS[0][1].fullmatch(raw)] if decimals else []
    if integers and decimals:
        usual, odd = (0, decimals) if len(decimals) <= len(integers) else (1, integers)
        return FORMATS[usual][0], odd
    for title, pattern in FORMATS:
        if all(pattern.fullmatch(raw) for raw in stripped):
            return title, []
    for title, pattern in FORMATS:
        outliers = [raw for raw in stripped if not pattern.fullmatch(raw)]
        if len(outliers) <= (1 - FORMAT_SHARE) * len(stripped):
            return title, outliers
    return "free text", []


def canonical(raw: str) -> str:
    """What a raw id becomes when case, surrounding space, leading zeros and a fraction of zero are ignored.

    >>> canonical(" 0487.0"), canonical("b01A")
    ('487', 'b01a')
    """
    text = raw.strip().casefold()
    number = _NUMBER.fullmatch(text)
    return number.group(1) + number.group(2) if number else text


def _collisions(texts: list[str], name: str) -> CheckResult:
    groups: dict[str, set[str]] = {}
    for raw in texts:
        if raw.strip():
            groups.setdefault(canonical(raw), set()).add(raw)
    bad = [sorted(group) for group in groups.values() if len(group) > 1]
    return judged(
        "mapping/collisions",
        name,
        ok=not bad,
        figure=count_of(sum(map(len, bad)), len(texts), "raw ids differ only in case, space or zeros"),
        limit="0",
        worst=sample(map(repr, bad[0])) if bad else "",
        outside=f"{len(bad)} groups" if bad else "",
        detail="such ids are almost surely one item that was written in two ways" if bad else "",
        advice="normalise raw ids before the map is built",
    )


def _rows(table: str, num_rows: int, name: str, needed: int) -> CheckResult:
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
    left, right = ({raw: i for i, raw in enumerate(record[f"idmap/{n}"].tolist()) if raw} for n in (first, second))
    common = [raw for raw in left if raw in right]
    bad = [raw for raw in common if left[raw] != right[raw]]
    return judged(
        "mapping/one_vocabulary",
        f"{first} and {second}",
        ok=not bad and bool(common),
        figure=count_of(len(bad), len(common), "common raw ids have two indices") if common else "no common raw id",
        limit="0, and some common ids",
        worst=f"{bad[0]!r}: {left[bad[0]]} and {right[bad[0]]}" if bad else "",
        outside=sample(map(repr, bad)) if bad else "",
        detail="histories and targets speak of different items, so training is close to chance" if bad else "",
        advice="build one map over all fields that name the same things",
    )
