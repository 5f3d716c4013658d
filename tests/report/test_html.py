"""The page: what it says first, that it stands alone, that no name is markup, that equal input gives equal bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.evidence import CASES, evidence
from fixtures.html_page import Page
from fixtures.pages import ABSENT, HOSTILE, make_report, make_result
from rectest.checks.result import Verdict
from rectest.report import html
from rectest.report.html import html_report, write_page
from rectest.report.machine import Origin, RunReport


@pytest.fixture(autouse=True, scope="module")
def _remembered_figures():
    """Each figure is drawn once for all tests here: drawing is what takes the time, and it has tests of its own."""
    kept: dict[str, str] = {}

    def remembering(draw):
        def drawn(*args, **settings):
            key = repr((draw.__name__, args, settings))
            if key not in kept:
                kept[key] = draw(*args, **settings)
            return kept[key]

        return drawn

    with pytest.MonkeyPatch.context() as patch:
        for name in ("curve_figure", "feature_figure", "prefix_figure"):
            patch.setattr(html, name, remembering(getattr(html, name)))
        yield


def overview(report: RunReport) -> list[str]:
    """The rows of the overview as texts."""
    table = re.search(r'<table class="overview">.*?</table>', html_report(report), re.DOTALL)
    return [Page(row).text for row in re.findall(r"<tr>.*?</tr>", table[0], re.DOTALL)[1:]]


def test_red_comes_first_and_everything_is_in_the_table():
    green = replace(evidence("bits"), name="aaa")
    report = make_report(green, "drop", results=[ABSENT, make_result(subject="extra")], exit_status=1)
    rows = overview(report)

    assert [row.split()[1] for row in rows] == ["toy", "newcomer", "aaa", "extra"]
    assert [row[0] for row in rows] == ["✕", "✕", "✓", "✓"]
    assert "FAIL" in rows[0]
    assert "UNCALIBRATED no baseline for environment class 'cpu'" in rows[1]
    assert "not gated no gate was run" in rows[3]
    assert "2 of 4 systems are red" in html_report(report)


def test_what_a_gate_found_of_a_split_is_no_system_of_its_own():
    assert {result["subject"] for result in evidence("chance").results} == {"toy", "toy test"}
    assert len(overview(make_report("chance"))) == 1


def test_a_gate_that_was_refused_a_candidate_is_red():
    refused = make_result(Verdict.NOT_MEASURED, check="baseline/candidate", figure="no candidate: unstable seeds")
    report = make_report("bits", results=[refused], exit_status=1)

    assert overview(report)[0].startswith("✕ toy ✓ PASS")
    assert "baseline/candidate toy no candidate: unstable seeds" in Page(html_report(report)).text


@pytest.mark.parametrize("case", CASES)
def test_every_verdict_has_a_page_that_says_why(case):
    found = evidence(case)
    page = Page(html_report(make_report(case)))

    assert str(found.headline.verdict) in page.text
    assert " ".join(found.headline.figure.split()) in page.text.replace("\u00a0", " ")
    assert ("Next:" in page.text) is bool(found.headline.advice)
    assert " ".join(found.headline.advice.split()) in page.text


def test_the_promise_stands_beside_the_verdict():
    found = evidence("early")
    feature = next(feature for feature in found.features if feature.name.startswith("test/"))
    text = Page(html_report(make_report("early"))).text

    assert f"smallest drop caught {100 * feature.mdd:.2g} % in test/recall@10, with 90 % probability" in text
    assert "false-alarm rate 0.1 % of the whole gate" in text
    assert "seed 100, against 16 stored seeds" in text


def test_a_red_property_is_shown_and_green_ones_are_folded():
    bad = make_result(Verdict.FAIL, check="mapping", worst="row 17", advice="rebuild the map", limit="0")
    good = [make_result(check=f"ranges/{k}") for k in range(3)]
    page = Page(html_report(make_report("bits", results=[bad, *good])))

    assert "✕ 1 red" in page.text
    assert "rebuild the map" in page.under("Red properties", "smallest drop caught")
    assert "3 of 3, e.g. 0: 0.34" in page.text


def test_the_environment_is_told_honestly():
    same = Page(html_report(make_report("bits"))).text
    other = Page(html_report(make_report("other torch"))).text

    assert "the one it was recorded in" in same
    assert "another one than the baseline's" in other
    assert "differences threads 1 -> 2, torch '2.13.0' -> '2.12.0'" in other


def test_history_shows_drift_since_the_anchor():
    entry = {"date": "2026-08-01T12:00:00Z", "commit": None, "reason": "first", "means": {"test/recall@10": 0.2}}
    later = {**entry, "date": "2026-09-01T12:00:00Z", "reason": "second", "means": {"test/recall@10": 0.19}}
    gone = {**later, "reason": "third", "means": {}}
    first = {**entry, "mdd": {"test/recall@10": 0.1}}
    text = Page(html_report(make_report(replace(evidence("bits"), history=(first, later, gone))))).text

    assert "since the anchor: test/recall@10, at most 10 %" in text
    assert "second −5 %" in text
    assert "third –" in text
    assert "first anchor" in text


def test_names_and_messages_are_text():
    feature = replace(evidence("drop").features[0], name=f"test/{HOSTILE}")
    hostile = dict.fromkeys(("check", "figure", "worst", "limit", "detail", "advice"), HOSTILE)
    gate = replace(
        evidence("drop"),
        name=HOSTILE,
        features=(feature,),
        provenance={"reason": HOSTILE, "date": HOSTILE, "commit": HOSTILE, "environment": HOSTILE},
        history=(),
        results=({**evidence("drop").results[0], **hostile, "subject": HOSTILE},),
    )
    found = make_result(Verdict.FAIL, subject=HOSTILE, **hostile)
    page = Page(html_report(make_report(gate, results=[found], notes=[HOSTILE])))

    assert HOSTILE in page.text
    assert page.all("script") == []
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)


def test_the_page_stands_alone_and_can_be_read_by_everyone():
    text = html_report(make_report("drop", "rounding", "bits"))
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    links = [value for _, attributes in page.found if (value := attributes.get("href"))]

    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("script") == page.all("link") == page.all("img") == []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\((?!#)", text)
    assert len(ids) == len(set(ids))
    assert all(link.removeprefix("#") in ids for link in links)
    assert all(svg["role"] == "img" and svg["aria-label"] and svg["viewbox"] for svg in page.all("svg"))
    assert text.count("<table") == text.count('<div class="scroll"')
    assert "prefers-color-scheme: dark" in text
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


@pytest.mark.parametrize(
    "gate",
    [
        lambda: replace(evidence("drop"), curves=()),
        lambda: replace(evidence("drop"), features=()),
        lambda: replace(evidence("drop"), history=(), provenance={}, declared=None),
        lambda: replace(evidence("drop"), environment={"device": "unheard of"}),
        lambda: replace(evidence("late"), prefix=None),
    ],
    ids=["no curve", "no feature", "no history", "foreign environment", "five runs, no pair"],
)
def test_what_is_missing_leaves_a_page(gate):
    assert Page(html_report(make_report(gate()))).all("h2") == [{}]


def test_a_missing_curve_is_said():
    assert "no stored curves" in Page(html_report(make_report(replace(evidence("bits"), curves=())))).text


def test_evidence_that_contradicts_itself_promises_nothing():
    broken = replace(evidence("drop").features[0], weight=0.9)
    gate = replace(evidence("drop"), features=(broken, *evidence("drop").features[1:]))

    assert "false-alarm rate – of the whole gate" in Page(html_report(make_report(gate))).text


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (make_report(), "Nothing was measured"),
        (make_report("bits"), "toy is green"),
        (
            make_report("bits", exit_status=1, notes=["t.py::test_x failed: boom"]),
            "No system is red, but the run failed (exit status 1)",
        ),
        (make_report("drop", exit_status=1), "1 of 1 system is red"),
    ],
    ids=["nothing", "green", "another test", "red"],
)
def test_the_first_sentence(report, expected):
    page = Page(html_report(report))

    assert page.text.startswith(f"{expected} · rectest")
    assert all(note in page.text for note in report.notes)


def test_without_an_origin_nothing_is_invented():
    text = html_report(replace(make_report("bits"), origin=Origin(), environment=None))

    assert '<p class="facts">exit status 0</p>' in text


def test_five_systems_are_small():
    gates = [replace(evidence("drop"), name=f"system_{k}") for k in range(5)]
    results = [make_result(check=f"c{i}/{j}", subject=f"system_{k}") for k in range(5) for i in range(40) for j in "ab"]

    assert len(html_report(make_report(*gates, results=results)).encode()) < 400_000


def test_equal_input_gives_equal_bytes_in_every_process():
    code = (
        "import hashlib; from fixtures.pages import *; from rectest.report.html import html_report;"
        "print(hashlib.sha256(html_report(make_report('drop', 'rounding', results=[ABSENT])).encode()).hexdigest())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    found = [process.communicate()[0] for process in running]

    assert found[0] == found[1]
    assert len(found[0]) == 65


def test_the_page_is_written_whole(tmp_path):
    path = write_page(tmp_path / "out" / "r.html", make_report("bits"))

    assert path.read_text() == html_report(make_report("bits"))
    assert list(path.parent.iterdir()) == [path]
