"""The graph table: propagation by hand, and that what is learned knows which items go together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fixtures.worlds import tiny_world
from rectest.checks.table_signal import consecutive_pairs, table_signal
from rectest.data.interactions import Sequences
from rectest.data.split import leave_two_out
from rectest.errors import DataError
from rectest.seeding import SeedPlan
from rectest.systems.gram_c import graph
from rectest.systems.gram_c.graph import bipartite, propagate, train_graph

SEEDS = SeedPlan(root=0)


def trained(train: Sequences, *, num_items: int = 40, num_steps: int = 40, seed: int = 0) -> np.ndarray:
    plan = SeedPlan(root=seed)
    return train_graph(train, num_items, plan, size=8, num_layers=2, num_steps=num_steps)


def test_edges_by_hand():
    """User 0 has items 1 and 2, user 1 has item 1, twice."""
    edges = bipartite(Sequences.from_lists([[1, 2], [1, 1]]), 3)
    expected = [[0, 1 / math.sqrt(2 * 2), 1 / math.sqrt(2 * 1), 0], [0, 1 / math.sqrt(1 * 2), 0, 0]]

    torch.testing.assert_close(edges, torch.tensor(expected))


def test_propagation_by_hand():
    edges = torch.tensor([[0.0, 0.5]])
    users, items = propagate(edges, torch.tensor([[2.0]]), torch.tensor([[0.0], [4.0]]), num_layers=2)

    assert users.tolist() == [[pytest.approx((2 + 0.5 * 4 + 0.5 * (0.5 * 2)) / 3)]]
    assert items.tolist() == [[0.0], [pytest.approx((4 + 0.5 * 2 + 0.5 * (0.5 * 4)) / 3)]]


def test_propagation_equals_powers_of_the_whole_matrix():
    generator = torch.Generator().manual_seed(0)
    edges, users, items = (torch.rand(*shape, generator=generator) for shape in ((3, 4), (3, 2), (4, 2)))
    whole = torch.zeros(7, 7)
    whole[:3, 3:], whole[3:, :3] = edges, edges.T
    start = torch.cat([users, items])
    expected = sum(torch.linalg.matrix_power(whole, k) @ start for k in range(4)) / 4

    torch.testing.assert_close(expected, torch.cat(propagate(edges, users, items, num_layers=3)))


def test_rows_have_length_one_and_the_padding_none():
    table = trained(leave_two_out(tiny_world().interactions.sequences()).train)

    assert (table.shape, table.dtype) == ((41, 8), np.float32)
    assert (table[0] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(table[1:], axis=1), 1.0, rtol=1e-6)


def test_it_knows_what_goes_together_and_noise_does_not():
    train = leave_two_out(tiny_world().interactions.sequences()).train
    pairs = consecutive_pairs(train.items, train.offsets)
    noise = np.random.default_rng(0).standard_normal((41, 8)).astype(np.float32)

    assert not table_signal(trained(train), pairs).red
    assert table_signal(noise / np.linalg.norm(noise, axis=1, keepdims=True), pairs).red


def test_the_seed_decides_and_the_rest_of_the_process_does_not():
    train = leave_two_out(tiny_world().interactions.sequences()).train
    before = torch.get_rng_state()
    first = trained(train, num_steps=3)
    torch.rand(3)

    assert np.array_equal(first, trained(train, num_steps=3))
    assert not np.array_equal(first, trained(train, num_steps=3, seed=1))
    torch.set_rng_state(before)


def test_a_graph_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(graph, "_MAX_CELLS", 10)
    with pytest.raises(DataError, match="2 users by 9 items are more than 10 cells"):
        bipartite(Sequences.from_lists([[1], [2]]), 9)
