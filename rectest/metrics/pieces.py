"""Counts in NumPy, where the compiled `_row_counts` was not built or the scores are not of its kinds.

Everything happens in pieces that stay in a core's cache, so that only the first look at a piece waits for memory:
one sum of the scores, in which a NaN or infinity shows, then two comparisons, then the sums of their 0/1 results.
Which of two ways that goes depends on the width, and changes no count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.metrics.lists import Ints
from rectest.metrics.targets import TargetBlock

__all__ = ["PieceCounter"]

Scores = npt.NDArray[np.floating[Any]]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

PIECE_BYTES = 7 << 18
"""Scores are looked at in pieces of about this size."""

_BYTE_SUM = 255
"""As many 0/1 bytes add up within one byte."""

_LANES = 8 * _BYTE_SUM
"""As many 0/1 bytes can be added as words of 8 bytes before one of the 8 lanes overflows."""

_WORD_BITS = 64
_ALL_BITS = np.uint64(2**64 - 1)

_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_ADD_PAIRS = np.uint64(0x0001000100010001)


class PieceCounter:
    """Counts block after block of scores of one width and type, and keeps its buffers between them."""

    def __init__(self, width: int, dtype: np.dtype[Any], *, first_column: int) -> None:
        kind = _NarrowRows if width <= _BYTE_SUM else _WideRows
        self._num_rows = max(1, PIECE_BYTES // (width * dtype.itemsize))
        self._rows = kind(self._num_rows, width, dtype, first_column=first_column)
        self._look_at_each = False

    def count(self, scores: Scores, block: TargetBlock, out: Ints) -> int:
        """As `_row_counts.count_rows`: fill `out`, int64[2, T], and return how many candidates are not finite."""
        num_bad = 0
        with np.errstate(over="ignore", invalid="ignore"):
            self._rows.begin(scores, block, out)
            for rows, parts in self._pieces(block):
                num_bad += self._num_bad(rows)
                for these, first_row in parts:
                    self._rows.count(these, first_row)
            self._rows.end()
        return num_bad

    def _pieces(self, block: TargetBlock) -> Iterator[tuple[slice, list[tuple[slice, int]]]]:
        """Rows that are looked at together, and their targets in parts (with the row of the first of each)."""
        starts = np.arange(0, block.num_rows, self._num_rows)
        bounds = np.append(np.searchsorted(block.row, starts), len(block.row))
        cuts = np.union1d(bounds, self._rows.cuts(block.row))
        slices = map(slice, cuts[:-1].tolist(), cuts[1:].tolist())
        parts = list(zip(slices, block.row[cuts[:-1]].tolist(), strict=True))
        inner = np.searchsorted(cuts, bounds).tolist()
        for start, low, high in zip(starts.tolist(), inner[:-1], inner[1:], strict=True):
            yield slice(start, start + self._num_rows), parts[low:high]

    def _num_bad(self, rows: slice) -> int:
        """How many scores of a piece are not finite, the padding's not counted.

        A NaN or infinity makes a sum NaN or infinite, so one sum clears almost every piece. After a piece that it
        did not clear the next one is looked at directly: such scores are marks, and stand everywhere.
        """
        if not self._look_at_each and math.isfinite(self._rows.total(rows)):
            return 0
        num_bad = self._rows.num_bad(rows)
        self._look_at_each = num_bad > 0
        return num_bad


class _WideRows:
    """Rows of many candidates, compared row by row with their targets.

    The 0/1 bytes of a comparison are added as words of 8, then the 8 lanes of each word: that reads them at the speed
    of memory, where `sum` on booleans converts each of them to an int64 first.
    """

    def __init__(self, num_rows: int, width: int, dtype: np.dtype[Any], *, first_column: int) -> None:
        self._first_column = first_column
        self._wider = np.promote_types(dtype, np.float32)
        width -= first_column
        self._num_groups = max(1, -(-width // _LANES))
        num_words = -(-width // (8 * self._num_groups))
        flags = np.zeros((2, num_rows, self._num_groups * num_words * 8), dtype=bool)
        self._above, self._at_least = flags[:, :, :width]
        self._words = flags.view(np.uint64).reshape(2, num_rows, self._num_groups, num_words)

    def begin(self, scores: Scores, block: TargetBlock, out: Ints) -> None:
        """Take a block; the lanes of all its targets are kept, since adding them up piece by piece would cost more."""
        self._mine = scores[block.row, block.column, None]
        self._scores = scores[:, self._first_column :]
        self._out = out
        self._lanes = np.empty((*out.shape, self._num_groups), dtype=np.uint64)

    def cuts(self, row: Ints) -> Ints:
        """Where targets must be parted: rows of a part follow each other, so that scores are compared in place."""
        return np.flatnonzero(np.diff(row) != 1) + 1

    def total(self, rows: slice) -> float:
        """The sum of a piece; einsum's plain loop is twice as fast as the pairwise one of `sum`."""
        piece = self._scores[rows]
        return float(np.einsum("ij->", piece) if piece.dtype == self._wider else piece.sum(dtype=self._wider))

    def num_bad(self, rows: slice) -> int:
        piece = self._scores[rows]
        np.isfinite(piece, out=self._above[: len(piece)])
        return piece.size - int(_sum_lanes(np.add.reduce(self._words[0, : len(piece)], axis=2)).sum())

    def count(self, these: slice, first_row: int) -> None:
        num = these.stop - these.start
        against, mine = self._scores[first_row : first_row + num], self._mine[these]
        np.greater(against, mine, out=self._above[:num])
        np.greater_equal(against, mine, out=self._at_least[:num])
        np.add.reduce(self._words[:, :num], axis=3, out=self._lanes[:, these])

    def end(self) -> None:
        self._out[...] = _sum_lanes(self._lanes)


class _NarrowRows:
    """Rows of few candidates, compared as one long row with every target repeated for each of its candidates.

    To begin a row costs NumPy as much as to compare a hundred scores, so that it pays to have only one. The results
    are packed into bits, and the bits of a row are those before its end without those before its start. Where as many
    scores are equal as there are targets, each ties with itself alone.
    """

    def __init__(self, num_rows: int, width: int, dtype: np.dtype[Any], *, first_column: int) -> None:
        self._first_column = first_column
        self._num_rows, self._width = num_rows, width
        self._repeated = np.empty((num_rows, width), dtype=dtype)
        self._flags = np.zeros((2, self._num_bits(num_rows)), dtype=bool)
        bounds = np.arange(0, (num_rows + 1) * width, width)
        self._starts, self._word = bounds[:-1], bounds // _WORD_BITS
        self._not_before = _ALL_BITS << (bounds % _WORD_BITS).astype(np.uint64)

    def _num_bits(self, num_rows: int) -> int:
        """Bits of the words that hold those of so many rows, and the one after them."""
        return (num_rows * self._width // _WORD_BITS + 1) * _WORD_BITS

    def begin(self, scores: Scores, block: TargetBlock, out: Ints) -> None:
        """Take a block, whose counts go to `out`."""
        self._scores, self._block, self._out = scores, block, out

    def cuts(self, row: Ints) -> Ints:
        """Where targets must be parted: no more of them than the buffers hold."""
        return np.arange(0, len(row), self._num_rows)

    def total(self, rows: slice) -> float:
        """The sum of squares of a piece, with the padding's scores unless one of those is not finite."""
        flat = self._scores[rows].reshape(-1)
        total = float(np.dot(flat, flat))
        return total if math.isfinite(total) else float(np.einsum("ij->", self._scores[rows, self._first_column :]))

    def num_bad(self, rows: slice) -> int:
        piece = self._scores[rows, self._first_column :]
        return piece.size - int(np.count_nonzero(np.isfinite(piece)))

    def count(self, these: slice, first_row: int) -> None:
        row, column, (above, at_least) = self._block.row[these], self._block.column[these], self._out[:, these]
        num = len(row)
        consecutive = num == row[-1] - first_row + 1 and bool((row[1:] > row[:-1]).all())
        against = self._scores[first_row : first_row + num] if consecutive else self._scores[row]
        flat, repeated = against.reshape(-1), self._repeated[:num]
        # The scores are in the cache by now; gathered for a whole block they would be waited for one by one.
        mine = flat.take(self._starts[:num] + column)
        repeated[...] = mine[:, None]
        np.greater(flat, repeated.reshape(-1), out=self._flags[0, : flat.size])
        np.equal(flat, repeated.reshape(-1), out=self._flags[1, : flat.size])
        words = np.packbits(self._flags[:, : self._num_bits(num)], axis=1, bitorder="little").view("<u8")
        num_in_word = np.bitwise_count(words)
        above[...] = self._in_each_row(words[0], num_in_word[0], num)
        alone = num_in_word[1].sum() == num
        np.add(above, 1 if alone else self._in_each_row(words[1], num_in_word[1], num), out=at_least)
        for padding in range(self._first_column):
            above -= against[:, padding] > mine
            at_least -= against[:, padding] >= mine

    def _in_each_row(self, words: Words, num_in_word: Bytes, num_rows: int) -> Bytes:
        """uint8[num_rows]: how many bits of each row are set.

        A row has no more than a byte can count, so that sums of bytes may overflow: their differences are right.
        """
        word = self._word[: num_rows + 1]
        before = np.add.accumulate(num_in_word, dtype=np.uint8).take(word)
        before -= np.bitwise_count(words.take(word) & self._not_before[: num_rows + 1])
        return before[1:] - before[:-1]

    def end(self) -> None:
        """Nothing is left to do: every part was written when it was counted."""


def _sum_lanes(lanes: npt.NDArray[np.uint64]) -> Ints:
    """The sum of all bytes of uint64[..., words], of which each may be 255."""
    pairs = (lanes & _EVEN_BYTES) + ((lanes >> np.uint64(8)) & _EVEN_BYTES)
    total: Ints = ((pairs * _ADD_PAIRS) >> np.uint64(48)).sum(axis=-1).astype(np.int64)
    return total
