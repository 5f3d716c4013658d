"""Numbers outside of their range, missing evaluations and missing users are red; chance and plateaus are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, find, make_record, red_checks
from rectest.checks.ranges import measure_range, ranges
from rectest.checks.result import Verdict


def _at(index: int, value: float) -> Callable[[np.ndarray], None]:
    def edit(values: np.ndarray) -> None:
        values[index] = value

    return edit


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 4), st.integers(1, 3))
def test_healthy_records_and_records_at_chance_are_green(seed: int, skill: float, num_relevant: int) -> None:
    assert set() == red_checks(ranges(make_record(seed=seed, skill=skill, num_relevant=num_relevant)))


@pytest.mark.parametrize(
    ("key", "index", "value", "expected"),
    [
        ("metric/valid/ndcg@10", 2, 1.2, "ranges/metric"),
        ("metric/valid/ndcg@10", 2, -0.1, "ranges/metric"),
        ("metric/test/hit@10", 0, float("nan"), "ranges/metric"),
        ("metric/test/mean_rank", 0, 61.0, "ranges/metric"),
        ("metric/test/mean_rank", 0, 0.5, "ranges/metric"),
        ("loss/total", 3, float("inf"), "ranges/loss"),
        ("eval/steps", 1, 1, "ranges/steps"),
        ("eval/steps", 3, 99, "ranges/steps"),
    ],
)
def test_each_planted_value_is_red(key: str, index: int, value: float, expected: str) -> None:
    results = ranges(edit_array(make_record(), key, _at(index, value)))

    assert {expected} == red_checks(results)


def test_a_missing_evaluation_is_red() -> None:
    record = edit_array(make_record(), "metric/valid/mrr", lambda values: values[:-1])

    result = find(ranges(record), "ranges/metric", "valid/mrr")

    assert result.red
    assert "4 evaluations were made, the metric has 3" in result.detail


def test_silently_fewer_users_are_red() -> None:
    record = make_record()
    for column in ("user", "expected", "optimistic", "pessimistic", "num_candidates"):
        record = edit_array(record, f"ranks/test/{column}", lambda values: values[:50])

    result = find(ranges(record), "ranges/num_users")

    assert result.red
    assert "50 users scored" in result.figure


def test_nobody_scored_is_red() -> None:
    record = edit_facts(make_record(), "protocol", "test", "num_scored", value=0)

    assert {"ranges/num_users"} == red_checks(ranges(record))


@pytest.mark.parametrize(
    ("missing", "check"),
    [
        ("loss/total", "ranges/loss"),
        ("eval/steps", "ranges/steps"),
        ("ranks/test/user", "ranges/num_users"),
    ],
)
def test_what_is_missing_is_not_measured(missing: str, check: str) -> None:
    result = find(ranges(make_record().with_arrays(**{missing: None})), check)

    assert result.verdict is Verdict.NOT_MEASURED


def test_a_record_without_metrics_is_not_green() -> None:
    record = make_record()
    bare = record.with_arrays(**{key: None for key in record.arrays if key.startswith(("metric/", "ranks/"))})

    assert {"ranges/metric", "ranges/num_users"} <= red_checks(ranges(edit_facts(bare, "protocol", value={})))


def test_an_unknown_measure_must_only_be_finite() -> None:
    assert (-np.inf, np.inf) == measure_range("auc")
    assert (0.0, 1.0) == measure_range("mrr")
