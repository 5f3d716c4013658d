"""Which whole numbers the indices of a map are: the first and last, those that occur twice, and those left out.

What a hole or a repeated index means is judged in `mapping_indices.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_hashes import each_block

__all__ = ["Numbers", "numbers_of"]

Ints = npt.NDArray[np.int64]

_SPREAD = 8
"""Indices up to this many times the number of entries are counted in a table; others are sorted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """The distinct indices of a map, as ranges."""

    low: int
    high: int
    shared: Ints
    """Indices of more than one entry."""

    holes: list[tuple[int, int]]
    """First and last of each range that is left out."""


def numbers_of(index: Ints) -> Numbers:
    """The distinct numbers among some, of which there is at least one.

    >>> found = numbers_of(np.array([5, 1, 5, 2]))
    >>> found.shared.tolist(), found.holes
    ([5], [(3, 4)])
    """
    bounds = each_block(lambda block: (int(index[block].min()), int(index[block].max())), len(index))
    low, high = min(first for first, _ in bounds), max(last for _, last in bounds)
    sparse = high - low >= _SPREAD * len(index) + 1000
    shared, holes = _sorted(index, low, high) if sparse else _counted(index, low, high)
    return Numbers(low=low, high=high, shared=shared, holes=holes)


def _sorted(index: Ints, low: int, high: int) -> tuple[Ints, list[tuple[int, int]]]:
    values, counts = np.unique(index, return_counts=True)
    jumps = np.flatnonzero(values[1:] - values[:-1] != 1) if high - low < 2**62 else np.arange(len(values) - 1)
    holes = [(int(values[i]) + 1, int(values[i + 1]) - 1) for i in jumps.tolist()]
    return values[counts > 1], [hole for hole in holes if hole[0] <= hole[1]]


def _counted(index: Ints, low: int, high: int) -> tuple[Ints, list[tuple[int, int]]]:
    taken = np.zeros(high - low + 1, dtype=bool)

    def take(block: slice) -> None:
        taken[index[block] - low] = True

    each_block(take, len(index))
    num_distinct = int(np.count_nonzero(taken))
    shared = np.zeros(0, dtype=np.int64)
    if num_distinct < len(index):
        shared = np.flatnonzero(np.bincount(index - low) > 1) + low
    return shared, _runs(~taken, low) if num_distinct <= high - low else []


def _runs(free: npt.NDArray[np.bool_], low: int) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0))
    return [(low + int(a), low + int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
