"""`Interactions` (a validated event log) and `Sequences` (the same events, per user, in time order).

Dense ids only: users are 0..U-1, items are 1..V and item 0 is padding. Raw ids live in `idmap`, files in `readers`.
Arrays are copied on the way in and read-only afterwards, so that nobody can move the data under a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectest.errors import DataError

__all__ = ["Filtered", "Interactions", "Sequences", "digest_arrays"]

_Ints = NDArray[np.int64]


def digest_arrays(named: Iterable[tuple[str, NDArray[Any] | None]]) -> str:
    """BLAKE2b over name, dtype, shape and bytes of each array, as ``blake2b:<32 hex digits>``; order matters."""
    state = hashlib.blake2b(digest_size=16)
    for name, array in named:
        if array is None:
            state.update(f"{name}:absent;".encode())
            continue
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        state.update(f"{name}:{little.dtype.str}:{little.shape};".encode())
        state.update(little.tobytes())
    return f"blake2b:{state.hexdigest()}"


def _integers(name: str, values: ArrayLike) -> _Ints:
    """A read-only int64 copy of a one-dimensional integer array; floats are refused, not rounded."""
    array = np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = f"{name} must be a one-dimensional integer array, got {array.dtype} of shape {array.shape}"
        raise TypeError(msg)
    if array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63:
        msg = f"{name} holds {int(array.max())}, which does not fit int64"
        raise DataError(msg)
    return _frozen(array.astype(np.int64, copy=True))


def _floats(name: str, values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        msg = f"{name} must be a one-dimensional float array, got {array.dtype} of shape {array.shape}"
        raise TypeError(msg)
    copied = array.astype(np.float32, copy=True)
    copied.setflags(write=False)
    return copied


def _frozen(array: _Ints) -> _Ints:
    array.setflags(write=False)
    return array


def _check_range(name: str, array: _Ints, low: int, high: int) -> None:
    """All of `array` in low..high, or a DataError that names the first row outside."""
    outside = (array < low) | (array > high)
    if outside.any():
        row = int(np.argmax(outside))
        msg = f"{name} {int(array[row])} at row {row} is outside {low}..{high}"
        raise DataError(msg)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Interactions:
    """A log of (user, item) events with optional columns; row order is file order and means nothing but tie order."""

    user: _Ints
    item: _Ints
    num_users: int
    num_items: int
    """How many items exist, padding not counted; the largest legal item id."""
    time: _Ints | None = None
    rating: NDArray[np.float32] | None = None
    behaviour: _Ints | None = None
    """Kind of event, 1 or more; 0 is padding."""

    def __post_init__(self) -> None:
        for name in ("user", "item", "time", "behaviour"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, _integers(name, values))
        if self.rating is not None:
            object.__setattr__(self, "rating", _floats("rating", self.rating))
        self._check()

    def _check(self) -> None:
        if len(self.user) == 0:
            msg = "an interaction log needs at least one event, found none"
            raise DataError(msg)
        for name, column in self._columns():
            if column is not None and len(column) != len(self.user):
                msg = f"column {name} has {len(column)} rows where user has {len(self.user)}"
                raise DataError(msg)
        _check_range("user", self.user, 0, self.num_users - 1)
        _check_range("item", self.item, 1, self.num_items)
        if self.behaviour is not None:
            _check_range("behaviour", self.behaviour, 1, 2**63 - 1)
        if self.rating is not None and not np.isfinite(self.rating).all():
            row = int(np.argmin(np.isfinite(self.rating)))
            msg = f"rating {self.rating[row]} at row {row} is not finite"
            raise DataError(msg)

    def _columns(self) -> tuple[tuple[str, NDArray[Any] | None], ...]:
        names = ("user", "item", "time", "rating", "behaviour")
        return tuple((name, getattr(self, name)) for name in names)

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: NDArray[np.bool_] | _Ints) -> Interactions:
        """The rows of a boolean mask or an index array, with the same id spaces; no row left is a DataError."""
        picked = {name: None if column is None else column[rows] for name, column in self._columns()}
        return Interactions(**picked, num_users=self.num_users, num_items=self.num_items)  # type: ignore[arg-type]

    def sequences(self) -> Sequences:
        """Each user's items in time order; equal times keep file order, and without times file order is used."""
        keys = (self.user,) if self.time is None else (self.time, self.user)
        order = np.lexsort(keys)
        offsets = np.zeros(self.num_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.user, minlength=self.num_users), out=offsets[1:])
        time = None if self.time is None else self.time[order]
        return Sequences(items=self.item[order], offsets=offsets, time=time)

    def item_counts(self) -> _Ints:
        """How often each item occurs, int64[V+1]; the padding counts 0."""
        return np.bincount(self.item, minlength=self.num_items + 1).astype(np.int64)

    def user_counts(self) -> _Ints:
        """How many events each user has, int64[U]."""
        return np.bincount(self.user, minlength=self.num_users).astype(np.int64)

    def digest(self) -> str:
        """One digest of all columns and both sizes; equal logs in equal row order have equal digests."""
        sizes = np.array([self.num_users, self.num_items], dtype=np.int64)
        return digest_arrays([("sizes", sizes), *self._columns()])

    def filter_min_count(self, *, users: int = 5, items: int = 5) -> Filtered:
        """Drop users and items with fewer events than asked, again and again until nobody is below.

        One pass is not enough: dropping an item can push a user below the limit. What is left is re-indexed densely,
        in the old order. Raises DataError when nothing is left.
        """
        keep = np.ones(len(self), dtype=bool)
        while True:
            by_user = np.bincount(self.user[keep], minlength=self.num_users)
            by_item = np.bincount(self.item[keep], minlength=self.num_items + 1)
            after = keep & (by_user[self.user] >= users) & (by_item[self.item] >= items)
            if int(after.sum()) == int(keep.sum()):
                return self._reindexed(keep, users=users, items=items)
            keep = after

    def _reindexed(self, keep: NDArray[np.bool_], *, users: int, items: int) -> Filtered:
        if not keep.any():
            msg = f"no event is left after asking for {users} events per user and {items} per item"
            raise DataError(msg)
        kept_users, new_user = np.unique(self.user[keep], return_inverse=True)
        kept_items, new_item = np.unique(self.item[keep], return_inverse=True)
        rest = {name: None if column is None else column[keep] for name, column in self._columns()[2:]}
        dense = Interactions(
            user=new_user,
            item=new_item + 1,
            num_users=len(kept_users),
            num_items=len(kept_items),
            **rest,
        )
        return Filtered(interactions=dense, kept_users=_frozen(kept_users), kept_items=_frozen(kept_items))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Filtered:
    """A re-indexed log and where its ids come from."""

    interactions: Interactions
    kept_users: _Ints
    """Old user index of each new user 0..U'-1; feed it to `IdMap.take`."""
    kept_items: _Ints
    """Old item index of each new item 1..V' (position 0 is new item 1); feed it to `IdMap.take`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sequences:
    """Item lists of all users in one flat array: user u owns ``items[offsets[u]:offsets[u + 1]]``.

    A user may have no items (a split can leave nothing); an item is never 0.

    >>> sequences = Sequences.from_lists([[3, 1], [], [2]])
    >>> len(sequences), sequences[0].tolist(), sequences.lengths.tolist()
    (3, [3, 1], [2, 0, 1])
    """

    items: _Ints
    offsets: _Ints
    """int64[U+1], rising from 0 to the number of items."""
    time: _Ints | None = None

    def __post_init__(self) -> None:
        for name in ("items", "offsets", "time"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, _integers(name, values))
        self._check()

    def _check(self) -> None:
        if len(self.offsets) < 2:
            msg = "sequences need at least one user, found none"
            raise DataError(msg)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items) or (np.diff(self.offsets) < 0).any():
            msg = f"offsets must rise from 0 to {len(self.items)}, got {self.offsets[0]}..{self.offsets[-1]}"
            raise DataError(msg)
        if self.time is not None and len(self.time) != len(self.items):
            msg = f"time has {len(self.time)} entries where items has {len(self.items)}"
            raise DataError(msg)
        _check_range("item", self.items, 1, 2**63 - 1)

    @classmethod
    def from_lists(cls, lists: Iterable[ArrayLike]) -> Sequences:
        """One item list per user, in user order; DataError when there is no user at all."""
        arrays = [_integers("items", values) for values in lists]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        return cls(items=np.concatenate([np.zeros(0, dtype=np.int64), *arrays]), offsets=offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> _Ints:
        if not 0 <= user < len(self):
            msg = f"user {user} is outside 0..{len(self) - 1}"
            raise IndexError(msg)
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def __iter__(self) -> Iterator[_Ints]:
        return (self[user] for user in range(len(self)))

    @property
    def lengths(self) -> _Ints:
        """How many items each user has, int64[U]."""
        return np.diff(self.offsets)

    def positions(self) -> _Ints:
        """Position of every item within its own user's list, int64[N], from 0."""
        return np.arange(len(self.items)) - np.repeat(self.offsets[:-1], self.lengths)

    def owners(self) -> _Ints:
        """The user of every item, int64[N]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def keep(self, mask: NDArray[np.bool_]) -> Sequences:
        """The items of a flat mask over all items, with every user kept, even those left without items."""
        offsets = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.owners()[mask], minlength=len(self)), out=offsets[1:])
        time = None if self.time is None else self.time[mask]
        return Sequences(items=self.items[mask], offsets=offsets, time=time)

    def users(self, index: Sequence[int] | _Ints) -> Sequences:
        """The lists of the given users, in the given order."""
        chosen = np.asarray(index, dtype=np.int64)
        if len(chosen):
            _check_range("user", chosen, 0, len(self) - 1)
        lengths = self.lengths[chosen]
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        flat = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(self.offsets[chosen], lengths)
        time = None if self.time is None else self.time[flat]
        return Sequences(items=self.items[flat], offsets=offsets, time=time)

    def digest(self) -> str:
        """One digest of items, offsets and times."""
        return digest_arrays([("items", self.items), ("offsets", self.offsets), ("time", self.time)])
