"""Rows of a table that equal another one bit by bit, in memory that does not grow with the table.

Owns the way from fingerprints that repeat to rows that are surely equal: few are looked up and compared byte by byte;
where very many repeat, because rows differ only where the quick fingerprint does not look, a thorough one is taken of
all rows first. Whether duplicates matter is judged in `embeddings.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.fingerprints import Fingerprints, quick_fingerprints, thorough_fingerprints
from rectest.checks.rowset import RowSet
from rectest.checks.rowsource import RowSource
from rectest.checks.tablescan import CHUNK_NUMBERS, TableScan

__all__ = ["MAX_CANDIDATES", "Duplicates", "find_duplicates"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

MAX_CANDIDATES = 1 << 16
"""About as many rows are looked at byte by byte; a table with more duplicates gets a lower bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Groups of equal rows; zero rows, rows that are not finite and the padding are no duplicates."""

    rows: RowSet
    num_groups: int
    largest: tuple[int, ...]
    """The first rows of the largest group."""

    complete: bool
    """False where there are more of them than were looked at."""


def find_duplicates(source: RowSource, scan: TableScan) -> Duplicates:
    """All groups of two or more equal rows of a scanned table."""
    fingerprint: Callable[[Array], Words] = quick_fingerprints
    repeated, complete = _repeated(scan.fingerprints)
    if not complete:
        fingerprint = thorough_fingerprints
        repeated, complete = _repeated(_thorough(source, scan))
    if not len(repeated):
        return Duplicates(rows=RowSet(), num_groups=0, largest=(), complete=True)
    rows, hashes, seen_all = _candidates(source, scan, repeated, fingerprint)
    return _grouped(*_ordered(source, rows, hashes), complete=complete and seen_all)


def _repeated(fingerprints: Fingerprints) -> tuple[Words, bool]:
    """Sorted values that occur more than once, and whether these are all."""
    found, num = [np.empty(0, dtype=np.uint64)], 0
    for bucket in range(fingerprints.num_buckets):
        values, again = fingerprints.repeats(bucket)
        found.append(values)
        num += again
        if num > MAX_CANDIDATES:
            return np.sort(np.concatenate(found)[:MAX_CANDIDATES]), False
    return np.sort(np.concatenate(found)), True


def _real_chunks(source: RowSource, scan: TableScan) -> Iterator[tuple[int, Array, Bools]]:
    """Chunks with a mask of the rows that can be duplicates."""
    for first, chunk in source.chunks(max(1, CHUNK_NUMBERS // scan.dim)):
        mask = scan.norms.read(first, first + len(chunk)) > 0
        if scan.padding_row is not None and first <= scan.padding_row < first + len(chunk):
            mask[scan.padding_row - first] = False
        yield first, chunk, mask


def _thorough(source: RowSource, scan: TableScan) -> Fingerprints:
    made = Fingerprints(len(scan), max(1, CHUNK_NUMBERS // scan.dim))
    for block, (_, chunk, mask) in enumerate(_real_chunks(source, scan)):
        made.add(block, thorough_fingerprints(chunk)[mask])
    return made


def _candidates(
    source: RowSource, scan: TableScan, repeated: Words, fingerprint: Callable[[Array], Words]
) -> tuple[Ints, Words, bool]:
    """Rows whose fingerprint repeats, ascending, with their thorough one, and whether these are all."""
    rows: list[Ints] = []
    hashes: list[Words] = []
    num = 0
    for first, chunk, mask in _real_chunks(source, scan):
        values = fingerprint(chunk)
        places = np.minimum(np.searchsorted(repeated, values), len(repeated) - 1)
        hits = np.flatnonzero((repeated[places] == values) & mask)
        if not hits.size:
            continue
        if num + hits.size > 2 * MAX_CANDIDATES:
            return np.concatenate(rows), np.concatenate(hashes), False
        num += hits.size
        rows.append(hits + first)
        hashes.append(thorough_fingerprints(np.ascontiguousarray(chunk[hits])))
    return np.concatenate(rows), np.concatenate(hashes), True


def _ordered(source: RowSource, rows: Ints, hashes: Words) -> tuple[Ints, Bools]:
    """The rows with equal ones side by side, and whether each is equal to the one before, byte by byte."""
    order = np.argsort(hashes, kind="stable")
    rows, hashes = rows[order], hashes[order]
    same_hash = np.append(False, hashes[1:] == hashes[:-1])
    equal = same_hash & _equals_previous(source, rows, same_hash)
    for start in np.unique(np.maximum.accumulate(np.where(~same_hash, np.arange(len(rows)), 0))[same_hash & ~equal]):
        later = np.flatnonzero(~same_hash[start + 1 :])
        stop = start + 1 + int(later[0]) if later.size else len(rows)
        texts = [source.take(rows[i : i + 1]).tobytes() for i in range(start, stop)]
        order = np.array(sorted(range(len(texts)), key=lambda i: (texts[i], i)))
        rows[start:stop] = rows[start:stop][order]
        equal[start + 1 : stop] = [texts[i] == texts[j] for i, j in zip(order[1:], order, strict=False)]
    return rows, equal


def _equals_previous(source: RowSource, rows: Ints, wanted: Bools) -> Bools:
    """Whether each wanted row has the bytes of the one before it in `rows`."""
    equal = np.zeros(len(rows), dtype=bool)
    ends = np.flatnonzero(wanted)
    step = max(1, CHUNK_NUMBERS // (2 * source.shape[1]))
    for start in range(0, len(ends), step):
        some = ends[start : start + step]
        pair = [source.take(rows[places]) for places in (some, some - 1)]
        left, right = (part.view(f"u{part.itemsize}") for part in pair)
        equal[some] = (left == right).all(axis=1)
    return equal


def _grouped(rows: Ints, equal: Bools, *, complete: bool) -> Duplicates:
    starts = np.flatnonzero(~equal)
    sizes = np.diff(np.append(starts, len(rows)))
    groups = np.flatnonzero(sizes > 1)
    if not groups.size:
        return Duplicates(rows=RowSet(), num_groups=0, largest=(), complete=complete)
    heads = np.array([rows[starts[group] : starts[group] + sizes[group]].min() for group in groups[:MAX_CANDIDATES]])
    best = groups[np.lexsort((heads, -sizes[groups]))[0]]
    members = np.repeat(sizes > 1, sizes)
    largest = np.sort(rows[starts[best] : starts[best] + sizes[best]])
    return Duplicates(
        rows=RowSet.of(rows[members]), num_groups=groups.size, largest=tuple(largest[:6].tolist()), complete=complete
    )
