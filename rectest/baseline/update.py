"""Changing stored baselines: deciding whether to record, and accepting candidates.

Writing is always asked for. In CI nothing writes baselines: the gate leaves candidates, which are the same files under
another root, and a person accepts them with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from rectest.baseline.candidates import opened
from rectest.baseline.diff import BaselineDiff, diff
from rectest.baseline.history import continued
from rectest.baseline.judge import EXACT
from rectest.baseline.schema import Baseline
from rectest.baseline.sidecar import Sidecar
from rectest.baseline.store import BaselineStore, StoredName
from rectest.checks.result import CheckResult, Verdict, any_red
from rectest.errors import CorruptBaseline, NoBaseline, UnknownNameError, UpdateRefused

__all__ = [
    "Action",
    "Candidate",
    "State",
    "accept",
    "compare_candidates",
    "plan_update",
    "refuse_in_ci",
    "state_of",
]


class State(StrEnum):
    """What the gate found about one system's baseline."""

    ABSENT = "absent"
    CORRUPT = "corrupt"
    FAILED = "failed"
    UNCALIBRATED = "uncalibrated"
    """There is a baseline, but without bits for this environment, and the ensemble lane is content."""

    PASSED = "passed"


class Action(StrEnum):
    """What an update does with one system."""

    KEEP = "keep"
    RECORD = "record"
    """Train all seeds and write a whole new baseline."""

    EXTEND = "extend"
    """Add this environment's bits and leave the rest as it is."""


_PLANS: dict[str, dict[State, Action]] = {
    "new": {State.ABSENT: Action.RECORD, State.UNCALIBRATED: Action.EXTEND},
    "failed": {State.FAILED: Action.RECORD, State.CORRUPT: Action.RECORD},
    "all": dict.fromkeys(State, Action.RECORD),
}


def plan_update(mode: str, state: State) -> Action:
    """What ``--rectest-update=<mode>`` does with a system in this state.

    ``new`` adds what is missing and touches nothing that was compared; ``failed`` records anew what is red, so that a
    green baseline never moves; ``all`` records everything anew.

    >>> plan_update("failed", State.PASSED)
    <Action.KEEP: 'keep'>
    """
    if mode not in _PLANS:
        raise UnknownNameError("update mode", mode, _PLANS)
    return _PLANS[mode].get(state, Action.KEEP)


def state_of(results: Iterable[CheckResult]) -> State:
    """The state that the results of both lanes describe; no results at all is FAILED."""
    found = [result for result in results if result.check.startswith("baseline/")]
    if not found or any_red(found):
        return State.FAILED
    no_bits = any(result.check == EXACT and result.verdict is Verdict.UNCALIBRATED for result in found)
    return State.UNCALIBRATED if no_bits else State.PASSED


def refuse_in_ci(environ: Mapping[str, str]) -> None:
    """Raise `UpdateRefused` where the variable ``CI`` is set, as every hosted runner sets it."""
    value = environ.get("CI", "")
    if value.strip().lower() not in ("", "0", "false", "no"):
        msg = (
            f"baselines are not written in CI (CI={value}); "
            "upload the folder of candidates, and apply it where it can be reviewed with: rectest baseline accept"
        )
        raise UpdateRefused(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One candidate, read whole, and what accepting it would change."""

    baseline: Baseline
    sidecar: Sidecar | None
    changes: BaselineDiff


def compare_candidates(
    candidates: BaselineStore, store: BaselineStore, systems: Collection[str] = (), *, new_anchor: bool = False
) -> list[Candidate]:
    """Every candidate, read and held against what is stored; nothing is written.

    Raises:
        UpdateRefused: there are no candidates.
        UnknownNameError: a system that was asked for is not among them.
        CorruptBaseline: one of the chosen candidates, or its sidecar, cannot be read.
    """
    return _compared(_read(candidates, systems), store, new_anchor=new_anchor)


def accept(
    place: str | Path,
    store: BaselineStore,
    systems: Collection[str] = (),
    *,
    reason: str,
    new_anchor: bool = False,
    allow_dirty: bool = False,
) -> list[BaselineDiff]:
    """Write the candidates (of `systems`, or all) into `store` with the reason of the person who accepts them.

    Every candidate is read, validated and held against the drift since the anchor before the first one is written,
    all under the lock of `store`: what is returned is what happened. Where a disk is full half-way, accepting again
    writes the rest and changes nothing of what is written.

    Args:
        place: A folder of candidates, an unpacked artifact of a CI job, or its zip; see `candidates.opened`.
        store: Where they go.
        systems: Which of them; all where empty.
        reason: For reviewers, and for the history.
        new_anchor: Begin a new history with each of them, whatever was lost since the old anchor.
        allow_dirty: Take candidates that were recorded from uncommitted changes, whose code nobody can see again.

    Raises:
        ValueError: `reason` is blank, or the candidates are the store itself.
        BaselineError: as `compare_candidates`, `continued` and `BaselineStore.save`.
    """
    if not reason.strip():
        msg = "accepting a baseline needs a reason: one line that tells a reviewer why the numbers may change"
        raise ValueError(msg)
    with opened(place) as candidates:
        if candidates.root.resolve() == store.root.resolve():
            msg = f"{candidates.root} holds the stored baselines themselves, not candidates"
            raise ValueError(msg)
        read = _read(candidates, systems)
    dirty = [name.path.name for name, baseline, _ in read if baseline.provenance.dirty]
    if dirty and not allow_dirty:
        msg = (
            f"recorded from uncommitted changes: {', '.join(dirty)}; record them from a commit, or accept them all the "
            "same with --allow-dirty and a reason"
        )
        raise UpdateRefused(msg)
    combine = partial(continued, new_anchor=new_anchor)
    with store.lock():
        found = _compared(read, store, new_anchor=new_anchor)
        refused = [each.changes.refusal for each in found if each.changes.refusal]
        if refused:
            raise UpdateRefused("\n".join(refused))
        for each in found:
            origin = each.baseline.provenance.model_copy(update={"reason": reason.strip()})
            accepted = each.baseline.model_copy(update={"provenance": origin})
            store.save(accepted, sidecar=each.sidecar, replace=each.changes.unreadable, combine=combine)
    return [each.changes for each in found]


def _read(candidates: BaselineStore, systems: Collection[str]) -> list[tuple[StoredName, Baseline, Sidecar | None]]:
    names = candidates.entries()
    if not names:
        msg = f"no candidates in {candidates.root} (looked for <environment class>/<system>.json)"
        raise UpdateRefused(msg)
    for system in systems:
        if system not in {name.system for name in names}:
            raise UnknownNameError("candidate", system, {name.system for name in names})
    return [(name, *candidates.read_whole(name)) for name in names if not systems or name.system in systems]


def _compared(
    read: Sequence[tuple[StoredName, Baseline, Sidecar | None]], store: BaselineStore, *, new_anchor: bool
) -> list[Candidate]:
    return [
        Candidate(baseline=new, sidecar=bulk, changes=diff(_stored(store, name), new, new_anchor=new_anchor))
        for name, new, bulk in read
    ]


def _stored(store: BaselineStore, name: StoredName) -> Baseline | CorruptBaseline | None:
    try:
        return store.read(name)
    except NoBaseline:
        return None
    except CorruptBaseline as e:
        return e
