"""Ids: balanced groups, distinct codes, vectors out of shared users, and how ids are written and read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.data.interactions import Sequences
from rectest.errors import DataError
from rectest.systems.gram_c.ids import ItemIds, assign_ids, balanced_groups, item_vectors
from rectest.systems.gram_c.text import (
    END,
    FIRST_CODE,
    UNKNOWN,
    Vocabulary,
    id_texts,
    join_history,
    normalised,
    split_history,
)


def ids_of(*rows: tuple[int, ...], num_codes: int = 4) -> ItemIds:
    return ItemIds(codes=np.array([[0] * len(rows[0]), *rows]), num_codes=num_codes)


def test_two_clusters_of_three_by_hand():
    points = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])

    groups = balanced_groups(points, 2, np.random.default_rng(0)).tolist()

    assert groups in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(1, 60), num_groups=st.integers(2, 7), same=st.booleans())
def test_groups_are_balanced_whatever_the_points(seed, num, num_groups, same):
    rng = np.random.default_rng(seed)
    points = np.zeros((num, 3)) if same else rng.standard_normal((num, 3))

    groups = balanced_groups(points, num_groups, rng)

    assert groups.min() >= 0
    assert groups.max() < max(num_groups, 1)
    assert np.bincount(groups).max() <= -(-num // num_groups)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_items=st.integers(1, 64), zero=st.booleans())
def test_no_two_items_share_an_id(seed, num_items, zero):
    rng = np.random.default_rng(seed)
    vectors = np.zeros((num_items + 1, 2)) if zero else rng.standard_normal((num_items + 1, 2))

    ids = assign_ids(vectors, rng, num_levels=3, num_codes=4)

    assert ids.num_distinct == num_items
    assert ids.codes.shape == (num_items + 1, 3)


def test_three_hundred_items_on_four_levels_of_sixteen_codes():
    ids = assign_ids(
        np.random.default_rng(1).standard_normal((301, 8)), np.random.default_rng(0), num_levels=4, num_codes=16
    )
    first = np.bincount(ids.codes[1:, 0])

    assert (ids.num_items, ids.num_levels, ids.num_distinct) == (300, 4, 300)
    assert len(first) == 16
    assert first.max() == 19


def test_the_seed_decides_and_the_digest_shows_it():
    vectors = np.random.default_rng(1).standard_normal((41, 4))
    first, again, other = (
        assign_ids(vectors, np.random.default_rng(seed), num_levels=3, num_codes=4).digest() for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other


def test_more_items_than_ids_are_refused():
    with pytest.raises(DataError, match="17 items need more ids than 2 levels of 4 codes"):
        assign_ids(np.zeros((18, 2)), np.random.default_rng(0), num_levels=2, num_codes=4)


@pytest.mark.parametrize("codes", [[[0, 0], [4, 0]], [[0, 0], [-1, 0]], [[0, 0]]])
def test_codes_outside_their_range_are_refused(codes):
    with pytest.raises(DataError, match=r"codes must be \[V\+1, levels\] in 0..3"):
        ItemIds(codes=np.array(codes), num_codes=4)


def test_items_of_the_same_users_stand_together():
    train = Sequences.from_lists([[1, 2], [1, 2], [1, 2, 3], [4, 5], [4, 5, 3]])

    vectors = item_vectors(train, 6)

    assert vectors[1] @ vectors[2] > 0.9
    assert vectors[1] @ vectors[4] < 0
    assert (vectors[0] == 0).all()
    assert (vectors[6] == 0).all(), "an item without events stands where the padding does"


def test_an_id_as_text_by_hand():
    words = Vocabulary(num_levels=2, num_codes=4, num_words=8)

    assert ("", "a1 b3", "a0 b2") == id_texts(ids_of((1, 3), (0, 2)))
    assert [FIRST_CODE + 1, FIRST_CODE + 4 + 3] == words.id_tokens("a1 b3")
    assert words.text([*words.id_tokens("a1 b3"), END]) == "a1 b3"
    assert (len(words), words.num_generated) == (4 + 8 + 8, 9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_items=st.integers(1, 40))
def test_text_and_tokens_go_round(seed, num_items):
    rng = np.random.default_rng(seed)
    ids = assign_ids(rng.standard_normal((num_items + 1, 2)), rng, num_levels=3, num_codes=4)
    words, texts = Vocabulary(num_levels=3, num_codes=4, num_words=8), id_texts(ids)

    for text, codes in zip(texts[1:], ids.codes[1:].tolist(), strict=True):
        tokens = words.id_tokens(text)

        assert [words.code(*pair) for pair in enumerate(codes)] == tokens
        assert text == words.text(tokens) == normalised(f" {text.upper()}  ")
    assert split_history(join_history(list(texts[1:]))) == list(texts[1:])
    assert len(set(texts)) == num_items + 1


@pytest.mark.parametrize("text", ["", "a1", "a1 b3 c0", "b1 a3", "a1 b4", "a1 b03", "a1  b3", "a1 b3 ; a0 b2", "a1 bx"])
def test_what_is_no_id_is_one_unknown_token(text):
    assert [UNKNOWN] == Vocabulary(num_levels=2, num_codes=4, num_words=8).id_tokens(text)


def test_words_are_hashed_alike_everywhere():
    words = Vocabulary(num_levels=2, num_codes=4, num_words=1000)

    assert words.word("drama") == 377, "no hash seed of the process takes part"
    assert 12 <= words.word("comedy") < len(words)


def test_tables_by_hand():
    words = Vocabulary(num_levels=2, num_codes=4, num_words=1000)
    tokens = words.word_table(((), ("x", "y", "z"), ("x",)), 2)

    assert words.token_table(("", "a1 b3")).tolist() == [[0, 0], [5, 11], [UNKNOWN, 0]]
    assert tokens.tolist() == [[0, 0], [words.word("x"), words.word("y")], [words.word("x"), 0], [UNKNOWN, 0]]
