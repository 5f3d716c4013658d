"""What the gate says: each verdict in its own words, and with the numbers of the decision."""

import dataclasses

import pytest

import rectest.baseline.levels as levels
from fixtures.baselines import make_record
from fixtures.gate import ELSEWHERE, Recorded, chaotic, other_batches, recorded, rounded, scaled
from rectest.baseline.ensemble import percent, relative_change
from rectest.baseline.looks import caught_drop, promised_drop
from rectest.baseline.messages import promise, within_rounding
from rectest.baseline.pooling import MIN_SYSTEMS, noise_of
from rectest.baseline.power import t_quantile
from rectest.checks.chance import against_chance
from rectest.checks.result import CheckResult, Verdict, render

MAIN = "test/recall@10"


@pytest.fixture(scope="module")
def whole() -> Recorded:
    return recorded()


def metrics(seed: int, factor: float):
    return scaled(make_record(seed), factor, only=("metric/",))


def head(outcome) -> CheckResult:
    assert outcome.results[0].check == "baseline/gate"
    assert outcome.results[0].verdict is outcome.verdict
    return outcome.results[0]


def caught(whole: Recorded, outcome) -> str:
    place = list(whole.baseline.ensemble.features).index(MAIN)
    return f"{100 * caught_drop(MAIN, outcome.decision.drops[place]):.2g} %"


class TestPass:
    def test_l1_l2_and_l3(self, whole):
        equal, rounding, fresh = whole.judge(make_record(0)), whole.judge(rounded(0)), whole.judge(make_record(99))

        assert head(equal).figure.startswith("L1, 1 run: every stored bit is equal; worst feature ")
        assert head(rounding).figure.startswith("L2, 1 run: the first 30 losses use 1e-06 % of what rounding explains;")
        assert head(fresh).figure.startswith("L3, 1 run: worst feature ")

    def test_the_numbers_are_those_of_the_decision(self, whole):
        outcome = whole.judge(make_record(99))
        look = min(outcome.decision.drops, key=lambda drop: drop.shift / drop.limit)
        name = list(whole.baseline.ensemble.features)[look.feature]
        worst, limit = (percent(relative_change(name, shift)) for shift in (look.shift, -look.limit))

        assert head(outcome).figure == f"L3, 1 run: worst feature {name} {worst} (limit {limit})"
        assert head(outcome).detail == (
            f"a change for the worse of {caught(whole, outcome)} in {MAIN} would have been caught with 90 % "
            "probability; false-alarm rate 0.1 %"
        )

    def test_the_promise_is_that_of_the_decision(self, whole):
        assert promise(whole.baseline) == head(whole.judge(make_record(99))).detail

    def test_a_nightly_run_states_its_own_rate(self, whole):
        outcome = whole.judge(make_record(99), alpha_scale=0.1)

        assert "false-alarm rate 0.01 %" in head(outcome).detail
        assert f"worse of {caught(whole, outcome)} in {MAIN}" in head(outcome).detail
        assert caught(whole, outcome) != caught(whole, whole.judge(make_record(99)))

    def test_a_chaotic_seed_is_named(self, whole):
        outcome = whole.judge(chaotic(0), rounded(1))

        assert head(outcome).figure.startswith("L2, 2 runs: 1 of 2 seeds is beyond rounding, first at step 3: loss ")


class TestUndecided:
    def test_asks_for_the_next_seed(self, whole):
        outcome = whole.judge(metrics(0, 0.9), max_runs=3)
        look = outcome.decision.deciding
        name = list(whole.baseline.ensemble.features)[look.feature]
        change = percent(relative_change(name, look.shift))

        assert head(outcome).figure == f"after 1 run: {name} {change} ± {100 * look.error:.2g} %"
        assert head(outcome).advice == "train seed 1 (at most 3 runs)"

    def test_one_chaotic_seed(self, whole):
        outcome = whole.judge(chaotic(1))

        assert head(outcome).figure.startswith("after 1 run: seed 1 differs beyond rounding (first at step 3: loss ")
        assert head(outcome).advice == "train seed 2 (at most 5 runs)"


class TestAlarms:
    def test_fail(self, whole):
        outcome = whole.judge(metrics(0, 0.85), metrics(1, 0.85))
        look = outcome.decision.deciding
        name = list(whole.baseline.ensemble.features)[look.feature]
        half = t_quantile(0.025, look.df) * look.error
        low, high = (percent(relative_change(name, look.shift + way * half)) for way in (-1, 1))
        result = head(outcome)

        assert outcome.verdict is Verdict.FAIL
        assert result.figure == f"{name} {percent(relative_change(name, look.shift))} [{low}, {high}] after 2 runs"
        assert result.outside == f"p = {look.p:.1g}, alarm below {look.level:.1g}"
        assert result.worst == "2 of 2 seeds worse than the stored mean"
        assert result.detail.startswith(
            f"not noise: run-to-run sd is {100 * look.sd:.2g} % over 16 stored seeds; also "
        )
        assert "rectest baseline accept CANDIDATES --reason TEXT" in result.advice
        assert len(render(result).splitlines()) == 5

    def test_no_more_than_three_others_are_named(self, whole):
        detail = head(whole.judge(scaled(make_record(0), 0.8), scaled(make_record(1), 0.8))).detail

        assert len(detail.partition("; also ")[2].split(", ")) == 3

    def test_suspicious(self, whole):
        outcome = whole.judge(metrics(0, 1.2), metrics(1, 1.2))
        result = head(outcome)

        assert outcome.verdict is Verdict.SUSPICIOUS
        assert " +2" in result.figure
        assert "look for a leak or a changed evaluation" in result.detail
        assert result.worst == "2 of 2 seeds better than the stored mean"

    def test_a_loss_that_grew_is_worse(self, whole):
        worse = [scaled(make_record(seed), 1.1, only=("loss/",)) for seed in (0, 1)]
        result = head(whole.judge(*worse))

        assert result.figure.startswith("loss/")
        assert " +1" in result.figure
        assert result.worst == "2 of 2 seeds worse than the stored mean"


class TestChanged:
    def test_beyond_rounding(self, whole):
        outcome = whole.judge(chaotic(0), chaotic(1))
        result = head(outcome)

        assert result.figure == f"numbers differ from the same seed beyond rounding ({outcome.pairing.figure})"
        assert outcome.pairing.figure.startswith("first at step 3: loss ")
        assert result.detail == (f"{MAIN} is not worse by more than the gate promises to see, {caught(whole, outcome)}")
        assert "--reason TEXT" in result.advice

    def test_other_streams(self, whole):
        assert "beyond rounding (the batches of the first 50 steps" in head(whole.judge(other_batches(0))).figure

    def test_rounding_that_nobody_measured(self):
        result = head(recorded(twins=False).judge(rounded(0)))

        assert result.figure.startswith("numbers differ from the same seed (seed 0: losses is the first to differ")
        assert result.figure.endswith(", and whether that is rounding is not known")


class TestOracles:
    def test_chance(self, whole, monkeypatch):
        """The words of the check itself: 51 of 938 users among 100 candidates, as in report 001."""
        found = [
            against_chance(name, value, num_candidates=[100] * 938, num_relevant=1, subject="toy test")
            for name, value in (("hit@5", 51 / 938), ("mrr", 0.0542))
        ]
        monkeypatch.setattr(levels, "above_chance", lambda _: found)
        result = head(whole.judge(make_record(0)))

        assert result.verdict is Verdict.CHANCE
        assert result.figure == ("L0, 1 run: hit@5 0.05437 is what random ranking gives (0.05, p = 0.29) (and 1 more)")
        assert "has learned nothing" in result.detail

    def test_the_worst_verdict_is_the_one_that_is_told(self, whole, monkeypatch):
        """Planted fault: a headline FAIL with the words of the CHANCE beside it."""
        found = [
            CheckResult(check="chance/a", subject="toy", verdict=Verdict.CHANCE, figure="at chance"),
            CheckResult(check="chance/b", subject="toy", verdict=Verdict.FAIL, figure="below chance"),
        ]
        monkeypatch.setattr(levels, "above_chance", lambda _: found)

        assert head(whole.judge(make_record(0))).figure == "L0, 1 run: below chance"

    def test_one_fact_that_both_lanes_found_is_one(self, whole):
        assert head(whole.judge(make_record(0, steps=9))).figure == "L0, 1 run: the settings changed: steps None -> 9"


@pytest.mark.parametrize("num_seeds", [5, 7, 8, 16])
def test_few_seeds_are_weak_and_said_to_be(num_seeds):
    few = recorded(num_seeds)
    detail = head(few.judge(make_record(99))).detail

    assert ("WEAK" in detail) is (num_seeds < 8)
    if num_seeds < 8:
        drop = f"{100 * promised_drop(few.baseline, MAIN):.2g} %"
        assert f"WEAK: only {num_seeds} baseline seeds" in detail
        assert f"promise to catch is {drop}; record 16: rectest baseline record toy --seeds 16 --reason TEXT" in detail


def test_the_command_for_more_seeds_names_the_world():
    few = recorded(5)
    elsewhere = dataclasses.replace(few, baseline=few.baseline.model_copy(update={"world": "small"}))
    run = make_record(99, world="blake2b:5eed")
    run = dataclasses.replace(run, spec=run.spec.with_(world="small"))

    assert "rectest baseline record toy --world small --seeds 16" in head(elsewhere.judge(run)).detail


def test_pooled_noise_is_said_and_is_in_the_promise():
    few = recorded(5)
    others = [recorded(5, system=f"other{place}", noise=place + 1).baseline for place in range(MIN_SYSTEMS - 1)]
    noise = noise_of(few.baseline, others)
    own, pooled = few.judge(make_record(99)), few.judge(make_record(99), noise=noise)

    assert "noise is pooled over 8 systems" in head(pooled).detail
    assert "pooled" not in head(own).detail
    assert f"{100 * promised_drop(few.baseline, MAIN, noise=noise):.2g} %; record 16" in head(pooled).detail
    assert promised_drop(few.baseline, MAIN, noise=noise) < promised_drop(few.baseline, MAIN)


class TestPairedResult:
    def paired(self, outcome) -> CheckResult:
        return next(result for result in outcome.results if result.check == "baseline/paired")

    def test_in_the_same_environment_and_in_another(self, whole):
        here = self.paired(whole.judge(other_batches(0)))
        there = self.paired(whole.judge(other_batches(0, environment=ELSEWHERE)))
        numbers = self.paired(whole.judge(chaotic(0, environment=ELSEWHERE)))

        assert (here.verdict, there.verdict) == (Verdict.CHANGED, Verdict.UNCALIBRATED)
        assert "in the same environment computes something else" in here.detail
        assert there.detail.startswith("random streams differ, and so does the environment")
        assert numbers.detail.startswith("numbers differ beyond rounding, and so does the environment")
        assert "rectest attribute" in there.advice

    def test_another_pair_that_is_missing_does_not_confirm_anything(self, whole):
        result = self.paired(whole.judge(chaotic(0), make_record(99)))

        assert result.verdict is Verdict.CHANGED
        assert result.figure.startswith("seed 0: first at step 3")

    def test_one_other_stream_among_pairs_within_rounding_is_told(self, whole):
        result = self.paired(whole.judge(rounded(0), other_batches(1)))

        assert result.verdict is Verdict.CHANGED
        assert result.figure.startswith("seed 1: the batches")


def test_only_a_change_becomes_rounding():
    changed = CheckResult(check="c", subject="s", verdict=Verdict.CHANGED, figure="f", outside="2", advice="look")
    failed = dataclasses.replace(changed, verdict=Verdict.FAIL)

    assert within_rounding(failed) is failed
    assert (within_rounding(changed).verdict, within_rounding(changed).advice) == (Verdict.PASS, "")
