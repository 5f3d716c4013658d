"""Reports that a test run leaves: page, summary and JUnit, from gates as a user runs them, and made again later."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET

import pytest

from fixtures.pages import make_report, make_result
from rectest.checks.result import Verdict
from rectest.cli import main
from rectest.plugin.collect import Collector
from rectest.report import machine
from rectest.training.program import run_spec

MINE = """
def train(run):
    rng = run.seeds.rng("noise")
    for _ in range(30):
        run.step(loss=1.0 + 0.01 * float(rng.random()), batch=rng.integers(0, 9, 4).tolist())
    run.metrics("test", {"recall@10": 0.3 * (1 + 0.01 * float(rng.normal()))})
"""
TESTS = """
import mine
import pytest

@pytest.mark.gate
def test_gate(rec_gate):
    rec_gate(mine.train)
"""
RESULTS = """
from rectest import CheckResult, Verdict

def test_checked(rec_check):
    rec_check([CheckResult(check="chance", subject="mymodel", verdict=Verdict.PASS, figure="0.34")])
"""
REPORTS = ("--rectest-html=out/r.html", "--rectest-markdown=out/r.md", "--rectest-json=out/r.json")


def run(*args: str) -> int:
    """Exit code of the command."""
    with pytest.raises(SystemExit) as leaving:
        main(args)
    return leaving.value.code or 0


@pytest.fixture
def project(pytester, monkeypatch):
    """A user's project with a gate, trained in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("rectest.training.launch.launch", lambda spec, **_: run_spec(spec))
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makepyfile(mine=MINE, test_mine=TESTS)

    def gate(*options):
        return pytester.runpytest_inprocess("-m", "gate", "--rectest-processes=1", "--rectest-seeds=8", *options)

    pytester.gate = gate
    yield pytester
    sys.modules.pop("mine", None)


def test_a_gate_from_absent_to_green(project, capsys):
    absent = project.gate("--rectest-html=absent.html", "--rectest-markdown=absent.md")

    assert absent.ret == 1
    assert "UNCALIBRATED" in (project.path / "absent.html").read_text()
    assert "| ⚪ | mine:train | UNCALIBRATED |" in (project.path / "absent.md").read_text()

    assert project.gate("--rectest-update=new", "--rectest-reason=first").ret == 0
    green = project.gate(*REPORTS, "--junitxml=junit.xml")
    page, summary = ((project.path / "out" / name).read_text() for name in ("r.html", "r.md"))
    stored = json.loads((project.path / "out" / "r.json").read_text())

    assert green.ret == 0
    green.stdout.fnmatch_lines(["json report: out/r.json", "html report: out/r.html", "markdown report: out/r.md"])
    assert "mine:train is green" in page
    assert "<svg" in page
    assert "| ✅ | mine:train | PASS |" in summary
    assert stored["date"].endswith("Z")
    (gate,) = gates_of(project.path / "junit.xml")
    assert (gate["gate"], gate["verdict"], gate["level"], gate["runs"]) == ("mine:train", "PASS", "L1", 1)
    assert 0 < gate["mdd"]["test/recall@10"] < 1

    capsys.readouterr()
    folder = project.path / "out"
    assert run("report", str(folder / "r.json"), "--html", "later.html", "--markdown", "later.md") == 0
    assert capsys.readouterr().out == "html report: later.html\nmarkdown report: later.md\n"
    assert page == (project.path / "later.html").read_text()
    assert summary == (project.path / "later.md").read_text()


def gates_of(path) -> list[dict]:
    """The values of the gates' properties in a JUnit file, which a strict reader accepts."""
    found = {p.get("name"): p.get("value") for p in ET.parse(path).iter("property")}
    return [json.loads(value) for name, value in found.items() if name.endswith("/gate") and "baseline" not in name]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["serial", "xdist"])
def test_the_controller_writes_once(pytester, workers):
    pytester.makepyfile(RESULTS)

    result = pytester.runpytest_inprocess(*workers, *REPORTS[:2])

    assert result.ret == 0
    assert (pytester.path / "out" / "r.md").read_text().count("### ✅ rectest: mymodel is green") == 1
    assert "mymodel" in (pytester.path / "out" / "r.html").read_text()


@pytest.mark.parametrize("kind", ["html", "markdown", "json"])
def test_what_cannot_be_written_is_one_line_and_red(pytester, kind):
    pytester.makepyfile(RESULTS)
    (pytester.path / "file").write_text("")

    result = pytester.runpytest_inprocess(f"--rectest-{kind}=file/r")

    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert [line for line in result.errlines if line] == [
        f"rectest: cannot write {pytester.path / 'file/r'}: " + WHY[kind]
    ]


WHY = {"html": "File exists", "markdown": "File exists", "json": "File exists"}


def test_a_run_without_results_is_reported_as_such(pytester):
    pytester.makepyfile("def test_plain(): pass")

    result = pytester.runpytest_inprocess(*REPORTS[:2])

    assert result.ret == 0
    assert "Nothing was measured" in (pytester.path / "out" / "r.html").read_text()
    result.stdout.fnmatch_lines(["html report: out/r.html"])


def test_a_test_that_fails_without_a_result_is_in_every_report(pytester):
    pytester.makepyfile(RESULTS + "\ndef test_plain(): assert 1 == 2, 'one is not two'\n")

    pytester.runpytest_inprocess(*REPORTS)

    for name in ("r.html", "r.json"):
        assert "test_plain failed: AssertionError: one is not two" in (pytester.path / "out" / name).read_text()
    assert "No system is red, but the run failed (exit status 1)" in (pytester.path / "out" / "r.md").read_text()


def test_a_check_may_be_called_gate():
    collector = Collector()
    result = make_result(Verdict.PASS, check="gate")
    properties = [("rectest/toy/gate", json.dumps(result.to_dict())), ("rectest/toy/gate", '{"gate": "toy"}')]
    report = pytest.TestReport("t", ("t", 1, "t"), {}, "passed", None, "call", user_properties=properties)

    collector.pytest_runtest_logreport(report)

    assert collector.found() == [("t", result)]


def test_a_report_command_without_a_target_says_so(tmp_path, capsys):
    path = machine.write_report(tmp_path / "r.json", make_report("bits"))

    assert run("report", str(path)) == 2
    assert "nothing to write: give --html FILE, --markdown FILE or both" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", '{"schema": 7}', "[]"])
def test_a_foreign_file_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "r.json"
    path.write_text(content)

    assert run("report", str(path), "--html", str(tmp_path / "r.html")) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"rectest: error: {path}: not ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]
