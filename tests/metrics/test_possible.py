"""The interval of a cell: it holds the true value, and its ends are where the rules break."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.metric_files import NDCG_004, RECALL_004
from fixtures.rankings import ranks_of_places
from rectest.errors import UnknownNameError
from rectest.metrics.coherence import coherence_violations
from rectest.metrics.possible import possible_interval
from rectest.metrics.ranking import evaluate

SLIPPED = {"recall@1": 0.62, "recall@5": 0.7803, "recall@20": 0.8915, "recall@50": 0.9618}
NAMES = [f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (1, 2, 3, 5, 8)] + ["mrr", "mean_rank"]


def test_the_lost_recall_of_report_004_is_known_within_a_percent() -> None:
    interval = possible_interval(NDCG_004 | SLIPPED, "recall@10", single_relevant=True, decimals=4)

    assert interval == pytest.approx((0.8308, 0.8417), abs=1e-4)


def test_no_value_helps_where_the_others_are_impossible() -> None:
    assert possible_interval(NDCG_004 | RECALL_004, "recall@50", single_relevant=True, decimals=4) is None
    assert possible_interval({"hit@5": 0.4, "hit@10": 0.3, "mrr": 0.2}, "mrr", single_relevant=False) is None


@pytest.mark.parametrize(
    ("table", "name", "expected"),
    [
        ({"hit@5": 0.2, "hit@20": 0.4}, "hit@10", (0.2, 0.4)),
        ({"mrr": 0.25}, "mean_rank", (4.0, float("inf"))),
        ({"mean_rank": 4.0}, "mrr", (0.25, 1.0)),
        ({}, "recall@10", (0.0, 1.0)),
        ({"recall@5": 0.4}, "precision@5", (0.08, 0.08)),
    ],
)
def test_hand_computed_intervals(table: dict[str, float], name: str, expected: tuple[float, float]) -> None:
    assert possible_interval(table, name, single_relevant=True) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    places=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    name=st.sampled_from(NAMES),
    decimals=st.sampled_from([None, 2, 4]),
)
def test_the_true_value_lies_within_and_both_ends_are_possible(
    places: list[int], name: str, decimals: int | None
) -> None:
    exact = evaluate(ranks_of_places([(place,) for place in places], num_candidates=12), NAMES)
    table = exact if decimals is None else {key: round(value, decimals) for key, value in exact.items()}

    interval = possible_interval(table, name, single_relevant=True, decimals=decimals)

    assert interval is not None
    assert interval[0] - 1e-8 <= exact[name] <= interval[1] + 1e-8
    for end in interval:
        if end < float("inf"):
            assert not coherence_violations(table | {name: end}, single_relevant=True, decimals=decimals)


def test_a_value_beyond_an_end_is_refused() -> None:
    table = NDCG_004 | SLIPPED
    low, high = possible_interval(table, "recall@10", single_relevant=True, decimals=4) or (0.0, 0.0)

    for value in (low - 2e-4, high + 2e-4):
        assert coherence_violations(table | {"recall@10": value}, single_relevant=True, decimals=4)


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="auc"):
        possible_interval({"mrr": 0.5}, "auc", single_relevant=True)
