"""Features made of a log: counts of items and lists of past items, which must know nothing of held-out events.

Counts are compared with the counts of every union of parts that could have been counted; lists are looked through for
the target of their row. Whether training itself depends on held-out events is `leak`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rectest.checks.event_log import Events
from rectest.checks.leak import exact_tail
from rectest.checks.result import CheckResult, Verdict, count_of, judged, not_measured, sample
from rectest.checks.tolerance import ALPHA

__all__ = ["counted_parts", "list_holds_target"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SHARE_SLACK = 1e-6
"""Shares written with seven digits are within half a unit of the seventh of the exact ones."""


def counted_parts(counts: Floats, parts: Sequence[Events], *, name: str) -> CheckResult:
    """Which parts a file of item counts was counted over (``leak/counts``).

    Training alone is in order; a union with a held-out part is FAIL; no union is SUSPICIOUS. Counts that are no whole
    numbers are compared as shares. Logarithms and other transforms are not undone, and so fit no union.

    Args:
        counts: [V] by item code, 0 where the file has no item.
        parts: train first, then the held-out parts.
    """
    if not counts.size or not np.isfinite(counts).all() or counts.min() < 0 or not counts.sum():
        return not_measured("leak/counts", name, "the counts are not finite, not positive, or none")
    shares = bool((counts != np.floor(counts)).any())
    unions = list(_unions(counts, parts, shares=shares))
    apart = [distance for _, distance, _ in unions]
    label, distance, num_parts = unions[int(np.argmin(apart))]
    exact = distance <= (_SHARE_SLACK if shares else 0.0)
    leak = exact and num_parts > 1
    verdict = Verdict.PASS if exact and not leak else Verdict.FAIL if leak else Verdict.SUSPICIOUS
    what = "shares" if shares else "counts"
    return CheckResult(
        check="leak/counts",
        subject=name,
        verdict=verdict,
        figure=f"{what} of {label}" if exact else f"{what} of no union of the parts; nearest is {label}",
        expected=f"{what} of {parts[0].name} alone",
        worst="" if exact else f"largest difference {distance:.6g}",
        detail="LEAK: what is popular among held-out events is known in training" if leak else "",
        advice=f"count the items of {parts[0].name} alone" if verdict is not Verdict.PASS else "",
    )


def _unions(counts: Floats, parts: Sequence[Events], *, shares: bool) -> Iterator[tuple[str, float, int]]:
    """Name, largest difference and size of every union of the first part with held-out ones."""
    single = [np.bincount(part.item, minlength=len(counts)).astype(np.float64) for part in parts]
    for mask in range(1 << (len(parts) - 1)):
        chosen = [0, *(place + 1 for place in range(len(parts) - 1) if mask >> place & 1)]
        total = np.sum([single[place] for place in chosen], axis=0)
        own, theirs = (counts / counts.sum(), total / total.sum()) if shares else (counts, total)
        label = " and ".join(parts[place].name for place in chosen)
        yield label, float(np.abs(own - theirs).max()), len(chosen)


def list_holds_target(words: Ints, row: Ints, target: Ints, *, name: str, first_line: int = 2) -> list[CheckResult]:
    """Whether lists of past items hold the target of their own row (``leak/list_target``).

    Users may come back to items, so the rate of lists that hold their target is compared with the rate of lists whose
    last item is among those before (Fisher's exact test). A list that ends with its target runs one event too far.

    Args:
        words: int[M] items of all lists, row by row in order of time.
        row: int[M] the row of each.
        target: int[N] the item to be predicted in each row.
    """
    own = words == target[row]
    holds = np.bincount(row[own], minlength=len(target)) > 0
    ends = np.concatenate([row[1:] != row[:-1], [True]]) if len(row) else np.zeros(0, dtype=bool)
    last = np.full(len(target), -1, dtype=np.int64)
    last[row[ends]] = words[ends]
    again = _last_again(words, row, ends)
    filled = int(ends.sum())
    if not filled:
        return [not_measured("leak/list_target", name, "all lists are empty")]
    num, num_last = int(holds.sum()), int((last == target).sum())
    p = exact_tail(num, filled, again, filled) if num else 1.0
    p_last = exact_tail(num_last, filled, _equal_neighbours(words, row, ends), filled) if num_last else 1.0
    ok = min(p, p_last) >= ALPHA / 2
    worst = int(np.argmax(holds))
    return [
        judged(
            "leak/list_target",
            name,
            ok=ok,
            figure=f"{count_of(num, filled, 'lists')} hold the target of their row, {num_last} as their last item",
            expected=f"as rarely as users return: {again} lists end with an item that they have before",
            limit=f"p >= {ALPHA / 2:g}",
            worst="" if ok else f"line {worst + first_line}",
            outside="" if ok else f"lines {sample((np.flatnonzero(holds) + first_line).tolist())}",
            detail="" if ok else "LEAK: the history runs up to the event that is to be predicted, or past it",
            advice="cut each history before its target; rows that repeat an item are no exception",
        )
    ]


def _last_again(words: Ints, row: Ints, ends: npt.NDArray[np.bool_]) -> int:
    """How many lists end with an item that stands before in them."""
    final = np.zeros(int(row.max(initial=0)) + 1, dtype=np.int64)
    final[row[ends]] = words[ends]
    return len(np.unique(row[(words == final[row]) & ~ends]))


def _equal_neighbours(words: Ints, row: Ints, ends: npt.NDArray[np.bool_]) -> int:
    """How many lists end with the same item twice."""
    place = np.flatnonzero(ends)
    place = place[place > 0]
    return int(((words[place] == words[place - 1]) & (row[place] == row[place - 1])).sum())
