"""Stability: late spread and growth per phase are recomputed; report 004's own figures pass, changed ones fail."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fixtures.records import find, make_record
from rectest.checks.result import Verdict
from rectest.checks.stability import Phase, growth_per_phase, spread_fits_range, stability

LATE = {0: 0.2, 100: 0.717, 120: 0.724, 140: 0.720, 160: 0.719}

REPORT_004 = {0: "0.274", 10: "0.687", 50: "0.714", 100: "0.723", 145: "0.724", 175: "0.719"}
PHASES = (
    Phase(first=0, last=10, stated="+151%", name="fast"),
    Phase(first=10, last=50, stated="+3.9%"),
    Phase(first=50, last=100, stated="+1.3%"),
    Phase(first=100, last=145, stated="+0.2%"),
    Phase(first=145, last=175, stated="-0.7%"),
)


def test_late_figures_by_hand():
    (result,) = stability(LATE, late_from=100, standard_deviation="0.003", amplitude="0.5 %", name="ndcg@10")

    assert result.verdict == Verdict.PASS
    assert "amplitude +-0.486 %" in result.figure
    assert "4 values from step 100 on, 0.717 to 0.724" in result.expected


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"standard_deviation": "0.010"}, "standard deviation 0.010 is stated, it is 0.00294"),
        ({"amplitude": "0.7 %"}, "an amplitude of 0.7 % is stated, it is 0.486 %"),
        ({"max_amplitude": 0.001}, "is more than +-0.1 %"),
    ],
)
def test_what_does_not_follow_from_the_curve_is_red(stated, problem):
    (result,) = stability(LATE, late_from=100, **stated)

    assert result.red
    assert problem in result.worst


def test_a_record_is_read_by_metric():
    record = make_record(num_evaluations=4, num_steps=8)

    (result,) = stability(record, metric="valid/ndcg@10", late_from=4)

    assert result.verdict == Verdict.PASS
    assert f"mean {np.mean(record['metric/valid/ndcg@10'][1:]):.4g}" in result.figure


@pytest.mark.parametrize(
    ("source", "kwargs", "verdict"),
    [
        (LATE, {"late_from": 150}, Verdict.NOT_MEASURED),
        (make_record(), {"late_from": 1, "metric": "valid/absent@3"}, Verdict.NOT_MEASURED),
        ({1: 0.5, 2: math.nan}, {"late_from": 1}, Verdict.FAIL),
        ({1: 0.0, 2: 0.0}, {"late_from": 1}, Verdict.FAIL),
    ],
)
def test_what_has_no_late_phase_is_not_green(source, kwargs, verdict):
    assert stability(source, **kwargs)[0].verdict == verdict


def test_growth_of_report_004_checks_out():
    results = growth_per_phase(REPORT_004, PHASES, name="ndcg@10")

    assert {result.verdict for result in results} == {Verdict.PASS}
    assert results[0].figure == "+151 % from 0.274 to 0.687"


@pytest.mark.parametrize(("stated", "red"), [("+149%", True), ("+152%", True), ("-151%", True), ("+150.7 %", False)])
def test_another_growth_is_red(stated, red):
    (result,) = growth_per_phase(REPORT_004, [Phase(first=0, last=10, stated=stated)])

    assert result.red == red


def test_a_phase_off_the_curve_is_not_measured():
    (missing,) = growth_per_phase(REPORT_004, [Phase(first=0, last=11, stated="+1%")])
    (zero,) = growth_per_phase({0: 0.0, 1: 0.5}, [Phase(first=0, last=1)])

    assert (missing.verdict, zero.verdict) == (Verdict.NOT_MEASURED, Verdict.NOT_MEASURED)
    with pytest.raises(ValueError, match="no phases"):
        growth_per_phase(REPORT_004, [])


def test_a_range_limits_a_standard_deviation():
    """Report 004's figures are possible; a standard deviation of 0.006 in that range is not."""
    possible = spread_fits_range("0.717", "0.724", standard_deviation="0.003", amplitude="0.5%")
    impossible = spread_fits_range("0.717", "0.724", standard_deviation="0.007", amplitude="1.5%")

    assert find(possible, "stability/range").verdict == Verdict.PASS
    assert "needs a wider range" in impossible[0].worst
    assert "an amplitude of 1.5% is stated, 0.414 to 0.558 % are possible" in impossible[0].worst
