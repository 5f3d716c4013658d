"""The runner in one process: accumulation, weights of shares, and what a step hands to the optimizer."""

from __future__ import annotations

import pytest
import torch

from fixtures.adaptive_sasrec import start
from rectest.errors import TrainingError
from rectest.systems.protocol import Batch
from rectest.training.reduction import REPORT_003, Reduction, Runner
from rectest.training.shares import micro_batches


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"forward": "dpp"}, "forward must be one of"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"clip_local": -1.0}, "clip_local must be positive"),
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


def test_clipping_comes_after_everything():
    found = gradients(Reduction(clip_norm=1e-3), 1)

    assert float(torch.stack([value.norm() for value in found.values()]).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_wiped_gradients_are_those_of_the_last_micro_batch():
    found = gradients(Reduction(accumulation=2, wipe_between=True), 2)
    run = start()
    last = micro_batches(next(run.stream), num_micro=2)[1]
    weight = run.system.loss_terms(last)["positive"]
    whole = sum(run.system.loss_terms(part)["positive"] for part in micro_batches(next(start().stream), num_micro=2))
    (weight / whole * run.system.losses(run.model.eval(), last)["total"]).backward()

    right = {name: value.grad for name, value in run.model.named_parameters()}
    assert largest_error(found, right) < 1e-5


def test_each_rank_clips_its_own_gradient_before_the_reduction():
    found = gradients(Reduction(clip_local=1e-3), 1)

    assert float(torch.stack([value.norm() for value in found.values()]).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_micro_batches_without_any_term_are_refused():
    run = start()
    batch = next(run.stream)
    empty = Batch(inputs={name: value * 0 for name, value in batch.inputs.items()}, negatives=batch.negatives)

    with pytest.raises(TrainingError, match="at least one is needed for a mean to exist"):
        Runner(run.system, run.model, run.optimizer).step([empty, empty])


def test_an_empty_micro_batch_among_others_counts_nothing():
    run, other = start(), start()
    batch = next(run.stream)
    empty = Batch(inputs={name: value * 0 for name, value in batch.inputs.items()}, negatives=batch.negatives)
    Runner(run.system, run.model.eval(), run.optimizer).backward([batch, empty])
    Runner(other.system, other.model.eval(), other.optimizer).backward([batch])

    right = {name: value.grad for name, value in other.model.named_parameters()}
    assert largest_error({name: value.grad for name, value in run.model.named_parameters()}, right) < 1e-6


def test_the_parts_of_a_step_are_announced():
    run = start()
    stages: list[str] = []

    Runner(run.system, run.model, run.optimizer, stage=stages.append).step([next(run.stream)])

    assert stages == ["weigh", "forward", "backward", "update"]
