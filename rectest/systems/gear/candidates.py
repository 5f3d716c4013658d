"""The items a target is ranked among, and the cache that must never hand out those of other data.

Drawn once, kept for every evaluation, and a part of the protocol rather than of a run: every seed is judged on the
same ones. The original of report 004 pickled them under a name made of the sampler and its size, so that changed data
or another seed was evaluated with the old ones; here the key covers everything that they depend on.

Shapes: U users, N negatives a user, C = 1 + N candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rectest.errors import DataError
from rectest.seeding import SeedPlan

__all__ = ["CandidateCache", "CandidateKey", "draw_candidates", "seen_candidates"]

IntArray = npt.NDArray[np.int64]

_PROTOCOL = SeedPlan(root=20_251_104).child("eval_candidates")


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateKey:
    """Everything that candidates depend on."""

    data: str
    """Digest of the log and of the users, in evaluation order."""

    split: str
    num_drawn: int
    sampler: str = "uniform"
    seed: int = _PROTOCOL.root

    @property
    def digest(self) -> str:
        """The name under which they are kept: 32 hex digits over all fields."""
        fields = (self.data, self.split, self.num_drawn, self.sampler, self.seed)
        return hashlib.blake2b("\n".join(map(str, fields)).encode(), digest_size=16).hexdigest()


@dataclass(kw_only=True)
class CandidateCache:
    """Drawn candidates by key: in memory, and in files of `folder` where one is given."""

    folder: Path | None = None
    _kept: dict[str, IntArray] = field(default_factory=dict, init=False, repr=False)

    def get(self, key: CandidateKey, draw: Callable[[], IntArray]) -> IntArray:
        """A copy of what is kept under `key`, else of what `draw` gives, which is kept from now on.

        Raises:
            DataError: the file of that key cannot be read as a table of item ids.
        """
        name = self.name(key)
        if name not in self._kept:
            path = None if self.folder is None else self.folder / f"{name}.npy"
            self._kept[name] = _load(path) if path is not None and path.exists() else _drawn(draw, path)
        return self._kept[name].copy()

    def name(self, key: CandidateKey) -> str:
        """What candidates are found by again."""
        return key.digest


def draw_candidates(
    own: Sequence[IntArray], targets: IntArray, *, num_items: int, num_drawn: int, split: str
) -> IntArray:
    """[U, 1 + N] distinct items: `num_drawn` uniform ones that the user never touched, the target at a random slot.

    Args:
        own: per user, every item of theirs in any part of the log; repeats and order do not matter.
        targets: [U] the item of the row that is asked for.
        split: names the stream that is drawn from; each user has a stream of their own below it, so that a user's
            candidates do not depend on who else is evaluated.

    Raises:
        DataError: a user has touched so many items that fewer than `num_drawn` are left.
    """
    rows = np.empty((len(own), 1 + num_drawn), dtype=np.int64)
    for row, touched in enumerate(own):
        rng = _PROTOCOL.rng(f"{split}/{row}")
        negatives = _untouched(rng, np.unique(touched), num_items=num_items, num_drawn=num_drawn, row=row)
        rows[row] = rng.permutation(np.append(negatives, targets[row]))
    return rows


def _untouched(rng: np.random.Generator, own: IntArray, *, num_items: int, num_drawn: int, row: int) -> IntArray:
    """Distinct items outside of the sorted `own`: draw their ranks among the others, then step over what is owned."""
    num_others = num_items - len(own)
    if num_others < num_drawn:
        problem = f"evaluated user {row} leaves {num_others} items to draw {num_drawn} candidates from"
        raise DataError(problem, hint="lower eval_candidates, or set it to null for the full catalogue")
    ranks = rng.choice(num_others, num_drawn, replace=False, shuffle=False)
    others_before = own - 1 - np.arange(len(own))
    items: IntArray = 1 + ranks + np.searchsorted(others_before, ranks, side="right")
    return items


def seen_candidates(candidates: IntArray, own: Sequence[IntArray], targets: IntArray) -> int:
    """How many slots hold something that the user touched: the target's own slot does not count, its repeats do.

    >>> seen_candidates(np.array([[3, 5, 4], [3, 3, 7]]), [np.array([3, 4]), np.array([3])], np.array([4, 3]))
    2
    """
    touched = (np.isin(row, items) for row, items in zip(candidates, own, strict=True))
    extra = sum(int(found.sum()) for found in touched)
    return extra - int((candidates == targets[:, None]).any(axis=1).sum())


def _drawn(draw: Callable[[], IntArray], path: Path | None) -> IntArray:
    rows = draw()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial.npy")
        np.save(partial, rows, allow_pickle=False)
        partial.replace(path)
    return rows


def _load(path: Path | None) -> IntArray:
    assert path is not None
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        problem = f"no readable table of candidates: {e}"
        raise DataError(problem, path=path, hint="delete the file") from e
    if rows.ndim != 2 or rows.dtype != np.int64:
        problem = f"candidates are int64 [U, C], found {rows.dtype} {list(rows.shape)}"
        raise DataError(problem, path=path, hint="delete the file")
    return np.asarray(rows)
