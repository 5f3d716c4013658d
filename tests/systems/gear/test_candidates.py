"""Candidates: what they hold, what they depend on, and a cache that must not confuse them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.errors import DataError
from rectest.systems.gear.candidates import CandidateCache, CandidateKey, draw_candidates, seen_candidates

KEY = CandidateKey(data="blake2b:0", split="test", num_drawn=9)


def test_one_row_by_hand():
    """Items 1..6, three of them touched, three to be drawn: no choice is left but the order."""
    rows = draw_candidates([np.array([2, 5, 2, 1])], np.array([5]), num_items=6, num_drawn=3, split="test")

    assert sorted(rows[0].tolist()) == [3, 4, 5, 6]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_candidates_are_the_target_and_distinct_untouched_items(data):
    num_items = data.draw(st.integers(8, 40))
    own = data.draw(st.lists(st.integers(1, num_items), min_size=1, max_size=num_items - 4))
    num_drawn = data.draw(st.integers(1, num_items - len(set(own))))
    (row,) = draw_candidates(
        [np.array(own)], np.array([own[-1]]), num_items=num_items, num_drawn=num_drawn, split="valid"
    ).tolist()

    assert len(row) == len(set(row)) == 1 + num_drawn
    assert set(row) & set(own) == {own[-1]}
    assert 1 <= min(row) <= max(row) <= num_items


def test_untouched_items_are_equally_likely_and_the_slot_says_nothing():
    own, targets = [np.array([3, 7])] * 2000, np.full(2000, 7)
    rows = draw_candidates(own, targets, num_items=12, num_drawn=4, split="test")
    counts = np.bincount(rows.reshape(-1), minlength=13)
    slots = np.bincount((rows == 7).argmax(axis=1), minlength=5)

    assert counts[3] == 0
    assert counts[7] == 2000
    assert (np.abs(np.delete(counts, [0, 3, 7]) - 800) < 5 * np.sqrt(800 * 0.6)).all()
    assert (np.abs(slots - 400) < 5 * np.sqrt(400 * 0.8)).all()


def test_a_user_is_judged_on_the_same_candidates_whoever_comes_later():
    own, targets = [np.array([1]), np.array([2])], np.array([1, 2])
    both = draw_candidates(own, targets, num_items=20, num_drawn=9, split="test")
    alone = draw_candidates(own[:1], targets[:1], num_items=20, num_drawn=9, split="test")

    assert np.array_equal(both[:1], alone)
    assert not np.array_equal(both, draw_candidates(own, targets, num_items=20, num_drawn=9, split="valid"))


def test_too_few_items_are_refused():
    with pytest.raises(DataError, match=r"leaves 3 items to draw 4 candidates from; lower eval_candidates"):
        draw_candidates([np.array([1, 2])], np.array([2]), num_items=5, num_drawn=4, split="test")


def test_seen_candidates_counts_what_should_not_be_there():
    own, targets = [np.array([1, 2, 3])], np.array([3])

    assert seen_candidates(np.array([[3, 4, 5]]), own, targets) == 0
    assert seen_candidates(np.array([[3, 4, 1]]), own, targets) == 1
    assert seen_candidates(np.array([[3, 3, 2]]), own, targets) == 2


@pytest.mark.parametrize("change", [{"data": "blake2b:1"}, {"split": "valid"}, {"num_drawn": 8}, {"seed": 1}], ids=str)
def test_the_key_covers_everything(change):
    assert KEY.digest != replace(KEY, **change).digest
    assert KEY.digest == replace(KEY).digest


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_cache_draws_once_per_key(tmp_path, on_disk):
    cache = CandidateCache(folder=tmp_path if on_disk else None)
    drawn = []

    def draw():
        drawn.append(len(drawn))
        return np.full((2, 3), 1 + len(drawn), dtype=np.int64)

    first, again = cache.get(KEY, draw), cache.get(KEY, draw)
    other = cache.get(replace(KEY, data="blake2b:1"), draw)

    assert drawn == [0, 1]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_files_are_found_by_the_next_process_and_copies_are_private(tmp_path):
    rows = np.arange(6, dtype=np.int64).reshape(2, 3)
    found = CandidateCache(folder=tmp_path).get(KEY, lambda: rows.copy())
    found[0, 0] = 99

    def never():
        pytest.fail("it is kept already")

    assert np.array_equal(rows, CandidateCache(folder=tmp_path).get(KEY, never))
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY.digest}.npy"]


@pytest.mark.parametrize("damage", ["cut", "floats", "pickle"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / f"{KEY.digest}.npy"
    if damage == "cut":
        path.write_bytes(b"\x93NUMPY")
    elif damage == "floats":
        np.save(path, np.zeros((2, 3)))
    else:
        np.save(path, np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="delete the file"):
        CandidateCache(folder=tmp_path).get(KEY, lambda: np.zeros((1, 1), dtype=np.int64))
