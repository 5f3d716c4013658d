"""One test run as plain values, and the machine-readable file behind ``--rectest-json``.

`RunReport` is what every other report is made of: the page and the Markdown summary read nothing else, so that they can
be made later from the file. What the numbers mean is decided elsewhere.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rectest.baseline.evidence import Evidence
from rectest.baseline.provenance import git_state
from rectest.checks.result import CheckResult, Verdict, worst_verdict
from rectest.errors import RecordError
from rectest.record import atomic_write

__all__ = ["REPORT_SCHEMA", "Origin", "RunReport", "read_report", "write_report"]

REPORT_SCHEMA = 1
_WRITE = "write one with: pytest -m gate --rectest-json=FILE"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """When a run was made, and of which code."""

    date: str | None = None
    """UTC, ISO 8601, to the second; None in files of versions that did not write it, as the others."""

    commit: str | None = None
    """Full hash, or None outside version control."""

    dirty: bool | None = None
    """Whether the working tree had changes that the commit does not hold."""

    @property
    def code(self) -> str:
        """The commit in words; empty where it is unknown."""
        if not self.commit:
            return ""
        return f"commit {self.commit[:12]}" + (" with uncommitted changes" if self.dirty else "")

    @classmethod
    def here(cls, folder: Path, *, now: datetime | None = None) -> Origin:
        """This moment (or `now`), and the commit that is checked out in `folder`."""
        commit, dirty = git_state(folder)
        moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
        return cls(date=moment.isoformat().replace("+00:00", "Z"), commit=commit, dirty=dirty)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """What one test run found."""

    results: tuple[tuple[str, CheckResult], ...]
    """The test that found it, and the result."""

    exit_status: int
    """pytest's; a run that was red for another reason than a result is not reported as PASS."""

    environment: Mapping[str, Any] | None = None
    """What the training children computed in; None where nothing was trained."""

    notes: tuple[str, ...] = ()
    gates: tuple[Evidence, ...] = ()
    """What each gate rested on; a gate without a baseline has only results."""

    origin: Origin = Origin()

    @property
    def verdict(self) -> Verdict:
        """The worst of all results."""
        verdict = worst_verdict(result for _, result in self.results)
        return Verdict.FAIL if verdict is Verdict.PASS and self.exit_status else verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        counts = Counter(str(result.verdict) for _, result in self.results)
        return {
            "schema": REPORT_SCHEMA,
            "verdict": str(self.verdict),
            "exit_status": self.exit_status,
            "counts": dict(sorted(counts.items())),
            "date": self.origin.date,
            "commit": self.origin.commit,
            "dirty": self.origin.dirty,
            "environment": self.environment,
            "notes": list(self.notes),
            "gates": [evidence.to_dict() for evidence in self.gates],
            "results": [{"test": test, **result.to_dict()} for test, result in self.results],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunReport:
        """The inverse of `to_dict`; verdict and counts are worked out anew.

        Raises:
            RecordError: another schema, or something else than such a report.
        """
        schema = values.get("schema") if isinstance(values, Mapping) else None
        if schema != REPORT_SCHEMA or "results" not in values:
            msg = f"not a report that this version reads (schema {schema!r}, needed {REPORT_SCHEMA}); " + _WRITE
            raise RecordError(msg)
        try:
            return cls(
                results=tuple(_result(dict(each)) for each in values["results"]),
                exit_status=int(values["exit_status"]),
                environment=values["environment"],
                notes=tuple(str(note) for note in values["notes"]),
                gates=tuple(Evidence.from_dict(each) for each in values.get("gates", ())),
                origin=Origin(**{key: values.get(key) for key in ("date", "commit", "dirty")}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            msg = f"a report that this version does not understand ({e!r}); write it anew"
            raise RecordError(msg) from e


def write_report(path: Path, report: RunReport) -> Path:
    """Write a report as JSON in one atomic step."""
    return atomic_write(path, (json.dumps(report.to_dict(), indent=2, sort_keys=True) + "\n").encode())


def read_report(path: Path) -> RunReport:
    """Read what `write_report` wrote.

    Raises:
        RecordError: damaged, or another kind of file; the message has the path.
        OSError: the file cannot be opened.
    """
    content = path.read_bytes()
    try:
        values = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        msg = f"not JSON, or cut off ({e}); needed what --rectest-json writes"
        raise RecordError(msg, path=path) from e
    try:
        return RunReport.from_dict(values)
    except RecordError as e:
        raise RecordError(e.problem, path=path) from e


def _result(values: dict[str, Any]) -> tuple[str, CheckResult]:
    return str(values.pop("test")), CheckResult.from_dict(values)
