"""The decision: by hand, by simulation through the function that decides, and with planted faults in the clocks."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.benchmarks import compare
from rectest.benchmarks.compare import Rule, both, clock_of, decide, fatter, log_ratio, log_ratio_of_all
from rectest.benchmarks.pairs import Block, Sample
from rectest.benchmarks.results import State

RULE = Rule(num_benchmarks=4)
NOISES = ("normal", "heavy", "bursts", "drift", "outliers")


def sample(seconds: float, *, cpu: float | None = None, others: float = 0.0, waits: float = 0, device: bool = False):
    used = seconds if cpu is None else cpu
    return Sample(wall=seconds, cpu=used, thread=used - others, waits=waits, device=device)


def block(base: tuple[Sample, ...], head: tuple[Sample, ...]) -> Block:
    return Block(base=base, head=head)


def noise(rng: np.random.Generator, kind: str, *, sd: float, num: int) -> np.ndarray:
    """Log ratios of pairs of unchanged code, of standard deviation `sd` or, with bursts, more."""
    plain = rng.normal(0, sd, num)
    if kind == "heavy":
        return rng.standard_t(3, num) * sd / math.sqrt(3)
    if kind == "bursts":
        return plain + (rng.random(num) < 0.1) * rng.normal(0, 4 * sd, num)
    if kind == "outliers":
        # One pair in thirty, off by a third: what a shared machine gave.
        return plain + (rng.random(num) < 1 / 30) * rng.normal(0, 0.3, num)
    if kind == "drift":
        # What is left of a machine that becomes slower from pair to pair, when each pair is taken in turns.
        return plain + rng.choice([-1, 1], num) * np.linspace(0, sd / 2, num)
    return plain


def verdict(log_ratios: np.ndarray, rule: Rule) -> tuple[State | None, int]:
    for look in rule.looks:
        state = decide(log_ratios[:look].tolist(), rule, limit=0.05).state
        if state is not None:
            return state, look
    return None, rule.looks[-1]


def outcomes(kind: str, slowdown: float, *, sd: float, num: int) -> tuple[dict[State | None, float], float]:
    """Shares of verdicts, and the mean number of pairs, over `num` comparisons of one benchmark of four."""
    rng = np.random.default_rng([NOISES.index(kind), round(1e4 * sd), round(1e4 * slowdown)])
    found = [verdict(math.log1p(slowdown) + noise(rng, kind, sd=sd, num=RULE.looks[-1]), RULE) for _ in range(num)]
    states = [state for state, _ in found]
    return {state: states.count(state) / num for state in set(states)}, float(np.mean([look for _, look in found]))


@pytest.fixture(autouse=True)
def _quantiles_once(monkeypatch):
    """The same few quantiles are asked for thousands of times."""
    monkeypatch.setattr(compare, "t_quantile", cache(compare.t_quantile))


def test_by_hand():
    """Four pairs, sd 0.01: se 0.005, t(0.025, 3) = 3.1824."""
    ratios = [0.10 + shift for shift in (-0.01, 0.01, -0.01, 0.01)]
    sd = math.sqrt(4 * 0.01**2 / 3)
    found = decide(ratios, RULE, limit=0.05)

    assert math.isclose(math.exp(0.10), found.ratio)
    assert math.isclose(math.exp(0.10 - 3.182446 * sd / 2), found.low, rel_tol=1e-6)
    assert math.isclose(math.exp(0.10 + 3.182446 * sd / 2), found.high, rel_tol=1e-6)
    assert found.surely_above < found.low < found.ratio < found.high < found.surely_below


@pytest.mark.parametrize(
    ("log_ratios", "expected"),
    [
        ([0.0, 0.001, -0.001, 0.0], State.PASS),
        ([0.10, 0.101, 0.099] * 3, State.SLOWER),
        ([0.10, 0.101, 0.099, 0.10], None),
        ([-0.10, -0.101, -0.099, -0.10], State.FASTER),
        ([0.0, 0.3, -0.3, 0.1], None),
        ([0.0, 0.0, 0.0], None),
    ],
    ids=["same", "slower", "slower-by-four", "faster", "noise", "too-few"],
)
def test_states(log_ratios, expected):
    assert expected == decide(log_ratios, RULE, limit=0.05).state


OPEN = {
    State.SLOWER: "-39 150 91 92 106 112 89 106 94 163 102 108 -339 51 98 59 103 105 90 87 73 99 51 62 61 161 93 97 "
    "266 91",
    State.PASS: "-66 -141 77 38 14 -3 -2 53 33 46 -61 10 -3 -62 -65 238 0 -54 17 60 93 -4 31 62 -7 1 7 42 36 -1",
}
"""Pairs of two comparisons that stayed open, in thousandths: 10 % were planted in the first, nothing in the other."""


@pytest.mark.parametrize("expected", list(OPEN))
@pytest.mark.parametrize("trim_from", [RULE.trim_from, 31], ids=["trimmed", "fault: as they are"])
def test_a_pair_or_two_that_are_far_off_leave_nothing_open(expected, trim_from):
    ratios = [float(value) / 1000 for value in OPEN[expected].split()]
    found = decide(ratios, Rule(num_benchmarks=4, trim_from=trim_from), limit=0.05)

    assert found.state == (expected if trim_from == RULE.trim_from else None)


def test_the_trimmed_error_by_hand():
    """Yuen's: 20 values, 2 cut at either end; the outer ones count as the last that are left."""
    values = [*np.arange(16) / 100, -5.0, -4.0, 7.0, 9.0]
    drawn_in = np.clip(values, 0.0, 0.15)
    error = drawn_in.std(ddof=1) / (0.8 * math.sqrt(20)) * math.sqrt(16 / 15 * 19 / 20)
    mean, obtained, freedom = compare._trimmed(values, 2, least_sd=0.002)

    assert math.isclose(0.075, mean)
    assert math.isclose(error, obtained)
    assert freedom == 15


def test_values_that_happen_to_be_equal_are_not_certain():
    """Without a least sd, three equal pairs would decide anything."""
    found = decide([0.021] * 4, RULE, limit=0.05)

    assert found.surely_above < found.ratio < found.surely_below


@given(st.lists(st.floats(-0.5, 0.5), min_size=4, max_size=12))
@settings(max_examples=50, deadline=None)
def test_exchanging_the_sides_turns_the_ratio_over(log_ratios):
    one, other = (decide([sign * value for value in log_ratios], RULE, limit=0.05) for sign in (1, -1))

    assert math.isclose(one.ratio, 1 / other.ratio, rel_tol=1e-9)
    assert math.isclose(one.low, 1 / other.high, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("log_ratios", "limit"), [([0.1], 0.05), ([0.1, math.nan], 0.05), ([0.1, math.inf], 0.05), ([0.1, 0.1], 0.0)]
)
def test_what_cannot_be_judged_is_refused(log_ratios, limit):
    with pytest.raises(ValueError, match="two finite log ratios"):
        decide(log_ratios, RULE, limit=limit)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"alpha": 0.7}, "alpha must be"),
        ({"beta": 0}, "beta must be"),
        ({"num_benchmarks": 0}, "needed a benchmark"),
        ({"looks": (1, 4)}, "looks must be"),
        ({"looks": (6, 4)}, "looks must be"),
    ],
)
def test_a_promise_that_makes_no_sense_is_refused(values, match):
    with pytest.raises(ValueError, match=match):
        Rule(**{"num_benchmarks": 1, **values})


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("sd", [0.005, 0.02])
def test_calibration_unchanged_code_is_never_called_slower(kind, sd):
    """Promise: 1e-3 for all four benchmarks, so 2.5e-4 for one; 400 comparisons are to show none."""
    shares, pairs = outcomes(kind, 0.0, sd=sd, num=400)

    assert 0 == shares.get(State.SLOWER, 0)
    assert shares[State.PASS] >= 0.99
    assert pairs < (6 if sd < 0.01 else 11)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("sd", [0.005, 0.02])
def test_calibration_ten_percent_are_caught(kind, sd):
    shares, pairs = outcomes(kind, 0.10, sd=sd, num=400)

    assert 0 == shares.get(State.PASS, 0)
    assert shares[State.SLOWER] >= 0.99
    assert pairs < (10 if sd < 0.01 and kind != "outliers" else 13)


@pytest.mark.parametrize("kind", NOISES)
def test_calibration_a_slowdown_by_the_limit_hardly_ever_passes(kind):
    shares, _ = outcomes(kind, 0.05, sd=0.01, num=1000)

    assert shares.get(State.PASS, 0) <= 0.01 + 3 * math.sqrt(0.01 / 1000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOISES)
def test_calibration_of_the_false_alarm_rate_at_what_is_tolerated(kind):
    """The worst unchanged-as-promised case: slower by all that is tolerated. Bonferroni leaves room."""
    shares, _ = outcomes(kind, RULE.margin * 0.05, sd=0.01, num=20_000)

    assert shares.get(State.SLOWER, 0) <= RULE.alpha / 4 + 3 * math.sqrt(RULE.alpha / 4 / 20_000)


def test_a_planted_rule_without_correction_would_cry_wolf():
    """The control of the calibration: at 4 % a look and without tolerance, the same noise raises alarms."""
    rng = np.random.default_rng(0)
    careless = Rule(num_benchmarks=1, alpha=0.49, margin=0.0, beta=1e-9, least_alarm=2)
    found = [verdict(rng.normal(0, 0.01, RULE.looks[-1]), careless)[0] for _ in range(200)]

    assert found.count(State.SLOWER) > 5


def test_even_drift_cancels_in_a_block():
    """A machine that becomes slower by a factor a sample: base 1, head 2, head 3, base 4."""
    times = [1.01**place for place in range(4)]
    blocks = [block((sample(times[0]), sample(times[3])), (sample(times[1]), sample(times[2])))]

    assert math.isclose(0, log_ratio(blocks, "wall"), abs_tol=1e-12)


def test_a_burst_in_a_few_blocks_moves_nothing():
    calm = block((sample(1.0), sample(1.0)), (sample(1.1), sample(1.1)))
    struck = block((sample(1.0), sample(1.0)), (sample(7.0), sample(9.0)))

    assert math.isclose(math.log(1.1), log_ratio([calm] * 5 + [struck] * 3, "cpu"))


@pytest.mark.parametrize(("least_alarm", "expected"), [(9, 0.0), (2, 2e-3)], ids=["as-it-is", "planted"])
def test_calibration_processes_of_two_kinds(least_alarm, expected):
    """Half of the processes are slower by 10 %, whatever code they run: four pairs in a row say so in 0.4 %."""
    rng = np.random.default_rng(0)
    rule = Rule(num_benchmarks=1, least_alarm=least_alarm)
    found = [verdict(0.1 * (rng.integers(0, 2, 30) - rng.integers(0, 2, 30)), rule)[0] for _ in range(2000)]
    share = found.count(State.SLOWER) / len(found)

    assert share <= 1e-3 if expected == 0 else share >= expected


def test_what_only_some_calls_do_is_seen_by_all_calls():
    """One block in five takes ten times as long: the median is 1, all calls together take 2.8 times as long."""
    calm, heavy = (block((sample(1.0),) * 2, (sample(seconds),) * 2) for seconds in (1.0, 10.0))
    blocks = [calm, calm, heavy, calm, calm]

    assert 0 == log_ratio(blocks, "cpu")
    assert math.isclose(math.log(2.8), log_ratio_of_all(blocks, "cpu"))


@pytest.mark.parametrize(
    ("all_calls", "expected"),
    [
        ([0.0, 0.01, -0.01] * 3, State.PASS),
        ([0.9, 1.0, 1.1] * 3, State.SLOWER),
        ([0.0, 0.5, 0.0] * 3, None),
        ([-0.5, 0.5, 0.0] * 3, State.PASS),
    ],
    ids=["same", "slower", "open", "bursts"],
)
def test_a_calm_usual_call_passes_only_where_all_calls_do_not_speak_against_it(all_calls, expected):
    usual, other = (decide(values, RULE, limit=0.05) for values in ([0.001, -0.001, 0.0] * 3, all_calls))

    assert State.PASS == usual.state
    assert expected == both(usual, other, limit=0.05).state


QUIET = sample(1.0)


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (sample(1.0), "cpu"),
        (sample(1.6, cpu=1.0), "cpu"),
        (sample(1.0, cpu=0.9, waits=4), "wall"),
        (sample(1.0, cpu=1.9, others=0.9), "wall"),
        (sample(1.0, device=True), "wall"),
        (sample(1.0, cpu=0.0), "wall"),
    ],
    ids=["one-thread", "disturbed", "waits", "threads", "cuda", "clock-stands"],
)
@pytest.mark.parametrize("side", ["base", "head"])
def test_the_clock_is_the_same_for_both_sides(odd, expected, side):
    sides = {"base": (QUIET, QUIET), "head": (QUIET, QUIET), side: (odd, odd)}

    assert expected == clock_of([block(**sides)])


def test_a_wait_is_seen_through_one_lucky_switch():
    """A thread that was pushed aside in some samples and gave up the processor in none does not wait."""
    disturbed = (sample(2.0, cpu=1.0), sample(1.0))

    assert "cpu" == clock_of([block(disturbed, disturbed)])


@pytest.mark.parametrize(("num_waiting", "expected"), [(1, "cpu"), (4, "wall")])
def test_a_function_that_waits_now_and_then_waits(num_waiting, expected):
    """CPU time is blind to a pause in every third call; one wait in twenty samples may be the system's."""
    calm, pausing = block((QUIET,) * 2, (QUIET,) * 2), block((QUIET,) * 2, (QUIET, sample(3.0, cpu=1.0, waits=1)))

    assert expected == clock_of([*[calm] * (8 - num_waiting), *[pausing] * num_waiting])


MIB = 1 << 20


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        (64 * MIB, 64 * MIB, State.PASS),
        (64 * MIB, 65 * MIB, State.PASS),
        (64 * MIB, 66 * MIB, State.FATTER),
        (66 * MIB, 64 * MIB, State.LEANER),
        (1000, 900_000, State.PASS),
        (None, 64 * MIB, None),
        (64 * MIB, None, None),
    ],
)
def test_memory_needs_both_a_share_and_a_size(base, head, expected):
    assert expected == fatter(base, head, limit=0.02, least_bytes=MIB)
