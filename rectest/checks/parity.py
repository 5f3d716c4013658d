"""Parity: many processes must compute the gradient that one process computes.

Report 003 looked at the loss curve of a run and at the words of its code, and found a gradient bug that did not
exist; the repair then switched synchronisation off, and the curve on the dashboard went on falling. A loss curve
cannot show either: Adam divides a constant factor out, and a mean over ranks hides that they are different models.
So the gradient itself is compared with that of one process on the same batch, split into its scale and its direction,
parameter by parameter and, in embedding tables, row by row. How far rounding may bring it is derived in
`rectest.checks.gradients`, why it is wrong is found in `rectest.checks.cause`, whether the replicas stay one model is
judged in `rectest.checks.replicas`, and whether they share the batch rightly in `rectest.checks.shares`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rectest.checks.cause import find_cause
from rectest.checks.decomposition import Evidence, evidence_of, gradients_of, shares_of, unusable
from rectest.checks.gradients import Apart, Gradients, compare_gradients, parameter_sizes, rolled
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.checks.rows import RowsApart, table_rows
from rectest.record import RunRecord

__all__ = ["gradient_parity"]

_CHECKS = ("parity/gradient", "parity/scale", "parity/direction")
_ROWS = "parity/rows"
_UNLIKE = "use a batch whose rows differ, so that the shares have different gradients"
_FINER = "build the model in float32 or float64, where rounding is small beside an error"


def gradient_parity(single: RunRecord, ranks: Sequence[RunRecord], *, dtype: str | None = None) -> list[CheckResult]:
    """Whether every rank's first gradient is that of one process on the whole batch.

    ``parity/gradient`` judges the error, ``parity/scale`` the best factor and ``parity/direction`` the angle; where the
    model has embedding tables, ``parity/rows`` judges each of their rows, and rows outside the batch must be zero
    exactly. A red result names the cause. Part of each is a control: the right gradient moved by one place, half of
    it, and each table moved by one row must be refused, else the limit is too wide to say anything and the result is
    NOT MEASURED. So it is where every rank's rows (or every micro-batch) have the whole gradient by themselves, where
    gradients are missing, not finite, of other shapes or zero everywhere, and where the loss is random.

    Args:
        single: the record of one process on the whole batch.
        ranks: the records of all ranks of one job.
        dtype: what gradients are computed in, one of `UNIT_ROUNDOFF`; by default what the records say.
    """
    subject = f"{single.spec.system} on {len(ranks)} ranks"
    checks = (*_CHECKS, *([_ROWS] if _has_tables(single, ranks) else []))
    if problem := unusable(single, ranks):
        return [not_measured(check, subject, problem) for check in checks]
    right, others = gradients_of(single), [gradients_of(record) for record in ranks]
    evidence = evidence_of(single, ranks, dtype=dtype)
    limit, sizes = evidence.limit, parameter_sizes([share for record in ranks for share in shares_of(record)])
    if problem := _passes_when_wrong(right, limit, sizes):
        return [not_measured(check, subject, problem, advice=_FINER) for check in checks]
    by_rank = [compare_gradients(right, other, limit=limit, sizes=sizes) for other in others]
    tables = table_rows(single, ranks, limit=limit)
    cause = ""
    if any(apart.red for found in by_rank for apart in found) or any(table.red.any() for table in tables):
        cause = find_cause(single, ranks, dtype=dtype, evidence=evidence).sentence
    elif problem := _passes_alone(evidence):
        return [not_measured(check, subject, problem, advice=_UNLIKE) for check in checks]
    zero = len(right) + 1 - len(by_rank[0])
    return [
        _error_result(subject, by_rank, cause, zero=zero),
        _scale_result(subject, by_rank, cause),
        _direction_result(subject, by_rank, cause),
        *_rows_results(subject, tables, cause),
    ]


def _has_tables(single: RunRecord, ranks: Sequence[RunRecord]) -> bool:
    names = {n for r in (single, *ranks) for n, t in (r.facts.get("tables") or {}).items() if t.get("rows")}
    return any(f"grad/{name}" in record for record in (single, *ranks) for name in names)


def _passes_when_wrong(right: Gradients, limit: float, sizes: Mapping[str, float]) -> str:
    """What would pass although it is wrong, in words; empty where the limit says something."""
    moved = compare_gradients(right, rolled(right), limit=limit, sizes=sizes)
    if blind := [apart.name for apart in moved if not apart.red]:
        return f"{sample(blind)}: the gradient moved by one place would pass too, so the limit says nothing"
    half = {name: value / 2 for name, value in right.items()}
    if not _whole(compare_gradients(right, half, limit=limit, sizes=sizes)).red:
        return f"half the gradient would pass too, so the limit ({limit:.2g}, for rounding) says nothing"
    return ""


def _passes_alone(evidence: Evidence) -> str:
    """Which shares have the whole gradient by themselves, in words; empty where sharing makes a difference."""
    world, micro = evidence.world_size, evidence.num_micro
    by_rank = [world * np.eye(world)[[rank]].T * np.ones((1, micro)) for rank in range(world)]
    by_micro = [micro * np.ones((world, 1)) * np.eye(micro)[[place]] for place in range(micro)]
    for kind, weights in (("rank", by_rank), ("micro-batch", by_micro)):
        rests = [evidence.single() - evidence.weighed(own) for own in weights]
        if len(weights) > 1 and evidence.has_local and all(evidence.explains(rest) for rest in rests):
            return (
                f"every {kind} has the whole gradient from its own rows, so that one which ignores the rest would pass"
            )
    return ""


def _worst(by_rank: Sequence[Sequence[Apart]], key: Any) -> tuple[int, Apart]:
    return max(((rank, apart) for rank, found in enumerate(by_rank) for apart in found), key=lambda pair: key(pair[1]))


def _whole(found: Sequence[Apart]) -> Apart:
    return next(apart for apart in found if apart.name == "*")


def _where(rank: int, apart: Apart, value: str) -> str:
    return f"rank {rank}, {'all parameters' if apart.name == '*' else apart.name}: {value}"


def _error_result(subject: str, by_rank: Sequence[Sequence[Apart]], cause: str, *, zero: int) -> CheckResult:
    rank, worst = _worst(by_rank, lambda apart: apart.error / apart.limit)
    red = {apart.name for found in by_rank for apart in found if apart.red} - {"*"}
    names = {apart.name for found in by_rank for apart in found} - {"*"}
    whole = max(_whole(found).error for found in by_rank)
    return judged(
        "parity/gradient",
        subject,
        ok=not any(apart.red for found in by_rank for apart in found),
        figure=f"relative error {whole:.3g}",
        expected="the gradient of one process on the whole batch",
        limit=f"<= {worst.limit:.2g} of {worst.name}, for rounding" if worst.name != "*" else f"<= {worst.limit:.2g}",
        worst=_where(rank, worst, f"relative error {worst.error:.3g}"),
        outside=count_of(len(red), len(names), "parameters"),
        detail=cause or (f"{zero} parameters have no gradient beyond rounding" if zero else ""),
        advice="compare the way gradients are combined with plain DistributedDataParallel",
    )


def _scale_result(subject: str, by_rank: Sequence[Sequence[Apart]], cause: str) -> CheckResult:
    rank, worst = _worst(by_rank, lambda apart: abs(apart.scale - 1) / apart.limit)
    whole = max((_whole(found).scale for found in by_rank), key=lambda scale: abs(scale - 1))
    return judged(
        "parity/scale",
        subject,
        ok=abs(worst.scale - 1) <= worst.limit,
        figure=f"{whole:.6g} times the gradient of one process",
        expected="1",
        limit=f"1 +- {worst.limit:.2g}",
        worst=_where(rank, worst, f"{worst.scale:.6g} times"),
        detail=cause if abs(worst.scale - 1) > worst.limit else "",
        advice="make loss scaling and reduction agree: an average over ranks exactly once",
    )


def _direction_result(subject: str, by_rank: Sequence[Sequence[Apart]], cause: str) -> CheckResult:
    rank, worst = _worst(by_rank, lambda apart: apart.angle / apart.limit)
    cosine = min(_whole(found).cosine for found in by_rank)
    return judged(
        "parity/direction",
        subject,
        ok=worst.angle <= worst.limit,
        figure=f"cosine {cosine:.6f}",
        expected="1",
        limit=f"sine of the angle <= {worst.limit:.2g}",
        worst=_where(rank, worst, f"sine {worst.angle:.3g}, cosine {worst.cosine:.6f}"),
        detail=cause if worst.angle > worst.limit else "",
        advice="compare which rows each rank and micro-batch sees, and when gradients are reduced",
    )


def _rows_results(subject: str, tables: Sequence[RowsApart], cause: str) -> list[CheckResult]:
    if not tables:
        return []
    if blind := [table.name for table in tables if table.blind]:
        problem = f"{sample(blind)}: a table moved by one row would pass too, so the limit says nothing"
        return [not_measured(_ROWS, subject, problem)]
    red = sum(int(table.red.sum()) for table in tables)
    num_judged = sum(int(table.judged.sum()) for table in tables)
    num_absent = sum(int(table.absent.sum()) for table in tables)
    small = sum(len(table.error) for table in tables) - num_judged - num_absent
    worst = max(tables, key=lambda table: (table.red.any(), table.excess[table.worst]))
    note = f"{small} rows are too small beside the rounding of their table to be judged" if small else ""
    return [
        judged(
            _ROWS,
            subject,
            ok=not red,
            figure=f"{num_judged} rows judged in {len(tables)} tables, {num_absent} absent from the batch",
            expected="each row as in one process; one that is absent from the batch has no gradient",
            limit=f"<= {worst.limit[worst.worst]:.2g} of {worst.name}, for rounding; 0 for absent rows",
            worst=_row_text(worst),
            outside=count_of(red, num_judged + num_absent, "rows"),
            detail=cause if red else note,
            advice="compare how rows that several ranks hold are added, and what is done to rows outside the batch",
        )
    ]


def _row_text(table: RowsApart) -> str:
    row = table.worst
    holders = np.flatnonzero(table.holders[:, row])
    where = f"in the share of ranks {sample(holders)}" if len(holders) else "in no share"
    others = np.flatnonzero(table.red)
    more = f"; red rows {sample(others)}" if len(others) > 1 else ""
    return f"rank {table.rank[row]}, row {row} of {table.name} ({where}): relative error {table.error[row]:.3g}{more}"
