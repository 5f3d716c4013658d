"""`World`: maps and words that fit the log, and what filtering does to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import hand_world, tiny_world
from rectest.data.idmap import IdMap
from rectest.data.world import World
from rectest.errors import WorldError

WORDS = ((), ("a", "tale"), ("b",), ("c",), ("a", "d"))


def test_worlds_refuse_maps_that_do_not_fit():
    world = hand_world()
    parts = {"name": "odd", "interactions": world.interactions, "users": world.users, "items": world.items}

    with pytest.raises(WorldError, match=r"world 'odd': its map of items covers 1\.\.2, needed 1\.\.4"):
        World(**{**parts, "items": IdMap(raws=("a", "b"))}, oracle=None, source="test")
    with pytest.raises(WorldError, match=r"map of users covers 1\.\.3, needed 0\.\.2"):
        World(**{**parts, "users": IdMap(raws=("a", "b", "c"))}, oracle=None, source="test")
    with pytest.raises(WorldError, match="its oracle knows 40 items, needed 4"):
        World(**parts, oracle=tiny_world().oracle, source="test")
    with pytest.raises(WorldError, match="both a behaviour column and its names"):
        World(**parts, oracle=None, source="test", behaviours=IdMap(raws=("a",)))


def test_filtering_a_world_renews_its_maps():
    obtained = hand_world().filter_min_count(users=2, items=2)

    assert obtained.users.raws == ("ann", "bob")
    assert obtained.items.raws == ("A", "B", "D")
    assert [items.tolist() for items in obtained.interactions.sequences()] == [[1, 2, 3], [2, 3, 1]]
    assert tiny_world().filter_min_count().oracle is tiny_world().oracle


def test_words_are_those_that_were_given_or_the_raw_ids():
    world = hand_world()

    assert ((), ("A",), ("B",), ("C",), ("D",)) == world.words()
    assert replace(world, item_words=WORDS).words() == WORDS


def test_words_have_a_digest_of_their_own():
    plain, written = hand_world(), replace(hand_world(), item_words=WORDS)
    other = replace(plain, item_words=((), ("a",), ("tale", "b"), ("c",), ("a", "d")))

    assert plain.words_digest is None
    assert written.words_digest != other.words_digest
    assert plain.digest == written.digest


def test_filtering_keeps_the_words_of_the_items_that_stay():
    world = replace(hand_world(), item_words=WORDS)
    obtained = world.filter_min_count(users=2, items=2)

    assert obtained.items.raws == ("A", "B", "D")
    assert obtained.item_words == ((), ("a", "tale"), ("b",), ("a", "d"))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 30))
def test_after_any_filter_each_raw_id_has_its_own_words(users, items):
    world = tiny_world("tiny-words")
    written = dict(zip(world.items.raws, world.words()[1:], strict=True))
    filtered = world.filter_min_count(users=users, items=items)

    assert [written[raw] for raw in filtered.items.raws] == list(filtered.words()[1:])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "0 entries of words, 0 words in the first, needed 5 with none in the first"),
        (WORDS[1:], "4 entries of words, 2 words in the first, needed 5"),
        ((("x",), *WORDS[1:]), "5 entries of words, 1 words in the first"),
        ((*WORDS[:4], ()), r"item 4 has the words \(\), needed at least one"),
        ((*WORDS[:4], ("d", "")), "item 4 has the words"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, problem):
    with pytest.raises(WorldError, match=problem):
        replace(hand_world(), item_words=words)
