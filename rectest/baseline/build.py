"""Making a baseline of records: one clean run per seed, and the rounding twin of each.

What is refused here can be seen in the records alone. Whether the code they were made with may become a baseline at
all (uncommitted changes, unstable seeds, a fault that survives) is `refusals`; writing is `store`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rectest.baseline.exact import seed_entry
from rectest.baseline.features import (
    MIN_HITS,
    WINDOWS,
    feature_names,
    features,
    raw_feature,
    require_positive,
    split_of,
    too_few_hits,
    window,
)
from rectest.baseline.history import accepted_now
from rectest.baseline.judge import world_digest
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA, MAX_RUNS, promised_drop
from rectest.baseline.provenance import collect_provenance
from rectest.baseline.schema import (
    MIN_SEEDS,
    Baseline,
    Declared,
    Ensemble,
    ExactEntry,
    Provenance,
    Settings,
    Streams,
)
from rectest.baseline.sidecar import prefix_digest
from rectest.errors import RecordError, UpdateRefused
from rectest.record import RunRecord, RunSpec

__all__ = ["ROUNDING", "build_baseline", "extend_baseline", "twin_of"]

ROUNDING = "rectest.faults.controls:rounding"
"""The plant that makes a run its own rounding twin."""

NUM_EXACT = 5
"""Seeds whose bits are stored: as many as a gate ever trains, and no more lines in a diff than somebody reads."""


def twin_of(spec: RunSpec) -> RunSpec:
    """The run of the same seed whose initial parameters are moved to neighbouring floats."""
    return spec.with_(plant=ROUNDING)


def build_baseline(
    records: Sequence[RunRecord],
    *,
    twins: Sequence[RunRecord] = (),
    reason: str,
    num_exact: int = NUM_EXACT,
    provenance: Provenance | None = None,
) -> Baseline:
    """A whole baseline from one clean run per seed, all of one spec in one environment.

    Args:
        records: At least five, with different seeds.
        twins: The runs of `twin_of` their specs, all or none; without them the gate has no paired level.
        reason: Why these numbers are right, for the reviewer.
        num_exact: How many seeds, from the lowest, have their bits stored.
        provenance: Collected from this process and its repository by default.

    Raises:
        UpdateRefused: too few or repeated seeds, mixed specs, environments or worlds, planted runs, or values that
            no baseline can hold (NaN, zero, a missing metric).
    """
    ordered = sorted(records, key=lambda record: record.spec.seed)
    pairs = sorted(twins, key=lambda record: record.spec.seed)
    _refuse_unfit(ordered)
    _refuse_odd_twins(ordered, pairs)
    first = ordered[0]
    origin = provenance or collect_provenance(reason, environment=first.environment)
    entry = _exact_entry(ordered[: max(1, num_exact)], provenance=origin)
    baseline = Baseline(
        system=first.spec.system,
        world=first.spec.world,
        world_digest=world_digest(first),
        env_class=first.environment.env_class,
        spec=Settings.of(first.spec),
        exact={first.environment.fingerprint: entry},
        ensemble=_ensemble(ordered, pairs),
        provenance=origin,
        streams={str(record.spec.seed): _streams(record) for record in ordered},
    )
    declared = baseline.model_copy(update={"declared": _declared(baseline)})
    return declared.model_copy(update={"history": (accepted_now(declared),)})


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


def _ensemble(records: Sequence[RunRecord], twins: Sequence[RunRecord]) -> Ensemble:
    names = feature_names(records[0])
    try:
        if not names:
            features(records[0])
        columns = {name: [raw_feature(record, name) for record in records] for name in names}
        num_scored = _num_scored(records, {split for name in names if (split := split_of(name))})
        left_out = {
            name: f"fewer than {MIN_HITS:g} expected hits in an evaluation (mean {np.mean(values):.3g})"
            for name, values in columns.items()
            if too_few_hits(name, float(np.mean(values)), num_scored.get(split_of(name) or ""))
        }
        kept = [name for name in names if name not in left_out]
        for place, record in enumerate(records):
            require_positive(record, {name: columns[name][place] for name in kept})
        pairs = {name: [raw_feature(twin, name) for twin in twins] for name in kept} if twins else {}
        for place, twin in enumerate(twins):
            require_positive(twin, {name: pairs[name][place] for name in kept})
    except RecordError as e:
        raise UpdateRefused(str(e)) from e
    variances = {name: _user_variance(records, name) for name in kept}
    return Ensemble(
        seeds=tuple(record.spec.seed for record in records),
        fingerprint=records[0].environment.fingerprint,
        features={name: tuple(columns[name]) for name in kept},
        num_scored=num_scored,
        left_out=left_out,
        user_variance={name: value for name, value in variances.items() if value > 0},
        twins={name: tuple(values) for name, values in pairs.items()},
    )


def _user_variance(records: Sequence[RunRecord], name: str) -> float:
    """Variance of the logarithm of a feature over seeds if users erred independently; 0 where users were not kept.

    With h the value of user u in run i, N users and mean r: ``mean_u var_i(h, ddof=1) / N / r**2``.
    """
    stem, _, part = name.rpartition("/")
    key = f"users/{stem if part in WINDOWS else name}"
    if not all(key in record for record in records):
        return 0.0
    rows = [record[key] for record in records]
    if len({row.shape[1] for row in rows}) != 1:
        return 0.0
    chosen = [row[window(part, len(row))] if part in WINDOWS else row[-1:] for row in rows]
    values = np.stack([row.astype(np.float64).mean(axis=0) for row in chosen])
    values = values[:, ~np.isnan(values).any(axis=0)]
    if values.size == 0 or values.mean() <= 0:
        return 0.0
    return float(values.var(axis=0, ddof=1).mean() / values.shape[1] / values.mean() ** 2)


def _streams(record: RunRecord) -> Streams:
    return Streams(batches=prefix_digest(record, "batch"), negatives=prefix_digest(record, "negatives"))


def _declared(baseline: Baseline) -> Declared:
    mdd = {name: _promised(baseline, name) for name in baseline.ensemble.features}
    return Declared(alpha_drop=ALPHA_DROP, alpha_rise=ALPHA_RISE, beta=BETA, max_runs=MAX_RUNS, mdd=mdd)


def _promised(baseline: Baseline, name: str) -> float:
    try:
        return promised_drop(baseline, name)
    except ZeroDivisionError as e:
        msg = f"{name} varies so much from seed to seed that no change of it could ever be noticed"
        raise UpdateRefused(msg) from e


def _refuse_odd_twins(records: Sequence[RunRecord], twins: Sequence[RunRecord]) -> None:
    """Twins are of the same seeds, settings, world and environment, and differ by rounding alone."""
    if not twins:
        return
    wanted = [twin_of(record.spec).with_(replica=0) for record in records]
    if [twin.spec.with_(replica=0) for twin in twins] != wanted:
        msg = f"the rounding twins are not one for each of the {len(records)} runs; train twin_of(spec) for each"
        raise UpdateRefused(msg)
    for record, twin in zip(records, twins, strict=True):
        differences = record.environment.differences(twin.environment)
        if differences:
            msg = f"a rounding twin of another environment: {', '.join(sorted(differences))} differ"
            raise UpdateRefused(msg)
        if world_digest(record) != world_digest(twin):
            msg = f"a rounding twin on another world: {world_digest(record)!r} and {world_digest(twin)!r}"
            raise UpdateRefused(msg)


def _num_scored(records: Sequence[RunRecord], splits: Collection[str]) -> dict[str, int]:
    """Users behind each split's metrics, the fewest over the seeds; splits that do not say are left out."""
    counts = {s: [(r.facts.get("protocol") or {}).get(s, {}).get("num_scored") for r in records] for s in splits}
    return {split: min(found) for split, found in sorted(counts.items()) if all(found)}
