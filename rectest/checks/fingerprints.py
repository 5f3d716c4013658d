"""Fingerprints of rows and finding those that repeat, in memory that does not grow with the table.

Equal rows have equal fingerprints wherever they lie, because integers are added and nothing else; the reverse is
nearly always so, and whoever needs it looks at the bytes (`duplicates.py`). Nothing here judges.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.columns import MAX_IN_MEMORY, Scratch

__all__ = ["Fingerprints", "quick_fingerprints", "repeats", "thorough_fingerprints"]

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]

BUCKET_ROWS = 1 << 16
MAX_BUCKETS = 256
MULTIPLIERS = np.random.default_rng(0x5EED).integers(0, 2**63, size=64, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
"""Odd, random and always the same."""


@lru_cache
def _word(row_bytes: int, widest: int = 8) -> np.dtype[np.unsignedinteger[Any]]:
    """The widest unsigned integer that divides a row."""
    kinds = (np.dtype(f"u{size}") for size in (8, 4, 2) if size <= widest)
    return next(kind for kind in kinds if row_bytes % kind.itemsize == 0)


def quick_fingerprints(chunk: Array) -> Words:
    """A multilinear hash modulo 2^64 of two words of each row of a C-contiguous chunk, the first and the middle one."""
    words = chunk.view(_word(chunk.shape[1] * chunk.itemsize))
    hashes: Words = words[:, 0] * MULTIPLIERS[0]
    hashes += words[:, words.shape[1] // 2] * MULTIPLIERS[1]
    return hashes


def thorough_fingerprints(chunk: Array) -> Words:
    """Two multiply-shift hashes of all 32-bit words of each row of a C-contiguous chunk.

    Each is the upper half of a sum of products modulo 2^64, for which two different rows are equal with probability
    2^-32 over the multipliers (Dietzfelbinger 1996), whatever the rows are.
    """
    words = chunk.view(_word(chunk.shape[1] * chunk.itemsize, 4)).astype(np.uint64)
    shape = (words.shape[1], 2)
    multipliers = np.random.default_rng(0xFEED).integers(0, 2**64, size=shape, dtype=np.uint64)
    halves = (words @ multipliers) >> np.uint64(32)
    hashes: Words = (halves[:, 0] << np.uint64(32)) | halves[:, 1]
    return hashes


def repeats(values: Words) -> Words:
    """Every further occurrence of a value after one that is left out: ``[5, 7, 5, 5]`` gives ``[5, 5]``.

    Each value writes its place into a slot that its bits choose. Who reads another's place there either equals that
    one, and is a repeat, or lost the slot, and tries again with other bits among the losers. Sorting finds the same at
    three times the cost.
    """
    found = []
    for multiplier in MULTIPLIERS[8:24]:
        if len(values) < 64:
            break
        bits = len(values).bit_length()
        slots = ((values * multiplier) >> np.uint64(64 - bits)).astype(np.int64)
        places = np.arange(len(values), dtype=np.uint32)
        table = np.empty(1 << bits, dtype=np.uint32)
        table[slots] = places
        winners = table[slots]
        losers = np.flatnonzero(winners != places)
        lost = values[losers]
        same = lost == values[winners[losers]]
        found.append(lost[same])
        values = lost[~same]
    values = np.sort(values)
    found.append(values[1:][values[1:] == values[:-1]])
    return np.concatenate(found)


class Fingerprints:
    """The fingerprints of a table, kept by their upper bits: equal ones always meet in one bucket."""

    def __init__(self, num_rows: int, block_rows: int) -> None:
        self.num = 0
        self.num_buckets = 1
        while self.num_buckets < MAX_BUCKETS and num_rows > self.num_buckets * BUCKET_ROWS:
            self.num_buckets *= 2
        self._block_rows = block_rows
        self._scratch = Scratch() if num_rows > MAX_IN_MEMORY else None
        self._kept: dict[int, Words] = {}
        self._bounds: dict[int, npt.NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def add(self, block: int, values: Words) -> None:
        """Keep the fingerprints of a block of rows; blocks may come in any order and from any thread."""
        ordered, bounds = values, np.array([0, len(values)])
        if self.num_buckets > 1:
            shift = np.uint64(65 - self.num_buckets.bit_length())
            ordered = values[np.argsort((values >> shift).astype(np.uint8), kind="stable")]
            starts = np.searchsorted(ordered, np.arange(self.num_buckets, dtype=np.uint64) << shift)
            bounds = np.append(starts, len(values))
        if self._scratch is not None:
            self._scratch.write(ordered, 8 * block * self._block_rows)
        with self._lock:
            self._bounds[block] = bounds
            self.num += len(values)
            if self._scratch is None:
                self._kept[block] = ordered

    def bucket(self, number: int) -> Iterator[Words]:
        """The fingerprints of one bucket, in pieces of whole blocks and of a size that does not grow."""
        pieces, size = [], 0
        for block in sorted(self._bounds):
            low, high = self._bounds[block][number : number + 2].tolist()
            if self._scratch is None:
                pieces.append(self._kept[block][low:high])
            else:
                pieces.append(np.empty(high - low, dtype=np.uint64))
                self._scratch.read_into(pieces[-1], 8 * (block * self._block_rows + low))
            size += high - low
            if size > BUCKET_ROWS:
                yield np.concatenate(pieces)
                pieces, size = [], 0
        yield np.concatenate([np.empty(0, dtype=np.uint64), *pieces])

    def repeats(self, number: int) -> tuple[Words, int]:
        """The values that a bucket holds more than once, and how many rows repeat one of them."""
        size = sum(int(bounds[number + 1] - bounds[number]) for bounds in self._bounds.values())
        parts = -(-size // (4 * BUCKET_ROWS))
        if parts <= 1:
            again = repeats(np.concatenate(list(self.bucket(number))))
            return np.unique(again), len(again)
        found = [self._repeats_of_part(number, part, parts) for part in range(parts)]
        return np.concatenate([values for values, _ in found]), sum(num for _, num in found)

    def _repeats_of_part(self, number: int, part: int, parts: int) -> tuple[Words, int]:
        """The same for the values with one remainder: a bucket is large where one value fills it, or the table is."""
        seen = found = np.empty(0, dtype=np.uint64)
        num = 0
        for piece in self.bucket(number):
            values, counts = np.unique(piece[piece % np.uint64(parts) == part], return_counts=True)
            known = np.isin(values, seen)
            num += int(counts.sum()) - int(np.count_nonzero(~known))
            found = np.union1d(found, values[known | (counts > 1)])
            seen = np.union1d(seen, values)
        return found, num
