"""Plausible numbers: every metric finite and inside its range, nobody left out, losses finite, steps rising.

These hold for any run at all, trained or not; a model at chance passes here and is named by `chance.py`. Relations
between metrics are in `coherence.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.checks.tolerance import mean_slack
from rectest.errors import UnknownNameError
from rectest.metrics.measure import Measure
from rectest.record import RunRecord

__all__ = ["measure_range", "ranges"]

Array = npt.NDArray[Any]


def ranges(record: RunRecord) -> list[CheckResult]:
    """Range and completeness of every metric, coverage of users in every split, losses, and steps."""
    keys = record.names("metric/")
    results = [_metric(record, key) for key in keys]
    if not keys:
        results.append(not_measured("ranges/metric", record.spec.system, "the record has no metric"))
    ranked = {name.partition("/")[0] for name in record.names("ranks/")} | set(record.facts.get("protocol", {}))
    results += [_users(record, split) for split in sorted(ranked) or ["test"]]
    losses = record.names("loss/")
    results += [_loss(record[f"loss/{name}"], f"{record.spec.system} {name}") for name in losses]
    if "total" not in losses:
        results.append(not_measured("ranges/loss", record.spec.system, "the record has no loss/total"))
    return [*results, _steps(record)]


def measure_range(measure: str, *, num_candidates: float = math.inf) -> tuple[float, float]:
    """The smallest and largest possible value; a name that is no known measure must only be finite.

    >>> measure_range("recall@10"), measure_range("mean_rank", num_candidates=100)
    ((0.0, 1.0), (1.0, 100))
    """
    try:
        higher_is_better = Measure.parse(measure).higher_is_better
    except (UnknownNameError, ValueError):
        return -math.inf, math.inf
    return (0.0, 1.0) if higher_is_better else (1.0, num_candidates)


def _metric(record: RunRecord, key: str) -> CheckResult:
    split, _, measure = key.partition("/")
    values = record[f"metric/{key}"].astype(np.float64)
    num = len(record["eval/steps"]) if split == "valid" and "eval/steps" in record else 1
    low, high = measure_range(measure, num_candidates=_most_candidates(record, split))
    slack = mean_slack(values.size, largest=1.0 if math.isinf(high) else high)
    bad = np.flatnonzero(~((values >= low - slack) & (values <= high + slack) & np.isfinite(values)))
    shape_ok = values.ndim == 1 and values.size > 0 and (values.size == num or split != "valid")
    detail = "a metric outside of its range was computed from something else than ranks" if bad.size else ""
    return judged(
        "ranges/metric",
        key,
        ok=shape_ok and not bad.size,
        figure=f"{values.size} values" + (f", {values.min():.6g} to {values.max():.6g}" if values.size else ""),
        expected=f"{num} evaluation{'s' if num != 1 else ''}" if split == "valid" else "a value",
        limit=f"finite, {low:g} to {high:g}",
        worst=f"evaluation {bad[0] + 1}: {values.flat[bad[0]]:.6g}" if bad.size else "",
        outside=count_of(bad.size, values.size, "evaluations") if bad.size else "",
        detail=detail if shape_ok else f"{num} evaluations were made, the metric has {values.size}",
        advice="compare the metric with rectest.metrics.evaluate on saved ranks",
    )


def _most_candidates(record: RunRecord, split: str) -> float:
    counts = record.arrays.get(f"ranks/{split}/num_candidates")
    return float(counts.max()) if counts is not None and counts.size else math.inf


def _users(record: RunRecord, split: str) -> CheckResult:
    """Whether as many users and relevant items were ranked as the protocol of the split says."""
    check, subject = "ranges/num_users", f"{record.spec.system} {split}"
    protocol = record.facts.get("protocol", {}).get(split)
    key = f"ranks/{split}/user"
    if protocol is None or key not in record:
        missing = f"facts of the protocol of {split}" if protocol is None else key
        advice = "record the split with run.ranked(...)"
        return not_measured(check, subject, f"the record has no {missing}", advice=advice)
    users = record[key]
    num_scored, expected = np.unique(users).size, int(protocol.get("num_scored", 0))
    num_relevant = int(protocol.get("num_relevant", users.size))
    num_users = int(protocol.get("num_users", expected))
    ok = 0 < num_scored == expected <= num_users and users.size == num_relevant
    return judged(
        check,
        subject,
        ok=ok,
        figure=f"{num_scored} users scored on {users.size} relevant items",
        expected=f"{expected} of {num_users} users, {num_relevant} relevant items",
        limit="equal, and more than 0",
        detail="" if ok else "users that are silently left out change what the mean is a mean of",
        advice="count users without relevant items, never skip them",
    )


def _loss(values: Array, subject: str) -> CheckResult:
    bad = np.flatnonzero(~np.isfinite(values))
    return judged(
        "ranges/loss",
        subject,
        ok=not bad.size and values.size > 0,
        figure=f"{values.size} steps" + (f", {values[0]:.6g} to {values[-1]:.6g}" if values.size else ""),
        limit="finite at every step",
        worst=f"step {bad[0] + 1}: {values[bad[0]]}" if bad.size else "",
        outside=count_of(bad.size, values.size, "steps") if bad.size else "",
        detail="nothing after the first such step means anything" if bad.size else "",
        advice="lower the learning rate, and look for the first step whose gradients are not finite",
    )


def _steps(record: RunRecord) -> CheckResult:
    check, subject = "ranges/steps", record.spec.system
    if "eval/steps" not in record:
        return not_measured(check, subject, "the record has no eval/steps")
    steps = record["eval/steps"]
    last = len(record["loss/total"]) if "loss/total" in record else int(steps[-1]) if steps.size else 0
    rising = bool((np.diff(steps) > 0).all())
    inside = steps.size == 0 or (steps[0] >= 0 and steps[-1] <= last)
    curves = record.names("metric/valid/")
    ok = rising and inside and (steps.size > 0 or not curves)
    return judged(
        check,
        subject,
        ok=ok,
        figure=f"{steps.size} evaluations at steps {sample(steps.tolist())}",
        limit=f"rising, 0 to {last}",
        worst=f"step {steps[np.argmin(np.diff(steps)) + 1]}" if not rising else "",
        detail="" if ok else "curves over such steps cannot be compared with a baseline",
        advice="evaluate at the same steps in every run",
    )
