"""Hypotheses with several factors: micro-batches, ranks and clipping, each with its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_records import make_case
from rectest.checks.decomposition import evidence_of
from rectest.checks.scene import scene_of
from rectest.checks.weights import clipped_to, several_factors


def scene(case, weight, **facts):
    single, ranks = case.records(case.summed(weight), facts=facts)
    return scene_of(evidence_of(single, ranks), ranks)


def norms_of(case):
    return [
        float(np.sqrt(sum((v.astype(float) ** 2).sum() for v in case.own(r).values()))) for r in range(case.world_size)
    ]


@pytest.mark.parametrize(
    ("weights", "name", "text"),
    [
        ((4, 2, 1), "reduced_inside_accumulation", "weigh 4, 2, 1 instead of 1 each"),
        ((1.75, 1.5, 1), "reduced_inside_accumulation", "weigh 1.75, 1.5, 1 instead"),
        ((0, 1, 1), "accumulation_wiped", "only micro-batch 2, 3 of 3"),
        ((1, 2, 1), "unknown", "weigh 1, 2, 1 instead"),
    ],
)
def test_micro_batches(weights, name, text):
    found = several_factors(scene(make_case(2, 3), lambda _, j: weights[j]))

    assert found.name == name
    assert text in found.sentence


@pytest.mark.parametrize(
    ("weights", "name", "text"),
    [((1, 0, 0), "rank_ignored", "ranks 1, 2 count for nothing"), ((1, 1.2, 1), "unknown", "ranks weigh 1, 1.2, 1")],
)
def test_ranks(weights, name, text):
    found = several_factors(scene(make_case(3), lambda r, _: weights[r]))

    assert found.name == name
    assert text in found.sentence


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), world_size=st.integers(2, 4), share=st.floats(0.05, 0.95))
def test_clipping_is_recognised_by_its_norm_and_predicted_where_that_is_known(seed, world_size, share):
    case = make_case(world_size, seed=seed)
    norms = norms_of(case)
    norm = share * sorted(norms)[-1] * world_size

    def factor(rank, _):
        return min(1.0, norm / (norms[rank] * world_size))

    (known,) = clipped_to(scene(case, factor, clip_norm=norm))
    found = several_factors(scene(case, factor))

    assert known.name == found.name == "clipped_before_reduction"
    assert f"to norm {norm:.3g}" in known.sentence


def test_smaller_weights_of_smaller_ranks_are_no_clipping():
    case = make_case(2)
    smallest = int(np.argmin(norms_of(case)))

    assert several_factors(scene(case, lambda r, _: 0.5 if r == smallest else 1.0)).name == "unknown"


def test_no_shares_say_nothing():
    case = make_case(2)
    single, ranks = case.records(case.own(0), local=[[], []])

    assert several_factors(scene_of(evidence_of(single, ranks), ranks)) is None
