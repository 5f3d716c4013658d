"""Rows of tables: each has a limit of its own, absent ones must stay zero, and a small fault in one of them is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.gradients import rounding_limit
from rectest.checks.rows import compare_rows, rolled_rows

LIMIT = 1e-4


def sparse_table(seed: int = 0, num_rows: int = 20, dim: int = 4) -> np.ndarray:
    """Frequent rows are large, the last five are absent."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(num_rows, dim)) * (1 / np.arange(1, num_rows + 1))[:, None]
    table[-5:] = 0
    return table


def test_by_hand():
    right = np.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    other = np.array([[3.0, 4.0], [0.0, 1.5], [0.0, 0.0]])
    share = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

    found = compare_rows("item", right, [right, other], [[right - share], [share]], limit=LIMIT)

    assert found.red.tolist() == [False, True, False]
    assert (found.worst, found.rank[1]) == (1, 1)
    assert found.error[1] == pytest.approx(0.5 / np.sqrt(26 / 3))
    assert found.absent.tolist() == [False, False, True]
    assert found.judged.tolist() == [True, True, False]
    assert found.holders.tolist() == [[True, False, False], [False, True, False]]


def test_a_row_outside_the_batch_must_be_zero_exactly():
    right = sparse_table()
    touched = right.copy()
    touched[-1, 0] = 1e-30

    found = compare_rows("item", right, [right, touched], [[right], []], limit=LIMIT)

    assert found.red.sum() == 1
    assert found.worst == 19
    assert found.excess[19] == np.inf


def test_a_row_that_cancels_in_one_process_but_is_in_shares_may_round():
    right = sparse_table()
    share = right.copy()
    share[-1] = 1.0
    rounded = right.copy()
    rounded[-1] = 1e-9

    found = compare_rows("item", right, [rounded], [[share, -share]], limit=LIMIT)

    assert not found.red.any()
    assert not found.absent[-1]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), row=st.integers(0, 14), rank=st.integers(0, 1))
def test_one_per_cent_in_any_row_is_seen_and_nothing_else(seed, row, rank):
    right = sparse_table(seed)
    other = right.copy()
    other[row] *= 1.01

    found = compare_rows("item", right, [other, right] if rank == 0 else [right, other], [[right], []], limit=LIMIT)

    assert found.red.tolist() == [i == row for i in range(20)]
    assert found.rank[row] == rank
    assert found.judged.sum() == 15


def test_rows_far_below_the_rounding_of_their_table_are_counted_as_not_judged():
    right = sparse_table()
    right[3] = 1e-9

    found = compare_rows("item", right, [right], [[right]], limit=LIMIT)

    assert found.judged.sum() == 14
    assert not found.judged[3]
    assert not found.blind


def test_a_limit_that_lets_every_row_pass_is_blind():
    assert compare_rows("item", sparse_table(), [sparse_table()], [[]], limit=50.0).blind
    assert not compare_rows("item", np.zeros((3, 2)), [np.zeros((3, 2))], [[]], limit=1.0).blind


def test_rolled_rows_are_wrong_everywhere():
    table = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [5.0, 1.0]])

    wrong = rolled_rows(table)

    assert wrong[1].tolist() == [-1.0, -2.0]
    assert all((np.abs(wrong - table).sum(axis=1) > 0)[[0, 1, 3]])


def test_tiny_rows_of_float32_are_not_taken_for_absent():
    right = np.zeros((2, 2))
    share = np.full((2, 2), 1e-30, dtype=np.float32)

    assert not compare_rows("item", right, [right], [[share]], limit=LIMIT).absent.any()


@pytest.mark.parametrize("loss", ["softmax", "sampled"])
def test_float32_rows_of_real_models_are_well_below_the_limit(loss):
    """Rows differ in norm by orders of magnitude; the worst of them stays far below, and 1 % of it would be seen."""
    ratios = []
    for seed in range(4):
        tables = [_table_gradient(seed, dtype, loss) for dtype in (torch.float64, torch.float32)]
        exact, single = (table.double().numpy() for table in tables)
        limit = rounding_limit(128, [(200, 16), (16, 16), (16,)])
        found = compare_rows("item", exact, [single], [[exact]], limit=limit)
        ratios.append(float(found.excess.max()))
        off = single.copy()
        smallest = np.flatnonzero(found.judged)[np.linalg.norm(exact[found.judged], axis=1).argmin()]
        off[smallest] *= 1.01

        assert compare_rows("item", exact, [off], [[exact]], limit=limit).red[smallest]

    assert max(ratios) < 0.1


def _table_gradient(seed: int, dtype: torch.dtype, loss: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(200, 16, generator=generator).to(dtype).requires_grad_()
    tower = (torch.randn(16, 16, generator=generator) / 4).to(dtype)
    ids = (200 * torch.rand(128, 6, generator=generator) ** 2).long()
    hidden = torch.tanh(table[ids[:, :5]].mean(dim=1) @ tower)
    if loss == "softmax":
        torch.nn.functional.cross_entropy(hidden @ table.T, ids[:, 5]).backward()
    else:
        scores = (hidden[:, None] * table[torch.stack([ids[:, 5], ids[:, 0].flip(0)], dim=1)]).sum(dim=-1)
        torch.nn.functional.binary_cross_entropy_with_logits(
            scores, torch.eye(2, dtype=dtype)[0].expand(128, 2)
        ).backward()
    return table.grad
