"""Other people's acceptance rules beside ours, on the very same runs: false alarms, what is caught, what it costs.

A candidate is clean, or all its metrics are worse by one share. Every red counts, in whichever direction. Ours is the
unpaired level alone, as if every random number were drawn anew: code that keeps the random numbers is decided by
cheaper levels. Its noise is that of the system itself, nothing is pooled over systems. What each rule does is measured
here; which one is right is for the reader of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.features import WINDOWS, higher_is_better, window
from rectest.baseline.looks import rule_for
from rectest.baseline.sequential import decide
from rectest.baseline.trials import Trial
from rectest.checks.fluctuation import PHASE_BANDS

__all__ = [
    "DECLARED",
    "DROPS",
    "OURS",
    "RULES",
    "AcceptanceRule",
    "Judgement",
    "Rate",
    "Score",
    "pooled",
    "score",
]

Array: TypeAlias = NDArray[np.float64]

DROPS = (0.05, 0.10, 0.20)
"""Shares by which a candidate's metrics are made worse, besides the declared drop."""

DECLARED = "declared"
"""Name of the drop that our gate promises to catch."""

WELCH_ALPHA = 1e-3
WELCH_RUNS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a rule says about each replicate."""

    red: NDArray[np.bool_]
    runs: NDArray[np.int64]
    """Trainings of the candidate that it took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceRule:
    """A way to say yes or no to a change."""

    name: str
    about: str
    judge: Callable[[Trial], Judgement | None]
    """None where the trial lacks what the rule looks at."""


def _sequential(trial: Trial) -> Judgement:
    """`decide` as the gate calls it: one run after the other until something is decided."""
    rule = rule_for(trial.features)
    signs = np.array([1 if higher_is_better(name) else -1 for name in trial.features])
    stored, new = signs * np.log(trial.stored), signs * np.log(trial.new)
    red, runs = np.zeros(len(new), bool), np.zeros(len(new), np.int64)
    for place, (known, fresh) in enumerate(zip(stored, new, strict=True)):
        for num in range(1, rule.max_runs + 1):
            state = decide(known, fresh[:num], rule, floors=trial.floors).state
            if state != "UNDECIDED":
                break
        red[place], runs[place] = state != "PASS", num
    return Judgement(red=red, runs=runs)


def _bands(trial: Trial, *, widths: Mapping[str, float]) -> Judgement | None:
    """Each evaluation within a share of the baseline's mean, by third of the curve; final values as late ones."""
    if not trial.new_curves:
        return None
    red = _outside(trial.stored[..., trial.finals], trial.new[..., trial.finals], widths["late"])
    for name, new in trial.new_curves.items():
        stored = trial.stored_curves[name]
        for part in WINDOWS:
            third = window(part, new.shape[-1])
            red |= _outside(stored[..., third], new[..., third], widths[part])
    return _one_run(red)


def _outside(stored: Array, new: Array, width: float) -> NDArray[np.bool_]:
    """Whether anything of the first run is further than a share `width` from the mean."""
    mean = stored.mean(axis=1)
    found: NDArray[np.bool_] = (np.abs(new[:, 0] - mean) > width * np.abs(mean)).any(axis=-1)
    return found


def _sigmas(trial: Trial, *, num: float = 3.0, tries: int = 1) -> Judgement:
    """Each feature within `num` sds of the baseline's mean; a red run is trained again, up to `tries` in all."""
    mean, sd = trial.stored.mean(axis=1, keepdims=True), trial.stored.std(axis=1, ddof=1, keepdims=True)
    red = (np.abs(trial.new[:, :tries] - mean) > num * sd).any(axis=-1)
    until_green = np.where(red.all(axis=1), tries, np.argmin(red, axis=1) + 1)
    return Judgement(red=red.all(axis=1), runs=until_green)


def _percent(trial: Trial, *, share: float) -> Judgement | None:
    """No final value more than `share` worse than the baseline's mean."""
    if not trial.finals:
        return None
    signs = np.array([1 if higher_is_better(trial.features[place]) else -1 for place in trial.finals])
    mean = trial.stored[..., trial.finals].mean(axis=1)
    return _one_run((signs * (trial.new[:, 0, trial.finals] / mean - 1) < -share).any(axis=-1))


def _constant(trial: Trial, *, tolerance: float) -> Judgement | None:
    """Every final value within a constant of the baseline's mean."""
    if not trial.finals:
        return None
    mean = trial.stored[..., trial.finals].mean(axis=1)
    return _one_run((np.abs(trial.new[:, 0, trial.finals] - mean) > tolerance).any(axis=-1))


def _welch(trial: Trial, *, alpha: float = WELCH_ALPHA, num_new: int = WELCH_RUNS) -> Judgement:
    """Welch's t-test of each feature, two-sided, its level shared among the features."""
    from scipy.special import stdtr

    stored, new = trial.stored, trial.new[:, :num_new]
    parts = stored.var(axis=1, ddof=1) / stored.shape[1], new.var(axis=1, ddof=1) / num_new
    error = np.sqrt(parts[0] + parts[1])
    apart = np.abs(new.mean(axis=1) - stored.mean(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(apart > 0, apart / error, 0.0)
        df = error**4 / (parts[0] ** 2 / (stored.shape[1] - 1) + parts[1] ** 2 / (num_new - 1))
    p = 2 * stdtr(np.where(error > 0, df, 1.0), -t)
    red = (p < alpha / len(trial.features)).any(axis=-1)
    return Judgement(red=red, runs=np.full(len(red), num_new))


def _one_run(red: NDArray[np.bool_]) -> Judgement:
    return Judgement(red=red, runs=np.ones(len(red), np.int64))


def _widths(*, problem: bool) -> dict[str, float]:
    return {band.name: band.problem if problem else band.normal[1] for band in PHASE_BANDS}


OURS = AcceptanceRule(name="this gate", about="1 to 5 runs, each asked for only while in doubt", judge=_sequential)

RULES: tuple[AcceptanceRule, ...] = (
    OURS,
    AcceptanceRule(
        name="report 000 normal",
        about="evaluations and final values within ±30, 10, 5 % (early, mid, late third), one run",
        judge=partial(_bands, widths=_widths(problem=False)),
    ),
    AcceptanceRule(
        name="report 000 problem",
        about="the same within ±50, 20, 10 %",
        judge=partial(_bands, widths=_widths(problem=True)),
    ),
    AcceptanceRule(name="3 sigma", about="each feature of this gate within mean ± 3 sd, one run", judge=_sigmas),
    AcceptanceRule(name="3 sigma, 3 tries", about="the same, run again until green", judge=partial(_sigmas, tries=3)),
    AcceptanceRule(
        name="5 % below mean",
        about="final values at least 0.95 of the mean, one run",
        judge=partial(_percent, share=0.05),
    ),
    AcceptanceRule(
        name="abs=0.05", about="final values within 0.05 of the mean, one run", judge=partial(_constant, tolerance=0.05)
    ),
    AcceptanceRule(
        name="Welch t, 3 runs", about="each feature of this gate, level 0.001 shared among them", judge=_welch
    ),
)
"""Ours, then those that people use. Report 000 counts evaluations of long trainings; ours are short, so that its three
parts of a curve are taken as thirds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How many of a number of replicates were red."""

    hits: int
    num: int

    @property
    def share(self) -> float:
        """Hits of all."""
        return self.hits / self.num

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Exact binomial interval (Clopper and Pearson, 1934).

        >>> low, high = Rate(hits=0, num=100).interval()
        >>> low, round(high, 4)
        (0.0, 0.0362)
        """
        from scipy.special import betaincinv

        tail, misses = (1 - confidence) / 2, self.num - self.hits
        low = float(betaincinv(self.hits, misses + 1, tail)) if self.hits else 0.0
        high = float(betaincinv(self.hits + 1, misses, 1 - tail)) if misses else 1.0
        return low, high


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One rule on one system, or on several together."""

    name: str
    """Of the system."""

    rule: str
    runs: float
    """Mean number of trainings for a clean candidate."""

    false_alarms: Rate
    caught: Mapping[str, Rate]
    """By drop."""


def score(
    trial: Trial,
    drops: Mapping[str, float],
    *,
    num_detections: int | None = None,
    rules: Sequence[AcceptanceRule] = RULES,
) -> list[Score]:
    """Hold every rule against the same replicates, clean and made worse; rules that cannot look are left out.

    Args:
        drops: Name to share.
        num_detections: Replicates for what is caught, all by default: it is nearer to one half than a false alarm is
            to zero, and needs fewer.
    """
    damaged = {name: trial.first(num_detections or len(trial.new)).worse(share) for name, share in drops.items()}
    found = []
    for rule in rules:
        clean = rule.judge(trial)
        if clean is None:
            continue
        reds = {name: judged.red for name, worse in damaged.items() if (judged := rule.judge(worse)) is not None}
        found.append(
            Score(
                name=trial.name,
                rule=rule.name,
                runs=float(clean.runs.mean()),
                false_alarms=_rate(clean.red),
                caught={name: _rate(red) for name, red in reds.items()},
            )
        )
    return found


def _rate(red: NDArray[np.bool_]) -> Rate:
    return Rate(hits=int(red.sum()), num=len(red))


def pooled(scores: Sequence[Score], name: str) -> list[Score]:
    """The scores of each rule over all systems that it could look at, under one name."""
    found = []
    for rule in dict.fromkeys(each.rule for each in scores):
        group = [each for each in scores if each.rule == rule]
        found.append(
            Score(
                name=name,
                rule=rule,
                runs=float(np.average([each.runs for each in group], weights=[e.false_alarms.num for e in group])),
                false_alarms=_sum([each.false_alarms for each in group]),
                caught={drop: _sum([each.caught[drop] for each in group]) for drop in group[0].caught},
            )
        )
    return found


def _sum(rates: Sequence[Rate]) -> Rate:
    return Rate(hits=sum(rate.hits for rate in rates), num=sum(rate.num for rate in rates))
