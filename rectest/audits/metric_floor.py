"""What recommending by popularity alone would score on given interactions, under the protocol of a metric table.

Leave-last-out: a user's last event is the target, everything before it (of all users) is counted. Candidates are the
target and items that the user has not had, all of them or a uniform draw without replacement; ties in popularity break
at random. The law of the target's rank then has a formula and nothing is drawn; among many ties, and of drawn
candidates of many users, it is worked out at some places and for some users only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rectest.audits.logs import read_log
from rectest.checks.result import CheckResult, judged, not_measured
from rectest.data.rawlog import RawLog
from rectest.errors import DataError
from rectest.metrics.measure import Measure

__all__ = ["PopularityLaw", "beats_popularity", "popularity_law", "read_popularity"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_USERS = 1_000
"""Users, evenly spread, whose drawn candidates are worked out; the law of a full ranking takes all of them."""

_TIE_STEPS = 33
"""Places among tied items at which the law is evaluated where more are tied; it is smooth in between."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PopularityLaw:
    """The law of the rank that popularity gives to the held-out items."""

    law: Floats
    """[C] probability of rank 1..C, averaged over users."""

    num_users: int
    assumed: str

    def value(self, measure: str) -> float:
        """The expected measure; NaN for a cut-off beyond the candidates.

        One relevant item a user, as leave-last-out has it.
        """
        parsed, rank = Measure.parse(measure), np.arange(1, len(self.law) + 1, dtype=np.float64)
        if parsed.k is not None and parsed.k > len(self.law):
            return math.nan
        gain = {
            "ndcg": 1 / np.log2(1 + rank),
            "mrr": 1 / rank,
            "mean_rank": rank,
            "precision": np.full_like(rank, 1 / (parsed.k or 1)),
        }.get(parsed.name, np.ones_like(rank))
        return float(self.law @ np.where(rank <= (parsed.k or np.inf), gain, 0.0))


def read_popularity(path: str | Path, *, num_candidates: int | None) -> PopularityLaw:
    """`popularity_law` of an interaction file.

    Raises:
        DataError: the file cannot be read, or nobody has two events.
    """
    return popularity_law(read_log(path), num_candidates=num_candidates)


def popularity_law(raw: RawLog, *, num_candidates: int | None) -> PopularityLaw:
    """The law under 1 + (C - 1) drawn candidates, or under all unseen items where `num_candidates` is None."""
    histories, targets, counts = _held_out(raw)
    if not len(targets):
        problem = "no user has two events, so none can be held out"
        raise DataError(problem, path=raw.path)
    chosen = np.arange(len(targets))
    if num_candidates is not None and len(chosen) > MAX_USERS:
        chosen = np.linspace(0, len(targets) - 1, MAX_USERS).astype(np.int64)
    order = np.sort(counts)
    law = np.zeros(len(counts) if num_candidates is None else num_candidates)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, len(counts) + 1)))))
    for user in chosen.tolist():
        unseen, above, tied = _rivals(histories[user], int(targets[user]), counts, order)
        if num_candidates is None:
            law[above : above + tied + 1] += 1 / (tied + 1)
        else:
            _add_drawn(law, logs, unseen=unseen, above=above, tied=tied)
    kind = "all unseen items" if num_candidates is None else f"{num_candidates - 1} items drawn from the unseen"
    time = "in file order" if raw.time is None else "by time"
    part = f", {len(chosen)} of them worked out" if len(chosen) < len(targets) else ""
    return PopularityLaw(
        law=law / len(chosen),
        num_users=len(targets),
        assumed=f"last event of {len(targets)} users held out {time}{part}; candidates are {kind}",
    )


def _held_out(raw: RawLog) -> tuple[list[Ints], Ints, Ints]:
    """Distinct items of each user's history, the target of each, and how often each item is in the histories."""
    _, user = np.unique(raw.user, return_inverse=True)
    names, item = np.unique(raw.item, return_inverse=True)
    order = np.lexsort((raw.time, user)) if raw.time is not None else np.argsort(user, kind="stable")
    user, item = user[order], item[order].astype(np.int64)
    bounds = np.flatnonzero(np.diff(user)) + 1
    lists = [items for items in np.split(item, bounds) if len(items) > 1]
    histories = [np.unique(items[:-1]) for items in lists]
    targets = np.array([items[-1] for items in lists], dtype=np.int64)
    counts = np.bincount(item, minlength=len(names)) - np.bincount(
        [items[-1] for items in np.split(item, bounds)], minlength=len(names)
    )
    return histories, targets, counts.astype(np.int64)


def _rivals(history: Ints, target: int, counts: Ints, order: Ints) -> tuple[int, int, int]:
    """Unseen items other than the target: how many, how many are more popular, how many are as popular."""
    own = int(counts[target])
    seen = counts[history[history != target]]
    at_least, more = (len(order) - int(np.searchsorted(order, own, side=side)) for side in ("left", "right"))
    above = more - int((seen > own).sum())
    tied = at_least - more - 1 - int((seen == own).sum())
    return len(order) - 1 - len(seen), above, tied


def _add_drawn(law: Floats, logs: Floats, *, unseen: int, above: int, tied: int) -> None:
    """Add the law of one user's rank: 1 + a hypergeometric number of the drawn items that stand above."""
    num = min(len(law) - 1, unseen)
    steps = np.arange(tied + 1)
    if tied + 1 > _TIE_STEPS:
        steps = ((np.arange(_TIE_STEPS) + 0.5) / _TIE_STEPS * (tied + 1)).astype(np.int64)
    better = (above + steps)[:, None]
    drawn = np.arange(num + 1)[None, :]
    left, missed = better - drawn, unseen - better - (num - drawn)
    fits = (left >= 0) & (missed >= 0)
    logarithm = (logs[better] - logs[drawn] - logs[left.clip(0)] + logs[unseen - better] - logs[num - drawn]) - logs[
        missed.clip(0)
    ]
    logarithm -= logs[unseen] - logs[num] - logs[unseen - num]
    law[: num + 1] += np.where(fits, np.exp(np.where(fits, logarithm, 0.0)), 0.0).mean(axis=0)


def beats_popularity(
    best: dict[str, float], law: PopularityLaw, *, halves: dict[str, float], subject: str
) -> list[CheckResult]:
    """``floor/popularity`` for each measure; `halves` is half a unit of its last digit."""
    results = []
    for name, obtained in best.items():
        floor = law.value(name)
        sign = 1.0 if Measure.parse(name).higher_is_better else -1.0
        if not (math.isfinite(floor) and math.isfinite(obtained)):
            results.append(not_measured("floor/popularity", f"{subject} {name}", f"popularity {floor}, it {obtained}"))
            continue
        lead = sign * (obtained - floor)
        ok = lead + halves.get(name, 0.0) > 0
        results.append(
            judged(
                "floor/popularity",
                f"{subject} {name}".strip(),
                ok=ok,
                figure=f"{obtained:.4g}, {'ahead of' if lead > 0 else 'not ahead of'} popularity by {abs(lead):.3g}",
                expected=f"popularity {floor:.4g} on the given interactions ({law.assumed})",
                limit=f"{'>' if sign > 0 else '<'} {floor:.4g}",
                detail="" if ok else "counting events recommends better than this model",
                advice="check that history reaches the model, and that it trains long enough",
            )
        )
    return results
