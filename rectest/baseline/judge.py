"""The two lanes of the gate: new runs against the stored bits, and against the stored distribution over seeds.

`judge_exact` compares bits, only inside one environment fingerprint; `judge_sequential` compares the runs so far with
the stored seeds inside one environment class, and says whether another run is needed. None borrows from another
environment, and both go red when the setting or the world is no longer what the baseline was recorded with. What the
lanes say together is decided in `levels`. Nothing is written here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rectest.baseline.exact import describe_change, differing_groups, digests, final_values
from rectest.baseline.features import feature_names
from rectest.baseline.looks import LookOutcome, Noise, judge_looks
from rectest.baseline.schema import Baseline, ExactEntry, SeedEntry, Settings
from rectest.checks.result import CheckResult, Verdict
from rectest.environment import Environment
from rectest.record import RunRecord

__all__ = ["ENSEMBLE", "EXACT", "REVIEW", "judge_exact", "judge_sequential", "world_digest"]

REVIEW = (
    "review the change; if it is intended: pytest -m gate --rectest-update=failed, "
    "or, with the candidates of CI: rectest baseline accept"
)
EXACT = "baseline/exact"
ENSEMBLE = "baseline/ensemble"


def judge_exact(record: RunRecord, baseline: Baseline) -> list[CheckResult]:
    """Whether a run still gives the stored bits; UNCALIBRATED where this environment or seed has none.

    Raises:
        ValueError: the baseline is of another system or world.
    """
    unfit = _unfit(EXACT, record, baseline)
    if unfit is not None:
        return [unfit]
    fingerprint, seed = record.environment.fingerprint, str(record.spec.seed)
    entry = baseline.exact.get(fingerprint)
    if entry is None:
        return [_other_environment(record, baseline)]
    if seed not in entry.seeds:
        stored = ", ".join(sorted(entry.seeds, key=int))
        figure = f"seed {seed} is not stored for this environment, only {stored}"
        return [_result(EXACT, baseline, Verdict.UNCALIBRATED, figure, detail="the ensemble lane judges")]
    return [_compare_bits(record, baseline, entry)]


def judge_sequential(
    records: Sequence[RunRecord],
    baseline: Baseline,
    *,
    max_runs: int = 5,
    noise: Noise | None = None,
    alpha_scale: float = 1.0,
) -> LookOutcome:
    """Whether the runs of a candidate's first seeds decide, or another seed is to be trained.

    PASS as soon as every drop and rise that the gate promises to see is excluded; FAIL from two runs on, and only if
    the change survives without its most extreme runs; after `max_runs` what is not red is green. The false-alarm rate
    is that of all looks together.

    Args:
        records: Runs of one spec that differ in their seeds only.
        baseline: The baseline of their system, world and environment class.
        max_runs: Two to five.
        noise: sds pooled over systems, where there are enough of them.
        alpha_scale: Both false-alarm rates are multiplied by it: a nightly run of fresh seeds asks for a tenth.

    Raises:
        ValueError: no records, too many, mixed ones, a repeated seed, or the baseline of another system or world.
    """
    _check_runs(records)
    for record in records:
        unfit = _unfit(ENSEMBLE, record, baseline)
        if unfit is not None:
            return LookOutcome(undecided=False, results=(unfit,))
    if replayed := _replayed(records, baseline):
        return LookOutcome(undecided=False, results=(replayed,))
    found = judge_looks(records, baseline, max_runs=max_runs, advice=REVIEW, noise=noise, alpha_scale=alpha_scale)
    return replace(found, results=(*found.results, *_new_features(records, baseline)))


def world_digest(record: RunRecord) -> str:
    """Digest of the data that a record was trained on; empty where the training did not say."""
    return str((record.facts.get("inputs") or {}).get("world", ""))


def _unfit(check: str, record: RunRecord, baseline: Baseline) -> CheckResult | None:
    """Why a record cannot be compared with a baseline at all, or None."""
    spec = record.spec
    if (spec.system, spec.world) != (baseline.system, baseline.world):
        msg = f"a record of {spec.describe()} against the baseline of {baseline.name}"
        raise ValueError(msg)
    if record.environment.env_class != baseline.env_class:
        figure = f"environment class {record.environment.env_class!r}, the baseline is of {baseline.env_class!r}"
        detail = "bits and distributions of another class of machines say nothing about this one; nothing is borrowed"
        advice = "record one here with: pytest -m gate --rectest-update=new"
        return _result(check, baseline, Verdict.UNCALIBRATED, figure, detail=detail, advice=advice)
    return _changed_settings(check, record, baseline) or _changed_world(check, record, baseline)


def _changed_settings(check: str, record: RunRecord, baseline: Baseline) -> CheckResult | None:
    changed = baseline.spec.differences(Settings.of(record.spec))
    if not changed:
        return None
    parts = [f"{key} {old!r} -> {new!r}" for key, (old, new) in changed.items()]
    return _result(
        check,
        baseline,
        Verdict.FAIL,
        f"the settings changed: {', '.join(parts)}",
        detail="a run with other settings is another experiment; the stored numbers say nothing about it",
        advice=f"restore the setting, or {REVIEW}",
    )


def _changed_world(check: str, record: RunRecord, baseline: Baseline) -> CheckResult | None:
    obtained = world_digest(record)
    if obtained == baseline.world_digest:
        return None
    return _result(
        check,
        baseline,
        Verdict.FAIL,
        f"the world changed: {obtained or 'the record names no world'}",
        expected=baseline.world_digest or "a record that names no world",
        detail="the training data is not what the baseline was recorded on, so no number is comparable",
        advice=f"restore the data, or {REVIEW}",
    )


def _other_environment(record: RunRecord, baseline: Baseline) -> CheckResult:
    stored = [entry.described() for entry in baseline.exact.values()]
    nearest = min(stored, key=lambda environment: len(environment.differences(record.environment)))
    differences = nearest.differences(record.environment)
    parts = [f"{key} {old!r} -> {new!r}" for key, (old, new) in sorted(differences.items())]
    return _result(
        EXACT,
        baseline,
        Verdict.UNCALIBRATED,
        f"no bits are stored for this environment ({record.environment.fingerprint})",
        expected=f"nearest, named and not used: {_line(nearest)}",
        worst=", ".join(parts),
        detail="the ensemble lane judges",
        advice="store this environment's bits with: pytest -m gate --rectest-update=new",
    )


def _line(environment: Environment) -> str:
    return f"{environment.fingerprint}, {environment.describe()}"


def _compare_bits(record: RunRecord, baseline: Baseline, entry: ExactEntry) -> CheckResult:
    stored, obtained = entry.seeds[str(record.spec.seed)], digests(record)
    names = sorted(stored.digests.keys() | obtained.keys())
    changed = differing_groups(stored.digests, obtained)
    if not changed:
        figure = f"seed {record.spec.seed}: all {len(names)} digests equal"
        return _result(EXACT, baseline, Verdict.PASS, figure)
    first = changed[0]
    worst, outside = _values_changed(stored, final_values(record))
    return _result(
        EXACT,
        baseline,
        Verdict.CHANGED,
        f"seed {record.spec.seed}: {first} is the first to differ ({len(changed)} of {len(names)}: "
        f"{', '.join(changed)})",
        worst=worst,
        expected=f"{first} {stored.digests.get(first, 'not stored')}, {_recorded(entry)}",
        limit=f"equal bits; obtained {obtained.get(first, 'not recorded')}",
        outside=outside,
        detail="the same seed in the same environment gives other bits: code, data or a library changed what is "
        "computed; whether that is rounding is for the paired lane, whether it is worse for the ensemble lane",
        advice=REVIEW,
    )


def _recorded(entry: ExactEntry) -> str:
    commit = entry.provenance.commit
    return f"recorded {entry.provenance.date}" + (f" at commit {commit[:12]}" if commit else "")


def _values_changed(stored: SeedEntry, obtained: dict[str, float]) -> tuple[str, str]:
    """The value that moved most, and how many moved."""
    lost = [name for name in stored.values if name not in obtained]
    if lost:
        return f"{lost[0]}: expected {stored.values[lost[0]]!r}, no longer recorded", ""
    moved = {name: obtained[name] for name, value in stored.values.items() if obtained[name] != value}
    if not moved:
        return "every stored value is equal to the last bit; only digests differ", ""
    name = max(moved, key=lambda key: _relative(stored.values[key], moved[key]))
    outside = f"{len(moved)} of {len(stored.values)} final values"
    return f"{name}: {describe_change(stored.values[name], moved[name])}", outside


def _relative(expected: float, obtained: float) -> float:
    if not math.isfinite(obtained):
        return math.inf
    scale = float(np.maximum(abs(expected), np.finfo(np.float64).tiny))
    return abs(obtained - expected) / scale


def _check_runs(records: Sequence[RunRecord]) -> None:
    if not records:
        msg = "no records to judge"
        raise ValueError(msg)
    first = records[0].spec
    odd = [r.spec for r in records if r.spec.with_(seed=first.seed, replica=first.replica) != first]
    if odd:
        msg = f"records of different specs in one ensemble: {first.describe()} and {odd[0].describe()}"
        raise ValueError(msg)
    for record in records:
        if record.environment.fingerprint != records[0].environment.fingerprint:
            differences = ", ".join(sorted(records[0].environment.differences(record.environment)))
            msg = f"records of different environments in one ensemble: {differences} differ"
            raise ValueError(msg)
    seeds = [record.spec.seed for record in records]
    if len(set(seeds)) != len(seeds):
        msg = f"a seed is repeated among the runs to judge ({seeds}); a repetition is not a new draw"
        raise ValueError(msg)


def _replayed(records: Sequence[RunRecord], baseline: Baseline) -> CheckResult | None:
    """That two seeds gave one run, where no two stored seeds did; None where every run is a draw of its own."""
    if len(set(zip(*baseline.ensemble.features.values(), strict=True))) < len(baseline.ensemble.seeds):
        return None
    known: dict[str, int] = {}
    for record in records:
        seed = record.spec.seed
        first = known.setdefault(record.digest("loss/", "metric/"), seed) if "loss/total" in record else seed
        if first != seed:
            figure = f"seeds {first} and {seed} gave the same numbers to the last bit; stored seeds never did"
            detail = "the seed no longer reaches the training, or one run was handed in twice: no second draw"
            advice = "look for a seed that is fixed in the code, and for records that were copied"
            return _result(ENSEMBLE, baseline, Verdict.NOT_MEASURED, figure, detail=detail, advice=advice)
    return None


def _new_features(records: Sequence[RunRecord], baseline: Baseline) -> list[CheckResult]:
    """What the runs have and the baseline does not."""
    known = baseline.ensemble.features.keys() | baseline.ensemble.left_out.keys()
    names = {name for record in records for name in feature_names(record)} - known
    return [_new_feature(name, baseline) for name in sorted(names)]


def _new_feature(name: str, baseline: Baseline) -> CheckResult:
    figure = f"{name} is not in the baseline"
    advice = "to gate it, record all seeds anew with: pytest -m gate --rectest-update=all"
    return _result(f"baseline/{name}", baseline, Verdict.UNCALIBRATED, figure, advice=advice)


def _result(check: str, baseline: Baseline, verdict: Verdict, figure: str, **rest: str) -> CheckResult:
    return CheckResult(check=check, subject=baseline.name, verdict=verdict, figure=figure, **rest)
