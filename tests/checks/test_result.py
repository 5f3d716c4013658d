"""Verdicts, rendering, and the helpers by which checks phrase their results."""

from __future__ import annotations

import itertools

import pytest

from rectest.checks.result import (
    CheckResult,
    Verdict,
    any_red,
    count_of,
    judged,
    not_measured,
    percent,
    render,
    sample,
    worst_verdict,
)


def test_all_but_green_and_uncalibrated_is_red() -> None:
    assert {Verdict.PASS, Verdict.UNCALIBRATED} == {verdict for verdict in Verdict if not verdict.red}


def test_the_worst_verdict_is_the_first_of_this_order() -> None:
    order = ["FAIL", "CHANCE", "SUSPICIOUS", "CHANGED", "UNDECIDED", "NOT MEASURED", "UNCALIBRATED", "PASS"]
    results = [CheckResult(check="c", subject="s", verdict=Verdict(name), figure="") for name in order]

    assert {Verdict(name) for name in order} == set(Verdict)
    assert order == [str(worst_verdict(reversed(results[place:]))) for place in range(len(order))]


def test_a_passing_result_gives_no_advice() -> None:
    passing = judged("check", "subject", ok=True, figure="1", advice="do this")
    failing = judged("check", "subject", ok=False, figure="1", advice="do this")

    assert ("", "do this") == (passing.advice, failing.advice)
    assert not any_red([passing])
    assert any_red([passing, failing])


def test_rendering_leaves_empty_parts_out() -> None:
    text = render(judged("check", "subject", ok=False, figure="0.1", limit=">= 0.2", advice="retrain"))

    assert "FAIL check: subject: 0.1\n  limit     >= 0.2\n  next      retrain" == text


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(Verdict, 2)))
def test_the_worst_verdict_does_not_depend_on_order(first: Verdict, second: Verdict) -> None:
    results = [CheckResult(check="c", subject="s", verdict=v, figure="") for v in (first, second)]

    assert worst_verdict(results) is worst_verdict(results[::-1])


def test_an_empty_group_measured_nothing() -> None:
    assert Verdict.NOT_MEASURED is worst_verdict([])


def test_results_survive_plain_values() -> None:
    result = not_measured("check", "subject", "no array", advice="record it")

    assert result == CheckResult.from_dict(result.to_dict())


def test_numbers_read_well() -> None:
    assert "50 %" == percent(0.5)
    assert "0 of 7 rows" == count_of(0, 7, "rows")
    assert "0 of 0" == count_of(0, 0)
    assert "0, 1, 2, 3, 4, ..." == sample(itertools.count())
    assert "" == sample([])


def test_an_unknown_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match="MAYBE"):
        CheckResult(check="c", subject="s", verdict="MAYBE", figure="")  # type: ignore[arg-type]
