"""How near loading and checking a JSON map comes to its limit, reading the bytes of the file once.

Run with `pytest tests/bench/test_bench_mappings.py --benchmark-enable --benchmark-only`; RECTEST_BENCH_ENTRIES=10000000
is the size that the limit is meant for. Contenders run in turn, round by round, and are judged by the clock, since two
threads check; limits are those of a quiet machine (`fixtures.bench.limit_of`). They hold for loading with two checks,
distinct raw ids and dense indices, and for loading with every check of a map. `extra_info` has the CPU time as well,
and the memory.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.bench import interleaved_ratios, limit_of
from rectest.audits.maps import read_mapping
from rectest.audits.maps_json import Pairs
from rectest.checks.mapping import check_entries
from rectest.checks.mapping_indices import bijection, first_index, gaps, index_type, one_index

LIMIT = 8.0
"""Times the reading of the bytes, at the size it is meant for."""

SMALL_LIMIT = 12.0
"""The same for smaller files: their bytes are read out of a cache, and starting threads and some hundred calls for each
check cost as much again."""

FULL_SIZE = 10_000_000
"""The size of the limits of time and memory."""

ROUNDS = 5
MEMORY_LIMIT = 1000.0
"""MB over the imports at ten million entries."""


def _num_entries() -> int:
    return int(os.environ.get("RECTEST_BENCH_ENTRIES", "1000000"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    num = _num_entries()
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)
    keys = letters[rng.integers(0, 36, (num + num // 100 + 100, 10))]
    keys[:, 0] = ord("B")
    names = rng.permutation(np.unique(keys.view("S10").ravel()))[:num]
    index = rng.permutation(num) + 1
    path = tmp_path_factory.mktemp("bench") / "map.json"
    pairs = zip(names.tolist(), index.tolist(), strict=True)
    path.write_bytes(b"{" + b", ".join(b'"%s": %d' % pair for pair in pairs) + b"}")
    return path


def _read(path: Path) -> None:
    """Read the bytes into memory that is new to the process, as whoever loads a map must.

    `Path.read_bytes` gets memory that was used before now and then, and is four times as fast on such a day.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with path.open("rb", buffering=0) as file, mmap.mmap(-1, path.stat().st_size, flags=private) as memory:
        file.readinto(memory)


def _named(path: Path) -> list[object]:
    """Loading, and two checks: distinct raw ids, and indices from 0 or 1 on without holes."""
    entries = read_mapping(path).entries
    results = [bijection(entries, "map"), one_index(entries, "map"), gaps(entries, "map"), first_index(entries, "map")]
    assert not any(result.red for result in results)
    return [entries]


def _audit(path: Path) -> list[object]:
    """Loading, and every check of the map alone."""
    entries = read_mapping(path).entries
    results = [*check_entries(entries, "map"), one_index(entries, "map"), first_index(entries, "map")]
    assert not any(result.red for result in [*results, index_type(entries, "map")])
    return [entries]


def _json(path: Path) -> object:
    with path.open() as file:
        return json.load(file, object_pairs_hook=Pairs)


def test_load_and_check(benchmark: BenchmarkFixture, path: Path) -> None:
    ratios = interleaved_ratios(
        unit=lambda: _read(path),
        rounds=ROUNDS,
        by_the_clock=True,
        load=lambda: read_mapping(path),
        named=lambda: _named(path),
        audit=lambda: _audit(path),
    )
    slow = interleaved_ratios(unit=lambda: _read(path), rounds=1, by_the_clock=True, json=lambda: _json(path))
    limit = LIMIT if _num_entries() >= FULL_SIZE else SMALL_LIMIT
    benchmark.extra_info |= {"entries": _num_entries(), "limit": limit, "json": slow["json"], **ratios}
    benchmark.pedantic(_audit, args=(path,), rounds=1)

    assert ratios["audit"] < slow["json"]
    assert ratios["named"] <= limit_of(limit, ratios)
    assert ratios["audit"] <= limit_of(limit, ratios)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one program is read from /proc")
def test_memory(benchmark: BenchmarkFixture, path: Path) -> None:
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from test_bench_mappings import _audit\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024 / 1e6\n"
        "before = peak()\n"
        "kept = _audit(Path(sys.argv[1]))\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = benchmark.pedantic(
        subprocess.run,
        args=(command,),
        kwargs={"env": env, "capture_output": True, "text": True, "check": True},
        rounds=1,
    )
    megabytes = float(done.stdout)
    benchmark.extra_info |= {"entries": _num_entries(), "megabytes": round(megabytes), "limit": MEMORY_LIMIT}

    assert megabytes < max(250.0, MEMORY_LIMIT * _num_entries() / FULL_SIZE)
