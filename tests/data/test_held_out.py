"""Other answers for the held-out events: everything else stays, and every answer that can change does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.data.held_out import permute_held_out
from rectest.data.interactions import Interactions
from rectest.data.world import World
from rectest.errors import WorldError


def world_of(items):
    """Every event by another user at another time; rating and kind are functions of the row."""
    count = len(items)
    log = Interactions(
        user=np.arange(count) % 3,
        item=np.array(items),
        time=100 + np.arange(count),
        rating=np.arange(count, dtype=np.float32),
        behaviour=1 + np.arange(count) % 4,
        num_users=3,
        num_items=5,
    )
    tiny = tiny_world()
    return World(
        name="odd",
        interactions=log,
        users=tiny.users.take([0, 1, 2]),
        items=tiny.items.take([1, 2, 3, 4, 5]),
        behaviours=tiny.behaviours,
        oracle=None,
        source="test",
    )


def test_two_rows_exchange_everything_but_user_and_time():
    world = hand_world()
    log = replace(world.interactions, rating=np.arange(8, dtype=np.float32))
    rows = np.array([False, True, False, True, False, False, False, False])
    obtained = permute_held_out(replace(world, interactions=log), rows, np.random.default_rng(0))

    assert obtained.interactions.item.tolist() == [1, 4, 2, 2, 4, 1, 4, 3]
    assert obtained.interactions.rating.tolist() == [0, 3, 2, 1, 4, 5, 6, 7]
    assert obtained.interactions.user.tolist() == log.user.tolist()
    assert obtained.interactions.time.tolist() == log.time.tolist()
    assert obtained.source == "by hand; items exchanged among 2 held-out events"


def test_the_last_two_of_every_user_in_a_real_world():
    world = tiny_world("tiny-words")
    log = world.interactions
    age = np.lexsort((-log.time, log.user))
    starts = np.cumsum(log.user_counts()) - log.user_counts()
    rows = np.zeros(len(log), dtype=bool)
    rows[age[np.concatenate([starts, starts + 1])]] = True
    obtained = permute_held_out(world, rows, np.random.default_rng(1))

    assert (obtained.interactions.item[rows] != log.item[rows]).all()
    assert np.array_equal(log.item[~rows], obtained.interactions.item[~rows])
    assert Counter(log.item[rows].tolist()) == Counter(obtained.interactions.item[rows].tolist())
    assert obtained.digest != world.digest
    assert obtained.oracle is None
    assert obtained.words() == world.words()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=2, max_size=25),
    st.integers(0, 1000),
)
def test_as_many_rows_change_as_can(rows, seed):
    items = np.array([item for item, _ in rows])
    held = np.array([is_held for _, is_held in rows])
    assume(len(set(items[held].tolist())) >= 2)
    world = world_of(items)
    before = world.interactions
    after = permute_held_out(world, held, np.random.default_rng(seed)).interactions
    most = Counter(items[held].tolist()).most_common(1)[0][1]
    possible = min(int(held.sum()), 2 * (int(held.sum()) - most))
    origin = after.rating.astype(np.int64)

    assert int((after.item != before.item).sum()) == possible
    assert sorted(origin.tolist()) == list(range(len(items)))
    assert np.array_equal(before.item[origin], after.item)
    assert np.array_equal(before.behaviour[origin], after.behaviour)
    assert np.array_equal(origin[~held], np.flatnonzero(~held))
    assert np.array_equal(before.user, after.user)
    assert np.array_equal(before.time, after.time)


def test_the_same_generator_gives_the_same_world():
    world, rows = tiny_world(), np.arange(len(tiny_world().interactions)) % 3 == 0
    first, again, other = (permute_held_out(world, rows, np.random.default_rng(seed)).digest for seed in (1, 1, 2))

    assert first == again
    assert first != other


@pytest.mark.parametrize("rows", [[], [2], [1, 4]])
def test_an_exchange_that_changes_nothing_is_refused(rows):
    mask = np.isin(np.arange(6), rows)
    with pytest.raises(WorldError, match="fewer than two different items, so exchanging changes nothing; hold out"):
        permute_held_out(world_of([1, 2, 3, 4, 2, 1]), mask, np.random.default_rng(0))


def test_rows_must_be_a_mask_of_the_log():
    with pytest.raises(TypeError, match="must be a boolean mask, got int64"):
        permute_held_out(hand_world(), np.array([1, 2]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="each of the 8 events, got shape"):
        permute_held_out(hand_world(), np.ones(7, dtype=bool), np.random.default_rng(0))
