"""Run one training on several processes that exchange gradients, and bring back what each of them has.

Starting processes is owned by `rectest.training.group`, what one rank measures by `rectest.training.gradients`;
judging the outcome is for `rectest.checks.parity`. Several jobs may share one group of processes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rectest.errors import ChildFailed, RecordError
from rectest.record import RunRecord, RunSpec
from rectest.training.group import run_on_ranks
from rectest.training.launch import Launch
from rectest.training.rank_child import do_jobs
from rectest.training.reduction import PLAIN, Reduction

__all__ = ["RanksJob", "RanksOutcome", "run_jobs", "run_ranks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RanksJob:
    """What the ranks do together, from a fresh model on."""

    reduction: Reduction = PLAIN
    num_steps: int = 2
    num_micro: int | None = None
    """Micro-batches that each step really has; None for as many as `reduction.accumulation` says."""

    shares: tuple[int, ...] | None = None
    """How many parts of the rows each rank gets; None for equal parts."""

    own_init: bool = False
    """Whether each rank but the first draws its first parameters from a seed of its own."""

    same_rows: bool = False
    """Whether every rank trains on the first rank's rows."""

    dropout: bool = False
    """Whether the model draws dropout masks. Ranks cannot share them, so gradients are compared without."""

    sparse: bool = False
    """Whether embedding tables that are only looked up get sparse gradients."""

    optimizer: Literal["own", "sgd"] = "own"
    """The system's own, or plain gradient descent at its learning rate, which takes sparse gradients too."""

    plant: str = ""
    """A fault that is planted for this job only, as in `RunSpec.plant`."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_micro"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        if self.optimizer not in ("own", "sgd"):
            msg = f"optimizer must be own or sgd, got {self.optimizer!r}"
            raise ValueError(msg)

    def alone(self) -> RanksJob:
        """The job of one process on the whole batch, with which this one is compared."""
        return replace(self, reduction=PLAIN, num_micro=None, shares=None, own_init=False, same_rows=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RanksJob:
        """The inverse of `to_dict`."""
        shares = values["shares"]
        changed = {"reduction": Reduction(**values["reduction"]), "shares": tuple(shares) if shares else None}
        return cls(**{**values, **changed})


@dataclass(frozen=True, kw_only=True, slots=True)
class RanksOutcome:
    """What the ranks of one job left, a record each.

    Arrays, those of the first step where not said otherwise; T steps, P parameters and buffers, n rows of the rank:

    - ``grad/<parameter>``: as it is after accumulation and reduction, before clipping and the optimizer.
    - ``local/<micro>/<parameter>``: what a micro-batch of this rank adds to the gradient of one process; summed over
      all ranks and micro-batches it is that gradient. ``equal/<micro>/<parameter>``: what it would add if all shares
      weighed the same, where that differs.
    - ``replicas/tensors`` uint64 [T+1, P, 2]: digests at the start and after each step; ``replicas/built`` [P, 2]
      before the model was wrapped; ``replicas/optimizer`` [T, Q, 2] of the optimizer's state.
    - ``rows/digest`` uint64 [n, 2] of each row; ``rows/inputs`` without negatives; ``rows/shared`` of what has no rows.
    - ``loss/total`` [T] of this rank's rows and ``loss/reduced`` [T], the mean over ranks.

    Facts: ``parallel`` (rank, world size, backend, job, terms and rows by micro-batch, collectives), ``replicas``
    (names of tensors, of buffers among them, of the optimizer's state), ``tables`` (parameters judged row by row).
    """

    job: RanksJob
    records: tuple[RunRecord, ...]

    @property
    def world_size(self) -> int:
        """How many ranks there were."""
        return len(self.records)


def run_ranks(
    spec: RunSpec,
    job: RanksJob | None = None,
    *,
    world_size: int,
    backend: str = "auto",
    how: Launch | None = None,
) -> RanksOutcome:
    """Train the first steps of `spec` on `world_size` processes together.

    Args:
        spec: the system (planted or not), world, seed and device; its steps are what schedules are made for.
        job: how many steps are really taken, and how gradients are combined.
        world_size: number of processes; with 1 there is a group of one.
        backend: ``gloo``, ``nccl``, or ``auto``: nccl where the device is CUDA and each rank has a GPU of its own.
        how: deadline of all ranks together, import path, environment.

    Raises:
        ChildFailed: a rank raised, died, or did not come to its end in time; all of them are gone.
    """
    return run_jobs(spec, {"job": job or RanksJob()}, world_size=world_size, backend=backend, how=how)["job"]


def run_jobs(
    spec: RunSpec,
    jobs: Mapping[str, RanksJob],
    *,
    world_size: int,
    backend: str = "auto",
    how: Launch | None = None,
) -> dict[str, RanksOutcome]:
    """`run_ranks` for several jobs, one after the other in one group of processes; each starts from a fresh model."""
    if not jobs:
        msg = "at least one job was needed, got none"
        raise ValueError(msg)
    how = how or Launch(sys_path=sys.path)
    with tempfile.TemporaryDirectory(prefix="rectest-ranks-", dir=how.scratch) as folder:
        described = {name: job.to_dict() for name, job in jobs.items()}
        run_on_ranks(
            do_jobs,
            spec.to_dict(),
            described,
            folder,
            world_size=world_size,
            subject=spec.describe(),
            device=spec.device,
            backend=backend,
            how=how,
        )
        return {
            name: RanksOutcome(job=job, records=_records(Path(folder), spec, place, world_size))
            for place, (name, job) in enumerate(jobs.items())
        }


def _records(folder: Path, spec: RunSpec, place: int, world_size: int) -> tuple[RunRecord, ...]:
    try:
        return tuple(RunRecord.load(folder / f"record-{place}-{rank}.safetensors") for rank in range(world_size))
    except RecordError as e:
        raise ChildFailed(spec.describe(), reason="killed", detail=f"a rank left no readable record ({e})") from e
