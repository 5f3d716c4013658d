"""One rank: ``python -m rectest.training.rank_child JOB RANK`` does the jobs in the file and leaves a record of each.

A record, or an error, is written whole or not at all. Before each part of the work its name is appended to a progress
file, so that the parent can say which rank the others wait for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from rectest.data.worlds import load_world
from rectest.environment import Environment
from rectest.errors import RectestError, TrainingError
from rectest.record import RunRecord, RunSpec, atomic_write
from rectest.seeding import SeedPlan
from rectest.systems.gram_c.runner import Runner, StepLosses, loss_terms, micro_batches
from rectest.systems.protocol import System
from rectest.systems.registry import make_system
from rectest.training.child import die_with_parent, is_memory
from rectest.training.determinism import deterministic
from rectest.training.program import planted
from rectest.training.ranks import RanksJob
from rectest.training.tape import Digest, digest_tensor

__all__ = ["choose_backend", "main", "prepare", "train_rank"]

_MARGIN = 60.0
"""Seconds by which a collective outlasts the deadline of the parent, whose message names the rank."""

_LOST_CONNECTION = ("Connection", "connection", "Broken pipe", "gloo", "NCCL", "peer")


def main(job_path: str, rank: int) -> int:
    """Do the jobs of `rank`; returns the exit code (0: records written, 3: error file written)."""
    folder = Path(job_path).parent
    job = json.loads(Path(job_path).read_text())
    die_with_parent(job["parent"])
    sys.path[:] = dict.fromkeys([*job["sys_path"], *sys.path])
    try:
        _do_jobs(folder, job, rank)
    except Exception as e:
        atomic_write(folder / f"error-{rank}.json", json.dumps(_described(e)).encode())
        return 3
    return 0


def _described(error: Exception) -> dict[str, Any]:
    named = isinstance(error, RectestError)
    return {
        "kind": "memory" if is_memory(error) else "raised",
        "type": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "known": named,
        "secondary": not named and any(word in str(error) for word in _LOST_CONNECTION),
        "time": time.time_ns(),
        "traceback": traceback.format_exc(),
    }


def _do_jobs(folder: Path, job: Mapping[str, Any], rank: int) -> None:
    world_size = int(job["world_size"])
    spec = RunSpec.from_dict(job["spec"])
    backend = choose_backend(job["backend"], spec.device, world_size)
    spec = spec.with_(device=_place(spec.device, rank))
    with (
        (folder / f"progress-{rank}.txt").open("a", buffering=1) as progress,
        deterministic(spec.seed, threads=spec.threads, device=spec.device, enabled=spec.deterministic) as environment,
        _group(folder / "store", backend, rank, world_size, timeout=job["deadline"] + _MARGIN) as group,
    ):
        _say(progress, "all jobs", "prepare")
        data = prepare(spec)
        for place, (name, values) in enumerate(job["jobs"].items()):
            record = train_rank(
                spec,
                RanksJob.from_dict(values),
                data,
                environment=environment,
                rank=rank,
                group=group,
                stage=partial(_say, progress, name),
            )
            record.save(folder / f"record-{place}-{rank}.safetensors")


def _say(progress: TextIO, job: str, stage: str) -> None:
    progress.write(f"{job}: {stage}\n")


def choose_backend(wanted: str, device: str, world_size: int) -> str:
    """What exchanges the gradients: nccl needs a GPU for each rank, gloo also works where ranks share one.

    Raises:
        TrainingError: nccl is asked for and cannot be had here.
    """
    own_gpus = device == "cuda" and torch.cuda.device_count() >= world_size and dist.is_nccl_available()
    if wanted == "auto":
        return "nccl" if own_gpus else "gloo"
    if wanted == "nccl" and not own_gpus:
        msg = (
            f"nccl needs device cuda and a GPU for each of {world_size} ranks, found device {device!r} and "
            f"{torch.cuda.device_count()} GPUs; use gloo"
        )
        raise TrainingError(msg)
    return wanted


def _place(device: str, rank: int) -> str:
    """The device of a rank: GPUs in turn, unless the spec names one of them."""
    if device != "cuda" or not torch.cuda.is_available():
        return device
    return f"cuda:{rank % torch.cuda.device_count()}"


@contextlib.contextmanager
def _group(
    store: Path, backend: str, rank: int, world_size: int, *, timeout: float
) -> Iterator[dist.ProcessGroup | None]:
    if world_size == 1:
        yield None
        return
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        backend,
        store=dist.FileStore(str(store), world_size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout),
    )
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


def prepare(spec: RunSpec) -> Any:
    """The system's prepared data, the same on all ranks; several jobs share it, since training never changes it."""
    system = _system(spec)
    return system.prepare(load_world(spec.world or system.default_world), SeedPlan(root=spec.seed).child("data"))


def train_rank(
    spec: RunSpec,
    job: RanksJob,
    data: Any,
    *,
    environment: Environment,
    rank: int = 0,
    group: dist.ProcessGroup | None = None,
    stage: Callable[[str], None] | None = None,
) -> RunRecord:
    """Take the steps of `job` as one rank of `group` (None: alone) and record what this rank has."""
    say = stage or (lambda _: None)
    world_size = 1 if group is None else dist.get_world_size(group)
    system = _system(spec)
    seeds = SeedPlan(root=spec.seed)
    say("build")
    own = seeds.for_rank(rank) if job.own_init and rank > 0 else seeds
    model = system.build(data, own.child("init")).to(torch.device(spec.device))
    model.train(job.training_mode)
    optimizer = system.make_optimizer(model)
    say("wrap")
    runner = Runner(system, model, optimizer, group=group, settings=job.reduction, stage=say)
    found = _Found(model)
    for step, batch in enumerate(islice(system.batches(data, seeds), job.num_steps), start=1):
        own_batches = micro_batches(
            batch, rank=rank, world_size=world_size, num_micro=job.micro_per_step, shares=job.shares
        )
        say(f"step {step}")
        if step == 1:
            found.terms = [loss_terms(system)(part) for part in own_batches]
            if not job.training_mode:
                found.keep("local", runner.local_gradients(own_batches))
        found.after_step(model, runner.step(own_batches), first=step == 1)
    facts = {"rank": rank, "world_size": world_size, "job": job.to_dict(), "loss_terms": found.terms}
    facts["backend"] = "none" if group is None else dist.get_backend(group)
    return RunRecord(
        spec=spec,
        environment=environment,
        arrays=found.arrays(),
        facts={"parallel": facts, "replicas": {"names": found.names}},
    )


def _system(spec: RunSpec) -> System[Any]:
    settings = dict(spec.config)
    if spec.steps is not None:
        settings["steps"] = spec.steps
    system = make_system(spec.system, settings)
    return planted(system, spec.plant) if spec.plant else system


class _Found:
    """What one rank sees, step by step."""

    def __init__(self, model: nn.Module) -> None:
        self.names = list(_tensors(model))
        self.terms: list[float] = []
        self._digests: list[list[Digest]] = [_digests(model)]
        self._losses: list[StepLosses] = []
        self._kept: dict[str, np.ndarray[Any, Any]] = {}

    def keep(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
            self._kept[f"{prefix}/{name}"] = dense.float().cpu().numpy().copy()

    def after_step(self, model: nn.Module, losses: StepLosses, *, first: bool) -> None:
        if first:
            found = {name: parameter.grad for name, parameter in model.named_parameters()}
            self.keep("grad", {name: gradient for name, gradient in found.items() if gradient is not None})
        self._digests.append(_digests(model))
        self._losses.append(losses)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {
            **self._kept,
            "loss/total": np.array([loss.local for loss in self._losses]),
            "loss/reduced": np.array([loss.reduced for loss in self._losses]),
            "replicas/tensors": np.array(self._digests, dtype=np.uint64),
        }


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Everything that must be equal on all ranks: parameters and buffers."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _digests(model: nn.Module) -> list[Digest]:
    return [digest_tensor(value) for value in _tensors(model).values()]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], int(sys.argv[2])))
