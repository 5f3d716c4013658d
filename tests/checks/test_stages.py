"""Stages: filters that explain a loss, losses that nothing explains, and events from nowhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.splits import events_of, parts_of, small_log
from rectest.checks.event_log import Events
from rectest.checks.result import Verdict
from rectest.checks.stages import core, explained, min_count, stage_checks


def random_log(seed, *, num=400, name="raw"):
    """A log with long tails of users and items."""
    rng = np.random.default_rng(seed)
    user, item = (np.floor(30 * rng.random(num) ** 2).astype(np.int64) for _ in range(2))
    return Events(name=name, user=user, item=item, time=rng.permutation(num))


def lost(before, kept, **options):
    after = replace(before.select(kept), name="after")
    return next(result for result in stage_checks(before, after, **options) if result.check == "stages/lost")


def test_a_core_by_hand():
    """Item 6 goes first, then user 1 who has only one row left."""
    user, item = np.array([0, 0, 1, 1, 2, 2]), np.array([5, 7, 5, 6, 5, 7])

    assert [True, True, False, False, True, True] == core(user, item, users=2, items=2).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_a_core_has_its_counts_and_is_the_largest(seed, users, items):
    """All counts reach the limits, and the core of a core is itself."""
    log = random_log(seed, num=120)
    kept = core(log.user, log.item, users=users, items=items)
    user, item = log.user[kept], log.item[kept]

    assert not len(user) or np.unique(user, return_counts=True)[1].min() >= users
    assert not len(item) or np.unique(item, return_counts=True)[1].min() >= items
    assert core(user, item, users=users, items=items).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("users", "items"), [(5, 5), (3, 10), (1, 5), (6, 1)])
def test_a_core_is_named(seed, users, items):
    """Whatever the thresholds were, a k-core explains the loss."""
    log = random_log(seed)
    kept = core(log.user, log.item, users=users, items=items)

    assert lost(log, kept).verdict is Verdict.PASS


@pytest.mark.parametrize("seed", range(10))
def test_filters_that_run_once_are_named(seed):
    """Users first, items first, copies of pairs first."""
    log = random_log(seed)
    by_user, by_item = min_count(log.user, 8), min_count(log.item, 8)
    users_then_items = by_user.copy()
    users_then_items[by_user] = min_count(log.item[by_user], 8)
    _, first = np.unique(log.user[log.order()] * 100 + log.item[log.order()], return_index=True)
    unique = np.zeros(len(log), dtype=bool)
    unique[log.order()[first]] = True

    for kept in (by_user, by_item, users_then_items, unique):
        assert lost(log, kept).verdict is Verdict.PASS


def test_nothing_lost_is_in_order():
    """Every split of a world is the world."""
    log = events_of(small_log())
    for kind in ("leave-last-out", "ordered", "random", "users"):
        parts = parts_of(small_log(), kind)
        whole = Events(
            name="parts", **{c: np.concatenate([getattr(p, c) for p in parts]) for c in ("user", "item", "time")}
        )

        assert {Verdict.PASS} == {result.verdict for result in stage_checks(log, whole, is_split=True)}


@pytest.mark.parametrize("seed", range(10))
def test_one_user_lost_is_found_and_named(seed):
    """A user of usual activity is missing in the split."""
    log = random_log(seed)
    gone = int(np.bincount(log.user).argmax())

    found = lost(log, log.user != gone, is_split=True, names=[f"u{code}" for code in range(40)])

    assert found.verdict is Verdict.FAIL
    assert found.outside == f"users u{gone}"


def test_one_event_lost_is_found():
    """In a stage it is a warning, in a split an error, with its line."""
    log = random_log(3)
    kept = np.ones(len(log), dtype=bool)
    kept[np.flatnonzero(log.user == 0)[3]] = False

    assert lost(log, kept).verdict is Verdict.SUSPICIOUS
    assert lost(log, kept, is_split=True).verdict is Verdict.FAIL
    assert lost(log, kept).rows == str(int(np.argmin(kept)) + 1)


def test_cut_histories_are_said_to_be_cut():
    """Only the last five events of each user are left."""
    log = random_log(0)
    order = log.order()
    user = log.user[order]
    sizes = np.bincount(user)
    from_end = np.cumsum(sizes)[user] - np.arange(len(user)) - 1
    kept = np.zeros(len(log), dtype=bool)
    kept[order] = from_end < 5

    assert "last 5 events" in lost(log, kept).detail


def test_events_from_nowhere_are_an_error():
    """A changed item, a shifted time."""
    log = random_log(0)
    for column in ("item", "time"):
        changed = getattr(log, column).copy()
        changed[7] += 1000
        found = stage_checks(log, replace(log, name="after", **{column: changed}))[0]

        assert ("stages/new", Verdict.FAIL, "8") == (found.check, found.verdict, found.rows)


def test_what_no_filter_explains_has_no_name():
    """Every third event."""
    log = random_log(0)
    kept = np.arange(len(log)) % 3 > 0

    assert explained(log, log.select(kept), kept) == ""
