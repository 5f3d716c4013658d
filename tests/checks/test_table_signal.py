"""Noise has no signal, however healthy it looks; a planted table has, and is found where it was moved to."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.factorised import sequences_of, sound_tables
from fixtures.records import make_record
from rectest.checks.cooccurrence import ItemPairs
from rectest.checks.result import Verdict
from rectest.checks.table_signal import consecutive_pairs, signal, table_signal

NUM_ITEMS, NUM_GROUPS = 300, 10


def _world(seed: int = 0, num_pairs: int = 800) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of items, pairs within groups, and a table of group directions with noise."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, NUM_GROUPS, NUM_ITEMS + 1)
    first = rng.integers(1, NUM_ITEMS + 1, num_pairs)
    second = np.array([rng.choice(np.flatnonzero(group[1:] == group[i])) + 1 for i in first])
    table = rng.normal(size=(NUM_GROUPS, 64))[group] + rng.normal(size=(NUM_ITEMS + 1, 64))
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


@pytest.mark.parametrize("fault", ["noise", "stale", "none"])
def test_a_part_without_signal_is_named(fault: str) -> None:
    """The last third of the rows is noise, or of other items; the whole has signal all the same."""
    table, pairs, _ = _world(num_pairs=20_000)
    rng = np.random.default_rng(7)
    last = np.arange(201, NUM_ITEMS + 1)
    changes = {"noise": rng.normal(size=(100, 64)), "stale": table[rng.permutation(last)], "none": table[last]}
    table[last] = changes[fault]

    result = table_signal(table, pairs)

    assert result.verdict is (Verdict.PASS if fault == "none" else Verdict.SUSPICIOUS)
    if fault != "none":
        assert "none among rows 226 to 300" in result.figure
        assert result.rows == "226-300"
        assert "stale" in result.detail


def test_a_part_of_few_pairs_is_not_blamed() -> None:
    """The last quarter is noise and has some sixty pairs: too few to say so."""
    table, pairs, _ = _world(num_pairs=1000)
    table[226:] = np.random.default_rng(7).normal(size=(75, 64))

    assert table_signal(table, pairs).verdict is Verdict.PASS


def test_a_shifted_table_is_called_shifted_and_by_how_much() -> None:
    table, pairs, _ = _world()

    result = table_signal(np.roll(table, 1, axis=0), pairs)

    assert result.verdict is Verdict.FAIL
    assert "row i holds item i-1" in result.figure
    assert "other items" in result.detail


def test_a_permuted_table_is_called_noise_or_another_map() -> None:
    table, pairs, _ = _world(num_pairs=4000)

    result = table_signal(np.random.default_rng(0).permutation(table), pairs)

    assert result.verdict is Verdict.FAIL
    assert "another id map" in result.detail


@pytest.mark.parametrize(("strength", "verdict"), [(0.19, Verdict.SUSPICIOUS), (0.4, Verdict.PASS)])
def test_weak_signal_is_not_called_noise(strength: float, verdict: Verdict) -> None:
    _, pairs, group = _world()
    rng = np.random.default_rng(9)
    table = strength * rng.normal(size=(NUM_GROUPS, 64))[group] + rng.normal(size=(NUM_ITEMS + 1, 64))

    result = table_signal(table.astype(np.float32), pairs)

    assert result.verdict is verdict, result


def test_pairs_that_point_apart_are_no_noise() -> None:
    rng = np.random.default_rng(2)
    sign = np.where(np.arange(400) % 2, 1.0, -1.0)[:, None]
    table = sign * rng.normal(size=(1, 16)) + rng.normal(size=(400, 16))
    left = rng.integers(0, 200, 3000) * 2
    pairs = np.stack([left, rng.integers(0, 200, 3000) * 2 + 1], axis=1)

    result = table_signal(table, pairs)

    assert result.verdict is Verdict.SUSPICIOUS
    assert "point apart" in result.detail


def test_too_few_pairs_tell_how_many_are_needed() -> None:
    _, pairs, _ = _world()
    noise = np.random.default_rng(3).normal(size=(NUM_ITEMS + 1, 8))

    result = table_signal(noise, pairs[:100])

    assert result.verdict is Verdict.NOT_MEASURED
    needed = int(re.search(r"about ([0-9,]+) pairs", result.figure)[1].replace(",", ""))
    assert 1_000 < needed < 10_000
    more = np.random.default_rng(4).integers(1, NUM_ITEMS, (2 * needed, 2))
    assert table_signal(noise, more).verdict is Verdict.FAIL


def test_what_is_said_to_be_detectable_is_detected() -> None:
    """Tables of the smallest excess that is told: nearly all must pass."""
    _, pairs, group = _world()
    graph = ItemPairs.from_array(pairs)
    rng, passed = np.random.default_rng(5), 0
    noise = table_signal(rng.normal(size=(NUM_ITEMS + 1, 64)), pairs)
    smallest = float(re.search(r"true excess of ([0-9.]+)", noise.limit)[1])
    for _ in range(40):
        centres, own = rng.normal(size=(NUM_GROUPS, 64))[group], rng.normal(size=(NUM_ITEMS + 1, 64))
        share = 1.1 * smallest / 0.9
        rows = np.sqrt(share) * centres + np.sqrt(1 - share) * own
        passed += table_signal(rows, pairs).verdict is Verdict.PASS

    assert len(graph) > 500
    assert passed >= 37


def test_a_collapsed_table_says_nothing() -> None:
    _, pairs, _ = _world()

    result = table_signal(np.ones((NUM_ITEMS + 1, 8)), pairs)

    assert result.verdict is Verdict.FAIL
    assert "all point one way" in result.figure


@pytest.mark.parametrize("trained", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_sound_tables_have_signal_and_lose_it_when_moved(trained: int | None) -> None:
    rng = np.random.default_rng(0)
    for words, world, table in sound_tables("words-small", trained=1) if trained else sound_tables():
        sequences, _ = sequences_of(world)
        pairs = consecutive_pairs(sequences.items, sequences.offsets, reach=3)
        other = np.vstack([table[:1], rng.permutation(table[1:])])

        assert table_signal(table, pairs).verdict is Verdict.PASS, words
        assert "holds item i-1" in table_signal(np.roll(table, 1, axis=0), pairs).figure, words
        assert "holds item i+2" in table_signal(np.roll(table, -2, axis=0), pairs).figure, words
        assert "last to first" in table_signal(np.ascontiguousarray(table[::-1]), pairs).figure, words
        assert table_signal(other, pairs).verdict in (Verdict.FAIL, Verdict.SUSPICIOUS), words


@pytest.mark.parametrize("trained", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_sound_tables_have_signal_in_every_part_in_the_order_of_popularity(trained: int | None) -> None:
    """The last quarter has the rarest items; in place of noise it is the quarter that is named."""
    for words, world, table in sound_tables("words-small", trained=1) if trained else sound_tables():
        sequences, num_items = sequences_of(world)
        counts = np.bincount(sequences.items, minlength=num_items + 1)
        order = np.concatenate([[0], 1 + np.argsort(-counts[1:], kind="stable")])
        pairs = np.argsort(order)[consecutive_pairs(sequences.items, sequences.offsets, reach=3)]
        faulty = table[order]
        half = (num_items + 1) // 2
        faulty[:half] = np.random.default_rng(0).normal(size=faulty[:half].shape)

        assert table_signal(table[order], pairs).verdict is Verdict.PASS, words
        assert table_signal(faulty, pairs).red, words


def test_a_common_direction_is_no_signal() -> None:
    _, pairs, _ = _world()
    noise = np.random.default_rng(1).normal(size=(NUM_ITEMS + 1, 16)) + 3

    assert table_signal(noise, pairs).verdict is Verdict.FAIL


@pytest.mark.parametrize(("pairs", "match"), [(np.zeros((0, 2)), "0 usable"), (np.array([[1, 999]]), "rows 1 to 999")])
def test_too_few_or_foreign_pairs_are_not_measured(pairs: np.ndarray, match: str) -> None:
    result = table_signal(_world()[0], pairs)

    assert result.verdict is Verdict.NOT_MEASURED
    assert match in result.figure


class TestOfRecord:
    """`signal`: frozen item tables of a run, on the pairs that it recorded."""

    def record(self, *, planted, pairs=True, frozen=True):
        rng = np.random.default_rng(5)
        groups = np.repeat(np.arange(6), 40)
        centres = rng.normal(size=(6, 64))
        noise = rng.normal(size=(240, 64))
        rows = (3 * centres[groups] if planted else 0) + noise
        together = [
            [1 + 40 * (i % 6) + int(j), 1 + 40 * (i % 6) + int(k)]
            for i, (j, k) in enumerate(rng.integers(0, 40, (900, 2)))
        ]
        base = make_record(num_items=240, dim=64)
        facts = {**base.facts, "tables": {"graph": {"space": "item", "padding_row": 0, "frozen": frozen}}}
        facts["inputs"] = {**base.facts["inputs"], **({"consecutive_items": together} if pairs else {})}
        table = np.vstack([np.zeros((1, 64)), rows]).astype(np.float32)
        return replace(base.with_arrays(table__graph=table), facts=facts)

    def test_a_table_of_noise_is_red_and_one_that_knows_is_green(self):
        assert [r.verdict for r in signal(self.record(planted=False))] == [Verdict.FAIL]
        assert [r.verdict for r in signal(self.record(planted=True))] == [Verdict.PASS]

    def test_no_pairs_are_not_measured_and_trained_tables_are_not_asked(self):
        assert [r.verdict for r in signal(self.record(planted=True, pairs=False))] == [Verdict.NOT_MEASURED]
        assert signal(self.record(planted=False, frozen=False)) == []
