"""Models at chance, below popularity or above the optimum are red; trained ones are green."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import MEASURES, edit_facts, find, make_ranks, make_record, red_checks
from rectest.checks.chance import above_chance, against_chance, popularity_floor, ranks_of
from rectest.checks.ranges import ranges
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import RecordError
from rectest.metrics.ranking import evaluate, per_user


def _report_001(measure: str, value: float) -> CheckResult:
    return against_chance(measure, value, num_candidates=[100] * 938, num_relevant=1)


@pytest.mark.parametrize(
    ("measure", "value"), [("hit@5", 51 / 938), ("ndcg@10", 0.0465), ("mrr", 0.0542), ("mean_rank", 49.09)]
)
def test_report_001_is_at_chance_in_all_four_metrics(measure: str, value: float) -> None:
    result = _report_001(measure, value)

    assert result.verdict is Verdict.CHANCE
    assert result.red
    assert result.figure.startswith(f"{measure} {value:.4g} is what random ranking gives (")
    assert "has learned nothing that this evaluation can see" in result.detail


def test_the_words_of_chance() -> None:
    assert _report_001("hit@5", 51 / 938).figure == "hit@5 0.05437 is what random ranking gives (0.05, p = 0.29)"


@pytest.mark.parametrize(("hits", "verdict"), [(69, Verdict.CHANCE), (70, Verdict.PASS)])
def test_the_smallest_hit_rate_that_beats_chance(hits: int, verdict: Verdict) -> None:
    assert verdict is _report_001("hit@5", hits / 938).verdict


@pytest.mark.parametrize(("measure", "value"), [("hit@5", 0.0), ("mean_rank", 60.0)])
def test_worse_than_chance_has_learned_the_wrong_way_round(measure: str, value: float) -> None:
    result = _report_001(measure, value)

    assert result.verdict is Verdict.FAIL
    assert "WORSE THAN CHANCE" in result.detail


def test_a_trained_record_is_green() -> None:
    record = make_record()

    assert set() == red_checks(above_chance(record))
    assert set() == red_checks(popularity_floor(record))


def test_an_untrained_record_is_chance_and_nothing_else() -> None:
    record = make_record(skill=0.0)

    assert {f"chance/{measure}" for measure in MEASURES} == red_checks(above_chance(record))
    assert {Verdict.CHANCE} == {result.verdict for result in above_chance(record)}
    assert set() == red_checks(ranges(record))


def test_chance_passes_as_rarely_as_it_says() -> None:
    passed = [
        not against_chance(
            "ndcg@10",
            evaluate(make_ranks(num_users=300, skill=0.0, seed=seed), ["ndcg@10"])["ndcg@10"],
            num_candidates=[60] * 300,
            num_relevant=1,
            alpha=0.05,
        ).red
        for seed in range(200)
    ]

    assert sum(passed) <= 22


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(MEASURES), st.integers(1, 3))
def test_strong_models_pass_every_measure(seed: int, measure: str, num_relevant: int) -> None:
    record = make_record(seed=seed, skill=2.0, num_relevant=num_relevant)

    assert not find(above_chance(record), f"chance/{measure}").red


def test_a_metric_that_cannot_tell_is_not_measured() -> None:
    result = against_chance("hit@10", 1.0, num_candidates=[10] * 50, num_relevant=1)

    assert result.verdict is Verdict.NOT_MEASURED
    assert "cannot tell" in result.figure


@pytest.mark.parametrize(
    ("value", "candidates"), [(float("nan"), 100), (0.2, 5)], ids=["nan", "fewer candidates than k"]
)
def test_values_without_meaning_are_not_measured(value: float, candidates: int) -> None:
    result = against_chance("hit@10", value, num_candidates=[candidates] * 50, num_relevant=1)

    assert result.verdict is Verdict.NOT_MEASURED


@pytest.mark.parametrize("missing", ["ranks/test/num_candidates", "metric/test/mrr"])
def test_missing_arrays_are_not_measured(missing: str) -> None:
    record = make_record().with_arrays(**{missing: None})

    obtained = {result.check: result.verdict for result in above_chance(record)}

    assert ("metric/test/mrr" == missing) == ("chance/mrr" not in obtained)
    assert ("metric/test/mrr" == missing) == (Verdict.NOT_MEASURED not in obtained.values())


def test_no_metric_at_all_is_not_measured() -> None:
    assert Verdict.NOT_MEASURED is above_chance(make_record(), split="nowhere")[0].verdict


def _floor(**known: float | None) -> list[CheckResult]:
    record = edit_facts(make_record(), "floors", value={"test/hit@10": known})
    return popularity_floor(record)


def test_a_model_below_popularity_is_red() -> None:
    results = _floor(popularity=0.9, optimum=None)

    assert {"floor/popularity"} == red_checks(results)
    assert "not ahead" in results[0].figure


def test_a_model_that_equals_popularity_has_not_beaten_it() -> None:
    assert {"floor/popularity"} == red_checks(_floor(popularity=make_record().final("test/hit@10")))


def test_a_model_beyond_the_optimum_is_a_leak() -> None:
    results = _floor(popularity=0.1, optimum=0.4)

    assert {"floor/optimum"} == red_checks(results)
    assert "leak" in find(results, "floor/optimum").detail


def test_luck_above_the_optimum_is_no_leak() -> None:
    assert set() == red_checks(_floor(popularity=0.1, optimum=make_record().final("test/hit@10") - 0.05))


def test_lower_is_better_for_mean_rank() -> None:
    floors = {"test/mean_rank": {"popularity": 20.0, "optimum": 6.0}}
    worse = {"test/mean_rank": {"popularity": 2.0, "optimum": 1.0}}
    leaking = {"test/mean_rank": {"popularity": 20.0, "optimum": 15.0}}

    obtained = [
        red_checks(popularity_floor(edit_facts(make_record(), "floors", value=value)))
        for value in (floors, worse, leaking)
    ]

    assert [set(), {"floor/popularity"}, {"floor/optimum"}] == obtained


def test_the_lead_is_paired_where_users_were_kept() -> None:
    record = make_record()
    values = per_user(make_ranks(skill=0.5, seed=9), "hit@10")
    record = record.with_arrays(**{"floor/popularity/test/hit@10": values})

    assert "paired standard errors" in find(popularity_floor(record), "floor/popularity").figure


@pytest.mark.parametrize(
    ("floors", "match"),
    [
        ({}, "no floors"),
        ({"test/hit@3": {"popularity": 0.1}}, "no metric/test/hit@3"),
        ({"test/hit@10": {"popularity": None}}, "popularity None"),
        ({"test/hit@10": {"popularity": float("nan")}}, "nan"),
        ({"test/hit@10": {"popularity": 0.1, "optimum": float("nan")}}, "optimum nan"),
    ],
)
def test_floors_that_are_unknown_are_not_measured(floors: dict, match: str) -> None:
    results = popularity_floor(edit_facts(make_record(), "floors", value=floors))

    assert [r for r in results if r.verdict is Verdict.NOT_MEASURED and match in r.figure]


def test_ranks_without_a_number_of_users_are_a_record_error() -> None:
    with pytest.raises(RecordError, match="number of users"):
        ranks_of(edit_facts(make_record(), "protocol", value={}), "test")


def test_ranks_of_the_wrong_type_are_a_record_error() -> None:
    record = make_record()
    record = record.with_arrays(**{"ranks/test/user": record["ranks/test/user"].astype(np.float64)})

    with pytest.raises(RecordError, match="damaged"):
        ranks_of(record, "test")
