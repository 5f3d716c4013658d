"""Drawn baselines and candidates: like the recorded runs, features and curves of one run together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_baseline, make_records
from rectest.baseline.looks import promised_drop
from rectest.baseline.resample import stored_logs
from rectest.baseline.sidecar import Sidecar, build_sidecar
from rectest.baseline.trials import Trial, declared_drop, trial_of

BASELINE = make_baseline()
SIDECAR = build_sidecar(make_records(range(16)))
CURVE = "valid/recall@10"


def drawn(num: int = 50, sidecar: Sidecar | None = SIDECAR, seed: int = 0) -> Trial:
    return trial_of(BASELINE, sidecar, np.random.default_rng(seed), num_resamples=num)


def test_shapes():
    trial = drawn(7)
    width = len(BASELINE.ensemble.features)

    assert (7, 16, width) == trial.stored.shape
    assert (7, 5, width) == trial.new.shape
    assert (7, 16, 6) == trial.stored_curves[CURVE].shape
    assert (7, 5, 6) == trial.new_curves[CURVE].shape


def test_both_kinds_of_runs_have_the_recorded_mean_and_covariance():
    trial, recorded = drawn(4000), stored_logs(BASELINE)

    for runs in (trial.stored, trial.new):
        logs = np.log(runs).reshape(-1, runs.shape[-1])

        np.testing.assert_allclose(recorded.mean(axis=0), logs.mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(recorded.std(axis=0, ddof=1), logs.std(axis=0), rtol=0.1)


def test_a_curve_belongs_to_the_features_of_its_run():
    trial = drawn(500)
    late = trial.new_curves[CURVE][..., -2:].mean(axis=-1).ravel()
    feature = trial.new[..., trial.features.index(f"{CURVE}/late")].ravel()

    assert np.corrcoef(late, feature)[0, 1] > 0.999


def test_equal_seeds_draw_equal_runs_and_other_seeds_others():
    np.testing.assert_array_equal(drawn(seed=1).new, drawn(seed=1).new)

    assert (drawn(seed=1).new != drawn(seed=2).new).all()


def test_a_baseline_without_curves_has_features_only():
    trial = drawn(sidecar=None)

    assert {} == trial.new_curves
    assert np.isfinite(trial.new).all()


def test_evaluations_that_a_seed_did_not_reach_or_at_which_it_hit_nobody_are_left_out():
    curve = SIDECAR[f"curve/{CURVE}"].copy()
    curve[3, 0], curve[5, 5] = 0.0, np.nan
    trial = drawn(sidecar=Sidecar(arrays={**SIDECAR.arrays, f"curve/{CURVE}": curve}))

    assert 4 == trial.new_curves[CURVE].shape[-1]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.9))
def test_worse_metrics_are_worse_and_losses_stay(share):
    trial = drawn(3)
    worse = trial.worse(share)
    metrics = np.array([not name.startswith("loss/") for name in trial.features])

    np.testing.assert_allclose(trial.new[..., metrics] * (1 - share), worse.new[..., metrics])
    np.testing.assert_array_equal(trial.new[..., ~metrics], worse.new[..., ~metrics])
    np.testing.assert_array_equal(trial.stored, worse.stored)
    np.testing.assert_allclose(trial.new_curves[CURVE] * (1 - share), worse.new_curves[CURVE])


def test_a_rank_that_is_worse_is_higher():
    ones = np.ones((1, 5, 1))
    trial = Trial(
        name="toy", features=("test/mean_rank",), floors=np.zeros(1), stored=ones, new=ones, stored_curves={},
        new_curves={},
    )  # fmt: skip

    assert pytest.approx(2.0) == trial.worse(0.5).new.mean()


def test_the_first_replicates_are_the_same_ones():
    trial = drawn(9)

    np.testing.assert_array_equal(trial.new[:4], trial.first(4).new)
    np.testing.assert_array_equal(trial.stored_curves[CURVE][:4], trial.first(4).stored_curves[CURVE])


def test_the_declared_drop_is_the_least_that_is_promised_for_a_metric():
    promised = {name: promised_drop(BASELINE, name) for name in BASELINE.ensemble.features}

    assert min(drop for name, drop in promised.items() if not name.startswith("loss/")) == declared_drop(BASELINE)
    assert min(promised.values()) < declared_drop(BASELINE), "a loss has less noise, and is no metric"


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="at least one resample and one new run, got 0 and 5"):
        drawn(0)
