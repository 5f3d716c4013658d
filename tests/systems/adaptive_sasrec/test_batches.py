"""Windows by hand, exact accounting of users over epochs, negatives that keep out of the user's own items."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.adaptive_sasrec import start
from fixtures.worlds import hand_world, tiny_world, world_with
from rectest.data.interactions import Interactions, Sequences
from rectest.errors import WorldError
from rectest.systems.adaptive_sasrec.batches import left_padded, prepare, user_batches


def test_left_padding_by_hand():
    sequences = Sequences.from_lists([[1, 2, 3], [], [4]])

    assert left_padded(sequences, 2).tolist() == [[2, 3], [0, 0], [0, 4]]
    assert left_padded(sequences, 4).tolist() == [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 4]]


@settings(max_examples=40, deadline=None)
@given(lists=st.lists(st.lists(st.integers(1, 9), max_size=8), min_size=1, max_size=6), width=st.integers(1, 10))
def test_left_padding_keeps_the_newest_items_in_order(lists, width):
    expected = [[0] * max(0, width - len(items)) + items[-width:] for items in lists]

    assert expected == left_padded(Sequences.from_lists(lists), width).tolist()


def test_windows_by_hand():
    """Ann did 1 2 4 3 and bob 2 4 1: two are held out, so only ann has a transition to train on."""
    data = prepare(hand_world(), max_length=3)

    assert data.users.tolist() == [0]
    assert data.sequence.tolist() == [[0, 0, 1]]
    assert data.positives.tolist() == [[0, 0, 2]]
    assert data.split.valid.tolist() == [4, 4, 0]
    assert data.split.test.tolist() == [3, 1, 0]
    assert data.counts.tolist() == [0, 1, 2, 0, 1]


def test_every_position_predicts_the_item_after_it():
    data = prepare(tiny_world(), max_length=10)
    for row, user in enumerate(data.users.tolist()):
        train = data.split.train[user].tolist()
        inputs, targets = (part[row][part[row] > 0].tolist() for part in (data.sequence, data.positives))

        assert train[-11:-1] == inputs
        assert train[-10:][-len(inputs) :] == targets
        assert ((data.sequence[row] > 0) == (data.positives[row] > 0)).all()


def test_held_out_items_are_not_trained_on():
    """Swapping the last two items of everybody changes nothing that training reads."""
    world = tiny_world()
    sequences = world.interactions.sequences()
    swapped = [np.concatenate([items[:-2], items[-2:][::-1]]) for items in sequences]
    log = Interactions(
        user=np.repeat(np.arange(world.num_users), sequences.lengths),
        item=np.concatenate(swapped),
        num_users=world.num_users,
        num_items=world.num_items,
    )
    later = replace(world, interactions=log, behaviours=None, oracle=None)
    first, second = (prepare(w, max_length=10) for w in (world, later))

    assert first.split.test.tolist() != second.split.test.tolist()
    for name in ("sequence", "positives", "counts", "users"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


@settings(max_examples=40, deadline=None)
@given(num_users=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 99))
def test_every_user_counts_once_per_epoch(num_users, batch_size, seed):
    num_batches = -(-num_users // batch_size)
    stream = user_batches(num_users, batch_size, np.random.default_rng(seed))
    for _ in range(3):
        epoch = list(itertools.islice(stream, num_batches))
        sizes = [len(batch) for batch in epoch]

        assert list(range(num_users)) == sorted(np.concatenate(epoch).tolist())
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


def test_epochs_have_orders_of_their_own():
    stream = user_batches(50, 50, np.random.default_rng(0))

    assert next(stream).tolist() != next(stream).tolist()


@pytest.mark.parametrize("features", [{}, {"smart_negatives": True, "popular_ratio": 1.0}], ids=["uniform", "smart"])
def test_negatives_are_never_the_users_own(features):
    run = start(**features).steps(12)
    data = run.data
    rows = zip(data.sequence.tolist(), data.users.tolist(), strict=True)
    own = {tuple(row): set(data.split.train[user].tolist()) for row, user in rows}
    for batch in run.batches:
        for row, items in zip(batch.inputs["sequence"].tolist(), batch.negatives["items"].tolist(), strict=True):
            assert not own[tuple(row)] & (set(items) - {0})


def test_own_items_are_drawn_when_allowed():
    run = start(negatives_exclude_own=False).steps(12)
    positives, negatives = (
        torch.cat(parts)
        for parts in zip(*((b.inputs["positives"], b.negatives["items"]) for b in run.batches), strict=True)
    )

    assert ((positives == negatives) & (positives > 0)).any()


def test_negatives_stand_where_positives_stand():
    for batch in start().steps(4).batches:
        assert ((batch.negatives["items"] > 0) == (batch.inputs["positives"] > 0)).all()


def test_negatives_have_a_stream_of_their_own():
    """Smart negatives draw more numbers and move no batch; another batch order would be another experiment."""
    plain, smart = start().steps(6), start(smart_negatives=True).steps(6)
    for first, second in zip(plain.batches, smart.batches, strict=True):
        assert first.inputs["sequence"].equal(second.inputs["sequence"])
        assert not first.negatives["items"].equal(second.negatives["items"])


def test_users_with_short_histories_stay_out_of_evaluation():
    data = prepare(tiny_world("tiny-cold"), max_length=10)
    lengths = tiny_world("tiny-cold").interactions.sequences().lengths

    assert ((data.split.test > 0) == (lengths >= 3)).all()
    assert data.split.num_short == (lengths < 3).sum() > 0


def test_repeats_are_noticed():
    assert [prepare(tiny_world(name), max_length=5).repeats for name in ("tiny", "tiny-repeats")] == [False, True]


def test_a_world_without_transitions_is_refused():
    with pytest.raises(WorldError, match="two training events"):
        prepare(world_with(min_length=3, max_length=3, cold_lengths=(1, 1)), max_length=5)


def test_a_world_without_targets_is_refused():
    with pytest.raises(WorldError, match="leaving 2 out"):
        prepare(world_with(min_length=2, max_length=2, cold_lengths=(1, 1)), max_length=5)
