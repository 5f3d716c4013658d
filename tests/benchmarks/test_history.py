"""Histories: what a line holds, that appending loses nothing, and that nothing damaged is passed over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.bench_runs import benchmark_json, make_run, make_timing
from fixtures.records import make_environment
from rectest.benchmarks.history import RecordedRun, Timing, append_run, read_histories, read_history
from rectest.benchmarks.pytest_json import read_benchmark_json
from rectest.errors import RecordError

SECONDS = st.floats(1e-9, 1e6)


def test_a_line_by_hand():
    run = make_run({"a.py::test_a": make_timing("a.py::test_a", 2.0, ratios={"count": 1.5}, memory={"host_growth": 8})})
    values = json.loads(run.to_line())

    assert values["benchmarks"]["a.py::test_a"]["stats"]["median"] == 2.0
    assert values["benchmarks"]["a.py::test_a"]["ratios"] == {"count": 1.5}
    assert values["fingerprint"] == run.environment.fingerprint
    assert values["date"] == "2026-01-02T00:00:00Z"
    assert run.to_line().count(b"\n") == 1


@settings(max_examples=50, deadline=None)
@given(
    times=st.dictionaries(st.text(min_size=1), SECONDS, min_size=1, max_size=4),
    cpu=st.none() | SECONDS,
    memory=st.dictionaries(st.text(), st.integers(0, 2**60), max_size=2),
    ratios=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    commit=st.none() | st.text(),
)
def test_a_run_survives_its_line(times, cpu, memory, ratios, commit):
    timings = {
        name: make_timing(name, value, cpu_seconds=cpu, memory=memory, ratios=ratios) for name, value in times.items()
    }
    run = make_run(timings, commit=commit)

    assert run == RecordedRun.from_line(run.to_line())


@pytest.mark.parametrize(
    "changes",
    [
        {"stats": {"median": float("nan")}},
        {"stats": {"min": float("inf")}},
        {"stats": {"median": None}},
        {"stats": {"rounds": 0}},
        {"stats": {"median": 0.0}},
        {"stats": {"ops": float("inf")}},
        {"memory": {"host_growth": float("nan")}},
        {"ratios": {"count": float("inf")}},
        {"ratios": {"count": True}},
    ],
    ids=str,
)
def test_a_figure_that_is_none_is_refused(changes):
    good = make_timing("a", 1.0)
    stats = {**good.stats, **changes.get("stats", {})}

    with pytest.raises(RecordError, match=r"a: .*needed finite numbers"):
        Timing(name="a", **{**changes, "stats": stats})


class TestAppending:
    def test_each_run_is_one_line_of_its_class(self, tmp_path):
        cuda = make_environment(device="cuda", compute_capability="9.0")
        for run in (make_run({"a": 1.0}, day=1), make_run({"a": 1.1}, day=2), make_run({"a": 9.0}, environment=cuda)):
            append_run(tmp_path, run)
        cpu, gpu = read_histories(tmp_path)

        assert [("cpu", 2), ("cuda-sm90", 1)] == [(cpu.env_class, len(cpu.runs)), (gpu.env_class, len(gpu.runs))]
        assert cpu.latest == {"a"}
        assert cpu.damaged == ()

    def test_what_is_there_stays_byte_for_byte(self, tmp_path):
        path, _ = append_run(tmp_path, make_run({"a": 1.0}, day=1))
        before = path.read_bytes()
        append_run(tmp_path, make_run({"a": 2.0}, day=2))

        assert path.read_bytes().startswith(before)

    def test_runs_come_by_date(self, tmp_path):
        for day in (3, 1, 2):
            path, _ = append_run(tmp_path, make_run({"a": float(day)}, day=day))

        assert [run.benchmarks["a"].median for run in read_history(path).runs] == [1.0, 2.0, 3.0]

    def test_the_same_run_twice_is_refused(self, tmp_path):
        append_run(tmp_path, make_run({"a": 1.0}))

        with pytest.raises(RecordError, match="is there already"):
            append_run(tmp_path, make_run({"a": 1.0}))

    def test_a_torn_line_is_neither_dropped_nor_merged(self, tmp_path):
        path, _ = append_run(tmp_path, make_run({"a": 1.0}, day=1))
        torn = make_run({"a": 2.0}, day=2).to_line()[:100]
        path.write_bytes(path.read_bytes() + torn)
        told = read_history(path).damaged
        _, damaged = append_run(tmp_path, make_run({"a": 3.0}, day=3))
        found = read_history(path)

        assert [run.benchmarks["a"].median for run in found.runs] == [1.0, 3.0]
        assert torn in path.read_bytes()
        assert damaged == told == found.damaged
        assert found.damaged[0].startswith("cpu.jsonl, line 2 of 100 bytes is no run: not JSON, or cut off")

    def test_a_line_that_only_lacks_its_end_is_whole(self, tmp_path):
        path, _ = append_run(tmp_path, make_run({"a": 1.0}, day=1))
        path.write_bytes(path.read_bytes()[:-1])
        append_run(tmp_path, make_run({"a": 2.0}, day=2))
        found = read_history(path)

        assert (2, ()) == (len(found.runs), found.damaged)

    @settings(max_examples=50, deadline=None)
    @given(cut=st.integers(0, 10_000))
    def test_a_cut_anywhere_leaves_the_runs_before_it(self, tmp_path_factory, cut):
        folder = tmp_path_factory.mktemp("cut")
        for day in (1, 2, 3):
            path, _ = append_run(folder, make_run({"a": float(day)}, day=day))
        content = path.read_bytes()
        kept = content[: cut % len(content)]
        path.write_bytes(kept)
        append_run(folder, make_run({"a": 4.0}, day=4))
        found = read_history(path)
        lines = content.split(b"\n")
        left = [line for line in kept.split(b"\n") if line]
        whole = [line for line in left if line in lines]

        assert len(whole) + 1 == len(found.runs)
        assert len(left) - len(whole) == len(found.damaged)
        assert found.runs[-1].benchmarks["a"].median == 4.0


KILLED = """
import os, signal, sys
from pathlib import Path
from rectest.benchmarks import history
from fixtures.bench_runs import make_run

def half(handle, content, write=os.write):
    write(handle, content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

os.write = half
history.append_run(Path(sys.argv[1]), make_run({"a": 2.0}, day=2))
"""
MANY = """
import sys
from pathlib import Path
from rectest.benchmarks.history import append_run
from fixtures.bench_runs import make_run

for day in range(20):
    append_run(Path(sys.argv[1]), make_run({sys.argv[2]: 1.0 + day}, day=day))
"""


def test_a_writer_killed_in_the_middle(tmp_path):
    path, _ = append_run(tmp_path, make_run({"a": 1.0}, day=1))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    _, damaged = append_run(tmp_path, make_run({"a": 3.0}, day=3))
    found = read_history(path)

    assert -signal.SIGKILL == killed.returncode
    assert len(damaged) == 1
    assert [run.benchmarks["a"].median for run in found.runs] == [1.0, 3.0]


def test_two_writers_at_once(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path), name]) for name in ("a", "b")]
    codes = [writer.wait(60) for writer in writers]
    found = read_history(tmp_path / "cpu.jsonl")

    assert [0, 0] == codes
    assert (40, ()) == (len(found.runs), found.damaged)
    assert {"a": 20, "b": 20} == {name: sum(name in run.benchmarks for run in found.runs) for name in ("a", "b")}


class TestDamage:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            (b"\xff\xfe\n", "not JSON"),
            (b"[1]\n", "schema 'list'"),
            (b'{"schema":2}\n', "schema 2, this version reads 1"),
            (b'{"schema":1}\n', "not the values of a run"),
            (b"[" * 100_000 + b"\n", "not JSON"),
        ],
        ids=["binary", "list", "schema", "empty", "deep"],
    )
    def test_a_line_that_is_no_run_is_told(self, tmp_path, line, said):
        path, _ = append_run(tmp_path, make_run({"a": 1.0}))
        path.write_bytes(line + path.read_bytes())
        found = read_history(path)

        assert len(found.runs) == 1
        assert said in found.damaged[0]

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("date", None, "date None"),
            ("date", "yesterday", "not of ISO 8601"),
            ("commit", 5, "commit 5"),
            ("dirty", "yes", "dirty 'yes'"),
            ("benchmarks", {}, "holds no benchmark"),
        ],
    )
    def test_a_run_that_could_not_be_put_in_its_place_is_told(self, tmp_path, name, value, said):
        values = json.loads(make_run({"a": 1.0}).to_line())
        (tmp_path / "cpu.jsonl").write_text(json.dumps({**values, name: value}) + "\n")
        found = read_history(tmp_path / "cpu.jsonl")

        assert () == found.runs
        assert said in found.damaged[0]

    def test_a_changed_environment_is_told(self, tmp_path):
        path, _ = append_run(tmp_path, make_run({"a": 1.0}))
        path.write_bytes(path.read_bytes().replace(b'"threads":1', b'"threads":2'))

        assert "its environment has the fingerprint" in read_history(path).damaged[0]

    def test_a_run_in_the_file_of_another_class_is_told(self, tmp_path):
        path, _ = append_run(tmp_path, make_run({"a": 1.0}))
        other = path.rename(tmp_path / "cuda-sm90.jsonl")

        assert "does not belong into cuda-sm90.jsonl" in read_history(other).damaged[0]

    def test_no_file_and_no_folder_hold_nothing(self, tmp_path):
        assert read_histories(tmp_path / "absent") == []
        assert read_history(tmp_path / "cpu.jsonl").runs == ()

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")

        with pytest.raises(OSError, match="file"):
            append_run(tmp_path / "file" / "bench", make_run({"a": 1.0}))


class TestReadingPytestBenchmark:
    def write(self, path, run, **changes):
        path.write_text(json.dumps(benchmark_json(run, **changes)))
        return path

    def test_times_ratios_memory_and_place(self, tmp_path):
        timing = make_timing("a.py::test_a", 2.0, memory={"host_growth": 5}, ratios={"count": 3.0}, cpu_seconds=1.5)
        run = make_run({"a": timing})
        (found,) = read_benchmark_json(self.write(tmp_path / "b.json", run))

        assert found.benchmarks["a.py::test_a"] == timing
        assert (found.commit, found.dirty, found.environment) == (run.commit, False, run.environment)
        assert found.machine == run.machine

    def test_nested_ratios_carry_their_names_and_words_do_not_count(self, tmp_path):
        values = benchmark_json(make_run({"a": 1.0}))
        values["benchmarks"][0]["extra_info"] |= {"ratios": {"x": 2}, "full": {"y": 3.5}, "note": "z", "flag": True}
        (tmp_path / "b.json").write_text(json.dumps(values))
        (found,) = read_benchmark_json(tmp_path / "b.json")

        assert found.benchmarks["a"].ratios == {"x": 2.0, "full/y": 3.5}

    def test_two_classes_are_two_runs(self, tmp_path):
        cuda = make_environment(device="cuda", compute_capability="9.0")
        both = [
            *benchmark_json(make_run({"a": 1.0}))["benchmarks"],
            *benchmark_json(make_run({"b": 1.0}, environment=cuda))["benchmarks"],
        ]
        found = read_benchmark_json(self.write(tmp_path / "b.json", make_run({"a": 1.0}), benchmarks=both))

        assert [run.environment.env_class for run in found] == ["cpu", "cuda-sm90"]

    def test_machines_are_not_mixed(self, tmp_path):
        other = make_environment(isa="AVX512")
        both = [
            *benchmark_json(make_run({"a": 1.0}))["benchmarks"],
            *benchmark_json(make_run({"b": 1.0}, environment=other))["benchmarks"],
        ]

        with pytest.raises(RecordError, match=r"b was measured elsewhere .*isa 'AVX2' and 'AVX512'"):
            read_benchmark_json(self.write(tmp_path / "b.json", make_run({"a": 1.0}), benchmarks=both))

    def test_the_same_benchmark_twice_is_refused(self, tmp_path):
        rows = benchmark_json(make_run({"a": 1.0}))["benchmarks"]

        with pytest.raises(RecordError, match="a is in it twice"):
            read_benchmark_json(self.write(tmp_path / "b.json", make_run({"a": 1.0}), benchmarks=[*rows, *rows]))

    def test_no_benchmark_is_refused(self, tmp_path):
        with pytest.raises(RecordError, match="holds no benchmark"):
            read_benchmark_json(self.write(tmp_path / "b.json", make_run({}), benchmarks=[]))

    def test_a_benchmark_that_ran_nowhere_is_refused(self, tmp_path):
        rows = benchmark_json(make_run({"a": 1.0}))["benchmarks"]
        del rows[0]["extra_info"]["environment"]

        with pytest.raises(RecordError, match="a does not say where it ran"):
            read_benchmark_json(self.write(tmp_path / "b.json", make_run({"a": 1.0}), benchmarks=rows))

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", "null", '{"benchmarks": 3, "datetime": "x"}', "\0\1", "[" * 9999]
    )
    def test_another_file_is_refused(self, tmp_path, content):
        (tmp_path / "b.json").write_text(content)

        with pytest.raises(RecordError, match="not a file of pytest --benchmark-json"):
            read_benchmark_json(tmp_path / "b.json")

    def test_outside_version_control_no_commit_is_known(self, tmp_path):
        run = make_run({"a": 1.0}, commit=None, dirty=None)
        (found,) = read_benchmark_json(self.write(tmp_path / "b.json", run))

        assert (found.commit, found.label) == (None, found.date)


def test_growth_stands_for_the_peak_of_a_shared_process():
    memory = {"host_peak": 900, "host_growth": 7, "device_peak": 5}

    assert make_timing("a", 1.0, memory=memory).own_memory == {"device_peak": 5, "host_growth": 7}


def test_labels():
    run = make_run({"a": 1.0}, day=7)

    assert (run.label, replace(run, dirty=True).label) == ("0007aaaaaaaa", "0007aaaaaaaa+")
