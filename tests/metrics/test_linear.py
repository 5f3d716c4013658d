"""Weighted sums of cells, and the slack that follows from them."""

from __future__ import annotations

import pytest

from rectest.metrics.linear import Linear, cell
from rectest.metrics.measure import Measure

A, B = Measure("hit", 5), Measure("hit", 10)
CELLS = {A: 0.25, B: 0.5}


def test_value_and_text_by_hand() -> None:
    form = cell(B) * 2 - cell(A) + Linear(constant=1.0)

    assert form.value(CELLS) == 1.75
    assert str(form) == "2 hit@10 - hit@5"
    assert str(Linear(constant=1.0)) == "1"


def test_equal_cells_cancel_with_their_slack() -> None:
    assert (cell(A) - cell(A) + Linear(constant=0.25)).excess(CELLS, {A: 1.0}) == 0.25


@pytest.mark.parametrize(("slack", "excess"), [(0.0, 0.25), (0.1, 0.05), (0.125, 0.0), (9.0, 0.0)])
def test_every_cell_earns_slack_by_its_weight(slack: float, excess: float) -> None:
    assert (cell(B) - cell(A)).excess(CELLS, {A: slack, B: slack}) == pytest.approx(excess)
