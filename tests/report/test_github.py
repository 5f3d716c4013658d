"""The Markdown summary: the table, what is red with what to do, appending, and names that are never markup."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.evidence import CASES, evidence
from fixtures.pages import ABSENT, HOSTILE, make_report, make_result
from rectest.checks.result import Verdict, worst_verdict
from rectest.report.github import append_summary, markdown_summary
from rectest.report.machine import Origin
from rectest.report.summary import SIGNS


def rows(text: str) -> list[list[str]]:
    """The cells of the first table."""
    table = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1:]]


def test_a_green_run_is_one_table():
    text = markdown_summary(make_report("bits"))

    assert text.startswith("### ✅ rectest: toy is green\n\n| | system | verdict |")
    assert rows(text)[0][:3] == ["✅", "toy", "PASS"]
    assert "####" not in text
    assert "false-alarm rate 0.1 % per gate" in text
    assert text.endswith("· 2026-08-02T03:04:05Z · commit 0123456789ab with uncommitted changes</sub>\n")


def test_red_comes_with_what_to_do():
    bad = make_result(Verdict.FAIL, check="mapping", figure="1 of 9 rows", worst="row 17", advice="rebuild the map")
    text = markdown_summary(make_report("drop", results=[ABSENT, bad], exit_status=1))

    assert text.startswith("### ❌ rectest: 2 of 2 systems are red")
    assert [row[:3] for row in rows(text)[:2]] == [["❌", "toy", "FAIL"], ["⚪", "newcomer", "UNCALIBRATED"]]
    assert "; 1 red property" in rows(text)[0][3]
    assert "#### ❌ toy: FAIL\n" in text
    assert "#### ❌ toy: FAIL mapping\n\n1 of 9 rows\n\n- worst: row 17" in text
    assert "```text\nrebuild the map\n```" in text
    assert "```text\nrecord one on this machine: pytest -m gate --rectest-update=new\n```" in text
    assert "| test/recall@10 | −" in text


@pytest.mark.parametrize("case", CASES)
def test_every_verdict_has_a_row(case):
    found = evidence(case)
    text = markdown_summary(make_report(case))

    assert rows(text)[0][:3] == [SIGNS[found.headline.verdict].emoji, "toy", str(found.headline.verdict)]
    assert ("####" in text) is (found.headline.verdict is not Verdict.PASS)


def test_nothing_measured_is_not_green():
    text = markdown_summary(replace(make_report(), origin=Origin()))

    assert text.startswith("### ❌ rectest: Nothing was measured")
    assert text.endswith("<sub>0 properties: nothing was measured</sub>\n")


def test_a_test_that_failed_without_a_result_is_told():
    text = markdown_summary(make_report("bits", exit_status=1, notes=["t.py::test_x failed: boom"]))

    assert text.startswith(
        "### ❌ rectest: No system is red, but the run failed (exit status 1)\n\n> t.py::test\\_x failed: boom"
    )


def test_names_are_neither_markup_nor_cells():
    gate = replace(evidence("drop"), name=HOSTILE)
    bad = make_result(Verdict.FAIL, subject=HOSTILE, figure="a\n# b", advice="```\nrm\n```")
    text = markdown_summary(make_report(gate, results=[bad], notes=["@someone"]))

    assert "<script" not in text
    assert "\n# b" not in text
    assert "@someone" not in text
    assert "````text\n```\nrm\n```\n````" in text
    assert all(len(row) == 5 for row in rows(text)[:1])


@settings(max_examples=30, deadline=None)
@given(name=st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20))
def test_any_name_stays_in_its_row(name):
    text = markdown_summary(make_report(results=[make_result(subject="toy", figure=name, verdict=Verdict.FAIL)]))
    table = [line for line in text.split("\n") if line.startswith("| ")]

    assert len(table) == 2
    assert "<" not in text.replace("<sub>", "").replace("</sub>", "")


def test_many_red_properties_are_cut_short_in_words():
    bad = [make_result(Verdict.FAIL, check=f"c/{k}") for k in range(25)]
    text = markdown_summary(make_report(results=bad))

    assert text.count("#### ❌") == 20
    assert "and 5 more red properties" in text


def test_the_summary_is_appended(tmp_path):
    path = tmp_path / "deep" / "summary.md"
    append_summary(path, make_report("bits"))
    once = path.read_text()
    path.write_text(once + "## of another step")
    append_summary(path, make_report("bits"))

    assert path.read_text() == f"{once}## of another step\n\n{once}"


def test_signs_are_in_the_order_of_severity_and_differ_without_colour():
    verdicts = list(SIGNS)

    assert set(verdicts) == set(Verdict)
    assert all(worst_verdict_of(a, b) == a for a, b in pairwise(verdicts))
    assert len({sign.mark for sign in SIGNS.values()}) == len({sign.emoji for sign in SIGNS.values()}) == len(SIGNS)


def worst_verdict_of(one: Verdict, other: Verdict) -> Verdict:
    return worst_verdict([make_result(one), make_result(other)])
