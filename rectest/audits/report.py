"""`Audit`: what an audit of a file gives back, with its severity, its exit code and its JSON.

Owns the form of an answer and no judgement. A finding is a `CheckResult`, so that the gate and the command say the same
words about the same property; its check is the code that ``rectest audit --explain`` knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rectest.checks.result import CheckResult, Verdict

__all__ = ["FOUND", "Audit", "Severity", "severity_of"]

FOUND = 1
"""The exit code of an audit that found something, or could not look at what it was asked to look at."""

SCHEMA = 1


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "error"
    """Impossible, or wrong whatever the file is used for."""

    WARNING = "warning"
    """Possible, and rarely meant."""

    UNKNOWN = "not measured"
    """Asked for, and could not be looked at; what was not measured is not green."""

    OK = "ok"


_SEVERITY = {
    Verdict.PASS: Severity.OK,
    Verdict.SUSPICIOUS: Severity.WARNING,
    Verdict.NOT_MEASURED: Severity.UNKNOWN,
    Verdict.UNCALIBRATED: Severity.UNKNOWN,
}


def severity_of(result: CheckResult) -> Severity:
    """The severity of a result: an error unless its verdict is known to weigh less."""
    return _SEVERITY.get(result.verdict, Severity.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """One audited artefact."""

    kind: str
    """``table``, ``mapping``, ``metrics``, ``data`` or ``record``."""

    subject: str
    """The file, as it was named."""

    results: tuple[CheckResult, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the artefact is, in plain values: rows, columns, type, users; printed first."""

    notes: tuple[str, ...] = ()
    """What was not asked and what would answer it; what a protocol switched off, and why."""

    @property
    def findings(self) -> tuple[CheckResult, ...]:
        """Everything that is not in order, the heaviest first."""
        order = list(Severity)
        found = [result for result in self.results if severity_of(result) is not Severity.OK]
        return tuple(sorted(found, key=lambda result: order.index(severity_of(result))))

    @property
    def exit_code(self) -> int:
        """0 where every property was looked at and is in order; an audit without results looked at nothing."""
        return FOUND if self.findings or not self.results else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; every finding carries its severity."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "subject": self.subject,
            "exit_code": self.exit_code,
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "results": [_with_severity(result) for result in _ordered(self)],
        }


def _ordered(audit: Audit) -> Sequence[CheckResult]:
    return [*audit.findings, *(result for result in audit.results if severity_of(result) is Severity.OK)]


def _with_severity(result: CheckResult) -> dict[str, str]:
    return {"severity": str(severity_of(result)), **result.to_dict()}
