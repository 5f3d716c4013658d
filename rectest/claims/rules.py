"""What the reports' programs do by rule, rewritten in our own words: alternation, fused ranks, schedules, gradients.

Small exact or seeded calculations without training; what they mean for a claim stands in the module of the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.seeding import SeedPlan

__all__ = [
    "Schedule",
    "alternation_switches",
    "falling_losses",
    "fused_ranks",
    "mean_of_measures",
    "rank_outcomes",
    "shift_for_mean_rank",
]

Floats = npt.NDArray[np.float64]

WINDOW, OLDEST, WAIT = 10, 5, 5
"""Report 001's rule keeps 10 losses, compares the newest with the sixth, and waits 5 steps after a switch."""


def alternation_switches(losses: Mapping[str, Floats], *, threshold: float) -> list[int]:
    """The steps at which the documented alternation changes the module, starting with the first of `losses`.

    The rule: with 10 losses of the active module kept, switch when 5 steps have passed since the last switch and
    |x[-1] - x[5]| / |x[5]| is below the threshold; a rate of 0 / 0 counts as no change.
    """
    names = list(losses)
    active, since, steps = 0, 0, []
    kept: dict[str, list[float]] = {name: [] for name in names}
    for step in range(1, min(map(len, losses.values())) + 1):
        since += 1
        for name in names:
            kept[name] = [*kept[name], float(losses[name][step - 1])][-WINDOW:]
        window = kept[names[active]]
        if len(window) == WINDOW and since >= WAIT and _change(window) < threshold:
            steps.append(step)
            active, since = (active + 1) % len(names), 0
    return steps


def _change(window: Sequence[float]) -> float:
    old, new = window[OLDEST], window[-1]
    if old == 0:
        return 0.0 if new == 0 else math.inf
    return abs(new - old) / abs(old)


def falling_losses(
    start: float, end: float, *, steps: int, noise: float, num_runs: int, seed: int = 0
) -> Iterator[Floats]:
    """Losses that fall exponentially from `start` to `end`, with relative noise of each batch."""
    curve = start * (end / start) ** (np.arange(steps) / max(1, steps - 1))
    rng = SeedPlan(root=seed).rng("claims/falling_losses")
    for _ in range(num_runs):
        yield curve * (1 + noise * rng.standard_normal(steps))


def rank_outcomes(num_candidates: int) -> Floats:
    """[C, 4] hit@5, ndcg@10, reciprocal rank and rank of one user, for each rank that the relevant item can have."""
    rank = np.arange(1, num_candidates + 1, dtype=np.float64)
    return np.stack([rank <= 5, np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0), 1 / rank, rank], axis=1)


def shift_for_mean_rank(mean_rank: float, *, num_candidates: int) -> float:
    """By how many sd the relevant item must score above the others (normal scores) to have this mean rank."""
    from scipy.stats import norm

    beaten = 1 - (mean_rank - 1) / (num_candidates - 1)
    return float(math.sqrt(2) * norm.ppf(beaten))


def fused_ranks(shift: float, *, noise: float, num_candidates: int) -> Floats:
    """[C] law of the relevant item's rank when noise of `noise` sd is added to every score of a normal scorer.

    Exact up to quadrature: given the relevant item's score, each other candidate is above it independently.
    """
    from scipy.stats import binom, norm

    quantiles = (np.arange(2000) + 0.5) / 2000
    own = norm.ppf(quantiles) + shift / math.sqrt(1 + noise**2)
    above = norm.sf(own)
    law = binom.pmf(np.arange(num_candidates)[:, None], num_candidates - 1, above[None, :]).mean(axis=1)
    return np.asarray(law, dtype=np.float64)


def mean_of_measures(law: Floats) -> dict[str, float]:
    """hit@5, hit@10, ndcg@10, mrr and mean rank under a law of ranks."""
    rank = np.arange(1, len(law) + 1)
    gain = np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)
    return {
        "hit@5": float(law[:5].sum()),
        "hit@10": float(law[:10].sum()),
        "ndcg@10": float(law @ gain),
        "mrr": float(law @ (1 / rank)),
        "mean_rank": float(law @ rank),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A learning rate that rises linearly over a share of all steps and falls linearly to 0 at the end."""

    peak: float
    warm_up: float
    total_steps: int

    def rate(self, step: int) -> float:
        """The learning rate after `step` steps."""
        rising = self.warm_up * self.total_steps
        if step < rising:
            return self.peak * step / rising
        return self.peak * (self.total_steps - step) / (self.total_steps - rising)

    def integral(self, steps: int) -> float:
        """The sum of the learning rates of the first `steps` steps."""
        return math.fsum(self.rate(step) for step in range(1, steps + 1))
