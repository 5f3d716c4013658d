"""Whether a curve of losses falls by more than its own noise; numbers only, the verdicts are in `learning.py`.

Two tests of one question, for short and for long curves; steps are taken as independent around a slowly changing mean,
which is what batches drawn at random are.

- From `MIN_WINDOWED` steps on: the mean of the first fifth against the mean of the last fifth. Each has its standard
  error from successive differences (`curve_error`, so that the fall inside a window is not taken for noise), and
  their difference is judged by Student's t with the degrees of freedom of Welch (1947) and Satterthwaite (1946).
- Below: Kendall's tau against time (Mann, 1945), exact. Without a trend all orders of the T steps are equally likely,
  so at most 1 / T! of flat curves fall at every step; below `MIN_STEPS` steps even that is no evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rectest.checks.effect import curve_error, t_limit
from rectest.checks.tolerance import ALPHA, z_limit

__all__ = ["MIN_STEPS", "MIN_WINDOWED", "Fall", "fall_of", "kendall_tail"]

Curve = npt.NDArray[np.float64]

MIN_STEPS = 7
"""1 / 7! = 2e-4 is the first below `ALPHA`: no shorter curve can show a trend."""

MIN_WINDOWED = 50
"""A fifth of it has 10 steps, the fewest for which `curve_error` and `t_limit` are good."""

PARTS = 5
"""The windows are the first and the last of this many parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fall:
    """How a curve went from its first part to its last."""

    early: float
    late: float
    falls: bool
    """Whether it fell by more than noise makes it fall once in 1 / alpha curves."""

    evidence: str
    """The numbers behind `falls`."""

    @property
    def relative(self) -> float:
        """The fall as a share of the early mean's size; NaN where that is 0."""
        return (self.early - self.late) / abs(self.early) if self.early else math.nan


def fall_of(curve: npt.ArrayLike, *, alpha: float = ALPHA) -> Fall | str:
    """The fall of a curve, or in words why it cannot be judged (too short, not finite).

    >>> fall = fall_of(1 / np.arange(1.0, 9.0))
    >>> fall.falls, fall.evidence
    (True, '28 of 28 pairs of steps fall, p = 2.5e-05')
    >>> fall_of([3.0, 2.0, 1.0])
    '3 steps, at least 7 are needed to tell a trend from noise'
    """
    values = np.asarray(curve, dtype=np.float64).reshape(-1)
    if values.size < MIN_STEPS:
        return f"{values.size} steps, at least {MIN_STEPS} are needed to tell a trend from noise"
    if not np.isfinite(values).all():
        return f"step {int((~np.isfinite(values)).argmax()) + 1} is not finite"
    size = max(1, values.size // PARTS)
    early, late = float(values[:size].mean()), float(values[-size:].mean())
    falls, evidence = (_by_order if values.size < MIN_WINDOWED else _by_means)(values, alpha)
    return Fall(early=early, late=late, falls=falls, evidence=evidence)


def _by_means(values: Curve, alpha: float) -> tuple[bool, str]:
    size = values.size // PARTS
    first, last = values[:size], values[-size:]
    (error1, freedom1), (error2, freedom2) = curve_error(first), curve_error(last)
    error = math.hypot(error1, error2)
    drop = float(first.mean() - last.mean())
    if error == 0:
        return drop > 0, f"{drop:.3g} without any noise"
    freedom = error**4 / (error1**4 / freedom1 + error2**4 / freedom2)
    limit = t_limit(z_limit(alpha), freedom)
    return drop > limit * error, f"{drop / error:.3g} standard errors of {error:.2g}, {limit:.3g} are needed"


def _by_order(values: Curve, alpha: float) -> tuple[bool, str]:
    later, earlier = np.tril_indices(values.size, -1)
    falling = int((values[later] < values[earlier]).sum())
    # A tie is no evidence of a fall, so it counts against one.
    p = kendall_tail(values.size, falling)
    return p < alpha, f"{falling} of {later.size} pairs of steps fall, p = {p:.2g}"


def kendall_tail(num_steps: int, num_falling: int) -> float:
    """P(at least `num_falling` of all pairs of steps fall) where all orders of the steps are equally likely, exact.

    The number of falling pairs is a sum of independent uniforms on 0..t-1 for t = 1..T (Kendall, 1938): the t-th
    step falls below any number of its predecessors with equal probability.

    >>> [round(kendall_tail(3, num), 4) for num in (3, 2, 0)]
    [0.1667, 0.5, 1.0]
    """
    return float(min(1.0, _kendall_law(num_steps)[max(0, num_falling) :].sum()))


@lru_cache(maxsize=64)
def _kendall_law(num_steps: int) -> Curve:
    """Probability of each number of falling pairs."""
    law = np.ones(1)
    for step in range(2, num_steps + 1):
        law = np.convolve(law, np.full(step, 1 / step))
    return law
