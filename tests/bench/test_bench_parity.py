"""What a parity check costs after the first one, and what the warm fork server is worth.

Run with `pytest tests/bench --benchmark-enable --benchmark-only`; times are recorded and never asserted; what is
asserted is a ratio of two runs beside each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from fixtures import cases
from fixtures.ranks import where
from rectest.parity import assert_gradient_parity
from rectest.training.group import run_on_ranks
from rectest.training.launch import Launch


def check() -> None:
    """One check as a user writes it: the reference, and two ranks."""
    assert_gradient_parity(cases.build, cases.loss, cases.batch_of(), world_sizes=(2,))


def test_a_check_on_two_ranks(benchmark: BenchmarkFixture) -> None:
    """Under a second on an idle machine of two cores."""
    check()

    benchmark.pedantic(check, rounds=5)


def test_the_warm_server_beside_fresh_interpreters(benchmark: BenchmarkFixture) -> None:
    """Two ranks forked from it, against two that another hash seed asks for: at least three times as fast."""
    run_on_ranks(where, world_size=2)
    warm, fresh = [], []
    for _ in range(3):
        warm.append(_seconds(lambda: run_on_ranks(where, world_size=2)))
        fresh.append(_seconds(lambda: run_on_ranks(where, world_size=2, how=Launch(hash_seed=5))))
    benchmark.extra_info |= {"fresh / warm": min(fresh) / min(warm)}
    benchmark.pedantic(run_on_ranks, args=(where,), kwargs={"world_size": 2}, rounds=3)

    assert min(fresh) > 3 * min(warm)


def _seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
