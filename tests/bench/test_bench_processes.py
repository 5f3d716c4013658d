"""What starting costs: importing rectest, its command, its plugin in somebody's pytest, and a job on two ranks.

Run with `pytest tests/bench --benchmark-enable --benchmark-only`. Times are recorded and never asserted; ratios of runs
beside each other are. Memory is the child's at its peak, as the system counts it when the child has ended.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.ranks import where
from rectest.training.group import run_on_ranks

ROUNDS = 5
TESTS = "import pytest\n\n@pytest.mark.parametrize('number', range(100))\ndef test_it(number): pass\n"

COMMANDS = {
    "python": ["-c", "pass"],
    "import-rectest": ["-c", "import rectest"],
    "rectest-help": ["-m", "rectest", "--help"],
    "import-torch": ["-c", "import torch"],
}
COLLECT = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
QUIET = ["-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:benchmark"]


SMALL_PARENT = (
    "import resource, subprocess, sys; "
    "code = subprocess.call([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
"""A child's peak begins at what its parent held when it forked; this parent holds little."""


def run_child(args: Sequence[str], cwd: Path) -> float:
    """Seconds of CPU of a Python process that ended well."""
    before = os.times()
    _start(args, cwd)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _start(args: Sequence[str], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), environment.get("PYTHONPATH")]))
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def tell(benchmark: BenchmarkFixture, args: Sequence[str], cwd: Path) -> None:
    """CPU time and memory of the child, not of the process that waits for it."""
    peak = int(_start(["-c", SMALL_PARENT, *args], cwd)) * (1 if sys.platform == "darwin" else 1024)
    benchmark.extra_info |= {"cpu_seconds": run_child(args, cwd), "memory": {"host_peak": peak}}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_start_of(benchmark: BenchmarkFixture, tmp_path: Path, name: str) -> None:
    """An interpreter and torch stand beside ours as what cannot be undercut, and what must be avoided."""
    tell(benchmark, COMMANDS[name], tmp_path)
    benchmark.pedantic(run_child, (COMMANDS[name], tmp_path), rounds=ROUNDS)


def test_collecting_with_and_without_the_plugin(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A hundred tests that have nothing to do with us; whoever installs rectest pays this in every run."""
    (tmp_path / "test_theirs.py").write_text(TESTS)
    contenders = {"with": [*COLLECT, *QUIET], "without": [*COLLECT, *QUIET, "-p", "no:rectest"]}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + ROUNDS):
        for name, args in contenders.items():
            seconds[name].append(run_child(args, tmp_path))
    least = {name: min(values[1:]) for name, values in seconds.items()}
    ratio = round(least["with"] / least["without"], 3)
    tell(benchmark, contenders["with"], tmp_path)
    benchmark.extra_info |= {"with / without the plugin": ratio}
    benchmark.pedantic(run_child, (contenders["with"], tmp_path), rounds=ROUNDS)

    assert ratio < 1.3


def test_launching_two_ranks(benchmark: BenchmarkFixture) -> None:
    """Two ranks that form a group and end, from the warm server: the floor under every test on ranks."""
    run_on_ranks(where, world_size=2)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        run_on_ranks(where, world_size=2)
        seconds.append(time.perf_counter() - begin)
    benchmark.pedantic(run_on_ranks, (where,), {"world_size": 2}, rounds=ROUNDS, warmup_rounds=1)

    assert statistics.median(seconds) < 60
