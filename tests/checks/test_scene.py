"""What records say about a step: terms and rows of shares, passes of the reduction, settings of the job."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.parity_records import make_case, make_parity_records
from fixtures.records import edit_facts
from rectest.checks.decomposition import evidence_of
from rectest.checks.scene import (
    reduction_of,
    rows_exchanged,
    scene_of,
    share_weights,
    shares_add_up,
    shares_make_single,
)


def scene(case, net=None, **settings):
    single, ranks = case.records(net or case.summed(), **settings)
    return scene_of(evidence_of(single, ranks), ranks)


def test_facts_are_read():
    case = make_case(2, 3, uneven_terms=True)
    found = scene(case, facts={"clip_norm": 2.0})

    assert found.terms["total"].tolist() == case.terms
    assert found.rows.tolist() == case.rows
    assert (found.world, found.micro, found.configured, found.clip_norm) == (2, 3, 3, 2.0)
    assert found.passes == 1
    assert found.log == " (reductions of each gradient, by the log of collectives: 1)"


def test_records_without_facts_leave_them_open():
    single, ranks = make_parity_records(2)
    bare = [edit_facts(record, "parallel", value={}) for record in ranks]
    found = scene_of(evidence_of(single, bare), bare)

    assert (found.passes, found.configured, found.terms, found.log) == (None, None, {}, "")
    assert not found.rows.any()
    assert reduction_of(bare) == {}


def test_sums_of_shares():
    case = make_case(2, 2)

    assert shares_add_up(scene(case))
    assert shares_make_single(scene(case))
    assert not shares_add_up(scene(case, case.own(0)))
    assert shares_make_single(scene(case, case.own(0)))
    assert scene(case).own_norm(0) == pytest.approx(np.sqrt(sum((v**2).sum() for v in case.own(0).values())))


def test_weights_by_hand():
    """Ranks of 4 and 12 terms that weigh the same get 2 and 2/3; micro-batches of 3 and 1 terms 2/3 and 2."""
    case = make_case(2, 2)
    single, ranks = case.records(case.summed())
    for record, terms in zip(ranks, ([3, 1], [6, 6]), strict=True):
        record.facts["parallel"]["terms"] = {"total": terms}

    by_level = dict(share_weights(scene_of(evidence_of(single, ranks), ranks)))

    assert np.allclose(by_level["ranks"], [[2, 2], [2 / 3, 2 / 3]])
    assert np.allclose(by_level["micro-batches"], [[2 / 3, 2], [1, 1]])
    assert dict(share_weights(scene(case))) == {}


def test_components_with_other_proportions_have_no_single_weight():
    case = make_case(2)
    single, ranks = case.records(case.summed())
    for record, terms in zip(ranks, ({"a": [1], "b": [2]}, {"a": [3], "b": [1]}), strict=True):
        record.facts["parallel"]["terms"] = terms

    assert dict(share_weights(scene_of(evidence_of(single, ranks), ranks))) == {}


def test_exchanges_that_bring_rows_are_told_from_counts_buffers_and_gradients():
    case = make_case(2)
    log = [
        {"op": "broadcast_", "phase": "forward", "micro": 1, "numel": 999},
        {"op": "allreduce_", "phase": "forward", "micro": 1, "numel": 11},
        {"op": "allreduce_", "phase": "forward", "micro": 1, "numel": 12},
        {"op": "_allgather_base_", "phase": "forward", "micro": 1, "numel": 3},
        {"op": "allreduce_", "phase": "backward", "micro": 1, "numel": 999},
    ]
    _, ranks = case.records(case.summed(), comm=log)

    assert rows_exchanged(scene(case), ranks) == ["allreduce_", "_allgather_base_"] * 2
