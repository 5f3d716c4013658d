import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.baseline.power import detectable_shift, mdd_upper, plan, shift_quantile, t_quantile

# Smallest drop in run sds that is caught with 90 %, six features, alpha 1e-3: n1 = 1, 2, 3, 5, and with ten more
# degrees of freedom n1 = 1, 3, 5.
PUBLISHED = {
    3: (96, 76, 68, 61, 7.7, 5.5, 4.9),
    5: (17.6, 13.5, 11.8, 10.2, 7.0, 4.6, 4.0),
    8: (9.4, 7.0, 6.0, 5.1, 6.4, 4.1, 3.4),
    12: (7.2, 5.3, 4.5, 3.7, 6.0, 3.7, 3.1),
    16: (6.4, 4.7, 3.9, 3.2, 5.8, 3.5, 2.9),
    24: (5.8, 4.2, 3.5, 2.8, 5.5, 3.3, 2.7),
    32: (5.5, 4.0, 3.3, 2.6, 5.4, 3.2, 2.5),
}
DESIGNS = [(1, 0), (2, 0), (3, 0), (5, 0), (1, 10), (3, 10), (5, 10)]


@pytest.mark.parametrize("num_stored", PUBLISHED)
def test_detectable_shift_is_the_published_table(num_stored):
    obtained = [
        detectable_shift(1.0, num_stored=num_stored, num_new=n1, df=num_stored - 1 + more, alpha=1e-3 / 6, beta=0.1)
        for n1, more in DESIGNS
    ]

    for expected, found in zip(PUBLISHED[num_stored], obtained, strict=True):
        # The digits that are printed; 5.046 went to print as 5.1.
        assert expected == pytest.approx(found, abs=0.06 if isinstance(expected, float) else 0.51)


@given(df=st.floats(4, 60), alpha=st.floats(1e-4, 0.2), beta=st.floats(0.01, 0.4))
@settings(max_examples=50, deadline=None)
def test_shift_quantile_solves_the_noncentral_t_where_scipy_can(df, alpha, beta):
    from scipy import stats

    shift = shift_quantile(alpha, df, beta)
    expected = float(stats.nct.sf(t_quantile(alpha, df), df, shift))

    assert math.isnan(expected) or expected == pytest.approx(1 - beta, abs=2e-4)


def test_shift_quantile_in_the_tail_by_simulation():
    rng = np.random.default_rng(0)
    alpha, df, beta = 2e-4 / 6, 15, 0.02
    chi = np.sqrt(rng.chisquare(df, 400_000) / df)
    z = rng.normal(size=400_000)
    limit = t_quantile(alpha, df)

    plain = (z + shift_quantile(alpha, df, beta) < limit * chi).mean()
    floored = (z + shift_quantile(alpha, df, beta, at_least=6.0) < np.maximum(limit * chi, 6.0)).mean()

    assert beta == pytest.approx(float(plain), abs=0.001)
    assert beta == pytest.approx(float(floored), abs=0.001)


def test_a_floor_far_above_the_limit_leaves_the_normal_quantile():
    assert shift_quantile(1e-4, 15, 0.02, at_least=1000.0) == pytest.approx(1000 + 2.0537, abs=1e-3)


@given(
    df=st.integers(4, 60),
    alpha=st.floats(1e-6, 0.1),
    beta=st.floats(0.001, 0.4),
    at_least=st.floats(0, 50),
    factor=st.floats(1.1, 3),
)
@settings(max_examples=50, deadline=None)
def test_harder_promises_need_larger_drops(df, alpha, beta, at_least, factor):
    base = shift_quantile(alpha, df, beta, at_least=at_least)

    assert base > at_least
    assert shift_quantile(alpha / factor, df, beta, at_least=at_least) >= base
    assert shift_quantile(alpha, df, beta / factor, at_least=at_least) > base
    assert shift_quantile(alpha, df, beta, at_least=at_least * factor) >= base
    assert shift_quantile(alpha, 2 * df, beta) <= shift_quantile(alpha, df, beta)


@given(sd=st.floats(1e-3, 0.3), factor=st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_detectable_shift_is_proportional_to_the_sd(sd, factor):
    design = {"num_stored": 16, "num_new": 5, "df": 15, "alpha": 3e-5, "beta": 0.02}

    assert detectable_shift(factor * sd, **design) == pytest.approx(factor * detectable_shift(sd, **design))


def test_mdd_upper_is_above_the_true_one_for_four_baselines_of_five():
    design = {"num_stored": 16, "num_new": 5, "df": 15, "alpha": 2e-4 / 6, "beta": 0.02}
    rng = np.random.default_rng(1)
    true = -math.expm1(-detectable_shift(0.03, **design))
    sds = 0.03 * np.sqrt(rng.chisquare(15, 2000) / 15)

    above = np.mean([mdd_upper(sd, **design) >= true for sd in sds])

    # chi2(0.2, 15) = 10.307 stands in every table.
    assert mdd_upper(0.03, **design) == pytest.approx(
        -math.expm1(-detectable_shift(0.03, **design) * math.sqrt(15 / 10.307)), rel=1e-4
    )
    assert float(above) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("sd", [0.01, 0.028, 0.05])
def test_plan_is_the_smallest_that_reaches_the_drop(sd):
    found = plan(sd, 0.12, alpha=8e-4 * 0.3)

    def printed(n0, n1):
        levels = {"alpha": 8e-4 * 0.3 / (n1 - 1), "beta": 0.1 / n1}
        return mdd_upper(sd, num_stored=n0, num_new=n1, df=n0 - 1, **levels)

    assert found.mdd == printed(found.num_stored, found.num_new) <= 0.12
    if found.num_new > 5:
        assert found.num_stored == 64
        assert printed(64, found.num_new - 1) > 0.12
    else:
        assert printed(found.num_stored - 1, 5) > 0.12


def test_plan_adds_new_runs_only_when_no_baseline_suffices():
    near = plan(0.05, 0.16, most_stored=24)

    assert (24, True) == (near.num_stored, near.num_new > 5)
    assert plan(0.05, 0.16).num_new == 5


def test_plan_counts_the_minimum_effect():
    free, bound = plan(0.004, 0.025), plan(0.004, 0.025, min_effect=0.02)

    assert bound.num_stored > free.num_stored


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: shift_quantile(0.5, 15, 0.1), "alpha must be between"),
        (lambda: shift_quantile(1e-3, 15, 0.0), "beta must be between"),
        (lambda: shift_quantile(math.nan, 15, 0.1), "alpha must be between"),
        (lambda: shift_quantile(1e-3, 0.5, 0.1), "df must be finite"),
        (lambda: shift_quantile(1e-3, math.inf, 0.1), "df must be finite"),
        (lambda: shift_quantile(1e-3, 15, 0.1, at_least=math.nan), "at_least must be"),
        (lambda: detectable_shift(0.0, num_stored=16, num_new=5, df=15, alpha=1e-4, beta=0.1), "give it a floor"),
        (lambda: detectable_shift(math.nan, num_stored=16, num_new=5, df=15, alpha=1e-4, beta=0.1), "finite number"),
        (lambda: detectable_shift(1.0, num_stored=0, num_new=5, df=15, alpha=1e-4, beta=0.1), "at least one stored"),
        (lambda: plan(0.03, 0.02, min_effect=0.02), "min_effect < wanted_drop"),
        (lambda: plan(0.03, 1.0), "wanted_drop < 1"),
        (lambda: plan(0.03, 0.1, most_stored=4), "5 <= most_stored"),
        (lambda: plan(0.03, 0.1, max_runs=1), "2 <= max_runs"),
        (lambda: plan(0.3, 0.05), "catches a drop of 5 %"),
    ],
)
def test_arguments_that_make_no_sense(call, match):
    with pytest.raises(ValueError, match=match):
        call()
