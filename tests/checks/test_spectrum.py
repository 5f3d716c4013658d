"""Effective rank, one direction, dead columns and noise: by hand, on planted faults, on sound and on random tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.factorised import sound_tables
from rectest.checks.result import Verdict
from rectest.checks.row_sample import sample_rows
from rectest.checks.spectrum import (
    MAX_TOP_SHARE,
    MIN_RANK_SHARE,
    RANDOM_SIGMAS,
    dead_dimensions,
    effective_rank,
    eigenvalues,
    isotropy,
    one_direction,
    rank,
    spread_sigmas,
)

PASS, SUSPICIOUS = Verdict.PASS, Verdict.SUSPICIOUS


def _noise(seed: int = 0, *, num: int = 1000, dim: int = 32, unit: bool = False) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows).astype(np.float32)


def test_the_effective_rank_by_hand() -> None:
    assert effective_rank(np.array([4.0, 4.0, 0.0])) == pytest.approx(2.0)
    assert effective_rank(np.array([9.0, 1.0])) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert effective_rank(np.zeros(3)) == 0.0


def test_eigenvalues_are_those_of_the_covariance_and_scale_with_the_square() -> None:
    rows = _noise()

    found = eigenvalues(rows)

    assert found == pytest.approx(np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1], rel=1e-5)
    assert eigenvalues(rows * np.float32(1e-15)) == pytest.approx(found * 1e-30, rel=1e-4)


def test_fewer_rows_than_columns_cost_their_own_products() -> None:
    """The products of 5 rows have the eigenvalues of those of 4000 columns, which would be 4000 x 4000."""
    rows = np.random.default_rng(3).normal(size=(5, 4000)).astype(np.float32) + 2
    expected = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[:4] ** 2 / 5

    found = eigenvalues(rows)

    assert len(found) == 5
    assert expected == pytest.approx(found[:4], rel=1e-3)
    assert found[4] < 1e-3 * found[3]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_the_effective_rank_is_at_most_the_rank(seed: int, true_rank: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(200, true_rank)) @ rng.normal(size=(true_rank, 20))).astype(np.float32)

    assert effective_rank(eigenvalues(rows)) <= true_rank + 0.01


def test_a_table_of_few_dimensions_is_red_and_one_of_many_is_not() -> None:
    rng = np.random.default_rng(0)
    tiled = np.tile(rng.normal(size=(1000, 2)), (1, 32)).astype(np.float32)
    nearly = (tiled + 1e-4 * rng.normal(size=(1000, 64))).astype(np.float32)

    assert rank(sample_rows(tiled), "t").verdict is SUSPICIOUS
    assert rank(sample_rows(nearly), "t").verdict is SUSPICIOUS
    assert rank(sample_rows(_noise()), "t").verdict is PASS
    assert rank(sample_rows(_noise(num=3, dim=64)), "t").verdict is PASS, "three rows span two dimensions"


def test_one_direction_is_red() -> None:
    rng = np.random.default_rng(0)
    line = _noise() + 20 * rng.normal(size=(1000, 1)).astype(np.float32)
    outlier = _noise()
    outlier[7] *= 1e3

    assert one_direction(sample_rows(line), "t").verdict is SUSPICIOUS
    assert one_direction(sample_rows(outlier), "t").verdict is SUSPICIOUS
    assert one_direction(sample_rows(_noise()), "t").verdict is PASS
    assert one_direction(sample_rows(np.ones((5, 1), dtype=np.float32)), "t").verdict is PASS


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_dead_columns_are_named(value: float) -> None:
    rows = _noise()
    rows[:, [3, 4, 9]] = value

    result = dead_dimensions(sample_rows(rows), "t")

    assert result.verdict is SUSPICIOUS
    assert "3-4, 9" in result.rows
    assert "3 of 32" in result.figure


def test_a_decayed_column_is_dead_and_a_small_one_is_not() -> None:
    decayed, small = _noise(), _noise()
    decayed[:, 5] *= 1e-6
    small[:, 5] *= 1e-2

    assert dead_dimensions(sample_rows(decayed), "t").verdict is SUSPICIOUS
    assert dead_dimensions(sample_rows(small), "t").verdict is PASS


@pytest.mark.parametrize(("num", "dim"), [(300, 8), (1000, 64), (300, 256), (12_101, 64)])
def test_the_law_of_even_directions(num: int, dim: int) -> None:
    rounds = 12 if num > 1000 else 60
    found = np.array([spread_sigmas(_noise(seed, num=num, dim=dim, unit=True)) for seed in range(rounds)])

    assert np.abs(found.mean(axis=0)).max() < 4 / np.sqrt(rounds)
    assert np.abs(found).max() < RANDOM_SIGMAS
    assert 0.5 < found.std(axis=0).min() <= found.std(axis=0).max() < 1.6


@pytest.mark.parametrize("kind", ["normal", "unit", "uniform", "half"])
def test_noise_of_any_kind_is_told(kind: str) -> None:
    rng = np.random.default_rng(1)
    rows = {
        "normal": _noise(),
        "unit": _noise(unit=True),
        "uniform": rng.uniform(-0.1, 0.1, (1000, 32)).astype(np.float32),
        "half": _noise().astype(np.float16),
    }[kind]

    result = isotropy(sample_rows(rows), "t")

    assert result.verdict is SUSPICIOUS
    assert "--interactions" in result.advice


def test_signal_an_offset_and_whitened_rows_are_no_noise() -> None:
    rng = np.random.default_rng(2)
    grouped = _noise() + rng.normal(size=(10, 32)).astype(np.float32)[rng.integers(0, 10, 1000)]
    white = np.linalg.qr(_noise().astype(np.float64))[0].astype(np.float32)

    assert isotropy(sample_rows(grouped), "t").verdict is PASS
    assert isotropy(sample_rows(_noise() + np.float32(0.1)), "t").verdict is PASS
    assert isotropy(sample_rows(white), "t").verdict is PASS


def test_few_rows_are_not_called_noise() -> None:
    assert isotropy(sample_rows(_noise(num=100)), "t").verdict is PASS


@pytest.mark.parametrize("trained", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_the_limits_are_far_from_sound_tables(trained: int | None) -> None:
    for words, _, table in sound_tables("words-small", trained=1) if trained else sound_tables():
        drawn = sample_rows(table, padding_row=0)
        values = eigenvalues(drawn.vectors)

        assert effective_rank(values) > 3 * MIN_RANK_SHARE * table.shape[1], words
        assert values[0] / values.sum() < 0.8 * MAX_TOP_SHARE, words
        assert max(np.abs(spread_sigmas(drawn.unit))) > 2 * RANDOM_SIGMAS, words
        assert dead_dimensions(drawn, "t").verdict is PASS, words
