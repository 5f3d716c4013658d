"""Checks: pure functions from records or arrays to `CheckResult`s; one file per property family.

The functions that judge a whole record (or two, or several) can be imported from here:
``from rectest.checks import embeddings, reproducible``.
"""

from rectest.checks.accounting import early_stop
from rectest.checks.chance import above_chance, against_chance, popularity_floor
from rectest.checks.coherence import check_table, coherence
from rectest.checks.configuration import ablation, configuration, reaches
from rectest.checks.effect import effects
from rectest.checks.embeddings import embeddings
from rectest.checks.evaluation import batch_means, best_checkpoint, cache_key, hash_sweep
from rectest.checks.fluctuation import phases, same_seed_spread, seed_spread
from rectest.checks.fusion import fusion
from rectest.checks.generated import generated_ids, matching, recent_share, round_trip
from rectest.checks.inputs import comparable_results, comparable_runs, same_inputs
from rectest.checks.invariance import invariance
from rectest.checks.leak import held_out_blind, mention_rates
from rectest.checks.learning import learning
from rectest.checks.mapping import check_mapping, mapping
from rectest.checks.parity import gradient_parity
from rectest.checks.purity import purity, schedule_independent
from rectest.checks.ranges import ranges
from rectest.checks.replicas import replicas_equal
from rectest.checks.reproducible import different_seeds_differ, reproducible
from rectest.checks.resume import resumed
from rectest.checks.shares import shares_make_the_batch
from rectest.checks.stability import growth_per_phase, stability
from rectest.checks.table_signal import signal

__all__ = [
    "ablation",
    "above_chance",
    "against_chance",
    "batch_means",
    "best_checkpoint",
    "cache_key",
    "check_mapping",
    "check_table",
    "coherence",
    "comparable_results",
    "comparable_runs",
    "configuration",
    "different_seeds_differ",
    "early_stop",
    "effects",
    "embeddings",
    "fusion",
    "generated_ids",
    "gradient_parity",
    "growth_per_phase",
    "hash_sweep",
    "held_out_blind",
    "invariance",
    "learning",
    "mapping",
    "matching",
    "mention_rates",
    "phases",
    "popularity_floor",
    "purity",
    "ranges",
    "reaches",
    "recent_share",
    "replicas_equal",
    "reproducible",
    "resumed",
    "round_trip",
    "same_inputs",
    "same_seed_spread",
    "schedule_independent",
    "seed_spread",
    "shares_make_the_batch",
    "signal",
    "stability",
]
