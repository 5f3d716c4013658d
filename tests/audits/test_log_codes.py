"""Vocabularies: numbers where all ids are numbers, text elsewhere, and strangers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.audits.log_codes import UNKNOWN, codes_of, numbers_of


def test_numbers_are_in_the_order_of_numbers():
    """9 before 10, over two columns."""
    codes = codes_of([np.array(["10", "9"]), np.array(["100", "9"])])

    assert ["9", "10", "100"] == codes.names
    assert [1, 0, UNKNOWN] == codes.encode(np.array(["10", "9", "7"])).tolist()
    assert [[2, UNKNOWN]] == codes.encode(np.array([[100, 101]])).tolist()


@pytest.mark.parametrize("odd", ["07", "x", "1.0", "-3", "", "é", "1" * 19])
def test_one_odd_id_makes_all_text(odd):
    """And a text that no number is has no code among numbers."""
    assert numbers_of(np.array(["7", odd])) is None
    assert codes_of([np.array(["7", odd])]).names == sorted({"7", odd})
    assert [0, UNKNOWN] == codes_of([np.array(["7"])]).encode(np.array(["7", odd])).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**17), min_size=1, max_size=20))
def test_numbers_are_read_as_python_reads_them(values):
    """Every plain whole number of at most 18 digits."""
    assert values == numbers_of(np.array([str(value) for value in values])).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab1é ", max_size=4), min_size=1, max_size=20))
def test_every_id_comes_back(raws):
    """The code of an id leads to the id."""
    column = np.array(raws)
    codes = codes_of([column])

    assert column.tolist() == [codes.names[code] for code in codes.encode(column)]
