"""The data side of report 000: who is trained and evaluated, training batches, sampled negatives, evaluation sets.

Positions (which users, cut where) and negatives come from two random streams, so that neither can move the other.
The published iterator shares one global stream with everything else in the process.

Shapes: B batch, L history positions, S negatives, V items (0 is padding), U users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.data.negatives import LogUniformNegatives
from rectest.data.split import split_users
from rectest.data.worlds import World
from rectest.errors import DataError, WorldError
from rectest.seeding import SeedPlan
from rectest.systems.protocol import EvalSet

__all__ = [
    "Position",
    "UserData",
    "evaluation_set",
    "fixed_positions",
    "negative_samples",
    "prepare_users",
    "random_positions",
    "training_inputs",
]

IntArray = npt.NDArray[np.int64]

HISTORY_SHARE = 0.8
"""Share of an evaluated user's events that is history; the rest is to be recommended."""

_SPLIT = SeedPlan(root=0).child("comirec")
"""The split is part of the data, not of the training: a gate compares code, so all seeds share their users."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Position:
    """What one training step looks at: user `user[i]` is asked for the item at index `cut[i]` of its sequence."""

    user: IntArray
    cut: IntArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UserData:
    """A world prepared for training on some users and evaluation on others."""

    sequences: Sequences
    train: IntArray
    """Users in rising order; like `valid` and `test`, only those with enough events."""
    valid: IntArray
    test: IntArray
    popularity: IntArray
    """[V+1] events of the training users."""
    sampler: LogUniformNegatives
    users: IdMap
    items: IdMap

    @property
    def num_items(self) -> int:
        return len(self.popularity) - 1

    @property
    def num_classes_out_of_order(self) -> int:
        """Sampler classes that are more popular than the class before; a log-uniform law needs 0 of them."""
        ranked = self.popularity[self.sampler.order[self.sampler.order > 0]]
        return int((np.diff(ranked) > 0).sum())


def prepare_users(
    world: World, *, min_history: int, batch_size: int, sampler_order: str = "popularity", sample_padding: bool = False
) -> UserData:
    """Split the users with more than `min_history` events 80/10/10 and count popularity on the training users.

    Raises:
        WorldError: nobody has enough events, a split is left without users, or a batch needs more users than there are.
    """
    sequences = world.interactions.sequences()
    eligible = np.flatnonzero(sequences.lengths > min_history)
    if len(eligible) == 0:
        longest = int(sequences.lengths.max())
        raise WorldError(world.name, f"no user has {min_history + 1} events, the longest has {longest}")
    try:
        split = split_users(len(eligible), _SPLIT.rng("split"))
    except DataError as e:
        raise WorldError(world.name, f"of the users with {min_history + 1} events or more, {e}") from e
    train, valid, test = eligible[split.train], eligible[split.valid], eligible[split.test]
    if batch_size > len(train):
        problem = f"a batch of {batch_size} distinct users needs as many training users, found {len(train)}"
        raise WorldError(world.name, f"{problem}; lower batch_size")
    popularity = np.bincount(sequences.users(train).items, minlength=world.num_items + 1).astype(np.int64)
    return UserData(
        sequences=sequences,
        train=train,
        valid=valid,
        test=test,
        popularity=popularity,
        sampler=_sampler(popularity, order=sampler_order, with_padding=sample_padding),
        users=world.users,
        items=world.items,
    )


def _sampler(popularity: IntArray, *, order: str, with_padding: bool) -> LogUniformNegatives:
    """Classes from the most to the least often seen item, or simply by id; the padding, if any, is class 0."""
    num_items = len(popularity) - 1
    if order == "id":
        return LogUniformNegatives.by_raw_id(num_items, with_padding=with_padding)
    ranked = LogUniformNegatives.by_popularity(popularity)
    if not with_padding:
        return ranked
    return LogUniformNegatives(order=np.concatenate([[0], ranked.order]), num_items=num_items)


def random_positions(
    data: UserData, *, batch_size: int, min_history: int, rng: np.random.Generator
) -> Iterator[Position]:
    """Endless: distinct users drawn uniformly (not by length), each cut uniformly in min_history..length-1."""
    lengths = data.sequences.lengths
    while True:
        user = rng.choice(data.train, size=batch_size, replace=False)
        yield Position(user=user, cut=rng.integers(min_history, lengths[user]))


def fixed_positions(data: UserData, *, batch_size: int) -> Iterator[Position]:
    """Endless, for debugging: training users in rising order, round and round, each cut before the last item."""
    start = 0
    while True:
        user = np.take(data.train, np.arange(start, start + batch_size), mode="wrap")
        yield Position(user=user, cut=data.sequences.lengths[user] - 1)
        start = (start + batch_size) % len(data.train)


def training_inputs(sequences: Sequences, position: Position, *, history_length: int) -> dict[str, Tensor]:
    """The model's input at a position: user [B], target [B], and the last items before the cut with their mask."""
    starts = sequences.offsets[position.user]
    inputs = _history_inputs(sequences, position.user, position.cut, history_length)
    target = sequences.items[starts + position.cut]
    return {"user": torch.from_numpy(position.user), "target": torch.from_numpy(target), **inputs}


def _history_inputs(sequences: Sequences, user: IntArray, cut: IntArray, history_length: int) -> dict[str, Tensor]:
    """Right-padded item ids [B, L] and their mask: the last `history_length` items before each cut."""
    index_BL = np.maximum(cut - history_length, 0)[:, None] + np.arange(history_length)
    real_BL = index_BL < cut[:, None]
    flat_BL = np.where(real_BL, sequences.offsets[user][:, None] + index_BL, 0)
    history_BL = np.where(real_BL, sequences.items[flat_BL], 0)
    return {"history": torch.from_numpy(history_BL), "mask": torch.from_numpy(real_BL.astype(np.float32))}


def negative_samples(
    sampler: LogUniformNegatives, *, num_sampled: int, rng: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """Endless: `item` [S], distinct, and `log_expected` [V+1] for the log-Q correction.

    More negatives than classes are all classes. Items that are no class (the padding, usually) have `log_expected` 0.
    """
    drawable = sampler.probability() > 0
    while True:
        sampled = sampler.draw(rng, min(num_sampled, sampler.num_classes))
        log_expected = np.log(np.where(drawable, sampled.expected_count, 1.0))
        yield {
            "item": torch.from_numpy(sampled.ids),
            "log_expected": torch.from_numpy(log_expected.astype(np.float32)),
        }


def evaluation_set(data: UserData, split: str, *, history_length: int, exclude_seen: bool) -> EvalSet:
    """The users of ``valid`` or ``test``: the first 80 % of their events as history, the distinct items after it.

    With `exclude_seen`, items of the history are neither recommended nor relevant, which can leave a user without
    relevant items. The horizon is the median number of events after the history. ValueError for another split.
    """
    if split not in ("valid", "test"):
        msg = f"split must be valid or test, got {split!r}"
        raise ValueError(msg)
    users: IntArray = getattr(data, split)
    cuts = (HISTORY_SHARE * data.sequences.lengths[users]).astype(np.int64)
    pairs = [(data.sequences[user], int(cut)) for user, cut in zip(users, cuts, strict=True)]
    histories: Sequence[IntArray] = [items[:cut] for items, cut in pairs]
    relevant = [np.unique(items[cut:]) for items, cut in pairs]
    if exclude_seen:
        relevant = [np.setdiff1d(items, seen) for items, seen in zip(relevant, histories, strict=True)]
    return EvalSet(
        split=split,
        users=users,
        histories=histories,
        relevant=relevant,
        inputs=_history_inputs(data.sequences, users, cuts, history_length),
        excluded=histories if exclude_seen else None,
        horizon=int(np.median([len(items) - cut for items, cut in pairs])),
    )
