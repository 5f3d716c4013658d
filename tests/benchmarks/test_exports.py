"""Exports: the shapes that other tools document, and pytest-benchmark itself reading what was written."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.bench_runs import make_run, make_timing
from rectest.benchmarks.exports import FORMATS, bencher, github_action_benchmark, pytest_benchmark
from rectest.benchmarks.pytest_json import read_benchmark_json

NAME = "tests/bench/test_a.py::test_a[x]"


@pytest.fixture
def run():
    memory = {"host_peak": 900, "host_growth": 64}
    timing = make_timing(NAME, 0.002, cpu_seconds=0.001, memory=memory, ratios={"fresh / warm": 3.5}, param="x")
    return make_run({NAME: timing, "tests/bench/test_b.py::test_b": 0.5})


def test_github_action_benchmark(run):
    """customSmallerIsBetter: name, unit, value; range and extra are texts."""
    first, memory, second = github_action_benchmark(run)

    assert {"name": NAME, "unit": "seconds", "value": 0.002, "range": "± 0.0001"}.items() <= first.items()
    assert {"name": f"{NAME} (host_growth)", "unit": "bytes", "value": 64}.items() <= memory.items()
    assert second["value"] == 0.5
    assert "10 rounds" in first["extra"]


def test_bencher(run):
    """Bencher Metric Format: latency is in nanoseconds, with bounds around it."""
    found = bencher(run)[NAME]

    assert found["latency"] == pytest.approx({"value": 2e6, "lower_value": 1.96e6, "upper_value": 2.04e6})
    assert found["cpu-time"] == {"value": 1e6}
    assert found["memory-host-growth"] == {"value": 64}
    assert found["ratio-fresh-warm"] == {"value": 3.5}


SECONDS = st.floats(1e-9, 1e3)


@settings(max_examples=50, deadline=None)
@given(times=st.dictionaries(st.text(min_size=1, max_size=20), SECONDS, min_size=1, max_size=4), ratio=st.floats(0, 9))
def test_the_shapes_hold_for_any_run(times, ratio):
    run = make_run({name: make_timing(name, value, ratios={"r": ratio}) for name, value in times.items()})
    for entry in github_action_benchmark(run):
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert all(isinstance(entry[key], str) for key in set(entry) - {"value"})
        assert math.isfinite(entry["value"])
    for measures in bencher(run).values():
        for measure, metric in measures.items():
            assert set(metric) <= {"value", "lower_value", "upper_value"}
            assert metric.get("lower_value", metric["value"]) <= metric["value"]
            assert metric["value"] <= metric.get("upper_value", metric["value"])
            assert measure == measure.lower()
    for form in FORMATS.values():
        assert json.loads(json.dumps(form(run), allow_nan=False))


def test_what_goes_out_comes_in_again(tmp_path, run):
    path = tmp_path / "b.json"
    path.write_text(json.dumps(pytest_benchmark(run)))

    assert [run] == read_benchmark_json(path)


def test_a_run_outside_version_control(run):
    bare = make_run({NAME: 1.0}, commit=None, dirty=None, machine={})

    assert pytest_benchmark(bare)["commit_info"]["id"] == "unversioned"
    assert pytest_benchmark(bare)["machine_info"]["cpu"]["count"] == 0


class TestPytestBenchmarkReadsIt:
    @pytest.fixture
    def storage(self, tmp_path):
        for day in (1, 2):
            values = pytest_benchmark(make_run({NAME: 0.1 * day, "b.py::test_b": 2.0}, day=day))
            (tmp_path / f"000{day}_run.json").write_text(json.dumps(values))
        return tmp_path

    def test_compare(self, storage):
        command = [sys.executable, "-m", "pytest_benchmark", f"--storage={storage}", "compare", "--csv=out.csv"]
        columns = "--columns=min,max,mean,stddev,median,iqr,outliers,ops,rounds,iterations"
        done = subprocess.run([*command, columns], cwd=storage, capture_output=True, text=True, check=True)
        rows = (storage / "out.csv").read_text().splitlines()

        assert "0001_run" in done.stdout
        assert "0002_run" in done.stdout
        assert len(rows) == 5
        assert done.stderr.replace("Computing stats", "").count("rror") == 0

    def test_a_later_run_is_compared_with_it(self, storage, pytester, monkeypatch):
        """`--benchmark-compare` takes an exported file as its base."""
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        pytester.makepyfile(test_theirs="def test_it(benchmark): benchmark.pedantic(len, args=([],), rounds=2)")
        base = pytest_benchmark(make_run({"test_theirs.py::test_it": 1e-12}))
        (storage / "0003_base.json").write_text(json.dumps(base))
        fail = ("--benchmark-compare-fail=median:10%", "-W", "ignore")
        found = pytester.runpytest_subprocess(f"--benchmark-compare={storage / '0003_base.json'}", *fail)

        assert found.ret != 0
        assert "Performance has regressed" in "".join(found.outlines + found.errlines)
