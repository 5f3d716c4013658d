"""What an audit gives back: severities, the order of findings, exit codes, JSON."""

from __future__ import annotations

import json

import pytest

from rectest.audits.report import Audit, Severity, severity_of
from rectest.checks.result import CheckResult, Verdict


def result(verdict, check="data/x", **texts):
    return CheckResult(check=check, subject="log", verdict=verdict, figure="1 of 2", **texts)


def audit(*verdicts, **more):
    return Audit(kind="data", subject="a.inter", results=tuple(map(result, verdicts)), **more)


@pytest.mark.parametrize(
    ("verdict", "severity"),
    [
        (Verdict.PASS, Severity.OK),
        (Verdict.SUSPICIOUS, Severity.WARNING),
        (Verdict.NOT_MEASURED, Severity.UNKNOWN),
        (Verdict.UNCALIBRATED, Severity.UNKNOWN),
        (Verdict.FAIL, Severity.ERROR),
        (Verdict.CHANCE, Severity.ERROR),
        (Verdict.CHANGED, Severity.ERROR),
        (Verdict.UNDECIDED, Severity.ERROR),
    ],
)
def test_every_verdict_has_a_severity(verdict, severity):
    """Only PASS is in order."""
    assert severity is severity_of(result(verdict))
    assert (severity is not Severity.OK) == bool(audit(verdict).exit_code)


def test_no_verdict_is_forgotten():
    """A new one weighs as an error until it is known to weigh less."""
    assert {Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.ERROR} == {
        severity_of(result(verdict)) for verdict in Verdict
    }


def test_the_heaviest_finding_comes_first():
    """Errors, warnings, what was not measured; what is in order is none."""
    found = audit(Verdict.PASS, Verdict.NOT_MEASURED, Verdict.SUSPICIOUS, Verdict.FAIL).findings

    assert [Verdict.FAIL, Verdict.SUSPICIOUS, Verdict.NOT_MEASURED] == [one.verdict for one in found]


def test_an_audit_that_looked_at_nothing_is_not_green():
    """Fail closed."""
    assert audit().exit_code == 1


def test_json_holds_everything():
    """Severity, rows and all texts of each result, findings first."""
    whole = Audit(
        kind="data",
        subject="é.inter",
        results=(result(Verdict.PASS), result(Verdict.FAIL, rows="3, 5-7", advice="look")),
        facts={"users": 3},
        notes=("not asked",),
    )

    values = json.loads(json.dumps(whole.to_dict(), allow_nan=False))

    assert ["schema", "kind", "subject", "exit_code", "facts", "notes", "results"] == list(values)
    assert (1, "data", 1) == (values["schema"], values["kind"], values["exit_code"])
    assert ["error", "ok"] == [one["severity"] for one in values["results"]]
    assert "3, 5-7" == values["results"][0]["rows"]
