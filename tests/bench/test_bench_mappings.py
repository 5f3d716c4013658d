"""How near loading and checking a JSON map comes to its limit, reading the bytes of the file once.

Run with `pytest tests/bench/test_bench_mappings.py --benchmark-enable --benchmark-only`; RECTEST_BENCH_ENTRIES=10000000
is the size that the limit is meant for. Contenders run in turn, round by round. `read` and `audit` are judged by the
clock, since two threads check; `extra_info` has the CPU time as well, and the memory.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rectest.audits.maps import read_mapping
from rectest.audits.maps_json import Pairs
from rectest.checks.mapping import check_entries
from rectest.checks.mapping_indices import first_index, index_type, one_index

LIMIT = 8.0
"""Times the reading of the bytes, at ten million entries on two calm cores."""

NOISE = 3.0
"""Asserted with this much room: a lost trick costs ten times, a busy neighbour two."""

FULL_SIZE = 10_000_000
"""Smaller files are read into memory that is at hand, which makes the limit another one."""

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
    ratios = _ratios(read=path.read_bytes, load=lambda: read_mapping(path), audit=lambda: _audit(path))
    json_ratio = _ratios(rounds=1, read=path.read_bytes, json=lambda: _json(path))["json"]
    benchmark.extra_info |= {"entries": _num_entries(), "limit": LIMIT, "json": json_ratio, **ratios}
    benchmark.pedantic(_audit, args=(path,), rounds=1)

    assert ratios["audit"] < json_ratio
    if _num_entries() >= FULL_SIZE:
        assert ratios["audit"] < LIMIT * NOISE


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


def _ratios(
    *, rounds: int = ROUNDS, read: Callable[[], object], **contenders: Callable[[], object]
) -> dict[str, float]:
    """Best time of each contender in units of the best time of `read`, by the clock and (``_cpu``) of all threads."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in {"read": read, **contenders}.items():
            gc.collect()
            start, cpu = time.perf_counter(), time.process_time()
            kept = run()
            taken = {name: time.perf_counter() - start, f"{name}_cpu": time.process_time() - cpu}
            del kept
            best |= {key: min(value, best.get(key, value)) for key, value in taken.items()}
    ratios = {name: best[name] / best["read"] for name in contenders}
    return {
        k: round(v, 2)
        for k, v in (ratios | {f"{n}_cpu": best[f"{n}_cpu"] / best["read_cpu"] for n in contenders}).items()
    }
