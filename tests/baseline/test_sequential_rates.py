"""The two declared numbers of the sequential gate, by simulation: false alarms, and the drop that is caught.

Six equal features that are independent are the worst case of Bonferroni; the features and shares of a real gate, up to
fifteen of them and strongly correlated, follow. What `decide` does with given numbers is in `test_sequential`.
"""

import math

import numpy as np
import pytest
from scipy import stats

from fixtures.looks import NONE, Faults, printed_shift, stop
from rectest.baseline.features import WINDOWS, weights
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA, MAX_RUNS
from rectest.baseline.power import detectable_shift
from rectest.baseline.sequential import Rule, decide

SIX = Rule(weights=(1 / 6,) * 6)


def runs_of(kind: str, num_replicates: int, seed: int, *, sd: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """[R, 16, F] stored and [R, 5, F] new clean runs of six independent features, the worst case of Bonferroni."""
    rng, shape = np.random.default_rng(seed), (num_replicates, 21, 6)
    noise = rng.standard_t(5, shape) * math.sqrt(3 / 5) if kind == "t5" else rng.normal(size=shape)
    noise *= sd
    if kind == "bad seeds":
        noise -= (rng.random((*shape[:2], 1)) < 0.02) * rng.exponential(0.2, (*shape[:2], 1))
    return noise[:, :16], noise[:, 16:]


def most(rate: float, num_replicates: int) -> int:
    """Alarms that a true `rate` exceeds once in a thousand simulations."""
    return int(stats.binom.isf(1e-3, num_replicates, rate))


def test_clean_candidates_pass_soon_and_alarm_no_more_than_declared():
    """Planted fault: Welch's error in place of the stored sd, with no witness to hide behind."""
    stored, new = runs_of("normal", 20_000, seed=1)
    state, runs = stop(stored, new, SIX)
    bare, welch = (
        (stop(stored, new, SIX, Faults(witness=False, welch=welch))[0] == "FAIL").sum() for welch in (False, True)
    )

    assert (state == "FAIL").sum() <= most(SIX.alpha_drop, len(state))
    assert (state == "SUSPICIOUS").sum() <= most(SIX.alpha_rise, len(state))
    assert 1.0 <= runs.mean() <= 1.5
    assert bare <= most(SIX.alpha_drop, len(state)) < welch


@pytest.mark.parametrize(("side", "alpha", "expected"), [(-1, 8e-4, "FAIL"), (1, 2e-4, "SUSPICIOUS")])
def test_the_printed_change_is_caught_with_the_declared_power(side, alpha, expected):
    stored, new = runs_of("normal", 10_000, seed=2)
    new[:, :, 2] += side * printed_shift(stored, SIX, alpha)[:, None, 2]
    state, runs = stop(stored, new, SIX)

    assert (state == expected).sum() >= stats.binom.ppf(1e-3, len(state), 0.9)
    assert runs.mean() < 3.0


def test_a_drop_fixed_beforehand_is_missed_about_as_rarely_as_declared():
    stored, new = runs_of("normal", 10_000, seed=3)
    delta = detectable_shift(0.05, num_stored=16, num_new=5, df=15, alpha=8e-4 / 24, beta=0.02)
    new[:, :, 2] -= delta
    caught = float((stop(stored, new, SIX)[0] == "FAIL").mean())

    assert caught >= 0.87


def test_a_bad_seed_and_heavy_tails_need_the_witness_and_a_second_run():
    """Planted faults: no witness rule; an alarm after the first run."""
    for kind, seed in (("t5", 4), ("bad seeds", 5)):
        stored, new = runs_of(kind, 10_000, seed=seed)
        honest, bare, hasty = (
            (stop(stored, new, SIX, fault)[0] == "FAIL").sum()
            for fault in (NONE, Faults(witness=False), Faults(first_alarm=1))
        )

        assert honest <= most(2e-3, len(new)) < min(bare, hasty)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most_drops"), [("normal", 8e-4), ("t5", 2e-3), ("bad seeds", 2.2e-3)])
def test_rates_with_many_replicates(kind, most_drops):
    found = {"FAIL": 0, "SUSPICIOUS": 0, "PASS": 0}
    runs = 0.0
    for seed in range(10):
        stored, new = runs_of(kind, 20_000, seed=100 + seed)
        state, used = stop(stored, new, SIX)
        runs += float(used.mean()) / 10
        for name in found:
            found[name] += int((state == name).sum())

    assert found["FAIL"] <= most(most_drops, 200_000)
    assert found["SUSPICIOUS"] <= most(most_drops / 2, 200_000)
    assert 1.0 <= runs <= 1.5


@pytest.mark.slow
def test_rates_through_decide_itself():
    stored, new = runs_of("normal", 5000, seed=7)
    states_, runs = [], []
    for known, fresh in zip(stored, new, strict=True):
        decisions = (decide(known, fresh[:k], SIX, floors=0.0) for k in range(1, 6))
        final = next(decision for decision in decisions if decision.state != "UNDECIDED")
        states_.append(final.state)
        runs.append(final.num_runs)
    twin, twin_runs = stop(stored, new, SIX)

    assert twin.tolist() == states_
    assert twin_runs.tolist() == runs
    assert states_.count("FAIL") <= most(SIX.alpha_drop, len(states_))


MEASURES = ("hit@5", "ndcg@10", "recall@10")


def names_of(num_measures: int) -> list[str]:
    """What a gate judges: final values, windows of two or three measures, and windows of the loss."""
    measures = MEASURES[:num_measures]
    valid = [f"valid/{measure}/{part}" for measure in measures for part in WINDOWS]
    return [*(f"test/{measure}" for measure in measures), *valid, *(f"loss/{part}" for part in WINDOWS)]


def rule_of(names: list[str]) -> Rule:
    """As the gate makes it."""
    shares = weights(names)
    return Rule(
        weights=tuple(shares[name] for name in names),
        alpha_drop=ALPHA_DROP,
        alpha_rise=ALPHA_RISE,
        beta=BETA,
        max_runs=MAX_RUNS,
        min_effect=0.0,
    )


def correlated(num_features: int, num_replicates: int, *, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[R, 16, F] stored and [R, 5, F] new clean runs of features with equal correlation and unlike sds."""
    rng, shape = np.random.default_rng(seed), (num_replicates, 21, num_features)
    common = rng.normal(size=(*shape[:2], 1))
    noise = math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.normal(size=shape)
    noise *= np.linspace(0.004, 0.08, num_features)
    return noise[:, :16], noise[:, 16:]


@pytest.mark.parametrize(("num_measures", "rho"), [(2, 0.0), (3, 0.0), (3, 0.5), (3, 0.95)])
def test_real_features_alarm_no_more_than_declared(num_measures, rho):
    names = names_of(num_measures)
    rule = rule_of(names)
    stored, new = correlated(len(names), 8000, rho=rho, seed=num_measures)
    state, runs = stop(stored, new, rule)

    assert len(names) == {2: 11, 3: 15}[num_measures]
    assert (state == "FAIL").sum() <= most(ALPHA_DROP, len(state))
    assert (state == "SUSPICIOUS").sum() <= most(ALPHA_RISE, len(state))
    assert 1.0 <= runs.mean() <= 1.5


def test_without_shares_fifteen_features_alarm_too_often():
    """Planted fault: every feature is given the whole false-alarm rate."""
    names = names_of(3)
    stored, new = correlated(len(names), 8000, rho=0.0, seed=3)
    alone = Rule(weights=(1.0,), alpha_drop=ALPHA_DROP, alpha_rise=ALPHA_RISE, beta=BETA, min_effect=0.0)
    failed = np.zeros(len(stored), bool)
    for f in range(len(names)):
        failed |= stop(stored[:, :, f : f + 1], new[:, :, f : f + 1], alone)[0] == "FAIL"

    assert failed.sum() > most(ALPHA_DROP, len(failed))


@pytest.mark.parametrize("rho", [0.0, 0.95])
@pytest.mark.parametrize("name", ["test/recall@10", "valid/hit@5/early", "loss/mid"])
def test_the_promised_drop_of_any_feature_is_caught(name, rho):
    """Whatever its share; the control above is the same runs without a drop."""
    names = names_of(3)
    rule, place = rule_of(names), names.index(name)
    stored, new = correlated(len(names), 3000, rho=rho, seed=4)
    new[:, :, place] -= printed_shift(stored, rule, ALPHA_DROP)[:, None, place]
    state, _ = stop(stored, new, rule)

    assert (state == "FAIL").sum() >= stats.binom.ppf(1e-3, len(state), 0.9)


def test_half_of_the_promised_drop_is_not():
    """The promise is not idle: what is caught for certain is not far above what is printed."""
    names = names_of(3)
    rule, place = rule_of(names), names.index("test/recall@10")
    stored, new = correlated(len(names), 2000, rho=0.5, seed=5)
    new[:, :, place] -= 0.5 * printed_shift(stored, rule, ALPHA_DROP)[:, None, place]

    assert (stop(stored, new, rule)[0] == "FAIL").mean() < 0.5


def test_the_twin_is_decide_with_the_weights_of_a_gate():
    names = names_of(3)
    rule = rule_of(names)
    stored, new = correlated(len(names), 40, rho=0.5, seed=6)
    new[::2, :, 3] -= 0.3
    twin, runs = stop(stored, new, rule)
    for place, (known, fresh) in enumerate(zip(stored, new, strict=True)):
        decisions = (decide(known, fresh[:k], rule, floors=0.0) for k in range(1, 6))
        final = next(decision for decision in decisions if decision.state != "UNDECIDED")

        assert (str(twin[place]), int(runs[place])) == (final.state, final.num_runs)
