"""Purity: each way of disturbing training by looking at it turns one result red, and only that one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.records import edit_array, edit_facts, find, make_environment, make_record, red_checks
from rectest.checks.purity import purity, schedule_independent
from rectest.checks.result import Verdict

CLEAN = {"drew": [], "changed_model": False, "count": 5, "repeatable": True}


def with_evaluation(**changes):
    return edit_facts(make_record(), "evaluation", value={**CLEAN, **changes})


def test_a_pure_evaluation_is_green():
    results = purity(with_evaluation())

    assert red_checks(results) == set()
    assert len(results) == 4


@pytest.mark.parametrize(
    ("changes", "check", "word"),
    [
        ({"drew": ["torch", "numpy"]}, "purity/random", "torch, numpy"),
        ({"changed_model": True}, "purity/model", "moved"),
        ({"repeatable": False}, "purity/repeatable", "different"),
    ],
)
def test_each_disturbance_is_red(changes, check, word):
    results = purity(with_evaluation(**changes))

    assert red_checks(results) == {check}
    assert word in find(results, check).figure


def test_settings_left_by_an_import_are_red():
    record = edit_facts(with_evaluation(), "globals_changed", value={"anomaly_detection": "True"})

    results = purity(record)

    assert red_checks(results) == {"purity/imports"}
    assert "anomaly_detection is now True" in find(results, "purity/imports").figure


@pytest.mark.parametrize("facts", [{}, {"count": 0}, {"count": 3}])
def test_silence_is_not_purity(facts):
    (result,) = purity(edit_facts(make_record(), "evaluation", value=facts))

    assert result.verdict is Verdict.NOT_MEASURED


def rescheduled(record=None, *, eval_every=4, num_steps=8):
    """The very same training, evaluated at other steps."""
    record = record or make_record(num_steps=num_steps)
    steps = np.arange(eval_every, num_steps + 1, eval_every)
    spec = record.spec.with_(eval_every=eval_every)
    return replace(record.with_arrays(**{"eval/steps": steps}), spec=spec)


def test_another_schedule_with_the_same_training_is_green():
    (result,) = schedule_independent(make_record(), rescheduled())

    assert result.verdict is Verdict.PASS
    assert result.figure == "8 steps bit-equal under two schedules"
    assert result.detail == "evaluations after steps 2, 6 were in one run only"


@pytest.mark.parametrize("stage", ["batch", "negatives", "loss", "gradients", "parameters", "rng"])
def test_training_that_follows_the_schedule_is_red_and_named(stage):
    def after_the_first_look(tape):
        tape[3:] += 1

    changed = edit_array(rescheduled(), f"tape/{stage}", after_the_first_look)
    (result,) = schedule_independent(make_record(), changed)

    assert result.check == "purity/schedule"
    assert result.verdict is Verdict.FAIL
    assert result.figure == f"first difference: step 4, {stage}"


def test_only_common_steps_count():
    """Early stopping sees another curve, so it may stop elsewhere; that is no impurity."""
    longer, shorter = rescheduled(num_steps=8), make_record()
    cut = {f"tape/{stage}": longer[f"tape/{stage}"][:6] for stage in ("batch", "negatives", "loss", "rng")}
    cut |= {f"tape/{stage}": longer[f"tape/{stage}"][:6] for stage in ("gradients", "parameters")}
    (result,) = schedule_independent(shorter, longer.with_arrays(**cut))

    assert result.verdict is Verdict.PASS
    assert result.figure.startswith("6 steps")


@pytest.mark.parametrize(
    ("second", "figure"),
    [
        (rescheduled(eval_every=2), "both runs were evaluated after the same of their 8 common steps"),
        (rescheduled(make_record(seed=1)), "not comparable: seed 0 and 1"),
        (rescheduled(make_record(environment=make_environment(threads=2))), "not comparable: threads 1 and 2"),
        (rescheduled().with_arrays(tape__batch=None), "no tape of batch"),
    ],
)
def test_what_cannot_show_the_schedule_is_not_measured(second, figure):
    (result,) = schedule_independent(make_record(), second)

    assert result.verdict is Verdict.NOT_MEASURED
    assert result.figure == figure
