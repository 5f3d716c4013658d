"""The gate's test of itself: whether, on the noise of one stored baseline, it keeps both of its declared numbers.

Runs are drawn by `resample` and judged by the judge that real runs meet, looks and all. What must come out:

    uniform     each stored seed against the others: p-values as uniform as those of normal seeds are
    clean       nothing changed: no more alarms than the false-alarm rate explains, and little more than one run
    splits      the recorded runs themselves, divided anew into stored and new ones
    one bad run the first of the new runs lost far more than noise explains: one seed is no regression
    detection   the promised change for the worse of one feature: caught nine times in ten

A judge may be given, so that broken ones can show that each of these can turn red. Nothing is trained here, and what
trained faults come to is for the command.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.ensemble import feature_floor, signed_logs
from rectest.baseline.features import higher_is_better
from rectest.baseline.judge import judge_sequential
from rectest.baseline.looks import MAX_RUNS, LookOutcome, promised_drop
from rectest.baseline.power import MIN_STORED
from rectest.baseline.resample import Runs, drawn, runs_of, stored_logs
from rectest.baseline.schema import Baseline
from rectest.baseline.selftest_results import Detection, SelfTest, Tally, Uniformity
from rectest.record import RunRecord

__all__ = ["BAD_RUN", "NUM_NULL", "Judge", "main_features", "self_test"]

Array: TypeAlias = NDArray[np.float64]
Judge: TypeAlias = Callable[[Sequence[RunRecord], Baseline], LookOutcome]
Pair: TypeAlias = tuple[Array, Array]

BAD_RUN = 10.0
"""How many run-to-run sds a bad run is off, in every feature."""

NUM_NULL = 2000
"""Simulated baselines that a statistic of the p-values is compared with."""


def self_test(
    baseline: Baseline,
    *,
    num_resamples: int = 2000,
    num_detections: int | None = None,
    features: Iterable[str] | None = None,
    judge: Judge = judge_sequential,
    seed: int = 0,
) -> SelfTest:
    """Test the gate on the noise of one baseline.

    Args:
        num_resamples: Clean gates; a tenth as many divisions of the recorded runs, and gates with one bad run.
        num_detections: Gates for each planted change, a tenth of `num_resamples` by default.
        features: Where changes are planted; by default `main_features`.
        judge: What is tested, by default the judge of the gate.
        seed: Of the draws.

    Raises:
        ValueError: fewer than 20 resamples or detections, or a feature that the baseline does not have.
    """
    few = max(20, num_resamples // 10)
    many = few if num_detections is None else num_detections
    if num_resamples < 20 or many < 20:
        msg = f"fewer than 20 gates show nothing, got num_resamples={num_resamples} and num_detections={many}"
        raise ValueError(msg)
    wanted = tuple(main_features(baseline) if features is None else features)
    unknown = [name for name in wanted if name not in baseline.ensemble.features]
    if unknown:
        msg = f"the baseline of {baseline.name} has no {unknown[0]!r}; it has {', '.join(baseline.ensemble.features)}"
        raise ValueError(msg)
    bench = _Bench(baseline=baseline, judge=judge, seed=seed, runs=runs_of(baseline, max_runs=MAX_RUNS))
    return SelfTest(
        name=baseline.name,
        uniform=bench.uniformity(),
        clean=bench.tally(bench.resampled("clean", num_resamples)),
        splits=bench.divided(few),
        bad_run=bench.tally(bench.resampled("bad run", few, run=bench.bad_run())),
        detection=tuple(bench.detection(name, many) for name in wanted),
    )


def main_features(baseline: Baseline) -> list[str]:
    """The features that people gate on: every test measure, and the late window of the loss."""
    return [name for name in baseline.ensemble.features if name.startswith("test/") or name == "loss/late"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """One baseline, one judge, and the draws between them."""

    baseline: Baseline
    judge: Judge
    seed: int
    runs: Runs

    def rng(self, part: str) -> np.random.Generator:
        """A stream of its own for each part of the test."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.baseline.name}/{part}".encode())])

    def resampled(self, part: str, num: int, *, run: Array | float = 0.0, every: Array | float = 0.0) -> Iterable[Pair]:
        """Drawn baselines and runs; `run` is added to the logs of the first new run, `every` to those of each."""
        logs, rng = stored_logs(self.baseline), self.rng(part)
        for _ in range(num):
            found = drawn(logs, rng, len(logs) + MAX_RUNS)
            new = found[len(logs) :] + every
            new[0] += run
            yield found[: len(logs)], new

    def divided(self, num: int) -> Tally | None:
        """The recorded runs, divided anew."""
        logs, rng = stored_logs(self.baseline), self.rng("splits")
        if len(logs) - MAX_RUNS < MIN_STORED:
            return None
        orders = (rng.permutation(len(logs)) for _ in range(num))
        return self.tally((logs[order[MAX_RUNS:]], logs[order[:MAX_RUNS]]) for order in orders)

    def detection(self, name: str, num: int) -> Detection:
        """The promised change in one feature, in every new run."""
        drop = promised_drop(self.baseline, name)
        every = np.zeros(len(self.runs.names))
        every[self.runs.names.index(name)] = math.log1p(-drop if higher_is_better(name) else drop)
        return Detection(feature=name, drop=drop, tally=self.tally(self.resampled(name, num, every=every)))

    def bad_run(self) -> Array:
        """What a bad run is off, by feature."""
        signs = np.array([1.0 if higher_is_better(name) else -1.0 for name in self.runs.names])
        found: Array = -BAD_RUN * signs * stored_logs(self.baseline).std(axis=0, ddof=1)
        return found

    def tally(self, pairs: Iterable[Pair]) -> Tally:
        """Judge stored and new runs as the gate does: one run at a time, until something is decided."""
        ends = [self._gate(stored, new) for stored, new in pairs]
        states = [state for state, _ in ends]
        return Tally(
            num=len(ends),
            drops=states.count("FAIL"),
            rises=states.count("SUSPICIOUS"),
            early=sum(state in ("FAIL", "SUSPICIOUS") and runs == 1 for state, runs in ends),
            runs=tuple(runs for _, runs in ends),
        )

    def _gate(self, stored: Array, new: Array) -> tuple[str, int]:
        baseline, records = self.runs.stored(stored), self.runs.new(new)
        for num in range(1, len(records) + 1):
            outcome = self.judge(records[:num], baseline)
            if not outcome.undecided:
                break
        return (str(outcome.decision.state) if outcome.decision else "FAIL"), num

    def uniformity(self) -> Uniformity | None:
        """Each stored seed against the others, through the judge."""
        logs = stored_logs(self.baseline)
        if len(logs) - 1 < MIN_STORED:
            return None
        rows = []
        for place in range(len(logs)):
            stored = self.runs.stored(np.delete(logs, place, axis=0))
            decision = self.judge(self.runs.new(logs[place : place + 1]), stored).decision
            rows.append([0.5] * logs.shape[1] if decision is None else [look.p for look in decision.drops])
        found = _anderson_darling(np.array(rows)[None])[0]
        null = _null_statistics(self.baseline, self.rng("uniform"))
        worst = int(found.argmax())
        p = (1 + int((null >= found[worst]).sum())) / (1 + len(null))
        return Uniformity(feature=self.runs.names[worst], statistic=float(found[worst]), p=p)


def _null_statistics(baseline: Baseline, rng: np.random.Generator) -> Array:
    """[NUM_NULL] largest statistic over features when seeds are normal, with the recorded covariance and floors.

    Leave-one-out p-values of one baseline are neither independent (their t values nearly sum to zero) nor is one
    feature independent of another, so that no textbook limit holds; a simulated one does.
    """
    from scipy.special import stdtr

    names = list(baseline.ensemble.features)
    logs = np.stack([signed_logs(name, baseline.ensemble.features[name]) for name in names], axis=1)
    floors = np.array([feature_floor(name, baseline) for name in names])
    num = len(logs)
    apart = (logs - logs.mean(axis=0)) / math.sqrt(num - 1)
    runs = rng.standard_normal((NUM_NULL, num, num)) @ apart
    middle, variance = runs.mean(axis=1, keepdims=True), runs.var(axis=1, ddof=1, keepdims=True)
    off = runs - middle
    others = (num - 1) * variance - num / (num - 1) * off**2
    sd = np.maximum(np.sqrt(np.maximum(others, 0.0) / (num - 2)), floors)
    t = num / (num - 1) * off / (sd * math.sqrt(1 + 1 / (num - 1)))
    largest: Array = _anderson_darling(stdtr(num - 2, t)).max(axis=1)
    return largest


def _anderson_darling(p: Array) -> Array:
    """[R, F] the statistic of [R, n, F] p-values against uniform ones."""
    ordered = np.clip(np.sort(p, axis=1), 1e-300, 1 - 1e-16)
    num = p.shape[1]
    odd = (2 * np.arange(1, num + 1) - 1)[:, None]
    found: Array = -num - (odd * (np.log(ordered) + np.log1p(-ordered[:, ::-1]))).sum(axis=1) / num
    return found
