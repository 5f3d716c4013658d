"""Equal rows are found wherever they lie, and rows that only look alike are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks import columns, duplicates, fingerprints, tablescan
from rectest.checks.duplicates import Duplicates, find_duplicates
from rectest.checks.rowsource import ArrayRows
from rectest.checks.tablescan import scan_table


def _found(table: np.ndarray, padding_row: int | None = None) -> Duplicates:
    return find_duplicates(ArrayRows(table), scan_table(table, padding_row=padding_row))


def _normal(num_rows: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_rows, dim)).astype(np.float32)


@pytest.fixture
def small_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files, many buckets and many blocks with a few thousand rows."""
    monkeypatch.setattr(columns, "MAX_IN_MEMORY", 100)
    monkeypatch.setattr(fingerprints, "MAX_IN_MEMORY", 100)
    monkeypatch.setattr(fingerprints, "BUCKET_ROWS", 64)
    monkeypatch.setattr(tablescan, "CHUNK_NUMBERS", 256)
    monkeypatch.setattr(duplicates, "CHUNK_NUMBERS", 256)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.integers(1, 9),
    st.sampled_from(["float16", "float32", "float64"]),
)
def test_duplicates_are_grouped_exactly(codes: list[int], dim: int, dtype: str) -> None:
    table = _normal(4, dim).astype(dtype)[codes]
    groups = [[i for i, c in enumerate(codes) if c == code] for code in sorted(set(codes)) if codes.count(code) > 1]
    largest = max(groups, key=lambda group: (len(group), -group[0]), default=[])

    found = _found(table)

    assert (len(groups), sum(map(len, groups))) == (found.num_groups, found.rows.num)
    assert tuple(largest[:6]) == found.largest
    assert found.complete


@pytest.mark.parametrize("threads", [1, 2])
def test_pairs_in_a_large_table_are_found_in_files(small_everything: None, threads: int) -> None:
    table = _normal(5000, 7)
    table[4999], table[17], table[3000] = table[0], table[0], table[2999]

    found = find_duplicates(ArrayRows(table), scan_table(table, threads=threads))

    assert ("0, 17, 2999-3000, 4999", 2) == (found.rows.places, found.num_groups)
    assert (0, 17, 4999) == found.largest


def test_rows_that_differ_outside_of_the_quick_fingerprint_are_no_duplicates(small_everything: None) -> None:
    table = np.zeros((2000, 12), np.float32)
    table[:, 5] = np.arange(1, 2001)
    few = table.copy()
    few[7] = few[1999]

    assert 0 == _found(table).num_groups
    assert "7, 1999" == _found(few).rows.places


def test_so_many_that_look_alike_that_all_are_fingerprinted_anew(
    small_everything: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MAX_CANDIDATES", 100)
    table = np.zeros((2000, 12), np.float32)
    table[:, 5] = np.arange(1, 2001)
    healthy, one_pair = _found(table), table.copy()
    one_pair[1000] = one_pair[3]

    assert (0, True) == (healthy.num_groups, healthy.complete)
    assert ("3, 1000", True) == (_found(one_pair).rows.places, _found(one_pair).complete)


def test_more_duplicates_than_are_looked_at_give_a_lower_bound(
    small_everything: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MAX_CANDIDATES", 100)
    table = _normal(3000, 6)
    table[1000:] = table[0]

    found = _found(table)

    assert not found.complete
    assert 1 == found.num_groups
    assert 100 <= found.rows.num <= 2001


def test_sign_patterns_do_not_collide() -> None:
    signs = np.unpackbits(np.arange(4096, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    table = np.where(signs, 1, -1).astype(np.float32)

    assert 0 == _found(table).num_groups


def test_equal_hashes_of_unequal_rows_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def always_seven(chunk: np.ndarray) -> np.ndarray:
        return np.full(len(chunk), 7, np.uint64)

    monkeypatch.setattr(tablescan, "quick_fingerprints", always_seven)
    monkeypatch.setattr(duplicates, "quick_fingerprints", always_seven)
    monkeypatch.setattr(duplicates, "thorough_fingerprints", always_seven)
    table = _normal(6, 3)[[0, 1, 0, 2, 1, 0]]

    found = _found(table)

    assert ("0-2, 4-5", 2, (0, 2, 5)) == (found.rows.places, found.num_groups, found.largest)


def test_zero_broken_and_padding_rows_are_no_duplicates() -> None:
    table = _normal(8, 3)
    table[2], table[3], table[4], table[5] = 0, 0, np.nan, np.nan
    table[0] = table[7]

    assert 0 == _found(table, padding_row=0).num_groups
    assert "0, 7" == _found(table).rows.places


def test_rows_equal_as_numbers_but_not_as_bits_differ() -> None:
    assert 0 == _found(np.array([[1, 0.0], [1, -0.0]], np.float32)).num_groups


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=300))
def test_repeats_are_all_but_one_of_each_value(codes: list[int]) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 41, dtype=np.uint64)[np.array(codes, dtype=int)]
    expected = sorted(np.repeat(*np.unique(values, return_counts=True)).tolist())
    for value in set(expected):
        expected.remove(value)

    assert expected == sorted(fingerprints.repeats(values).tolist())


def test_fingerprints_do_not_depend_on_where_a_row_lies() -> None:
    raw = np.empty(4 * 65 * 6 + 12, np.uint8)
    for start in (0, 4, 8, 12):
        table = raw[start : start + 4 * 65 * 6].view(np.float32).reshape(6, 65)
        table[:] = _normal(1, 65)

        assert 1 == len(set(fingerprints.quick_fingerprints(table).tolist()))
        assert 1 == len(set(fingerprints.thorough_fingerprints(table).tolist()))


@pytest.mark.parametrize("num_copies", [1, 5000], ids=["spread", "one value"])
def test_a_bucket_that_is_too_large_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch, num_copies: int) -> None:
    monkeypatch.setattr(fingerprints, "MAX_BUCKETS", 2)
    monkeypatch.setattr(fingerprints, "BUCKET_ROWS", 64)
    values = np.random.default_rng(0).integers(0, 2**64, 4000, dtype=np.uint64)
    values = np.concatenate([values, values[:3], np.repeat(values[7], num_copies)])
    kept = fingerprints.Fingerprints(len(values), 500)
    for block, start in enumerate(range(0, len(values), 500)):
        kept.add(block, values[start : start + 500])

    found = [kept.repeats(number) for number in range(kept.num_buckets)]

    assert sorted(values[[0, 1, 2, 7]].tolist()) == sorted(np.concatenate([some for some, _ in found]).tolist())
    assert 3 + num_copies == sum(num for _, num in found)
