"""Other rows that the items of a table may have: moved by a few, from last to first, in another order of the ids.

Owns the candidates and their comparison. A table whose rows belong to other items looks like noise, or nearly: where
neighbouring ids are alike, a table moved by one keeps a part of its signal, so that a test for noise alone passes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.cooccurrence import Excess, ItemPairs, Rows, directions, excess
from rectest.checks.rowsource import RowSource
from rectest.checks.tolerance import z_limit

__all__ = ["MAX_SHIFT", "Alignment", "alignments", "best_other", "better", "excess_at"]

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

MAX_SHIFT = 8
SCREENED_PAIRS = 20_000

TIE = 1.0
"""Deviations by which a candidate must surpass an earlier one: the smallest of several equal shifts is named."""

MIN_SIGMAS = 5.0
"""Deviations of a signal in other rows; of some forty candidates, one of noise gets there once in 1e5 tables."""

BETTER_ERRORS = 8.0
"""Standard errors by which other rows must fit the pairs better than rows that fit them, too. They are those of noise,
and the difference varies up to 2.5 times as much between tables with signal: in 2,000 sound tables of contiguous groups
of like items, where a shift changes least, it was at most 3.9 (tests/checks/test_alignment.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """One way to find the row of an item."""

    words: str
    """What is wrong with the table if its signal is here."""

    rows: Ints
    """int64[N]: the row to read instead of each row; outside of the table where there is none."""


def alignments(own: Ints, num_rows: int, orders: Mapping[str, Ints] | None = None) -> Iterator[Alignment]:
    """Every candidate for the rows `own` of a table of `num_rows`, the same ones in the same order whatever `own` is.

    Args:
        own: int64[N] the rows that the id map gives.
        num_rows: rows of the table.
        orders: int64[num_rows] the row in another order of the ids, by what that order is; -1 where an id has none.

    >>> [a.words for a in alignments(np.arange(1, 4), 4)][:2]
    ['row i holds item i-1, the rows stand 1 too high', 'row i holds item i+1, the rows stand 1 too low']
    """
    for size in range(1, min(MAX_SHIFT, num_rows - 1) + 1):
        yield Alignment(words=f"row i holds item i-{size}, the rows stand {size} too high", rows=own + size)
        yield Alignment(words=f"row i holds item i+{size}, the rows stand {size} too low", rows=own - size)
    others = {"the rows are in the order of the ids from last to first": num_rows - own}
    others |= {f"the rows are in the order of {name}": rows[own] for name, rows in (orders or {}).items()}
    for words, rows in others.items():
        for shift, moved in ((0, ""), (1, ", and 1 too high"), (-1, ", and 1 too low")):
            yield Alignment(words=words + moved, rows=np.where(rows < 0, -1, rows + shift))


def excess_at(source: RowSource, pairs: ItemPairs, rows: Ints | None = None) -> Excess:
    """The excess of pairs of rows, each read from `rows` [N] instead; rows outside of the table count as zero."""
    wanted = pairs.items if rows is None else rows
    inside = (wanted >= 0) & (wanted < source.shape[0])
    found: Rows = np.zeros((len(wanted), source.shape[1]), dtype=np.float32)
    found[inside] = directions(source.take(wanted[inside]))
    return excess(pairs, found)


def best_other(
    source: RowSource, pairs: ItemPairs, orders: Mapping[str, Ints] | None = None
) -> tuple[Alignment, Excess] | None:
    """The candidate of the largest excess in deviations, found on some of the pairs and measured on all of them."""
    some, best, most = pairs.thinned(SCREENED_PAIRS), -1, 0.0
    for place, candidate in enumerate(alignments(some.items, source.shape[0], orders)):
        sigmas = excess_at(source, some, candidate.rows).sigmas
        if sigmas > most + TIE * (best >= 0):
            best, most = place, sigmas
    if best < 0:
        return None
    chosen = next(islice(alignments(pairs.items, source.shape[0], orders), best, None))
    return chosen, excess_at(source, pairs, chosen.rows)


def better(other: Excess, own: Excess) -> bool:
    """Whether the signal of the pairs is in other rows: in those alone, or there by far the stronger one."""
    if own.sigmas <= z_limit():
        return other.sigmas > MIN_SIGMAS
    error = float(np.hypot(own.deviation, other.deviation))
    return other.sigmas > MIN_SIGMAS and other.excess - own.excess > BETTER_ERRORS * error
