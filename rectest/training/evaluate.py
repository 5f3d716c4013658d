"""Counts ranks of scores in torch, block by block, without ever holding the whole score matrix.

Scores on the CPU lend their memory to `rectest.metrics.counting`. Scores on an accelerator are counted there, against
the same `Targets` and into the same `ranks_from_counts`; a test holds both ways equal. Owns nothing about modes or
gradients of a model: the caller puts it into evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rectest.errors import MetricError
from rectest.metrics.counting import RowCounter, refuse_nonfinite, row_chunks
from rectest.metrics.lists import Ints, ItemLists
from rectest.metrics.ranks import Ranks, as_targets, ranks_from_counts
from rectest.metrics.targets import TargetBlock, Targets

__all__ = ["count_ranks"]

_BUFFER_BYTES = 256 << 20
"""On an accelerator few and large kernels are what counts."""

_EXACT_IN_FLOAT32 = 1 << 24

_NUMPY_DTYPES = (torch.float32, torch.float64)


@torch.no_grad()
def count_ranks(
    score_block: Callable[[slice], Tensor],
    num_rows: int,
    relevant: ItemLists | Targets,
    *,
    excluded: ItemLists | None = None,
    candidates: npt.ArrayLike | None = None,
    block_rows: int = 1024,
) -> Ranks:
    """Rank the relevant items of `num_rows` users whose scores `score_block(slice)` computes, block by block.

    Scores are [rows, V+1] over the catalogue (column 0, the padding, and `excluded` items never count), or [rows, C]
    for `candidates` int[num_rows, C]; the lists, and what may go wrong, are those of `rectest.metrics.rank_targets`.
    Scores may have any floating dtype and are compared in it, so ties that low precision makes are ties here:
    look at `tie_share`. Every block costs one transfer from the device: its counts and the range of its scores.
    `block_rows` bounds the memory (rows times columns of the scores; on the CPU, scores of less than float32 are
    widened to it) and changes no rank.
    """
    if block_rows < 1:
        msg = f"block_rows must be at least 1, got {block_rows}"
        raise ValueError(msg)
    targets = as_targets(relevant, num_rows=num_rows, excluded=excluded, candidates=candidates)
    if targets.num_rows != num_rows:
        msg = f"the targets are of {targets.num_rows} rows, expected {num_rows}"
        raise ValueError(msg)
    if num_rows < 1:
        msg = "there are no users to evaluate; look at the split"
        raise MetricError(msg)
    counts = np.empty((2, len(targets.row)), dtype=np.int64)
    counter = _Counter(targets.first_column)
    width = -1
    for start in range(0, num_rows, block_rows):
        stop = min(start + block_rows, num_rows)
        scores = score_block(slice(start, stop)).detach()
        _check_shape(scores, stop - start, width=width)
        if width < 0:
            width = scores.shape[1]
            targets.check_width(width)
        block = targets.block(start, stop)
        counter.block(scores, block, start=start, out=counts[:, block.position])
    return ranks_from_counts(targets, counts, num_columns=width)


def _check_shape(scores: Tensor, num_rows: int, *, width: int) -> None:
    if scores.ndim != 2 or len(scores) != num_rows or width not in (-1, scores.shape[1]):
        columns = "columns" if width < 0 else width
        msg = f"score_block must return [{num_rows}, {columns}] scores for this block, got {list(scores.shape)}"
        raise ValueError(msg)
    if not scores.is_floating_point():
        msg = f"scores must be floating point, got {scores.dtype}"
        raise ValueError(msg)


class _Counter:
    """Counts every block where its scores are, and keeps the buffers of the comparisons between blocks."""

    def __init__(self, first_column: int) -> None:
        self._first_column = first_column
        self._on_host: dict[np.dtype[Any], RowCounter] = {}
        self._on_device = _DeviceCounter(first_column)

    def block(self, scores: Tensor, block: TargetBlock, *, start: int, out: Ints) -> None:
        """Write the candidates above, and at least as high as, each target of a block to int64[2, T]."""
        if _lends_memory(scores):
            # float32 holds every value of the shorter types, so that neither order nor ties change.
            array = (scores if scores.dtype in _NUMPY_DTYPES else scores.float()).numpy(force=True)
            if array.dtype not in self._on_host:
                counter = RowCounter(array.shape[1], array.dtype, first_column=self._first_column)
                self._on_host[array.dtype] = counter
            self._on_host[array.dtype].block(array, block, start=start, out=out)
        else:
            out[...] = self._on_device.block(scores, block, start=start)


def _lends_memory(scores: Tensor) -> bool:
    return scores.device.type == "cpu"


class _DeviceCounter:
    """Counts in torch, with one transfer from the device for each block."""

    def __init__(self, first_column: int) -> None:
        self._first_column = first_column
        self._flags = torch.empty(0)

    def block(self, scores: Tensor, block: TargetBlock, *, start: int) -> Ints:
        """int64[2, T]: candidates above, and at least as high as, each target of a block."""
        row, column = (torch.from_numpy(index).to(scores.device) for index in (block.row, block.column))
        mine = scores[row, column]
        candidates = scores[:, self._first_column :]
        counts = torch.zeros((2, len(mine)), dtype=torch.int64, device=scores.device)
        rows_at_once = self._rows_at_once(candidates)
        for these, rows in row_chunks(block.row, rows_at_once):
            against = candidates[rows] if isinstance(rows, slice) else candidates.index_select(0, row[these])
            flags = self._flags[: len(against)]
            counts[0, these] = torch.gt(against, mine[these, None], out=flags).sum(1)
            counts[1, these] = torch.ge(against, mine[these, None], out=flags).sum(1)
        _take_back_ignored(scores, block, mine, counts)
        # A NaN or infinity makes the sum NaN or infinite, so one sum clears almost every block.
        wide = torch.promote_types(scores.dtype, torch.float32)
        totals = torch.stack([part.sum(dtype=wide) for part in torch.split(candidates, rows_at_once)])
        finite = torch.isfinite(totals).all().to(torch.int64)
        obtained: Ints = torch.cat((counts.flatten(), finite[None])).cpu().numpy()
        if not obtained[-1]:
            _refuse_bad_candidates(scores, block, start=start, first_column=self._first_column)
        return obtained[:-1].reshape(2, -1)

    def _rows_at_once(self, candidates: Tensor) -> int:
        """How many targets to compare at once; makes the buffer for them.

        A comparison written as 0.0 and 1.0 adds up several times faster than booleans, and is as exact.
        """
        width = candidates.shape[1]
        if self._flags.shape[1:] != (width,) or self._flags.device != candidates.device:
            dtype = torch.float32 if width <= _EXACT_IN_FLOAT32 else torch.float64
            most = max(1, _BUFFER_BYTES // (width * dtype.itemsize))
            self._flags = torch.empty((most, width), dtype=dtype, device=candidates.device)
        return len(self._flags)


def _take_back_ignored(scores: Tensor, block: TargetBlock, mine: Tensor, counts: Tensor) -> None:
    """Uncount the excluded items and empty slots: they are few, so no copy of the scores is masked for them."""
    pairs = block.pairs()
    if not len(pairs[0]):
        return
    target, column = (torch.from_numpy(index).to(scores.device) for index in pairs)
    row = torch.from_numpy(block.row).to(scores.device)
    ignored, against = scores[row[target], column], mine[target]
    counts[0].index_add_(0, target, (ignored > against).to(torch.int64), alpha=-1)
    counts[1].index_add_(0, target, (ignored >= against).to(torch.int64), alpha=-1)


def _refuse_bad_candidates(scores: Tensor, block: TargetBlock, *, start: int, first_column: int) -> None:
    """Raise if a candidate is among the scores that are not finite; seen items set to minus infinity may be."""
    ignored = block.ignored_mask(scores.shape[1], first_column=first_column)
    refuse_nonfinite(~torch.isfinite(scores).cpu().numpy() & ~ignored, first_row=start)
