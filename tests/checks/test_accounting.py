"""Accounting: steps, parameters, early stopping and percentages of report 004, and what each of them would forgive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, make_record
from rectest.checks.accounting import (
    StatedPercent,
    check_early_stop,
    check_parameters,
    check_percent,
    check_steps,
    early_stop,
)
from rectest.checks.result import Verdict

GEAR = {"items": 99_038 * 32, "behaviours": 5 * 32, "layers": 6 * 12_704, "norm": 64}
RUN_004: dict[str, Any] = {"num_samples": 147_894, "batch_size": 128, "num_epochs": 176}


def test_steps_of_report_004_are_off_by_one():
    (stated,) = check_steps(**RUN_004, stated="203,455")
    (right,) = check_steps(**RUN_004, stated=203_456)

    assert right.verdict == Verdict.PASS
    assert stated.red
    assert "203456 = 176 epochs x 1156" in stated.expected
    assert "counts from zero" in stated.detail


@pytest.mark.parametrize(
    ("stated", "why"), [(1155 * 176, "without the last, shorter batch"), (203_000, "no rule of counting steps")]
)
def test_other_wrong_step_counts_are_named(stated, why):
    assert why in check_steps(**RUN_004, stated=stated)[0].detail


@given(st.integers(1, 10**6), st.integers(1, 1000), st.integers(1, 50))
def test_the_right_number_of_steps_is_green(num_samples, batch_size, num_epochs):
    sizes = {"num_samples": num_samples, "batch_size": batch_size, "num_epochs": num_epochs}
    right = math.ceil(num_samples / batch_size) * num_epochs

    assert not check_steps(**sizes, stated=right)[0].red
    assert check_steps(**sizes, stated=right + 1)[0].red


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        check_steps(num_samples=1, batch_size=0, num_epochs=1, stated=1)


def test_parameters_of_report_004_leave_no_room_for_a_graph():
    (result,) = check_parameters(GEAR, stated="3.2M", stated_megabytes="12.98 MB", counted=3_245_664)
    (graph,) = check_parameters({**GEAR, "users": 147_895 * 32}, stated="3.2M", stated_megabytes="12.98 MB")

    assert result.verdict == Verdict.PASS
    assert result.figure.startswith("3,245,664 parameters, 12.98 MB")
    assert graph.red
    assert "7,978,304 parameters have 31.91 MB" in graph.worst


def test_every_stated_size_counts():
    assert check_parameters(1000, stated=1000, counted=999)[0].red
    assert check_parameters(1000, stated="1001")[0].red
    assert check_parameters({}, stated=1)[0].verdict == Verdict.NOT_MEASURED


CURVE = {50: 0.7145, 100: 0.7227, 145: 0.7244, 175: 0.7193}


def test_early_stopping_of_report_004_checks_out():
    (result,) = check_early_stop(CURVE, best=145, last=175, patience=30)

    assert result.verdict == Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"best": 100}, "evaluation 145 is better"),
        ({"patience": 29}, "145 + 29 is 174, and the last evaluation is 175"),
        ({"last": 176}, "the last evaluation is 176"),
        ({"best": 50, "last": 80}, "evaluation 145 is better: 0.7244 against 0.7145 at 50"),
    ],
)
def test_early_stopping_that_breaks_its_rule_is_red(changes, problem):
    (result,) = check_early_stop(CURVE, **{"best": 145, "last": 175, "patience": 30, **changes})

    assert result.red
    assert problem in result.worst


def test_a_reversed_direction_is_named():
    (result,) = check_early_stop({1: 0.1, 2: 0.2, 3: 0.3}, best=1, last=3, patience=2)

    assert "direction of the measure is reversed" in result.detail
    assert not check_early_stop({1: 9.0, 2: 7.0, 3: 8.0}, best=2, last=3, patience=1, higher_is_better=False)[0].red


def test_a_curve_without_its_best_is_not_measured():
    assert check_early_stop({1: 0.1}, best=2, last=3, patience=1)[0].verdict == Verdict.NOT_MEASURED


def stopped(values: list[float], *, patience: int | None, best: int, early: bool) -> Any:
    record = make_record(num_evaluations=len(values), num_steps=2 * len(values))
    record = edit_array(record, "metric/valid/recall@10", lambda _: np.array(values))
    facts = {"measure": "recall@10", "patience": patience, "stopped_early": early}
    return edit_facts(edit_facts(record, "early_stopping", value=facts), "best_step", value=2 * best)


@pytest.mark.parametrize(
    ("values", "patience", "best", "early", "red"),
    [
        ([0.1, 0.3, 0.2, 0.2], 2, 2, True, False),
        ([0.1, 0.3, 0.2, 0.2], None, 2, False, False),
        ([0.1, 0.2, 0.3, 0.2], 2, 3, False, False),
        ([0.1, 0.3, 0.3, 0.2], 2, 2, True, False),
        ([0.1, 0.3, 0.2, 0.2], 1, 2, True, True),
        ([0.1, 0.3, 0.2, 0.2], 3, 2, True, True),
        ([0.1, 0.3, 0.2, 0.2], None, 3, False, True),
        ([0.1, 0.3, 0.2, 0.2], 1, 2, False, True),
    ],
)
def test_a_record_is_held_to_its_own_rule(values, patience, best, early, red):
    assert early_stop(stopped(values, patience=patience, best=best, early=early))[0].red == red


def test_a_record_without_a_curve_is_not_measured():
    assert early_stop(make_record().with_arrays(eval__steps=None))[0].verdict == Verdict.NOT_MEASURED


REPORT_004 = [("10.911", "8.7735", "-19.6%"), ("10.911", "8.7077", "-20.2%"), ("10.911", "8.6780", "-20.5%"),
              ("0.6200", "0.7063", "+13.9%"), ("0.6200", "0.8915", "+43.8%")]  # fmt: skip


def test_percentages_of_report_004_check_out():
    rows = [StatedPercent(before=before, after=after, stated=stated) for before, after, stated in REPORT_004]

    assert {result.verdict for result in check_percent(rows)} == {Verdict.PASS}


@pytest.mark.parametrize(("stated", "why"), [("-19.7%", ""), ("+19.6%", "the sign is reversed"), ("-24.4%", "")])
def test_another_percentage_is_red(stated, why):
    (result,) = check_percent([StatedPercent(before="10.911", after="8.7735", stated=stated)])

    assert result.red
    assert result.detail == why


def test_no_percentage_is_not_measured():
    assert check_percent([])[0].verdict == Verdict.NOT_MEASURED
