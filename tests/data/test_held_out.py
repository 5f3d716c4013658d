"""Other answers for the held-out events: everything else stays, and every answer changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.data.held_out import relabel_held_out
from rectest.data.last_events import last_events
from rectest.errors import WorldError


def test_by_hand():
    world = hand_world()
    log = replace(world.interactions, rating=np.arange(8, dtype=np.float32))
    rows = np.array([False, True, False, True, False, False, False, False])
    obtained = relabel_held_out(replace(world, interactions=log), rows, np.random.default_rng(0))

    assert np.flatnonzero(obtained.interactions.item != log.item).tolist() == [1, 3]
    assert obtained.interactions.rating.tolist() == log.rating.tolist()
    assert obtained.interactions.user.tolist() == log.user.tolist()
    assert obtained.interactions.time.tolist() == log.time.tolist()
    assert obtained.source == "by hand; other items in 2 held-out events"


@pytest.mark.parametrize("name", ["tiny-words", "tiny-behaviours", "tiny-cold"])
def test_the_counts_change_and_the_training_rows_do_not(name):
    world = tiny_world(name)
    rows = last_events(world.interactions, 2, min_events=3)
    obtained = relabel_held_out(world, rows, np.random.default_rng(3))

    assert np.array_equal(world.interactions.item[~rows], obtained.interactions.item[~rows])
    assert (world.interactions.item[rows] != obtained.interactions.item[rows]).all()
    assert (world.popularity() != obtained.popularity()).mean() > 0.5
    assert obtained.item_words == world.item_words
    assert obtained.oracle is None
    assert obtained.digest != world.digest


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=8, max_size=8).filter(any))
def test_equal_items_stay_equal_and_different_ones_different(seed, rows):
    world = hand_world()
    before = world.interactions.item[rows]
    after = relabel_held_out(world, np.array(rows), np.random.default_rng(seed)).interactions.item[rows]

    assert (before != after).all()
    assert 1 <= after.min() <= after.max() <= world.num_items
    assert np.array_equal(before[:, None] == before[None], after[:, None] == after[None])


def test_what_cannot_be_edited_is_refused():
    world = hand_world()
    none = np.zeros(8, dtype=bool)

    with pytest.raises(WorldError, match="0 held-out events of 4 items"):
        relabel_held_out(world, none, np.random.default_rng(0))
    with pytest.raises(TypeError, match="must be a boolean mask, got int64"):
        relabel_held_out(world, none.astype(np.int64), np.random.default_rng(0))
    with pytest.raises(ValueError, match="one entry for each of the 8 events"):
        relabel_held_out(world, none[:5], np.random.default_rng(0))
