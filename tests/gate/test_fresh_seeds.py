"""The gate on fresh seeds of each clean system: it stays green, and a planted drop of the gated metrics is always seen.

Every check of a single record is made too. Twenty minutes on two cores:
`pytest tests/gate/test_fresh_seeds.py -m slow`; RECTEST_FRESH_SEEDS=200 asks for more seeds.
"""

from __future__ import annotations

import os

import pytest

from rectest.baseline.ensemble import POWER, detectable_drop
from rectest.baseline.judge import judge_ensemble
from rectest.baseline.store import BaselineStore
from rectest.checks.result import any_red
from rectest.checks.tolerance import binomial_limit
from rectest.faults.matrix import of_one

NUM_SEEDS = int(os.environ.get("RECTEST_FRESH_SEEDS", "51"))
FIRST_SEED = 1000
GATE_SEEDS = 3
ALPHA = 1e-3

pytestmark = pytest.mark.slow


@pytest.fixture(params=["adaptive_sasrec", "comirec", "gear", "gram_c", "ur4rec"])
def fresh(request, rec_train):
    """The stored baseline of a system and its records under seeds that no baseline has seen."""
    specs = [rec_train.spec(request.param, seed=FIRST_SEED + i) for i in range(NUM_SEEDS)]
    records = rec_train.many(specs)
    baseline = BaselineStore(rec_train.options.baselines).load(request.param, records[0].environment.env_class)
    return baseline, records


def groups(records, size):
    """Disjoint groups of `size` records."""
    return [records[i : i + size] for i in range(0, len(records) - size + 1, size)]


def dropped(record, share):
    """The record with every gated metric lower by `share`, at each evaluation."""
    arrays = dict(record.arrays)
    for split in ("valid", "test"):
        for name in record.facts["gate"]["metrics"]:
            arrays[f"metric/{split}/{name}"] = arrays[f"metric/{split}/{name}"] * (1 - share)
    return record.with_arrays(**{key.replace("/", "__"): value for key, value in arrays.items()})


def promised_drop(baseline, records):
    """The smallest drop of the gated test metrics that a gate of three promises to see, at least 10 %."""
    names = [f"test/{name}" for name in records[0].facts["gate"]["metrics"]]
    return max(0.1, *(detectable_drop(baseline, name, num_new=GATE_SEEDS) for name in names))


def test_clean_seeds_stay_green_and_a_drop_is_seen(fresh):
    baseline, records = fresh
    triples = groups(records, GATE_SEEDS)
    drop = promised_drop(baseline, records)

    alarms = [any_red(judge_ensemble(group, baseline, alpha=ALPHA)) for group in triples]
    single = [any_red(judge_ensemble([record], baseline, alpha=ALPHA)) for record in records]
    missed = [not any_red(judge_ensemble([dropped(r, drop) for r in group], baseline)) for group in triples]

    assert sum(alarms) == 0
    assert sum(single) < binomial_limit(len(single), ALPHA)
    assert sum(missed) <= (1 - POWER) * len(missed)


def test_no_check_of_a_single_run_raises_a_false_alarm(fresh):
    _, records = fresh
    red = [f"seed {r.spec.seed}: {found.check} {found.figure}" for r in records for found in of_one(r) if found.red]

    assert red == []
