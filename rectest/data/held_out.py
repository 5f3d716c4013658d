"""`permute_held_out`: the same world with other answers, for the question whether training knew them.

A training that does not depend on what is held out is the same to the bit in both worlds. Which rows are held out is
the system's to say; comparing two trainings is the checks' business.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rectest.data.world import World
from rectest.errors import WorldError

__all__ = ["permute_held_out"]

_Ints = NDArray[np.int64]


def permute_held_out(world: World, rows: NDArray[np.bool_], rng: np.random.Generator) -> World:
    """The world with the items of the held-out `rows` exchanged among them, each with its rating and its kind.

    Users, times and all other rows stay. Every held-out row gets another item, as far as that is possible: where one
    item has more than half of the rows, only as many of its rows change as there are others. The law of the world no
    longer holds for what comes out (a user may have an item twice), so its oracle is dropped.

    Args:
        rows: bool[N], the held-out rows of ``world.interactions``.

    Raises:
        TypeError, ValueError: `rows` is no boolean array, or not one entry per row.
        WorldError: no exchange changes anything, because fewer than two items are held out.
    """
    log = world.interactions
    held = _held(rows, len(log))
    if len(np.unique(log.item[held])) < 2:
        problem = f"its {len(held)} held-out events have fewer than two different items, so exchanging changes nothing"
        raise WorldError(world.name, f"{problem}; hold out more")
    origin = np.arange(len(log))
    origin[held] = held[_exchange(log.item[held], rng)]
    exchanged = replace(
        log,
        item=log.item[origin],
        rating=None if log.rating is None else log.rating[origin],
        behaviour=None if log.behaviour is None else log.behaviour[origin],
    )
    return replace(
        world,
        interactions=exchanged,
        oracle=None,
        source=f"{world.source}; items exchanged among {len(held)} held-out events",
    )


def _held(rows: NDArray[np.bool_], count: int) -> _Ints:
    mask = np.asarray(rows)
    if mask.dtype != np.bool_:
        msg = f"held-out rows must be a boolean mask, got {mask.dtype}"
        raise TypeError(msg)
    if mask.shape != (count,):
        msg = f"held-out rows must be one entry for each of the {count} events, got shape {mask.shape}"
        raise ValueError(msg)
    return np.flatnonzero(mask)


def _exchange(item: _Ints, rng: np.random.Generator) -> _Ints:
    """A permutation p such that item[p] differs from item wherever it can.

    Rows in the order of their items, shuffled within an item and with the items in random order, move on by the
    number of rows that the most frequent item has: no row can land among its own item's rows but by going all the
    way round, for which that item needs more than half of all rows.
    """
    _, code, counts = np.unique(item, return_inverse=True, return_counts=True)
    order = np.lexsort((rng.random(len(item)), rng.permutation(len(counts))[code]))
    origin = np.empty(len(item), dtype=np.int64)
    origin[order] = np.roll(order, -int(counts.max()))
    return origin
