"""The null law of co-occurrence: by hand, against shuffles, and its false alarms on noise with popular items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.cooccurrence import ItemPairs, consecutive_pairs, directions, excess


def skewed_pairs(rng: np.random.Generator, num_items: int, num_pairs: int, exponent: float) -> ItemPairs:
    """Pairs of independent items whose popularity falls as a power of their rank; some items are in most of them."""
    weight = 1 / np.arange(1, num_items + 1) ** exponent
    return ItemPairs.from_array(rng.choice(num_items, (num_pairs, 2), p=weight / weight.sum()))


def test_pairs_are_unordered_counted_and_of_different_items() -> None:
    pairs = ItemPairs.from_array(np.array([[5, 9], [9, 5], [5, 5], [2, 9]]))

    assert [2, 5, 9] == pairs.items.tolist()
    assert [(0, 2, 1.0), (1, 2, 2.0)] == list(zip(pairs.left, pairs.right, pairs.count, strict=True))
    assert len(pairs) == 3


def test_the_excess_by_hand() -> None:
    pairs = ItemPairs.from_array(np.array([[0, 1], [2, 3]]))
    rows = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)

    found = excess(pairs, rows)

    assert found.mean == pytest.approx(1.0)
    assert found.expected == pytest.approx(1 / 3), "of the six pairs of four items two are alike"
    assert found.num_pairs == 2


def test_the_deviation_is_that_of_rows_that_change_places() -> None:
    rng = np.random.default_rng(3)
    pairs = skewed_pairs(rng, 15, 60, 0.3)
    rows = directions(rng.normal(size=(15, 3)) + 0.5)

    found = excess(pairs, rows)
    shuffled = np.array([excess(pairs, rows[rng.permutation(15)]).excess for _ in range(2000)])

    assert shuffled.mean() == pytest.approx(0, abs=4 * found.deviation / np.sqrt(2000))
    assert shuffled.std() == pytest.approx(found.deviation, rel=0.12), "15 items: finite corrections are left out"


@pytest.mark.parametrize(
    ("num_items", "num_pairs", "exponent", "dim", "common"),
    [
        (300, 800, 0.5, 16, 0.0),
        (500, 2000, 1.0, 64, 0.0),
        (500, 2000, 1.0, 64, 0.3),
        (1000, 1000, 1.2, 8, 0.0),
        (60, 400, 1.0, 32, 0.0),
        (500, 3000, 1.0, 2, 0.0),
    ],
)
def test_noise_is_standard_normal_whatever_is_popular(
    num_items: int, num_pairs: int, exponent: float, dim: int, common: float
) -> None:
    rng, sigmas = np.random.default_rng(num_items + dim), []
    for _ in range(150):
        pairs = skewed_pairs(rng, num_items, num_pairs, exponent)
        sigmas.append(excess(pairs, directions(rng.normal(size=(len(pairs.items), dim)) + common)).sigmas)

    assert abs(np.mean(sigmas)) < 4 / np.sqrt(150)
    assert 0.8 < np.std(sigmas) < 1.2, "an honest deviation: 150 tables know it to 6 %"
    assert max(sigmas) < 5


@pytest.mark.slow
def test_the_false_alarms_are_those_declared() -> None:
    rng = np.random.default_rng(0)
    sigmas = []
    for _ in range(6000):
        pairs = skewed_pairs(rng, 400, 2000, 1.0)
        sigmas.append(excess(pairs, directions(rng.normal(size=(len(pairs.items), 32)))).sigmas)

    assert np.mean(np.array(sigmas) > 3.09) < 0.003, "1 in 1,000 declared; 6,000 tables and a long right tail"
    assert max(sigmas) < 5


def test_popular_rows_that_lie_alike_earn_nothing() -> None:
    rng = np.random.default_rng(1)
    sigmas = []
    for _ in range(50):
        pairs = skewed_pairs(rng, 500, 5000, 1.0)
        rows = rng.normal(size=(500, 16))
        rows[:50] += 3
        sigmas.append(excess(pairs, directions(rows[pairs.items])).sigmas)

    assert abs(np.mean(sigmas)) < 1.0
    assert max(np.abs(sigmas)) < 5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0))
def test_lengths_and_the_order_of_pairs_do_not_matter(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 30, (100, 2))
    rows = rng.normal(size=(30, 5))
    one, other = ItemPairs.from_array(pairs), ItemPairs.from_array(rng.permutation(pairs)[:, ::-1])

    first = excess(one, directions(rows[one.items]))
    second = excess(other, directions(rows[other.items] * scale))

    assert first.excess == pytest.approx(second.excess, abs=1e-5)
    assert first.deviation == pytest.approx(second.deviation, rel=1e-3)


def test_zero_and_broken_rows_are_left_out() -> None:
    rows = np.array([[0.0, 0.0], [1.0, np.nan], [np.inf, 1.0], [3.0, 4.0], [1e300, 0.0]])

    found = directions(rows)

    assert [False, False, False, True, False] == found.any(axis=1).tolist()
    assert [0.6, 0.8] == pytest.approx(found[3].tolist())
    assert excess(ItemPairs.from_array(np.array([[0, 3], [1, 3]])), found[:4]).num_pairs == 0


def test_pairs_within_reach_stay_within_sequences() -> None:
    items, offsets = np.array([1, 2, 3, 4, 4, 5]), np.array([0, 2, 2, 6])

    assert [[1, 2], [3, 4], [4, 5]] == consecutive_pairs(items, offsets).tolist()
    assert [[1, 2], [3, 4], [4, 5], [3, 4], [4, 5]] == consecutive_pairs(items, offsets, reach=2).tolist()
    assert [[1, 2]] == consecutive_pairs(items, offsets, max_pairs=1).tolist()
    assert [] == consecutive_pairs(np.array([7]), np.array([0, 1]), reach=3).tolist()


def test_thinned_pairs_keep_their_items() -> None:
    pairs = skewed_pairs(np.random.default_rng(0), 100, 2000, 0.5)

    some = pairs.thinned(50)

    assert 50 <= len(some.left) <= 101
    known = set(zip(pairs.items[pairs.left].tolist(), pairs.items[pairs.right].tolist(), strict=True))
    assert known >= set(zip(some.items[some.left].tolist(), some.items[some.right].tolist(), strict=True))
