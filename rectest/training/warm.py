"""Training children by fork from a process that has torch loaded, where a fork is as good as a fresh interpreter.

Importing torch, and its compiler at the first optimizer, costs more processor time than most tests train. The server
(`rectest.training.warm_server`) pays it once for each environment that children are to have. It is started at the
first request and ends with this process. This process itself is never forked.

Who must be a fresh interpreter (repetitions, CUDA, memory limits) is decided in `rectest.training.launch`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ForkedChild", "ServerGone", "start_forked", "stop_servers"]

_ENDING = 5.0
"""Seconds that a killed child or a server gets to be gone."""

_MOST = 2
"""Servers at a time, since each holds torch in memory; one that is idle makes room for another environment."""

_READ_LATE = ("RECTEST_", "PYTEST_", "COLUMNS", "LINES", "TORCHINDUCTOR_CACHE_DIR")
"""Beginnings of variables that nothing reads while the server imports: the children are given their own."""


class ServerGone(Exception):
    """The server ended, and its children with it: how this child would have ended is not known."""


@dataclass(kw_only=True, eq=False)
class ForkedChild:
    """One child of a server; like `subprocess.Popen`, as far as launching needs it."""

    channel: socket.socket
    server: subprocess.Popen[bytes]
    returncode: int | None = None
    _said: bytes = b""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; negative the number of the signal that killed it.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
            ServerGone: it can never be known.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            self._read(None if ends is None else ends - time.monotonic(), timeout or 0.0)
        return self.returncode

    def _read(self, left: float | None, timeout: float) -> None:
        if left is not None and left <= 0:
            raise subprocess.TimeoutExpired("training child", timeout)
        self.channel.settimeout(left)
        try:
            said = self.channel.recv(64)
        except TimeoutError:
            return
        except OSError as e:
            raise ServerGone from e
        if not said:
            raise ServerGone
        self._said += said
        if self._said.endswith(b"\n"):
            self.returncode = int(self._said)

    def kill(self) -> None:
        """Have it killed, with all it started; allowed while another thread waits for it."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Kill it and wait until it is gone; a server that does not answer goes too."""
        self.kill()
        try:
            self.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.server.kill()
        except ServerGone:
            pass
        self.channel.close()


@dataclass(frozen=True, kw_only=True)
class _Server:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    children: list[ForkedChild] = field(default_factory=list)

    @classmethod
    def start(cls, environ: Mapping[str, str]) -> _Server:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        silent = subprocess.DEVNULL
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "rectest.training.warm_server", str(theirs.fileno()), str(os.getpid())],
                cwd=Path(__file__).resolve().parents[2],
                env=environ,
                stdin=silent,
                stdout=silent,
                stderr=silent,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return cls(process=process, channel=ours)

    def fork(self, request: Mapping[str, object], log: int, *, optimizes: bool) -> ForkedChild:
        ours, theirs = socket.socketpair()
        with theirs, os.fdopen(os.memfd_create("rectest-request"), "wb") as file:
            file.write(json.dumps(request).encode())
            file.flush()
            try:
                socket.send_fds(self.channel, [bytes([optimizes])], [theirs.fileno(), log, file.fileno()])
            except OSError as e:
                ours.close()
                raise ServerGone from e
        child = ForkedChild(channel=ours, server=self.process)
        self.children.append(child)
        return child

    def usable(self) -> bool:
        """Whether it still lives."""
        return self.process.poll() is None

    def idle(self) -> bool:
        """Whether nobody waits for a child of it."""
        return all(child.channel.fileno() < 0 for child in self.children)

    def stop(self) -> None:
        self.channel.close()
        try:
            self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_SERVERS: dict[tuple[int, frozenset[tuple[str, str]]], _Server] = {}
"""By process, since a fork of this one must not use them, and by environment; one that died stays, as a refusal."""

_CHANGING = threading.Lock()


def start_forked(
    job: Path, *, environ: Mapping[str, str], cwd: Path, log: int, optimizes: bool = False
) -> ForkedChild | None:
    """Start the training child of `job` in a fork of a server that runs under `environ`; None where it cannot be had.

    Args:
        log: file descriptor for what the child prints.
        optimizes: whether it surely uses an optimizer of torch, for which the server then is prepared at once.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    server = _server_for(environ)
    if server is None:
        return None
    request = {"job": str(job), "environ": dict(environ), "cwd": str(cwd.resolve())}
    try:
        return server.fork(request, log, optimizes=optimizes)
    except ServerGone:
        return None


def stop_servers() -> None:
    """End the servers of this process, with every child of theirs; the next request starts one anew."""
    with _CHANGING:
        for key in [key for key in _SERVERS if key[0] == os.getpid()]:
            _SERVERS.pop(key).stop()


atexit.register(stop_servers)


def _server_for(environ: Mapping[str, str]) -> _Server | None:
    early = frozenset((name, value) for name, value in environ.items() if not name.startswith(_READ_LATE))
    key = (os.getpid(), early)
    with _CHANGING:
        if key not in _SERVERS:
            if not _make_room():
                return None
            _SERVERS[key] = _Server.start(environ)
        return _SERVERS[key] if _SERVERS[key].usable() else None


def _make_room() -> bool:
    """Whether there is room for another server, if need be in place of one that is idle."""
    own = {key: server for key, server in _SERVERS.items() if key[0] == os.getpid()}
    if len(own) < _MOST:
        return True
    for key, server in own.items():
        if server.idle():
            _SERVERS.pop(key).stop()
            return True
    return False
