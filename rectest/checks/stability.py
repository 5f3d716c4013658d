"""Stability: what a curve does late in training and from phase to phase, recomputed and held against what is stated.

Report 004 calls its training stable because a metric stays in +-0.5 % with a standard deviation of 0.003. Those are
figures of one curve: they can be recomputed, and even without the curve a range limits a standard deviation. Whether
a model of that stability is usual, only a baseline over seeds can say; nothing here judges it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, judged, not_measured, percent
from rectest.checks.stated import Figure, growth
from rectest.record import RunRecord

__all__ = ["Phase", "growth_per_phase", "spread_fits_range", "stability"]

Floats = npt.NDArray[np.float64]
Curve = Mapping[int, float]
"""Values by step or epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A part of a curve and the growth in it that somebody states."""

    first: int
    last: int
    """Steps or epochs; both must stand on the curve."""

    stated: str = ""
    """Growth in percent as it was written, e.g. ``+151 %``; empty where none is stated."""

    name: str = ""


def stability(
    source: RunRecord | Curve,
    *,
    late_from: int,
    metric: str = "",
    standard_deviation: str = "",
    amplitude: str = "",
    max_amplitude: float | None = None,
    name: str = "curve",
) -> list[CheckResult]:
    """``stability/late``: standard deviation and amplitude (max - min) / 2 / mean from `late_from` on, recomputed.

    Without anything stated and without a limit it fails only on values that are not finite.

    Args:
        source: a record (then `metric` names one of its curves, e.g. ``valid/ndcg@10``), or values by step.
        late_from: first step of the late phase.
        standard_deviation: the stated one, as it was written; over the phase as a population or as a sample.
        amplitude: the stated half range in percent of the mean, e.g. ``0.5 %``.
        max_amplitude: the largest amplitude that passes, as a share.
    """
    subject = f"{source.spec.system} {metric}" if isinstance(source, RunRecord) else name
    curve = _curve_of(source, metric)
    late = np.array([value for step, value in sorted(curve.items()) if step >= late_from], dtype=np.float64)
    if len(late) < 2:
        problem = f"{len(late)} values from step {late_from} on, at least 2 are needed"
        return [not_measured("stability/late", subject, problem)]
    if not np.isfinite(late).all() or late.mean() == 0:
        why = "its mean is 0" if np.isfinite(late).all() else "it is not finite"
        return [judged("stability/late", subject, ok=False, figure=f"the late phase has no amplitude: {why}")]
    problems = _against_stated(late, standard_deviation, amplitude)
    reach = _reach(late)
    if max_amplitude is not None and reach > max_amplitude:
        problems.append(f"+-{percent(reach)} is more than +-{percent(max_amplitude)}")
    return [_late_result(subject, late, reach, problems, late_from=late_from, max_amplitude=max_amplitude)]


def _curve_of(source: RunRecord | Curve, metric: str) -> Curve:
    if not isinstance(source, RunRecord):
        return source
    key = f"metric/{metric}"
    if key not in source or "eval/steps" not in source or source[key].size != source["eval/steps"].size:
        return {}
    return dict(zip(source["eval/steps"].tolist(), source[key].tolist(), strict=True))


def _reach(values: Floats) -> float:
    return float((values.max() - values.min()) / 2 / abs(values.mean()))


def _against_stated(late: Floats, standard_deviation: str, amplitude: str) -> list[str]:
    """What is stated and does not follow from the values."""
    problems = []
    if standard_deviation:
        figure = Figure.parse(standard_deviation)
        found = (float(late.std()), float(late.std(ddof=1)))
        if not figure.allows(*found):
            problems.append(f"standard deviation {figure.text} is stated, it is {found[1]:.3g}")
    if amplitude:
        figure, reach = Figure.parse(amplitude, exact_integers=False), 100 * _reach(late)
        if not figure.allows(reach):
            problems.append(f"an amplitude of {figure.text} is stated, it is {reach:.3g} %")
    return problems


def _late_result(
    subject: str, late: Floats, reach: float, problems: Sequence[str], *, late_from: int, max_amplitude: float | None
) -> CheckResult:
    return judged(
        "stability/late",
        subject,
        ok=not problems,
        figure=f"standard deviation {late.std(ddof=1):.3g}, amplitude +-{percent(reach)}, mean {late.mean():.4g}",
        expected=f"{len(late)} values from step {late_from} on, {late.min():.4g} to {late.max():.4g}",
        limit="" if max_amplitude is None else f"amplitude <= {percent(max_amplitude)}",
        worst="; ".join(problems),
        detail="" if problems else "one curve cannot say whether that is usual; a baseline over seeds can",
        advice="recompute the figure from the logged curve",
    )


def spread_fits_range(
    low: str, high: str, *, standard_deviation: str, amplitude: str = "", name: str = "curve"
) -> list[CheckResult]:
    """``stability/range``: whether a stated standard deviation and amplitude are possible in a stated range.

    Of values between a and b the standard deviation is at most (b - a) / 2 (Popoviciu, 1935), or that times
    sqrt(2) as a sample of two; the amplitude follows from a and b up to where in between the mean lies.
    """
    bottom, top = Figure.parse(low), Figure.parse(high)
    widest, narrowest = top.interval[1] - bottom.interval[0], max(0.0, top.interval[0] - bottom.interval[1])
    problems = []
    if not Figure.parse(standard_deviation).allows(0.0, widest / math.sqrt(2)):
        problems.append(f"a standard deviation of {standard_deviation} needs a wider range")
    if amplitude:
        reach = (50 * narrowest / top.interval[1], 50 * widest / bottom.interval[0])
        if not Figure.parse(amplitude, exact_integers=False).allows(*reach):
            problems.append(f"an amplitude of {amplitude} is stated, {reach[0]:.3g} to {reach[1]:.3g} % are possible")
    return [
        judged(
            "stability/range",
            name,
            ok=not problems,
            figure=f"range {low} to {high}, standard deviation {standard_deviation}",
            limit=f"standard deviation <= {widest / math.sqrt(2):.3g}",
            worst="; ".join(problems),
            detail="" if problems else "possible, which is not yet true: the curve itself would show it",
            advice="recompute the figures from the logged curve",
        )
    ]


def growth_per_phase(
    curve: Mapping[int, str | float], phases: Sequence[Phase], *, name: str = "curve"
) -> list[CheckResult]:
    """``stability/growth``: growth in percent within each phase, held against what is stated for it.

    Args:
        curve: values by step or epoch; texts (``"0.274"``) are taken as rounded to their last digit, numbers as exact.

    Raises:
        ValueError: there is no phase.
    """
    if not phases:
        msg = "there are no phases to compare; give at least one"
        raise ValueError(msg)
    return [_growth_result(name, curve, phase) for phase in phases]


def _growth_result(name: str, curve: Mapping[int, str | float], phase: Phase) -> CheckResult:
    subject = f"{name} {phase.name or f'{phase.first}-{phase.last}'}"
    missing = [step for step in (phase.first, phase.last) if step not in curve]
    if missing:
        return not_measured("stability/growth", subject, f"the curve has no value at {missing[0]}")
    before, after = (_figure(curve[step]) for step in (phase.first, phase.last))
    if before.interval[0] <= 0 or not math.isfinite(after.value):
        problem = f"no growth from {before.text} to {after.text}: the start must be positive"
        return not_measured("stability/growth", subject, problem)
    low, high = growth(before, after)
    stated = Figure.parse(phase.stated, exact_integers=False) if phase.stated else None
    found = f"{100 * (after.value / before.value - 1):+.3g} %"
    return judged(
        "stability/growth",
        subject,
        ok=stated is None or stated.allows(low, high),
        figure=f"{found} from {before.text} to {after.text}",
        expected="" if stated is None else f"{stated.text} as stated",
        limit=f"{low:+.4g} to {high:+.4g} %, by the rounding of both values",
        advice="recompute the percentage from the curve",
    )


def _figure(value: str | float) -> Figure:
    return Figure.parse(value) if isinstance(value, str) else Figure(text=f"{value:g}", value=value, half=0.0)
