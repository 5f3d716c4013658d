"""Trends: exact for short curves, calibrated for long ones, and silent where nothing can be told."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.trend import MIN_STEPS, MIN_WINDOWED, fall_of, kendall_tail


@pytest.mark.parametrize("num_falling", range(7))
def test_the_tail_is_that_of_all_orders(num_falling):
    """Four steps have 24 orders; counting their falling pairs is the definition."""
    orders = list(itertools.permutations(range(4)))
    falling = [sum(a > b for a, b in itertools.combinations(order, 2)) for order in orders]

    assert sum(num >= num_falling for num in falling) / 24 == pytest.approx(kendall_tail(4, num_falling))


@given(num_steps=st.integers(2, 40))
def test_a_monotone_curve_has_one_order_of_all(num_steps):
    pairs = num_steps * (num_steps - 1) // 2

    assert 1 / math.factorial(num_steps) == pytest.approx(kendall_tail(num_steps, pairs), rel=1e-9)


@pytest.mark.parametrize(("num_steps", "falls"), [(MIN_STEPS, True), (MIN_WINDOWED - 1, True), (MIN_WINDOWED, True)])
def test_a_falling_curve_falls(num_steps, falls):
    fall = fall_of(np.linspace(2, 1, num_steps))

    assert falls == fall.falls
    assert fall.early > fall.late
    assert 0 < fall.relative < 1


@pytest.mark.parametrize("num_steps", [8, 30, 60, 300])
@pytest.mark.parametrize("curve", [np.ones, lambda n: np.linspace(1, 2, n)])
def test_a_constant_or_rising_curve_does_not(num_steps, curve):
    assert not fall_of(curve(num_steps)).falls


@pytest.mark.parametrize("num_steps", [20, 50, 200])
def test_false_alarms_are_as_rare_as_promised(num_steps):
    """Of 2000 flat curves a level of 1 % costs about 20; 42 would be five standard errors off."""
    rng = np.random.default_rng(num_steps)
    num = sum(fall_of(curve, alpha=0.01).falls for curve in rng.normal(1, 0.2, (2000, num_steps)))

    assert num <= 42


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), num_steps=st.integers(60, 400), scale=st.sampled_from([1e-4, 1.0, 1e4]))
def test_a_fall_of_three_deviations_is_seen_whatever_the_unit(seed, num_steps, scale):
    rng = np.random.default_rng(seed)
    curve = scale * (10 - 3 * np.arange(num_steps) / num_steps + rng.normal(0, 0.5, num_steps))

    assert fall_of(curve).falls
    assert not fall_of(curve[::-1]).falls


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ([], "0 steps, at least 7"),
        (np.ones(6), "6 steps, at least 7"),
        ([1, 2, np.nan, 4, 5, 6, 7, 8], "step 3 is not finite"),
    ],
)
def test_what_cannot_be_told_is_said(curve, reason):
    assert fall_of(curve).startswith(reason)
