"""Collectives and the gradients that DDP reduces, in a group of one process and in a real one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fixtures.recorded import first_difference, recorded, tape_of
from rectest.divergence.tapes import load_run


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(*, factor: float = 1.0, wrapped: bool = True) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    outer = nn.parallel.DistributedDataParallel(model) if wrapped else model
    optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (outer(torch.ones(3, 2)).sum() * factor).backward()
        for parameter in model.parameters():
            parameter.grad *= factor
        optimizer.step()


def test_gradients_are_seen_before_and_after_ddp_reduces_them(tmp_path: Path, group: None) -> None:
    events = tape_of(tmp_path / "a", train)
    tables = {event.kind: event.tensors for event in events if event.step == 1}

    assert tables["local_gradient"] == tables["gradient"]
    assert ["Sequential.0.weight", "Sequential.0.bias"] == list(tables["gradient"])
    assert ["Sequential.0", "Sequential.1", "Sequential"] == [e.name for e in events if e.kind == "forward"][:3]


def test_a_changed_local_gradient_is_seen_before_the_reduced_one(tmp_path: Path, group: None) -> None:
    class Scaled(nn.Linear):
        factor = 1.0

        def __init__(self) -> None:
            super().__init__(2, 2)
            self.weight.register_hook(lambda gradient: gradient * self.factor)

    def script() -> None:
        torch.manual_seed(0)
        outer = nn.parallel.DistributedDataParallel(Scaled())
        optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
        outer(torch.ones(3, 2)).sum().backward()
        optimizer.step()

    before = tape_of(tmp_path / "a", script)
    Scaled.factor = 1.001
    after = tape_of(tmp_path / "b", script)

    assert (1, "local_gradient", "optimizer0") == first_difference(before, after)


def test_ddp_trains_the_same_bits_and_keeps_no_hooks(tmp_path: Path, group: None) -> None:
    model = nn.Linear(2, 2)
    outer = nn.parallel.DistributedDataParallel(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def gradients() -> list[torch.Tensor]:
        model.load_state_dict(state)
        outer.zero_grad()
        outer(torch.ones(3, 2)).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients()
    with recorded(tmp_path / "a"):
        watched = gradients()

    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_collectives_that_python_calls(tmp_path: Path, group: None) -> None:
    def script() -> None:
        value = torch.ones(2)
        dist.all_reduce(value)
        gathered = [torch.zeros(2)]
        dist.all_gather(gathered, value)
        dist.all_gather_object([None], {"a": 1})
        dist.all_reduce(value, async_op=True).wait()

    events = [event for event in tape_of(tmp_path / "a", script) if event.kind == "reduce"]

    assert ["all_reduce", "all_gather", "all_gather_object", "all_reduce"] == [event.name for event in events]
    assert events[0].digest == events[0].info["input"]
    assert {"world": 1, "rank": 0} == {key: events[0].info[key] for key in ("world", "rank")}
    assert "test_torch_dist.py" in events[0].site
    assert "" == events[3].digest
    assert events[3].info["async"]


_RANK = """
import sys, torch, torch.distributed as dist
from torch import nn
from fixtures.recorded import recorded
from pathlib import Path
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
torch.manual_seed(0)
with recorded(folder / f"tape{rank}"):
    outer = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
    optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
    for _ in range(2):
        outer(torch.full((3, 2), 1.0 + rank)).sum().backward()
        optimizer.step()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_differ_before_the_reduction_and_agree_after_it(tmp_path: Path) -> None:
    import subprocess

    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen([sys.executable, "-c", _RANK, str(rank), str(tmp_path)], env=environment) for rank in (0, 1)
    ]
    codes = [child.wait(timeout=120) for child in children]
    tapes = [load_run(tmp_path / f"tape{rank}").tapes["main"] for rank in (0, 1)]
    local, reduced, after = (
        [[event.digest for event in tape.of(kind) if event.name == "optimizer0"] for tape in tapes]
        for kind in ("local_gradient", "gradient", "parameter")
    )

    assert [0, 0] == codes
    assert all(one != other for one, other in zip(*local, strict=True))
    assert reduced[0] == reduced[1]
    assert after[0] == after[1]
    assert local[0] != reduced[0]
