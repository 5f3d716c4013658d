"""The warm server: a process that has torch loaded, never computes anything, and forks one training child per request.

``python -m rectest.training.warm_server CHANNEL PARENT`` is started by `rectest.training.warm`, which is also who
speaks to it. It has one thread, since only such a process can be forked safely. It draws no random number and runs no
user code, so that a child begins where a fresh interpreter that has imported torch begins.

A request is one byte (1 where the child is known to use an optimizer) and three file descriptors: a socket that stands
for the child, the child's log, and what the child is to do. On the socket the server says the child's exit code; when
the other side closes it, the child is killed with all it started. The server ends with the process that started it,
and its children end with it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import mmap
import os
import selectors
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

__all__ = ["NUM_DESCRIPTORS", "PRELOADED", "Server"]

PRELOADED = ("torch", "torch.optim", "rectest.training.program", "rectest.training.child")
"""What is imported before the first fork."""

_LEARNED = ("torch._dynamo",)
"""What is imported before a fork once a child needs it: every optimizer of torch does, a plain function may not."""

NUM_DESCRIPTORS = 3
_LOOK_UP = 1.0
"""Seconds between looks at whether the parent is still there, should its end of the channel be held open elsewhere."""


class _Work(NamedTuple):
    """What a forked process has to do."""

    log: int
    request: int


@dataclass(frozen=True, kw_only=True)
class Server:
    """Forks children for one other process until that closes `channel` or dies."""

    channel: socket.socket
    parent: int
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    """By process id of the child."""

    pidfds: dict[int, int] = field(default_factory=dict)
    """By process id of the child; readable once it has ended."""

    needed: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))
    """One byte in memory that is shared with the children: whether one of them needs what is `_LEARNED`."""

    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> _Work | None:
        """Fork until there is nobody to fork for: None then, and in each child what it has to do."""
        self.selector.register(self.channel, selectors.EVENT_READ)
        asked = True
        while asked and os.getppid() == self.parent:
            for key, _ in self.selector.select(_LOOK_UP):
                if key.data is not None:
                    self._end(*key.data)
                    continue
                said, descriptors = _received(self.channel)
                asked = len(descriptors) == NUM_DESCRIPTORS
                self.needed[0] |= said
                work = self._fork(*descriptors) if asked else None
                if work is not None:
                    return work
        for pid in self.pidfds:
            _kill(pid)
        return None

    def _fork(self, channel: int, log: int, request: int) -> _Work | None:
        mine = socket.socket(fileno=channel)
        self._learn()
        pid = _forked()
        if pid == 0:
            self._leave(mine)
            return _Work(log, request)
        os.close(log)
        os.close(request)
        if pid < 0:
            mine.close()
            return None
        self.sockets[pid], self.pidfds[pid] = mine, os.pidfd_open(pid)
        self.selector.register(mine, selectors.EVENT_READ, (pid, False))
        self.selector.register(self.pidfds[pid], selectors.EVENT_READ, (pid, True))
        return None

    def _learn(self) -> None:
        for name in _LEARNED:
            if self.needed[0] and name not in sys.modules:
                _load(name)

    def _end(self, pid: int, has_ended: bool) -> None:
        """Kill a child with all it started; where it `has_ended`, say how."""
        if pid not in self.pidfds:
            return
        _kill(pid)
        if not has_ended:
            with contextlib.suppress(KeyError):
                self.selector.unregister(self.sockets[pid])
            return
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        mine, pidfd = self.sockets.pop(pid), self.pidfds.pop(pid)
        for known in (mine, pidfd):
            with contextlib.suppress(KeyError):
                self.selector.unregister(known)
        with contextlib.suppress(OSError):
            mine.sendall(f"{code}\n".encode())
        mine.close()
        os.close(pidfd)

    def _leave(self, mine: socket.socket) -> None:
        """Let go, in a child, of all that belongs to the server."""
        os.setsid()
        self.selector.close()
        for known in (mine, self.channel, *self.sockets.values()):
            known.close()
        for pidfd in self.pidfds.values():
            os.close(pidfd)


def _forked() -> int:
    """0 in the child, its number in the server, -1 where there can be none: a fork would leave other threads out."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return -1
    try:
        return os.fork()
    except OSError:
        return -1


def _received(channel: socket.socket) -> tuple[int, list[int]]:
    """The byte and the descriptors of the next request; no descriptors where there will be none."""
    try:
        said, descriptors, _, _ = socket.recv_fds(channel, 1, NUM_DESCRIPTORS)
    except OSError:
        return 0, []
    return (said[0] if said else 0), descriptors


def _kill(pid: int) -> None:
    """Kill a child that was not waited for yet, so that its number is still its own."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _load(*names: str) -> None:
    for name in names:
        importlib.import_module(name)
    # What is alive now stays so: without looking at it again, children share its memory with the server.
    gc.collect()
    gc.freeze()


def _become(work: _Work, *, server: int, needed: mmap.mmap) -> int:
    """Make this process what a fresh interpreter would be, and train; the exit code."""
    from rectest.training.child import main

    with os.fdopen(work.request, "rb") as file:
        file.seek(0)
        request: dict[str, Any] = json.load(file)
    for descriptor in (1, 2):
        os.dup2(work.log, descriptor)
    os.close(work.log)
    _take_on(request)
    packages = _packages()
    try:
        code = main(request["job"], parent=server)
    finally:
        needed[0] = needed[0] or any(name in sys.modules for name in _LEARNED)
    if _packages() <= packages and threading.active_count() == 1:
        _end_quickly(code)
    return code


def _packages() -> set[str]:
    """The top level packages that are loaded, but for Python's own."""
    return {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names


def _end_quickly(code: int) -> NoReturn:
    """End a child in which nobody else's code was loaded that might rely on modules being taken apart."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _take_on(request: dict[str, Any]) -> None:
    """The folder, environment, import path and generators of the child."""
    import numpy as np
    import torch

    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["cwd"])
    if not sys.flags.safe_path:
        sys.path[0] = request["cwd"]
    sys.argv = [str(Path(__file__).with_name("child.py")), request["job"]]
    importlib.invalidate_caches()
    # A fork inherits the global generators. Python reseeds its own; of torch, asking the CPU's leaves CUDA alone.
    np.random.seed()  # noqa: NPY002
    torch.default_generator.seed()


def _main(channel: str, parent: str) -> int:
    server = Server(channel=socket.socket(fileno=int(channel)), parent=int(parent))
    own = os.getpid()
    _load(*PRELOADED)
    work = server.serve()
    if work is None:
        os._exit(0)  # nothing to flush, and taking torch apart costs as much as a child
    return _become(work, server=own, needed=server.needed)


if __name__ == "__main__":
    raise SystemExit(_main(*sys.argv[1:]))
