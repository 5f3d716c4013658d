"""Holding sources of randomness still: what a pinned global generator or a pinned line gets in place of its entropy.

Everything handed out is counted, so that two generators made at one line differ, two uuids differ and a clock goes on;
what the n-th request at a line gets is the same in every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["Pins"]

_EPOCH = 1_700_000_000.0
_NO_PROCESS = (1 << 22) + 1
"""Above the largest process id there can be, so that nobody is signalled by accident."""


class Pins:
    """The pins ``seed:<library>`` and ``site:<path>:<line>:<function>`` of a run."""

    def __init__(self, pins: Iterable[str]) -> None:
        self._libraries = {pin.removeprefix("seed:") for pin in pins if pin.startswith("seed:")}
        self._sites = {pin.removeprefix("site:") for pin in pins if pin.startswith("site:")}
        self._counts: dict[str, int] = {}

    def library(self, name: str) -> bool:
        """Whether the global generator of ``random``, ``numpy`` or ``torch`` starts from seed 0."""
        return name in self._libraries

    def holds(self, site: str) -> bool:
        """Whether this line is pinned."""
        return site in self._sites

    def seed(self, site: str) -> int | None:
        """The seed for the generator that is made or seeded here: 0, 1, 2, ...; None where the line is not pinned."""
        return self._count(site) if site in self._sites else None

    def octets(self, site: str, size: int) -> bytes:
        """So many bytes in place of the operating system's."""
        return hashlib.shake_128(f"{site}#{self._count(site)}".encode()).digest(size)

    def clock(self, site: str) -> float:
        """Seconds since 1970 on a clock that goes on by a millisecond whenever it is read."""
        return _EPOCH + self._count(site) / 1000

    def process_id(self) -> int:
        """A process id that belongs to no process."""
        return _NO_PROCESS

    def _count(self, site: str) -> int:
        number = self._counts.get(site, 0)
        self._counts[site] = number + 1
        return number
