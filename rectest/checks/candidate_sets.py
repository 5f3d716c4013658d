"""Candidate sets of a sampled evaluation: the target and its negatives, row by row.

A set that holds its target twice, repeats a negative or counts seen items has fewer real competitors than it says, and
metrics from it are too high or too low by as much; the law that the negatives follow decides what chance is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.event_log import Events
from rectest.checks.result import CheckResult, Verdict, count_of, judged, not_measured, percent, places
from rectest.checks.tolerance import ALPHA, binomial_tail, z_limit

__all__ = ["Candidates", "Law", "candidate_checks", "law_of", "padded", "same_law"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ABSENT = -1
UNKNOWN = -2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """One row of item codes for each held-out event."""

    name: str
    items: Ints
    """[B, C]; `ABSENT` where a slot is empty, `UNKNOWN` where the id is no item of the data."""
    target: Ints
    """[B]."""
    user: Ints
    """[B]."""

    def __post_init__(self) -> None:
        num = self.items.shape[0]
        if self.items.ndim != 2 or self.target.shape != (num,) or self.user.shape != (num,) or not self.items.size:
            msg = f"candidates must be [B, C] with B targets and users, got {self.items.shape}, {self.target.shape}"
            raise ValueError(msg)

    @property
    def hits(self) -> Ints:
        """[B]: how often the target is in its own row."""
        found: Ints = (self.items == self.target[:, None]).sum(axis=1)
        return found

    @property
    def with_target(self) -> bool:
        """Whether rows are meant to hold their target: most of them do."""
        return bool((self.hits > 0).mean() > 0.5)

    @property
    def negatives(self) -> Bools:
        """[B, C]: known items that are not the target."""
        others: Bools = (self.items >= 0) & (self.items != self.target[:, None])
        return others


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """How popular the negatives are beside what uniform and proportional drawing give."""

    name: str
    """``uniform``, ``by popularity``, ``nearly by popularity`` (less of the popular ones) or ``by another law``."""
    mean: float
    """Mean training count of a negative."""
    error: float
    """Its standard error."""
    uniform: float
    proportional: float


def candidate_checks(sets: Candidates, train: Events, *, num_items: int) -> list[CheckResult]:
    """Every check of one file of candidates.

    Args:
        train: what users have seen; its codes are those of the candidates.
        num_items: how many items there are; codes are below it.
    """
    results = [_target(sets), _duplicates(sets), _filled(sets), _unknown(sets), _seen(sets, train, num_items)]
    if sets.with_target:
        results.append(_place(sets))
    law = law_of(sets, train, num_items=num_items)
    results.append(_law_result(sets, law))
    return results


def _rows(bad: Bools) -> str:
    return places(np.flatnonzero(bad).tolist())


def _target(sets: Candidates) -> CheckResult:
    hits = sets.hits
    bad = hits != 1 if sets.with_target else hits > 0
    expected = "the target once in every row" if sets.with_target else "negatives only, never the target"
    return judged(
        "candidates/target",
        sets.name,
        ok=not bad.any(),
        figure=f"{count_of(int(bad.sum()), len(hits), 'rows')} hold their target another number of times"
        if bad.any()
        else expected,
        expected=expected,
        limit="0 rows",
        worst=f"row {int(np.argmax(np.abs(hits - sets.with_target)))}" if bad.any() else "",
        detail="" if not bad.any() else "a target among its negatives competes with itself; an absent one cannot win",
        advice="draw negatives from the items without the target, and put the target in once",
        rows=_rows(bad),
    )


def _duplicates(sets: Candidates) -> CheckResult:
    ordered = np.sort(np.where(sets.negatives, sets.items, -1), axis=1)
    copies = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum(axis=1)
    return judged(
        "candidates/duplicates",
        sets.name,
        ok=not copies.any(),
        figure=f"{count_of(int((copies > 0).sum()), len(copies), 'rows')} repeat a negative, {copies.sum()} in all",
        expected="distinct negatives",
        limit="0 rows",
        worst=f"row {int(np.argmax(copies))}: {copies.max(initial=0)} copies" if copies.any() else "",
        detail="" if not copies.any() else "there are fewer competitors than promised, so metrics are too high",
        advice="draw without replacement",
        rows=_rows(copies > 0),
    )


def _filled(sets: Candidates) -> CheckResult:
    empty = (sets.items == ABSENT).sum(axis=1)
    num = sets.items.shape[1] - empty
    return judged(
        "candidates/empty",
        sets.name,
        ok=not empty.any(),
        figure=f"{count_of(int((empty > 0).sum()), len(empty), 'rows')} have empty slots"
        + (f", {num.min()} to {num.max()} candidates" if empty.any() else f", {sets.items.shape[1]} candidates each"),
        expected="one number of candidates for all",
        limit="0 rows",
        worst=f"row {int(np.argmax(empty))}: {empty.max(initial=0)} of {sets.items.shape[1]} slots"
        if empty.any()
        else "",
        detail="" if not empty.any() else "chance differs from row to row, and a model may rank padding",
        advice="draw until the set is full, or evaluate every row with its own number of candidates",
        rows=_rows(empty > 0),
    )


def _unknown(sets: Candidates) -> CheckResult:
    unknown = (sets.items == UNKNOWN).sum(axis=1)
    return judged(
        "candidates/unknown",
        sets.name,
        ok=not unknown.any(),
        figure=f"{count_of(int(unknown.sum()), sets.items.size, 'candidates')} are no item of the data",
        expected="items of the data",
        limit="0",
        worst=f"row {int(np.argmax(unknown))}" if unknown.any() else "",
        detail="" if not unknown.any() else "no model can rank an item that is in no file: it is beaten for nothing",
        advice="check that candidates and data use one kind of ids, raw or dense, from 0 or from 1, and name all parts "
        "of the data: items of a validation part that is left out are known to nobody here",
        rows=_rows(unknown > 0),
    )


def _seen(sets: Candidates, train: Events, num_items: int) -> CheckResult:
    pairs = np.unique(train.user * num_items + train.item)
    negatives = sets.negatives
    asked = sets.user[:, None] * num_items + np.where(negatives, sets.items, 0)
    seen = negatives & np.isin(asked, pairs)
    counts = np.bincount(pairs // num_items, minlength=int(sets.user.max()) + 1)[sets.user]
    blind = float((counts / num_items).mean())
    total = max(1, int(negatives.sum()))
    found = bool(seen.any())
    return CheckResult(
        check="candidates/seen",
        subject=sets.name,
        verdict=Verdict.SUSPICIOUS if found else Verdict.PASS,
        figure=f"{count_of(int(seen.sum()), total, 'negatives')} are items that their user has in {train.name}",
        expected=f"none; drawing blindly gives {percent(blind)} where it is uniform",
        limit="0",
        worst=f"row {int(np.argmax(seen.sum(axis=1)))}" if found else "",
        detail="a model that has learned the user ranks these high and loses to them, so better models score worse"
        if found
        else "",
        advice="leave out what the user has seen, or say that the protocol keeps it" if found else "",
        rows=_rows(np.asarray(seen.any(axis=1))),
    )


def _place(sets: Candidates) -> CheckResult:
    held = sets.hits > 0
    place = np.argmax(sets.items[held] == sets.target[held, None], axis=1)
    counts = np.bincount(place, minlength=sets.items.shape[1])
    most, width = int(np.argmax(counts)), sets.items.shape[1]
    p = min(1.0, width * binomial_tail(int(counts[most]), len(place), 1 / width))
    found = p < ALPHA
    always = int(counts[most]) == len(place)
    return CheckResult(
        check="candidates/target_place",
        subject=sets.name,
        verdict=Verdict.SUSPICIOUS if found else Verdict.PASS,
        figure=f"the target is {'always' if always else f'in {percent(counts[most] / len(place))} of the rows'} "
        f"at place {most}",
        expected=f"each of {width} places alike (p = {p:.2g})",
        limit=f"p >= {ALPHA:g}",
        detail="a ranker that breaks ties by place makes a constant model perfect or hopeless" if found else "",
        advice="shuffle each row with a fixed seed, or count ties as half" if found else "",
    )


def law_of(sets: Candidates, train: Events, *, num_items: int) -> Law | None:
    """Whether negatives are drawn uniformly or in proportion to training counts, from the mean count of a negative.

    Both means are exact for every row, over the items that may be drawn: neither the target nor, where no row has one,
    seen items. The standard error is over rows. None where there are no negatives, or both laws give one mean.
    """
    counts = np.bincount(train.item, minlength=num_items).astype(np.float64)
    negatives = sets.negatives
    size = negatives.sum(axis=1)
    usable = size > 0
    if usable.sum() < 2:
        return None
    means = (np.where(negatives, counts[np.maximum(sets.items, 0)], 0.0).sum(axis=1)[usable]) / size[usable]
    num, total, square = _eligible(sets, train, counts, num_items)
    uniform = float((total / num)[usable].mean())
    proportional = float((square / total)[usable].mean())
    mean, error = float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))
    if proportional - uniform <= 1e-9 * proportional or not error:
        return None
    z = z_limit(ALPHA, sides=2, num_tests=2)
    near = {"uniform": abs(mean - uniform) / error, "by popularity": abs(mean - proportional) / error}
    best = min(near, key=lambda name: near[name])
    # without replacement, proportional drawing runs out of popular items: its mean is lower than the law's
    drained = best == "by popularity" and mean < proportional and near["by popularity"] < near["uniform"]
    name = best if near[best] <= z else f"nearly {best}" if drained else "by another law"
    return Law(name=name, mean=mean, error=error, uniform=uniform, proportional=proportional)


def _eligible(
    sets: Candidates, train: Events, counts: npt.NDArray[np.float64], num_items: int
) -> tuple[npt.NDArray[np.float64], ...]:
    """For every row the number of items that may be drawn, the sum of their counts and of the squares."""
    pairs = np.unique(np.concatenate([train.user * num_items + train.item, sets.user * num_items + sets.target]))
    user, item = pairs // num_items, pairs % num_items
    width = int(max(user.max(), sets.user.max())) + 1
    sums = []
    for weight in (np.ones(num_items), counts, counts**2):
        seen = np.bincount(user, weights=weight[item], minlength=width)
        sums.append(np.maximum(weight.sum() - seen[sets.user], 1e-12))
    return tuple(sums)


def _law_result(sets: Candidates, law: Law | None) -> CheckResult:
    if law is None:
        return not_measured("candidates/law", sets.name, "too few negatives, or all items are equally popular")
    return judged(
        "candidates/law",
        sets.name,
        ok=True,
        figure=f"negatives are drawn {law.name if law.name != 'uniform' else 'uniformly'}: mean count {law.mean:.4g} "
        f"+- {law.error:.2g}",
        expected=f"{law.uniform:.4g} uniformly, {law.proportional:.4g} by popularity",
    )


def same_law(first: tuple[str, Law | None], second: tuple[str, Law | None]) -> Iterator[CheckResult]:
    """Whether the negatives of two splits follow one law (``candidates/same_law``)."""
    (name, law), (other_name, other) = first, second
    if law is None or other is None:
        return
    differ = law.name.removeprefix("nearly ") != other.name.removeprefix("nearly ")
    yield CheckResult(
        check="candidates/same_law",
        subject=f"{name} and {other_name}",
        verdict=Verdict.SUSPICIOUS if differ else Verdict.PASS,
        figure=f"{law.name} and {other.name}",
        expected="one law for both",
        detail="the two splits measure different tasks, so the best step of one is not that of the other"
        if differ
        else "",
        advice="draw both in one way" if differ else "",
    )


def padded(rows: Sequence[Sequence[int]]) -> Ints:
    """Rows of different lengths as one array, filled up with `ABSENT`."""
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[ABSENT] * (width - len(row))] for row in rows], dtype=np.int64).reshape(len(rows), width)
