"""Effects: a promise that is kept is green, a feature that is on and does nothing is red, and silence is neither."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from fixtures.records import edit_facts, find, make_record, red_checks
from rectest.checks.effect import MIN_STEPS, curve_error, effects, t_limit
from rectest.checks.result import Verdict
from rectest.checks.tolerance import ALPHA, z_limit

NAME = "negatives/relative_popularity"


def record_with(curve=None, *, promised=1.0, invariants=None, steps=None):
    """A healthy record whose system promises a mean, and what it then recorded."""
    inputs = {"expected_scalars": {NAME: promised}} | ({"invariants": invariants} if invariants else {})
    record = edit_facts(make_record(), "inputs", value=inputs)
    if steps is not None:
        record = edit_facts(record, "settings", value={"steps": steps})
    return record if curve is None else record.with_arrays(**{f"counter/{NAME}": np.asarray(curve, np.float64)})


def drawn(mean, *, sd=0.05, num_steps=250, seed=0):
    return np.random.default_rng(seed).normal(mean, sd, num_steps)


def test_the_error_of_an_alternating_curve():
    """0, 1, 0, ... has squared differences of 1, so a variance of 1/2: for T steps the error is sqrt(1 / 2T)."""
    error, freedom = curve_error(np.array([0.0, 1.0] * 8))

    assert error == pytest.approx(np.sqrt(1 / 32))
    assert freedom == pytest.approx(2 * 15**2 / 44)


def test_a_mean_that_moves_in_phases_is_not_noise():
    phases = np.repeat([0.1, 0.5, 0.8], 100)
    noise = drawn(0.0, sd=0.05, num_steps=300)

    assert curve_error(phases + noise)[0] < 1.2 * curve_error(noise)[0]
    assert (phases + noise).std() / np.sqrt(300) > 4 * curve_error(phases + noise)[0]


@pytest.mark.parametrize("freedom", [6.2, 10, 30, 160])
@pytest.mark.parametrize("alpha", [0.05, ALPHA])
def test_the_limit_is_student_s(freedom, alpha):
    z = z_limit(alpha, sides=2)

    assert student.isf(alpha / 2, freedom) == pytest.approx(t_limit(z, freedom), rel=0.02)


def test_a_kept_promise_is_green():
    results = effects(record_with(drawn(1.2), promised=1.2))

    assert [f"effect/{NAME}"] == [result.check for result in results]
    assert red_checks(results) == set()
    assert "would be seen" in results[0].detail


def test_an_inert_feature_is_red():
    """Report 002: int(1 * 0.3) popular negatives of one are none, so the curve stays where uniform draws are."""
    (result,) = effects(record_with(drawn(1.0), promised=1.25))

    assert result.verdict is Verdict.FAIL
    assert "standard errors" in result.outside


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), num_steps=st.integers(MIN_STEPS, 400), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_five_limits_away_is_seen_whatever_the_unit(seed, num_steps, scale):
    curve = scale * drawn(1.0, num_steps=num_steps, seed=seed)
    mean, (error, freedom) = curve.mean(), curve_error(curve)
    limit = t_limit(z_limit(ALPHA, sides=2), freedom) * error

    assert not red_checks(effects(record_with(curve, promised=mean + 0.9 * limit)))
    assert red_checks(effects(record_with(curve, promised=mean + 1.1 * limit)))


def test_false_alarms_are_as_rare_as_promised():
    """Of 4000 healthy curves of 20 steps, a level of 1 % must cost about 40; 80 would be six standard errors off."""
    rng = np.random.default_rng(0)
    record = record_with()
    curves = [{f"counter/{NAME}": curve} for curve in rng.normal(1.0, 0.3, (4000, 20))]
    num_red = sum(effects(record.with_arrays(**curve), alpha=0.01)[0].red for curve in curves)

    assert 15 <= num_red <= 70


@pytest.mark.parametrize(("value", "red"), [(1.0, False), (1.0 + 1e-12, False), (0.999, True), (np.nan, True)])
def test_a_constant_curve_must_be_exact_but_for_rounding(value, red):
    (result,) = effects(record_with(np.full(50, value)))

    assert red == result.red


def test_one_nan_is_red():
    curve = drawn(1.0)
    curve[100] = np.nan

    (result,) = effects(record_with(curve))

    assert result.verdict is Verdict.FAIL
    assert result.outside == "the curve is not finite"


@pytest.mark.parametrize(
    ("record", "figure"),
    [
        (record_with(), "0 recorded steps"),
        (record_with(drawn(1.0, num_steps=MIN_STEPS - 1)), "9 recorded steps, at least 10"),
        (record_with(drawn(1.0), promised=float("nan")), "the promise itself is nan"),
        (record_with(drawn(1.0), steps=300), "the promise is for 300 steps, the run has 250"),
    ],
)
def test_a_promise_that_cannot_be_looked_at_is_not_green(record, figure):
    (result,) = effects(record)

    assert result.verdict is Verdict.NOT_MEASURED
    assert result.figure.startswith(figure)


def test_an_invariant_is_equal_or_red():
    """The sampler of report 000 took ids for popularity ranks: hundreds of classes out of order."""
    record = record_with(drawn(1.0), invariants={"out_of_order": [249, 0], "classes": [500, 500]})
    results = effects(record)

    assert red_checks(results) == {"effect/out_of_order"}
    assert find(results, "effect/out_of_order").figure == "249"
    assert find(results, "effect/classes").verdict is Verdict.PASS


@pytest.mark.parametrize("pair", [3, [1], None, [1, 2, 3]])
def test_an_invariant_that_is_no_pair_is_not_measured(pair):
    results = effects(record_with(drawn(1.0), invariants={"broken": pair}))

    assert find(results, "effect/broken").verdict is Verdict.NOT_MEASURED


def test_a_system_that_promises_nothing_is_not_judged():
    assert effects(make_record()) == []
