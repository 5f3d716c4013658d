"""Ranks by counting, held against sorting and against the traps into which real rankers fell."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.rankings import RankingCase, brute_force_places, ranking_cases
from rectest.errors import MetricError, RecordError
from rectest.metrics.ranks import Ranks, rank_slots, rank_targets
from rectest.metrics.targets import Targets

ONE = {"expected": [2.0], "optimistic": [1], "pessimistic": [3], "num_candidates": [3]}


def test_ranks_by_hand() -> None:
    scores = np.array([[9.0, 3.0, 5.0, 5.0, 1.0], [9.0, 1.0, 2.0, 3.0, 4.0]])

    ranks = rank_targets(scores, [[3], [1]])

    assert [1.5, 4.0] == ranks.expected.tolist()
    assert [1, 4] == ranks.optimistic.tolist()
    assert [2, 4] == ranks.pessimistic.tolist()
    assert [4, 4] == ranks.num_candidates.tolist()


def test_padding_and_seen_items_do_not_compete() -> None:
    scores = np.array([[99.0, 3.0, 5.0, 5.0, 1.0]])

    ranks = rank_targets(scores, [[1]], excluded=[[2, 2, 0]])

    assert [2.0] == ranks.expected.tolist()
    assert [3] == ranks.num_candidates.tolist()


def test_a_relevant_item_competes_although_it_was_seen() -> None:
    ranks = rank_targets(np.array([[0.0, 3.0, 5.0]]), [[2]], excluded=[[2, 1]])

    assert [1.0] == ranks.expected.tolist()
    assert [1] == ranks.num_candidates.tolist()


def test_other_relevant_items_take_places() -> None:
    ranks = rank_targets(np.array([[0.0, 3.0, 5.0, 4.0]]), [[1, 2]])

    assert [3.0, 1.0] == ranks.expected.tolist()


def test_relevant_items_that_tie_only_with_each_other_are_certain() -> None:
    ranks = rank_targets(np.array([[0.0, 7.0, 7.0, 4.0]]), [[1, 2]])

    assert [1.0, 2.0] == ranks.expected.tolist()
    assert [1, 2] == ranks.optimistic.tolist() == ranks.pessimistic.tolist()


def test_candidate_lists_rank_like_the_catalogue_that_holds_only_them() -> None:
    scores = np.array([[0.5, 0.9, 0.1], [0.3, 0.2, np.nan]])
    candidates = np.array([[8, 2, 5], [3, 8, 0]])

    ranks = rank_targets(scores, [[5], [3]], candidates=candidates)

    assert [3.0, 1.0] == ranks.expected.tolist()
    assert [3, 2] == ranks.num_candidates.tolist()


def test_users_without_relevant_items_are_counted() -> None:
    ranks = rank_targets(np.zeros((3, 3)), [[], [1], []])

    assert 3 == ranks.num_users
    assert [0, 1, 0] == ranks.num_relevant.tolist()
    assert [0, 2, 0] == ranks.candidates_per_user.tolist()


@pytest.mark.parametrize("slot", [0, 57, 99])
def test_constant_scores_are_neither_perfect_nor_hopeless_in_any_slot(slot: int) -> None:
    ranks = rank_slots(np.zeros((1, 100), dtype=np.float32), np.array([slot]))

    assert (50.5, 1, 100) == (ranks.expected[0], ranks.optimistic[0], ranks.pessimistic[0])


def test_scores_collapsed_by_low_precision_show_as_ties(rng: np.random.Generator) -> None:
    noise = rng.standard_normal((2000, 100), dtype=np.float32) * np.float32(0.01) + np.float32(5)
    collapsed = (noise.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # bfloat16, by truncation

    ranks = rank_slots(collapsed, np.zeros(2000, dtype=np.int64))

    assert 0.9 < np.mean(ranks.optimistic != ranks.pessimistic)
    assert abs(ranks.expected.mean() - 50.5) < 2
    assert 0.5 < np.mean(ranks.optimistic <= 10)


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases())
def test_ranks_equal_the_mean_over_every_order_of_ties(case: RankingCase) -> None:
    ranks = rank_targets(case.scores, case.relevant, excluded=case.excluded)

    for row, relevant in enumerate(case.relevant):
        places = brute_force_places(case, row)
        orders = np.array(places).reshape(len(places), len(relevant))
        mine = ranks.user == row
        assert np.allclose(orders.mean(axis=0), np.sort(ranks.expected[mine]))
        assert orders.min(axis=0).tolist() == np.sort(ranks.optimistic[mine]).tolist()
        assert orders.max(axis=0).tolist() == np.sort(ranks.pessimistic[mine]).tolist()


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases())
def test_expected_lies_midway_for_every_user(case: RankingCase) -> None:
    ranks = rank_targets(case.scores, case.relevant, excluded=case.excluded)

    twice = np.bincount(ranks.user, weights=ranks.optimistic + ranks.pessimistic)

    assert np.allclose(twice, np.bincount(ranks.user, weights=2 * ranks.expected))


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(), block_rows=st.integers(1, 7), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_neither_block_size_nor_precision_changes_a_rank(case: RankingCase, block_rows: int, dtype: Any) -> None:
    expected = rank_targets(case.scores, case.relevant, excluded=case.excluded)

    obtained = rank_targets(case.scores.astype(dtype), case.relevant, excluded=case.excluded, block_rows=block_rows)

    _assert_same(expected, obtained)


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(), shift=st.integers(-3, 3))
def test_monotone_transforms_change_no_rank(case: RankingCase, shift: int) -> None:
    expected = rank_targets(case.scores, case.relevant, excluded=case.excluded)

    for scores in (case.scores + shift, np.exp(case.scores) * 3):
        _assert_same(expected, rank_targets(scores, case.relevant, excluded=case.excluded))


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(), seed=st.integers(0, 2**32 - 1))
def test_relabelled_items_keep_their_ranks(case: RankingCase, seed: int) -> None:
    new_id = np.concatenate(([0], 1 + np.random.default_rng(seed).permutation(case.scores.shape[1] - 1)))
    scores = np.empty_like(case.scores)
    scores[:, new_id] = case.scores

    expected = rank_targets(case.scores, case.relevant, excluded=case.excluded)
    obtained = rank_targets(
        scores, [list(new_id[r]) for r in case.relevant], excluded=[list(new_id[e]) for e in case.excluded]
    )

    _assert_same(expected, obtained)


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(), seed=st.integers(0, 2**32 - 1))
def test_users_in_another_order_keep_their_ranks(case: RankingCase, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.scores))
    expected = rank_targets(case.scores, case.relevant, excluded=case.excluded)

    obtained = rank_targets(
        case.scores[order],
        [case.relevant[row] for row in order],
        excluded=[case.excluded[row] for row in order],
    )

    for new, old in enumerate(order):
        assert expected.expected[expected.user == old].tolist() == obtained.expected[obtained.user == new].tolist()


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_candidates_changes_no_rank(case: RankingCase, seed: int) -> None:
    num_items = case.scores.shape[1] - 1
    candidates = np.random.default_rng(seed).permuted(
        np.tile(np.arange(1, num_items + 1), (len(case.scores), 1)), axis=1
    )
    expected = rank_targets(case.scores, case.relevant)

    obtained = rank_targets(np.take_along_axis(case.scores, candidates, axis=1), case.relevant, candidates=candidates)

    _assert_same(expected, obtained)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 2039, 2040, 2041, 4081, 10_000])
def test_counting_is_exact_at_every_width(width: int, rng: np.random.Generator) -> None:
    scores = rng.integers(0, 50, (3, width)).astype(np.float32)
    slot = rng.integers(0, width, 3)
    own = scores[np.arange(3), slot][:, None]

    ranks = rank_slots(scores, slot)

    assert ((scores > own).sum(axis=1) + 1).tolist() == ranks.optimistic.tolist()
    assert (scores >= own).sum(axis=1).tolist() == ranks.pessimistic.tolist()


@pytest.mark.parametrize("width", [2039, 2040, 2041, 2048, 2056, 4080, 4112, 5000])
def test_all_candidates_above_overflow_no_lane(width: int) -> None:
    scores = np.ones((2, width))
    scores[:, 0] = 0

    assert rank_slots(scores, np.array([0, 0])).optimistic.tolist() == [width, width]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [1, 3], ids=["target", "other"])
def test_scores_that_are_not_finite_are_refused_with_their_place(bad: float, column: int) -> None:
    scores = np.zeros((4, 5))
    scores[2, column] = bad

    with pytest.raises(
        MetricError, match=f"scores of 1 candidates are NaN or infinite, first in row 2, column {column}"
    ):
        rank_targets(scores, np.array([1, 1, 1, 1]), block_rows=2)


def test_all_nan_is_refused_and_counted() -> None:
    with pytest.raises(MetricError, match="scores of 8 candidates"):
        rank_targets(np.full((2, 5), np.nan), np.array([1, 1]))


def test_whoever_does_not_compete_may_score_anything() -> None:
    scores = np.array([[np.nan, 2.0, -np.inf, 1.0], [np.inf, 3.0, 1.0, np.nan]])

    ranks = rank_targets(scores, [[3], [1]], excluded=[[2], [3]])

    assert [2.0, 1.0] == ranks.expected.tolist()


def test_huge_finite_scores_are_no_infinity() -> None:
    scores = np.full((2, 5), np.finfo(np.float32).max, dtype=np.float32)

    assert [2.5, 2.5] == rank_targets(scores, np.array([1, 2])).expected.tolist()


def test_arrays_survive_the_round_trip() -> None:
    ranks = rank_targets(np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]), [[1], [2], []])

    arrays = ranks.to_arrays("ranks/test")

    assert {
        f"ranks/test/{name}" for name in ("user", "expected", "optimistic", "pessimistic", "num_candidates")
    } == set(arrays)
    _assert_same(ranks, Ranks.from_arrays(arrays, "ranks/test/", num_users=3))


def test_missing_arrays_are_named() -> None:
    with pytest.raises(RecordError, match=r"the arrays ranks/test/expected, .*ranks/test/user are missing"):
        Ranks.from_arrays({}, "ranks/test", num_users=1)


@pytest.mark.parametrize(
    "change",
    [
        {"optimistic": [0]},
        {"expected": [0.5]},
        {"expected": [np.nan]},
        {"expected": [np.inf]},
        {"pessimistic": [1]},
        {"num_candidates": [2]},
    ],
)
def test_impossible_ranks_are_refused(change: dict[str, list[float]]) -> None:
    with pytest.raises(MetricError, match="row 0: ranks must be finite with 1 <= optimistic"):
        _ranks(**{**ONE, **change})


def test_columns_must_agree_in_shape_type_and_range() -> None:
    good = _ranks(**ONE)

    with pytest.raises(ValueError, match=r"optimistic must be int64\[1\], got int64\[2\]"):
        dataclasses.replace(good, optimistic=np.array([1, 1]))
    with pytest.raises(ValueError, match=r"pessimistic must be int64\[1\], got float64"):
        dataclasses.replace(good, pessimistic=np.array([3.0]))
    with pytest.raises(ValueError, match=r"users must be in 0..0, got 1..1"):
        dataclasses.replace(good, user=np.array([1]))


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((2, 3)), np.zeros((1, 3), dtype=np.int64)])
def test_scores_of_another_shape_or_type_are_refused(scores: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"scores must be float\[1, columns\]"):
        rank_targets(scores, Targets.full([[1]], num_rows=1))


def test_protocols_are_not_mixed() -> None:
    scores = np.zeros((1, 3))

    with pytest.raises(ValueError, match="leave seen items out of the candidates"):
        rank_targets(scores, [[1]], excluded=[[2]], candidates=[[1, 2, 3]])
    with pytest.raises(ValueError, match="prepared Targets know their excluded"):
        rank_targets(scores, Targets.full([[1]], num_rows=1), excluded=[[2]])
    with pytest.raises(ValueError, match="scores have 3 columns, expected 2"):
        rank_targets(scores, [[1]], candidates=[[1, 2]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def _ranks(**columns: list[float]) -> Ranks:
    arrays = {
        name: np.array(values, dtype=np.float64 if name == "expected" else np.int64) for name, values in columns.items()
    }
    return Ranks(user=np.zeros(1, dtype=np.int64), num_users=1, **arrays)


def _assert_same(expected: Ranks, obtained: Ranks) -> None:
    assert expected.num_users == obtained.num_users
    for name, array in expected.to_arrays("r").items():
        assert array.tolist() == obtained.to_arrays("r")[name].tolist(), name
