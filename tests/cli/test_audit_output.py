"""What all audit commands print: findings, notes, counts, JSON without NaN, exit codes, wrapped lines."""

from __future__ import annotations

import json
import math

import pytest
import typer

from rectest.audits.report import Audit
from rectest.checks.result import CheckResult, Verdict
from rectest.cli.audit_output import finish, wrapped


def result(verdict, check="data/x", **texts):
    return CheckResult(check=check, subject="log", verdict=verdict, figure="1 of 2", **texts)


def audit(*results, **more):
    return Audit(kind="data", subject="a.inter", results=results, **more)


@pytest.fixture
def printed(capsys):
    def printed(*audits, as_json=False, verbose=False):
        with pytest.raises(typer.Exit) as leaving:
            finish(audits, as_json=as_json, verbose=verbose)
        return leaving.value.exit_code, capsys.readouterr().out

    return printed


def test_what_is_in_order_is_one_line(printed):
    """And is told in full when asked."""
    good = audit(result(Verdict.PASS), facts={"users": 3})

    assert (0, "data a.inter: users 3\n  0 found, 1 of 1 properties in order\n") == printed(good)
    assert "  ok           data/x [log]: 1 of 2" in printed(good, verbose=True)[1]


def test_a_finding_shows_all_its_parts(printed):
    """Severity, place, limit, reason, advice; rows are for machines."""
    texts = {"worst": "line 3", "expected": "none", "limit": "0", "outside": "1", "detail": "LEAK", "advice": "split"}

    code, out = printed(audit(result(Verdict.FAIL, rows="3", **texts)))

    assert code == 1
    for word in (
        "error ",
        "worst ",
        "expected ",
        "limit ",
        "outside ",
        "why ",
        "next ",
        *texts.values(),
        "--explain CODE",
    ):
        assert word in out
    assert "rows" not in out


@pytest.mark.parametrize(
    ("verdict", "word"),
    [(Verdict.FAIL, "error"), (Verdict.SUSPICIOUS, "warning"), (Verdict.NOT_MEASURED, "not measured")],
)
def test_severities_are_printed(printed, verdict, word):
    """Each with exit code 1."""
    code, out = printed(audit(result(Verdict.PASS), result(verdict)))

    assert code == 1
    assert out.splitlines()[1].startswith(f"  {word:<12} data/x")


def test_notes_are_printed_and_cost_nothing(printed):
    """What was not asked is no finding."""
    code, out = printed(audit(result(Verdict.PASS), notes=("not asked",)))

    assert code == 0
    assert "  note         not asked" in out


def test_the_worst_exit_code_counts(printed):
    """Of several audits; none at all is not green."""
    good, bad = audit(result(Verdict.PASS)), audit(result(Verdict.FAIL))

    assert [0, 1, 1, 1] == [printed(*audits)[0] for audits in ([good, good], [good, bad], [bad, good], [])]


def test_json_is_a_list_with_rows(printed):
    """Also with text that is not ASCII, and with everything that is in order."""
    code, out = printed(audit(result(Verdict.FAIL, rows="3, 5-7"), result(Verdict.PASS), facts={"é": 1}), as_json=True)
    values = json.loads(out)

    assert code == 1
    assert ("3, 5-7", 2) == (values[0]["results"][0]["rows"], len(values[0]["results"]))
    assert {"é": 1} == values[0]["facts"]


def test_json_never_holds_nan(printed):
    """A fact that is none is an error of the program, not a broken file."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        finish([audit(facts={"mean": math.nan})], as_json=True, verbose=False)


def test_lines_are_wrapped_under_their_head():
    """Words are never broken, and continuation lines hang."""
    path = "/" + "x" * 150
    lines = wrapped("  head ", f"{'word ' * 40}{path} end")

    assert lines[0].startswith("  head word")
    assert all(line.startswith("       ") for line in lines[1:])
    assert all(len(line) <= 110 or path in line for line in lines)
    assert any(path in line for line in lines)


def test_an_empty_text_is_its_head():
    """Without blanks at the end."""
    assert ["  head"] == wrapped("  head ", "")
    assert "  w" == wrapped("a ", "w " * 100, indent="  ")[1][:3]
