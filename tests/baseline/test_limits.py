import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.baseline.limits import REL_FLOOR, sd_floor, standard_error
from rectest.baseline.power import shift_quantile, t_quantile


def test_detectable_shift_by_simulation():
    rng = np.random.default_rng(0)
    df, alpha = 15, 1e-3
    shift = shift_quantile(alpha, df, 0.1)
    t = (rng.normal(shift, 1.0, 200_000)) / np.sqrt(rng.chisquare(df, 200_000) / df)

    assert float((t > t_quantile(alpha, df)).mean()) == pytest.approx(0.9, abs=0.003)


@given(df=st.integers(7, 60), alpha=st.floats(1e-8, 0.4))
@settings(max_examples=50, deadline=None)
def test_limit_and_tail_are_inverse_and_agree_with_scipy(df, alpha):
    from scipy import stats

    assert alpha == pytest.approx(float(stats.t.sf(t_quantile(alpha, df), df)), rel=1e-6)
    assert float(stats.t.isf(alpha, df)) == pytest.approx(t_quantile(alpha, df), rel=1e-9, abs=1e-12)


def test_standard_error():
    assert standard_error(2.0, num_stored=16, num_new=3) == pytest.approx(2.0 * math.sqrt(1 / 16 + 1 / 3))


def test_the_floor_is_one_hit_or_rounding():
    assert sd_floor(0.2, num_scored=None) == REL_FLOOR
    assert sd_floor(0.2, num_scored=100) == pytest.approx(1 / (20 * math.sqrt(12)))
    assert sd_floor(0.2, num_scored=10**9) == REL_FLOOR
