"""Negative samplers: what they say they draw is what they draw, and excluded means excluded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.data.negatives import MixedNegatives, PopularityNegatives, UniformNegatives
from rectest.errors import DataError


def samplers():
    popular = PopularityNegatives(counts=tiny_world().popularity())
    return [UniformNegatives(num_items=40), popular, MixedNegatives(popular=popular, popular_ratio=0.3)]


def z_scores(sampler, num=40_000, seed=0):
    """How far each item's frequency is from the law, in standard errors, where it can be drawn at all."""
    law = sampler.probability()
    drawn = np.bincount(sampler.sample(np.random.default_rng(seed), (num,)), minlength=len(law)) / num
    can = law > 0
    assert drawn[~can].sum() == 0
    return (drawn - law)[can] / np.sqrt(law * (1 - law) / num)[can]


@pytest.mark.parametrize("sampler", samplers(), ids=lambda sampler: type(sampler).__name__)
def test_draws_follow_the_stated_law(sampler):
    assert sampler.probability().sum() == pytest.approx(1.0)
    assert np.abs(z_scores(sampler)).max() < 4.5


def test_popularity_by_hand():
    sampler = PopularityNegatives(counts=np.array([0, 16, 0, 1]), power=0.5)

    assert sampler.probability().tolist() == [0.0, 0.8, 0.0, 0.2]
    assert set(sampler.sample(np.random.default_rng(0), (500,)).tolist()) == {1, 3}


def test_power_zero_is_uniform_over_what_occurred():
    assert PopularityNegatives(counts=np.array([0, 9, 0, 1]), power=0.0).probability().tolist() == [0, 0.5, 0, 0.5]


@pytest.mark.parametrize("per_row", [1, 4])
def test_the_mixture_takes_effect_even_with_one_negative_per_row(per_row):
    counts = tiny_world().popularity()
    popular = PopularityNegatives(counts=counts)
    drawn = {
        ratio: counts[
            MixedNegatives(popular=popular, popular_ratio=ratio).sample(np.random.default_rng(0), (4000, per_row))
        ]
        for ratio in (0.0, 0.3, 1.0)
    }
    means = {ratio: values.mean() for ratio, values in drawn.items()}
    error = drawn[0.0].std() / np.sqrt(drawn[0.0].size)

    assert means[0.3] - means[0.0] > 5 * error
    assert means[0.3] - means[0.0] == pytest.approx(0.3 * (means[1.0] - means[0.0]), abs=5 * error)


def test_exclusion_by_hand():
    exclude = hand_world().interactions.sequences()
    drawn = UniformNegatives(num_items=4).sample(np.random.default_rng(0), (2, 50), exclude=exclude.users([1, 2]))

    assert set(drawn[0].tolist()) == {3}
    assert set(drawn[1].tolist()) == {1, 2, 3}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 6), max_size=5), min_size=1, max_size=5), st.integers(0, 3))
def test_nothing_excluded_is_ever_drawn(excluded, seed):
    exclude = [sorted(ids) for ids in excluded]
    drawn = UniformNegatives(num_items=6).sample(np.random.default_rng(seed), (len(exclude), 3, 2), exclude=exclude)

    assert drawn.shape == (len(exclude), 3, 2)
    for row, ids in zip(drawn, excluded, strict=True):
        assert not set(row.ravel().tolist()) & (ids | {0})


def test_excluded_draws_follow_the_restricted_law():
    sampler = PopularityNegatives(counts=np.array([0, 10, 6, 3, 1]), power=1.0)
    drawn = sampler.sample(np.random.default_rng(0), (1, 20_000), exclude=[[1]])
    obtained = np.bincount(drawn[0], minlength=5) / 20_000

    assert obtained.tolist() == pytest.approx([0, 0, 0.6, 0.3, 0.1], abs=0.015)


def test_a_nearly_impossible_exclusion_still_ends():
    counts = np.array([0, 10**12, 1])
    drawn = PopularityNegatives(counts=counts, power=1.0).sample(np.random.default_rng(0), (1, 30), exclude=[[1]])

    assert drawn.tolist() == [[2] * 30]


def test_a_row_that_excludes_everything_is_named():
    with pytest.raises(DataError, match="row 1 excludes every item"):
        UniformNegatives(num_items=2).sample(np.random.default_rng(0), (2, 1), exclude=[[1], [1, 2, 2]])
    with pytest.raises(DataError, match="row 0 excludes every item"):
        PopularityNegatives(counts=np.array([0, 3, 0])).sample(np.random.default_rng(0), (1,), exclude=[[1]])


def test_bad_arguments_are_refused():
    rng = np.random.default_rng(0)
    uniform = UniformNegatives(num_items=3)

    with pytest.raises(ValueError, match="exclude has 1 rows where the sample has 2"):
        uniform.sample(rng, (2, 1), exclude=[[1]])
    with pytest.raises(ValueError, match=r"excluded ids must be in 0\.\.3"):
        uniform.sample(rng, (1,), exclude=[[4]])
    with pytest.raises(ValueError, match="num_items must be at least 1"):
        UniformNegatives(num_items=0)
    with pytest.raises(ValueError, match=r"popular_ratio must be in \[0, 1\]"):
        MixedNegatives(popular=PopularityNegatives(counts=np.array([0, 1])), popular_ratio=1.5)
    with pytest.raises(ValueError, match="makes the weights infinite"):
        PopularityNegatives(counts=np.array([0, 2]), power=float("nan"))
    with pytest.raises(ValueError, match="counts must be an integer array"):
        PopularityNegatives(counts=np.array([1, 2]))
    with pytest.raises(DataError, match="at least one event"):
        PopularityNegatives(counts=np.array([0, 0]))


def test_an_empty_shape_is_empty():
    assert UniformNegatives(num_items=3).sample(np.random.default_rng(0), (0, 2), exclude=[]).shape == (0, 2)
