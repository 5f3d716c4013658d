"""One pass over an embedding table: lengths, finiteness, zero and moved rows, moments, fingerprints, mean direction.

Owns reading, not judging. The table is taken in chunks that stay in the cache, so a table of any size costs one read,
and what is kept of each row goes to a temporary file beyond half a million rows. Only a chunk that looks odd is looked
at twice. Chunks and the order of all sums are fixed, so the number of threads changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.columns import Column, reuse_memory
from rectest.checks.fingerprints import Fingerprints, quick_fingerprints
from rectest.checks.rowsource import RowSource, as_source, mantissa_bits

__all__ = ["CHUNK_NUMBERS", "Moments", "TableScan", "scan_table"]

CHUNK_NUMBERS = 1 << 19
"""Numbers in a chunk: two MiB of float32 stay in the shared cache. Smaller chunks are no faster on one thread, and on
two they spend their time in handing over the interpreter lock."""

PARTS_PER_CHUNK = 4
"""Parts of a chunk whose rows are added up: so small that OpenBLAS multiplies them by two rows of weights without
waking threads of its own."""

KEPT_CHUNKS = 3
"""Freed memory that is kept between chunks: with less each chunk pays for new pages, with more a pass on two threads
comes to hold 7 MB more."""

CHUNKS_PER_BLOCK = 16
"""A block is what a thread takes at a time."""

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """What the numbers of the finite rows are like, the padding left out; NaN where there is no such row."""

    num_rows: int
    low: float
    high: float
    mean: float
    deviation: float
    """Standard deviation of all numbers around `mean`, to sqrt(eps) of their root mean square: it is taken from sums
    of squares, which are float32 for a float32 table."""

    column_means: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class TableScan:
    """What one pass over a table [rows, dim] found."""

    norms: Column
    """Euclidean lengths by row: NaN where a row is not finite, zero only where every entry is zero."""

    num_nonfinite: int
    """Rows that hold NaN or infinity."""

    num_zero: int
    """Rows of which every entry is zero, the padding row included."""

    moved: BoolArray | None
    """[rows] whether any bit differs from the initial table; None without one."""

    kept: Fingerprints | None
    """Of every finite row that is neither zero nor the padding; None where none were asked for."""

    moments: Moments
    mean_cosine: float
    """Mean cosine over all pairs of non-zero finite rows but the padding; NaN with fewer than two."""

    dim: int
    mantissa_bits: int
    """Of the numbers as they were stored."""

    padding_row: int | None

    def __len__(self) -> int:
        return len(self.norms)

    @property
    def fingerprints(self) -> Fingerprints:
        """What duplicates are found by.

        Raises:
            ValueError: the scan took none.
        """
        if self.kept is None:
            msg = "the scan took no fingerprints, so duplicates cannot be found: scan with fingerprints=True"
            raise ValueError(msg)
        return self.kept

    @property
    def eps(self) -> float:
        """Distance from 1 to the next number of the stored type."""
        return 2.0**-self.mantissa_bits

    @property
    def num_real(self) -> int:
        """Finite rows but the padding."""
        return self.moments.num_rows

    def real_norms(self) -> Iterator[tuple[int, FloatArray]]:
        """First row and lengths of consecutive stretches; NaN for the padding and for rows that are not finite."""
        for first, norms in self.norms.pieces():
            if self.padding_row is not None and first <= self.padding_row < first + len(norms):
                norms = norms.copy()
                norms[self.padding_row - first] = np.nan
            yield first, norms


def scan_table(
    table: Array | RowSource,
    initial: Array | None = None,
    *,
    padding_row: int | None = None,
    threads: int = 1,
    fingerprints: bool = True,
) -> TableScan:
    """Scan a floating-point table, and compare it with the initial one where that is given.

    Args:
        threads: Python threads that share the blocks of rows; the result is the same for any number.
        fingerprints: False leaves out what only finding duplicates needs, a third of the cost.

    Raises:
        ValueError: the table is not two-dimensional floating point, or the initial one has another shape or type.
    """
    source = as_source(table)
    _require_table(source, initial)
    job = _Job(source, initial, padding_row, fingerprints=fingerprints)
    if job.num_blocks > 1:
        reuse_memory(KEPT_CHUNKS * CHUNK_NUMBERS * source.dtype.itemsize)
    total = _Sums(source.shape[1])
    for part in _blocks_in_order(job, threads):
        total.merge(part)
    return TableScan(
        norms=job.norms,
        num_nonfinite=total.num_nonfinite,
        num_zero=total.num_zero,
        moved=job.moved,
        kept=job.fingerprints,
        moments=total.moments(),
        mean_cosine=total.mean_cosine(),
        dim=source.shape[1],
        mantissa_bits=mantissa_bits(source),
        padding_row=padding_row,
    )


def _blocks_in_order(job: _Job, threads: int) -> Iterator[_Sums]:
    if threads <= 1:
        yield from map(job.scan_block, range(job.num_blocks))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(job.scan_block, range(job.num_blocks))


def _require_table(source: RowSource, initial: Array | None) -> None:
    if len(source.shape) != 2 or source.dtype.kind != "f" or 0 in source.shape:
        msg = f"an embedding table must be floating point [rows, dim], got {source.dtype} {source.shape}"
        raise ValueError(msg)
    if initial is not None and (initial.shape, initial.dtype) != (source.shape, source.dtype):
        msg = f"the initial table is {initial.dtype} {initial.shape}, the final one {source.dtype} {source.shape}"
        raise ValueError(msg)


class _Sums:
    """What blocks add up to; merged in the order of the blocks."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.num_nonfinite = self.num_zero = self.num_real = self.num_directed = 0
        self.columns, self.direction = np.zeros(dim), np.zeros(dim)
        self.squares, self.low, self.high = 0.0, math.inf, -math.inf

    def merge(self, other: _Sums) -> None:
        """Take in the sums of the next block."""
        self.num_nonfinite += other.num_nonfinite
        self.num_zero += other.num_zero
        self.num_real += other.num_real
        self.num_directed += other.num_directed
        self.columns += other.columns
        self.direction += other.direction
        self.squares += other.squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def add(self, values: Array, weights: Array, part_rows: int) -> None:
        """Take in the sums of rows with weights [2, rows], ones and inverse lengths, in parts of `part_rows` rows."""
        whole = len(values) // part_rows * part_rows
        parts = weights[:, :whole].reshape(2, -1, part_rows).swapaxes(0, 1)
        added = (parts @ values[:whole].reshape(-1, part_rows, self.dim)).sum(axis=0, dtype=np.float64)
        if whole < len(values):
            added += weights[:, whole:] @ values[whole:]
        self.columns += added[0]
        self.direction += added[1]

    def extend(self, values: Array, norms: FloatArray) -> None:
        """Take in extremes and lengths of finite rows."""
        self.num_real += len(values)
        self.squares += float(np.dot(norms, norms))
        self.low = min(self.low, float(np.minimum.reduce(values, axis=None)))
        self.high = max(self.high, float(np.maximum.reduce(values, axis=None)))

    def moments(self) -> Moments:
        """Moments of all rows taken in."""
        if not self.num_real:
            nothing = math.nan
            means = np.full(self.dim, nothing)
            return Moments(num_rows=0, low=nothing, high=nothing, mean=nothing, deviation=nothing, column_means=means)
        with np.errstate(over="ignore", invalid="ignore"):
            means = self.columns / self.num_real
            mean = float(means.mean())
            variance = self.squares / (self.num_real * self.dim) - mean * mean
        return Moments(
            num_rows=self.num_real,
            low=self.low,
            high=self.high,
            mean=mean,
            deviation=math.sqrt(max(0.0, variance)) if math.isfinite(variance) else math.inf,
            column_means=means,
        )

    def mean_cosine(self) -> float:
        """From the length of the sum of all directions."""
        pairs = self.num_directed * (self.num_directed - 1)
        return (float(self.direction @ self.direction) - self.num_directed) / pairs if pairs else math.nan


class _Job:
    """One scan: what threads share is written by rows, and no two write the same ones."""

    def __init__(
        self, source: RowSource, initial: Array | None, padding_row: int | None, *, fingerprints: bool
    ) -> None:
        num_rows, dim = source.shape
        self._source = source
        self._initial = None if initial is None else as_source(initial)
        self._padding_row = padding_row
        self._part_rows = max(1, CHUNK_NUMBERS // (PARTS_PER_CHUNK * dim))
        self._step = PARTS_PER_CHUNK * self._part_rows
        self._block_rows = self._step * CHUNKS_PER_BLOCK
        self.num_blocks = -(-num_rows // self._block_rows)
        self.norms = Column(num_rows)
        self.moved = None if initial is None else np.empty(num_rows, dtype=bool)
        self.fingerprints = Fingerprints(num_rows, self._block_rows) if fingerprints else None

    def scan_block(self, block: int) -> _Sums:
        """Everything about the rows of one block."""
        start = block * self._block_rows
        stop = min(start + self._block_rows, self._source.shape[0])
        sums, norms, hashes = _Sums(self._source.shape[1]), np.empty(stop - start), []
        with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
            for first, chunk in self._source.chunks(self._step, start=start, stop=stop):
                usable = self._scan_chunk(first, chunk, norms[first - start : first - start + len(chunk)], sums)
                if self.fingerprints is not None:
                    hashes.append(quick_fingerprints(chunk) if usable is None else quick_fingerprints(chunk)[usable])
        self._compare(start, stop)
        self.norms.write(start, norms)
        if self.fingerprints is not None:
            self.fingerprints.add(block, np.concatenate(hashes))
        return sums

    def _scan_chunk(self, first: int, chunk: Array, norms: FloatArray, sums: _Sums) -> BoolArray | None:
        """Write the lengths and add to the sums; which rows are real and not zero, None for all of them."""
        values = chunk if chunk.itemsize >= 4 else chunk.astype(np.float32)
        weights = np.empty((2, len(values)), values.dtype)
        weights[0] = 1
        ordinary = _lengths(values, norms, weights[1])
        np.reciprocal(weights[1], out=weights[1])
        padding = self._padding_row if self._padding_row is not None else -1
        if ordinary and not first <= padding < first + len(chunk):
            sums.extend(values, norms)
            sums.num_directed += len(values)
            sums.add(values, weights, self._part_rows)
            return None
        real = ~np.isnan(norms)
        sums.num_nonfinite += len(real) - int(np.count_nonzero(real))
        sums.num_zero += int(np.count_nonzero(norms == 0))
        if first <= padding < first + len(chunk):
            real[padding - first] = False
        weights[:, ~real] = 0
        weights[1][~np.isfinite(weights[1])] = 0
        if real.any():
            sums.extend(values[real], norms[real])
            sums.num_directed += int(np.count_nonzero(weights[1]))
            sums.add(np.where(real[:, None], values, values.dtype.type(0)), weights, self._part_rows)
        return real & (norms > 0)

    def _compare(self, start: int, stop: int) -> None:
        if self.moved is None or self._initial is None:
            return
        pairs = zip(
            self._source.chunks(self._step, start=start, stop=stop),
            self._initial.chunks(self._step, start=start, stop=stop),
            strict=True,
        )
        for (first, chunk), (_, initial) in pairs:
            differ = chunk.view(f"u{chunk.itemsize}") != initial.view(f"u{chunk.itemsize}")
            self.moved[first : first + len(chunk)] = differ.any(axis=1)


@lru_cache
def _ordinary_squares(dtype: np.dtype[Any], dim: int) -> tuple[float, float]:
    """Between which sums of squares no term was lost to the limits of the type."""
    info = np.finfo(dtype)
    return float(info.tiny) * dim / float(info.eps), float(info.max)


def _lengths(values: Array, norms: FloatArray, rounded: Array) -> bool:
    """Write the lengths, also in the type of the values; False where a row is zero, not finite, or its squares leave
    the range of the type.

    Such rows are scaled by their largest entry and taken again in float64, so that only a zero row has length zero.
    """
    squares = np.vecdot(values, values)
    np.sqrt(squares, out=rounded)
    norms[:] = rounded
    least, most = _ordinary_squares(values.dtype, values.shape[1])
    if least <= squares.min() and squares.max() <= most:
        return True
    odd = np.flatnonzero(~((squares >= least) & (squares <= most)))
    again = values[odd].astype(np.float64)
    largest = np.abs(again).max(axis=1)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    lengths = scale * np.linalg.norm(again / scale[:, None], axis=1)
    norms[odd] = np.where(np.isfinite(largest), np.minimum(lengths, np.finfo(np.float64).max), np.nan)
    rounded[odd] = norms[odd]
    return False
