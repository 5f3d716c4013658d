"""Kinds and good ratings out of ratings, by hand, in general and on the real data where it is cached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.data.behaviours import RATING_KINDS, behaviours_from_ratings, positive_ratings
from rectest.data.movielens import data_dir, load_ml100k
from rectest.errors import DataError, WorldError


def rated(ratings=(1, 2, 3, 4, 5, 2.5, 3.5, 4.5)):
    """The world by hand, with a rating for each of its eight events."""
    world = hand_world()
    return replace(world, interactions=replace(world.interactions, rating=np.array(ratings, dtype=np.float32)))


def movielens():
    try:
        return load_ml100k()
    except DataError as error:
        pytest.skip(f"MovieLens-100K is not cached in {data_dir()}: {error}")


def test_kinds_of_a_rating():
    world = behaviours_from_ratings(rated())
    kinds = [world.behaviours.raw(code) for code in world.interactions.behaviour.tolist()]

    assert kinds == ["neg", "neg", "neutral", "pos", "pos", "neutral", "neutral", "pos"]
    assert world.interactions.rating.tolist() == rated().interactions.rating.tolist()
    assert world.interactions.item.tolist() == hand_world().interactions.item.tolist()
    assert world.source == "by hand; kinds of events from ratings"
    assert world.digest != rated().digest


def test_good_ratings_keep_the_items_and_renew_the_users():
    world = positive_ratings(rated((4, 1, 5, 4, 3, 4, 5, 2)), min_events=2)

    assert world.users.raws == ("ann", "bob")
    assert world.items.raws == ("A", "B", "C", "D")
    assert [items.tolist() for items in world.interactions.sequences()] == [[1, 2], [4, 1]]
    assert world.interactions.rating.tolist() == [4.0, 5.0, 4.0, 4.0]
    assert world.source == "by hand; ratings of at least 4, users with at least 2 of them"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([1.0, 2.5, 3.0, 4.0, 5.0]), min_size=8, max_size=8),
    st.sampled_from([2.0, 4.0]),
    st.integers(1, 3),
)
def test_good_ratings_are_all_there_is_of_users_with_enough(ratings, at_least, min_events):
    world = rated(ratings)
    log = world.interactions
    good = log.rating >= at_least
    enough = [user for user in range(3) if good[log.user == user].sum() >= min_events]
    if not enough:
        with pytest.raises(WorldError, match="no user has"):
            positive_ratings(world, at_least=at_least, min_events=min_events)
        return
    obtained = positive_ratings(world, at_least=at_least, min_events=min_events)
    expected = [log.item[good & (log.user == user)].tolist() for user in enough]

    assert list(obtained.users.raws) == [world.users.raw(user) for user in enough]
    assert expected == [items.tolist() for items in obtained.interactions.sequences()]


def test_worlds_without_ratings_say_what_is_needed():
    with pytest.raises(WorldError, match="kinds of events need a rating column, found none"):
        behaviours_from_ratings(hand_world())
    with pytest.raises(WorldError, match="good ratings need a rating column"):
        positive_ratings(hand_world())


def test_kinds_that_are_there_are_not_overwritten():
    with pytest.raises(WorldError, match="its events have the kinds view, favour, cart, buy already"):
        behaviours_from_ratings(tiny_world())


def test_nobody_with_enough_good_ratings():
    with pytest.raises(WorldError, match=r"no user has 5 ratings of at least 4 \(the most is 2\)"):
        positive_ratings(rated((4, 1, 5, 4, 3, 4, 1, 2)))


def test_report_001_has_938_users():
    world = movielens()
    liked = positive_ratings(world)

    assert (liked.num_users, liked.num_items, len(liked.interactions)) == (938, 1682, 55_361)
    assert int((world.interactions.rating >= 4).sum()) == 55_375
    assert int((liked.popularity()[1:] > 0).sum()) == 1447
    assert liked.interactions.user_counts().min() == 5


def test_kinds_of_movielens():
    world = behaviours_from_ratings(movielens())

    assert world.behaviours.raws == RATING_KINDS
    assert np.bincount(world.interactions.behaviour).tolist() == [0, 17_480, 27_145, 55_375]
