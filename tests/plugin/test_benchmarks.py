"""`--rectest-require=benchmark`: whatever keeps a benchmark from being measured makes the run red and names it."""

from __future__ import annotations

import json

import pytest

from fixtures.bench_runs import make_run
from rectest.benchmarks.history import append_run

TESTS = """
import pytest

def test_fast(benchmark):
    benchmark.pedantic(len, args=([],), rounds=3)

def test_slow(benchmark):
    benchmark.pedantic(sum, args=([1],), rounds=3)

def test_other():
    pass
"""
FAST, SLOW = "test_theirs.py::test_fast", "test_theirs.py::test_slow"
REQUIRE = "--rectest-require=benchmark"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Keep notes on one line; and pytest-benchmark turns off where it believes to be on a worker."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def theirs(pytester):
    pytester.makepyfile(test_theirs=TESTS)
    return pytester


def told(result):
    """The notes, without the first words."""
    lines = [line.strip() for line in result.outlines if "NOT MEASURED" in line]
    return [line.removeprefix("NOT MEASURED: ") for line in lines]


def test_a_run_that_measured_all_is_green(theirs):
    result = theirs.runpytest_inprocess(REQUIRE)

    assert result.ret == 0
    assert told(result) == []


def test_without_the_option_nothing_changes(theirs):
    result = theirs.runpytest_inprocess("--benchmark-skip")

    assert result.ret == 0
    assert told(result) == []


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--benchmark-disable"], "--benchmark-disable is set"),
        (["--benchmark-skip"], "it was skipped (Skipping benchmark (--benchmark-skip active).)"),
        (["-p", "no:benchmark"], "pytest-benchmark is not loaded"),
        (["-k", "other"], "it was deselected"),
        (["--collect-only"], "it did not run"),
        (["--setup-only", "-W", "ignore"], "it did not run"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_each_way_not_to_measure_is_red(theirs, args, reason):
    result = theirs.runpytest_inprocess(REQUIRE, *args)

    assert result.ret == 1
    assert told(result) == [f"{name} was not measured: {reason}" for name in (FAST, SLOW)]


def test_only_the_one_that_is_left_out_is_named(theirs):
    result = theirs.runpytest_inprocess(REQUIRE, "-k", "not slow")

    assert result.ret == 1
    assert told(result) == [f"{SLOW} was not measured: it was deselected"]


def test_under_xdist(theirs):
    result = theirs.runpytest_subprocess(REQUIRE, "-n1", "-p", "no:hypothesispytest")

    assert result.ret == 1
    assert sorted(told(result)) == [
        f"{name} was not measured: pytest-benchmark is off under xdist; run it with -n0" for name in (FAST, SLOW)
    ]


@pytest.mark.parametrize("body", ["pass", "pytest.skip('no time')", "benchmark.disabled = True; benchmark(len, [])"])
def test_a_test_that_times_nothing(pytester, body):
    pytester.makepyfile(test_theirs=f"import pytest\ndef test_fast(benchmark):\n    {body}\n")

    result = pytester.runpytest_inprocess(REQUIRE, "-W", "ignore")

    assert result.ret == 1
    reason = "it was skipped (no time)" if "skip" in body else "it never timed anything"
    assert told(result) == [f"{FAST} was not measured: {reason}"]


@pytest.mark.parametrize(("argument", "expected"), [("benchmark", 1), ("tmp_path", 0)])
def test_a_file_that_skips_itself_hides_no_benchmark(theirs, argument, expected):
    text = f"import pytest\npytest.importorskip('absent_module')\ndef test_more({argument}): pass\n"
    theirs.makepyfile(test_more=text)
    result = theirs.runpytest_inprocess(REQUIRE)

    assert result.ret == expected
    assert [line.partition(" (")[0] for line in told(result)] == [
        "test_more.py was not measured: all of it was skipped"
    ] * expected


def test_no_benchmark_at_all(pytester):
    pytester.makepyfile("def test_other(): pass\n")

    result = pytester.runpytest_inprocess(REQUIRE)

    assert result.ret == 1
    assert told(result) == ["no benchmark ran: none was collected that this machine can run"]


def test_a_benchmark_that_fails_is_named_too(pytester):
    pytester.makepyfile(test_theirs="def test_fast(benchmark):\n    benchmark(len, [])\n    assert 0\n")

    result = pytester.runpytest_inprocess(REQUIRE)

    assert result.ret == 1
    assert told(result) == [f"{FAST} was not measured: it failed in call"]


class TestVanished:
    def test_one_that_the_history_knows(self, theirs):
        folder = theirs.path / "baselines" / "bench"
        append_run(folder, make_run({FAST: 1.0, "test_theirs.py::test_gone": 1.0}))

        result = theirs.runpytest_inprocess(REQUIRE)

        assert result.ret == 1
        assert told(result) == [
            "test_theirs.py::test_gone was not measured: it is known from earlier runs and was not collected"
        ]

    def test_only_the_last_run_counts(self, theirs):
        folder = theirs.path / "baselines" / "bench"
        append_run(folder, make_run({"test_theirs.py::test_gone": 1.0}, day=1))
        append_run(folder, make_run({FAST: 1.0, SLOW: 1.0}, day=2))

        assert theirs.runpytest_inprocess(REQUIRE).ret == 0

    def test_one_that_the_ini_lists(self, theirs):
        theirs.makeini(
            "[pytest]\nrectest_benchmarks =\n    test_theirs.py::test_listed\n    test_theirs.py::test_fast\n"
        )

        result = theirs.runpytest_inprocess(REQUIRE)

        assert result.ret == 1
        assert [line.split()[0] for line in told(result)] == ["test_theirs.py::test_listed"]

    def test_a_history_that_cannot_be_read_is_not_passed_over(self, theirs):
        folder = theirs.path / "baselines" / "bench"
        folder.mkdir(parents=True)
        (folder / "cpu.jsonl").write_text('{"schema":1,"benchm')

        result = theirs.runpytest_inprocess(REQUIRE)

        assert result.ret == 1
        assert told(result)[0].startswith("the history is damaged: cpu.jsonl, line 1 of 19 bytes is no run")


class TestGpu:
    BENCHMARK = "import pytest\n\n@pytest.mark.gpu\ndef test_cuda(benchmark):\n    benchmark(len, [])\n"

    @pytest.fixture(autouse=True)
    def no_gpu(self, monkeypatch):
        monkeypatch.setattr("rectest.plugin.num_gpus", lambda: 0)

    def test_one_without_its_gpu_is_excused(self, pytester):
        pytester.makepyfile(test_cuda=self.BENCHMARK, test_theirs=TESTS)

        assert pytester.runpytest_inprocess(REQUIRE).ret == 0

    def test_but_not_where_nothing_else_was_measured(self, pytester):
        pytester.makepyfile(test_cuda=self.BENCHMARK, test_plain="def test_plain(): pass\n")

        result = pytester.runpytest_inprocess(REQUIRE)

        assert result.ret == 1
        assert told(result)[1:] == ["no benchmark ran: none was collected that this machine can run"]

    def test_a_required_gpu_excuses_none(self, pytester):
        pytester.makepyfile(test_cuda=self.BENCHMARK, test_theirs=TESTS)

        result = pytester.runpytest_inprocess("--rectest-require=benchmark,gpu")

        assert result.ret == 1
        assert told(result)[1:] == ["test_cuda.py::test_cuda needs a GPU, and gpu tests are required"]

    def test_a_run_without_gpu_tests_measured_none(self, theirs):
        result = theirs.runpytest_inprocess("--rectest-require=gpu")

        assert result.ret == 1
        assert told(result) == ["no gpu test ran, and gpu tests are required"]

    def test_it_contradicts_allowing_none(self, theirs):
        result = theirs.runpytest_inprocess("--rectest-require=gpu", "--rectest-allow-no-gpu")

        assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_it_is_in_the_machine_report(theirs):
    theirs.runpytest_inprocess(REQUIRE, "--benchmark-disable", "--rectest-json=report.json")
    report = json.loads((theirs.path / "report.json").read_text())

    assert report["exit_status"] == 1
    assert f"NOT MEASURED: {FAST} was not measured: --benchmark-disable is set" in report["notes"]


def test_an_unknown_kind_is_refused(theirs):
    result = theirs.runpytest_inprocess("--rectest-require=benchmarks")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'benchmarks' cannot be required; a list of benchmark, gpu was needed*"])
