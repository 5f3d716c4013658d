"""Resume: whatever a checkpoint forgets turns the result red, at the stage where it shows first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, make_environment, make_record
from rectest.checks.result import Verdict
from rectest.checks.resume import FORGOTTEN, resumed


def forgetful(*stages, after=4):
    """A run that goes wrong in these stages after the interruption."""
    record = make_record(replica=1)

    def forget(tape):
        tape[after if len(tape) > 1 else 0 :] += 1

    for stage in stages:
        record = edit_array(record, f"tape/{stage}", forget)
    return record


def test_a_resumed_run_that_equals_the_full_one_is_green():
    (result,) = resumed(make_record(), make_record(replica=1))

    assert result.check == "resume/bits"
    assert result.verdict is Verdict.PASS
    assert "all bit-equal" in result.figure


def test_other_timings_are_no_difference():
    assert not resumed(make_record(), edit_facts(make_record(), "timing", "trained", value=9.0))[0].red


@pytest.mark.parametrize("stage", ["batch", "negatives", "loss", "gradients", "parameters", "rng"])
def test_what_the_checkpoint_forgets_is_named(stage):
    (result,) = resumed(make_record(), forgetful(stage))

    assert result.verdict is Verdict.FAIL
    assert result.figure.startswith(f"first difference: step 5, {stage}")
    assert FORGOTTEN[stage] in result.detail


def test_a_run_that_starts_over_is_red_before_its_first_step():
    (result,) = resumed(make_record(), forgetful("init"))

    assert result.figure == "first difference: before step 1, init"


@settings(max_examples=30, deadline=None)
@given(
    stages=st.sets(st.sampled_from(["batch", "negatives", "loss", "parameters", "rng"]), min_size=1),
    after=st.integers(1, 7),
)
def test_the_first_stage_of_the_first_step_is_named(stages, after):
    order = ("batch", "negatives", "loss", "parameters", "rng")
    (result,) = resumed(make_record(), forgetful(*stages, after=after))

    assert f"step {after + 1}, {min(stages, key=order.index)}" in result.figure


def test_a_run_that_ends_elsewhere_forgot_its_early_stopping():
    full = make_record()
    cut = {key: full[key][:6] for key in full.arrays if key.startswith("tape/") and len(full[key]) == 8}
    (result,) = resumed(full, full.with_arrays(**cut))

    assert result.verdict is Verdict.FAIL
    assert "early stopping" in result.detail


def test_best_weights_that_were_forgotten_show_outside_of_the_steps():
    def other(values):
        values += 0.01

    (result,) = resumed(make_record(), edit_array(make_record(replica=1), "metric/test/hit@10", other))

    assert result.verdict is Verdict.FAIL
    assert result.figure == "first difference: the tapes agree, but metric/test/hit@10 differ"
    assert "best weights" in result.detail


def test_curves_that_lost_their_first_half_are_red():
    (result,) = resumed(make_record(), edit_array(make_record(), "loss/total", lambda curve: curve[4:]))

    assert result.verdict is Verdict.FAIL
    assert "loss/total" in result.outside


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (make_record(seed=1), "not comparable: seed 0 and 1"),
        (make_record(environment=make_environment(threads=2)), "not comparable: threads"),
        (replace(make_record(), spec=make_record().spec.with_(steps=4)), "not comparable: steps None and 4"),
    ],
)
def test_other_specs_or_machines_are_not_measured(other, reason):
    (result,) = resumed(make_record(), other)

    assert result.verdict is Verdict.NOT_MEASURED
    assert result.figure.startswith(reason)


@pytest.mark.parametrize("tape", [None, np.zeros((0, 2), dtype=np.uint64)])
def test_a_run_without_a_tape_is_not_green(tape):
    (result,) = resumed(make_record().with_arrays(tape__loss=tape), make_record())

    assert result.verdict is Verdict.NOT_MEASURED
