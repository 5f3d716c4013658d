"""Digests of tensors that lie on a device: computed there, and fetched for many tensors at one go.

A tensor is read as words of at most 32 bits; each of its two 64-bit lanes is the sum of every word times a weight that
belongs to its place, modulo 2^64 (multilinear hashing: Carter and Wegman, 1979). Integer sums are exact in any order of
addition, so the digest does not depend on how a kernel splits its work, yet a moved row or a flipped bit changes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Late", "lanes_of"]

_CHUNK = 1 << 20
_MAX_WAITING = 4096
_MASK = (1 << 64) - 1
_WEIGHTS: dict[tuple[str, int], Any] = {}
"""int64 [2, chunk] by device; 16 MiB each."""


class Late:
    """Digests and numbers that wait for their device; `settle` fetches all digests of a device with one copy."""

    def __init__(self) -> None:
        self._waiting: list[tuple[list[list[Any]], Callable[[list[bytes]], None]]] = []
        self._numbers: list[tuple[Any, Callable[[list[float]], None]]] = []
        self._after: list[Callable[[], None]] = []
        self._pid = os.getpid()

    def add(self, groups: list[list[Any]], done: Callable[[list[bytes]], None]) -> None:
        """Hand `done` the bytes of each group of parts once those on devices are fetched."""
        self._waiting.append((groups, done))
        if len(self._waiting) > _MAX_WAITING:
            self.settle()

    def add_numbers(self, values: Any, done: Callable[[list[float]], None]) -> None:
        """Hand `done` the numbers of a flat tensor once they are fetched."""
        self._numbers.append((values, done))

    def on_settled(self, action: Callable[[], None]) -> None:
        """Run `action` when the numbers asked for so far are there: at once if none is under way."""
        if self._numbers:
            self._after.append(action)
        else:
            action()

    def settle(self) -> None:
        """Wait for the devices and hand out everything; what a forked parent had under way is dropped."""
        waiting, self._waiting = self._waiting, []
        numbers, self._numbers = self._numbers, []
        after, self._after = self._after, []
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            return
        lanes = [part for groups, _ in waiting for group in groups for part in group if not isinstance(part, bytes)]
        fetched = _fetch(lanes)
        for groups, done in waiting:
            done([b"".join(part if isinstance(part, bytes) else next(fetched) for part in group) for group in groups])
        for values, done_numbers in numbers:
            done_numbers(values.tolist())
        for action in after:
            action()


def _fetch(lanes: list[Any]) -> Any:
    """16 bytes for each tensor of two lanes, in order."""
    import torch

    found: dict[int, bytes] = {}
    for device in {lane.device for lane in lanes}:
        places = [place for place, lane in enumerate(lanes) if lane.device == device]
        rows = torch.stack([lanes[place] for place in places]).cpu().tolist()
        for place, row in zip(places, rows, strict=True):
            found[place] = b"".join((value & _MASK).to_bytes(8, "little") for value in row)
    return iter([found[place] for place in range(len(lanes))])


def lanes_of(torch: Any, value: Any, *, chunk: int = _CHUNK) -> Any:
    """Two int64 on the device of a dense, contiguous, non-empty tensor: its digest but for dtype and shape."""
    words = _words(torch, value)
    weights = _weights(torch, value.device, chunk)
    total = None
    for number, start in enumerate(range(0, words.numel(), chunk)):
        part = words[start : start + chunk].to(torch.int64)
        lanes = (part * weights[:, : part.numel()]).sum(dim=1)
        lanes = lanes if number == 0 else lanes * _signed(_mixed(number) | 1)
        total = lanes if total is None else total + lanes
    return total


def _words(torch: Any, value: Any) -> Any:
    """The bits as whole numbers of 8, 16 or 32 bits: two flipped signs of wider words could cancel."""
    if value.is_complex():
        value = torch.view_as_real(value)
    kinds = {1: torch.uint8, 2: torch.int16}
    return value.reshape(-1).view(kinds.get(value.element_size(), torch.int32))


def _weights(torch: Any, device: Any, chunk: int) -> Any:
    """Odd numbers that look random, equal in every process; no generator is drawn from."""
    known = _WEIGHTS.get((str(device), chunk))
    if known is None:
        places = torch.arange(2 * chunk, dtype=torch.int64, device=device)
        mixed = _mixed_tensor(places + 1)
        known = _WEIGHTS[str(device), chunk] = (mixed | 1).reshape(2, chunk)
    return known


def _mixed(number: int) -> int:
    """splitmix64 (Steele, Lea and Flood, 2014)."""
    number = number * 0x9E3779B97F4A7C15 & _MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31


def _mixed_tensor(values: Any) -> Any:
    """`_mixed` on int64, whose shifts to the right keep the sign, which is masked away."""

    def shifted(numbers: Any, places: int) -> Any:
        return numbers ^ (numbers >> places & ((1 << 64 - places) - 1))

    values = values * _signed(0x9E3779B97F4A7C15)
    values = shifted(values, 30) * _signed(0xBF58476D1CE4E5B9)
    values = shifted(values, 27) * _signed(0x94D049BB133111EB)
    return shifted(values, 31)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
