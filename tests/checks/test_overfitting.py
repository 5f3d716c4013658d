"""Overfitting: claimed where the ranking falls while the loss goes on falling, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_facts, make_ranks, make_record, with_valid_ranks
from rectest.checks.overfitting import NO_SIGNAL, overfitting
from rectest.checks.result import Verdict

MEASURE = "hit@10"


def run(curve, *, loss=None, num_users=938, num_candidates=100, skill=1.0, measure=MEASURE):
    """A run whose validation metric takes the values of `curve`, one after every 20 steps."""
    num_steps = 20 * len(curve)
    record = make_record(num_steps=num_steps, num_evaluations=len(curve))
    record = with_valid_ranks(record, make_ranks(num_users=num_users, num_candidates=num_candidates, skill=skill))
    record = replace(record, facts={**record.facts, "early_stopping": {"measure": measure}})
    loss = np.geomspace(1.2, 0.37, num_steps) if loss is None else loss
    return record.with_arrays(**{f"metric/valid/{measure}": np.array(curve), "loss/total": loss})


RISES = (0.2, 0.3, 0.35, 0.36, 0.36)
FALLS = (0.2, 0.36, 0.30, 0.22, 0.15)


def test_a_ranking_that_stays_is_green():
    assert overfitting(run(RISES)).verdict is Verdict.PASS


def test_a_ranking_that_falls_while_the_loss_falls_is_red():
    result = overfitting(run(FALLS))

    assert result.verdict is Verdict.FAIL
    assert result.detail.startswith("OVERFITTING")
    assert "evaluation 2" in result.figure


def test_a_ranking_that_falls_with_the_loss_at_rest_is_something_else():
    loss = np.concatenate([np.linspace(1.2, 0.4, 40), 0.4 + 0.02 * np.random.default_rng(0).normal(size=60)])

    result = overfitting(run(FALLS, loss=loss))

    assert result.verdict is Verdict.PASS
    assert result.detail.startswith("not overfitting")


def test_report_001_carries_no_signal():
    """hit@5 0.0544 of 938 users among 100 candidates, loss 1.20 -> 0.37: chance is 0.05 +- 0.007."""
    result = overfitting(run((0.052, 0.0544, 0.05, 0.0475, 0.0544), skill=0.0, measure="hit@5"))

    assert result.verdict is Verdict.NOT_MEASURED
    assert result.figure == NO_SIGNAL
    assert "p = 0.29" in result.worst


@given(level=st.floats(0.0, 0.07), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_no_curve_at_chance_is_ever_called_overfitting(level, seed):
    """Whatever the curve does, as long as its best value is within chance (hit@5 of 66 users needs p < 2e-4)."""
    curve = np.random.default_rng(seed).uniform(0, level, 5)

    assert overfitting(run(curve, skill=0.0, measure="hit@5")).figure == NO_SIGNAL


@pytest.mark.parametrize(("num_users", "red"), [(200, False), (20_000, True)])
def test_the_noise_of_the_users_decides(num_users, red):
    """A drop of 0.03 at 0.35: sqrt(2 * .35 * .65 / n) is 0.048 for 200 users and 0.005 for 20000."""
    assert red == overfitting(run((0.2, 0.35, 0.34, 0.33, 0.32), num_users=num_users)).red


def test_a_lower_mean_rank_is_better():
    better = run((40.0, 30.0, 25.0, 22.0, 20.0), measure="mean_rank")
    worse = run((40.0, 20.0, 25.0, 30.0, 35.0), measure="mean_rank")

    assert overfitting(better).verdict is Verdict.PASS
    assert overfitting(worse).verdict is Verdict.FAIL


def test_a_drop_whose_loss_is_unknown_is_not_excused():
    result = overfitting(run(FALLS).with_arrays(loss__total=None))

    assert result.verdict is Verdict.FAIL
    assert "unknown" in result.detail


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (run((0.3,)), "1 evaluations of hit@10, at least 2"),
        (run((0.3, np.nan, 0.2)), "at least 2 finite ones"),
        (run(RISES).with_arrays(**{"metric/valid/hit@10": None}), "has no 'metric/valid/hit@10'"),
        (run(RISES).with_arrays(**{"ranks/valid/expected": None}), "are missing"),
        (edit_facts(run(RISES), "protocol", value={}), "no number of users"),
    ],
)
def test_what_cannot_be_looked_at_is_not_green(record, reason):
    result = overfitting(record)

    assert result.verdict is Verdict.NOT_MEASURED
    assert reason in result.figure
