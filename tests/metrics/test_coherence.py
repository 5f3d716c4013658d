"""Tables of metrics: true ones are never rejected, rounded or not; report 004's is, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.rankings import RankingCase, ranking_cases, ranks_of_places
from rectest.errors import MetricError, UnknownNameError
from rectest.metrics.coherence import Violation, coherence_violations
from rectest.metrics.ranking import evaluate, tie_share
from rectest.metrics.ranks import rank_targets

CUT_OFFS = (1, 5, 10, 20, 50)
NDCG_004 = dict(zip((f"ndcg@{k}" for k in CUT_OFFS), (0.6200, 0.7063, 0.7244, 0.7384, 0.7524), strict=True))
RECALL_004 = dict(zip((f"recall@{k}" for k in CUT_OFFS), (0.6200, 0.7803, 0.8915, 0.9618, 0.9618), strict=True))
EVERY = [f"{name}@{k}" for name in ("recall", "precision", "hit", "ndcg", "mrr") for k in (1, 2, 3, 5, 8)]


def test_report_004_is_impossible_at_three_steps() -> None:
    found = coherence_violations(NDCG_004 | RECALL_004, single_relevant=True, decimals=4)

    assert [violation.quantity for violation in found] == ["ndcg@10 - ndcg@5", "ndcg@20 - ndcg@10", "ndcg@50 - ndcg@20"]
    assert {violation.rule for violation in found} == {"ndcg_from_hits"}
    assert (found[0].low, found[0].high) == pytest.approx((0.0321, 0.0396), abs=1e-4)
    assert (found[2].low, found[2].high) == (0.0, 0.0)


def test_report_004_is_possible_with_the_recall_column_shifted_back() -> None:
    shifted = {"recall@1": 0.6200, "recall@5": 0.7803, "recall@20": 0.8915, "recall@50": 0.9618}

    assert coherence_violations(NDCG_004 | shifted, single_relevant=True, decimals=4) == []


@pytest.mark.parametrize(("recall_at_10", "possible"), [(0.830, False), (0.836, True), (0.845, False)])
def test_the_true_recall_of_report_004_is_known_within_a_percent(recall_at_10: float, possible: bool) -> None:
    table = NDCG_004 | {"recall@1": 0.62, "recall@5": 0.7803, "recall@10": recall_at_10, "recall@20": 0.8915}

    assert (coherence_violations(table, single_relevant=True, decimals=4) == []) == possible


@settings(max_examples=50, deadline=None)
@given(
    places=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    decimals=st.one_of(st.none(), st.integers(1, 6)),
)
def test_no_single_item_ranking_is_rejected(places: list[int], decimals: int | None) -> None:
    ranks = ranks_of_places([(place,) for place in places], num_candidates=12)
    table = _rounded(evaluate(ranks, [*EVERY, "mrr", "mean_rank"]), decimals)

    found = coherence_violations(table, single_relevant=True, num_users=len(places), decimals=decimals)

    assert found == []


@settings(max_examples=50, deadline=None)
@given(
    places=st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=4, unique=True), min_size=1, max_size=20),
    decimals=st.one_of(st.none(), st.integers(1, 6)),
)
def test_no_ranking_of_several_items_is_rejected(places: list[list[int]], decimals: int | None) -> None:
    ranks = ranks_of_places([tuple(sorted(user)) for user in places], num_candidates=12)
    table = _rounded(evaluate(ranks, [*EVERY, "mrr", "mean_rank"]), decimals)

    found = coherence_violations(table, single_relevant=False, num_users=len(places), decimals=decimals)

    assert found == []


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(max_relevant=1, max_level=2))
def test_no_ranking_with_ties_is_rejected(case: RankingCase) -> None:
    ranks = rank_targets(case.scores, case.relevant)
    if len(ranks) and tie_share(ranks) > 0:
        depths = [k for k in (1, 2, 3) if k < case.scores.shape[1]]
        names = [f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in depths]
        table = evaluate(ranks, [*names, "mrr", "mean_rank"])

        assert coherence_violations(table, single_relevant=True, ties=True) == []


def test_a_constant_number_of_relevant_items_ties_precision_to_recall() -> None:
    table = {"recall@10": 0.3, "precision@10": 0.06}

    assert coherence_violations(table, single_relevant=False, relevant_per_user=2) == []
    assert _rules(table, single_relevant=False, relevant_per_user=3) == ["hits"]


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"recall@10": 1.2}, "range"),
        ({"mean_rank": 0.4}, "range"),
        ({"mrr": float("nan")}, "finite"),
        ({"hit@5": 0.4, "hit@10": 0.3}, "monotone"),
        ({"precision@5": 0.2, "precision@10": 0.05}, "monotone"),
        ({"mrr@5": 0.3, "mrr": 0.2}, "monotone"),
        ({"hit@1": 0.2, "mrr@1": 0.3}, "at_one"),
        ({"recall@10": 0.5, "hit@10": 0.4}, "hits"),
        ({"precision@10": 0.1, "hit@10": 0.05}, "hits"),
        ({"hit@10": 0.5, "precision@10": 0.02}, "hits"),
        ({"hit@10": 0.5, "mrr": 0.6}, "mrr_from_hits"),
        ({"hit@10": 0.5, "mrr@10": 0.04}, "mrr_from_hits"),
        ({"mrr": 0.2, "mean_rank": 4.0}, "mean_rank"),
        ({"hit@10": 0.5, "mean_rank": 5.9}, "mean_rank"),
        ({"hit@10": 0.55}, "counts"),
    ],
)
def test_each_rule_rejects_its_own_fault_whatever_the_number_of_items(table: dict[str, float], rule: str) -> None:
    assert rule in _rules(table, single_relevant=False, num_users=10)


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"recall@1": 0.2, "ndcg@1": 0.3}, "at_one"),
        ({"ndcg@5": 0.4, "ndcg@10": 0.3}, "monotone"),
        ({"recall@10": 0.5, "hit@10": 0.6}, "hits"),
        ({"recall@10": 0.5, "precision@10": 0.5}, "hits"),
        ({"recall@10": 0.5, "ndcg@10": 0.6}, "ndcg_from_hits"),
        ({"recall@10": 0.5, "ndcg@10": 0.1}, "ndcg_from_hits"),
        ({"mrr": 0.5, "ndcg@10": 0.3}, "mrr_at_most_ndcg"),
        ({"mrr@10": 0.31, "ndcg@10": 0.3}, "mrr_at_most_ndcg"),
        ({"recall@10": 0.5, "mrr": 0.6}, "mrr_from_hits"),
        ({"recall@10": 0.55}, "counts"),
    ],
)
def test_one_relevant_item_makes_more_impossible(table: dict[str, float], rule: str) -> None:
    assert rule in _rules(table, single_relevant=True, num_users=10)


def test_rounding_is_granted_and_no_more() -> None:
    assert _rules({"hit@1": 0.12, "mrr@1": 0.13}, single_relevant=False, decimals=2) == []
    assert _rules({"hit@1": 0.12, "mrr@1": 0.14}, single_relevant=False, decimals=2) == ["at_one"]


def test_cells_may_have_their_own_digits() -> None:
    table = {"mrr": 0.0542, "mean_rank": 18.4}

    assert _rules(table, single_relevant=True, decimals={"mrr": 4, "mean_rank": 1}) == []
    assert _rules(table, single_relevant=True, decimals={"mrr": 4}) == ["mean_rank"]


def test_too_few_digits_say_nothing_about_counts() -> None:
    assert _rules({"hit@5": 0.0544}, single_relevant=True, num_users=938, decimals=4) == []
    assert _rules({"hit@5": 0.0549}, single_relevant=True, num_users=938, decimals=4) == ["counts"]
    assert _rules({"hit@5": 0.0549}, single_relevant=True, num_users=10**6, decimals=4) == []


def test_a_violation_says_what_was_found_and_what_is_possible() -> None:
    (violation,) = coherence_violations({"recall@5": 0.4, "recall@10": 0.25}, single_relevant=False)

    assert violation.cells == {"recall@5": 0.4, "recall@10": 0.25}
    assert str(violation).startswith("monotone: recall@10 - recall@5 is -0.15, possible is [0, inf], outside by 0.15")


def test_a_nan_is_reported_and_does_not_hide_the_rest() -> None:
    found = coherence_violations({"mrr": float("nan"), "hit@5": 1.5}, single_relevant=False)

    assert [violation.rule for violation in found] == ["finite", "range"]
    assert found[0].excess == float("inf")


def test_an_empty_table_is_not_coherent_but_refused() -> None:
    with pytest.raises(MetricError, match="table of metrics is empty"):
        coherence_violations({}, single_relevant=True)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'auc'"):
        coherence_violations({"auc": 0.5}, single_relevant=True)
    with pytest.raises(ValueError, match="decimals must be at least 0, got -1 for mrr"):
        coherence_violations({"mrr": 0.5}, single_relevant=True, decimals=-1)
    with pytest.raises(ValueError, match="num_users must be at least 1, got 0"):
        coherence_violations({"mrr": 0.5}, single_relevant=True, num_users=0)


def _rounded(table: dict[str, float], decimals: int | None) -> dict[str, float]:
    return table if decimals is None else {name: float(np.round(value, decimals)) for name, value in table.items()}


def _rules(table: dict[str, float], **settings: object) -> list[str]:
    found: list[Violation] = coherence_violations(table, **settings)  # type: ignore[arg-type]
    return [violation.rule for violation in found]
