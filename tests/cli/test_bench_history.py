"""`rectest bench history`: trends, steps and their commits, damage, and the files it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.bench_runs import make_history, make_run, noisy_times
from fixtures.cli import run_cli
from rectest.benchmarks.history import FOLDER, append_run

STEADY, SLOWER = "tests/bench/test_bench_x.py::test_steady", "tests/bench/test_bench_x.py::test_slower"


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Twenty runs; one benchmark is a tenth slower from the thirteenth on."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    times = {
        STEADY: noisy_times(20, rng=rng, noise=0.01),
        SLOWER: noisy_times(20, rng=rng, noise=0.01, step_at=12),
    }
    for run in make_history(times).runs:
        append_run(Path(FOLDER), run)


def history(*args):
    return run_cli("bench", "history", *args)


def test_the_commit_of_a_step_is_named(recorded):
    found = history()

    assert found.code == 0
    assert "cpu: 20 runs, 2026-01-01 to 2026-01-20" in found.out
    (step,) = [line for line in found.out.splitlines() if line.startswith("STEP")]
    assert step.startswith(f"STEP {SLOWER} seconds +")
    assert "at 0012aaaaaaaa, the run before was of 0011aaaaaaaa" in step
    assert "in 13 runs a step can show" in found.out


def test_names_choose_benchmarks(recorded):
    found = history("steady")

    assert found.code == 0
    assert "slower" not in found.out
    assert "STEP" not in found.out


def test_last_runs_only(recorded):
    found = history("--last", "9")

    assert "cpu: 9 runs, 2026-01-12" in found.out


def test_an_unknown_name(recorded):
    found = history("stedy")

    assert found.code == 2
    assert "unknown benchmark 'stedy'" in found.err


def test_nothing_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = history()

    assert found.code == 2
    assert "no run is recorded there" in found.err


def test_damage_is_shown_and_red(recorded):
    path = Path(FOLDER) / "cpu.jsonl"
    path.write_bytes(path.read_bytes() + b'{"torn')
    found = history()

    assert found.code == 1
    assert "DAMAGED cpu.jsonl, line 21 of 6 bytes is no run" in found.out


def test_only_damage_is_no_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(FOLDER).mkdir(parents=True)
    (Path(FOLDER) / "cpu.jsonl").write_text("torn")
    found = history()

    assert found.code == 2
    assert "line 1 of 4 bytes is no run" in found.err


def test_one_that_is_gone_is_told(recorded):
    append_run(Path(FOLDER), make_run({STEADY: 0.01}, day=30))
    found = history()

    assert f"not in the last run: {SLOWER}" in found.out


def test_the_page_and_the_plot(recorded):
    page, plot = history("--html", "out/page.html"), history("test_slower", "--svg", "plot.svg")

    assert (0, 0) == (page.code, plot.code)
    assert "1 step found" in Path("out/page.html").read_text()
    assert Path("plot.svg").read_text().startswith("<svg")


def test_a_plot_is_of_one_benchmark(recorded):
    found = history("--svg", "plot.svg")

    assert found.code == 2
    assert "--svg draws one benchmark, 2 fit" in found.err
