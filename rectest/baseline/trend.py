"""L4 of the gate: whether the results of many nights or merges stepped at some point. Information, never a verdict.

One gate sees one change and must not alarm without reason; a loss of half a percent per week is below every one of its
limits. Over a series, each feature is split where the means of both parts lie furthest apart, in standard errors:

    max over k of |t_k|,    k = 3..n-3 points before the step

and its p-value is exact by permutation: where nothing changed all orders of the points are equally likely, whatever
their distribution. The level is shared among the features (Bonferroni). The points must be new draws: reports that
repeat the numbers of the one before, as unchanged code does with equal seeds, are one point. Where a series comes from
and how it is printed is for the command; curves within one training are for `rectest.checks.trend`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.evidence import Evidence, FeatureEvidence
from rectest.baseline.features import higher_is_better
from rectest.baseline.limits import REL_FLOOR
from rectest.errors import RecordError

__all__ = [
    "DELAY",
    "MEASURED",
    "MIN_POINTS",
    "MIN_SEGMENT",
    "TREND_ALPHA",
    "FeatureTrend",
    "Point",
    "Trend",
    "change_point",
    "points_needed",
    "sparkline",
    "trend_of",
]

Array: TypeAlias = NDArray[np.float64]

TREND_ALPHA = 0.01
"""Probability that a series in which nothing changed shows a step, all its features together."""

MIN_POINTS = 8
"""Fewer points are not looked at."""

MIN_SEGMENT = 3
"""Fewest points before and after a step: one odd night is not a step."""

NUM_PERMUTATIONS = 9999
"""The smallest p-value is 1e-4, enough for a hundred features at `TREND_ALPHA`."""

MEASURED = {20: 0.0098, 50: 0.0098, 100: 0.0094}
"""By number of points, the share of simulated series of one feature, white noise, that show a step."""

DELAY = {20: 7, 50: 6}
"""By number of points before a step of two sds, the median number after it until it shows, simulated at a tenth of
`TREND_ALPHA`, as where ten features share it."""

_BLOCK = 1 << 21
"""Numbers that are permuted at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One report's gate of one system."""

    label: str
    """What people find it by: a commit, a date or a file."""

    evidence: Evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureTrend:
    """One feature over the points that have it."""

    name: str
    logs: tuple[float, ...]
    labels: tuple[str, ...]
    place: int
    """Points before the best split; the first of the rest is `since`."""

    t: float
    p: float
    level: float
    """What `p` is compared with."""

    @property
    def steps(self) -> bool:
        """Whether chance alone splits as well at most once in 1 / level series."""
        return self.p <= self.level

    @property
    def since(self) -> str:
        """The first point after the split."""
        return self.labels[self.place]

    @property
    def change(self) -> float:
        """Relative change of the feature's geometric mean at the split."""
        shift = float(np.mean(self.logs[self.place :]) - np.mean(self.logs[: self.place]))
        return math.expm1(shift)

    @property
    def worse(self) -> bool:
        """Whether the change at the split is for the worse."""
        return (self.change < 0) == higher_is_better(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """One system in one environment class over several reports."""

    name: str
    env_class: str
    num_reports: int
    num_points: int
    """Reports that do not repeat the numbers of the one before."""

    features: tuple[FeatureTrend, ...]
    too_short: Mapping[str, int] = field(default_factory=dict)
    """Features that were not looked at: how many points have them."""

    seeds: tuple[int, ...] = ()
    """Those that every report has and that were compared; empty where there are none and all runs were averaged."""

    moves: tuple[str, ...] = ()
    """Points that were computed in another environment than the one before."""


def trend_of(points: Sequence[Point], *, seed: int = 0, alpha: float = TREND_ALPHA) -> Trend:
    """Look for a step in every feature of one system's points, in the given order.

    Args:
        points: Of one system and environment class.
        seed: Of the permutations.
        alpha: For all features together.

    Raises:
        ValueError: no points, or points of several systems or environment classes.
        RecordError: evidence whose values are not numbers, or do not fit its runs.
    """
    kinds = sorted({(point.evidence.name, point.evidence.env_class) for point in points})
    if len(kinds) != 1:
        msg = f"a series is of one system in one environment class, got {kinds}"
        raise ValueError(msg)
    seeds = set.intersection(*(set(point.evidence.seeds) for point in points))
    rows = [_logs(point, seeds) for point in points]
    kept = _without_repeats(rows)
    found: dict[str, tuple[list[float], list[str]]] = {}
    for place in kept:
        for name, value in rows[place].items():
            logs, labels = found.setdefault(name, ([], []))
            logs.append(value)
            labels.append(points[place].label)
    long = {name: each for name, each in found.items() if len(each[0]) >= MIN_POINTS}
    known = dict.fromkeys(each.name for point in points for each in point.evidence.features)
    return Trend(
        name=kinds[0][0],
        env_class=kinds[0][1],
        num_reports=len(points),
        num_points=len(kept),
        features=tuple(_feature(name, *each, alpha / len(long), seed) for name, each in long.items()),
        too_short={name: len(found.get(name, ([], []))[0]) for name in known if name not in long},
        seeds=tuple(sorted(seeds)),
        moves=tuple(
            point.label
            for before, point in itertools.pairwise(points)
            if point.evidence.fingerprint != before.evidence.fingerprint
        ),
    )


def change_point(
    values: Array, rng: np.random.Generator, *, num_permutations: int = NUM_PERMUTATIONS
) -> tuple[int, float, float]:
    """Points before the best split, its |t|, and its p-value by permutation.

    The sum of squares between both parts orders the splits as |t| does and needs no division; values that are all
    equal have a p-value of 1. No p-value is below 1 / (num_permutations + 1).

    Raises:
        ValueError: fewer than `MIN_POINTS` values, or one that is not finite.
    """
    num = len(values)
    if num < MIN_POINTS or not np.isfinite(values).all():
        msg = f"needed {MIN_POINTS} finite values or more, got {num}: {values.tolist()}"
        raise ValueError(msg)
    centred = values - values.mean()
    total = float((centred**2).sum())
    between = _between(centred[None])[0]
    place = int(np.argmax(between)) + MIN_SEGMENT
    # Equal splits of rounded sums must count as equal.
    reached = float(between.max()) * (1 - 1e-9)
    hits, left = 0, num_permutations
    while left:
        rows = min(left, max(1, _BLOCK // num))
        shuffled = rng.permuted(np.broadcast_to(centred, (rows, num)), axis=1)
        hits += int((_between(shuffled).max(axis=1) >= reached).sum())
        left -= rows
    within = max(0.0, total - float(between.max()))
    t = math.sqrt((num - 2) * float(between.max()) / within) if within > 1e-12 * total else math.inf
    return place, t if total > 0 else 0.0, (1 + hits) / (1 + num_permutations)


def _between(centred: Array) -> Array:
    """[R, splits] sums of squares between both parts, for rows [R, n] whose mean is zero."""
    num = centred.shape[1]
    before = np.arange(MIN_SEGMENT, num - MIN_SEGMENT + 1)
    sums = np.cumsum(centred, axis=1)[:, before - 1]
    found: Array = sums**2 * num / (before * (num - before))
    return found


def points_needed(level: float) -> int:
    """The fewest points of which any order at all is rarer than `level`: two of C(n, n/2) splits are perfect.

    >>> points_needed(0.01), points_needed(0.01 / 11)
    (10, 14)
    """
    num = MIN_POINTS
    while 2 / math.comb(num, num // 2) > level:
        num += 1
    return num


def sparkline(values: Sequence[float], *, width: int = 16) -> str:
    """The values as bars of eight heights, at most `width` of them; a constant is a flat line.

    >>> sparkline([1.0, 2.0, 8.0, 4.0])
    '▁▂█▄'
    """
    parts = np.array_split(np.asarray(values, np.float64), min(width, len(values)))
    means = np.array([part.mean() for part in parts])
    low, high = float(means.min()), float(means.max())
    if not high > low:
        return "▁" * len(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / (high - low))] for value in means)


def _feature(name: str, logs: list[float], labels: list[str], level: float, seed: int) -> FeatureTrend:
    rng = np.random.default_rng([seed, *name.encode()])
    place, t, p = change_point(np.array(logs), rng)
    return FeatureTrend(name=name, logs=tuple(logs), labels=tuple(labels), place=place, t=t, p=p, level=level)


def _logs(point: Point, seeds: set[int]) -> dict[str, float]:
    """Mean log of each feature over the runs of `seeds`, or over all; absent where a value is not above zero."""
    evidence, found = point.evidence, {}
    for feature in evidence.features:
        _require_numbers(point, feature)
        chosen = [value for value, seed in zip(feature.new, evidence.seeds, strict=True) if not seeds or seed in seeds]
        if chosen and all(value is not None and math.isfinite(value) and value > 0 for value in chosen):
            found[feature.name] = float(np.log(np.array(chosen, np.float64)).mean())
    return found


def _require_numbers(point: Point, feature: FeatureEvidence) -> None:
    where = f"{point.label}: {feature.name} of {point.evidence.name}"
    if len(feature.new) != len(point.evidence.seeds):
        msg = f"{where} has {len(feature.new)} values for {len(point.evidence.seeds)} runs; write the report anew"
        raise RecordError(msg)
    odd: list[Any] = [
        v for v in feature.new if v is not None and (isinstance(v, bool) or not isinstance(v, int | float))
    ]
    if odd:
        msg = f"{where} has the value {odd[0]!r}, needed a number; write the report anew"
        raise RecordError(msg)


def _without_repeats(rows: Sequence[Mapping[str, float]]) -> list[int]:
    """Places of the points that are not the last kept one again, up to what rounding explains."""
    kept: list[int] = []
    for place, row in enumerate(rows):
        last = rows[kept[-1]] if kept else {}
        if last.keys() != row.keys() or any(abs(row[name] - last[name]) > REL_FLOOR for name in row):
            kept.append(place)
    return kept
