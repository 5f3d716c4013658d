"""Hypotheses with one factor: those that fit, their natural factors, and the choice among several."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_records import make_case, times
from rectest.checks.decomposition import evidence_of
from rectest.checks.hypotheses import choose, factor_text, one_factor
from rectest.checks.scene import scene_of
from rectest.checks.weights import Candidate


def scene(case, net, **settings):
    single, ranks = case.records(net, **settings)
    return scene_of(evidence_of(single, ranks), ranks)


def test_factors_in_words():
    found = scene(make_case(4), make_case(4).summed())

    assert factor_text(16, found) == "16 times (the number of ranks squared)"
    assert factor_text(0.25, found) == "1/4 times (one over the number of ranks)"
    assert factor_text(0.3, found) == "0.3 times"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 50).filter(lambda k: abs(k - 1) > 1e-3))
def test_a_common_factor_is_found_and_fits_alone(seed, factor):
    case = make_case(2, 2, seed=seed)

    (found,) = one_factor(scene(case, times(case.summed(), factor)))

    assert found.is_scale
    assert found.factor == pytest.approx(factor, rel=1e-4)


def test_nothing_fits_the_right_gradient():
    case = make_case(3, 2)

    assert one_factor(scene(case, case.summed())) == []


def test_a_rank_without_gradient_is_not_taken_for_an_ignored_one():
    case = make_case(3, empty_share=True)

    (found,) = one_factor(scene(case, times(case.summed(), 1.5)))

    assert found.name == "unknown"


def test_the_choice():
    case = make_case(2)
    logged = scene(case, case.summed())
    scale = Candidate(name="divided_by_world", sentence="a")
    kept = Candidate(name="never_reduced", sentence="b")
    odd = Candidate(name="unknown", sentence="c", natural=False)

    assert choose([], logged) is None
    assert choose([odd, scale], logged) == scale
    assert choose([odd], logged) == odd
    assert choose([scale, kept], logged) == scale
    assert choose([scale, kept], replace(logged, passes=0.0)) == kept
    assert choose([scale, kept], replace(logged, passes=None)).sentence.endswith("cannot be told apart: a; or b")


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_sum_that_could_be_of_micro_batches_says_so(world_size):
    case = make_case(world_size, world_size)

    (found,) = one_factor(scene(case, times(case.summed(), world_size)))

    assert found.name == "summed_not_averaged"
    assert "never divided by their number would give the same factor" in found.sentence
