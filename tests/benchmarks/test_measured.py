"""What the fixtures of `tests/bench` add to pytest-benchmark, down to the history: memory, CPU time, where it ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rectest.benchmarks.pytest_json import read_benchmark_json

SIZE = 50 << 20
BENCHMARKS = f"""
import pytest

calls = []

def fat():
    calls.append(1)
    return len(bytearray({SIZE}))

def test_fat(benchmark):
    assert benchmark.pedantic(fat, rounds=3, warmup_rounds=1) == {SIZE}
    assert len(calls) == 5

def test_lean(benchmark):
    benchmark.extra_info["x"] = 2.5
    benchmark(len, [])

def test_arguments(benchmark):
    made = []
    benchmark.pedantic(made.append, setup=lambda: ((len(made),), {{}}), rounds=2)
    assert made == [0, 1, 2]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of three benchmarks in a process of its own."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(Path(__file__).parents[1] / "bench" / "conftest.py", folder)
    (folder / "test_theirs.py").write_text(BENCHMARKS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "--rectest-require=benchmark"]
    done = subprocess.run(
        [*command, "--benchmark-json=b.json", "--benchmark-max-time=0.01"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (found,) = read_benchmark_json(folder / "b.json")
    return {name.rpartition("::")[2]: timing for name, timing in found.benchmarks.items()} | {"": found}


def test_memory_is_that_of_one_call(run):
    fat, lean = run["test_fat"].memory, run["test_lean"].memory

    assert fat["host_growth"] == pytest.approx(SIZE, abs=4 << 20)
    assert lean["host_growth"] < 4 << 20
    assert fat["host_growth"] < fat["host_peak"]


def test_the_extra_call_is_not_timed(run):
    assert run["test_fat"].stats["rounds"] == 3


def test_each_says_where_it_ran(run):
    assert run[""].environment.threads == 1
    assert run[""].environment.env_class == "cpu"
    assert run[""].machine["cores"]


def test_cpu_time_and_ratios_are_kept(run):
    assert run["test_fat"].cpu_seconds >= 0
    assert run["test_lean"].ratios == {"x": 2.5}
