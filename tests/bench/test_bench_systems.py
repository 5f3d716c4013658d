"""What a training step and an evaluation of each system cost, at the settings of the gate, and what judging a run does.

Run with `pytest tests/bench --benchmark-enable --benchmark-only`; times and peak memory are recorded and never
asserted. On the CPU one thread works; the tests marked `gpu` wait for the device. Batches are drawn outside the timing
where `step` says so: what remains is forward, backward and the optimizer, with its transfer to the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rectest.checks.result import Verdict
from rectest.data.world import World
from rectest.data.worlds import load_world
from rectest.faults.matrix import of_one
from rectest.record import RunRecord, RunSpec
from rectest.seeding import SeedPlan
from rectest.systems.protocol import Batch
from rectest.systems.registry import SYSTEMS, make_system
from rectest.training.determinism import deterministic
from rectest.training.loop import rank_split, train_system
from rectest.training.recorder import Recorder

NUM_BATCHES = 12
"""Batches that are taken in turn, so that no step is of rows which the one before left in the cache."""

STEPS = {"rounds": 24, "warmup_rounds": 6, "iterations": 1}
EVALUATIONS = {"rounds": 5, "warmup_rounds": 1, "iterations": 1}
RECORD_STEPS = 40

JUDGED = ("comirec", "gear")
"""Two stand for all: what judging costs depends on users, items and steps, not on the model."""

every_system = pytest.mark.parametrize("name", sorted(SYSTEMS))


@cache
def world_of(name: str) -> World:
    return load_world(name)


class Started:
    """A system as the gate trains it, started on a device, with some of its batches at hand."""

    def __init__(self, name: str, device: str) -> None:
        seeds = SeedPlan(root=0)
        self.system = make_system(name)
        self.data = self.system.prepare(world_of(self.system.default_world), seeds.child("data"))
        self.model = self.system.build(self.data, seeds.child("init")).to(device)
        self.optimizer = self.system.make_optimizer(self.model)
        self.device = torch.device(device)
        stream: Iterator[Batch] = self.system.batches(self.data, seeds)
        self.batches = list(islice(stream, NUM_BATCHES))
        self.taken = 0

    def step(self) -> Any:
        batch = self.batches[self.taken % NUM_BATCHES]
        self.taken += 1
        self.model.train()
        return self.system.step(self.model, self.optimizer, batch.to(self.device))


@every_system
def test_a_training_step(benchmark: BenchmarkFixture, name: str) -> None:
    started = Started(name, "cpu")
    losses = benchmark.pedantic(started.step, **STEPS)

    assert torch.isfinite(losses["total"])


@every_system
@pytest.mark.gpu
def test_a_training_step_on_cuda(benchmark: BenchmarkFixture, name: str) -> None:
    started = Started(name, "cuda")
    losses = benchmark.pedantic(started.step, **STEPS)

    assert losses["total"].isfinite()
    assert benchmark.extra_info["environment"]["class"].startswith("cuda")


@every_system
def test_an_evaluation(benchmark: BenchmarkFixture, name: str) -> None:
    started = Started(name, "cpu")
    users = started.system.eval_set(started.data, "test")
    ranks = benchmark.pedantic(rank_split, (started.system, started.model, users), **EVALUATIONS)

    assert len(ranks.user) > 0


@every_system
@pytest.mark.gpu
def test_an_evaluation_on_cuda(benchmark: BenchmarkFixture, name: str) -> None:
    started = Started(name, "cuda")
    users = started.system.eval_set(started.data, "test")
    ranks = benchmark.pedantic(rank_split, (started.system, started.model, users), **EVALUATIONS)

    assert len(ranks.user) > 0


@cache
def recorded(name: str) -> RunRecord:
    system = make_system(name, {"steps": RECORD_STEPS, "eval_every": RECORD_STEPS // 2})
    with deterministic(0) as environment:
        run = Recorder(RunSpec(system=name), environment)
        train_system(system, world_of(system.default_world), run)
    return run.finish()


@pytest.mark.parametrize("name", JUDGED)
def test_every_check_of_one_record(benchmark: BenchmarkFixture, name: str) -> None:
    record = recorded(name)
    results = benchmark.pedantic(of_one, (record,), rounds=5, warmup_rounds=1)

    assert len(results) > 20
    assert any(result.verdict is Verdict.PASS for result in results)
