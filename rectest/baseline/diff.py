"""What changes between a stored baseline and a candidate: features, drift, bits and settings, as rows for people.

Reads two baselines and decides nothing; `update` writes and the command prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rectest.baseline.exact import differing_groups
from rectest.baseline.history import Drift, drift_of, history_after, refusal_of, why_new_anchor
from rectest.baseline.schema import Accepted, Baseline, ExactEntry
from rectest.baseline.store import merge
from rectest.errors import CorruptBaseline

__all__ = ["COLUMNS", "BaselineDiff", "FeatureChange", "cells_of", "diff", "markdown", "notes_of"]

COLUMNS = ("feature", "old", "new", "change", "z", "drift", "cap")
"""Headings of a table of features; see `cells_of`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureChange:
    """One feature's mean over seeds, before and after; None where it was not or is no longer stored."""

    feature: str
    old: float | None
    new: float | None
    old_sd: float | None = None
    drift: Drift | None = None
    """How far it will be from the anchor so far; None where there is none, or none that can be compared."""

    @property
    def absolute(self) -> float | None:
        """New minus old."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def relative(self) -> float | None:
        """The change as a fraction of the old mean."""
        return None if self.absolute is None or not self.old else self.absolute / self.old

    @property
    def z(self) -> float | None:
        """The change in units of the old run-to-run sd; None where the old runs did not vary."""
        return None if self.absolute is None or not self.old_sd else self.absolute / self.old_sd

    @property
    def changed(self) -> bool:
        """Whether the means differ at full precision."""
        return self.old != self.new


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineDiff:
    """All that changes for one system in one environment class."""

    name: str
    env_class: str
    features: tuple[FeatureChange, ...]
    bits: tuple[str, ...] = ()
    """One line per fingerprint whose stored bits appear or go, and per set of seeds whose bits change alike."""

    settings: tuple[str, ...] = ()
    """One line per changed setting, and one where the world changed."""

    is_new: bool = False
    unreadable: bool = False
    """Whether what is stored now cannot be read, so that nothing can be compared."""

    num_seeds: tuple[int, int] = (0, 0)
    dirty: bool = False
    """Whether the new one was recorded with uncommitted changes."""

    anchor: str = ""
    """Where drift is measured from, in words; empty where this is the first recording of all."""

    refusal: str = ""
    """Why the drift since the anchor lets no `accept` through, in words; empty where it does."""

    @property
    def empty(self) -> bool:
        """Whether nothing that is judged changes."""
        moved = any(change.changed for change in self.features)
        return not (self.is_new or self.unreadable or moved or self.bits or self.settings)


def diff(old: Baseline | CorruptBaseline | None, new: Baseline, *, new_anchor: bool = False) -> BaselineDiff:
    """What accepting `new` changes; `old` is None where nothing is stored, an error where it is unreadable."""
    before = old if isinstance(old, Baseline) else None
    history = history_after(before, new)
    return BaselineDiff(
        name=new.name,
        env_class=new.env_class,
        features=_features(before, new, drift_of(history) if len(history) > 1 else ()),
        bits=() if before is None else _bits(before, new),
        settings=() if before is None else _settings(before, new),
        is_new=old is None,
        unreadable=isinstance(old, CorruptBaseline),
        num_seeds=(len(before.ensemble.seeds) if before else 0, len(new.ensemble.seeds)),
        dirty=bool(new.provenance.dirty),
        anchor="" if before is None else _anchor(before, new, history, new_anchor=new_anchor),
        refusal="" if new_anchor else refusal_of(new, history),
    )


def markdown(diffs: list[BaselineDiff], *, reason: str = "") -> str:
    """The changes as Markdown for a pull request: a table of features, then one line per other change."""
    lines = [f"| baseline | {' | '.join(COLUMNS)} |", f"| --- | --- |{' ---: |' * (len(COLUMNS) - 1)}"]
    lines += [_row(each, change) for each in diffs for change in each.features]
    notes = [f"- `{each.name}` ({each.env_class}): {note}" for each in diffs for note in notes_of(each)]
    head = [f"Reason: {' '.join(reason.split())}", ""] if reason else []
    return "\n".join([*head, *lines, *(["", *notes] if notes else [])])


def notes_of(change: BaselineDiff) -> list[str]:
    """What a reader should know besides the features, most important first."""
    notes = [f"refused: {change.refusal}"] if change.refusal else []
    notes += change.settings
    notes += [change.anchor] if change.anchor else []
    if change.is_new:
        notes.append("new, nothing was stored")
    if change.unreadable:
        notes.append("the stored file cannot be read and is replaced; its history is lost")
    if change.dirty:
        notes.append("recorded with uncommitted changes")
    if change.num_seeds[0] not in (0, change.num_seeds[1]):
        notes.append(f"seeds {change.num_seeds[0]} -> {change.num_seeds[1]}")
    return notes + list(change.bits)


def _anchor(old: Baseline, new: Baseline, history: tuple[Accepted, ...], *, new_anchor: bool) -> str:
    changed = why_new_anchor(old, new)
    if changed:
        return f"a new anchor starts, for {changed}"
    asked = "a new anchor starts, as asked for" if new_anchor else ""
    if len(history) == 1:
        return asked
    first, steps = history[0], len(history) - 1
    since = f"{steps} recording{'s' if steps != 1 else ''} accepted since"
    old_one = f"drift is from the anchor of {first.date} ({first.reason}), {since}"
    return f"{asked}; {old_one}" if asked else old_one


def _features(old: Baseline | None, new: Baseline, drifts: Sequence[Drift]) -> tuple[FeatureChange, ...]:
    before = {} if old is None else old.ensemble.features
    after = new.ensemble.features
    since = {each.feature: each for each in drifts}
    return tuple(
        FeatureChange(
            feature=name,
            old=float(np.mean(before[name])) if name in before else None,
            new=float(np.mean(after[name])) if name in after else None,
            old_sd=float(np.std(before[name], ddof=1)) if name in before else None,
            drift=since.get(name),
        )
        for name in sorted(before.keys() | after.keys() | since.keys())
    )


def _bits(old: Baseline, new: Baseline) -> tuple[str, ...]:
    lines, kept = [], merge(old, new).exact
    for fingerprint in sorted(old.exact.keys() | new.exact.keys()):
        before, after = old.exact.get(fingerprint), new.exact.get(fingerprint)
        if before is None:
            lines.append(f"bits of environment {fingerprint} are added")
        elif after is None:
            if fingerprint not in kept:
                lines.append(f"bits of environment {fingerprint} are dropped: they are of the old training")
        else:
            lines += _seed_lines(fingerprint, before, after)
    return tuple(lines)


def _seed_lines(fingerprint: str, old: ExactEntry, new: ExactEntry) -> list[str]:
    """One line per set of groups that differ, with all the seeds in which just these differ."""
    changed: dict[tuple[str, ...], list[str]] = {}
    for seed in sorted(old.seeds.keys() & new.seeds.keys(), key=int):
        groups = differing_groups(old.seeds[seed].digests, new.seeds[seed].digests)
        changed.setdefault(tuple(groups), []).append(seed)
    return [
        f"bits of seeds {', '.join(seeds)} in {fingerprint}: {', '.join(groups)} differ"
        for groups, seeds in changed.items()
        if groups
    ]


def _settings(old: Baseline, new: Baseline) -> tuple[str, ...]:
    changed = old.spec.differences(new.spec)
    lines = [f"setting {key}: {before!r} -> {after!r}" for key, (before, after) in changed.items()]
    if old.world_digest != new.world_digest:
        lines.append(f"world: {old.world_digest or 'unknown'} -> {new.world_digest or 'unknown'}")
    return tuple(lines)


def _row(each: BaselineDiff, change: FeatureChange) -> str:
    cells = [each.name, change.feature, *cells_of(change)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def cells_of(change: FeatureChange, *, digits: int = 6) -> list[str]:
    """All of `COLUMNS` but the first, as printed: means, change in percent, z, drift since the anchor and its cap."""
    since = None if change.drift is None else change.drift.relative
    cap = None if change.drift is None else change.drift.cap
    return [
        _number(change.old, f"{{:.{digits}g}}"),
        _number(change.new, f"{{:.{digits}g}}"),
        _number(change.relative, "{:+.2f} %", unit=100),
        _number(change.z, "{:+.1f}"),
        _number(since, "{:+.2f} %", unit=100),
        _number(cap, "{:.1f} %", unit=100),
    ]


def _number(value: float | None, form: str, *, unit: float = 1) -> str:
    return "-" if value is None else form.format(unit * value)
