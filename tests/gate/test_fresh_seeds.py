"""The gate on fresh seeds of each clean system, one gate after the other as a nightly job would run them.

It stays green as often as it declares, takes little more than one run, and sees the drop that it promises when that is
planted in real runs. Every check of a single record is made too. Half an hour on two cores:
`pytest tests/gate/test_fresh_seeds.py -m slow`; RECTEST_FRESH_SEEDS=30 asks for fewer seeds.
"""

from __future__ import annotations

import os
from statistics import pstdev

import pytest

from rectest.baseline.judge import judge_sequential
from rectest.baseline.levels import judge_gate
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA, MAX_RUNS, promised_drop
from rectest.baseline.selftest import main_features
from rectest.baseline.selftest_results import MOST_MEAN_RUNS
from rectest.baseline.store import BaselineStore
from rectest.checks.result import Verdict
from rectest.checks.tolerance import binomial_limit, z_limit
from rectest.faults.matrix import of_one

NUM_SEEDS = int(os.environ.get("RECTEST_FRESH_SEEDS", "100"))
FIRST_SEED = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(params=["adaptive_sasrec", "comirec", "gear", "gram_c", "ur4rec"])
def fresh(request, rec_train):
    """The stored baseline of a system, its sidecar, and records under seeds that no baseline has seen."""
    specs = [rec_train.spec(request.param, seed=FIRST_SEED + i) for i in range(NUM_SEEDS)]
    records = rec_train.many(specs)
    store = BaselineStore(rec_train.options.baselines)
    baseline = store.load(request.param, records[0].environment.env_class)
    return baseline, store.sidecar(baseline), records


def gates(records, judge):
    """Verdict and number of runs of consecutive gates, each trained until it decides; a last one without end is left.

    A gate that decides early leaves the next seeds to the next gate.
    """
    found, start = [], 0
    while start < len(records):
        for num in range(1, MAX_RUNS + 1):
            if start + num > len(records):
                return found
            verdict, undecided = judge(records[start : start + num])
            if not undecided:
                break
        found.append((verdict, num))
        start += num
    return found


def changed(record, name, drop):
    """The record with one feature worse by `drop`: a test value, or the loss of every step."""
    key = "loss/total" if name.startswith("loss/") else f"metric/{name}"
    factor = 1 + drop if name.startswith("loss/") else 1 - drop
    return record.with_arrays(**{key.replace("/", "__"): record[key] * factor})


def test_clean_seeds_stay_green_and_a_promised_drop_is_seen(fresh):
    baseline, sidecar, records = fresh

    def whole(runs):
        outcome = judge_gate(runs, baseline, sidecar)
        return outcome.verdict, outcome.undecided

    def over_seeds(runs):
        """Without the oracles, to which a mean that is not that of its ranks is enough."""
        outcome = judge_sequential(runs, baseline)
        return Verdict(outcome.decision.state), outcome.undecided

    clean = gates(records, whole)
    alarms = [verdict for verdict, _ in clean if verdict is not Verdict.PASS]
    mean_runs = sum(num for _, num in clean) / len(clean)
    room = z_limit() * pstdev(num for _, num in clean) / len(clean) ** 0.5
    missed = {}
    for name in main_features(baseline):
        drop = promised_drop(baseline, name)
        planted = gates([changed(record, name, drop) for record in records], over_seeds)
        missed[name] = sum(verdict is not Verdict.FAIL for verdict, _ in planted), len(planted)
    figures = f"{len(alarms)} alarms in {len(clean)} gates of {mean_runs:.2f} runs on average; missed {missed}"

    assert len(alarms) < binomial_limit(len(clean), ALPHA_DROP + ALPHA_RISE), figures
    assert mean_runs <= MOST_MEAN_RUNS + room, figures
    assert all(misses < binomial_limit(num, BETA) for misses, num in missed.values()), figures


def test_no_check_of_a_single_run_raises_a_false_alarm(fresh):
    _, _, records = fresh
    red = [f"seed {r.spec.seed}: {found.check} {found.figure}" for r in records for found in of_one(r) if found.red]

    assert red == []
