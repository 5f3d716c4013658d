"""Steps in the history of benchmarks: which commit made what slower, fatter or worse. Information, never a verdict.

Absolute values (seconds, bytes) are compared inside one series only: equal fingerprint and equal machine. Ratios of
contenders that ran in turns in one process cancel the machine, and are one series per environment class.

Where a series steps is found in `splits`, by permutation, which assumes that runs of unchanged code are exchangeable:
runs in one bad hour on a shared machine are not, so record at different times. All series that are looked at together
share the level (Bonferroni). One change of the code is not judged here, but by interleaved runs of both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rectest.baseline.trend import MIN_POINTS
from rectest.benchmarks.history import BenchHistory, RecordedRun, Timing
from rectest.benchmarks.splits import fewest_points, find_splits

__all__ = [
    "CHANGE_ALPHA",
    "SMALLEST_CHANGE",
    "Change",
    "Series",
    "changes_in",
    "latest_by_benchmark",
    "runs_needed",
    "series_of",
]

CHANGE_ALPHA = 0.01
"""Probability that histories in which nothing changed show any step at all, all series together."""

SMALLEST_CHANGE = 0.01
"""Relative steps below this are not shown: no run of benchmarks is that steady from day to day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One measure of one benchmark over comparable runs, by date."""

    benchmark: str
    measure: str
    """``seconds``, ``cpu seconds``, ``bytes host_growth`` or ``ratio <name>``."""

    env_class: str
    where: str
    """Fingerprint and machine, or empty for a ratio."""

    values: tuple[float, ...]
    labels: tuple[str, ...]
    """The run of each value: commit or date."""

    dates: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells series apart."""
        return self.benchmark, self.measure, self.env_class, self.where

    @property
    def judged(self) -> bool:
        """Whether there are points enough to look for a step, all of them above zero."""
        return len(self.values) >= MIN_POINTS and min(self.values) > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A significant step in a series."""

    series: Series
    place: int
    """Values before the step."""

    change: float
    """Relative, between the geometric means of both sides up to the next step."""

    p: float
    level: float
    first: int
    """The earliest and the latest place that the noise leaves plausible: the commits to look at."""

    last: int

    @property
    def since(self) -> str:
        """The first run after the step."""
        return self.series.labels[self.place]

    @property
    def before(self) -> str:
        """The last run before the step."""
        return self.series.labels[self.place - 1]

    @property
    def range(self) -> str:
        """The first run after the step, with those that it might be instead."""
        labels = self.series.labels
        if self.first == self.last:
            return self.since
        return f"{self.since} (or {labels[self.first]} to {labels[self.last]})"

    @property
    def same_code(self) -> bool:
        """Whether both sides are runs of one commit: then it was not the code."""
        return self.since == self.before


def series_of(history: BenchHistory) -> list[Series]:
    """All series of a class: by benchmark and measure, absolute ones by environment and machine too."""
    found: dict[tuple[str, str, str], list[tuple[float, RecordedRun]]] = {}
    for run in history.runs:
        where = " ".join(run.series)
        for name, timing in run.benchmarks.items():
            for measure, value in _measures(timing):
                at = "" if measure.startswith("ratio ") else where
                found.setdefault((name, measure, at), []).append((value, run))
    return [
        Series(
            benchmark=name,
            measure=measure,
            env_class=history.env_class,
            where=where,
            values=tuple(value for value, _ in points),
            labels=tuple(run.label for _, run in points),
            dates=tuple(run.date for _, run in points),
        )
        for (name, measure, where), points in sorted(found.items())
    ]


def changes_in(
    series: Iterable[Series], *, seed: int = 0, alpha: float = CHANGE_ALPHA
) -> dict[tuple[str, str, str, str], tuple[Change, ...]]:
    """The steps of each series that has any, in order of time.

    Args:
        seed: Of the permutations.
        alpha: For all series together.
    """
    judged = [each for each in series if each.judged]
    found = {}
    for each in judged:
        changes = _changes(each, alpha / len(judged), np.random.default_rng([seed, *"".join(each.key).encode()]))
        if changes:
            found[each.key] = changes
    return found


def runs_needed(num_series: int, *, alpha: float = CHANGE_ALPHA) -> int:
    """The fewest runs in which any step can show where so many series share the level.

    >>> runs_needed(1), runs_needed(100)
    (12, 19)
    """
    return fewest_points(alpha / max(1, num_series))


def latest_by_benchmark(series: Iterable[Series], run: RecordedRun) -> list[Series]:
    """The series that a run is the last point of, so that each measure of a benchmark is shown once."""
    return [each for each in series if each.dates[-1] == run.date and each.benchmark in run.benchmarks]


def _changes(series: Series, level: float, rng: np.random.Generator) -> tuple[Change, ...]:
    logs = np.log(np.array(series.values))
    splits = find_splits(logs, level, rng)
    ends = [0, *(split.place for split in splits), len(logs)]
    found = []
    for number, each in enumerate(splits, start=1):
        shift = float(logs[each.place : ends[number + 1]].mean() - logs[ends[number - 1] : each.place].mean())
        if abs(math.expm1(shift)) >= SMALLEST_CHANGE:
            places = {"place": each.place, "first": each.first, "last": each.last}
            found.append(Change(series=series, change=math.expm1(shift), p=each.p, level=level, **places))
    return tuple(found)


def _measures(timing: Timing) -> Iterator[tuple[str, float]]:
    yield "seconds", timing.median
    if timing.cpu_seconds is not None:
        yield "cpu seconds", timing.cpu_seconds
    yield from _prefixed("bytes", timing.own_memory)
    yield from _prefixed("ratio", timing.ratios)


def _prefixed(prefix: str, values: Mapping[str, float]) -> Sequence[tuple[str, float]]:
    return [(f"{prefix} {name}", float(value)) for name, value in sorted(values.items())]
