"""Splits: hand-made cuts, healthy worlds under many seeds, and planted faults down to a single row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.splits import SPLITS, parts_of, small_log
from rectest.checks.event_log import Events
from rectest.checks.result import Verdict
from rectest.checks.splits import cold, cut_of, disjoint, split_checks, time_order

HEALTHY = ("tiny", "tiny-repeats", "tiny-cold", "tiny-equal-times", "tiny-revisits", "tiny-behaviours")


def make(rows, name="log", *, timed=True):
    user, item, time = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Events(name=name, user=user, item=item, time=time if timed else None)


def without_times(part):
    return replace(part, time=None)


def verdicts(results):
    return {(result.check, result.subject): result.verdict for result in results}


def red(results):
    return [result for result in results if result.red]


def moved(part, row, **changes):
    """The part with one cell of one row changed."""
    columns = {name: getattr(part, name).copy() for name in changes}
    for name, value in changes.items():
        columns[name][row] = value
    return replace(part, **columns)


def joined(part, other, rows):
    """The part with rows of another one added."""
    extra = other.select(rows)
    columns = {name: np.append(getattr(part, name), getattr(extra, name)) for name in ("user", "item", "time")}
    return replace(part, **columns)


def test_a_cut_by_hand():
    """User 0 has 10, 20, 30 in training and 20 held out: one and a half of three lie before; user 1 is ordered."""
    train = make([(0, 1, 10), (0, 2, 20), (0, 3, 30), (1, 1, 5)])
    held_out = make([(0, 4, 20), (1, 2, 6), (2, 2, 7)])

    cut = cut_of(train, held_out)

    assert [True, False, False] == cut.late.tolist()
    assert [True, True, False] == cut.shared.tolist()
    assert cut.position == (0.5 + 1.0) / 2
    assert cut.one_each
    assert cut.overlap


@pytest.mark.parametrize("kind", SPLITS)
def test_the_protocol_is_named(kind):
    """Each way to split a world is recognised."""
    train, _, test = parts_of(small_log(seed=1), kind)

    assert kind == cut_of(train, test).kind


@pytest.mark.parametrize("world", HEALTHY)
@pytest.mark.parametrize("kind", [kind for kind in SPLITS if kind != "random"])
def test_healthy_splits_are_green(world, kind):
    """No false alarm in ten seeds of each world and each ordered split, with times and without."""
    for seed in range(10):
        log = small_log(world, seed)
        parts = parts_of(log, kind, seed=seed)

        assert red(split_checks(parts)) == [], seed
        assert red(disjoint([without_times(part) for part in parts])) == [], seed


def test_a_random_split_is_a_warning_and_none_when_it_is_meant():
    """Under thirty seeds; what was declared is not reported."""
    for seed in range(30):
        parts = parts_of(small_log(seed=seed), "random", seed=seed)
        found = {result.verdict for result in time_order(parts)}

        assert found == {Verdict.SUSPICIOUS}
        assert red(time_order(parts, protocol="random")) == []


@pytest.mark.parametrize("world", ["tiny", "tiny-repeats", "tiny-revisits", "tiny-behaviours"])
def test_a_random_split_without_times_is_disjoint(world):
    """Returning users put pairs into both parts; ten seeds."""
    for seed in range(10):
        parts = parts_of(small_log(world, seed), "random", seed=seed, timed=False)

        assert red(disjoint(parts)) == [], seed


def test_one_common_event_is_found():
    """A single copy between parts, with its line."""
    train, valid, test = parts_of(small_log(), "leave-last-out")
    leaky = joined(train, test, np.array([17]))

    found = red(disjoint([leaky, valid, test]))

    assert [("splits/disjoint", Verdict.FAIL)] == [(result.check, result.verdict) for result in found]
    assert found[0].worst == "test line 18"
    assert found[0].rows == "18"


@pytest.mark.parametrize("world", ["tiny", "tiny-repeats"])
def test_training_on_everything_is_found_without_times(world):
    """The training file was written before the split, in worlds with and without returns."""
    train, valid, test = parts_of(small_log(world), "leave-last-out")
    whole = joined(joined(train, valid, slice(None)), test, slice(None))

    found = red(disjoint([without_times(part) for part in (whole, valid, test)]))

    assert {"train and valid", "train and test"} == {result.subject for result in found}


def test_one_row_out_of_order_is_an_error():
    """In a split that is ordered otherwise, a single event before its user's training is FAIL with its line."""
    train, _, test = parts_of(small_log(), "leave-last-out")
    early = moved(test, 5, time=0)

    found = list(time_order([train, early]))

    assert [Verdict.FAIL] == [result.verdict for result in found]
    assert found[0].rows == "6"


def test_a_reversed_split_is_an_error():
    """The first events were held out: the sort was descending."""
    train, valid, test = parts_of(small_log(), "leave-last-out")
    turned = [replace(part, time=-part.time) for part in (train, valid, test)]

    found = list(time_order(turned))

    assert {Verdict.FAIL} == {result.verdict for result in found}
    assert "first events" in found[0].figure


def test_milliseconds_in_training_are_out_of_order():
    """Training in ms and test in s: every held-out event seems to come first."""
    train, _, test = parts_of(small_log(), "leave-last-out")

    assert red(time_order([replace(train, time=1000 * train.time), test]))


@pytest.mark.parametrize(
    ("kind", "protocol", "good"),
    [
        ("leave-last-out", "leave-last-out", True),
        ("leave-last-out", "temporal", False),
        ("leave-last-out", "users", False),
        ("temporal", "temporal", True),
        ("temporal", "ordered", True),
        ("ordered", "leave-last-out", False),
        ("users", "users", True),
        ("random", "ordered", False),
        ("random", "users", False),
        ("random", "random", True),
    ],
)
def test_a_declared_protocol_is_held_to(kind, protocol, good):
    """What contradicts --protocol is an error."""
    train, _, test = parts_of(small_log("tiny-cold"), kind)

    found = list(time_order([train, test], protocol=protocol))

    assert {Verdict.PASS if good else Verdict.FAIL} == {result.verdict for result in found}


def test_cold_users_and_items_are_counted():
    """One of four held-out events is of an unknown item, none of an unknown user."""
    train = make([(0, 1, 1), (1, 2, 1)])
    test = make([(0, 2, 2), (1, 1, 2), (0, 9, 3), (1, 1, 3)])

    users, items = cold(train, test)

    assert (Verdict.PASS, Verdict.SUSPICIOUS) == (users.verdict, items.verdict)
    assert "0.750" in items.detail
    assert items.rows == "3"


def test_ids_made_anew_for_each_part_are_cold():
    """Items shifted beyond the catalogue of training, and users partly."""
    train, _, test = parts_of(small_log(), "leave-last-out")
    strange = replace(test, item=test.item + 1000, user=np.where(test.user < 60, test.user, test.user + 1000))

    assert {"splits/cold_items", "splits/cold_users"} == {result.check for result in red(cold(train, strange))}


def test_users_of_another_spelling_are_no_users_split():
    """Nobody of the test is known: one event each, or a validation part whose users are known, speak against it."""
    train, valid, test = parts_of(small_log(), "leave-last-out")
    strange = replace(test, user=test.user + 1000)
    several = make([(2000, 1, 9), (2000, 2, 9), (2001, 1, 9), (2001, 3, 9)])

    for parts in ([train, strange], [train, valid, strange], [train, valid, several]):
        (found,) = [r for r in split_checks(parts) if r.check == "splits/cold_users" and r.red]

        assert "form of the ids" in found.advice
    assert not [r for r in split_checks([train, several]) if r.check == "splits/cold_users"]
    assert not [r for r in split_checks([train, strange], protocol="users") if r.check == "splits/cold_users"]


def test_a_protocol_that_the_rows_do_not_follow_is_named_as_such():
    """Leave-last-out, declared temporal: no row is out of its user's order, so none is blamed for it."""
    train, _, test = parts_of(small_log(), "leave-last-out")

    (found,) = time_order([train, test], protocol="temporal")

    assert found.expected == "temporal: events that lie after all that is trained on"
    assert found.detail == "the rows follow another protocol than the one that was named"
    assert "as temporal" in found.advice


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_position_is_that_of_counting(seed):
    """The vectorised mean position equals the one counted row by row."""
    rng = np.random.default_rng(seed)
    train = make(rng.integers(0, 5, (12, 3)).tolist())
    held_out = make(rng.integers(0, 5, (6, 3)).tolist())
    expected = []
    for user, time in zip(held_out.user, held_out.time, strict=True):
        own = train.time[train.user == user]
        if len(own):
            expected.append(((own < time).sum() + (own == time).sum() / 2) / len(own))

    cut = cut_of(train, held_out)

    assert pytest.approx(np.mean(expected) if expected else 1.0) == cut.position


def test_what_cannot_be_judged_is_refused():
    """One part, an unknown protocol, parts without times."""
    log = make([(0, 1, 1)])
    with pytest.raises(ValueError, match="at least two parts, got 1"):
        split_checks([log])
    with pytest.raises(ValueError, match="protocol must be one of"):
        split_checks([log, log], protocol="chronological")
    with pytest.raises(ValueError, match="rows and times"):
        cut_of(log, make([(0, 1, 1)], timed=False))
