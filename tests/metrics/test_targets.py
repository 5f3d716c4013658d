"""Who competes with whom, before there are scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from fixtures.rankings import RankingCase, ranking_cases
from rectest.errors import MetricError
from rectest.metrics.targets import Targets, repeated_slots


def test_seen_items_are_ignored_once_and_relevant_ones_never() -> None:
    targets = Targets.full([[2], [5, 1]], num_rows=2, excluded=[[4, 2, 4, 0], []])

    assert [(0, 2), (1, 5), (1, 1)] == list(zip(targets.row.tolist(), targets.column.tolist(), strict=True))
    assert [(0, 4)] == list(zip(targets.ignored_row.tolist(), targets.ignored_column.tolist(), strict=True))
    assert [5, 6, 6] == targets.num_candidates(7).tolist()


def test_candidates_are_found_in_their_slots_and_empty_slots_are_ignored() -> None:
    targets = Targets.within([[7, 3, 9], [4, 0, 0]], [[9], [4]])

    assert [2, 0] == targets.column.tolist()
    assert [3, 1] == targets.num_candidates(3).tolist()


def test_a_block_speaks_of_its_own_rows() -> None:
    targets = Targets.full([[1], [2], [3, 4]], num_rows=3, excluded=[[5], [], [6, 5]])

    block = targets.block(2, 3)

    assert slice(2, 4) == block.position
    assert [0, 0] == block.row.tolist()
    assert [(0, 5), (0, 6), (1, 5), (1, 6)] == list(zip(*(part.tolist() for part in block.pairs()), strict=True))
    assert [0, 5, 6] == np.flatnonzero(block.ignored_mask(7, first_column=1)[0]).tolist()


@settings(max_examples=50, deadline=None)
@given(case=ranking_cases())
def test_pairs_are_every_target_with_every_ignored_column_of_its_row(case: RankingCase) -> None:
    targets = Targets.full(case.relevant, num_rows=len(case.scores), excluded=case.excluded)

    target, column = targets.block(0, targets.num_rows).pairs()

    expected = {
        (index, item)
        for index, row in enumerate(targets.row.tolist())
        for item in set(case.excluded[row]) - set(case.relevant[row])
    }
    obtained = list(zip(target.tolist(), column.tolist(), strict=True))
    assert expected == set(obtained)
    assert len(expected) == len(obtained)


def test_repeated_candidates_are_counted_not_refused() -> None:
    candidates = [[5, 1, 1, 1], [2, 3, 0, 0]]

    assert [2, 0] == repeated_slots(candidates).tolist()
    assert 2 == Targets.within(candidates, [[5], [3]]).num_rows


@pytest.mark.parametrize(("candidates", "times"), [([[1, 2]], 0), ([[3, 1, 3]], 2)])
def test_a_target_must_stand_once_among_its_candidates(candidates: list[list[int]], times: int) -> None:
    with pytest.raises(MetricError, match=f"relevant item 3 stands {times} times among the candidates of row 0"):
        Targets.within(candidates, [[3]])


def test_a_repeated_relevant_item_is_refused() -> None:
    with pytest.raises(MetricError, match="row 1 lists the relevant item 4 more than once"):
        Targets.full([[1], [4, 2, 4]], num_rows=2)


def test_items_beyond_the_scores_are_refused() -> None:
    with pytest.raises(MetricError, match="relevant item 9 of row 1 has no score: the scores have 9 columns"):
        Targets.full([[8], [9]], num_rows=2).check_width(9)
    with pytest.raises(MetricError, match="excluded item 9 of row 0 has no score"):
        Targets.full([[8]], num_rows=1, excluded=[[9]]).check_width(9)


def test_scores_that_hold_no_candidate_are_refused() -> None:
    with pytest.raises(ValueError, match="scores have 1 columns, expected at least 2"):
        Targets.full([[]], num_rows=1).check_width(1)


@pytest.mark.parametrize("candidates", [[1, 2], [[1.0]], [[[1]]]])
def test_candidates_of_another_shape_are_refused(candidates: list[object]) -> None:
    with pytest.raises(ValueError, match=r"candidates must be int\[B, C\]"):
        Targets.within(candidates, [[1]])  # type: ignore[arg-type]


def test_slots_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"slots must be -1 or in 0..2, got 0..3"):
        Targets.slots([0, 3], num_columns=3)
    with pytest.raises(ValueError, match=r"slot must be int\[B\]"):
        Targets.slots([[0]], num_columns=3)
