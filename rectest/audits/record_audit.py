"""The audit of a saved run record: every check of the gate that needs one run, and what a second run adds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rectest.audits.report import Audit
from rectest.checks.inputs import comparable_runs
from rectest.checks.reproducible import comparable, different_seeds_differ, reproducible
from rectest.checks.result import CheckResult
from rectest.checks.single_record import TWO_RUNS, judge_alone
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["audit_record", "load_record"]


def load_record(path: Path | str) -> RunRecord:
    """A record from its file.

    Raises:
        RecordError: the file cannot be read, or is no record.
    """
    file = Path(path)
    if file.is_dir():
        msg = "is a directory, needed a file that rectest train --out wrote"
        raise RecordError(msg, path=file)
    return RunRecord.load(file)


def audit_record(path: Path | str, *, against: Path | str | None = None) -> Audit:
    """Judge one record, and, with `against`, whether both runs agree as far as their specs promise.

    Two runs of one spec in one environment must be equal to the bit; runs that differ in the seed alone must have drawn
    other parameters, batches and negatives; other runs must at least be about one task.

    Raises:
        RecordError: a file is no record, or is damaged.
    """
    record = load_record(path)
    try:
        results, idle = judge_alone(record)
        if against is not None:
            results += _pair(record, load_record(against))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        msg = f"a damaged record: its arrays and facts do not fit together ({type(error).__name__}: {error})"
        raise RecordError(msg, path=path) from error
    facts = {"system": record.spec.describe(), "arrays": len(record.arrays), "steps": _num_steps(record)}
    notes = tuple(_notes(idle, alone=against is None))
    return Audit(kind="record", subject=str(path), results=tuple(results), facts=facts, notes=notes)


def _pair(record: RunRecord, other: RunRecord) -> list[CheckResult]:
    """What two runs promise each other, by what their specs have in common."""
    if not comparable(record, other):
        return reproducible(record, other)
    if record.spec.seed != other.spec.seed and record.spec == other.spec.with_(seed=record.spec.seed):
        return [*comparable_runs(record, other), *different_seeds_differ(record, other, stages=_drawn(record))]
    return comparable_runs(record, other)


def _drawn(record: RunRecord) -> tuple[str, ...]:
    """The stages that a seed must reach, among those that the record has."""
    found = tuple(stage for stage in ("init", "batch", "negatives") if f"tape/{stage}" in record)
    return found or ("init",)


def _num_steps(record: RunRecord) -> int:
    return len(record.arrays.get("loss/total", ()))


def _notes(idle: dict[str, str], *, alone: bool) -> Iterator[str]:
    for name, missing in idle.items():
        yield f"{name} was not asked: {missing}"
    if alone:
        yield f"--against RECORD adds a second run; {', '.join(TWO_RUNS)} need more than one"
