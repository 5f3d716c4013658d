"""Other rows of the items: each candidate is found where it is planted, and none in sound tables."""

from __future__ import annotations

import numpy as np
import pytest

from rectest.checks.alignment import BETTER_ERRORS, MAX_SHIFT, alignments, best_other, better, excess_at
from rectest.checks.cooccurrence import ItemPairs
from rectest.checks.rowsource import ArrayRows

NUM_ITEMS = 400


def _grouped(rng: np.random.Generator, *, contiguous: int = 0, num_pairs: int = 6000, strength: float = 1.0):
    """A table of groups with zero row 0 and pairs within groups; contiguous groups have neighbouring ids."""
    ids = np.arange(NUM_ITEMS)
    group = ids // contiguous if contiguous else rng.integers(0, 12, NUM_ITEMS)
    weight = rng.permutation(1 / np.arange(1, NUM_ITEMS + 1) ** 0.8)
    left = rng.choice(NUM_ITEMS, num_pairs, p=weight / weight.sum())
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    right = np.array([members[group[i]][rng.integers(len(members[group[i]]))] for i in left])
    table = strength * rng.normal(size=(group.max() + 1, 16))[group] + rng.normal(size=(NUM_ITEMS, 16))
    return np.vstack([np.zeros((1, 16)), table]).astype(np.float32), ItemPairs.from_array(
        np.stack([left, right], 1) + 1
    )


def _found(table: np.ndarray, pairs: ItemPairs, orders: dict | None = None) -> str:
    """The words of the better candidate, or none."""
    source = ArrayRows(np.ascontiguousarray(table))
    other = best_other(source, pairs, orders)
    return other[0].words if other is not None and better(other[1], excess_at(source, pairs)) else ""


@pytest.mark.parametrize("shift", [size for s in range(1, MAX_SHIFT + 1) for size in (s, -s)])
def test_every_shift_is_named(shift: int) -> None:
    table, pairs = _grouped(np.random.default_rng(abs(shift)))

    words = _found(np.roll(table, shift, axis=0), pairs)

    assert words == f"row i holds item i{-shift:+d}, the rows stand {abs(shift)} too {'high' if shift > 0 else 'low'}"


def test_a_reversed_table_is_named() -> None:
    table, pairs = _grouped(np.random.default_rng(0))

    assert "last to first" in _found(np.concatenate([table[:1], table[:0:-1]]), pairs)
    assert "last to first" in _found(table[::-1], pairs)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_another_order_is_named_with_its_shift(shift: int) -> None:
    rng = np.random.default_rng(4)
    table, pairs = _grouped(rng)
    order = np.concatenate([[-1], 1 + rng.permutation(NUM_ITEMS)])
    other = np.zeros_like(table)
    other[order[1:]] = table[1:]

    words = _found(np.roll(other, shift, axis=0), pairs, {"the sorted ids": order})

    assert "the rows are in the order of the sorted ids" in words
    assert words.endswith({-1: "1 too low", 0: "ids", 1: "1 too high"}[shift])


def test_a_random_permutation_and_noise_have_no_better_rows() -> None:
    rng = np.random.default_rng(5)
    table, pairs = _grouped(rng)

    assert _found(rng.permutation(table), pairs) == ""
    assert _found(rng.normal(size=table.shape).astype(np.float32), pairs) == ""


def test_noise_is_hardly_ever_called_shifted() -> None:
    rng = np.random.default_rng(6)
    _, pairs = _grouped(rng, num_pairs=2000)

    assert not any(_found(rng.normal(size=(NUM_ITEMS + 1, 16)).astype(np.float32), pairs) for _ in range(20))


@pytest.mark.parametrize(("size", "strength"), [(20, 1.0), (50, 0.5), (100, 1.0), (200, 3.0), (100, 0.3)])
def test_sound_tables_of_like_neighbours_are_not_called_shifted(size: int, strength: float) -> None:
    """A shift changes least where neighbouring ids are alike; the limit is twice what is reached here."""
    rng, worst = np.random.default_rng(size), -np.inf
    for _ in range(15):
        table, pairs = _grouped(rng, contiguous=size, strength=strength)
        source, own_rows = ArrayRows(table), pairs.items
        own = excess_at(source, pairs)
        others = [excess_at(source, pairs, own_rows + shift) for shift in (1, -1, 2, -2)]
        worst = max(worst, *((o.excess - own.excess) / np.hypot(o.deviation, own.deviation) for o in others))

    assert worst < 0.7 * BETTER_ERRORS


def test_a_shift_shows_although_neighbours_are_alike() -> None:
    rng = np.random.default_rng(7)
    group = np.repeat(np.arange(200), rng.integers(2, 9, 200))
    left = rng.integers(0, len(group), 20_000)
    first, size = np.searchsorted(group, group[left]), np.bincount(group)[group[left]]
    pairs = ItemPairs.from_array(np.stack([left, first + rng.integers(0, size)], axis=1) + 1)
    rows = 2 * rng.normal(size=(200, 16))[group] + rng.normal(size=(len(group), 16))
    table = np.vstack([np.zeros((1, 16)), rows]).astype(np.float32)
    moved = np.roll(table, 1, axis=0)

    assert excess_at(ArrayRows(moved), pairs).sigmas > 20, "a test for noise alone calls the moved table good"
    assert _found(moved, pairs).startswith("row i holds item i-1")
    assert _found(table, pairs) == ""


def test_candidates_stay_inside_small_tables() -> None:
    assert len(list(alignments(np.array([0, 1]), 2))) == 2 + 3
