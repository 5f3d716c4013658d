"""What is told about a gate is what was decided: for every verdict and level, recomputed from the text alone."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.baselines import make_records, make_whole_baseline
from fixtures.evidence import CASES, evidence, judged
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE
from rectest.checks.result import CheckResult, Verdict
from rectest.report.arithmetic import arithmetic_of
from rectest.report.explain import explain, explain_results

NUMBER = r"(-?\d[\d.]*(?:e[+-]?\d+)?)"


def told(case: str, width: int = 400) -> str:
    return explain(evidence(case), width=width)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern.replace("#", NUMBER), text)

    assert found, pattern
    return float(found[1])


@pytest.mark.parametrize(
    ("case", "verdict", "level"),
    [
        ("bits", "PASS", "L1"),
        ("rounding", "PASS", "L2"),
        ("other torch, rounding", "PASS", "L2"),
        ("chaotic", "PASS", "L2"),
        ("changed once", "UNDECIDED", "L2"),
        ("early", "PASS", "L3"),
        ("late", "PASS", "L3"),
        ("other torch", "PASS", "L3"),
        ("weak", "PASS", "L3"),
        ("drop", "FAIL", "L3"),
        ("loss grew", "FAIL", "L3"),
        ("rise", "SUSPICIOUS", "L3"),
        ("loss fell", "SUSPICIOUS", "L3"),
        ("changed", "CHANGED", "L3"),
        ("undecided", "UNDECIDED", "L3"),
        ("chance", "CHANCE", "L0"),
        ("other setting", "FAIL", "L0"),
        ("other world", "FAIL", "L0"),
        ("metric gone", "NOT MEASURED", "L0"),
    ],
)
def test_verdict_and_level_come_first(case, verdict, level):
    lines = told(case).partition("\n\nThe features")[0].splitlines()
    how = "at" if verdict == "UNDECIDED" else "decided by"

    assert lines[0].startswith(f"toy (cpu): {verdict}, {how} {level} after ")
    assert evidence(case).headline.figure in lines[1]
    assert [f"  L{k}" for k in range(5)] == [line[:4] for line in lines if re.match(r"  L\d ", line)]
    mark = "asks for another seed: " if verdict == "UNDECIDED" else "decided: "
    assert [level] == [line.split()[0] for line in lines if re.match(rf"  L\d \w+ +{mark}", line)]


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_next_step(case):
    text = told(case)

    assert text.partition("What to do next\n")[2].strip()
    assert "nan" not in text.replace("chance", "")


class TestLevels:
    def test_another_machine_is_named(self):
        text = told("other torch")

        assert (
            "off, no bits are stored for this machine: it has threads 2 (stored: 1), torch 2.12.0 (stored: 2.13" in text
        )
        assert "ran in: cpu (vendor-6-85, avx512, 2 threads, torch 2.12.0" in text

    def test_a_level_that_was_not_needed_says_so(self):
        assert "L3 unpaired   not needed after L1; it says: PASS after 1 run (seed 0) of at most 5" in told("bits")
        assert "L2 paired     not needed after L1" in told("bits")

    def test_changed_names_both_reasons(self):
        text = told("changed")

        assert "L2 paired     beyond rounding, which is no failure by itself: seed 0: first at step 1" in text
        assert "L3 unpaired   decided: PASS after 2 runs" in text
        assert "a person decides" in text

    def test_one_chaotic_seed_of_two_is_told(self):
        assert "rounding explains 0.00026; 1 of 2 seeds; the other seeds are within rounding" in told("chaotic")

    def test_an_oracle_is_named_with_its_limit(self):
        assert "L0 oracles    decided: CHANCE: chance/recall@10 of toy test, recall@10 0.1 is what" in told("chance")
        assert "limit >= 0.175" in told("chance")

    def test_what_cannot_be_compared_has_no_table(self):
        text = told("metric gone")

        assert "L0 oracles    decided: NOT MEASURED: test/recall@10 is not in the record" in text
        assert "The features" not in text
        assert "By hand" not in text
        assert "Nothing could be compared" in text


class TestByHand:
    """The printed numbers are enough to come to the verdict again, with other code than ours."""

    @pytest.mark.parametrize(
        ("case", "feature", "sign", "side"),
        [
            ("drop", "test/recall@10", 1, "drop"),
            ("loss grew", "loss/late", -1, "drop"),
            ("rise", "test/recall@10", 1, "rise"),
            ("loss fell", "loss/late", -1, "rise"),
        ],
    )
    def test_an_alarm(self, case, feature, sign, side):
        text = told(case).partition("By hand")[2]
        stored = np.array([float(value) for value in re.search(r"stored: ([\d., ]+)\n", text)[1].split(",")])
        new = np.array([float(value) for value in re.findall(r"seed \d+ ([\d.]+) \(x", text)])
        x0, x1 = sign * np.log(stored), sign * np.log(new)
        shift, error = x1.mean() - x0.mean(), x0.std(ddof=1) * math.sqrt(1 / len(x0) + 1 / len(x1))
        q = number(r"/ 4 = #, for", text)
        limit = stats.t.isf(q, len(x0) - 1) * error
        way = -1 if side == "drop" else 1
        kept = np.sort(way * x1)[: len(x1) - len(x1) // 2]

        assert f"The alarm that decides is {feature}, {side}s of x:" in text
        assert shift == pytest.approx(number(r"D_\d = mean .* = #\n", text), rel=1e-4)
        assert error == pytest.approx(number(r"se_\d = s sqrt.* = #\n", text), rel=1e-4)
        assert way * limit == pytest.approx(number(r"needs D_\d .* = [+]?#: D_", text), rel=1e-4)
        assert stats.t.sf(way * shift / error, len(x0) - 1) == pytest.approx(
            number(r"p = P\(.*\) = #, to", text), rel=0.02
        )
        assert way * kept.mean() - x0.mean() == pytest.approx(number(r"the shift is #, to", text), rel=1e-4)
        assert way * shift > limit
        assert ", yes\n" in text
        assert "it holds" in text

    def test_the_share_of_the_false_alarm_rate(self):
        weight = evidence("drop").features[0].weight

        assert number(r"K - 1\) = # x", told("drop")) == ALPHA_DROP
        assert number(r"K - 1\) = [\d.]+ x # /", told("drop")) == pytest.approx(weight, rel=1e-5)
        assert number(r"/ 4 = #, for drops", told("drop")) == pytest.approx(ALPHA_DROP * weight / 4, rel=1e-5)
        assert number(r"/ 4 = #, for rises", told("rise")) == pytest.approx(ALPHA_RISE * weight / 4, rel=1e-5)

    @pytest.mark.parametrize(("case", "excluded"), [("early", True), ("undecided", False), ("weak", True)])
    def test_a_pass_before_the_last_run(self, case, excluded):
        text = told(case).partition("By hand")[2]
        found = arithmetic_of(evidence(case)).decision
        look = min((*found.drops, *found.rises), key=lambda look: look.margin)
        left, right = (number(p, text) for p in (r"D_1 \+ delta = # >", r"> [\d.]+ x [\d.]+ = #: "))

        assert look.shift + look.delta == pytest.approx(left, rel=1e-4)
        assert stats.t.isf(0.02, len(evidence(case).stored_seeds) - 1) * look.error == pytest.approx(right, rel=1e-4)
        assert look.delta == pytest.approx(number(r"there delta = #, the", text), rel=1e-4)
        assert excluded is (left > right)
        assert ("yes, such a change is excluded" if excluded else "not excluded yet") in text

    def test_the_last_run_passes_what_is_not_red(self):
        assert "5 runs are the most that this gate trains: what is not red now passes" in told("late")

    def test_one_run_never_alarms(self):
        assert "witness: one run never alarms" in told("early")

    def test_the_first_losses_of_a_pair(self):
        prefix = evidence("changed").prefix
        text = told("changed")

        assert prefix.difference[0] == pytest.approx(1e-3, rel=1e-3)
        assert "furthest beyond, at step 1: 0.001, where 0.0001 is rounding" in text
        assert f"[✗{'·' * 29}]" in text

    def test_a_missing_loss_is_beyond(self):
        known = evidence("changed")
        prefix = replace(known.prefix, difference=(*known.prefix.difference[:-1], None))

        assert "at step 30: no finite loss" in explain(replace(known, prefix=prefix), width=200)


class TestNumbers:
    def test_the_table_is_that_of_the_evidence(self):
        text = told("drop").partition("The features")[2].partition("By hand")[0]
        rows = {line.split()[0]: line.split() for line in text.splitlines() if "/" in line and "%" in line}
        for each in evidence("drop").features:
            row = [cell for cell in rows[each.name] if cell != "%"]

            new = [value for value in each.new if value is not None]
            means = [stats.gmean(each.stored), stats.gmean(new)]
            shares = [100 * x for x in (each.change, each.lowest, each.highest, each.mdd, each.run_sd)]

            assert [float(cell) for cell in row[1:]] == pytest.approx([*means, *shares, each.p, each.level], rel=5e-2)

    def test_both_declared_numbers(self):
        feature = evidence("early").features[0]
        text = told("early")

        assert "False-alarm rate 0.1 % for each judgement" in text
        assert number(r"worse of # % in test/recall@10", text) == pytest.approx(100 * feature.mdd, rel=5e-3)

    def test_a_nightly_gate_has_a_tenth_of_the_rate(self):
        nightly = judged(make_records((100,)), alpha_scale=0.1)

        assert "False-alarm rate 0.01 %" in explain(nightly, width=200)

    def test_a_declaration_of_another_day_is_told(self):
        known = evidence("early")
        declared = {**known.declared, "mdd": {**known.declared["mdd"], "test/recall@10": 0.04}}

        assert "it declared 4 % in test/recall@10" in explain(replace(known, declared=declared), width=200)

    def test_a_floor_under_the_sd_is_told(self):
        found = judged(make_records((0,), sd=1e-6), make_whole_baseline(sd=1e-6))

        assert "used is s = " in explain(found, width=200)
        assert "a floor: rounding, one hit, or the noise of users" in explain(found, width=200)


class TestWithoutEvidence:
    def test_no_baseline(self):
        result = CheckResult(
            check="baseline/ensemble",
            subject="toy",
            verdict=Verdict.UNCALIBRATED,
            figure="no baseline for environment class 'cuda-sm90'",
            expected="baselines/cuda-sm90/toy.json",
        )
        text = explain_results("toy", [result], width=80)

        assert text.startswith("toy: UNCALIBRATED, before anything was compared: no baseline for")
        assert "looked for: baselines/cuda-sm90/toy.json" in text
        assert "$ rectest baseline record toy" in text

    def test_the_red_one_of_several_is_told(self):
        late = CheckResult(
            check="baseline/candidate", subject="toy", verdict=Verdict.NOT_MEASURED, figure="no candidate"
        )
        good = CheckResult(check="baseline/exact", subject="toy", verdict=Verdict.PASS, figure="fine")
        bad = CheckResult(check="training", subject="toy", verdict=Verdict.NOT_MEASURED, figure="it died")

        text = explain_results("toy", [good, bad, late])

        assert "also: NOT MEASURED, no candidate" in text
        assert text.startswith("toy: NOT MEASURED, before anything was compared: it died")

    def test_nothing_is_an_error(self):
        with pytest.raises(ValueError, match="nothing is known about the gate of toy"):
            explain_results("toy", [])


@settings(max_examples=25, deadline=None)
@given(width=st.integers(40, 200), case=st.sampled_from(sorted(CASES)))
def test_lines_fit_and_nothing_is_lost(width, case):
    wide, narrow = told(case), told(case, width)
    long_lines = [line for line in narrow.splitlines() if len(line) > width]

    assert all(len(line.split()) == 1 or line.lstrip().startswith("$ ") for line in long_lines)
    for title in ("What each level found", "What this gate sees", "What to do next"):
        assert title in narrow
    assert set(re.findall(NUMBER, wide.partition("By hand")[2])) <= set(re.findall(NUMBER, narrow))
