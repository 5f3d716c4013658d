"""Rows, held-out places and training windows, by hand and against the log."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gear import shop_world
from fixtures.worlds import hand_world, tiny_world, world_with
from rectest.errors import WorldError
from rectest.systems.gear.batches import draw_batches, epoch, prepare, read_rows, windows


def data_of(world, **changes):
    return prepare(world, **{"min_rows": 3, "target_behaviour": None, **changes})


def drawn(data, num, *, length=6, probability=0.2, size=32):
    stream = draw_batches(
        data,
        batch_size=size,
        max_length=length,
        window_probability=probability,
        order=np.random.default_rng(0),
        cuts=np.random.default_rng(1),
    )
    return list(islice(stream, num))


def test_rows_by_hand():
    rows = read_rows(shop_world().interactions)

    assert rows.offsets.tolist() == [0, 4, 7, 9]
    assert rows.items.tolist() == [1, 2, 3, 4, 2, 3, 1, 5, 1]
    assert rows.behaviours.tolist() == [1, 2, 1, 2, 1, 1, 1, 1, 2]
    assert rows.elapsed.tolist() == [0, 3, 10, 17, 0, 9, 10, 0, 16]


def test_without_times_rows_are_one_apart_in_file_order():
    rows = read_rows(shop_world(times=False).interactions)

    assert rows.elapsed.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1]


def test_prepared_by_hand():
    data = data_of(shop_world())

    assert data.users.tolist() == [0, 1]
    assert data.train_ends.tolist() == [2, 5]
    assert data.held_out_place("valid").tolist() == [2, 5]
    assert data.held_out_place("test").tolist() == [3, 6]
    assert data.counts.tolist() == [0, 1, 2, 0, 0, 0]
    assert data.behaviours.raw(data.target) == "buy"


def test_windows_by_hand():
    rows = read_rows(shop_world().interactions)
    cut = windows(rows, np.array([0, 4]), np.array([4, 6]), width=3)

    assert cut["items"].tolist() == [[2, 3, 4], [0, 2, 3]]
    assert cut["behaviours"].tolist() == [[2, 1, 2], [0, 1, 1]]
    assert cut["elapsed"].tolist() == [[0, 7, 14], [0, 0, 9]]


@given(st.integers(1, 20), st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_a_window_is_the_end_of_the_sequence(width, held):
    data = data_of(tiny_world("tiny-behaviours"))
    rows, starts = data.rows, data.train_starts
    ends = rows.offsets[data.users + 1] - held
    cut = windows(rows, starts, ends, width=width)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        expected = rows.items[start:end][-width:].tolist()

        assert cut["items"][row].tolist() == [0] * (width - len(expected)) + expected
        assert ((cut["behaviours"][row] > 0) == (cut["items"][row] > 0)).all()
        assert cut["elapsed"][row][cut["items"][row] > 0][0] == 0
        assert (np.diff(cut["elapsed"][row]) >= 0).all()


@given(st.integers(1, 300), st.integers(1, 80))
@settings(max_examples=50, deadline=None)
def test_an_epoch_is_every_user_once_in_ceil_parts(num_users, size):
    parts = epoch(num_users, size, np.random.default_rng(0))

    assert len(parts) == -(-num_users // size)
    assert sorted(np.concatenate(parts).tolist()) == list(range(num_users))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_report_004_has_1156_steps_per_epoch():
    assert -(-147_894 // 128) == 1_156
    assert len(epoch(147_894, 128, np.random.default_rng(0))) == 1_156


def test_batches_hold_training_rows_only():
    data = data_of(tiny_world("tiny-behaviours"))
    known = {
        tuple(data.rows.items[start:end].tolist())
        for start, end in zip(data.train_starts, data.train_ends, strict=True)
    }
    for batch in drawn(data, 4, length=20):
        for row in batch.inputs["items"].tolist():
            assert tuple(item for item in row if item) in known


def test_random_windows_come_as_often_as_asked():
    data = data_of(world_with("tiny-behaviours", num_users=400))
    batches = drawn(data, 130, length=5, probability=0.25, size=40)
    obtained = np.mean([float(batch.inputs["random_window"].double().mean()) for batch in batches])
    expected = 0.25 * np.mean(data.train_ends - data.train_starts > 5)

    assert expected == pytest.approx(obtained, abs=0.02)


def test_a_random_window_is_a_run_of_rows_and_others_are_the_newest():
    data = data_of(tiny_world("tiny-behaviours"))
    newest = windows(data.rows, data.train_starts, data.train_ends, width=5)["items"]
    ends = {tuple(row) for row in newest.tolist()}
    inner = {
        tuple(data.rows.items[place : place + 5].tolist())
        for start, end in zip(data.train_starts.tolist(), data.train_ends.tolist(), strict=True)
        for place in range(start, end - 4)
    }
    seen = 0
    for batch in drawn(data, 8, length=5, probability=0.5):
        for row, random in zip(batch.inputs["items"].tolist(), batch.inputs["random_window"].tolist(), strict=True):
            assert tuple(row) in (inner if random else ends)
            seen += random

    assert seen > 20


def test_target_rows():
    data = data_of(tiny_world("tiny-behaviours"))
    (batch,) = drawn(data, 1)

    assert ((batch.inputs["behaviours"] == data.target) == batch.inputs["target_rows"]).all()


def test_ratings_become_behaviours():
    world = tiny_world("tiny")
    log = world.interactions
    rated = type(log)(
        user=log.user,
        item=log.item,
        time=log.time,
        rating=np.resize([1.0, 3.0, 5.0, 4.0], len(log)),
        num_users=log.num_users,
        num_items=log.num_items,
    )
    plain = type(world)(
        name="rated", interactions=rated, users=world.users, items=world.items, oracle=None, source="test"
    )
    data = data_of(plain)

    assert data.declared == ("neg", "neutral", "pos")
    assert data.behaviours.raw(data.target) == "pos"
    assert set(np.unique(data.rows.behaviours).tolist()) == {1, 2, 3}


def test_worlds_that_cannot_be_used():
    with pytest.raises(WorldError, match="neither behaviours nor ratings"):
        data_of(hand_world())
    with pytest.raises(WorldError, match="no behaviour 'sell'; known: see, buy"):
        data_of(shop_world(), target_behaviour="sell")
    with pytest.raises(WorldError, match=r"no user has the 5 rows that are needed \(the most is 4\)"):
        data_of(shop_world(), min_rows=5)


def test_there_are_two_held_out_splits():
    with pytest.raises(ValueError, match="split must be"):
        data_of(shop_world()).held_out_place("train")
