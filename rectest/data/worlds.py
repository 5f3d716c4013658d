"""The named worlds: `WorldSpec` says what a synthetic world is, `make_world` builds it, `load_world` finds any by name.

A world is a pure function of its spec: built twice, in any process, it is bit-identical. The law is described in
`law`; the real data set is in `movielens`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rectest.data.files import load_file_world, names_a_file
from rectest.data.generate import draw_behaviours, draw_histories, draw_lengths, draw_times, draw_words
from rectest.data.idmap import IdMap
from rectest.data.interactions import Interactions
from rectest.data.law import PlantedLaw, plant_law
from rectest.data.movielens import load_ml100k
from rectest.data.oracle import Oracle
from rectest.data.world import World
from rectest.errors import UnknownNameError
from rectest.seeding import SeedPlan

__all__ = ["WORLDS", "Oracle", "World", "WorldSpec", "load_world", "make_world"]

_MOVIELENS = "ml-100k"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSpec:
    """All settings of a synthetic world."""

    name: str
    seed: int = 42
    num_users: int = 120
    num_items: int = 40
    num_tastes: int = 4
    min_length: int = 8
    max_length: int = 15
    successor_weight: float = 0.4
    """a: probability that a new item follows from the last one."""
    taste_weight: float = 0.35
    """b: probability that it comes from the user's taste; what is left is global popularity."""
    num_successors: int = 3
    zipf_exponent: float = 1.0
    repeat_probability: float = 0.0
    """Probability to repeat an item of the own history."""
    revisits: bool = False
    """Whether a draw that is not a repeat may return a seen item by chance."""
    shuffled_ids: bool = True
    """Off: item ids are in order of planted popularity, as some samplers silently need."""
    equal_time_fraction: float = 0.0
    """Share of events with the same time as the user's event before."""
    cold_fraction: float = 0.0
    cold_lengths: tuple[int, int] = (1, 3)
    behaviours: tuple[str, ...] = ("view", "favour", "cart", "buy")
    """Kinds of events, coded 1, 2, ...; () for no behaviour column."""
    behaviour_shares: tuple[float, ...] = (0.6, 0.15, 0.15, 0.1)
    """Share of each kind, independent of user and item as long as there are no `taste_behaviour_shares`."""
    taste_behaviour_shares: tuple[float, ...] | None = None
    """Shares where the item is of the user's own taste; `behaviour_shares` hold for all other items then."""
    words_per_item: int = 0
    """0: nothing is written about the items."""
    words_per_taste: int = 20
    """Words that only items of one taste's cluster have."""
    common_words: int = 60
    """Words that any item may have."""
    taste_word_probability: float = 0.6
    """Probability that a word of an item is one of its cluster's."""

    def __post_init__(self) -> None:
        problems = (
            (self.num_users < 1, "num_users must be at least 1"),
            (self.num_items < 4, "num_items must be at least 4"),
            (not 1 <= self.num_tastes <= self.num_items, "num_tastes must be in 1..num_items"),
            (not 1 <= self.min_length <= self.max_length, "lengths must satisfy 1 <= min_length <= max_length"),
            (
                not 1 <= self.cold_lengths[0] <= self.cold_lengths[1] <= self.max_length,
                "cold_lengths must be in 1..max_length",
            ),
            (
                not self.revisits and 2 * self.max_length > self.num_items,
                "max_length must be at most half of num_items",
            ),
            (not 1 <= self.num_successors < self.num_items, "num_successors must be in 1..num_items-1"),
            (min(self.successor_weight, self.taste_weight) < 0, "weights must not be negative"),
            (self.successor_weight + self.taste_weight >= 1, "the two weights must leave some global popularity"),
            (not 0 <= self.repeat_probability < 1, "repeat_probability must be in [0, 1)"),
            (not 0 <= self.equal_time_fraction <= 1, "equal_time_fraction must be in [0, 1]"),
            (not 0 <= self.cold_fraction <= 1, "cold_fraction must be in [0, 1]"),
            (len(self.behaviours) != len(self.behaviour_shares), "each behaviour needs one share"),
            (bool(self.behaviours) and abs(sum(self.behaviour_shares) - 1) > 1e-9, "behaviour_shares must sum to 1"),
            *self._problems_of_signals(),
        )
        for wrong, problem in problems:
            if wrong:
                msg = f"world spec {self.name!r}: {problem}, got {self}"
                raise ValueError(msg)

    def _problems_of_signals(self) -> tuple[tuple[bool, str], ...]:
        """What may be wrong with kinds and words that tell of the taste."""
        own = self.taste_behaviour_shares
        shares = (1.0,) if own is None else (*own, *self.behaviour_shares)
        return (
            (own is not None and len(own) != len(self.behaviours), "taste_behaviour_shares must be one per behaviour"),
            (own is not None and abs(sum(own) - 1) > 1e-9, "taste_behaviour_shares must sum to 1"),
            (min(shares, default=0.0) <= 0, "all shares must be above 0 where behaviours depend on the taste"),
            (self.words_per_item < 0, "words_per_item must not be negative"),
            (min(self.words_per_taste, self.common_words) < 1, "both vocabularies need at least one word"),
            (not 0 <= self.taste_word_probability <= 1, "taste_word_probability must be in [0, 1]"),
        )


def make_world(spec: WorldSpec) -> World:
    """Build the world of a spec; rows are in global time order, equal times in the order of the users' own steps."""
    plan = SeedPlan(root=spec.seed).child("world")
    law = _law(spec, plan)
    lengths = draw_lengths(
        plan,
        spec.num_users,
        lengths=(spec.min_length, spec.max_length),
        cold_fraction=spec.cold_fraction,
        cold_lengths=spec.cold_lengths,
    )
    items, taste = draw_histories(plan, law, lengths)
    time = draw_times(plan, lengths, equal_fraction=spec.equal_time_fraction)
    own = law.cluster[items] == taste[:, None] + 1
    behaviour = _behaviours(spec, plan, own[items > 0]) if spec.behaviours else None
    return World(
        name=spec.name,
        interactions=_log(spec, items[items > 0], lengths, time, behaviour),
        users=IdMap(raws=tuple(f"u{user:06d}" for user in range(spec.num_users)), first_index=0),
        items=IdMap(raws=tuple(str(10_000 + 7 * item) for item in range(1, spec.num_items + 1)), first_index=1),
        behaviours=IdMap(raws=spec.behaviours) if spec.behaviours else None,
        item_words=_words(spec, plan, law) if spec.words_per_item else None,
        oracle=Oracle(law=law),
        source=f"synthetic: {spec}",
    )


def _law(spec: WorldSpec, plan: SeedPlan) -> PlantedLaw:
    own = spec.taste_behaviour_shares
    return plant_law(
        plan,
        num_items=spec.num_items,
        num_tastes=spec.num_tastes,
        num_successors=spec.num_successors,
        successor_weight=spec.successor_weight,
        taste_weight=spec.taste_weight,
        zipf_exponent=spec.zipf_exponent,
        repeat_probability=spec.repeat_probability,
        revisits=spec.revisits,
        shuffled_ids=spec.shuffled_ids,
        kind_shares=None if own is None else np.array([spec.behaviour_shares, own]),
    )


def _words(spec: WorldSpec, plan: SeedPlan, law: PlantedLaw) -> tuple[tuple[str, ...], ...]:
    return draw_words(
        plan,
        law.cluster,
        per_item=spec.words_per_item,
        per_cluster=spec.words_per_taste,
        common=spec.common_words,
        cluster_probability=spec.taste_word_probability,
    )


def _behaviours(spec: WorldSpec, plan: SeedPlan, own: NDArray[np.bool_]) -> NDArray[np.int64]:
    shares = spec.behaviour_shares
    return draw_behaviours(plan, len(own), shares=shares, own_shares=spec.taste_behaviour_shares, own=own)


def _log(
    spec: WorldSpec,
    item: NDArray[np.int64],
    lengths: NDArray[np.int64],
    time: NDArray[np.int64],
    behaviour: NDArray[np.int64] | None,
) -> Interactions:
    order = np.argsort(time, kind="stable")
    return Interactions(
        user=np.repeat(np.arange(spec.num_users), lengths)[order],
        item=item[order],
        time=time[order],
        behaviour=None if behaviour is None else behaviour[order],
        num_users=spec.num_users,
        num_items=spec.num_items,
    )


_TINY = WorldSpec(name="tiny")
_TINY_SHOP = replace(
    _TINY,
    name="tiny-behaviours",
    repeat_probability=0.15,
    revisits=True,
    behaviours=("pv", "fav", "cart", "buy"),
    behaviour_shares=(0.7, 0.15, 0.1, 0.05),
    taste_behaviour_shares=(0.3, 0.05, 0.15, 0.5),
)

WORLDS: dict[str, WorldSpec] = {
    spec.name: spec
    for spec in (
        WorldSpec(
            name="taste-small",
            num_users=2000,
            num_items=500,
            num_tastes=8,
            min_length=10,
            max_length=30,
            num_successors=5,
            successor_weight=0.3,
            taste_weight=0.5,
        ),
        WorldSpec(
            name="taste-users",
            num_users=10_000,
            num_items=500,
            num_tastes=10,
            min_length=10,
            max_length=30,
            num_successors=4,
            successor_weight=0.1,
            taste_weight=0.8,
        ),
        _TINY,
        replace(_TINY, name="tiny-repeats", repeat_probability=0.3),
        replace(_TINY, name="tiny-cold", cold_fraction=0.25),
        replace(_TINY, name="tiny-equal-times", equal_time_fraction=0.5),
        replace(_TINY, name="tiny-revisits", revisits=True),
        replace(_TINY, name="tiny-sorted-ids", shuffled_ids=False),
        replace(_TINY, name="tiny-words", words_per_item=6, words_per_taste=8, common_words=16),
        _TINY_SHOP,
        WorldSpec(
            name="words-small",
            num_users=1000,
            num_items=300,
            num_tastes=6,
            min_length=10,
            max_length=30,
            successor_weight=0.3,
            taste_weight=0.5,
            words_per_item=8,
        ),
        replace(
            _TINY_SHOP,
            name="behaviours-small",
            num_users=2000,
            num_items=400,
            num_tastes=8,
            min_length=10,
            max_length=30,
            successor_weight=0.3,
            taste_weight=0.3,
        ),
    )
}


def load_world(name: str, *, data_dir: Path | None = None) -> World:
    """A synthetic world by name, ``ml-100k`` from the cache in `data_dir`, or a file of the user's as ``FORMAT:PATH``.

    ``rectest data ml-100k`` fills the cache; the formats are those of `rectest.data.files`.
    """
    if name in WORLDS:
        return make_world(WORLDS[name])
    if name == _MOVIELENS:
        return load_ml100k(data_dir)
    if names_a_file(name):
        return load_file_world(name)
    raise UnknownNameError("world", name, [*WORLDS, _MOVIELENS])
