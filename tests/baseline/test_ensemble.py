"""Stored distributions: floors, words, and the error rates of the gate measured through the functions that judge."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.baselines import make_baseline, make_record, make_records
from rectest.baseline.ensemble import (
    centre,
    feature_floor,
    percent,
    relative_change,
    signed_logs,
    stored_text,
    unusable,
    worst_run,
)
from rectest.baseline.judge import judge_sequential
from rectest.baseline.limits import REL_FLOOR
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, promised_drop
from rectest.baseline.schema import Baseline
from rectest.checks.result import Verdict

SD = 0.015
NAMES = ("test/recall@10", "valid/recall@10/late", "loss/late")


def simulated(rng: np.random.Generator, template: Baseline, *, shift: float = 0.0) -> tuple[Baseline, np.ndarray]:
    """A baseline of 16 seeds and five new runs whose three features are independent and normal in logs."""
    values = 0.2 * np.exp(rng.normal(0.0, SD, (16, 3)))
    new = 0.2 * np.exp(rng.normal(0.0, SD, (5, 3)) + np.array([shift, 0.0, 0.0]))
    stored = {name: tuple(column.tolist()) for name, column in zip(NAMES, values.T, strict=True)}
    ensemble = template.ensemble.model_copy(update={"features": stored, "user_variance": {}, "twins": {}})
    return template.model_copy(update={"ensemble": ensemble}), new


TEMPLATES = make_records([100, 101, 102, 103, 104])


def gate(baseline: Baseline, new: np.ndarray) -> tuple[str, int]:
    """State and number of runs when the gate stops."""
    records = [
        record.with_arrays(
            **{
                "metric/test/recall@10": row[:1],
                "metric/valid/recall@10": np.full(3, row[1]),
                "loss/total": np.full(3, row[2]),
            }
        )
        for record, row in zip(TEMPLATES, new, strict=True)
    ]
    for k in range(1, 6):
        found = judge_sequential(records[:k], baseline)
        if not found.undecided:
            return found.decision.state, k
    pytest.fail("undecided after the last run")


def test_clean_runs_alarm_no_more_than_declared_and_stop_soon():
    """Through records, logs, floors and looks; planted fault: runs whose sd doubled since."""
    rng, template, trials = np.random.default_rng(1), make_baseline(), 400
    clean = [gate(*simulated(rng, template)) for _ in range(trials)]
    alarms = sum(state != "PASS" for state, _ in clean)
    noisy = 0
    for _ in range(50):
        baseline, new = simulated(rng, template)
        noisy += gate(baseline, 0.2 * (new / 0.2) ** 4)[0] != "PASS"

    assert alarms <= stats.binom.isf(1e-3, trials, ALPHA_DROP + ALPHA_RISE)
    assert 1.0 <= float(np.mean([runs for _, runs in clean])) <= 1.5
    assert noisy > stats.binom.isf(1e-3, 50, ALPHA_DROP + ALPHA_RISE)


def test_the_printed_drop_is_caught_with_its_probability():
    rng, template, trials, caught = np.random.default_rng(3), make_baseline(), 150, 0
    for _ in range(trials):
        baseline, new = simulated(rng, template)
        new[:, 0] *= 1 - promised_drop(baseline, "test/recall@10")
        caught += gate(baseline, new)[0] == "FAIL"

    assert caught >= stats.binom.ppf(1e-3, trials, 0.9)


@given(values=st.lists(st.floats(0.1, 0.9), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_lower_is_better_is_the_mirror_image(values):
    up, down = signed_logs("test/recall@10", values), signed_logs("loss/late", [1 / value for value in values])

    assert up == pytest.approx(down, abs=1e-12)
    assert relative_change("test/recall@10", 0.1) == pytest.approx(math.exp(0.1) - 1)
    assert relative_change("loss/late", 0.1) == pytest.approx(math.exp(-0.1) - 1)


@given(scale=st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_the_unit_of_a_feature_does_not_matter(scale):
    values = np.linspace(1.0, 1.2, 16)

    assert centre(values.tolist()) * scale == pytest.approx(centre((values * scale).tolist()))
    assert np.diff(signed_logs("loss/late", (values * scale).tolist())) == pytest.approx(
        np.diff(signed_logs("loss/late", values.tolist())), abs=1e-9
    )


@pytest.fixture(scope="module")
def constant() -> Baseline:
    """A system whose seeds change nothing."""
    return make_baseline(sd=0.0)


class TestFloor:
    """Sixteen equal values must not make a gate of width zero."""

    def test_one_hit_rounding_or_the_noise_of_users(self, constant):
        ensemble = constant.ensemble.model_copy(update={"user_variance": {"test/recall@10": 0.03**2}})
        noisy = constant.model_copy(update={"ensemble": ensemble})

        assert feature_floor("test/recall@10", constant) == pytest.approx(1 / (200 * math.sqrt(12)))
        assert feature_floor("test/recall@10", noisy) == pytest.approx(0.03)
        assert feature_floor("loss/late", noisy) == REL_FLOOR

    def test_one_hit_of_a_thousand_users_is_noise(self, constant):
        found = judge_sequential(make_records([100, 101, 102], sd=0.0, recall=0.2 - 0.0003), constant)

        assert {Verdict.PASS} == {result.verdict for result in found.results}

    def test_a_real_drop_is_still_red(self, constant):
        found = judge_sequential(make_records([100, 101], sd=0.0, recall=0.18), constant)

        assert found.results[0].verdict is Verdict.FAIL

    def test_rounding_of_a_loss_is_noise_and_a_percent_is_not(self, constant):
        same, worse = (
            judge_sequential(make_records([100, 101], sd=0.0, loss=loss), constant).results[-1]
            for loss in (1.50001, 1.515)
        )

        assert (Verdict.PASS, Verdict.FAIL) == (same.verdict, worse.verdict)

    def test_one_run_of_a_constant_system_passes_against_itself(self, constant):
        found = judge_sequential([make_record(0, sd=0.0)], constant)

        assert not found.undecided
        assert {Verdict.PASS} == {result.verdict for result in found.results}

    def test_user_noise_widens_what_luck_made_narrow(self, constant):
        """Planted fault: without the floor of users, a drop that luck explains fails."""
        ensemble = constant.ensemble
        floored = constant.model_copy(
            update={"ensemble": ensemble.model_copy(update={"user_variance": dict.fromkeys(ensemble.features, 4e-4)})}
        )
        bare = constant.model_copy(update={"ensemble": ensemble.model_copy(update={"user_variance": {}})})
        records = make_records([100, 101], sd=0.0, recall=0.2 * 0.98)

        assert judge_sequential(records, bare).decision.state == "FAIL"
        assert judge_sequential(records, floored).decision.state != "FAIL"


def test_what_cannot_be_compared():
    baseline, record = make_baseline(), make_record(100)
    missing = unusable("test/mrr", [record], baseline, advice="look")
    dead = unusable(
        "test/recall@10",
        [record, record.with_arrays(**{"metric/test/recall@10": np.array([np.nan])})],
        baseline,
        advice="look",
    )

    assert unusable("test/recall@10", [record], baseline, advice="look") is None
    assert (missing.verdict, missing.advice) == (Verdict.NOT_MEASURED, "look")
    assert (dead.verdict, dead.figure) == (Verdict.FAIL, "test/recall@10 is nan (seed 100)")
    assert dead.expected == stored_text("test/recall@10", baseline)


def test_words():
    records = make_records([7, 8])

    assert worst_run("test/recall@10", [0.2, 0.1], records) == (8, 0.1)
    assert worst_run("loss/late", [0.2, 0.1], records) == (7, 0.2)
    assert (percent(-0.0123), percent(0.5)) == ("-1.23 %", "+50 %")
    assert "(sd of 16 seeds)" in stored_text("loss/late", make_baseline())
