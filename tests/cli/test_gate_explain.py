"""``rectest gate explain``: which gate is told, of which report, and what is said where there is nothing to tell."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.evidence import evidence
from rectest.checks.result import CheckResult, Verdict
from rectest.cli import main
from rectest.report.machine import RunReport, write_report

NO_BASELINE = CheckResult(
    check="baseline/ensemble",
    subject="fresh",
    verdict=Verdict.UNCALIBRATED,
    figure="no baseline for environment class 'cpu'",
    advice="record one on this machine: pytest -m gate --rectest-update=new",
)
DIED = CheckResult(check="infrastructure", subject="dead", verdict=Verdict.NOT_MEASURED, figure="killed by signal 9")


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["gate", "explain", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def write(path: Path, *gates, results=()) -> Path:
    return write_report(
        path, RunReport(results=tuple(("t.py::t", each) for each in results), exit_status=0, gates=gates)
    )


def test_the_report_of_the_first_line_of_the_readme_is_the_default(run, folder):
    write(folder / "rectest-report.json", evidence("drop"))
    code, out, err = run("toy")

    assert (code, err) == (0, "")
    assert out.startswith("toy (cpu): FAIL, decided by L3 after 2 runs")
    assert "├" in out


def test_a_pipe_is_eighty_columns_wide(run, folder):
    _, out, _ = run("toy", "--report", write(folder / "r.json", evidence("late")))

    assert max(len(line) for line in out.splitlines() if not line.lstrip().startswith("$ ")) <= 80
    assert "\x1b" not in out


def test_a_terminal_without_unicode_gets_ascii(folder, monkeypatch):
    path = write(folder / "r.json", evidence("drop"))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with pytest.raises(SystemExit) as leaving:
        main(["gate", "explain", "toy", "--report", str(path)])
    sys.stdout.flush()
    text = raw.getvalue().decode("ascii")

    assert not leaving.value.code
    assert re.search(r"alarm\n", text)
    assert re.search(r"-\[ +[.:+#]", text)


class TestWhich:
    @pytest.fixture
    def report(self, folder) -> Path:
        other = replace(evidence("early"), name="toy@other")
        return write(folder / "r.json", evidence("drop"), other, results=[NO_BASELINE, DIED])

    def test_all_worlds_by_default(self, run, report):
        _, out, _ = run("toy", "--report", report)

        assert "toy (cpu): FAIL" in out
        assert "toy@other (cpu): PASS" in out

    @pytest.mark.parametrize("args", [("toy", "--world", "other"), ("toy@other",)])
    def test_one_world(self, run, report, args):
        _, out, _ = run(*args, "--report", report)

        assert out.startswith("toy@other (cpu): PASS")
        assert "FAIL, decided" not in out

    def test_a_gate_without_a_baseline(self, run, report):
        code, out, _ = run("fresh", "--report", report)

        assert code == 0
        assert out.startswith("fresh: UNCALIBRATED, before anything was compared: no baseline for environment")
        assert "Record one on this machine" in out

    def test_a_training_that_died(self, run, report):
        assert run("dead", "--report", report)[1].startswith("dead: NOT MEASURED, before anything was compared: killed")

    @pytest.mark.parametrize(("args", "told"), [(("tay",), "'toy'"), (("toy", "--world", "othr"), "'toy@other'")])
    def test_another_name_lists_those_there(self, run, report, args, told):
        code, out, err = run(*args, "--report", report)

        assert (code, out) == (2, "")
        assert f"did you mean {told}?" in err
        assert "known: dead, fresh, toy, toy@other" in err


class TestPicture:
    def test_it_is_one_file_that_needs_no_page(self, run, folder):
        report = write(folder / "r.json", evidence("drop"))
        code, _, _ = run("toy", "--report", report, "--svg", folder / "a.svg")
        run("toy", "--report", report, "--svg", folder / "b.svg")
        text = (folder / "a.svg").read_text()

        assert code == 0
        assert text.startswith("<svg xmlns=")
        assert "test/recall@10" in text
        assert all(f"--{name.removesuffix(')')}:#" in text for name in {"ink", "muted", "line", "stored", "new", "bad"})
        assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()

    def test_of_several_gates_one_must_be_named(self, run, folder):
        report = write(folder / "r.json", evidence("drop"), replace(evidence("early"), name="toy@other"))
        code, _, err = run("toy", "--report", report, "--svg", folder / "a.svg")

        assert code == 2
        assert "one picture is of one gate, found toy, toy@other" in err
        assert not (folder / "a.svg").exists()


class TestNothingToTell:
    def test_no_report(self, run, folder):
        code, out, err = run("toy")

        assert (code, out) == (2, "")
        assert "rectest-report.json: no such report; make one with: pytest -m gate --rectest-json=rectest-re" in err

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ('{"schema": 1, "resul', "not JSON, or cut off"),
            ("\x00\x01", "not JSON"),
            ("[]", "not a report that this version reads"),
            ('{"schema": 99, "results": []}', "schema 99, needed 1"),
        ],
    )
    def test_a_damaged_report(self, run, folder, content, problem):
        (folder / "r.json").write_text(content)
        code, out, err = run("toy", "--report", "r.json")

        assert (code, out) == (2, "")
        assert problem in err
        assert "Traceback" not in err

    def test_a_report_without_gates(self, run, folder):
        chance = CheckResult(check="chance", subject="toy", verdict=Verdict.PASS, figure="0.3")
        code, _, err = run("toy", "--report", write(folder / "r.json", results=[chance]))

        assert code == 2
        assert "the report has no gates: it was written without -m gate" in err

    def test_evidence_of_another_schema(self, run, folder):
        path = write(folder / "r.json", evidence("drop"))
        values = json.loads(path.read_text())
        values["gates"][0]["schema"] = 99
        path.write_text(json.dumps(values))
        code, _, err = run("toy", "--report", path)

        assert code == 2
        assert "gate evidence of schema 99" in err

    def test_a_changed_number(self, run, folder):
        path = write(folder / "r.json", evidence("drop"))
        values = json.loads(path.read_text())
        values["gates"][0]["features"][0]["p"] = 0.5
        path.write_text(json.dumps(values))
        code, out, err = run("toy", "--report", path)

        assert (code, out) == (2, "")
        assert "what it says about test/recall@10 does not follow" in err
