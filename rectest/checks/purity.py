"""Purity of evaluation: looking at a model must not change it, nor what it is trained on, and must repeat itself.

The loop evaluates with all global generators put back afterwards, so a stray draw cannot move training there; it is
still reported, because the same code in a plain loop would make every curve depend on how often one looks.
"""

from __future__ import annotations

from typing import Any

from rectest.checks.result import CheckResult, judged, not_measured
from rectest.record import RunRecord

__all__ = ["purity"]


def purity(record: RunRecord) -> list[CheckResult]:
    """Whether evaluation drew from a global generator, moved a parameter or buffer, or gave two answers.

    Reads ``facts["evaluation"]``: `drew` (names of global generators), `changed_model`, `count`, `repeatable` (the
    final evaluation done twice gave equal ranks), and ``facts["globals_changed"]`` (settings that importing the
    system left behind). A record without them is NOT MEASURED.
    """
    subject = record.spec.system
    facts = record.facts.get("evaluation") or {}
    if not facts.get("count") or "repeatable" not in facts:
        advice = "train it as a rectest.System, whose evaluations the loop watches"
        return [not_measured("purity", subject, "the record does not say what evaluation did", advice=advice)]
    return [
        _drew(subject, facts),
        _changed(subject, facts),
        _repeats(subject, facts),
        _globals(subject, record.facts.get("globals_changed") or {}),
    ]


def _drew(subject: str, facts: dict[str, Any]) -> CheckResult:
    drew = list(facts["drew"])
    return judged(
        "purity/random",
        subject,
        ok=not drew,
        figure=f"{facts['count']} evaluations drew from {', '.join(drew) if drew else 'no global generator'}",
        limit="no draw",
        detail="training would depend on how often it is evaluated" if drew else "",
        advice="give the evaluation a generator of its own, seeded anew each time",
    )


def _changed(subject: str, facts: dict[str, Any]) -> CheckResult:
    changed = bool(facts["changed_model"])
    return judged(
        "purity/model",
        subject,
        ok=not changed,
        figure=f"parameters and buffers {'moved' if changed else 'stayed'} in {facts['count']} evaluations",
        limit="equal bits before and after",
        detail="an evaluation that trains reports a model that nobody has" if changed else "",
        advice="evaluate in eval mode under no_grad, and look for buffers that are updated in forward",
    )


def _repeats(subject: str, facts: dict[str, Any]) -> CheckResult:
    same = bool(facts["repeatable"])
    return judged(
        "purity/repeatable",
        subject,
        ok=same,
        figure=f"the final evaluation done twice gives {'equal' if same else 'different'} ranks",
        limit="equal ranks",
        detail="" if same else "dropout is on, or candidates are drawn anew: early stopping then picks a lucky draw",
        advice="switch dropout off in evaluation, and fix its candidates",
    )


def _globals(subject: str, changed: dict[str, str]) -> CheckResult:
    found = ", ".join(f"{name} is now {value}" for name, value in sorted(changed.items()))
    return judged(
        "purity/imports",
        subject,
        ok=not changed,
        figure=found or "importing the system changed no process-wide setting",
        limit="no change",
        detail="every other model of this process is trained under that setting too" if changed else "",
        advice="set it where it is needed and put it back, not at import",
    )
