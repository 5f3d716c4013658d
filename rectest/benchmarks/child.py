"""One measured process, seen from the driver: started, told, listened to with a deadline, and ended whatever happens.

What it runs is `inside/start.py`; this file owns its environment and its life. Two of them live at the same time, and
only one is ever told to work.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO, Any

from rectest.benchmarks.trees import Tree
from rectest.errors import RectestError

__all__ = ["Child", "How", "Lost", "started"]

_START = Path(__file__).with_name("inside") / "start.py"
_CHANNEL = "RECTEST_BENCH_CHANNEL"
_PADDING = "RECTEST_BENCH_PADDING"
_MOST_PADDING = 4096
_GRACE_SECONDS = 3.0
_TAIL_LINES = 12

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_LEFT_OUT = ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_VERSION")
"""What a pytest around this one leaves in the environment."""

_LEAN = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
    "NUMPY_MADVISE_HUGEPAGE": "0",
}
"""For a process whose memory is looked at: every array is a mapping of its own, and goes back when it is freed."""

_KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""For a process that is timed: glibc keeps what is freed. Whether an array that is freed at the end of the heap goes
back to the system, and costs new pages at the next call, is otherwise decided by chance in each process: 260 to 4,200
page faults were seen in one and the same training step, and ratios within pairs that scattered nearly twice as far."""


class Lost(RectestError):
    """A measured process that died or hung; the text ends with what it last wrote."""

    def __init__(self, side: str, problem: str) -> None:
        self.side = side
        super().__init__(f"the process of the {side} {problem}")


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """What is the same for all measured processes of a comparison."""

    folder: Path
    """A temporary folder for output and caches."""

    expression: str = ""
    """``-k`` of pytest."""

    threads: int = 1
    """Threads for OpenMP and BLAS libraries, unless the environment says otherwise."""

    deadline: float = 600.0
    """Seconds that a process may take for anything between two messages: starting, a fixture, one sample."""

    arguments: tuple[str, ...] = ()
    """Further arguments of pytest."""


@dataclass(slots=True)
class Child:
    """A running process; use `started`."""

    side: str
    process: subprocess.Popen[bytes]
    connection: socket.socket
    log: Path
    deadline: float
    _left: bytes = field(default=b"")

    def send(self, do: str, **values: Any) -> None:
        """Tell it what to do.

        Raises:
            Lost: it is no more.
        """
        try:
            self.connection.sendall((json.dumps({"do": do, **values}) + "\n").encode())
        except OSError as e:
            raise self._lost() from e

    def receive(self) -> dict[str, Any]:
        """Its next message.

        Raises:
            Lost: it died or said nothing until the deadline.
        """
        until = time.monotonic() + self.deadline
        while b"\n" not in self._left:
            ready, _, _ = select.select([self.connection], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise Lost(self.side, f"said nothing for {self.deadline:g} s{self._tail()}")
            try:
                got = self.connection.recv(1 << 16)
            except OSError:
                got = b""
            if not got:
                raise self._lost()
            self._left += got
        line, _, self._left = self._left.partition(b"\n")
        return dict(json.loads(line))

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Tell and wait for the answer."""
        self.send(do, **values)
        return self.receive()

    def end(self) -> None:
        """End it and all it started."""
        with suppress(OSError):
            self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            # The group may outlive its leader: what a benchmark started belongs to it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_SECONDS)

    def _lost(self) -> Lost:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        code = self.process.poll()
        if code is None:
            how = "closed its channel"
        elif code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            how = f"was killed by {name}"
        else:
            how = f"left with exit code {code}"
        return Lost(self.side, f"{how}{self._tail()}")

    def _tail(self) -> str:
        with suppress(OSError):
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return "; it wrote last:\n" + "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
        return ""


@contextmanager
def started(
    tree: Tree,
    how: How,
    *,
    paths: Sequence[str],
    names: Sequence[str] | None = None,
    lean: bool = False,
    rng: Random,
) -> Iterator[Child]:
    """A process that collects `paths` and stops at each benchmark of `names` (all, where None).

    Args:
        tree: whose code it runs.
        how: what all have in common.
        paths: files and folders relative to the project.
        names: node ids, in the order in which they are to come.
        lean: whether its memory rather than its time will be asked for.
        rng: chooses its hash seed and the length of its environment, which would favour one side by chance.
    """
    ours, theirs = socket.socketpair()
    handle = how.folder / f"{tree.side}-{rng.getrandbits(48):012x}.log"
    with theirs, handle.open("wb") as log:
        process = _spawn(tree, how, paths=paths, theirs=theirs, log=log, lean=lean, rng=rng)
    child = Child(tree.side, process, ours, handle, how.deadline)
    try:
        child.send("job", names=None if names is None else list(names), origin=_origin(tree))
        yield child
    finally:
        child.end()


def _origin(tree: Tree) -> dict[str, str | None]:
    """Where its code must come from, and where it must not."""
    other = None if tree.copied_from is None else str(tree.copied_from)
    return {"own": str(tree.root), "project": str(tree.project), "other": other}


def _spawn(
    tree: Tree,
    how: How,
    *,
    paths: Sequence[str],
    theirs: socket.socket,
    log: IO[bytes],
    lean: bool,
    rng: Random,
) -> subprocess.Popen[bytes]:
    arguments = [
        *paths,
        "--benchmark-only",
        "--benchmark-enable",
        "--maxfail=0",
        "--continue-on-collection-errors",
        "--tb=short",
        f"--rootdir={tree.project}",
        "-o",
        f"cache_dir={how.folder / 'cache'}-{tree.side}",
        "-k",
        how.expression,
        *how.arguments,
    ]
    return subprocess.Popen(
        [sys.executable, str(_START), *arguments],
        cwd=tree.project,
        env=_environ(tree, how, channel=theirs.fileno(), lean=lean, rng=rng),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )


def _environ(tree: Tree, how: How, *, channel: int, lean: bool, rng: Random) -> Mapping[str, str]:
    environ = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    threads = {name: str(how.threads) for name in _THREADS if name not in environ}
    return {
        **(environ | _LEAN if lean else _KEEPING | environ),
        **threads,
        "PYTHONPATH": os.pathsep.join(tree.import_path),
        "PYTHONHASHSEED": str(rng.randrange(1, 2**32)),
        _PADDING: "x" * rng.randrange(_MOST_PADDING),
        _CHANNEL: str(channel),
    }
