"""One log of events: its times, its ties, its repeats, and who dominates it.

`Events` is what all checks of data read: dense codes instead of raw ids, in file order. How splits relate is judged in
`splits`, what is lost between stages in `stages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, Verdict, count_of, judged, percent, places
from rectest.checks.tolerance import ALPHA, binomial_tail, z_limit

__all__ = ["Events", "common_events", "event_keys", "log_checks", "repeats", "tie_order", "time_values"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_OLDEST = 315_532_800
"""1980 in seconds; no log of a recommender is older, and windows of the units are decades apart."""
_NEWEST = 7_258_118_400
"""2200 in seconds."""

DOMINANT_SHARE = 0.1
"""Share of all events at which one user is news; the most active of MovieLens-100K's 943 users has 0.74 %."""
_DOMINANT_USERS = 20

_LATE_ADVICE = "name the rows' unit and convert all times to one, before anything is sorted or split"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Events:
    """The events of one file, in file order; codes are shared with the other files of an audit."""

    name: str
    user: Ints
    item: Ints
    """Codes in the order of the raw ids: numeric where all are numbers, else by code point."""
    time: Ints | None = None
    first_line: int = 1
    """Number of the line of the first event; rows are named by it."""

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: Bools | Ints) -> Events:
        """Some of the events; they keep the name and lose their line numbers."""
        time = None if self.time is None else self.time[rows]
        return Events(name=self.name, user=self.user[rows], item=self.item[rows], time=time)

    def lines(self, rows: Bools) -> str:
        """The line numbers of a mask, for machines."""
        return places((np.flatnonzero(rows) + self.first_line).tolist()) if rows.any() else ""

    def order(self) -> Ints:
        """Rows by user, then time, then place in the file."""
        keys = (self.user,) if self.time is None else (self.time, self.user)
        return np.lexsort(keys)


def event_keys(parts: Sequence[Events], *, timed: bool) -> list[Ints]:
    """One number for each event, equal where user and item are (and, where `timed`, the time), over all parts."""
    user = np.concatenate([part.user for part in parts])
    item = np.concatenate([part.item for part in parts])
    keys = user * (int(item.max(initial=0)) + 1) + item
    if timed:
        times = np.concatenate([part.time for part in parts if part.time is not None])
        _, pair = np.unique(keys, return_inverse=True)
        moments, moment = np.unique(times, return_inverse=True)
        keys = pair.astype(np.int64) * len(moments) + moment
    return np.split(keys, np.cumsum([len(part) for part in parts])[:-1])


def common_events(part: Events, other: Events, *, timed: bool) -> Bools:
    """Which events of `part` are in `other`, too; times are looked at where the pair of user and item is."""
    own, theirs = event_keys([part, other], timed=False)
    common = np.isin(own, theirs)
    if timed and common.any():
        rows, others = np.flatnonzero(common), np.flatnonzero(np.isin(theirs, own[common]))
        keys = event_keys([part.select(rows), other.select(others)], timed=True)
        common[rows] = np.isin(keys[0], keys[1])
    return common


def log_checks(events: Events, *, now: float) -> list[CheckResult]:
    """Every check of one log; what needs times is left out where there are none.

    Args:
        now: seconds since 1970, for times that lie in the future.
    """
    return [*time_values(events, now=now), *tie_order(events), *repeats(events), dominating_user(events)]


def time_values(events: Events, *, now: float) -> Iterator[CheckResult]:
    """Whether times are moments: of one unit, not constant, none at zero or before, none to come."""
    time = events.time
    if time is None or not len(time):
        return
    windows = {unit: (time >= _OLDEST * scale) & (time < _NEWEST * scale) for unit, scale in UNITS.items()}
    used = {unit: inside for unit, inside in windows.items() if inside.any()}
    yield _unit(events, used)
    yield _constant(events, time)
    if len(used) == 1:
        unit, inside = next(iter(used.items()))
        yield _odd_moments(events, time, unit, inside, now=now)


def _unit(events: Events, used: dict[str, Bools]) -> CheckResult:
    most = max(used, key=lambda unit: int(used[unit].sum()), default="")
    others = np.zeros(len(events), dtype=bool)
    for unit, inside in used.items():
        others |= inside & (unit != most)
    shares = ", ".join(f"{inside.sum()} in {unit}" for unit, inside in used.items())
    return judged(
        "data/time_unit",
        events.name,
        ok=len(used) < 2,
        figure=f"times in {shares}" if used else "times are numbers of another kind, such as steps",
        expected="one unit",
        worst="" if len(used) < 2 else f"line {int(np.argmax(others)) + events.first_line}",
        detail="" if len(used) < 2 else "sorting by time puts all of one unit before all of the other",
        advice=_LATE_ADVICE,
        rows=events.lines(others),
    )


def _constant(events: Events, time: Ints) -> CheckResult:
    constant = len(time) > 1 and bool((time == time[0]).all())
    return CheckResult(
        check="data/time_constant",
        subject=events.name,
        verdict=Verdict.SUSPICIOUS if constant else Verdict.PASS,
        figure=f"all {len(time)} events have the time {time[0]}" if constant else "times differ",
        expected="times that order the events",
        detail="every order by time is the order of the rows in the file" if constant else "",
        advice="find out whether the rows are in the order of events; if not, the log has no order" if constant else "",
    )


def _odd_moments(events: Events, time: Ints, unit: str, inside: Bools, *, now: float) -> CheckResult:
    scale = UNITS[unit]
    early, late = ~inside & (time < _OLDEST * scale), time > (now + 86_400) * scale
    odd = early | late
    kinds = [f"{early.sum()} before 1980"] if early.any() else []
    kinds += [f"{late.sum()} in the future"] if late.any() else []
    worst = int(np.argmax(odd))
    return CheckResult(
        check="data/time_range",
        subject=events.name,
        verdict=Verdict.SUSPICIOUS if kinds else Verdict.PASS,
        figure=f"times: {', '.join(kinds)}" if kinds else f"{_date(time.min() / scale)} to {_date(time.max() / scale)}",
        expected=f"moments between 1980 and {_date(now)}, in {unit}",
        worst=f"line {worst + events.first_line}: time {time[worst]}" if kinds else "",
        outside=count_of(int(odd.sum()), len(time), "events") if kinds else "",
        detail="a time that stands for 'unknown' sorts before or after all others" if kinds else "",
        advice="drop the events or their users; a last event with such a time becomes a test target" if kinds else "",
        rows=events.lines(odd),
    )


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), tz=UTC).date().isoformat()


def tie_order(events: Events, *, alpha: float = ALPHA) -> Iterator[CheckResult]:
    """Whether events of one user at one moment are ordered by their ids (``data/tie_order``), and how many there are.

    Within a tie of distinct items, disjoint neighbours in the file are ascending with probability 1/2 each,
    independently, whatever the size of the tie, when the order has nothing to do with the ids. Where the same user's
    neighbours at different times ascend more often than that (ids were given in order of appearance), their rate is
    the one to beat, taken at its upper confidence limit. Both directions are tested.
    """
    if events.time is None or len(events) < 2:
        return
    order = events.order()
    user, item, time = events.user[order], events.item[order], events.time[order]
    same_user = user[1:] == user[:-1]
    tied = same_user & (time[1:] == time[:-1])
    place = _place_in_run(tied)
    differ = item[1:] != item[:-1]
    pairs = tied & differ & (place[:-1] % 2 == 0)
    apart = same_user & ~tied & differ
    up = item[1:] > item[:-1]
    num, num_apart = int(pairs.sum()), int(apart.sum())
    hits, base = int((up & pairs).sum()), int((up & apart).sum())
    p_up, rate_up = _excess(hits, num, base, num_apart, alpha=alpha)
    p_down, rate_down = _excess(num - hits, num, num_apart - base, num_apart, alpha=alpha)
    p, rate, word, most = min(
        (p_up, rate_up, "ascending", hits), (p_down, rate_down, "descending", num - hits), key=lambda found: found[0]
    )
    found = p < alpha / 4
    share = percent(float(_touched(tied).mean()))
    yield CheckResult(
        check="data/tie_order",
        subject=events.name,
        verdict=Verdict.SUSPICIOUS if found else Verdict.PASS,
        figure=f"{most} of {num} tied neighbours have {word} ids (p = {p:.2g})"
        if num
        else "no two events of a user share a time",
        expected=f"at most a share of {percent(rate)}, as without a tie" if num else "",
        limit=f"p >= {alpha / 4:g}",
        outside=f"{share} of the events share their moment with another of their user" if found else "",
        detail="inside a moment the order is that of the ids and not of the events: a model that reads ids sees it"
        if found
        else "",
        advice="shuffle the events of one moment with a fixed seed, or predict them as one set" if found else "",
    )


def _place_in_run(tied: Bools) -> Ints:
    """For each row its place within the run of rows that are tied to the one before; 0 for the first."""
    starts = np.concatenate([[True], ~tied])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
    return np.arange(len(starts)) - first


def _touched(tied: Bools) -> Bools:
    touched: Bools = np.concatenate([[False], tied]) | np.concatenate([tied, [False]])
    return touched


def _excess(hits: int, num: int, base: int, num_base: int, *, alpha: float) -> tuple[float, float]:
    """P(at least `hits` of `num`) at the larger of 1/2 and the upper limit of the rate `base` of `num_base`."""
    rate = 0.5
    if num_base:
        share, z = base / num_base, z_limit(alpha / 4)
        middle = (base + z * z / 2) / (num_base + z * z)
        half = z * (share * (1 - share) * num_base + z * z / 4) ** 0.5 / (num_base + z * z)
        rate = max(rate, min(1.0, middle + half))
    if not num or hits <= num * rate:
        return 1.0, rate
    return binomial_tail(hits, num, rate), rate


def repeats(events: Events) -> Iterator[CheckResult]:
    """The same event twice (``data/repeated_events``), and how often a user comes back to an item."""
    pair = event_keys([events], timed=False)[0]
    ordered = np.sort(pair)
    repeated = ordered[1:] == ordered[:-1]
    num_again = int(repeated.sum())
    if events.time is not None:
        copies = _copies(events, np.isin(pair, ordered[1:][repeated]))
        num = int(copies.sum())
        yield CheckResult(
            check="data/repeated_events",
            subject=events.name,
            verdict=Verdict.SUSPICIOUS if num else Verdict.PASS,
            figure=f"{count_of(num, len(events), 'events')} are there already: same user, item and time",
            expected="each event once",
            worst=f"line {int(np.argmax(copies)) + events.first_line}" if num else "",
            detail="copies weigh double, and a split may put one into training and the other into the test"
            if num
            else "",
            advice="drop them, unless they are events of other kinds; then split by user and time" if num else "",
            rows=events.lines(copies),
        )
    yield judged(
        "data/returns",
        events.name,
        ok=True,
        figure=f"{count_of(num_again, len(events), 'events')} are of an item that the user had before",
    )


def _copies(events: Events, candidates: Bools) -> Bools:
    """Which events stand in the log before; only those of a pair that comes twice can be."""
    copies = np.zeros(len(events), dtype=bool)
    rows = np.flatnonzero(candidates)
    if len(rows):
        _, first = np.unique(event_keys([events.select(rows)], timed=True)[0], return_index=True)
        copies[rows] = True
        copies[rows[first]] = False
    return copies


def dominating_user(events: Events) -> CheckResult:
    """Whether one of at least 20 users has more than `DOMINANT_SHARE` of all events (``data/dominating_user``)."""
    counts = np.bincount(events.user)
    largest, share = int(np.argmax(counts)), float(counts.max(initial=0) / max(1, len(events)))
    active = counts[counts > 0]
    found = len(active) >= _DOMINANT_USERS and share > DOMINANT_SHARE
    line = int(np.argmax(events.user == largest)) + events.first_line
    return CheckResult(
        check="data/dominating_user",
        subject=events.name,
        verdict=Verdict.SUSPICIOUS if found else Verdict.PASS,
        figure=f"the most active of {len(active)} users has {percent(share)} of the events",
        limit=f"{percent(DOMINANT_SHARE)}",
        worst=f"the user of line {line}, {counts[largest]} events; median {int(np.median(active))}" if found else "",
        detail="a crawler, a shared account, or rows without a user under one id" if found else "",
        advice="look at the id; drop the user, or cap the events of one user" if found else "",
    )
