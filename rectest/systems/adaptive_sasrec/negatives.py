"""Which law the negatives come from at each step: uniform, a fixed mixture with popular items, or a curriculum.

The mixture is a coin per draw. Report 002's sampler took int(n * ratio) popular ones of n draws, which is 0 for its
one negative per position, in every phase of its curriculum: the feature was on and did nothing. `relative_popularity`
measures the effect instead of trusting the flag. The samplers themselves are in `rectest.data.negatives`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rectest.data.interactions import Sequences
from rectest.data.negatives import MixedNegatives, Negatives, PopularityNegatives, UniformNegatives

__all__ = ["CURRICULUM", "NegativeSchedule", "expected_popularity", "relative_popularity"]

CURRICULUM = (0.1, 0.5, 0.8)
"""Probability of a popular negative in each third of training."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NegativeSchedule:
    """The sampler in force at each step of a run."""

    counts: npt.NDArray[np.int64]
    """[V+1] counted training events per item."""

    num_steps: int
    smart: bool
    popular_ratio: float
    power: float
    curriculum: bool

    def ratio(self, step: int) -> float:
        """Probability that a draw of this step (from 1) is a popular one.

        Steps after the last planned one stay in the last phase.
        """
        if step < 1:
            msg = f"steps are counted from 1, got {step}"
            raise ValueError(msg)
        if not self.smart:
            return 0.0
        if not self.curriculum:
            return self.popular_ratio
        phase = len(CURRICULUM) * (step - 1) // self.num_steps
        return CURRICULUM[min(phase, len(CURRICULUM) - 1)]

    def sampler(self, step: int) -> Negatives:
        """The law of one draw at this step; without smart negatives exactly the baseline's uniform sampler."""
        if not self.smart:
            return UniformNegatives(num_items=len(self.counts) - 1)
        popular = PopularityNegatives(counts=self.counts, power=self.power)
        return MixedNegatives(popular=popular, popular_ratio=self.ratio(step))

    def promised_popularity(self, own: Sequences | None, draws: npt.NDArray[np.int64]) -> float:
        """What `relative_popularity` should be on average over the run, by the settings alone.

        It never looks at `sampler`, so that it is a yardstick for it.

        Args:
            own: the items that are never drawn for each user, or None.
            draws: how many negatives each user of `own` gets per epoch.
        """
        weight = self.counts**self.power * (self.counts > 0)
        uniform = np.where(np.arange(len(self.counts)) > 0, 1.0 / (len(self.counts) - 1), 0.0)
        ratios = [self.ratio(step) for step in range(1, self.num_steps + 1)]
        means = {
            ratio: expected_popularity(ratio * weight / weight.sum() + (1 - ratio) * uniform, self.counts, own, draws)
            for ratio in set(ratios)
        }
        return float(np.mean([means[ratio] for ratio in ratios]))


def expected_popularity(
    law: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    own: Sequences | None = None,
    draws: npt.NDArray[np.int64] | None = None,
) -> float:
    """Mean count of an item drawn from `law` over the mean count of all items: 1 for uniform draws.

    With `own`, each user's draws follow the law restricted to other items, which are less popular on average; `draws`
    weighs the users.
    """
    mean = counts[1:].mean()
    if own is None:
        return float(law @ counts / mean)
    pairs = np.unique(own.owners() * len(law) + own.items)
    user, item = pairs // len(law), pairs % len(law)
    lost, lost_counts = (np.bincount(user, weights=values[item], minlength=len(own)) for values in (law, law * counts))
    of_user = (law @ counts - lost_counts) / (1.0 - lost)
    return float(np.average(of_user, weights=draws) / mean)


def relative_popularity(items: Tensor, counts_V: Tensor) -> Tensor:
    """Scalar: mean count of the drawn `items` over the mean count of all items; padding is left out."""
    drawn = items[items > 0]
    return counts_V[drawn].double().mean() / counts_V[1:].double().mean()
