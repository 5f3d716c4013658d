"""`relabel_held_out`: the same world with other answers, for the question whether training knew them.

A training that does not depend on what is held out is the same to the bit in both worlds. Which rows are held out is
the system's to say; comparing two trainings is the checks' business.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rectest.data.world import World
from rectest.errors import WorldError

__all__ = ["relabel_held_out"]


def relabel_held_out(world: World, rows: NDArray[np.bool_], rng: np.random.Generator) -> World:
    """The world with every held-out item replaced by another one; users, times, ratings and kinds stay.

    Items are renamed along one random cycle through the whole catalogue, so that each held-out row gets another item
    and the counts of items change too: exchanging items among the held-out rows would keep every count, and what was
    counted over all events would not be noticed. The law of the world no longer holds for what comes out (a user may
    have an item twice), so its oracle is dropped.

    Args:
        rows: bool[N], the held-out rows of ``world.interactions``.

    Raises:
        TypeError, ValueError: `rows` is no boolean array, or not one entry per row.
        WorldError: nothing is held out, or there is only one item.
    """
    log, mask = world.interactions, np.asarray(rows)
    if mask.dtype != np.bool_:
        msg = f"held-out rows must be a boolean mask, got {mask.dtype}"
        raise TypeError(msg)
    if mask.shape != (len(log),):
        msg = f"held-out rows must be one entry for each of the {len(log)} events, got shape {mask.shape}"
        raise ValueError(msg)
    if not mask.any() or world.num_items < 2:
        problem = f"{int(mask.sum())} held-out events of {world.num_items} items, so nothing can be replaced"
        raise WorldError(world.name, f"{problem}; hold out more")
    cycle = 1 + rng.permutation(world.num_items)
    renamed = np.zeros(world.num_items + 1, dtype=np.int64)
    renamed[cycle] = np.roll(cycle, -1)
    source = f"{world.source}; other items in {int(mask.sum())} held-out events"
    edited = replace(log, item=np.where(mask, renamed[log.item], log.item))
    return replace(world, interactions=edited, oracle=None, source=source)
