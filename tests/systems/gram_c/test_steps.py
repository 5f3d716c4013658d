"""The schedule, and gradients accumulated over micro-batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gram_c import start
from rectest.systems.gram_c.steps import accumulate, micro_batches, planned_rate
from rectest.systems.protocol import Batch


def test_rate_by_hand():
    rates = [planned_rate(step, num_steps=10, warmup=0.2) for step in range(1, 11)]

    assert rates == pytest.approx([0.5, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])
    assert planned_rate(11, num_steps=10, warmup=0.2) == 0.0


@settings(max_examples=50, deadline=None)
@given(num_steps=st.integers(1, 300), warmup=st.floats(0, 0.99))
def test_the_rate_rises_and_then_falls(num_steps, warmup):
    rates = [planned_rate(step, num_steps=num_steps, warmup=warmup) for step in range(1, num_steps + 1)]
    peak = rates.index(max(rates))

    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def gradients(run, batch) -> dict[str, torch.Tensor]:
    """Before clipping and the optimizer, of the steps that the system takes."""
    run.model.zero_grad(set_to_none=True)
    micro = micro_batches(batch, -(-run.system.config.batch_size // run.system.config.accumulation))
    accumulate(lambda part: run.system.losses(run.model, part), micro, run.system.micro_weights(micro))
    return {name: parameter.grad.clone() for name, parameter in run.model.named_parameters()}


@pytest.mark.parametrize("accumulation", [2, 3, 5, 32])
@pytest.mark.parametrize("num_rows", [32, 17, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(accumulation, num_rows):
    """The last step of an epoch included, whose micro-batches are fewer, and shorter."""
    plain = {"prefix_dropout": 0.0, "prefix_drop_whole": 0.0}
    whole, parts = start(**plain), start(accumulation=accumulation, **plain)
    batch = next(whole.stream)
    batch = Batch(inputs={name: value[:num_rows] for name, value in batch.inputs.items()})
    expected, obtained = gradients(whole, batch), gradients(parts, batch)

    for name, value in expected.items():
        torch.testing.assert_close(value, obtained[name], rtol=1e-3, atol=1e-6)


def test_losses_and_weight_by_hand():
    parameter = torch.nn.Parameter(torch.tensor(2.0))
    micro = [Batch(inputs={"x": torch.tensor([1.0, 3.0])}), Batch(inputs={"x": torch.tensor([8.0])})]
    means, weight = accumulate(lambda part: {"total": parameter * part.inputs["x"].mean()}, micro, [2 / 3, 1 / 3])

    assert float(means["total"]) == pytest.approx(2 * 4)
    assert float(weight) == pytest.approx(1.0)
    assert float(parameter.grad) == pytest.approx(4.0)


def test_weights_that_are_too_large_show():
    parameter = torch.nn.Parameter(torch.tensor(2.0))
    micro = [Batch(inputs={"x": torch.tensor([1.0])})] * 2
    _, weight = accumulate(lambda part: {"total": parameter * part.inputs["x"].mean()}, micro, [1.0, 1.0])

    assert float(weight) == 2.0


def test_micro_batches_cover_the_batch_in_order():
    batch = Batch(inputs={"x": torch.arange(7)}, negatives={"n": torch.arange(7) * 2})
    parts = micro_batches(batch, 3)

    assert [part.inputs["x"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.negatives["n"].tolist() for part in parts] == [[0, 2, 4], [6, 8, 10], [12]]


def test_gradients_are_clipped():
    run = start(clip=1e-3).steps(1)
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in run.model.parameters()]))

    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_the_steps_taken_are_in_the_optimizer():
    """A resumed run goes on where the schedule was."""
    run = start(steps=20).steps(3)
    state = run.optimizer.state_dict()
    other = start(steps=20)
    other.model.load_state_dict(run.model.state_dict())
    other.optimizer.load_state_dict(state)
    other.steps(1)

    assert state["param_groups"][0]["scheduled_step"] == 3
    assert other.scalars[0]["schedule/learning_rate"] == 1e-2 * planned_rate(4, num_steps=20, warmup=0.05)
