"""Events of known and unknown ids are counted as a `Counter` counts them; popular ids without a row are named."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.mapping_entries import Entries
from rectest.checks.mapping_events import count_ids, coverage, popular_ids
from rectest.checks.rowsource import ArrayRows

ENTRIES = Entries.from_values(["a", "b", "c", "d"], [1, 2, 3, None])


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "x", "yy", "", "é"]), max_size=40))
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_a_counter(events: list[str]) -> None:
    counted = count_ids(ENTRIES, np.array(events, dtype=np.str_))

    expected = Counter(events)
    assert [expected["a"], expected["b"], expected["c"], 0] == counted.known.tolist()
    assert {raw: num for raw, num in expected.items() if raw not in ("a", "b", "c")} == dict(counted.unknown)
    assert len(events) == counted.num_events
    assert len(expected) == counted.num_ids


def test_lost_events_are_named_the_most_popular_first() -> None:
    result = coverage(count_ids(ENTRIES, np.array(["a", "x", "y", "y", "b"])), "item")

    assert result.red
    assert "2 of 4 raw ids are unknown to the map (50 %), 3 of 5 events lost (60 %)" == result.figure
    assert "'y', 2 events" == result.worst
    assert "'y', 'x'" == result.rows


@pytest.mark.parametrize(("events", "words"), [([], "without events"), (["q"], "another vocabulary")])
def test_fields_of_nothing_known_are_red(events: list[str], words: str) -> None:
    result = coverage(count_ids(ENTRIES, np.array(events, dtype=np.str_)), "item")

    assert result.red
    assert words in result.detail


def test_an_id_with_two_entries_counts_at_its_last() -> None:
    entries = Entries.from_values(["a", "b", "a"], [1, 2, 3])

    assert [0, 1, 2] == count_ids(entries, np.array(["a", "b", "a"])).known.tolist()


@pytest.mark.parametrize(
    ("row", "worst"),
    [(None, ""), (np.zeros(2), "norm 0"), (np.array([np.nan, 1]), "norm nan"), (np.array([np.inf, 1]), "norm inf")],
)
def test_the_rows_of_popular_ids_are_looked_at(row: np.ndarray | None, worst: str) -> None:
    table = np.ones((4, 2), dtype=np.float32)
    if row is not None:
        table[2] = row

    counted = count_ids(ENTRIES, np.array(["b", "b", "a"]))
    result = popular_ids(ENTRIES, counted, "item", table=ArrayRows(table))

    assert bool(worst) == result.red
    assert worst in result.worst


def test_a_popular_id_beyond_the_table_or_the_map_is_red() -> None:
    table = ArrayRows(np.ones((3, 2), dtype=np.float32))
    counted = count_ids(ENTRIES, np.array(["c", "c", "a", "zz"]))

    beyond = popular_ids(ENTRIES, counted, "item", table=table)

    assert "'c' 2 events, index 3, which is no row of the table" == beyond.worst
    assert "'zz' 1 events, not in the map" in beyond.outside
    assert popular_ids(ENTRIES, counted, "item").worst.startswith("'zz'")
