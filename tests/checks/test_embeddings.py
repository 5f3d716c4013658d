"""One planted fault for each property of a table: it alone turns red; harmless tables stay green."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, find, make_record, red_checks
from rectest.checks.embeddings import TableFacts, audit_table, embeddings
from rectest.checks.result import Verdict
from rectest.checks.single_record import judge_alone

Edit = Callable[[np.ndarray], object]


def _normalise(table: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)


def _set(row: int, value: object) -> Edit:
    def edit(table: np.ndarray) -> None:
        table[row] = value

    return edit


def _copy_row(table: np.ndarray) -> None:
    table[5] = table[6]


def _explode(table: np.ndarray) -> None:
    table[4] *= 1e6


def test_a_healthy_table_is_green() -> None:
    results = embeddings(make_record())

    assert set() == red_checks(results)
    assert 9 == len(results)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_set(3, np.nan), {"embeddings/finite"}),
        (_set(3, np.inf), {"embeddings/finite"}),
        (_set(0, 0.1), {"embeddings/padding_row"}),
        (_set(3, 0.0), {"embeddings/zero_rows"}),
        (_copy_row, {"embeddings/duplicates"}),
        (_explode, {"embeddings/exploding"}),
        (_set(60, 0.5), {"embeddings/untouched_rows"}),
    ],
    ids=["nan", "inf", "padding", "zero", "duplicate", "explode", "untouched"],
)
def test_each_planted_fault_turns_its_own_check_red(edit: Edit, expected: set[str]) -> None:
    record = edit_array(make_record(), "table/item", edit)

    assert expected == red_checks(embeddings(record))


def test_decay_that_makes_rare_rows_vanish_is_red_even_when_declared() -> None:
    def decay(table: np.ndarray) -> None:
        table[41:] *= 1e-3

    record = edit_facts(make_record(), "tables", "item", "moves_untouched", value=True)

    result = find(embeddings(edit_array(record, "table/item", decay)), "embeddings/spread")

    assert result.red
    assert "decile 1 of 3" in result.worst
    assert {"embeddings/spread"} == red_checks(embeddings(edit_array(record, "table/item", decay)))


def test_rows_that_all_point_one_way_have_collapsed() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, 8)) + 0.1 * rng.normal(size=(50, 8))

    assert {"embeddings/collapse"} == red_checks(audit_table(table, "item"))


def test_a_padding_row_that_initialisation_overwrote_is_red() -> None:
    record = edit_array(edit_array(make_record(), "table/item", _set(0, 0.3)), "table_init/item", _set(0, 0.3))

    result = find(embeddings(record), "embeddings/padding_row")

    assert result.red
    assert "never heals" in result.detail


def test_a_padding_row_that_was_zeroed_again_at_the_end_is_red() -> None:
    record = edit_array(make_record(), "table_init/item", _set(0, 0.3))

    assert "embeddings/padding_row" in red_checks(embeddings(record))


def test_a_table_without_padding_has_no_padding_check() -> None:
    record = edit_facts(make_record(), "tables", "item", "padding_row", value=None)
    record = edit_array(record, "table/item", _set(0, 0.3))

    assert not [r for r in embeddings(record) if r.check == "embeddings/padding_row"]


def test_a_dead_table_is_red() -> None:
    record = make_record()
    record = record.with_arrays(**{"table/item": record["table_init/item"]})

    result = find(embeddings(record), "embeddings/dead_rows")

    assert result.red
    assert result.figure.startswith("57 of 57 rows")


def test_a_frozen_table_must_stay() -> None:
    record = edit_facts(make_record(), "tables", "item", "frozen", value=True)
    still = record.with_arrays(**{"table/item": record["table_init/item"]})

    assert {"embeddings/dead_rows"} == red_checks(embeddings(record))
    assert set() == red_checks(embeddings(still))


def test_one_masked_rare_row_is_no_dead_table() -> None:
    record = edit_array(make_record(), "rows/item", _set(50, 2))
    initial = record["table_init/item"]

    assert set() == red_checks(embeddings(edit_array(record, "table/item", _set(50, initial[50]))))


def test_weight_decay_that_is_declared_may_move_absent_rows() -> None:
    record = edit_facts(make_record(), "tables", "item", "moves_untouched", value=True)
    record = edit_array(record, "table/item", _set(60, 0.5))

    result = find(embeddings(record), "embeddings/untouched_rows")

    assert result.verdict is Verdict.PASS
    assert "1 of 3 rows" in result.figure
    assert "declared" in result.figure


def test_promised_norms_are_held_to_rounding() -> None:
    record = edit_facts(make_record(), "tables", "item", "norm", value=1.0)
    record = edit_array(edit_array(record, "table/item", _normalise), "table_init/item", _normalise)

    def stretch(table: np.ndarray) -> None:
        table[7] *= 1.00001

    assert set() == red_checks(embeddings(record))
    assert {"embeddings/norm"} == red_checks(embeddings(edit_array(record, "table/item", stretch)))


@pytest.mark.parametrize("missing", ["table_init/item", "rows/item"])
def test_a_missing_array_is_not_measured_and_named(missing: str) -> None:
    results = embeddings(make_record().with_arrays(**{missing: None}))

    result = find(results, "embeddings/untouched_rows")

    assert result.verdict is Verdict.NOT_MEASURED
    assert missing in result.figure


def test_rows_that_nobody_counted_are_not_measured() -> None:
    record = make_record()
    record = record.with_arrays(**{"rows/item": np.zeros_like(record["rows/item"])})

    assert find(embeddings(record), "embeddings/untouched_rows").verdict is Verdict.NOT_MEASURED


def test_a_record_without_tables_measured_nothing() -> None:
    (result,) = embeddings(make_record().with_arrays(**{"table/item": None, "table_init/item": None}))

    assert result.verdict is Verdict.NOT_MEASURED
    assert "no table" in result.figure


def test_a_table_that_was_begun_and_not_kept_is_not_measured() -> None:
    record = make_record().with_arrays(**{"table/item": None})

    (result,) = embeddings(record)

    assert (result.verdict, result.subject) == (Verdict.NOT_MEASURED, "item")
    assert "no table/item" in result.figure
    assert result in judge_alone(record)[0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"initial": np.zeros((4, 2))}, "initial"),
        ({"touches": np.zeros(4)}, "row counts"),
        ({"facts": TableFacts(padding_row=9)}, "padding row 9"),
    ],
)
def test_arrays_that_do_not_fit_are_not_measured(options: dict, match: str) -> None:
    (result,) = audit_table(np.ones((3, 2)), "item", **options)

    assert result.verdict is Verdict.NOT_MEASURED
    assert match in result.figure


def test_a_table_that_is_no_table_is_not_measured() -> None:
    (result,) = audit_table(np.zeros((0, 4)), "item")

    assert result.verdict is Verdict.NOT_MEASURED


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 200),
    st.integers(3, 24),
    st.floats(0.001, 10),
    st.sampled_from(["float16", "float32", "float64"]),
    st.integers(0, 2**32),
)
def test_random_tables_raise_no_alarm(num_rows: int, dim: int, scale: float, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = (rng.normal(size=(num_rows, dim)) * scale).astype(dtype)
    popularity = rng.zipf(1.5, size=num_rows)
    # Two or three rows may point one way by luck.
    ignored = {"embeddings/collapse"} if num_rows < 10 else set()

    assert red_checks(audit_table(table, "random", popularity=popularity)) <= ignored


def test_one_dimensional_rows_are_too_short_to_be_distinct() -> None:
    table = np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)

    result = find(audit_table(table, "bias"), "embeddings/duplicates")

    assert result.verdict is Verdict.PASS
    assert "too short" in result.figure
