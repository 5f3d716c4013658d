"""How many runs a wanted drop costs: what `rectest baseline plan` answers, for one feature and for all of them.

The arithmetic is `power.plan`; here it gets the noise and the share of the false-alarm rate that a stored baseline has.
A gate trains at most `MAX_RUNS` seeds, so that a drop may be out of reach whatever is stored; then the least that can
be reached is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rectest.baseline.ensemble import feature_floor, signed_logs
from rectest.baseline.features import higher_is_better, weights
from rectest.baseline.looks import ALPHA_DROP, BETA, MAX_RUNS
from rectest.baseline.power import mdd_upper, plan
from rectest.baseline.schema import Baseline

__all__ = ["MOST_STORED", "FeaturePlan", "plan_feature", "stored_for_all"]

MOST_STORED = 64
"""Seeds beyond which nobody records: the promise hardly moves any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturePlan:
    """What one feature needs for a gate of at most `num_new` runs to catch the wanted drop."""

    feature: str
    num_new: int
    num_stored: int | None
    """Fewest stored seeds; None where not even `MOST_STORED` suffice."""

    least: float
    """The smallest relative change for the worse that `MOST_STORED` seeds catch."""


def plan_feature(baseline: Baseline, feature: str, wanted: float, *, num_new: int = MAX_RUNS) -> FeaturePlan:
    """The fewest stored seeds with which a gate of at most `num_new` runs catches a relative change of `wanted`.

    Raises:
        ValueError: `wanted` is not between 0 and 1, or `num_new` is not between 2 and 5.
    """
    if not 0 < wanted < 1:
        msg = f"a drop must be between 0 and 100 %, got {100 * wanted:g} %"
        raise ValueError(msg)
    if not 2 <= num_new <= MAX_RUNS:
        msg = f"a gate trains 2 to {MAX_RUNS} seeds, got {num_new}"
        raise ValueError(msg)
    logs = signed_logs(feature, baseline.ensemble.features[feature])
    sd = max(float(logs.std(ddof=1)), feature_floor(feature, baseline))
    alpha = ALPHA_DROP * weights(baseline.ensemble.features)[feature]
    least = mdd_upper(
        sd,
        num_stored=MOST_STORED,
        num_new=num_new,
        df=MOST_STORED - 1,
        alpha=alpha / (num_new - 1),
        beta=BETA / num_new,
    )
    # A loss that gets worse by a fraction w falls by w / (1 + w) on the scale in which down is worse.
    drop = wanted if higher_is_better(feature) else wanted / (1 + wanted)
    needed = None
    if least <= drop:
        found = plan(sd, drop, alpha=alpha, beta=BETA, max_runs=num_new, most_stored=MOST_STORED, most_new=num_new)
        needed = found.num_stored
    shown = least if higher_is_better(feature) else least / (1 - least)
    return FeaturePlan(feature=feature, num_new=num_new, num_stored=needed, least=shown)


def stored_for_all(plans: Sequence[FeaturePlan]) -> int | None:
    """Seeds with which every one of the features reaches the drop; None where one cannot."""
    needed = [plan.num_stored for plan in plans]
    return None if None in needed else math.ceil(max(count for count in needed if count is not None))
