"""Accounting: step, parameter and percentage figures that follow from others, and early stopping that follows its rule.

All of it is arithmetic on what is recorded or stated. Report 004's step count is off by one, because a logger counts
from zero; its parameter count leaves no room for the graph that its text describes. Figures are given as they were
written, so that their rounding counts and nothing else is forgiven.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rectest.checks.result import CheckResult, judged, not_measured
from rectest.checks.stated import Figure, growth
from rectest.metrics.measure import Measure
from rectest.record import RunRecord

__all__ = [
    "StatedPercent",
    "check_early_stop",
    "check_parameters",
    "check_percent",
    "check_steps",
    "early_stop",
]

BYTES_PER_PARAMETER = 4
"""float32."""


def check_steps(
    *, num_samples: int, batch_size: int, num_epochs: int, stated: str | int, name: str = "training"
) -> list[CheckResult]:
    """``accounting/steps``: optimizer steps are epochs x ceil(samples / batch).

    A logger that counts from zero shows one less as its last step; that is named, and fails as a number of steps.
    """
    for key, value in (("num_samples", num_samples), ("batch_size", batch_size), ("num_epochs", num_epochs)):
        if value < 1:
            msg = f"{key} must be at least 1, got {value}"
            raise ValueError(msg)
    per_epoch = math.ceil(num_samples / batch_size)
    expected = per_epoch * num_epochs
    figure = Figure.parse(str(stated))
    ok = figure.allows(expected)
    return [
        judged(
            "accounting/steps",
            name,
            ok=ok,
            figure=f"{figure.text} steps stated",
            expected=f"{expected} = {num_epochs} epochs x {per_epoch}",
            limit=f"equal, for {num_samples} samples in batches of {batch_size}",
            outside="" if ok else f"{figure.value - expected:+g} steps",
            detail="" if ok else _why_steps(figure, expected, num_samples // batch_size * num_epochs),
            advice="count optimizer steps, not the label of the last one",
        )
    ]


def _why_steps(figure: Figure, expected: int, without_tail: int) -> str:
    if figure.allows(expected - 1):
        return "one less: the last step of a logger that counts from zero, read as their number"
    if figure.allows(without_tail):
        return "the number without the last, shorter batch of each epoch: its rows are never trained on"
    return "no rule of counting steps gives this number"


def check_parameters(
    formula: Mapping[str, int] | int,
    *,
    stated: str | int,
    stated_megabytes: str = "",
    counted: int | None = None,
    name: str = "model",
) -> list[CheckResult]:
    """``accounting/parameters``: the count that follows from the architecture, against what is stated.

    Args:
        formula: parameters by part of the model, or all together.
        stated: as written, ``3.2M`` or ``3,245,664``.
        stated_megabytes: the size in float32, as written, e.g. ``12.98 MB`` (of 1,000,000 bytes).
        counted: what the program itself counted, exactly.
    """
    parts = {"model": formula} if isinstance(formula, int) else dict(formula)
    total = sum(parts.values())
    if total < 1:
        return [not_measured("accounting/parameters", name, "the formula gives no parameters")]
    megabytes = total * BYTES_PER_PARAMETER / 1e6
    problems = []
    if not Figure.parse(str(stated)).allows(total):
        problems.append(f"{stated} are stated, {Figure.parse(str(stated)).value - total:+,.0f}")
    if stated_megabytes and not Figure.parse(stated_megabytes).allows(megabytes):
        problems.append(f"{stated_megabytes} are stated, {total:,} parameters have {megabytes:.2f} MB")
    if counted is not None and counted != total:
        problems.append(f"{counted:,} were counted, {counted - total:+,}")
    largest = sorted(parts.items(), key=lambda part: -part[1])[:4]
    return [
        judged(
            "accounting/parameters",
            name,
            ok=not problems,
            figure=f"{total:,} parameters, {megabytes:.2f} MB",
            expected=f"{stated}{f', {stated_megabytes}' if stated_megabytes else ''} as stated",
            limit="equal, as far as the stated figures are rounded",
            worst="; ".join(problems),
            detail="the model has parts that the formula lacks, or lacks parts that are described"
            if problems
            else f"nothing is left beside {', '.join(f'{part} {size:,}' for part, size in largest)}",
            advice="list the parameters by name, and look for the part that differs",
        )
    ]


def check_early_stop(
    curve: Mapping[int, float],
    *,
    best: int,
    last: int,
    patience: int | None,
    higher_is_better: bool = True,
    name: str = "training",
) -> list[CheckResult]:
    """``accounting/early_stop``: the best is the best of the curve, and training stopped `patience` after it.

    Args:
        curve: the monitored measure by number of its evaluation (epochs count, where each has one); it may hold only
            some of them, then the best of those must not be better than `best`.
        best: number of the best evaluation, as stated.
        last: number of the last one.
        patience: evaluations without improvement after which training stopped; None where something else ended it,
            then only the best is judged.
    """
    subject = name
    if best not in curve or not all(math.isfinite(value) for value in curve.values()):
        return [not_measured("accounting/early_stop", subject, f"the curve has no finite value at {best}")]
    sign = 1 if higher_is_better else -1
    true_best = min(curve, key=lambda number: (-sign * curve[number], number))
    problems = []
    if true_best != best:
        problems.append(f"evaluation {true_best} is better: {curve[true_best]:g} against {curve[best]:g} at {best}")
    if patience is not None and best + patience != last:
        problems.append(f"{best} + {patience} is {best + patience}, and the last evaluation is {last}")
    opposite = min(curve, key=lambda number: (sign * curve[number], number))
    backwards = len(curve) > 1 and true_best != best and opposite == best
    return [
        judged(
            "accounting/early_stop",
            subject,
            ok=not problems,
            figure=f"best at {best}, last at {last}" + ("" if patience is None else f", patience {patience}"),
            expected=f"best at {true_best}" + ("" if patience is None else f", last at {true_best + patience}"),
            limit="equal",
            worst="; ".join(problems),
            detail="the direction of the measure is reversed: the worst evaluation is kept" if backwards else "",
            advice="compare how early stopping counts and which way its measure improves",
        )
    ]


def early_stop(record: RunRecord) -> list[CheckResult]:
    """`check_early_stop` on what a record says of itself; without patience only the best evaluation is judged.

    Ties keep the earlier evaluation. Where training came to its planned end first, only that is not too late.
    """
    facts = record.facts.get("early_stopping") or {}
    measure = str(facts.get("measure", ""))
    key = f"metric/valid/{measure}"
    if not measure or key not in record or "eval/steps" not in record:
        return [not_measured("accounting/early_stop", record.spec.system, "the record has no monitored curve")]
    steps = record["eval/steps"].tolist()
    curve = {number: float(value) for number, value in enumerate(record[key], start=1)}
    best_step, last = record.facts.get("best_step"), len(curve)
    if best_step not in steps or len(steps) != last:
        return [not_measured("accounting/early_stop", record.spec.system, f"no evaluation at best step {best_step}")]
    best = steps.index(best_step) + 1
    patience = facts.get("patience")
    if patience is not None and not facts.get("stopped_early") and last - best < patience:
        patience = None
    return check_early_stop(
        curve,
        best=best,
        last=last,
        patience=patience,
        higher_is_better=Measure.parse(measure).higher_is_better,
        name=f"{record.spec.system} {measure}",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedPercent:
    """A percentage and the two values that it is said to come from, all as they were written."""

    before: str
    after: str
    stated: str
    name: str = ""


def check_percent(rows: Sequence[StatedPercent], *, name: str = "report") -> list[CheckResult]:
    """``accounting/percent``: each stated change recomputed from its two values, given how all three were rounded."""
    if not rows:
        return [not_measured("accounting/percent", name, "no percentage is stated")]
    return [_percent_result(name, row) for row in rows]


def _percent_result(name: str, row: StatedPercent) -> CheckResult:
    before, after = Figure.parse(row.before), Figure.parse(row.after)
    stated = Figure.parse(row.stated, exact_integers=False)
    low, high = growth(before, after)
    ok = stated.allows(low, high)
    turned = not ok and Figure.parse(row.stated.replace("-", "").replace("+", "")).value and stated.allows(-high, -low)
    return judged(
        "accounting/percent",
        f"{name} {row.name or f'{row.before} to {row.after}'}",
        ok=ok,
        figure=f"{stated.text} stated, {100 * (after.value / before.value - 1):+.3g} % computed",
        limit=f"{low:+.4g} to {high:+.4g} %",
        detail="the sign is reversed" if turned else "",
        advice="recompute the percentage",
    )
