"""Counts that know of held-out events, and lists that hold their target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.splits import parts_of, small_log
from rectest.checks.held_out_features import counted_parts, list_holds_target
from rectest.checks.result import Verdict


def counts(parts):
    return np.sum([np.bincount(part.item, minlength=60) for part in parts], axis=0).astype(float)


def lists_of(log, *, late=0):
    """Words, rows and targets: every user's events before each of the last three; `late` events too many."""
    words, rows, targets = [], [], []
    for own in log.sequences():
        for place in range(max(1, len(own) - 3), len(own)):
            history = own[: place + late]
            words.extend(history.tolist())
            rows.extend([len(targets)] * len(history))
            targets.append(int(own[place]))
    return np.array(words), np.array(rows), np.array(targets)


@pytest.mark.parametrize("scale", [1, 0.001])
def test_the_counted_parts_are_named(scale):
    """Counts, or shares, of training alone are in order; every union with a held-out part is an error."""
    train, valid, test = parts_of(small_log(), "ordered")
    unions = [([train], Verdict.PASS), ([train, valid], Verdict.FAIL), ([train, test], Verdict.FAIL)]
    unions.append(([train, valid, test], Verdict.FAIL))

    for chosen, expected in unions:
        found = counted_parts(scale * counts(chosen), [train, valid, test], name="counts.csv")

        assert expected is found.verdict
        assert " and ".join(part.name for part in chosen) in found.figure


def test_counts_of_nothing_known_are_a_warning():
    """One count off by one, logarithms."""
    train, valid, test = parts_of(small_log(), "ordered")
    changed = counts([train])
    changed[3] += 1

    for values in (changed, np.log1p(counts([train]))):
        assert counted_parts(values, [train, valid, test], name="c").verdict is Verdict.SUSPICIOUS


@pytest.mark.parametrize("bad", [np.full(5, np.nan), np.zeros(5), np.full(5, -1.0), np.zeros(0)])
def test_counts_that_are_none_are_not_measured(bad):
    """NaN, zero, negative, empty."""
    parts = parts_of(small_log(), "ordered")

    assert counted_parts(bad, parts, name="c").verdict is Verdict.NOT_MEASURED


@pytest.mark.parametrize("world", ["tiny", "tiny-repeats", "tiny-revisits", "tiny-behaviours"])
def test_lists_before_their_target_are_green(world):
    """In worlds with and without returns, thirty seeds."""
    for seed in range(30):
        words, rows, targets = lists_of(small_log(world, seed))

        assert list_holds_target(words, rows, targets, name="lists")[0].verdict is Verdict.PASS, seed


@pytest.mark.parametrize("world", ["tiny", "tiny-repeats", "tiny-behaviours"])
@pytest.mark.parametrize("late", [1, 2])
def test_lists_that_run_too_far_are_found(world, late):
    """Up to the target, and one past it."""
    words, rows, targets = lists_of(small_log(world), late=late)

    found = list_holds_target(words, rows, targets, name="lists")[0]

    assert found.verdict is Verdict.FAIL


def test_few_leaky_lists_among_clean_ones_are_found():
    """Where nobody returns, eleven of 360 lists."""
    words, rows, targets = lists_of(small_log())
    last = np.flatnonzero(np.append(np.diff(rows) > 0, True))
    leaky = words.copy()
    leaky[last[:11]] = targets[:11]

    found = list_holds_target(leaky, rows, targets, name="lists")[0]

    assert found.verdict is Verdict.FAIL
    assert found.worst == "line 2"


def test_empty_lists_are_not_measured():
    """There is nothing to look through."""
    none = np.zeros(0, dtype=np.int64)

    assert list_holds_target(none, none, np.array([1]), name="lists")[0].verdict is Verdict.NOT_MEASURED


def test_a_part_can_be_left_out():
    """Two parts are enough."""
    train, _, test = parts_of(small_log(), "ordered")

    assert counted_parts(counts([train, replace(test)]), [train, test], name="c").verdict is Verdict.FAIL
