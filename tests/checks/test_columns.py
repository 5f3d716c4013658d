"""A column in a temporary file says what one in memory says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks import columns
from rectest.checks.columns import Column, Scratch


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.booleans(), st.integers(1, 20))
def test_what_is_written_in_stretches_is_read(num_rows: int, stretch: int, in_file: bool, stride: int) -> None:
    values = np.random.default_rng(0).normal(size=num_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "MAX_IN_MEMORY", 0 if in_file else 1000)
        patch.setattr(columns, "PIECE", 37)
        column = Column(num_rows)
        for first in reversed(range(0, num_rows, stretch)):
            column.write(first, values[first : first + stretch])

        assert num_rows == len(column)
        np.testing.assert_array_equal(values, np.concatenate([piece for _, piece in column.pieces()]))
        np.testing.assert_array_equal(values, column.whole())
        np.testing.assert_array_equal(values[::stride], column.every(stride))
        assert values[-1] == column.at(num_rows - 1)


def test_a_sample_does_not_hold_the_column_that_it_is_from() -> None:
    column = Column(1000)
    column.write(0, np.zeros(1000))

    assert column.every(10).base is None


def test_a_scratch_file_that_ends_early_is_no_silence() -> None:
    scratch = Scratch()
    scratch.write(np.arange(3), 0)

    with pytest.raises(OSError, match="cut short"):
        scratch.read_into(np.empty(4, dtype=np.int64), 0)
