"""Noise has no signal, however healthy it looks; a planted table has, and loses it when it is shifted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.result import Verdict
from rectest.checks.table_signal import consecutive_pairs, table_signal

NUM_ITEMS, NUM_GROUPS = 300, 10


def _world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of items, pairs within groups, and a table of group directions with noise."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, NUM_GROUPS, NUM_ITEMS + 1)
    first = rng.integers(1, NUM_ITEMS + 1, 800)
    second = np.array([rng.choice(np.flatnonzero(group[1:] == group[i])) + 1 for i in first])
    table = rng.normal(size=(NUM_GROUPS, 16))[group] + rng.normal(size=(NUM_ITEMS + 1, 16))
    table[0] = 0
    return table.astype(np.float32), np.stack([first, second], axis=1)[first != second], group


def test_a_table_that_knows_its_groups_has_signal() -> None:
    table, pairs, _ = _world()

    assert table_signal(table, pairs).verdict is Verdict.PASS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_normalised_noise_has_none(seed: int) -> None:
    _, pairs, _ = _world()
    noise = np.random.default_rng(seed).normal(size=(NUM_ITEMS + 1, 64))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)

    result = table_signal(noise, pairs)

    assert result.verdict is Verdict.FAIL
    assert "no collaborative signal" in result.detail


def test_a_shifted_table_loses_its_signal() -> None:
    table, pairs, _ = _world()

    assert table_signal(np.roll(table, 1, axis=0), pairs).verdict is Verdict.FAIL


def test_a_common_direction_is_no_signal() -> None:
    _, pairs, _ = _world()
    noise = np.random.default_rng(1).normal(size=(NUM_ITEMS + 1, 16)) + 3

    assert table_signal(noise, pairs).verdict is Verdict.FAIL


@pytest.mark.parametrize(("pairs", "match"), [(np.zeros((0, 2)), "0 usable"), (np.array([[1, 999]]), "rows 1 to 999")])
def test_too_few_or_foreign_pairs_are_not_measured(pairs: np.ndarray, match: str) -> None:
    result = table_signal(_world()[0], pairs)

    assert result.verdict is Verdict.NOT_MEASURED
    assert match in result.figure


def test_pairs_do_not_cross_sequences() -> None:
    items, offsets = np.array([1, 2, 3, 4, 4, 5]), np.array([0, 2, 2, 6])

    assert [[1, 2], [3, 4], [4, 5]] == consecutive_pairs(items, offsets).tolist()
    assert [[1, 2]] == consecutive_pairs(items, offsets, max_pairs=1).tolist()
