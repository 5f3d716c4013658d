"""The one-pass scan against naive NumPy, over types, shapes, chunk borders and threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks import tablescan
from rectest.checks.duplicates import find_duplicates
from rectest.checks.rowsource import ArrayRows
from rectest.checks.tablescan import TableScan, scan_table


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

    np.testing.assert_allclose(scan.norms.whole(), np.linalg.norm(wide, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(scan.norms.whole() == 0, ~wide.any(axis=1))
    np.testing.assert_array_equal(scan.moved, (table != initial).any(axis=1))
    assert (0, int((~wide.any(axis=1)).sum())) == (scan.num_nonfinite, scan.num_zero)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**32))
def test_moments_are_those_of_the_real_rows(num_rows: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(loc=0.3, size=(num_rows + 3, dim)).astype(np.float32)
    table[1], table[2, 0] = np.nan, np.inf
    real = table[3:].astype(np.float64)

    moments = scan_table(table, padding_row=0).moments

    assert (num_rows, real.min(), real.max()) == (moments.num_rows, moments.low, moments.high)
    assert real.mean() == pytest.approx(moments.mean, abs=1e-6)
    assert real.std() == pytest.approx(moments.deviation, abs=1e-3)
    np.testing.assert_allclose(real.mean(axis=0), moments.column_means, atol=1e-6)


def test_a_table_without_a_finite_row_has_no_moments() -> None:
    scan = scan_table(np.full((3, 2), np.nan))

    assert (3, 0) == (scan.num_nonfinite, scan.num_real)
    assert np.isnan([scan.moments.low, scan.moments.mean, scan.moments.deviation, scan.mean_cosine]).all()


def test_mean_cosine_is_the_mean_over_all_pairs_without_padding() -> None:
    table = np.array([[9, 9], [1, 0], [0, 2], [3, 0]], dtype=np.float32)

    scan = scan_table(table, padding_row=0)

    assert scan.mean_cosine == pytest.approx(1 / 3)


def test_rows_that_overflow_or_underflow_keep_their_length() -> None:
    table = np.array([[1e30, 1e30], [1e-30, 0], [np.nan, 1], [np.inf, 0], [0, 0], [-0.0, 1e-45]], dtype=np.float32)

    norms = scan_table(table).norms.whole()

    assert [False, False, True, True, False, False] == np.isnan(norms).tolist()
    assert [4] == np.flatnonzero(norms == 0).tolist()
    np.testing.assert_allclose(norms[:2], [np.sqrt(2) * 1e30, 1e-30], rtol=1e-5)


def test_a_double_row_whose_squares_underflow_is_not_zero() -> None:
    scan = scan_table(np.array([[3e-300, 4e-300], [1e308, 1e308], [1.7e308, 1.7e308]]))

    np.testing.assert_allclose(scan.norms.whole(), [5e-300, np.sqrt(2) * 1e308, np.finfo(float).max], rtol=1e-12)
    assert 0 == scan.num_zero


def _bits(scan: TableScan) -> tuple[object, ...]:
    fingerprints = [b"".join(p.tobytes() for p in scan.fingerprints.bucket(0))]
    numbers = (scan.mean_cosine, scan.moments.mean, scan.moments.deviation, scan.moments.low, scan.moments.high)
    return scan.norms.whole().tobytes(), scan.moments.column_means.tobytes(), *numbers, *fingerprints


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablescan, "CHUNK_NUMBERS", 64)
    table = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32)

    assert _bits(scan_table(table)) == _bits(scan_table(table, threads=2)) == _bits(scan_table(table, threads=3))


@pytest.mark.parametrize("num_odd", [0, 1, 40])
def test_odd_rows_are_left_out_of_sums_wherever_they_lie(monkeypatch: pytest.MonkeyPatch, num_odd: int) -> None:
    monkeypatch.setattr(tablescan, "CHUNK_NUMBERS", 64)
    rng = np.random.default_rng(0)
    table = rng.normal(loc=0.5, size=(101, 5)).astype(np.float32)
    odd = rng.permutation(np.arange(1, 101))[:num_odd]
    table[odd[::2]], table[odd[1::2]] = np.nan, 0
    table[0] = 1e9
    real = np.delete(table[1:], odd[::2] - 1, axis=0).astype(np.float64)
    directions = real[real.any(axis=1)]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    num = len(directions)

    scan = scan_table(table, padding_row=0)

    assert (len(real), num) == (scan.num_real, scan.fingerprints.num)
    assert (real.min(), real.max()) == (scan.moments.low, scan.moments.high)
    np.testing.assert_allclose(real.mean(axis=0), scan.moments.column_means, rtol=1e-5)
    assert ((directions @ directions.T).sum() - num) / (num * (num - 1)) == pytest.approx(scan.mean_cosine, rel=1e-4)


def test_without_fingerprints_all_else_is_the_same_and_duplicates_are_refused() -> None:
    table = np.random.default_rng(0).normal(size=(101, 5)).astype(np.float32)
    table[7], table[9] = 0, np.inf
    expected, obtained = scan_table(table), scan_table(table, fingerprints=False)

    assert expected.norms.whole().tobytes() == obtained.norms.whole().tobytes()
    assert (expected.mean_cosine, expected.moments.mean) == (obtained.mean_cosine, obtained.moments.mean)
    with pytest.raises(ValueError, match="took no fingerprints"):
        find_duplicates(ArrayRows(table), obtained)


def test_chunks_change_sums_by_rounding_only(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    table = np.random.default_rng(0).normal(size=(101, 5)).astype(np.float32)
    expected = scan_table(table, padding_row=3)
    monkeypatch.setattr(tablescan, "CHUNK_NUMBERS", 16)
    np.save(tmp_path / "table.npy", table)

    obtained = scan_table(np.load(tmp_path / "table.npy", mmap_mode="r"), padding_row=3)

    np.testing.assert_array_equal(expected.norms.whole(), obtained.norms.whole())
    assert expected.fingerprints.num == obtained.fingerprints.num == 100
    assert expected.mean_cosine == pytest.approx(obtained.mean_cosine)
    assert expected.moments.mean == pytest.approx(obtained.moments.mean)


@pytest.mark.parametrize("table", [np.zeros(3), np.zeros((2, 2), dtype=int), np.zeros((0, 2))])
def test_what_is_no_table_is_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="embedding table"):
        scan_table(table)


def test_an_initial_table_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="initial table"):
        scan_table(np.zeros((2, 2)), np.zeros((3, 2)))
