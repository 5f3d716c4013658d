"""Chance: exact moments against every possible ranking, and report 001, whose model was at chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.rankings import ranks_of_places
from rectest.errors import MetricError
from rectest.metrics.bounds import chance, chance_per_user, z_score
from rectest.metrics.ranking import per_user

REPORT_001 = {"hit@5": 0.0544, "ndcg@10": 0.0465, "mrr": 0.0542, "mean_rank": 49.09}
CUT = ("recall", "precision", "hit", "ndcg", "mrr")


@pytest.mark.parametrize(
    ("measure", "mean", "error", "z"),
    [
        ("hit@5", 0.0500, 0.00712, 0.62),
        ("ndcg@10", 0.04544, 0.00494, 0.22),
        ("mrr", 0.05187, 0.00382, 0.61),
        ("mean_rank", 50.5, 0.943, -1.50),
    ],
)
def test_report_001_is_at_chance(measure: str, mean: float, error: float, z: float) -> None:
    obtained = chance(measure, num_candidates=[100] * 938, num_relevant=[1] * 938)

    assert obtained == pytest.approx((mean, error), rel=2e-3)
    assert z_score(REPORT_001[measure], *obtained) == pytest.approx(z, abs=5e-3)


def test_the_mean_rank_is_not_one_over_the_mrr() -> None:
    mrr, _ = chance("mrr", num_candidates=100, num_relevant=1)

    assert 1 / mrr == pytest.approx(19.28, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), num_candidates=st.integers(1, 7))
def test_moments_equal_those_over_every_ranking(data: st.DataObject, num_candidates: int) -> None:
    num_relevant = data.draw(st.integers(1, num_candidates))
    k = data.draw(st.integers(1, num_candidates))
    places = list(itertools.combinations(range(1, num_candidates + 1), num_relevant))
    every = ranks_of_places(places, num_candidates=num_candidates)

    for measure in (*(f"{name}@{k}" for name in CUT), "mrr", "mean_rank"):
        values = per_user(every, measure)
        mean, variance = chance_per_user(measure, num_candidates=num_candidates, num_relevant=num_relevant)
        assert mean[0] == pytest.approx(values.mean(), abs=1e-12), measure
        assert variance[0] == pytest.approx(values.var(), abs=1e-12), measure


def test_users_of_different_sizes_are_averaged() -> None:
    mean, error = chance("recall@2", num_candidates=[4, 10], num_relevant=[1, 1])

    assert mean == pytest.approx((0.5 + 0.2) / 2)
    assert error == pytest.approx(np.sqrt(0.5 * 0.5 + 0.2 * 0.8) / 2)


def test_users_without_relevant_items_are_left_out() -> None:
    assert chance("mrr", num_candidates=[5, 0], num_relevant=[1, 0]) == chance("mrr", num_candidates=5, num_relevant=1)
    assert np.isnan(chance_per_user("mrr", num_candidates=[5, 0], num_relevant=[1, 0])[0]).tolist() == [False, True]


def test_a_full_catalogue_with_many_relevant_items_stays_exact() -> None:
    """The best of many places is almost geometric, for which the mean reciprocal is known: -p ln(p) / (1 - p)."""
    mean, variance = chance_per_user("mrr", num_candidates=10**6, num_relevant=10**4)

    assert mean[0] == pytest.approx(-0.01 * np.log(0.01) / 0.99, rel=1e-3)
    assert variance[0] == pytest.approx(0.01 * 1.58858 / 0.99 - mean[0] ** 2, rel=1e-3)


def test_a_random_scorer_lands_within_four_standard_errors() -> None:
    rng = np.random.default_rng(7)
    places = [tuple(sorted(rng.choice(50, size=3, replace=False) + 1)) for _ in range(2000)]
    ranks = ranks_of_places(places, num_candidates=50)

    for measure in (*(f"{name}@10" for name in CUT), "mrr", "mean_rank"):
        null = chance(measure, num_candidates=ranks.candidates_per_user, num_relevant=ranks.num_relevant)
        assert abs(z_score(float(per_user(ranks, measure).mean()), *null)) < 4, measure


def test_nobody_to_score_has_no_chance_value() -> None:
    with pytest.raises(MetricError, match="none of 2 users has a relevant item"):
        chance("mrr", num_candidates=[5, 5], num_relevant=[0, 0])


def test_a_cut_off_beyond_the_candidates_is_refused() -> None:
    with pytest.raises(MetricError, match="hit@10 needs at least 10 candidates but some user has 5"):
        chance("hit@10", num_candidates=[50, 5], num_relevant=1)


@pytest.mark.parametrize(("candidates", "relevant"), [([5], [6]), ([5], [-1])])
def test_more_relevant_items_than_candidates_are_refused(candidates: list[int], relevant: list[int]) -> None:
    with pytest.raises(ValueError, match=r"user 0 has -?[0-9]+ relevant items among 5 candidates"):
        chance("mrr", num_candidates=candidates, num_relevant=relevant)


def test_fractions_of_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="must be integers, one per user"):
        chance("mrr", num_candidates=[5.0], num_relevant=[1])


@pytest.mark.parametrize("numbers", [(float("nan"), 0.5, 0.1), (0.5, 0.5, 0.0), (0.5, 0.5, float("inf"))])
def test_a_z_score_of_nothing_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(MetricError, match="has no z-score"):
        z_score(*numbers)
