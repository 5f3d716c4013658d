"""The levels of the gate in their order, and that no verdict is reached by a road that is too short."""

import dataclasses
import json

import numpy as np
import pytest

import rectest.baseline.levels as levels
from fixtures.baselines import PROVENANCE, make_environment, make_record, make_records
from fixtures.gate import ELSEWHERE, Recorded, chaotic, other_batches, recorded, rounded, scaled
from rectest.baseline.build import extend_baseline
from rectest.baseline.levels import GateOutcome, Level, judge_gate, merged
from rectest.baseline.paired import PairingState
from rectest.baseline.text import parse_baseline, render_baseline
from rectest.checks.result import CheckResult, Verdict, any_red


@pytest.fixture(scope="module")
def whole() -> Recorded:
    return recorded()


def said(outcome: GateOutcome) -> tuple[str, str]:
    return str(outcome.level), str(outcome.verdict)


def named(outcome: GateOutcome, check: str) -> CheckResult:
    return next(result for result in outcome.results if result.check == f"baseline/{check}")


def until_decided(whole: Recorded, make, **settings) -> tuple[int, GateOutcome]:
    """Runs until the gate stops, as the sequential loop trains them."""
    for num in range(1, 6):
        found = whole.judge(*(make(seed) for seed in range(num)), **settings)
        if not found.undecided:
            return num, found
    pytest.fail("undecided after the last run")


class TestOracles:
    def test_what_is_impossible_is_red_first(self, whole, monkeypatch):
        """Even where every bit is equal."""
        red = CheckResult(check="coherence/rows", subject="toy", verdict=Verdict.FAIL, figure="ndcg above recall")
        monkeypatch.setattr(levels, "coherence", lambda _: [red])
        found = whole.judge(make_record(0))

        assert said(found) == ("L0", "FAIL")
        assert "ndcg above recall" in found.results[0].figure
        assert found.results[1].check == "baseline/oracles/coherence/rows"

    def test_a_model_at_chance_is_chance(self, whole, monkeypatch):
        red = CheckResult(check="chance/hit@5", subject="toy", verdict=Verdict.CHANCE, figure="hit@5 0.05 is random")
        monkeypatch.setattr(levels, "above_chance", lambda _: [red])
        found = whole.judge(make_record(0))

        assert said(found) == ("L0", "CHANCE")
        assert "hit@5 0.05 is random" in found.results[0].figure

    def test_what_cannot_be_looked_at_here_is_left_to_checks_of_its_own(self, whole):
        """These records have no ranks of users; the oracles say NOT MEASURED, and the gate goes on."""
        assert any(result.verdict is Verdict.NOT_MEASURED for result in levels.above_chance(make_record(0)))
        assert said(whole.judge(make_record(0))) == ("L1", "PASS")

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_a_dead_value_decides_at_once(self, whole, value):
        found = whole.judge(make_record(0).with_arrays(**{"metric/test/recall@10": np.array([value])}))

        assert said(found) == ("L0", "FAIL")
        assert found.decision is None
        assert found.results[0].red

    @pytest.mark.parametrize(
        ("changes", "verdict", "words"),
        [
            ({"steps": 9}, "FAIL", "the settings changed: steps None -> 9"),
            ({"world": "blake2b:other"}, "FAIL", "the world changed"),
            ({"environment": make_environment(device="cuda", compute_capability="9.0")}, "UNCALIBRATED", "class"),
        ],
    )
    def test_runs_that_cannot_be_compared(self, whole, changes, verdict, words):
        found = whole.judge(make_record(0, **changes))

        assert said(found) == ("L0", verdict)
        assert words in found.results[0].figure

    @pytest.mark.parametrize(("repeatable", "expected"), [(False, ("L0", "FAIL")), (True, ("L1", "PASS"))])
    def test_an_evaluation_that_does_not_repeat_itself(self, whole, repeatable, expected):
        evaluation = {"drew": ["torch"], "changed_model": False, "count": 2, "repeatable": repeatable}
        record = make_record(0)
        record = dataclasses.replace(
            record, facts={**record.facts, "evaluation": evaluation, "globals_changed": {"anomaly": "on"}}
        )

        assert expected == said(whole.judge(record))

    def test_a_metric_that_vanished(self, whole):
        found = whole.judge(make_record(0).with_arrays(**{"metric/test/recall@10": None}))

        assert said(found) == ("L0", "NOT MEASURED")


class TestBitwise:
    def test_equal_bits_pass_after_one_run(self, whole):
        found = whole.judge(make_record(0))

        assert said(found) == ("L1", "PASS")
        assert not any_red(found.results)

    def test_equal_bits_of_several_seeds(self, whole):
        found = whole.judge(*make_records([0, 1, 2]))

        assert said(found) == ("L1", "PASS")
        assert named(found, "exact").figure == "3 seeds, all 8 digests equal"

    def test_a_seed_whose_bits_are_not_stored_goes_on(self, whole):
        found = whole.judge(make_record(7))

        assert said(found) == ("L2", "PASS")
        assert named(found, "exact").verdict is Verdict.UNCALIBRATED


class TestPaired:
    @pytest.mark.parametrize("num", [1, 2, 5])
    def test_within_rounding_passes_and_the_exact_lane_says_so(self, whole, num):
        found = whole.judge(*(rounded(seed) for seed in range(num)))

        assert said(found) == ("L2", "PASS")
        assert named(found, "exact").figure.endswith("; within rounding")
        assert not any_red(found.results)

    def test_one_chaotic_seed_asks_for_another(self, whole):
        found = whole.judge(chaotic(0))

        assert said(found) == ("L2", "UNDECIDED")
        assert found.undecided
        assert named(found, "paired").verdict is Verdict.UNDECIDED

    def test_one_chaotic_seed_among_others_is_rounding(self, whole):
        """Of 80 twins of real systems three lie beyond the limits that the others give."""
        num, found = until_decided(whole, lambda seed: chaotic(seed) if seed == 0 else rounded(seed))

        assert (num, *said(found)) == (2, "L2", "PASS")
        assert named(found, "paired").outside == "1 of 2 seeds"
        assert not any_red(found.results)

    def test_two_are_a_change(self, whole):
        num, found = until_decided(whole, chaotic)

        assert (num, *said(found)) == (2, "L3", "CHANGED")
        assert any_red(found.results)

    def test_a_drop_within_wide_rounding_is_not_passed_by_a_pair(self):
        """Planted fault: rounding that explains a drop which L3 promises to catch."""
        wide = recorded(rounding=0.05)
        num, found = until_decided(wide, lambda seed: scaled(make_record(seed), 0.88, only=("metric/",)))

        assert found.pairing.state is PairingState.WITHIN
        assert said(found) == ("L3", "FAIL")
        assert num >= 2

    def test_wide_rounding_of_clean_code_passes(self):
        """The control: L3 shows what the pairs cannot."""
        num, found = until_decided(recorded(rounding=0.05), rounded)

        assert (num <= 2, *said(found)) == (True, "L2", "PASS")


class TestUnpaired:
    def test_other_streams_of_the_same_quality_are_changed(self, whole):
        num, found = until_decided(whole, other_batches)

        assert (num, *said(found)) == (1, "L3", "CHANGED")
        assert named(found, "paired").verdict is Verdict.CHANGED

    def test_a_drop_fails_after_two_runs(self, whole):
        num, found = until_decided(whole, lambda seed: scaled(make_record(seed), 0.85, only=("metric/",)))

        assert (num, *said(found)) == (2, "L3", "FAIL")

    def test_a_rise_is_suspicious(self, whole):
        num, found = until_decided(whole, lambda seed: scaled(make_record(seed), 1.2, only=("metric/",)))

        assert (num, *said(found)) == (2, "L3", "SUSPICIOUS")

    def test_undecided_asks_for_another_seed_until_the_last(self, whole):
        drop = [scaled(make_record(seed), 0.945, only=("metric/",)) for seed in range(2)]
        found = whole.judge(drop[0])

        assert found.undecided
        assert found.results[0].red
        assert not whole.judge(*drop, max_runs=2).undecided

    def test_more_runs_than_promised_are_refused(self, whole):
        with pytest.raises(ValueError, match="stops at 2"):
            whole.judge(*make_records([0, 1, 2]), max_runs=2)

    def test_an_alarm_is_never_overruled(self, whole, monkeypatch):
        """Planted fault: pairs that claim to exclude everything."""
        monkeypatch.setattr(levels, "pairs_exclude", lambda *_, **__: True)
        wide = recorded(rounding=0.05)
        found = wide.judge(*(scaled(make_record(seed), 0.88, only=("metric/",)) for seed in (0, 1)))

        assert found.pairing.state is PairingState.WITHIN
        assert said(found) == ("L3", "FAIL")


class TestOtherEnvironments:
    def test_differences_are_never_called_a_change_of_the_code(self, whole):
        num, found = until_decided(whole, lambda seed: chaotic(seed, environment=ELSEWHERE))

        assert (num, *said(found)) == (1, "L3", "PASS")
        assert named(found, "paired").verdict is Verdict.UNCALIBRATED
        assert "which of code and environment did it is not known" in named(found, "paired").detail
        assert named(found, "exact").verdict is Verdict.UNCALIBRATED
        assert not any_red(found.results)

    def test_within_rounding_there_passes(self, whole):
        assert said(whole.judge(rounded(0, environment=ELSEWHERE))) == ("L2", "PASS")

    def test_a_drop_there_fails(self, whole):
        make = lambda seed: scaled(make_record(seed, environment=ELSEWHERE), 0.85)  # noqa: E731

        assert said(until_decided(whole, make)[1]) == ("L3", "FAIL")

    def test_stored_bits_of_another_environment_do_not_make_its_runs_the_pair(self, whole):
        """Its own bits changed, so a person decides; what the pair says is about two environments."""
        records = make_records(range(2), environment=ELSEWHERE)
        extended = extend_baseline(whole.baseline, records, reason="newer torch", provenance=PROVENANCE)
        both = dataclasses.replace(whole, baseline=extended)
        found = both.judge(chaotic(0, environment=ELSEWHERE))

        assert said(both.judge(make_record(0, environment=ELSEWHERE))) == ("L1", "PASS")
        assert said(found) == ("L3", "CHANGED")
        assert named(found, "paired").verdict is Verdict.UNCALIBRATED
        assert named(found, "exact").verdict is Verdict.CHANGED


class TestOlderBaselines:
    """A file that the first version wrote: late windows, no twins, no streams, no sidecar."""

    def test_l3_judges_without_twins(self):
        found = _first_schema().judge(make_record(99))

        assert said(found) == ("L3", "PASS")
        assert "no rounding twins" in named(found, "paired").figure

    def test_changed_bits_are_changed_because_nothing_shows_that_it_is_rounding(self):
        found = _first_schema().judge(rounded(0))

        assert said(found) == ("L3", "CHANGED")
        assert "whether that is rounding is not known" in found.results[0].figure

    def test_equal_bits_pass(self):
        assert said(_first_schema().judge(make_record(0))) == ("L1", "PASS")


def _first_schema() -> Recorded:
    plain = json.loads(render_baseline(recorded(twins=False).baseline))
    for key in ("streams", "sidecar", "declared", "history"):
        plain.pop(key, None)
    ensemble = {key: plain["ensemble"][key] for key in ("seeds", "fingerprint", "num_scored")}
    kept = {k: v for k, v in plain["ensemble"]["features"].items() if k.rpartition("/")[2] not in ("early", "mid")}
    plain |= {"schema": 1, "ensemble": {**ensemble, "features": kept}}
    return Recorded(baseline=parse_baseline(json.dumps(plain).encode(), path="toy.json"), sidecar=None)


class TestMerged:
    def result(self, verdict: Verdict, figure: str = "seed 0: equal") -> CheckResult:
        return CheckResult(check="baseline/exact", subject="toy", verdict=verdict, figure=figure)

    def test_the_first_red_one(self):
        results = [self.result(Verdict.PASS), self.result(Verdict.CHANGED, "a"), self.result(Verdict.CHANGED, "b")]

        assert merged(results) is results[1]

    def test_counts_what_was_compared(self):
        results = [self.result(Verdict.PASS), self.result(Verdict.UNCALIBRATED), self.result(Verdict.PASS)]

        assert merged(results).figure == "2 of 3 seeds are stored, equal"
        assert merged(results[:1]).figure == "1 seed, equal"
        assert merged(results[1:2]) is results[1]


def test_records_of_two_environments_are_refused(whole):
    with pytest.raises(ValueError, match=r"different environments.*torch differ"):
        judge_gate([make_record(0), make_record(1, environment=ELSEWHERE)], whole.baseline, whole.sidecar)


def test_the_level_is_a_short_name():
    assert [str(level) for level in Level] == ["L0", "L1", "L2", "L3"]
