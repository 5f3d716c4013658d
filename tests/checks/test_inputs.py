"""Inputs: another artefact than the run read, and results of different tasks, are refused with reasons."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_facts, make_record
from rectest.checks.inputs import RESULT_KEYS, comparable_results, comparable_runs, same_inputs
from rectest.checks.result import Verdict

REPORT_004 = [
    {
        "model": "GEAR",
        "dataset": "Retail",
        "split": "validation",
        "protocol": "1 + 99 uniform",
        "metric": "ndcg@10",
        "value": 0.7244,
    },
    {"model": "MBR-Mamba", "dataset": "tmall2014-alipay", "split": "test", "metric": "ndcg@10", "value": 0.2649},
    {"model": "SIGMA_MuLe", "dataset": "tmall2014-alipay", "split": "test", "metric": "ndcg@10", "value": 0.2619},
]
"""Section 5 of report 004: the protocol of the two others is not said."""


def quoted(model, **changes):
    return {
        "model": model,
        "dataset": "Beauty",
        "split": "test",
        "protocol": "full",
        "metric": "ndcg@10",
        "value": 0.05,
        **changes,
    }


def with_files():
    files = {"items.json": "blake2b:asins", "table.pt": "blake2b:table"}
    return edit_facts(make_record(), "inputs", value={"world": "blake2b:toy", "files": files})


def test_the_artefacts_of_the_run_are_green():
    results = same_inputs(with_files(), {"world": "blake2b:toy", "files/items.json": "blake2b:asins"})

    assert {Verdict.PASS} == {result.verdict for result in results}
    assert ["toy files/items.json", "toy world"] == [result.subject for result in results]


def test_an_artefact_that_is_newer_than_the_run_is_red():
    """Report 003: the mapping had texts as keys during the run, and ASINs when it was verified an hour later."""
    (result,) = same_inputs(with_files(), {"files/items.json": "blake2b:texts"})

    assert result.check == "inputs/digest"
    assert result.verdict is Verdict.FAIL
    assert "blake2b:asins" in result.expected
    assert result.worst == "at hand: blake2b:texts"


@pytest.mark.parametrize("digests", [{}, {"files/other.pt": "blake2b:x"}])
def test_an_artefact_that_the_run_did_not_note_is_not_green(digests):
    (result,) = same_inputs(with_files(), digests)

    assert result.verdict is Verdict.NOT_MEASURED


def test_two_runs_of_one_task_are_comparable():
    (result,) = comparable_runs(make_record(), make_record(seed=1), metric="test/hit@10")

    assert result.check == "inputs/comparable"
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("inputs", "world"), "blake2b:other", "worlds blake2b:toy and blake2b:other"),
        (("protocol", "test", "kind"), "sampled", "kind of test 'full' and 'sampled'"),
        (("protocol", "test", "num_candidates_mean"), 100.0, "num_candidates_mean of test 60.0 and 100.0"),
        (("protocol", "test", "num_scored"), 54, "num_scored of test 60 and 54"),
        (("protocol", "test", "exclude_seen"), True, "exclude_seen of test None and True"),
    ],
)
def test_runs_of_two_tasks_are_refused(path, value, reason):
    (result,) = comparable_runs(make_record(), edit_facts(make_record(seed=1), *path, value=value))

    assert result.verdict is Verdict.FAIL
    assert reason in result.worst


def test_a_measure_that_one_run_lacks_cannot_be_compared():
    without = make_record(seed=1).with_arrays(**{"metric/test/hit@10": None})
    nothing = make_record().with_arrays(**{f"metric/test/{name}": None for name in make_record().names("metric/test/")})

    assert comparable_runs(make_record(), without, metric="test/hit@10")[0].verdict is Verdict.FAIL
    assert comparable_runs(make_record(), without)[0].verdict is Verdict.PASS
    assert comparable_runs(make_record(), nothing)[0].worst == "no measure in common"


@pytest.mark.parametrize(("path", "value"), [(("inputs",), {}), (("protocol",), {})])
def test_a_run_that_does_not_say_its_task_is_not_green(path, value):
    (result,) = comparable_runs(make_record(), edit_facts(make_record(seed=1), *path, value=value))

    assert result.verdict is Verdict.NOT_MEASURED


def test_the_table_of_report_004_is_refused():
    (result,) = comparable_results(REPORT_004)

    assert result.verdict is Verdict.FAIL
    assert result.worst == "dataset: retail (GEAR) against tmall2014-alipay (MBR-Mamba, SIGMA_MuLe)"
    assert "split: validation (GEAR) against test (MBR-Mamba, SIGMA_MuLe)" in result.outside
    assert "MBR-Mamba does not say its protocol" in result.outside


def test_results_of_one_task_are_comparable():
    (result,) = comparable_results([quoted("SASRec"), quoted("GRU4Rec", value=0.04, dataset="beauty ")])

    assert result.verdict is Verdict.PASS


@settings(max_examples=40, deadline=None)
@given(changed=st.sets(st.sampled_from(RESULT_KEYS)), silent=st.sets(st.sampled_from(RESULT_KEYS)))
def test_every_difference_is_named_and_silence_is_not_green(changed, silent):
    other = quoted("B", **dict.fromkeys(changed, "another"))
    for key in silent:
        del other[key]

    (result,) = comparable_results([quoted("A"), other])

    text = f"{result.worst} {result.outside} {result.figure}"
    assert all(f"{key}: " in text for key in changed - silent)
    assert result.red == bool(changed | silent)
    assert (result.verdict is Verdict.FAIL) == bool(changed - silent)


@pytest.mark.parametrize("value", [None, float("nan"), "0.72", True])
def test_a_value_that_is_no_number_is_refused(value):
    (result,) = comparable_results([quoted("A"), quoted("B", value=value)])

    assert result.verdict is Verdict.FAIL
    assert "B has the value" in result.worst


def test_one_result_is_no_comparison():
    assert comparable_results([quoted("A")])[0].verdict is Verdict.NOT_MEASURED
