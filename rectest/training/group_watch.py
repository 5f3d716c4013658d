"""Watch the processes of one launch until all have left a result, or until one of them must be named; then end them.

It knows processes and the files they leave. Starting them is for `rectest.training.group`, and the wording of what
went wrong for `rectest.training.group_failure`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rectest.errors import ChildFailed, RectestError
from rectest.training.group_child import OWN_THREAD
from rectest.training.group_failure import RankError, died, failed, first_to_fail, hung

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import PContext

__all__ = ["STARTING", "Ranks", "quiet_elastic", "stop_ranks"]

STARTING = threading.RLock()
"""Held while processes are started or asked how they are: multiprocessing keeps one list of children for all threads,
and two threads that look after one child at once would both take its exit code off the pipe."""

_POLL = 0.01
_LOG_TAIL = 25
_NUM_SHOWN = 4
"""How many ranks that hang are shown with their stacks."""

_ENDING = 5
"""Seconds that a killed process gets to be gone."""

_LIVE: set[int] = set()
"""Ranks of this process, so that an interrupt can end those that other threads wait for."""


def stop_ranks() -> None:
    """Kill every rank that this process has running, with all they started; their launches then fail."""
    for pid in tuple(_LIVE):
        _kill_session(pid)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes of one launch."""

    folder: Path
    context: PContext
    subject: str
    logs_stay: bool

    @property
    def processes(self) -> list[BaseProcess]:
        """By rank."""
        # The launcher's own poll sees nothing wrong in a process that ends with code 0 and no result, and on a failure
        # it waits up to 30 s for the others: the processes are watched directly.
        return list(self.context._pc.processes)  # type: ignore[attr-defined]

    def finish(self, *, deadline: float) -> list[Any]:
        """The results by rank, once all are there; whatever happens, no process is left.

        Raises:
            ChildFailed: a rank raised, vanished, or was not done in time.
            TrainingError: a rank did not get its device or backend.
        """
        pids = set(self.context.pids().values())
        _LIVE.update(pids)
        try:
            self._wait(deadline)
        finally:
            self._end(pids)
            _LIVE.difference_update(pids)
        return [self._result(rank) for rank in range(len(self.processes))]

    def _wait(self, deadline: float) -> None:
        end = time.monotonic() + deadline
        while True:
            late = time.monotonic() > end
            with STARTING:
                codes = dict(enumerate(process.exitcode for process in self.processes))
            ended = {rank: code for rank, code in codes.items() if code is not None}
            without = {rank: code for rank, code in ended.items() if not self._path("result", rank).exists()}
            if without:
                raise self._failed(without, returned=sorted(set(ended) - set(without)))
            if len(ended) == len(codes):
                return
            if late and self._errors():
                raise self._failed({}, returned=sorted(ended))
            if late:
                raise self._late(sorted(set(codes) - set(ended)), deadline)
            time.sleep(_POLL)

    def _end(self, pids: set[int]) -> None:
        with STARTING, quiet_elastic():
            for pid in pids:
                _kill_session(pid)
            for process in self.processes:
                if process.exitcode is None:
                    process.kill()
            self.context.close(signal.SIGKILL, timeout=_ENDING)

    def _result(self, rank: int) -> Any:
        try:
            return pickle.loads(self._path("result", rank).read_bytes())
        except Exception as e:
            detail = f"rank {rank} of {len(self.processes)} returned what this process cannot load ({e})"
            raise ChildFailed(self.subject, reason="raised", detail=detail) from e

    def _failed(self, codes: Mapping[int, int], *, returned: list[int]) -> RectestError:
        """The error of the rank that failed by itself; `codes` are those of ranks that ended without a result."""
        world_size, errors = len(self.processes), self._errors()
        dead = {rank: code for rank, code in codes.items() if rank not in errors}
        rank = first_to_fail(errors, dead)
        if rank in dead:
            more, log = self._where(rank), self._tail(rank)
            return died(self.subject, rank, world_size, dead[rank], stages=self._stages(rank), log=log, more=more)
        error, more = errors[rank], self._where(rank)
        if error.secondary and returned:
            names = " and ".join(f"rank {other}" for other in returned)
            more = f"; {names} had returned by then, so it may wait in a collective that they never came to{more}"
        log = self._tail(rank, without=error.traceback)
        return failed(self.subject, rank, world_size, error, log=log, more=more)

    def _late(self, running: list[int], deadline: float) -> ChildFailed:
        behind, detail = hung(len(self.processes), {rank: self._stages(rank) for rank in running}, deadline)
        log = "\n".join(f"rank {rank}:\n{self._tail(rank)}" for rank in behind[:_NUM_SHOWN])
        return ChildFailed(self.subject, reason="deadline", detail=detail + self._where(behind[0]), log=log)

    def _errors(self) -> dict[int, RankError]:
        found = {rank: self._path("error", rank) for rank in range(len(self.processes))}
        return {rank: RankError.from_bytes(path.read_bytes()) for rank, path in found.items() if path.exists()}

    def _path(self, kind: str, rank: int) -> Path:
        return self.folder / f"{kind}-{rank}.{'json' if kind == 'error' else 'pickle'}"

    def _stages(self, rank: int) -> list[str]:
        path = self.folder / f"progress-{rank}.txt"
        return path.read_text().splitlines() if path.exists() else []

    def _where(self, rank: int) -> str:
        return f"; what it printed is in {Path(self.context.stderrs[rank]).parent}" if self.logs_stay else ""

    def _tail(self, rank: int, *, without: str = "") -> str:
        """The last lines that a rank wrote to stderr, or to stdout if there are none."""
        for name in (self.context.stderrs[rank], self.context.stdouts[rank]):
            path = Path(name)
            text = path.read_text(errors="replace").replace(without, "") if path.exists() else ""
            if text.strip():
                return "\n".join(_of_the_user(text)[-_LOG_TAIL:])
        return ""


def _of_the_user(text: str) -> list[str]:
    """The lines without what a dump of all stacks says of our own thread and of extension modules."""
    blocks = [block for block in text.split("\n\n") if OWN_THREAD not in block]
    return [line for line in "\n\n".join(blocks).splitlines() if not line.startswith("Extension modules:")]


def _kill_session(pid: int) -> None:
    """End a rank and whatever it started; a group that is already gone is what we wanted."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def quiet_elastic() -> Iterator[None]:
    """Keep the launcher from logging about the ranks of this thread: what there is to say is in the error."""
    thread = threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    logger.addFilter(of_others)
    try:
        yield
    finally:
        logger.removeFilter(of_others)
