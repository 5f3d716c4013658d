"""The pin ``queue``: objects of several producers are handed out one producer after the other, whatever came first.

What comes before its turn waits in the consumer. A producer that ended and has nothing left loses its turn; so does
one that stays silent for long while others wait, until it speaks again: an order that cannot be kept must not become a
deadlock. Time limits of the script hold as they are.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Turns"]

PATIENCE_SECONDS = 10.0
"""How long objects of others wait for a silent producer."""

_SLICE_SECONDS = 0.05


class Turns:
    """The consumer's side of one queue."""

    def __init__(self, queue: Any, holders: Mapping[str, Callable[[], Any]]) -> None:
        self.pid = os.getpid()
        self._queue = queue
        self._holders = holders
        self._waiting: dict[str, deque[Any]] = {}
        self._given_up: set[str] = set()
        self._last = ""
        self._lock = threading.RLock()

    @property
    def num_waiting(self) -> int:
        """Objects that were taken from the queue and not handed out."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def get(self, take: Callable[..., tuple[Any, str]], block: bool = True, timeout: float | None = None) -> Any:
        """The next object and its producer, as ``Queue.get``; `take` is the queue's own way to get one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not block:
            deadline = time.monotonic()
        with self._lock:
            return self._get(take, deadline)

    def _get(self, take: Callable[..., tuple[Any, str]], deadline: float | None) -> tuple[Any, str]:
        turn_since = time.monotonic()
        while True:
            name = self._whose_turn()
            if self._waiting.get(name):
                return self._hand_out(name)
            now = time.monotonic()
            ended = self._has_ended(name)
            left = 3600.0 if deadline is None else max(0.0, deadline - now)
            if self._fetch(take, 0.0 if ended else min(left, _SLICE_SECONDS)):
                continue
            if ended or (self.num_waiting and now - turn_since > PATIENCE_SECONDS):
                self._given_up.add(name)
                turn_since = now
            elif left <= _SLICE_SECONDS:
                return self._out_of_time(take)

    def _fetch(self, take: Callable[..., tuple[Any, str]], wait: float) -> bool:
        """Take one object off the queue, if one comes in time."""
        if not self._queue._reader.poll(wait):
            return False
        if hasattr(self._queue, "_sem"):
            try:
                value, producer = take(self._queue, True, max(wait, _SLICE_SECONDS))
            except _empty():
                return False
        else:
            value, producer = take(self._queue)
        self._given_up.discard(producer)
        self._waiting.setdefault(producer, deque()).append(value)
        return True

    def _out_of_time(self, take: Callable[..., tuple[Any, str]]) -> tuple[Any, str]:
        """The script's time limit is reached: what is there, or nothing as the queue itself says it."""
        name = next((name for name in self._after_last() if self._waiting.get(name)), None)
        if name is not None:
            return self._hand_out(name)
        return take(self._queue, False)

    def _hand_out(self, name: str) -> tuple[Any, str]:
        self._last = name
        return self._waiting[name].popleft(), name

    def _whose_turn(self) -> str:
        """The next producer after the last one that still counts; empty while none is known."""
        names = [name for name in self._after_last() if name not in self._given_up or self._waiting.get(name)]
        return names[0] if names else ""

    def _after_last(self) -> list[str]:
        names = sorted({*self._waiting, *self._holders}, key=_by_number)
        later = [name for name in names if _by_number(name) > _by_number(self._last)]
        return later + names[: len(names) - len(later)]

    def _has_ended(self, name: str) -> bool:
        """Whether a process that this one started is over."""
        if name not in self._holders:
            return False
        process = self._holders[name]()
        if process is None:
            return True
        try:
            return not process.is_alive()
        except (ValueError, AssertionError):
            return True  # closed, or a process of another parent


def _empty() -> type[Exception]:
    from queue import Empty

    return Empty


def _by_number(name: str) -> tuple[tuple[int, str], ...]:
    """``main.2`` comes before ``main.10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
