"""Learning: a parameter that stays, a weight nobody optimizes, a frozen branch and a flat loss each turn one red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_facts, find, make_ranks, make_record, red_checks, with_valid_ranks
from rectest.checks.learning import learning, rounding
from rectest.checks.overfitting import NO_SIGNAL
from rectest.checks.result import Verdict

PARTS = ("learning/moved", "learning/optimized", "learning/branch", "learning/loss_falls", "learning/overfitting")


def healthy(*, num_steps=100, **shape):
    record = make_record(num_steps=num_steps, num_evaluations=5, num_users=200, **shape)
    ranks = make_ranks(num_users=200, seed=104, **shape)
    record = with_valid_ranks(record, ranks)
    return replace(record, facts={**record.facts, "early_stopping": {"measure": "hit@10"}})


def parameter(record, name, **changes):
    named = {**record.facts["parameters"]["named"][name], **changes}
    return edit_facts(record, "parameters", "named", name, value=named)


def branch_loss(record, curve):
    """The tower has a loss of its own."""
    with_branch = edit_facts(record, "branches", "tower", value={"parameters": "tower.", "loss": "retrieval"})
    return with_branch.with_arrays(loss__retrieval=np.asarray(curve, dtype=np.float64))


def noisy(level, *, num_steps=100, sd=0.5):
    return level + np.random.default_rng(5).normal(0, sd, num_steps)


def test_a_healthy_record_is_green():
    results = learning(healthy())

    assert red_checks(results) == set()
    assert {*PARTS, "learning/parameters_per_user"} == {result.check for result in results}


@pytest.mark.parametrize("moved", [0.0, 1e-7, float("nan")])
def test_a_trainable_parameter_that_stays_is_red_and_named(moved):
    results = learning(parameter(healthy(), "item.weight", moved=moved))

    assert red_checks(results) == {"learning/moved"}
    assert find(results, "learning/moved").outside == "trainable: item.weight"


def test_a_parameter_that_a_stage_froze_for_ever_is_red():
    """Report 001's remedy: [pretrain_sasrec, joint_finetune] leaves the retriever frozen."""
    record = parameter(healthy(), "tower.bias", moved=0.0, trainable=False, optimized=False)

    result = find(learning(record), "learning/moved")

    assert result.verdict is Verdict.FAIL
    assert result.outside == "frozen: tower.bias"
    assert "froze" in result.detail


def test_a_parameter_that_moved_before_it_was_frozen_is_green():
    record = parameter(healthy(), "tower.bias", trainable=False, optimized=False)

    assert red_checks(learning(record)) == set()


def test_a_loss_weight_that_no_optimizer_holds_is_red():
    """Report 001: 23.51 = 1.2841 + 22.2282, so the learned loss weights never left 1."""
    record = healthy()
    weight = {"numel": 2, "trainable": True, "optimized": False, "moved": 0.0}
    record = edit_facts(record, "parameters", "named", "loss.log_variance", value=weight)

    results = learning(record)

    assert red_checks(results) == {"learning/moved", "learning/optimized"}
    assert find(results, "learning/optimized").worst == "loss.log_variance"


def test_a_model_without_trainable_parameters_is_red():
    record = healthy()
    for name in record.facts["parameters"]["named"]:
        record = parameter(record, name, trainable=False)

    assert "learning/optimized" in red_checks(learning(record))


def test_rounding_is_less_than_a_step_of_adam():
    assert 1e-3 > rounding(10_000)
    assert rounding(0) == rounding(1) == 2.0**-24


def test_a_branch_whose_loss_falls_is_green():
    results = learning(branch_loss(healthy(), noisy(np.linspace(22, 9, 100))))

    assert red_checks(results) == set()
    assert "retrieval" in find(results, "learning/branch").figure


def test_a_frozen_branch_is_red():
    """Report 001: the retrieval loss stays at 22, its parameters where they were drawn."""
    record = branch_loss(healthy(), noisy(22.0))
    for name in ("tower.weight", "tower.bias"):
        record = parameter(record, name, moved=0.0)

    result = find(learning(record), "learning/branch")

    assert result.verdict is Verdict.FAIL
    assert "none of its parameters moved and its loss 'retrieval' does not fall" in result.figure
    assert "FROZEN" in result.detail


def test_a_branch_that_moves_in_vain_is_red():
    results = learning(branch_loss(healthy(), noisy(22.0)))

    assert red_checks(results) == {"learning/branch"}


def test_a_branch_that_others_train_is_red():
    record = branch_loss(healthy(), noisy(np.linspace(22, 9, 100)))
    for name in ("tower.weight", "tower.bias"):
        record = parameter(record, name, moved=0.0)

    assert {"learning/branch", "learning/moved"} == red_checks(learning(record))


def test_steps_that_did_not_compute_a_component_do_not_count():
    """A branch that only trains in the second half has zeros before; they are no low loss."""
    curve = np.concatenate([np.zeros(50), np.linspace(22, 9, 50)])

    assert red_checks(learning(branch_loss(healthy(), curve))) == set()


@pytest.mark.parametrize("curve", [np.zeros(100), np.ones(3)])
def test_a_branch_whose_loss_cannot_be_judged_is_not_green(curve):
    result = find(learning(branch_loss(healthy(), curve)), "learning/branch")

    assert result.verdict is Verdict.NOT_MEASURED


def test_a_branch_without_parameters_or_loss_is_not_green():
    record = healthy()
    wrong_prefix = edit_facts(record, "branches", "tower", "parameters", value="towers.")
    wrong_loss = edit_facts(record, "branches", "tower", "loss", value="retrieval")

    assert find(learning(wrong_prefix), "learning/branch").figure == "no parameter is called 'towers.'..."
    assert "not recorded; there are total" in find(learning(wrong_loss), "learning/branch").figure


def test_a_system_may_promise_no_branch():
    assert "learning/branch" not in {r.check for r in learning(edit_facts(healthy(), "branches", value={}))}


@pytest.mark.parametrize("curve", [noisy(1.4, sd=0.1), np.full(100, 1.4), np.linspace(1.0, 2.0, 100)])
def test_a_loss_that_does_not_fall_is_red(curve):
    record = edit_facts(healthy(), "branches", value={}).with_arrays(loss__total=curve)

    assert red_checks(learning(record)) == {"learning/loss_falls"}


def test_a_total_that_changes_its_meaning_between_stages_is_judged_by_its_components():
    """Stage one trains the first loss, stage two their sum: the total rises while both components fall."""
    first, second = np.linspace(1.2, 0.4, 100), np.concatenate([np.zeros(50), np.linspace(22, 9, 50)])
    record = edit_facts(healthy(), "branches", value={}).with_arrays(loss__total=first + second)

    assert red_checks(learning(record)) == {"learning/loss_falls"}
    assert red_checks(learning(record.with_arrays(loss__sasrec=first, loss__retrieval=second))) == set()
    assert red_checks(learning(record.with_arrays(loss__sasrec=first, loss__retrieval=noisy(22.0)))) == {
        "learning/loss_falls"
    }


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), sd=st.floats(0.001, 0.3))
def test_a_loss_that_halves_is_green_whatever_its_noise(seed, sd):
    rng = np.random.default_rng(seed)
    curve = 1.4 * 0.5 ** (np.arange(200) / 100) * (1 + rng.normal(0, sd, 200))
    record = edit_facts(healthy(num_steps=200), "branches", value={}).with_arrays(loss__total=curve)

    assert not find(learning(record), "learning/loss_falls").red


def test_parameters_are_counted_for_each_user_and_judged_only_when_a_limit_is_declared():
    record = edit_facts(healthy(), "inputs", "num_train_users", value=938)
    record = edit_facts(record, "parameters", "total", value=27_168_644)
    record = edit_facts(record, "parameters", "trainable", value=4_455_428)

    free = find(learning(record), "learning/parameters_per_user")
    limited = find(learning(record, max_parameters_per_user=1000), "learning/parameters_per_user")

    assert free.verdict is Verdict.PASS
    assert free.figure == "4750 trainable parameters for each of 938 training users"
    assert "27168644" in free.expected
    assert limited.verdict is Verdict.FAIL
    assert not find(learning(record, max_parameters_per_user=5000), "learning/parameters_per_user").red


def test_users_of_a_split_by_users_count_too():
    record = edit_facts(healthy(), "inputs", value={"num_users": {"train": 96, "test": 12}})

    assert find(learning(record), "learning/parameters_per_user").figure.startswith("2 trainable")


@pytest.mark.parametrize(
    ("fact", "checks"),
    [
        ("parameters", {"learning/moved", "learning/optimized", "learning/branch", "learning/parameters_per_user"}),
        ("branches", {"learning/branch"}),
        ("inputs", {"learning/parameters_per_user"}),
    ],
)
def test_silence_is_not_learning(fact, checks):
    record = edit_facts(healthy(), fact, value=None)

    results = learning(record)

    assert checks == red_checks(results)
    assert {Verdict.NOT_MEASURED} == {result.verdict for result in results if result.red}


def test_a_record_without_a_loss_is_not_green():
    result = find(learning(healthy().with_arrays(loss__total=None)), "learning/loss_falls")

    assert result.verdict is Verdict.NOT_MEASURED


def test_a_model_at_chance_is_not_called_overfitted():
    record = healthy(skill=0.0)

    assert find(learning(record), "learning/overfitting").figure == NO_SIGNAL
