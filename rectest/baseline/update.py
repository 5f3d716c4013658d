"""Making new baselines: building one from records, deciding whether to, and accepting candidates.

Writing is always asked for. In CI nothing writes baselines: the gate leaves candidates, which are the same files under
another root, and a person accepts them with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from rectest.baseline.diff import BaselineDiff, diff
from rectest.baseline.exact import seed_entry
from rectest.baseline.features import feature_names, features, split_of
from rectest.baseline.judge import EXACT, world_digest
from rectest.baseline.provenance import collect_provenance
from rectest.baseline.schema import MIN_SEEDS, Baseline, Ensemble, ExactEntry, Provenance, Settings
from rectest.baseline.store import BaselineStore, StoredName
from rectest.checks.result import CheckResult, Verdict, any_red
from rectest.errors import CorruptBaseline, NoBaseline, RecordError, UnknownNameError, UpdateRefused
from rectest.record import RunRecord

__all__ = [
    "Action",
    "State",
    "accept",
    "build_baseline",
    "compare_candidates",
    "extend_baseline",
    "plan_update",
    "refuse_in_ci",
    "state_of",
]

NUM_EXACT = 5
"""Seeds whose bits are stored: as many as a gate ever trains, and no more lines in a diff than somebody reads."""


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


def build_baseline(
    records: Sequence[RunRecord],
    *,
    reason: str,
    num_exact: int = NUM_EXACT,
    provenance: Provenance | None = None,
) -> Baseline:
    """A whole baseline from one clean run per seed, all of one spec in one environment.

    Args:
        records: At least eight, with different seeds.
        reason: Why these numbers are right, for the reviewer.
        num_exact: How many seeds, from the lowest, have their bits stored.
        provenance: Collected from this process and its repository by default.

    Raises:
        UpdateRefused: too few or repeated seeds, mixed specs, environments or worlds, planted runs, or values that
            no baseline can hold (NaN, zero, a missing metric).
    """
    ordered = sorted(records, key=lambda record: record.spec.seed)
    _refuse_unfit(ordered)
    first = ordered[0]
    origin = provenance or collect_provenance(reason, environment=first.environment)
    entry = _exact_entry(ordered[: max(1, num_exact)], provenance=origin)
    return Baseline(
        system=first.spec.system,
        world=first.spec.world,
        world_digest=world_digest(first),
        env_class=first.environment.env_class,
        spec=Settings.of(first.spec),
        exact={first.environment.fingerprint: entry},
        ensemble=_ensemble(ordered),
        provenance=origin,
    )


def extend_baseline(
    baseline: Baseline, records: Sequence[RunRecord], *, reason: str, provenance: Provenance | None = None
) -> Baseline:
    """`baseline` with the bits of one more environment; ensemble and provenance stay.

    Save it with ``store.save(extended, extends=baseline)``.

    Raises:
        UpdateRefused: the records are of another system, setting, world or environment class, mixed, or planted, or
            other bits are stored for one of their seeds.
    """
    _refuse_mixed(records)
    first = records[0]
    mine = (baseline.system, baseline.world, baseline.world_digest, baseline.env_class, baseline.spec)
    spec = first.spec
    theirs = (spec.system, spec.world, world_digest(first), first.environment.env_class, Settings.of(spec))
    if mine != theirs:
        msg = f"records of {spec.describe()} do not extend the baseline of {baseline.name}: record it anew instead"
        raise UpdateRefused(msg)
    origin = provenance or collect_provenance(reason, environment=first.environment)
    entry = _exact_entry(records, provenance=origin)
    fingerprint = first.environment.fingerprint
    stored = baseline.exact[fingerprint].seeds if fingerprint in baseline.exact else {}
    changed = [seed for seed in stored.keys() & entry.seeds.keys() if stored[seed] != entry.seeds[seed]]
    if changed:
        msg = f"other bits are stored for seed {min(changed, key=int)} of {baseline.name}: record it anew instead"
        raise UpdateRefused(msg)
    entry = entry.model_copy(update={"seeds": {**stored, **entry.seeds}})
    return baseline.model_copy(update={"exact": {**baseline.exact, fingerprint: entry}})


def compare_candidates(
    candidates: BaselineStore, store: BaselineStore, systems: Collection[str] = ()
) -> list[tuple[StoredName, Baseline, BaselineDiff]]:
    """Every candidate, read and held against what is stored; nothing is written.

    Raises:
        UpdateRefused: there are no candidates.
        UnknownNameError: a system that was asked for is not among them.
        CorruptBaseline: one of the chosen candidates cannot be read.
    """
    names = candidates.entries()
    if not names:
        msg = f"no candidates in {candidates.root} (looked for <environment class>/<system>.json)"
        raise UpdateRefused(msg)
    for system in systems:
        if system not in {name.system for name in names}:
            raise UnknownNameError("candidate", system, {name.system for name in names})
    chosen = [name for name in names if not systems or name.system in systems]
    read = [(name, candidates.read(name)) for name in chosen]
    return [(name, new, diff(_stored(store, name), new)) for name, new in read]


def accept(
    candidates_root: str | Path, store: BaselineStore, systems: Collection[str] = (), *, reason: str
) -> list[BaselineDiff]:
    """Write the candidates (of `systems`, or all) into `store` with the reason of the person who accepts them.

    Every candidate is read and validated before the first one is written.

    Raises:
        ValueError: `reason` is blank, or the candidates are the store itself.
        BaselineError: as `compare_candidates`.
    """
    if not reason.strip():
        msg = "accepting a baseline needs a reason: one line that tells a reviewer why the numbers may change"
        raise ValueError(msg)
    candidates = BaselineStore(Path(candidates_root))
    if candidates.root.resolve() == store.root.resolve():
        msg = f"{candidates.root} holds the stored baselines themselves, not candidates"
        raise ValueError(msg)
    compared = compare_candidates(candidates, store, systems)
    for _, new, changes in compared:
        origin = new.provenance.model_copy(update={"reason": reason.strip()})
        store.save(new.model_copy(update={"provenance": origin}), replace=changes.unreadable)
    return [changes for _, _, changes in compared]


def _stored(store: BaselineStore, name: StoredName) -> Baseline | CorruptBaseline | None:
    try:
        return store.read(name)
    except NoBaseline:
        return None
    except CorruptBaseline as e:
        return e


def _refuse_unfit(records: Sequence[RunRecord]) -> None:
    _refuse_mixed(records)
    if len(records) < MIN_SEEDS:
        msg = f"{len(records)} seeds cannot carry a gate, at least {MIN_SEEDS} are needed (16 halve what it misses)"
        raise UpdateRefused(msg)
    declared = {tuple(feature_names(record)) for record in records}
    if len(declared) > 1:
        one, other = sorted(declared)[:2]
        msg = f"records that declare different features in one baseline: {list(one)} and {list(other)}"
        raise UpdateRefused(msg)


def _refuse_mixed(records: Sequence[RunRecord]) -> None:
    if not records:
        msg = "no records to make a baseline from"
        raise UpdateRefused(msg)
    first = records[0]
    for record in records:
        _refuse_odd(record, first)
    seeds = [record.spec.seed for record in records]
    if len(set(seeds)) != len(seeds):
        msg = f"seeds are repeated: {seeds}; a repetition is not a new draw"
        raise UpdateRefused(msg)


def _refuse_odd(record: RunRecord, first: RunRecord) -> None:
    if record.spec.plant:
        msg = f"{record.spec.describe()}: a run with a planted fault never becomes a baseline"
        raise UpdateRefused(msg)
    if record.spec.with_(seed=0, replica=0) != first.spec.with_(seed=0, replica=0):
        msg = f"records of different specs in one baseline: {first.spec.describe()} and {record.spec.describe()}"
        raise UpdateRefused(msg)
    differences = first.environment.differences(record.environment)
    if differences:
        msg = f"records of different environments in one baseline: {', '.join(sorted(differences))} differ"
        raise UpdateRefused(msg)
    if world_digest(record) != world_digest(first):
        msg = f"records of different worlds in one baseline: {world_digest(first)!r} and {world_digest(record)!r}"
        raise UpdateRefused(msg)


def _exact_entry(records: Sequence[RunRecord], *, provenance: Provenance) -> ExactEntry:
    try:
        seeds = {str(record.spec.seed): seed_entry(record) for record in records}
    except RecordError as e:
        raise UpdateRefused(str(e)) from e
    environment = records[0].environment.to_dict()
    return ExactEntry.model_validate({"environment": environment, "seeds": seeds, "provenance": provenance})


def _ensemble(records: Sequence[RunRecord]) -> Ensemble:
    try:
        rows = [features(record) for record in records]
    except RecordError as e:
        raise UpdateRefused(str(e)) from e
    return Ensemble(
        seeds=tuple(record.spec.seed for record in records),
        fingerprint=records[0].environment.fingerprint,
        features={name: tuple(row[name] for row in rows) for name in rows[0]},
        num_scored=_num_scored(records, {split for name in rows[0] if (split := split_of(name))}),
    )


def _num_scored(records: Sequence[RunRecord], splits: Collection[str]) -> dict[str, int]:
    """Users behind each split's metrics, the fewest over the seeds; splits that do not say are left out."""
    counts = {s: [(r.facts.get("protocol") or {}).get(s, {}).get("num_scored") for r in records] for s in splits}
    return {split: min(found) for split, found in sorted(counts.items()) if all(found)}
