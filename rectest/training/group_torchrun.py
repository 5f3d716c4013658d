"""The same work in a world that ``torchrun`` started: this process is one of its ranks, on this machine or on several.

Nothing is launched. The ranks tell each other how it went through the store at which they met, not through a
collective: a rank that failed cannot take part in one, and the function may end the process group. Ending processes
that hang is for ``torchrun``; a deadline here ends the waiting for them and names them.
"""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from rectest.errors import ChildFailed, RectestError, TrainingError
from rectest.training.group_child import Group, current_group, enter, join, place_of, to_bytes
from rectest.training.group_failure import RankError, describe, failed, first_to_fail, hung

__all__ = ["join_ranks", "under_torchrun"]

_CALLS = itertools.count()
"""Counts the calls of this process; all ranks make the same ones in the same order, so it names their common part of
the store."""

_POLL = 0.02
_GRACE = 5.0
"""Seconds that other ranks get to say how it went, once one of them failed or the deadline passed."""

_MEETING = 60.0
"""Seconds that the store of the world may take to answer."""

_CHUNK = 2**22
"""Bytes of a result under one key: the store refuses values over 8 MiB."""


def under_torchrun() -> bool:
    """Whether this process is one of the workers that ``torchrun`` started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def join_ranks(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    world_size: int,
    subject: str,
    device: str,
    backend: str,
    deadline: float,
) -> list[Any]:
    """Call ``function(*args)`` here as one rank; the results of all of them, the same list on every rank.

    A default process group that exists is used and left as it is; else one is initialised for this call. After a
    failure it is ended on the rank that failed, so that others do not wait for it in a collective.

    Raises:
        TrainingError: torchrun started another number of processes, or the device or backend cannot be had.
        ChildFailed: a rank failed; on every rank the same error, which names that one.
    """
    rank, found = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if found != world_size:
        msg = (
            f"{world_size} ranks were asked for, and torchrun started {found}; start it so that nodes times processes "
            f"per node make {world_size}, or ask for {found}"
        )
        raise TrainingError(msg)
    board = _Board(_part_of(_store(), f"rectest/{next(_CALLS)}"), rank, world_size, subject)
    own_group, before, cause = not dist.is_initialized(), current_group(), None
    phase = "place"
    try:
        enter(_group(device, backend, board, deadline), board.say)
        phase = "run"
        board.leave_result(to_bytes(function(*args)))
    except KeyboardInterrupt as e:
        board.leave_error(describe(e, phase=phase, function=subject))
        raise
    except BaseException as e:
        cause = e
        board.leave_error(describe(e, phase=phase, function=subject))
    finally:
        enter(before, None)
    try:
        if own_group or cause is not None:
            _end_group()
        board.await_all(deadline, cause)
        return board.results()
    finally:
        board.clear()


def _end_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@functools.cache
def _store() -> Any:
    """The store of the world, at the address in the environment."""
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=_MEETING)))
    return store


def _part_of(store: Any, name: str) -> Any:
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def _group(device: str, backend: str, board: _Board, deadline: float) -> Group:
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if dist.is_initialized():
        place = place_of(device, local_rank)
        return Group(rank=board.rank, world_size=board.world_size, backend=dist.get_backend(), device=place)
    return join(
        device=device,
        backend=backend,
        rank=board.rank,
        world_size=board.world_size,
        local_rank=local_rank,
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", board.world_size)),
        timeout=deadline,
        store=_part_of(board.store, "group"),
    )


class _Board:
    """Where the ranks of one call tell each other how it went."""

    def __init__(self, store: Any, rank: int, world_size: int, subject: str) -> None:
        self.store = store
        self.rank = rank
        self.world_size = world_size
        self.subject = subject
        self._stages: list[str] = []
        self._num_chunks = 0

    def say(self, stage: str) -> None:
        """Tell how far this rank came."""
        self._stages.append(stage)
        self.store.set(f"stages/{self.rank}", f"{len(self._stages)} {stage}")

    def leave_result(self, payload: bytes) -> None:
        """Leave what the function returned."""
        chunks = [payload[start : start + _CHUNK] for start in range(0, len(payload), _CHUNK)]
        for place, chunk in enumerate(chunks):
            self.store.set(f"result/{self.rank}/{place}", chunk)
        self._num_chunks = len(chunks)
        self.store.set(f"done/{self.rank}", b"%d" % len(chunks))

    def leave_error(self, error: RankError) -> None:
        """Leave what went wrong."""
        self.store.set(f"error/{self.rank}", error.to_bytes())
        self.store.set(f"done/{self.rank}", b"failed")

    def await_all(self, deadline: float, cause: BaseException | None) -> None:
        """Return when every rank has its result.

        Raises:
            ChildFailed: one has an error, or there is no word of it after the deadline.
        """
        end = time.monotonic() + deadline + _GRACE
        while True:
            done = [rank for rank in range(self.world_size) if self.store.check([f"done/{rank}"])]
            errors = dict(self._errors(done))
            if any(not error.secondary for error in errors.values()):
                end = min(end, time.monotonic() + _GRACE)
            late = self.store.check(["late"])
            if late or len(done) == self.world_size or time.monotonic() > end:
                break
            time.sleep(_POLL)
        if any(not error.secondary for error in errors.values()) or (
            errors and len(done) == self.world_size and not late
        ):
            raise self._failed(errors) from cause
        if late or len(done) < self.world_size:
            raise self._late(done, deadline) from cause

    def results(self) -> list[Any]:
        """What every rank returned."""
        return [pickle.loads(b"".join(self._chunks(rank))) for rank in range(self.world_size)]

    def clear(self) -> None:
        """Wait a little until all have read, since the store may end with this process; then free its memory."""
        self.store.add("read", 1)
        end = time.monotonic() + _GRACE
        while self.store.add("read", 0) < self.world_size and time.monotonic() < end:
            time.sleep(_POLL)
        all_read = self.store.add("read", 0) >= self.world_size
        for place in range(self._num_chunks if all_read else 0):
            self.store.delete_key(f"result/{self.rank}/{place}")

    def _errors(self, done: list[int]) -> Iterator[tuple[int, RankError]]:
        for rank in done:
            if self.store.check([f"error/{rank}"]):
                yield rank, RankError.from_bytes(self.store.get(f"error/{rank}"))

    def _chunks(self, rank: int) -> Iterator[bytes]:
        for place in range(int(self.store.get(f"done/{rank}"))):
            chunk: bytes = self.store.get(f"result/{rank}/{place}")
            yield chunk

    def _failed(self, errors: Mapping[int, RankError]) -> RectestError:
        rank = first_to_fail(errors, {})
        return failed(self.subject, rank, self.world_size, errors[rank], log="")

    def _late(self, done: list[int], deadline: float) -> ChildFailed:
        """The first rank whose patience ends says who is late; that one hears it when it comes after all."""
        if not self.store.check(["late"]):
            missing = sorted(set(range(self.world_size)) - set(done))
            stages = {rank: self._stages_of(rank) for rank in missing}
            self.store.set("late", hung(self.world_size, stages, deadline)[1])
        return ChildFailed(self.subject, reason="deadline", detail=self.store.get("late").decode())

    def _stages_of(self, rank: int) -> list[str]:
        if not self.store.check([f"stages/{rank}"]):
            return []
        num, stage = self.store.get(f"stages/{rank}").decode().split(" ", 1)
        return [stage] * int(num)
