"""The product in use: reference systems trained under fixed seeds, each property one test.

On the CPU this is `pytest -m gate`; the same properties on a GPU are `pytest -m gpu`.
"""

from __future__ import annotations

import numpy as np
import pytest

from rectest.checks.chance import above_chance, popularity_floor
from rectest.checks.coherence import coherence
from rectest.checks.embeddings import embeddings
from rectest.checks.fluctuation import phases, seed_spread
from rectest.checks.mapping import mapping
from rectest.checks.purity import purity
from rectest.checks.ranges import ranges
from rectest.checks.reproducible import different_seeds_differ, reproducible

SYSTEMS = ("adaptive_sasrec", "comirec")
DEVICES = [pytest.param("cpu", marks=pytest.mark.gate), pytest.param("cuda", marks=pytest.mark.gpu)]

pytestmark = [pytest.mark.parametrize("device", DEVICES), pytest.mark.parametrize("system", SYSTEMS)]


@pytest.fixture
def spec(system, device, rec_train, rec_device):
    """The system at its defaults, on the device under test."""
    return rec_train.spec(system, device=rec_device)


@pytest.fixture
def record(spec, rec_train):
    """One training run of it."""
    return rec_train(spec)


def test_reproducible(system, spec, rec_train, rec_check):
    """The same spec in two fresh processes, with another hash seed and working directory, gives the same bits."""
    first, second = rec_train.many([spec, spec.with_(replica=1)])

    rec_check(reproducible(first, second), of=system)


def test_seeds_are_alive(system, spec, rec_train, rec_check):
    """Another seed draws other parameters, batches and negatives."""
    first, second = rec_train.many([spec, spec.with_(seed=1)])

    rec_check(different_seeds_differ(first, second), of=system)


def test_exact_baseline(spec, rec_gate):
    """The bits are those stored for this environment."""
    rec_gate.exact(spec)


def test_ensemble_baseline(spec, rec_gate):
    """The metrics are what the stored seeds predict."""
    rec_gate.ensemble(spec)


def test_embeddings(system, record, rec_check):
    """Tables are finite, alive, of sane length; padding stays zero; rows that no batch used stay where they began."""
    rec_check(embeddings(record), of=system)


def test_mapping(system, record, rec_check):
    """Id maps are complete bijections that all phases share."""
    rec_check(mapping(record), of=system)


def test_ranges(system, record, rec_check):
    """Metrics and losses are finite and possible, and nobody is missing."""
    rec_check(ranges(record), of=system)


def test_coherence(system, record, rec_check):
    """The metric table is one that some ranking can produce, and follows from the stored ranks."""
    rec_check(coherence(record), of=system)


def test_chance(system, record, rec_check):
    """The model has learned something: it beats a random ranking."""
    rec_check(above_chance(record), of=system)


def test_popularity_floor(system, record, rec_check):
    """The model beats counting, and does not beat what is knowable."""
    rec_check(popularity_floor(record), of=system)


def test_purity(system, record, rec_check):
    """Evaluating changes neither the model nor what is trained on, and repeats itself."""
    rec_check(purity(record), of=system)


def test_fluctuation(system, spec, rec_train, rec_check):
    """How far seeds lie apart, by phase, with the bands of report 000 printed beside it and not believed."""
    records = rec_train.many([spec.with_(seed=seed) for seed in range(3)])
    metric = f"valid/{records[0].facts['early_stopping']['measure']}"

    rec_check([*seed_spread(records, metric), *phases(records, metric)], of=system)


@pytest.mark.gpu
def test_streams_do_not_depend_on_the_device(system, spec, record, rec_train, device):
    """Batches, negatives and initial parameters are drawn on the CPU, so a GPU trains on the very same ones."""
    if device == "cpu":
        pytest.skip("compares a GPU run with a CPU run; the cuda case does it")
    cpu = rec_train(spec.with_(device="cpu"))

    for stage in ("id_map", "init", "batch", "negatives"):
        key = f"tape/{stage}"
        if key in cpu:
            shared = min(len(cpu[key]), len(record[key]))
            assert np.array_equal(cpu[key][:shared], record[key][:shared]), stage
