"""Run any importable function on several processes that can exchange tensors, and bring back what each returned.

The processes are started by torch's own elastic launcher. On the CPU they come from a fork server that has torch
loaded, so that every launch after the first costs a fraction of a second; for CUDA each is a fresh interpreter. They
meet at a store that this process hosts on a port of its own. One deadline ends them all, and when a rank raises, dies
or hangs, that rank is named. Afterwards no process of theirs and no file is left, apart from logs that were asked for.

Under ``torchrun`` nothing is started: see `rectest.training.group_torchrun`. What happens inside a rank is in
`rectest.training.group_child`, the watching of them in `rectest.training.group_watch`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rectest.errors import ChildFailed, TrainingError
from rectest.training.group_child import Group, RankJob, choose_backend, current_group, rank_main, say
from rectest.training.group_torchrun import join_ranks, under_torchrun
from rectest.training.group_watch import STARTING, Ranks, quiet_elastic, stop_ranks
from rectest.training.launch import Launch

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import PContext

__all__ = ["PRELOADED", "Group", "choose_backend", "current_group", "run_on_ranks", "say", "stop_ranks"]

PRELOADED = [
    "torch",
    "torch.distributed",
    "torch._dynamo",
    "torch.nn.parallel",
    "rectest.training.group_child",
    "rectest.training.rank_child",
    "rectest.training.case_child",
]
"""What the fork server imports once, for all ranks that it will start; a module that cannot be had is left out."""

_SOCKET_PATH = 103
"""Bytes that the path of a socket may have, on macOS; on Linux it is 107."""

_HANDLED_BY_ELASTIC = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run_on_ranks(
    function: Callable[..., Any],
    *args: Any,
    world_size: int,
    subject: str = "",
    device: str = "cpu",
    backend: str = "auto",
    how: Launch | None = None,
    log_dir: Path | None = None,
    port: int = 0,
) -> list[Any]:
    """The results of ``function(*args)`` on `world_size` processes, by rank.

    In each of them the default process group is initialised before the function is called (also for a group of one),
    so the function must not initialise it again; ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and
    ``MASTER_PORT`` are set, the global random generators are freshly seeded and torch has one thread, or as many as
    ``OMP_NUM_THREADS`` in ``how.environ`` says. What the function started ends with it. Under ``torchrun`` this
    process is one of the ranks, and the same list is returned on all of them.

    Args:
        function: defined at the top level of a module that a fresh interpreter can import.
        args: pickled once, for all ranks.
        subject: what messages call the work; empty for the name of the function.
        device: ``cpu``, ``cuda`` (GPUs in turn) or one of them.
        backend: ``gloo``, ``nccl``, or ``auto``: nccl where the device is CUDA and each rank has a GPU of its own.
        how: deadline of all ranks together, import path, environment, memory limit. The fork server has the hash seed
            0; with another one, each rank is a fresh interpreter.
        log_dir: where what the ranks print is kept; None to drop it once it was looked at.
        port: where the ranks meet; 0 takes a free one.

    Raises:
        ValueError: a world size, device or backend that cannot be.
        TypeError: the function or an argument cannot be sent to another process.
        TrainingError: the port, the device or the backend cannot be had, or torchrun started another number of ranks.
        ChildFailed: a rank raised, died, did not come to its end in time, or returned what cannot be pickled.
    """
    _check_request(world_size, device, backend)
    how = how or Launch()
    name = _name(function)
    if under_torchrun():
        return join_ranks(
            function,
            args,
            world_size=world_size,
            subject=subject or name,
            device=device,
            backend=backend,
            deadline=how.deadline,
        )
    work = _pickled(function, args)
    if how.scratch is not None:
        how.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="rectest-ranks-", dir=how.scratch))
    try:
        (folder / "work.pickle").write_bytes(work)
        with _meeting_point(port, world_size) as taken:
            job = _job(name, world_size=world_size, device=device, backend=backend, how=how, port=taken)
            job.write(folder)
            context = _start(folder, job, logs=log_dir or folder / "logs", hash_seed=how.hash_seed)
            ranks = Ranks(folder=folder, context=context, subject=subject or name, logs_stay=log_dir is not None)
            return ranks.finish(deadline=how.deadline)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_request(world_size: int, device: str, backend: str) -> None:
    if world_size < 1:
        msg = f"at least one process was needed, got world_size {world_size}"
        raise ValueError(msg)
    if backend not in ("auto", "gloo", "nccl"):
        msg = f"backend must be auto, gloo or nccl, got {backend!r}"
        raise ValueError(msg)
    try:
        known = torch.device(device).type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        msg = f"device must be cpu, cuda or one GPU like cuda:0, got {device!r}"
        raise ValueError(msg)


def _job(function: str, *, world_size: int, device: str, backend: str, how: Launch, port: int) -> RankJob:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TORCHELASTIC_"))}
    environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if sys.platform == "linux":
        environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    environ |= {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return RankJob(
        function=function,
        world_size=world_size,
        device=device,
        backend=backend,
        deadline=how.deadline,
        ends=time.time() + how.deadline,
        sys_path=[str(Path(entry).resolve()) for entry in how.sys_path],
        environ=environ | dict(how.environ),
        memory_mib=how.memory_mib,
    )


def _name(value: object) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}:{name}" if module and name else f"a {type(value).__name__}"


def _pickled(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Function and arguments as bytes; what cannot be pickled is named."""
    try:
        return pickle.dumps((function, args), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as e:
        named = {f"the function {_name(function)}": function}
        named |= {f"argument {place} ({_name(value)})": value for place, value in enumerate(args, start=1)}
        culprit = next(filter(lambda what: not _can_be_pickled(named[what]), named), "the call")
        msg = (
            f"{culprit} cannot be sent to other processes ({e}); define it, or its class, at the top level of a "
            "module, or make it inside the function"
        )
        raise TypeError(msg) from e


def _can_be_pickled(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


@contextlib.contextmanager
def _meeting_point(port: int, world_size: int) -> Iterator[int]:
    """Host the store at which the ranks meet, for this machine only; its port."""
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as e:
        msg = f"port {port} is taken or not allowed ({e.strerror}); port 0 takes a free one"
        raise TrainingError(msg) from e
    taken = int(listener.getsockname()[1])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1",
        taken,
        world_size,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
        use_libuv=False,
    )
    try:
        yield taken
    finally:
        del store


def _start(folder: Path, job: RankJob, *, logs: Path, hash_seed: int) -> PContext:
    """Start all ranks; a signal that comes meanwhile acts as it would have without the launcher."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std, start_processes

    fresh = job.device.startswith("cuda") or hash_seed or not _has_room_for_sockets()
    method = "spawn" if fresh else "forkserver"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        with STARTING, quiet_elastic(), _own_signal_handlers(), _environ(_of_interpreters(hash_seed)):
            if method == "forkserver":
                _ensure_server()
            return start_processes(
                "rank",
                rank_main,
                {rank: (str(folder), rank) for rank in range(job.world_size)},
                {rank: _elastic_environ(rank) for rank in range(job.world_size)},
                DefaultLogsSpecs(str(logs), redirects=Std.ALL),
                start_method=method,
            )
    except SignalException as e:
        signal.raise_signal(e.sigval)
        raise
    except (EOFError, ConnectionError, FileNotFoundError) as e:
        detail = f"no process could be started ({type(e).__name__}: {e}); the fork server says on stderr why it ended"
        raise ChildFailed(job.function, reason="start", detail=detail) from e


def _elastic_environ(rank: int) -> dict[str, str]:
    """What differs between ranks, and how the launcher is to name its folder of logs."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "ranks"}


def _of_interpreters(hash_seed: int) -> dict[str, str]:
    """Variables that an interpreter reads when it starts, for the fork server and fresh ranks."""
    root = Path(__file__).resolve().parents[2]
    known = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    if root.name not in ("site-packages", "dist-packages"):
        known.insert(0, str(root))
    path = os.pathsep.join(dict.fromkeys(known))
    return {"PYTHONPATH": path, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextlib.contextmanager
def _environ(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _has_room_for_sockets() -> bool:
    """Whether a fork server runs, or the path of the temporary folder is short enough for its socket."""
    from multiprocessing import forkserver

    if forkserver._forkserver._forkserver_alive_fd is not None:  # type: ignore[attr-defined]
        return True
    return len(os.fsencode(tempfile.gettempdir())) + len("/pymp-12345678/listener-12345678") <= _SOCKET_PATH


def _ensure_server() -> None:
    """Start the fork server where none is running. Ranks import `__main__` anew, which mostly is pytest's script."""
    from multiprocessing import forkserver

    preloaded = [*PRELOADED, "pytest"] if "pytest" in sys.modules else PRELOADED
    forkserver.set_forkserver_preload(preloaded)
    forkserver.ensure_running()


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Give back the signal handlers that the launcher replaces in the main thread: Ctrl-C belongs to the test run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HANDLED_BY_ELASTIC}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
