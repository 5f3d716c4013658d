"""Collect results on the controller: they travel as user properties of test reports, so xdist needs no extra hooks.

Each result is one JUnit property ``rectest/<subject>/<check>`` whose value is JSON of plain strings, and each gate one
``rectest/<system>/gate`` with its verdict, level, number of runs and smallest drop caught, for whoever reads JUnit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rectest.baseline.evidence import Evidence
    from rectest.checks.result import CheckResult

__all__ = ["Collector", "attach", "attach_gate", "attach_note"]

PREFIX = "rectest/"
NOTE = "rectest-note"
_GATE_VALUE = '{"gate": '
"""How the value of a gate's property begins, and a result's does not: a check may be called gate, too."""

GATE_NOTE = "gate/"
"""Notes that say in which file a gate left its results and evidence; the folder is one that all workers share."""


def attach(item: pytest.Item, result: CheckResult) -> None:
    """Put one result on the test item that found it."""
    item.user_properties.append((f"{PREFIX}{result.subject}/{result.check}", json.dumps(result.to_dict())))


def attach_gate(item: pytest.Item, evidence: Mapping[str, Any]) -> None:
    """Put the gate's verdict and its promise on a test item, from `Evidence.to_dict`."""
    name = evidence["name"]
    promised = {feature["name"]: feature["mdd"] for feature in evidence["features"]}
    value = {
        "gate": name,
        "verdict": evidence["verdict"],
        "level": evidence["level"],
        "runs": len(evidence["seeds"]),
        "mdd": promised,
    }
    item.user_properties.append((f"{PREFIX}{name}/gate", json.dumps(value)))


def attach_note(item: pytest.Item, name: str, value: Any) -> None:
    """Put a plain value (the environment, a remark) on a test item; equal ones are shown once."""
    item.user_properties.append((NOTE, json.dumps({name: value}, sort_keys=True)))


@dataclass(eq=False)  # pytest keeps plugins in sets
class Collector:
    """What the controller has seen: results in order, notes, and what happened to the gpu tests."""

    results: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    others_ran: set[str] = field(default_factory=set)
    gpu_ran: set[str] = field(default_factory=set)
    gpu_skipped: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Tests that failed, with one line of why."""

    written: dict[str, Path] = field(default_factory=dict)
    """Reports by kind."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Read the properties of one report, and account for gpu tests."""
        for name, value in report.user_properties:
            if name == NOTE:
                self.notes.update(json.loads(str(value)))
            elif name.startswith(PREFIX) and not str(value).startswith(_GATE_VALUE):
                self.results[report.nodeid, name] = str(value)
        if report.failed:
            self.failed.setdefault(report.nodeid, _one_line(report))
        if "gpu" not in report.keywords:
            if not report.skipped:
                self.others_ran.add(report.nodeid)
        elif report.skipped:
            self.gpu_skipped.add(report.nodeid)
        elif report.when == "call":
            self.gpu_ran.add(report.nodeid)

    @property
    def gpu_unmeasured(self) -> int:
        """How many gpu tests were all there was to run, and yet none of them measured anything; else 0."""
        return 0 if self.gpu_ran or self.others_ran else len(self.gpu_skipped)

    def evidence(self) -> list[Evidence]:
        """What each gate rested on, in the order in which gates were run; those without a baseline have none."""
        from rectest.baseline.evidence import Evidence

        paths = [Path(path) for name, path in self.notes.items() if name.startswith(GATE_NOTE)]
        kept = [json.loads(path.read_text())["evidence"] for path in paths]
        return [Evidence.from_dict(values) for values in kept if values is not None]

    def unexplained(self) -> list[str]:
        """Tests that failed without a red result of their own: no report may pass over them."""
        told = {test for test, result in self.found() if result.verdict != "PASS"}
        return [f"{test} failed: {why}" for test, why in self.failed.items() if test not in told]

    def found(self) -> list[tuple[str, CheckResult]]:
        """Test and result, in the order of the tests."""
        from rectest.checks.result import CheckResult

        return [(test, CheckResult.from_dict(json.loads(text))) for (test, _), text in self.results.items()]


def _one_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(report.longrepr if crash is None else crash.message).strip().splitlines()
    return lines[0 if crash is not None else -1] if lines else "no message"
