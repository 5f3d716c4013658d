"""Arithmetic of the ensemble lane: the noise of a difference of new and stored runs, and the least to believe of it.

Model: the logarithm of a feature is normal over seeds (measured on real trainings: it is, for window means). The
mean of `num_new` new runs minus the mean of `num_stored` stored ones is then, over its estimated standard error,
Student's t with ``num_stored - 1`` degrees of freedom. Not Welch's test: with one to three new runs it alarms at up to
eighty times its level. Quantiles and power are in `power`.
"""

from __future__ import annotations

import math

__all__ = ["REL_FLOOR", "sd_floor", "standard_error"]

REL_FLOOR = 1e-4
"""Smallest run-to-run sd (log scale) that a gate believes: rounding alone moves a training by about this much."""


def standard_error(sd: float, *, num_stored: int, num_new: int) -> float:
    """Standard error of the difference between the mean of new runs and the mean of stored runs."""
    return sd * math.sqrt(1 / num_stored + 1 / num_new)


def sd_floor(mean: float, *, num_scored: int | None) -> float:
    """Smallest run-to-run sd, on the log scale, that may be believed of a feature with this mean.

    Sixteen equal values do not prove that a metric never moves. With `num_scored` users one user's hit moves a mean
    metric by ``1 / num_scored``; rounding to such steps has the sd of a uniform distribution, ``step / sqrt(12)``.
    """
    if num_scored is None:
        return REL_FLOOR
    return max(REL_FLOOR, 1 / (num_scored * mean * math.sqrt(12)))
