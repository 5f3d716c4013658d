"""The arithmetic of parity: error, scale and direction of a gradient, and what rounding is allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.gradients import compare_gradients, rolled, rounding_limit, whole_apart


def test_scale_and_direction_by_hand():
    apart = whole_apart({"w": np.array([3.0, 4.0])}, {"w": np.array([6.0, 8.0])})
    turned = whole_apart({"w": np.array([1.0, 0.0])}, {"w": np.array([1.0, 1.0])})

    assert (apart.scale, apart.cosine, apart.error, apart.angle) == pytest.approx((2.0, 1.0, 1.0, 0.0))
    assert (turned.scale, turned.error) == pytest.approx((1.0, 1.0))
    assert turned.angle == pytest.approx(math.sqrt(0.5))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_a_factor_is_found_and_the_direction_is_left(seed, scale):
    rng = np.random.default_rng(seed)
    right = {"a": rng.normal(size=(5, 3)), "b": rng.normal(size=4)}

    for apart in compare_gradients(right, {k: scale * v for k, v in right.items()}, limit=1e-5, sizes={}):
        assert apart.scale == pytest.approx(scale)
        assert apart.angle < 1e-7


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), num_ranks=st.integers(2, 8))
def test_float32_sums_in_another_order_are_within_the_limit(seed, num_ranks):
    """The healthy case itself: one sum over 960 terms, and the mean of the ranks' means."""
    terms = np.random.default_rng(seed).normal(0.1, 1, size=(960, 40)).astype(np.float32)
    parts = np.array_split(terms, num_ranks)
    one = {"w": terms.sum(0, dtype=np.float32) / np.float32(960)}
    many = sum(part.sum(0, dtype=np.float32) * np.float32(1 / 960) for part in parts)
    sizes = {"w": float(sum(np.linalg.norm(part.sum(0) / 960) for part in parts))}

    found = compare_gradients(one, {"w": many}, limit=rounding_limit(960, [(40,)]), sizes=sizes)

    assert not any(apart.red for apart in found)


def test_a_parameter_that_cancels_is_left_out_and_a_lost_one_is_not():
    right = {"weight": np.full(100, 0.1), "key_bias": np.full(4, 1e-12)}
    noise = {"weight": np.full(100, 0.1), "key_bias": np.full(4, -3e-12)}

    quiet = compare_gradients(right, noise, limit=1e-5, sizes={})
    lost = compare_gradients(right, {"key_bias": noise["key_bias"]}, limit=1e-5, sizes={})

    assert [apart.name for apart in quiet if apart.name != "*"] == ["weight"]
    assert lost[0].red
    assert lost[0].scale == pytest.approx(0, abs=1e-9)


def test_a_gradient_where_there_should_be_none_is_infinitely_off():
    right = {"weight": np.ones(3), "frozen": np.zeros(3)}

    found = compare_gradients(right, {"weight": np.ones(3), "frozen": np.ones(3)}, limit=1e-5, sizes={})

    assert found[0].name == "frozen"
    assert found[0].error == math.inf


def test_rolled_gradients_differ_everywhere():
    wrong = rolled({"w": np.array([[1.0, 2.0], [3.0, 4.0]]), "flat": np.ones(3), "scalar": np.array(2.0)})

    assert wrong["w"].tolist() == [[4.0, 1.0], [2.0, 3.0]]
    assert wrong["flat"].tolist() == [-1, -1, -1]
    assert wrong["scalar"] == -2


def test_the_limit_grows_with_length_and_coarseness():
    assert rounding_limit(4000, [(10,)]) > rounding_limit(1000, [(10,)])
    assert rounding_limit(1000, [(10,)], dtype="bfloat16") == pytest.approx(2**16 * rounding_limit(1000, [(10,)]))
    with pytest.raises(ValueError, match="dtype must be one of"):
        rounding_limit(10, [(1,)], dtype="int8")
