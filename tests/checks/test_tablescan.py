"""The one-pass scan against naive NumPy, over types, shapes and chunk borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks import tablescan
from rectest.checks.tablescan import duplicate_groups, scan_table


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.sampled_from(["float16", "float32", "float64"]),
    st.integers(0, 2**32),
)
def test_the_scan_equals_the_naive_formulas(num_rows: int, dim: int, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(num_rows, dim)).astype(dtype)
    table[rng.random(num_rows) < 0.2] = 0
    initial = np.where(rng.random((num_rows, 1)) < 0.5, table, table + np.ones(1, dtype=dtype)).astype(dtype)
    wide = table.astype(np.float64)

    scan = scan_table(table, initial)

    np.testing.assert_allclose(scan.norms, np.linalg.norm(wide, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(scan.zero, ~wide.any(axis=1))
    np.testing.assert_array_equal(scan.moved, (table != initial).any(axis=1))
    assert not scan.nonfinite.any()


def test_mean_cosine_is_the_mean_over_all_pairs_without_padding() -> None:
    table = np.array([[9, 9], [1, 0], [0, 2], [3, 0]], dtype=np.float32)

    scan = scan_table(table, padding_row=0)

    assert scan.mean_cosine == pytest.approx(1 / 3)


def test_rows_that_overflow_or_underflow_in_float32_keep_their_length() -> None:
    table = np.array([[1e30, 1e30], [1e-30, 0], [np.nan, 1], [np.inf, 0], [0, 0]], dtype=np.float32)

    scan = scan_table(table)

    assert [False, False, True, True, False] == scan.nonfinite.tolist()
    assert [False, False, False, False, True] == scan.zero.tolist()
    np.testing.assert_allclose(scan.norms[:2], [np.sqrt(2) * 1e30, 1e-30], rtol=1e-5)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    table = np.random.default_rng(0).normal(size=(101, 5)).astype(np.float32)
    expected = scan_table(table)
    monkeypatch.setattr(tablescan, "CHUNK_BYTES", 64)
    np.save(tmp_path / "table.npy", table)

    obtained = scan_table(np.load(tmp_path / "table.npy", mmap_mode="r"))

    np.testing.assert_array_equal(expected.norms, obtained.norms)
    np.testing.assert_array_equal(expected.hashes, obtained.hashes)
    assert expected.mean_cosine == pytest.approx(obtained.mean_cosine)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 5))
def test_duplicates_are_grouped_exactly(codes: list[int], dim: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, dim)).astype(np.float32)
    table = vectors[codes]
    expected = sorted([i for i, c in enumerate(codes) if c == code] for code in set(codes) if codes.count(code) > 1)

    groups = duplicate_groups(table, scan_table(table).hashes, np.arange(len(table)))

    assert expected == sorted(groups)


def test_two_flipped_signs_are_no_duplicate() -> None:
    table = np.array([[1, 2, 3, 4], [1, -2, 3, -4]], dtype=np.float32)

    assert [] == duplicate_groups(table, scan_table(table).hashes, np.arange(2))


@pytest.mark.parametrize("table", [np.zeros(3), np.zeros((2, 2), dtype=int), np.zeros((0, 2))])
def test_what_is_no_table_is_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="embedding table"):
        scan_table(table)


def test_an_initial_table_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="initial table"):
        scan_table(np.zeros((2, 2)), np.zeros((3, 2)))
