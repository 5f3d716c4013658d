"""One pass over an embedding table: lengths, finiteness, zero and moved rows, row hashes, mean direction.

Owns reading, not judging. The table is taken in chunks that stay in the cache, so a memory-mapped table of any size
costs one read and a few arrays of one number a row. Only a chunk that looks odd is looked at twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CHUNK_BYTES", "TableScan", "duplicate_groups", "scan_table"]

CHUNK_BYTES = 1 << 20
"""A chunk and its few temporaries fit the cache of one core."""

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TableScan:
    """What one pass over a table [rows, dim] found."""

    norms: FloatArray
    """[rows] Euclidean lengths; NaN where a row is not finite."""

    nonfinite: BoolArray
    """[rows] whether a row holds NaN or infinity."""

    zero: BoolArray
    """[rows] whether every entry is zero."""

    moved: BoolArray | None
    """[rows] whether any bit differs from the initial table; None without one."""

    hashes: npt.NDArray[np.uint64]
    """[rows] equal for bitwise equal rows; nearly always different otherwise."""

    mean_cosine: float
    """Mean cosine over all pairs of non-zero finite rows but the padding; NaN with fewer than two."""

    dim: int

    def __len__(self) -> int:
        return len(self.norms)


def scan_table(table: Array, initial: Array | None = None, *, padding_row: int | None = None) -> TableScan:
    """Scan a floating-point table, and compare it with the initial one where that is given.

    Raises:
        ValueError: the table is not two-dimensional floating point, or the initial one has another shape or type.
    """
    _require_table(table, initial)
    num_rows, dim = table.shape
    norms, hashes = np.empty(num_rows), np.empty(num_rows, dtype=np.uint64)
    zero, nonfinite = np.zeros(num_rows, dtype=bool), np.zeros(num_rows, dtype=bool)
    moved = None if initial is None else np.empty(num_rows, dtype=bool)
    direction, num_directed = np.zeros(dim), 0
    multipliers = _multipliers(dim * table.itemsize)
    step = max(1, CHUNK_BYTES // max(1, dim * table.itemsize))
    for start in range(0, num_rows, step):
        rows = slice(start, min(start + step, num_rows))
        chunk = np.ascontiguousarray(table[rows])
        norms[rows], zero[rows], nonfinite[rows] = _lengths(chunk)
        hashes[rows] = _hash_rows(chunk, multipliers)
        if moved is not None and initial is not None:
            moved[rows] = _words_differ(chunk, np.ascontiguousarray(initial[rows]))
        inverse = _inverse_lengths(norms[rows], rows, padding_row)
        num_directed += int(np.count_nonzero(inverse))
        direction += _sum_of_directions(chunk, inverse)
    pairs = num_directed * (num_directed - 1)
    cosine = (float(direction @ direction) - num_directed) / pairs if pairs else float("nan")
    return TableScan(
        norms=norms, nonfinite=nonfinite, zero=zero, moved=moved, hashes=hashes, mean_cosine=cosine, dim=dim
    )


def _require_table(table: Array, initial: Array | None) -> None:
    if table.ndim != 2 or table.dtype.kind != "f" or 0 in table.shape:
        msg = f"an embedding table must be floating point [rows, dim], got {table.dtype} {table.shape}"
        raise ValueError(msg)
    if initial is not None and (initial.shape, initial.dtype) != (table.shape, table.dtype):
        msg = f"the initial table is {initial.dtype} {initial.shape}, the final one {table.dtype} {table.shape}"
        raise ValueError(msg)


def _lengths(chunk: Array) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Lengths, zero rows and non-finite rows; sums that leave float32's range are taken again in float64."""
    values = chunk if chunk.itemsize >= 4 else chunk.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", values, values).astype(np.float64)
    odd = np.flatnonzero(~np.isfinite(squares) | (squares < np.finfo(np.float32).tiny * chunk.shape[1]))
    zero, nonfinite = np.zeros(len(chunk), dtype=bool), np.zeros(len(chunk), dtype=bool)
    if odd.size:
        again = chunk[odd].astype(np.float64)
        nonfinite[odd] = ~np.isfinite(again).all(axis=1)
        zero[odd] = ~again.any(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            squares[odd] = np.where(nonfinite[odd], np.nan, np.einsum("ij,ij->i", again, again))
    return np.sqrt(squares), zero, nonfinite


def _inverse_lengths(norms: FloatArray, rows: slice, padding_row: int | None) -> FloatArray:
    usable = np.isfinite(norms) & (norms > 0)
    if padding_row is not None and rows.start <= padding_row < rows.stop:
        usable[padding_row - rows.start] = False
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=usable)


def _sum_of_directions(chunk: Array, inverse: FloatArray) -> FloatArray:
    if not np.all(inverse > 0):
        chunk, inverse = chunk[inverse > 0], inverse[inverse > 0]
    values = chunk if chunk.itemsize >= 4 else chunk.astype(np.float32)
    total: FloatArray = (inverse.astype(values.dtype) @ values).astype(np.float64)
    return total


def _as_words(chunk: Array) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The rows as the widest unsigned integers that divide a row."""
    width = chunk.shape[1] * chunk.itemsize
    kind = next(k for k in (np.uint64, np.uint32, np.uint16) if width % np.dtype(k).itemsize == 0)
    return chunk.view(kind)


def _multipliers(row_bytes: int) -> npt.NDArray[np.uint64]:
    """Odd random multipliers, always the same ones, so that hashes of two tables can be compared."""
    rng = np.random.default_rng(0x5EED)
    return rng.integers(0, 2**63, size=row_bytes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _hash_rows(chunk: Array, multipliers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Multilinear hash modulo 2^64; collisions are possible, so equal hashes are confirmed byte by byte."""
    words = _as_words(chunk)
    wide = words if words.dtype == np.uint64 else words.astype(np.uint64)
    hashes: npt.NDArray[np.uint64] = wide @ multipliers[: wide.shape[1]]
    return hashes


def _words_differ(chunk: Array, initial: Array) -> BoolArray:
    differ: BoolArray = (_as_words(chunk) != _as_words(initial)).any(axis=1)
    return differ


def duplicate_groups(table: Array, hashes: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> list[list[int]]:
    """Groups of two or more of `rows` that are equal bit by bit, each ascending, ordered by their first row."""
    order = np.argsort(hashes[rows], kind="stable")
    ordered = hashes[rows][order]
    equal = ordered[1:] == ordered[:-1]
    suspicious = np.zeros(len(rows), dtype=bool)
    suspicious[1:] |= equal
    suspicious[:-1] |= equal
    groups: dict[bytes, list[int]] = {}
    for row in np.sort(rows[order[suspicious]]).tolist():
        groups.setdefault(np.ascontiguousarray(table[row]).tobytes(), []).append(row)
    return [group for group in groups.values() if len(group) > 1]
