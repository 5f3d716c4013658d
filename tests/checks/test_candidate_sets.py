"""Candidate sets: drawn soundly under many seeds, and spoiled in one row or in all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.splits import parts_of, small_log
from rectest.checks.candidate_sets import ABSENT, UNKNOWN, Candidates, candidate_checks, law_of, padded, same_law
from rectest.checks.event_log import Events
from rectest.checks.result import Verdict

NUM_ITEMS = 41


def long_tail(seed, *, num_users=150, num_items=400, length=12):
    """A training log of Zipf's popularity, and one held-out item of each user."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, num_items + 1)
    item = rng.choice(num_items, size=(num_users, length + 1), p=weights / weights.sum())
    user = np.repeat(np.arange(num_users), length)
    return Events(name="train", user=user, item=item[:, 1:].reshape(-1)), item[:, 0]


def draw(train, target, seed, *, num=20, num_items=400, law="uniform", seen=False, with_target=False):
    """Distinct negatives for each user; the target, where wanted, at a random place."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(train.item, minlength=num_items).astype(float)
    rows = []
    for user, own in enumerate(target):
        allowed = np.ones(num_items) if law == "uniform" else counts + 1e-9
        allowed[own] = 0
        if not seen:
            allowed[train.item[train.user == user]] = 0
        row = rng.choice(num_items, size=num, replace=False, p=allowed / allowed.sum())
        rows.append(rng.permutation(np.append(row, own)) if with_target else row)
    return Candidates(name="candidates", items=np.array(rows), target=target, user=np.arange(len(target)))


def red(results):
    return [result.check for result in results if result.red]


def checked(sets, train, num_items=400):
    return candidate_checks(sets, train, num_items=num_items)


@pytest.mark.parametrize("law", ["uniform", "by popularity"])
@pytest.mark.parametrize("with_target", [False, True])
def test_sound_sets_are_green_and_their_law_is_named(law, with_target):
    """Thirty seeds without a false alarm."""
    for seed in range(8):
        train, target = long_tail(seed)
        sets = draw(train, target, seed, law=law, with_target=with_target)
        results = checked(sets, train)

        assert red(results) == [], seed
        assert law in law_of(sets, train, num_items=400).name


def test_uniform_sets_of_a_world_are_green():
    """A planted world, thirty seeds."""
    for seed in range(30):
        train, _, test = parts_of(small_log(seed=seed), "leave-last-out")
        rng = np.random.default_rng(seed)
        rows = []
        for user, own in zip(test.user, test.item, strict=True):
            free = np.setdiff1d(np.arange(1, NUM_ITEMS), np.append(train.item[train.user == user], own))
            rows.append(rng.choice(free, size=10, replace=False))
        sets = Candidates(name="c", items=np.array(rows), target=test.item, user=test.user)

        assert red(checked(sets, train, NUM_ITEMS)) == [], seed


@pytest.mark.parametrize("with_target", [False, True])
def test_a_target_among_its_negatives_is_found_in_one_row(with_target):
    """A second copy, or a first one where there should be none."""
    train, target = long_tail(0)
    sets = draw(train, target, 0, with_target=with_target)
    items = sets.items.copy()
    place = int(np.argmax(items[7] != target[7]))
    items[7, place] = target[7]

    found = next(r for r in checked(replace(sets, items=items), train) if r.check == "candidates/target")

    assert (Verdict.FAIL, "7") == (found.verdict, found.rows)


def test_a_target_that_is_absent_is_found():
    """One row of sets that hold their target has lost it."""
    train, target = long_tail(0)
    sets = draw(train, target, 0, with_target=True)
    items = np.where((sets.items == target[:, None]) & (np.arange(150) == 3)[:, None], 399, sets.items)

    assert "candidates/target" in red(checked(replace(sets, items=items), train))


def test_a_duplicate_is_found_in_one_row():
    """One repeated negative."""
    train, target = long_tail(0)
    sets = draw(train, target, 0)
    items = sets.items.copy()
    items[9, 0] = items[9, 5]

    assert red(checked(replace(sets, items=items), train)) == ["candidates/duplicates"]


def test_empty_slots_and_strangers_are_found():
    """A slot that was never filled, and an id that no file has."""
    train, target = long_tail(0)
    sets = draw(train, target, 0)
    for code, check in ((ABSENT, "candidates/empty"), (UNKNOWN, "candidates/unknown")):
        items = sets.items.copy()
        items[4, 2] = code

        assert red(checked(replace(sets, items=items), train)) == [check]


def test_seen_items_are_a_warning():
    """Draws that leave out the target alone meet what the user has seen."""
    train, target = long_tail(0)

    assert "candidates/seen" in red(checked(draw(train, target, 0, seen=True, law="by popularity"), train))


@pytest.mark.parametrize("place", [0, -1])
def test_a_target_that_is_always_at_one_place_is_a_warning(place):
    """First or last."""
    train, target = long_tail(0)
    sets = draw(train, target, 0)
    parts = (target[:, None], sets.items) if place == 0 else (sets.items, target[:, None])

    assert red(checked(replace(sets, items=np.hstack(parts)), train)) == ["candidates/target_place"]


def test_two_laws_are_a_warning():
    """Validation drawn uniformly, the test by popularity."""
    train, target = long_tail(0)
    sets = [draw(train, target, 0, law=law) for law in ("uniform", "by popularity", "uniform")]
    laws = [(s.name, law_of(s, train, num_items=400)) for s in sets]

    assert [Verdict.SUSPICIOUS] == [r.verdict for r in same_law(laws[0], laws[1])]
    assert [Verdict.PASS] == [r.verdict for r in same_law(laws[0], laws[2])]


def test_the_law_of_nothing_is_none():
    """Sets without a negative, and items that are all as popular."""
    target = np.arange(3)
    alone = Candidates(name="c", items=target[:, None], target=target, user=np.arange(3))
    train = Events(name="train", user=np.array([5, 5, 5, 5]), item=np.arange(4))

    assert law_of(alone, train, num_items=4) is None


def test_sets_that_do_not_fit_are_refused():
    """Another number of targets, no candidate at all."""
    with pytest.raises(ValueError, match="candidates must be"):
        Candidates(name="c", items=np.zeros((3, 2), dtype=np.int64), target=np.zeros(2), user=np.zeros(3))
    with pytest.raises(ValueError, match="candidates must be"):
        Candidates(name="c", items=np.zeros((3, 0), dtype=np.int64), target=np.zeros(3), user=np.zeros(3))


def test_rows_are_padded_to_one_length():
    """By hand."""
    assert [[1, 2], [3, ABSENT]] == padded([[1, 2], [3]]).tolist()
