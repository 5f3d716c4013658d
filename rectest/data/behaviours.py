"""Worlds made of another world's ratings: kinds of events for them, or only the good ones.

Both are pure functions of a world; what is done with kinds or with what remains is up to the systems.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rectest.data.idmap import IdMap
from rectest.data.interactions import Interactions
from rectest.data.world import World
from rectest.errors import WorldError

__all__ = ["RATING_KINDS", "behaviours_from_ratings", "positive_ratings"]

RATING_KINDS = ("neg", "neutral", "pos")
"""Kinds 1, 2 and 3: a rating of at most 2, one between, and one of at least 4."""


def behaviours_from_ratings(world: World) -> World:
    """The world with a kind for every event: rating <= 2 is ``neg``, >= 4 ``pos`` and all between ``neutral``.

    The ratings stay. The oracle is dropped, because its law knows nothing of such kinds.

    Raises:
        WorldError: there are no ratings, or the events have kinds already.
    """
    if world.behaviours is not None:
        raise WorldError(world.name, f"its events have the kinds {', '.join(world.behaviours.raws)} already")
    rating = _ratings(world, "kinds of events")
    kinds = np.where(rating >= 4.0, 3, np.where(rating <= 2.0, 1, 2))
    return replace(
        world,
        interactions=replace(world.interactions, behaviour=kinds),
        behaviours=IdMap(raws=RATING_KINDS),
        oracle=None,
        source=f"{world.source}; kinds of events from ratings",
    )


def positive_ratings(world: World, *, at_least: float = 4.0, min_events: int = 5) -> World:
    """The events rated `at_least`, of users with `min_events` or more of those; the setting of report 001.

    Users are re-indexed in the old order. Items are not: an item that nobody rates so well keeps its id and stays an
    item that can be drawn as a negative or a candidate.

    Raises:
        WorldError: there are no ratings, or nobody has enough of them.
    """
    good = _ratings(world, "good ratings") >= at_least
    log = world.interactions
    counts = np.bincount(log.user[good], minlength=world.num_users)
    kept = np.flatnonzero(counts >= max(min_events, 1))
    if len(kept) == 0:
        most = int(counts.max())
        problem = f"no user has {min_events} ratings of at least {at_least:g} (the most is {most}); ask for less"
        raise WorldError(world.name, problem)
    rows = good & np.isin(log.user, kept)
    return replace(
        world,
        interactions=_of_users(log.select(rows), kept),
        users=world.users.take(kept),
        oracle=None,
        source=f"{world.source}; ratings of at least {at_least:g}, users with at least {min_events} of them",
    )


def _ratings(world: World, wanted: str) -> NDArray[np.float32]:
    rating = world.interactions.rating
    if rating is None:
        raise WorldError(world.name, f"{wanted} need a rating column, found none; take a world with ratings")
    return rating


def _of_users(log: Interactions, kept: NDArray[np.int64]) -> Interactions:
    """The log with users `kept` (rising, and all there are) numbered from 0."""
    return replace(log, user=np.searchsorted(kept, log.user), num_users=len(kept))
