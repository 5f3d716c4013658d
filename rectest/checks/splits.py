"""Splits of a log: disjoint, in the order of time, and about users and items that training has met.

The protocol is inferred from the rows and named. What contradicts the inferred protocol is FAIL; a protocol that is
possible and rarely meant (events at random, though there are times) is SUSPICIOUS. Which features know of held-out
rows is judged in `held_out_features`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.event_log import Events, common_events, event_keys
from rectest.checks.leak import exact_tail
from rectest.checks.result import CheckResult, Verdict, count_of, judged, percent
from rectest.checks.tolerance import ALPHA

__all__ = ["PROTOCOLS", "Cut", "cold", "cut_of", "disjoint", "split_checks", "time_order"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PROTOCOLS = ("ordered", "leave-last-out", "temporal", "random", "users")
"""What a split may be said to be: each user's last events, exactly the last one, all events after a moment, events at
random, whole users."""

COLD_SHARE = 0.1
"""Share of held-out rows about unknown users or items from which on it is said: a model of ids cannot rank them, so
that its recall is at most one minus this share."""

_ORDERED = 0.75
"""Mean position of held-out events among their users' training events, between which two intentions are told apart:
1 where all come after, 1/2 at random. With n rows the mean of a random split has a standard error of at most
sqrt(1/12n) when users have one each, so 4 errors are within 1/4 from 22 rows on."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """How a held-out part lies after an earlier part in time, over the users that both have."""

    shared: Bools
    """bool[N]: held-out rows whose user has a row in the earlier part."""
    late: Bools
    """bool[N]: held-out rows that come before some earlier-part row of their user."""
    position: float
    """Mean share of a user's earlier-part rows that lie before the held-out row, ties counted half."""
    tied: int
    """Held-out rows with the time of the last earlier-part row of their user."""
    one_each: bool
    """Whether no user has more than one held-out row."""
    overlap: bool
    """Whether the earlier part has rows later than the first held-out row, over all users."""

    @property
    def kind(self) -> str:
        """The protocol that the rows show."""
        if not self.overlap:
            return "temporal"
        if not self.shared.any():
            return "users"
        if not self.late.any():
            return "leave-last-out" if self.one_each else "ordered"
        return "ordered" if self.position > _ORDERED else "random" if self.position > 1 - _ORDERED else "reversed"


def cut_of(earlier: Events, held_out: Events) -> Cut:
    """Measure how `held_out` lies after `earlier`; both need times.

    Raises:
        ValueError: a part has no times, or no rows.
    """
    if earlier.time is None or held_out.time is None or not len(earlier) or not len(held_out):
        msg = "the order of two parts needs rows and times in both"
        raise ValueError(msg)
    num_users = 1 + int(max(earlier.user.max(), held_out.user.max()))
    last = np.full(num_users, np.iinfo(np.int64).min)
    np.maximum.at(last, earlier.user, earlier.time)
    counts = np.bincount(earlier.user, minlength=num_users)
    shared = counts[held_out.user] > 0
    own = last[held_out.user]
    return Cut(
        shared=shared,
        late=shared & (own > held_out.time),
        position=_mean_position(earlier, held_out.select(shared), counts) if shared.any() else 1.0,
        tied=int((shared & (own == held_out.time)).sum()),
        one_each=bool(np.bincount(held_out.user).max(initial=0) <= 1),
        overlap=bool(earlier.time.max() > held_out.time.min()),
    )


def _mean_position(earlier: Events, held_out: Events, counts: Ints) -> float:
    """The mean over held-out rows of (rows before + half of the rows at the same time) / rows, within the user."""
    moments, moment = np.unique(np.concatenate([earlier.time, held_out.time]), return_inverse=True)
    key = np.concatenate([earlier.user, held_out.user]) * len(moments) + moment
    known, asked = np.sort(key[: len(earlier)]), key[len(earlier) :]
    start = np.concatenate([[0], np.cumsum(counts)])[held_out.user]
    before = np.searchsorted(known, asked, side="left") - start
    upto = np.searchsorted(known, asked, side="right") - start
    return float(((before + upto) / 2 / counts[held_out.user]).mean())


def split_checks(parts: Sequence[Events], *, protocol: str = "") -> list[CheckResult]:
    """Every check of two or three parts in the order train, valid, test.

    Args:
        protocol: one of `PROTOCOLS`, when the split is known; empty to infer it.

    Raises:
        ValueError: a protocol that is none, or fewer than two parts.
    """
    if len(parts) < 2:
        msg = f"splits are compared among at least two parts, got {len(parts)}"
        raise ValueError(msg)
    if protocol and protocol not in PROTOCOLS:
        msg = f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}"
        raise ValueError(msg)
    results = [*disjoint(parts), *time_order(parts, protocol=protocol)]
    some_known = any(np.isin(part.user, parts[0].user).any() for part in parts[1:])
    for part in parts[1:]:
        lone = bool(np.bincount(part.user).max(initial=0) <= 1)
        results += cold(parts[0], part, whole_users=protocol == "users" or not (some_known or lone))
    return results


def disjoint(parts: Sequence[Events]) -> Iterator[CheckResult]:
    """Whether no event is in two parts (``splits/disjoint``).

    With times an event is (user, item, time), and one common event is FAIL. Without, only pairs can be compared, and
    users may come back to items: held-out pairs must then be in an earlier part no more often than pairs come back
    within that part or within training (Fisher's exact test).
    """
    timed = all(part.time is not None for part in parts)
    known = [] if timed else [_returns(part) for part in parts]
    for later in range(1, len(parts)):
        for earlier in range(later):
            first, second = parts[earlier], parts[later]
            common = common_events(second, first, timed=timed)
            if timed:
                yield _common_events(first, second, common)
            else:
                returns = max(known[0], known[earlier], key=_rate)
                yield _common_pairs(first, second, common, returns)


def _common_events(first: Events, second: Events, common: Bools) -> CheckResult:
    return judged(
        "splits/disjoint",
        f"{first.name} and {second.name}",
        ok=not common.any(),
        figure=f"{count_of(int(common.sum()), len(second), 'events')} of {second.name} are in {first.name} too",
        expected="no common (user, item, time)",
        limit="0",
        worst=f"{second.name} line {int(np.argmax(common)) + second.first_line}" if common.any() else "",
        detail="LEAK: what is held out was trained on" if common.any() else "",
        advice="remove copies from the log first, then split it",
        rows=second.lines(common),
    )


def _common_pairs(first: Events, second: Events, common: Bools, returns: tuple[int, int]) -> CheckResult:
    again, num = returns
    p = exact_tail(int(common.sum()), len(common), again, num) if common.any() and num else 1.0
    ok = p >= ALPHA
    return judged(
        "splits/disjoint",
        f"{first.name} and {second.name}",
        ok=ok,
        figure=f"{count_of(int(common.sum()), len(common), 'pairs')} of {second.name} are in {first.name} too",
        expected=f"as rarely as users return within a part: {again} of {num} (p = {p:.2g})",
        limit=f"p >= {ALPHA:g}",
        worst="" if ok else f"{second.name} line {int(np.argmax(common)) + second.first_line}",
        detail="" if ok else "LEAK: users hardly ever return to an item, but what is held out is in training",
        advice="take held-out events out of training; give a time column to compare events instead of pairs",
        rows="" if ok else second.lines(common),
    )


def _returns(events: Events) -> tuple[int, int]:
    """What to compare with: how many rows come back to a pair, of how many.

    Of two such rates the larger: users' last events that are among their earlier ones, which is what a split by time
    holds out, and rows whose pair is anywhere else, which is what a split at random does.
    """
    keys = event_keys([events], timed=False)[0]
    order = np.argsort(events.user, kind="stable")
    user, own = events.user[order], keys[order]
    last = np.concatenate([user[1:] != user[:-1], [True]])
    several = np.bincount(user)[user[last]] > 1
    again = np.isin(own[last][several], own[~last])
    ends = int(again.sum()), int(several.sum())
    _, which, size = np.unique(keys, return_inverse=True, return_counts=True)
    anywhere = int((size[which] > 1).sum()), len(keys)
    return max(ends, anywhere, key=_rate)


def _rate(counted: tuple[int, int]) -> float:
    return counted[0] / max(1, counted[1])


def time_order(parts: Sequence[Events], *, protocol: str = "") -> Iterator[CheckResult]:
    """Whether what is held out of a user comes after what is trained on (``splits/time_order``), with the protocol.

    A held-out row before a training row of its user is FAIL where the split is ordered on the whole, SUSPICIOUS where
    it lies as a random one does, and in order where `protocol` says so. Parts without times are left out.
    """
    for later in range(1, len(parts)):
        for earlier in range(later):
            first, second = parts[earlier], parts[later]
            if first.time is not None and second.time is not None:
                yield _ordered(first, second, cut_of(first, second), protocol)


_TEXTS = {
    "users": "whole users, none of them in both",
    "temporal": "events that lie after all that is trained on",
    "leave-last-out": "one event a user, after all others of the user",
    "ordered": "each user's last events",
    "random": "events at random",
    "reversed": "each user's first events",
}


def _ordered(first: Events, second: Events, cut: Cut, protocol: str) -> CheckResult:
    wrong = cut.late
    kind = cut.kind
    problem = _against(protocol, cut) if protocol else ""
    if protocol in ("random", "users"):
        verdict = Verdict.FAIL if problem else Verdict.PASS
    elif problem or (wrong.any() and (protocol or kind != "random")):
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.SUSPICIOUS if wrong.any() else Verdict.PASS
    bad = verdict is not Verdict.PASS
    text = f"{count_of(int(wrong.sum()), len(second), 'events')} come before an event of their user in {first.name}"
    return CheckResult(
        check="splits/time_order",
        subject=f"{first.name} and {second.name}",
        verdict=verdict,
        figure=f"{kind}: {_TEXTS[kind]}; {text}",
        expected=f"{protocol}: {_TEXTS[protocol]}" if protocol else "no held-out event before a training event",
        limit="" if protocol in ("random", "users") else "0 events",
        worst=f"{second.name} line {int(np.argmax(wrong)) + second.first_line}" if bad and wrong.any() else "",
        outside=problem,
        detail=_why_unordered(kind, cut) if bad else "",
        advice=_advice(kind, protocol if problem else "") if bad else "",
        rows=second.lines(wrong) if bad else "",
    )


def _against(protocol: str, cut: Cut) -> str:
    """What in the rows contradicts the protocol that was named."""
    if protocol == "users":
        return f"{int(cut.shared.sum())} rows are of users in both" if cut.shared.any() else ""
    if protocol == "leave-last-out" and not cut.one_each:
        return "a user has more than one held-out event"
    if protocol == "temporal" and cut.overlap:
        return "training has events later than the first held-out one"
    return ""


def _why_unordered(kind: str, cut: Cut) -> str:
    place = f"on average {percent(cut.position)} of a user's other events lie before a held-out one"
    if kind == "random":
        return f"{place}: training knows what users did afterwards, so the task is to fill gaps and not to predict"
    if kind == "reversed":
        return f"{place}: the order was turned round before the last events were taken"
    if cut.late.any():
        return f"{place}, so the split was meant to follow time, and these rows do not"
    return "the rows follow another protocol than the one that was named"


def _advice(kind: str, contradicted: str) -> str:
    """What to do next; `contradicted` is the protocol that was named and that the rows do not show."""
    if contradicted:
        return f"make the split anew as {contradicted}, or name the protocol that it follows: --protocol"
    if kind == "random":
        return "split by time, or say --protocol random and compare with results of random splits only"
    return "sort by time (one unit, stable) before the last events are taken; then compare the counts of users"


def cold(train: Events, held_out: Events, *, whole_users: bool = True) -> Iterator[CheckResult]:
    """How many held-out rows are about users or items without a training row (``splits/cold_users``, ``_items``).

    More than `COLD_SHARE` is SUSPICIOUS. Users of whom none is known are left out where `whole_users` may be held out:
    not where users of another part are known, and not where each has one event, before which there is nothing.
    """
    for what, known, asked in (("users", train.user, held_out.user), ("items", train.item, held_out.item)):
        unknown = ~np.isin(asked, known)
        none = bool(unknown.all())
        if what == "users" and none and whole_users:
            continue
        share = float(unknown.mean()) if len(unknown) else 0.0
        found = share > COLD_SHARE
        num = f"{len(np.unique(asked[unknown]))} {what}"
        advice = "report known and unknown ones apart, or filter before the split"
        yield CheckResult(
            check=f"splits/cold_{what}",
            subject=held_out.name,
            verdict=Verdict.SUSPICIOUS if found else Verdict.PASS,
            figure=f"{count_of(int(unknown.sum()), len(unknown), 'events')} are of {num} without a training event",
            limit=f"{percent(COLD_SHARE)}",
            detail=f"a model of ids cannot rank them: its recall is at most {1 - share:.3f}" if found else "",
            advice=""
            if not found
            else f"compare the form of the ids in both files{_OR_USERS[what]}"
            if none
            else advice,
            rows=held_out.lines(unknown) if found else "",
        )


_OR_USERS = {"users": "; if whole users are held out, say --protocol users", "items": ""}
