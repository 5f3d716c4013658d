"""How results reach a person: the terminal section, the exit code, JUnit, JSON, with and without xdist."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

TESTS = """
import pytest
from rectest import CheckResult, Verdict

def result(verdict, check="chance", **fields):
    return CheckResult(check=check, subject="mymodel", verdict=verdict, figure="0.34", limit="> 0.04", **fields)

def test_green(rec_check):
    rec_check([result(Verdict.PASS), result(Verdict.PASS, check="ranges")])
"""
RED = """
def test_red(rec_check):
    rec_check([result(Verdict.FAIL, check="mapping", worst="row 17", advice="rebuild the map"), result(Verdict.PASS)])
"""
ODD = """
@pytest.mark.parametrize("verdict", [Verdict.NOT_MEASURED, Verdict.UNCALIBRATED])
def test_odd(rec_check, verdict):
    rec_check([result(verdict)])
def test_nothing(rec_check):
    rec_check([])
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["serial", "xdist"])
def test_red_is_red_and_the_section_says_why(pytester, workers):
    pytester.makepyfile(TESTS + RED)

    result = pytester.runpytest_inprocess(*workers, "--rectest-json=out/report.json", "--junitxml=junit.xml")

    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*= rectest =*", "mymodel", "*3 properties: 2 PASS, 1 FAIL*"])
    result.stdout.fnmatch_lines(["*FAIL  mapping*0.34*limit > 0.04*"])
    result.stdout.fnmatch_lines(["*FAIL mapping: mymodel: 0.34*", "*worst*row 17*", "*next*rebuild the map*"])
    report = json.loads((pytester.path / "out" / "report.json").read_text())
    assert report["schema"] == 1
    assert report["exit_status"] == 1
    assert report["verdict"] == "FAIL"
    assert report["counts"] == {"FAIL": 1, "PASS": 3}
    assert {r["test"].rpartition("::")[2] for r in report["results"]} == {"test_green", "test_red"}
    names = {p.get("name") for p in ET.parse(pytester.path / "junit.xml").iter("property")}
    assert {"rectest/mymodel/chance", "rectest/mymodel/mapping", "rectest/mymodel/ranges"} <= names


def test_green_is_green(pytester):
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_inprocess()

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*PASS*chance*", "2 properties: 2 PASS"])


def test_what_was_not_measured_is_not_green(pytester):
    pytester.makepyfile(TESTS + ODD)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*NOT MEASURED: no result at all*"])
    result.stdout.fnmatch_lines(["*4 properties: 2 PASS, 1 UNCALIBRATED, 1 NOT MEASURED*"])


def test_runs_without_rectest_stay_silent(pytester):
    pytester.makepyfile("def test_plain(): pass")

    result = pytester.runpytest_inprocess()

    assert result.ret == 0
    result.stdout.no_fnmatch_line("*= rectest =*")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--rectest-update=sometimes", "*invalid choice: 'sometimes'*"),
        ("--rectest-device=tpu", "*must be cpu, cuda or cuda:N, got 'tpu'*"),
        ("--rectest-deadline=0", "*must be positive, got 0*"),
        ("--rectest-deadline=soon", "*'soon' is not a number of seconds*"),
        ("--rectest-seeds=-3", "*must be a whole number of at least 1*"),
        ("--rectest-colour=red", "*unrecognized arguments: --rectest-colour=red*"),
    ],
)
def test_bad_options_die_at_once(pytester, option, problem):
    result = pytester.runpytest_inprocess(option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([problem])


def test_updates_are_refused_in_ci(pytester, monkeypatch):
    monkeypatch.setenv("CI", "true")

    result = pytester.runpytest_inprocess("--rectest-update=all")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*baselines are not written in CI (CI=true)*"])


def test_markers_work_under_strict_markers(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.gate
        def test_gate(): pass
        @pytest.mark.slow
        def test_slow(): pass
        """
    )

    result = pytester.runpytest_inprocess("--strict-markers", "-m", "gate")

    result.assert_outcomes(passed=1, deselected=1)


def test_a_red_run_is_never_reported_as_pass(pytester):
    pytester.makepyfile(TESTS + "\ndef test_plain(): assert False\n")

    result = pytester.runpytest_inprocess("--rectest-json=report.json")

    assert result.ret == 1
    assert json.loads((pytester.path / "report.json").read_text())["verdict"] == "FAIL"


@pytest.mark.parametrize("kind", ["json", "html", "markdown"])
def test_a_folder_is_no_report_file(pytester, kind):
    result = pytester.runpytest_inprocess(f"--rectest-{kind}=.")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is a folder; the name of a file was needed*"])


def test_the_fewest_seeds_are_those_of_the_schema():
    from rectest.baseline.schema import MIN_SEEDS
    from rectest.plugin.options import _FEWEST_SEEDS

    assert _FEWEST_SEEDS == MIN_SEEDS


@pytest.mark.parametrize("options", [(), ("--rectest-require=benchmark", "--benchmark-skip")])
def test_a_conftest_in_a_subfolder_is_no_trouble(pytester, options):
    """Pytest then asks plugins by set, in which they must be hashable."""
    for folder in ("one", "two"):
        (pytester.path / folder).mkdir()
        (pytester.path / folder / "conftest.py").write_text("def pytest_runtest_setup(item):\n    pass\n")
        (pytester.path / folder / f"test_{folder}.py").write_text("def test_it():\n    pass\n")

    result = pytester.runpytest_inprocess(*options)

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
