"""Cells and their digits, and the unit of a file."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rectest.audits.metric_cells import Cell, MetricTable, as_fractions, read_cell, with_common_digits


def table(**texts: str) -> MetricTable:
    cells = {name.replace("_at_", "@"): read_cell(text) for name, text in texts.items()}
    return MetricTable(label="", group="", cells={name: cell for name, cell in cells.items() if cell is not None})


@pytest.mark.parametrize(
    ("text", "value", "decimals", "percent"),
    [
        ("0.7803", 0.7803, 4, False),
        ("0.6200", 0.62, 4, False),
        ("**89.15%**", 89.15, 2, True),
        ("89.15 %", 89.15, 2, True),
        ("０.７８", 0.78, 2, False),
        ("0.7244 (Val)", 0.7244, 4, False),
        ("0.7244 ± 0.003", 0.7244, 4, False),
        ("5.44e-02", 0.0544, 4, False),
        ("0,7803", 0.7803, 4, False),
        (".5", 0.5, 1, False),
        ("0.054370229007633585", 0.054370229007633585, None, False),
        ("49", 49.0, 0, False),
    ],
)
def test_cells(text: str, value: float, decimals: int | None, percent: bool) -> None:
    cell = read_cell(text)

    assert cell is not None
    assert (cell.value, cell.decimals, cell.percent) == (pytest.approx(value), decimals, percent)


@pytest.mark.parametrize("text", ["", "-", "0.274→0.687", "up", "0.1 / 0.2", "1.2.3", "0.1 0.2", "12:30"])
def test_cells_without_one_number(text: str) -> None:
    assert read_cell(text) is None


def test_a_nan_is_a_cell() -> None:
    cell = read_cell("nan")

    assert cell is not None
    assert math.isnan(cell.value)


def test_a_column_has_its_most_digits() -> None:
    rows = with_common_digits([table(mrr="0.62", hit_at_5="0.5"), table(mrr="0.6213", hit_at_5="0.25")])

    assert [row.decimals for row in rows] == [{"mrr": 4, "hit@5": 2}] * 2


def test_a_column_in_full_is_exact_and_a_float32_is_not() -> None:
    (exact,) = with_common_digits([table(mrr=repr(1 / 3))])
    (narrow,) = with_common_digits([table(mrr=repr(float(np.float32(1 / 3))), mean_rank="41.2599983215332")])

    assert exact.decimals == {}
    assert narrow.decimals == {"mrr": 5, "mean_rank": 2}


def test_a_bare_zero_has_the_digits_beside_it() -> None:
    """A program writes round(0.00001, 4) as 0.0: hit@1 is then no 0.0351, which one digit would allow."""
    (bare,) = with_common_digits([table(hit_at_1="0.0", hit_at_5="0.1889")])
    (full,) = with_common_digits([table(hit_at_1="1.0", hit_at_5=repr(1 / 3))])
    (short,) = with_common_digits([table(hit_at_1="0.1", hit_at_5="0.1889", mean_rank="1.0")])

    assert bare.decimals == {"hit@1": 4, "hit@5": 4}
    assert full.decimals == {}
    assert short.decimals == {"hit@1": 1, "hit@5": 4, "mean_rank": 1}


@pytest.mark.parametrize(
    ("texts", "expected", "noted"),
    [
        ({"recall_at_5": "62.00", "recall_at_10": "78.03"}, (0.62, 0.7803), "percentages"),
        ({"recall_at_5": "0.62", "recall_at_10": "78.03%"}, (0.62, 0.7803), "percent sign"),
        ({"recall_at_5": "0.50", "recall_at_10": "1.20"}, (0.005, 0.012), "percentages"),
        ({"recall_at_5": "62.00", "recall_at_10": "0.7803"}, (62.0, 0.7803), ""),
        ({"recall_at_5": "0.62", "recall_at_10": "0.7803"}, (0.62, 0.7803), ""),
    ],
)
def test_units(texts: dict[str, str], expected: tuple[float, float], noted: str) -> None:
    (read,), note = as_fractions([table(**texts)], single_relevant=True)

    assert tuple(read.values.values()) == pytest.approx(expected)
    assert noted in note


def test_percentages_keep_their_slack_and_ranks_their_value() -> None:
    (read,), _ = as_fractions([table(hit_at_5="62.0", mrr="40.25", mean_rank="12.5")], single_relevant=True)

    assert read.decimals == {"hit@5": 3, "mrr": 4, "mean_rank": 1}
    assert read.values["mean_rank"] == 12.5


def test_the_unit_can_be_said() -> None:
    (read,), _ = as_fractions([table(hit_at_5="0.5")], single_relevant=True, unit="percent")

    assert read.values == {"hit@5": 0.005}
    with pytest.raises(ValueError, match="unit must be auto, fraction or percent, got 'permille'"):
        as_fractions([], single_relevant=True, unit="permille")
    assert Cell(text="1", value=1.0, decimals=0).percent is False
