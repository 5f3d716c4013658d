"""Planted faults in id maps, each named by its own check; maps of every usual format stay green."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, find, make_record, red_checks
from rectest.checks.mapping import canonical, check_mapping, mapping
from rectest.checks.result import Verdict

INTEGERS = [str(i) for i in range(100, 140)]


def _with(raws: list[str], index: int, value: str) -> list[str]:
    return [value if i == index else raw for i, raw in enumerate(raws)]


def test_a_healthy_record_is_green() -> None:
    assert set() == red_checks(mapping(make_record()))


@pytest.mark.parametrize(
    ("raws", "expected"),
    [
        (_with(INTEGERS, 3, "105"), {"mapping/bijection"}),
        (_with(INTEGERS, 3, ""), {"mapping/gaps"}),
        (_with(INTEGERS, 3, "487.0"), {"mapping/key_format"}),
        (_with(INTEGERS, 3, "105.0"), {"mapping/key_format", "mapping/collisions"}),
        (_with(INTEGERS, 3, "unknown"), {"mapping/key_format"}),
        (_with(INTEGERS, 3, "0105"), {"mapping/collisions"}),
        (_with(INTEGERS, 3, " 999"), {"mapping/key_format"}),
        (["b00a", "B00A", "B00C"], {"mapping/collisions"}),
        ([f"{i}.0" for i in range(20)] + INTEGERS[:20], {"mapping/key_format"}),
    ],
    ids=["twice", "gap", "decimal", "same as decimal", "word", "zeros", "space", "case", "half decimals"],
)
def test_each_planted_fault_is_named(raws: list[str], expected: set[str]) -> None:
    assert expected == red_checks(check_mapping(raws))


@pytest.mark.parametrize(
    "raws",
    [
        INTEGERS,
        [f"B{i:09d}" for i in range(20)],
        ["0001048791", "000104880X", "B000000001"],
        [f"item_{i}" for i in range(20)],
        ["c0ffee00-0000", "deadbeef-0001"],
        ["Toy Story (1995)", "Heat (1995)", "487"],
        ["only"],
    ],
    ids=["integers", "asin", "isbn and asin", "prefixed", "hex", "titles", "one"],
)
def test_usual_formats_raise_no_alarm(raws: list[str]) -> None:
    assert set() == red_checks(check_mapping(raws))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60, unique=True), st.data())
def test_any_two_equal_ids_are_found(ids: list[int], data: st.DataObject) -> None:
    raws = [str(i) for i in ids]
    again = data.draw(st.sampled_from(raws))

    assert set() == red_checks(check_mapping(raws))
    assert {"mapping/bijection"} == red_checks(check_mapping([*raws, again]))


def test_a_table_of_another_size_is_red() -> None:
    results = check_mapping(INTEGERS, tables={"item": 41, "history": 40})

    assert "1 rows too few" in find(results, "mapping/table_rows", "item and history").outside
    assert not find(results, "mapping/table_rows", "item and item").red


def test_ids_outside_of_the_map_are_red_in_their_phase() -> None:
    results = check_mapping(INTEGERS, used={"training": np.array([1, 40]), "serving": np.array([0, 41])})

    assert not find(results, "mapping/complete", "item in training").red
    assert "0, 41" in find(results, "mapping/complete", "item in serving").outside


def test_a_phase_without_ids_is_red() -> None:
    assert {"mapping/complete"} == red_checks(check_mapping(INTEGERS, used={"serving": np.array([], dtype=int)}))


def test_missing_ids_that_defaulted_to_padding_are_red() -> None:
    def default(counts: np.ndarray) -> None:
        counts[0], counts[5] = counts[5], 0

    results = mapping(edit_array(make_record(), "popularity/item", default))

    assert {"mapping/complete"} == red_checks(results)
    assert "id 0" in find(results, "mapping/complete").worst


def test_a_table_addressed_by_other_ids_misses_the_popular_items() -> None:
    def reverse(rows: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(rows)
        moved[40:] = 50
        return moved

    results = mapping(edit_array(make_record(), "rows/item", reverse))

    assert {"mapping/popular_items"} == red_checks(results)
    assert "id 1, 200 events" in find(results, "mapping/popular_items").worst


def test_a_short_training_is_not_blamed_for_rare_items() -> None:
    def short(rows: np.ndarray) -> None:
        rows[10:] = 0
        rows[:10] = np.minimum(rows[:10], 3)

    assert set() == red_checks(mapping(edit_array(make_record(), "rows/item", short)))


def test_two_vocabularies_of_one_space_are_red() -> None:
    record = make_record()
    swapped = record["idmap/item"].copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    record = record.with_arrays(**{"idmap/target": swapped})
    record = edit_facts(record, "idmaps", "target", value={"space": "item", "first_index": 1})

    results = mapping(record)

    assert {"mapping/one_vocabulary"} == red_checks(results)
    assert "2 of 60" in find(results, "mapping/one_vocabulary").figure


def test_vocabularies_of_two_spaces_are_not_compared() -> None:
    assert not [r for r in mapping(make_record()) if r.check == "mapping/one_vocabulary"]


@pytest.mark.parametrize("missing", ["popularity/item"])
def test_missing_counts_are_not_measured(missing: str) -> None:
    result = find(mapping(make_record().with_arrays(**{missing: None})), "mapping/popular_items")

    assert result.verdict is Verdict.NOT_MEASURED
    assert missing in result.figure


def test_nothing_to_judge_is_not_measured() -> None:
    bare = make_record().with_arrays(**{"idmap/item": None, "idmap/user": None})

    assert Verdict.NOT_MEASURED is mapping(bare)[0].verdict
    assert Verdict.NOT_MEASURED is check_mapping([])[0].verdict


@given(st.text(max_size=12))
@settings(max_examples=50, deadline=None)
def test_canonical_is_idempotent(raw: str) -> None:
    assert canonical(raw) == canonical(canonical(raw))
