"""Samples and batches: what the model is asked, as text first, then as tokens.

A sample knows the newest items of a history, oldest first. Its ids are joined to one text and split again, as a file
would give them, and read newest first. The collator makes the tensors of report 003's system out of that:
``item_text_ids`` [B, N+1, Lp], ``item_text_mask``, ``target_ids`` [B, levels + 1], ``user_ids``, ``recent_item_ids``
[B, 5]. Passage 0 is the history as ids, the others are the words of its newest items.

Shapes: S samples, B batch, H items of a history, N item passages, Lp tokens of a passage, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.errors import DataError
from rectest.systems.gram_c.text import END, join_history

__all__ = ["IGNORED", "NUM_RECENT", "Collator", "Samples", "epochs", "graph_rows", "read_histories"]

IntArray = npt.NDArray[np.int64]

NUM_RECENT = 5
IGNORED = -100
"""A target that no loss is taken of."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """Histories with the item that follows."""

    users: IntArray
    """[S] dense user ids."""

    histories: IntArray
    """[S, H] oldest first, right-aligned, zeros before them."""

    targets: IntArray
    """[S]."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> IntArray:
        """[S] items of each history that are kept."""
        counts: IntArray = (self.histories > 0).sum(axis=1)
        return counts

    @classmethod
    def prefixes(cls, train: Sequences, *, max_history: int) -> Samples:
        """Each training item that has another one before it, after all that came before it."""
        position = train.positions()
        place = np.flatnonzero(position > 0)
        return cls(
            users=train.owners()[place],
            histories=_windows(train.items, place, position[place], max_history),
            targets=train.items[place],
        )

    @classmethod
    def following(cls, known: Sequences, targets: IntArray, *, max_history: int) -> Samples:
        """One sample for each user with a target: what may be known of them, and that target."""
        users = np.flatnonzero((targets > 0) & (known.lengths > 0))
        ends = known.offsets[users + 1]
        histories = _windows(known.items, ends, known.lengths[users], max_history)
        return cls(users=users, histories=histories, targets=targets[users])


def _windows(items: IntArray, ends: IntArray, lengths: IntArray, width: int) -> IntArray:
    """[S, width] the items before each of `ends`, at most `lengths` of them."""
    back = np.arange(width, 0, -1)
    inside = back[None] <= lengths[:, None]
    windows: IntArray = np.where(inside, items[np.where(inside, ends[:, None] - back, 0)], 0)
    return windows


def read_histories(
    samples: Samples,
    texts: tuple[str, ...],
    split: Callable[[str], list[str]],
    *,
    num_newest: int,
    newest_first: bool = True,
) -> IntArray:
    """[S, num_newest] the items that the history texts name, newest first; len(texts) for a text that no item has."""
    items = {text: item for item, text in enumerate(texts)}
    rows = np.zeros((len(samples), num_newest), dtype=np.int64)
    for row, history in enumerate(samples.histories.tolist()):
        fields = split(join_history([texts[item] for item in history if item]))
        ordered = fields[::-1] if newest_first else fields
        found = [items.get(field, len(texts)) for field in ordered[:num_newest]]
        rows[row, : len(found)] = found
    return rows


def graph_rows(items: IdMap, rows: Mapping[str, int]) -> IntArray:
    """[V+1] the row of the graph table for each item, found by its raw id; 0 for the padding.

    Raises:
        DataError: an item has no row. A default of 0 would make its prefix zero and nobody would know.
    """
    missing = [raw for raw in items.raws if raw not in rows]
    if missing:
        known = next(iter(rows), "")
        msg = f"{len(missing)} of {len(items)} items have no graph row, first {missing[0]!r}; keys look like {known!r}"
        raise DataError(msg)
    return np.array([0, *(rows[raw] for raw in items.raws)], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Collator:
    """Turns samples, read newest first, into the model's tensors."""

    id_tokens: IntArray
    """[V+2, levels]; the last row is an unknown id."""

    word_tokens: IntArray
    """[V+2, Lp]."""

    graph_rows: IntArray
    """[V+1]."""

    num_passages: int
    prefix: bool
    """Whether to fill in the recent items."""

    def __call__(self, samples: Samples, newest: IntArray, rows: IntArray | slice) -> dict[str, Tensor]:
        """The tensors of some rows of the samples."""
        texts = self.passages(newest[rows])
        targets = self.id_tokens[samples.targets[rows]]
        ended = np.concatenate([targets, np.full((len(targets), 1), END)], axis=1)
        arrays = {
            "item_text_ids": texts,
            "item_text_mask": texts > 0,
            "target_ids": np.where(ended > 0, ended, IGNORED),
            "user_ids": samples.users[rows],
            "recent_item_ids": self.recent(samples.histories[rows]),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def passages(self, newest: IntArray) -> IntArray:
        """[B, N+1, Lp] tokens: the history's ids, then the words of its newest items."""
        length = self.word_tokens.shape[1]
        history = np.zeros((len(newest), length), dtype=np.int64)
        ids = self.id_tokens[newest].reshape(len(newest), -1)[:, :length]
        history[:, : ids.shape[1]] = ids
        words = np.zeros((len(newest), self.num_passages, length), dtype=np.int64)
        found = self.word_tokens[newest[:, : self.num_passages]]
        words[:, : found.shape[1]] = found
        return np.concatenate([history[:, None], words], axis=1)

    def recent(self, histories: IntArray) -> IntArray:
        """[B, 5] graph rows of the newest items, oldest of them first, zeros before them."""
        rows = np.zeros((len(histories), NUM_RECENT), dtype=np.int64)
        newest = self.graph_rows[histories[:, -NUM_RECENT:]]
        rows[:, NUM_RECENT - newest.shape[1] :] = newest
        return rows if self.prefix else np.zeros_like(rows)


def epochs(num_samples: int, batch_size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Endless rows of batches: every epoch is a fresh permutation, its last batch is what is left over."""
    while True:
        order = rng.permutation(num_samples)
        for start in range(0, num_samples, batch_size):
            yield order[start : start + batch_size]
