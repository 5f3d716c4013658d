"""The JSON report: its schema, what it says of an empty or red run, and that it is whole or not there at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import make_environment
from rectest.checks.result import CheckResult, Verdict
from rectest.report.machine import REPORT_SCHEMA, write_report

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)


def result(verdict: Verdict = Verdict.PASS, **texts: str) -> CheckResult:
    return CheckResult(**{"check": "chance", "subject": "toy", "verdict": verdict, "figure": "0.34", **texts})


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="ascii"))


def test_schema(tmp_path):
    environment = make_environment().to_dict()
    found = [("t.py::test_a", result()), ("t.py::test_b", result(Verdict.FAIL, limit="> 0.04"))]

    path = write_report(tmp_path / "r.json", found, environment=environment, exit_status=1, notes=["said"])
    obtained = read(path)

    assert {"schema", "verdict", "exit_status", "counts", "environment", "notes", "results"} == set(obtained)
    assert (REPORT_SCHEMA, "FAIL", 1) == tuple(obtained[key] for key in ("schema", "verdict", "exit_status"))
    assert obtained["counts"] == {"FAIL": 1, "PASS": 1}
    assert environment == obtained["environment"]
    assert obtained["notes"] == ["said"]
    assert obtained["results"][1] == {"test": "t.py::test_b", **found[1][1].to_dict()}


def test_an_empty_run_measured_nothing(tmp_path):
    obtained = read(write_report(tmp_path / "r.json", [], environment=None, exit_status=5))

    assert (obtained["verdict"], obtained["exit_status"], obtained["counts"]) == ("NOT MEASURED", 5, {})
    assert obtained["environment"] is None


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [("PU", "UNCALIBRATED"), ("PUN", "NOT MEASURED"), ("PUNF", "FAIL"), ("P", "PASS")],
)
def test_the_verdict_is_the_worst(tmp_path, verdicts, worst):
    found = [("t", result(next(v for v in reversed(Verdict) if v.startswith(letter)))) for letter in verdicts]

    assert worst == read(write_report(tmp_path / "r.json", found, environment=None, exit_status=0))["verdict"]


@settings(max_examples=25, deadline=None)
@given(figure=TEXT, test=TEXT)
def test_any_text_survives(tmp_path_factory, figure, test):
    path = tmp_path_factory.mktemp("report") / "r.json"
    (obtained,) = read(write_report(path, [(test, result(figure=figure))], environment=None, exit_status=0))["results"]

    assert (test, figure) == (obtained.pop("test"), obtained["figure"])
    assert CheckResult.from_dict(obtained) == result(figure=figure)


def test_folders_are_made_and_an_old_report_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "out" / "deep" / "r.json"
    write_report(path, [("t", result())], environment=None, exit_status=0)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, [], environment=None, exit_status=1)

    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())
