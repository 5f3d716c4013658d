"""`rectest bench record`: what is appended, what is refused, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.bench_runs import benchmark_json, make_run
from fixtures.cli import run_cli
from rectest.benchmarks.history import FOLDER, append_run, read_histories
from rectest.cli.bench_record import DEFAULT


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The file of a run, in a folder of its own, which is the working directory."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)

    def write(run, name="b.json"):
        Path(name).write_text(json.dumps(benchmark_json(run)))
        return name

    return write


def record(*args):
    return run_cli("bench", "record", *args)


def test_a_run_is_appended(written):
    found = record(written(make_run({"a": 1.0, "b": 2.0})))
    (history,) = read_histories(Path(FOLDER))

    assert found.code == 0
    assert "2 benchmarks of 0001aaaaaaaa appended to baselines/bench/cpu.jsonl" in found.out
    assert "cpu (toy-1-1, avx2, 1 thread, torch 2.6.0, python 3.12.0), fingerprint" in found.out
    assert {"a", "b"} == history.latest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dirty": True}, "on 0001aaaaaaaa with uncommitted changes"),
        ({"commit": None, "dirty": None}, "outside version control"),
    ],
)
def test_code_that_no_commit_names_is_refused_unless_allowed(written, changes, said):
    name = written(make_run({"a": 1.0}, **changes))
    refused = record(name)
    left = read_histories(Path(FOLDER))
    allowed = record(name, "--allow-dirty")

    assert refused.code == 2
    assert said in refused.err
    assert left == []
    assert allowed.code == 0
    assert read_histories(Path(FOLDER))[0].runs[0].dirty == changes["dirty"]


def test_twice_is_refused(written):
    name = written(make_run({"a": 1.0}))
    first, again = record(name), record(name)

    assert (0, 2) == (first.code, again.code)
    assert "is there already" in again.err


def test_in_ci_it_says_what_becomes_of_it(written, monkeypatch):
    monkeypatch.setenv("CI", "true")

    found = record(written(make_run({"a": 1.0})))

    assert found.code == 0
    assert "CI is set" in found.out


def test_damage_that_was_there_is_told(written):
    append_run(Path(FOLDER), make_run({"a": 1.0}, day=1))
    path = Path(FOLDER) / "cpu.jsonl"
    path.write_bytes(path.read_bytes() + b'{"schema":1,"be')
    found = record(written(make_run({"a": 2.0}, day=2)))

    assert found.code == 0
    assert "damaged: cpu.jsonl, line 2 of 15 bytes is no run" in found.out


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"[]", b"{}"])
def test_another_file_is_one_line(written, content):
    Path("odd.json").write_bytes(content)
    found = record("odd.json")

    assert found.code == 2
    assert found.err.startswith("rectest: error: odd.json: not a file of pytest --benchmark-json")
    assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_no_file(written, name):
    found = record(name)

    assert found.code == 2
    assert "Traceback" not in found.err


def test_the_folder_is_the_one_that_histories_have():
    assert Path(FOLDER) == DEFAULT
