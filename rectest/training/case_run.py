"""Measure a `ParityCase`: one process first, then each number of ranks, all starting from the same weights.

What was measured is brought back as records; judging them is for `rectest.checks`, wording it for `rectest.parity`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from rectest.errors import RectestError, TrainingError
from rectest.record import RunRecord
from rectest.training.case import ParityCase, case_of
from rectest.training.case_batch import as_batch
from rectest.training.case_child import START, measure_alone, measure_joined, measure_rank
from rectest.training.group import run_on_ranks
from rectest.training.group_torchrun import under_torchrun
from rectest.training.launch import Launch
from rectest.training.modules import Modules, call, modules_of
from rectest.training.shares import micro_batches

__all__ = ["DEADLINE", "ParityOutcome", "measure", "missing_gpus"]

DEADLINE = 120.0
"""Seconds that the ranks of one launch may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityOutcome:
    """What was measured of a case; records have the layout of `rectest.training.ranks.RanksOutcome`."""

    single: RunRecord
    """One process on the whole batch, by autograd alone."""

    ranks: Mapping[int, tuple[RunRecord, ...]]
    """By number of ranks, the record of each."""


def missing_gpus(case: ParityCase, world_size: int) -> str:
    """Which GPUs the case asks for and this machine does not have, in words; empty where it has them.

    Only the driver is asked: CUDA is not started in this process.
    """
    if not case.device.startswith("cuda"):
        return ""
    index = torch.device(case.device).index
    needed = world_size if case.gpus == "one_each" else (index or 0) + 1
    found = torch.cuda.device_count()
    return "" if found >= needed else f"asked for {needed} GPU{'s' if needed > 1 else ''}, found {found}"


def measure(
    case: ParityCase | str,
    world_sizes: Sequence[int] = (1, 2, 4),
    *,
    changes: Mapping[str, Any] | None = None,
    how: Launch | None = None,
) -> ParityOutcome:
    """The gradients of one process and of each number of ranks.

    Args:
        case: a case that can be sent to other processes, or its name, by which each rank makes its own.
        world_sizes: numbers of ranks; with 1, the strategy of the case on one rank is measured too.
        changes: fields to set over those of a case that is given by name.
        how: deadline of each launch, import path, environment.

    Raises:
        ValueError: a number of ranks that cannot be, or shares for another number.
        TypeError: a function of the case cannot be sent to another process.
        TrainingError: there are fewer rows than micro-batches on all ranks together.
        ChildFailed: a rank raised, died, or did not come to its end in time.
    """
    known = case_of(case, changes) if isinstance(case, str) else replace(case, **(changes or {}))
    _check(known, world_sizes)
    how = how or Launch(deadline=DEADLINE, sys_path=sys.path)
    given = {} if isinstance(case, str) else {field.name: getattr(known, field.name) for field in fields(known)}
    work = _Work(known, case if isinstance(case, str) else known, dict(changes or {}), modules_of(**given), how)
    return work.joined(world_sizes) if under_torchrun() else work.launched(world_sizes)


def _check(case: ParityCase, world_sizes: Sequence[int]) -> None:
    """Find out here what would otherwise go wrong in every rank."""
    if not world_sizes or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in world_sizes):
        msg = f"world_sizes must be whole numbers of at least 1, got {tuple(world_sizes)}"
        raise ValueError(msg)
    if callable(case.batch) and not isinstance(case.batch, Tensor):
        return
    whole = as_batch(case.batch, case.cut)
    for world_size in world_sizes:
        micro_batches(whole, world_size=world_size, num_micro=case.num_micro, shares=case.shares_on(world_size))


@dataclass(frozen=True)
class _Work:
    """A case on its way to the ranks."""

    case: ParityCase
    source: ParityCase | str
    changes: Mapping[str, Any]
    modules: Modules
    how: Launch

    def launched(self, world_sizes: Sequence[int]) -> ParityOutcome:
        """One launch for the one process, and one for each number of ranks."""
        single, start, own = self._alone(also_group=1 in world_sizes)
        ranks = {1: own} if own else {}
        for world_size in world_sizes:
            if world_size > 1:
                ranks[world_size] = tuple(self._run(measure_rank, start, world_size=world_size))
        return ParityOutcome(single=single, ranks=ranks)

    def joined(self, world_sizes: Sequence[int]) -> ParityOutcome:
        """In a world of torchrun: rank 0 launches the one process beside it, and tells the others what it has."""
        world_size = int(os.environ["WORLD_SIZE"])
        if tuple(world_sizes) != (world_size,):
            msg = f"{tuple(world_sizes)} ranks were asked for, and torchrun started {world_size}; ask for that number"
            raise TrainingError(msg)
        alone: Any = None
        if os.environ["RANK"] == "0":
            try:
                with _outside_torchrun():
                    alone = self._alone(also_group=False)
            except RectestError as e:
                alone = e
        pairs = self._run(measure_joined, alone, world_size=world_size)
        return ParityOutcome(single=pairs[0][1], ranks={world_size: tuple(record for record, _ in pairs)})

    def _alone(self, *, also_group: bool) -> tuple[RunRecord, dict[str, Any], tuple[RunRecord, ...]]:
        """The record of one process, the weights it began with, and the record of a group of one if it is wanted."""
        (records,) = self._run(measure_alone, also_group, world_size=1)
        single, *own = records
        start = {key: value for key, value in single.arrays.items() if key.startswith(START)}
        rest = {key: value for key, value in single.arrays.items() if key not in start}
        return replace(single, arrays=rest), start, tuple(own)

    def _run(self, function: Any, *args: Any, world_size: int) -> list[Any]:
        return run_on_ranks(
            call,
            self.modules,
            function,
            self.source,
            self.changes if isinstance(self.source, str) else {},
            *args,
            world_size=world_size,
            subject=self.case.subject,
            device=self.case.device,
            backend=self.case.backend,
            how=self.how,
        )


@contextlib.contextmanager
def _outside_torchrun() -> Iterator[None]:
    """Launch processes although this one is a worker of torchrun."""
    hidden = os.environ.pop("TORCHELASTIC_RUN_ID")
    try:
        yield
    finally:
        os.environ["TORCHELASTIC_RUN_ID"] = hidden
