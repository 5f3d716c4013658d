"""Some rows of a table, for what cannot be asked of every row: neighbours, the spectrum, moments.

Owns the draw. A table of up to `MAX_ROWS` rows is taken whole; of a larger one, rows are drawn without replacement by a
fixed seed, so that two audits of a file say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.cooccurrence import Rows, directions
from rectest.checks.rowsource import RowSource, as_source

__all__ = ["MAX_ROWS", "RowSample", "sample_rows"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

MAX_ROWS = 20_000
MAX_ENTRIES = 1 << 22
"""16 MiB of float32; fewer rows are drawn from a table of long ones."""

MIN_ROWS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSample:
    """Rows that are finite and not zero, ascending by their number."""

    rows: Ints
    """int64[n] their numbers."""

    vectors: Rows
    """float32[n, D]"""

    num_all: int
    """Rows of the table that could have been drawn."""

    bits: int
    """Bits of the mantissa of the table's type."""

    @property
    def unit(self) -> Rows:
        """The rows at length one."""
        return directions(self.vectors)

    @property
    def whole(self) -> bool:
        """Whether nothing was left out but padding, zero and broken rows."""
        return self.num_all <= self.drawn_limit

    @property
    def drawn_limit(self) -> int:
        """The most rows that are drawn of a table of this width."""
        return max_rows(self.vectors.shape[1])

    @property
    def words(self) -> str:
        """How much of the table this is, for a report."""
        return f"all {len(self.rows):,} rows" if self.whole else f"{len(self.rows):,} of {self.num_all:,} rows (drawn)"


def max_rows(dim: int) -> int:
    """How many rows of `dim` numbers are drawn at most.

    >>> max_rows(64), max_rows(1024)
    (20000, 4096)
    """
    return min(MAX_ROWS, max(MIN_ROWS, MAX_ENTRIES // dim))


def sample_rows(table: Array | RowSource, *, padding_row: int | None = None, seed: int = 0) -> RowSample:
    """The sample of a table [rows, dim]."""
    source = as_source(table)
    num, dim = source.shape
    candidates = num - (padding_row is not None)
    if candidates <= max_rows(dim):
        rows = np.arange(num)
    else:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(num, max_rows(dim), replace=False, shuffle=False))
    rows = rows[rows != padding_row] if padding_row is not None else rows
    with np.errstate(over="ignore"):
        vectors = source.take(rows).astype(np.float32)
    good = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    bits = int(np.finfo(source.dtype).nmant)
    return RowSample(rows=rows[good], vectors=vectors[good], num_all=candidates, bits=bits)
