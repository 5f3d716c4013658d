"""The log and the sequences: order under ties, immutability, digests, filtering to a fixed point."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world
from rectest.data.interactions import Interactions, Sequences
from rectest.errors import DataError


def make_log(rows, *, num_users=3, num_items=4, **more):
    user, item, time = (list(column) for column in zip(*rows, strict=True))
    return Interactions(user=user, item=item, time=time, num_users=num_users, num_items=num_items, **more)


events = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=30)


def test_sequences_of_the_hand_world():
    sequences = hand_world().interactions.sequences()

    assert [items.tolist() for items in sequences] == [[1, 2, 4, 3], [2, 4, 1], [4]]
    assert sequences.lengths.tolist() == [4, 3, 1]
    assert sequences.positions().tolist() == [0, 1, 2, 3, 0, 1, 2, 0]
    assert sequences.owners().tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert hand_world().interactions.item_counts().tolist() == [0, 2, 2, 1, 3]
    assert hand_world().interactions.user_counts().tolist() == [4, 3, 1]


def test_equal_times_keep_file_order():
    log = make_log([(0, 3, 5), (0, 1, 5), (0, 4, 1), (0, 2, 5)], num_users=1)

    assert log.sequences()[0].tolist() == [4, 3, 1, 2]


def test_without_times_file_order_is_used():
    log = Interactions(user=[1, 0, 1], item=[4, 3, 1], num_users=2, num_items=4)

    assert [items.tolist() for items in log.sequences()] == [[3], [4, 1]]
    assert log.sequences().time is None


@settings(max_examples=50, deadline=None)
@given(events)
def test_sequences_agree_with_a_plain_sort(rows):
    expected = defaultdict(list)
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        expected[user].append(item)

    obtained = make_log(rows).sequences()

    assert [expected[user] for user in range(3)] == [items.tolist() for items in obtained]
    assert (np.diff(obtained.time)[np.diff(obtained.owners()) == 0] >= 0).all()


def test_arrays_are_read_only_copies():
    item = np.array([1, 2])
    log = Interactions(user=[0, 0], item=item, num_users=1, num_items=2)
    item[0] = 2

    assert log.item.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        log.item[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        log.sequences()[0][0] = 2


@pytest.mark.parametrize(
    "change", [{"item": [1, 2, 2]}, {"time": [1, 2, 4]}, {"num_items": 5}, {"rating": [1.0, 2.0, 3.0]}]
)
def test_digest_sees_every_column_and_the_sizes(change):
    columns = {"user": [0, 0, 1], "item": [1, 2, 3], "time": [1, 2, 3], "num_users": 2, "num_items": 4}
    log = Interactions(**columns)

    assert log.digest() == Interactions(**columns).digest()
    assert log.digest() != Interactions(**{**columns, **change}).digest()


def test_digest_is_pinned():
    log = Interactions(user=[0], item=[1], num_users=1, num_items=1)

    assert log.digest() == "blake2b:f83c34ce3e3106d98fcf566fc529beec"


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"user": [], "item": []}, "at least one event"),
        ({"user": [0], "item": [0]}, "item 0 at row 0 is outside 1..3"),
        ({"user": [0, 0], "item": [1, 4]}, "item 4 at row 1 is outside 1..3"),
        ({"user": [2], "item": [1]}, "user 2 at row 0 is outside 0..1"),
        ({"user": [-1], "item": [1]}, "user -1"),
        ({"user": [0, 1], "item": [1]}, "column item has 1 rows where user has 2"),
        ({"user": [0], "item": [1], "time": [1, 2]}, "column time has 2 rows"),
        ({"user": [0], "item": [1], "rating": [float("nan")]}, "rating nan at row 0 is not finite"),
        ({"user": [0], "item": [1], "behaviour": [0]}, "behaviour 0 at row 0"),
        ({"user": np.array([2**63], dtype=np.uint64), "item": [1]}, "does not fit int64"),
    ],
)
def test_bad_logs_are_refused(columns, problem):
    with pytest.raises(DataError, match=problem):
        Interactions(**columns, num_users=2, num_items=3)


@pytest.mark.parametrize("user", [[0.0], [True], ["0"], [[0]]])
def test_ids_that_are_not_integers_are_refused(user):
    with pytest.raises(TypeError, match="user must be a one-dimensional integer array"):
        Interactions(user=np.array(user), item=[1], num_users=1, num_items=1)


def test_select_keeps_the_id_spaces():
    log = hand_world().interactions
    obtained = log.select(log.user == 1)

    assert obtained.item.tolist() == [2, 4, 1]
    assert (obtained.num_users, obtained.num_items) == (3, 4)
    with pytest.raises(DataError, match="at least one event"):
        log.select(log.user == 9)


def test_filter_goes_on_to_a_fixed_point():
    # Item 3 has one event; without it user 1 has one event; without user 1 item 2 has one event.
    log = make_log([(0, 1, 0), (0, 4, 1), (1, 3, 2), (1, 2, 3), (0, 2, 4), (2, 1, 5), (2, 4, 6)])
    obtained = log.filter_min_count(users=2, items=2)

    assert obtained.kept_users.tolist() == [0, 2]
    assert obtained.kept_items.tolist() == [1, 4]
    assert obtained.interactions.user.tolist() == [0, 0, 1, 1]
    assert obtained.interactions.item.tolist() == [1, 2, 1, 2]
    assert obtained.interactions.time.tolist() == [0, 1, 5, 6]


@settings(max_examples=50, deadline=None)
@given(events, st.integers(1, 3), st.integers(1, 3))
def test_filtered_logs_satisfy_what_was_asked(rows, users, items):
    log = make_log(rows)
    try:
        obtained = log.filter_min_count(users=users, items=items)
    except DataError:
        return
    dense = obtained.interactions

    assert min(Counter(dense.user.tolist()).values()) >= users
    assert min(Counter(dense.item.tolist()).values()) >= items
    kept = {
        (int(obtained.kept_users[u]), int(obtained.kept_items[i - 1]))
        for u, i in zip(dense.user, dense.item, strict=True)
    }
    assert kept <= {(user, item) for user, item, _ in rows}


def test_filtering_everything_away_is_an_error():
    with pytest.raises(DataError, match="no event is left"):
        hand_world().interactions.filter_min_count(users=5, items=5)


def test_sequences_refuse_what_is_not_csr():
    with pytest.raises(DataError, match="at least one user"):
        Sequences.from_lists([])
    with pytest.raises(DataError, match="offsets must rise from 0 to 2"):
        Sequences(items=[1, 2], offsets=[0, 3])
    with pytest.raises(DataError, match="item 0 at row 1"):
        Sequences.from_lists([[1, 0]])
    with pytest.raises(IndexError, match="user -1 is outside"):
        Sequences.from_lists([[1]])[-1]


def test_users_picks_whole_lists_in_the_given_order():
    sequences = hand_world().interactions.sequences()
    obtained = sequences.users([2, 0])

    assert [items.tolist() for items in obtained] == [[4], [1, 2, 4, 3]]
    assert obtained.time.tolist() == [16, 10, 12, 14, 17]
    with pytest.raises(DataError, match="user 3"):
        sequences.users([3])


def test_sequence_digest_sees_order():
    assert Sequences.from_lists([[1, 2]]).digest() != Sequences.from_lists([[2, 1]]).digest()
    assert Sequences.from_lists([[1, 2], [3]]).digest() != Sequences.from_lists([[1], [2, 3]]).digest()
