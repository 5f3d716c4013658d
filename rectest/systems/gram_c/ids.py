"""Hierarchical item ids: a few codes per item, so that items of one taste share the first of them.

Ids come from training interactions alone: items are placed by the users they share and are cut into groups of equal
size, level by level. No two items have one id. How an id is written is in `text`; the tree of all ids is in `trie`.

Shapes: V items (ids 1..V, row 0 is padding and has no id), U users, C codes per level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.data.interactions import Sequences, digest_arrays
from rectest.errors import DataError

__all__ = ["ItemIds", "assign_ids", "balanced_groups", "item_vectors"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_VECTOR_SIZE = 16
_ROUNDS = 8
"""Of the k-means; the groups of these few points settle sooner."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ItemIds:
    """The codes of every item."""

    codes: IntArray
    """[V+1, levels] 0..C-1; row 0 is the padding's and means nothing."""

    num_codes: int

    def __post_init__(self) -> None:
        real = self.codes[1:]
        if self.codes.ndim != 2 or not real.size or real.min() < 0 or real.max() >= self.num_codes:
            msg = f"codes must be [V+1, levels] in 0..{self.num_codes - 1}, got {self.codes.shape}"
            raise DataError(msg)

    @property
    def num_items(self) -> int:
        return len(self.codes) - 1

    @property
    def num_levels(self) -> int:
        return int(self.codes.shape[1])

    @property
    def num_distinct(self) -> int:
        """How many different ids there are; `num_items` unless two items share one."""
        return len(np.unique(self.codes[1:], axis=0))

    def digest(self) -> str:
        """One digest of all codes."""
        return digest_arrays([("codes", self.codes)])


def assign_ids(vectors: FloatArray, rng: np.random.Generator, *, num_levels: int, num_codes: int) -> ItemIds:
    """Ids by balanced hierarchical k-means over the rows of `vectors` [V+1, size]; all distinct.

    Raises:
        DataError: there are more items than ids.
    """
    num_items = len(vectors) - 1
    if num_items > num_codes**num_levels:
        msg = f"{num_items} items need more ids than {num_levels} levels of {num_codes} codes give; raise num_codes"
        raise DataError(msg)
    codes = np.zeros((num_items + 1, num_levels), dtype=np.int64)
    groups = [np.arange(1, num_items + 1)]
    for level in range(num_levels):
        parts: list[IntArray] = []
        for group in groups:
            codes[group, level] = own = balanced_groups(vectors[group], num_codes, rng)
            parts += [group[own == code] for code in range(int(own.max()) + 1)]
        groups = [part for part in parts if len(part)]
    return ItemIds(codes=codes, num_codes=num_codes)


def balanced_groups(points: FloatArray, num_groups: int, rng: np.random.Generator) -> IntArray:
    """[n] the group of each point: k-means in which no group holds more than ceil(n / num_groups) points."""
    num = len(points)
    if num <= num_groups:
        return np.arange(num)
    centres = points[rng.permutation(num)[:num_groups]]
    groups = np.zeros(num, dtype=np.int64)
    for _ in range(_ROUNDS):
        distances = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
        groups = _nearest_with_room(distances, room=-(-num // num_groups))
        sizes = np.bincount(groups, minlength=num_groups)
        sums = np.zeros_like(centres)
        np.add.at(sums, groups, points)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return groups


def _nearest_with_room(distances: FloatArray, *, room: int) -> IntArray:
    """Closest pairs of point and group first, until each point has a group; full groups take no more."""
    num, num_groups = distances.shape
    groups, left, missing = np.full(num, -1), [room] * num_groups, num
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        point, group = divmod(pair, num_groups)
        if groups[point] < 0 and left[group]:
            groups[point] = group
            left[group] -= 1
            missing -= 1
            if not missing:
                break
    return groups.astype(np.int64)


def item_vectors(train: Sequences, num_items: int) -> FloatArray:
    """[V+1, size] where items stand by the users they share: the first eigenvectors of their normalised overlap.

    An item without a training event stands at zero, like the padding.
    """
    seen = np.zeros((len(train), num_items + 1))
    seen[train.owners(), train.items] = 1.0
    by_user, by_item = (np.maximum(seen.sum(axis=axis), 1.0) for axis in (1, 0))
    spread = seen / np.sqrt(by_user)[:, None] / np.sqrt(by_item)[None]
    values, vectors = np.linalg.eigh(spread.T @ spread)
    # The first eigenvector only says how popular an item is.
    kept = slice(max(0, len(values) - 1 - _VECTOR_SIZE), len(values) - 1)
    placed: FloatArray = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
    lengths = np.linalg.norm(placed, axis=1, keepdims=True)
    unit: FloatArray = np.zeros_like(placed)
    np.divide(placed, lengths, out=unit, where=lengths > 1e-9)
    return unit
