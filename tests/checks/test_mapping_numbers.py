"""Holes and repeated numbers, counted in a table or sorted, are those of sets."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.mapping_numbers import numbers_of


def test_holes_and_repeated_numbers() -> None:
    found = numbers_of(np.array([7, 3, 3, 5]))

    assert (3, 7, [3], [(4, 4), (6, 6)]) == (found.low, found.high, found.shared.tolist(), found.holes)


@given(st.lists(st.one_of(st.integers(-9, 9), st.integers(-(2**63) + 1, 2**63 - 1)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_numbers_are_those_of_sets(numbers: list[int]) -> None:
    found = numbers_of(np.array(numbers, dtype=np.int64))
    distinct = sorted(set(numbers))

    assert [n for n in distinct if numbers.count(n) > 1] == found.shared.tolist()
    assert [(a + 1, b - 1) for a, b in itertools.pairwise(distinct) if b - a > 1] == found.holes
    assert (distinct[0], distinct[-1]) == (found.low, found.high)


def test_a_table_and_sorting_agree_on_many_numbers() -> None:
    index = np.random.default_rng(0).integers(1, 400_000, 300_000)
    near, far = numbers_of(index), numbers_of(np.concatenate([index, [2**40]]))

    assert near.shared.tolist() == far.shared.tolist()
    assert near.holes == far.holes[: len(near.holes)]
