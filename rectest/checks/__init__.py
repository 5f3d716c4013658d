"""Checks: pure functions from records or arrays to `CheckResult`s; one file per property family.

The functions that judge a whole record (or two, or several) can be imported from here:
``from rectest.checks import embeddings, reproducible``.
"""

from rectest.checks.chance import above_chance, against_chance, popularity_floor
from rectest.checks.coherence import check_table, coherence
from rectest.checks.effect import effects
from rectest.checks.embeddings import embeddings
from rectest.checks.fluctuation import phases, same_seed_spread, seed_spread
from rectest.checks.mapping import check_mapping, mapping
from rectest.checks.purity import purity, schedule_independent
from rectest.checks.ranges import ranges
from rectest.checks.reproducible import different_seeds_differ, reproducible

__all__ = [
    "above_chance",
    "against_chance",
    "check_mapping",
    "check_table",
    "coherence",
    "different_seeds_differ",
    "effects",
    "embeddings",
    "mapping",
    "phases",
    "popularity_floor",
    "purity",
    "ranges",
    "reproducible",
    "same_seed_spread",
    "schedule_independent",
    "seed_spread",
]
