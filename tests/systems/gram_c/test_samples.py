"""Samples, the texts of histories, and the tensors of the collator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.errors import DataError
from rectest.systems.gram_c.samples import IGNORED, Collator, Samples, epochs, graph_rows, read_histories
from rectest.systems.gram_c.text import END, split_history

TEXTS = ("", "a0", "a1", "a2", "a3")
LEVELS = 1


def collator(*, prefix: bool = True, num_passages: int = 2) -> Collator:
    """Item i has the id token 10 + i and the words 20 + i, 30 + i."""
    return Collator(
        id_tokens=np.array([[0], [11], [12], [13], [14], [2]]),
        word_tokens=np.array([[0, 0, 0], [21, 31, 0], [22, 32, 0], [23, 33, 0], [24, 34, 0], [2, 0, 0]]),
        graph_rows=np.array([0, 4, 3, 2, 1]),
        num_passages=num_passages,
        prefix=prefix,
    )


def test_prefixes_by_hand():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2, 3], [], [4], [2, 1]]), max_history=2)

    assert samples.users.tolist() == [0, 0, 3]
    assert samples.histories.tolist() == [[0, 1], [1, 2], [0, 2]]
    assert samples.targets.tolist() == [2, 3, 1]
    assert samples.lengths.tolist() == [1, 2, 1]


def test_the_newest_items_are_kept():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2, 3, 4]]), max_history=2)

    assert samples.histories[-1].tolist() == [2, 3]


def test_following_by_hand():
    known, targets = Sequences.from_lists([[1, 2], [3], [], [4, 1, 2]]), np.array([3, 0, 4, 3])
    samples = Samples.following(known, targets, max_history=2)

    assert samples.users.tolist() == [0, 3]
    assert samples.histories.tolist() == [[1, 2], [1, 2]]
    assert samples.targets.tolist() == [3, 3]


@settings(max_examples=50, deadline=None)
@given(lists=st.lists(st.lists(st.integers(1, 9), max_size=8), min_size=1, max_size=6), width=st.integers(1, 9))
def test_every_item_after_another_is_a_sample(lists, width):
    samples = Samples.prefixes(Sequences.from_lists(lists), max_history=width)
    expected = [
        (user, [0] * (width - min(j, width)) + items[max(0, j - width) : j], items[j])
        for user, items in enumerate(lists)
        for j in range(1, len(items))
    ]

    assert expected == list(
        zip(samples.users.tolist(), samples.histories.tolist(), samples.targets.tolist(), strict=True)
    )


def test_histories_are_read_newest_first():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2, 3, 4]]), max_history=5)
    read = read_histories(samples, TEXTS, split_history, num_newest=2)

    assert read.tolist() == [[1, 0], [2, 1], [3, 2]]
    assert read_histories(samples, TEXTS, split_history, num_newest=2, newest_first=False).tolist() == [
        [1, 0],
        [1, 2],
        [1, 2],
    ]


def test_a_text_that_no_item_has_is_the_unknown_item():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2, 3]]), max_history=5)

    assert read_histories(samples, TEXTS, lambda text: [text], num_newest=2).tolist() == [[1, 0], [5, 0]]


def test_tensors_by_hand():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2, 3]]), max_history=5)
    newest = read_histories(samples, TEXTS, split_history, num_newest=3)
    batch = collator()(samples, newest, np.array([1]))

    assert batch["item_text_ids"].tolist() == [[[12, 11, 0], [22, 32, 0], [21, 31, 0]]]
    assert batch["item_text_mask"].tolist() == [[[True, True, False]] * 3]
    assert batch["target_ids"].tolist() == [[13, END]]
    assert batch["user_ids"].tolist() == [0]
    assert batch["recent_item_ids"].tolist() == [[0, 0, 0, 4, 3]], "graph rows, oldest first, after the padding"
    assert all(value.is_contiguous() for value in batch.values())


def test_short_histories_leave_passages_empty():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2]]), max_history=1)
    newest = read_histories(samples, TEXTS, split_history, num_newest=2)

    assert collator()(samples, newest, slice(None))["item_text_mask"].tolist() == [
        [[True, False, False], [True, True, False], [False, False, False]]
    ]


def test_padding_in_a_target_is_ignored_by_the_loss():
    """An unknown id has one token; nothing may be asked of the places that are left."""
    samples = Samples(users=np.array([0]), histories=np.array([[1]]), targets=np.array([2]))
    padded = Collator(
        id_tokens=np.array([[0, 0], [11, 15], [2, 0]]),
        word_tokens=np.array([[0], [21], [2]]),
        graph_rows=np.array([0, 1]),
        num_passages=1,
        prefix=True,
    )

    assert padded(samples, np.array([[1]]), slice(None))["target_ids"].tolist() == [[2, IGNORED, END]]


def test_without_the_prefix_nothing_is_recent():
    samples = Samples.prefixes(Sequences.from_lists([[1, 2, 3]]), max_history=5)
    newest = read_histories(samples, TEXTS, split_history, num_newest=2)
    batch = collator(prefix=False)(samples, newest, slice(None))

    assert torch.equal(batch["recent_item_ids"], torch.zeros(2, 5, dtype=torch.int64))


def test_graph_rows_by_raw_id():
    items = IdMap(raws=("B", "A"))

    assert graph_rows(items, {"A": 1, "B": 2, "C": 3}).tolist() == [0, 2, 1]
    with pytest.raises(DataError, match="1 of 2 items have no graph row, first 'B'; keys look like 'A'"):
        graph_rows(items, {"A": 1, "b": 2})


@settings(max_examples=30, deadline=None)
@given(num=st.integers(1, 40), size=st.integers(1, 50))
def test_epochs_use_every_sample_once(num, size):
    stream = epochs(num, size, np.random.default_rng(0))
    per_epoch = -(-num // size)
    rows = [next(stream) for _ in range(2 * per_epoch)]

    for epoch in (rows[:per_epoch], rows[per_epoch:]):
        assert sorted(np.concatenate(epoch).tolist()) == list(range(num))
        assert [len(part) for part in epoch[:-1]] == [size] * (per_epoch - 1)
