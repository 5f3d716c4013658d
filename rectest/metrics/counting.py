"""`RowCounter`: how many candidates of its row score above, and at least as much as, each target.

Owns who counts, the compiled `_row_counts` or `pieces.py` in NumPy, and the refusal of scores that are not finite. Both
ways count the same, which a test holds. What the counts mean is `ranks.py`; who competes with whom is `targets.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.errors import MetricError
from rectest.metrics.lists import Ints
from rectest.metrics.pieces import PieceCounter
from rectest.metrics.targets import TargetBlock

__all__ = ["RowCounter", "Scores", "refuse_nonfinite", "row_chunks"]

Scores = npt.NDArray[np.floating[Any]]

count_rows: Callable[..., int] | None
"""The compiled count; None where it was not built, which costs time and changes nothing else."""
try:
    from rectest.metrics._row_counts import count_rows
except ImportError:
    count_rows = None


class RowCounter:
    """Counts block after block of scores of one width and type."""

    def __init__(self, width: int, dtype: np.dtype[Any], *, first_column: int) -> None:
        self._width, self._dtype, self._first_column = width, dtype, first_column
        self._pieces: PieceCounter | None = None

    def block(self, scores: Scores, block: TargetBlock, *, start: int, out: Ints) -> None:
        """Write, for each target of the rows from `start` on, the candidates above and those at least as high.

        `out` is int64[2, T]. The score of a candidate that is not finite is a `MetricError`, also in a row without
        targets.
        """
        num_bad = self._count(scores, block, out)
        if num_bad and num_bad != _num_bad_ignored(scores, block):
            ignored = block.ignored_mask(scores.shape[1], first_column=self._first_column)
            refuse_nonfinite(~np.isfinite(scores) & ~ignored, first_row=start)
        if len(block.ignored_row):
            _take_back_ignored(scores, block, out)

    def _count(self, scores: Scores, block: TargetBlock, out: Ints) -> int:
        """Fill `out`, and return how many scores from the first column on are not finite."""
        if count_rows is not None and _is_plain(scores):
            row, column = (np.ascontiguousarray(index, dtype=np.int64) for index in (block.row, block.column))
            return count_rows(scores, row, column, out, self._first_column)
        if self._pieces is None:
            self._pieces = PieceCounter(self._width, self._dtype, first_column=self._first_column)
        return self._pieces.count(scores, block, out)


def _is_plain(scores: Scores) -> bool:
    """Whether the compiled count takes such scores: of a C type, each row's side by side."""
    if not isinstance(scores, np.ndarray):
        return False
    native = scores.dtype.char in "fd" and scores.dtype.isnative and scores.flags.aligned
    return native and scores.strides[1] == scores.itemsize


def refuse_nonfinite(bad: npt.NDArray[np.bool_], *, first_row: int) -> None:
    """Raise `MetricError` if any of bool[rows, columns] marks the score of a candidate that is not finite."""
    if bad.any():
        row, column = (int(index[0]) for index in np.nonzero(bad))
        msg = (
            f"scores of {int(bad.sum())} candidates are NaN or infinite, first in row {first_row + row}, column "
            f"{column}; such scores compare as if the target had won, so nothing is ranked: look at what diverged"
        )
        raise MetricError(msg)


def row_chunks(row: Ints, num_rows: int) -> Iterator[tuple[slice, slice | Ints]]:
    """Targets in chunks of at most `num_rows`; consecutive rows come as a slice, which copies nothing."""
    for start in range(0, len(row), max(1, num_rows)):
        rows = row[start : start + num_rows]
        consecutive = bool((np.diff(rows) == 1).all())
        yield slice(start, start + len(rows)), slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else rows


def _num_bad_ignored(scores: Scores, block: TargetBlock) -> int:
    ignored = scores[block.ignored_row, block.ignored_column]
    return len(ignored) - int(np.count_nonzero(np.isfinite(ignored)))


def _take_back_ignored(scores: Scores, block: TargetBlock, counts: Ints) -> None:
    """Uncount the excluded items and empty slots: they are few, so no copy of the scores is masked for them."""
    target, column = block.pairs()
    ignored, mine = scores[block.row[target], column], scores[block.row, block.column][target]
    for out, compare in zip(counts, (np.greater, np.greater_equal), strict=True):
        out -= np.bincount(target[compare(ignored, mine)], minlength=len(out))
