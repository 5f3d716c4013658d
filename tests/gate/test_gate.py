"""The product in use: reference systems trained under fixed seeds, each property one test.

On the CPU this is `pytest -m gate`; the same properties on a GPU are `pytest -m gpu`.
"""

from __future__ import annotations

import pytest

from fixtures.gate_runs import (
    SYSTEMS,
    WHOLE_USERS,
    at_once,
    edited,
    interrupted,
    later,
    repeated,
    rescheduled,
    reseeded,
)
from rectest import checks

DEVICES = [pytest.param("cpu", marks=pytest.mark.gate), pytest.param("cuda", marks=pytest.mark.gpu)]

pytestmark = [pytest.mark.parametrize("device", DEVICES), pytest.mark.parametrize("system", SYSTEMS)]


@pytest.fixture
def spec(system, device, rec_train, rec_device):
    """The system at its defaults, on the device under test."""
    return rec_train.spec(system, device=rec_device)


@pytest.fixture
def record(system, spec, rec_train):
    """One training run of it. Where several can be trained at a time, so are the other runs that its tests need."""
    if rec_train.processes > 1:
        first, *_ = rec_train.many(at_once(spec))
        rec_train.many(later(spec, first))
    return rec_train(spec)


def test_reproducible(system, spec, record, rec_train, rec_check):
    """The same spec in two fresh processes, with another hash seed and working directory, gives the same bits."""
    second = rec_train(repeated(spec))

    rec_check([*checks.reproducible(record, second), *checks.hash_sweep([record, second])], of=system)


def test_seeds_are_alive(system, spec, record, rec_train, rec_check):
    """Another seed draws other parameters, batches and negatives."""
    rec_check(checks.different_seeds_differ(record, rec_train(reseeded(spec))), of=system)


def test_exact_baseline(spec, rec_gate):
    """The bits are those stored for this environment."""
    rec_gate.exact(spec)


def test_ensemble_baseline(spec, rec_gate):
    """The metrics are what the stored seeds predict."""
    rec_gate.ensemble(spec)


def test_embeddings(system, record, rec_check):
    """Tables are finite, alive, of sane length; padding stays zero; rows that no batch used stay where they began."""
    rec_check([*checks.embeddings(record), *checks.signal(record)], of=system)


def test_mapping(system, record, rec_check):
    """Id maps are complete bijections that all phases share."""
    rec_check(checks.mapping(record), of=system)


def test_ranges(system, record, rec_check):
    """Metrics and losses are finite and possible, and nobody is missing."""
    rec_check(checks.ranges(record), of=system)


def test_coherence(system, record, rec_check):
    """The metric table is one that some ranking can produce, and follows from the stored ranks."""
    rec_check(checks.coherence(record), of=system)


def test_chance(system, record, rec_check):
    """The model has learned something: it beats a random ranking."""
    rec_check(checks.above_chance(record), of=system)


def test_popularity_floor(system, record, rec_check):
    """The model beats counting, and does not beat what is knowable."""
    rec_check(checks.popularity_floor(record), of=system)


def test_purity(system, record, rec_check):
    """Evaluating changes neither the model nor what is trained on, and repeats itself."""
    rec_check(checks.purity(record), of=system)


def test_schedule(system, spec, record, rec_train, rec_check):
    """Evaluating twice as often trains on the very same batches and negatives, to the same parameters."""
    rec_check(checks.schedule_independent(record, rec_train(rescheduled(spec, record))), of=system)


def test_learning(system, record, rec_check):
    """Every parameter that should learn does, every branch of the model, and what is learned generalises."""
    rec_check(checks.learning(record), of=system)


def test_fusion(system, record, rec_check):
    """A score that is a sum is not drowned by one of its parts."""
    if "components" not in record.facts["probes"]:
        pytest.skip(f"the score of {system} is one part")
    rec_check(checks.fusion(record), of=system)


def test_invariance(system, record, rec_check):
    """Scores are finite in every mode, and the same alone, in company and behind more padding."""
    rec_check(checks.invariance(record), of=system)


def test_configuration(system, record, rec_check):
    """Every setting that was given is read."""
    rec_check(checks.configuration(record), of=system)


def test_accounting(system, record, rec_check):
    """The tested weights are those of the best evaluation, and metrics are means over users."""
    judged = [check(record) for check in (checks.early_stop, checks.best_checkpoint, checks.batch_means)]
    rec_check([result for results in judged for result in results], of=system)


def test_resume(system, spec, record, rec_train, rec_check):
    """A run that was interrupted halfway and taken up by another process is the uninterrupted one, bit for bit."""
    rec_check(checks.resumed(record, rec_train(interrupted(spec, record))), of=system)


def test_leak(system, spec, record, rec_train, rec_check):
    """With other held-out items, training is the same to the bit."""
    if system in WHOLE_USERS:
        pytest.skip(f"{system} holds out whole users")
    rec_check(checks.held_out_blind(record, rec_train(edited(spec))), of=system)


def test_effects(system, record, rec_check):
    """What the settings promise of the data and the curves is what happened."""
    rec_check(checks.effects(record), of=system)


def test_fluctuation(system, spec, record, rec_train, rec_check):
    """How far seeds lie apart, by phase, with the bands of report 000 printed beside it and not believed."""
    records = [record, rec_train(reseeded(spec))]
    metric = f"valid/{records[0].facts['early_stopping']['measure']}"

    rec_check([*checks.seed_spread(records, metric), *checks.phases(records, metric)], of=system)
