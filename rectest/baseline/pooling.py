"""Variances of one feature over several systems, each drawn towards what the systems have in common.

Few stored seeds measure an sd badly, and a gate pays for that with wide limits. Systems of one repository are alike
once each run variance is divided by what independent users alone would cause (phi), so they lend one another degrees
of freedom. The t tests that use this are in `sequential`; which baselines lie in a store is for `gating`. scipy is
imported when first needed, and only its special functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectest.baseline.ensemble import signed_logs
from rectest.baseline.features import WINDOWS
from rectest.baseline.limits import REL_FLOOR
from rectest.baseline.looks import Noise
from rectest.baseline.schema import Baseline

__all__ = ["MIN_SYSTEMS", "Moderated", "noise_of", "pooled_variance"]

MIN_SYSTEMS = 8
"""Fewest systems whose variances may be pooled; with fewer the prior is itself a guess."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moderated:
    """Variances of several systems, each drawn towards what they have in common."""

    phi: NDArray[np.float64]
    """[S] moderated variance ratios."""

    df_extra: NDArray[np.float64]
    """[S] degrees of freedom that the other systems lend."""

    prior: float
    prior_df: float
    """Infinite where the variances differ no more than chance."""


def noise_of(baseline: Baseline, others: Sequence[Baseline]) -> Noise | None:
    """Run-to-run sds of a baseline's features, pooled with other baselines; None where fewer than 8 have user values.

    A system on a world counts as one. Final values, early, middle and late windows of metrics are pooled each for
    themselves, phi being the run variance over the part that users explain; another system's measures are averaged,
    because they move together. ``sd = sqrt(user variance x max(1, phi~))``. Losses have no users, and they and kinds
    of which fewer than 8 systems have one keep their own sd.
    """
    mine, env_class = baseline.name, baseline.env_class
    systems = {each.name: each for each in others if each.env_class == env_class and each.name != mine}
    lenders = [each for each in systems.values() if each.ensemble.user_variance]
    if len(lenders) + 1 < MIN_SYSTEMS or not baseline.ensemble.user_variance:
        return None
    sd = {name: _own_sd(baseline, name) for name in baseline.ensemble.features}
    extra, used = dict.fromkeys(sd, 0.0), 0
    for name in baseline.ensemble.user_variance:
        lent = [(each, phi) for each in lenders if (phi := _mean_ratio(each, _kind(name))) is not None]
        if len(lent) + 1 < MIN_SYSTEMS:
            continue
        phis = [_ratio(baseline, name), *(phi for _, phi in lent)]
        df = [len(each.ensemble.seeds) - 1 for each in (baseline, *(each for each, _ in lent))]
        found = pooled_variance(phis, df)
        sd[name] = math.sqrt(baseline.ensemble.user_variance[name] * max(1.0, float(found.phi[0])))
        extra[name] = float(found.df_extra[0])
        used = max(used, len(phis))
    return Noise(sd=sd, df_extra=extra, num_systems=used) if used else None


def _kind(name: str) -> str:
    """Which features of other systems one is like: windows of the same part, or final values."""
    part = name.rpartition("/")[2]
    return part if part in WINDOWS else "final"


def _own_sd(baseline: Baseline, name: str) -> float:
    """Of the stored seeds, and never below rounding, so that it has a logarithm; the noise of users is in phi."""
    own = float(signed_logs(name, baseline.ensemble.features[name]).std(ddof=1))
    return max(own, REL_FLOOR)


def _ratio(baseline: Baseline, name: str) -> float:
    """phi of one feature."""
    return _own_sd(baseline, name) ** 2 / baseline.ensemble.user_variance[name]


def _mean_ratio(baseline: Baseline, kind: str) -> float | None:
    found = [_ratio(baseline, name) for name in baseline.ensemble.user_variance if _kind(name) == kind]
    return math.fsum(found) / len(found) if found else None


def pooled_variance(phi: ArrayLike, df: ArrayLike) -> Moderated:
    """Moderate the variance ratios of at least 8 systems by empirical Bayes, with half the prior's weight in df.

    phi_s is the run variance of a feature in system s over its user noise, with df_s degrees of freedom. The prior
    (phi0, d0) is fitted to the moments of ln phi (Smyth 2004, Linear models and empirical Bayes methods, section 6.2;
    limma's fitFDist): with ``e = ln phi - digamma(df/2) + ln(df/2)``, d0 solves ``trigamma(d0/2) = var(e) -
    mean(trigamma(df/2))`` and ``phi0 = exp(mean(e) + digamma(d0/2) - ln(d0/2))``; where the variances differ no more
    than chance, d0 is infinite and phi0 the mean of phi. Then ``phi~ = (d0 phi0 + df phi) / (d0 + df)``.
    The t test gets only ``min(d0, df of the others) / 2`` more degrees of freedom: hyper-parameters from thousands of
    genes earn d0, those from 8 systems alarm at about three times the level with it (n0 = 3..8, true d0 = 10), and
    at up to 1.6 times the level with half.

    Args:
        phi: [S] variance ratios.
        df: Degrees of freedom behind each ratio, one number or [S].

    Raises:
        ValueError: fewer than 8 systems, shapes that do not fit, or a value that is not a finite number above zero.
    """
    from scipy.special import digamma, polygamma

    ratios = np.asarray(phi, np.float64)
    if ratios.ndim != 1 or len(ratios) < MIN_SYSTEMS:
        msg = f"needed one ratio for each of {MIN_SYSTEMS} or more systems, got shape {ratios.shape}; do not pool fewer"
        raise ValueError(msg)
    freedom = np.asarray(df, np.float64)
    if freedom.shape not in ((), ratios.shape):
        msg = f"df must be one number or {len(ratios)}, one per system, got shape {freedom.shape}"
        raise ValueError(msg)
    freedom = np.broadcast_to(freedom, ratios.shape)
    if not (np.isfinite([ratios, freedom]).all() and min(ratios.min(), freedom.min()) > 0):
        msg = f"variance ratios and df must be finite and above zero, got {ratios.tolist()} with df {freedom.tolist()}"
        raise ValueError(msg)
    logs = np.log(ratios) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2).mean())
    lent = freedom.sum() - freedom
    if excess <= 0:
        prior = float(ratios.mean())
        return Moderated(phi=np.full_like(ratios, prior), df_extra=lent / 2, prior=prior, prior_df=math.inf)
    half = _trigamma_inverse(excess)
    prior = math.exp(float(logs.mean()) + float(digamma(half)) - math.log(half))
    moderated = (2 * half * prior + freedom * ratios) / (2 * half + freedom)
    return Moderated(phi=moderated, df_extra=np.minimum(2 * half, lent) / 2, prior=prior, prior_df=2 * half)


def _trigamma_inverse(value: float) -> float:
    """The x with trigamma(x) = `value` > 0: Newton's method on 1 / trigamma, which is nearly linear (limma's way)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step < 1e-10 * x:
            break
    return x
