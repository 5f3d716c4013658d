"""What recording a script's training costs beside the training: a SASRec written as users write it, on one thread.

Run with `pytest tests/bench/test_bench_capture.py --benchmark-enable --benchmark-only`; only ratios are asserted. A
step is 50 places, 128 users, 3,416 items, 270,000 parameters. Rounds with and without recording take turns in one
process, so that noise falls on both alike; each contender's figure is the first decile of its CPU times, where
neighbours disturb least.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.nn import functional as F

from rectest.divergence.inside import start, torch_hooks
from rectest.divergence.inside.digests import join, parts_of
from rectest.divergence.inside.hashing import digest_bytes
from rectest.divergence.inside.session import Config, Session
from rectest.divergence.tapes import load_run

SIZE, LENGTH, BATCH, ITEMS = 64, 50, 128, 3416
ROUNDS, STEPS = 9, 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(SIZE, 1, dropout=0.2, batch_first=True)
        self.first, self.second = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)
        self.before, self.between = nn.LayerNorm(SIZE), nn.LayerNorm(SIZE)
        self.relu, self.dropout, self.out = nn.ReLU(), nn.Dropout(0.2), nn.Dropout(0.2)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query = self.before(states)
        states = query + self.attention(query, states, states, attn_mask=mask, need_weights=False)[0]
        inner = self.between(states)
        return inner + self.out(self.second(self.relu(self.dropout(self.first(inner)))))


class SASRec(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.items, self.places = nn.Embedding(ITEMS + 1, SIZE, padding_idx=0), nn.Embedding(LENGTH, SIZE)
        self.dropout, self.last = nn.Dropout(0.2), nn.LayerNorm(SIZE)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, history: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        states = self.dropout(self.items(history) * SIZE**0.5 + self.places(torch.arange(LENGTH)))
        for block in self.blocks:
            states = block(states, mask)
        states = self.last(states)
        return torch.cat([(states * self.items(ids)).sum(-1) for ids in (positive, negative)])


class Training:
    """A started training: the loop that a user would write."""

    def __init__(self) -> None:
        self.rng = torch.Generator().manual_seed(0)
        self.model = SASRec()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.target = torch.cat([torch.ones(BATCH, LENGTH), torch.zeros(BATCH, LENGTH)])
        self.step()

    def step(self) -> None:
        history, positive, negative = torch.randint(1, ITEMS + 1, (3, BATCH, LENGTH), generator=self.rng)
        logits = self.model(history, positive, negative)
        loss = F.binary_cross_entropy_with_logits(logits, self.target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def digests(self) -> list[bytes]:
        """Of every parameter and gradient, as the tape takes them."""
        pairs = [(parameter, parameter.grad) for parameter in self.model.parameters()]
        return [digest_bytes(join(parts_of(tensor))) for pair in pairs for tensor in pair]


def seconds(run: Callable[[], object], *, times: int) -> list[float]:
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return found


def recorded(
    training: Training, config: Config, install: Callable[[Session], None] = torch_hooks.install
) -> list[float]:
    """CPU time of steps under a recording of its own; its first step, which notes the model, does not count."""
    session = Session(config, process="main", header={})
    session.start()
    install(session)
    try:
        return seconds(training.step, times=1 + STEPS)[1:]
    finally:
        session.close("exit")


def test_a_recorded_step_beside_a_plain_one(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    training = Training()
    everyone: dict[str, Callable[[], list[float]]] = {
        "plain": lambda: seconds(training.step, times=1 + STEPS)[1:],
        "without modules": lambda: recorded(training, Config(tape=str(tmp_path / "lean"), modules=False)),
        "full tape": lambda: recorded(training, Config(tape=str(tmp_path / "full"))),
        "full tape, draws watched": lambda: recorded(training, Config(tape=str(tmp_path / "all")), start.install),
        "parameters and gradients": lambda: seconds(training.digests, times=STEPS),
    }
    times: dict[str, list[float]] = {name: [] for name in everyone}
    for _ in range(ROUNDS):
        for name, run in everyone.items():
            times[name] += run()
    best = {name: statistics.quantiles(values, n=10)[0] for name, values in times.items()}
    ratios = {name: round(value / best["plain"], 4) for name, value in best.items()}
    benchmark.extra_info |= ratios
    benchmark.pedantic(training.digests, rounds=3)
    steps = [tape.num_steps for tape in load_run(tmp_path / "full").tapes.values()]

    assert [1 + STEPS] * ROUNDS == steps
    assert ratios["parameters and gradients"] < 0.01
    assert ratios["without modules"] < 1.1
    assert ratios["full tape"] < 1.1
    assert ratios["full tape, draws watched"] < 1.2
