"""Parity on made-up records: each wrong way of combining gradients is red, in its own part, under its own name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fixtures.records import find, make_environment, red_checks
from rectest.checks.parity import gradient_parity, replicas_equal
from rectest.checks.result import Verdict
from rectest.record import RunRecord, RunSpec

NAMES = ("item.weight", "tower.bias")
SHAPES = ((20, 4), (6,))
NUM_TERMS = 64


def local_gradients(world_size: int, num_micro: int = 1) -> np.ndarray[Any, Any]:
    """[ranks, micro-batches] of gradients, each a dict, around a common one."""
    rng = np.random.default_rng(5)
    common = {n: rng.normal(size=s) for n, s in zip(NAMES, SHAPES, strict=True)}
    made = [
        [{n: common[n] + rng.normal(size=common[n].shape) for n in NAMES} for _ in range(num_micro)]
        for _ in range(world_size)
    ]
    return np.array(made, dtype=object)


def mean_of(parts: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {n: np.mean([part[n] for part in np.ravel(parts)], axis=0) for n in NAMES}


def times(gradients: dict[str, Any], factor: float) -> dict[str, Any]:
    return {name: factor * value for name, value in gradients.items()}


def record(
    gradient: dict[str, Any],
    *,
    rank: int = 0,
    world_size: int = 1,
    local: dict[str, Any] | None = None,
    accumulation: int = 1,
    digests: np.ndarray[Any, Any] | None = None,
) -> RunRecord:
    arrays = {f"grad/{name}": np.float32(value) for name, value in gradient.items()}
    arrays |= {f"local/{name}": np.float32(value) for name, value in (local or {}).items()}
    if digests is None:
        digests = np.arange(3 * len(NAMES) * 2, dtype=np.uint64).reshape(3, len(NAMES), 2)
    job = {"num_micro": None, "reduction": {"accumulation": accumulation}}
    parallel = {"rank": rank, "world_size": world_size, "loss_terms": [NUM_TERMS / world_size], "job": job}
    return RunRecord(
        spec=RunSpec(system="toy"),
        environment=make_environment(),
        arrays={**arrays, "replicas/tensors": digests},
        facts={"parallel": parallel, "replicas": {"names": list(NAMES)}},
    )


def judged(wrong: Any, *, world_size: int = 2, num_micro: int = 1) -> tuple[list[Any], list[RunRecord]]:
    """Results where `wrong(local gradients)` gives what each rank has."""
    local = local_gradients(world_size, num_micro)
    found = wrong(local)
    ranks = [
        record(found[r], rank=r, world_size=world_size, local=mean_of(local[r]), accumulation=num_micro)
        for r in range(world_size)
    ]
    return gradient_parity(record(mean_of(local)), ranks), ranks


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_average_is_green(world_size):
    results, ranks = judged(lambda local: [mean_of(local)] * world_size, world_size=world_size)

    assert [result.check for result in results] == ["parity/gradient", "parity/scale", "parity/direction"]
    assert red_checks([*results, *replicas_equal(ranks)]) == set()


@pytest.mark.parametrize(
    ("factor", "world_size", "cause"),
    [
        (2.0, 2, "2 times: summed over ranks"),
        (4.0, 4, "4 times: summed over ranks"),
        (16.0, 4, "16 times: summed over ranks where an average was due, twice"),
        (0.25, 4, "1/4 times: divided by the number of ranks"),
        (0.75, 2, "0.75 times: micro-batches are divided by another number"),
    ],
)
def test_a_factor_is_red_in_scale_alone_and_named(factor, world_size, cause):
    results, _ = judged(lambda local: [times(mean_of(local), factor)] * world_size, world_size=world_size)

    assert red_checks(results) == {"parity/gradient", "parity/scale"}
    assert cause in find(results, "parity/scale").detail
    assert find(results, "parity/scale").figure.startswith(f"{factor:g} times")
    assert find(results, "parity/direction").detail == ""


def test_local_gradients_are_red_and_named():
    results, _ = judged(lambda local: [mean_of(part) for part in local])

    assert "parity/direction" in red_checks(results)
    assert "never reduced" in find(results, "parity/gradient").detail


def test_a_reduction_inside_the_accumulation_is_red_and_named():
    def inside(local):
        sums = dict.fromkeys(NAMES, 0)
        for micro in range(4):
            each = mean_of(local[:, micro])
            sums = {name: 2 * sums[name] + each[name] / 4 for name in NAMES}
        return [sums, sums]

    results, _ = judged(inside, num_micro=4)

    assert red_checks(results) == {"parity/gradient", "parity/scale", "parity/direction"}
    assert "reduced inside the accumulation" in find(results, "parity/direction").detail


def test_wrong_shares_are_red_in_direction():
    def unweighed(local):
        return [{n: (3 * local[0, 0][n] + local[1, 0][n]) / 4 for n in NAMES}] * 2

    results, _ = judged(unweighed)

    assert {"parity/gradient", "parity/direction"} <= red_checks(results)
    assert "weighed by other than their loss terms" in find(results, "parity/direction").detail


def test_one_table_scaled_otherwise_is_found():
    def one_table(local):
        mean = mean_of(local)
        return [{**mean, "tower.bias": mean["tower.bias"] * 1.001}] * 2

    results, _ = judged(one_table)

    assert "parity/scale" in red_checks(results)
    assert "tower.bias" in find(results, "parity/scale").worst


def test_a_gradient_that_is_missing_on_a_rank_is_red():
    results, _ = judged(lambda local: [{"item.weight": mean_of(local)["item.weight"]}] * 2)

    assert "tower.bias" in find(results, "parity/gradient").worst


@pytest.mark.parametrize(
    ("single", "problem"),
    [
        ({n: np.zeros(s) for n, s in zip(NAMES, SHAPES, strict=True)}, "zero everywhere"),
        ({n: np.full(s, np.nan) for n, s in zip(NAMES, SHAPES, strict=True)}, "not finite"),
        ({}, "no gradient"),
        ({"item.weight": np.ones(3)}, "another shape"),
    ],
)
def test_what_cannot_be_compared_is_not_green(single, problem):
    right = mean_of(local_gradients(2))

    results = gradient_parity(record(single), [record(right), record(right)])

    assert {result.verdict for result in results} == {Verdict.NOT_MEASURED}
    assert problem in results[0].figure


def test_a_limit_that_a_wrong_gradient_would_pass_is_refused():
    """In half precision with a gradient that is nearly the same everywhere, the control passes: nothing is measured."""
    flat = {n: np.full(s, 1.0) + 1e-3 * np.arange(np.prod(s)).reshape(s) for n, s in zip(NAMES, SHAPES, strict=True)}

    results = gradient_parity(record(flat), [record(flat), record(flat)], dtype="bfloat16")

    assert {result.verdict for result in results} == {Verdict.NOT_MEASURED}
    assert "moved by one place would pass too" in results[0].figure


@pytest.mark.parametrize(
    ("step", "worst", "why"),
    [(0, "at the start, first tower.bias", "start apart"), (2, "after step 2, first tower.bias", "model of its own")],
)
def test_replicas_that_part_are_named_with_step_and_tensor(step, worst, why):
    right = mean_of(local_gradients(2))
    first, second = record(right), record(right, rank=1)
    moved = second["replicas/tensors"].copy()
    moved[step:, 1] += np.uint64(1)

    (result,) = replicas_equal([first, record(right, rank=1, digests=moved)])

    assert result.red
    assert worst in result.worst
    assert why in result.detail
    assert not replicas_equal([first, second])[0].red


def test_replicas_that_start_apart_are_the_cause():
    right = mean_of(local_gradients(2))
    other = np.arange(12, dtype=np.uint64).reshape(3, 2, 2) + np.uint64(1)

    results = gradient_parity(record(right), [record(times(right, 0.7)), record(times(right, 0.7), digests=other)])

    assert "start with different weights" in find(results, "parity/gradient").detail


def test_one_rank_has_no_replicas():
    right = mean_of(local_gradients(1))

    assert replicas_equal([record(right)])[0].verdict == Verdict.NOT_MEASURED
    assert replicas_equal([])[0].verdict == Verdict.NOT_MEASURED
