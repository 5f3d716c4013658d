"""Purity of evaluation: looking at a model must not change it, nor what it is trained on, and must repeat itself.

The loop evaluates with all global generators put back afterwards, so a stray draw cannot move training there; it is
still reported, because the same code in a plain loop would make every curve depend on how often one looks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rectest.checks.reproducible import SETUP_STAGES, Divergence, Tape, comparable, first_divergence, tape_of
from rectest.checks.result import CheckResult, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["purity", "schedule_independent"]


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


def schedule_independent(first: RunRecord, second: RunRecord) -> list[CheckResult]:
    """Whether two runs that are only evaluated at other steps train on the same batches to the same bits.

    Compares the tape of every stage (id map to parameters, and the states of the global generators) over the common
    steps; early stopping may end one run sooner. Specs or environments that differ in more than ``eval_every``, and
    schedules that look at the same steps, are NOT MEASURED.
    """
    subject = first.spec.system
    if problem := _no_two_schedules(first, second):
        advice = "train the same spec twice, once with another eval_every"
        return [not_measured("purity/schedule", subject, problem, advice=advice)]
    common = min(len(record["tape/loss"]) for record in (first, second))
    tapes = [_first_steps(tape_of(record), common) for record in (first, second)]
    found = first_divergence(*tapes, tensors=first.facts.get("tape"))
    return [_schedule(subject, found, common, _looks(first, common) ^ _looks(second, common))]


def _no_two_schedules(first: RunRecord, second: RunRecord) -> str:
    """Why the records cannot show the influence of the schedule, or nothing."""
    aligned = replace(second, spec=second.spec.with_(eval_every=first.spec.eval_every))
    if reasons := comparable(first, aligned):
        return f"not comparable: {'; '.join(reasons)}"
    missing = [
        stage
        for stage in ("batch", "loss", "parameters")
        if f"tape/{stage}" not in first or f"tape/{stage}" not in second
    ]
    if missing:
        return f"no tape of {sample(missing)}"
    common = min(len(record["tape/loss"]) for record in (first, second))
    if _looks(first, common) == _looks(second, common):
        return f"both runs were evaluated after the same of their {common} common steps"
    return ""


def _looks(record: RunRecord, common: int) -> frozenset[int]:
    """The evaluated steps that can still change a common one: those before the last."""
    return frozenset(int(step) for step in record.arrays.get("eval/steps", ()) if step < common)


def _first_steps(tape: Tape, num_steps: int) -> Tape:
    return {stage: marks if stage in SETUP_STAGES else marks[:num_steps] for stage, marks in tape.items()}


def _schedule(subject: str, found: Divergence | None, num_steps: int, moved: frozenset[int]) -> CheckResult:
    looked = f"evaluations after steps {sample(sorted(moved))} were in one run only"
    return judged(
        "purity/schedule",
        subject,
        ok=found is None,
        figure=f"{num_steps} steps bit-equal under two schedules"
        if found is None
        else f"first difference: {found.where}",
        expected="every training step bit-equal",
        worst="" if found is None else looked,
        detail=looked if found is None else f"how often one looks changes what is trained on; {found.explanation}",
        advice="give the evaluation a generator of its own, and look for state that scoring leaves in the system",
    )
