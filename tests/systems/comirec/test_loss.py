"""Tests for sampled softmax: by hand, equal to full softmax when every class is drawn, nearly unbiased otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rectest.data.negatives import LogUniformNegatives
from rectest.systems.comirec.loss import sampled_softmax

NUM_ITEMS = 120


def problem(seed: int, *, num_items: int = NUM_ITEMS, num_users: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Users, a table and targets in float64."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(num_users, 8, generator=generator, dtype=torch.float64)
    table = torch.randn(num_items + 1, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, num_items + 1, (num_users,), generator=generator)
    return users, table, targets


def table_gradient(loss_of: Callable[[Tensor], Tensor], table: Tensor) -> Tensor:
    """Gradient with respect to the table of a loss that is a function of it."""
    leaf = table.clone().requires_grad_()
    loss_of(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad[1:].flatten()


def full_softmax(users: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(users @ table[1:].T, targets - 1)


def by_rank() -> LogUniformNegatives:
    """The sampler whose law the targets of `sampled_gradient` follow: item id = popularity rank."""
    return LogUniformNegatives(order=np.arange(1, NUM_ITEMS + 1), num_items=NUM_ITEMS)


def sampled_gradient(*, sign: float, num_draws: int = 80) -> tuple[Tensor, Tensor]:
    """The gradient of the full softmax and the mean of sampled ones, early in training (small logits)."""
    users, table, _ = problem(7)
    users, table = users + 2.0, 0.1 * table
    rng = np.random.default_rng(7)
    targets = torch.from_numpy(rng.choice(NUM_ITEMS + 1, size=len(users), p=by_rank().probability()))
    total = torch.zeros(NUM_ITEMS * 8, dtype=torch.float64)
    for _ in range(num_draws):
        drawn = by_rank().draw(rng, 20)
        negative, counts = torch.from_numpy(drawn.ids), np.maximum(drawn.expected_count, 1e-9)
        log_q = sign * torch.from_numpy(np.log(counts))
        total += table_gradient(partial(sampled_of, users, targets, negative, log_q), table)
    return table_gradient(lambda leaf: full_softmax(users, leaf, targets), table), total / num_draws


def sampled_of(users: Tensor, targets: Tensor, negative: Tensor, log_q: Tensor, table: Tensor) -> Tensor:
    return sampled_softmax(users, table, targets, negative_S=negative, log_expected_V=log_q)


def cosine(left: Tensor, right: Tensor) -> float:
    return float(F.cosine_similarity(left, right, dim=0))


def test_by_hand() -> None:
    table = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    log_expected = torch.tensor([0.0, math.log(0.5), 0.0, math.log(0.25)])
    obtained = sampled_softmax(
        torch.tensor([[1.0]]), table, torch.tensor([1]), negative_S=torch.tensor([3, 1]), log_expected_V=log_expected
    )

    target, negative = 1.0 + math.log(2), 3.0 + math.log(4)  # the drawn target itself is no negative
    assert float(obtained) == pytest.approx(math.log(1 + math.exp(negative - target)))


@given(seed=st.integers(0, 10_000), num_items=st.integers(2, 40), num_users=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_is_the_full_softmax_when_every_class_is_drawn(seed: int, num_items: int, num_users: int) -> None:
    users, table, targets = problem(seed, num_items=num_items, num_users=num_users)
    every = torch.from_numpy(np.random.default_rng(seed).permutation(num_items) + 1)
    no_correction = torch.zeros(num_items + 1, dtype=torch.float64)
    expected = table_gradient(lambda leaf: full_softmax(users, leaf, targets), table)
    obtained = table_gradient(
        lambda leaf: sampled_softmax(users, leaf, targets, negative_S=every, log_expected_V=no_correction), table
    )

    torch.testing.assert_close(expected, obtained, rtol=1e-6, atol=1e-12)


@given(seed=st.integers(0, 10_000), num_sampled=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_accidental_hits_and_the_order_of_negatives_change_nothing(seed: int, num_sampled: int) -> None:
    users, table, targets = problem(seed, num_items=30, num_users=1)
    rng = np.random.default_rng(seed)
    log_expected = torch.from_numpy(-rng.random(31))
    others = torch.from_numpy(rng.permutation(np.setdiff1d(np.arange(1, 31), targets.numpy()))[:num_sampled])
    expected = sampled_softmax(users, table, targets, negative_S=others, log_expected_V=log_expected)
    with_hit = torch.cat([others.flip(0), targets])
    obtained = sampled_softmax(users, table, targets, negative_S=with_hit, log_expected_V=log_expected)

    torch.testing.assert_close(expected, obtained)


def test_the_mean_gradient_points_where_the_full_one_does() -> None:
    assert cosine(*sampled_gradient(sign=1.0)) > 0.98


@pytest.mark.parametrize(("sign", "limit"), [(0.0, 0.95), (-1.0, 0.7)])
def test_a_missing_or_added_correction_turns_the_gradient_away(sign: float, limit: float) -> None:
    assert cosine(*sampled_gradient(sign=sign)) < limit


def test_only_the_target_and_the_negatives_get_a_gradient() -> None:
    users, table, _ = problem(3, num_items=6, num_users=1)
    leaf = table.clone().requires_grad_()
    sampled_softmax(
        users, leaf, torch.tensor([2]), negative_S=torch.tensor([5]), log_expected_V=torch.zeros(7, dtype=torch.float64)
    ).backward()

    assert leaf.grad is not None
    assert [2, 5] == leaf.grad.abs().sum(dim=1).nonzero().flatten().tolist()
