"""A table beside its map and a log: off by one, items without rows, popular items of broken rows."""

from __future__ import annotations

import numpy as np
import pytest

from rectest.checks.result import Verdict
from rectest.checks.rowsource import ArrayRows
from rectest.checks.table_items import coverage, popular_items, rows_match


@pytest.mark.parametrize(
    ("low", "high", "num_rows", "padding", "verdict", "words"),
    [
        (1, 10, 11, 0, Verdict.PASS, ""),
        (0, 9, 10, None, Verdict.PASS, ""),
        (1, 10, 10, None, Verdict.FAIL, "off by one: indices count from 1"),
        (0, 9, 11, 0, Verdict.FAIL, "one row more than the map: off by one"),
        (0, 10, 11, 0, Verdict.FAIL, "an item has index 0, which is the padding row"),
        (0, 12, 10, None, Verdict.FAIL, "3 rows too short"),
        (1, 10, 14, 0, Verdict.SUSPICIOUS, "more items than the map knows"),
        (1, 10, 11, None, Verdict.SUSPICIOUS, "more items"),
    ],
)
def test_rows_against_indices(low: int, high: int, num_rows: int, padding: int, verdict: Verdict, words: str) -> None:
    result = rows_match(np.arange(low, high + 1), num_rows, "t", padding_row=padding)

    assert result.verdict is verdict
    assert words in result.detail


def test_a_map_without_indices_is_not_measured() -> None:
    assert rows_match(np.array([-1, -1]), 5, "t").verdict is Verdict.NOT_MEASURED


def test_items_without_a_row_are_named_by_their_events() -> None:
    raws, count = np.array(["a", "b", "c"]), np.array([1, 7, 2])

    some = coverage(raws, np.array([1, -1, 3]), count, "t")

    assert some.verdict is Verdict.SUSPICIOUS
    assert "b: 7 events" in some.worst
    assert "70 %" in some.outside
    assert coverage(raws, np.full(3, -1), count, "t").verdict is Verdict.FAIL
    assert coverage(raws, np.arange(3), count, "t").verdict is Verdict.PASS


def test_popular_items_are_named_with_count_row_and_length() -> None:
    table = np.array([[0, 0], [3, 4], [0, 1], [np.nan, 1]], dtype=np.float32)
    raws = np.array(["x", "y", "z"])

    sound = popular_items(ArrayRows(table), raws[:2], np.array([1, 2]), np.array([5, 9]), "t")

    assert sound.verdict is Verdict.PASS
    assert sound.figure == "y: 9 events, row 2, norm 1; x: 5 events, row 1, norm 5"
    for row in (0, 3, -1):
        broken = popular_items(ArrayRows(table), raws, np.array([1, 2, row]), np.array([5, 9, 7]), "t")
        assert broken.verdict is Verdict.FAIL
        assert broken.worst.startswith("z: 7 events")
