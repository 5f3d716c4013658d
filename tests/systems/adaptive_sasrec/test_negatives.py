"""Smart negatives: the ratio takes effect at one negative per position, and what it does is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rectest.data.interactions import Sequences
from rectest.data.negatives import UniformNegatives
from rectest.systems.adaptive_sasrec.negatives import NegativeSchedule, expected_popularity, relative_popularity

COUNTS = np.array([0, 100, 40, 10, 5, 5], dtype=np.int64)


def schedule(**changes: object) -> NegativeSchedule:
    plain = {"num_steps": 90, "smart": True, "popular_ratio": 0.3, "power": 0.75, "curriculum": False}
    return NegativeSchedule(counts=COUNTS, **{**plain, **changes})


def test_curriculum_by_thirds():
    ratios = [schedule(curriculum=True).ratio(step) for step in (1, 30, 31, 60, 61, 90, 91)]

    assert ratios == [0.1, 0.1, 0.5, 0.5, 0.8, 0.8, 0.8]


@pytest.mark.parametrize("num_steps", [1, 2, 4, 100])
def test_curriculum_rises_over_runs_of_any_length(num_steps):
    ratios = [schedule(curriculum=True, num_steps=num_steps).ratio(step) for step in range(1, num_steps + 1)]

    assert sorted(ratios) == ratios
    assert set(ratios) <= {0.1, 0.5, 0.8}
    assert num_steps < 3 or set(ratios) == {0.1, 0.5, 0.8}


def test_without_curriculum_the_ratio_stays():
    assert {0.3} == {schedule().ratio(step) for step in range(1, 91)}


def test_off_is_the_uniform_sampler_whatever_the_other_settings():
    off = schedule(smart=False, curriculum=True, popular_ratio=1.0)

    assert UniformNegatives(num_items=5) == off.sampler(7)
    assert off.ratio(7) == 0.0


def test_steps_count_from_one():
    with pytest.raises(ValueError, match="counted from 1"):
        schedule().ratio(0)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(20_000, 1), (4_000, 5)])
def test_popularity_of_draws_rises_as_expected(ratio, shape):
    """One negative per position or five: the law is the same, where int(1 * ratio) would be none."""
    sampler = schedule(popular_ratio=ratio).sampler(1)
    law = sampler.probability()
    drawn = sampler.sample(np.random.default_rng(3), shape)
    obtained = float(relative_popularity(torch.from_numpy(drawn), torch.from_numpy(COUNTS)))
    error = (law @ COUNTS**2 - (law @ COUNTS) ** 2) ** 0.5 / COUNTS[1:].mean() / drawn.size**0.5

    assert expected_popularity(law, COUNTS) == pytest.approx(obtained, abs=4 * error)


def test_expected_popularity_by_hand():
    uniform = schedule(smart=False).sampler(1).probability()
    top_only = np.array([0, 1.0, 0, 0, 0, 0])

    assert expected_popularity(uniform, COUNTS) == pytest.approx(1.0)
    assert expected_popularity(top_only, COUNTS) == pytest.approx(100 / 32)


def test_relative_popularity_ignores_padding():
    items = torch.tensor([[0, 1], [0, 0], [0, 3]])

    assert float(relative_popularity(items, torch.from_numpy(COUNTS))) == pytest.approx((100 + 10) / 2 / 32)


def test_expected_popularity_without_own_items_by_hand():
    """User 0 may draw items 3 to 5, user 1 all but item 1; user 0 draws three times as often."""
    uniform = schedule(smart=False).sampler(1).probability()
    own = Sequences.from_lists([[1, 2, 1], [1]])
    expected = (3 * (20 / 3) + 1 * (60 / 4)) / 4 / 32

    assert expected_popularity(uniform, COUNTS, own, np.array([3, 1])) == pytest.approx(expected)


def test_promise_averages_the_curriculum():
    run = schedule(curriculum=True)
    phases = [expected_popularity(run.sampler(step).probability(), COUNTS) for step in (1, 31, 61)]

    assert run.promised_popularity(None, np.ones(1)) == pytest.approx(np.mean(phases))
