"""The self-test of the gate: green for the gate as it is, and red for gates that are broken in known ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from fixtures.baselines import make_baseline
from fixtures.looks import stop
from rectest.baseline import power, sequential
from rectest.baseline.ensemble import signed_logs
from rectest.baseline.features import higher_is_better, raw_feature, weights
from rectest.baseline.judge import judge_sequential
from rectest.baseline.limits import standard_error
from rectest.baseline.looks import ALPHA_DROP, LookOutcome
from rectest.baseline.resample import stored_logs
from rectest.baseline.selftest import _anderson_darling, main_features, self_test
from rectest.baseline.selftest_results import Detection, SelfTest, Tally, Uniformity
from rectest.baseline.sequential import Look, Rule
from rectest.baseline.store import BaselineStore
from rectest.checks.result import Verdict

ROOT = Path(__file__).parents[2]
STORE = BaselineStore(ROOT / "baselines")
STORED = [name for name in STORE.entries() if not name.world]


@pytest.fixture(scope="module")
def baseline():
    return make_baseline()


def red(test):
    """Parts of the self-test that are red."""
    return {result.check.split("/")[1] for result in test.results if result.red}


def tally(num, *, drops=0, rises=0, early=0, runs=1):
    return Tally(num=num, drops=drops, rises=rises, early=early, runs=(runs,) * num)


def made(**parts):
    """A self-test of hand-made counts."""
    parts = {
        "uniform": Uniformity(feature="loss/late", statistic=0.5, p=0.4),
        "clean": tally(2000, drops=2),
        "splits": tally(200),
        "bad_run": tally(200, drops=20),
        "detection": (Detection(feature="loss/late", drop=0.1, tally=tally(200, drops=190)),),
        **parts,
    }
    return SelfTest(name="toy", **parts)


class TestTheGateAsItIs:
    """The control: nothing is red."""

    def test_on_a_hand_made_baseline(self, baseline):
        test = self_test(baseline, num_resamples=100)

        assert set() == red(test)
        assert 1.0 <= test.clean.mean_runs < 1.5
        assert len(test.results) == 8

    @pytest.mark.parametrize("name", STORED, ids=lambda name: f"{name.env_class}-{name.system}")
    def test_on_the_baselines_of_this_repository(self, name):
        test = self_test(STORE.read(name), num_resamples=60)

        assert not test.red, [result for result in test.results if result.red]

    def test_twice_gives_the_same(self, baseline):
        one, two = (self_test(baseline, num_resamples=20, features=()) for _ in range(2))

        assert one == two


def never(records, baseline):
    """Whatever the runs are, they pass."""
    outcome = judge_sequential(records, baseline)
    return replace(outcome, undecided=False, decision=replace(outcome.decision, state="PASS"))


class TestBrokenGates:
    """Each turns a part of the self-test red."""

    def test_limits_that_are_too_tight(self, baseline, monkeypatch):
        """Every standard error is a third of what it is."""

        def tight(sd, *, num_stored, num_new):
            return standard_error(sd / 3, num_stored=num_stored, num_new=num_new)

        monkeypatch.setattr(sequential, "standard_error", tight)
        monkeypatch.setattr(power, "standard_error", tight)
        power._shift_root.cache_clear()

        assert {"false_alarms", "uniform"} <= red(self_test(baseline, num_resamples=100, features=()))

    def test_a_gate_that_never_alarms(self, baseline):
        assert {"detection"} == red(self_test(baseline, num_resamples=40, judge=never))

    @pytest.mark.slow
    def test_welch_limits(self, baseline):
        """Two runs, each feature by Welch's test at its share of the same rate."""
        assert "false_alarms" in red(self_test(baseline, num_resamples=150, features=(), judge=welch))

    def test_no_witness(self, baseline, monkeypatch):
        monkeypatch.setattr(Look, "witness_holds", property(lambda _: True))

        assert "bad_run" in red(self_test(baseline, num_resamples=20, features=()))

    def test_alarms_after_a_single_run(self, baseline, monkeypatch):
        monkeypatch.setattr(sequential, "FIRST_ALARM", 1)

        assert "one_run" in red(self_test(baseline, num_resamples=40))

    def test_a_gate_that_always_trains_all_seeds(self, baseline):
        def slow(records, stored):
            return replace(judge_sequential(records, stored), undecided=len(records) < 5)

        assert "runs" in red(self_test(baseline, num_resamples=40, judge=slow, features=()))

    def test_a_gate_that_passes_after_one_run(self, baseline):
        """Alarms take two runs, so whoever never trains a second one catches nothing."""

        def hasty(records, stored):
            return never(records, stored) if len(records) == 1 else judge_sequential(records, stored)

        assert {"detection"} == red(self_test(baseline, num_resamples=40, judge=hasty))

    def test_one_seed_that_is_unlike_all_others(self, baseline):
        """The judge is right and the baseline is not: a seed at ten sds makes its p-values anything but uniform."""
        values = dict(baseline.ensemble.features)
        values["test/recall@10"] = (values["test/recall@10"][0] * 0.5, *values["test/recall@10"][1:])
        odd = baseline.model_copy(update={"ensemble": baseline.ensemble.model_copy(update={"features": values})})

        assert "uniform" in red(self_test(odd, num_resamples=20, features=()))


def welch(records, baseline):
    """Undecided after one run; after two, a t limit whose sd and degrees of freedom are those of both samples."""
    outcome = judge_sequential(records, baseline)
    if len(records) < 2:
        return replace(outcome, undecided=True)
    alarm = False
    for name, share in weights(baseline.ensemble.features).items():
        old = signed_logs(name, baseline.ensemble.features[name])
        new = signed_logs(name, [raw_feature(record, name) for record in records])
        alarm |= ttest_ind(new, old, equal_var=False, alternative="less").pvalue < ALPHA_DROP * share
    decision = replace(outcome.decision, state="FAIL" if alarm else "PASS")
    return LookOutcome(undecided=False, results=outcome.results, decision=decision)


class TestVerdicts:
    """Counts at their limits."""

    def test_what_is_declared_is_green(self):
        assert set() == red(made())

    @pytest.mark.parametrize(
        ("part", "parts"),
        [
            ("false_alarms", {"clean": tally(2000, drops=9)}),
            ("false_alarms", {"clean": tally(2000, rises=4)}),
            ("runs", {"clean": tally(2000, runs=2)}),
            ("splits", {"splits": tally(200, drops=5)}),
            ("bad_run", {"bad_run": tally(200, drops=65)}),
            ("uniform", {"uniform": Uniformity(feature="loss/late", statistic=9.0, p=5e-4)}),
            ("detection", {"detection": (Detection(feature="loss/late", drop=0.1, tally=tally(200, rises=200)),)}),
            ("one_run", {"clean": tally(2000, drops=1, early=1)}),
        ],
    )
    def test_what_is_beyond_is_red(self, part, parts):
        assert {part} == red(made(**parts))

    def test_too_few_seeds_are_said_and_not_red(self):
        test = made(uniform=None, splits=None)

        assert not test.red
        assert [Verdict.UNCALIBRATED] * 2 == [
            r.verdict for r in test.results if r.check.endswith(("uniform", "splits"))
        ]

    @settings(max_examples=50, deadline=None)
    @given(alarms=st.integers(0, 200), more=st.integers(0, 20))
    def test_more_alarms_are_never_greener(self, alarms, more):
        fewer, others = (made(bad_run=tally(220, drops=num)) for num in (alarms, alarms + more))

        assert fewer.red <= others.red


def test_a_baseline_of_five_seeds_is_tested_as_far_as_it_goes():
    test = self_test(make_baseline(5), num_resamples=20, features=())

    assert test.uniform is None
    assert test.splits is None


def test_the_statistic_of_two_p_values_by_hand():
    """-2 - (ln p1 + ln(1 - p2) + 3 (ln p2 + ln(1 - p1))) / 2 for p = 0.2, 0.7."""
    expected = -2 - (np.log(0.2) + np.log(0.3) + 3 * (np.log(0.7) + np.log(0.8))) / 2

    assert expected == pytest.approx(float(_anderson_darling(np.array([[[0.7], [0.2]]]))[0, 0]))


def test_main_features(baseline):
    assert ["test/recall@10", "loss/late"] == main_features(baseline)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"num_resamples": 19}, "fewer than 20 gates"),
        ({"num_detections": 3}, "fewer than 20 gates"),
        ({"features": ["test/recal@10"]}, r"has no 'test/recal@10'; it has test/recall@10"),
    ],
)
def test_what_shows_nothing_is_refused(baseline, wrong, match):
    with pytest.raises(ValueError, match=match):
        self_test(baseline, **wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED, ids=lambda name: f"{name.env_class}-{name.system}")
def test_two_thousand_clean_gates_and_every_feature(name):
    stored = STORE.read(name)
    test = self_test(stored, features=stored.ensemble.features)

    assert not test.red, [result for result in test.results if result.red]


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED, ids=lambda name: f"{name.env_class}-{name.system}")
def test_leave_one_out_of_normal_seeds_is_red_as_rarely_as_it_says(name):
    """The p-value of the worst feature is itself uniform over baselines of normal seeds."""
    stored = STORE.read(name)
    logs, rng = stored_logs(stored), np.random.default_rng(5)
    apart = (logs - logs.mean(axis=0)) / np.sqrt(len(logs) - 1)
    found = []
    for _ in range(100):
        values = np.exp(logs.mean(axis=0) + rng.standard_normal((len(logs), len(logs))) @ apart).T.tolist()
        features = dict(zip(stored.ensemble.features, map(tuple, values), strict=True))
        other = stored.model_copy(update={"ensemble": stored.ensemble.model_copy(update={"features": features})})
        found.append(self_test(other, num_resamples=20, num_detections=20, features=()).uniform.p)

    assert np.mean(np.array(found) < 0.05) < 0.18
    assert np.mean(np.array(found) < 0.5) > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED, ids=lambda name: f"{name.env_class}-{name.system}")
def test_divisions_of_normal_baselines_alarm_as_rarely_as_measured(name):
    """200 simulated baselines through the vectorised twin of the judge: at most one is beyond the limit."""
    stored = STORE.read(name)
    names = list(stored.ensemble.features)
    logs = stored_logs(stored) * [1 if higher_is_better(feature) else -1 for feature in names]
    apart, rng = (logs - logs.mean(axis=0)) / np.sqrt(len(logs) - 1), np.random.default_rng(6)
    rule = Rule(weights=tuple(weights(names).values()), min_effect=0.0)
    beyond = 0
    for _ in range(200):
        runs = rng.standard_normal((len(logs), len(logs))) @ apart
        orders = np.stack([rng.permutation(len(logs)) for _ in range(200)])
        states, _ = stop(runs[orders[:, 5:]], runs[orders[:, :5]], rule)
        beyond += int(np.isin(states, ("FAIL", "SUSPICIOUS")).sum()) >= 5

    assert beyond <= 2
