"""Splits, what texts may tell, negatives and picked targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.ur4rec import SMALL, start
from fixtures.worlds import hand_world, tiny_world
from rectest.data.interactions import Sequences
from rectest.errors import WorldError
from rectest.systems.ur4rec.batches import hold_out, positive_rows, prepare
from rectest.systems.ur4rec.config import UR4RecConfig


def rated(ratings: dict[int, list[float]]):
    """The hand world with these ratings for each user's events, in order."""
    world = hand_world()
    given_out = {user: iter(values) for user, values in ratings.items()}
    rating = [next(given_out[int(user)]) for user in world.interactions.user]
    return replace(world, interactions=replace(world.interactions, rating=np.array(rating)))


def test_leave_two_out():
    cut = hold_out(Sequences.from_lists([[1, 2, 3, 4], [1, 2], []]), split="leave_two_out")

    assert [items.tolist() for items in cut.train] == [[1, 2], [1, 2], []]
    assert cut.valid.tolist() == [2, -1, -1]
    assert cut.test.tolist() == [3, -1, -1]


def test_ratio():
    """Twenty items: 16 for training, then the 18th and the 20th are the targets; with five, none are left."""
    cut = hold_out(Sequences.from_lists([range(1, 21), range(1, 6), [1]]), split="ratio")

    assert cut.num_train.tolist() == [16, 5, 1]
    assert cut.valid.tolist() == [17, -1, -1]
    assert cut.test.tolist() == [19, -1, -1]


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6), split=st.sampled_from(["leave_two_out", "ratio"]))
def test_targets_come_after_training_and_in_order(lengths, split):
    cut = hold_out(Sequences.from_lists([range(1, n + 1) for n in lengths]), split=split)
    for n, train, valid, test in zip(lengths, cut.num_train, cut.valid, cut.test, strict=True):
        if valid < 0:
            assert train == n
            assert test < 0
        else:
            assert 1 <= train <= valid < test == n - 1


def test_only_good_ratings_of_users_with_five_count():
    world = rated({0: [4, 4, 5, 3], 1: [4, 1, 4], 2: [5]})

    assert not positive_rows(world).any()
    assert positive_rows(hand_world()).all()
    with pytest.raises(WorldError, match="5 ratings of at least 4"):
        prepare(world, UR4RecConfig())


def test_good_ratings_at_work():
    world = tiny_world("tiny-words")
    rating = np.where(np.arange(len(world.interactions)) % 4 == 0, 3.0, 4.0)
    cut_down = replace(world, interactions=replace(world.interactions, rating=rating))
    data = prepare(cut_down, UR4RecConfig(**SMALL))
    kept = positive_rows(cut_down)

    assert data.held_out.sequences.lengths.sum() == kept.sum()
    assert not kept[rating < 4].any()


def test_texts_and_memory_tell_of_what_precedes_the_retriever_s_targets():
    data = start().data
    for row, user in enumerate(data.users.tolist()):
        told, picked = data.told[user].tolist(), [item for item in data.picked[row].tolist() if item]

        assert [*told, *picked] == data.train[user].tolist()
        assert len(told) >= 1
        assert len(picked) == min(3, len(data.train[user]) - 1)


def test_batches():
    run = start().steps(8)
    data = run.data
    rows = {user: row for row, user in enumerate(data.users.tolist())}
    for step, batch in enumerate(run.batches, start=1):
        users = batch.inputs["users"].tolist()
        own = [set(data.train[user].tolist()) for user in users]

        assert batch.inputs["step"].tolist() == [step]
        assert len(set(users)) == len(users)
        for name, positives in (("sasrec", "positives"), ("retriever", "picked")):
            drawn, real = batch.negatives[name].numpy(), batch.inputs[positives].numpy() > 0
            assert drawn.shape == (*real.shape, 3)
            assert ((drawn > 0) == real[..., None]).all()
            assert not any(own[row] & set(drawn[row].ravel().tolist()) for row in range(len(users)))
        for user, item in zip(users, batch.inputs["remembered"].tolist(), strict=True):
            assert item in data.told[user]
        assert (batch.inputs["picked"].numpy() == data.picked[[rows[user] for user in users]]).all()


def test_last_target_only():
    """The report's protocol: one target per user, the last training item, for both components."""
    run = start(targets="last").steps(2)
    for batch in run.batches:
        for user, target, picked in zip(
            *(batch.inputs[n].tolist() for n in ("users", "positives", "picked")), strict=True
        ):
            assert target == picked == [run.data.train[user][-1]]


def test_an_item_that_training_never_saw_is_no_negative():
    world = tiny_world("tiny-words")
    log = world.interactions
    without = replace(world, interactions=log.select(log.item != 7), oracle=None)
    run = start(world=without).steps(10)

    assert 7 not in run.data.pool
    assert all((batch.negatives["sasrec"] != 7).all() for batch in run.batches)
    assert (run.eval_set().candidates != 7).all()
