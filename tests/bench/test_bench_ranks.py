"""How near counting ranks comes to its limit, reading the scores once, and how far the obvious way is from it.

Run with `pytest tests/bench --benchmark-enable --benchmark-only`; only ratios are asserted, never times, and those with
room, so that they fail for a lost trick and not for a busy machine. The contenders of a ratio run in turn, round by
round, so that noise falls on all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rectest.metrics.ranks import rank_targets
from rectest.metrics.targets import Targets
from rectest.training.evaluate import count_ranks

SHAPES = {"full": (1000, 20_001), "100-candidates": (50_000, 101)}
BLOCK_ROWS = {"full": 256, "100-candidates": 8192}
ROUNDS = 7


@pytest.fixture(params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scores(shape: str) -> torch.Tensor:
    return torch.randn(SHAPES[shape], generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets(shape: str) -> Targets:
    num_rows, width = SHAPES[shape]
    return Targets.full(np.random.default_rng(1).integers(1, width, num_rows), num_rows=num_rows)


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_torch_counter(benchmark: BenchmarkFixture, shape: str, scores: torch.Tensor, targets: Targets) -> None:
    own = scores[torch.from_numpy(targets.row), torch.from_numpy(targets.column)][:, None]
    ratios = _ratios(
        count=lambda: count_ranks(lambda rows: scores[rows], len(scores), targets, block_rows=BLOCK_ROWS[shape]),
        naive=lambda: (scores.isfinite().all(), (scores > own).sum(1), (scores >= own).sum(1)),
        read=lambda: [part.sum() for part in scores.split(BLOCK_ROWS[shape])],
    )
    benchmark.extra_info |= ratios
    benchmark(count_ranks, lambda rows: scores[rows], len(scores), targets, block_rows=BLOCK_ROWS[shape])

    assert ratios["count"] < ratios["naive"] / 2
    assert ratios["count"] < {"full": 25, "100-candidates": 40}[shape]


def test_numpy_counter(benchmark: BenchmarkFixture, shape: str, scores: torch.Tensor, targets: Targets) -> None:
    array = scores.numpy()
    own = array[targets.row, targets.column][:, None]
    ratios = _ratios(
        count=lambda: rank_targets(array, targets),
        naive=lambda: (np.isfinite(array).all(), (array > own).sum(1), (array >= own).sum(1)),
        read=lambda: [part.sum() for part in scores.split(BLOCK_ROWS[shape])],
    )
    benchmark.extra_info |= ratios
    benchmark(rank_targets, array, targets)

    assert ratios["count"] < {"full": 0.9, "100-candidates": 2.0}[shape] * ratios["naive"]
    assert ratios["count"] < {"full": 10, "100-candidates": 40}[shape]


def _ratios(*, read: Callable[[], object], **contenders: Callable[[], object]) -> dict[str, float]:
    """Best time of each contender in units of the best time of `read`."""
    best = dict.fromkeys(("read", *contenders), float("inf"))
    for _ in range(ROUNDS):
        for name, run in {"read": read, **contenders}.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: round(best[name] / best["read"], 2) for name in contenders}
