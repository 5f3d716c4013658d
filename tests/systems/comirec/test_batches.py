"""Tests for the data side of ComiRec: positions and inputs by hand, streams that do not disturb each other, splits."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world, world_with
from rectest.data.interactions import Sequences
from rectest.data.negatives import LogUniformNegatives
from rectest.errors import WorldError
from rectest.seeding import SeedPlan
from rectest.systems.comirec.batches import (
    Position,
    UserData,
    evaluation_set,
    fixed_positions,
    negative_samples,
    prepare_users,
    random_positions,
    training_inputs,
)

LISTS = [[1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4, 3], [2, 4, 6, 8, 1]]


def hand_data(lists: list[list[int]] = LISTS) -> UserData:
    """All users train, and all of them are evaluated."""
    sequences, users = Sequences.from_lists(lists), np.arange(len(lists))
    popularity = np.bincount(sequences.items, minlength=10)
    return UserData(
        sequences=sequences,
        train=users,
        valid=users,
        test=users,
        popularity=popularity,
        sampler=LogUniformNegatives.by_popularity(popularity),
        users=tiny_world().users,
        items=tiny_world().items,
    )


def test_inputs_by_hand() -> None:
    position = Position(user=np.array([2, 0, 1]), cut=np.array([4, 5, 6]))
    inputs = training_inputs(hand_data().sequences, position, history_length=5)

    assert [[2, 4, 6, 8, 0], [1, 2, 3, 4, 5], [8, 7, 6, 5, 4]] == inputs["history"].tolist()
    assert [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]] == inputs["mask"].tolist()
    assert [1, 6, 3] == inputs["target"].tolist()
    assert [2, 0, 1] == inputs["user"].tolist()


def test_fixed_positions_go_round_in_order_and_cut_before_the_last_item() -> None:
    positions = list(islice(fixed_positions(hand_data(), batch_size=2), 3))

    assert [[0, 1], [2, 0], [1, 2]] == [position.user.tolist() for position in positions]
    assert [[5, 6], [4, 5], [6, 4]] == [position.cut.tolist() for position in positions]


def test_random_positions_reach_every_cut_of_every_user_and_no_other() -> None:
    rng = np.random.default_rng(0)
    positions = islice(random_positions(hand_data(), batch_size=2, min_history=4, rng=rng), 200)
    pairs = {pair for p in positions for pair in zip(p.user.tolist(), p.cut.tolist(), strict=True)}

    assert {(0, 4), (0, 5), (1, 4), (1, 5), (1, 6), (2, 4)} == pairs


def test_users_are_drawn_uniformly_whatever_their_length() -> None:
    data = hand_data([list(range(1, 10)) * 10, [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    rng = np.random.default_rng(1)
    drawn = np.concatenate([p.user for p in islice(random_positions(data, batch_size=1, min_history=4, rng=rng), 3000)])

    assert np.abs(np.bincount(drawn) - 1000).max() < 5 * np.sqrt(3000 * 2 / 9)


@given(seed=st.integers(0, 2**31), batch_size=st.integers(1, 96), length=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_batches_hold_distinct_training_users_and_only_the_past(seed: int, batch_size: int, length: int) -> None:
    data = prepare_users(tiny_world(), min_history=4, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    position = next(random_positions(data, batch_size=batch_size, min_history=4, rng=rng))
    inputs = training_inputs(data.sequences, position, history_length=length)

    assert len(set(position.user.tolist())) == batch_size
    assert set(position.user.tolist()) <= set(data.train.tolist())
    for row, (user, cut) in enumerate(zip(position.user, position.cut, strict=True)):
        past = data.sequences[int(user)][:cut].tolist()[-length:]
        assert past + [0] * (length - len(past)) == inputs["history"][row].tolist()
        assert int(data.sequences[int(user)][cut]) == int(inputs["target"][row])
    assert torch.equal(inputs["mask"], (inputs["history"] > 0).float())


def test_draws_from_the_global_streams_do_not_move_the_batches() -> None:
    data = prepare_users(tiny_world(), min_history=4, batch_size=8)
    stream = random_positions(data, batch_size=8, min_history=4, rng=SeedPlan(root=1).rng("batches"))
    expected = [position.user.tolist() for position in islice(stream, 5)]
    stream = random_positions(data, batch_size=8, min_history=4, rng=SeedPlan(root=1).rng("batches"))
    obtained = []
    for position in islice(stream, 5):
        random.random()
        torch.rand(3)
        obtained.append(position.user.tolist())

    assert expected == obtained


def test_negatives_are_distinct_ranked_by_popularity_and_carry_their_log_q() -> None:
    data = prepare_users(tiny_world(), min_history=4, batch_size=8)
    negatives = next(negative_samples(data.sampler, num_sampled=16, rng=np.random.default_rng(0)))
    ranked = data.popularity[data.sampler.order]

    assert len(set(negatives["item"].tolist())) == 16
    assert 0 not in negatives["item"].tolist()
    assert (np.diff(ranked) <= 0).all()
    assert (np.diff(negatives["log_expected"].numpy()[data.sampler.order]) <= 0).all()
    assert float(negatives["log_expected"].max()) <= 0.0


def test_more_negatives_than_classes_are_all_classes_with_log_q_zero() -> None:
    data = prepare_users(tiny_world(), min_history=4, batch_size=8)
    negatives = next(negative_samples(data.sampler, num_sampled=1000, rng=np.random.default_rng(0)))

    assert list(range(1, 41)) == sorted(negatives["item"].tolist())
    assert not negatives["log_expected"].any()


@pytest.mark.parametrize(("order", "with_padding"), [("id", False), ("id", True), ("popularity", True)])
def test_the_historical_samplers_can_be_asked_for(order: str, with_padding: bool) -> None:
    data = prepare_users(tiny_world(), min_history=4, batch_size=8, sampler_order=order, sample_padding=with_padding)
    ids = np.arange(1, 41)
    ranked = ids if order == "id" else ids[np.argsort(-data.popularity[1:], kind="stable")]

    assert [*([0] if with_padding else []), *ranked] == data.sampler.order.tolist()


def test_users_are_split_once_for_all_and_popularity_counts_training_users_only() -> None:
    data = prepare_users(tiny_world(), min_history=4, batch_size=8)
    parts = np.concatenate([data.train, data.valid, data.test])
    counts = np.bincount(np.concatenate([data.sequences[int(user)] for user in data.train]), minlength=41)

    assert (96, 12, 12) == (len(data.train), len(data.valid), len(data.test))
    assert list(range(120)) == sorted(parts.tolist())
    assert counts.tolist() == data.popularity.tolist()


def test_users_with_too_few_events_take_no_part() -> None:
    world = tiny_world("tiny-cold")
    data = prepare_users(world, min_history=4, batch_size=8)
    parts = np.concatenate([data.train, data.valid, data.test])

    assert np.flatnonzero(world.interactions.sequences().lengths >= 5).tolist() == sorted(parts.tolist())


def test_evaluation_by_hand() -> None:
    lists = [[1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4, 3, 2, 1, 1], [2, 4, 6, 8, 2]]
    seen_out = evaluation_set(hand_data(lists), "test", history_length=3, exclude_seen=True)
    seen_in = evaluation_set(hand_data(lists), "test", history_length=3, exclude_seen=False)

    assert [[1, 2, 3, 4], [9, 8, 7, 6, 5, 4, 3, 2], [2, 4, 6, 8]] == [items.tolist() for items in seen_in.histories]
    assert [[2, 3, 4], [4, 3, 2], [4, 6, 8]] == seen_in.inputs["history"].tolist()
    assert [[5, 6], [1], [2]] == [items.tolist() for items in seen_in.relevant]
    assert [[5, 6], [1], []] == [items.tolist() for items in seen_out.relevant]
    assert seen_in.excluded is None
    assert seen_out.excluded is seen_out.histories
    assert seen_in.horizon == 2


@pytest.mark.parametrize(
    ("changes", "batch_size", "match"),
    [
        ({"num_users": 1}, 1, "too few for a train share"),
        ({"num_users": 12}, 64, "a batch of 64 distinct users needs as many training users, found 9"),
        ({"min_length": 2, "max_length": 4}, 8, "no user has 5 events, the longest has 4"),
    ],
)
def test_a_world_that_is_too_small_is_named(changes: dict[str, int], batch_size: int, match: str) -> None:
    extra = {"cold_lengths": (1, 2)} if "max_length" in changes else {}
    with pytest.raises(WorldError, match=match):
        prepare_users(world_with(**changes, **extra), min_history=4, batch_size=batch_size)


def test_a_world_without_a_long_history_is_refused() -> None:
    with pytest.raises(WorldError, match="no user has 5 events, the longest has 4"):
        prepare_users(hand_world(), min_history=4, batch_size=1)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be valid or test, got 'train'"):
        evaluation_set(hand_data(), "train", history_length=3, exclude_seen=True)
