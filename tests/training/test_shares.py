"""Shares of a batch: each row on one rank, weights that add up, digests that tell rows apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import cases, odd_cases
from fixtures.adaptive_sasrec import start
from rectest.errors import TrainingError
from rectest.systems.protocol import Batch
from rectest.training.case_batch import as_batch
from rectest.training.case_child import CaseTask
from rectest.training.shares import combined, factors, local_gradients, micro_batches, row_digests, shared_digests

REGRESSION = cases.case(build=odd_cases.build_checkpointed, loss=cases.loss_regression, batch=cases.pair_of())


def numbered(num: int) -> Batch:
    return Batch(
        inputs={"step": torch.tensor(3), "row": torch.arange(num)},
        negatives={"items": torch.arange(100)},
        shared=frozenset({"items"}),
    )


def rows_of(batches: list[Batch]) -> list[int]:
    return [int(row) for batch in batches for row in batch.inputs["row"]]


def test_each_row_is_on_one_rank_and_what_has_no_rows_is_on_all():
    parts = [micro_batches(numbered(10), rank=rank, world_size=2, num_micro=2) for rank in (0, 1)]

    assert [rows_of(part) for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [len(batch.inputs["row"]) for batch in parts[0]] == [3, 2]
    assert all(len(batch.negatives["items"]) == 100 for part in parts for batch in part)
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

    assert [row for part in parts for row in rows_of(part)] == list(range(batch.num_rows))
    assert all(len(part) == num_micro for part in parts)


def test_a_shared_tensor_of_as_many_entries_stays_whole():
    batch = Batch(inputs={"row": torch.arange(4)}, negatives={"item": torch.arange(4)})
    named = Batch(inputs=batch.inputs, negatives=batch.negatives, shared=frozenset({"item"}))

    (plain,), (whole,) = (micro_batches(each, world_size=2) for each in (batch, named))

    assert (len(plain.negatives["item"]), len(whole.negatives["item"])) == (2, 4)


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


def test_factors_average_to_one_and_a_component_without_terms_counts_nothing():
    assert factors({"a": 1.0, "b": 0.0}, {"a": 4.0, "b": 0.0}, 2) == {"a": 0.5, "b": 0.0}


def test_the_total_is_of_scaled_means():
    run = start()
    losses = {"positive": torch.tensor(2.0), "negative": torch.tensor(5.0)}

    assert float(combined(run.system, run.model, losses, {"positive": 3.0, "negative": 0.0})) == 6.0


def test_local_gradients_leave_no_trace_and_add_up():
    run = start()
    batch = next(run.stream)
    model, whole = run.model.eval(), run.system.loss_terms(batch)
    parts = micro_batches(batch, num_micro=3)
    scales = [factors(run.system.loss_terms(part), whole, 3) for part in parts]

    found = [
        local_gradients(run.system, model, part, scale, num_shares=3) for part, scale in zip(parts, scales, strict=True)
    ]

    assert all(value.grad is None for value in model.parameters())
    run.system.losses(model, batch)["total"].backward()
    for name, value in model.named_parameters():
        assert torch.allclose(value.grad, sum(part[name] for part in found), atol=1e-6)


def test_parameters_inside_a_reentrant_checkpoint_are_found():
    batch, model = as_batch(cases.pair_of()), odd_cases.build_checkpointed()
    kept = model[1].bias.grad = torch.ones(1)

    found = local_gradients(CaseTask(REGRESSION), model, batch, {"total": 1.0}, num_shares=2)

    assert model[0].inner.weight.grad is None
    assert model[1].bias.grad is kept
    model.zero_grad()
    cases.loss_regression(model, batch.tree).backward()
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, value in model.named_parameters():
        assert torch.allclose(value.grad / 2, found[name])


def test_digests_tell_rows_negatives_and_what_is_shared_apart():
    run = start()
    batch = next(run.stream)
    other = Batch(inputs=batch.inputs, negatives={name: value.flip(1) for name, value in batch.negatives.items()})

    assert len(set(row_digests(numbered(20)))) == 20
    assert row_digests(batch, negatives=False) == row_digests(other, negatives=False)
    assert row_digests(batch) != row_digests(other)
    assert list(shared_digests(numbered(3))) == ["items", "step"]
