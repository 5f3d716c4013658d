"""The error rates that the gate declares, measured through the functions that judge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_baseline, make_record, make_records
from rectest.baseline.ensemble import compare, detectable_drop
from rectest.baseline.judge import judge_ensemble
from rectest.baseline.limits import REL_FLOOR
from rectest.baseline.schema import Baseline
from rectest.checks.result import Verdict

SD = 0.015


def simulated(rng: np.random.Generator, template: Baseline, *, shift: float = 0.0, num_new: int = 3):
    """A baseline of 16 seeds and some new runs whose three features are independent and normal in logs."""
    values = 0.2 * np.exp(rng.normal(0.0, SD, (16, 3)))
    new = 0.2 * np.exp(rng.normal(shift, SD, (num_new, 3)))
    names = list(template.ensemble.features)
    stored = {name: tuple(column.tolist()) for name, column in zip(names, values.T, strict=True)}
    ensemble = template.ensemble.model_copy(update={"features": stored})
    return template.model_copy(update={"ensemble": ensemble}), new


def red(baseline: Baseline, new: np.ndarray, *, alpha: float) -> list[bool]:
    records = [
        TEMPLATES[i].with_arrays(
            **{
                "metric/test/recall@10": row[:1],
                "metric/valid/recall@10": row[1:2],
                "loss/total": row[2:],
            }
        )
        for i, row in enumerate(new)
    ]
    return [result.red for result in judge_ensemble(records, baseline, alpha=alpha)]


TEMPLATES = make_records([100, 101, 102])


@pytest.mark.parametrize("alpha", [0.05, 1e-3])
def test_clean_runs_alarm_at_the_declared_rate(alpha):
    from scipy.stats import binom

    rng, template, trials = np.random.default_rng(1), make_baseline(), 2000
    alarms = sum(any(red(*simulated(rng, template), alpha=alpha)) for _ in range(trials))
    low, high = binom.ppf([1e-3, 1 - 1e-3], trials, alpha)

    assert low <= alarms <= high


def test_a_drop_of_ten_percent_is_caught_every_time():
    rng, template = np.random.default_rng(2), make_baseline()
    caught = [red(*simulated(rng, template, shift=np.log(0.9)), alpha=1e-3) for _ in range(200)]

    assert all(any(each[:2]) for each in caught)


def test_the_printed_detectable_drop_is_caught_with_its_probability():
    rng, template = np.random.default_rng(3), make_baseline()
    hits = []
    for _ in range(500):
        stored = np.exp(rng.normal(0.0, SD, 16))
        new = np.exp(rng.normal(0.0, SD, 3))
        clean = compare(new, stored, sign=1, num_features=3, alpha=1e-3, floor=0.0)
        shift = clean.detectable / clean.sd * SD
        found = compare(new * np.exp(-shift), stored, sign=1, num_features=3, alpha=1e-3, floor=0.0)
        hits.append(found.shift < -found.drop_limit)

    assert np.mean(hits) == pytest.approx(0.9, abs=0.04)
    assert 0.02 < detectable_drop(template, "test/recall@10", num_new=3) < 0.09


@given(
    stored=st.lists(st.floats(0.1, 0.9), min_size=8, max_size=20),
    new=st.lists(st.floats(0.1, 0.9), min_size=1, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_lower_is_better_is_the_mirror_image(stored, new):
    up = compare(new, stored, sign=1, num_features=2, alpha=1e-3, floor=REL_FLOOR)
    down = compare(1 / np.array(new), 1 / np.array(stored), sign=-1, num_features=2, alpha=1e-3, floor=REL_FLOOR)

    assert up.shift == pytest.approx(down.shift, abs=1e-12)
    assert up.drop_limit == pytest.approx(down.drop_limit)
    assert up.rise_limit > up.drop_limit


@given(scale=st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_the_unit_of_a_feature_does_not_matter(scale):
    stored, new = np.linspace(1.0, 1.2, 16), np.array([0.9, 1.0])
    one = compare(new, stored, sign=1, num_features=1, alpha=1e-3, floor=REL_FLOOR)
    other = compare(new * scale, stored * scale, sign=1, num_features=1, alpha=1e-3, floor=REL_FLOOR)

    assert one.shift == pytest.approx(other.shift, abs=1e-9)
    assert one.drop_limit == pytest.approx(other.drop_limit)


@pytest.fixture(scope="module")
def constant() -> Baseline:
    """A system whose seeds change nothing."""
    return make_baseline(sd=0.0)


class TestFloor:
    """Sixteen equal values must not make a gate of width zero."""

    def test_one_hit_of_a_thousand_users_is_noise(self, constant):
        results = judge_ensemble(make_records([100, 101, 102], sd=0.0, recall=0.2 - 0.0003), constant)

        assert results[0].verdict is Verdict.PASS
        assert "uses a floor" in results[0].detail

    def test_a_real_drop_is_still_red(self, constant):
        assert judge_ensemble(make_records([100, 101, 102], sd=0.0, recall=0.18), constant)[0].red

    def test_rounding_of_a_loss_is_noise_and_a_percent_is_not(self, constant):
        same, worse = (judge_ensemble(make_records([100, 101], sd=0.0, loss=x), constant)[-1] for x in (1.50001, 1.515))

        assert (same.verdict, worse.verdict) == (Verdict.PASS, Verdict.FAIL)

    def test_one_run_of_a_constant_system_passes_against_itself(self, constant):
        assert not any(result.red for result in judge_ensemble([make_record(0, sd=0.0)], constant))
