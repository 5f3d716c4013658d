"""Tests for dynamic routing: squash, one round by hand, gradients of the last round only, MIND's random start."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.seeding import SeedPlan
from rectest.systems.comirec.capsules import MindRouting, route, squash


def mind(seed: int = 0) -> MindRouting:
    return MindRouting(
        torch.eye(3), history_length=5, num_interests=2, num_rounds=3, relu_layer_DD=None, seeds=SeedPlan(root=seed)
    )


def test_squash_keeps_the_direction_and_bounds_the_length() -> None:
    obtained = squash(torch.tensor([[[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]]))

    expected = torch.tensor([[[0.6 * 25 / 26, 0.8 * 25 / 26], [0.0, 0.0], [0.5, 0.0]]])
    torch.testing.assert_close(obtained, expected, rtol=0, atol=1e-6)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_squash_never_reaches_length_one_by_more_than_rounding(values: list[float]) -> None:
    vector = torch.tensor([[values]])

    assert float(squash(vector).norm()) <= min(1.0, float(vector.norm())) * (1 + 1e-5) + 1e-7


def test_one_round_shares_every_position_equally_between_the_interests() -> None:
    votes = torch.tensor([[[[2.0], [4.0]], [[10.0], [0.0]]]])  # B 1, K 2, L 2, D 1
    obtained = route(votes, torch.ones(1, 2), torch.zeros(1, 2, 2), num_rounds=1)

    expected = torch.tensor([[[9 / 10], [25 / 26]]])  # sums 3 and 5, each squashed
    torch.testing.assert_close(obtained, expected)


def test_two_rounds_by_hand() -> None:
    votes = torch.tensor([[[[2.0]], [[0.0]]]])  # one position, two interests
    obtained = route(votes, torch.ones(1, 1), torch.zeros(1, 2, 1), num_rounds=2)

    first = 0.5  # squash of 0.5 * 2
    share = 1 / (1 + math.exp(-2.0 * first))
    pooled = share * 2.0
    assert float(obtained[0, 0, 0]) == pytest.approx(pooled**2 / (1 + pooled**2))
    assert float(obtained[0, 1, 0]) == 0.0


def test_masked_positions_share_nothing() -> None:
    votes = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(2, 4)
    expected = route(votes[:, :, :2], mask[:, :2], torch.zeros(2, 3, 2), num_rounds=3)
    votes[:, :, 2:] = 1e6

    torch.testing.assert_close(expected, route(votes, mask, torch.zeros(2, 3, 4), num_rounds=3))


def test_only_the_last_round_carries_a_gradient() -> None:
    votes = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    logits, mask = torch.zeros(1, 2, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    for _ in range(2):
        pooled = squash(torch.einsum("bkl,bkld->bkd", torch.softmax(logits, dim=1), votes))
        logits = logits + torch.einsum("bkld,bkd->bkl", votes, pooled)
    frozen = votes.clone().requires_grad_()
    squash(torch.einsum("bkl,bkld->bkd", torch.softmax(logits, dim=1), frozen)).sum().backward()
    routed = votes.clone().requires_grad_()
    route(routed, mask, torch.zeros(1, 2, 3, dtype=torch.float64), num_rounds=3).sum().backward()

    torch.testing.assert_close(frozen.grad, routed.grad)


def test_mind_draws_anew_in_training_from_its_own_seed_alone() -> None:
    embedded, mask = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3)), torch.ones(2, 5)
    first, other_seed = mind(), mind(seed=1)
    before = torch.get_rng_state()
    draws = [first(embedded, mask) for _ in range(2)]

    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], mind()(embedded, mask))
    assert not torch.equal(draws[0], other_seed(embedded, mask))
    assert torch.equal(before, torch.get_rng_state())


def test_mind_restored_from_its_state_continues_its_draws() -> None:
    embedded, mask = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(4)), torch.ones(2, 5)
    running = mind()
    running(embedded, mask)
    state = copy.deepcopy(running.state_dict())
    expected = running(embedded, mask)
    restored = mind()
    restored.load_state_dict(state)

    assert torch.equal(expected, restored(embedded, mask))


def test_mind_evaluates_the_same_twice_and_counts_no_draw() -> None:
    embedded, mask = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(5)), torch.ones(2, 5)
    model = mind().eval()

    assert torch.equal(model(embedded, mask), model(embedded, mask))
    assert int(model.num_draws) == 0
    assert not torch.equal(model(embedded, mask)[:, 0], model(embedded, mask)[:, 1])
