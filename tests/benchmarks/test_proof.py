"""The proof: 10 % planted in one of four benchmarks are caught in 20 of 20 comparisons, and nothing else is flagged;
20 of 20 comparisons of unchanged code are clean. The other core is busy in half of them.

Run with `pytest tests/benchmarks/test_proof.py -m slow`; half a minute to two minutes each. Real processes and clocks,
the default limits and rates; the work is a Python loop, sorting, dictionaries and array arithmetic in turn.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.bench_project import TRAINING, TRAINING_BENCHMARKS, make_project, plant
from rectest.benchmarks.results import Report, State
from rectest.cli import build_app

pytestmark = pytest.mark.slow

KINDS = ("loop", "sorting", "dictionary", "arrays")


@pytest.fixture(params=["idle", "loaded"])
def other_core(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the machine does anyway, or a busy loop beside it."""
    if request.param == "idle":
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        yield
        busy.kill()


def compared(folder: Path) -> Report:
    got = CliRunner().invoke(build_app(), ["bench", "--against", "HEAD", "--json", "found.json"])
    report = Report.from_json((folder / "found.json").read_text())

    assert int(report.red) == got.exit_code
    return report


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("number", range(10))
def test_ten_percent_in_one_benchmark_are_caught_and_nothing_else(project: Path, other_core: None, number: int) -> None:
    slow = KINDS[number % len(KINDS)]
    plant(project, slow, repeats=220)
    states = {found.name.partition("[")[2].rstrip("]"): found.time for found in compared(project).comparisons}

    assert {kind: State.SLOWER if kind == slow else State.PASS for kind in KINDS} == states


@pytest.mark.parametrize("number", range(10))
def test_unchanged_code_is_clean(project: Path, other_core: None, number: int) -> None:
    work = project / "work.py"
    work.write_text(f"{work.read_text()}\n# a change that changes nothing\n")

    assert not compared(project).red


@pytest.mark.parametrize("repeats", [200, 220])
@pytest.mark.parametrize("number", range(2))
def test_a_training_step_is_as_good_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_core: None, repeats: int, number: int
) -> None:
    """Torch on one thread: forward, backward and an optimizer's step, beside a scoring that nobody touched."""
    files = {"work.py": TRAINING, "tests/test_bench.py": TRAINING_BENCHMARKS}
    folder = make_project(tmp_path / "project", files)
    monkeypatch.chdir(folder)
    if repeats > 200:
        plant(folder, "training", repeats=repeats)
    states = {found.name.rpartition("_")[2]: found.time for found in compared(folder).comparisons}

    assert {"training": State.SLOWER if repeats > 200 else State.PASS, "scoring": State.PASS} == states
