"""Causes: every planted fault gets its own name, whatever the seed, the number of ranks or of micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_faults import CONTROLS, FAULTS, case_of
from fixtures.parity_records import PARAMETERS, TABLE, combine, make_case, times
from fixtures.records import edit_facts
from rectest.checks.cause import CAUSES, Cause, find_cause, measured


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_fault_has_its_own_cause(fault, world_size, seed):
    name, needed, plant = FAULTS[fault]

    found = find_cause(*plant(case_of(world_size, seed, **needed)))

    assert name == found.name, found.sentence
    assert not found.right


def test_every_cause_is_planted():
    assert set(CAUSES) == {"right", *(name for name, _, _ in FAULTS.values())}


@settings(max_examples=50, deadline=None)
@given(data=st.data(), world_size=st.integers(2, 4), num_micro=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_faults_keep_their_cause_with_any_accumulation(data, world_size, num_micro, seed):
    fault = data.draw(st.sampled_from(["summed", "never_reduced", "start_apart", "same_rows", "frozen", "one_row"]))
    name, _, plant = FAULTS[fault]

    assert name == find_cause(*plant(case_of(world_size, seed, num_micro=num_micro))).name


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(CONTROLS)), world_size=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_controls_are_right(name, world_size, seed):
    case = case_of(world_size, seed, **CONTROLS[name])

    assert find_cause(*case.records(case.summed())).right


@pytest.mark.parametrize("num_micro", [2, 3, 4])
def test_accumulation_on_one_process_is_judged_too(num_micro):
    case = make_case(1, num_micro, uneven_terms=True)
    last = case.summed(lambda _, j: float(j == num_micro - 1))

    assert find_cause(*case.records(case.summed())).right
    assert find_cause(*case.records(last)).name == "accumulation_wiped"
    assert find_cause(*case.records(case.summed(equal=True))).name == "mean_of_means"
    assert find_cause(*case.records(times(case.summed(), num_micro))).name == "accumulation_divisor"


def test_the_right_gradient_says_when_reductions_cancel():
    case = make_case(2)
    size = sum(value.size for value in case.single.values())
    log = [{"op": "allreduce_", "phase": phase, "micro": 1, "numel": size} for phase in ("backward", "reduce")]
    job = {"reduction": {"accumulation": 1, "divide_loss_by_world": True, "manual_reduce": "sum"}}

    assert find_cause(*case.records(case.summed())).sentence == "the gradient is right"
    assert "its 2 reductions" in find_cause(*case.records(case.summed(), comm=log)).sentence
    assert "cancel to one average" in find_cause(*case.records(case.summed(), facts={"job": job})).sentence
    assert "by the log of collectives: 2" in find_cause(*case.records(times(case.summed(), 2), comm=log)).sentence


def test_a_divisor_that_the_job_names_is_told_from_the_number_of_ranks():
    """Two of four micro-batches on two ranks: 1/2 is both, and the configured number decides."""
    case = make_case(2, 2)
    records = {
        count: case.records(times(case.summed(), 0.5), facts={"job": {"reduction": {"accumulation": count}}})
        for count in (2, 4)
    }

    assert find_cause(*records[4]).name == "accumulation_divisor"
    assert find_cause(*records[2]).name == "divided_by_world"


def test_two_faults_are_both_said():
    """A frozen table beside a doubled rest, and shares of other rows that are never reduced."""
    case = make_case(2)
    net = {n: v for n, v in times(case.summed(), 2).items() if n != TABLE}
    found = find_cause(*case.records(net))

    assert found.name == "summed_not_averaged"
    assert f"besides, a gradient in one process and none on any rank: {TABLE}" in found.sentence


def test_rows_that_several_ranks_hold_are_recognised():
    """A sparse exchange that overwrites instead of adding: rows that one rank holds alone are right."""
    case = make_case(2, rows_per_share=10)
    held = [case.own(r)[TABLE].any(axis=1) for r in range(2)]
    table = np.where(held[1][:, None], case.own(1)[TABLE], case.own(0)[TABLE])

    found = find_cause(*case.records({**case.summed(), TABLE: table}))

    assert (held[0] & held[1]).any()
    assert found.name == "rows_apart"
    assert "each of them in the shares of several ranks, and no row that one rank holds alone" in found.sentence


def test_identical_shares_are_told_apart_by_the_log_or_not_at_all():
    """Both ranks have half the gradient: of their own rows, of one rank's, or divided once too often."""
    case = make_case(2, same_shares=True)
    halves = [case.own(0), case.own(1)]

    kept = find_cause(*case.records(halves, comm=[]))
    exchanged = find_cause(*case.records(halves))
    single, ranks = case.records(halves)
    unlogged = find_cause(single, [edit_facts(r, "parallel", value={"world_size": 2}) for r in ranks])

    assert kept.name == "never_reduced"
    assert exchanged.name == unlogged.name == "unknown"
    assert "cannot be told apart" in exchanged.sentence
    assert "divided by the number of ranks" in exchanged.sentence
    assert "never reduced" not in exchanged.sentence
    assert "never reduced" in unlogged.sentence


def test_identical_shares_with_unlike_weights_have_none_reported():
    case = make_case(2, 2, same_shares=True)
    noise = {n: v * np.float32(0.1) * (np.arange(v.size).reshape(v.shape) % 3) for n, v in case.summed().items()}
    records = case.records(combine([case.summed(), {n: v.astype(np.float32) for n, v in noise.items()}]))

    assert "cannot be told apart" in find_cause(*records).sentence
    assert measured(*records)["coefficients"] == []


def test_records_with_little_in_them_are_still_judged():
    case = make_case(2)
    single, ranks = case.records(times(case.summed(), 2))
    bare = [edit_facts(record, "parallel", value={}) for record in ranks]
    bare = [r.with_arrays(**{f"local__0__{n}": None for n in PARAMETERS}, replicas__tensors=None) for r in bare]

    assert find_cause(edit_facts(single, "parallel", value={}), bare).name == "summed_not_averaged"
    assert find_cause(single, [edit_facts(r, "replicas", value={}) for r in bare]).name == "summed_not_averaged"


def test_measured_gives_the_figures_of_a_table():
    case = make_case(2, 2)
    found = measured(*case.records(case.summed(lambda r, j: 1 + r + 2 * j)))
    right = measured(*case.records(case.summed()))

    assert np.allclose(found["coefficients"], [[1, 3], [2, 4]], atol=1e-4)
    assert found["residual"] < 1e-6
    assert right["scale"] == pytest.approx(1, abs=1e-6)
    assert right["cosine"] == pytest.approx(1, abs=1e-6)
    assert right["error"] < 1e-6


def test_measured_has_no_scale_where_one_process_has_no_gradient():
    case = make_case(2)
    found = measured(*case.records(case.summed(), single=times(case.single, 0)))

    assert found["scale"] == found["error"] == np.inf
    assert found["cosine"] == 0


def test_a_cause_has_a_known_name():
    with pytest.raises(ValueError, match="a cause must be one of right"):
        Cause(name="bad_luck", sentence="")
