"""Effects: a setting that is on must change what it governs, by as much as it promises.

A flag that is read, logged and then without effect looks like a feature that does not help: report 002's popular
negatives were ``int(1 * 0.3) = 0`` of one draw, its popularity was the item id, and its index did not serve the score
that was trained. So the system says in ``facts["inputs"]`` what must be seen, computed from the settings and the data
alone, and this file holds what was seen against it. What to promise is the system's business, not owned here:

- ``expected_scalars``: name to the mean that the curve ``counter/<name>`` must have over the whole run. Either each
  step is an independent draw around its promise (sampled negatives), or the curve is constant.
- ``invariants``: name to ``[obtained, expected]``, plain values of the prepared data that must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, judged, not_measured, percent
from rectest.checks.tolerance import ALPHA, z_limit
from rectest.record import RunRecord

__all__ = ["MIN_STEPS", "ROUNDED", "curve_error", "effects", "t_limit"]

Curve = npt.NDArray[np.float64]

MIN_STEPS = 10
"""Fewer steps give no standard error to speak of (six degrees of freedom, see `curve_error`)."""

ROUNDED = 1e-9
"""Relative floor of the limit, for curves that do not vary: both sides are float64 means, and `mean_slack` of a
million terms is 5e-10."""


def effects(record: RunRecord, *, alpha: float = ALPHA) -> list[CheckResult]:
    """Whether every promised mean and every invariant of the prepared data was kept, one result ``effect/<name>`` each.

    A system that promises nothing gives an empty list: unlike a missing array, that says nothing against a run, so a
    gate asks this only of systems that do. A promise whose curve is missing is NOT MEASURED.

    Args:
        alpha: false-alarm rate of all means of one run together.
    """
    inputs = record.facts.get("inputs") or {}
    promised: Mapping[str, Any] = inputs.get("expected_scalars") or {}
    invariants: Mapping[str, Any] = inputs.get("invariants") or {}
    z = z_limit(alpha, num_tests=max(1, len(promised)), sides=2)
    means = [_mean(record, name, float(value), z=z) for name, value in sorted(promised.items())]
    return means + [_equal(record.spec.system, name, pair) for name, pair in sorted(invariants.items())]


def curve_error(curve: Curve) -> tuple[float, float]:
    """Standard error of a curve's mean and its degrees of freedom, for T steps that are drawn independently.

    The variance is half the mean squared difference of successive steps (von Neumann, 1941), so that a mean that
    changes in phases, as in a curriculum, is not taken for noise. For normal steps that estimate varies by
    (3T - 4) / (T - 1)^2, which is what 2 (T - 1)^2 / (3T - 4) degrees of freedom have.

    >>> error, freedom = curve_error(np.array([0.0, 1.0] * 50))
    >>> round(error, 4), round(freedom, 1)
    (0.0707, 66.2)
    """
    num = curve.size
    variance = float((np.diff(curve) ** 2).mean()) / 2
    return math.sqrt(variance / num), 2 * (num - 1) ** 2 / (3 * num - 4)


def t_limit(z: float, freedom: float) -> float:
    """The quantile of Student's t at the level at which the normal one is `z`, by Fisher's expansion to third order.

    It is within 2 % of the exact quantile for 6 degrees of freedom and z up to 3.3, and closer for more.

    >>> round(t_limit(1.96, 30), 3)
    2.042
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _mean(record: RunRecord, name: str, promised: float, *, z: float) -> CheckResult:
    check, subject = f"effect/{name}", record.spec.system
    curve = np.asarray(record.arrays.get(f"counter/{name}", ()), dtype=np.float64)
    if problem := _unusable(record, curve, promised):
        return not_measured(check, subject, problem, advice="return it from System.scalars at every step")
    mean = float(curve.mean())
    error, freedom = curve_error(curve)
    floor = ROUNDED * max(abs(promised), float(np.abs(curve).max()))
    allowed = max(t_limit(z, freedom) * error, floor) if math.isfinite(error) else math.inf
    apart = mean - promised
    ok = math.isfinite(allowed) and abs(apart) <= allowed
    return judged(
        check,
        subject,
        ok=ok,
        figure=f"{mean:.6g} on average over {curve.size} steps",
        expected=f"{promised:.6g}, by the settings and the data alone",
        limit=f"{promised:.6g} +- {allowed:.3g}",
        worst="" if ok else f"{curve.min():.6g} to {curve.max():.6g}",
        outside="" if ok else _how_far(apart, error),
        detail=f"a deviation of {_relative(allowed, promised)} would be seen"
        if ok
        else "the setting is not doing what it says, whatever its flag says",
        advice="follow the setting to the line that uses it; a share of few draws must be drawn, not rounded",
    )


def _unusable(record: RunRecord, curve: Curve, promised: float) -> str:
    if curve.size < MIN_STEPS:
        return f"{curve.size} recorded steps, at least {MIN_STEPS} are needed"
    if not math.isfinite(promised):
        return f"the promise itself is {promised}"
    planned = (record.facts.get("settings") or {}).get("steps")
    if planned is not None and planned != curve.size:
        return f"the promise is for {planned} steps, the run has {curve.size}"
    return ""


def _how_far(apart: float, error: float) -> str:
    if not math.isfinite(apart):
        return "the curve is not finite"
    return f"{apart:+.3g}" + (f", {abs(apart) / error:.3g} standard errors" if error > 0 else "")


def _relative(allowed: float, promised: float) -> str:
    return percent(allowed / abs(promised)) if promised else f"{allowed:.3g}"


def _equal(subject: str, name: str, pair: Any) -> CheckResult:
    check = f"effect/{name}"
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return not_measured(check, subject, f"an invariant is [obtained, expected], got {pair!r}")
    obtained, expected = pair
    ok = bool(obtained == expected)
    return judged(
        check,
        subject,
        ok=ok,
        figure=f"{obtained}",
        expected=f"{expected}",
        limit="equal",
        detail="" if ok else "the prepared data is not what the rest of the system assumes",
        advice="look at how it is prepared; nothing later can make up for it",
    )
