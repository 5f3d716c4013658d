"""The memory of measured processes: those that are timed keep what is freed, those that are weighed give it back."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

from fixtures.bench_project import write
from rectest.benchmarks.child import How, started
from rectest.benchmarks.trees import Tree

ROUNDS, PIECE = 20, 4 << 20
FAULTS = f"""
import os, resource
from pathlib import Path

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        b"x" * {PIECE}
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
Path(os.environ["SEEN"]).write_text(str(faults()))

def test_any(benchmark):
    benchmark(int)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library that is told to keep memory is glibc")
@pytest.mark.parametrize(
    ("lean", "own", "gives_back"),
    [(False, {}, False), (True, {}, True), (False, {"MMAP": "65536", "TRIM": "0"}, True)],
    ids=["timed", "weighed", "timed, told otherwise"],
)
def test_who_gives_memory_back(tmp_path, monkeypatch, lean, own, gives_back):
    monkeypatch.setenv("SEEN", str(tmp_path / "faults"))
    for what in ("MMAP", "TRIM"):
        monkeypatch.delenv(f"MALLOC_{what}_THRESHOLD_", raising=False)
    for what, size in own.items():
        monkeypatch.setenv(f"MALLOC_{what}_THRESHOLD_", size)
    project = tmp_path / "project"
    write(project, {"test_a.py": FAULTS})
    tree = Tree.of("head", project, repository=project, project=project, import_path=[])
    how = How(folder=tmp_path, deadline=60)

    with started(tree, how, paths=["test_a.py"], names=(), lean=lean, rng=Random(0)) as child:
        child.receive()

    pages = ROUNDS * PIECE // 4096
    assert gives_back is (int(Path(tmp_path / "faults").read_text()) > pages / 2)
