"""Arithmetic of the ensemble lane: prediction limits for the mean of a few new runs, and what they can detect.

Model: the logarithm of a feature is normal over seeds (measured on real trainings: it is, for window means). The
mean of `num_new` new runs minus the mean of `num_stored` stored ones is then, over its estimated standard error,
Student's t with ``num_stored - 1`` degrees of freedom. Not Welch's test: with one to three new runs it alarms at up to
eighty times its level. scipy is imported when first needed, and only its special functions.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

__all__ = ["REL_FLOOR", "detectable_shift", "p_value", "sd_floor", "standard_error", "t_limit"]

REL_FLOOR = 1e-4
"""Smallest run-to-run sd (log scale) that a gate believes: rounding alone moves a training by about this much."""


def standard_error(sd: float, *, num_stored: int, num_new: int) -> float:
    """Standard error of the difference between the mean of new runs and the mean of stored runs."""
    return sd * math.sqrt(1 / num_stored + 1 / num_new)


@lru_cache(maxsize=256)
def t_limit(alpha: float, df: int) -> float:
    """Upper `alpha` quantile of Student's t.

    >>> round(t_limit(0.05, 10), 3)
    1.812
    """
    from scipy.special import stdtrit

    # Lower tail and a sign: 1 - alpha would round alpha away.
    return -float(stdtrit(df, alpha))


def p_value(t: float, df: int) -> float:
    """Probability that Student's t is at least `t`."""
    from scipy.special import stdtr

    return float(stdtr(df, -t))


@lru_cache(maxsize=256)
def detectable_shift(alpha: float, df: int, *, power: float = 0.9) -> float:
    """The shift, in standard errors, that exceeds ``t_limit(alpha, df)`` with probability `power`.

    The noncentral t probability is the normal one averaged over chi-square quantiles:
    ``P(T > t) = E[Phi(shift - t sqrt(chi2 / df))]``. `scipy.stats.nct.cdf` returns NaN in the far tail that a root
    search visits.
    """
    from scipy.special import gammaincinv, ndtr

    quantiles = (np.arange(2000) + 0.5) / 2000
    chi = np.sqrt(2 * gammaincinv(df / 2, quantiles) / df)
    limit = t_limit(alpha, df)
    low, high = 0.0, 10.0
    while float(ndtr(high - limit * chi).mean()) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(ndtr(middle - limit * chi).mean()) < power else (low, middle)
    return high


def sd_floor(mean: float, *, num_scored: int | None) -> float:
    """Smallest run-to-run sd, on the log scale, that may be believed of a feature with this mean.

    Sixteen equal values do not prove that a metric never moves. With `num_scored` users one user's hit moves a mean
    metric by ``1 / num_scored``; rounding to such steps has the sd of a uniform distribution, ``step / sqrt(12)``.
    """
    if num_scored is None:
        return REL_FLOOR
    return max(REL_FLOOR, 1 / (num_scored * mean * math.sqrt(12)))
