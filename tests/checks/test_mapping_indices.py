"""Indices of a map: each planted fault has its own code, and dense maps in any order are green."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.mapping_entries import NO_INDEX, Entries
from rectest.checks.mapping_ids import RawIds
from rectest.checks.mapping_indices import (
    bijection,
    blank,
    first_index,
    gaps,
    index_type,
    one_index,
    padding,
    table_index,
)
from rectest.checks.result import CheckResult


def _entries(index: list[int], texts: list[str] | None = None) -> Entries:
    texts = [f"i{place}" for place in range(len(index))] if texts is None else texts
    return Entries(ids=RawIds.from_texts(texts), index=np.array(index, dtype=np.int64))


@given(st.permutations(range(1, 20)))
@settings(max_examples=20, deadline=None)
def test_a_dense_map_in_any_order_is_green(index: list[int]) -> None:
    entries = _entries(list(index))

    results: list[CheckResult] = [bijection(entries, "m"), one_index(entries, "m"), gaps(entries, "m")]
    results += [first_index(entries, "m"), index_type(entries, "m"), padding(entries, "m", index=0)]

    assert not any(result.red for result in [*results, table_index(entries, "t", 20, "m")])


def test_an_index_of_two_ids_is_named_with_both() -> None:
    result = one_index(_entries([1, 2, 2, 3]), "m")

    assert result.red
    assert "index 2: 'i1', 'i2'" == result.worst


def test_one_id_written_twice_with_one_index_is_no_shared_index() -> None:
    entries = _entries([1, 2, 2], ["a", "b", "b"])

    assert not one_index(entries, "m").red
    assert "'b' at 2, 2" == bijection(entries, "m").worst


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ([1, 2, 4, 5], "indices 3"),
        ([0, 5, 9], "indices 1-4, 6-8"),
        ([1, 10**15], f"indices 2-{10**15 - 1}"),
        ([-(2**62), 2**62], f"indices {1 - 2**62}-{2**62 - 1}"),
    ],
)
def test_holes_are_ranges_whatever_their_size(index: list[int], rows: str) -> None:
    assert rows == gaps(_entries(index), "m").rows


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True))
@settings(max_examples=50, deadline=None)
def test_holes_are_what_no_entry_has(index: list[int]) -> None:
    missing = set(range(min(index), max(index))) - set(index)

    assert gaps(_entries(index), "m").figure.startswith(f"{len(missing)} of {max(index) - min(index) + 1} ")


def test_space_of_every_kind_is_blank() -> None:
    spaces = [chr(i) for i in range(0x11000) if chr(i).isspace()]

    assert blank(RawIds.from_texts([*spaces, "", "\u3042", "a"])).tolist() == [True] * (len(spaces) + 1) + [False] * 2


def test_special_entries_are_known_by_their_names() -> None:
    texts = ["[PAD]", "<unk>", "p1", "pad", "padded", "[x]", "Padding"]

    assert [0, 1, 3, 6] == _entries(list(range(7)), texts).special().tolist()


def test_blank_ids_are_holes_at_the_ends_as_well() -> None:
    assert "indices 1, 3" == gaps(_entries([1, 2, 3], ["", "a", " "]), "m").rows
    assert "indices 1-2" == gaps(_entries([1, 2], ["", " "]), "m").rows


@pytest.mark.parametrize(
    ("index", "expected", "red"),
    [([0, 1], None, False), ([1, 2], None, False), ([2, 3], None, True), ([0, 1], 1, True), ([-1, 0], None, True)],
)
def test_the_first_index_is_zero_or_one_or_as_asked(index: list[int], expected: int | None, red: bool) -> None:
    assert red == first_index(_entries(index), "m", expected=expected).red


@pytest.mark.parametrize(
    ("value", "kind", "number"),
    [
        (3.0, "a decimal number", 3),
        (3.5, "a decimal number", NO_INDEX),
        ("3", "text", 3),
        ("x", "text", NO_INDEX),
        (None, "null", NO_INDEX),
        (True, "a truth value", NO_INDEX),
        (float("nan"), "not a number", NO_INDEX),
        (float("inf"), "not a number", NO_INDEX),
        ([1], "nested", NO_INDEX),
        (2**63, "out of range", NO_INDEX),
        (-(10**30), "out of range", NO_INDEX),
    ],
)
def test_an_index_that_is_no_whole_number_is_named(value: object, kind: str, number: int) -> None:
    entries = Entries.from_values(["a", "b"], [1, value])

    result = index_type(entries, "m")

    assert number == entries.index[1]
    assert result.red
    assert kind in result.figure
    assert result.worst.startswith("'b'")


def test_the_index_of_padding_is_for_padding() -> None:
    assert "'a'" == padding(_entries([0, 1], ["a", "b"]), "m", index=0).worst
    assert not padding(_entries([0, 1], ["[PAD]", "b"]), "m", index=0).red


def test_an_index_without_a_row_is_named() -> None:
    assert "'i2' at 3" == table_index(_entries([1, 2, 3]), "t", 3, "m").worst
    assert "'i0' at -1" == table_index(_entries([-1, 2]), "t", 3, "m").worst


def test_ids_and_indices_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="one index for each raw id"):
        Entries(ids=RawIds.from_texts(["a"]), index=np.arange(2))


def test_a_map_without_any_index_is_red() -> None:
    entries = Entries.from_values(["a"], [None])

    assert first_index(entries, "m").red
    assert not gaps(entries, "m").red
