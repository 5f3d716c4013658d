"""Counting against a double loop in Python: every width, layout, type and odd number, and every refusal.

Each test runs twice, with the compiled count and without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.errors import MetricError
from rectest.metrics import counting, pieces
from rectest.metrics.counting import RowCounter, row_chunks
from rectest.metrics.targets import Targets

TINY = float(np.finfo(np.float32).smallest_subnormal)
LARGEST = float(np.finfo(np.float32).max)
VALUES = [0.0, -0.0, TINY, -TINY, 1.0, float(np.nextafter(np.float32(1), np.float32(2))), -1.0, LARGEST, -LARGEST]
LAYOUTS = ["rows", "columns", "every second column", "backwards", "part of a wider table", "unaligned"]

LAST_NARROW, FIRST_WIDE = 255, 256


@pytest.fixture(params=["compiled", "numpy"], scope="module", autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "compiled" and counting.count_rows is None:
        pytest.skip("the compiled count was not built; test_row_counts.py says whether it could have been")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(counting, "count_rows", None)
        yield str(request.param)


def test_counts_by_hand() -> None:
    scores = np.array([[9.0, 3.0, 5.0, 5.0, 1.0], [9.0, 1.0, 2.0, 3.0, 4.0]])

    assert _count(scores, Targets.full([[3], [1, 4]], num_rows=2)).tolist() == [[0, 3, 0], [2, 4, 1]]


@settings(max_examples=50, deadline=None)
@given(
    width=st.sampled_from([2, 8, 9, 31, 119, 120, 121, 240, 241, 255, 256, 257, 300]),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.longdouble, np.dtype(">f4"), np.dtype(">f8")]),
    first_column=st.sampled_from([0, 1]),
    piece_bytes=st.sampled_from([1, 5000, 1 << 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_a_double_loop(
    width: int, layout: str, dtype: Any, first_column: int, piece_bytes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = [value for value in VALUES if abs(value) <= float(np.finfo(dtype).max)]
    scores = _laid_out(rng.choice(values, size=(6, width)).astype(dtype), layout)
    targets = _targets(rng, 6, width, first_column=first_column)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece_bytes)
        obtained = _count(scores, targets)

    assert _double_loop(scores, targets) == obtained.T.tolist()


@pytest.mark.parametrize("first_column", [0, 1])
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0], ids=["none above", "all tied", "all above"])
def test_no_width_overflows_what_is_added(value: float, first_column: int) -> None:
    for width in [*range(1 + first_column, 300), 2039, 2040, 2041, 2042, 4080, 4081, 4112]:
        scores = np.full((3, width), value, dtype=np.float32)
        scores[:, -1] = 0
        targets = _slots([width - 1] * 3, width, first_column=first_column)
        others = width - 1 - first_column

        expected = [[others * (value > 0)] * 3, [1 + others * (value >= 0)] * 3]
        assert expected == _count(scores, targets).tolist(), width


@pytest.mark.parametrize(
    ("limit", "larger", "width"), [("_BYTE_SUM", 256, 256), ("_LANES", 8 * 256, 2048)], ids=["narrow", "wide"]
)
def test_one_more_byte_in_a_sum_would_overflow(
    monkeypatch: pytest.MonkeyPatch, way: str, limit: str, larger: int, width: int
) -> None:
    if way == "compiled":
        pytest.skip("adds no bytes")
    targets = _slots([0], width)
    scores = np.zeros((1, width), dtype=np.float32)

    assert _count(scores, targets).tolist() == [[0], [width]]
    monkeypatch.setattr(pieces, limit, larger)
    assert _count(scores, targets).tolist() != [[0], [width]]


@pytest.mark.parametrize("width", [7, 100, LAST_NARROW, FIRST_WIDE, 500])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_score_anywhere_is_refused(width: int, bad: float) -> None:
    rng = np.random.default_rng(3)
    targets = _slots([1, -1, 2, 3, 0], width)
    clean = rng.normal(size=(5, width)).astype(np.float32)
    _count(clean, targets)
    for row in range(5):
        for column in {0, 1, 2, 3, width // 2, width - 1}:
            scores = clean.copy()
            scores[row, column] = bad
            with pytest.raises(
                MetricError, match=f"scores of 1 candidates .* first in row {10 + row}, column {column};"
            ):
                _count(scores, targets, start=10)


@pytest.mark.parametrize("width", [100, 500])
def test_infinities_that_cancel_are_refused(width: int) -> None:
    scores = np.zeros((3, width))
    scores[1, 4], scores[2, 5] = np.inf, -np.inf

    with pytest.raises(MetricError, match="scores of 2 candidates"):
        _count(scores, _slots([1, 1, 1], width))


@pytest.mark.parametrize("width", [20, 400])
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20], ids=["row by row", "all at once"])
def test_marks_of_who_does_not_compete_are_no_candidates(
    monkeypatch: pytest.MonkeyPatch, width: int, piece_bytes: int
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece_bytes)
    targets = Targets.full([[5], [6], [7], [8]], num_rows=4, excluded=[[1, 2], [2, 3], [], [4]])
    scores = np.random.default_rng(4).normal(size=(4, width)).astype(np.float32)
    scores[:, 0] = -np.inf
    scores[0, [1, 2]], scores[1, [2, 3]], scores[3, 4] = -np.inf, (np.nan, np.inf), -np.inf

    assert _double_loop(scores, targets) == _count(scores, targets).T.tolist()
    scores[2, 9] = np.nan
    with pytest.raises(MetricError, match="scores of 1 candidates are NaN or infinite, first in row 2, column 9"):
        _count(scores, targets)


@pytest.mark.parametrize("width", [100, 400])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_finite_scores_whose_sum_overflows_are_ranked(width: int, dtype: Any) -> None:
    scores = np.full((3, width), np.finfo(dtype).max, dtype=dtype)

    assert _count(scores, _slots([0, 1, 2], width)).tolist() == [[0] * 3, [width] * 3]


@pytest.mark.parametrize("width", [30, 300])
def test_a_counter_serves_block_after_block(width: int) -> None:
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 9, (50, width)).astype(np.float32)
    targets = _targets(rng, 50, width, first_column=1)
    counter = RowCounter(width, scores.dtype, first_column=1)
    counts = np.empty((2, len(targets.row)), dtype=np.int64)

    for start, stop in [(0, 20), (20, 21), (21, 21), (21, 50)]:
        block = targets.block(start, stop)
        counter.block(scores[start:stop], block, start=start, out=counts[:, block.position])

    assert _double_loop(scores, targets) == counts.T.tolist()


@pytest.mark.parametrize("width", [30, 300])
def test_scores_are_left_alone(width: int) -> None:
    scores = np.random.default_rng(6).normal(size=(4, width))
    before = scores.copy()
    scores.setflags(write=False)
    _count(scores, _slots([1, 2, 3, 4], width))

    assert np.array_equal(before, scores)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.longdouble, np.dtype(">f4")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_scores_are_counted_by_the_compiled_way(
    monkeypatch: pytest.MonkeyPatch, way: str, dtype: Any, layout: str
) -> None:
    if way == "numpy":
        pytest.skip("that way takes all scores")
    taken = []
    monkeypatch.setattr(counting, "count_rows", lambda *args: taken.append(args[0]) or 0)
    plain = dtype in (np.float32, np.float64) and layout in ("rows", "part of a wider table")

    _count(_laid_out(np.zeros((3, 10), dtype=dtype), layout), _slots([0, 1, 2], 10))
    assert len(taken) == plain


def test_targets_of_short_integers() -> None:
    targets = replace(_slots([1, 2], 5), row=np.arange(2, dtype=np.int32), column=np.array([1, 2], dtype=np.int32))

    assert _count(np.arange(10.0).reshape(2, 5), targets).tolist() == [[3, 2], [4, 3]]


def test_chunks_of_consecutive_rows_are_slices() -> None:
    chunks = list(row_chunks(np.array([0, 1, 2, 5, 5]), 3))

    assert [(slice(0, 3), slice(0, 3))] == chunks[:1]
    assert (slice(3, 5), [5, 5]) == (chunks[1][0], list(np.asarray(chunks[1][1])))


def _targets(rng: np.random.Generator, num_rows: int, width: int, *, first_column: int) -> Targets:
    """Up to three relevant and four ignored columns a row, both possibly none."""
    columns = [rng.permutation(np.arange(first_column, width)) for _ in range(num_rows)]
    relevant = [row[: rng.integers(0, 4)] for row in columns]
    ignored = [row[3 : 3 + rng.integers(0, 5)] for row in columns]
    if first_column:
        return Targets.full(relevant, num_rows=num_rows, excluded=ignored)
    items = np.tile(np.arange(1, width + 1), (num_rows, 1))
    for row, empty in enumerate(ignored):
        items[row, empty] = 0
    return Targets.within(items, [row + 1 for row in relevant])


def _slots(column: list[int], width: int, *, first_column: int = 0) -> Targets:
    if first_column:
        return Targets.full(np.array(column), num_rows=len(column))
    return Targets.slots(np.array(column), num_columns=width)


def _laid_out(scores: np.ndarray[Any, Any], layout: str) -> np.ndarray[Any, Any]:
    """The same scores with other strides."""
    if layout == "columns":
        return np.asfortranarray(scores)
    if layout == "every second column":
        return np.repeat(scores, 2, axis=1)[:, ::2]
    if layout == "backwards":
        return scores[:, ::-1].copy()[:, ::-1]
    if layout == "part of a wider table":
        wide = np.full((len(scores), 3 * scores.shape[1]), np.nan, dtype=scores.dtype)
        wide[:, scores.shape[1] : 2 * scores.shape[1]] = scores
        return wide[:, scores.shape[1] : 2 * scores.shape[1]]
    if layout == "unaligned":
        raw = np.empty(scores.nbytes + 1, dtype=np.uint8)[1:].view(scores.dtype).reshape(scores.shape)
        raw[...] = scores
        return raw
    return scores


def _count(scores: np.ndarray[Any, Any], targets: Targets, *, start: int = 0) -> np.ndarray[Any, Any]:
    counts = np.full((2, len(targets.row)), -1, dtype=np.int64)
    counter = RowCounter(scores.shape[1], scores.dtype, first_column=targets.first_column)
    counter.block(scores, targets.block(0, len(scores)), start=start, out=counts)
    return counts


def _double_loop(scores: np.ndarray[Any, Any], targets: Targets) -> list[list[int]]:
    ignored = set(zip(targets.ignored_row.tolist(), targets.ignored_column.tolist(), strict=True))
    counts = []
    for row, column in zip(targets.row.tolist(), targets.column.tolist(), strict=True):
        rivals = [
            scores[row, other] for other in range(targets.first_column, scores.shape[1]) if (row, other) not in ignored
        ]
        mine = scores[row, column]
        counts.append([sum(bool(rival > mine) for rival in rivals), sum(bool(rival >= mine) for rival in rivals)])
    return counts
