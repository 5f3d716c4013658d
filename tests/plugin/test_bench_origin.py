"""With `--benchmark-json` a benchmark of anybody says where it ran, and `rectest bench record` can keep the file."""

from __future__ import annotations

import json
import subprocess

import pytest

from rectest.benchmarks.pytest_json import read_benchmark_json
from rectest.errors import RecordError

TESTS = """
def test_plain(benchmark):
    benchmark.pedantic(len, args=([],), rounds=3)

def test_own(benchmark):
    benchmark.extra_info["x"] = 1.5
    benchmark.pedantic(len, args=([],), rounds=3)

def test_other():
    pass
"""


@pytest.fixture
def theirs(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(test_theirs=TESTS)
    return pytester


def test_each_benchmark_says_where_it_ran(theirs):
    result = theirs.runpytest_inprocess("--benchmark-json=b.json")

    assert result.ret == 0
    (run,) = read_benchmark_json(theirs.path / "b.json")
    assert run.environment.env_class == "cpu"
    assert {"test_theirs.py::test_plain", "test_theirs.py::test_own"} == set(run.benchmarks)
    assert run.benchmarks["test_theirs.py::test_own"].ratios == {"x": 1.5}


def test_without_the_plugin_the_file_is_refused_by_name(theirs):
    result = theirs.runpytest_subprocess("-p", "no:rectest", "--benchmark-json=b.json")

    assert result.ret == 0
    with pytest.raises(RecordError, match=r"test_theirs.py::test_plain does not say where it ran: .* plugin is loaded"):
        read_benchmark_json(theirs.path / "b.json")


def test_what_a_test_notes_itself_stays(theirs):
    theirs.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def note(request):
            if "benchmark" in request.fixturenames:
                request.getfixturevalue("benchmark").extra_info["environment"] = "mine"
        """
    )
    theirs.runpytest_inprocess("--benchmark-json=b.json")
    rows = json.loads((theirs.path / "b.json").read_text())["benchmarks"]

    assert ["mine", "mine"] == [row["extra_info"]["environment"] for row in rows]


def test_without_a_file_nothing_is_noted(theirs):
    theirs.makeconftest(
        """
        def pytest_sessionfinish(session):
            print("noted", [sorted(each.extra_info) for each in session.config._benchmarksession.benchmarks])
        """
    )
    result = theirs.runpytest_inprocess("-s")

    assert any(line.endswith("noted [[], ['x']]") for line in result.outlines)


@pytest.mark.parametrize(("changed", "dirty"), [("baselines/bench/cpu.jsonl", False), ("test_theirs.py", True)])
def test_changes_to_what_is_stored_are_none_to_what_is_measured(theirs, changed, dirty):
    stored = theirs.path / "baselines" / "bench" / "cpu.jsonl"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=theirs.path, check=True)
    with (theirs.path / changed).open("a") as file:
        file.write("\n")
    theirs.runpytest_inprocess("--benchmark-json=b.json")

    (run,) = read_benchmark_json(theirs.path / "b.json")
    assert run.dirty is dirty
