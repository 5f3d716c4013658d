"""Hashes of millions of ids: made from eight bytes at a time, and searched for equal ones without sorting.

Owns how ids are hashed, which alphabets a word of eight bytes is tested for, and how work is cut into blocks that stay
in the cache; the ids themselves are in `mapping_ids.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rectest.checks.columns import reuse_memory

__all__ = [
    "BLOCK",
    "EACH_BYTE",
    "SPREAD",
    "TOPS",
    "each_block",
    "equal_hashes",
    "folded",
    "long_hash",
    "mixed",
    "narrowest",
]

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]

T = TypeVar("T")

BLOCK = 1 << 15
"""Ids of one block: its words stay in the cache of a core."""

EACH_BYTE = np.uint64(0x0101010101010101)
TOPS = np.uint64(0x8080808080808080)
"""The top bit of each byte."""

_FEW = 1 << 17
_MANY_BLOCKS = 4
_TABLE_BITS = 25
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Times this, small numbers differ in all bits."""

_MIX = (SPREAD, np.uint64(0xC2B2AE3D27D4EB4F))
_SHIFT = np.uint64(29)
_ROUND = np.uint64(0xD6E8FEB86659FD93)
_ALL = (1 << 64) - 1
_LOW_BITS = ~TOPS
_FROM_0, _AFTER_9, _FROM_A, _AFTER_Z = (EACH_BYTE * np.uint64(x) for x in (0x80 - 48, 0x7F - 57, 0x80 - 65, 0x7F - 90))


def mixed(hashes: Words, words: Words) -> Words:
    """Hashes that have taken in one more word each."""
    found = hashes ^ words
    found *= _MIX[0]
    found ^= found >> _SHIFT
    found *= _MIX[1]
    found ^= found >> _SHIFT
    return found


def folded(words: Words) -> Words:
    """Words with their ASCII capitals made small: both sums leave the top bit of a byte set where it is a capital."""
    low = words & _LOW_BITS
    capitals = (low + _FROM_A) & ~(low + _AFTER_Z) & ~words & TOPS
    return words | (capitals >> np.uint64(2))


def long_hash(text: str) -> int:
    """The hash of a text that is too long to be one of many."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def narrowest(words: Words, least: int) -> int:
    """The narrowest alphabet, from number `least` on, of all bytes: 0 of digits, 1 of digits and capitals, 2 others.

    A sum carries out of a byte only where the byte is of no alphabet, which its own top bit tells as well.
    """
    if least == 0 and not _any_top((words + _AFTER_9) | ~(words + _FROM_0) | words):
        return 0
    if least > 1:
        return 2
    between = (words + _AFTER_9) & ~(words + _FROM_A)
    return 2 if _any_top(between | (words + _AFTER_Z) | ~(words + _FROM_0) | words) else 1


def _any_top(words: Words) -> bool:
    return bool(np.bitwise_or.reduce(words) & TOPS)


def equal_hashes(hashes: Words) -> Ints:
    """Ascending places of all values that occur more than once.

    Every place writes its number into a table at a slot that its hash names; who reads another's number there has met
    it, or goes on to the next round with other slots. That is three times as fast as sorting ten million hashes.
    """
    alive: Places | None = None
    met: list[Places] = []
    factor = _ROUND
    while (num := len(hashes) if alive is None else len(alive)) > _FEW:
        lost, winner = _losers(hashes, alive, num, factor)
        same = hashes[lost] == hashes[winner]
        met += [lost[same], winner[same]]
        alive = lost[~same]
        factor = np.uint64(int(factor) * int(_ROUND) & _ALL)
    left = hashes if alive is None else hashes[alive]
    values = np.sort(left)
    twice = values[1:][values[1:] == values[:-1]]
    if len(twice):
        found = np.flatnonzero(np.isin(left, twice))
        met.append((found if alive is None else alive[found]).astype(np.uint32))
    return np.unique(np.concatenate([*met, np.zeros(0, np.uint32)])).astype(np.int64)


def _losers(hashes: Words, alive: Places | None, num: int, factor: np.uint64) -> tuple[Places, Places]:
    """Places that found another number in their slot, and that number; which of many wins a slot does not matter.

    `alive` are `num` places, or None for all of them.
    """
    bits = min(_TABLE_BITS, num.bit_length() + 1)
    table = np.empty(1 << bits, dtype=np.uint32)
    shift = np.uint64(64 - bits)

    def slots(part: slice) -> tuple[Places, Ints]:
        numbers = np.arange(part.start, part.stop, dtype=np.uint32) if alive is None else alive[part]
        named = hashes[part if alive is None else numbers] * factor
        named >>= shift
        return numbers, named.view(np.int64)

    def write(part: slice) -> None:
        numbers, named = slots(part)
        table[named] = numbers

    def read(part: slice) -> tuple[Places, Places]:
        numbers, named = slots(part)
        winner = table.take(named)
        lost = np.flatnonzero(winner != numbers)
        return numbers[lost], winner[lost]

    each_block(write, num)
    losers, winners = zip(*each_block(read, num), strict=True)
    return np.concatenate(losers), np.concatenate(winners)


def each_block(work: Callable[[slice], T], num: int) -> list[T]:
    """What `work` gives for each `BLOCK` of `num` places, in their order; two threads work where there are many."""
    blocks = [slice(i, min(i + BLOCK, num)) for i in range(0, num, BLOCK)]
    if len(blocks) < _MANY_BLOCKS:
        return [work(block) for block in blocks]
    reuse_memory()
    with ThreadPoolExecutor(max_workers=2) as threads:
        return list(threads.map(work, blocks))
