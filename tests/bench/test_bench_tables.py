"""How near a scan and an audit of an embedding table come to reading its bytes once, and what memory they hold.

Run with `pytest tests/bench/test_bench_tables.py --benchmark-enable --benchmark-only`; a million rows of 64 float32,
or as many as RECTEST_BENCH_ROWS says. The unit is one thread that reads the same bytes once, as torch sums them as
int64, which is 1.0 to 1.2 times what a loop in C takes. From a file it is one thread that reads the file into one
buffer and sums that, since the copy out of the page cache alone takes several times the sum. Contenders run in turn,
round by round; on one thread CPU time counts, so that a busy neighbour costs nobody anything.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rectest.audits.tables import open_table
from rectest.checks.embeddings import audit_table
from rectest.checks.tablescan import scan_table

NUM_ROWS = int(float(os.environ.get("RECTEST_BENCH_ROWS", "1e6")))
DIM = 64
ROUNDS = 5
BUFFER = 1 << 19

LIMIT_ONE_THREAD = 7.0
LIMIT_TWO_THREADS = 4.5
LIMIT_BYTES = 50_000_000


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave the number of torch's threads to no chance."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    words = torch.from_numpy(table).view(torch.int64)
    popularity = np.arange(len(table)) % 1000
    ratios = _ratios(
        unit=words.sum,
        scan=lambda: scan_table(table),
        audit=lambda: audit_table(table, "item", popularity=popularity),
        naive=lambda: _naive(table),
    )
    benchmark.extra_info |= ratios
    benchmark.pedantic(scan_table, args=(table,), rounds=1)

    assert ratios["scan"] <= LIMIT_ONE_THREAD
    assert ratios["naive"] > 1.5 * ratios["scan"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_threads_beside_one_that_reads(benchmark: BenchmarkFixture, table: np.ndarray) -> None:
    """By the clock, since CPU time adds up over threads; not judged where others hold the cores that it needs."""
    words = torch.from_numpy(table).view(torch.int64)
    ratios = _ratios(
        unit=words.sum, scan=lambda: scan_table(table, threads=2), rounds=9, clock=time.perf_counter, middle=min
    )
    benchmark.extra_info |= ratios
    benchmark.pedantic(scan_table, args=(table,), kwargs={"threads": 2}, rounds=1)
    if (busy := os.getloadavg()[0]) > 1.5 * (os.cpu_count() or 1):
        pytest.skip(f"others hold the cores (load {busy:.1f}); measured {ratios['scan']} times the read")

    assert ratios["scan"] <= LIMIT_TWO_THREADS


def test_a_warm_file_beside_reading_it(benchmark: BenchmarkFixture, file: Path) -> None:
    buffer = bytearray(BUFFER)
    words = torch.frombuffer(buffer, dtype=torch.int64)

    def read() -> None:
        with file.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                words.sum()

    ratios = _ratios(unit=read, scan=lambda: scan_table(open_table(file)))
    benchmark.extra_info |= ratios
    benchmark.pedantic(lambda: scan_table(open_table(file)), rounds=1)

    assert ratios["scan"] <= LIMIT_ONE_THREAD


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


def _ratios(
    *,
    unit: Callable[[], object],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
    middle: Callable[[list[float]], float] = statistics.median,
    **contenders: Callable[[], object],
) -> dict[str, float]:
    """Time of each contender in units of that of `unit`, after one round that does not count."""
    everyone = {"unit": unit, **contenders}
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    for _ in range(1 + rounds):
        for name, run in everyone.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    times = {name: middle(values[1:]) for name, values in seconds.items()}
    return {name: round(times[name] / times["unit"], 3) for name in contenders}
