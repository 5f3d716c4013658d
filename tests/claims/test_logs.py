"""What is read off a log: hand-computed cases, and the exact law of a popularity ranking against a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.claims.logs import (
    id_popularity_agreement,
    last_state_shares,
    popularity_among_candidates,
    top_overlap,
)
from rectest.claims.r003_runs import lengths_like

FAST = settings(max_examples=25, deadline=None)


class TestLastState:
    @given(lengths=st.lists(st.integers(1, 80), min_size=1, max_size=30), width=st.integers(1, 60))
    @FAST
    def test_against_really_padded_rows(self, lengths, width):
        padding = stale = 0
        for length in lengths:
            row = np.concatenate([np.zeros(width, int), 1 + np.arange(length)])[-width:]
            seen = row[int((row > 0).sum()) - 1]
            padding += seen == 0
            stale += 0 < seen < length

        expected = (padding / len(lengths), stale / len(lengths))

        assert expected == pytest.approx(last_state_shares(np.array(lengths), width=width))

    def test_full_histories_are_right(self):
        assert (0.0, 0.0) == last_state_shares(np.array([50, 60]), width=50)


class TestPopularityAmongCandidates:
    def test_by_hand(self):
        """Items 1..4 with counts 5, 3, 3, 0; one other is drawn."""
        counts = np.array([0, 5, 3, 3, 0])
        laws = popularity_among_candidates(counts, np.array([1, 2, 4]), num_drawn=1)

        np.testing.assert_allclose(laws, [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])

    def test_against_a_simulation(self):
        rng = np.random.default_rng(0)
        counts = np.concatenate([[0], rng.integers(0, 6, 30)])
        targets = np.array([3, 17])
        laws = popularity_among_candidates(counts, targets, num_drawn=9)
        for law, target in zip(laws, targets.tolist(), strict=True):
            others = np.setdiff1d(np.arange(1, 31), [target])
            ranks = []
            for _ in range(4000):
                drawn = counts[rng.choice(others, 9, replace=False)]
                ties = int((drawn == counts[target]).sum())
                ranks.append(int((drawn > counts[target]).sum()) + int(rng.integers(0, ties + 1)))

            np.testing.assert_allclose(law, np.bincount(ranks, minlength=10) / 4000, atol=0.035)

    @given(st.lists(st.integers(0, 9), min_size=12, max_size=40))
    @FAST
    def test_laws_sum_to_one(self, counts):
        laws = popularity_among_candidates(np.array([0, *counts]), np.arange(1, len(counts) + 1), num_drawn=10)

        np.testing.assert_allclose(laws.sum(axis=1), 1.0)


class TestIds:
    def test_sorted_ids_agree_and_shuffled_do_not(self):
        assert id_popularity_agreement(tiny_world("tiny-sorted-ids")) < -0.5
        assert abs(id_popularity_agreement(tiny_world("tiny"))) < 0.5

    def test_overlap_by_hand(self):
        """Counts of the hand-made world are 2, 2, 1, 3: the most popular item is 4, then 1."""
        assert (0.0, 0.5) == (top_overlap(hand_world(), 1), top_overlap(hand_world(), 2))


class TestLengthsLike:
    SIZES = {"num_users": 1000, "num_events": 8900, "min_events": 5}  # noqa: RUF012

    def test_sizes_are_exact(self):
        lengths = lengths_like(self.SIZES)

        assert (1000, 8900, 5) == (len(lengths), int(lengths.sum()), int(lengths.min()))
