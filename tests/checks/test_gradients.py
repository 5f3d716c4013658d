"""The arithmetic of parity: error, scale and direction of a gradient, and what rounding is allowed."""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
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
    assert rounding_limit(1000, [(10,)], dtype="float64") < 2e-7
    assert rounding_limit(1000, [(10,)], dtype="bfloat16") > 2**16 * rounding_limit(1000, [(10,)])
    with pytest.raises(ValueError, match="dtype must be one of"):
        rounding_limit(10, [(1,)], dtype="int8")


def test_the_limit_grows_with_the_square_root_of_depth():
    """Layers of one width, where the batch is short beside them: four times the depth, about twice the limit."""
    shallow, deep = (rounding_limit(1, [(64, 64)] * depth) for depth in (4, 16))

    assert deep / shallow == pytest.approx(2, rel=0.1)


def torch_gradients(model, batch, loss):
    model.zero_grad()
    loss(model(batch[0]), batch[1]).backward()
    return {name: value.grad.double().numpy() for name, value in model.named_parameters()}


@pytest.mark.parametrize("depth", [1, 4, 12])
def test_float32_against_float64_of_real_models_is_well_below_the_limit(depth):
    """Measured, not fitted: the largest error of any parameter is a small part of what the derivation allows."""
    ratios = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        kinds = (partial(torch.nn.Linear, 16, 16), partial(torch.nn.LayerNorm, 16), torch.nn.GELU)
        layers = [kind() for _ in range(depth) for kind in kinds]
        model = torch.nn.Sequential(torch.nn.EmbeddingBag(40, 16, mode="mean"), *layers, torch.nn.Linear(16, 41))
        bags = torch.randint(0, 40, (96, 5), generator=generator)
        targets = torch.randint(0, 41, (96,), generator=generator)
        cross_entropy = torch.nn.functional.cross_entropy
        single = torch_gradients(model, (bags, targets), cross_entropy)
        exact = torch_gradients(copy.deepcopy(model).double(), (bags, targets), cross_entropy)
        shapes = [value.shape for value in exact.values()]
        limit = rounding_limit(96, shapes)

        found = compare_gradients(exact, single, limit=limit, sizes={})
        ratios.append(max(apart.error / apart.limit for apart in found))

    assert max(ratios) < 0.25


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_neighbours_that_are_nearly_the_same_are_negated(seed):
    value = 1 + 1e-5 * np.random.default_rng(seed).normal(size=12)

    assert np.array_equal(rolled({"w": value})["w"], -value)
