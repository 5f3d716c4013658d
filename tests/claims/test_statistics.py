"""Effects with their intervals: against scipy and by hand, and where a claim about them lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, ttest_rel

from rectest.claims.claim import Finding, NotHere
from rectest.claims.rules import rank_outcomes
from rectest.claims.statistics import (
    Effect,
    chi_square_tail,
    joint_chi_square,
    paired_gain,
    place,
    spread_ratio,
)

RNG = np.random.default_rng(0)


class TestPairedGain:
    def test_against_scipy(self):
        before = RNG.normal(1.0, 0.1, 8)
        after = before + RNG.normal(0.05, 0.02, 8)
        gain = paired_gain(before, after)
        interval = ttest_rel(after, before).confidence_interval(0.95)

        assert gain.low == pytest.approx(interval.low / before.mean())
        assert gain.high == pytest.approx(interval.high / before.mean())

    def test_text(self):
        assert Effect(mean=0.012, low=-0.003, high=0.027, num=8).percent() == "+1.2 % [-0.3, +2.7] over 8 seeds"

    @pytest.mark.parametrize("values", [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, -1.0], [1.0, 2.0])])
    def test_too_little(self, values):
        with pytest.raises(ValueError, match="a paired gain needs two or more pairs"):
            paired_gain(*values)


class TestPlace:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0.011, 0.029, Finding.CONFIRMED),
            (-0.02, 0.009, Finding.REFUTED),
            (0.031, 0.05, Finding.REFUTED),
            (-0.01, 0.02, Finding.UNDECIDABLE),
            (-0.01, 0.06, Finding.UNDECIDABLE),
        ],
    )
    def test_a_claim_of_one_to_three_percent(self, low, high, expected):
        effect = Effect(mean=(low + high) / 2, low=low, high=high, num=8)

        assert place(effect, low=0.01, high=0.03) is expected

    def test_open_ends(self):
        assert place(Effect(mean=1, low=0.5, high=2, num=3), low=0.1, high=math.inf) is Finding.CONFIRMED


class TestSpreadRatio:
    def test_coverage(self):
        """The interval holds the true ratio about as often as it says."""
        held = 0
        for _ in range(300):
            found = spread_ratio(RNG.normal(0, 1, 6), RNG.normal(0, 2, 6))
            held += found.low <= 2 <= found.high

        assert 0.90 <= held / 300 <= 0.99

    def test_equal_runs_have_no_spread(self):
        with pytest.raises(NotHere, match="the runs do not differ"):
            spread_ratio([1.0, 1.0], [1.0, 2.0])


class TestJoint:
    def test_the_mean_of_the_null_is_zero(self):
        outcomes = rank_outcomes(100)

        assert joint_chi_square(outcomes.mean(axis=0), outcomes, num_users=938) == pytest.approx(0.0)

    def test_its_law_under_the_null(self):
        outcomes = rank_outcomes(100)
        drawn = [outcomes[RNG.integers(0, 100, 938)].mean(axis=0) for _ in range(400)]
        values = [joint_chi_square(one, outcomes, num_users=938) for one in drawn]

        assert np.mean(values) == pytest.approx(4.0, abs=0.6)

    @given(value=st.floats(0, 60), half=st.integers(1, 4))
    @settings(max_examples=30, deadline=None)
    def test_tail_against_scipy(self, value, half):
        assert chi_square_tail(value, degrees=2 * half) == pytest.approx(chi2.sf(value, 2 * half))

    @pytest.mark.parametrize("degrees", [0, 3])
    def test_odd_degrees(self, degrees):
        with pytest.raises(ValueError, match="even number of degrees"):
            chi_square_tail(1.0, degrees=degrees)
