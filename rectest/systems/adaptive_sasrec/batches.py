"""The prepared data and the batches drawn from it.

At every position the newest known item predicts the next one, against one negative. Users are drawn without
replacement within an epoch, and an epoch is cut into batches of nearly equal size, so that every user counts once
per epoch and no batch is a handful of leftovers. Order and negatives have streams of their own.

Shapes: B batch, L sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.data.split import LeaveOut, leave_two_out
from rectest.data.worlds import World
from rectest.errors import DataError, WorldError
from rectest.systems.adaptive_sasrec.negatives import NegativeSchedule
from rectest.systems.protocol import Batch

__all__ = ["SASRecData", "draw_batches", "left_padded", "prepare", "user_batches"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SASRecData:
    """A world split by leave-two-out and indexed for training."""

    world: str
    num_items: int
    items: IdMap
    split: LeaveOut
    counts: IntArray
    """[V+1] training events per item."""

    repeats: bool
    """Whether some user has the same item twice, so that a seen item may be the relevant one."""

    users: IntArray
    """[T] dense ids of the users with at least two training events."""

    sequence: IntArray
    """[T, L] left-padded inputs."""

    positives: IntArray
    """[T, L] the item after each input; 0 exactly where the input is padding."""


def prepare(world: World, *, max_length: int) -> SASRecData:
    """Split the world and build the training windows: the newest `max_length` transitions of each user.

    Raises:
        WorldError: no user has three events to hold two out of, or none has a transition left to train on.
    """
    sequences = world.interactions.sequences()
    try:
        split = leave_two_out(sequences)
    except DataError as e:
        raise WorldError(world.name, str(e)) from e
    users = np.flatnonzero(split.train.lengths >= 2)
    if len(users) == 0:
        raise WorldError(world.name, "no user has two training events; one of at least four events is needed")
    windows = left_padded(split.train.users(users), max_length + 1)
    positives = np.where(windows[:, :-1] > 0, windows[:, 1:], 0)
    return SASRecData(
        world=world.name,
        num_items=world.num_items,
        items=world.items,
        split=split,
        counts=np.bincount(split.train.items, minlength=world.num_items + 1).astype(np.int64),
        repeats=any(len(np.unique(items)) < len(items) for items in sequences),
        users=users.astype(np.int64),
        sequence=windows[:, :-1],
        positives=positives,
    )


def left_padded(sequences: Sequences, width: int) -> IntArray:
    """[U, width] the newest `width` items of each user, right-aligned, with zeros before them."""
    padded = np.zeros((len(sequences), width), dtype=np.int64)
    column = width - np.repeat(sequences.lengths, sequences.lengths) + sequences.positions()
    fits = column >= 0
    padded[sequences.owners()[fits], column[fits]] = sequences.items[fits]
    return padded


def user_batches(num_users: int, batch_size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Endless batches of row numbers: each epoch is a fresh permutation cut into ceil(U / batch_size) parts."""
    num_batches = -(-num_users // batch_size)
    while True:
        yield from np.array_split(rng.permutation(num_users), num_batches)


def draw_batches(
    data: SASRecData,
    schedule: NegativeSchedule,
    *,
    batch_size: int,
    exclude_own: bool,
    order: np.random.Generator,
    negatives: np.random.Generator,
) -> Iterator[Batch]:
    """Endless batches; `order` and `negatives` are the streams that they are drawn from."""
    own = data.split.train.users(data.users)
    for step, rows in enumerate(user_batches(len(data.users), batch_size, order), start=1):
        positives = data.positives[rows]
        exclude = own.users(rows) if exclude_own else None
        drawn = schedule.sampler(step).sample(negatives, positives.shape, exclude=exclude)
        yield Batch(
            inputs={
                "sequence": torch.from_numpy(data.sequence[rows]),
                "positives": torch.from_numpy(positives),
            },
            negatives={"items": torch.from_numpy(np.where(positives > 0, drawn, 0))},
        )
