"""One rank of a group: what runs in each process that `rectest.training.group` starts.

It makes the process its own (session, random numbers, environment, device), joins the process group, calls the
function, and leaves the pickled result or the description of an error as a whole file. Code that runs in a rank asks
`current_group` where it stands and tells with `say` how far it came.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rectest.errors import TrainingError
from rectest.record import atomic_write
from rectest.training.child import die_with_parent
from rectest.training.group_failure import describe

__all__ = [
    "COLLECTIVE_MARGIN",
    "FAILED",
    "OWN_THREAD",
    "Group",
    "RankJob",
    "choose_backend",
    "current_group",
    "enter",
    "join",
    "place_of",
    "rank_main",
    "say",
    "to_bytes",
]

FAILED = 3
"""Exit code of a rank that left the description of its error."""

COLLECTIVE_MARGIN = 60.0
"""Seconds by which a collective outlasts the deadline of the parent, whose message names the rank."""

OWN_THREAD = "_end_with_launcher"
"""The function of the one thread that this file starts, as stacks name it."""

_LINGER = 3.0
"""Seconds that a rank which lost its connection stays, so that the one which failed by itself is seen first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Where this process stands among those that work together."""

    rank: int
    world_size: int
    backend: str
    """``gloo`` or ``nccl``; a group of one has one too."""

    device: str
    """The device of this rank: ``cpu``, ``cuda:0``, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankJob:
    """What all ranks of a launch are told; the function and its arguments travel beside it."""

    function: str
    """How messages call the function."""

    world_size: int
    device: str
    backend: str
    deadline: float
    """Seconds that the ranks may take."""

    ends: float
    """The same as a time since the epoch."""

    sys_path: list[str]
    environ: dict[str, str]
    """The whole environment: a fork server would hand on that of its own start."""

    memory_mib: int | None = None

    def write(self, folder: Path) -> None:
        """Leave it where the ranks look for it."""
        (folder / "job.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> RankJob:
        """The inverse of `write`."""
        return cls(**json.loads((folder / "job.json").read_text()))


class _Here:
    """What this process is at the moment, if it is a rank."""

    group: Group | None = None
    report: Callable[[str], None] | None = None


def current_group() -> Group | None:
    """Where this process stands in the group that is at work, or None outside of one."""
    return _Here.group


def say(stage: str) -> None:
    """Note in a rank that a part of the work begins, so that a hang can be placed; outside of a group a no-op."""
    if _Here.report is not None:
        _Here.report(" ".join(stage.split()))


def enter(group: Group | None, report: Callable[[str], None] | None) -> None:
    """Make `group` what `current_group` answers, and `report` what `say` calls; None for both to leave it."""
    _Here.group, _Here.report = group, report


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


def place_of(device: str, local_rank: int) -> str:
    """The device of a rank: GPUs in turn for ``cuda``, else the named one.

    Raises:
        TrainingError: there is no GPU, or none of that number.
    """
    if not device.startswith("cuda"):
        return device
    count = torch.cuda.device_count()
    index = torch.device(device).index
    if count == 0 or (index is not None and index >= count):
        msg = f"device {device!r} needs a GPU that torch {torch.__version__} can use, found {count}; use device 'cpu'"
        raise TrainingError(msg)
    return f"cuda:{local_rank % count}" if index is None else device


def rank_main(folder: str, rank: int) -> None:
    """Be rank `rank` of the job in `folder`; the process ends here, also where what it started would go on.

    Threads that the function left behind cannot keep the group waiting, and nothing can fail after the result.
    """
    code = FAILED
    try:
        code = _work(Path(folder), rank)
    finally:
        _flush()
        os._exit(code)


def _work(folder: Path, rank: int) -> int:
    phase, function = "load", "the function"
    try:
        _own_session()
        progress = (folder / f"progress-{rank}.txt").open("a", buffering=1)
        _Here.report = lambda stage: print(stage, file=progress)
        job = RankJob.read(folder)
        function = job.function
        _settle(job)
        say(f"load {function}")
        call, args = pickle.loads((folder / "work.pickle").read_bytes())
        phase = "place"
        say("meet the other ranks")
        enter(_join(job, rank), _Here.report)
        phase = "run"
        say(function)
        payload = to_bytes(call(*args))
        say("leave the other ranks")
        if dist.is_initialized():
            dist.destroy_process_group()
    except BaseException as e:
        _leave_error(folder / f"error-{rank}.json", e, phase, function)
        return FAILED
    atomic_write(folder / f"result-{rank}.pickle", payload)
    return 0


def _join(job: RankJob, rank: int) -> Group:
    return join(
        device=job.device,
        backend=job.backend,
        rank=rank,
        world_size=job.world_size,
        local_rank=rank,
        local_world_size=job.world_size,
        timeout=job.deadline + COLLECTIVE_MARGIN,
    )


def _leave_error(path: Path, error: BaseException, phase: str, function: str) -> None:
    described = describe(error, phase=phase, function=function)
    sys.stderr.write(described.traceback)
    atomic_write(path, described.to_bytes())
    if described.secondary:
        _flush()
        time.sleep(_LINGER)


def _flush() -> None:
    """Bring out what Python and C still hold back, since `os._exit` would drop it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _own_session() -> None:
    """Lead a session, so that all this rank starts ends with it, and end with the process that launched it.

    The parent of a rank is the fork server, which lives as long as somebody holds its pipe: ranks let go of it, so that
    it follows the launching process at once and the kernel ends the ranks. The thread is quicker and also takes along
    what a rank started; a rank whose parent is the launching process has it only, since the kernel would be quicker.
    """
    with contextlib.suppress(PermissionError):
        os.setsid()
    alive = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if alive is not None:
        os.close(alive)
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]
    launcher = multiprocessing.parent_process()
    if launcher is None or os.getppid() != launcher.pid:
        die_with_parent(os.getppid())
    elif sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 0)  # torch asks for an interrupt, which would end this rank and not its helpers
    threading.Thread(target=_end_with_launcher, name="rectest-parent", daemon=True).start()


def _end_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os.killpg(0, signal.SIGKILL)


def _settle(job: RankJob) -> None:
    """Make the process what the job says, before any code of the user runs."""
    of_this_rank = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK")}
    os.environ.clear()
    os.environ.update(job.environ | of_this_rank)
    sys.path[:] = dict.fromkeys([*job.sys_path, *sys.path])
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if job.memory_mib is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (job.memory_mib * 2**20, job.memory_mib * 2**20))
    torch.set_num_threads(int(job.environ.get("OMP_NUM_THREADS", "1")))
    _fresh_entropy()
    left = job.ends - time.time()
    faulthandler.dump_traceback_later(max(0.1, left - min(1.0, 0.1 * job.deadline)))


def _fresh_entropy() -> None:
    """Seed the global generators anew: children of one fork server would all draw the same numbers."""
    random.seed()
    np.random.seed()  # noqa: NPY002  the global generator is what we guard
    torch.seed()


def join(
    *,
    device: str,
    backend: str,
    rank: int,
    world_size: int,
    local_rank: int,
    local_world_size: int,
    timeout: float,
    store: dist.Store | None = None,  # type: ignore[name-defined]
) -> Group:
    """Take this rank's device and initialise the default process group.

    Args:
        timeout: seconds after which a collective gives up.
        store: where the ranks meet; None for the address in the environment.

    Raises:
        TrainingError: the device or the backend cannot be had.
    """
    place = place_of(device, local_rank)
    backend = choose_backend(backend, device, local_world_size)
    if place.startswith("cuda"):
        torch.cuda.set_device(place)
    dist.init_process_group(
        backend,
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout),
        device_id=torch.device(place) if backend == "nccl" else None,
    )
    # A function without collectives may be over before another rank has connected to this one.
    dist.barrier()
    return Group(rank=rank, world_size=world_size, backend=backend, device=place)


class _Pickler(pickle.Pickler):
    """Plain pickle, with tensors brought to the CPU: who launches ranks must never touch CUDA itself."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, torch.Tensor) and value.is_cuda:
            return value.detach().cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        return NotImplemented


def to_bytes(value: object) -> bytes:
    """The pickled result of a rank.

    Raises:
        TypeError: it cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError) as e:
        msg = f"the result, a {type(value).__name__}, cannot be pickled ({e}); return plain values, arrays or tensors"
        raise TypeError(msg) from e
    return buffer.getvalue()
