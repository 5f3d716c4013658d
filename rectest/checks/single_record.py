"""Every check that needs one record and nothing else: the list, and when each of them has something to look at.

The gate asks these checks one test at a time; ``rectest audit record`` asks a file only what it has arrays and facts
for, and the fault matrix asks them all of each training. Checks that need a second run (reproducible bits, seeds,
resuming, leaks, schedules) are named here, so that nobody believes them done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rectest.checks.accounting import early_stop
from rectest.checks.chance import above_chance, popularity_floor
from rectest.checks.coherence import coherence
from rectest.checks.configuration import configuration
from rectest.checks.effect import effects
from rectest.checks.embeddings import embeddings
from rectest.checks.evaluation import batch_means, best_checkpoint
from rectest.checks.fusion import fusion
from rectest.checks.invariance import invariance
from rectest.checks.learning import learning
from rectest.checks.mapping import mapping
from rectest.checks.purity import purity
from rectest.checks.ranges import ranges
from rectest.checks.result import CheckResult
from rectest.checks.table_signal import signal
from rectest.record import RunRecord

__all__ = ["SINGLE", "TWO_RUNS", "Single", "judge_alone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Single:
    """One check of one record."""

    judge: Callable[[RunRecord], list[CheckResult]]
    arrays: str = ""
    """Prefix of arrays without which it has nothing to look at; empty when it asks for none."""
    fact: str = ""
    """Path of a fact without which it has nothing to look at, with slashes."""
    absent: str = ""
    """What it means when that is not there."""
    by_system: bool = False
    """Whether some systems rightly lack it; everything else is in every record that a training wrote."""

    @property
    def name(self) -> str:
        """The name under which tests know it."""
        return self.judge.__name__

    def missing(self, record: RunRecord) -> str:
        """Why the check has nothing to look at in this record, or ""."""
        if self.arrays and not any(key.startswith(self.arrays) for key in record.arrays):
            return self.absent
        found: object = record.facts
        for part in self.fact.split("/") if self.fact else ():
            if not isinstance(found, dict) or not found.get(part):
                return self.absent
            found = found[part]
        return ""


SINGLE: tuple[Single, ...] = (
    Single(judge=embeddings, arrays="table", absent="the record has no embedding table"),
    Single(judge=signal, arrays="table/", absent="the record has no embedding table"),
    Single(judge=mapping, arrays="idmap/", absent="the record has no id map"),
    Single(judge=ranges),
    Single(judge=coherence),
    Single(judge=above_chance, arrays="metric/test/", absent="the record has no metric of the test split"),
    Single(judge=popularity_floor, fact="floors", absent="the record has no floors"),
    Single(judge=purity, fact="evaluation", absent="the record does not say what its evaluations did"),
    Single(judge=learning, fact="parameters", absent="the record does not say how far its parameters moved"),
    Single(judge=fusion, fact="probes/components", absent="the score is one part", by_system=True),
    Single(judge=invariance, fact="probes", absent="scores were not probed"),
    Single(judge=configuration, fact="settings_read", absent="nobody watched which settings were read"),
    Single(judge=early_stop, fact="early_stopping/measure", absent="no metric was monitored"),
    Single(judge=best_checkpoint, fact="best_again", absent="the best weights were not evaluated again"),
    Single(judge=batch_means, arrays="ranks/test/", absent="the record has no ranks of the test split"),
    Single(judge=effects, fact="inputs", absent="the record has no facts of its inputs"),
)
"""In the order in which they are told."""

TWO_RUNS = (
    "reproducible",
    "hash_sweep",
    "different_seeds_differ",
    "schedule_independent",
    "resumed",
    "held_out_blind",
    "seed_spread",
    "phases",
)
"""Checks that need more than one run of the program."""


def judge_alone(record: RunRecord) -> tuple[list[CheckResult], dict[str, str]]:
    """All results of one record, and for each check that has nothing to look at in it, why."""
    results: list[CheckResult] = []
    idle: dict[str, str] = {}
    for single in SINGLE:
        if missing := single.missing(record):
            idle[single.name] = missing
        else:
            results += single.judge(record)
    return results, idle
