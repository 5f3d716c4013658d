"""Ranks, ranking metrics and their bounds: exact, in NumPy, knowing nothing of models or training."""

from __future__ import annotations

from rectest.metrics.bounds import chance, chance_per_user, z_score
from rectest.metrics.coherence import Violation, coherence_violations
from rectest.metrics.measure import MEASURE_NAMES, Measure
from rectest.metrics.ranking import evaluate, per_user, tie_share
from rectest.metrics.ranks import Ranks, rank_slots, rank_targets
from rectest.metrics.targets import Targets, repeated_slots

__all__ = [
    "MEASURE_NAMES",
    "Measure",
    "Ranks",
    "Targets",
    "Violation",
    "chance",
    "chance_per_user",
    "coherence_violations",
    "evaluate",
    "per_user",
    "rank_slots",
    "rank_targets",
    "repeated_slots",
    "tie_share",
    "z_score",
]
