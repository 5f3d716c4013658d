"""The audit of metric tables: what a file says of itself held against what any ranking can give, and against chance.

Owns the choice of the rules that hold under the declared protocol, and says which do not; the judges are in
`rectest.checks` (coherence, metric_repair, joint_chance, accounting).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rectest.audits.metric_cells import MetricTable, as_fractions, sorted_names
from rectest.audits.metric_floor import beats_popularity, read_popularity
from rectest.audits.metric_tables import MetricFile, read_metrics, split_of
from rectest.audits.report import Audit
from rectest.checks.accounting import check_steps
from rectest.checks.coherence import check_tables
from rectest.checks.joint_chance import table_chance
from rectest.checks.metric_repair import Repair, Rules
from rectest.checks.result import CheckResult, judged, sample
from rectest.metrics.coherence import coherence_violations
from rectest.metrics.measure import Measure

__all__ = ["Plan", "Protocol", "audit_metrics"]

_SINGLE_ONLY = (
    "ndcg never falls with k, ndcg between the bounds that recall sets, mrr at most ndcg, recall@1 = ndcg@1, "
    "recall = hit, and recall as a share of whole users"
)
"""The rules that need one relevant item a user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What the user says of the evaluation; None is not said."""

    num_candidates: int | None = None
    num_users: int | None = None
    num_relevant: int | None = None
    """Relevant items of every user."""

    multi_positive: bool = False
    """Users may have several relevant items, and not all the same number."""

    ties: bool = False

    def __post_init__(self) -> None:
        for name in ("num_candidates", "num_users", "num_relevant"):
            value = getattr(self, name)
            if value is not None and value < (2 if name == "num_candidates" else 1):
                msg = f"{name} must be at least {2 if name == 'num_candidates' else 1}, got {value}"
                raise ValueError(msg)
        if self.multi_positive and self.num_relevant == 1:
            msg = "one relevant item a user and several were both declared; choose one of them"
            raise ValueError(msg)

    @property
    def single(self) -> bool:
        """Whether one relevant item a user is declared."""
        return self.num_relevant == 1 and not self.multi_positive

    def rules(self, table: MetricTable) -> Rules:
        """What holds for one table; users of a training split are others than those that were counted."""
        return Rules(
            single_relevant=self.single,
            num_users=None if split_of(table.group) == "train" else self.num_users,
            decimals=table.decimals,
            relevant_per_user=None if self.multi_positive else self.num_relevant,
            ties=self.ties,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Numbers of a training that must fit each other."""

    samples: int
    batch_size: int
    epochs: int
    steps: str
    """As it was written, such as ``203,455``."""


def audit_metrics(
    path: str | Path,
    protocol: Protocol,
    *,
    split: str | None = None,
    decimals: int | None = None,
    unit: str = "auto",
    plan: Plan | None = None,
    interactions: str | Path | None = None,
) -> tuple[Audit, list[Repair]]:
    """Judge every metric table of a file; the repairs are those of the first impossible series, smallest first.

    Raises:
        DataError: the file, or the interactions, cannot be read.
    """
    file = read_metrics(path, split=split, decimals=decimals)
    tables, unit_note = as_fractions(file.tables, single_relevant=protocol.single, unit=unit)
    results: list[CheckResult] = []
    notes = list(_notes(file, protocol, unit_note))
    mended: list[Repair] = []
    for group, members in groupby(sorted(tables, key=lambda table: table.group), key=lambda table: table.group):
        series = list(members)
        result, found = _coherence(series, protocol, name=group or "table")
        mended = mended or found
        results.append(result)
        results += _ranges(series, protocol, name=group or "table")
        if result.red:
            notes.append(f"{group or 'the table'} is impossible, so it was not held against chance")
        elif split_of(group) != "train":
            results += _against_chance(series, protocol, name=group)
            notes += _hint_single(series, protocol, name=group)
    if interactions is not None:
        results += _floor(tables, protocol, interactions, notes)
    if plan is not None:
        results += check_steps(
            num_samples=plan.samples, batch_size=plan.batch_size, num_epochs=plan.epochs, stated=plan.steps
        )
    audit = Audit(
        kind="metrics", subject=str(path), results=tuple(results), facts=_facts(file, tables), notes=tuple(notes)
    )
    return audit, mended


def _facts(file: MetricFile, tables: Sequence[MetricTable]) -> dict[str, Any]:
    measures = sorted_names({name for table in tables for name in table.cells})
    groups = sorted({table.group for table in tables if table.group})
    facts: dict[str, Any] = {"format": file.format, "tables": len(tables), "measures": sample(measures, limit=12)}
    return facts | ({"groups": sample(groups)} if groups else {})


def _notes(file: MetricFile, protocol: Protocol, unit_note: str) -> Iterator[str]:
    if unit_note:
        yield unit_note
    if file.left_out:
        yield f"left out, because no rule is known for them: {sample(file.left_out, limit=10)}"
    if protocol.multi_positive or (protocol.num_relevant or 1) > 1:
        yield f"several relevant items a user: switched off are {_SINGLE_ONLY}"
    elif protocol.num_relevant is None:
        yield f"nothing is said of relevant items; with --relevant 1 also judged: {_SINGLE_ONLY}"
    if protocol.num_candidates is None or protocol.num_users is None:
        yield "not held against chance: that takes --candidates and --users"
    elif protocol.multi_positive and protocol.num_relevant is None:
        yield "not held against chance: with several relevant items that takes their number, --relevant N"
    elif protocol.num_relevant is None:
        yield "chance is that of one relevant item a user, unless --relevant or --multi-positive says else"


def _labelled(series: Sequence[MetricTable]) -> dict[str, MetricTable]:
    """The tables of a series by label, made unique."""
    found: dict[str, MetricTable] = {}
    for number, table in enumerate(series, start=1):
        label = table.label or ("table" if len(series) == 1 else f"table {number}")
        found[label if label not in found else f"{label} #{number}"] = table
    return found


def _coherence(series: Sequence[MetricTable], protocol: Protocol, *, name: str) -> tuple[CheckResult, list[Repair]]:
    tables = _labelled(series)
    values = {label: table.values for label, table in tables.items()}
    rules = {label: protocol.rules(table) for label, table in tables.items()}
    result, mended = check_tables(values, rules, name=name)
    if result.red and not protocol.ties:
        tied = {label: Rules(**{**own.arguments(), "ties": True}) for label, own in rules.items()}
        if not any(coherence_violations(table, **tied[label].arguments()) for label, table in values.items()):
            detail = f"{result.detail}; possible only if tied items share their mean rank (--ties)"
            result = CheckResult.from_dict({**result.to_dict(), "detail": detail})
    return result, mended


def _hint_single(series: Sequence[MetricTable], protocol: Protocol, *, name: str) -> Iterator[str]:
    """What one relevant item a user would make of an undeclared table: a note, since nobody said so."""
    if protocol.num_relevant is not None or protocol.multi_positive:
        return
    single = Protocol(num_users=protocol.num_users, num_relevant=1, ties=protocol.ties)
    for label, table in _labelled(series).items():
        found = coherence_violations(table.values, **single.rules(table).arguments())
        if found:
            worst = max(found, key=lambda violation: violation.excess)
            subject = " ".join(filter(None, (name, label)))
            yield f"with one relevant item a user {subject} would be impossible ({worst}); is it --relevant 1?"
            return


def _ranges(series: Sequence[MetricTable], protocol: Protocol, *, name: str) -> list[CheckResult]:
    """``ranges/metric``: no rank and no cut-off beyond the candidates."""
    most = protocol.num_candidates
    if most is None:
        return []
    found = []
    for label, table in _labelled(series).items():
        for measure, cell in table.cells.items():
            half = 0.0 if cell.decimals is None else 0.5 * 10.0**-cell.decimals
            if (Measure.parse(measure).k or 0) > most:
                found.append(f"{label}: {measure} looks beyond the {most} candidates")
            elif measure == "mean_rank" and cell.value > most + half + 1e-9:
                found.append(f"{label}: mean_rank {cell.value:g} of {most} candidates")
    return [
        judged(
            "ranges/metric",
            name,
            ok=not found,
            figure=f"{len(found)} cells beyond {most} candidates",
            expected=f"cut-offs and ranks of at most {most}",
            limit="0",
            worst=found[0] if found else "",
            rows=" | ".join(found),
            advice="check the number of candidates, and how the list was filled up",
        )
    ]


def _against_chance(series: Sequence[MetricTable], protocol: Protocol, *, name: str) -> list[CheckResult]:
    """``chance/joint`` for each table; of one training's evaluations, for the one that does best."""
    if protocol.num_candidates is None or protocol.num_users is None:
        return []
    if protocol.multi_positive and protocol.num_relevant is None:
        return []
    tables = _labelled(series)
    alone = {label: table for label, table in tables.items() if not table.series}
    results = [_chance(table, protocol, " ".join(filter(None, (name, label)))) for label, table in alone.items()]
    curve = {label: table for label, table in tables.items() if table.series}
    if curve:
        judgements = {
            label: _chance(table, protocol, f"{name} {label}".strip(), num_tables=len(curve))
            for label, table in curve.items()
        }
        order = ("PASS", "FAIL", "CHANCE", "NOT MEASURED")
        results.append(min(judgements.values(), key=lambda result: order.index(str(result.verdict))))
    return results


def _chance(table: MetricTable, protocol: Protocol, subject: str, *, num_tables: int = 1) -> CheckResult:
    most = protocol.num_candidates or 2
    kept = {name: value for name, value in table.values.items() if (Measure.parse(name).k or 0) <= most}
    return table_chance(
        kept or table.values,
        num_candidates=most,
        num_users=protocol.num_users or 1,
        num_relevant=protocol.num_relevant or 1,
        decimals=table.decimals,
        subject=subject,
        num_tables=num_tables,
    )


def _floor(tables: Sequence[MetricTable], protocol: Protocol, path: str | Path, notes: list[str]) -> list[CheckResult]:
    if protocol.multi_positive or (protocol.num_relevant or 1) > 1:
        notes.append("no popularity floor: it is worked out for one held-out item a user")
        return []
    law = read_popularity(path, num_candidates=protocol.num_candidates)
    results = []
    for group, members in groupby(sorted(tables, key=lambda table: table.group), key=lambda table: table.group):
        if split_of(group) == "train":
            continue
        series = list(members)
        alone = [[table] for table in series if not table.series]
        for chosen in [*alone, *([[table for table in series if table.series]] if len(alone) < len(series) else [])]:
            label = chosen[0].label if len(chosen) == 1 else f"best of {len(chosen)} evaluations"
            best, halves = _best(chosen)
            results += beats_popularity(best, law, halves=halves, subject=f"{group} {label}".strip())
    notes.append(f"popularity: {law.assumed}")
    return results


def _best(tables: Sequence[MetricTable]) -> tuple[dict[str, float], dict[str, float]]:
    """The best value of each measure, with half a unit of its last digit."""
    best: dict[str, float] = {}
    halves: dict[str, float] = {}
    for table in tables:
        for name, cell in table.cells.items():
            sign = 1.0 if Measure.parse(name).higher_is_better else -1.0
            if name not in best or not math.isfinite(best[name]) or sign * cell.value > sign * best[name]:
                best[name] = cell.value
                halves[name] = 0.0 if cell.decimals is None else 0.5 * 10.0**-cell.decimals
    return {name: best[name] for name in sorted_names(best)}, halves
