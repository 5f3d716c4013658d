"""Measures as values: spelling, order, and the two cases in which none can be computed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.errors import MetricError, UnknownNameError
from rectest.metrics.measure import MEASURE_NAMES, Measure


@pytest.mark.parametrize("text", ["recall@10", "precision@5", "hit@10", "ndcg@10", "mrr", "mrr@10", "mean_rank"])
def test_text_survives_the_round_trip(text: str) -> None:
    assert text == str(Measure.parse(text))


def test_parse_gives_name_and_depth() -> None:
    assert Measure("ndcg", 10) == Measure.parse("ndcg@10")
    assert Measure("mrr", None) == Measure.parse("mrr")


def test_measures_sort_as_tables_list_them() -> None:
    shuffled = ["mean_rank", "mrr@5", "ndcg@10", "recall@10", "mrr", "recall@5", "hit@1"]

    obtained = [str(measure) for measure in sorted(map(Measure.parse, shuffled))]

    assert ["recall@5", "recall@10", "hit@1", "ndcg@10", "mrr", "mrr@5", "mean_rank"] == obtained


def test_equal_measures_are_one_key() -> None:
    assert len({Measure("recall", 10), Measure.parse("recall@10"), Measure("recall", 5)}) == 2


def test_only_the_mean_rank_is_better_when_lower() -> None:
    lower = [name for name in MEASURE_NAMES if not _some(name).higher_is_better]

    assert ["mean_rank"] == lower


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from(["recall", "precision", "hit", "ndcg", "mrr"]), k=st.integers(1, 10**9))
def test_every_measure_is_its_text(name: str, k: int) -> None:
    measure = Measure(name, k)

    assert measure == Measure.parse(str(measure))


def test_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown metric 'recal' \(did you mean 'recall'\?\)"):
        Measure.parse("recal@10")


@pytest.mark.parametrize("text", ["", "@10", "Recall@10", "recall @10", " recall@10"])
def test_other_spellings_are_unknown(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown metric"):
        Measure.parse(text)


@pytest.mark.parametrize(
    "text", ["recall@", "recall@0", "recall@-1", "recall@05", "recall@1.5", "recall@+5", "recall@5 ", "ndcg@ten"]
)
def test_bad_cut_off_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1"):
        Measure.parse(text)


@pytest.mark.parametrize(
    ("name", "k", "problem"),
    [
        ("recall", None, "needs a cut-off, as in recall@10"),
        ("mean_rank", 10, "takes no cut-off, got 10"),
        ("hit", 0, "at least 1, got 0"),
        ("hit", -3, "at least 1, got -3"),
        ("hit", 2.0, "whole number as cut-off, got 2.0"),
        ("hit", True, "whole number as cut-off, got True"),
    ],
)
def test_bad_depth_is_refused(name: str, k: int | None, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Measure(name, k)


def test_a_missing_cut_off_in_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'ndcg' needs a cut-off"):
        Measure.parse("ndcg")


def test_a_list_shorter_than_the_cut_off_is_refused_with_both_numbers() -> None:
    Measure("recall", 10).require(10)

    with pytest.raises(MetricError, match=r"recall@10 needs at least 10 candidates but the catalogue has 9"):
        Measure("recall", 10).require(9)


def test_measures_do_not_compare_with_text() -> None:
    with pytest.raises(TypeError, match="not supported"):
        assert Measure("mrr") < "mrr"  # type: ignore[operator]


def _some(name: str) -> Measure:
    return Measure(name) if name in ("mrr", "mean_rank") else Measure(name, 10)
