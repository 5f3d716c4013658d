"""The rules of the reports' programs: hand-computed cases, and properties of the exact laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.claims.rules import (
    Schedule,
    alternation_switches,
    falling_losses,
    fused_ranks,
    mean_of_measures,
    rank_outcomes,
    shift_for_mean_rank,
)
from rectest.metrics.bounds import chance

FAST = settings(max_examples=20, deadline=None)


class TestAlternation:
    def test_constant_losses_toggle_every_five_steps(self):
        losses = {"a": np.zeros(30), "b": np.zeros(30)}

        assert [10, 15, 20, 25, 30] == alternation_switches(losses, threshold=0.01)

    def test_a_steady_fall_above_the_threshold_never_switches(self):
        losses = {"a": 0.9 ** np.arange(60), "b": np.ones(60)}

        assert [] == alternation_switches(losses, threshold=0.01)

    def test_a_rise_from_zero_is_a_change(self):
        losses = {"a": np.concatenate([np.zeros(9), [1.0]]), "b": np.zeros(10)}

        assert [] == alternation_switches(losses, threshold=0.01)

    @given(threshold=st.floats(0.001, 0.2))
    @FAST
    def test_a_higher_threshold_switches_no_later(self, threshold):
        (loss,) = falling_losses(1.2, 0.37, steps=120, noise=0.05, num_runs=1)
        losses = {"a": loss, "b": np.full(120, 22.0)}
        low, high = (alternation_switches(losses, threshold=t) for t in (threshold, 2 * threshold))

        assert (high or [121])[0] <= (low or [121])[0]


def test_losses_start_and_end_where_they_should():
    (loss,) = falling_losses(1.2, 0.37, steps=240, noise=0.0, num_runs=1)

    assert (1.2, pytest.approx(0.37)) == (loss[0], loss[-1])


class TestFusedRanks:
    @given(shift=st.floats(-2, 3), noise=st.floats(0, 30), num=st.integers(2, 60))
    @FAST
    def test_a_law(self, shift, noise, num):
        law = fused_ranks(shift, noise=noise, num_candidates=num)

        assert law.shape == (num,)
        assert law.min() >= 0
        assert law.sum() == pytest.approx(1.0)

    def test_without_a_shift_it_is_chance(self):
        found = mean_of_measures(fused_ranks(0.0, noise=0.0, num_candidates=100))

        for name in ("hit@5", "ndcg@10", "mrr", "mean_rank"):
            assert found[name] == pytest.approx(chance(name, num_candidates=100, num_relevant=1)[0], rel=1e-3)

    def test_against_a_simulation(self):
        rng = np.random.default_rng(0)
        scores = rng.normal(size=(20_000, 100)) + 3.0 * rng.normal(size=(20_000, 100))
        scores[:, 0] += 1.5
        ranks = 1 + (scores > scores[:, :1]).sum(axis=1)
        found = mean_of_measures(fused_ranks(1.5, noise=3.0, num_candidates=100))

        assert found["mean_rank"] == pytest.approx(ranks.mean(), abs=0.8)
        assert found["hit@10"] == pytest.approx((ranks <= 10).mean(), abs=0.01)

    @given(mean_rank=st.floats(5, 50))
    @FAST
    def test_the_shift_gives_its_mean_rank(self, mean_rank):
        shift = shift_for_mean_rank(mean_rank, num_candidates=100)

        assert mean_of_measures(fused_ranks(shift, noise=0, num_candidates=100))["mean_rank"] == pytest.approx(
            mean_rank, abs=0.05
        )


def test_outcomes_of_one_user_average_to_chance():
    means = rank_outcomes(100).mean(axis=0)
    expected = [
        chance(name, num_candidates=100, num_relevant=1)[0] for name in ("hit@5", "ndcg@10", "mrr", "mean_rank")
    ]

    assert expected == pytest.approx(means.tolist())


class TestSchedule:
    def test_by_hand(self):
        schedule = Schedule(peak=1.0, warm_up=0.5, total_steps=4)

        assert [0.5, 1.0, 0.5, 0.0] == [schedule.rate(step) for step in range(1, 5)]
        assert schedule.integral(4) == 2.0

    @given(warm_up=st.floats(0.01, 0.5), steps=st.integers(100, 2000))
    @FAST
    def test_the_integral_is_half_the_rectangle(self, warm_up, steps):
        schedule = Schedule(peak=1e-3, warm_up=warm_up, total_steps=steps)

        assert schedule.integral(steps) == pytest.approx(1e-3 * steps / 2, rel=0.02)
        assert math.isclose(max(schedule.rate(step) for step in range(steps)), 1e-3, rel_tol=0.1)
