"""One gate from its first run to its verdict: load the baseline, train a seed, judge, train another one if need be.

Who trains is given as a function, so that the plugin and the commands gate in the same way. What the runs mean is for
`levels`; here belongs what comes before: a baseline that is absent or cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rectest.baseline.evidence import Evidence, evidence_of
from rectest.baseline.judge import ENSEMBLE
from rectest.baseline.levels import judge_gate
from rectest.baseline.pooling import MIN_SYSTEMS, noise_of
from rectest.baseline.recording import TrainMany
from rectest.baseline.schema import Baseline
from rectest.baseline.store import BaselineStore, StoredName
from rectest.baseline.update import State, state_of
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import CorruptBaseline, NoBaseline
from rectest.record import RunRecord, RunSpec

__all__ = ["Judged", "judge_against", "look"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What some runs of one spec come to against a store."""

    results: tuple[CheckResult, ...]
    state: State
    baseline: Baseline | None = None
    """None where it is absent or cannot be read."""

    evidence: Evidence | None = None
    undecided: bool = False
    """Whether another seed is to be trained."""


def look(
    store: BaselineStore,
    spec: RunSpec,
    train: TrainMany,
    *,
    max_runs: int,
    alpha_scale: float = 1.0,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[RunRecord], Judged]:
    """Train the first seed and judge; another seed while nothing is decided, at most `max_runs`.

    Raises:
        RectestError: a training failed.
    """
    records: list[RunRecord] = []
    while True:
        records += train([spec.with_(seed=spec.seed + len(records))])
        judged = judge_against(store, spec, records, max_runs=max_runs, alpha_scale=alpha_scale)
        if not judged.undecided or len(records) >= max_runs:
            return records, judged
        if progress is not None:
            head = judged.results[0]
            progress(f"{head.subject}: {head.verdict} {head.figure}; {head.advice}")


def judge_against(
    store: BaselineStore, spec: RunSpec, records: Sequence[RunRecord], *, max_runs: int, alpha_scale: float = 1.0
) -> Judged:
    """Judge the runs so far against what is stored for them; what is absent or damaged is a result, not an error."""
    env_class = records[0].environment.env_class
    subject = spec.system + (f"@{spec.world}" if spec.world else "")
    try:
        baseline, sidecar = store.read_whole(StoredName(env_class=env_class, system=spec.system, world=spec.world))
    except NoBaseline as e:
        missing = CheckResult(
            check=ENSEMBLE,
            subject=subject,
            verdict=Verdict.UNCALIBRATED,
            figure=f"no baseline for environment class {env_class!r}",
            expected=_shown(e.path),
            detail="what was never measured here cannot be compared; another class is never borrowed from",
            advice=_record_command(spec),
        )
        return Judged(results=(missing,), state=State.ABSENT)
    except CorruptBaseline as e:
        broken = CheckResult(
            check=ENSEMBLE,
            subject=subject,
            verdict=Verdict.NOT_MEASURED,
            figure=f"the baseline cannot be read: {e.problem}",
            expected=_shown(e.path),
            detail="a damaged baseline judges nothing, and it is never repaired by guessing",
            advice=f"restore it from version control, or {_record_command(spec, mode='failed')}",
        )
        return Judged(results=(broken,), state=State.CORRUPT)
    others, unread = _others(store, baseline)
    noise = noise_of(baseline, others)
    found = judge_gate(records, baseline, sidecar, max_runs=max_runs, noise=noise, alpha_scale=alpha_scale)
    if unread:
        head, *rest = found.results
        one = len(unread) == 1
        some = "1 other baseline cannot be read and lends" if one else f"{len(unread)} others cannot be read and lend"
        note = f"{some} no noise ({', '.join(unread)})"
        noted = replace(head, detail=f"{head.detail}; {note}" if head.detail else note)
        found = replace(found, results=(noted, *rest))
    return Judged(
        results=found.results,
        state=state_of(found.results),
        baseline=baseline,
        evidence=evidence_of(found, records, baseline, sidecar),
        undecided=found.undecided,
    )


def _others(store: BaselineStore, baseline: Baseline) -> tuple[list[Baseline], list[str]]:
    """The other baselines of the class where there are enough for pooling, and the names that cannot be read."""
    try:
        entries = [entry for entry in store.entries() if entry.env_class == baseline.env_class]
    except CorruptBaseline as e:
        return [], [_shown(e.path)]
    if len(entries) < MIN_SYSTEMS:
        return [], []
    found, unread = [], []
    for entry in entries:
        if (entry.system, entry.world) == (baseline.system, baseline.world):
            continue
        try:
            found.append(store.read(entry))
        except (NoBaseline, CorruptBaseline):
            unread.append(entry.path.name)
    return found, unread


def _record_command(spec: RunSpec, *, mode: str = "new") -> str:
    world = f" --rectest-world={spec.world}" if spec.world else ""
    device = f" --rectest-device={spec.device}" if spec.device != "cpu" else ""
    return f"record one on this machine: pytest -m gate --rectest-update={mode}{world}{device}"


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
