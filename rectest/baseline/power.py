"""Power of the gate: the smallest drop that a number of stored and new runs can promise to catch, and the reverse.

Model: the logarithm of a feature is normal over seeds. With n0 stored runs of sample sd s (df degrees of freedom) and
n1 new ones, D = (mean new - mean stored) alarms below ``-t(1 - alpha, df) s sqrt(1/n0 + 1/n1)``. Under a true drop of
``delta`` (log scale) ``-D / se`` is noncentral t, so everything here is one root of its distribution function.
`alpha` and `beta` are those of one look at one feature; sharing them out is for `sequential`. No data is judged here.
scipy is imported when first needed, and only its special functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.limits import standard_error

__all__ = ["MIN_STORED", "Plan", "detectable_shift", "mdd_upper", "plan", "shift_quantile", "t_quantile"]

MIN_STORED = 5
"""Fewest stored seeds that support a promise: with 3 the smallest drop that is caught is 96 run sds."""

SD_CONFIDENCE = 0.8
"""A printed detectable drop is an upper limit with this confidence, because the sd behind it is an estimate."""

NUM_QUANTILES = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The fewest runs that reach a wanted drop."""

    num_stored: int
    num_new: int
    """Most runs of a candidate; the sequential gate uses them all only where it is in doubt."""

    mdd: float
    """The relative drop that these runs reach, as `mdd_upper` prints it."""


@lru_cache(maxsize=1024)
def t_quantile(alpha: float, df: float) -> float:
    """Upper `alpha` quantile of Student's t, also for degrees of freedom that are not whole.

    >>> round(t_quantile(0.05, 10), 3)
    1.812
    """
    from scipy.special import stdtrit

    # Lower tail and a sign: 1 - alpha would round alpha away.
    return -float(stdtrit(df, alpha))


def shift_quantile(alpha: float, df: float, beta: float, *, at_least: float = 0.0) -> float:
    """The shift lambda, in standard errors, that is missed with probability `beta` by a t limit at `alpha`.

    Solves ``P(T(df, lambda) > t(1 - alpha, df)) = 1 - beta`` for the noncentral T, whose distribution function is the
    normal one averaged over the sd: ``P(T > t) = E[Phi(lambda - t sqrt(chi2(df) / df))]``. The average runs over
    chi-square quantiles; `scipy.stats.nct.cdf` returns NaN in the far tail that a root search visits.

    >>> round(shift_quantile(1e-3 / 6, 15, 0.1) * (1 / 16 + 1) ** 0.5, 1)
    6.4

    Args:
        alpha: False-alarm probability of the limit, between 0 and 0.5.
        df: Degrees of freedom of the sd in the limit.
        beta: Probability of a miss, between 0 and 0.5.
        at_least: The limit is never below this many standard errors, whatever sd the stored runs happen to have.

    Raises:
        ValueError: a probability outside its range, no degree of freedom, or a negative `at_least`.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 < value < 0.5:
            msg = f"{name} must be between 0 and 0.5, got {value!r}"
            raise ValueError(msg)
    if not (df >= 1 and math.isfinite(df)):
        msg = f"df must be finite and at least 1, got {df!r}"
        raise ValueError(msg)
    if not (at_least >= 0 and math.isfinite(at_least)):
        msg = f"at_least must be finite and not negative, got {at_least!r}"
        raise ValueError(msg)
    inactive = at_least <= t_quantile(alpha, df) * float(_sd_ratios(df)[0])
    return _shift_root(alpha, df, beta, 0.0 if inactive else at_least)


def detectable_shift(
    sd: float, *, num_stored: int, num_new: int, df: float, alpha: float, beta: float, min_shift: float = 0.0
) -> float:
    """The drop delta, on the log scale, that one look at `num_new` runs misses with probability `beta`.

    ``delta = sd c`` with ``c = lambda sqrt(1/n0 + 1/n1)`` and lambda from `shift_quantile`. Where drops below
    `min_shift` never alarm, delta is the somewhat larger drop that gets beyond that as well.

    Raises:
        ValueError: an sd that is not a finite number above zero, fewer than one run, or a range of `shift_quantile`.
    """
    if not (sd > 0 and math.isfinite(sd)):
        msg = f"sd must be a finite number above zero, got {sd!r}; give it a floor"
        raise ValueError(msg)
    if num_stored < 1 or num_new < 1:
        msg = f"needed at least one stored and one new run, got {num_stored} and {num_new}"
        raise ValueError(msg)
    error = standard_error(sd, num_stored=num_stored, num_new=num_new)
    return error * shift_quantile(alpha, df, beta, at_least=min_shift / error)


def mdd_upper(
    sd: float, *, num_stored: int, num_new: int, df: float, alpha: float, beta: float, min_shift: float = 0.0
) -> float:
    """The minimum detectable drop to print: an 80 % upper limit, as a fraction of the feature.

    ``1 - exp(-delta sqrt(df / chi2(0.2, df)))``. delta is proportional to an sd that was estimated from few runs; the
    true sd is below ``sd sqrt(df / chi2(0.2, df))`` for 80 % of baselines. Arguments and errors of `detectable_shift`.

    >>> round(mdd_upper(0.02, num_stored=16, num_new=5, df=15, alpha=2e-4 / 6, beta=0.02), 3)
    0.097
    """
    from scipy.special import gammaincinv

    chi2 = 2 * float(gammaincinv(df / 2, 1 - SD_CONFIDENCE))
    shift = detectable_shift(
        sd * math.sqrt(df / chi2),
        num_stored=num_stored,
        num_new=num_new,
        df=df,
        alpha=alpha,
        beta=beta,
        min_shift=min_shift,
    )
    return -math.expm1(-shift)


def plan(
    sd: float,
    wanted_drop: float,
    *,
    alpha: float = 8e-4,
    beta: float = 0.10,
    max_runs: int = 5,
    min_effect: float = 0.0,
    most_stored: int = 64,
    most_new: int = 20,
) -> Plan:
    """The fewest stored seeds, and only where those do not suffice the fewest new ones, that catch a wanted drop.

    Stored seeds are paid once and new ones with every change, so n0 grows first, with `max_runs` new runs; n1 grows
    from there when `most_stored` seeds are not enough. The yardstick is `mdd_upper` at the levels of the sequential
    gate, ``alpha / (n1 - 1)`` and ``beta / n1``, so what was planned is what will be printed for the same sd.

    Args:
        sd: Run-to-run sd of the feature on the log scale.
        wanted_drop: The relative drop that must be caught, between 0 and 1.
        alpha: False-alarm rate of the feature over all looks: the rate of the gate times the feature's weight.
        beta: Probability of a miss over all looks.
        max_runs: Runs of a candidate at most, to begin with.
        min_effect: Relative drops up to this one never alarm.
        most_stored: Stored seeds that can be afforded.
        most_new: New runs that can be afforded.

    Raises:
        ValueError: an argument outside its range, or no affordable number of runs catches the drop.
    """
    if not 0 <= min_effect < wanted_drop < 1:
        msg = f"needed 0 <= min_effect < wanted_drop < 1, got {min_effect!r} and {wanted_drop!r}"
        raise ValueError(msg)
    if most_stored < MIN_STORED or not 2 <= max_runs <= most_new:
        msg = (
            f"needed {MIN_STORED} <= most_stored and 2 <= max_runs <= most_new, got most_stored {most_stored}, "
            f"max_runs {max_runs} and most_new {most_new}"
        )
        raise ValueError(msg)
    pairs = [(n0, max_runs) for n0 in range(MIN_STORED, most_stored + 1)]
    pairs += [(most_stored, n1) for n1 in range(max_runs + 1, most_new + 1)]
    for n0, n1 in pairs:
        levels = {"alpha": alpha / (n1 - 1), "beta": beta / n1, "min_shift": -math.log1p(-min_effect)}
        mdd = mdd_upper(sd, num_stored=n0, num_new=n1, df=n0 - 1, **levels)
        if mdd <= wanted_drop:
            return Plan(num_stored=n0, num_new=n1, mdd=mdd)
    msg = (
        f"no baseline of up to {most_stored} seeds with up to {most_new} new runs catches a drop of "
        f"{100 * wanted_drop:.3g} %: the least is {100 * mdd:.3g} %; use a feature with less noise than sd {sd:.3g}"
    )
    raise ValueError(msg)


@lru_cache(maxsize=64)
def _sd_ratios(df: float) -> NDArray[np.float64]:
    """Ascending quantiles of sample sd over true sd."""
    from scipy.special import gammaincinv

    probabilities = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    ratios: NDArray[np.float64] = np.sqrt(2 * gammaincinv(df / 2, probabilities) / df)
    ratios.setflags(write=False)
    return ratios


@lru_cache(maxsize=4096)
def _shift_root(alpha: float, df: float, beta: float, at_least: float) -> float:
    from scipy.special import ndtr, ndtri

    limits = np.maximum(t_quantile(alpha, df) * _sd_ratios(df), at_least)
    # The miss is 1/2 or more at the lowest limit, and at most beta at the highest one plus its normal quantile.
    low, high = float(limits[0]), float(limits[-1]) - float(ndtri(beta))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(ndtr(limits - middle).mean()) > beta else (low, middle)
    return high
