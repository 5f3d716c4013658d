"""Acceptance rules on runs whose distribution is known: each alarms as often as theory says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_baseline, make_records
from rectest.baseline.judge import judge_sequential
from rectest.baseline.resample import runs_of
from rectest.baseline.rules import OURS, RULES, AcceptanceRule, Judgement, Rate, pooled, score
from rectest.baseline.sidecar import build_sidecar
from rectest.baseline.trials import Trial, declared_drop, trial_of
from rectest.checks.result import any_red
from rectest.checks.tolerance import binomial_limit, binomial_tail

RULE = {rule.name: rule for rule in RULES}
NEVER = AcceptanceRule(
    name="never",
    about="",
    judge=lambda trial: Judgement(red=np.zeros(len(trial.new), bool), runs=np.ones(len(trial.new), np.int64)),
)
FINAL = "test/recall@10"


def trial(stored, new, features=(FINAL,), curves=None) -> Trial:
    """Runs of one replicate ([n, F]) or of several ([R, n, F]); `curves` are pairs of stored and new ones."""
    stored, new = (np.asarray(values, np.float64) for values in (stored, new))
    if stored.ndim == 2:
        stored, new = stored[None], new[None]
    return Trial(
        name="toy",
        features=features,
        floors=np.full(len(features), 1e-6),
        stored=stored,
        new=new,
        stored_curves={name: np.asarray(old, np.float64)[None] for name, (old, _) in (curves or {}).items()},
        new_curves={name: np.asarray(new, np.float64)[None] for name, (_, new) in (curves or {}).items()},
    )


def normal(num: int, *, seed: int = 0, num_stored: int = 16, num_new: int = 5, sd: float = 0.02) -> Trial:
    """One feature whose raw values are normal."""
    values = 1 + sd * np.random.default_rng(seed).standard_normal((num, num_stored + num_new, 1))
    return trial(values[:, :num_stored], values[:, num_stored:])


def within(expected: float, hits: int, num: int) -> bool:
    """Whether a count is what this rate gives, at 1e-4 on either side."""
    return binomial_tail(hits, num, expected) > 1e-4 and binomial_tail(num - hits, num, 1 - expected) > 1e-4


class TestOurs:
    def test_it_is_the_judge_of_real_runs(self):
        """Clean candidates and damaged ones through the whole judge, run by run, and through the table's rule."""
        baseline = make_baseline()
        runs = runs_of(baseline, max_runs=5)
        clean = trial_of(baseline, None, np.random.default_rng(3), num_resamples=25)
        for each in (clean, clean.worse(0.05), clean.worse(-0.10)):
            found = OURS.judge(each)
            for place in range(25):
                stored = runs.stored(np.log(each.stored[place]))
                for num in range(1, 6):
                    looked = judge_sequential(runs.new(np.log(each.new[place, :num])), stored)
                    if not looked.undecided:
                        break

                assert any_red(looked.results) == found.red[place]
                assert num == found.runs[place]

            if each is not clean:
                assert found.red.any()

    def test_false_alarms_are_within_the_declared_rate(self):
        found = OURS.judge(normal(3000))

        assert found.red.sum() < binomial_limit(3000, 1e-3)
        assert 1.0 < found.runs.mean() < 1.5

    def test_a_drop_far_beyond_the_noise_takes_two_runs(self):
        found = OURS.judge(normal(20).worse(0.3))

        assert found.red.all()
        assert (found.runs == 2).all()

    def test_a_rise_is_red_too(self):
        assert OURS.judge(normal(20).worse(-0.3)).red.all()


class TestSigmas:
    @pytest.mark.parametrize("num_stored", [5, 16])
    def test_false_alarms_of_one_normal_feature_are_students(self, num_stored):
        from scipy.stats import t

        exact = 2 * t.sf(3 / np.sqrt(1 + 1 / num_stored), num_stored - 1)
        red = RULE["3 sigma"].judge(normal(20_000, num_stored=num_stored)).red

        assert within(exact, int(red.sum()), red.size)
        assert exact > 0.0027, "of the three sigma that people have in mind"

    def test_the_count_would_notice_another_limit(self):
        from scipy.stats import norm

        red = RULE["3 sigma"].judge(normal(20_000)).red

        assert not within(2 * norm.sf(3), int(red.sum()), red.size)

    STORED = np.array([[0.9], [1.0], [1.1]])

    @pytest.mark.parametrize(
        ("new", "red", "runs"),
        [
            ([1.0, 9.0, 9.0], False, 1),
            ([9.0, 1.0, 9.0], False, 2),
            ([0.1, 9.0, 1.29], False, 3),
            ([0.1, 9.0, 1.31], True, 3),
        ],
    )
    def test_three_tries_stop_at_the_first_green(self, new, red, runs):
        found = RULE["3 sigma, 3 tries"].judge(trial(self.STORED, [[value] for value in new]))

        assert [red] == found.red.tolist()
        assert [runs] == found.runs.tolist()

    def test_one_of_several_features_is_enough(self):
        stored = np.column_stack([[0.9, 1.0, 1.1], [0.9, 1.0, 1.1]])
        found = RULE["3 sigma"].judge(trial(stored, [[1.0, 0.69]], (FINAL, "loss/late")))

        assert found.red.all()


class TestWelch:
    def test_it_is_the_test_of_the_text_book(self):
        from scipy.stats import ttest_ind

        many = normal(300, seed=1, sd=0.05).worse(0.08)
        p = ttest_ind(many.stored[..., 0], many.new[:, :3, 0], axis=1, equal_var=False).pvalue
        found = RULE["Welch t, 3 runs"].judge(many)

        np.testing.assert_array_equal(p < 1e-3, found.red)
        assert 0 < found.red.sum() < 300
        assert (found.runs == 3).all()

    def test_with_three_runs_it_alarms_more_often_than_its_level(self):
        red = RULE["Welch t, 3 runs"].judge(normal(30_000)).red

        assert red.sum() > binomial_limit(30_000, 2e-3)

    def test_its_level_is_shared_among_the_features(self):
        one = normal(300, seed=1, sd=0.05).worse(0.08)
        dull = np.broadcast_to(np.linspace(0.9, 1.1, 21)[None, :, None], (300, 21, 1))
        two = trial(
            np.concatenate([one.stored, dull[:, :16]], -1),
            np.concatenate([one.new, np.ones((300, 5, 1))], -1),
            (FINAL, "loss/late"),
        )
        rule = RULE["Welch t, 3 runs"]

        assert rule.judge(two).red.sum() < rule.judge(one).red.sum()

    @pytest.mark.parametrize(("value", "red"), [(1.0, False), (1.001, True)])
    def test_runs_without_any_spread(self, value, red):
        found = RULE["Welch t, 3 runs"].judge(trial(np.ones((16, 1)), np.full((5, 1), value)))

        assert [red] == found.red.tolist()


class TestBands:
    STORED = np.ones((16, 6))

    def red(self, rule: str, *, curve=(1.0,) * 6, final: float = 1.0) -> bool:
        judged = RULE[rule].judge(
            trial(np.ones((16, 1)), [[final]], curves={"valid/recall@10": (self.STORED, [list(curve)])})
        )
        return bool(judged.red[0])

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize(("place", "normal_width", "problem_width"), [(0, 30, 50), (2, 10, 20), (5, 5, 10)])
    def test_each_third_has_its_width(self, place, normal_width, problem_width, sign):
        for rule, width in (("report 000 normal", normal_width), ("report 000 problem", problem_width)):
            curve = np.ones(6)
            curve[place] += sign * (width - 0.1) / 100
            assert not self.red(rule, curve=curve)

            curve[place] += sign * 0.2 / 100
            assert self.red(rule, curve=curve)

    def test_final_values_are_late_ones(self):
        assert not self.red("report 000 normal", final=0.951)
        assert self.red("report 000 normal", final=0.949)

    def test_without_curves_there_is_nothing_to_look_at(self):
        assert RULE["report 000 normal"].judge(normal(3)) is None


class TestConstants:
    @pytest.mark.parametrize(("new", "red"), [(0.1902, False), (0.1898, True), (0.4, False)])
    def test_five_percent_below_the_mean(self, new, red):
        found = RULE["5 % below mean"].judge(trial([[0.19], [0.21]], [[new]]))

        assert [red] == found.red.tolist()

    def test_five_percent_of_a_rank_are_above_the_mean(self):
        rule = RULE["5 % below mean"]

        assert rule.judge(trial([[10], [10]], [[10.6]], ("test/mean_rank",))).red.all()
        assert not rule.judge(trial([[10], [10]], [[5.0]], ("test/mean_rank",))).red.any()

    def test_a_constant_passes_a_metric_that_is_zero(self):
        found = RULE["abs=0.05"].judge(trial([[0.04], [0.05]], [[0.0]]))

        assert not found.red.any()

    @pytest.mark.parametrize(("new", "red"), [(0.249, False), (0.251, True), (0.149, True)])
    def test_a_constant_counts_in_both_directions(self, new, red):
        assert [red] == RULE["abs=0.05"].judge(trial([[0.2], [0.2]], [[new]])).red.tolist()

    @pytest.mark.parametrize("name", ["5 % below mean", "abs=0.05"])
    def test_without_final_values_there_is_nothing_to_look_at(self, name):
        assert RULE[name].judge(trial([[1.0], [1.0]], [[1.0]], ("loss/late",))) is None


class TestScore:
    def test_a_rule_that_never_alarms_catches_nothing(self):
        (found,) = score(normal(50), {"20 %": 0.2}, rules=[NEVER])

        assert 0 == found.false_alarms.share == found.caught["20 %"].share
        assert 1.0 == found.runs

    def test_a_rule_that_always_alarms_catches_everything_and_more(self):
        always = AcceptanceRule(name="always", about="", judge=partial(_with, red=True))
        (found,) = score(normal(50), {"20 %": 0.2}, rules=[always])

        assert 1 == found.false_alarms.share == found.caught["20 %"].share

    def test_on_a_recorded_baseline(self):
        """Ours is within its rate and keeps its promise; the constant of a well-known suite sees none of it."""
        baseline = make_baseline()
        sidecar = build_sidecar(make_records(range(16)))
        drawn = trial_of(baseline, sidecar, np.random.default_rng(0), num_resamples=600)
        found = {
            each.rule: each
            for each in score(drawn, {"declared": declared_drop(baseline)}, num_detections=200, rules=RULES)
        }

        assert set(RULE) == set(found)
        assert found["this gate"].false_alarms.hits < binomial_limit(600, 1e-3)
        assert found["this gate"].caught["declared"].share > 0.9
        assert 600 == found["this gate"].false_alarms.num
        assert 200 == found["this gate"].caught["declared"].num
        assert found["this gate"].runs < 1.5
        assert 0 == found["abs=0.05"].caught["declared"].hits
        assert found["3 sigma"].false_alarms.share > 0.01

    def test_rules_that_cannot_look_are_left_out(self):
        found = score(normal(20), {"20 %": 0.2}, rules=RULES)

        assert {"report 000 normal", "report 000 problem"} == set(RULE) - {each.rule for each in found}

    def test_all_rules_judge_the_same_runs(self):
        seen = []
        spies = [AcceptanceRule(name=str(i), about="", judge=partial(_with, seen=seen)) for i in range(3)]
        score(normal(5), {}, rules=spies)

        assert 3 == len(seen)
        assert seen[0] is seen[1] is seen[2]

    def test_pooled_scores_are_weighed_by_their_runs(self):
        first = score(normal(100, sd=1e-4), {"20 %": 0.2}, num_detections=10, rules=[OURS, NEVER])
        second = score(normal(300, sd=0.02), {"20 %": 0.2}, num_detections=30, rules=[OURS])
        ours, never = pooled([*first, *second], "both")

        assert 400 == ours.false_alarms.num
        assert 40 == ours.caught["20 %"].hits == ours.caught["20 %"].num
        assert pytest.approx((100 * first[0].runs + 300 * second[0].runs) / 400) == ours.runs
        assert (100, "both") == (never.false_alarms.num, never.name)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1))
def test_the_interval_is_the_exact_binomial_one(num, share):
    from scipy.stats import binomtest

    hits = round(num * share)
    expected = binomtest(hits, num).proportion_ci(0.95, method="exact")

    np.testing.assert_allclose((expected.low, expected.high), Rate(hits=hits, num=num).interval(), atol=1e-9)


def _with(trial: Trial, *, red: bool = False, seen: list[Trial] | None = None) -> Judgement:
    if seen is not None:
        seen.append(trial)
    return Judgement(red=np.full(len(trial.new), red), runs=np.ones(len(trial.new), np.int64))
