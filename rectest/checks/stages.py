"""What is lost between two stages of a data set (raw, filtered, split), and whether a usual filter explains it.

A k-core, a minimum count applied once, and the dropping of copies are recognised by applying them to the earlier stage
and comparing; what none of them explains is a finding, with who and how many. A stage may never gain an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rectest.checks.event_log import Events, common_events, event_keys
from rectest.checks.result import CheckResult, Verdict, count_of, judged, places, sample

__all__ = ["core", "explained", "min_count", "stage_checks"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def core(user: Ints, item: Ints, *, users: int, items: int) -> Bools:
    """Which rows are in the largest part of a log where every user has `users` and every item `items` rows.

    >>> core(np.array([0, 0, 1, 1, 2]), np.array([5, 6, 5, 6, 5]), users=2, items=2).tolist()
    [True, True, True, True, False]
    """
    kept = np.ones(len(user), dtype=bool)
    while True:
        size = np.count_nonzero(kept)
        few_users = np.bincount(user[kept], minlength=int(user.max(initial=0)) + 1) < users
        few_items = np.bincount(item[kept], minlength=int(item.max(initial=0)) + 1) < items
        kept &= ~few_users[user] & ~few_items[item]
        if np.count_nonzero(kept) == size:
            return kept


def min_count(codes: Ints, smallest: int) -> Bools:
    """Which rows have a code with at least `smallest` rows."""
    kept: Bools = (np.bincount(codes) >= smallest)[codes]
    return kept


def explained(before: Events, after: Events, kept: Bools) -> str:
    """The name of the filter that keeps exactly the rows `kept` of `before`, or "" where none of the usual ones does.

    The smallest counts of a user and of an item in `after` are the only values that a filter can have had.
    """
    if kept.all():
        return "nothing was lost"
    for name, rows in _filters(before, after):
        if np.array_equal(rows, kept):
            return name
    return ""


def _smallest(codes: Ints, *, among: Ints) -> int:
    """The smallest number of rows that one of the codes in `among` has in `codes`."""
    return int(np.bincount(codes)[np.unique(among)].min())


def _filters(log: Events, after: Events) -> Iterator[tuple[str, Bools]]:
    users, items = _smallest(after.user, among=after.user), _smallest(after.item, among=after.item)
    yield f"users with fewer than {users} events", min_count(log.user, users)
    yield f"items with fewer than {items} events", min_count(log.item, items)
    yield f"core of {users} events a user and {items} an item", core(log.user, log.item, users=users, items=items)
    # the first of two filters saw the counts before the second took some away
    first = _smallest(log.user, among=after.user)
    yield (
        f"users with fewer than {first}, then items with fewer than {items} events, once",
        _then(min_count(log.user, first), log.item, items),
    )
    first = _smallest(log.item, among=after.item)
    yield (
        f"items with fewer than {first}, then users with fewer than {users} events, once",
        _then(min_count(log.item, first), log.user, users),
    )
    unique = _first_of_pair(log)
    yield "later events of a user with the same item", unique
    inside = np.flatnonzero(unique)
    rows = np.zeros(len(log), dtype=bool)
    rows[inside[core(log.user[inside], log.item[inside], users=users, items=items)]] = True
    yield f"later events of a user with the same item, then the core of {users} a user and {items} an item", rows


def _then(kept: Bools, codes: Ints, smallest: int) -> Bools:
    """What is left of `kept` when codes with fewer than `smallest` kept rows go as well."""
    rows = kept.copy()
    rows[kept] = (np.bincount(codes[kept]) >= smallest)[codes[kept]]
    return rows


def _first_of_pair(log: Events) -> Bools:
    order = log.order()
    pair = event_keys([log], timed=False)[0][order]
    _, first = np.unique(pair, return_index=True)
    kept = np.zeros(len(log), dtype=bool)
    kept[order[first]] = True
    return kept


def stage_checks(
    before: Events, after: Events, *, is_split: bool = False, names: Sequence[str] = ()
) -> list[CheckResult]:
    """Whether `after` is made of events of `before` (``stages/new``), and what explains the rest (``stages/lost``).

    Args:
        is_split: whether `after` is all parts of a split of `before` together; then a loss that no filter explains is
            FAIL, elsewhere (a filter on ratings or dates may be meant) SUSPICIOUS.
        names: raw ids of the users by code, to name those who are lost.
    """
    timed = before.time is not None and after.time is not None
    strange = ~common_events(after, before, timed=timed)
    kept = common_events(before, after, timed=timed)
    return [_new(before, after, strange), _lost(before, after, kept, is_split=is_split, names=names)]


def _new(before: Events, after: Events, strange: Bools) -> CheckResult:
    return judged(
        "stages/new",
        f"{before.name} to {after.name}",
        ok=not strange.any(),
        figure=f"{count_of(int(strange.sum()), len(after), 'events')} of {after.name} are not in {before.name}",
        expected="every event comes from the stage before",
        limit="0",
        worst=f"{after.name} line {int(np.argmax(strange)) + after.first_line}" if strange.any() else "",
        detail="the later file was made from other data, or ids, times or columns changed on the way"
        if strange.any()
        else "",
        advice="make the later stage again from this file; compare ids and time units first",
        rows=after.lines(strange),
    )


def _lost(before: Events, after: Events, kept: Bools, *, is_split: bool, names: Sequence[str]) -> CheckResult:
    why = explained(before, before.select(kept), kept) if kept.any() else ""
    lost_users = np.setdiff1d(before.user, after.user)
    lost_items = np.setdiff1d(before.item, after.item)
    red = Verdict.FAIL if is_split or not len(after) else Verdict.SUSPICIOUS
    figure = (
        f"{count_of(int((~kept).sum()), len(kept), 'events')}, {len(lost_users)} users and {len(lost_items)} items lost"
    )
    who = sample([names[code] for code in lost_users.tolist()] if len(names) else lost_users.tolist())
    return CheckResult(
        check="stages/lost",
        subject=f"{before.name} to {after.name}",
        verdict=Verdict.PASS if why else red,
        figure=f"{figure}{f': {why}' if why and not kept.all() else ''}",
        expected="nothing, or what a k-core or a minimum count drops",
        worst=f"{before.name} line {int(np.argmin(kept)) + before.first_line}" if not why else "",
        outside="" if why or not len(lost_users) else f"users {who}",
        detail="" if why else _why_lost(before, after, kept, lost_users),
        advice="" if why else "find the step that dropped them; write down its rule and how many it drops",
        rows="" if why else places((np.flatnonzero(~kept) + before.first_line).tolist()),
    )


def _why_lost(before: Events, after: Events, kept: Bools, lost_users: Ints) -> str:
    """What the lost rows have in common, as far as the two files tell."""
    if not len(after):
        return "nothing is left"
    longest = int(np.bincount(after.user).max())
    order = before.order()
    sizes = np.bincount(before.user)
    starts = np.cumsum(sizes) - sizes
    from_end = (sizes - 1)[before.user[order]] - (np.arange(len(before)) - starts[before.user[order]])
    if np.array_equal(kept[order], from_end < longest):
        return f"only the last {longest} events of each user are left: the histories were cut"
    if len(lost_users):
        smallest = int(np.bincount(after.user)[after.user].min())
        enough = int((sizes[lost_users] >= smallest).sum())
        return f"{enough} of the {len(lost_users)} lost users have {smallest} events or more, as others have who stayed"
    return "no minimum count explains it; all users are still there with fewer events"
