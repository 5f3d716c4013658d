"""The runner in one process: shares of a batch, their weights, accumulation, and what a step hands to the optimizer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.adaptive_sasrec import start
from rectest.errors import TrainingError
from rectest.systems.gram_c.runner import LOSS_TERMS, REPORT_003, Reduction, Runner, loss_terms, micro_batches, num_rows
from rectest.systems.protocol import Batch


def numbered(num: int) -> Batch:
    return Batch(inputs={"step": torch.tensor(3), "row": torch.arange(num)}, negatives={"shared": torch.arange(100)})


def rows_of(batches: list[Batch]) -> list[int]:
    return [int(row) for batch in batches for row in batch.inputs["row"]]


def test_each_row_is_on_one_rank_and_what_has_no_rows_is_on_all():
    parts = [micro_batches(numbered(10), rank=rank, world_size=2, num_micro=2) for rank in (0, 1)]

    assert [rows_of(part) for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [len(batch.inputs["row"]) for batch in parts[0]] == [3, 2]
    assert all(len(batch.negatives["shared"]) == 100 for part in parts for batch in part)
    assert all(int(batch.inputs["step"]) == 3 for part in parts for batch in part)


@settings(max_examples=50, deadline=None)
@given(world_size=st.integers(1, 5), num_micro=st.integers(1, 4), extra=st.integers(0, 30), data=st.data())
def test_shares_cover_the_batch_in_order(world_size, num_micro, extra, data):
    shares = data.draw(st.none() | st.lists(st.integers(1, 3), min_size=world_size, max_size=world_size))
    batch = numbered(world_size * num_micro * 3 + extra)

    parts = [
        micro_batches(batch, rank=rank, world_size=world_size, num_micro=num_micro, shares=shares)
        for rank in range(world_size)
    ]

    assert [row for part in parts for row in rows_of(part)] == list(range(num_rows(batch)))
    assert all(len(part) == num_micro for part in parts)


def test_a_shared_tensor_of_as_many_entries_can_be_named():
    batch = Batch(inputs={"row": torch.arange(4)}, negatives={"item": torch.arange(4)})

    (plain,) = micro_batches(batch, world_size=2)
    (named,) = micro_batches(batch, world_size=2, shared=("item",))

    assert (len(plain.negatives["item"]), len(named.negatives["item"])) == (2, 4)


@pytest.mark.parametrize(
    ("kwargs", "error", "problem"),
    [
        ({"world_size": 8}, TrainingError, "4 rows cannot be shared by 8 ranks"),
        ({"world_size": 2, "num_micro": 3}, TrainingError, "3 micro-batches each"),
        ({"world_size": 2, "shares": (1,)}, ValueError, "shares must be 2 positive numbers"),
    ],
)
def test_impossible_shares_are_refused(kwargs, error, problem):
    with pytest.raises(error, match=problem):
        micro_batches(numbered(4), **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"forward": "dpp"}, "forward must be one of"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
    ],
)
def test_odd_reductions_are_refused(kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        Reduction(**kwargs)


def test_a_reduction_survives_json():
    assert Reduction(**REPORT_003.to_dict()) == REPORT_003


def gradients(settings: Reduction, num_micro: int) -> dict[str, torch.Tensor]:
    run = start()
    run.model.eval()
    batch = next(run.stream)
    runner = Runner(run.system, run.model, run.optimizer, settings=settings)
    runner.step(micro_batches(batch, num_micro=num_micro))
    return {name: value.grad.clone() for name, value in run.model.named_parameters()}


def largest_error(found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    scale = max(float(value.abs().max()) for value in right.values())
    return max(float((found[name] - right[name]).abs().max()) / scale for name in right)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """Users have different numbers of real targets, so that equal weights would be wrong."""
    whole = gradients(Reduction(), 1)

    assert largest_error(gradients(Reduction(accumulation=4), 4), whole) < 1e-5
    assert largest_error(gradients(Reduction(accumulation=4), 3), whole) < 1e-5
    assert largest_error(gradients(Reduction(accumulation=4, weigh_shares=False), 4), whole) > 1e-4


def test_the_tail_divided_by_the_full_count_is_too_small():
    found = gradients(Reduction(accumulation=4, divide_by="configured"), 3)
    three_quarters = {name: 0.75 * value for name, value in gradients(Reduction(), 1).items()}

    assert largest_error(found, three_quarters) < 1e-5


def test_one_process_takes_the_very_step_of_the_system():
    """The losses and the weights are those of `System.step`, bit for bit."""
    plain, other = start(), start()
    runner = Runner(other.system, other.model.train(), other.optimizer)
    for batch in [next(plain.stream) for _ in range(3)]:
        expected = plain.system.step(plain.model.train(), plain.optimizer, batch)["total"]
        obtained = runner.step([batch])

        assert float(expected.detach()) == obtained.local == obtained.reduced
    assert all(torch.equal(value, other.parameters()[name]) for name, value in plain.parameters().items())


def test_local_gradients_leave_no_trace():
    run = start()
    batch = next(run.stream)
    runner = Runner(run.system, run.model.eval(), run.optimizer)

    local = runner.local_gradients([batch])

    assert all(value.grad is None for value in run.model.parameters())
    runner.step([batch])
    assert all(torch.allclose(local[name], value.grad, atol=1e-7) for name, value in run.model.named_parameters())


def test_clipping_comes_after_everything():
    found = gradients(Reduction(clip_norm=1e-3), 1)

    assert float(torch.stack([value.norm() for value in found.values()]).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_weights_count_what_the_loss_is_a_mean_over():
    run = start()
    batch = next(run.stream)

    assert loss_terms(run.system)(batch) == float((batch.inputs["positives"] > 0).sum())
    assert LOSS_TERMS["gram_c"](Batch(inputs={"target_ids": torch.tensor([[5, 2, -100]])})) == 2


def test_a_share_without_targets_is_refused():
    run = start()
    batch = next(run.stream)
    empty = Batch(inputs={name: value * 0 for name, value in batch.inputs.items()}, negatives=batch.negatives)

    with pytest.raises(TrainingError, match="each needs at least one"):
        Runner(run.system, run.model, run.optimizer).step([batch, empty])


def test_a_loss_that_mixes_means_is_not_shared(monkeypatch):
    run = start()
    batch = next(run.stream)
    monkeypatch.setattr(type(run.system), "name", "gear")

    Runner(run.system, run.model, run.optimizer).step([batch])
    Runner(run.system, run.model, run.optimizer, weight=lambda _: 1.0).step([batch, batch])
    with pytest.raises(TrainingError, match="the loss of gear adds means over different counts"):
        Runner(run.system, run.model, run.optimizer).step([batch, batch])


def test_the_parts_of_a_step_are_announced():
    run = start()
    stages: list[str] = []

    Runner(run.system, run.model, run.optimizer, stage=stages.append).step([next(run.stream)])

    assert stages == ["weigh", "forward", "backward", "update"]
