"""Confirmation by intervention: run again with a suspected source held still, and see whether the divergence is gone.

Nothing is called confirmed unless, in runs made for it, the divergence went away with the source held still and came
back without. This file owns the order of trials and what each of them proves; running is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rectest.divergence.finding import DIVERGED, IDENTICAL, Cause, Finding
from rectest.errors import RectestError

__all__ = ["GENERAL", "Confirmed", "Rerun", "Trial", "confirm", "has_moved"]

Rerun = Callable[[tuple[str, ...]], Finding]

GENERAL: dict[str, Cause] = {
    cause.pin: cause
    for cause in (
        Cause(
            kind="hash_order",
            what="something depends on the order in which strings hash (PYTHONHASHSEED), such as iterating over a set",
            advice="sort before iterating over a set of strings, and use a digest in place of hash()",
            pin="hash",
        ),
        Cause(
            kind="threads",
            what="sums are split over several threads, and rounding depends on the split",
            advice="call torch.set_num_threads(1), or accept differences of this size",
            pin="threads",
        ),
        Cause(
            kind="kernel",
            what="a kernel of torch adds in an order that changes",
            advice="call torch.use_deterministic_algorithms(True)",
            pin="deterministic",
        ),
        Cause(
            kind="listing",
            what="something depends on the order in which a directory lists its files",
            advice="sort what os.listdir, os.scandir or glob return",
            pin="listing",
        ),
        Cause(
            kind="file",
            what="the second run finds files that the first has left in the working directory",
            advice="give every run an empty output folder, and do not resume or reuse a cache without being asked to",
            pin="pristine",
        ),
    )
}
"""Cheap pins that need no suspect, in the order in which they are tried, and the source that each of them holds."""

_PLACES = (
    ("environment",),
    ("id_map", "data", "resume", "cache"),
    ("init",),
    ("batch", "batch_order", "negatives"),
    ("forward",),
    ("loss",),
    ("backward",),
    ("reduction",),
    ("optimizer",),
    ("rng_evaluation",),
    ("length",),
)
"""Stages in the order of a step."""

_NATURES = {
    **dict.fromkeys(("generator", "seed", "entropy", "extra_draws"), "other numbers"),
    **dict.fromkeys(("hash_order", "listing", "queue", "file"), "other input"),
    **dict.fromkeys(("kernel", "threads"), "other arithmetic"),
    "environment": "other settings",
}
"""What a confirmed cause of a kind does, whatever was suspected before."""

_SUSPECTED = ("environment", "data", "id_map", "cache", "resume", "batch_order")
"""Stages that are told by what is suspected, not by what is seen to differ."""

_ORDER = {stage: place for place, stages in enumerate(_PLACES) for stage in stages}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One comparison of fresh runs."""

    pins: tuple[str, ...]
    """What was held still."""

    tried: tuple[Cause, ...] = ()
    """The sources that were held still in addition to what is confirmed; empty for a run that was to show it again."""

    finding: Finding | None = None
    """None where it could not be tried."""

    outcome: str = ""
    """``gone``, ``moved``, ``unchanged``, ``shown again``, ``not shown again``, ``could not be tried``."""

    problem: str = ""
    """Why it could not be tried."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the finding, what tells it apart."""
        found = self.finding
        return {
            "pins": list(self.pins),
            "tried": [{"what": cause.what, "site": cause.site, "pin": cause.pin} for cause in self.tried],
            "outcome": self.outcome,
            "problem": self.problem,
            "finding": None if found is None else {k: getattr(found, k) for k in ("verdict", "stage", "step", "name")},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmed:
    """What the trials have shown."""

    trials: tuple[Trial, ...]
    causes: tuple[Cause, ...]
    """Confirmed, in the order in which they were found."""

    final: Finding
    """With all of them held still."""

    refuted: tuple[Cause, ...] = ()
    """Held still, and nothing changed."""

    shown: tuple[int, int] = (1, 1)
    """Of how many comparisons without a further pin the last divergence showed in how many."""

    limited: bool = False
    """Whether trials were left out because the limit was reached."""

    @property
    def identical(self) -> bool:
        """Whether the runs are identical in the end, by what is confirmed and not by luck."""
        return bool(self.causes) and self.final.verdict == IDENTICAL

    @property
    def intermittent(self) -> bool:
        """Whether the divergence stayed away once although nothing new was held still."""
        return self.shown[0] < self.shown[1]

    def applied_to(self, finding: Finding) -> Finding:
        """`finding` with confirmed causes first, and with what was tried in vain marked so."""
        sure = {_key(cause) for cause in self.causes}
        wrong = {_key(cause) for cause in self.refuted}
        held = {cause.pin for cause in self.causes}
        rest = (
            cause
            for cause in finding.causes
            if _key(cause) not in sure and (cause.site or not cause.pin or cause.pin not in held)
        )
        marked = (replace(cause, confirmed=False) if _key(cause) in wrong else cause for cause in rest)
        causes = (*self.causes, *sorted(marked, key=lambda cause: cause.confirmed is False))
        nature = _NATURES.get(self.causes[0].kind, finding.nature) if self.causes else finding.nature
        return replace(finding, causes=causes, nature=nature)


def confirm(
    finding: Finding,
    rerun: Rerun,
    *,
    show_again: Callable[[tuple[str, ...], int], Finding] | None = None,
    limit: int = 8,
) -> Confirmed:
    """Hold the causes of a divergence still, one after the other, until the runs are identical or nothing is left.

    Args:
        finding: where the runs part with nothing held still.
        rerun: makes fresh runs with these pins and compares them; a `RectestError` means that it could not.
        show_again: the same for runs that need not go beyond a step, or must go to their end (0); `rerun` by default.
        limit: comparisons at most.

    Raises:
        ValueError: the finding is no divergence, or the limit is below 1.
    """
    if finding.verdict != DIVERGED or limit < 1:
        msg = f"a divergence and a limit of at least 1 are needed, got {finding.verdict!r} and {limit}"
        raise ValueError(msg)
    search = _Search(finding, rerun, show_again or (lambda pins, _: rerun(pins)), limit)
    while search.current.verdict == DIVERGED and not search.intermittent and search.advance():
        pass
    return search.result()


def has_moved(before: Finding, after: Finding) -> bool:
    """Whether the first divergence comes later, or in another tensor or class of the same step, or not at all.

    One that comes earlier has not moved: holding a source still cannot bring a difference forward, so luck has.
    """
    if after.verdict == IDENTICAL:
        return True
    if before.stage in _SUSPECTED and (before.name, max(1, before.step)) == (after.name, max(1, after.step)):
        return False  # the same tensor at the same step: only its suspect, held still, no longer names the stage
    if _place(before) != _place(after):
        return _place(after) > _place(before)
    return (before.stage, before.name) != (after.stage, after.name)


def _place(finding: Finding) -> tuple[int, int]:
    return finding.step, _ORDER.get(finding.stage, -1)


def _key(cause: Cause) -> tuple[str, str, str]:
    return cause.pin, cause.site, cause.what


class _Search:
    """The state of the search: what is confirmed, where the runs part with it held still, what is left to try."""

    def __init__(
        self, finding: Finding, rerun: Rerun, show_again: Callable[[tuple[str, ...], int], Finding], limit: int
    ) -> None:
        self.current = finding
        self.intermittent = False
        self._rerun, self._show_again, self._left = rerun, show_again, limit
        self._pins: tuple[str, ...] = ()
        self._trials: list[Trial] = []
        self._causes: list[Cause] = []
        self._refuted: list[Cause] = []
        self._shown = (1, 1)
        self._limited = False

    def result(self) -> Confirmed:
        return Confirmed(
            trials=tuple(self._trials),
            causes=tuple(self._causes),
            final=self.current,
            refuted=tuple(self._refuted),
            shown=self._shown,
            limited=self._limited,
        )

    def advance(self) -> bool:
        """Confirm one cause of the present divergence, or the several that make it together; False if none."""
        in_vain: list[Cause] = []
        for group in self._groups(in_vain):
            trial = self._try(group)
            if trial is None:
                return False
            if trial.outcome in ("gone", "moved"):
                if not self._comes_back(trial):
                    return False
                needed, trial = self._needed(group, trial)
                self._accept(needed, trial)
                self._refuted += [cause for cause in in_vain if cause not in needed]
                return True
            if trial.outcome == "unchanged" and len(group) == 1:
                in_vain += group
        self._refuted += in_vain
        return False

    def _groups(self, in_vain: list[Cause]) -> Iterator[tuple[Cause, ...]]:
        """What to hold still next: each suspect alone, those that did not help alone together, then general pins."""
        suspects: dict[str, Cause] = {}
        for cause in self.current.causes:
            if cause.pin and cause.pin not in self._pins:
                suspects.setdefault(cause.pin, cause)
        yield from ((cause,) for cause in suspects.values())
        if len(in_vain) > 1:
            yield tuple(in_vain)
        known = {*self._pins, *suspects}
        yield from ((cause,) for pin, cause in GENERAL.items() if pin not in known)

    def _try(self, group: Sequence[Cause]) -> Trial | None:
        """One comparison with `group` held still in addition; None when the limit is reached."""
        pins = (*self._pins, *(cause.pin for cause in group))
        found = self._compare(lambda: self._rerun(pins))
        if found is None:
            return None
        trial = Trial(pins=pins, tried=tuple(group), **self._judged(found))
        self._trials.append(trial)
        return trial

    def _judged(self, found: Finding | str) -> dict[str, Any]:
        if isinstance(found, str):
            return {"outcome": "could not be tried", "problem": found}
        if found.verdict == IDENTICAL:
            return {"finding": found, "outcome": "gone"}
        return {"finding": found, "outcome": "moved" if has_moved(self.current, found) else "unchanged"}

    def _compare(self, make: Callable[[], Finding]) -> Finding | str | None:
        """A finding, why there is none, or None when the limit is reached."""
        if self._left == 0:
            self._limited = True
            return None
        self._left -= 1
        try:
            found = make()
        except RectestError as e:
            return str(e)
        known = found.verdict in (IDENTICAL, DIVERGED)
        return found if known else found.reason or "the runs could not be compared"

    def _comes_back(self, trial: Trial) -> bool:
        """Whether fresh runs without the new pin part again; else the difference may have stayed away by luck."""
        # what a run leaves for the next one it may leave at its end: such runs must get there
        step = 0 if any(cause.pin == "pristine" for cause in trial.tried) else max(1, self.current.step)
        found = self._compare(lambda: self._show_again(self._pins, step))
        if found is None:
            return False
        if isinstance(found, str):
            self._trials.append(Trial(pins=self._pins, outcome="could not be tried", problem=found))
            return False
        vanished = trial.outcome == "gone"
        again = found.verdict == DIVERGED and (vanished or not has_moved(self.current, found))
        outcome = "shown again" if again else "not shown again"
        self._trials.append(Trial(pins=self._pins, finding=found, outcome=outcome))
        self._shown = (self._shown[0] + again, self._shown[1] + 1)
        self.intermittent = not again
        return again

    def _needed(self, group: tuple[Cause, ...], trial: Trial) -> tuple[tuple[Cause, ...], Trial]:
        """`group` without members that are not needed, as far as the limit allows: each is left out in turn.

        Of two, both are: neither helped alone.
        """
        kept = list(group)
        for cause in group:
            rest = [each for each in kept if each is not cause]
            smaller = self._try(rest) if len(rest) > 1 else None
            if smaller is not None and smaller.outcome in ("gone", "moved"):
                kept, trial = rest, smaller
        return tuple(kept), trial

    def _accept(self, causes: Sequence[Cause], trial: Trial) -> None:
        found = trial.finding
        if found is None:
            return
        self._causes += [replace(cause, confirmed=True) for cause in causes]
        self._pins = (*self._pins, *(cause.pin for cause in causes))
        self.current = found
        if found.verdict == DIVERGED:
            self._shown = (1, 1)
