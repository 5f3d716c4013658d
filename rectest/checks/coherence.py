"""Metric tables that cannot be: cells against each other, against the stored ranks, and how much rests on ties.

The inequalities are in `rectest.metrics.coherence`; here they become verdicts, for the tables of a record at every
evaluation and for a bare table out of a report. What would mend a bare table is found by `metric_repair`, and told
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rectest.checks.chance import ranks_of
from rectest.checks.metric_repair import Repair, Rules, repairs, repairs_of_all
from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent, sample
from rectest.errors import MetricError, RecordError, RectestError
from rectest.metrics.coherence import Violation, coherence_violations
from rectest.metrics.ranking import evaluate, tie_share
from rectest.metrics.ranks import Ranks
from rectest.record import RunRecord

__all__ = ["check_table", "check_tables", "coherence"]

RECOMPUTED = 1e-9
"""Relative slack between a recorded mean and the one recomputed from ranks: both are float64 means of the same terms
(`mean_slack` of a million users is 5e-10)."""

MAX_ROWS_MENDED = 20
"""Broken rows of one file that a slip is asked to explain together; a column that slipped shows in every one."""

NAMED = 5
"""Possible repairs that a finding names; all of them stand in its rows."""

MAX_TIE_SHARE = 0.05
"""Above it the metrics say more about the tie rule than about the model: scores of low precision, or collapsed."""


def check_table(
    table: Mapping[str, float],
    *,
    single_relevant: bool,
    num_users: int | None = None,
    decimals: int | Mapping[str, int] | None = None,
    ties: bool = False,
    name: str = "table",
) -> list[CheckResult]:
    """Whether any ranking at all could have given this table of measures, e.g. ``{"recall@10": 0.8915, ...}``.

    What would make an impossible table possible is in its detail; a possible one is not searched.

    Args:
        single_relevant: every averaged user has exactly one relevant item; most rules need it.
        num_users: how many users were averaged, where known.
        decimals: digits to which the cells were rounded (one number, or one for each cell), None for exact values.
        ties: ranks may be fractions, because tied items share their mean rank.

    Raises:
        UnknownNameError: a cell is no known measure.
    """
    if not table:
        return [not_measured("coherence/table", name, "the table is empty")]
    digits = dict.fromkeys(table, decimals) if isinstance(decimals, int) else decimals
    rules = Rules(single_relevant=single_relevant, num_users=num_users, decimals=digits, ties=ties)
    result, _ = check_tables({name: table}, {name: rules}, name=name)
    return [result]


def _table_result(name: str, num_cells: int, violations: list[Violation]) -> CheckResult:
    worst = max(violations, key=lambda violation: violation.excess, default=None)
    return judged(
        "coherence/table",
        name,
        ok=not violations,
        figure=f"{len(violations)} rules broken among {num_cells} cells",
        expected="cells that one ranking can have together",
        limit="0",
        worst=str(worst) if worst else "",
        outside=sample(sorted({violation.rule for violation in violations})),
        detail="no ranking whatever gives these numbers, so the table is wrong, not the model" if violations else "",
        advice="check which cut-off each column was computed at, and that the lists are as long as the largest one",
    )


def check_tables(
    tables: Mapping[str, Mapping[str, float]], rules: Mapping[str, Rules], *, name: str
) -> tuple[CheckResult, list[Repair]]:
    """``coherence/table`` for the rows of one file, by label, with the repairs that would make them possible.

    A slip that explains all broken rows at once is preferred to one that explains the worst alone. Repairs come
    smallest first; none for a possible file, and none where no single slip explains it.
    """
    if not tables:
        return not_measured("coherence/table", name, "there is no row of metrics"), []
    found = {label: coherence_violations(table, **rules[label].arguments()) for label, table in tables.items()}
    broken = {label: violations for label, violations in found.items() if violations}
    every = [violation for violations in broken.values() for violation in violations]
    result = _table_result(name, sum(map(len, tables.values())), every)
    if not broken:
        return result, []
    worst = max(broken, key=lambda label: max(violation.excess for violation in broken[label]))
    mended, where = _mended(tables, rules, list(broken), worst)
    own = max(broken[worst], key=lambda violation: violation.excess)
    texts = {
        "worst": f"{worst}: {own}" if len(tables) > 1 else str(own),
        "detail": f"{result.detail}; {_repair_text(mended, where)}",
        "rows": " | ".join([*_violation_rows(broken), *map(_repair_row, mended)]),
    }
    if len(tables) > 1:
        texts["outside"] = f"{count_of(len(broken), len(tables), 'rows')}: {result.outside}"
    return CheckResult.from_dict({**result.to_dict(), **texts}), mended


def _violation_rows(broken: Mapping[str, list[Violation]]) -> Iterator[str]:
    for label, violations in broken.items():
        yield from (f"{label}: {violation}" for violation in violations)


def _repair_row(repair: Repair) -> str:
    return f"repaired, {repair.text}: {', '.join(f'{name} {text}' for name, text in repair.cells().items())}"


def _mended(
    tables: Mapping[str, Mapping[str, float]], rules: Mapping[str, Rules], broken: list[str], worst: str
) -> tuple[list[Repair], str]:
    alike = [label for label in broken if tables[label].keys() == tables[worst].keys() and label != worst]
    alike = [worst, *alike[: MAX_ROWS_MENDED - 1]]
    if len(alike) > 1:
        together = repairs_of_all([tables[label] for label in alike], [rules[label] for label in alike])
        if together:
            return together, f"in the {len(alike)} broken rows, of which {worst} is shown, "
    return repairs(tables[worst], rules[worst]), f"in {worst}, " if len(tables) > 1 else ""


def _repair_text(mended: list[Repair], where: str) -> str:
    if not mended:
        return f"{where}no single slip (a cell, two cells, a shifted column, swapped columns) makes it possible"
    if len(mended) == 1:
        return f"{where}one repair makes it possible: {mended[0].text}"
    named = "; ".join(f"({i}) {repair.text}" for i, repair in enumerate(mended[:NAMED], start=1))
    more = f"; and {len(mended) - NAMED} more" if len(mended) > NAMED else ""
    return f"{where}ambiguous, {len(mended)} repairs make it possible, smallest first: {named}{more}"


def coherence(record: RunRecord) -> list[CheckResult]:
    """Whether the tables of every evaluation are possible, and the final ones recomputable from the stored ranks."""
    splits = sorted({key.partition("/")[0] for key in record.names("metric/")})
    if not splits:
        return [not_measured("coherence/table", record.spec.system, "the record has no metric")]
    results: list[CheckResult] = []
    for split in splits:
        ranks = _ranks_or_reason(record, split)
        results.append(_tables(record, split, ranks))
        if not isinstance(ranks, str):
            results += [_recomputed(record, split, ranks), _ties(record, split, ranks)]
    if not any(result.check == "coherence/recomputed" for result in results):
        reason = "; ".join(f"{split}: {_ranks_or_reason(record, split)}" for split in splits)
        advice = "record the ranks with run.ranked(...)"
        results.append(not_measured("coherence/recomputed", record.spec.system, reason, advice=advice))
    return results


def _ranks_or_reason(record: RunRecord, split: str) -> Ranks | str:
    try:
        return ranks_of(record, split)
    except (RecordError, MetricError) as e:
        return str(e)


def _tables(record: RunRecord, split: str, ranks: Ranks | str) -> CheckResult:
    subject = f"{record.spec.system} {split}"
    protocol = record.facts.get("protocol", {}).get(split, {})
    # Without protocol and ranks of a split, only rules that hold for any number of relevant items and ties are sound.
    single = bool(protocol.get("single_relevant", False))
    ties = isinstance(ranks, str) or bool((ranks.expected % 1 != 0).any())
    found: list[tuple[int, Violation]] = []
    num_tables = num_cells = 0
    try:
        for evaluation, table in _tables_of(record, split):
            num_tables, num_cells = num_tables + 1, len(table)
            num_users = protocol.get("num_scored")
            violations = coherence_violations(table, single_relevant=single, num_users=num_users, ties=ties)
            found += [(evaluation, violation) for violation in violations]
    except (RectestError, ValueError) as e:
        return not_measured("coherence/table", subject, str(e))
    if not num_tables:
        return not_measured("coherence/table", subject, "no evaluation has been recorded")
    result = _table_result(subject, num_tables * num_cells, [violation for _, violation in found])
    if not found:
        return result
    evaluation, worst = max(found, key=lambda pair: pair[1].excess)
    return CheckResult.from_dict({**result.to_dict(), "worst": f"evaluation {evaluation}: {worst}"})


def _tables_of(record: RunRecord, split: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Every evaluation of a split, from 1, with all its measures; curves of unequal length end at the shortest."""
    curves = record.metrics(split)
    for i in range(min(len(values) for values in curves.values())):
        yield i + 1, {name: float(values[i]) for name, values in curves.items()}


def _recomputed(record: RunRecord, split: str, ranks: Ranks) -> CheckResult:
    check, subject = "coherence/recomputed", f"{record.spec.system} {split}"
    recorded = {name: float(values[-1]) for name, values in record.metrics(split).items() if values.size}
    try:
        expected = evaluate(ranks, sorted(recorded))
    except (RectestError, ValueError) as e:
        return not_measured(check, subject, str(e))
    apart = {name: abs(recorded[name] - expected[name]) / max(1.0, abs(expected[name])) for name in recorded}
    bad = [name for name, gap in apart.items() if not gap <= RECOMPUTED]
    worst = max(bad or apart, key=lambda name: apart[name] if apart[name] == apart[name] else float("inf"), default="")
    detail = "the metric was computed from other ranks, other users or by another formula"
    return judged(
        check,
        subject,
        ok=not bad and bool(recorded),
        figure=count_of(len(bad), len(recorded), "metrics differ from the ranks they were made of"),
        expected="the mean over users, recomputed from the stored ranks",
        limit=f"{RECOMPUTED:g} relative",
        worst=f"{worst}: recorded {recorded[worst]:.10g}, recomputed {expected[worst]:.10g}" if worst else "",
        outside=sample(bad),
        detail=detail if bad else "",
        advice="compare the formula with rectest.metrics.per_user: ideal DCG, cut-off, averaging over batches",
    )


def _ties(record: RunRecord, split: str, ranks: Ranks) -> CheckResult:
    check, subject = "coherence/ties", f"{record.spec.system} {split}"
    try:
        share = tie_share(ranks)
    except MetricError as e:
        return not_measured(check, subject, str(e))
    return judged(
        check,
        subject,
        ok=share <= MAX_TIE_SHARE,
        figure=f"the rank of {percent(share)} of the relevant items depends on how ties break",
        limit=f"<= {percent(MAX_TIE_SHARE)}",
        detail=""
        if share <= MAX_TIE_SHARE
        else "too few distinct scores: another tie rule would give other metrics, in the extreme 0 or 1",
        advice="score in float32, and check that the model does not score all items alike",
    )
