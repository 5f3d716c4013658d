"""The prepared data: a world split by leave-two-out, its ids, words and graph table, and how these were made.

Every input that the model is built from has its digest in `Manifest`, taken when it was made: report 003 verified files
that were newer than the run it explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences, digest_arrays
from rectest.data.split import LeaveOut, leave_two_out
from rectest.data.worlds import World
from rectest.errors import DataError, WorldError
from rectest.systems.gram_c.ids import ItemIds
from rectest.systems.gram_c.samples import Collator, Samples
from rectest.systems.gram_c.text import Vocabulary
from rectest.systems.gram_c.trie import Trie

__all__ = ["GramCData", "Manifest", "Part", "held_out_events", "split_world"]

IntArray = npt.NDArray[np.int64]
FloatTable = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Manifest:
    """Digests of the inputs, by name."""

    train: str
    ids: str
    graph: str
    words: str

    @classmethod
    def of(cls, train: Sequences, ids: ItemIds, graph: FloatTable, word_tokens: IntArray) -> Manifest:
        """The digests of what is there now."""
        return cls(
            train=train.digest(),
            ids=ids.digest(),
            graph=digest_arrays([("graph", graph)]),
            words=digest_arrays([("words", word_tokens)]),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """The samples of training, or of one evaluation split, and their histories as read from their texts."""

    samples: Samples
    newest: IntArray
    """[S, n] items newest first; V+1 is an id that no item has."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GramCData:
    """What training and evaluation need."""

    world: str
    items: IdMap
    split: LeaveOut
    counts: IntArray
    """[V+1] training events per item."""

    repeats: bool
    """Whether some user has the same item twice, so that a seen item may be the relevant one."""

    ids: ItemIds
    texts: tuple[str, ...]
    """The written id of each item, "" for the padding."""

    trie: Trie
    generated: tuple[str, ...]
    """What the decoder writes for each leaf of the tree."""

    vocabulary: Vocabulary
    graph: FloatTable
    """[V+1, G]."""

    num_edges: int
    """User-item pairs that the graph was made from."""

    collator: Collator
    parts: dict[str, Part]
    """``train``, ``valid`` and ``test``."""

    manifest: Manifest

    @property
    def num_items(self) -> int:
        return len(self.items)

    def served_items(self) -> IntArray:
        """[leaves] the item whose text is exactly what is generated for each id; 0 where there is none."""
        items = {text: item for item, text in enumerate(self.texts) if item}
        return np.array([items.get(text, 0) for text in self.generated], dtype=np.int64)

    def history(self, split: str) -> Sequences:
        """What may be known of each user when a split is predicted; the training events for ``train``."""
        if split == "train":
            return self.split.train
        return self.split.history(cast(Literal["valid", "test"], split))


def split_world(world: World) -> LeaveOut:
    """The last two events of each user held out.

    Raises:
        WorldError: no user has three events, or none has two left to train on.
    """
    try:
        split = leave_two_out(world.interactions.sequences())
    except DataError as e:
        raise WorldError(world.name, str(e)) from e
    if not (split.train.lengths >= 2).any():
        raise WorldError(world.name, "no user has two training events; one of at least four events is needed")
    return split


def held_out_events(world: World) -> npt.NDArray[np.bool_]:
    """[N] the events that are targets of validation and test: the last two of each user with at least three."""
    log = world.interactions
    order = np.lexsort((log.user,) if log.time is None else (log.time, log.user))
    lengths = np.bincount(log.user, minlength=log.num_users)
    ends = np.cumsum(lengths)
    from_end = np.repeat(ends, lengths) - np.arange(len(order))
    held = np.zeros(len(order), dtype=bool)
    held[order] = (from_end <= 2) & (np.repeat(lengths, lengths) >= 3)
    return held
