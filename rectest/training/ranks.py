"""Run one training on several processes that exchange gradients, and bring back what each of them has.

Every rank is a fresh interpreter with one thread. They meet in a file (no port can be taken), one deadline ends them
all, and when one of them raises, dies or hangs, that rank is named: in the others the same event only shows as a
broken connection. What a rank does is in `rectest.training.rank_child`; judging the outcome is for
`rectest.checks.parity`.

Several jobs may share one group of processes, because starting it costs far more than a step does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rectest.errors import ChildFailed, RecordError
from rectest.record import RunRecord, RunSpec
from rectest.systems.gram_c.runner import PLAIN, Reduction
from rectest.training.launch import LIVE, Launch, child_environ, kill_group

__all__ = ["RanksJob", "RanksOutcome", "run_jobs", "run_ranks"]

_POLL = 0.02
_GRACE = 3.0
"""Seconds that other ranks get to say why they failed, once one of them did."""

_LOG_TAIL = 25


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

    training_mode: bool = False
    """Whether the model draws dropout masks. Ranks cannot share them, so gradients are compared without."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_micro"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)

    @property
    def micro_per_step(self) -> int:
        """Micro-batches of one step on one rank."""
        return self.reduction.accumulation if self.num_micro is None else self.num_micro

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

    Arrays: ``grad/<parameter>`` as it was handed to the optimizer at the first step; ``local/<parameter>`` of this
    rank's rows alone, unless dropout is on; ``replicas/tensors`` uint64 [T+1, P, 2], a digest of every parameter and
    buffer at the start and after each step; ``loss/total`` [T] of this rank's rows and ``loss/reduced`` [T], the mean
    over ranks. Facts: ``parallel`` (rank, world size, backend, job, loss terms) and ``replicas`` (names of tensors).
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
        world_size: number of processes; with 1 there is no group and nothing is reduced.
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
    if world_size < 1 or not jobs:
        msg = f"at least one process and one job were needed, got {world_size} processes and {len(jobs)} jobs"
        raise ValueError(msg)
    if backend not in ("auto", "gloo", "nccl"):
        msg = f"backend must be auto, gloo or nccl, got {backend!r}"
        raise ValueError(msg)
    how = how or Launch()
    folder = Path(tempfile.mkdtemp(prefix="rectest-ranks-", dir=how.scratch))
    try:
        _write_job(folder, spec, jobs, world_size=world_size, backend=backend, how=how)
        _run_group(folder, spec, world_size, how)
        return {
            name: RanksOutcome(job=job, records=_records(folder, spec, place, world_size))
            for place, (name, job) in enumerate(jobs.items())
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_job(
    folder: Path, spec: RunSpec, jobs: Mapping[str, RanksJob], *, world_size: int, backend: str, how: Launch
) -> None:
    (folder / "cwd").mkdir()
    content = {
        "spec": spec.to_dict(),
        "jobs": {name: job.to_dict() for name, job in jobs.items()},
        "world_size": world_size,
        "backend": backend,
        "deadline": how.deadline,
        "parent": os.getpid(),
        "sys_path": [str(Path(entry).resolve()) for entry in how.sys_path],
    }
    (folder / "job.json").write_text(json.dumps(content))


def _run_group(folder: Path, spec: RunSpec, world_size: int, how: Launch) -> None:
    """Start all ranks and wait for them; on the way out none of them is left, whatever happened."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(world_size):
            started.append(_start(folder, spec, rank, how))
            LIVE.add(started[-1])
        _wait(folder, spec, started, how.deadline)
    finally:
        for child in started:
            kill_group(child)
            LIVE.discard(child)


def _start(folder: Path, spec: RunSpec, rank: int, how: Launch) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rectest.training.rank_child", str(folder / "job.json"), str(rank)]
    environ = child_environ(spec, how)
    with (folder / f"log-{rank}.txt").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder / "cwd",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(folder: Path, spec: RunSpec, ranks: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    end = time.monotonic() + deadline
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() for rank in ranks):
            end = min(end, time.monotonic() + _GRACE)
            while any(rank.poll() is None for rank in ranks) and time.monotonic() < end:
                time.sleep(_POLL)
            break
        if time.monotonic() > end:
            raise _late(folder, spec, ranks, deadline)
        time.sleep(_POLL)
    if any(rank.poll() for rank in ranks):
        raise _failed(folder, spec, [rank.poll() for rank in ranks])


def _late(folder: Path, spec: RunSpec, ranks: Sequence[subprocess.Popen[bytes]], deadline: float) -> ChildFailed:
    """Name the ranks that are furthest behind: the others wait for them."""
    running = [rank for rank, child in enumerate(ranks) if child.poll() is None]
    where = {rank: _progress(folder, rank) for rank in running}
    least = min(place for place, _ in where.values())
    behind = [rank for rank in running if where[rank][0] == least]
    names = " and ".join(f"rank {rank}" for rank in behind)
    others = f", the other {len(ranks) - len(behind)} wait for it" if len(behind) < len(ranks) else ", all of them"
    detail = (
        f"{names} of {len(ranks)} did not come past {where[behind[0]][1]!r}{others}; "
        f"the deadline of {deadline:g} s ended all ranks"
    )
    return ChildFailed(spec.describe(), reason="deadline", detail=detail, log=_tail(folder, behind[0]))


def _progress(folder: Path, rank: int) -> tuple[int, str]:
    """How many parts of its work a rank began, and the name of the last one."""
    path = folder / f"progress-{rank}.txt"
    begun = path.read_text().splitlines() if path.exists() else []
    return len(begun), begun[-1] if begun else "the start of the process"


def _failed(folder: Path, spec: RunSpec, codes: Sequence[int | None]) -> ChildFailed:
    """The error of the rank that failed by itself, rather than of one that lost its connection to it."""
    errors = {rank: _error(folder, rank) for rank, code in enumerate(codes) if code}
    dead = [rank for rank, error in errors.items() if not error]
    if dead:
        return _died(folder, spec, dead[0], codes)
    rank = min(errors, key=lambda r: (errors[r]["secondary"], errors[r]["time"]))
    error = errors[rank]
    text = error["message"] if error["known"] else f"{error['type']}: {error['message']}"
    reason = "memory" if error["kind"] == "memory" else "raised"
    detail = f"rank {rank} of {len(codes)} raised {text}"
    return ChildFailed(spec.describe(), reason=reason, detail=detail, log=error["traceback"])


def _error(folder: Path, rank: int) -> dict[str, Any]:
    path = folder / f"error-{rank}.json"
    error: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return error


def _died(folder: Path, spec: RunSpec, rank: int, codes: Sequence[int | None]) -> ChildFailed:
    code = codes[rank] or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code} and no record"
    log = _tail(folder, rank)
    last = (log.strip().splitlines() or ["nothing"])[-1]
    detail = f"rank {rank} of {len(codes)} {how} after {_progress(folder, rank)[1]!r}; it last said: {last}"
    return ChildFailed(spec.describe(), reason="killed" if code < 0 else "start", detail=detail, log=log)


def _tail(folder: Path, rank: int) -> str:
    lines = (folder / f"log-{rank}.txt").read_text(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL:])


def _records(folder: Path, spec: RunSpec, place: int, world_size: int) -> tuple[RunRecord, ...]:
    try:
        return tuple(RunRecord.load(folder / f"record-{place}-{rank}.safetensors") for rank in range(world_size))
    except RecordError as e:
        raise ChildFailed(spec.describe(), reason="killed", detail=f"a rank left no readable record ({e})") from e
