"""The memory of users: what is counted, when it is renewed, and that its cell learns."""

from __future__ import annotations

import pytest
import torch

from rectest.systems.ur4rec.memory import UserMemory

USERS = torch.tensor([2, 0])


def fresh(*, threshold: int = 2, history: int = 3, decay: float = 0.9) -> UserMemory:
    memory = UserMemory(4, size=5, history=history, threshold=threshold, decay=decay)
    generator = torch.Generator().manual_seed(0)
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return memory


def seen(step: int) -> torch.Tensor:
    return torch.randn(2, 5, generator=torch.Generator().manual_seed(step))


def test_by_hand():
    """Below the threshold zero; then the cell over the mean of the newest three, from a decayed memory."""
    memory = fresh()
    expected = torch.zeros(2, 5)
    for step in range(1, 6):
        memory.update(USERS, seen(step))
        if step >= 2:
            newest = torch.stack([seen(s) for s in range(max(1, step - 2), step + 1)]).mean(0)
            expected = memory.cell(newest, 0.9 * expected)

        torch.testing.assert_close(expected, memory.read(USERS))

    assert memory.interactions_U.tolist() == [5, 0, 5, 0]
    assert memory.history_sizes(torch.arange(4)).tolist() == [3, 0, 3, 0]
    assert memory.scalars(torch.arange(4)) == {"memory/interactions": 2.5, "memory/history": 1.5}


def test_other_users_are_not_touched():
    memory = fresh(threshold=1)
    memory.update(torch.tensor([1]), seen(0)[:1])
    before = memory.read(torch.tensor([1]))
    memory.update(USERS, seen(1))

    torch.testing.assert_close(before, memory.read(torch.tensor([1])), rtol=0, atol=0)
    assert not memory.read(torch.tensor([3])).any()


def test_an_unused_memory_changes_no_preference():
    memory, preference = fresh(), seen(9)

    assert torch.equal(preference, memory.blend(preference, USERS))
    memory.update(USERS, seen(1))
    assert torch.equal(preference, memory.blend(preference, USERS))
    memory.update(USERS, seen(2))
    assert not torch.equal(preference, memory.blend(preference, USERS))


def test_a_high_threshold_still_counts():
    """Counts of 0.0 are not a threshold of 20, as report 001 has it, but an update that never came."""
    memory = fresh(threshold=20)
    memory.update(USERS, seen(1))

    assert memory.scalars(USERS) == {"memory/interactions": 1.0, "memory/history": 1.0}


def test_every_parameter_of_the_memory_learns():
    memory = fresh()
    for step in range(4):
        memory.update(USERS, seen(step))
    memory.blend(seen(9), USERS).square().sum().backward()

    assert all((parameter.grad != 0).any() for parameter in memory.parameters())


@pytest.mark.parametrize("num_updates", [1, 5])
def test_it_is_resumed_from_its_buffers(num_updates):
    first, second = fresh(), fresh()
    for step in range(num_updates):
        first.update(USERS, seen(step))
    second.load_state_dict(first.state_dict())
    for memory in (first, second):
        memory.update(USERS, seen(7))

    torch.testing.assert_close(first.read(USERS), second.read(USERS), rtol=0, atol=0)
