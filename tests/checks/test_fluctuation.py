"""Report 000's experiments: same seed is bit-equal or red, bands are printed and never decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, find, make_environment, make_record, red_checks
from rectest.checks.fluctuation import PHASE_BANDS, PhaseBand, amplitude, hit_overlap, phases, same_seed_spread
from rectest.checks.fluctuation import seed_spread as judge_seeds
from rectest.checks.result import Verdict
from rectest.record import RunRecord

METRIC = "valid/hit@10"


def _curve(values: list[float], *, seed: int = 0, replica: int = 0) -> RunRecord:
    """A record whose validation curve is `values`."""
    record = make_record(seed=seed, replica=replica, num_steps=max(8, len(values)), num_evaluations=2)
    steps = np.arange(1, len(values) + 1)
    return record.with_arrays(**{f"metric/{METRIC}": np.array(values), "eval/steps": steps})


def test_amplitude_is_the_range_over_the_mean() -> None:
    obtained = amplitude(np.array([[0.1, 0.2, 0.0], [0.3, 0.2, 0.0]]))

    assert [pytest.approx(1.0), 0.0, 0.0] == obtained.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.floats(0.1, 10))
def test_amplitude_does_not_depend_on_scale_or_order(values: list[float], scale: float) -> None:
    column = np.array(values)[:, None]

    assert amplitude(column)[0] == pytest.approx(amplitude(column[::-1] * scale)[0])


def test_a_fix_that_makes_runs_equal_is_green() -> None:
    before = [_curve([0.10, 0.20, 0.30], replica=0), _curve([0.14, 0.20, 0.30], replica=1)]
    after = [_curve([0.12, 0.2, 0.3], replica=i) for i in range(3)]

    (result,) = same_seed_spread(before, after, METRIC)

    assert result.verdict is Verdict.PASS
    assert "33.3 % before and 0 % after" in result.figure
    assert "removed" in result.detail


def test_a_fix_that_only_makes_the_spread_smaller_is_red() -> None:
    before = [_curve([0.10, 0.20]), _curve([0.14, 0.20], replica=1)]
    after = [_curve([0.120, 0.2]), _curve([0.1201, 0.2], replica=1)]

    (result,) = same_seed_spread(before, after, METRIC)

    assert result.verdict is Verdict.FAIL
    assert "evaluation 1" in result.worst
    assert "smaller is not reproducible" in result.detail


def test_a_fix_of_nothing_says_so() -> None:
    runs = [_curve([0.1, 0.2], replica=i) for i in range(2)]

    (result,) = same_seed_spread(runs, runs, METRIC)

    assert result.verdict is Verdict.PASS
    assert "changed nothing" in result.detail


def test_only_the_first_evaluations_are_compared() -> None:
    after = [_curve([0.1] * 5 + [0.2]), _curve([0.1] * 5 + [0.3], replica=1)]

    assert set() == red_checks(same_seed_spread(after, after, METRIC))
    assert {"fluctuation/same_seed"} == red_checks(same_seed_spread(after, after, METRIC, first=6))


@pytest.mark.parametrize(
    ("after", "match"),
    [
        ([make_record()], "1 run"),
        ([make_record(), make_record(seed=1)], "not repetitions"),
        ([make_record(), make_record(environment=make_environment(threads=2))], "threads"),
        ([make_record().with_arrays(**{f"metric/{METRIC}": None})] * 2, "no metric"),
        ([_curve([float("nan")])] * 2, "not finite"),
        ([_curve([])] * 2, "no evaluations"),
    ],
)
def test_groups_that_are_no_repetitions_are_not_measured(after: list[RunRecord], match: str) -> None:
    (result,) = same_seed_spread([make_record(), make_record(replica=1)], after, METRIC)

    assert result.verdict is Verdict.NOT_MEASURED
    assert match in result.figure


def test_seeds_are_summarised_beside_the_noise_floor() -> None:
    (result,) = judge_seeds([make_record(seed=seed) for seed in range(4)], "test/hit@10")

    assert result.verdict is Verdict.PASS
    assert "over 4 runs" in result.figure
    assert "noise floor" in result.expected
    assert "healthy groups" in result.detail


def test_a_dead_seed_is_red() -> None:
    first = make_record()
    arrays = {"metric/test/hit@10": first["metric/test/hit@10"], "loss/total": first["loss/total"]}
    second = make_record(seed=1).with_arrays(**arrays)

    results = judge_seeds([first, second], "test/hit@10")

    assert {"fluctuation/seeds"} == red_checks(results)
    assert "reaches nothing" in results[0].detail


def test_equal_final_values_of_few_users_are_no_dead_seed() -> None:
    first = make_record()
    second = make_record(seed=1).with_arrays(**{"metric/test/hit@10": first["metric/test/hit@10"]})

    assert set() == red_checks(judge_seeds([first, second], "test/hit@10"))


def test_repetitions_that_differ_are_red_among_seeds_too() -> None:
    def shift(values: np.ndarray) -> None:
        values += 0.001

    other = edit_array(make_record(replica=1), "metric/test/hit@10", shift)

    results = judge_seeds([make_record(), other, make_record(seed=1)], "test/hit@10")

    assert {"fluctuation/same_seed"} == red_checks(results)


@pytest.mark.parametrize("records", [[], [make_record()]], ids=["none", "one"])
def test_a_spread_needs_two_runs(records: list[RunRecord]) -> None:
    assert Verdict.NOT_MEASURED is judge_seeds(records, METRIC)[0].verdict
    assert Verdict.NOT_MEASURED is phases(records, METRIC)[0].verdict


def test_each_phase_that_is_reached_gets_its_band() -> None:
    rng = np.random.default_rng(0)
    curves = [_curve(list(0.5 + 0.001 * rng.normal(size=60)), seed=seed) for seed in range(3)]

    results = phases(curves, METRIC)

    assert ["fluctuation/early", "fluctuation/mid", "fluctuation/late"] == [r.check for r in results]
    assert set() == red_checks(results)
    assert {Verdict.PASS} == {r.verdict for r in results}


def test_a_short_curve_has_no_late_phase() -> None:
    results = phases([make_record(seed=seed) for seed in range(2)], METRIC)

    assert ["fluctuation/early"] == [r.check for r in results]


def test_outside_of_the_problem_band_is_uncalibrated_not_red() -> None:
    curves = [_curve([0.5] * 59 + [value], seed=seed) for seed, value in enumerate((0.5, 0.5, 0.1))]

    late = find(phases(curves, METRIC), "fluctuation/late")

    assert late.verdict is Verdict.UNCALIBRATED
    assert not late.red
    assert "evaluation 60" in late.worst
    assert "baseline" in late.detail


def test_overlap_of_hits_is_counted_on_final_ranks() -> None:
    records = [make_record(seed=0, skill=50.0), make_record(seed=1, skill=50.0)]

    assert hit_overlap(records, "test", "hit@10") == 1.0
    assert hit_overlap(records, "test", "mrr") is None
    assert hit_overlap(records, "valid", "hit@10") is None


def test_the_table_of_the_report_is_kept() -> None:
    obtained = [(band.name, band.first, band.last, band.problem) for band in PHASE_BANDS]

    assert [("early", 1, 10, 0.5), ("mid", 11, 50, 0.2), ("late", 51, None, 0.1)] == obtained
    assert "evaluations 51 and later" == PHASE_BANDS[2].title
    assert isinstance(PHASE_BANDS[0], PhaseBand)
