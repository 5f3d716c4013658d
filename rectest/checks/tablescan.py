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

from rectest.checks.columns import Column
from rectest.checks.fingerprints import Fingerprints, quick_fingerprints
from rectest.checks.rowsource import RowSource, as_source, mantissa_bits

__all__ = ["CHUNK_NUMBERS", "Moments", "TableScan", "scan_table"]

CHUNK_NUMBERS = 1 << 18
"""Numbers in a chunk: one MiB of float32 fits the cache of one core. Half of it is the most that OpenBLAS multiplies
by two rows without waking threads of its own."""

CHUNKS_PER_BLOCK = 32
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

    fingerprints: Fingerprints
    """Of every finite row that is neither zero nor the padding."""

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
    table: Array | RowSource, initial: Array | None = None, *, padding_row: int | None = None, threads: int = 1
) -> TableScan:
    """Scan a floating-point table, and compare it with the initial one where that is given.

    Args:
        threads: Python threads that share the blocks of rows; the result is the same for any number.

    Raises:
        ValueError: the table is not two-dimensional floating point, or the initial one has another shape or type.
    """
    source = as_source(table)
    _require_table(source, initial)
    job = _Job(source, initial, padding_row)
    total = _Sums(source.shape[1])
    for part in _blocks_in_order(job, threads):
        total.merge(part)
    return TableScan(
        norms=job.norms,
        num_nonfinite=total.num_nonfinite,
        num_zero=total.num_zero,
        moved=job.moved,
        fingerprints=job.fingerprints,
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

    def add(self, values: Array, norms: FloatArray) -> None:
        """Take in finite rows and their lengths; called with floating-point errors ignored."""
        self.num_real += len(values)
        self.squares += float(np.dot(norms, norms))
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        weights = np.empty((2, len(values)), values.dtype)
        weights[0] = 1
        np.divide(1, norms.astype(values.dtype), out=weights[1])
        if not math.isfinite(weights[1].max()):
            weights[1][~np.isfinite(weights[1])] = 0
        self.num_directed += int(np.count_nonzero(weights[1]))
        half = len(values) // 2
        for rows in (slice(0, half), slice(half, None)):
            sums = weights[:, rows] @ values[rows]
            self.columns += sums[0]
            self.direction += sums[1]

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

    def __init__(self, source: RowSource, initial: Array | None, padding_row: int | None) -> None:
        num_rows, dim = source.shape
        self._source = source
        self._initial = None if initial is None else as_source(initial)
        self._padding_row = padding_row
        self._step = max(1, CHUNK_NUMBERS // dim)
        self._block_rows = self._step * CHUNKS_PER_BLOCK
        self.num_blocks = -(-num_rows // self._block_rows)
        self.norms = Column(num_rows)
        self.moved = None if initial is None else np.empty(num_rows, dtype=bool)
        self.fingerprints = Fingerprints(num_rows, self._block_rows)

    def scan_block(self, block: int) -> _Sums:
        """Everything about the rows of one block."""
        start = block * self._block_rows
        stop = min(start + self._block_rows, self._source.shape[0])
        sums, norms, fingerprints = _Sums(self._source.shape[1]), np.empty(stop - start), []
        with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
            for first, chunk in self._source.chunks(self._step, start=start, stop=stop):
                rows = slice(first - start, first - start + len(chunk))
                fingerprints.append(self._scan_chunk(first, chunk, norms[rows], sums))
        self._compare(start, stop)
        self.norms.write(start, norms)
        self.fingerprints.add(block, np.concatenate(fingerprints))
        return sums

    def _scan_chunk(self, first: int, chunk: Array, norms: FloatArray, sums: _Sums) -> npt.NDArray[np.uint64]:
        values = chunk if chunk.itemsize >= 4 else chunk.astype(np.float32)
        ordinary = _lengths(values, norms)
        if not ordinary:
            sums.num_nonfinite += int(np.count_nonzero(np.isnan(norms)))
            sums.num_zero += int(np.count_nonzero(norms == 0))
        hashes = quick_fingerprints(chunk)
        inside = self._padding_row is not None and first <= self._padding_row < first + len(chunk)
        if not ordinary or inside:
            real = ~np.isnan(norms)
            if inside and self._padding_row is not None:
                real[self._padding_row - first] = False
            values, hashes, norms = values[real], hashes[real & (norms > 0)], norms[real]
        if len(values):
            sums.add(values, norms)
        return hashes

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


def _lengths(values: Array, norms: FloatArray) -> bool:
    """Write the lengths; False where a row is zero, not finite, or its squares leave the range of the type.

    Such rows are scaled by their largest entry and taken again in float64, so that only a zero row has length zero.
    """
    squares = np.vecdot(values, values)
    least, most = _ordinary_squares(values.dtype, values.shape[1])
    if least <= squares.min() and squares.max() <= most:
        norms[:] = squares
        np.sqrt(norms, out=norms)
        return True
    odd = np.flatnonzero(~((squares >= least) & (squares <= most)))
    norms[:] = squares
    np.sqrt(norms, out=norms)
    again = values[odd].astype(np.float64)
    largest = np.abs(again).max(axis=1)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    lengths = scale * np.linalg.norm(again / scale[:, None], axis=1)
    norms[odd] = np.where(np.isfinite(largest), np.minimum(lengths, np.finfo(np.float64).max), np.nan)
    return False
