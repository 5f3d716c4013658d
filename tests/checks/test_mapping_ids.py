"""Raw ids in one buffer behave as a list of texts does: order, repeats, places, whatever they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.mapping_ids import LONG, PADDED, RawIds

TEXTS = st.lists(st.one_of(st.text(max_size=20), st.text("ab", max_size=3), st.text("aB", min_size=60)), max_size=30)


def test_ids_of_every_length_are_what_they_were() -> None:
    texts = ["", "a", "B000123456", "12345678", "日本", "x" * (LONG + 1), "a\0b", "\ud800"]

    assert texts == RawIds.from_texts(texts).texts()


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_repeats_are_those_of_a_dictionary(texts: list[str]) -> None:
    groups: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        groups.setdefault(text, []).append(place)

    assert sorted(group for group in groups.values() if len(group) > 1) == RawIds.from_texts(texts).repeated()


@given(TEXTS, TEXTS)
@settings(max_examples=50, deadline=None)
def test_an_id_is_found_at_its_last_place(texts: list[str], wanted: list[str]) -> None:
    last = {text: place for place, text in enumerate(texts)}
    wanted = [*wanted, *texts[::2]]

    found = RawIds.from_texts(texts).find(RawIds.from_texts(wanted))

    assert [last.get(text, -1) for text in wanted] == found.tolist()


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_arrays_of_text_give_the_same_hashes(texts: list[str]) -> None:
    array = np.array(texts, dtype=np.str_)

    ids = RawIds.from_array(array)

    assert array.tolist() == ids.texts()
    assert RawIds.from_texts(array.tolist()).hashes().tolist() == ids.hashes().tolist()


@given(st.lists(st.text("aAbBzZ@[`{09é", max_size=12), max_size=20))
@settings(max_examples=50, deadline=None)
def test_folded_hashes_ignore_the_case_of_ascii_alone(texts: list[str]) -> None:
    small = [text.replace("A", "a").replace("B", "b").replace("Z", "z") for text in texts]

    folded = RawIds.from_texts(texts).hashes(fold=True)

    assert RawIds.from_texts(small).hashes().tolist() == folded.tolist()
    assert len(set(small)) == len(set(folded.tolist()))


def test_numbers_of_few_digits_all_hash_differently() -> None:
    """Also those that end in the zeros with which shorter ones are filled up."""
    ids = RawIds.from_array(np.arange(100_000).astype(np.str_))

    assert len(np.unique(ids.hashes())) == len(ids)
    assert len(np.unique(ids.hashes(fold=True))) == len(ids)


def test_ids_that_hash_alike_are_told_apart() -> None:
    class Alike(RawIds):
        def hashes(self, *, fold: bool = False) -> np.ndarray:
            return np.full(len(self), 7, dtype=np.uint64)

    ids = Alike.from_texts(["a", "b", "a", "c"])

    assert [[0, 2]] == ids.repeated()
    assert [2, 1, 3, -1] == ids.find(Alike.from_texts(["a", "b", "c", "d"])).tolist()


@pytest.mark.parametrize(
    ("texts", "digits", "capitals"),
    [
        (["012", "9"], True, True),
        (["0123456789", "B00000000Z"], False, True),
        (["1", "12345678901234567A"], False, True),
        (["1", "a"], False, False),
        (["1", ""], False, False),
        (["1", " 2"], False, False),
        (["1", "/"], False, False),
        (["1", ":"], False, False),
        (["1", "@"], False, False),
        (["1", "["], False, False),
        (["1", "\x00"], False, False),
        (["1", "é"], False, False),
        (["1", "1" * (LONG + 1)], False, False),
        ([], False, False),
    ],
)
def test_alphabets_of_all_ids(texts: list[str], digits: bool, capitals: bool) -> None:
    for ids in (RawIds.from_texts(texts), RawIds.from_texts(texts * 70_000)):
        assert (digits, capitals) == (ids.all_digits, ids.all_capitals)


@given(st.lists(st.text("09AZaz/:@[", min_size=1, max_size=20), min_size=1))
@settings(max_examples=50, deadline=None)
def test_alphabets_are_those_of_each_id(texts: list[str]) -> None:
    ids = RawIds.from_texts(texts)

    assert all(set(text) <= set("0123456789") for text in texts) == ids.all_digits
    assert all(set(text) <= set("09AZ") for text in texts) == ids.all_capitals
    assert (min(map(len, texts)), max(map(len, texts))) == (ids.shortest, ids.longest)


def test_leading_zeros_go_but_for_the_last() -> None:
    ids = RawIds.from_texts(["007", "000", "0", "100", "00a"])

    assert ["7", "0", "0", "100", "00a"] == ids.without_leading(np.arange(5) < 4, ord("0")).texts()


def test_the_buffer_may_end_right_after_an_id() -> None:
    data = np.concatenate([np.frombuffer(b"abcdefgh", np.uint8), np.zeros(PADDED, np.uint8)])
    ids = RawIds(data, np.array([0, 7]), np.array([8, 1]))

    assert ["abcdefgh", "h"] == ids.texts()
    assert RawIds.from_texts(["abcdefgh", "h"]).hashes().tolist() == ids.hashes().tolist()
