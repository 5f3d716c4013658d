"""`RowSet`: which rows of a large table are outside of a limit, in bounded memory.

Owns the counting and the text; what is outside is decided by the judges, which find rows a stretch at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RowSet"]

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

MAX_RANGES = 1000
"""As many as `rectest.checks.result.places` writes."""


class RowSet:
    """Row numbers that are added in ascending order; all are counted, the first ranges are kept."""

    def __init__(self) -> None:
        self.num = 0
        self._ranges: list[list[int]] = []
        self._cut = False

    @classmethod
    def of(cls, rows: Ints) -> RowSet:
        """The set of these rows, in any order."""
        made = cls()
        made.add(np.sort(rows))
        return made

    def add(self, rows: Ints) -> None:
        """Take in ascending rows, all beyond those that are here."""
        if not len(rows):
            return
        self.num += len(rows)
        if self._cut:
            return
        ends = np.append(np.flatnonzero(np.diff(rows) != 1), len(rows) - 1)[: MAX_RANGES + 2]
        starts = np.append(0, ends[:-1] + 1)
        for first, last in zip(rows[starts].tolist(), rows[ends].tolist(), strict=True):
            if self._ranges and first == self._ranges[-1][1] + 1:
                self._ranges[-1][1] = last
            elif len(self._ranges) < MAX_RANGES:
                self._ranges.append([first, last])
            else:
                self._cut = True
                return

    def __bool__(self) -> bool:
        return self.num > 0

    @property
    def first(self) -> int:
        """The lowest row; IndexError where there is none."""
        return self._ranges[0][0]

    def head(self, num: int = 5) -> str:
        """The first few rows, with an ellipsis where there are more.

        >>> rows = RowSet.of(np.array([9, 3, 4]))
        >>> rows.head(2), rows.places
        ('3, 4, ...', '3-4, 9')
        """
        shown: list[int] = []
        for low, high in self._ranges:
            shown += range(low, min(high + 1, low + num - len(shown)))
            if len(shown) == num:
                break
        return ", ".join([*map(str, shown), *(["..."] if self.num > len(shown) else [])])

    @property
    def places(self) -> str:
        """All rows as `rectest.checks.result.places` writes them."""
        texts = [f"{low}" if low == high else f"{low}-{high}" for low, high in self._ranges]
        return ", ".join([*texts, f"... ({self.num} in all)"] if self._cut else texts)
