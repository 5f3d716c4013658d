"""Embedding tables: finite, padding, zero, dead, duplicate and untouched rows; lengths and collapse by `norms.py`.

One result for each property and table of a record. `audit_table` judges a bare table (a file from elsewhere); what
needs the initial table or the counts of training is judged where they are given. Reading is in `tablescan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.duplicates import find_duplicates
from rectest.checks.norms import Deciles, collapse, exploding, promised_norm, spread
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.checks.rowset import RowSet
from rectest.checks.rowsource import RowSource, as_source
from rectest.checks.tablescan import TableScan, scan_table
from rectest.checks.tolerance import accidental_duplicates
from rectest.record import RunRecord

__all__ = ["TableFacts", "audit_table", "embeddings", "judge_table"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_TOUCHES = 5
"""A row may stay unmoved by chance when its few appearances were masked; five masked in a row is no chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFacts:
    """What a table promises, and what is known of how it was trained."""

    padding_row: int | None = None
    norm: float | None = None
    """The length that every row promises."""

    moves_untouched: bool = False
    """Whether the optimizer may move rows that took part in no batch (weight decay on a dense table)."""

    frozen: bool = False
    """Whether the table promises to stay at its initial values."""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> TableFacts:
        """The promises among the facts of a record; other keys are left to other checks."""
        return cls(**{key: facts[key] for key in cls.__dataclass_fields__ if key in facts})


def embeddings(record: RunRecord) -> list[CheckResult]:
    """Every property of every table in the record; a record without tables, or with an initial one alone, lacks some.

    A table needs ``table_init/<name>`` for moved and padding rows, ``rows/<name>`` for touched ones, and
    ``popularity/<space>`` for deciles (``rows/<name>`` stands in for it).
    """
    kept, begun = record.names("table/"), record.names("table_init/")
    if not (kept or begun):
        advice = "name the embedding tables in System.tables or call run.table(...)"
        return [not_measured("embeddings", record.spec.system, "the record has no table", advice=advice)]
    results = []
    for name in sorted({*kept, *begun}):
        if name not in kept:
            missing = f"the record has table_init/{name} and no table/{name}"
            results.append(not_measured("embeddings", name, missing, advice="record the table after training as well"))
            continue
        facts = record.facts.get("tables", {}).get(name, {})
        space = facts.get("space", "item")
        results += audit_table(
            record[f"table/{name}"],
            name,
            facts=TableFacts.from_facts(facts),
            initial=record.arrays.get(f"table_init/{name}"),
            touches=record.arrays.get(f"rows/{name}"),
            popularity=record.arrays.get(f"popularity/{space}"),
            in_training=True,
        )
    return results


def audit_table(
    table: Array | RowSource,
    name: str,
    *,
    facts: TableFacts | None = None,
    initial: Array | None = None,
    touches: Array | None = None,
    popularity: Array | None = None,
    in_training: bool = False,
    threads: int = 1,
) -> list[CheckResult]:
    """Every property of one table [rows, dim], in memory or in a file.

    Args:
        initial: the table before training.
        touches: [rows] how often each row took part in a batch.
        popularity: [rows] how often each id occurs in training.
        in_training: the table comes from a training run, so a missing `initial` or `touches` is NOT MEASURED rather
            than not asked for.
        threads: Python threads that read; they change no result.
    """
    facts = facts or TableFacts()
    if problem := _unusable(table, initial, touches, facts):
        return [not_measured("embeddings", name, problem)]
    source = as_source(table)
    scan = scan_table(source, initial, padding_row=facts.padding_row, threads=threads)
    results = judge_table(source, scan, name, norm=facts.norm, initial=initial, counts=(popularity, touches))
    if initial is not None and touches is not None and touches.any():
        moved = _Movement(scan, initial, touches, facts)
        results += [moved.of_touched(name), moved.of_untouched(name)]
    elif in_training:
        results += _unknown_movement(name, initial)
    return results


def judge_table(
    source: RowSource,
    scan: TableScan,
    name: str,
    *,
    norm: float | None = None,
    initial: Array | None = None,
    counts: Sequence[Array | None] = (),
) -> list[CheckResult]:
    """Every property of a scanned table that needs no knowledge of its training.

    Args:
        norm: the length that every row promises; without one, lengths are compared with each other.
        counts: popularity by row, the first that has one number for each row is taken.
    """
    results = [_finite(scan, name)]
    results += [_padding(scan, name, scan.padding_row, initial)] if scan.padding_row is not None else []
    if norm is not None:
        results.append(promised_norm(scan, name, norm))
    elif scan.num_real:
        fitting = (some for some in counts if some is not None and len(some) == len(scan))
        groups = Deciles(scan, next(fitting, None))
        results += [exploding(scan, name, groups), spread(name, groups, initial)]
    return [*results, _zero_rows(scan, name), _duplicates(source, scan, name), collapse(scan, name)]


def _unusable(table: Array | RowSource, initial: Array | None, touches: Array | None, facts: TableFacts) -> str:
    shape = table.shape
    if len(shape) != 2 or table.dtype.kind != "f" or 0 in shape:
        return f"the table is {table.dtype} {shape}, not floating point [rows, dim]"
    if initial is not None and (initial.shape != shape or initial.dtype != table.dtype):
        return f"the initial table is {initial.dtype} {initial.shape}, the final one {table.dtype} {shape}"
    if touches is not None and touches.shape != shape[:1]:
        return f"{touches.shape} row counts for {shape[0]} rows"
    if facts.padding_row is not None and not 0 <= facts.padding_row < shape[0]:
        return f"the padding row {facts.padding_row} is outside of {shape[0]} rows"
    return ""


def _rows_where(stretches: Iterable[tuple[int, Floats]], test: Callable[[Floats], Bools]) -> RowSet:
    rows = RowSet()
    for first, norms in stretches:
        rows.add(np.flatnonzero(test(norms)) + first)
    return rows


def _finite(scan: TableScan, name: str) -> CheckResult:
    bad = _rows_where(scan.norms.pieces(), np.isnan) if scan.num_nonfinite else RowSet()
    return judged(
        "embeddings/finite",
        name,
        ok=not bad,
        figure=count_of(bad.num, len(scan), "rows hold NaN or infinity"),
        limit="0 rows",
        worst=f"row {bad.first}" if bad else "",
        outside=f"rows {bad.head()}" if bad else "",
        detail="every score with such a row is NaN, and NaN compares as if the target had won" if bad else "",
        advice="lower the learning rate, and look for the first step whose gradients are not finite",
        rows=bad.places,
    )


def _padding(scan: TableScan, name: str, row: int, initial: Array | None) -> CheckResult:
    length = scan.norms.at(row)
    start = float(np.abs(initial[row].astype(np.float64)).max()) if initial is not None else 0.0
    ok = length == 0.0 and start == 0.0
    before = (
        f", length {np.linalg.norm(initial[row].astype(np.float64)):.4g} at the start" if initial is not None else ""
    )
    why = (
        "initialisation overwrote it; its gradient is zero, so it never heals" if start else "padding is being trained"
    )
    return judged(
        "embeddings/padding_row",
        name,
        ok=ok,
        figure=f"row {row} has length {length:.4g} at the end{before}",
        expected="exactly zero before and after training",
        limit="0",
        detail="" if ok else f"{why}; scores depend on how much padding a sequence has",
        advice="zero the row after initialising, and pass padding_idx so that it gets no gradient",
        rows="" if ok else str(row),
    )


def _zero_rows(scan: TableScan, name: str) -> CheckResult:
    bad = _rows_where(scan.real_norms(), lambda norms: norms == 0) if scan.num_zero else RowSet()
    return judged(
        "embeddings/zero_rows",
        name,
        ok=not bad and scan.num_real > 0,
        figure=count_of(bad.num, scan.num_real, "rows are all zero"),
        limit="0 rows",
        worst=f"row {bad.first}" if bad else "",
        outside=f"rows {bad.head()}" if bad else "",
        detail="a zero row is indistinguishable from padding: its item scores 0 for everybody" if bad else "",
        advice="look for ids that were never filled in, or weight[padding_idx] = 0 with padding_idx None",
        rows=bad.places,
    )


def _duplicates(source: RowSource, scan: TableScan, name: str) -> CheckResult:
    check, num_rows = "embeddings/duplicates", scan.fingerprints.num
    expected = accidental_duplicates(num_rows, scan.dim, mantissa_bits=scan.mantissa_bits)
    if expected > 1e-3:
        figure = f"rows of {scan.dim} numbers are too short to be distinct ({expected:.2g} equal pairs by chance)"
        return judged(check, name, ok=True, figure=figure)
    found = find_duplicates(source, scan)
    least = "" if found.complete else "at least "
    return judged(
        check,
        name,
        ok=not found.num_groups,
        figure=least + count_of(found.rows.num, num_rows, "rows equal another row bit by bit"),
        limit="0 rows",
        worst=f"rows {sample(found.largest)} are one vector" if found.num_groups else "",
        outside=f"{least}{found.num_groups} groups" if found.num_groups else "",
        detail="independent rows never meet by chance, so several ids share one vector" if found.num_groups else "",
        advice="look for ids mapped twice, a default vector, or a copy that filled unknown rows",
        rows=found.rows.places,
    )


def _unknown_movement(name: str, initial: Array | None) -> list[CheckResult]:
    missing = f"table_init/{name}" if initial is None else f"counts in rows/{name}"
    advice = "record the initial table" if initial is None else "name the rows of each batch in System.used_rows"
    return [
        not_measured(f"embeddings/{check}", name, f"the record has no {missing}", advice=advice)
        for check in ("dead_rows", "untouched_rows")
    ]


class _Movement:
    """Which rows moved from their initial values, beside which took part in batches."""

    def __init__(self, scan: TableScan, initial: Array, touches: Array, facts: TableFacts) -> None:
        usable = np.isfinite(scan.norms.whole())
        if scan.padding_row is not None:
            usable[scan.padding_row] = False
        self._real = np.flatnonzero(usable)
        self._moved = scan.moved if scan.moved is not None else np.zeros(len(initial), dtype=bool)
        self._touches = touches
        self._facts = facts

    def of_touched(self, name: str) -> CheckResult:
        """Whether the rows that took part in batches moved; of a frozen table, whether any row did."""
        real, touches = self._real, self._touches
        touched = real[touches[real] > 0]
        still = touched[~self._moved[touched]]
        often = still[touches[still] >= MIN_TOUCHES]
        if self._facts.frozen:
            bad = real[self._moved[real]]
            figure = f"frozen table: {count_of(bad.size, real.size, 'rows moved')}"
            rows = RowSet.of(bad).places
            return judged("embeddings/dead_rows", name, ok=not bad.size, figure=figure, limit="0 rows", rows=rows)
        ok = touched.size > 0 and not often.size and 2 * still.size <= touched.size
        return judged(
            "embeddings/dead_rows",
            name,
            ok=ok,
            figure=count_of(still.size, touched.size, "rows that took part in batches never moved"),
            limit=f"0 of those that took part {MIN_TOUCHES} times, and at most half of all",
            worst=f"row {still[np.argmax(touches[still])]}: in {touches[still].max()} batches" if still.size else "",
            outside=f"{often.size} rows took part {MIN_TOUCHES} times or more" if not ok else "",
            detail="" if ok else "the table gets no gradient, or the optimizer does not hold it",
            advice="look for detach, requires_grad, or a table replaced after the optimizer was made",
            rows="" if ok else RowSet.of(still).places,
        )

    def of_untouched(self, name: str) -> CheckResult:
        """Whether rows that no batch used stayed as they were."""
        absent = self._real[self._touches[self._real] == 0]
        bad = absent[self._moved[absent]]
        declared = self._facts.moves_untouched
        figure = count_of(bad.size, absent.size, "rows moved although no batch used them")
        if declared:
            figure += "; the optimizer is declared to move them (weight decay), so this is not a limit"
        ok = declared or not bad.size
        return judged(
            "embeddings/untouched_rows",
            name,
            ok=ok,
            figure=figure,
            limit="" if declared else "0 rows",
            worst=f"row {bad[0]}" if not ok else "",
            outside=f"rows {sample(bad.tolist())}" if not ok else "",
            detail=""
            if ok
            else "an update reached rows that it should not: shifted ids, undeclared decay, or wrong counts",
            advice="compare used_rows with the ids of the batch; declare moves_untouched if the optimizer decays all "
            "rows",
            rows="" if ok else RowSet.of(bad).places,
        )
