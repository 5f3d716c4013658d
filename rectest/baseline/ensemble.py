"""The stored distribution of a feature: its centre, the least noise to believe of it, and both in words.

Everything is on logarithms, where run-to-run noise is near normal, and in the direction in which down is worse; people
read percent. Verdicts are for `looks`; which records may be compared at all is decided in `judge`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.features import higher_is_better, raw_feature, split_of
from rectest.baseline.limits import sd_floor
from rectest.baseline.schema import Baseline
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = [
    "centre",
    "feature_floor",
    "percent",
    "relative_change",
    "result_of",
    "signed_logs",
    "stored_text",
    "unusable",
    "worst_run",
]


def signed_logs(name: str, values: Sequence[float]) -> NDArray[np.float64]:
    """Logarithms of a feature's values, in the direction in which down is worse."""
    return (1 if higher_is_better(name) else -1) * np.log(np.asarray(values, np.float64))


def relative_change(name: str, shift: float) -> float:
    """A shift of signed logarithms as the relative change of the feature."""
    return math.expm1(shift if higher_is_better(name) else -shift)


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
    """The smallest run-to-run sd that may be believed of a stored feature: rounding, one hit, the noise of users.

    Independent errors of users alone make runs differ this much (Jordan 2023, arXiv 2304.01910); a smaller sd over a
    few seeds is luck.
    """
    ensemble, split = baseline.ensemble, split_of(name)
    num_scored = None if split is None else ensemble.num_scored.get(split)
    of_users = math.sqrt(ensemble.user_variance.get(name, 0.0))
    return max(sd_floor(centre(ensemble.features[name]), num_scored=num_scored), of_users)


def stored_text(name: str, baseline: Baseline) -> str:
    """The stored values of a feature in words."""
    values = np.asarray(baseline.ensemble.features[name])
    return f"{values.mean():.6g} ± {values.std(ddof=1):.2g} (sd of {len(values)} seeds)"


def worst_run(name: str, values: Sequence[float], records: Sequence[RunRecord]) -> tuple[int, float]:
    """Seed and value of the run that is worst."""
    pick = min if higher_is_better(name) else max
    index = pick(range(len(values)), key=lambda i: values[i])
    return records[index].spec.seed, values[index]


def centre(values: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(float(np.log(np.asarray(values, np.float64)).mean()))


def percent(change: float) -> str:
    """A relative change for people."""
    return f"{100 * change:+.3g} %"


def result_of(name: str, baseline: Baseline, verdict: Verdict, figure: str, **rest: str) -> CheckResult:
    """What the gate says about one feature."""
    return CheckResult(check=f"baseline/{name}", subject=baseline.name, verdict=verdict, figure=figure, **rest)
