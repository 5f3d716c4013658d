"""`PlantedLaw`: the probability law behind the synthetic worlds, as plain arrays.

A user has one hidden taste z, drawn once from `prior`. Given the last item i, the next item is drawn

- with probability `repeat_probability` uniformly from the positions of the user's own history, else
- from q_z(j | i) = a S(j | i) + b C_z(j) + c G(j), with a + b + c = 1. S is the successor law (a few steps ahead on a
  hidden ring of all items that visits one cluster after the other), C_z a Zipf law over the items of cluster z and G
  a Zipf law over all items. In a world without revisits this draw is restricted to items that the user has not seen,
  and renormalised.

The first item has no predecessor: it comes from (b C_z + c G) / (b + c). Where `kind_shares` is there, the kind of an
event (view, buy, ...) tells something of the user: its shares depend on whether the item, however it was drawn, is one
of the user's own cluster. Drawing from the law is in `generate`, inferring with it in `oracle`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rectest.seeding import SeedPlan

__all__ = ["PlantedLaw", "plant_law"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlantedLaw:
    """All parameters of the law, over dense item ids (column 0 is padding and has probability 0)."""

    prior: _Floats
    """Probability of each taste, [K]."""
    cluster: _Ints
    """Cluster 1..K of each item, [V+1]; 0 for padding. Taste z (from 0) likes cluster z + 1."""
    cluster_law: _Floats
    """C, [K, V+1]."""
    global_law: _Floats
    """G, [V+1]."""
    successors: _Ints
    """[V+1, S]: the items that may follow each item; each column is a permutation of the items."""
    successor_law: _Floats
    """[S], the same for every item."""
    successor_weight: float
    taste_weight: float
    repeat_probability: float
    revisits: bool
    kind_shares: _Floats | None = None
    """Share of each kind 1..n of events, [2, n]: row 0 for items outside of the user's cluster, row 1 within.

    None: kinds say nothing of the taste.
    """

    def __post_init__(self) -> None:
        for name in ("prior", "cluster", "cluster_law", "global_law", "successors", "successor_law"):
            getattr(self, name).setflags(write=False)
        if self.kind_shares is not None:
            self.kind_shares.setflags(write=False)

    @property
    def num_items(self) -> int:
        return len(self.global_law) - 1

    @property
    def num_tastes(self) -> int:
        return len(self.prior)

    @property
    def global_weight(self) -> float:
        """c, what the other two weights leave."""
        return 1.0 - self.successor_weight - self.taste_weight

    @property
    def weights_first(self) -> tuple[float, float]:
        """The weights of C_z and G for a user's first item."""
        both = self.taste_weight + self.global_weight
        return self.taste_weight / both, self.global_weight / both


def plant_law(
    plan: SeedPlan,
    *,
    num_items: int,
    num_tastes: int,
    num_successors: int,
    successor_weight: float,
    taste_weight: float,
    zipf_exponent: float,
    repeat_probability: float,
    revisits: bool,
    shuffled_ids: bool,
    kind_shares: _Floats | None = None,
) -> PlantedLaw:
    """Draw the hidden structure; with `shuffled_ids` off, item id r is the item of global rank r."""
    rng = plan.rng("law")
    id_of_rank = 1 + (rng.permutation(num_items) if shuffled_ids else np.arange(num_items))
    weight = np.arange(1, num_items + 1, dtype=np.float64) ** -zipf_exponent
    global_law = np.zeros(num_items + 1)
    global_law[id_of_rank] = weight / weight.sum()
    cluster = np.zeros(num_items + 1, dtype=np.int64)
    cluster[id_of_rank] = 1 + _dealt_clusters(rng, num_items, num_tastes)
    member = cluster[None, :] == np.arange(1, num_tastes + 1)[:, None]
    cluster_law = np.where(member, global_law, 0.0)
    prior = np.arange(1, num_tastes + 1, dtype=np.float64) ** -0.5
    successor_law = 0.5 ** np.arange(num_successors)
    return PlantedLaw(
        prior=prior / prior.sum(),
        cluster=cluster,
        cluster_law=cluster_law / cluster_law.sum(axis=1, keepdims=True),
        global_law=global_law,
        successors=_ring_successors(rng, cluster, num_successors),
        successor_law=successor_law / successor_law.sum(),
        successor_weight=successor_weight,
        taste_weight=taste_weight,
        repeat_probability=repeat_probability,
        revisits=revisits,
        kind_shares=kind_shares,
    )


def _dealt_clusters(rng: np.random.Generator, num_items: int, num_tastes: int) -> _Ints:
    """Cluster 0..K-1 by global rank: every K neighbours in rank go to K different clusters."""
    rounds = -(-num_items // num_tastes)
    return np.concatenate([rng.permutation(num_tastes) for _ in range(rounds)])[:num_items].astype(np.int64)


def _ring_successors(rng: np.random.Generator, cluster: _Ints, num_successors: int) -> _Ints:
    """The items 1, 2, ... steps ahead on a ring that visits cluster after cluster, in random order within each."""
    num_items = len(cluster) - 1
    shuffled = 1 + rng.permutation(num_items)
    ring = shuffled[np.argsort(cluster[shuffled], kind="stable")]
    successors = np.zeros((num_items + 1, num_successors), dtype=np.int64)
    for step in range(1, num_successors + 1):
        successors[ring, step - 1] = np.roll(ring, -step)
    return successors
