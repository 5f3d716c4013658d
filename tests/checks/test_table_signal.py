"""Noise has no signal, however healthy it looks; a planted table has, and loses it when it is shifted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import make_record
from rectest.checks.result import Verdict
from rectest.checks.table_signal import consecutive_pairs, signal, table_signal

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


class TestOfRecord:
    """`signal`: frozen item tables of a run, on the pairs that it recorded."""

    def record(self, *, planted, pairs=True, frozen=True):
        rng = np.random.default_rng(5)
        groups = np.repeat(np.arange(6), 10)
        centres = rng.normal(size=(6, 16))
        noise = rng.normal(size=(60, 16))
        rows = (3 * centres[groups] if planted else 0) + noise
        together = [[1 + 10 * (i % 6) + i % 10, 1 + 10 * (i % 6) + (i + 3) % 10] for i in range(600)]
        base = make_record(num_items=60, dim=16)
        facts = {**base.facts, "tables": {"graph": {"space": "item", "padding_row": 0, "frozen": frozen}}}
        facts["inputs"] = {**base.facts["inputs"], **({"consecutive_items": together} if pairs else {})}
        table = np.vstack([np.zeros((1, 16)), rows]).astype(np.float32)
        return replace(base.with_arrays(table__graph=table), facts=facts)

    def test_a_table_of_noise_is_red_and_one_that_knows_is_green(self):
        assert [r.verdict for r in signal(self.record(planted=False))] == [Verdict.FAIL]
        assert [r.verdict for r in signal(self.record(planted=True))] == [Verdict.PASS]

    def test_no_pairs_are_not_measured_and_trained_tables_are_not_asked(self):
        assert [r.verdict for r in signal(self.record(planted=True, pairs=False))] == [Verdict.NOT_MEASURED]
        assert signal(self.record(planted=False, frozen=False)) == []
