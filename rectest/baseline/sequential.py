"""The sequential gate: after each new run of a candidate, stop with a verdict or ask for one more seed.

Symbols, all on logs and in the direction in which down is worse: n0 stored runs with mean m0 and sd s, k <= K new runs
(K is `Rule.max_runs`), F features, w_f their shares of the false-alarm rate, ``se_k = s sqrt(1/n0 + 1/k)``,
D_k = mean of the k new runs - m0, t(q, df) the upper q quantile of Student's t with df = n0 - 1.

    FAIL        k = 2..K  for any f  D_k < -max(t(alpha w_f / (K-1)) se_k, -ln(1 - min_effect)), and the witness
    SUSPICIOUS  k = 2..K  the same upwards, with the rate for rises: a leak or a changed evaluation
    PASS        k = 1..K-1  for all f  D_k + delta_f > t(beta / K) se_k, and the same upwards;  k = K  everything else
    UNDECIDED   otherwise: train another seed

Witness: without the worst floor(k/2) runs the mean of the others is below ``m0 - t(q_k) s sqrt(1/n0 + 1/(k -
floor(k/2)))``; one bad seed never fails a change alone. delta_f is the drop that the last look misses with probability
beta / K, see `power.detectable_shift`. PASS looks upwards too: a leak is never worse, and would pass after its first
run. Where records come from, and words for people, are for other files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectest.baseline.limits import standard_error
from rectest.baseline.power import MIN_STORED, detectable_shift, mdd_upper, t_quantile

__all__ = ["Decision", "Look", "Rule", "Side", "State", "decide"]

Array: TypeAlias = NDArray[np.float64]
Side: TypeAlias = Literal["drop", "rise"]
State: TypeAlias = Literal["PASS", "FAIL", "SUSPICIOUS", "UNDECIDED"]

FIRST_ALARM = 2
"""An alarm needs this many runs: a single one may be a bad seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What the gate promises, and how the promise is shared among features and looks."""

    weights: tuple[float, ...]
    """Share of each feature in the false-alarm rates: above zero, summing to 1 (weighted Bonferroni)."""

    alpha_drop: float = 8e-4
    alpha_rise: float = 2e-4
    beta: float = 0.10
    max_runs: int = 5
    min_effect: float = 0.02
    """Relative drops up to this one never alarm, however well they are measured."""

    witness: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05)
    """Level of the witness after 2, 3, ... runs; levels beyond `max_runs` are not used."""

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) <= 0 or not math.isclose(math.fsum(self.weights), 1, rel_tol=1e-9):
            msg = f"weights must be above zero and sum to 1, got {self.weights} (sum {math.fsum(self.weights)!r})"
            raise ValueError(msg)
        for name in ("alpha_drop", "alpha_rise", "beta"):
            if not 0 < getattr(self, name) < 0.5:
                msg = f"{name} must be between 0 and 0.5, got {getattr(self, name)!r}"
                raise ValueError(msg)
        if not 0 <= self.min_effect < 1:
            msg = f"min_effect must be at least 0 and below 1, got {self.min_effect!r}"
            raise ValueError(msg)
        if self.max_runs < FIRST_ALARM or len(self.witness) < self.max_runs - 1:
            msg = (
                f"needed max_runs >= {FIRST_ALARM} and a witness level for each of 2..max_runs, "
                f"got max_runs {self.max_runs} and {len(self.witness)} levels"
            )
            raise ValueError(msg)
        if not all(0 < q < 0.5 for q in self.witness):
            msg = f"witness levels must be between 0 and 0.5, got {self.witness}"
            raise ValueError(msg)

    @property
    def least_shift(self) -> float:
        """`min_effect` on the log scale."""
        return -math.log1p(-self.min_effect)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One feature after some runs, in one direction; limits are positive and count in that direction."""

    feature: int
    """Column of the feature."""

    side: Side
    num_runs: int
    shift: float
    """D_k: mean log of the new runs minus that of the stored ones; negative is worse, on either side."""

    sd: float
    """Run-to-run sd that the limits use: the stored one or a moderated one, and never below the floor."""

    df: float
    error: float
    """se_k, the standard error of `shift`."""

    limit: float
    """Shifts up to this one are noise, or below `Rule.min_effect`."""

    p: float
    """Probability of a shift this far in this direction when nothing changed."""

    level: float
    """The share of the false-alarm rate that `p` is compared with."""

    witness: float
    """Shift of the mean without the most extreme floor(k/2) runs."""

    witness_limit: float
    """How far the witness must be off to hold; infinite after one run."""

    delta: float
    """The shift that the last look misses with probability beta / max_runs."""

    margin: float
    """By how many standard errors a shift of `delta` is excluded; not excluded at or below zero."""

    mdd: float
    """80 % upper limit of the relative change that is caught with probability 1 - beta."""

    @property
    def witness_holds(self) -> bool:
        """Whether the change survives leaving out its most extreme runs."""
        return _beyond(self.witness, self.witness_limit, self.side)

    @property
    def alarm(self) -> bool:
        """Whether this feature alone stops the candidate."""
        return self.num_runs >= FIRST_ALARM and _beyond(self.shift, self.limit, self.side) and self.witness_holds

    @property
    def excluded(self) -> bool:
        """Whether a change of `delta` is ruled out: the feature is non-inferior (or, upwards, not suspicious)."""
        return self.margin > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the gate says after `num_runs` runs, with every number behind it."""

    state: State
    num_runs: int
    drops: tuple[Look, ...]
    """One per feature, in column order."""

    rises: tuple[Look, ...]
    deciding: Look
    """FAIL and SUSPICIOUS: strongest evidence; UNDECIDED: furthest from excluded; PASS: nearest to its drop limit."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """One feature, turned so that down is the direction of interest."""

    centre: float
    new: Array
    """[k] ascending."""

    num_stored: int
    sd: float
    df: float

    def turned(self) -> _Sample:
        return _Sample(-self.centre, -self.new[::-1], self.num_stored, self.sd, self.df)


def decide(
    stored: ArrayLike,
    new: ArrayLike,
    rule: Rule,
    *,
    floors: ArrayLike,
    sd: ArrayLike | None = None,
    df_extra: ArrayLike = 0.0,
) -> Decision:
    """Judge the runs that a candidate has so far.

    For normal logs and an sd that is the stored runs' own, P(FAIL | nothing changed) <= alpha_drop and P(SUSPICIOUS |
    nothing changed) <= alpha_rise, by the union bound over features and looks; floors and the witness only lower them.
    P(PASS | a feature dropped by delta) <= beta by the union bound over looks, for a delta that was fixed beforehand.
    delta is estimated with the sd here, which is optimistic for few stored runs: `Look.mdd` is an upper limit.
    The order of the new runs does not matter.

    Args:
        stored: [n0, F] logs of the stored runs, signed so that down is worse; at least 5 rows.
        new: [k, F] logs of the candidate's runs so far, 1 <= k <= rule.max_runs.
        rule: The promises.
        floors: [F] smallest sd that may be believed, log scale: user noise and rounding.
        sd: [F] sds from more than the stored runs; without them each feature uses those.
        df_extra: Degrees of freedom that come with `sd`, one number or [F].

    Raises:
        ValueError: shapes that do not fit, values that are not finite, too few or too many runs, an sd of zero
            without a floor, or `df_extra` without `sd`.
    """
    known, fresh = _table("stored", stored), _table("new", new)
    _check_shapes(known, fresh, rule)
    if sd is None and np.any(np.asarray(df_extra) != 0):
        msg = f"df_extra {df_extra!r} without the moderated sd that it belongs to"
        raise ValueError(msg)
    num_stored, num_features = known.shape
    raw = known.std(axis=0, ddof=1) if sd is None else _vector("sd", sd, num_features)
    spread = np.maximum(raw, _vector("floors", floors, num_features))
    if np.any(spread == 0):
        msg = f"features {np.flatnonzero(spread == 0).tolist()} have sd 0 over {num_stored} stored runs; give a floor"
        raise ValueError(msg)
    df = num_stored - 1 + _vector("df_extra", df_extra, num_features)
    centre, ordered = known.mean(axis=0), np.sort(fresh, axis=0)
    samples = [
        _Sample(float(centre[f]), ordered[:, f], num_stored, float(spread[f]), float(df[f]))
        for f in range(num_features)
    ]
    drops = tuple(_look(f, "drop", sample, rule) for f, sample in enumerate(samples))
    rises = tuple(_look(f, "rise", sample.turned(), rule) for f, sample in enumerate(samples))
    state, deciding = _conclude(drops, rises, last=len(fresh) == rule.max_runs)
    return Decision(state=state, num_runs=len(fresh), drops=drops, rises=rises, deciding=deciding)


def _look(feature: int, side: Side, sample: _Sample, rule: Rule) -> Look:
    """The numbers of one feature; `sample` is turned so that this side is down."""
    num_runs, last, sd, df = len(sample.new), rule.max_runs, sample.sd, sample.df
    alpha = rule.alpha_drop if side == "drop" else rule.alpha_rise
    level, miss = alpha * rule.weights[feature] / (last - 1), rule.beta / last
    shift = float(sample.new.mean()) - sample.centre
    error = standard_error(sd, num_stored=sample.num_stored, num_new=num_runs)
    witness, witness_limit = _witness(sample, rule)
    promise = {"df": df, "alpha": level, "beta": miss, "min_shift": rule.least_shift}
    delta = detectable_shift(sd, num_stored=sample.num_stored, num_new=last, **promise)
    mdd = mdd_upper(sd, num_stored=sample.num_stored, num_new=last, **promise)
    sign = 1 if side == "drop" else -1
    return Look(
        feature=feature,
        side=side,
        num_runs=num_runs,
        shift=sign * shift,
        sd=sd,
        df=df,
        error=error,
        limit=max(t_quantile(level, df) * error, rule.least_shift),
        p=_lower_tail(shift / error, df),
        level=level,
        witness=sign * witness,
        witness_limit=witness_limit,
        delta=delta,
        margin=(shift + delta) / error - t_quantile(miss, df),
        # A rise by the factor exp(x) where the drop is by exp(-x).
        mdd=mdd if side == "drop" else mdd / (1 - mdd),
    )


def _witness(sample: _Sample, rule: Rule) -> tuple[float, float]:
    """Shift of the runs that are left when the worst half is taken away, and its limit."""
    num_runs = len(sample.new)
    others = sample.new[num_runs // 2 :]
    shift = float(others.mean()) - sample.centre
    if num_runs < FIRST_ALARM:
        return shift, math.inf
    error = standard_error(sample.sd, num_stored=sample.num_stored, num_new=len(others))
    return shift, t_quantile(rule.witness[num_runs - 2], sample.df) * error


def _conclude(drops: Sequence[Look], rises: Sequence[Look], *, last: bool) -> tuple[State, Look]:
    alarms: tuple[tuple[State, Sequence[Look]], ...] = (("FAIL", drops), ("SUSPICIOUS", rises))
    for state, looks in alarms:
        found = [look for look in looks if look.alarm]
        if found:
            return state, min(found, key=lambda look: look.p / look.level)
    worst = min((*drops, *rises), key=lambda look: look.margin)
    if not (worst.excluded or last):
        return "UNDECIDED", worst
    return "PASS", min(drops, key=lambda look: look.shift / look.limit)


def _beyond(shift: float, limit: float, side: Side) -> bool:
    return shift < -limit if side == "drop" else shift > limit


def _lower_tail(t: float, df: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(df, t))


def _table(name: str, values: ArrayLike) -> Array:
    """[runs, F] finite logs."""
    found = np.asarray(values, np.float64)
    if found.ndim != 2 or 0 in found.shape:
        msg = f"{name} must be [runs, features] with at least one of each, got shape {found.shape}"
        raise ValueError(msg)
    if not np.isfinite(found).all():
        run, feature = np.argwhere(~np.isfinite(found))[0]
        msg = (
            f"{name} has {found[run, feature]!s} at run {run}, feature {feature}; a run that diverged has no place here"
        )
        raise ValueError(msg)
    return found


def _vector(name: str, values: ArrayLike, num_features: int) -> Array:
    """[F] finite values, not negative; a single number is that of every feature."""
    found = np.asarray(values, np.float64)
    if found.shape not in ((), (num_features,)):
        msg = f"{name} must be one number or {num_features}, one per feature, got shape {found.shape}"
        raise ValueError(msg)
    if not (np.isfinite(found).all() and (found >= 0).all()):
        msg = f"{name} must be finite and not negative, got {found.tolist()}"
        raise ValueError(msg)
    return np.broadcast_to(found, (num_features,))


def _check_shapes(stored: Array, new: Array, rule: Rule) -> None:
    widths = (stored.shape[1], new.shape[1], len(rule.weights))
    if len(set(widths)) != 1:
        msg = f"stored runs have {widths[0]} features, new ones {widths[1]}, and the rule weighs {widths[2]}"
        raise ValueError(msg)
    if len(stored) < MIN_STORED:
        msg = f"{len(stored)} stored runs promise nothing; needed at least {MIN_STORED}"
        raise ValueError(msg)
    if len(new) > rule.max_runs:
        msg = f"{len(new)} new runs where the rule stops at {rule.max_runs}; further runs are not part of the promise"
        raise ValueError(msg)
