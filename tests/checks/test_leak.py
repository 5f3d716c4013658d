"""Leaks: a training that follows the held-out items is red at its first stage, and so are texts that mention them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from fixtures.records import edit_array, edit_facts, make_environment, make_record
from rectest.checks.leak import exact_tail, held_out_blind, mention_rates, unseen_like
from rectest.checks.result import Verdict

PLANT = "rectest.faults.controls:held_out_edited"


def edited(record=None, **spec):
    """The same training on the world whose held-out items were replaced; other targets give other metrics."""
    record = record or make_record()
    twin = replace(record, spec=record.spec.with_(plant=PLANT, **spec))
    twin = edit_facts(twin, "inputs", "world", value="blake2b:edited")
    return edit_array(twin, "metric/test/hit@10", lambda values: values * 0.5)


def test_a_training_that_does_not_look_is_green():
    (result,) = held_out_blind(make_record(), edited())

    assert result.check == "leak/held_out"
    assert result.verdict is Verdict.PASS
    assert result.figure == "8 steps bit-equal, whatever the held-out items are"


@pytest.mark.parametrize("stage", ["id_map", "init", "batch", "negatives", "loss", "gradients", "parameters"])
def test_every_stage_that_follows_the_held_out_items_is_red_and_named(stage):
    def follow(tape):
        tape[-1:] += 1

    (result,) = held_out_blind(make_record(), edit_array(edited(), f"tape/{stage}", follow))

    where = f"before step 1, {stage}" if stage in ("id_map", "init") else f"step 8, {stage}"
    assert result.verdict is Verdict.FAIL
    assert where in result.figure
    assert "differ first" in result.detail


def test_the_global_generators_are_the_business_of_purity():
    def draw(tape):
        tape[:] += 1

    (result,) = held_out_blind(make_record(), edit_array(edited(), "tape/rng", draw))

    assert result.verdict is Verdict.PASS


def test_only_common_steps_count():
    """Early stopping sees other targets, so one run may end sooner."""
    twin = edited()
    stages = ("batch", "negatives", "loss", "gradients", "parameters", "rng")
    cut = {f"tape/{stage}": twin[f"tape/{stage}"][:5] for stage in stages}
    (result,) = held_out_blind(make_record(), twin.with_arrays(**cut))

    assert result.figure.startswith("5 steps bit-equal")


@pytest.mark.parametrize(
    ("twin", "reason"),
    [
        (make_record(), "both runs have the plant ''"),
        (edit_facts(edited(), "inputs", "world", value="blake2b:toy"), "both runs saw the world blake2b:toy"),
        (edit_facts(edited(), "inputs", value={}), "both runs saw the world"),
        (edited(seed=1), "not comparable: seed 0 and 1"),
        (replace(edited(), environment=make_environment(threads=2)), "not comparable: threads"),
        (edited().with_arrays(tape__init=None), "no tape of init"),
        (edited().with_arrays(tape__loss=np.zeros((0, 2), dtype=np.uint64)), "a tape without steps"),
    ],
)
def test_what_cannot_show_a_leak_is_not_green(twin, reason):
    (result,) = held_out_blind(make_record(), twin)

    assert result.verdict is Verdict.NOT_MEASURED
    assert reason in result.figure


def texts(rate_held_out, rate_before=0.23, *, num_users=400, length=20, seed=0):
    """Mentions of every event, at the given rates, and positions from the end of the sequence."""
    rng = np.random.default_rng(seed)
    position = np.tile(np.arange(1, length + 1), num_users)
    rates = np.where(position <= 2, rate_held_out, rate_before)
    return rng.random(position.size) < rates, position


def unseen(rate, *, num=800, seed=1):
    return np.random.default_rng(seed).random(num) < rate


def test_texts_of_training_events_are_green():
    result = mention_rates(*texts(0.001), unseen=unseen(0.001))

    assert result.check == "leak/position_rate"
    assert result.verdict is Verdict.PASS


def test_the_texts_of_report_001_are_red():
    """21.5 % of the last two items, 23 % of those before, 0.06 % of random unseen ones."""
    result = mention_rates(*texts(0.215), unseen=unseen(0.0006))

    assert result.verdict is Verdict.FAIL
    assert "3-10 2" in result.worst
    assert "LEAK" in result.detail


@settings(max_examples=40, deadline=None)
@given(rate=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_one_rate_for_both_is_green_whatever_it_is(rate, seed):
    """Popular titles are mentioned often by everybody; at a level of 1e-9 no example alarms."""
    result = mention_rates(*texts(rate, seed=seed), unseen=unseen(rate, seed=seed + 1), alpha=1e-9)

    assert result.verdict is Verdict.PASS


def test_texts_that_avoid_the_held_out_items_are_green():
    """Report 001's older positions are rarer than the window; only more mentions are a leak."""
    assert mention_rates(*texts(0.0), unseen=unseen(0.2)).verdict is Verdict.PASS


@pytest.mark.parametrize("control", [None, []])
def test_without_unseen_items_there_is_no_verdict(control):
    assert mention_rates(*texts(0.2), unseen=control).verdict is Verdict.NOT_MEASURED


def test_without_held_out_events_there_is_no_verdict():
    assert mention_rates([True, False], [3, 4], unseen=[False]).verdict is Verdict.NOT_MEASURED


@pytest.mark.parametrize(("mentioned", "position"), [([True], [1, 2]), ([True], [0])])
def test_positions_that_do_not_fit_are_refused(mentioned, position):
    with pytest.raises(ValueError, match="one position of at least 1"):
        mention_rates(mentioned, position, unseen=[False])


@settings(max_examples=50, deadline=None)
@given(num=st.integers(1, 60), control=st.integers(1, 60), data=st.data())
def test_the_exact_tail_is_fisher_s(num, control, data):
    hits, others = data.draw(st.integers(0, num)), data.draw(st.integers(0, control))
    expected = fisher_exact([[hits, num - hits], [others, control - others]], alternative="greater").pvalue

    assert expected == pytest.approx(exact_tail(hits, num, others, control), rel=1e-9, abs=1e-300)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), window=st.integers(1, 8))
def test_an_unseen_item_is_new_to_the_user_and_about_as_popular(seed, window):
    rng = np.random.default_rng(seed)
    counts = np.concatenate([[0], rng.permutation(np.arange(1, 51))])
    seen = [rng.choice(np.arange(1, 51), size=10, replace=False) for _ in range(20)]
    items = np.array([own[0] for own in seen])

    drawn = unseen_like(items, seen, counts, rng, window=window)

    assert all(item not in own for item, own in zip(drawn, seen, strict=True))
    assert np.abs(counts[drawn] - counts[items]).max() <= window + 10


def test_a_user_who_met_everything_has_no_unseen_item():
    with pytest.raises(ValueError, match="has met all 3 items"):
        unseen_like([1], [[1, 2, 3]], [0, 5, 4, 3], np.random.default_rng(0))
