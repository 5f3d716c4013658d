"""Lengths of rows: planted faults in tables that are judged in pieces and by samples, and healthy ones beside them."""

from __future__ import annotations

import numpy as np
import pytest

from rectest.checks import columns, norms
from rectest.checks.embeddings import TableFacts, audit_table
from rectest.checks.norms import Deciles
from rectest.checks.result import CheckResult
from rectest.checks.tablescan import scan_table


def _result(table: np.ndarray, check: str, **options: object) -> CheckResult:
    return next(r for r in audit_table(table, "item", **options) if r.check == f"embeddings/{check}")


@pytest.fixture(params=[False, True], ids=["exact", "sampled"])
def sampled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether medians come from every n-th row, and lengths lie in a file."""
    if request.param:
        monkeypatch.setattr(norms, "MAX_SAMPLE", 500)
        monkeypatch.setattr(columns, "MAX_IN_MEMORY", 500)
        monkeypatch.setattr(columns, "PIECE", 300)
    return bool(request.param)


@pytest.fixture
def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)


@pytest.mark.parametrize("known", [False, True], ids=["one group", "deciles"])
def test_exploding_rows_are_all_named(sampled: bool, table: np.ndarray, known: bool) -> None:
    popularity = np.random.default_rng(1).permutation(4000) if known else None
    healthy = _result(table, "exploding", popularity=popularity)
    table[[7, 8, 3999]] *= np.array([[1e5], [2e5], [1e4]], np.float32)

    result = _result(table, "exploding", popularity=popularity)

    assert not healthy.red
    assert result.red
    assert "7-8, 3999" == result.rows
    assert result.worst.startswith("row 8: length")
    assert "rows: 7, 8, 3999" in result.outside


def test_a_row_that_explodes_in_its_own_decile_only(sampled: bool, table: np.ndarray) -> None:
    popularity = np.repeat([1, 1000], 2000)
    table[:2000] *= 0.1
    table[5] *= 60

    assert not _result(np.delete(table, 5, axis=0), "exploding", popularity=np.delete(popularity, 5)).red
    assert "5" == _result(table, "exploding", popularity=popularity).rows


def test_vanished_deciles_are_seen_in_a_sample(sampled: bool, table: np.ndarray) -> None:
    popularity = np.arange(4000)
    healthy = _result(table, "spread", popularity=popularity)
    table[:400] *= 1e-3

    result = _result(table, "spread", popularity=popularity)

    assert not healthy.red
    assert result.red
    assert "decile 1 of 10" in result.worst


def test_popularity_deciles_of_every_row(sampled: bool, table: np.ndarray) -> None:
    popularity = np.random.default_rng(2).permutation(4000)
    groups = Deciles(scan_table(table, padding_row=0), popularity)

    numbers = np.concatenate([groups.of(first, 100) for first in range(0, 4000, 100)])

    assert 10 == len(groups)
    assert 0 not in np.concatenate(groups.rows)
    slack = 200 if sampled else 1  # four standard errors of an edge from 500 rows
    assert all(abs(int(np.count_nonzero(numbers == n)) - 400) <= slack for n in range(10))
    assert np.corrcoef(numbers[1:], popularity[1:])[0, 1] > 0.98


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_promised_lengths_to_the_rounding_of_the_stored_type(sampled: bool, table: np.ndarray, dtype: type) -> None:
    unit = (table / np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)).astype(dtype)
    unit[0] = 0
    facts = TableFacts(padding_row=0, norm=1.0)
    healthy = _result(unit, "norm", facts=facts)
    unit[[11, 3000]] = (unit[[11, 3000]].astype(np.float64) * np.array([[1.02], [0.5]])).astype(dtype)

    result = _result(unit, "norm", facts=facts)

    assert not healthy.red
    assert ("11, 3000", True) == (result.rows, result.red)
    assert result.worst.startswith("row 3000:")


def test_zero_and_broken_rows_are_named_beside_the_padding(sampled: bool, table: np.ndarray) -> None:
    table[[0, 5, 6, 700]] = 0
    table[[9, 3500], 2] = np.nan, np.inf

    assert "5-6, 700" == _result(table, "zero_rows", facts=TableFacts(padding_row=0)).rows
    assert "9, 3500" == _result(table, "finite", facts=TableFacts(padding_row=0)).rows


def test_equal_lengths_are_no_fault(sampled: bool) -> None:
    table = np.random.default_rng(0).choice([-1.0, 1.0], size=(3000, 32)).astype(np.float32)

    assert not [r.check for r in audit_table(table, "signs") if r.red]
