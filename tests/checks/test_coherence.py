"""Impossible tables are red and what mends them is named; every table of a real ranking is green."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import MEASURES, edit_array, edit_facts, find, make_ranks, make_record, red_checks
from rectest.checks.coherence import check_table, check_tables, coherence
from rectest.checks.metric_repair import Rules
from rectest.checks.result import Verdict
from rectest.errors import UnknownNameError
from rectest.metrics.ranking import evaluate
from rectest.metrics.ranks import rank_targets

RECALL = {"recall@1": 0.62, "recall@5": 0.7803, "recall@10": 0.8915, "recall@20": 0.9618, "recall@50": 0.9618}
NDCG = {"ndcg@1": 0.62, "ndcg@5": 0.7063, "ndcg@10": 0.7244, "ndcg@20": 0.7384, "ndcg@50": 0.7524}
CUTOFFS = (1, 5, 10, 20, 50)


def test_the_table_of_report_004_is_impossible_and_its_shift_is_named() -> None:
    (result,) = check_table(RECALL | NDCG, single_relevant=True, decimals=4)

    assert result.verdict is Verdict.FAIL
    assert "ndcg_from_hits" in result.outside
    assert "one repair makes it possible: recall slipped by one cut-off from recall@10 on" in result.detail
    assert "0.8915 belongs to recall@20" in result.detail


def test_the_corrected_table_is_possible() -> None:
    table = {"recall@1": 0.62, "recall@5": 0.7803, "recall@10": 0.836, "recall@20": 0.8915, "recall@50": 0.9618}

    assert set() == red_checks(check_table(table | NDCG, single_relevant=True, decimals=4))


def test_a_plateau_with_equal_ndcg_is_legal() -> None:
    table = {"recall@20": 0.5, "recall@50": 0.5, "ndcg@20": 0.3, "ndcg@50": 0.3}
    rising = table | {"ndcg@50": 0.32}

    assert set() == red_checks(check_table(table, single_relevant=True, decimals=4))
    assert {"coherence/table"} == red_checks(check_table(rising, single_relevant=True, decimals=4))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 4), st.integers(1, 3), st.sampled_from([None, 3, 4]))
def test_no_table_of_a_real_ranking_is_refused(
    seed: int, skill: float, num_relevant: int, decimals: int | None
) -> None:
    ranks = make_ranks(seed=seed, skill=skill, num_relevant=num_relevant)
    exact = evaluate(ranks, [f"{name}@{k}" for name in ("recall", "ndcg", "hit", "mrr") for k in CUTOFFS])
    table = exact if decimals is None else {name: round(value, decimals) for name, value in exact.items()}

    results = check_table(table, single_relevant=num_relevant == 1, decimals=decimals, num_users=60)

    assert set() == red_checks(results)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 2))
def test_a_shifted_column_is_refused(seed: int, skill: float) -> None:
    ranks = make_ranks(num_users=400, num_candidates=100, seed=seed, skill=skill)
    table = evaluate(ranks, [f"{name}@{k}" for name in ("recall", "ndcg") for k in CUTOFFS])
    shifted = table | {f"recall@{a}": table[f"recall@{b}"] for a, b in itertools.pairwise(CUTOFFS)}

    assert {"coherence/table"} == red_checks(check_table(shifted, single_relevant=True))


def test_an_impossible_table_that_no_single_slip_explains_names_none() -> None:
    table = {"hit@1": 0.9, "hit@5": 0.7, "hit@10": 0.5, "hit@20": 0.3, "mrr": 1.4, "ndcg@5": -0.2}
    (result,) = check_table(table, single_relevant=True)

    assert result.red
    assert "no single slip" in result.detail


def test_a_repair_of_a_bare_table_must_give_whole_users() -> None:
    table = {"hit@5": 0.6, "hit@10": 0.4}
    (known,) = check_table(table, single_relevant=True, num_users=5)
    (rounded,) = check_table(table | {"hit@10": 0.43}, single_relevant=True, num_users=5, decimals=2)

    assert "hit@5 = 0.6 and hit@10 = 0.4 are swapped" in known.detail
    assert "swapped" not in rounded.detail


@pytest.mark.parametrize("decimals", [4, dict.fromkeys(RECALL | NDCG, 4)])
def test_a_bare_table_is_a_file_of_one_row(decimals: int | dict[str, int]) -> None:
    rules = Rules(single_relevant=True, decimals=dict.fromkeys(RECALL | NDCG, 4))
    expected, _ = check_tables({"t": RECALL | NDCG}, {"t": rules}, name="t")

    assert [expected] == check_table(RECALL | NDCG, single_relevant=True, decimals=decimals, name="t")


def test_rows_of_a_file_are_judged_together_and_the_worst_is_named() -> None:
    rules = Rules(single_relevant=True, decimals=dict.fromkeys(RECALL | NDCG, 4))
    healthy = NDCG | RECALL | {"recall@10": 0.836, "recall@20": 0.8915}
    tables = {"epoch 1": healthy, "epoch 2": RECALL | NDCG, "epoch 3": healthy}

    result, mended = check_tables(tables, dict.fromkeys(tables, rules), name="valid")

    assert result.verdict is Verdict.FAIL
    assert result.worst.startswith("epoch 2: ndcg_from_hits")
    assert result.outside.startswith("1 of 3 rows")
    assert [repair.kind for repair in mended] == ["shift"]
    assert "repaired, recall slipped by one cut-off" in result.rows


def test_rows_that_are_all_possible_need_no_repair() -> None:
    table = {"recall@20": 0.5, "recall@50": 0.5, "ndcg@20": 0.3, "ndcg@50": 0.3}
    result, mended = check_tables({"a": table, "b": table}, dict.fromkeys("ab", Rules(single_relevant=True)), name="t")

    assert (result.verdict, mended) == (Verdict.PASS, [])


def test_no_row_at_all_is_not_measured() -> None:
    assert check_tables({}, {}, name="t")[0].verdict is Verdict.NOT_MEASURED


def test_an_empty_table_is_not_measured_and_an_unknown_measure_is_refused() -> None:
    (result,) = check_table({}, single_relevant=True)

    assert result.verdict is Verdict.NOT_MEASURED
    with pytest.raises(UnknownNameError, match="recal"):
        check_table({"recal@10": 0.1}, single_relevant=True)


@pytest.mark.parametrize("num_relevant", [1, 3])
def test_a_healthy_record_is_green(num_relevant: int) -> None:
    assert set() == red_checks(coherence(make_record(num_relevant=num_relevant)))


def test_a_metric_that_is_not_the_mean_of_its_ranks_is_red() -> None:
    def inflate(values: np.ndarray) -> None:
        values *= 1.001

    result = find(coherence(edit_array(make_record(), "metric/test/ndcg@10", inflate)), "coherence/recomputed")

    assert result.red
    assert "ndcg@10" in result.worst


def test_rounding_of_another_order_of_addition_is_no_difference() -> None:
    def nudge(values: np.ndarray) -> None:
        values *= 1 + 1e-13

    assert set() == red_checks(coherence(edit_array(make_record(), "metric/test/ndcg@10", nudge)))


def test_a_nan_metric_is_red() -> None:
    def spoil(values: np.ndarray) -> None:
        values[:] = np.nan

    record = edit_array(make_record(), "metric/test/ndcg@10", spoil)

    assert {"coherence/table", "coherence/recomputed"} == red_checks(coherence(record))


def test_an_impossible_evaluation_in_the_middle_is_found() -> None:
    def drop(values: np.ndarray) -> None:
        values[1] = 0.9

    record = edit_array(make_record(), "metric/valid/ndcg@5", drop)
    record = edit_facts(record, "protocol", "valid", value={"single_relevant": True})

    result = find(coherence(record), "coherence/table", "toy valid")

    assert result.red
    assert result.worst.startswith("evaluation 2:")


def test_ties_that_decide_everything_are_red_and_not_blamed_on_the_table() -> None:
    tied = rank_targets(np.ones((60, 61)), [[u % 60 + 1] for u in range(60)])
    values = {f"metric/test/{m}": np.array([v]) for m, v in evaluate(tied, MEASURES).items()}
    record = make_record().with_arrays(**tied.to_arrays("ranks/test"), **values)

    assert {"coherence/ties"} == red_checks(coherence(record))


def test_half_ranks_between_two_cut_offs_are_not_blamed_on_the_table() -> None:
    scores = np.zeros((60, 61))
    scores[:, 1:5] = 2.0
    scores[:, 5:7] = 1.0
    tied = rank_targets(scores, [[5]] * 60)
    values = evaluate(tied, MEASURES)
    arrays = {f"metric/test/{m}": np.array([v]) for m, v in values.items()}
    arrays |= {f"metric/valid/{m}": np.array([v] * 4) for m, v in values.items()}

    results = coherence(make_record().with_arrays(**tied.to_arrays("ranks/test"), **arrays))

    assert values["mrr"] == pytest.approx(1 / 5.5)
    assert {"coherence/ties"} == red_checks(results)
    assert {"coherence/table"} == red_checks(check_table(values, single_relevant=True))
    assert set() == red_checks(check_table(values, single_relevant=True, ties=True))


def test_without_ranks_the_means_cannot_be_recomputed() -> None:
    result = find(coherence(make_record().with_arrays(**{"ranks/test/user": None})), "coherence/recomputed")

    assert result.verdict is Verdict.NOT_MEASURED
    assert "ranks/test/user" in result.figure


def test_damaged_ranks_are_not_measured() -> None:
    def spoil(values: np.ndarray) -> None:
        values[0] = np.nan

    record = edit_array(make_record(), "ranks/test/expected", spoil)

    assert find(coherence(record), "coherence/recomputed").verdict is Verdict.NOT_MEASURED
