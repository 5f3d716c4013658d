"""Scores in torch are ranked as in NumPy: same ranks, same refusals, in any dtype, any block size and on any device.

"cpu as a device" counts scores on the CPU in the way that accelerators do, so that it is tested where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fixtures.rankings import RankingCase, ranking_cases
from rectest.errors import MetricError
from rectest.metrics.ranking import tie_share
from rectest.metrics.ranks import Ranks, rank_targets
from rectest.metrics.targets import Targets
from rectest.training import evaluate as module
from rectest.training.evaluate import count_ranks

AS_A_DEVICE = "cpu as a device"
DEVICES = [
    "cpu",
    AS_A_DEVICE,
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def test_ranks_by_hand() -> None:
    scores = torch.tensor([[9.0, 3.0, 5.0, 5.0, 1.0], [9.0, 1.0, 2.0, 3.0, 4.0]])

    ranks = count_ranks(_blocks(scores), 2, [[3], [1, 4]], excluded=[[2], []])

    assert ranks.expected.tolist() == [1.0, 4.0, 1.0]
    assert ranks.num_candidates.tolist() == [3, 4, 4]


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=50, deadline=None)
@given(case=ranking_cases(), block_rows=st.integers(1, 7), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_equals_the_numpy_twin(device: str, case: RankingCase, block_rows: int, dtype: torch.dtype) -> None:
    expected = rank_targets(case.scores, case.relevant, excluded=case.excluded)
    with _on(device) as where:
        scores = torch.from_numpy(case.scores).to(where, dtype)
        obtained = count_ranks(
            _blocks(scores), len(scores), case.relevant, excluded=case.excluded, block_rows=block_rows
        )

    _assert_same(expected, obtained)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_low_precision_is_compared_as_it_is(device: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(5)
    scores = torch.from_numpy(5 + 0.01 * rng.standard_normal((300, 200))).to(dtype)
    relevant = rng.integers(1, 200, 300)
    seen = rng.integers(1, 200, (300, 7))

    expected = rank_targets(scores.double().numpy(), relevant, excluded=seen)
    with _on(device) as where:
        obtained = count_ranks(_blocks(scores.to(where)), 300, relevant, excluded=seen, block_rows=64)

    _assert_same(expected, obtained)
    assert (tie_share(obtained) > 0.5) == (dtype in (torch.float16, torch.bfloat16))


@pytest.mark.parametrize("device", DEVICES)
def test_candidate_lists_equal_the_numpy_twin(device: str) -> None:
    rng = np.random.default_rng(6)
    candidates = np.stack([1 + rng.permutation(50)[:20] for _ in range(40)])
    candidates[::3, -4:] = 0
    scores = rng.integers(0, 30, (40, 20)).astype(np.float32)
    relevant = [row[rng.choice(16, size=rng.integers(0, 3), replace=False)] for row in candidates]

    expected = rank_targets(scores, relevant, candidates=candidates)
    with _on(device) as where:
        obtained = count_ranks(
            _blocks(torch.from_numpy(scores).to(where)), 40, relevant, candidates=candidates, block_rows=7
        )

    _assert_same(expected, obtained)


def test_comparisons_in_many_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    scores = torch.from_numpy(rng.integers(0, 9, (50, 30)).astype(np.float32))
    relevant = [1 + rng.choice(29, size=rng.integers(0, 5), replace=False) for _ in range(50)]
    expected = count_ranks(_blocks(scores), 50, relevant)

    monkeypatch.setattr(module, "_lends_memory", lambda _: False)
    monkeypatch.setattr(module, "_BUFFER_BYTES", 400)

    _assert_same(expected, count_ranks(_blocks(scores), 50, relevant))


def test_prepared_targets_serve_every_evaluation() -> None:
    scores = torch.tensor([[0.0, 3.0, 5.0]])
    targets = Targets.full([[1]], num_rows=1, excluded=[[2]])

    for _ in range(2):
        assert count_ranks(_blocks(scores), 1, targets).expected.tolist() == [1.0]


def test_scores_are_asked_for_block_by_block_and_never_twice() -> None:
    asked: list[tuple[int, int]] = []

    def block(rows: slice) -> Tensor:
        asked.append((rows.start, rows.stop))
        return torch.zeros(rows.stop - rows.start, 4)

    count_ranks(block, 5, np.ones(5, dtype=np.int64), block_rows=2)

    assert asked == [(0, 2), (2, 4), (4, 5)]


def test_no_graph_is_built() -> None:
    weight = torch.ones(4, requires_grad=True)
    graphs: list[bool] = []

    def block(rows: slice) -> Tensor:
        scores = torch.ones(rows.stop - rows.start, 4) * weight
        graphs.append(scores.requires_grad)
        return scores

    count_ranks(block, 3, np.ones(3, dtype=np.int64))

    assert graphs == [False]


def test_counting_leaves_the_scores_alone() -> None:
    scores = torch.tensor([[0.0, 3.0, 5.0, 1.0]])
    before = scores.clone()

    count_ranks(_blocks(scores), 1, [[1]], excluded=[[2]])

    assert torch.equal(before, scores)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused_with_their_place(device: str, bad: float) -> None:
    scores = torch.zeros(5, 6)
    scores[3, 2] = scores[3, 4] = bad

    with (
        _on(device) as where,
        pytest.raises(MetricError, match="scores of 2 candidates are NaN or infinite, first in row 3, column 2"),
    ):
        count_ranks(_blocks(scores.to(where)), 5, np.ones(5, dtype=np.int64), block_rows=2)


@pytest.mark.parametrize("device", DEVICES)
def test_seen_items_may_be_masked_by_the_caller_too(device: str) -> None:
    scores = torch.tensor([[float("-inf"), 2.0, float("-inf"), 3.0]])

    with _on(device) as where:
        ranks = count_ranks(_blocks(scores.to(where)), 1, [[1]], excluded=[[2]])

    assert (ranks.expected[0], ranks.num_candidates[0]) == (2.0, 2)


@pytest.mark.parametrize("device", DEVICES)
def test_large_low_precision_scores_are_no_infinity(device: str) -> None:
    scores = torch.full((2, 50), 60_000.0, dtype=torch.float16)

    with _on(device) as where:
        assert count_ranks(_blocks(scores.to(where)), 2, np.array([1, 2])).expected.tolist() == [25.0, 25.0]


@pytest.mark.parametrize("width", [50, 300])
@pytest.mark.parametrize(
    "view",
    [
        lambda scores: scores.t().contiguous().t(),
        lambda scores: scores.repeat_interleave(2, dim=1)[:, ::2],
        lambda scores: scores.clone().requires_grad_(),
        lambda scores: torch.complex(scores, -scores).conj().imag,
        lambda scores: torch.nn.Parameter(scores.clone()),
    ],
    ids=["by columns", "every second column", "needs a gradient", "negated when read", "parameter"],
)
@pytest.mark.parametrize("device", ["cpu", AS_A_DEVICE])
def test_the_same_scores_in_another_tensor(device: str, view: Callable[[Tensor], Tensor], width: int) -> None:
    rng = np.random.default_rng(9)
    scores = torch.from_numpy(rng.integers(0, 40, (30, width)).astype(np.float32))
    relevant = [1 + rng.choice(width - 1, size=rng.integers(0, 4), replace=False) for _ in range(30)]
    expected = rank_targets(scores.numpy(), relevant)

    with _on(device):
        _assert_same(expected, count_ranks(_blocks(view(scores)), 30, relevant, block_rows=7))


def test_blocks_of_another_type_are_compared_in_theirs() -> None:
    nearly = torch.tensor([[0.0, 1.0, 1.0 + 1e-12, 2.0]], dtype=torch.float64)
    dtypes = [torch.float32, torch.float64, torch.float32, torch.bfloat16]

    ranks = count_ranks(lambda rows: nearly.to(dtypes[rows.start]), 4, [[1]] * 4, block_rows=1)

    assert ranks.expected.tolist() == [2.5, 3.0, 2.5, 2.5]


def test_eight_bits_are_enough_for_ranks() -> None:
    scores = torch.tensor([[0.0, 1.0, 1.01, 2.0]]).to(torch.float8_e4m3fn)

    assert count_ranks(lambda _: scores, 1, [[1]]).expected.tolist() == [2.5]


def test_nobody_to_evaluate_is_an_error() -> None:
    with pytest.raises(MetricError, match="no users to evaluate"):
        count_ranks(_blocks(torch.zeros(0, 3)), 0, [])


def test_users_without_relevant_items_are_counted() -> None:
    ranks = count_ranks(_blocks(torch.zeros(3, 3)), 3, [[], [], []])

    assert (len(ranks), ranks.num_users) == (0, 3)


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        (torch.zeros(3, 4), r"must return \[2, columns\] scores for this block, got \[3, 4\]"),
        (torch.zeros(2), r"must return \[2, columns\] scores for this block, got \[2\]"),
        (torch.zeros(2, 4, dtype=torch.int64), "scores must be floating point, got torch.int64"),
    ],
)
def test_scores_of_another_shape_or_type_are_refused(scores: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        count_ranks(lambda _: scores, 2, [[1], [1]])


def test_the_width_of_the_scores_may_not_change() -> None:
    with pytest.raises(ValueError, match=r"must return \[1, 3\] scores for this block, got \[1, 4\]"):
        count_ranks(lambda rows: torch.zeros(1, 3 + rows.start), 2, [[1], [1]], block_rows=1)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="block_rows must be at least 1, got 0"):
        count_ranks(_blocks(torch.zeros(1, 3)), 1, [[1]], block_rows=0)
    with pytest.raises(ValueError, match="the targets are of 2 rows, expected 1"):
        count_ranks(_blocks(torch.zeros(1, 3)), 1, Targets.full([[1], [2]], num_rows=2))


@contextmanager
def _on(device: str) -> Iterator[str]:
    """The device to put scores on; and, for `AS_A_DEVICE`, the CPU's scores counted as an accelerator's are."""
    with pytest.MonkeyPatch.context() as patch:
        if device == AS_A_DEVICE:
            patch.setattr(module, "_lends_memory", lambda _: False)
        yield "cpu" if device == AS_A_DEVICE else device


def _blocks(scores: Tensor) -> Callable[[slice], Tensor]:
    return lambda rows: scores[rows]


def _assert_same(expected: Ranks, obtained: Ranks) -> None:
    assert expected.num_users == obtained.num_users
    for name, array in expected.to_arrays("r").items():
        assert array.tolist() == obtained.to_arrays("r")[name].tolist(), name
