"""What recording costs beside the training it records, and how far the digests are from the obvious.

Run with `pytest tests/bench --benchmark-enable --benchmark-only`; only ratios are asserted, never times, and those with
room, so that they fail for a lost trick and not for a busy machine. The contenders of a ratio run in turn, round by
round, so that noise falls on all alike. The step is a SASRec's: 50 places, 128 users, 3,400 items, 270,000 parameters.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.bench import interleaved_ratios
from fixtures.worlds import world_with
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
    ratios = interleaved_ratios(
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
    ratios |= interleaved_ratios(unit=beside.step, deterministic=deterministic_step)
    benchmark.extra_info |= ratios

    assert ratios["loop"] < 1.1


@pytest.mark.parametrize("size", [2, 64], ids=["2-MiB", "64-MiB"])
def test_digest_beside_sha256(benchmark: BenchmarkFixture, size: int) -> None:
    tensor = torch.randn(size * 2**18, generator=torch.Generator().manual_seed(0))
    kept = tensor.clone()
    ratios = interleaved_ratios(
        unit=lambda: digest_tensors({"x": tensor}),
        sha256=lambda: hashlib.sha256(tensor.numpy().data).digest(),
        read=lambda: tensor.view(torch.int64).sum(),
        compared_with_a_copy=lambda: torch.equal(tensor, kept),
    )
    benchmark.extra_info |= ratios
    benchmark(digest_tensor, tensor)

    assert ratios["sha256"] > 3
    assert ratios["read"] > 0.2
