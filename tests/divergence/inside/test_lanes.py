"""Digests computed on a device, here the processor: exact, aware of order, and fetched together."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.divergence.inside import lanes
from rectest.divergence.inside.lanes import Late, lanes_of

KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.complex64]


def both(value: torch.Tensor, *, chunk: int = 8) -> tuple[int, ...]:
    return tuple(lanes_of(torch, value, chunk=chunk).tolist())


def test_the_sum_that_the_formula_gives() -> None:
    """Weights are splitmix64 of the places from 1, made odd; the second lane goes on where the first ends."""
    mask = (1 << 64) - 1
    weights = [lanes._mixed(place) | 1 for place in range(1, 5)]
    words = [3, -7 & mask]
    expected = tuple(
        lanes._signed((words[0] * weights[2 * lane] + words[1] * weights[2 * lane + 1]) & mask) for lane in (0, 1)
    )

    assert [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4] == [lanes._mixed(1), lanes._mixed(2)]
    assert expected == both(torch.tensor([3, -7], dtype=torch.int32), chunk=2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_and_a_change_is_seen(kind: torch.dtype) -> None:
    value = (torch.arange(24) % 2).reshape(6, 4).to(kind)
    other = value.clone()
    other[5, 3] = 0

    assert both(value) == both(value.clone())
    assert both(value) != both(other)


def test_order_is_seen_within_and_across_chunks() -> None:
    rows = torch.arange(32, dtype=torch.float32).reshape(8, 4)
    swapped = rows.clone()
    swapped[[0, 7]] = rows[[7, 0]]
    pair = torch.tensor([1.0, 2.0, 3.0, 4.0])

    assert 4 == len({both(value) for value in (rows, swapped, rows.flip(0).contiguous(), rows.roll(1, 0))})
    assert both(pair) != both(pair[[1, 0, 2, 3]])
    assert both(pair) != both(pair[[1, 0, 3, 2]])


@settings(max_examples=50, deadline=None)
@given(places=st.sets(st.integers(0, 40 * 32 - 1), min_size=1, max_size=4))
def test_flipped_bits_never_cancel(places: set[int]) -> None:
    value = np.arange(40, dtype=np.float32)
    flipped = value.copy().view(np.uint32)
    for place in places:
        flipped[place // 32] ^= np.uint32(1 << place % 32)

    assert both(torch.from_numpy(value)) != both(torch.from_numpy(flipped.view(np.float32)))


def test_flipped_signs_of_wide_numbers_do_not_cancel() -> None:
    value = torch.ones(8, dtype=torch.float64)
    for first in range(8):
        for second in range(first):
            other = value.clone()
            other[[first, second]] *= -1

            assert both(value) != both(other)


def test_what_waits_is_handed_out_at_once_and_in_order() -> None:
    late, obtained = Late(), []
    one, other = lanes_of(torch, torch.ones(3)), lanes_of(torch, torch.zeros(3) + 2)
    late.add([[b"a", one], [b"b"], [other, one]], obtained.append)
    late.add_numbers(torch.tensor([0.5]), obtained.append)
    late.on_settled(lambda: obtained.append("after"))

    assert [] == obtained
    late.settle()
    late.settle()
    data = [
        b"".join((number & (1 << 64) - 1).to_bytes(8, "little") for number in lane.tolist()) for lane in (one, other)
    ]

    assert [[b"a" + data[0], b"b", data[1] + data[0]], [0.5], "after"] == obtained


def test_without_numbers_under_way_nothing_waits() -> None:
    obtained: list[int] = []
    Late().on_settled(lambda: obtained.append(1))

    assert [1] == obtained


def test_a_forked_child_drops_what_its_parent_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    late, obtained = Late(), []
    late.add([[lanes_of(torch, torch.ones(3))]], obtained.append)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    late.settle()

    assert [] == obtained


def test_too_many_waiting_are_fetched_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_MAX_WAITING", 2)
    late, obtained = Late(), []
    for _ in range(3):
        late.add([[lanes_of(torch, torch.ones(3))]], obtained.append)

    assert 3 == len(obtained)
