"""Overfitting as a claim that can be refuted: the train loss still falls while the ranking has got worse than it was.

A ranking that was never better than chance has nothing to lose. Report 001 called hit@5 of 0.0544 among 100
candidates overfitting; 0.05 is what random ranking gives, so its model carried no signal at all, and no dropout
helps against that. This file owns that one result; that a model at chance is bad is said by `chance.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.chance import against_chance, ranks_of
from rectest.checks.result import CheckResult, Verdict, judged, not_measured
from rectest.checks.tolerance import ALPHA, bonferroni, z_limit
from rectest.checks.trend import Fall, fall_of
from rectest.errors import RecordError, RectestError
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import per_user
from rectest.record import RunRecord

__all__ = ["NO_SIGNAL", "overfitting"]

CHECK = "learning/overfitting"

NO_SIGNAL = "no signal at all, not overfitting"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Course:
    """The monitored validation metric over the run."""

    measure: Measure
    values: npt.NDArray[np.float64]
    best: int
    """Index of the best evaluation."""

    error: float
    """Standard error of one value over users."""

    @property
    def drop(self) -> float:
        """How much worse the last value is than the best."""
        sign = 1.0 if self.measure.higher_is_better else -1.0
        return sign * float(self.values[self.best] - self.values[-1])


def overfitting(record: RunRecord, *, alpha: float = ALPHA) -> CheckResult:
    """Whether the ranking of the validation users got worse than its own best while the train loss went on falling.

    Both values are means of the same users, so their difference has at most sqrt 2 times the standard error of one
    (less where users keep their hits); the best of E evaluations was picked, so the level is shared among E. The
    train loss must fall between the best evaluation and the end, by `fall_of`.

    A record whose best evaluation is within chance is NOT MEASURED, with `NO_SIGNAL` as figure: there was no ranking
    to lose. Reads the monitored measure of ``facts["early_stopping"]`` (else the first one recorded) and
    ``ranks/valid``.
    """
    subject = record.spec.system
    try:
        course = _course(record)
        signal = _signal(record, course, alpha=alpha)
    except RectestError as e:
        return not_measured(CHECK, subject, str(e), advice='record the split with run.ranked("valid", ...)')
    if signal is not None:
        return signal
    return _verdict(record, course, alpha=alpha)


def _course(record: RunRecord) -> _Course:
    names = record.names("metric/valid/")
    monitored = str((record.facts.get("early_stopping") or {}).get("measure", names[0] if names else ""))
    values = record[f"metric/valid/{monitored}"].astype(np.float64)
    measure = Measure.parse(monitored)
    if values.size < 2 or not np.isfinite(values).all():
        msg = f"{values.size} evaluations of {monitored}, at least 2 finite ones are needed"
        raise RecordError(msg)
    users = per_user(ranks_of(record, "valid"), measure)
    users = users[np.isfinite(users)]
    error = float(users.std(ddof=1) / math.sqrt(users.size)) if users.size > 1 else math.inf
    best = int(values.argmax() if measure.higher_is_better else values.argmin())
    return _Course(measure=measure, values=values, best=best, error=error)


def _signal(record: RunRecord, course: _Course, *, alpha: float) -> CheckResult | None:
    """The result for a ranking that was at chance in every evaluation; None where it was better once."""
    ranks = ranks_of(record, "valid")
    chance = against_chance(
        str(course.measure),
        float(course.values[course.best]),
        num_candidates=ranks.candidates_per_user,
        num_relevant=ranks.num_relevant,
        alpha=bonferroni(alpha, course.values.size),
    )
    if chance.verdict is Verdict.PASS:
        return None
    named = "" if chance.verdict is Verdict.CHANCE else f"{course.measure} "
    return CheckResult(
        check=CHECK,
        subject=record.spec.system,
        verdict=Verdict.NOT_MEASURED,
        figure=NO_SIGNAL if chance.verdict in (Verdict.FAIL, Verdict.CHANCE) else chance.figure,
        expected=chance.expected,
        limit=chance.limit,
        worst=f"the best of {course.values.size} evaluations: {named}{chance.figure}",
        detail="a ranking that was never better than chance cannot get worse by overfitting",
        advice="regularisation cannot help; look for what drowns or bypasses what was trained",
    )


def _verdict(record: RunRecord, course: _Course, *, alpha: float) -> CheckResult:
    allowed = z_limit(alpha, num_tests=course.values.size) * math.sqrt(2) * course.error
    if not math.isfinite(allowed):
        return not_measured(CHECK, record.spec.system, "too few validation users to know the noise of the metric")
    worse = course.drop > allowed
    fall = _fall_after_best(record, course, alpha=alpha) if worse else ""
    falling = isinstance(fall, Fall) and fall.falls
    name, best, last = course.measure, float(course.values[course.best]), float(course.values[-1])
    return judged(
        CHECK,
        record.spec.system,
        ok=not (worse and (falling or isinstance(fall, str))),
        figure=f"{name} {last:.4g} at the end, {best:.4g} at its best (evaluation {course.best + 1})",
        expected="the end as good as the best, or a train loss that stopped falling too",
        limit=f"worse by <= {allowed:.3g}, the noise of these users",
        outside=f"{course.drop:.3g} worse, {course.drop / course.error:.3g} standard errors" if worse else "",
        detail=_why(fall) if worse else "",
        advice="stop at the best evaluation and test those weights; then fewer parameters, or more regularisation",
    )


def _fall_after_best(record: RunRecord, course: _Course, *, alpha: float) -> Fall | str:
    """The train loss from the best evaluation to the end, or why that is unknown."""
    if "loss/total" not in record or "eval/steps" not in record or len(record["eval/steps"]) != course.values.size:
        return "the record does not say when it was evaluated"
    return fall_of(record["loss/total"][int(record["eval/steps"][course.best]) :], alpha=alpha)


def _why(fall: Fall | str) -> str:
    if isinstance(fall, str):
        return f"the ranking got worse; whether the train loss still falls is unknown ({fall})"
    if fall.falls:
        return f"OVERFITTING: the train loss still falls ({fall.evidence}), what it learns now hurts the ranking"
    return f"not overfitting: the train loss does not fall either ({fall.evidence}), so training diverges or wanders"
