"""`World`: a log, its id maps, perhaps words of the items and, for synthetic worlds, the law it was drawn from.

The named worlds and how they are made or loaded are in `worlds`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rectest.data.idmap import IdMap
from rectest.data.interactions import Interactions, digest_arrays
from rectest.data.oracle import Oracle
from rectest.errors import WorldError

__all__ = ["World"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class World:
    """A data set to train on; everything inside uses dense ids."""

    name: str
    interactions: Interactions
    users: IdMap
    items: IdMap
    oracle: Oracle | None
    """The exact law of a synthetic world; None for real data."""
    source: str
    """Where the data came from, for people: a spec or a file."""
    behaviours: IdMap | None = None
    """Names of the kinds of events; present exactly when the log has a behaviour column."""
    item_words: tuple[tuple[str, ...], ...] | None = None
    """What is written about each item, by dense id (V+1 entries, none for the padding at index 0); see `words`."""

    def __post_init__(self) -> None:
        wanted = (("users", self.users, 0, self.num_users), ("items", self.items, 1, self.num_items))
        for kind, ids, first_index, count in wanted:
            if ids.first_index != first_index or len(ids) != count:
                found = f"{ids.first_index}..{ids.first_index + len(ids) - 1}"
                problem = f"its map of {kind} covers {found}, needed {first_index}..{first_index + count - 1}"
                raise WorldError(self.name, problem)
        codes = self.interactions.behaviour
        if (self.behaviours is None) != (codes is None):
            raise WorldError(self.name, "it needs both a behaviour column and its names, or neither")
        if codes is not None and self.behaviours is not None and int(codes.max()) > len(self.behaviours):
            raise WorldError(self.name, f"behaviour {int(codes.max())} has no name, there are {len(self.behaviours)}")
        if self.oracle is not None and self.oracle.num_items != self.num_items:
            raise WorldError(self.name, f"its oracle knows {self.oracle.num_items} items, needed {self.num_items}")
        self._check_words()

    def _check_words(self) -> None:
        words = self.item_words
        if words is None:
            return
        if len(words) != self.num_items + 1 or words[0]:
            found = f"{len(words)} entries of words, {len(words[0]) if words else 0} words in the first"
            raise WorldError(self.name, f"it has {found}, needed {self.num_items + 1} with none in the first (padding)")
        for item, own in enumerate(words[1:], start=1):
            if not own or not all(own):
                raise WorldError(self.name, f"item {item} has the words {own!r}, needed at least one and none empty")

    @property
    def num_users(self) -> int:
        return self.interactions.num_users

    @property
    def num_items(self) -> int:
        """Items without the padding."""
        return self.interactions.num_items

    @property
    def clusters(self) -> NDArray[np.int64] | None:
        """The planted cluster 1..K of each item, int64[V+1] with 0 for padding; None for real data."""
        return None if self.oracle is None else self.oracle.law.cluster

    @property
    def digest(self) -> str:
        """One digest of the log and its id maps; name, source and words do not count (see `words_digest`)."""
        maps = [ids.digest() for ids in (self.users, self.items, self.behaviours) if ids is not None]
        parts = "\n".join((self.interactions.digest(), *maps))
        return digest_arrays([("world", np.frombuffer(parts.encode(), dtype=np.uint8))])

    @property
    def words_digest(self) -> str | None:
        """One digest of the items' words; None where there are none.

        It is not a part of `digest`: what a system that reads no words does must not hang on whether they are there.
        """
        if self.item_words is None:
            return None
        text = "\n".join("\t".join(own) for own in self.item_words)
        return digest_arrays([("words", np.frombuffer(text.encode(), dtype=np.uint8))])

    def words(self) -> tuple[tuple[str, ...], ...]:
        """The words of each item by dense id, none for the padding; the raw id is the word where nothing is written."""
        if self.item_words is not None:
            return self.item_words
        return ((), *((raw,) for raw in self.items.raws))

    def popularity(self) -> NDArray[np.int64]:
        """Counted events per item, int64[V+1]; the padding counts 0."""
        return self.interactions.item_counts()

    def filter_min_count(self, *, users: int = 5, items: int = 5) -> World:
        """The world without rare users and items (see `Interactions.filter_min_count`), with both maps renewed.

        The oracle is dropped when items disappear, because its law is about the old item ids.
        """
        filtered = self.interactions.filter_min_count(users=users, items=items)
        complete = len(filtered.kept_items) == self.num_items
        words = self.item_words
        return World(
            name=self.name,
            interactions=filtered.interactions,
            users=self.users.take(filtered.kept_users),
            items=self.items.take(filtered.kept_items),
            oracle=self.oracle if complete else None,
            behaviours=self.behaviours,
            item_words=None if words is None else ((), *(words[item] for item in filtered.kept_items.tolist())),
            source=f"{self.source}; at least {users} events per user and {items} per item",
        )
