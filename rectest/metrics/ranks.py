"""`Ranks` of relevant items, and how they follow from scores in memory.

Owns the tie rule. The counting, and the refusal of scores that are not finite, are in `counting.py`;
`rectest.training.evaluate` counts the same on an accelerator, and ends in the same `ranks_from_counts`. The metrics
made of ranks are in `ranking.py`.

The rank of a target counts all candidates of its row, the row's other relevant items among them, so that the usual
list metrics follow from ranks alone. Ties: within a group of `n` candidates with equal scores, `a` of them relevant,
behind `above` better ones, the relevant items take `a` of the `n` places at random. The i-th best of them (i from 1)
gets its mean place, `above + i (n + 1) / (a + 1)`; at best `above + i`; at worst `above + n - a + i`. With one
relevant item that is the familiar `#(>) + (#(=) + 1) / 2`, `#(>) + 1` and `#(>=)`. Relevant items that tie only with
each other have no uncertainty, since which of them comes first changes no metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.errors import MetricError, RecordError
from rectest.metrics.counting import RowCounter, Scores, refuse_nonfinite
from rectest.metrics.lists import Ints, ItemLists
from rectest.metrics.targets import Targets

__all__ = ["Ranks", "as_targets", "rank_slots", "rank_targets", "ranks_from_counts", "refuse_nonfinite"]

Floats = npt.NDArray[np.float64]
_BLOCK_BYTES = 64 << 20
"""Targets are looked up for about so many bytes of scores at once; it never changes a rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """One row for each relevant item that was ranked; a user without a row had no relevant item."""

    user: Ints
    """int64[T], 0..num_users-1: the place of the user in the evaluated list, not an id."""
    expected: Floats
    """float64[T], from 1: the mean rank over all orders of tied candidates."""
    optimistic: Ints
    """int64[T]: the rank if every tie falls in the user's favour."""
    pessimistic: Ints
    num_candidates: Ints
    """int64[T]: how many candidates the item was ranked among, itself included."""
    num_users: int
    """Evaluated users, those without a relevant item included."""

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS.items():
            array = getattr(self, name)
            if array.shape != self.user.shape or array.ndim != 1 or array.dtype != dtype:
                msg = f"{name} must be {np.dtype(dtype)}[{len(self.user)}], got {array.dtype}{list(array.shape)}"
                raise ValueError(msg)
        if len(self.user) and not 0 <= self.user.min() <= self.user.max() < self.num_users:
            msg = f"users must be in 0..{self.num_users - 1}, got {self.user.min()}..{self.user.max()}"
            raise ValueError(msg)
        # Written so that a NaN, which compares false, is refused too.
        good = (
            (self.optimistic >= 1)
            & (self.optimistic <= self.expected)
            & (self.expected <= self.pessimistic)
            & (self.pessimistic <= self.num_candidates)
        )
        if not good.all():
            worst = int(np.argmin(good))
            msg = (
                f"row {worst}: ranks must be finite with 1 <= optimistic <= expected <= pessimistic <= number of "
                f"candidates, got {self.optimistic[worst]}, {self.expected[worst]}, {self.pessimistic[worst]} of "
                f"{self.num_candidates[worst]}; whoever counted these ranks is wrong"
            )
            raise MetricError(msg)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def num_relevant(self) -> Ints:
        """int64[num_users]: ranked relevant items of each user; 0 for a user who has none."""
        return np.bincount(self.user, minlength=self.num_users)

    @property
    def candidates_per_user(self) -> Ints:
        """int64[num_users]: candidates of each user; 0 for a user without relevant items."""
        per_user = np.zeros(self.num_users, dtype=np.int64)
        per_user[self.user] = self.num_candidates
        return per_user

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """The columns under `prefix/user`, `prefix/expected`, ...; `num_users` is not among them."""
        return {key: getattr(self, name) for name, key in _keys(prefix).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], prefix: str, *, num_users: int) -> Ranks:
        """The ranks that `to_arrays` wrote; a missing column is a `RecordError`."""
        keys = _keys(prefix)
        missing = sorted(key for key in keys.values() if key not in arrays)
        if missing:
            msg = f"the arrays {', '.join(missing)} are missing, so there are no ranks to judge; record them again"
            raise RecordError(msg)
        return cls(num_users=num_users, **{name: np.asarray(arrays[key]) for name, key in keys.items()})


_COLUMNS: Mapping[str, Any] = {
    "user": np.int64,
    "expected": np.float64,
    "optimistic": np.int64,
    "pessimistic": np.int64,
    "num_candidates": np.int64,
}


def _keys(prefix: str) -> dict[str, str]:
    return {name: f"{prefix.rstrip('/')}/{name}" for name in _COLUMNS}


def rank_targets(
    scores: Scores,
    relevant: ItemLists | Targets,
    *,
    excluded: ItemLists | None = None,
    candidates: npt.ArrayLike | None = None,
    block_rows: int | None = None,
) -> Ranks:
    """Rank the relevant items of every row of saved scores.

    Without `candidates` the scores are float[B, V+1] over the catalogue: column 0 is the padding and never counts,
    `excluded` items of a row (seen ones) do not count either, unless they are relevant. With `candidates`, int[B, C]
    item ids, the scores are float[B, C] in the same places, empty slots (0) do not count, and every relevant item
    must stand there once. Scores of whoever does not count may be anything; a NaN or infinite score of a candidate is
    a `MetricError`. Scores are compared in their own type. `block_rows` bounds the memory and changes no result.
    """
    targets = as_targets(relevant, num_rows=len(scores), excluded=excluded, candidates=candidates)
    if scores.ndim != 2 or scores.dtype.kind != "f" or len(scores) != targets.num_rows:
        msg = f"scores must be float[{targets.num_rows}, columns], got {scores.dtype}{list(scores.shape)}"
        raise ValueError(msg)
    targets.check_width(scores.shape[1])
    step = block_rows or max(1, _BLOCK_BYTES // (scores.shape[1] * scores.itemsize))
    counter = RowCounter(scores.shape[1], scores.dtype, first_column=targets.first_column)
    counts = np.empty((2, len(targets.row)), dtype=np.int64)
    for start in range(0, len(scores), step):
        part = scores[start : start + step]
        block = targets.block(start, start + len(part))
        counter.block(part, block, start=start, out=counts[:, block.position])
    return ranks_from_counts(targets, counts, num_columns=scores.shape[1])


def rank_slots(scores: Scores, slot: npt.ArrayLike, *, block_rows: int | None = None) -> Ranks:
    """Rank the one target in column `slot` (int[B]; -1 for none) of each row of float[B, C], all of them candidates."""
    return rank_targets(scores, Targets.slots(slot, num_columns=scores.shape[-1]), block_rows=block_rows)


def as_targets(
    relevant: ItemLists | Targets,
    *,
    num_rows: int,
    excluded: ItemLists | None,
    candidates: npt.ArrayLike | None,
) -> Targets:
    """`relevant` itself if it is prepared already, and otherwise the `Targets` of the protocol that is asked for."""
    if isinstance(relevant, Targets):
        if excluded is not None or candidates is not None:
            msg = "prepared Targets know their excluded and candidate items; pass either them or the lists"
            raise ValueError(msg)
        return relevant
    if candidates is None:
        return Targets.full(relevant, num_rows=num_rows, excluded=excluded)
    if excluded is not None:
        msg = "excluded items and candidate lists do not go together; leave seen items out of the candidates"
        raise ValueError(msg)
    return Targets.within(candidates, relevant)


def ranks_from_counts(targets: Targets, counts: Ints, *, num_columns: int) -> Ranks:
    """Ranks from int64[2, T]: how many candidates of its row score above, and at least as much as, each target.

    The counts are used up: they become columns of the ranks.
    """
    above, at_least = counts
    if not (at_least > above).all():
        msg = f"row {targets.row[int((at_least <= above).argmax())]}: a target was not counted among its own candidates"
        raise MetricError(msg)
    # Written into arrays that are there already: to get memory for new ones costs more than what is done in it.
    if _one_a_row(targets.row):
        expected = np.add(above, at_least, dtype=np.float64)
        expected += 1
        expected /= 2
        above += 1
    else:
        place, num_tied_relevant = _places_within_ties(targets.row, above)
        expected = (at_least - above + 1) * place / (num_tied_relevant + 1) + above
        above += place
        at_least += place - num_tied_relevant
    return Ranks(
        user=targets.row,
        expected=expected,
        optimistic=above,
        pessimistic=at_least,
        num_candidates=targets.num_candidates(num_columns),
        num_users=targets.num_rows,
    )


def _one_a_row(row: Ints) -> bool:
    return bool((row[1:] > row[:-1]).all())


def _places_within_ties(row: Ints, above: Ints) -> tuple[Ints, Ints]:
    """The place (from 1) of each target among the relevant items it ties with, and how many those are.

    Within a row the same count above means the same score, so ties are found without looking at scores again.
    """
    order = np.lexsort((above, row))
    starts = np.flatnonzero(np.diff(row[order], prepend=-1) | np.diff(above[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    place = np.empty_like(row)
    size = np.empty_like(row)
    place[order] = np.arange(1, len(order) + 1) - np.repeat(starts, sizes)
    size[order] = np.repeat(sizes, sizes)
    return place, size
