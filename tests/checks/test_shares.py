"""Shares: each sample of the batch on exactly one rank, with the negatives that one process has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_records import make_parity_records
from fixtures.records import edit_array, edit_facts
from rectest.checks.result import Verdict
from rectest.checks.shares import compare_shares, shares_make_the_batch


def judged(single, ranks):
    (result,) = shares_make_the_batch(single, ranks)
    return result


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_batch_shared_out_is_green(world_size):
    result = judged(*make_parity_records(world_size, 2))

    assert result.check == "parity/shares"
    assert not result.red
    assert result.figure == f"{12 * world_size} samples on {world_size} ranks"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.tuples(st.integers(1, 5), st.integers(6, 11)))
def test_order_and_owner_do_not_matter(seed, cuts):
    single, ranks = make_parity_records(3, rows_per_share=4)
    order = np.random.default_rng(seed).permutation(12)
    parts = np.split(order, cuts)
    shared = [
        record.with_arrays(rows__digest=single["rows/digest"][part], rows__inputs=single["rows/inputs"][part])
        for record, part in zip(ranks, parts, strict=True)
    ]

    assert not judged(single, shared).red


def test_samples_twice_and_samples_of_nobody_are_counted():
    single, ranks = make_parity_records(2)
    same = ranks[1].with_arrays(rows__digest=ranks[0]["rows/digest"], rows__inputs=ranks[0]["rows/inputs"])

    result = judged(single, [ranks[0], same])

    assert result.red
    assert "6 of 12 samples (50 %) are trained on more often" in result.detail
    assert "on ranks 0, 1" in result.detail
    assert "6 of 12 samples (50 %) by no rank" in result.detail


def test_a_dropped_sample_is_found():
    single, ranks = make_parity_records(2)
    short = ranks[1].with_arrays(rows__digest=ranks[1]["rows/digest"][:-1], rows__inputs=ranks[1]["rows/inputs"][:-1])

    found = compare_shares(single, [ranks[0], short])

    assert (found.missing_inputs, found.extra_inputs) == (1, 0)
    assert judged(single, [ranks[0], short]).red


def test_a_sample_that_is_twice_in_the_batch_may_be_there_twice():
    single, ranks = make_parity_records(2)

    def repeat(record, row):
        return edit_array(record, "rows/digest", lambda v: v.__setitem__(row, single["rows/digest"][0]))

    assert not judged(repeat(single, 7), [ranks[0], repeat(ranks[1], 1)]).red
    assert judged(single, [ranks[0], repeat(ranks[1], 1)]).red


def test_negatives_that_depend_on_the_rank_are_told_from_wrong_rows():
    single, ranks = make_parity_records(2)
    other = edit_array(ranks[1], "rows/digest", lambda v: v + np.uint64(10**6))

    result = judged(single, [ranks[0], other])

    assert result.red
    assert result.detail.startswith("inputs are right, but the negatives of 6 of 12 samples")
    assert compare_shares(single, [ranks[0], other]).negatives_apart


def test_shared_negatives_must_be_those_of_one_process():
    single, ranks = make_parity_records(2)
    other = edit_array(ranks[1], "rows/shared", lambda v: v + np.uint64(1))

    result = judged(single, [ranks[0], other])

    assert result.red
    assert "the shared sampled" in result.detail


@pytest.mark.parametrize("problem", ["digests", "empty", "rank 0 of 4", "twice"])
def test_what_cannot_be_compared_is_not_green(problem):
    single, ranks = make_parity_records(2)
    if problem == "digests":
        ranks[1] = ranks[1].with_arrays(rows__digest=None)
    elif problem == "empty":
        single = edit_array(single, "rows/digest", lambda v: v[:0])
    elif problem == "twice":
        ranks, problem = [ranks[0], ranks[0]], "found rank 0 of 2, rank 0 of 2"
    else:
        ranks = [edit_facts(record, "parallel", "world_size", value=4) for record in ranks]

    result = judged(single, ranks)

    assert result.verdict == Verdict.NOT_MEASURED
    assert problem in result.figure
    assert judged(single, []).verdict == Verdict.NOT_MEASURED
