"""The gate one run at a time: what decides after one run, what takes another seed, and the words for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fixtures.baselines import make_baseline, make_record, make_records
from rectest.baseline.features import weights
from rectest.baseline.judge import judge_sequential
from rectest.baseline.looks import ALPHA_DROP, Noise, caught_drop, judge_looks, promised_drop
from rectest.checks.result import Verdict, any_red, render

SEEDS = (100, 101, 102, 103, 104)


@pytest.fixture(scope="module")
def baseline():
    return make_baseline()


def runs_needed(baseline, **changes):
    """How many runs are trained, and what is said then."""
    for num in range(1, len(SEEDS) + 1):
        found = judge_sequential(make_records(SEEDS[:num], **changes), baseline)
        if not found.undecided:
            return num, found.results
    pytest.fail("undecided after the last run")


def test_a_clean_change_passes_and_states_both_numbers(baseline):
    num, results = runs_needed(baseline)

    assert num <= 2
    assert {Verdict.PASS} == {result.verdict for result in results}
    assert "would be caught with 90 % probability, at a false-alarm rate of 0.001" in results[0].detail


def test_one_run_never_fails(baseline):
    found = judge_sequential(make_records(SEEDS[:1], recall=0.1), baseline)

    assert found.undecided
    assert not any_red(found.results)


def test_a_drop_of_ten_percent_takes_two_runs_to_fail(baseline):
    num, results = runs_needed(baseline, recall=0.18)

    metrics = [result for result in results if "recall" in result.check]
    assert num == 2
    assert {Verdict.FAIL} == {result.verdict for result in metrics}
    assert {Verdict.PASS} == {result.verdict for result in results if result not in metrics}
    assert "worse than seed noise allows" in results[0].detail
    assert "without its most extreme runs it is still -" in results[0].detail
    assert "p = " in results[0].outside
    assert len(render(results[0]).splitlines()) == 7


def test_a_rise_is_red_and_named_suspicious(baseline):
    _, results = runs_needed(baseline, recall=0.24)

    assert results[0].verdict is Verdict.SUSPICIOUS
    assert "suspiciously better: leak or changed evaluation?" in results[0].detail


@pytest.mark.parametrize(
    ("loss", "verdict", "words"),
    [(1.65, Verdict.FAIL, "worse than seed noise"), (1.35, Verdict.SUSPICIOUS, "suspiciously better")],
)
def test_a_loss_is_better_when_lower(baseline, loss, verdict, words):
    *_, result = runs_needed(baseline, loss=loss)[1]

    assert result.check == "baseline/loss/late"
    assert result.verdict is verdict
    assert words in result.detail


def test_one_bad_seed_among_good_ones_does_not_fail_a_change(baseline):
    """Its mean alone would; the others do not witness it."""
    good = make_records(SEEDS[:2])
    bad = make_record(SEEDS[2], recall=0.14)
    found = judge_sequential([*good, bad], baseline, max_runs=3)

    assert not found.undecided
    assert not any_red(found.results)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_one_dead_run_is_red_at_once(baseline, value):
    bad = make_record(100).with_arrays(**{"metric/test/recall@10": np.array([value])})
    found = judge_sequential([bad], baseline)

    assert not found.undecided
    assert found.results[0].verdict is Verdict.FAIL
    assert "(seed 100)" in found.results[0].figure


def test_a_vanished_metric_is_not_green(baseline):
    record = make_record(100).with_arrays(**{"metric/test/recall@10": None})
    found = judge_sequential([record], baseline)

    assert (found.undecided, found.results[0].verdict) == (False, Verdict.NOT_MEASURED)


def test_other_settings_are_not_compared(baseline):
    found = judge_sequential([make_record(100, steps=3)], baseline)

    assert (found.undecided, found.results[0].verdict) == (False, Verdict.FAIL)
    assert "the settings changed" in found.results[0].figure


def test_a_new_metric_is_said_to_be_ungated(baseline):
    record = make_record(100, gate={"metrics": ["recall@10", "mrr"]})
    found = judge_sequential([record.with_arrays(**{"metric/test/mrr": np.array([0.1])})], baseline)

    assert (found.results[-1].check, found.results[-1].verdict) == ("baseline/test/mrr", Verdict.UNCALIBRATED)


def test_more_runs_than_promised_are_refused(baseline):
    with pytest.raises(ValueError, match="stops at 2"):
        judge_sequential(make_records(SEEDS[:3]), baseline, max_runs=2)


def test_what_is_promised_is_caught(baseline):
    """Of 40 candidates that lost what is promised, in all metrics, at least the promised nine in ten fail."""
    lost = promised_drop(baseline, "test/recall@10")
    caught = 0
    for trial in range(40):
        seeds = range(1000 + 5 * trial, 1005 + 5 * trial)
        for num in range(1, 6):
            found = judge_sequential(make_records(list(seeds)[:num], recall=0.2 * (1 - lost)), baseline)
            if not found.undecided:
                caught += any_red(found.results)
                break

    assert caught >= 36


def test_each_feature_has_its_own_share_whatever_the_order(baseline):
    """A file lists features by name, and a family's features are then not next to one another."""
    ensemble = baseline.ensemble
    columns = {"test/mrr": ensemble.features["test/recall@10"], **dict(sorted(ensemble.features.items()))}
    mixed = baseline.model_copy(update={"ensemble": ensemble.model_copy(update={"features": columns})})
    record = make_record(100).with_arrays(**{"metric/test/mrr": np.array([0.2])})
    found = judge_sequential([record], mixed)
    shares = weights(columns)

    assert [ALPHA_DROP * shares[name] / 4 for name in columns] == pytest.approx(
        [look.level for look in found.decision.drops]
    )
    for look, name in zip(found.decision.drops, columns, strict=True):
        assert promised_drop(mixed, name) == pytest.approx(caught_drop(name, look))


def test_a_nightly_run_promises_a_tenth_of_the_rate(baseline):
    found, nightly = (judge_sequential(make_records([100]), baseline, alpha_scale=scale) for scale in (1.0, 0.1))

    assert [look.level / 10 for look in found.decision.drops] == pytest.approx(
        [look.level for look in nightly.decision.drops]
    )
    assert "at a false-alarm rate of 0.0001" in nightly.results[0].detail


def noise_for(baseline, *, factor, df_extra):
    """sds of other systems: the stored ones times a factor."""
    features = baseline.ensemble.features
    sd = {name: factor * float(np.log(values).std(ddof=1)) for name, values in features.items()}
    return Noise(sd=sd, df_extra=dict.fromkeys(features, df_extra), num_systems=9)


def test_lent_degrees_of_freedom_tighten_the_limits_and_the_promise_follows():
    weak = make_baseline(5)
    noise = noise_for(weak, factor=1.0, df_extra=20.0)
    own, pooled = (
        judge_looks(make_records([100]), weak, max_runs=5, advice="", noise=given).decision for given in (None, noise)
    )

    for name, before, after in zip(weak.ensemble.features, own.drops, pooled.drops, strict=True):
        assert (4, 24) == (before.df, after.df)
        assert after.limit < before.limit
        assert promised_drop(weak, name, noise=noise) == pytest.approx(caught_drop(name, after))
        assert promised_drop(weak, name, noise=noise) < promised_drop(weak, name)


def test_a_lent_sd_is_never_below_the_floor(baseline):
    noise = noise_for(baseline, factor=1e-9, df_extra=5.0)
    found = judge_looks(make_records([100]), baseline, max_runs=5, advice="", noise=noise)

    assert all(look.sd >= 1e-4 for look in found.decision.drops)
    assert found.noise is noise


def test_the_promise_of_a_loss_is_a_rise(baseline):
    """A drop of the negative logarithm by d is a loss that grows by the factor exp(d)."""
    found = judge_sequential(make_records([100]), baseline)
    look = found.decision.drops[-1]

    assert list(baseline.ensemble.features)[-1] == "loss/late"
    assert math.expm1(-math.log1p(-look.mdd)) == pytest.approx(caught_drop("loss/late", look))
