"""Draw a synthetic world from its planted law: who, what, when, which kind of event, and the words of the items.

Every purpose has its own stream (`SeedPlan`), so that changing how times are drawn moves no item.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rectest.data.law import PlantedLaw
from rectest.seeding import SeedPlan

__all__ = ["draw_behaviours", "draw_histories", "draw_lengths", "draw_times", "draw_words"]

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_EPOCH = 1_600_000_000
_START_SPAN = 30 * 86_400
_MEAN_GAP = 6 * 3_600


def draw_lengths(
    plan: SeedPlan, num_users: int, *, lengths: tuple[int, int], cold_fraction: float, cold_lengths: tuple[int, int]
) -> _Ints:
    """Events per user, uniform in `lengths`; exactly round(cold_fraction * U) users draw from `cold_lengths`."""
    rng = plan.rng("lengths")
    drawn = rng.integers(lengths[0], lengths[1], size=num_users, endpoint=True)
    cold = rng.permutation(num_users)[: round(cold_fraction * num_users)]
    drawn[cold] = rng.integers(cold_lengths[0], cold_lengths[1], size=len(cold), endpoint=True)
    return drawn


def draw_histories(plan: SeedPlan, law: PlantedLaw, lengths: _Ints) -> tuple[_Ints, _Ints]:
    """Items [U, max length], 0 after a user's end, and the tastes [U]; all users take one step at a time."""
    num_users = len(lengths)
    taste = np.searchsorted(np.cumsum(law.prior), plan.rng("tastes").random(num_users), side="right")
    taste = np.minimum(taste, law.num_tastes - 1).astype(np.int64)
    sampler = _NovelSampler(law)
    rng = plan.rng("items")
    items = np.zeros((num_users, int(lengths.max())), dtype=np.int64)
    seen = np.zeros((num_users, law.num_items + 1), dtype=bool)
    for position in range(items.shape[1]):
        active = np.flatnonzero(lengths > position)
        repeats = rng.random(len(active)) < (law.repeat_probability if position else 0.0)
        again, novel = active[repeats], active[~repeats]
        items[again, position] = items[again, rng.integers(0, max(position, 1), size=len(again))]
        last = items[novel, position - 1] if position else np.zeros(len(novel), dtype=np.int64)
        items[novel, position] = sampler.draw(rng, taste[novel], last, seen[novel])
        seen[active, items[active, position]] = True
    return items, taste


class _NovelSampler:
    """Draws from q_z(. | last); without revisits, by drawing again until the item is new.

    Redrawing ends with probability 1, because G gives every item a positive probability and a spec leaves at least
    half of the items unseen.
    """

    def __init__(self, law: PlantedLaw) -> None:
        self._law = law
        self._global = np.cumsum(law.global_law)
        self._members = np.argsort(law.cluster, kind="stable")[1:]
        self._ends = np.cumsum(np.bincount(law.cluster)[1:])
        by_cluster = law.cluster_law[law.cluster[self._members] - 1, self._members]
        starts = np.concatenate([[0], self._ends[:-1]])
        within = [np.cumsum(by_cluster[start:end]) for start, end in zip(starts, self._ends, strict=True)]
        self._clusters = np.concatenate([taste + cumulative for taste, cumulative in enumerate(within)])
        self._starts = starts

    def draw(self, rng: np.random.Generator, taste: _Ints, last: _Ints, seen: NDArray[np.bool_]) -> _Ints:
        """One item per row."""
        drawn = np.zeros(len(taste), dtype=np.int64)
        waiting = np.arange(len(taste))
        while len(waiting):
            drawn[waiting] = self._propose(rng, taste[waiting], last[waiting])
            if self._law.revisits:
                break
            waiting = waiting[seen[waiting, drawn[waiting]]]
        return drawn

    def _propose(self, rng: np.random.Generator, taste: _Ints, last: _Ints) -> _Ints:
        law = self._law
        part, place = rng.random((2, len(taste)))
        first_b, _ = law.weights_first
        to_successor = np.where(last > 0, law.successor_weight, 0.0)
        to_cluster = to_successor + np.where(last > 0, law.taste_weight, first_b)
        followed = law.successors[last, _bucket(np.cumsum(law.successor_law), place)]
        slot = np.searchsorted(self._clusters, taste + place, side="right")
        liked = self._members[np.clip(slot, self._starts[taste], self._ends[taste] - 1)]
        anything = _bucket(self._global, place)
        return np.where(part < to_successor, followed, np.where(part < to_cluster, liked, anything))


def _bucket(cumulative: _Floats, place: _Floats) -> _Ints:
    """Inverse of a cumulative law; rounding at its end cannot leave the range."""
    return np.minimum(np.searchsorted(cumulative, place, side="right"), len(cumulative) - 1)


def draw_times(plan: SeedPlan, lengths: _Ints, *, equal_fraction: float) -> _Ints:
    """Unix seconds of every event, user by user, never falling; `equal_fraction` of the gaps are 0, the others >= 1."""
    rng = plan.rng("times")
    total = int(lengths.sum())
    gaps = 1 + np.floor(rng.exponential(_MEAN_GAP, size=total)).astype(np.int64)
    gaps[rng.random(total) < equal_fraction] = 0
    starts = np.cumsum(lengths) - lengths
    gaps[starts] = _EPOCH + rng.integers(0, _START_SPAN, size=len(lengths))
    running = np.cumsum(gaps)
    times: _Ints = running - np.repeat(running[starts] - gaps[starts], lengths)
    return times


def draw_behaviours(
    plan: SeedPlan,
    total: int,
    *,
    shares: tuple[float, ...],
    own_shares: tuple[float, ...] | None = None,
    own: NDArray[np.bool_] | None = None,
) -> _Ints:
    """Kind 1..n of every event; `own_shares` hold for the events of the mask `own`, `shares` for all others."""
    places = plan.rng("behaviours").random(total)
    kinds = 1 + _bucket(np.cumsum(shares), places)
    if own_shares is not None and own is not None:
        kinds[own] = 1 + _bucket(np.cumsum(own_shares), places[own])
    return kinds


def draw_words(
    plan: SeedPlan, cluster: _Ints, *, per_item: int, per_cluster: int, common: int, cluster_probability: float
) -> tuple[tuple[str, ...], ...]:
    """`per_item` words of every item; index 0, the padding, has none.

    Each word comes with `cluster_probability` from the `per_cluster` words of the item's cluster and else from the
    `common` ones, uniformly and independently, so that a word may come twice. Names of words tell nothing.
    """
    rng = plan.rng("words")
    num_clusters = int(cluster.max())
    names = [f"w{number:04d}" for number in rng.permutation(num_clusters * per_cluster + common)]
    shape = (len(cluster) - 1, per_item)
    from_cluster = rng.random(shape) < cluster_probability
    place = rng.random(shape)
    within = (cluster[1:, None] - 1) * per_cluster + np.floor(place * per_cluster).astype(np.int64)
    anywhere = num_clusters * per_cluster + np.floor(place * common).astype(np.int64)
    drawn = np.where(from_cluster, within, anywhere).tolist()
    return ((), *(tuple(names[word] for word in words) for words in drawn))
