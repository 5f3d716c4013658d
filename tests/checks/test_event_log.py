"""One log: units, odd times, ties ordered by id, copies, and one user who is everybody."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.splits import NOW, events_of, small_log
from rectest.checks.event_log import Events, dominating_user, event_keys, log_checks, repeats, tie_order, time_values
from rectest.checks.result import Verdict
from rectest.checks.tolerance import ALPHA
from rectest.data.worlds import WORLDS


def one(results, check):
    return next(result for result in results if result.check == check)


def red(results):
    return [result.check for result in results if result.red]


def of_times(*times):
    return Events(
        name="log",
        user=np.arange(len(times)) % 3,
        item=np.arange(len(times)),
        time=np.array(times, dtype=np.int64),
        first_line=2,
    )


def tied(rng, *, num_groups=40, size=4, by_id=1.0):
    """Groups of events at one moment; a share of them in the order of ids."""
    items = np.stack([rng.choice(100, size=size, replace=False) for _ in range(num_groups)])
    ordered = rng.random(num_groups) < by_id
    items[ordered] = np.sort(items[ordered], axis=1)
    time = np.repeat(np.arange(num_groups), size)
    return Events(name="log", user=time % 5, item=items.reshape(-1), time=time)


@pytest.mark.parametrize("world", [name for name in WORLDS if name.startswith("tiny")])
def test_healthy_worlds_are_green(world):
    """No false alarm in thirty seeds of every small world."""
    for seed in range(30):
        assert red(log_checks(events_of(small_log(world, seed)), now=NOW)) == [], seed


def test_two_units_are_an_error_with_their_rows():
    """One event in milliseconds among seconds."""
    log = of_times(1_600_000_000, 1_600_000_100, 1_600_000_200_000, 1_600_000_300)

    found = one(time_values(log, now=NOW), "data/time_unit")

    assert Verdict.FAIL is found.verdict
    assert found.rows == "4"


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_every_unit_is_fine_alone(scale):
    """Seconds to nanoseconds."""
    log = of_times(*(scale * np.array([1_600_000_000, 1_600_000_100])))

    assert red(time_values(log, now=NOW)) == []


def test_steps_are_no_moments():
    """Small numbers are not judged as dates."""
    assert red(time_values(of_times(1, 2, 3), now=NOW)) == []


def test_constant_times_are_a_warning():
    """All events at one moment."""
    assert red(time_values(of_times(5, 5, 5), now=NOW)) == ["data/time_constant"]


@pytest.mark.parametrize("odd", [0, -1, NOW + 200_000])
def test_zero_and_future_times_are_a_warning(odd):
    """One odd time among moments, with its line."""
    log = of_times(1_600_000_000, odd, 1_600_000_100)

    found = one(time_values(log, now=NOW), "data/time_range")

    assert Verdict.SUSPICIOUS is found.verdict
    assert found.rows == "3"


@pytest.mark.parametrize("direction", [1, -1])
def test_ties_in_the_order_of_ids_are_found(direction):
    """Ascending or descending, whole or in most groups."""
    rng = np.random.default_rng(0)
    for share in (1.0, 0.8):
        log = tied(rng, by_id=share, num_groups=60)
        turned = replace(log, item=direction * log.item + 100)

        assert red(tie_order(turned)) == ["data/tie_order"]


def test_few_ties_prove_nothing():
    """Eight tied pairs in order have p = 1/256, which many logs reach by chance."""
    assert red(tie_order(tied(np.random.default_rng(0), num_groups=8, size=2))) == []


def test_ids_in_the_order_of_appearance_are_no_tie_order():
    """Where ids ascend between moments as well, ascending ties tell nothing."""
    num = 400
    log = Events(name="log", user=np.repeat(np.arange(4), 100), item=np.arange(num), time=np.repeat(np.arange(200), 2))

    assert red(tie_order(log)) == []


def test_random_ties_alarm_as_rarely_as_promised():
    """400 logs of random ties of two to six: at most what a rate of alpha / 2 gives in 99.9 % of cases."""
    alarms = sum(
        bool(red(tie_order(tied(np.random.default_rng(seed), by_id=0.0, size=2 + seed % 5)))) for seed in range(400)
    )

    assert alarms <= 400 * ALPHA / 2 + 3


def test_copies_are_a_warning_with_their_lines():
    """The same user, item and time again; the same item later is a return."""
    log = Events(name="log", user=np.array([0, 0, 0]), item=np.array([7, 7, 7]), time=np.array([1, 2, 1]), first_line=2)

    results = list(repeats(log))

    assert one(results, "data/repeated_events").rows == "4"
    assert "2 of 3 events" in one(results, "data/returns").figure
    assert red(results) == ["data/repeated_events"]


def test_one_user_who_is_everybody():
    """A crawler among thirty users."""
    user = np.append(np.repeat(np.arange(30), 5), np.full(20, 7))
    crawled = Events(name="log", user=user, item=np.arange(len(user)))

    assert dominating_user(crawled).verdict is Verdict.SUSPICIOUS
    assert dominating_user(crawled.select(np.arange(150))).verdict is Verdict.PASS


def test_keys_are_equal_where_events_are():
    """Pairs and triples over two logs, by hand."""
    first = Events(name="a", user=np.array([0, 1]), item=np.array([3, 2]), time=np.array([5, 5]))
    second = Events(name="b", user=np.array([0, 1, 0]), item=np.array([3, 2, 2]), time=np.array([5, 6, 5]))

    pairs, timed = (event_keys([first, second], timed=timed) for timed in (False, True))

    assert [True, True, False] == np.isin(pairs[1], pairs[0]).tolist()
    assert [True, False, False] == np.isin(timed[1], timed[0]).tolist()
