"""The ensemble lane one run at a time: stop with a verdict, or ask for another seed.

`sequential.decide` has the statistics; this file makes logs of records, puts floors under the stored sds and words
around the looks. A change of code that is clean is passed after little more than one run, and nothing is failed on one.
Which records may be compared at all is decided in `judge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rectest.baseline.ensemble import (
    centre,
    feature_floor,
    percent,
    relative_change,
    result_of,
    signed_logs,
    stored_text,
    unusable,
    worst_run,
)
from rectest.baseline.features import higher_is_better, raw_feature, weights
from rectest.baseline.power import mdd_upper
from rectest.baseline.schema import Baseline
from rectest.baseline.sequential import Decision, Look, Rule, decide
from rectest.checks.result import CheckResult, Verdict
from rectest.record import RunRecord

__all__ = [
    "ALPHA_DROP",
    "ALPHA_RISE",
    "BETA",
    "MAX_RUNS",
    "LookOutcome",
    "Noise",
    "caught_drop",
    "judge_looks",
    "promised_drop",
    "rule_for",
]

MAX_RUNS = 5
"""Runs of a candidate after which a gate decides in any case."""

ALPHA_DROP, ALPHA_RISE = 8e-4, 2e-4
"""False-alarm rates of a whole gate, all looks and features together."""

BETA = 0.10
"""Probability of a miss, all looks together."""


_WORSE, _BETTER = "worse than seed noise allows", "suspiciously better: leak or changed evaluation?"


@dataclass(frozen=True, kw_only=True, slots=True)
class LookOutcome:
    """What the runs so far say."""

    undecided: bool
    """Whether another seed is to be trained."""

    results: tuple[CheckResult, ...]
    """One per stored feature; while undecided, what they would be if this were the last run."""

    decision: Decision | None = None
    """The numbers behind the results, features in the order of the baseline; None where a value cannot be judged."""

    rule: Rule | None = None
    """What the decision promises; None without one."""

    noise: Noise | None = None
    """What the sds rest on beside the stored seeds, where there is more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Run-to-run sds that rest on more than the stored seeds of one system; see `pooling`."""

    sd: Mapping[str, float]
    """By feature, log scale; every feature of the baseline."""

    df_extra: Mapping[str, float]
    """Degrees of freedom that other systems lend, by feature; 0 where a feature's own seeds are all there is."""

    num_systems: int
    """Systems that were pooled, this one among them."""


def judge_looks(
    records: Sequence[RunRecord],
    baseline: Baseline,
    *,
    max_runs: int,
    advice: str,
    noise: Noise | None = None,
    alpha_scale: float = 1.0,
) -> LookOutcome:
    """Judge the runs of the first seeds of a candidate, at most `max_runs` of them.

    A value that is missing, not finite or not above zero decides at once, and red.
    """
    names = list(baseline.ensemble.features)
    broken = [found for name in names if (found := unusable(name, records, baseline, advice=advice)) is not None]
    if broken:
        return LookOutcome(undecided=False, results=tuple(broken))
    rule = rule_for(names, max_runs=max_runs, alpha_scale=alpha_scale)
    stored = np.stack([signed_logs(name, baseline.ensemble.features[name]) for name in names], axis=1)
    new = np.stack([signed_logs(name, [raw_feature(record, name) for record in records]) for name in names], axis=1)
    decision = decide(
        stored,
        new,
        rule,
        floors=[feature_floor(name, baseline) for name in names],
        sd=None if noise is None else [noise.sd[name] for name in names],
        df_extra=0.0 if noise is None else [noise.df_extra[name] for name in names],
    )
    results = [
        _result(name, records, baseline, decision.drops[place], decision.rises[place], rule=rule, advice=advice)
        for place, name in enumerate(names)
    ]
    undecided = decision.state == "UNDECIDED"
    return LookOutcome(undecided=undecided, results=tuple(results), decision=decision, rule=rule, noise=noise)


def rule_for(names: Sequence[str], *, max_runs: int = MAX_RUNS, alpha_scale: float = 1.0) -> Rule:
    """What a gate over these features promises.

    No smallest effect: a loss that moves by 1 % may be the only sign of half the learning rate.
    """
    shares = weights(names)
    return Rule(
        weights=tuple(shares[name] for name in names),
        alpha_drop=ALPHA_DROP * alpha_scale,
        alpha_rise=ALPHA_RISE * alpha_scale,
        beta=BETA,
        max_runs=max_runs,
        min_effect=0.0,
    )


def promised_drop(baseline: Baseline, name: str, *, noise: Noise | None = None) -> float:
    """Relative deterioration of a feature that the gate catches with 90 % probability: an 80 % upper limit."""
    sd, num_stored, alpha = _noise(baseline, name, noise)
    found = mdd_upper(
        sd,
        num_stored=num_stored,
        num_new=MAX_RUNS,
        df=num_stored - 1 + (0.0 if noise is None else noise.df_extra[name]),
        alpha=alpha / (MAX_RUNS - 1),
        beta=BETA / MAX_RUNS,
    )
    return _deterioration(name, found)


def caught_drop(name: str, drop: Look) -> float:
    """`promised_drop` of a feature as the look at its drops has it: with the very noise and rates of this gate."""
    return _deterioration(name, drop.mdd)


def _deterioration(name: str, drop: float) -> float:
    """A relative drop in the direction in which down is worse, as a relative change of the feature for the worse."""
    return drop if higher_is_better(name) else drop / (1 - drop)


def _noise(baseline: Baseline, name: str, noise: Noise | None = None) -> tuple[float, int, float]:
    """Run-to-run sd of the logs, stored seeds, and the feature's share of the false-alarm rate."""
    values = signed_logs(name, baseline.ensemble.features[name])
    own = float(values.std(ddof=1)) if noise is None else noise.sd[name]
    sd = max(own, feature_floor(name, baseline))
    return sd, len(values), ALPHA_DROP * weights(baseline.ensemble.features)[name]


def _result(
    name: str,
    records: Sequence[RunRecord],
    baseline: Baseline,
    drop: Look,
    rise: Look,
    *,
    rule: Rule,
    advice: str,
) -> CheckResult:
    values = [raw_feature(record, name) for record in records]
    middle = centre(baseline.ensemble.features[name])
    runs = f"{len(values)} run{'s' if len(values) != 1 else ''}"
    figure = f"{percent(centre(values) / middle - 1)} over {runs} ({centre(values):.6g})"
    shared = {"expected": stored_text(name, baseline), "limit": _limits(name, middle, drop, rise)}
    for look, verdict, why in ((drop, Verdict.FAIL, _WORSE), (rise, Verdict.SUSPICIOUS, _BETTER)):
        if look.alarm:
            seed, value = worst_run(name, values, records)
            shared |= {
                "worst": f"seed {seed}: {value:.6g} ({percent(value / middle - 1)})",
                "outside": f"p = {look.p:.1g}, alarm below {look.level:.1g}",
                "detail": f"{why}: run-to-run sd is {100 * look.sd:.2g} % over {len(baseline.ensemble.seeds)} stored "
                f"seeds; without its most extreme runs it is still {percent(relative_change(name, look.witness))}",
                "advice": advice,
            }
            return result_of(name, baseline, verdict, figure, **shared)
    detail = (
        f"a change for the worse of {100 * caught_drop(name, drop):.2g} % would be caught with "
        f"{100 * (1 - rule.beta):.2g} % probability, at a false-alarm rate of {rule.alpha_drop + rule.alpha_rise:.2g}"
    )
    return result_of(name, baseline, Verdict.PASS, figure, **shared, detail=detail)


def _limits(name: str, middle: float, drop: Look, rise: Look) -> str:
    """Both limits in percent and in the feature's own unit, the one for the worse first."""
    worse, better = relative_change(name, -drop.limit), relative_change(name, rise.limit)
    low, high = (">=", "<=") if higher_is_better(name) else ("<=", ">=")
    return (
        f"{low} {percent(worse)} ({middle * (1 + worse):.6g}), and {high} {percent(better)} "
        f"({middle * (1 + better):.6g})"
    )
