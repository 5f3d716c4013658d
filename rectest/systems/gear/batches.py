"""The prepared data and the batches drawn from it.

A row is an event: user, item, behaviour, time. The last row of each user is held out for test and the one before for
validation; what is left is trained on. A training sample is one user's newest rows, or with some probability a random
window of them where there are more. Order and windows have streams of their own. The time between rows is read in the
world's own unit; a world without times has a gap of 1 between all rows.

Shapes: B batch, L rows of a window, U users, N rows of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rectest.data.behaviours import behaviours_from_ratings
from rectest.data.idmap import IdMap
from rectest.data.interactions import Interactions, digest_arrays
from rectest.data.world import World
from rectest.errors import WorldError
from rectest.systems.gear.promises import HeldOut, held_out_figures
from rectest.systems.protocol import Batch

__all__ = ["GEARData", "Rows", "draw_batches", "epoch", "prepare", "read_rows", "windows"]

IntArray = npt.NDArray[np.int64]

_HELD_OUT = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """The log by user, in time order (equal times in file order): user u owns ``offsets[u]:offsets[u + 1]``."""

    items: IntArray
    behaviours: IntArray
    elapsed: IntArray
    """Time since the user's first row."""

    offsets: IntArray
    """[U + 1]"""

    @property
    def lengths(self) -> IntArray:
        """Rows per user, [U]."""
        return np.diff(self.offsets)

    def digest(self) -> str:
        """One digest of everything."""
        named = [(name, getattr(self, name)) for name in ("items", "behaviours", "elapsed", "offsets")]
        return digest_arrays(named)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GEARData:
    """A world indexed for training and for leave-two-out evaluation."""

    world: str
    num_items: int
    items: IdMap
    behaviours: IdMap
    target: int
    """Code of the target behaviour."""

    rows: Rows
    users: IntArray
    """[T] dense ids of the users with enough rows; the others are left out."""

    train_ends: IntArray
    """[T] where each user's training rows end within `rows`."""

    counts: IntArray
    """[V+1] training rows per item."""

    digest: str
    """Of the world and of who is evaluated; candidates are kept under it."""

    declared: tuple[str, ...]
    """Names of the behaviours in the order of the codes in the world's log."""

    promised: Mapping[str, HeldOut]
    """Figures of each held-out split, counted from the log itself."""

    def held_out_place(self, split: str) -> IntArray:
        """[T] where in `rows` the row stands that ``valid`` or ``test`` asks for.

        Raises:
            ValueError: there is no such split.
        """
        if split not in ("valid", "test"):
            msg = f"split must be 'valid' or 'test', got {split!r}"
            raise ValueError(msg)
        return self.train_ends + (0 if split == "valid" else 1)

    @property
    def train_starts(self) -> IntArray:
        """[T] where each user's training rows begin."""
        return self.rows.offsets[self.users]


def prepare(world: World, *, min_rows: int, target_behaviour: str | None) -> GEARData:
    """Index a world whose rows have behaviours, or ratings to make them of (``neg``, ``neutral``, ``pos``).

    Raises:
        WorldError: it has neither, or not the target behaviour, or no user with `min_rows` rows.
    """
    world = _with_behaviours(world)
    assert world.behaviours is not None
    rows = read_rows(world.interactions)
    target = _target(world.name, world.behaviours, target_behaviour)
    users = np.flatnonzero(rows.lengths >= min_rows).astype(np.int64)
    if len(users) == 0:
        most = int(rows.lengths.max())
        raise WorldError(world.name, f"no user has the {min_rows} rows that are needed (the most is {most})")
    train_ends = rows.offsets[users + 1] - _HELD_OUT
    places = np.concatenate(
        [np.arange(a, b) for a, b in zip(rows.offsets[users].tolist(), train_ends.tolist(), strict=True)]
    )
    return GEARData(
        world=world.name,
        num_items=world.num_items,
        items=world.items,
        behaviours=world.behaviours,
        target=target,
        rows=rows,
        users=users,
        train_ends=train_ends,
        counts=np.bincount(rows.items[places], minlength=world.num_items + 1).astype(np.int64),
        digest=digest_arrays([("world", np.frombuffer(world.digest.encode(), dtype=np.uint8)), ("users", users)]),
        declared=world.behaviours.raws,
        promised=held_out_figures(world, min_rows=min_rows, target=target),
    )


def _with_behaviours(world: World) -> World:
    if world.behaviours is not None:
        return world
    if world.interactions.rating is None:
        problem = "its rows have neither behaviours nor ratings; a behaviour column, or ratings, is needed"
        raise WorldError(world.name, problem)
    return behaviours_from_ratings(world)


def _target(world: str, behaviours: IdMap, name: str | None) -> int:
    if name is None:
        return behaviours.first_index + len(behaviours) - 1
    if name not in behaviours.raws:
        raise WorldError(world, f"it has no behaviour {name!r}; known: {', '.join(behaviours.raws)}")
    return behaviours.index(name)


def read_rows(log: Interactions) -> Rows:
    """The rows of a log with behaviours by user; without times, each row is 1 later than the one before."""
    order = np.lexsort((log.user,) if log.time is None else (log.time, log.user))
    lengths = log.user_counts()
    offsets = np.zeros(log.num_users + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    time = np.arange(len(log)) if log.time is None else log.time[order]
    first = np.repeat(offsets[:-1], lengths)
    assert log.behaviour is not None
    return Rows(items=log.item[order], behaviours=log.behaviour[order], elapsed=time - time[first], offsets=offsets)


def windows(rows: Rows, starts_B: IntArray, ends_B: IntArray, *, width: int) -> dict[str, IntArray]:
    """The newest `width` rows of each ``starts:ends``, left-padded with 0: items, behaviours and elapsed, [B, width].

    `elapsed` counts from the first row that is in the window.
    """
    place_BL = ends_B[:, None] - width + np.arange(width)
    real_BL = place_BL >= starts_B[:, None]
    place_BL = np.where(real_BL, place_BL, ends_B[:, None] - 1)
    first_B = np.maximum(starts_B, ends_B - width)
    elapsed_BL = rows.elapsed[place_BL] - rows.elapsed[first_B][:, None]
    columns = {"items": rows.items[place_BL], "behaviours": rows.behaviours[place_BL], "elapsed": elapsed_BL}
    return {name: np.where(real_BL, values, 0) for name, values in columns.items()}


def epoch(num_users: int, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """A permutation of all users in ceil(U / batch_size) parts of nearly equal size: no part is a few leftovers."""
    return np.array_split(rng.permutation(num_users), -(-num_users // batch_size))


def draw_batches(
    data: GEARData,
    *,
    batch_size: int,
    max_length: int,
    window_probability: float,
    order: np.random.Generator,
    cuts: np.random.Generator,
) -> Iterator[Batch]:
    """Endless batches; `order` draws the users and `cuts` the random windows."""
    starts, ends = data.train_starts, data.train_ends
    while True:
        for part in epoch(len(data.users), batch_size, order):
            num_more = ends[part] - starts[part] - max_length
            random = (cuts.random(len(part)) < window_probability) & (num_more > 0)
            back = cuts.integers(0, np.maximum(num_more, 0), endpoint=True)
            cut = windows(data.rows, starts[part], ends[part] - np.where(random, back, 0), width=max_length)
            inputs = {name: torch.from_numpy(values) for name, values in cut.items()}
            inputs["target_rows"] = torch.from_numpy(cut["behaviours"] == data.target)
            inputs["random_window"] = torch.from_numpy(random)
            yield Batch(inputs=inputs)
