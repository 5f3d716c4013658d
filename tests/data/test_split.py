"""Splits: disjoint, complete, in time order, and explicit about users who are too short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.data.interactions import Interactions, Sequences
from rectest.data.split import leave_last_out, leave_two_out, ratio_split, split_users, temporal_split
from rectest.errors import DataError

lists = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=12)


def as_lists(sequences):
    return [items.tolist() for items in sequences]


def test_leave_last_out_by_hand():
    obtained = leave_last_out(hand_world().interactions.sequences())

    assert as_lists(obtained.train) == [[1, 2, 4], [2, 4], [4]]
    assert obtained.test.tolist() == [3, 1, 0]
    assert obtained.valid.tolist() == [0, 0, 0]
    assert obtained.num_short == 1


def test_leave_two_out_by_hand():
    obtained = leave_two_out(hand_world().interactions.sequences())

    assert as_lists(obtained.train) == [[1, 2], [2], [4]]
    assert obtained.valid.tolist() == [4, 4, 0]
    assert obtained.test.tolist() == [3, 1, 0]
    assert as_lists(obtained.history("valid")) == [[1, 2], [2], [4]]
    assert as_lists(obtained.history("test")) == [[1, 2, 4], [2, 4], [4]]
    with pytest.raises(ValueError, match="split must be 'valid' or 'test'"):
        obtained.history("train")


def test_a_user_with_two_events_is_short_for_two_targets():
    obtained = leave_two_out(Sequences.from_lists([[1, 2], [1, 2, 3], []]))

    assert as_lists(obtained.train) == [[1, 2], [1], []]
    assert obtained.valid.tolist() == [0, 2, 0]
    assert obtained.num_short == 2


@settings(max_examples=50, deadline=None)
@given(lists, st.sampled_from([leave_last_out, leave_two_out]))
def test_leaving_out_loses_and_invents_nothing(rows, leave):
    sequences = Sequences.from_lists(rows)
    try:
        obtained = leave(sequences)
    except DataError:
        assert max(map(len, rows)) <= (1 if leave is leave_last_out else 2)
        return
    parts = zip(obtained.train, obtained.valid.tolist(), obtained.test.tolist(), strict=True)

    assert rows == [[*train.tolist(), *(item for item in (valid, test) if item)] for train, valid, test in parts]
    assert obtained.num_short == int((obtained.test == 0).sum())


def test_nobody_long_enough_is_an_error():
    with pytest.raises(DataError, match="no user has the 3 events that leaving 2 out needs"):
        leave_two_out(Sequences.from_lists([[1, 2], [3]]))


def test_ratio_split_by_hand():
    obtained = ratio_split(Sequences.from_lists([list(range(1, 11)), [1, 2, 3, 4, 5], [7]]))

    assert as_lists(obtained.train) == [list(range(1, 9)), [1, 2, 3, 4], [7]]
    assert as_lists(obtained.valid) == [[9], [], []]
    assert as_lists(obtained.test) == [[10], [5], []]
    assert obtained.num_short == 1


@settings(max_examples=50, deadline=None)
@given(lists, st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.0, 0.5), (0.7, 0.2, 0.1), (1.0, 0.0, 0.0)]))
def test_ratio_parts_in_order_are_the_whole(rows, fractions):
    try:
        obtained = ratio_split(Sequences.from_lists(rows), fractions)
    except DataError:
        assert fractions[2] > 0
        return
    parts = zip(as_lists(obtained.train), as_lists(obtained.valid), as_lists(obtained.test), strict=True)

    assert rows == [train + valid + test for train, valid, test in parts]
    assert all(part for part, row in zip(as_lists(obtained.train), rows, strict=True) if row)


def test_ratio_split_keeps_times_with_their_items():
    sequences = tiny_world().interactions.sequences()
    obtained = ratio_split(sequences)

    assert obtained.train.time[obtained.train.offsets[1:] - 1].max() <= sequences.time.max()
    for user in range(len(sequences)):
        last = obtained.train.time[obtained.train.offsets[user + 1] - 1]
        assert (obtained.test.time[obtained.test.offsets[user] : obtained.test.offsets[user + 1]] >= last).all()


def test_rounding_does_not_move_a_cut():
    obtained = ratio_split(Sequences.from_lists([[1] * 10]), (0.3, 0.3, 0.4))

    assert [len(part[0]) for part in (obtained.train, obtained.valid, obtained.test)] == [3, 3, 4]


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 300), st.integers(0, 5))
def test_user_parts_are_disjoint_and_complete(num_users, seed):
    obtained = split_users(num_users, np.random.default_rng(seed))
    parts = (obtained.train, obtained.valid, obtained.test)

    assert sorted(np.concatenate(parts).tolist()) == list(range(num_users))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert len(obtained.train) == num_users * 8 // 10


def test_user_split_depends_only_on_the_generator():
    first, second, other = (split_users(50, np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert first.test.tolist() == second.test.tolist()
    assert first.test.tolist() != other.test.tolist()


@pytest.mark.parametrize("num_users", [1, 5])
def test_too_few_users_to_split(num_users):
    with pytest.raises(DataError, match=f"{num_users} users are too few"):
        split_users(num_users, np.random.default_rng(0))


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions must be three shares"):
        split_users(10, np.random.default_rng(0), fractions)


def test_temporal_split_by_hand():
    log = Interactions(user=[0] * 10, item=[1] * 10, time=list(range(10, 20)), num_users=1, num_items=1)
    obtained = temporal_split(log)

    assert obtained.boundaries == (18, 19)
    assert [len(part) for part in (obtained.train, obtained.valid, obtained.test)] == [8, 1, 1]


def test_events_of_one_moment_go_to_the_later_part_together():
    log = Interactions(user=[0] * 6, item=[1] * 6, time=[1, 2, 2, 2, 3, 4], num_users=1, num_items=1)
    obtained = temporal_split(log, (0.5, 0.2, 0.3))

    assert obtained.boundaries == (2, 3)
    assert obtained.train.time.tolist() == [1]
    assert obtained.valid.time.tolist() == [2, 2, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=5, max_size=40))
def test_temporal_parts_never_share_a_moment(times):
    log = Interactions(user=[0] * len(times), item=[1] * len(times), time=times, num_users=1, num_items=1)
    try:
        obtained = temporal_split(log, (0.5, 0.25, 0.25))
    except DataError:
        return
    parts = (obtained.train, obtained.valid, obtained.test)

    assert obtained.train.time.max() < obtained.valid.time.min()
    assert obtained.valid.time.max() < obtained.test.time.min()
    assert sum(map(len, parts)) == len(times)


def test_temporal_split_refuses_what_it_cannot_cut():
    with pytest.raises(DataError, match="needs a time column"):
        temporal_split(Interactions(user=[0], item=[1], num_users=1, num_items=1))
    with pytest.raises(DataError, match="the train part would be empty"):
        temporal_split(Interactions(user=[0] * 9, item=[1] * 9, time=[5] * 9, num_users=1, num_items=1))
