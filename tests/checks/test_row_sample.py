"""A sample of rows: everything where it is little, drawn by a fixed seed where it is much, never padding."""

from __future__ import annotations

import numpy as np
import pytest

from rectest.checks import row_sample
from rectest.checks.row_sample import max_rows, sample_rows


def test_a_small_table_is_taken_whole_but_for_rows_without_direction() -> None:
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    table[2] = 0
    table[3, 1] = np.nan

    drawn = sample_rows(table, padding_row=0)

    assert [1, 4] == drawn.rows.tolist()
    assert drawn.whole
    assert drawn.num_all == 4
    assert np.linalg.norm(drawn.unit, axis=1) == pytest.approx([1, 1])


def test_a_large_table_is_drawn_twice_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sample, "MAX_ROWS", 100)
    table = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float16)

    first, second = (sample_rows(table, padding_row=500) for _ in range(2))

    assert len(first.rows) in (99, 100)
    assert 500 not in first.rows
    assert (np.diff(first.rows) > 0).all()
    assert first.rows.tolist() == second.rows.tolist()
    assert not first.whole
    assert "of 999 rows (drawn)" in first.words


def test_wide_rows_are_drawn_in_smaller_number() -> None:
    assert max_rows(64) > max_rows(512) > max_rows(8192) == 2000


def test_numbers_beyond_float32_are_left_out() -> None:
    table = np.array([[1e300, 1.0], [1.0, 2.0], [3.0, 4.0]])

    assert [1, 2] == sample_rows(table).rows.tolist()
