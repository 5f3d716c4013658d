"""Splits: of users, of each user's own sequence, and of a log by time.

Whatever the kind, the parts are disjoint, together they are everything, and inside one user nothing in a later part
happened before anything in an earlier one. A user with too few events stays in the training part whole; how many of
them there are is reported (`num_short`), never hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rectest.data.interactions import Interactions, Sequences
from rectest.errors import DataError

__all__ = [
    "LeaveOut",
    "RatioSplit",
    "TemporalSplit",
    "UserSplit",
    "leave_last_out",
    "leave_two_out",
    "ratio_split",
    "split_users",
    "temporal_split",
]

_Ints = NDArray[np.int64]
_Fractions = tuple[float, float, float]

_THIRDS: _Fractions = (0.8, 0.1, 0.1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UserSplit:
    """Three disjoint sets of users, each in rising order."""

    train: _Ints
    valid: _Ints
    test: _Ints


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LeaveOut:
    """What is trained on, and one target per user and split; 0 where a user has none."""

    train: Sequences
    valid: _Ints
    """[U]; all 0 after `leave_last_out`."""
    test: _Ints
    """[U]."""
    num_short: int
    """Users with too few events for a target, kept in `train` whole."""

    def history(self, split: Literal["valid", "test"]) -> Sequences:
        """All that may be known of each user when the target of `split` is predicted, oldest first."""
        if split == "valid":
            return self.train
        if split != "test":
            msg = f"split must be 'valid' or 'test', got {split!r}"
            raise ValueError(msg)
        known = [np.append(items, self.valid[user : user + 1]) for user, items in enumerate(self.train)]
        return Sequences.from_lists([items[items > 0] for items in known])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RatioSplit:
    """Every user's sequence cut in three; a part may be empty for a user."""

    train: Sequences
    valid: Sequences
    test: Sequences
    num_short: int
    """Users whose training share rounds to nothing, kept in `train` whole."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TemporalSplit:
    """A log cut at two moments: train is before the first, test is from the second on."""

    train: Interactions
    valid: Interactions
    test: Interactions
    boundaries: tuple[int, int]


def _checked(fractions: _Fractions) -> _Fractions:
    positive = len(fractions) == 3 and fractions[0] > 0 and min(fractions) >= 0
    if not positive or abs(sum(fractions) - 1.0) > 1e-9:
        msg = f"fractions must be three shares >= 0 that sum to 1 with some for training, got {fractions}"
        raise ValueError(msg)
    return fractions


def _cuts(total: int | _Ints, fractions: _Fractions) -> tuple[_Ints, _Ints]:
    """floor(total * f0) and floor(total * (f0 + f1)); the slack keeps 10 * 0.3 at 3."""
    size = np.asarray(total, dtype=np.float64)
    first = np.floor(size * fractions[0] + 1e-9).astype(np.int64)
    second = np.floor(size * (fractions[0] + fractions[1]) + 1e-9).astype(np.int64)
    return first, second


def split_users(num_users: int, rng: np.random.Generator, fractions: _Fractions = _THIRDS) -> UserSplit:
    """Shuffle the users and cut them at floor(U f0) and floor(U (f0 + f1)).

    DataError when a part that was asked for would be empty, as with a single user.
    """
    first, second = (int(cut) for cut in _cuts(num_users, _checked(fractions)))
    order = rng.permutation(num_users).astype(np.int64)
    parts = (order[:first], order[first:second], order[second:])
    for name, part, fraction in zip(("train", "valid", "test"), parts, fractions, strict=True):
        if fraction > 0 and len(part) == 0:
            msg = f"{num_users} users are too few for a {name} share of {fraction:g}: it would be empty"
            raise DataError(msg)
    return UserSplit(train=np.sort(parts[0]), valid=np.sort(parts[1]), test=np.sort(parts[2]))


def leave_last_out(sequences: Sequences) -> LeaveOut:
    """The last item of each user is the test target; users with one event stay in training."""
    return _leave_out(sequences, 1)


def leave_two_out(sequences: Sequences) -> LeaveOut:
    """The last item is the test target, the one before it the valid target; users with < 3 events stay in training."""
    return _leave_out(sequences, 2)


def _leave_out(sequences: Sequences, held: int) -> LeaveOut:
    lengths = sequences.lengths
    enough = lengths > held
    if not enough.any():
        msg = f"no user has the {held + 1} events that leaving {held} out needs (the most is {lengths.max()})"
        raise DataError(msg)
    from_end = np.repeat(lengths, lengths) - sequences.positions()
    kept = (from_end > held) | ~enough[sequences.owners()]
    targets = np.zeros((held, len(sequences)), dtype=np.int64)
    for back in range(1, held + 1):
        targets[back - 1, enough] = sequences.items[sequences.offsets[1:][enough] - back]
    return LeaveOut(
        train=sequences.keep(kept),
        valid=targets[1] if held == 2 else np.zeros(len(sequences), dtype=np.int64),
        test=targets[0],
        num_short=int((~enough).sum()),
    )


def ratio_split(sequences: Sequences, fractions: _Fractions = _THIRDS) -> RatioSplit:
    """Cut each user's n items at floor(n f0) and floor(n (f0 + f1))."""
    first, second = _cuts(sequences.lengths, _checked(fractions))
    short = first == 0
    first, second = (np.where(short, sequences.lengths, cut) for cut in (first, second))
    position = sequences.positions()
    owner = sequences.owners()
    train = position < first[owner]
    test = position >= second[owner]
    if not test.any() and fractions[2] > 0:
        msg = f"no user has enough events for a test share of {fractions[2]:g} (the most is {sequences.lengths.max()})"
        raise DataError(msg)
    return RatioSplit(
        train=sequences.keep(train),
        valid=sequences.keep(~train & ~test),
        test=sequences.keep(test),
        num_short=int((short & (sequences.lengths > 0)).sum()),
    )


def temporal_split(interactions: Interactions, fractions: _Fractions = _THIRDS) -> TemporalSplit:
    """Cut the whole log at two moments, so that about the given shares of events lie before them.

    Events of one moment are never separated: all that happened at a boundary goes to the later part. DataError without
    times, or when that rule leaves a part empty.
    """
    time = interactions.time
    if time is None:
        msg = "a temporal split needs a time column, found none"
        raise DataError(msg)
    first, second = _cuts(len(interactions), _checked(fractions))
    ordered = np.append(np.sort(time), time.max() + 1)
    start, end = int(ordered[int(first)]), int(ordered[int(second)])
    masks = {"train": time < start, "valid": (time >= start) & (time < end), "test": time >= end}
    for name, mask in masks.items():
        if not mask.any():
            msg = f"the {name} part would be empty: too many of the {len(time)} events share the times {start} or {end}"
            raise DataError(msg)
    parts = {name: interactions.select(mask) for name, mask in masks.items()}
    return TemporalSplit(**parts, boundaries=(start, end))
