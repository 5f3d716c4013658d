"""How near a scan and an audit of an embedding table come to reading its bytes once, and what memory they hold.

Run with `pytest tests/bench/test_bench_tables.py --benchmark-enable --benchmark-only`; a million rows of 64 float32,
or as many as RECTEST_BENCH_ROWS says. The unit is `read_once`, one thread that looks at every byte of the table in
memory, for files too. `plain` is the scan for lengths, finiteness, zero rows and moments, `scan` the same with what
finds duplicates. One thread is judged by CPU time, two by the clock; limits are those of a quiet machine
(`fixtures.bench.limit_of`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.bench import interleaved_ratios, limit_of, read_once
from rectest.audits.tables import open_table
from rectest.checks.embeddings import audit_table
from rectest.checks.tablescan import scan_table

NUM_ROWS = int(float(os.environ.get("RECTEST_BENCH_ROWS", "1e6")))
DIM = 64
ROUNDS = 5
BUFFER = 1 << 21

LIMIT_ONE_THREAD = 7.0
LIMIT_TWO_THREADS = 4.5
LIMIT_BYTES = 50_000_000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy table, written in chunks."""
    path = tmp_path_factory.mktemp("tables") / "item.npy"
    _write(path, NUM_ROWS)
    return path


@pytest.fixture(scope="module")
def table(file: Path) -> np.ndarray:
    return np.load(file)


def _write(path: Path, num_rows: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, DIM)}
        np.lib.format.write_array_header_1_0(out, header)
        for first in range(0, num_rows, 50_000):
            rng.standard_normal((min(50_000, num_rows - first), DIM), dtype=np.float32).tofile(out)


def _naive(table: np.ndarray) -> list[object]:
    """The pass for each property that one would write first; less than the scan, which also fingerprints rows."""
    return [
        np.linalg.norm(table, axis=1),
        np.isnan(table).any(axis=1),
        np.isinf(table).any(axis=1),
        (table == 0).all(axis=1),
        table.min(),
        table.max(),
        table.mean(),
        table.std(),
    ]


def test_scan_beside_the_read_and_separate_passes(benchmark: BenchmarkFixture, table: np.ndarray) -> None:
    popularity = np.arange(len(table)) % 1000
    ratios = interleaved_ratios(
        unit=lambda: read_once(table),
        rounds=ROUNDS,
        plain=lambda: scan_table(table, fingerprints=False),
        scan=lambda: scan_table(table),
        audit=lambda: audit_table(table, "item", popularity=popularity),
        naive=lambda: _naive(table),
    )
    benchmark.extra_info |= ratios
    benchmark.pedantic(scan_table, args=(table,), rounds=1)

    assert ratios["plain"] <= limit_of(LIMIT_ONE_THREAD, ratios)
    assert ratios["scan"] <= limit_of(LIMIT_ONE_THREAD, ratios)
    assert ratios["naive"] > 1.5 * ratios["scan"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_threads_beside_one_that_reads(benchmark: BenchmarkFixture, table: np.ndarray) -> None:
    ratios = interleaved_ratios(
        unit=lambda: read_once(table),
        rounds=ROUNDS,
        by_the_clock=True,
        plain=lambda: scan_table(table, threads=2, fingerprints=False),
        scan=lambda: scan_table(table, threads=2),
    )
    benchmark.extra_info |= ratios
    benchmark.pedantic(scan_table, args=(table,), kwargs={"threads": 2}, rounds=1)

    assert ratios["plain"] <= limit_of(LIMIT_TWO_THREADS, ratios)
    assert ratios["scan"] <= limit_of(LIMIT_TWO_THREADS, ratios)


def test_a_warm_file_beside_reading_it(benchmark: BenchmarkFixture, file: Path, table: np.ndarray) -> None:
    """Beside the table in memory, and (`copy`) one thread that reads the file into one buffer and does no more."""
    buffer = bytearray(BUFFER)

    def copy() -> None:
        with file.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass

    ratios = interleaved_ratios(
        unit=lambda: read_once(table),
        rounds=ROUNDS,
        copy=copy,
        plain=lambda: scan_table(open_table(file), fingerprints=False),
        scan=lambda: scan_table(open_table(file)),
    )
    benchmark.extra_info |= ratios
    benchmark.pedantic(lambda: scan_table(open_table(file)), rounds=1)

    assert ratios["plain"] <= limit_of(LIMIT_ONE_THREAD, ratios)
    assert ratios["scan"] <= limit_of(LIMIT_ONE_THREAD, ratios)


MEMORY = """
import sys
import rectest.audits.tables, rectest.checks.embeddings
from rectest.checks.embeddings import TableFacts, audit_table

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
table = rectest.audits.tables.open_table(sys.argv[1])
results = audit_table(table, "item", facts=TableFacts(padding_row=0), threads=int(sys.argv[2]))
assert "embeddings/duplicates" in [result.check for result in results]
print(1024 * (peak() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("healthy", [True, False], ids=["healthy", "zero"])
def test_memory_of_an_audit_of_a_gigabyte(
    benchmark: BenchmarkFixture, tmp_path: Path, threads: int, healthy: bool
) -> None:
    """Four million rows; the other table is a hole in a file, in which every row is zero."""
    path = tmp_path / "item.npy"
    num_rows = 4_000_000
    _write(path, num_rows if healthy else 1)
    if not healthy:
        with path.open("r+b") as out:
            np.lib.format.write_array_header_1_0(
                out, {"descr": "<f4", "fortran_order": False, "shape": (num_rows, DIM)}
            )
            out.truncate(out.tell() + 4 * DIM * num_rows)

    def audit() -> int:
        command = [sys.executable, "-c", MEMORY, str(path), str(threads)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    held = benchmark.pedantic(audit, rounds=1)
    path.unlink()
    benchmark.extra_info |= {"bytes_over_imports": held}

    assert held < LIMIT_BYTES
