"""Row numbers are counted and written as `places` and `sample` would, however they arrive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.result import places, sample
from rectest.checks.rowset import RowSet


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 5000)), st.integers(1, 9))
def test_a_row_set_says_what_the_plain_functions_say(rows: set[int], num_parts: int) -> None:
    ordered = np.array(sorted(rows), dtype=np.int64)
    found = RowSet()
    for part in np.array_split(ordered, num_parts):
        found.add(part)

    assert (len(rows), bool(rows)) == (found.num, bool(found))
    assert places(ordered.tolist()) == found.places
    assert sample(ordered.tolist()) == found.head()


def test_many_ranges_are_cut_and_counted() -> None:
    rows = np.arange(0, 6000, 2)

    assert places(rows.tolist()) == RowSet.of(rows).places
    assert RowSet.of(rows).places.endswith("... (3000 in all)")


def test_an_empty_set_has_no_first_row() -> None:
    assert "" == RowSet().places
    with pytest.raises(IndexError):
        _ = RowSet().first
