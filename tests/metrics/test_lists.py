"""Lists of items, in every shape in which callers have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rectest.metrics.lists import Csr, Ints, ItemLists, item_pairs


@dataclass(frozen=True)
class Laid:
    """The least that counts as CSR."""

    items: Ints
    offsets: Ints


@pytest.mark.parametrize(
    "lists",
    [
        [[3, 1], [], [2]],
        [np.array([3, 1]), np.array([], dtype=np.int64), np.array([2], dtype=np.int32)],
        Laid(items=np.array([3, 1, 2]), offsets=np.array([0, 2, 2, 3])),
        np.array([[3, 1], [0, 0], [0, 2]]),
    ],
    ids=["lists", "arrays", "csr", "padded"],
)
def test_all_shapes_give_the_same_pairs(lists: ItemLists) -> None:
    row, item = item_pairs(lists, num_rows=3, what="relevant")

    assert [0, 0, 2] == row.tolist()
    assert [3, 1, 2] == item.tolist()
    assert (np.int64, np.int64) == (row.dtype, item.dtype)


def test_a_flat_array_is_one_item_a_row_and_zero_is_none() -> None:
    row, item = item_pairs(np.array([4, 0, 2]), num_rows=3, what="relevant")

    assert [(0, 4), (2, 2)] == list(zip(row.tolist(), item.tolist(), strict=True))


def test_csr_is_recognised_by_its_two_arrays() -> None:
    assert isinstance(Laid(items=np.arange(1), offsets=np.arange(2)), Csr)
    assert not isinstance([[1]], Csr)


@pytest.mark.parametrize("lists", [[], np.zeros(0, dtype=np.int64), np.zeros((0, 5), dtype=np.int64)])
def test_no_rows_give_no_pairs(lists: ItemLists) -> None:
    row, item = item_pairs(lists, num_rows=0, what="relevant")

    assert 0 == len(row) == len(item)


def test_padding_is_dropped_where_it_may_stand() -> None:
    _, item = item_pairs([[0, 0, 7]], what="excluded", drop_padding=True)

    assert [7] == item.tolist()


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ([[1, 0]], "relevant items must be at least 1 .0 is the padding., got 0 in row 0"),
        ([[1], [-2]], "got -2 in row 1"),
        (np.array([[3, -1]]), "got -1 in row 0"),
        ([[1.5]], "relevant items of row 0 must be a list of integers, got float64"),
        ([[1], 2], r"relevant items of row 1 must be a list of integers, got int64\[\]"),
        (np.array([1.0]), r"int\[B\] or int\[B, L\], got float64\[1\]"),
        (np.ones((1, 1, 1), dtype=np.int64), r"got int64\[1, 1, 1\]"),
    ],
)
def test_bad_lists_are_refused(lists: ItemLists, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        item_pairs(lists, what="relevant")


def test_the_number_of_rows_is_checked() -> None:
    with pytest.raises(ValueError, match="relevant items are given for 1 rows, expected 2"):
        item_pairs([[1]], num_rows=2, what="relevant")
