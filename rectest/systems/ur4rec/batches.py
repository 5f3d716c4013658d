"""The prepared data and the batches drawn from it.

Worlds with ratings are cut down to the positive ones first. Then each user's sequence is split: the last two items
are held out (``leave_two_out``), or, as in report 001, the last item of its first 80 % is the training target, the
last of its first 90 % the valid one and its very last the test one (``ratio``). Negatives are drawn from what was
seen in training only: an id without a training event is never trained, so that everybody beats it.

The retriever's targets are a user's newest training items, and its text and memory tell only of those before them.
A text that names its targets teaches the retriever to look for names, which are never there in evaluation.

Shapes: B batch, L sequence, P predicted places, R picked targets, K negatives, U users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.data.negatives import UniformNegatives
from rectest.data.world import World
from rectest.errors import DataError, WorldError
from rectest.systems.adaptive_sasrec.batches import left_padded, user_batches
from rectest.systems.protocol import Batch
from rectest.systems.ur4rec.config import UR4RecConfig

__all__ = ["HeldOut", "UR4RecData", "draw_batches", "hold_out", "positive_rows", "positive_sequences", "prepare"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_MIN_POSITIVE = 4.0
_MIN_EVENTS = 5
_FRACTIONS = (0.8, 0.9)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOut:
    """Where each user's sequence is cut: how many items training knows, and where the two targets are."""

    sequences: Sequences
    num_train: IntArray
    """[U] the first so many items are for training."""

    valid: IntArray
    """[U] position of the target; -1 for a user without one."""

    test: IntArray

    @property
    def train(self) -> Sequences:
        """What training knows."""
        kept = self.sequences.positions() < np.repeat(self.num_train, self.sequences.lengths)
        return self.sequences.keep(kept)

    def place(self, split: str) -> IntArray:
        """[U] position of the target of ``valid`` or ``test``."""
        return self.valid if split == "valid" else self.test


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UR4RecData:
    """A world, split and indexed for training."""

    world: str
    num_users: int
    num_items: int
    items: IdMap
    words: tuple[tuple[str, ...], ...]
    held_out: HeldOut
    train: Sequences
    counts: IntArray
    """[V+1] training events per item."""

    users: IntArray
    """[T] dense ids of the users that are trained on, those with two training events at least."""

    sequence: IntArray
    """[T, L] left-padded inputs."""

    positives: IntArray
    """[T, P] what each of the last P places should predict; 0 where the place is padding."""

    told: Sequences
    """Training items of each user before the retriever's targets: what its text and its memory may tell of."""

    picked: IntArray
    """[T, R] the retriever's targets, the newest training items; 0 where a user has too few."""

    pool: IntArray
    """Item ids that negatives and candidates are drawn from, rising."""


def positive_rows(world: World) -> BoolArray:
    """[N] the events that count: all, or with ratings those of at least 4 by users that have five of them."""
    log = world.interactions
    if log.rating is None:
        return np.ones(len(log), dtype=bool)
    liked = log.rating >= _MIN_POSITIVE
    enough = np.bincount(log.user[liked], minlength=log.num_users) >= _MIN_EVENTS
    return liked & enough[log.user]


def positive_sequences(world: World) -> Sequences:
    """Each user's positive events in time order; users without any keep their place.

    Raises:
        WorldError: no event counts.
    """
    try:
        return world.interactions.select(positive_rows(world)).sequences()
    except DataError as e:
        problem = f"no user has {_MIN_EVENTS} ratings of at least {_MIN_POSITIVE:g}, which positive events need"
        raise WorldError(world.name, problem) from e


def hold_out(sequences: Sequences, *, split: str) -> HeldOut:
    """Where to cut; a user with too few events keeps all of them in training.

    Report 001's cut at 80 % and 90 % gives a user with fewer than ten events the same target twice; here the valid
    target is at least one item after the training items, and the test target one after that.
    """
    lengths = sequences.lengths
    if split == "ratio":
        train, valid = (np.floor(lengths * fraction + 1e-9).astype(np.int64) for fraction in _FRACTIONS)
        valid = np.maximum(valid, train + 1)
    else:
        train, valid = lengths - 2, lengths - 1
    enough = (train >= 1) & (valid < lengths)
    return HeldOut(
        sequences=sequences,
        num_train=np.where(enough, train, lengths),
        valid=np.where(enough, valid - 1, -1),
        test=np.where(enough, lengths - 1, -1),
    )


def prepare(world: World, config: UR4RecConfig) -> UR4RecData:
    """Split the world and build the training windows: the newest `max_length` transitions of each user.

    Raises:
        WorldError: no user has an item to hold out, or none has a transition left to train on.
    """
    held_out = hold_out(positive_sequences(world), split=config.split)
    if not (held_out.valid >= 0).any():
        raise WorldError(world.name, "no user has enough (positive) events to hold two out; three are needed")
    train = held_out.train
    users = np.flatnonzero(train.lengths >= 2)
    if len(users) == 0:
        raise WorldError(world.name, "no user has two training events; one of at least four events is needed")
    windows = left_padded(train.users(users), config.max_length + 1)
    positives = np.where(windows[:, :-1] > 0, windows[:, 1:], 0)
    told = _told(train, config.num_picked if config.targets == "all" else 1)
    newest = train.keep(train.positions() >= np.repeat(told.lengths, train.lengths)).users(users)
    counts = np.bincount(train.items, minlength=world.num_items + 1).astype(np.int64)
    return UR4RecData(
        world=world.name,
        num_users=world.num_users,
        num_items=world.num_items,
        items=world.items,
        words=world.words(),
        held_out=held_out,
        train=train,
        counts=counts,
        users=users.astype(np.int64),
        sequence=windows[:, :-1],
        positives=positives if config.targets == "all" else positives[:, -1:],
        told=told,
        picked=left_padded(newest, int(newest.lengths.max())),
        pool=np.flatnonzero(counts),
    )


def draw_batches(
    data: UR4RecData, config: UR4RecConfig, *, order: np.random.Generator, negatives: np.random.Generator
) -> Iterator[Batch]:
    """Endless batches; users once per epoch from `order`, K negatives for each target from `negatives`.

    ``step`` counts from 1: everything that changes in the course of training is a function of it.
    """
    sampler = UniformNegatives(num_items=len(data.pool))
    own = _pool_places(data)
    told = data.told.users(data.users)
    for step, rows in enumerate(user_batches(len(data.users), config.batch_size, order), start=1):
        positives, picked = data.positives[rows], data.picked[rows]
        shape = (len(rows), positives.shape[1] + picked.shape[1], config.num_negatives)
        drawn = data.pool[sampler.sample(negatives, shape, exclude=own.users(rows)) - 1]
        drawn = np.where(np.concatenate([positives, picked], axis=1)[..., None] > 0, drawn, 0)
        inputs = {
            "users": data.users[rows],
            "sequence": data.sequence[rows],
            "positives": positives,
            "picked": picked,
            "remembered": _remembered(told.users(rows), order),
        }
        parts = {"sasrec": drawn[:, : positives.shape[1]], "retriever": drawn[:, positives.shape[1] :]}
        yield Batch(
            inputs={name: torch.from_numpy(value) for name, value in inputs.items()} | {"step": torch.tensor([step])},
            negatives={name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in parts.items()},
            shared=frozenset({"step"}),
        )


def _pool_places(data: UR4RecData) -> Sequences:
    """The training items of the trained users as places 1.. in the pool, so that its sampler can exclude them."""
    own = data.train.users(data.users)
    return Sequences(items=np.searchsorted(data.pool, own.items) + 1, offsets=own.offsets)


def _told(train: Sequences, num_picked: int) -> Sequences:
    """Each user's training items but the newest `num_picked`; the oldest one always stays."""
    kept = np.maximum(train.lengths - num_picked, np.minimum(train.lengths, 1))
    return train.keep(train.positions() < np.repeat(kept, train.lengths))


def _remembered(told: Sequences, rng: np.random.Generator) -> IntArray:
    """[B] one item of each user, drawn with equal probability."""
    place = np.floor(rng.random(len(told)) * told.lengths).astype(np.int64)
    drawn: IntArray = told.items[told.offsets[:-1] + place]
    return drawn
