"""Odd entries are read as `json` reads them, or refused; names with escapes go after the text."""

from __future__ import annotations

import numpy as np
import pytest

from rectest.audits.maps_odd import number_of, odd_indices, renamed, unescaped
from rectest.checks.mapping_entries import NO_INDEX
from rectest.checks.mapping_ids import PADDED


def test_indices_that_are_no_digits() -> None:
    found = odd_indices(b'"a": 1, "b": 2.0, "c": null, ', 3, 10)

    assert found is not None
    assert [1, 2, NO_INDEX] == found[0].tolist()
    assert [(11, "a decimal number"), (12, "null")] == [(entry.place, entry.kind) for entry in found[1]]


@pytest.mark.parametrize(
    "text", ['"a": 1', '"a": 01, ', '"a": 1, "b": 2, ', '"a": [1], ', '"a": {}, ', "", '"a": 1}, ']
)
def test_anything_but_that_many_plain_pairs_is_refused(text: str) -> None:
    assert odd_indices(text.encode(), 1, 0) is None


def test_escapes() -> None:
    assert (unescaped(b'"\\u00e9"'), unescaped(b'"\\u00"'), unescaped(b'"a" 1')) == ("é", None, None)
    assert (12, float("inf")) == (number_of("12"), number_of("9" * 400))


def test_names_after_the_end_of_a_text() -> None:
    data = np.frombuffer(b"abcd" + bytes(PADDED), dtype=np.uint8)
    ids = renamed(data, np.array([0, 1, 2]), np.array([1, 1, 2]), {2: "é", 0: "xyz"})

    assert ["xyz", "b", "é"] == ids.texts()
