"""What the gate's test of itself found, and the limits that decide whether the gate passes it.

Counting is in `selftest`; here counts become verdicts. Every limit is a declared number of the gate with the room that
chance needs, or was measured where the declared numbers say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA
from rectest.checks.result import CheckResult, Verdict, any_red, judged, percent
from rectest.checks.tolerance import ALPHA, binomial_limit, z_limit

__all__ = ["MOST_MEAN_RUNS", "Detection", "SelfTest", "Tally", "Uniformity"]

MOST_MEAN_RUNS = 1.5
"""Trainings of a clean gate on average: more, and nobody would leave it on."""

MOST_BAD_RUN_ALARMS = 0.20
"""Share of gates that a single bad run may turn red. The witness levels of the first alarms, 0.5 % and 1 %, are those
of one feature: with a dozen features 6 to 19 % were measured, and without the witness nearly all."""

MOST_SPLIT_ALARMS = 0.025
"""Divisions of one set of runs are not independent, so that no binomial limit holds. Of 1,200 simulated normal
baselines of 16 seeds, 200 divisions each, 0.1 % had more alarms than this (measured again in the slow tests)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What came of many gates."""

    num: int
    drops: int
    """FAIL."""

    rises: int
    """SUSPICIOUS."""

    early: int
    """Alarms of either kind after a single run."""

    runs: tuple[int, ...]
    """Runs that each gate took."""

    @property
    def alarms(self) -> int:
        """Gates that ended red."""
        return self.drops + self.rises

    @property
    def mean_runs(self) -> float:
        """Trainings per gate."""
        return float(np.mean(self.runs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniformity:
    """How far the leave-one-out p-values are from uniform."""

    feature: str
    """The one that is furthest."""

    statistic: float
    """Its Anderson-Darling statistic, large where p-values pile up, above all near 0 and 1."""

    p: float
    """Probability that the worst feature of a normal baseline of this size and correlation is as far off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """The promised change for the worse, planted in one feature."""

    feature: str
    drop: float
    """Relative, as promised: a fall of a metric, a growth of a loss."""

    tally: Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """What one baseline's gate showed."""

    name: str
    clean: Tally
    bad_run: Tally
    detection: tuple[Detection, ...]
    uniform: Uniformity | None = None
    """None for a baseline of too few seeds to leave one out."""

    splits: Tally | None = None
    """None for a baseline of too few seeds to divide."""

    @property
    def results(self) -> tuple[CheckResult, ...]:
        """The verdict on each part."""
        parts = (
            [_of_uniformity(self.name, self.uniform)] if self.uniform else [_too_few(self.name, "uniform")],
            _of_clean(self.name, self.clean),
            [_of_splits(self.name, self.splits)] if self.splits else [_too_few(self.name, "splits")],
            [_of_bad_run(self.name, self.bad_run)],
            [_of_detection(self.name, found) for found in self.detection],
            [_of_early(self.name, [self.clean, self.bad_run, *(found.tally for found in self.detection)])],
        )
        return tuple(result for part in parts for result in part)

    @property
    def red(self) -> bool:
        """Whether the gate fails its own test."""
        return any_red(self.results)


def _of_uniformity(name: str, found: Uniformity) -> CheckResult:
    return judged(
        "selftest/uniform",
        name,
        ok=found.p >= ALPHA,
        figure=f"p = {found.p:.2g} for the worst feature, {found.feature}",
        limit=f"p >= {ALPHA:g}, against simulated normal baselines",
        outside=f"Anderson-Darling statistic {found.statistic:.3g}",
        detail="each stored seed was judged by the others: p-values are uniform if seeds are normal and limits right",
        advice=f"look at the seeds: rectest baseline show {name}",
    )


def _of_clean(name: str, tally: Tally) -> list[CheckResult]:
    """Alarms of either kind, rises by themselves, and what a clean gate costs."""
    both, rises = binomial_limit(tally.num, ALPHA_DROP + ALPHA_RISE), binomial_limit(tally.num, ALPHA_RISE)
    room = z_limit() * float(np.std(tally.runs)) / math.sqrt(tally.num)
    return [
        judged(
            "selftest/false_alarms",
            name,
            ok=tally.alarms < both and tally.rises < rises,
            figure=f"{tally.drops} drops and {tally.rises} rises in {tally.num} clean gates",
            limit=f"below {both} alarms, below {rises} rises among them: declared {percent(ALPHA_DROP + ALPHA_RISE)}",
            detail="nothing changed, and the gate may be red no more often than it declares",
        ),
        judged(
            "selftest/runs",
            name,
            ok=tally.mean_runs <= MOST_MEAN_RUNS + room,
            figure=f"{tally.mean_runs:.2f} runs per clean gate",
            limit=f"<= {MOST_MEAN_RUNS:g}",
        ),
    ]


def _of_splits(name: str, tally: Tally) -> CheckResult:
    limit = max(2, math.ceil(MOST_SPLIT_ALARMS * tally.num))
    return judged(
        "selftest/splits",
        name,
        ok=tally.alarms < limit,
        figure=f"{tally.alarms} alarms in {tally.num} divisions of the recorded runs into stored and new ones",
        limit=f"below {limit}: {percent(MOST_SPLIT_ALARMS)}, and one in any case",
        detail="no distribution is assumed: some recorded seeds are so unlike the others that a gate on them is red",
        advice=f"look at the seeds: rectest baseline show {name}",
    )


def _of_bad_run(name: str, tally: Tally) -> CheckResult:
    limit = binomial_limit(tally.num, MOST_BAD_RUN_ALARMS)
    return judged(
        "selftest/bad_run",
        name,
        ok=tally.alarms < limit,
        figure=f"{tally.alarms} alarms in {tally.num} gates whose first run is bad and whose others are clean",
        limit=f"below {limit}: {percent(MOST_BAD_RUN_ALARMS)} and what chance adds",
        detail="one bad seed is no regression; the witness rule sees to that",
    )


def _of_detection(name: str, found: Detection) -> CheckResult:
    missed, limit = found.tally.num - found.tally.drops, binomial_limit(found.tally.num, BETA)
    return judged(
        f"selftest/detection/{found.feature}",
        name,
        ok=missed < limit,
        figure=f"{percent(found.tally.drops / found.tally.num)} of {found.tally.num} gates see a change for the worse "
        f"of {100 * found.drop:.2g} %",
        limit=f"below {limit} misses: declared {percent(1 - BETA)} caught, and what chance takes",
        detail=f"{found.tally.mean_runs:.2f} runs per gate",
    )


def _of_early(name: str, tallies: Sequence[Tally]) -> CheckResult:
    early, num = sum(tally.early for tally in tallies), sum(tally.num for tally in tallies)
    return judged(
        "selftest/one_run",
        name,
        ok=early == 0,
        figure=f"{early} alarms after a single run in {num} gates",
        limit="none: a single run may be a bad seed",
    )


def _too_few(name: str, part: str) -> CheckResult:
    system, _, world = name.partition("@")
    target = f"{system} --world {world}" if world else system
    return CheckResult(
        check=f"selftest/{part}",
        subject=name,
        verdict=Verdict.UNCALIBRATED,
        figure="the baseline has too few seeds for this part",
        advice=f"record 16: rectest baseline record {target} --seeds 16 --reason TEXT",
    )
