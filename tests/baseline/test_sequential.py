import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.looks import NONE, Faults, states
from rectest.baseline import sequential
from rectest.baseline.power import detectable_shift
from rectest.baseline.sequential import Decision, Rule, decide

SIX = Rule(weights=(1 / 6,) * 6)
ONE = Rule(weights=(1.0,))


def spread(sd: float, num_stored: int = 16) -> np.ndarray:
    """[n0, 1] stored runs with mean 0 and exactly this sd."""
    size = sd * math.sqrt((num_stored - 1) / num_stored)
    return np.array([[size], [-size]] * (num_stored // 2))


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def draws(seed: int, *, num_new: int = 5, num_stored: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Runs of six features whose shifts lie on both sides of every limit."""
    rng = np.random.default_rng(seed)
    sd = rng.uniform(0.004, 0.06, 6)
    shift = rng.choice([0.0, 1.0], 6, p=[0.7, 0.3]) * rng.normal(0, 6, 6) * sd
    new = shift + rng.normal(0, sd, (num_new, 6))
    if rng.random() < 0.3:
        new[rng.integers(num_new)] -= rng.exponential(0.3)
    return rng.normal(0, sd, (num_stored, 6)), new


def test_two_runs_by_hand():
    """se = 0.04 sqrt(1/16 + 1/2) = 0.03, and the tables give t(2e-4, 15) = 4.528, t(0.005, 15) = 2.947."""
    obtained = decide(spread(0.04), column(-0.3, -0.2), ONE, floors=0.0)
    look = obtained.deciding

    assert ("FAIL", 2, 0, "drop") == (obtained.state, obtained.num_runs, look.feature, look.side)
    assert -0.25 == pytest.approx(look.shift)
    assert 0.03 == pytest.approx(look.error)
    assert 4.528 * 0.03 == pytest.approx(look.limit, rel=1e-3)
    assert (-0.2, 2.947 * 0.04 * math.sqrt(1 / 16 + 1)) == pytest.approx((look.witness, look.witness_limit), rel=1e-3)
    assert float(stats.t.sf(0.25 / 0.03, 15)) == pytest.approx(look.p)
    assert 2e-4 == pytest.approx(look.level)
    shift = detectable_shift(0.04, num_stored=16, num_new=5, df=15, alpha=2e-4, beta=0.02)
    assert shift == pytest.approx(look.delta)
    # t(0.02, 15) = 2.249 and chi2(0.2, 15) = 10.307.
    assert (-0.25 + shift) / 0.03 - 2.249 == pytest.approx(look.margin, abs=1e-3)
    assert -math.expm1(-shift * math.sqrt(15 / 10.307)) == pytest.approx(look.mdd, rel=1e-4)


def test_one_bad_seed_is_no_witness(monkeypatch):
    """Planted fault: without the witness rule one bad seed fails the candidate."""
    runs = column(-0.02, -0.8, 0.01)

    assert decide(spread(0.04), runs, ONE, floors=0.0).state == "UNDECIDED"

    monkeypatch.setattr(sequential, "_witness", lambda _sample, _rule: (-math.inf, 0.0))
    assert decide(spread(0.04), runs, ONE, floors=0.0).state == "FAIL"


def test_one_run_never_fails(monkeypatch):
    """Planted fault: an alarm after the first run."""
    assert decide(spread(0.04), column(-9.0), ONE, floors=0.0).state == "UNDECIDED"

    monkeypatch.setattr(sequential, "FIRST_ALARM", 1)
    assert decide(spread(0.04), column(-9.0), ONE, floors=0.0).state == "FAIL"


def test_a_rise_asks_for_a_second_run_and_is_then_suspicious():
    leak = decide(spread(0.04), column(0.4), ONE, floors=0.0)
    sure = decide(spread(0.04), column(0.4, 0.3), ONE, floors=0.0)

    assert ("UNDECIDED", "rise") == (leak.state, leak.deciding.side)
    assert ("SUSPICIOUS", "rise") == (sure.state, sure.deciding.side)
    assert 0.35 == pytest.approx(sure.deciding.shift)
    assert 5e-5 == pytest.approx(sure.deciding.level)
    assert 0.3 == pytest.approx(sure.deciding.witness)
    # One good seed is no witness either.
    assert decide(spread(0.04), column(0.6, 0.01), ONE, floors=0.0).state == "UNDECIDED"


def test_a_rise_is_a_drop_turned_over():
    even = Rule(weights=(1 / 6,) * 6, alpha_drop=5e-4, alpha_rise=5e-4)
    for seed in range(30):
        stored, new = draws(seed)
        down, up = decide(stored, new, even, floors=0.0), decide(-stored, -new, even, floors=0.0)

        assert [look.alarm for look in down.drops] == [look.alarm for look in up.rises]
        assert [look.margin for look in down.drops] == pytest.approx([look.margin for look in up.rises])
        assert [-look.shift for look in down.drops] == pytest.approx([look.shift for look in up.rises])
        assert [look.mdd / (1 - look.mdd) for look in down.drops] == pytest.approx([look.mdd for look in up.rises])


def test_a_drop_weighs_more_than_a_rise_and_the_strongest_feature_decides():
    stored = np.hstack([spread(0.04)] * 6)
    new = np.tile([0.0, 0.5, -0.2, -0.3, 0.0, 0.0], (3, 1))
    obtained = decide(stored, new, SIX, floors=0.0)

    assert ("FAIL", 3) == (obtained.state, obtained.deciding.feature)


def test_weights_move_the_limit():
    stored, new = np.hstack([spread(0.04)] * 2), np.full((3, 2), -0.01)
    drops = decide(stored, new, Rule(weights=(0.9, 0.1)), floors=0.0).drops

    assert drops[0].limit < drops[1].limit
    assert (0.9 * 8e-4 / 4, 0.1 * 8e-4 / 4) == pytest.approx((drops[0].level, drops[1].level))


def test_clean_runs_pass_at_once_and_the_last_run_decides_the_rest():
    assert decide(spread(0.04), column(-0.04), ONE, floors=0.0).state == "PASS"
    assert decide(spread(0.04), column(-0.12), ONE, floors=0.0).state == "UNDECIDED"

    # One bad seed of five is no witness, and its mean is not excluded either.
    runs = column(-0.9, 0.0, 0.0, 0.0, 0.0)
    fourth, fifth = (decide(spread(0.04), runs[:k], ONE, floors=0.0) for k in (4, 5))
    assert ("UNDECIDED", "PASS") == (fourth.state, fifth.state)
    assert not fifth.drops[0].excluded
    assert not fifth.drops[0].witness_holds


def test_below_the_minimum_effect_nothing_fails_and_the_promise_says_so():
    tiny = spread(1e-4)
    below = decide(tiny, column(*[-0.015] * 2), ONE, floors=0.0)
    above = decide(tiny, column(*[-0.021] * 2), ONE, floors=0.0)

    assert ("PASS", "FAIL") == (below.state, above.state)
    assert -math.log(0.98) == pytest.approx(above.drops[0].limit)
    assert -math.log(0.98) < above.drops[0].delta < 0.0205
    assert 0.02 < above.drops[0].mdd < 0.0205


def test_floors_and_moderated_sds():
    stored, new = spread(0.01), column(-0.05, -0.05)
    own, floored = (decide(stored, new, ONE, floors=floor).drops[0] for floor in (0.0, 0.03))
    moderated = decide(stored, new, ONE, floors=[0.0], sd=[0.03], df_extra=10).drops[0]
    raised = decide(stored, new, ONE, floors=[0.04], sd=[0.03], df_extra=10).drops[0]

    assert (0.01, 0.03, 0.03, 0.04) == pytest.approx((own.sd, floored.sd, moderated.sd, raised.sd))
    assert (15, 25) == (floored.df, moderated.df)
    assert moderated.limit < floored.limit
    assert decide(np.zeros((16, 1)), column(0.0), ONE, floors=0.01).state == "PASS"


@given(num_stored=st.integers(5, 40), num_features=st.integers(1, 12), seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_no_change_passes_at_once(num_stored, num_features, seed):
    stored = np.random.default_rng(seed).normal(-1, 0.05, (num_stored, num_features))
    rule = Rule(weights=(1 / num_features,) * num_features)

    assert decide(stored, stored.mean(axis=0, keepdims=True), rule, floors=0.0).state == "PASS"


@given(seed=st.integers(0, 10_000), row=st.integers(0, 4), feature=st.integers(0, 5), by=st.floats(0, 2))
@settings(max_examples=50, deadline=None)
def test_lowering_a_value_never_turns_fail_into_anything_else(seed, row, feature, by):
    stored, new = draws(seed)
    lower = new.copy()
    lower[row, feature] -= by

    for k in range(1, 6):
        before, after = (decide(stored, runs[:k], SIX, floors=0.0) for runs in (new, lower))
        assert before.state != "FAIL" or after.state == "FAIL"
        assert k > 1 or "FAIL" not in (before.state, after.state)


def numbers(decision: Decision) -> list[float]:
    looks = (*decision.drops, *decision.rises)
    return [x for look in looks for x in (look.shift, look.sd, look.limit, look.witness, look.margin, look.mdd)]


@given(seed=st.integers(0, 10_000), num_new=st.integers(1, 5), by=st.floats(-3, 3), factor=st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_order_origin_and_scale_do_not_matter(seed, num_new, by, factor):
    stored, new = draws(seed, num_new=num_new)
    free = Rule(weights=(1 / 6,) * 6, min_effect=0.0)
    base = decide(stored, new, SIX, floors=0.01)
    moved = decide(stored + by, new + by, SIX, floors=0.01)
    unit, scaled = (decide(f * stored, f * new, free, floors=f * 0.01) for f in (1.0, factor))

    assert base == decide(stored, new[::-1], SIX, floors=0.01)
    assert base.state == moved.state
    assert numbers(base) == pytest.approx(numbers(moved), abs=1e-9)
    assert unit.state == scaled.state
    assert [factor * look.delta for look in unit.drops] == pytest.approx([look.delta for look in scaled.drops])


def disagreements(num_replicates: int, faults: Faults = NONE) -> int:
    """How often `decide` and the vectorised twin differ, over all looks."""
    found = 0
    for seed in range(num_replicates):
        stored, new = draws(seed)
        for k in range(1, 6):
            twin = states(stored[None], new[None, :k], SIX, faults)[0]
            found += str(twin) != decide(stored, new[:k], SIX, floors=0.0).state
    return found


def test_decide_is_its_vectorised_twin():
    """Planted faults: a twin without the witness, with an alarm after one run, or with Welch's error differs."""
    assert disagreements(120) == 0
    for fault in (Faults(witness=False), Faults(first_alarm=1), Faults(welch=True)):
        assert disagreements(30, fault) > 0


GOOD = np.zeros((1, 1))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: decide(spread(0.1, 4), GOOD, ONE, floors=0.0), "4 stored runs promise nothing; needed at least 5"),
        (lambda: decide(spread(0.1), np.zeros((1, 2)), ONE, floors=0.0), "have 1 features, new ones 2"),
        (lambda: decide(spread(0.1), GOOD, SIX, floors=0.0), "the rule weighs 6"),
        (lambda: decide(spread(0.1), np.zeros((6, 1)), ONE, floors=0.0), "6 new runs where the rule stops at 5"),
        (lambda: decide(spread(0.1), np.zeros((0, 1)), ONE, floors=0.0), r"new must be \[runs, features\]"),
        (lambda: decide(spread(0.1), np.zeros(3), ONE, floors=0.0), r"new must be \[runs, features\]"),
        (lambda: decide(spread(0.1), column(0.0, math.nan), ONE, floors=0.0), "new has nan at run 1, feature 0"),
        (lambda: decide(column(*[0.0] * 4, -math.inf), GOOD, ONE, floors=0.0), "stored has -inf at run 4"),
        (lambda: decide(np.zeros((16, 1)), GOOD, ONE, floors=0.0), r"features \[0\] have sd 0 .* give a floor"),
        (lambda: decide(spread(0.1), GOOD, ONE, floors=math.nan), "floors must be finite"),
        (lambda: decide(spread(0.1), GOOD, ONE, floors=[-0.1]), "floors must be finite and not negative"),
        (lambda: decide(spread(0.1), GOOD, ONE, floors=[0.1, 0.1]), "floors must be one number or 1"),
        (lambda: decide(spread(0.1), GOOD, ONE, floors=0.0, df_extra=5), "without the moderated sd"),
        (lambda: Rule(weights=(0.5, 0.4)), "sum to 1"),
        (lambda: Rule(weights=()), "sum to 1"),
        (lambda: Rule(weights=(1.5, -0.5)), "above zero"),
        (lambda: Rule(weights=(math.nan, 1.0)), "sum to 1"),
        (lambda: Rule(weights=(1.0,), alpha_drop=0.0), "alpha_drop must be"),
        (lambda: Rule(weights=(1.0,), beta=math.nan), "beta must be"),
        (lambda: Rule(weights=(1.0,), min_effect=1.0), "min_effect must be"),
        (lambda: Rule(weights=(1.0,), max_runs=1), "max_runs >= 2"),
        (lambda: Rule(weights=(1.0,), max_runs=6), "a witness level for each"),
        (lambda: Rule(weights=(1.0,), witness=(0.01, 0.01, 0.01, 0.6)), "witness levels"),
    ],
)
def test_arguments_that_make_no_sense(call, match):
    with pytest.raises(ValueError, match=match):
        call()
