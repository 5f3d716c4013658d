"""Planted divergences in the tape, one stage at a time: each is named, and equal runs stay green."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, find, make_environment, make_record, make_tape, red_checks
from rectest.checks.reproducible import (
    CAUSES,
    bit_equal,
    different_seeds_differ,
    first_divergence,
    reproducible,
    tape_of,
    unequal_arrays,
)
from rectest.checks.result import Verdict
from rectest.record import STAGES, RunRecord

STEPWISE = STAGES[2:]


def _flip(record: RunRecord, stage: str, step: int) -> RunRecord:
    """The record with the digest of one stage changed from `step` (counted from 1; 0 for setup stages) on."""

    def edit(tape: np.ndarray) -> None:
        tape[max(0, step - 1) :] ^= np.uint64(1)

    return edit_array(record, f"tape/{stage}", edit)


def test_two_equal_runs_are_reproducible_and_counted() -> None:
    results = reproducible(make_record(), make_record(replica=1))

    assert set() == red_checks(results)
    assert "8 steps and" in find(results, "reproducible").figure


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_stage_that_differs_is_named(stage: str) -> None:
    step = 0 if stage in ("id_map", "init") else 3
    other = make_record(replica=1)
    for later in STAGES[STAGES.index(stage) :]:
        other = _flip(other, later, max(step, 1))

    result = find(reproducible(make_record(), other), "reproducible")

    assert result.verdict is Verdict.FAIL
    assert (f"step 3, {stage}" if step else f"before step 1, {stage}") in result.figure
    assert CAUSES[stage] in result.detail


def test_a_stage_early_in_the_step_wins_over_a_late_stage_but_not_over_an_earlier_step() -> None:
    first, second = make_tape(), make_tape()
    second["tape/rng"] = second["tape/rng"].copy()
    second["tape/rng"][1:] ^= np.uint64(1)
    second["tape/batch"] = second["tape/batch"].copy()
    second["tape/batch"][2:] ^= np.uint64(1)
    strip = (
        {k.removeprefix("tape/"): v for k, v in first.items()},
        {k.removeprefix("tape/"): v for k, v in second.items()},
    )

    divergence = first_divergence(*strip)

    assert divergence is not None
    assert ("rng", 2) == (divergence.stage, divergence.step)


def test_the_first_tensor_is_named() -> None:
    def edit(digests: np.ndarray) -> None:
        digests[4:, 1:] ^= np.uint64(1)

    other = edit_array(_flip(make_record(replica=1), "gradients", 5), "tape/gradients/tensors", edit)

    result = find(reproducible(make_record(), other), "reproducible")

    assert "step 5, gradients, tower.weight" in result.figure


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(STEPWISE), st.integers(1, 8), st.sampled_from(STEPWISE), st.integers(1, 8))
def test_the_earliest_of_two_differences_is_reported(stage: str, step: int, other_stage: str, other_step: int) -> None:
    record = make_record()
    other = _flip(_flip(record, stage, step), other_stage, other_step)
    if (stage, step) == (other_stage, other_step):
        other = _flip(record, stage, step)
    expected = min((step, STAGES.index(stage)), (other_step, STAGES.index(other_stage)))

    divergence = first_divergence(tape_of(record), tape_of(other))

    assert divergence is not None
    assert expected == (divergence.step, STAGES.index(divergence.stage))


def test_a_run_that_stopped_earlier_diverges_in_length() -> None:
    result = find(reproducible(make_record(), make_record(num_steps=6, replica=1)), "reproducible")

    # The digests of a shorter hand-made tape are other draws, so cut the long tape instead.
    long = make_record()
    short = replace(long, arrays={k: v[:6] if k in _step_keys() else v for k, v in long.arrays.items()})
    cut = find(reproducible(long, short), "reproducible")

    assert result.red
    assert "step 7, length" in cut.figure
    assert "early stopping" in cut.detail


def _step_keys() -> set[str]:
    return {"loss/total", *(f"tape/{s}" for s in STEPWISE), "tape/gradients/tensors", "tape/parameters/tensors"}


def test_a_vanished_metric_is_reported() -> None:
    other = make_record(replica=1).with_arrays(**{"metric/test/mrr": None})

    result = find(reproducible(make_record(), other), "reproducible")

    assert result.red
    assert "test/mrr vanished" in result.worst


def test_an_equal_tape_with_another_metric_is_red() -> None:
    def worse(values: np.ndarray) -> None:
        values *= 0.5

    other = edit_array(make_record(replica=1), "metric/test/mrr", worse)

    result = find(reproducible(make_record(), other), "reproducible")

    assert result.red
    assert "test/mrr by 50 %" in result.worst


def test_other_inputs_are_named() -> None:
    other = edit_facts(make_record(replica=1), "inputs", "world", value="blake2b:other")

    results = reproducible(make_record(), other)

    assert {"reproducible/facts"} == red_checks(results)
    assert "other input data" not in find(results, "reproducible").detail


def test_timing_is_no_difference() -> None:
    other = edit_facts(make_record(replica=1), "timing", "trained", value=9.0)

    assert set() == red_checks(reproducible(make_record(), other))


@pytest.mark.parametrize(
    "other",
    [make_record(environment=make_environment(threads=2)), make_record(seed=1)],
    ids=["environment", "seed"],
)
def test_what_cannot_be_compared_is_not_measured(other: RunRecord) -> None:
    (result,) = reproducible(make_record(), other)

    assert result.verdict is Verdict.NOT_MEASURED
    assert "not comparable" in result.figure


def test_a_record_without_a_tape_is_not_measured() -> None:
    bare = make_record().with_arrays(**{"tape/batch": None})

    (result,) = reproducible(bare, bare)

    assert result.verdict is Verdict.NOT_MEASURED
    assert "batch" in result.figure


def test_bits_are_compared_not_values() -> None:
    assert bit_equal(np.array([np.nan]), np.array([np.nan]))
    assert not bit_equal(np.array([0.0]), np.array([-0.0]))
    assert not bit_equal(np.array([1.0]), np.array([1.0], dtype=np.float32))
    assert [] == unequal_arrays(make_record(), make_record())


def test_another_seed_changes_init_batches_and_negatives() -> None:
    assert set() == red_checks(different_seeds_differ(make_record(), make_record(seed=1)))


@pytest.mark.parametrize("stage", ["init", "batch", "negatives"])
def test_a_seed_that_reaches_nothing_is_red(stage: str) -> None:
    first = make_record()
    second = make_record(seed=1).with_arrays(**{f"tape/{stage}": first[f"tape/{stage}"]})

    assert {f"seed_liveness/{stage}"} == red_checks(different_seeds_differ(first, second))


def test_a_system_without_negatives_is_no_dead_seed() -> None:
    nothing = np.tile(np.array([0x6001C324468D497F, 0x99AA06D3014798D8], dtype=np.uint64), (8, 1))
    runs = [make_record(seed=s).with_arrays(**{"tape/negatives": nothing}) for s in (0, 1)]

    results = different_seeds_differ(*runs)

    assert set() == red_checks(results)
    assert "no negatives" in find(results, "seed_liveness/negatives").figure


def test_liveness_needs_two_seeds_and_a_tape() -> None:
    (same,) = different_seeds_differ(make_record(), make_record(replica=1))
    bare = different_seeds_differ(make_record().with_arrays(**{"tape/negatives": None}), make_record(seed=1))

    assert same.verdict is Verdict.NOT_MEASURED
    assert find(bare, "seed_liveness/negatives").verdict is Verdict.NOT_MEASURED
