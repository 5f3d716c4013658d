"""What one change is worth: two groups of runs over the same seeds, compared seed by seed.

A single run of each says little, because the seed alone moves a metric; and two runs over other data, another split or
another protocol say nothing at all, so they are refused. Whether the change was one change only is judged by
`configuration.ablation`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, judged, not_measured, percent
from rectest.record import RunRecord

__all__ = ["difference", "paired_interval"]

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95


def paired_interval(first: FloatArray, second: FloatArray, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Mean of second - first over pairs, and half the width of its t interval.

    >>> mean, reach = paired_interval(np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.4, 3.6]))
    >>> round(mean, 3), round(reach, 3)
    (0.5, 0.248)

    Raises:
        ValueError: the groups differ in size, or hold fewer than two runs.
    """
    if first.shape != second.shape or first.size < 2:
        msg = f"needs two groups of the same two or more seeds, got {first.size} and {second.size} values"
        raise ValueError(msg)
    from scipy.stats import t

    apart = second - first
    error = float(apart.std(ddof=1)) / math.sqrt(apart.size)
    return float(apart.mean()), float(t.ppf(0.5 + confidence / 2, apart.size - 1)) * error


def difference(
    base: Sequence[RunRecord], other: Sequence[RunRecord], metric: str, *, name: str, claimed: str = ""
) -> list[CheckResult]:
    """How far `other` lies from `base` in ``<split>/<measure>``, with its uncertainty over the seeds.

    It is a finding, not a gate: PASS when it could be measured, whatever its sign. Groups that were not trained on the
    same seeds, data and protocol are NOT MEASURED.

    Args:
        name: what was changed.
        claimed: what somebody said about it, to print beside it.
    """
    subject = f"{base[0].spec.system if base else 'no runs'} {name}"
    if problem := _not_comparable(base, other, metric):
        advice = "train both on the same seeds, world, split and candidates"
        return [not_measured("comparison/difference", subject, problem, advice=advice)]
    first, second = (np.array([record.final(metric) for record in group]) for group in (base, other))
    mean, reach = paired_interval(first, second)
    level = float(first.mean())
    clear = abs(mean) > reach
    sign = "raises" if mean > 0 else "lowers"
    return [
        judged(
            "comparison/difference",
            subject,
            ok=True,
            figure=f"{metric} {mean / level:+.2%} +- {reach / level:.2%} ({level:.4g} -> {second.mean():.4g})",
            expected=f"claimed: {claimed}" if claimed else "",
            limit=f"{percent(CONFIDENCE)} interval over {len(first)} seeds, paired",
            detail=f"it {sign} {metric}" if clear else "nothing that these seeds could tell from chance",
        )
    ]


def _not_comparable(base: Sequence[RunRecord], other: Sequence[RunRecord], metric: str) -> str:
    seeds = [[record.spec.seed for record in group] for group in (base, other)]
    if len(base) < 2 or seeds[0] != seeds[1]:
        return f"seeds {seeds[0]} and {seeds[1]}; the same two or more seeds were needed"
    split = metric.partition("/")[0]
    for record in (*base, *other):
        if f"metric/{metric}" not in record:
            return f"{record.spec.describe()} has no {metric}"
        for fact, place in (("data", ("inputs", "world")), ("protocol", ("protocol", split))):
            here, there = (_at(one, place) for one in (record, base[0]))
            if here != there:
                return f"other {fact}: {here!r} and {there!r}"
    return ""


def _at(record: RunRecord, place: tuple[str, str]) -> object:
    outer = record.facts.get(place[0]) or {}
    return outer.get(place[1])
