"""``rectest bench`` from end to end: a small repository, a real base, exit codes, files, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.bench_project import commit_all, git, make_project, plant, write
from rectest.benchmarks.results import Report, State
from rectest.cli import build_app
from rectest.errors import RectestError


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def bench(*args: str):
    return CliRunner().invoke(build_app(), ["bench", *args])


def worktrees(folder: Path) -> int:
    return git(folder, "worktree", "list").count("\n")


def test_an_unchanged_benchmark_is_green(project):
    """The limit is wide as it is the plumbing that is tested; what a real one needs is in the proof."""
    write(project, {"note.txt": "not committed"})
    got = bench("--against", "HEAD", "-k", "loop", "--max-pairs", "2", "--limit", "10", "--json", "found.json")
    text = (project / "found.json").read_text()
    report, values = Report.from_json(text), json.loads(text)["comparisons"][0]

    assert 0 == got.exit_code, got.output
    assert ["tests/test_bench.py::test_bench_work[loop]"] == [found.name for found in report.comparisons]
    assert State.PASS == report.comparisons[0].time
    assert git(project, "rev-parse", "HEAD") == report.base
    assert report.head == f"{report.base}+"
    assert 2 == report.comparisons[0].num_pairs
    assert report.machine["cores"] == str(os.cpu_count())
    assert 0 < values["low"] <= values["ratio"] <= values["high"]
    assert 2 == len(values["head"]["process_seconds"])
    assert 0 == worktrees(project)


def test_a_slow_one_and_a_vanished_one_are_red(project):
    path = project / "tests/test_bench.py"
    path.write_text(path.read_text().replace('"loop", "sorting"', '"loop"'))
    plant(project, "loop", repeats=800)
    got = bench(
        "compare", "tests", "--against", "HEAD", "-k", "loop or sorting", "--max-pairs", "3", "--markdown", "found.md"
    )
    text = (project / "found.md").read_text()

    assert 1 == got.exit_code, got.output
    assert "SLOWER" in got.output
    assert "VANISHED" in got.output
    assert "RED: 1 compared" in text
    assert 0 == worktrees(project)


@pytest.mark.parametrize("built", [True, False], ids=["built", "fault: only the head is built"])
def test_both_sides_are_built(project, built):
    """What compiling leaves is in no commit, so that the base would be another program than its commit is."""
    build = '[tool.rectest.bench]\nbuild = ["python", "build.py"]\n' * built
    configuration = (project / "pyproject.toml").read_text()
    ignored = "__pycache__/\ncompiled.py\n"
    test = "import compiled\ndef test_compiled(benchmark):\n    benchmark(compiled.work)\n"
    source = "from pathlib import Path\nPath('compiled.py').write_text('def work(): sum(range(10_000))')\n"
    write(project, {"pyproject.toml": configuration + build, ".gitignore": ignored})
    write(project, {"tests/test_compiled.py": test, "build.py": source})
    commit_all(project)
    write(project, {"compiled.py": "stale = True" if built else "def work(): sum(range(10_000))"})
    got = bench("tests/test_compiled.py", "--against", "HEAD", "--max-pairs", "2", "--limit", "10")

    assert got.exit_code == int(not built), got.output
    assert ("No module named 'compiled'" in got.output) is not built
    assert 0 == worktrees(project)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--against", "HEAD", "-k", "nothing_fits"], "no benchmark fits"),
        (["--against", "no-such-branch"], "has no commit"),
        (["absent.py", "--against", "HEAD"], "does not exist"),
        ([str(Path(__file__)), "--against", "HEAD"], "lies outside"),
    ],
)
def test_what_cannot_be_compared_is_refused(project, args, match):
    got = bench(*args)

    assert isinstance(got.exception, RectestError | ValueError)
    assert match in str(got.exception)
    assert 0 == worktrees(project)


def test_the_base_must_be_named(project):
    assert 2 == bench("tests").exit_code


@pytest.mark.parametrize("name", ["compare", "export", "history", "record"])
def test_its_commands_have_help(name):
    got = bench(name, "--help")

    assert 0 == got.exit_code
    assert "Usage" in got.output


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(project, number, tmp_path):
    text = "import time\ndef test_long(benchmark):\n    open('began', 'w').close()\n    benchmark(time.sleep, 60)\n"
    write(project, {"tests/test_bench.py": text})
    places = {**os.environ, "TMPDIR": str(tmp_path / "temp")}
    (tmp_path / "temp").mkdir()
    command = [sys.executable, "-m", "rectest", "bench", "--against", "HEAD"]
    with subprocess.Popen(command, env=places, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 30
        while not (project / "began").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        status = process.wait(30)

    assert status not in (0, 1)
    assert 0 == worktrees(project)
    assert not list((tmp_path / "temp").iterdir())
