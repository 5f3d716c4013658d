"""The last events of each user, against the sequences that the rest of the package trains on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.data.interactions import Interactions
from rectest.data.last_events import last_events


def log_of(users, items, times):
    return Interactions(
        user=np.array(users), item=np.array(items), time=np.array(times), num_users=max(users) + 1, num_items=9
    )


def test_by_hand():
    log = log_of([0, 1, 0, 0, 1], [1, 2, 3, 4, 5], [10, 5, 30, 20, 5])

    assert last_events(log, 1).tolist() == [False, False, True, False, True]
    assert last_events(log, 2).tolist() == [False, True, True, True, True]
    assert last_events(log, 2, min_events=3).tolist() == [False, False, True, True, False]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(1, 4),
)
def test_the_marked_rows_are_the_tails_of_the_sequences(rows, count):
    users, items, times = zip(*rows, strict=True)
    log = log_of(users, items, times)
    kept = log.sequences()
    held = log.select(last_events(log, count)).sequences() if last_events(log, count).any() else None

    for user in range(log.num_users):
        expected = kept[user][-count:] if len(kept[user]) else kept[user]
        assert expected.tolist() == (held[user].tolist() if held is not None else [])


def test_no_events_is_a_mistake():
    with pytest.raises(ValueError, match="count must be at least 1"):
        last_events(log_of([0], [1], [1]), 0)
