"""Limits against SciPy, against brute force, and against the values of the reports."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks import tolerance


def test_report_001_is_at_chance_by_the_exact_tail() -> None:
    obtained = tolerance.binomial_tail(51, 938, 0.05)

    assert obtained == pytest.approx(0.2896, abs=5e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2000), st.floats(1e-4, 0.9999))
def test_binomial_tail_equals_scipy(hits: int, num_trials: int, rate: float) -> None:
    expected = scipy.stats.binom.sf(hits - 1, num_trials, rate)

    obtained = tolerance.binomial_tail(hits, num_trials, rate)

    assert obtained == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_binomial_tail_of_a_sure_thing(rate: float, expected: float) -> None:
    assert expected == tolerance.binomial_tail(3, 5, rate)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.floats(0.001, 0.9))
def test_binomial_limit_is_the_first_count_that_is_rare(num_trials: int, rate: float) -> None:
    limit = tolerance.binomial_limit(num_trials, rate)

    assert tolerance.binomial_tail(limit, num_trials, rate) < tolerance.ALPHA
    assert tolerance.binomial_tail(limit - 1, num_trials, rate) >= tolerance.ALPHA


def test_z_limit_is_the_normal_quantile_of_the_shared_level() -> None:
    expected = scipy.stats.norm.isf(1e-3 / 7 / 2)

    assert tolerance.z_limit(1e-3, num_tests=7, sides=2) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_two_orders_of_one_mean_stay_within_the_slack(values: list[float]) -> None:
    forwards = sum(values) / len(values)
    backwards = sum(values[::-1]) / len(values)

    assert abs(forwards - backwards) <= tolerance.mean_slack(len(values))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 100))
def test_normalised_rows_stay_within_the_norm_slack(dim: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(20, dim)).astype(np.float32)
    rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]

    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))

    assert np.abs(lengths - 1).max() <= tolerance.norm_slack(dim, float(np.finfo(np.float32).eps))


def test_user_noise_floor_is_what_redrawn_hits_give() -> None:
    rng = np.random.default_rng(0)
    rates = (rng.random((4000, 1000)) < 0.15).mean(axis=1)

    expected = tolerance.user_noise_floor(0.15, 1000)

    # Independent users are binomial, whose variance is the Poisson one less a share r.
    assert rates.std() / rates.mean() == pytest.approx(expected * math.sqrt(0.85), rel=0.05)
    assert math.isinf(tolerance.user_noise_floor(0.0, 1000))


def test_false_alarm_of_a_band_is_counted_over_all_values() -> None:
    one = tolerance.false_alarm_of_band(0.1, 0.05, num_values=1)

    assert tolerance.false_alarm_of_band(0.1, 0.05, num_values=30) == pytest.approx(1 - (1 - one) ** 30)
    assert tolerance.false_alarm_of_band(0.1, 0.0, num_values=30) == 0
    assert tolerance.false_alarm_of_band(0.1, math.inf, num_values=30) == 1


def test_short_rows_meet_by_chance_and_long_rows_do_not() -> None:
    assert tolerance.accidental_duplicates(10_000, 1, mantissa_bits=23) > 1
    assert tolerance.accidental_duplicates(10_000_000, 4, mantissa_bits=23) < 1e-10


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tolerance.bonferroni(1.5, 1), "alpha"),
        (lambda: tolerance.z_limit(sides=3), "sides"),
        (lambda: tolerance.binomial_tail(1, 2, 1.5), "rate"),
        (lambda: tolerance.user_noise_floor(0.1, 0), "users"),
    ],
)
def test_arguments_outside_of_their_range_are_refused(call: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()  # type: ignore[operator]
