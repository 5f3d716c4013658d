"""Limits: every number by which a check decides, each derived where it is defined.

This module owns formulas, not verdicts. Chance values and their standard errors are in `rectest.metrics.bounds`;
limits that come from stored baselines are in `rectest.baseline`. Everything is closed form, so nothing needs scipy.
"""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = [
    "ALPHA",
    "accidental_duplicates",
    "binomial_limit",
    "binomial_tail",
    "bonferroni",
    "false_alarm_of_band",
    "mean_slack",
    "norm_slack",
    "user_noise_floor",
    "z_limit",
]

ALPHA = 1e-3
"""False-alarm rate of one statistical check on a healthy run, before it is shared among several tests."""

_NORMAL = NormalDist()


def bonferroni(alpha: float, num_tests: int) -> float:
    """The level for each of `num_tests` so that one or more false alarms among them are as rare as `alpha`.

    By the union bound P(any) <= sum of P(each); it holds whatever the dependence between the tests.
    """
    if not 0 < alpha < 1 or num_tests < 1:
        msg = f"need 0 < alpha < 1 and at least one test, got alpha={alpha}, num_tests={num_tests}"
        raise ValueError(msg)
    return alpha / num_tests


def z_limit(alpha: float = ALPHA, *, num_tests: int = 1, sides: int = 1) -> float:
    """How many standard errors a mean may be off before it counts, shared among tests and sides.

    A mean of many independent users is normal by the central limit theorem; P(Z > z) = alpha / (num_tests sides).

    >>> round(z_limit(1e-3), 3), round(z_limit(1e-3, sides=2), 3)
    (3.09, 3.291)
    """
    if sides not in (1, 2):
        msg = f"sides must be 1 or 2, got {sides}"
        raise ValueError(msg)
    return -_NORMAL.inv_cdf(bonferroni(alpha, num_tests) / sides)


def binomial_tail(hits: int, num_trials: int, rate: float) -> float:
    """P(X >= hits) for X ~ Binomial(num_trials, rate), exact.

    Below the mean the lower tail is summed and subtracted. Each term follows from its neighbour:
    p(i+1) = p(i) (n-i)/(i+1) r/(1-r); the sum stops where terms no longer change it.

    >>> round(binomial_tail(51, 938, 0.05), 2)
    0.29
    """
    if not 0 <= rate <= 1 or num_trials < 0:
        msg = f"need a rate in [0, 1] and no negative trials, got rate={rate}, num_trials={num_trials}"
        raise ValueError(msg)
    if hits <= 0:
        return 1.0
    if hits > num_trials or rate == 0:
        return 0.0
    if rate == 1:
        return 1.0
    if hits <= num_trials * rate:
        return max(0.0, 1.0 - _outward_sum(num_trials - hits + 1, num_trials, 1 - rate))
    return _outward_sum(hits, num_trials, rate)


def _outward_sum(start: int, num_trials: int, rate: float) -> float:
    """Sum of binomial terms from `start`, which lies beyond the mean, upwards."""
    log_first = (
        math.lgamma(num_trials + 1)
        - math.lgamma(start + 1)
        - math.lgamma(num_trials - start + 1)
        + start * math.log(rate)
        + (num_trials - start) * math.log1p(-rate)
    )
    odds = rate / (1 - rate)
    total = term = 1.0
    for i in range(start, num_trials):
        term *= (num_trials - i) / (i + 1) * odds
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total * math.exp(log_first))


def binomial_limit(num_trials: int, rate: float, *, alpha: float = ALPHA) -> int:
    """The smallest number of hits that chance reaches with a probability below `alpha`; num_trials + 1 if none is.

    >>> binomial_limit(938, 0.05)
    70
    """
    low, high = 0, num_trials + 1
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(middle, num_trials, rate) < alpha:
            high = middle
        else:
            low = middle + 1
    return low


def mean_slack(num_terms: int, *, largest: float = 1.0, eps: float = 2.0**-52) -> float:
    """How far two float64 means of the same terms may be apart when they were summed in another order.

    Any order of n additions is within (n-1) eps sum|x| of the exact sum (Higham, Accuracy and Stability, 4.2), so two
    orders are within 2 (n-1) eps mean|x|; each term may itself carry a few roundings.
    """
    return 2 * (num_terms + 8) * eps * largest


def norm_slack(dim: int, eps: float) -> float:
    """How far the length of a row normalised in floating point may be from the promised length, relatively.

    A sum of D squares is within D eps of exact, its root within half of that, and scaling rounds every entry once
    more; normalising and measuring each do this, so D eps + 4 eps bounds both together.
    """
    return (dim + 4) * eps


def accidental_duplicates(num_rows: int, dim: int, *, mantissa_bits: int) -> float:
    """Expected pairs of bitwise equal rows among rows that are really independent (the birthday bound).

    Two numbers of one magnitude share a binade of 2^m values; one bit is given away for values near a binade's edge.

    >>> accidental_duplicates(10_000_000, 8, mantissa_bits=23) < 1e-30
    True
    """
    return 0.5 * num_rows * (num_rows - 1) * 2.0 ** (-(mantissa_bits - 1) * dim)


def user_noise_floor(rate: float, num_users: int, *, overlap: float = 0.0) -> float:
    """Relative standard deviation of a hit rate between seeds that even an ideal run cannot go below.

    With N users, rate r, and a probability `overlap` that a user hit under one seed is hit under another, a share
    1 - overlap of the N r hits is drawn anew; a Poisson count of N r (1 - overlap) has that variance, so
    sd / r = sqrt((1 - overlap) / (N r)). Infinite where nobody was hit.

    >>> round(user_noise_floor(0.15, 1000, overlap=0.8), 4)
    0.0365
    """
    if num_users < 1 or not 0 <= overlap <= 1:
        msg = f"need users and an overlap in [0, 1], got {num_users} users and overlap {overlap}"
        raise ValueError(msg)
    return math.sqrt((1 - overlap) / (num_users * rate)) if rate > 0 else math.inf


def false_alarm_of_band(band: float, floor: float, *, num_values: int) -> float:
    """How often a band of +-`band` around the mean alarms when nothing but the noise `floor` is at work.

    Each of `num_values` independent normal values stays inside with probability 2 Phi(band / floor) - 1.

    >>> round(false_alarm_of_band(0.1, 0.05, num_values=1), 4)
    0.0455
    """
    if floor == 0:
        return 0.0
    if math.isinf(floor):
        return 1.0
    inside = 2 * _NORMAL.cdf(band / floor) - 1
    return 1 - inside**num_values
