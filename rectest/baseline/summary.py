"""What a baseline says about each of its features, as numbers for people: how runs, twins and users scatter.

Nothing is judged here; `looks` and `paired` compute their own limits from the same stored values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rectest.baseline.ensemble import signed_logs
from rectest.baseline.looks import promised_drop
from rectest.baseline.schema import Baseline

__all__ = ["FeatureSummary", "summarized"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSummary:
    """One feature over the stored seeds; sds are of logarithms, so that 0.03 reads 3 %."""

    feature: str
    mean: float
    run_sd: float
    """From seed to seed."""

    rounding_sd: float | None
    """Between a run and its rounding twin, as a root mean square; None without twins."""

    phi: float | None
    """``s**2 / v_user``: variance from seed to seed over what independent noise of users explains; None where their
    values were not kept. Near 1 only more users make the gate sharper, far above it only steadier training does."""

    caught: float
    """The smallest change for the worse that a gate of today promises to catch."""

    declared: float | None
    """The same as it was promised at the recording; None in files that kept no promise."""


def summarized(baseline: Baseline) -> list[FeatureSummary]:
    """One summary per feature, sorted by name."""
    return [_summary(baseline, name) for name in sorted(baseline.ensemble.features)]


def _summary(baseline: Baseline, name: str) -> FeatureSummary:
    ensemble = baseline.ensemble
    runs = signed_logs(name, ensemble.features[name])
    variance, of_users = float(runs.var(ddof=1)), ensemble.user_variance.get(name)
    apart = None
    if name in ensemble.twins:
        apart = math.sqrt(float(np.mean((signed_logs(name, ensemble.twins[name]) - runs) ** 2)))
    return FeatureSummary(
        feature=name,
        mean=float(np.mean(ensemble.features[name])),
        run_sd=math.sqrt(variance),
        rounding_sd=apart,
        phi=None if of_users is None else variance / of_users,
        caught=promised_drop(baseline, name),
        declared=None if baseline.declared is None else baseline.declared.mdd.get(name),
    )
