"""Every verdict has steps of its own, and they name the right commands."""

from __future__ import annotations

from fixtures.evidence import evidence
from rectest.checks.result import CheckResult, Verdict
from rectest.report.advice import next_steps
from rectest.report.explain import explain


def told(case: str) -> str:
    return explain(evidence(case), width=400)


def test_each_verdict_has_its_own():
    steps = {
        verdict: list(next_steps(CheckResult(check="c", subject="s", verdict=verdict, figure="f"), "toy"))
        for verdict in Verdict
    }

    assert all(steps.values())
    assert len(Verdict) == len({tuple(step) for step in steps.values()})


def test_a_red_gate_is_attributed_and_never_run_again():
    assert "  $ rectest attribute toy\n" in told("drop")
    assert "Running it again trains the same seeds" in told("drop")
    assert "rectest baseline accept candidates" in told("drop")


def test_what_was_not_compared_is_not_accepted_blindly():
    text = told("other setting")

    assert "Restore the setting, or review the change" in text
    assert "attribute" not in text


def test_few_seeds_are_called_weak():
    assert "The baseline is WEAK" in told("weak")
    assert '$ rectest baseline record toy --seeds 16 --reason "why"' in told("weak")
    assert "WEAK" not in told("early")


def test_a_world_is_named():
    result = CheckResult(check="c", subject="s", verdict=Verdict.FAIL, figure="f")

    assert any("rectest attribute toy --world other" in step for step in next_steps(result, "toy@other"))
