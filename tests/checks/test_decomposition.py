"""Inner products and fits: coefficients of shares are found, and records that cannot be compared are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_records import PARAMETERS, TABLE, combine, make_case, make_parity_records, times
from fixtures.records import edit_facts
from rectest.checks.decomposition import evidence_of, gradients_of, shares_of, unusable


def all_shares(evidence):
    places = [(r, j) for r in range(evidence.world_size) for j in range(evidence.num_micro)]
    return [[evidence.share(*place)] * evidence.world_size for place in places]


def test_norms_are_those_of_the_vectors():
    single, ranks = make_parity_records(2, 2)
    evidence = evidence_of(single, ranks)
    direct = np.concatenate([value.ravel() for value in gradients_of(single).values()])

    assert evidence.names == tuple(sorted(PARAMETERS))
    assert evidence.norm(evidence.single()) == pytest.approx(np.linalg.norm(direct))
    assert evidence.norm(evidence.single(), ["tower.bias"]) == pytest.approx(np.linalg.norm(single["grad/tower.bias"]))
    assert evidence.norm(evidence.net(1) - evidence.single()) < 1e-5 * evidence.norm(evidence.single())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), world_size=st.integers(1, 4), num_micro=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_the_weights_of_shares_are_found(data, world_size, num_micro, seed):
    case = make_case(world_size, num_micro, seed=seed, uneven_terms=True)
    weights = np.array(
        data.draw(st.lists(st.floats(0, 5), min_size=world_size * num_micro, max_size=world_size * num_micro))
    )
    weights[0] += 0.5
    evidence = evidence_of(*case.records(case.summed(lambda r, j: weights[r * num_micro + j])))

    fit = evidence.fit(all_shares(evidence), evidence.names)

    assert fit.fits
    assert fit.determined
    assert np.allclose(fit.coefficients, weights, atol=1e-4)


def test_a_small_parameter_counts_as_much_as_a_large_one():
    """A factor of 1.01 on a parameter that is a thousandth of the whole is no fit of a common factor."""
    case = make_case(2)
    local = [[times(share, 1e-3, "tower.bias") for share in own] for own in case.local]
    small = combine([share for own in local for share in own])
    evidence = evidence_of(*case.records(times(small, 1.01, "tower.bias"), single=small, local=local))
    base = [[evidence.single()] * 2]

    assert not evidence.fit(base, evidence.names).fits
    assert evidence.fit(base, ["tower.bias"]).coefficients[0] == pytest.approx(1.01)


def test_shares_that_depend_on_one_another_have_no_weights():
    case = make_case(2, same_shares=True)
    evidence = evidence_of(*case.records(case.summed()))
    fit = evidence.fit(all_shares(evidence), evidence.names)

    assert fit.fits
    assert not fit.determined


def test_a_share_without_gradient_is_zero():
    case = make_case(2, 2, empty_share=True)
    single, ranks = case.records(case.summed())
    ranks[1] = ranks[1].with_arrays(**{f"local__1__{name}": None for name in PARAMETERS})

    assert shares_of(ranks[1])[1] == {}
    assert len(shares_of(ranks[1])) == 2
    assert evidence_of(single, ranks).num_micro == 2


def test_gradients_of_tiny_networks_do_not_hide_in_a_clip():
    """Ranks whose gradients are a thousandth of the right one are judged by their own rounding."""
    case = make_case(2)
    evidence = evidence_of(*case.records(case.summed(lambda r, _: 1e-3 * (1 + 0.01 * r))))

    assert evidence.scale == pytest.approx(1e-3, rel=0.02)
    assert not evidence.fit([[evidence.single()] * 2], evidence.names).fits
    assert evidence.fit(all_shares(evidence), evidence.names).coefficients == pytest.approx((1e-3, 1.01e-3), rel=1e-3)


def test_what_cannot_be_compared_is_said():
    single, ranks = make_parity_records(2)
    broken = ranks[1].with_arrays(**{f"local__0__{TABLE}": np.full((30, 6), np.inf)})

    assert unusable(single, ranks) == ""
    assert "not finite" in unusable(single, [ranks[0], broken])
    assert "no gradient" in unusable(single, [])
    assert "came out differently" in unusable(edit_facts(single, "parallel", "random_loss", value=True), ranks)
