"""Launch training children: a process each, one thread, a deadline, and one clear message when it fails.

A child is started in a session of its own, so that a child that hangs is killed with everything it started. CUDA is
never touched in this process.

Plain children on the CPU are forks of a process that has torch loaded (`rectest.training.warm`). Repetitions are fresh
interpreters, so that reproducibility is shown across another hash seed and another layout of memory, and so is
whatever asks for an environment, a memory limit or a device of its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from rectest.errors import ChildFailed, RecordError
from rectest.record import RunRecord, RunSpec
from rectest.training.child import HALTED
from rectest.training.warm import ForkedChild, ServerGone, start_forked

__all__ = [
    "DEFAULT_DEADLINE",
    "LAST",
    "LIVE",
    "Launch",
    "child_environ",
    "kill_group",
    "launch",
    "launch_many",
    "stop_children",
]

DEFAULT_DEADLINE = 600.0
"""Seconds a child may take; a hang must end the child, not the test session."""

_LOG_TAIL = 25

LAST = "last.pt"
"""Where training leaves what a resumed run needs, in the folder of checkpoints."""

Child = subprocess.Popen[bytes] | ForkedChild

LIVE: set[Child] = set()
"""Children of this process, so that an interrupt can end those that other threads wait for."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start children."""

    deadline: float = DEFAULT_DEADLINE
    hash_seed: int = 0
    """`PYTHONHASHSEED` of the child: a second run under another one shows iteration over sets of strings."""

    sys_path: Sequence[str] = ()
    """Entries for the child's `sys.path`, so that it can import what the test run can."""

    environ: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int | None = None
    """Address space limit of the child; None for none."""

    checkpoint_dir: Path | None = None
    resume: Path | None = None
    """A ``last.pt`` of the same run to go on from."""

    scratch: Path | None = None
    """Where children work; None for the system's temporary folder. A killed parent leaves their files there."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline < math.inf:
            msg = f"the deadline must be positive seconds, got {self.deadline}"
            raise ValueError(msg)


def launch(spec: RunSpec, *, how: Launch | None = None) -> RunRecord:
    """Train `spec` in a process and a working directory of its own, and return its record.

    Raises:
        ChildFailed: the child raised, was killed, ran out of memory or out of time; nothing is left behind.
    """
    how = how or Launch()
    if how.scratch is not None:
        how.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="rectest-run-", dir=how.scratch))
    try:
        if spec.interrupted_at:
            how = _interrupted(spec, how, folder)
        paths, code = _one_child(spec, how, folder / "run")
        if paths["error.json"].exists():
            raise _raised(spec, paths)
        if code != 0 or not paths["record.safetensors"].exists():
            raise _died(spec, code, paths)
        try:
            return RunRecord.load(paths["record.safetensors"])
        except RecordError as e:
            raise ChildFailed(spec.describe(), reason="killed", detail=f"left an unreadable record ({e})") from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _one_child(
    spec: RunSpec, how: Launch, folder: Path, *, halt_after: int | None = None
) -> tuple[dict[str, Path], int]:
    """Run one child in `folder`; the files it may have left, and its exit code."""
    (folder / "cwd").mkdir(parents=True)
    paths = {name: folder / name for name in ("job.json", "record.safetensors", "error.json", "log.txt")}
    _write_job(paths, spec, how, halt_after)
    return paths, _run_child(spec, how, paths, cwd=folder / "cwd")


def _interrupted(spec: RunSpec, how: Launch, folder: Path) -> Launch:
    """Train the first part in a process of its own; how to launch the second."""
    how = replace(how, checkpoint_dir=how.checkpoint_dir or folder / "checkpoints")
    assert how.checkpoint_dir is not None
    paths, code = _one_child(spec, how, folder / "first", halt_after=spec.interrupted_at)
    if paths["error.json"].exists():
        raise _raised(spec, paths)
    if code == 0:
        detail = f"ended before step {spec.interrupted_at}, at which it was to be interrupted; choose an earlier one"
        raise ChildFailed(spec.describe(), reason="raised", detail=detail)
    if code != HALTED:
        raise _died(spec, code, paths)
    return replace(how, resume=how.checkpoint_dir / LAST)


def launch_many(
    specs: Sequence[RunSpec],
    *,
    how: Callable[[RunSpec], Launch],
    processes: int,
    done: Callable[[RunSpec, RunRecord | ChildFailed], None] | None = None,
) -> list[RunRecord | ChildFailed]:
    """Train several specs, `processes` at a time; a failed child is its `ChildFailed`, the others go on.

    Args:
        how: how to launch each spec.
        done: called after each child, in this process, for progress.
    """

    def one(spec: RunSpec) -> RunRecord | ChildFailed:
        outcome: RunRecord | ChildFailed
        try:
            outcome = launch(spec, how=how(spec))
        except ChildFailed as e:
            outcome = e
        if done is not None:
            done(spec, outcome)
        return outcome

    with ThreadPoolExecutor(max_workers=max(1, processes)) as pool:
        try:
            return list(pool.map(one, specs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_children()
            raise


def stop_children() -> None:
    """Kill every child that this process has running, with all they started."""
    for child in tuple(LIVE):
        if isinstance(child, ForkedChild):
            child.kill()
        else:
            kill_group(child)


def _write_job(paths: Mapping[str, Path], spec: RunSpec, how: Launch, halt_after: int | None) -> None:
    job = {
        "spec": spec.to_dict(),
        "output": str(paths["record.safetensors"]),
        "error": str(paths["error.json"]),
        "parent": os.getpid(),
        "sys_path": [str(Path(entry).resolve()) for entry in how.sys_path],
        "checkpoint_dir": str(how.checkpoint_dir.resolve()) if how.checkpoint_dir else None,
        "resume": str(how.resume.resolve()) if how.resume else None,
        "halt_after": halt_after,
    }
    paths["job.json"].write_text(json.dumps(job))


def _run_child(spec: RunSpec, how: Launch, paths: Mapping[str, Path], *, cwd: Path) -> int:
    environ = child_environ(spec, how)
    if _may_fork(spec, how):
        with paths["log.txt"].open("wb") as log, contextlib.suppress(ServerGone):
            forked = start_forked(
                paths["job.json"], environ=environ, cwd=cwd, log=log.fileno(), optimizes=":" not in spec.system
            )
            if forked is not None:
                return _wait(forked, spec, how, paths)
        _clear(paths, cwd)
    command = [sys.executable, "-m", "rectest.training.child", str(paths["job.json"])]
    if how.memory_mib is not None:
        command = [sys.executable, "-c", _LIMITED, str(how.memory_mib), str(paths["job.json"])]
    with paths["log.txt"].open("wb") as log:
        child = subprocess.Popen(
            command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        return _wait(child, spec, how, paths)


def _may_fork(spec: RunSpec, how: Launch) -> bool:
    """Whether a fork is as good as a fresh interpreter; one with several threads cannot be forked safely."""
    plain = spec.replica == 0 and spec.device == "cpu" and spec.threads == 1 and spec.deterministic
    return plain and how.hash_seed == 0 and not how.environ and how.memory_mib is None


def _clear(paths: Mapping[str, Path], cwd: Path) -> None:
    """Take away what a child left whose server died before it said how the child ended."""
    shutil.rmtree(cwd)
    cwd.mkdir()
    for name in ("record.safetensors", "error.json"):
        paths[name].unlink(missing_ok=True)


def _wait(child: Child, spec: RunSpec, how: Launch, paths: Mapping[str, Path]) -> int:
    """The child's exit code; whatever happens, it is gone afterwards."""
    LIVE.add(child)
    try:
        return child.wait(timeout=how.deadline)
    except subprocess.TimeoutExpired as e:
        detail = f"was still running after its deadline of {how.deadline:g} s and was killed"
        hint = "; raise it with --rectest-deadline=SECONDS, or look at what it last said"
        raise ChildFailed(spec.describe(), reason="deadline", detail=detail + hint, log=_tail(paths)) from e
    finally:
        kill_group(child)
        LIVE.discard(child)


def child_environ(spec: RunSpec, how: Launch) -> dict[str, str]:
    """The environment of a child: its hash seed, its threads, where it finds this package."""
    threads = str(spec.threads)
    environ = dict(os.environ)
    package_root = Path(__file__).resolve().parents[2]
    known = list(filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)))
    if package_root.name not in ("site-packages", "dist-packages"):
        known.insert(0, str(package_root))
    environ |= {
        "PYTHONHASHSEED": str(how.hash_seed),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(known)),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    if spec.deterministic:
        # Like `torch.use_deterministic_algorithms`, also for a compiler that is loaded only when training has begun.
        environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    for name in ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER"):
        environ.pop(name, None)
    return environ | dict(how.environ)


_LIMITED = """
import resource, sys
limit = int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from rectest.training.child import main
raise SystemExit(main(sys.argv[2]))
"""


def kill_group(child: Child) -> None:
    """End the child and whatever it started; a group that is already gone is what we wanted."""
    if isinstance(child, ForkedChild):
        child.end()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _raised(spec: RunSpec, paths: Mapping[str, Path]) -> ChildFailed:
    error = json.loads(paths["error.json"].read_text())
    if error["kind"] == "memory":
        detail = f"ran out of memory ({error['message'].splitlines()[0]}); use a smaller world or batch"
        return ChildFailed(spec.describe(), reason="memory", detail=detail, log=error["traceback"])
    detail = error["message"] if error["known"] else f"raised {error['type']}: {error['message']}"
    log = None if error["named"] and error["known"] else error["traceback"]
    return ChildFailed(spec.describe(), reason="raised", detail=detail, log=log)


def _died(spec: RunSpec, code: int, paths: Mapping[str, Path]) -> ChildFailed:
    tail = _tail(paths)
    if code < 0:
        name = signal.Signals(-code).name
        detail = f"was killed by {name}"
        if -code == signal.SIGKILL:
            detail += "; on Linux that is mostly the out-of-memory killer, look at dmesg"
        return ChildFailed(spec.describe(), reason="killed", detail=detail, log=tail)
    if "MemoryError" in tail:
        return ChildFailed(spec.describe(), reason="memory", detail="ran out of memory", log=tail)
    last = tail.strip().splitlines()[-1:] or ["nothing"]
    detail = f"ended with exit code {code} and no record; it last said: {last[0]}"
    return ChildFailed(spec.describe(), reason="start", detail=detail, log=tail)


def _tail(paths: Mapping[str, Path]) -> str:
    lines = paths["log.txt"].read_text(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL:])
