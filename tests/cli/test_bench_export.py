"""`rectest bench export`: which run is chosen, and where it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.bench_runs import commit_of, make_run
from fixtures.cli import run_cli
from fixtures.records import make_environment
from rectest.benchmarks.exports import FORMATS
from rectest.benchmarks.history import FOLDER, append_run
from rectest.cli.bench_export import Format


@pytest.fixture(autouse=True)
def recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for day in (1, 2, 3):
        append_run(Path(FOLDER), make_run({"a.py::test_a": 0.1 * day}, day=day))


def export(*args):
    return run_cli("bench", "export", *args)


def test_the_last_run_goes_to_the_screen():
    found = export("--format=bencher")

    assert found.code == 0
    assert json.loads(found.out)["a.py::test_a"]["latency"]["value"] == pytest.approx(3e8)


def test_a_commit_into_a_file():
    found = export("--format=github-action-benchmark", f"--commit={commit_of(2)[:8]}", "--out=deep/b.json")
    (entry,) = json.loads(Path("deep/b.json").read_text())

    assert found.code == 0
    assert entry["value"] == pytest.approx(0.2)


def test_a_folder_is_a_storage_that_pytest_benchmark_compares():
    Path("storage").mkdir()
    found = export("--format=pytest-benchmark", "--out=storage")
    command = [sys.executable, "-m", "pytest_benchmark", "--storage=storage", "compare", "--sort=name"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert found.code == 0
    assert ["0001_0001aaaaaaaa.json", "0002_0002aaaaaaaa.json", "0003_0003aaaaaaaa.json"] == sorted(
        path.name for path in Path("storage").iterdir()
    )
    assert all(f"000{day}_000" in done.stdout for day in (1, 2, 3))


def test_of_several_classes_one_must_be_named():
    append_run(
        Path(FOLDER), make_run({"a": 9.0}, environment=make_environment(device="cuda", compute_capability="9.0"))
    )
    unclear, chosen = export("--format=bencher"), export("--format=bencher", "--class=cuda-sm90")

    assert unclear.code == 2
    assert "there are histories of cpu, cuda-sm90; choose one with --class" in unclear.err
    assert json.loads(chosen.out)["a"]["latency"]["value"] == pytest.approx(9e9)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--commit=ffff"], "unknown commit 'ffff'"),
        (["--class=cuda"], "unknown environment class 'cuda'"),
        (["--history=empty"], "no run is recorded there"),
    ],
)
def test_what_is_not_there(args, said):
    found = export("--format=bencher", *args)

    assert found.code == 2
    assert said in found.err


def test_damage_goes_to_the_error_stream():
    path = Path(FOLDER) / "cpu.jsonl"
    path.write_bytes(path.read_bytes() + b'{"torn')
    found = export("--format=bencher")

    assert json.loads(found.out)
    assert "damaged: cpu.jsonl, line 4 of 6 bytes" in found.err


def test_every_format_can_be_asked_for():
    assert set(FORMATS) == {str(form) for form in Format}
