"""One feature of some new runs against its stored values: the prediction limit, the verdict and the words.

Everything happens on logarithms, where run-to-run noise is near normal, and in the direction in which down is worse;
people read percent. Which records may be compared at all is decided in `judge`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rectest.baseline.features import higher_is_better, raw_feature, split_of
from rectest.baseline.limits import p_value, sd_floor, standard_error
from rectest.baseline.power import shift_quantile, t_quantile
from rectest.baseline.schema import Baseline
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = [
    "Comparison",
    "centre",
    "compare",
    "detectable_drop",
    "feature_floor",
    "judge_feature",
    "percent",
    "result_of",
    "stored_text",
    "unusable",
    "worst_run",
]

DROP_SHARE = 0.8
"""Share of the false-alarm rate spent on deteriorations; the rest is for suspicious improvements."""

POWER = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """New runs of one feature against the stored ones, in logs and in the direction in which down is worse."""

    shift: float
    """Mean log of the new runs minus that of the stored ones; negative is worse."""

    sd: float
    """Run-to-run sd on the log scale that the limits use."""

    floored: bool
    """Whether `sd` is the floor because the stored values vary less than can be believed."""

    drop_limit: float
    """Largest deterioration that is still noise, a positive number."""

    rise_limit: float
    detectable: float
    """Smallest deterioration that is caught with 90 % probability, a positive number."""

    drop_p: float
    rise_p: float
    drop_alpha: float
    rise_alpha: float


def compare(
    new: Sequence[float], stored: Sequence[float], *, sign: int, num_features: int, alpha: float, floor: float
) -> Comparison:
    """Compare positive values of new runs with those of stored runs; `sign` is -1 where lower is better."""
    fresh, known = sign * np.log(np.asarray(new, np.float64)), sign * np.log(np.asarray(stored, np.float64))
    spread = float(known.std(ddof=1))
    sd, df = max(spread, floor), len(known) - 1
    error = standard_error(sd, num_stored=len(known), num_new=len(fresh))
    shift = float(fresh.mean() - known.mean())
    drop_alpha = DROP_SHARE * alpha / num_features
    rise_alpha = (1 - DROP_SHARE) * alpha / num_features
    return Comparison(
        shift=shift,
        sd=sd,
        floored=spread < floor,
        drop_limit=error * t_quantile(drop_alpha, df),
        rise_limit=error * t_quantile(rise_alpha, df),
        detectable=error * shift_quantile(drop_alpha, df, 1 - POWER),
        drop_p=p_value(-shift / error, df),
        rise_p=p_value(shift / error, df),
        drop_alpha=drop_alpha,
        rise_alpha=rise_alpha,
    )


def detectable_drop(baseline: Baseline, name: str, *, num_new: int, alpha: float = 1e-3) -> float:
    """Smallest relative deterioration of a feature that `num_new` runs would show with 90 % probability."""
    stored = baseline.ensemble.features[name]
    found = _compare(name, [centre(stored)] * num_new, baseline, alpha=alpha)
    return _worse(name, found.detectable)


def judge_feature(
    name: str, records: Sequence[RunRecord], baseline: Baseline, *, alpha: float, advice: str
) -> CheckResult:
    """The verdict on one stored feature; a value that is missing, not finite or not above zero is red."""
    broken = unusable(name, records, baseline, advice=advice)
    if broken is not None:
        return broken
    values = [raw_feature(record, name) for record in records]
    found = _compare(name, values, baseline, alpha=alpha)
    return _verdict(name, values, records, baseline, found, alpha=alpha, advice=advice)


def unusable(name: str, records: Sequence[RunRecord], baseline: Baseline, *, advice: str) -> CheckResult | None:
    """Why a feature of these runs cannot be compared, or None."""
    try:
        values = [raw_feature(record, name) for record in records]
    except RecordError as e:
        figure, detail = f"{name} is not in the record", f"{e}; a metric that vanished is not green"
        return result_of(name, baseline, Verdict.NOT_MEASURED, figure, detail=detail, advice=advice)
    dead = [place for place, value in enumerate(values) if not (math.isfinite(value) and value > 0)]
    if not dead:
        return None
    figure = f"{name} is {values[dead[0]]!r} (seed {records[dead[0]].spec.seed})"
    detail = "the model diverged, scores nobody, or never hits: needed a finite number above zero"
    return result_of(name, baseline, Verdict.FAIL, figure, expected=stored_text(name, baseline), detail=detail)


def feature_floor(name: str, baseline: Baseline) -> float:
    """The smallest run-to-run sd that may be believed of a stored feature."""
    ensemble, split = baseline.ensemble, split_of(name)
    num_scored = None if split is None else ensemble.num_scored.get(split)
    return sd_floor(centre(ensemble.features[name]), num_scored=num_scored)


def _compare(name: str, values: Sequence[float], baseline: Baseline, *, alpha: float) -> Comparison:
    features = baseline.ensemble.features
    sign, floor = 1 if higher_is_better(name) else -1, feature_floor(name, baseline)
    return compare(values, features[name], sign=sign, num_features=len(features), alpha=alpha, floor=floor)


def _verdict(
    name: str,
    values: Sequence[float],
    records: Sequence[RunRecord],
    baseline: Baseline,
    found: Comparison,
    *,
    alpha: float,
    advice: str,
) -> CheckResult:
    middle = centre(baseline.ensemble.features[name])
    runs = f"{len(values)} run{'s' if len(values) != 1 else ''}"
    figure = f"{percent(centre(values) / middle - 1)} over {runs} ({centre(values):.6g})"
    shared = {"expected": stored_text(name, baseline), "limit": _limits(name, middle, found)}
    if found.shift < -found.drop_limit:
        seed, value = worst_run(name, values, records)
        shared |= {
            "worst": f"seed {seed}: {value:.6g} ({percent(value / middle - 1)})",
            "outside": f"p = {found.drop_p:.1g}, alarm below {found.drop_alpha:.1g}",
            "detail": f"worse than seed noise allows: run-to-run sd is {100 * found.sd:.2g} % over "
            f"{len(baseline.ensemble.seeds)} stored seeds",
            "advice": advice,
        }
        return result_of(name, baseline, Verdict.FAIL, figure, **shared)
    if found.shift > found.rise_limit:
        shared |= {
            "outside": f"p = {found.rise_p:.1g}, alarm below {found.rise_alpha:.1g}",
            "detail": "suspiciously better: leak or changed evaluation?",
            "advice": advice,
        }
        return result_of(name, baseline, Verdict.FAIL, figure, **shared)
    floored = "; the stored runs vary less than rounding, so the limit uses a floor" if found.floored else ""
    detail = (
        f"a change for the worse of {100 * _worse(name, found.detectable):.2g} % would be caught with "
        f"{POWER:.0%} probability, at a false-alarm rate of {alpha:.2g}{floored}"
    )
    return result_of(name, baseline, Verdict.PASS, figure, **shared, detail=detail)


def _limits(name: str, middle: float, found: Comparison) -> str:
    """Both limits in percent and in the feature's own unit, the one for the worse first."""
    sign = 1 if higher_is_better(name) else -1
    worse, better = math.exp(-sign * found.drop_limit), math.exp(sign * found.rise_limit)
    low, high = (">=", "<=") if sign > 0 else ("<=", ">=")
    return (
        f"{low} {percent(worse - 1)} ({middle * worse:.6g}), and {high} {percent(better - 1)} ({middle * better:.6g})"
    )


def stored_text(name: str, baseline: Baseline) -> str:
    """The stored values of a feature in words."""
    values = np.asarray(baseline.ensemble.features[name])
    return f"{values.mean():.6g} ± {values.std(ddof=1):.2g} (sd of {len(values)} seeds)"


def worst_run(name: str, values: Sequence[float], records: Sequence[RunRecord]) -> tuple[int, float]:
    """Seed and value of the run that is worst."""
    pick = min if higher_is_better(name) else max
    index = pick(range(len(values)), key=lambda i: values[i])
    return records[index].spec.seed, values[index]


def _worse(name: str, logs: float) -> float:
    """A deterioration in logs as the relative change of the feature, a positive number."""
    return -math.expm1(-logs) if higher_is_better(name) else math.expm1(logs)


def centre(values: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(float(np.log(np.asarray(values, np.float64)).mean()))


def percent(change: float) -> str:
    """A relative change for people."""
    return f"{100 * change:+.3g} %"


def result_of(name: str, baseline: Baseline, verdict: Verdict, figure: str, **rest: str) -> CheckResult:
    """What the gate says about one feature."""
    return CheckResult(check=f"baseline/{name}", subject=baseline.name, verdict=verdict, figure=figure, **rest)
