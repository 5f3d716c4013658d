"""The rows of embedding tables: how far each is from the right one, and whether rows outside the batch stay untouched.

A table's norm is that of its frequent rows, so an error in one row hides in it. Here each row has a limit of its own:
`rounding_limit` of the largest of the row's norm, the sum of its norms in the shares, and the root mean square row of
the table (absent rows counted as zero). The last one is there because the errors of the layers above reach all rows
of a table alike, so that no row is known better than to the rounding of a typical one. The limit holds for all
entries at once (see `rectest.checks.gradients`), hence for all rows. A row that is zero in one process and in every
share is absent from the batch: nothing is added there, so its gradient must be zero exactly.

Owns the arithmetic; the result is made in `rectest.checks.parity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.decomposition import gradients_of, shares_of
from rectest.checks.gradients import SAME
from rectest.record import RunRecord

__all__ = ["RowsApart", "compare_rows", "rolled_rows", "table_rows"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsApart:
    """One table, row by row; arrays have one entry for each of its V rows."""

    name: str
    error: FloatArray
    """float64[V]: norm of the difference on the rank where it is largest, relative to the row's size."""

    rank: npt.NDArray[np.int64]
    """int64[V]: that rank."""

    limit: FloatArray
    """float64[V]: what rounding may do to `error`; zero for absent rows."""

    absent: BoolArray
    judged: BoolArray
    """bool[V]: present rows beyond the rounding of their table, for which a wrong row would be refused."""

    holders: BoolArray
    """bool[W, V]: whether the share of a rank has a gradient there."""

    @property
    def red(self) -> BoolArray:
        """bool[V]: where rounding cannot explain the difference."""
        red: BoolArray = ~(self.error <= self.limit)
        return red

    @property
    def blind(self) -> bool:
        """Whether rows are there, but none of them can be judged."""
        return bool((~self.absent).any()) and not self.judged.any()

    @property
    def excess(self) -> FloatArray:
        """float64[V]: `error` in units of `limit`; infinite for an absent row that was touched."""
        touched = np.where(self.error > 0, np.inf, 0.0)
        return np.divide(self.error, self.limit, out=touched, where=self.limit > 0)

    @property
    def worst(self) -> int:
        """The row that is farthest outside its limit."""
        return int(self.excess.argmax())


def table_rows(single: RunRecord, ranks: Sequence[RunRecord], *, limit: float) -> list[RowsApart]:
    """Every table with rows (``facts["tables"]``) that has a gradient in one process or on a rank."""
    right, others = gradients_of(single), [gradients_of(record) for record in ranks]
    shares = [shares_of(record) for record in ranks]
    tables = {n: t for record in (single, *ranks) for n, t in (record.facts.get("tables") or {}).items()}
    found = []
    for name in sorted(name for name, table in tables.items() if table.get("rows")):
        known = [side[name] for side in (right, *others) if name in side]
        if not known or known[0].ndim != 2:
            continue
        blank = np.zeros_like(known[0])
        own = [[share[name] for share in rank if name in share] for rank in shares]
        found.append(compare_rows(name, right.get(name, blank), [o.get(name, blank) for o in others], own, limit=limit))
    return found


def compare_rows(
    name: str, right: FloatArray, others: Sequence[FloatArray], shares: Sequence[Sequence[FloatArray]], *, limit: float
) -> RowsApart:
    """Each row of one table on all ranks against the right one.

    Args:
        right: [V, D], the gradient of one process.
        others: the same of each rank.
        shares: by rank, the gradients [V, D] of its micro-batches; empty where a rank has none.
    """
    norms = _norms(right)
    held = np.array([sum((_norms(share) for share in own), np.zeros(len(right))) for own in shares])
    held = held.reshape(len(shares), len(right))
    absent = (norms == 0) & (held.sum(axis=0) == 0)
    size = np.maximum(np.maximum(norms, held.sum(axis=0)), np.sqrt((norms**2).mean()))
    differences = np.array([_norms(other - right) for other in others])
    rank = differences.argmax(axis=0)
    relative_to = np.where(size > 0, size, 1.0)
    allowed = np.where(absent, 0.0, limit)
    wrong = _norms(rolled_rows(right) - right) / relative_to
    return RowsApart(
        name=name,
        error=differences.max(axis=0) / relative_to,
        rank=rank,
        limit=allowed,
        absent=absent,
        judged=~absent & (norms > limit * size) & (wrong > allowed),
        holders=held > 0,
    )


def rolled_rows(right: FloatArray) -> FloatArray:
    """A wrong table: each row stands in its neighbour's place; one that nearly equals its neighbour is negated.

    (Items of one basket can have equal gradients.)

    >>> rolled_rows(np.array([[1.0], [1.0], [0.0]])).tolist()
    [[0.0], [-1.0], [1.0]]
    """
    moved = np.roll(right, 1, axis=0)
    same = _norms(moved - right) <= SAME * _norms(right)
    return np.where(same[:, None], -right, moved)


def _norms(table: FloatArray) -> FloatArray:
    norms: FloatArray = np.sqrt((table.astype(np.float64) ** 2).sum(axis=1))  # float32 squares underflow
    return norms
