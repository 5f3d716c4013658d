"""The JSON report: its schema, what it says of an empty or red run, that it is whole or not there, and its reading."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.pages import ABSENT, ORIGIN, make_report, make_result
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import RecordError
from rectest.report.machine import REPORT_SCHEMA, Origin, RunReport, read_report, write_report

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
KEYS = {
    "schema",
    "verdict",
    "exit_status",
    "counts",
    "date",
    "commit",
    "dirty",
    "environment",
    "notes",
    "gates",
    "results",
}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="ascii"))


def test_schema(tmp_path):
    report = make_report(results=[make_result(), make_result(Verdict.FAIL, limit="> 0.04")], exit_status=1, notes=["x"])

    obtained = read(write_report(tmp_path / "r.json", report))

    assert set(obtained) == KEYS
    assert (REPORT_SCHEMA, "FAIL", 1) == tuple(obtained[key] for key in ("schema", "verdict", "exit_status"))
    assert obtained["counts"] == {"FAIL": 1, "PASS": 1}
    assert (ORIGIN.date, ORIGIN.commit, True) == tuple(obtained[key] for key in ("date", "commit", "dirty"))
    assert report.environment == obtained["environment"]
    assert obtained["notes"] == ["x"]
    assert obtained["results"][1] == {"test": "t.py::test_1", **report.results[1][1].to_dict()}


def test_an_empty_run_measured_nothing(tmp_path):
    obtained = read(write_report(tmp_path / "r.json", RunReport(results=(), exit_status=5)))

    assert (obtained["verdict"], obtained["exit_status"], obtained["counts"]) == ("NOT MEASURED", 5, {})
    assert obtained["environment"] is obtained["date"] is obtained["commit"] is None


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [("PU", "UNCALIBRATED"), ("PUN", "NOT MEASURED"), ("PUNF", "FAIL"), ("P", "PASS")],
)
def test_the_verdict_is_the_worst(verdicts, worst):
    found = [make_result(next(v for v in reversed(Verdict) if v.startswith(letter))) for letter in verdicts]

    assert worst == make_report(results=found).verdict


def test_a_red_run_is_never_a_pass():
    assert make_report(results=[make_result()], exit_status=1).verdict is Verdict.FAIL


@settings(max_examples=25, deadline=None)
@given(figure=TEXT, test=TEXT)
def test_any_text_survives(tmp_path_factory, figure, test):
    path = tmp_path_factory.mktemp("report") / "r.json"
    report = RunReport(results=((test, make_result(figure=figure)),), exit_status=0)

    assert read_report(write_report(path, report)) == report
    (obtained,) = read(path)["results"]
    assert (test, figure) == (obtained.pop("test"), obtained["figure"])
    assert CheckResult.from_dict(obtained) == make_result(figure=figure)


def test_reading_gives_back_what_was_written(tmp_path):
    report = make_report("drop", "rounding", results=[ABSENT], exit_status=1, notes=["said"])

    obtained = read_report(write_report(tmp_path / "r.json", report))

    assert report.to_dict() == obtained.to_dict()
    assert report.gates == obtained.gates


def test_a_file_from_before_dates_and_gates_is_read(tmp_path):
    path = write_report(tmp_path / "r.json", make_report(results=[make_result()]))
    old = {key: value for key, value in read(path).items() if key not in ("date", "commit", "dirty", "gates")}
    path.write_text(json.dumps(old))

    obtained = read_report(path)

    assert obtained.origin == Origin()
    assert obtained.gates == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON, or cut off"),
        (b'{"schema": 1, "resu', "not JSON, or cut off"),
        (b"\xff\xfe", "not JSON, or cut off"),
        (b"[" * 100_000, "not JSON, or cut off"),
        (b"[]", "not a report that this version reads"),
        (b'{"schema": 2, "results": []}', "schema 2, needed 1"),
        (b'{"schema": 1, "system": "toy"}', "not a report that this version reads"),
        (b'{"schema": 1, "results": []}', "KeyError.'exit_status'"),
        (b'{"schema": 1, "results": [1], "exit_status": 0, "environment": null, "notes": []}', "does not understand"),
        (
            b'{"schema": 1, "results": [], "exit_status": 0, "environment": null, "notes": [], "gates": [{}]}',
            "evidence",
        ),
    ],
)
def test_damaged_and_foreign_files_are_refused_by_name(tmp_path, content, problem):
    path = tmp_path / "r.json"
    path.write_bytes(content)

    with pytest.raises(RecordError, match=problem) as caught:
        read_report(path)

    assert str(caught.value).startswith(f"{path}: ")


def test_where_a_report_comes_from(tmp_path):
    moment = datetime(2026, 8, 2, 5, 4, 5, 999, tzinfo=timezone(timedelta(hours=2)))

    assert Origin.here(tmp_path, now=moment) == Origin(date="2026-08-02T03:04:05Z")
    assert ORIGIN.code == "commit 0123456789ab with uncommitted changes"
    assert replace(ORIGIN, dirty=None).code == "commit 0123456789ab"
    assert Origin().code == ""
    assert len(Origin.here(Path(__file__).parent, now=moment).commit or "0" * 40) == 40


def test_folders_are_made_and_an_old_report_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "out" / "deep" / "r.json"
    write_report(path, make_report(results=[make_result()]))
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, make_report())

    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())
