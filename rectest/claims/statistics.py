"""The statistics by which claims about effects are judged: paired differences, ratios of spreads, joint tests.

An effect is confirmed when its whole confidence interval lies where the claim has it, refuted when none of it does,
and undecidable otherwise: an error as large as the effect decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.claims.claim import Finding, NotHere

__all__ = ["CONFIDENCE", "Effect", "chi_square_tail", "joint_chi_square", "paired_gain", "place", "spread_ratio"]

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """A measured effect with its confidence interval."""

    mean: float
    low: float
    high: float
    num: int
    """Pairs (or runs) that it rests on."""

    def percent(self) -> str:
        """The effect in percent, e.g. ``+1.2 % [-0.3, +2.7] over 8 seeds``."""
        low, mean, high = (100 * value for value in (self.low, self.mean, self.high))
        return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}] over {self.num} seeds"


def paired_gain(before: Sequence[float], after: Sequence[float]) -> Effect:
    """The mean relative gain of `after` over the mean of `before`, pairs sharing a seed, with Student's interval.

    Raises:
        ValueError: fewer than two pairs, or a mean of 0 to be relative to.
    """
    from scipy.stats import t

    first, second = (np.asarray(values, dtype=np.float64) for values in (before, after))
    if first.shape != second.shape or len(first) < 2 or first.mean() == 0:
        msg = f"a paired gain needs two or more pairs with a mean other than 0, got {len(first)} and {len(second)}"
        raise ValueError(msg)
    gains = (second - first) / first.mean()
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(gains) - 1)) * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    mean = float(gains.mean())
    return Effect(mean=mean, low=mean - half, high=mean + half, num=len(gains))


def place(effect: Effect, *, low: float, high: float) -> Finding:
    """Where an effect lies that a claim has between `low` and `high` (either may be infinite)."""
    if low <= effect.low and effect.high <= high:
        return Finding.CONFIRMED
    if effect.high < low or effect.low > high:
        return Finding.REFUTED
    return Finding.UNDECIDABLE


def spread_ratio(first: Sequence[float], second: Sequence[float]) -> Effect:
    """sd(second) / sd(first) of independent runs, with the interval of the F distribution.

    Raises:
        NotHere: the runs of a group do not differ at all.
    """
    from scipy.stats import f

    sds = [float(np.std(np.asarray(values), ddof=1)) for values in (first, second)]
    if min(sds) <= 0:
        msg = f"the runs do not differ (sd {sds[0]:g} and {sds[1]:g}), so there is no ratio of spreads"
        raise NotHere(msg)
    ratio = sds[1] / sds[0]
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(f.ppf(q, len(second) - 1, len(first) - 1)) for q in (tail, 1 - tail))
    return Effect(
        mean=ratio, low=ratio / math.sqrt(high), high=ratio / math.sqrt(low), num=min(len(first), len(second))
    )


def joint_chi_square(obtained: Floats, outcomes: Floats, *, num_users: int) -> float:
    """How far means over users lie from a null of equally likely outcomes, in all their covariances.

    Args:
        obtained: [M] the observed means.
        outcomes: [C, M] the M measures of one user for each of the C equally likely outcomes.
    """
    gap = obtained - outcomes.mean(axis=0)
    covariance = np.cov(outcomes.T, bias=True) / num_users
    return float(gap @ np.linalg.solve(covariance, gap))


def chi_square_tail(value: float, *, degrees: int) -> float:
    """P(chi-square > value) for an even number of degrees of freedom, in closed form.

    >>> round(chi_square_tail(3.95, degrees=4), 2)
    0.41
    """
    if degrees < 2 or degrees % 2:
        msg = f"the closed form needs an even number of degrees of freedom, got {degrees}"
        raise ValueError(msg)
    half = value / 2
    return math.exp(-half) * sum(half**i / math.factorial(i) for i in range(degrees // 2))
