"""Parity on made-up records: each wrong way of combining gradients is red, in its own part, under its own name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.parity_faults import CONTROLS, FAULTS, case_of
from fixtures.parity_records import PARAMETERS, TABLE, combine, make_case, make_parity_records, times
from fixtures.records import edit_array, edit_facts, find, red_checks
from rectest.checks.cause import find_cause
from rectest.checks.parity import gradient_parity
from rectest.checks.result import Verdict

CHECKS = ["parity/gradient", "parity/scale", "parity/direction", "parity/rows"]


def results_of(fault: str, world_size: int = 2, seed: int = 0):
    _, needed, plant = FAULTS[fault]
    return gradient_parity(*plant(case_of(world_size, seed, **needed)))


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "same_shares"])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_controls_are_green(name, world_size):
    case = case_of(world_size, 0, **CONTROLS[name])

    results = gradient_parity(*case.records(case.summed()))

    assert [result.check for result in results] == CHECKS
    assert red_checks(results) == set()


@settings(max_examples=50, deadline=None)
@given(
    world_size=st.integers(1, 4),
    num_micro=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    uneven=st.booleans(),
    uneven_terms=st.booleans(),
)
def test_shares_that_add_up_are_green(world_size, num_micro, seed, uneven, uneven_terms):
    case = case_of(world_size, seed, num_micro=num_micro, uneven=uneven, uneven_terms=uneven_terms)

    assert red_checks(gradient_parity(*case.records(case.summed()))) == set()


@pytest.mark.parametrize("fault", [name for name, (cause, _, _) in FAULTS.items() if cause != "random_loss"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_every_fault_is_red_and_says_why(fault, world_size):
    _, needed, plant = FAULTS[fault]
    single, ranks = plant(case_of(world_size, 1, **needed))

    results = gradient_parity(single, ranks)
    sentence = find_cause(single, ranks).sentence

    assert red_checks(results)
    assert {result.detail for result in results if result.red} == {sentence}


@pytest.mark.parametrize(("fault", "scale"), [("summed", "2"), ("divided", "0.5"), ("any_factor", "0.37")])
def test_a_factor_is_red_in_scale_and_not_in_direction(fault, scale):
    results = results_of(fault)

    assert red_checks(results) == {"parity/gradient", "parity/scale", "parity/rows"}
    assert find(results, "parity/scale").figure == f"{scale} times the gradient of one process"
    assert find(results, "parity/direction").detail == ""


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_one_rank_that_is_wrong_is_red_and_named(rank):
    case = make_case(3)
    nets = [times(case.summed(), 2.0 if other == rank else 1.0) for other in range(3)]

    results = gradient_parity(*case.records(nets))

    assert red_checks(results) == {"parity/gradient", "parity/scale", "parity/rows"}
    assert find(results, "parity/gradient").worst.startswith(f"rank {rank}, ")


def test_another_direction_of_the_same_length_is_red_in_direction():
    case = make_case(2)
    turned = case.summed() | {"tower.weight": np.roll(case.summed()["tower.weight"], 1, axis=0)}

    results = gradient_parity(*case.records(turned))

    assert {"parity/gradient", "parity/direction"} <= red_checks(results)
    assert "tower.weight" in find(results, "parity/direction").worst


def test_one_table_scaled_otherwise_is_named():
    results = results_of("table_divided")

    assert "item.weight: 0.5 times" in find(results, "parity/scale").worst


def test_a_gradient_that_is_missing_on_the_ranks_is_red():
    assert TABLE in find(results_of("unused"), "parity/gradient").worst


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_one_per_cent_in_one_row_is_red_and_the_row_is_named(seed, data):
    single, ranks = make_parity_records(2, seed=seed)
    held = np.flatnonzero(single[f"grad/{TABLE}"].any(axis=1)).tolist()
    row = data.draw(st.sampled_from(held))
    holders = [str(r) for r, record in enumerate(ranks) if record[f"local/0/{TABLE}"][row].any()]
    ranks[1] = edit_array(ranks[1], f"grad/{TABLE}", lambda v: v.__setitem__(row, v[row] * np.float32(1.01)))

    result = find(gradient_parity(single, ranks), "parity/rows")

    assert result.red
    assert result.worst.startswith(f"rank 1, row {row} of {TABLE} (in the share of ranks {', '.join(holders)})")
    assert result.outside.startswith("1 of 30 rows")


def test_a_row_outside_the_batch_that_is_touched_is_red_however_little():
    single, ranks = make_parity_records(2)
    ranks[0] = edit_array(ranks[0], f"grad/{TABLE}", lambda v: v.__setitem__((0, 0), 1e-20))

    results = gradient_parity(single, ranks)

    assert red_checks(results) == {"parity/rows"}
    assert f"row 0 of {TABLE} (in no share)" in find(results, "parity/rows").worst
    assert "absent from the batch" in find(results, "parity/rows").detail


def test_models_without_tables_have_no_result_of_rows():
    single, ranks = (make_parity_records(2)[0], make_parity_records(2)[1])
    plain = [edit_facts(record, "tables", value={}) for record in (single, *ranks)]

    assert [result.check for result in gradient_parity(plain[0], plain[1:])] == CHECKS[:3]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda r: r.with_arrays(**{f"grad__{n}": np.zeros_like(r[f"grad/{n}"]) for n in PARAMETERS}),
            "zero everywhere",
        ),
        (
            lambda r: r.with_arrays(**{f"grad__{n}": np.full_like(r[f"grad/{n}"], np.nan) for n in PARAMETERS}),
            "not finite",
        ),
        (lambda r: r.with_arrays(**{f"grad__{n}": None for n in PARAMETERS}), "no gradient"),
        (lambda r: r.with_arrays(**{f"grad__{TABLE}": np.ones((3, 6))}), "another shape"),
        (lambda r: edit_facts(r, "parallel", "random_loss", value=True), "came out differently twice"),
    ],
)
def test_what_cannot_be_compared_is_not_green(change, problem):
    single, ranks = make_parity_records(2)

    results = gradient_parity(change(single), ranks)

    assert {result.verdict for result in results} == {Verdict.NOT_MEASURED}
    assert problem in results[0].figure
    assert problem in find_cause(change(single), ranks).sentence
    assert {result.verdict for result in gradient_parity(single, [])} == {Verdict.NOT_MEASURED}


def test_a_limit_that_a_wrong_gradient_would_pass_is_refused():
    """In half precision with a gradient that is nearly the same everywhere, the control passes: nothing is measured."""
    case = make_case(2)
    flat = {n: (1 + 1e-3 * np.arange(v.size)).reshape(v.shape).astype(v.dtype) for n, v in case.single.items()}

    results = gradient_parity(*case.records(flat, single=flat), dtype="bfloat16")

    assert {result.verdict for result in results} == {Verdict.NOT_MEASURED}
    assert "moved by one place would pass too" in results[0].figure


def test_a_limit_that_half_the_gradient_would_pass_is_refused():
    single, ranks = make_parity_records(2)
    limits = {dtype: gradient_parity(single, ranks, dtype=dtype)[0] for dtype in ("float32", "float16", "bfloat16")}

    assert [limits[dtype].verdict.value for dtype in limits] == ["PASS", "PASS", "NOT MEASURED"]
    assert "would pass too" in limits["bfloat16"].figure


@pytest.mark.parametrize(("num_micro", "what"), [(1, "rank"), (2, "micro-batch")])
def test_shares_that_are_all_alike_say_nothing(num_micro, what):
    """Micro-batches that repeat themselves hide that only the last one counts, also where ranks differ."""
    case = make_case(2, num_micro)
    first = [case.local[0][0]] * 2 if what == "rank" else [own[0] for own in case.local]
    local = [[share] * num_micro for share in first]
    whole = combine([share for own in local for share in own])

    results = gradient_parity(*case.records(whole, single=whole, local=local))

    assert {result.verdict for result in results} == {Verdict.NOT_MEASURED}
    assert f"every {what} has the whole gradient" in results[0].figure


def test_the_dtype_of_the_records_sets_the_limit():
    case = make_case(2)
    single, ranks = case.records(times(case.summed(), 1 + 1e-6), facts={"dtype": "float64"})

    assert "parity/scale" in red_checks(gradient_parity(single, ranks))
    assert red_checks(gradient_parity(single, ranks, dtype="float32")) == set()
    with pytest.raises(ValueError, match="dtype must be one of"):
        gradient_parity(single, ranks, dtype="int8")
