"""The joint test of chance: exact moments, calibrated p-values, report 001 called chance, and learned tables not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import make_ranks
from rectest.checks.joint_chance import covariance_of_chance, joint_chance, table_chance
from rectest.checks.result import Verdict
from rectest.errors import MetricError
from rectest.metrics.bounds import chance
from rectest.metrics.ranking import evaluate
from rectest.metrics.ranks import Ranks

REPORT = {"hit@5": 0.0544, "ndcg@10": 0.0465, "mrr": 0.0542, "mean_rank": 49.09}
LEARNED = {"hit@5": 0.211, "ndcg@10": 0.176, "mrr": 0.154, "mean_rank": 27.9}
DIGITS = {"hit@5": 4, "ndcg@10": 4, "mrr": 4, "mean_rank": 2}
NUM = 300
NAMES = ("hit@1", "hit@5", "hit@10", "recall@10", "ndcg@5", "ndcg@10", "mrr@10", "mrr", "mean_rank", "precision@5")


def drawn(num_users: int, num_candidates: int, seed: int, *, digits: int | None = None) -> dict[str, float]:
    """The table of random ranks, by another way than the code under test."""
    rank = np.random.default_rng([seed, 1]).integers(1, num_candidates + 1, size=num_users).astype(np.int64)
    ranks = Ranks(
        user=np.arange(num_users),
        expected=rank.astype(np.float64),
        optimistic=rank,
        pessimistic=rank.copy(),
        num_candidates=np.full(num_users, num_candidates),
        num_users=num_users,
    )
    table = evaluate(ranks, NAMES)
    return table if digits is None else {name: round(value, digits) for name, value in table.items()}


def test_report_001_is_chance_in_all_four_metrics_together() -> None:
    joint = joint_chance(REPORT, num_candidates=100, num_users=938, decimals=DIGITS)
    result = table_chance(REPORT, num_candidates=100, num_users=938, decimals=DIGITS)

    assert joint.chi_square == pytest.approx(3.945, abs=0.01)
    assert joint.z["mean_rank"] == pytest.approx(1.496, abs=1e-2)
    assert result.verdict is Verdict.CHANCE
    assert "p = 0.6" in result.figure


def test_a_learned_table_is_not_chance() -> None:
    assert table_chance(LEARNED, num_candidates=100, num_users=938, decimals=DIGITS).verdict is Verdict.PASS


def test_a_ranking_upside_down_is_worse_than_chance() -> None:
    table = {"hit@5": 0.0, "mean_rank": 73.0}
    result = table_chance(table, num_candidates=100, num_users=938, decimals={"hit@5": 4, "mean_rank": 1})

    assert result.verdict is Verdict.FAIL
    assert "WORSE THAN CHANCE" in result.detail


def test_one_metric_far_off_is_enough_among_many_that_are_not() -> None:
    """The chi-square of ten metrics is diluted; the largest z is not."""
    mean, covariance = covariance_of_chance(NAMES, num_candidates=100)
    table = dict(zip(NAMES, mean.tolist(), strict=True))
    shift = covariance[:, NAMES.index("mean_rank")] / np.sqrt(covariance[8, 8] * 938)
    moved = {name: value - 5.0 * part for (name, value), part in zip(table.items(), shift, strict=True)}

    assert table_chance(moved, num_candidates=100, num_users=938).verdict is Verdict.PASS


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(NAMES), num_candidates=st.integers(10, 300))
def test_mean_and_variance_are_those_of_the_exact_bounds(name: str, num_candidates: int) -> None:
    mean, covariance = covariance_of_chance([name], num_candidates=num_candidates)
    expected_mean, expected_error = chance(name, num_candidates=[num_candidates], num_relevant=1)

    assert float(mean[0]) == pytest.approx(expected_mean)
    assert float(np.sqrt(covariance[0, 0])) == pytest.approx(expected_error)


@pytest.mark.parametrize(("num_users", "num_candidates", "digits"), [(938, 100, 4), (60, 100, 3), (200, 2000, None)])
def test_p_is_calibrated(num_users: int, num_candidates: int, digits: int | None) -> None:
    """Among `NUM` tables of chance p < 0.1 is as rare as it says (0.1, conservative by the two looks), 3 sd allowed."""
    decimals = None if digits is None else dict.fromkeys(NAMES, digits)
    settings_ = {"num_candidates": num_candidates, "num_users": num_users, "decimals": decimals}
    found = [
        joint_chance(drawn(num_users, num_candidates, seed, digits=digits), **settings_, num_simulations=1999).p
        for seed in range(NUM)
    ]
    share, error = float(np.mean(np.array(found) < 0.1)), np.sqrt(0.1 * 0.9 / NUM)

    assert 0.03 <= share <= 0.1 + 3 * error
    assert np.mean(np.array(found) < 0.01) <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / NUM)
    assert min(found) >= 1e-3, "no table of chance lies beyond what was simulated"


def test_p_is_calibrated_for_more_users_than_are_drawn_one_by_one() -> None:
    """Means of 50,000 users by the multinomial draw; ranks are drawn here directly."""
    rng, names = np.random.default_rng(0), ("hit@10", "ndcg@10", "mrr", "mean_rank")
    settings_ = {"num_candidates": 1000, "num_users": 50_000, "num_simulations": 1999}
    found = []
    for _ in range(100):
        rank = rng.integers(1, 1001, size=50_000)
        top = rank <= 10
        gain = np.where(top, 1 / np.log2(1 + rank), 0)
        values = (top.mean(), gain.mean(), (1 / rank).mean(), rank.mean())
        found.append(joint_chance(dict(zip(names, map(float, values), strict=True)), **settings_).p)

    assert 0.0 <= np.mean(np.array(found) < 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 100)
    assert 0.3 < np.median(found)


def test_one_lucky_hit_in_a_large_catalogue_is_still_chance() -> None:
    """Expected hits are 0.09; the asymptotic tail would call a single one learned."""
    table = {"hit@10": 1 / 938, "ndcg@10": 0.3562 / 938, "mrr": 1.2e-4}

    assert table_chance(table, num_candidates=100_000, num_users=938).verdict is Verdict.CHANCE


def test_several_relevant_items_are_tested_one_metric_at_a_time() -> None:
    ranks = make_ranks(num_users=300, num_candidates=100, num_relevant=3, skill=0.0)
    learned = make_ranks(num_users=300, num_candidates=100, num_relevant=3, skill=1.0)
    names = ["hit@10", "recall@10", "ndcg@10", "mrr", "mean_rank"]
    known = {"num_candidates": 100, "num_users": 300, "num_relevant": 3}

    assert table_chance(evaluate(ranks, names), **known).verdict is Verdict.CHANCE
    assert table_chance(evaluate(learned, names), **known).verdict is Verdict.PASS


def test_the_best_of_many_tables_is_tested_at_a_stricter_level() -> None:
    table = {"mean_rank": 50.5 - 3.6 * 28.866 / np.sqrt(938)}
    known = {"num_candidates": 100, "num_users": 938}

    assert table_chance(table, **known).verdict is Verdict.PASS
    assert table_chance(table, **known, num_tables=20).verdict is Verdict.CHANCE


def test_what_cannot_be_tested_is_not_measured() -> None:
    beyond = table_chance({"hit@200": 1.0}, num_candidates=100, num_users=10)
    unfinished = table_chance({"hit@5": float("nan")}, num_candidates=100, num_users=10)
    certain = table_chance({"hit@100": 1.0}, num_candidates=100, num_users=10)

    assert {beyond.verdict, unfinished.verdict, certain.verdict} == {Verdict.NOT_MEASURED}
    assert "at least 200 candidates" in beyond.figure
    assert "finite" in unfinished.figure
    assert "every ranking" in certain.figure


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="chance needs users"):
        joint_chance(REPORT, num_candidates=100, num_users=0)
    with pytest.raises(MetricError, match="every ranking"):
        joint_chance({"hit@2": 1.0}, num_candidates=2, num_users=5)
