"""Word vectors, texts, and what preference texts are written from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.systems.ur4rec.encoder import TextEncoder, preference_text


def test_a_word_is_the_same_in_every_encoder():
    first, second = TextEncoder(8), TextEncoder(8)
    second.word("other")

    assert np.array_equal(first.word("sea"), second.word("sea"))
    assert not np.array_equal(first.word("sea"), first.word("seas"))


def test_a_text_is_the_normalised_mean_of_its_words():
    encoder = TextEncoder(16)
    mean = (encoder.word("red") + 2 * encoder.word("car")) / 3

    np.testing.assert_allclose(mean / np.linalg.norm(mean), encoder.text(["red", "car", "car"]), rtol=1e-6)


def test_a_text_without_words_is_zero():
    assert not TextEncoder(4).text(()).any()
    assert TextEncoder(4).texts([]).shape == (0, 4)


def test_texts_that_share_words_are_close():
    encoder = TextEncoder(384)
    shared, apart = encoder.text(["a", "b", "c"]) @ encoder.texts([["a", "b", "d"], ["e", "f", "g"]]).T

    assert shared > 0.5
    assert abs(apart) < 0.25


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=6))
def test_any_words_make_a_vector_of_length_one(words):
    """Slashes, spaces and the empty word included."""
    assert np.linalg.norm(TextEncoder(8).text(words)) == pytest.approx(1.0, rel=1e-5)


def test_preference_is_written_from_the_newest_items():
    words = [(), ("red", "car"), ("sea",), ("old",)]

    assert preference_text([3, 1, 2], words, newest=2) == ["red", "car", "sea"]
    assert preference_text([], words, newest=2) == []
    assert preference_text([1], words, newest=9) == ["red", "car"]
