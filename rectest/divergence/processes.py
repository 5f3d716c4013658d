"""Starting a command with all its descendants, and ending every one of them: nothing of a run outlives it.

Launchers put their ranks into sessions of their own, so a process group is not enough: what belongs to a run is
recognised by a mark in its environment (the path of the run's tape), where the system shows environments.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rectest.errors import WatchError

__all__ = ["Ended", "run_watched"]

GRACE_SECONDS = 5.0
"""Between the polite signal and the other one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    seconds: float
    timed_out: bool


def run_watched(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: Path,
    deadline: float | None,
    mark: str,
) -> Ended:
    """Run a command to its end, its deadline or an interruption, then end what it left behind.

    Args:
        command: program and arguments.
        cwd: where it runs.
        env: its whole environment.
        output: file for standard output and error; standard input is empty.
        deadline: seconds; None for no limit.
        mark: text that stands in `env` and in that of no other process.

    Raises:
        WatchError: the system could not start it.
    """
    started = time.monotonic()
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as e:
            msg = f"{command[0]} could not be started ({e}); check that it is a program for this machine"
            raise WatchError(msg) from e
        timed_out = False
        try:
            process.wait(timeout=deadline)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end_all(process, mark)
    return Ended(status=process.returncode, seconds=time.monotonic() - started, timed_out=timed_out)


def _end_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask everything that is left of a run to end, then make it."""
    if process.poll() is not None and not _left(process.pid, mark):
        return
    _signal_all(process, mark, signal.SIGTERM)
    limit = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < limit:
        if process.poll() is not None and not _left(process.pid, mark):
            return
        time.sleep(0.02)
    _signal_all(process, mark, signal.SIGKILL)
    process.wait()


def _signal_all(process: subprocess.Popen[bytes], mark: str, number: signal.Signals) -> None:
    for pid in _left(process.pid, mark):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _left(leader: int, mark: str) -> set[int]:
    """Processes of the run that are still alive, beside its first one."""
    needle, found = mark.encode(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid in (leader, os.getpid()):
            continue
        with suppress(OSError):
            if needle in (folder / "environ").read_bytes() and not _is_zombie(folder):
                found.add(pid)
    return found


def _is_zombie(folder: Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
