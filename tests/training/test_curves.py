"""Curves without holes: every measure of a split stands beside the same steps, or the run is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.errors import TrainingError, UnknownNameError
from rectest.training.curves import Curves

BOTH = {"recall@10": 0.2, "mrr": 0.1}


def collect(*points: tuple[str, int, dict[str, float]]) -> Curves:
    curves = Curves()
    for split, step, metrics in points:
        curves.add(split, metrics, step=step)
    return curves


def test_points_become_curves():
    arrays = collect(("valid", 10, BOTH), ("test", 10, {"hit@5": 1.0}), ("valid", 20, {**BOTH, "mrr": 0.3})).arrays()

    assert {key: value.tolist() for key, value in arrays.items()} == {
        "eval/steps": [10, 20],
        "metric/valid/recall@10": [0.2, 0.2],
        "metric/valid/mrr": [0.1, 0.3],
        "metric/test/hit@5": [1.0],
    }
    assert str(arrays["eval/steps"].dtype) == "int64"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=6), st.permutations(range(3)))
def test_it_does_not_matter_how_a_point_is_told(points, order):
    names = ("recall@10", "ndcg@10", "mrr")
    whole, in_parts = Curves(), Curves()
    for step, values in enumerate(points):
        whole.add("valid", dict(zip(names, values, strict=True)), step=step)
        for place in order:
            in_parts.add("valid", {names[place]: values[place]}, step=step)
    whole.require_whole()
    in_parts.require_whole()

    expected = {key: value.tolist() for key, value in whole.arrays().items()}

    assert expected == {key: value.tolist() for key, value in in_parts.arrays().items()}
    assert bool(points) is bool(whole)


def test_the_same_value_told_twice_is_one_point():
    assert collect(("test", 5, BOTH), ("test", 5, BOTH)).arrays()["metric/test/mrr"].tolist() == [0.1]


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ([(10, BOTH), (20, {"mrr": 0.1}), (30, BOTH)], "valid/recall@10 is missing from the evaluation at step 20"),
        ([(10, {"mrr": 0.1}), (20, BOTH)], "valid/recall@10 was not evaluated before step 20, other measures were"),
        ([(10, BOTH), (10, {"mrr": 0.4})], "valid/mrr has two values at step 10, 0.1 and 0.4; tell the evaluations"),
        ([(10, BOTH), (5, BOTH)], "at step 5 came after the one at step 10"),
        ([(10, {"mrr": float("nan")})], "valid/mrr is nan at step 10; a metric must be a finite number"),
        ([(10, {"mrr": float("-inf")})], "valid/mrr is -inf at step 10"),
    ],
)
def test_holes_and_contradictions_are_named(points, problem):
    with pytest.raises(TrainingError, match=problem):
        collect(*(("valid", step, metrics) for step, metrics in points))


def test_a_hole_at_the_end_is_found_too():
    curves = collect(("valid", 10, BOTH), ("valid", 20, {"mrr": 0.1}))

    with pytest.raises(TrainingError, match="valid/recall@10 is missing from the evaluation at step 20"):
        curves.require_whole()


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        ("recal@10", UnknownNameError, "unknown metric 'recal'|unknown metric 'recal@10'"),
        ("recall", ValueError, "needs a cut-off"),
        ("recall@ten", ValueError, "the cut-off must be a whole number"),
    ],
)
def test_unknown_measures(name, error, problem):
    curves = Curves()

    with pytest.raises(error, match=problem):
        curves.add("test", {name: 0.5}, step=1)
    assert not curves


def test_an_evaluation_of_nothing_is_no_point():
    curves = collect(("valid", 10, {}))

    assert not curves
    assert curves.arrays()["eval/steps"].tolist() == []
