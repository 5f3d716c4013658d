"""What a rank does for `rectest.training.ranks`: train a system's first steps, once for each job, and save a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rectest.data.worlds import load_world
from rectest.environment import Environment
from rectest.errors import TrainingError
from rectest.record import RunRecord, RunSpec
from rectest.seeding import SeedPlan
from rectest.systems.protocol import Batch, System
from rectest.systems.registry import make_system
from rectest.training.determinism import deterministic
from rectest.training.gradients import RankMeasurement, StageCallback, Stepper, without_dropout
from rectest.training.group_child import current_group, say
from rectest.training.program import planted
from rectest.training.reduction import Reduction, Runner
from rectest.training.shares import micro_batches
from rectest.training.sparse import make_sparse

__all__ = ["do_jobs", "train_rank"]


def do_jobs(spec_values: Mapping[str, Any], jobs: Mapping[str, Mapping[str, Any]], folder: str) -> None:
    """Do each job from a fresh model on; leaves ``record-<place>-<rank>.safetensors`` in `folder`."""
    group = current_group()
    if group is None:
        msg = "jobs are done by the ranks that rectest.training.ranks starts"
        raise TrainingError(msg)
    spec = RunSpec.from_dict(dict(spec_values)).with_(device=group.device)
    prepared = cache(partial(_prepare, spec))
    with deterministic(spec.seed, threads=spec.threads, device=spec.device, enabled=spec.deterministic) as environment:
        for place, (name, values) in enumerate(jobs.items()):
            record = train_rank(
                spec,
                values,
                prepared,
                environment=environment,
                group=dist.group.WORLD,
                stage=lambda word, name=name: say(f"{name}: {word}"),  # type: ignore[misc]
            )
            record.save(Path(folder) / f"record-{place}-{group.rank}.safetensors")


def train_rank(
    spec: RunSpec,
    job: Mapping[str, Any],
    prepared: Callable[[str], Any],
    *,
    environment: Environment,
    group: dist.ProcessGroup | None,
    stage: StageCallback,
) -> RunRecord:
    """Take the steps of `job` (a `RanksJob` as plain values) as one rank of `group` and record what this rank has."""
    rank, world_size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
    stage("prepare")
    system, data = _system(spec, job["plant"]), prepared(job["plant"])
    seeds = SeedPlan(root=spec.seed)
    stage("build")
    own = seeds.for_rank(rank) if job["own_init"] and rank > 0 else seeds
    model = system.build(data, own.child("init")).to(torch.device(spec.device)).train()
    if not job["dropout"]:
        without_dropout(model)
    steps = list(islice(system.batches(data, seeds), job["num_steps"]))
    if job["sparse"]:
        make_sparse(model, partial(_total, system, batch=steps[0].to(torch.device(spec.device))))
    settings = Reduction(**job["reduction"])
    optimizer = _optimizer(system, model, job["optimizer"])

    def make(told: StageCallback) -> Stepper:
        return Runner(system, model, optimizer, group=group, settings=settings, stage=told)

    measured = RankMeasurement(task=system, model=model, optimizer=optimizer, group=group, make=make, stage=stage)
    measured.run([_own_share(batch, job, settings, rank, world_size) for batch in steps])
    parallel = {
        **measured.facts,
        "rank": rank,
        "world_size": world_size,
        "backend": "none" if group is None else dist.get_backend(group),
        "device": spec.device,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "job": dict(job),
        "clip_norm": settings.clip_norm,
    }
    facts = {"parallel": parallel, "replicas": measured.replicas, "tables": _tables(system, model)}
    return RunRecord(spec=spec, environment=environment, arrays=measured.arrays, facts=facts)


def _system(spec: RunSpec, plant: str) -> System[Any]:
    """The system with the spec's faults and the job's."""
    settings = dict(spec.config)
    if spec.steps is not None:
        settings["steps"] = spec.steps
    system = make_system(spec.system, settings)
    for fault in (spec.plant, plant):
        system = planted(system, fault) if fault else system
    return system


def _prepare(spec: RunSpec, plant: str) -> Any:
    """The prepared data; several jobs share it, since training never changes it."""
    system = _system(spec, plant)
    return system.prepare(load_world(spec.world or system.default_world), SeedPlan(root=spec.seed).child("data"))


def _own_share(batch: Batch, job: Mapping[str, Any], settings: Reduction, rank: int, world_size: int) -> list[Batch]:
    num_micro = job["num_micro"] or settings.accumulation
    place = 0 if job["same_rows"] else rank
    return micro_batches(batch, rank=place, world_size=world_size, num_micro=num_micro, shares=job["shares"])


def _total(system: System[Any], model: nn.Module, *, batch: Batch) -> Tensor:
    return system.losses(model, batch)["total"]


def _optimizer(system: System[Any], model: nn.Module, kind: str) -> torch.optim.Optimizer:
    if kind == "own":
        return system.make_optimizer(model)
    return torch.optim.SGD(model.parameters(), lr=system.config.learning_rate)


def _tables(system: System[Any], model: nn.Module) -> dict[str, dict[str, bool]]:
    """The parameters that are embedding tables, by name."""
    modules = [m.weight for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    weights = [*modules, *(table.weight for table in system.tables(model).values())]
    named = {id(value): name for name, value in model.named_parameters()}
    return {named[id(weight)]: {"rows": True} for weight in weights if id(weight) in named}
