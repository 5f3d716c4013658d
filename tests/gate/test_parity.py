"""The product in use: on several ranks each reference system computes the gradient of one process.

On the CPU this is part of `pytest -m gate`. On GPUs, `pytest -m gpu`, ranks share them over gloo; where there are
several, each rank also gets one of its own, over nccl.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from rectest.faults.parallel import ParallelRow, parallel_spec, parallel_table
from rectest.faults.variants import VARIANTS
from rectest.systems.registry import SYSTEMS
from rectest.training.launch import Launch

WAYS = {2: ("ddp", "all_reduce", "accumulation", "sparse_tables"), 4: ("ddp", "uneven_shares")}
"""By number of ranks, the right ways of training on them that a merge must not break."""

GLOO_ONLY = ("sparse_tables",)  # nccl exchanges dense gradients only
DEVICES = [pytest.param("cpu", marks=pytest.mark.gate), pytest.param("cuda", marks=pytest.mark.gpu)]


def measured(system: str, device: str, num_ranks: int, *, backend: str = "gloo") -> list[ParallelRow]:
    ways = [way for way in WAYS[num_ranks] if backend == "gloo" or way not in GLOO_ONLY]
    chosen = [variant for variant in VARIANTS if variant.name in ways]
    how = Launch(sys_path=sys.path, deadline=300)
    return parallel_table(parallel_spec(system, device=device), (num_ranks,), variants=chosen, backend=backend, how=how)


def results_of(rows):
    """All results, each under the way in which the ranks trained."""
    return [replace(result, subject=f"{row.variant.name}, {result.subject}") for row in rows for result in row.results]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_gradient_parity(system, device, rec_check):
    """On two and on four ranks: the gradient of one process, equal replicas, each row on one rank."""
    rows = [row for num_ranks in WAYS for row in measured(system, device, num_ranks)]

    assert sorted(row.variant.name for row in rows) == sorted(way for ways in WAYS.values() for way in ways)
    rec_check(results_of(rows), of=system)
    assert {row.cause.name for row in rows} == {"right"}


@pytest.mark.gpu(count=2)
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_one_rank_for_each_gpu(system, rec_check):
    """The same over nccl, which refuses ranks that share a GPU."""
    rec_check(results_of(measured(system, "cuda", 2, backend="nccl")), of=system)
