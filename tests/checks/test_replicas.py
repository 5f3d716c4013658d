"""Replicas: parameters, buffers and optimizer state on all ranks, with the step and tensor where they part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_records import PARAMETERS, make_parity_records
from fixtures.records import edit_array, edit_facts, find, red_checks
from rectest.checks.replicas import buffers_apart, built_apart, replicas_equal, start_apart
from rectest.checks.result import Verdict

BUFFER = len(PARAMETERS)


def moved(record, key, place):
    def edit(value):
        value[place] += np.uint64(10**6)

    return edit_array(record, key, edit)


@pytest.mark.parametrize("world_size", [2, 4])
def test_equal_replicas_are_green(world_size):
    results = replicas_equal(make_parity_records(world_size)[1])

    assert [result.check for result in results] == ["parity/replicas", "parity/buffers", "parity/optimizer_state"]
    assert red_checks(results) == set()


@pytest.mark.parametrize(
    ("step", "worst", "why"),
    [(0, "at the start, first tower.weight", "start apart"), (2, "after step 2, first tower.weight", "of its own")],
)
def test_replicas_that_part_are_named_with_step_and_tensor(step, worst, why):
    _, ranks = make_parity_records(3)
    ranks[2] = moved(ranks[2], "replicas/tensors", np.s_[step:, 1:3])

    result = find(replicas_equal(ranks), "parity/replicas")

    assert result.red
    assert f"rank 2 against rank 0, {worst}" == result.worst
    assert why in result.detail
    assert result.outside == "2 of 4 tensors (50 %)"


@settings(max_examples=50, deadline=None)
@given(rank=st.integers(1, 3), step=st.integers(0, 2), tensor=st.integers(0, BUFFER))
def test_one_bit_anywhere_is_red_in_its_own_check(rank, step, tensor):
    _, ranks = make_parity_records(4)
    ranks[rank] = edit_array(ranks[rank], "replicas/tensors", lambda v: v.__setitem__((step, tensor, 1), 2**60))

    assert red_checks(replicas_equal(ranks)) == {"parity/buffers" if tensor == BUFFER else "parity/replicas"}


def test_all_ranks_that_part_are_listed():
    _, ranks = make_parity_records(3)
    apart = [ranks[0], *(moved(record, "replicas/tensors", np.s_[1:, 0]) for record in ranks[1:])]

    assert find(replicas_equal(apart), "parity/replicas").worst.startswith("ranks 1, 2 against rank 0, after step 1")


def test_buffers_and_optimizer_state_have_results_of_their_own():
    _, ranks = make_parity_records(2)
    buffers = [ranks[0], moved(ranks[1], "replicas/tensors", np.s_[1:, BUFFER])]
    states = [ranks[0], moved(ranks[1], "replicas/optimizer", np.s_[1:, 0])]

    assert find(replicas_equal(buffers), "parity/buffers").worst == (
        "rank 1 against rank 0, after step 1, first norm.running_mean"
    )
    assert find(replicas_equal(states), "parity/optimizer_state").worst == (
        "rank 1 against rank 0, after step 2, first item.weight/exp_avg"
    )
    assert red_checks(replicas_equal(states)) == {"parity/optimizer_state"}


def test_no_buffers_and_no_state_leave_their_results_out():
    _, ranks = make_parity_records(2)
    plain = [
        edit_facts(record, "replicas", "buffers", value=[]).with_arrays(replicas__optimizer=None) for record in ranks
    ]

    assert [result.check for result in replicas_equal(plain)] == ["parity/replicas"]


def test_what_cannot_be_compared_is_not_green():
    _, ranks = make_parity_records(2)
    shorter = edit_array(ranks[1], "replicas/tensors", lambda v: v[:-1])
    stateless = ranks[1].with_arrays(replicas__optimizer=None)
    renamed = edit_facts(ranks[1], "replicas", "names", value=["a", "b", "c", "d", "e"])

    for found in ([], ranks[:1], [ranks[0], shorter], [ranks[0], renamed]):
        assert replicas_equal(found)[0].verdict == Verdict.NOT_MEASURED
    assert find(replicas_equal([ranks[0], stateless]), "parity/optimizer_state").verdict == Verdict.NOT_MEASURED


def test_where_replicas_part_is_told():
    _, ranks = make_parity_records(2)

    assert start_apart(ranks) == buffers_apart(ranks) == built_apart(ranks) == []
    assert start_apart([ranks[0], moved(ranks[1], "replicas/tensors", np.s_[0, 1])]) == ["tower.weight"]
    assert buffers_apart([ranks[0], moved(ranks[1], "replicas/tensors", np.s_[1:])]) == ["norm.running_mean"]
    assert built_apart([ranks[0], moved(ranks[1], "replicas/built", 0)]) == ["item.weight"]
    assert start_apart([]) == built_apart([ranks[0], ranks[1].with_arrays(replicas__built=None)]) == []
