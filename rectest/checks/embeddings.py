"""Embedding tables: finite, padding, zero, dead, duplicate and untouched rows; lengths and collapse by `norms.py`.

One result for each property and table of a record. `audit_table` judges a bare table (a file from elsewhere); what
needs the initial table or the counts of training is judged where they are given. Reading is in `tablescan.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.norms import collapse, deciles, exploding, promised_norm, spread
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.checks.tablescan import TableScan, duplicate_groups, scan_table
from rectest.checks.tolerance import accidental_duplicates
from rectest.record import RunRecord

__all__ = ["TableFacts", "audit_table", "embeddings"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

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
    """Every property of every table in the record; a record without tables measured nothing.

    A table needs ``table_init/<name>`` for moved and padding rows, ``rows/<name>`` for touched ones, and
    ``popularity/<space>`` for deciles (``rows/<name>`` stands in for it).
    """
    names = record.names("table/")
    if not names:
        advice = "name the embedding tables in System.tables or call run.table(...)"
        return [not_measured("embeddings", record.spec.system, "the record has no table", advice=advice)]
    results = []
    for name in names:
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
    table: Array,
    name: str,
    *,
    facts: TableFacts | None = None,
    initial: Array | None = None,
    touches: Array | None = None,
    popularity: Array | None = None,
    in_training: bool = False,
) -> list[CheckResult]:
    """Every property of one table [rows, dim].

    Args:
        initial: the table before training.
        touches: [rows] how often each row took part in a batch.
        popularity: [rows] how often each id occurs in training.
        in_training: the table comes from a training run, so a missing `initial` or `touches` is NOT MEASURED rather
            than not asked for.
    """
    facts = facts or TableFacts()
    if problem := _unusable(table, initial, touches, facts):
        return [not_measured("embeddings", name, problem)]
    scan = scan_table(table, initial, padding_row=facts.padding_row)
    results = [_finite(scan, name)]
    results += [_padding(scan, name, facts.padding_row, initial)] if facts.padding_row is not None else []
    real = _real_rows(scan, facts.padding_row)
    counts = popularity if popularity is not None and len(popularity) == len(scan) else touches
    if facts.norm is not None:
        results.append(promised_norm(scan, name, real, facts.norm, table.dtype))
    elif real.size:
        groups = deciles(real, counts)
        results += [exploding(scan, name, groups), spread(scan, name, groups, initial)]
    results.append(_zero_rows(scan, name, real))
    results.append(_duplicates(scan, name, table, real))
    results.append(collapse(scan, name))
    if initial is not None and touches is not None and touches.any():
        results += [_moved(scan, name, real, touches, facts), _untouched(scan, name, real, touches, facts)]
    elif in_training:
        results += _unknown_movement(name, initial)
    return results


def _unusable(table: Array, initial: Array | None, touches: Array | None, facts: TableFacts) -> str:
    if table.ndim != 2 or table.dtype.kind != "f" or 0 in table.shape:
        return f"the table is {table.dtype} {table.shape}, not floating point [rows, dim]"
    if initial is not None and (initial.shape != table.shape or initial.dtype != table.dtype):
        return f"the initial table is {initial.dtype} {initial.shape}, the final one {table.dtype} {table.shape}"
    if touches is not None and touches.shape != table.shape[:1]:
        return f"{touches.shape} row counts for {len(table)} rows"
    if facts.padding_row is not None and not 0 <= facts.padding_row < len(table):
        return f"the padding row {facts.padding_row} is outside of {len(table)} rows"
    return ""


def _real_rows(scan: TableScan, padding_row: int | None) -> Ints:
    keep = ~scan.nonfinite
    if padding_row is not None:
        keep[padding_row] = False
    return np.flatnonzero(keep)


def _finite(scan: TableScan, name: str) -> CheckResult:
    bad = np.flatnonzero(scan.nonfinite)
    return judged(
        "embeddings/finite",
        name,
        ok=not bad.size,
        figure=count_of(bad.size, len(scan), "rows hold NaN or infinity"),
        limit="0 rows",
        worst=f"row {bad[0]}" if bad.size else "",
        outside=f"rows {sample(bad.tolist())}" if bad.size else "",
        detail="every score with such a row is NaN, and NaN compares as if the target had won" if bad.size else "",
        advice="lower the learning rate, and look for the first step whose gradients are not finite",
    )


def _padding(scan: TableScan, name: str, row: int, initial: Array | None) -> CheckResult:
    start = float(np.abs(initial[row].astype(np.float64)).max()) if initial is not None else 0.0
    ok = bool(scan.zero[row]) and start == 0.0
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
        figure=f"row {row} has length {scan.norms[row]:.4g} at the end{before}",
        expected="exactly zero before and after training",
        limit="0",
        detail="" if ok else f"{why}; scores depend on how much padding a sequence has",
        advice="zero the row after initialising, and pass padding_idx so that it gets no gradient",
    )


def _zero_rows(scan: TableScan, name: str, real: Ints) -> CheckResult:
    bad = real[scan.zero[real]]
    return judged(
        "embeddings/zero_rows",
        name,
        ok=not bad.size and real.size > 0,
        figure=count_of(bad.size, real.size, "rows are all zero"),
        limit="0 rows",
        worst=f"row {bad[0]}" if bad.size else "",
        outside=f"rows {sample(bad.tolist())}" if bad.size else "",
        detail="a zero row is indistinguishable from padding: its item scores 0 for everybody" if bad.size else "",
        advice="look for ids that were never filled in, or weight[padding_idx] = 0 with padding_idx None",
    )


def _duplicates(scan: TableScan, name: str, table: Array, real: Ints) -> CheckResult:
    check, rows = "embeddings/duplicates", real[~scan.zero[real]]
    expected = accidental_duplicates(len(rows), scan.dim, mantissa_bits=np.finfo(table.dtype).nmant)
    if expected > 1e-3:
        figure = f"rows of {scan.dim} numbers are too short to be distinct ({expected:.2g} equal pairs by chance)"
        return judged(check, name, ok=True, figure=figure)
    groups = duplicate_groups(table, scan.hashes, rows)
    num, largest = sum(map(len, groups)), max(map(len, groups), default=0)
    worst = next((group for group in groups if len(group) == largest), [])
    return judged(
        check,
        name,
        ok=not groups,
        figure=count_of(num, len(rows), "rows equal another row bit by bit"),
        limit="0 rows",
        worst=f"rows {sample(worst)} are one vector" if groups else "",
        outside=f"{len(groups)} groups" if groups else "",
        detail="independent rows never meet by chance, so several ids share one vector" if groups else "",
        advice="look for ids mapped twice, a default vector, or a copy that filled unknown rows",
    )


def _unknown_movement(name: str, initial: Array | None) -> list[CheckResult]:
    missing = f"table_init/{name}" if initial is None else f"counts in rows/{name}"
    advice = "record the initial table" if initial is None else "name the rows of each batch in System.used_rows"
    return [
        not_measured(f"embeddings/{check}", name, f"the record has no {missing}", advice=advice)
        for check in ("dead_rows", "untouched_rows")
    ]


def _moved(scan: TableScan, name: str, real: Ints, touches: Array, facts: TableFacts) -> CheckResult:
    moved = scan.moved if scan.moved is not None else np.zeros(len(scan), dtype=bool)
    touched = real[touches[real] > 0]
    still = touched[~moved[touched]]
    often = still[touches[still] >= MIN_TOUCHES]
    if facts.frozen:
        bad = real[moved[real]]
        figure = f"frozen table: {count_of(bad.size, real.size, 'rows moved')}"
        return judged("embeddings/dead_rows", name, ok=not bad.size, figure=figure, limit="0 rows")
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
    )


def _untouched(scan: TableScan, name: str, real: Ints, touches: Array, facts: TableFacts) -> CheckResult:
    moved = scan.moved if scan.moved is not None else np.zeros(len(scan), dtype=bool)
    absent = real[touches[real] == 0]
    bad = absent[moved[absent]]
    figure = count_of(bad.size, absent.size, "rows moved although no batch used them")
    if facts.moves_untouched:
        figure += "; the optimizer is declared to move them (weight decay), so this is not a limit"
    ok = facts.moves_untouched or not bad.size
    return judged(
        "embeddings/untouched_rows",
        name,
        ok=ok,
        figure=figure,
        limit="" if facts.moves_untouched else "0 rows",
        worst=f"row {bad[0]}" if bad.size and not ok else "",
        outside=f"rows {sample(bad.tolist())}" if bad.size and not ok else "",
        detail=""
        if ok
        else "an update reached rows that it should not: shifted ids, undeclared decay, or wrong counts",
        advice="compare used_rows with the ids of the batch; declare moves_untouched if the optimizer decays all rows",
    )
