"""Drawing events: lengths, times and items come from the planted law and from streams of their own."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.worlds import tiny_world
from rectest.data.generate import draw_behaviours, draw_histories, draw_lengths, draw_times
from rectest.seeding import SeedPlan

PLAN = SeedPlan(root=3)


def test_first_items_follow_the_law():
    law = tiny_world().oracle.law
    num_users = 20_000
    items, taste = draw_histories(PLAN, law, np.ones(num_users, dtype=np.int64))
    expected = tiny_world().oracle.scores([np.zeros(0, dtype=np.int64)])[0]
    obtained = np.bincount(items[:, 0], minlength=41) / num_users

    error = np.sqrt(expected[1:] * (1 - expected[1:]) / num_users)
    assert (np.abs(obtained - expected)[1:] < 4.5 * error).all()
    assert np.bincount(taste) / num_users == pytest.approx(law.prior, abs=0.02)


@pytest.mark.parametrize("name", ["tiny", "tiny-repeats", "tiny-revisits"])
def test_later_items_follow_the_oracle(name):
    oracle = tiny_world(name).oracle
    items, _ = draw_histories(PLAN, oracle.law, np.full(4000, 5))
    expected = oracle.scores(list(items[:, :4])).mean(axis=0)
    obtained = np.bincount(items[:, 4], minlength=41) / len(items)

    error = np.sqrt(expected[1:] * (1 - expected[1:]) / len(items))
    assert (np.abs(obtained - expected)[1:] < 4.5 * error).all()


def test_lengths_are_inclusive_and_cold_users_exact():
    lengths = draw_lengths(PLAN, 1000, lengths=(5, 7), cold_fraction=0.1, cold_lengths=(1, 2))

    assert set(lengths.tolist()) == {1, 2, 5, 6, 7}
    assert int((lengths <= 2).sum()) == 100


def test_times_never_fall_within_a_user():
    lengths = np.array([3, 1, 4])
    times = draw_times(PLAN, lengths, equal_fraction=0.0)
    users = np.repeat(np.arange(3), lengths)

    assert (np.diff(times)[np.diff(users) == 0] >= 1).all()
    assert (
        draw_times(PLAN, np.array([5]), equal_fraction=1.0) == draw_times(PLAN, np.array([5]), equal_fraction=1.0)[0]
    ).all()


def test_behaviour_codes_start_at_one():
    drawn = draw_behaviours(PLAN, 10_000, shares=(0.25, 0.75))

    assert np.bincount(drawn) / 10_000 == pytest.approx([0.0, 0.25, 0.75], abs=0.02)
