"""What recording costs beside the training it records, and how far the digests and the table scan are from the obvious.

Run with `pytest tests/bench --benchmark-enable --benchmark-only`; only ratios are asserted, never times, and those with
room, so that they fail for a lost trick and not for a busy machine. The contenders of a ratio run in turn, round by
round, so that noise falls on all alike. The step is a SASRec's: 50 places, 128 users, 3,400 items, 270,000 parameters.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.worlds import world_with
from rectest.checks.tablescan import scan_table
from rectest.data.world import World
from rectest.record import RunSpec
from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.batches import SASRecData
from rectest.systems.adaptive_sasrec.system import AdaptiveSASRec
from rectest.systems.protocol import Batch
from rectest.training.determinism import deterministic, probe
from rectest.training.loop import train_system
from rectest.training.recorder import Recorder
from rectest.training.tape import digest_random_states, digest_tensor, digest_tensors

SETTINGS = {"embedding_size": 64, "num_blocks": 2, "max_length": 50, "batch_size": 128, "dropout": 0.2}
SPEC = RunSpec(system="adaptive_sasrec")
ROUNDS = 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave neither the other core nor the number of threads to chance."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> World:
    """Users with histories that fill the model's length, over a catalogue of 3,400 items."""
    return world_with("taste-small", num_users=300, num_items=3400, min_length=50, max_length=60)


class Training:
    """A started training without harness: the loop that a user would write."""

    def __init__(self, world: World) -> None:
        seeds = SeedPlan(root=0)
        self.system = AdaptiveSASRec.from_settings(SETTINGS)
        data = self.system.prepare(world, seeds.child("data"))
        self.model = self.system.build(data, seeds.child("init"))
        self.optimizer = self.system.make_optimizer(self.model)
        self.stream = self.system.batches(data, seeds)
        self.step()

    def step(self) -> None:
        self.batch = next(self.stream)
        self.model.train()
        self.losses = self.system.step(self.model, self.optimizer, self.batch)

    def tensors(self) -> list[torch.Tensor]:
        pairs = [(p.detach(), p.grad) for p in self.model.parameters()]
        return [tensor for pair in pairs for tensor in pair if tensor is not None]


def test_a_digest_of_every_tensor_beside_a_step(benchmark: BenchmarkFixture, world: World) -> None:
    training = Training(world)
    run = Recorder(SPEC, probe())

    def record() -> None:
        batch = training.batch
        run.step(loss=training.losses, batch=batch.inputs, negatives=batch.negatives, model=training.model)

    record()
    ratios = _ratios(
        unit=training.step,
        digests=lambda: [digest_tensor(tensor) for tensor in training.tensors()],
        recorded=record,
        random_states=digest_random_states,
    )
    benchmark.extra_info |= ratios
    benchmark(record)

    assert ratios["digests"] < 0.02
    assert ratios["recorded"] < 0.05


class Watched(AdaptiveSASRec):
    """Takes the time of every step of the loop that trains it, and of a plain step between any two."""

    def batches(self, data: SASRecData, seeds: SeedPlan) -> Iterator[Batch]:
        self.seconds: dict[str, list[float]] = {"loop": [], "plain": []}
        for batch in super().batches(data, seeds):
            start = time.process_time()
            self.beside.step()
            middle = time.process_time()
            yield batch
            self.seconds["plain"].append(middle - start)
            self.seconds["loop"].append(time.process_time() - middle)


def test_the_loop_beside_a_plain_one(benchmark: BenchmarkFixture, world: World) -> None:
    """Both under torch's deterministic mode, whose own price is the ratio ``deterministic``."""
    watched = Watched.from_settings({**SETTINGS, "steps": 16, "eval_every": 16})
    watched.beside = beside = Training(world)

    def deterministic_step() -> None:
        with deterministic(0):
            beside.step()

    def train() -> None:
        with deterministic(0) as environment:
            train_system(watched, world, Recorder(SPEC, environment))

    benchmark.pedantic(train, rounds=1)
    seconds = {name: statistics.median(values[1:]) for name, values in watched.seconds.items()}
    ratios = {"loop": round(seconds["loop"] / seconds["plain"], 4)}
    ratios |= _ratios(unit=beside.step, deterministic=deterministic_step)
    benchmark.extra_info |= ratios

    assert ratios["loop"] < 1.1


@pytest.mark.parametrize("size", [2, 64], ids=["2-MiB", "64-MiB"])
def test_digest_beside_sha256(benchmark: BenchmarkFixture, size: int) -> None:
    tensor = torch.randn(size * 2**18, generator=torch.Generator().manual_seed(0))
    kept = tensor.clone()
    ratios = _ratios(
        unit=lambda: digest_tensors({"x": tensor}),
        sha256=lambda: hashlib.sha256(tensor.numpy().data).digest(),
        read=lambda: tensor.view(torch.int64).sum(),
        compared_with_a_copy=lambda: torch.equal(tensor, kept),
    )
    benchmark.extra_info |= ratios
    benchmark(digest_tensor, tensor)

    assert ratios["sha256"] > 3
    assert ratios["read"] > 0.2


def test_table_scan_beside_separate_passes(benchmark: BenchmarkFixture) -> None:
    """The naive passes find norms, NaN, infinity and zero rows, less than the scan does (it also hashes rows)."""
    table = np.random.default_rng(0).normal(size=(300_000, 64)).astype(np.float32)

    def naive() -> list[object]:
        return [
            np.linalg.norm(table, axis=1),
            np.isnan(table).any(axis=1),
            np.isinf(table).any(axis=1),
            (table == 0).all(axis=1),
            np.unique(table.view(f"V{table.itemsize * table.shape[1]}").ravel()).size,
        ]

    ratios = _ratios(unit=lambda: scan_table(table), naive=naive, read=lambda: table.view(np.int64).sum(), rounds=3)
    benchmark.extra_info |= ratios
    benchmark.pedantic(scan_table, args=(table,), rounds=3)

    assert ratios["naive"] > 1.5
    assert ratios["read"] > 0.05


def _ratios(
    *, unit: Callable[[], object], rounds: int = ROUNDS, **contenders: Callable[[], object]
) -> dict[str, float]:
    """Median CPU time of each contender in units of that of `unit`, after one round that does not count.

    Everything here runs on one thread, so CPU time is what it costs, whoever else uses the machine.
    """
    everyone = {"unit": unit, **contenders}
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    for _ in range(1 + rounds):
        for name, run in everyone.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {name: round(median[name] / median["unit"], 4) for name in contenders}
