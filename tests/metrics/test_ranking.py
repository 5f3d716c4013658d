"""Metrics from ranks: by hand, against the mean over all orders, and against two libraries in `test_oracles.py`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.rankings import RankingCase, ranking_cases, ranks_of_places
from rectest.errors import MetricError
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import evaluate, ideal_dcg, per_user, tie_share
from rectest.metrics.ranks import Ranks, rank_targets

TWO_USERS = ranks_of_places([(2, 5, 11), (1,)], num_candidates=20)
NOBODY = ranks_of_places([(), ()], num_candidates=20)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("hit@1", [0, 1]),
        ("hit@2", [1, 1]),
        ("recall@5", [2 / 3, 1]),
        ("recall@20", [1, 1]),
        ("precision@5", [2 / 5, 1 / 5]),
        ("mrr", [1 / 2, 1]),
        ("mrr@1", [0, 1]),
        ("mean_rank", [6, 1]),
        ("ndcg@1", [0, 1]),
        ("ndcg@2", [(1 / math.log2(3)) / (1 + 1 / math.log2(3)), 1]),
        ("ndcg@10", [(1 / math.log2(3) + 1 / math.log2(6)) / (1 + 1 / math.log2(3) + 1 / 2), 1]),
    ],
)
def test_measures_by_hand(measure: str, expected: list[float]) -> None:
    assert per_user(TWO_USERS, measure) == pytest.approx(expected)


def test_a_user_without_relevant_items_is_left_out_of_the_mean() -> None:
    ranks = ranks_of_places([(), (1,), (4,)], num_candidates=10)

    values = per_user(ranks, "recall@3")

    assert np.isnan(values[0])
    assert evaluate(ranks, ["recall@3"]) == {"recall@3": 0.5}


def test_results_are_keyed_by_text_in_the_order_asked_for() -> None:
    assert list(evaluate(TWO_USERS, [Measure("mrr"), "recall@10"])) == ["mrr", "recall@10"]


def test_a_relevant_item_missing_from_the_list_lowers_ndcg() -> None:
    """The ideal list is built from what is relevant, not from what was found (0.296 here, 0.631 the wrong way)."""
    ranks = ranks_of_places([(2, 30, 31, 32)], num_candidates=40)

    obtained = evaluate(ranks, ["ndcg@5"])["ndcg@5"]

    assert obtained == pytest.approx(0.6309 / ideal_dcg(np.array([4]), 5)[0], abs=1e-4)
    assert obtained < 0.3


def test_a_constant_scorer_hits_nothing_at_small_cut_offs() -> None:
    ranks = rank_targets(np.zeros((5, 101)), np.arange(1, 6))

    assert evaluate(ranks, ["hit@10", "mean_rank"]) == {"hit@10": 0.0, "mean_rank": 50.5}
    assert tie_share(ranks) == 1.0


def test_tied_relevant_items_at_the_top_are_a_perfect_list() -> None:
    ranks = rank_targets(np.array([[0.0, 3.0, 3.0, 1.0, 1.0]]), [[1, 2]])

    assert evaluate(ranks, ["ndcg@2", "recall@2", "mrr"]) == {"ndcg@2": 1.0, "recall@2": 1.0, "mrr": 1.0}
    assert tie_share(ranks) == 0.0


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(max_relevant=4), k=st.integers(1, 3))
def test_every_value_is_in_range_and_the_perfect_ranker_reaches_one(case: RankingCase, k: int) -> None:
    names = [f"{name}@{k}" for name in ("hit", "recall", "precision", "ndcg", "mrr")]
    scored = [row for row, relevant in enumerate(case.relevant) if len(relevant)]
    perfect = np.zeros_like(case.scores)
    for row in scored:
        perfect[row, case.relevant[row]] = 1

    for scores in (case.scores, perfect):
        ranks = rank_targets(scores, case.relevant)
        if len(ranks) and k < scores.shape[1]:
            values = np.stack([per_user(ranks, name)[scored] for name in names])
            assert ((values >= 0) & (values <= 1 + 1e-12)).all()
            assert scores is not perfect or values[[0, 3, 4]] == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(max_relevant=2), seed=st.integers(0, 2**32 - 1))
def test_means_do_not_depend_on_the_order_of_users(case: RankingCase, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.scores))
    ranks = rank_targets(case.scores, case.relevant)
    again = rank_targets(case.scores[order], [case.relevant[row] for row in order])

    if len(ranks):
        names = ["hit@1", "ndcg@1", "mrr", "mean_rank"]
        assert evaluate(ranks, names) == pytest.approx(evaluate(again, names))


def test_nobody_to_score_is_an_error_and_not_a_number() -> None:
    with pytest.raises(MetricError, match="none of 2 evaluated users has a relevant item"):
        evaluate(NOBODY, ["recall@10"])
    with pytest.raises(MetricError, match="no relevant item was ranked"):
        tie_share(NOBODY)
    assert np.isnan(per_user(NOBODY, "recall@10")).all()


def test_a_cut_off_beyond_the_candidates_of_one_user_is_refused() -> None:
    ranks = Ranks(
        user=np.array([0, 1]),
        expected=np.array([1.0, 2.0]),
        optimistic=np.array([1, 2]),
        pessimistic=np.array([1, 2]),
        num_candidates=np.array([12, 9]),
        num_users=2,
    )

    with pytest.raises(MetricError, match="recall@10 needs at least 10 candidates but user 1 has 9"):
        evaluate(ranks, ["recall@10"])
