"""When a red run may be run again: only for want of a machine, never for what it found, and never by a plugin."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.result import CheckResult, Verdict
from rectest.errors import ChildFailed
from rectest.plugin.exit_status import (
    INFRASTRUCTURE,
    TEMPORARY_FAILURE,
    exit_status,
    is_infrastructure,
    only_infrastructure,
)
from rectest.training import launch


def result(verdict: Verdict, check: str = "chance") -> CheckResult:
    return CheckResult(check=check, subject="mine", verdict=verdict, figure="0.1")


STOPPED = result(Verdict.NOT_MEASURED, INFRASTRUCTURE)
GREEN, RED = result(Verdict.PASS), result(Verdict.FAIL)


@pytest.mark.parametrize(
    ("found", "failed", "expected"),
    [
        pytest.param([], [], False, id="nothing"),
        pytest.param([("a", GREEN)], [], False, id="green"),
        pytest.param([("a", STOPPED)], ["a"], True, id="stopped"),
        pytest.param([("a", STOPPED), ("b", GREEN)], ["a"], True, id="stopped beside green"),
        pytest.param([("a", STOPPED), ("b", RED)], ["a", "b"], False, id="stopped beside red"),
        pytest.param([("a", STOPPED), ("a", RED)], ["a"], False, id="stopped and red in one test"),
        pytest.param([("a", STOPPED)], ["a", "b"], False, id="a test failed without any result"),
        pytest.param([("a", STOPPED), ("b", GREEN)], ["a", "b"], False, id="a test failed with a green result"),
        pytest.param([("a", STOPPED)], [], False, id="a test that expects a stopped training passes"),
        pytest.param([("a", STOPPED), ("b", RED)], ["a"], False, id="red and forgiven by its test"),
    ],
)
def test_what_may_be_run_again(found, failed, expected):
    assert only_infrastructure(found, failed) is expected


@settings(max_examples=50, deadline=None)
@given(
    others=st.lists(st.sampled_from([verdict for verdict in Verdict if verdict.red]), max_size=3),
    stopped=st.integers(1, 3),
)
def test_one_red_result_of_another_kind_is_enough(others, stopped):
    found = [(f"stopped{i}", STOPPED) for i in range(stopped)]
    found += [(f"red{i}", result(verdict)) for i, verdict in enumerate(others)]

    assert only_infrastructure(found, [test for test, _ in found]) is not bool(others)


@pytest.mark.parametrize(
    ("status", "num_failures", "expected"),
    [
        (0, 0, 0),
        (1, 1, TEMPORARY_FAILURE),
        pytest.param(1, 2, 1, id="a collection error or a teardown beside it"),
        pytest.param(2, 1, 2, id="interrupted"),
        pytest.param(3, 1, 3, id="internal error"),
    ],
)
def test_only_failed_tests_change_the_status(status, num_failures, expected):
    failed = ["a"] if status else []

    assert exit_status(status, [("a", STOPPED)], failed, num_failures=num_failures) == expected


@pytest.mark.parametrize(
    ("reason", "detail", "expected"),
    [
        ("killed", "was killed by SIGKILL; on Linux that is mostly the out-of-memory killer", True),
        ("killed", "was killed by SIGTERM", True),
        ("killed", "was killed by SIGSEGV", False),
        ("killed", "rank 1 of 2 was killed by SIGABRT after 'step 2'", False),
        ("deadline", "was still running after its deadline of 1 s and was killed", True),
        ("memory", "ran out of memory", True),
        ("start", "ended with exit code 1 and no record", True),
        ("raised", "loss/total is NaN at step 3", False),
        ("raised", "raised KeyError: 'SIGKILL'", False),
    ],
)
def test_failures_of_machines(reason, detail, expected):
    assert is_infrastructure(ChildFailed("mine", reason=reason, detail=detail)) is expected


CONFTEST = """
import rectest.training.launch
from rectest.errors import ChildFailed

def launch(spec, *, how):
    raise ChildFailed(spec.describe(), reason=spec.config["reason"], detail="was " + spec.config["reason"])

rectest.training.launch.launch = launch
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A user's project in which every training is stopped; what launches in this process comes back afterwards."""
    monkeypatch.setattr(launch, "launch", launch.launch)
    pytester.makeconftest(CONFTEST)
    return pytester


STOPPED_TESTS = """
import pytest

@pytest.mark.parametrize("reason", ["killed", "deadline", "memory"])
def test_stopped(rec_train, reason):
    rec_train("mine:train", config={"reason": reason})

def test_other():
    pass
"""
RAISED = """
def test_raised(rec_train):
    rec_train("mine:train", config={"reason": "raised"})
"""
PLAIN = """
def test_plain():
    assert False
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["serial", "xdist"])
def test_a_run_that_was_only_stopped_has_its_own_exit_code(project, workers):
    project.makepyfile(test_stopped=STOPPED_TESTS)

    ended = project.runpytest_subprocess(*workers, "--rectest-json=report.json")

    assert ended.ret == TEMPORARY_FAILURE == 75
    ended.assert_outcomes(failed=3, passed=1)
    ended.stdout.fnmatch_lines(["*infrastructure: every red test is a training that was stopped*", "*exit code 75, *"])
    ended.stdout.fnmatch_lines(["*NOT MEASURED*infrastructure*mine:train*was killed*"])
    report = json.loads((project.path / "report.json").read_text())
    assert report["exit_status"] == 75
    assert report["verdict"] == "NOT MEASURED"


@pytest.mark.parametrize(
    ("name", "text", "workers"),
    [
        pytest.param("raised", RAISED, [], id="raised"),
        pytest.param("plain", PLAIN, ["-n2"], id="plain-xdist"),
        pytest.param("import", "import nothing_here", [], id="import"),
        pytest.param("import", "import nothing_here", ["-n2"], id="import-xdist", marks=pytest.mark.slow),
    ],
)
def test_anything_else_that_is_red_stays_red(project, workers, name, text):
    project.makepyfile(**{"test_stopped": STOPPED_TESTS, f"test_{name}": text})

    ended = project.runpytest_inprocess(*workers, "--continue-on-collection-errors")

    assert ended.ret == 1
    ended.stdout.fnmatch_lines(["*infrastructure: 3 of the red results; the others stay red*"])


RERUNNER = """
def pytest_addoption(parser):
    parser.addoption("--reruns", type=int, default=0)

def pytest_configure(config):
    config.addinivalue_line("markers", "flaky(reruns=1): run again")
    config.pluginmanager.register(object(), "rerunfailures")
"""
GATED = """
import pytest

def test_gate(rec_gate):
    rec_gate("mine:train", config={"reason": "killed"})

def test_plain():
    pass
"""


class TestReruns:
    def test_a_gate_that_would_be_run_again_is_refused(self, project):
        project.makeconftest(CONFTEST + RERUNNER)
        project.makepyfile(test_gate=GATED)

        ended = project.runpytest_inprocess("--reruns=2")

        assert ended.ret == 1
        ended.assert_outcomes(failed=1, passed=1)
        ended.stdout.fnmatch_lines(["*gate tests are never run again, and reruns (rerunfailures) asks for it*"])

    def test_a_marker_asks_for_it_too(self, project):
        project.makeconftest(CONFTEST + RERUNNER)
        project.makepyfile(test_gate=GATED.replace("def test_gate", "@pytest.mark.flaky(reruns=1)\ndef test_gate"))

        ended = project.runpytest_inprocess()

        assert ended.ret == 1
        ended.stdout.fnmatch_lines(["*gate tests are never run again, and its marker flaky*"])

    def test_a_plugin_that_runs_nothing_again_is_let_be(self, project):
        project.makeconftest(CONFTEST + RERUNNER)
        project.makepyfile(test_gate=GATED)

        assert project.runpytest_inprocess().ret == TEMPORARY_FAILURE
