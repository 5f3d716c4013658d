"""Runs drawn like the recorded ones: their moments and tails, and that the judge reads from them what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_baseline, make_record
from rectest.baseline.build import build_baseline
from rectest.baseline.features import feature_names, raw_feature
from rectest.baseline.resample import bandwidth, drawn, runs_of, stored_logs
from rectest.record import RunRecord


@pytest.fixture(scope="module")
def logs():
    """Five correlated features, one of them skewed."""
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((16, 5)) @ rng.standard_normal((5, 5)) * 0.02
    return np.column_stack([mixed[:, :4], np.exp(3 * mixed[:, 4])]) + np.arange(5)


def test_two_runs_by_hand():
    """-1 and 1 have sample variance 2. With a normal kernel each half is normal about sqrt(2) / sqrt(1 + h^2)."""
    found = drawn(np.array([[-1.0], [1.0]]), np.random.default_rng(0), 100_000, kernel_df=np.inf)
    centre, width = np.sqrt(2) / np.hypot(1, bandwidth(2)), bandwidth(2) * np.sqrt(2) / np.hypot(1, bandwidth(2))

    assert 2.0 == pytest.approx(found.var(), rel=0.03)
    assert abs(found.mean()) < 0.02
    assert 3 * width**4 + 6 * width**2 * centre**2 + centre**4 == pytest.approx((found**4).mean(), rel=0.03)


def test_mean_and_covariance_are_the_recorded_ones(logs):
    found = drawn(logs, np.random.default_rng(1), 100_000)
    scale = np.outer(logs.std(axis=0, ddof=1), logs.std(axis=0, ddof=1))

    assert np.abs(found.mean(axis=0) - logs.mean(axis=0)).max() < 0.02 * logs.std(axis=0).max()
    assert np.abs((np.cov(found.T) - np.cov(logs.T)) / scale).max() < 0.05


def test_tails_are_heavier_than_normal_ones_and_skewness_is_kept(logs):
    found = drawn(logs, np.random.default_rng(2), 100_000)
    z = (found - found.mean(axis=0)) / found.std(axis=0)

    assert (np.mean(np.abs(z) > 4.5, axis=0) > 3 * 6.8e-6).all()
    assert (z**3).mean(axis=0)[4] * ((logs[:, 4] - logs[:, 4].mean()) ** 3).mean() > 0


def test_the_judge_reads_what_was_drawn():
    baseline = make_baseline()
    runs, logs = runs_of(baseline, max_runs=3), stored_logs(baseline)
    records, other = runs.new(logs[:3] + 0.1), runs.stored(logs + 0.2)

    assert set(baseline.ensemble.features) == set(feature_names(records[0]))
    for place, record in enumerate(records):
        for name, values in baseline.ensemble.features.items():
            assert values[place] * np.exp(0.1) == pytest.approx(raw_feature(record, name))
            assert values[place] * np.exp(0.2) == pytest.approx(other.ensemble.features[name][place])


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 9), measures=st.lists(st.sampled_from(["a@1", "b@2"]), min_size=1, unique=True))
def test_a_baseline_of_any_curves_has_runs_of_its_kind(size, measures):
    """Short curves have no middle window, and a single evaluation has no early one."""
    rng = np.random.default_rng(size)
    records = [_record(seed, size, measures, rng) for seed in range(6)]
    baseline = build_baseline(records, reason="x")
    (record,) = runs_of(baseline, max_runs=1).new(stored_logs(baseline)[:1])

    assert set(baseline.ensemble.features) == set(feature_names(record))
    for name, values in baseline.ensemble.features.items():
        assert values[0] == pytest.approx(raw_feature(record, name))


def _record(seed, size, measures, rng):
    record = make_record(seed, gate={"metrics": measures, "loss": bool(size % 2)})
    curves = {f"metric/valid/{name}": rng.uniform(0.2, 0.3, size) for name in measures}
    finals = {f"metric/test/{name}": rng.uniform(0.2, 0.3, 1) for name in measures}
    kept = {key: value for key, value in record.arrays.items() if not key.startswith("metric/")}
    return RunRecord(
        spec=record.spec,
        environment=record.environment,
        arrays={**kept, **curves, **finals, "loss/total": rng.uniform(1, 2, size)},
        facts=record.facts,
    )


@pytest.mark.parametrize(
    ("stored", "kernel_df"), [(np.zeros((1, 2)), 5.0), (np.zeros(4), 5.0), (np.zeros((4, 2)), 2.0)]
)
def test_what_has_no_distribution_is_refused(stored, kernel_df):
    with pytest.raises(ValueError, match="two runs or more and kernel_df > 2"):
        drawn(stored, np.random.default_rng(0), 3, kernel_df=kernel_df)
