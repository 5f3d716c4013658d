"""Runs that are broken, shorter, or of other users, and that no level may call green by a short cut."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.baselines import PROVENANCE, make_record, make_whole_baseline
from fixtures.gate import ELSEWHERE, Recorded, recorded, rounded
from rectest.baseline.build import build_baseline
from rectest.baseline.levels import judge_gate
from rectest.baseline.paired import PairingState, judge_pair
from rectest.checks.result import Verdict
from rectest.record import RunRecord


@pytest.fixture(scope="module")
def whole() -> Recorded:
    return recorded()


def told(record: RunRecord, **facts) -> RunRecord:
    return RunRecord(
        spec=record.spec, environment=record.environment, arrays=record.arrays, facts={**record.facts, **facts}
    )


def scoring(record: RunRecord, num_scored: int | None) -> RunRecord:
    """The same numbers as means over other users."""
    splits = {} if num_scored is None else {split: {"num_scored": num_scored} for split in ("valid", "test")}
    return told(record, protocol=splits)


def cut(record: RunRecord, num_steps: int) -> RunRecord:
    """A run that ended earlier, whose first steps are those that are stored."""
    return record.with_arrays(**{"loss/total": record["loss/total"][:-num_steps]})


class TestUsers:
    @pytest.mark.parametrize("num_scored", [999, 500, None])
    def test_another_environment_is_no_excuse_for_fewer(self, whole, num_scored):
        found = whole.judge(scoring(make_record(0, environment=ELSEWHERE), num_scored))

        assert found.verdict is Verdict.CHANGED
        assert found.pairing.state is PairingState.OTHER_PROTOCOL
        assert "another protocol than when stored" in found.results[0].figure

    def test_nor_are_fresh_seeds_or_a_baseline_without_twins(self, whole):
        fresh = [scoring(make_record(seed), 500) for seed in (100, 101)]
        bare = recorded(twins=False)

        assert whole.judge(*fresh).verdict is Verdict.CHANGED
        assert bare.judge(scoring(make_record(0, environment=ELSEWHERE), 500)).verdict is Verdict.CHANGED

    @pytest.mark.parametrize("num_scored", [1000, 1200])
    def test_as_many_or_more_are_fine(self, whole, num_scored):
        assert whole.judge(scoring(make_record(0, environment=ELSEWHERE), num_scored)).verdict is Verdict.PASS

    def test_a_fresh_seed_may_draw_a_few_users_less(self, whole):
        assert whole.judge(scoring(make_record(100), 950)).verdict is Verdict.PASS


class TestRecorded:
    @pytest.mark.parametrize(
        ("key", "words"),
        [("ranks/test/expected", "ranks"), ("table/item", "tables"), ("metric/test/recall@10", "test/recall@10")],
    )
    def test_another_environment_is_no_excuse_for_less(self, whole, key, words):
        """Without ranks the oracles of L0 could say nothing, and nobody would notice."""
        found = whole.judge(make_record(0, environment=ELSEWHERE).with_arrays(**{key: None}))

        assert found.verdict in (Verdict.CHANGED, Verdict.NOT_MEASURED)
        assert words in found.results[0].figure

    def test_more_is_fine(self, whole):
        record = make_record(0, environment=ELSEWHERE)

        assert whole.judge(record.with_arrays(**{"loss/aux": np.ones(30)})).verdict is Verdict.PASS


class TestReplay:
    """The same run under several seeds is one draw, whatever it is called."""

    def test_it_is_no_second_opinion(self, whole):
        first = make_record(3, environment=ELSEWHERE)
        runs = [replace(first, spec=first.spec.with_(seed=seed)) for seed in range(2)]
        found = whole.judge(*runs)

        assert (str(found.level), found.verdict) == ("L0", Verdict.NOT_MEASURED)
        assert "seeds 0 and 1 gave the same numbers to the last bit" in found.results[0].figure
        assert whole.judge(*(make_record(seed, environment=ELSEWHERE) for seed in range(2))).verdict is Verdict.PASS

    def test_a_training_without_randomness_may_repeat_itself(self):
        one = make_record(0)
        runs = [replace(one, spec=one.spec.with_(seed=seed)) for seed in range(8)]
        baseline = build_baseline(runs, reason="no random numbers", provenance=PROVENANCE)

        assert judge_gate(runs[:2], baseline).verdict is Verdict.PASS


class TestFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("key", ["loss/aux", "grad/item.weight", "table/item", "table_init/item"])
    @pytest.mark.parametrize("environment", [None, ELSEWHERE])
    def test_what_is_not_gated_must_be_finite_too(self, whole, key, value, environment):
        found = whole.judge(make_record(0, environment=environment).with_arrays(**{key: np.array([[1.0, value]])}))

        assert (str(found.level), found.verdict) == ("L0", Verdict.FAIL)
        assert f"{key} of seed 0 holds values that are not finite" in found.results[0].figure

    def test_users_without_a_relevant_item_may_have_none(self, whole):
        hits = make_record(0)["users/test/recall@10"].copy()
        hits[0, :5] = np.nan

        assert whole.judge(make_record(0).with_arrays(**{"users/test/recall@10": hits})).verdict is Verdict.PASS


class TestLength:
    def test_fewer_steps_are_no_rounding_where_nothing_stops_early(self):
        baseline, sidecar = make_whole_baseline(rounding=0.5)
        shorter = cut(rounded(0), 1)
        fixed = told(shorter, early_stopping={"patience": None})
        stopping = told(shorter, early_stopping={"patience": 2})

        found = judge_pair(fixed, baseline, sidecar)

        assert (found.state, found.figure) == (
            PairingState.OTHER_PROTOCOL,
            "29 steps were trained, stored 30, and nothing stops early",
        )
        assert "steps were trained" not in judge_pair(stopping, baseline, sidecar).figure
        clean = told(rounded(0), early_stopping={"patience": None})
        assert judge_pair(clean, baseline, sidecar).state is PairingState.WITHIN

    def test_nor_are_fewer_evaluations_in_any_environment(self, whole):
        record = told(make_record(0, environment=ELSEWHERE), early_stopping={"patience": None})
        fewer = record.with_arrays(**{key: record[key][1:] for key in ("eval/steps", "metric/valid/recall@10")})
        found = judge_pair(fewer, whole.baseline, whole.sidecar)

        assert found.figure == "5 evaluations were made, stored 6, and nothing stops early"
        assert whole.judge(fewer).results[1].verdict is not Verdict.PASS
        assert whole.judge(record).verdict is Verdict.PASS

    def test_ids_are_never_rounded_however_long_the_run_is(self, whole):
        moved = cut(make_record(0), 1).with_arrays(**{"tape/id_map": np.full((1, 2), 9, np.uint64)})

        assert "the stored bits of id_map" in judge_pair(moved, whole.baseline, whole.sidecar).figure


class TestTables:
    def test_a_table_that_alone_is_another_is_no_rounding(self, whole):
        """Zeroed, or overwritten after the last evaluation: no loss and no metric shows it."""
        found = whole.judge(make_record(0).with_arrays(**{"table/item": np.zeros((5, 2), np.float32)}))

        assert found.verdict is Verdict.CHANGED
        assert "the tables are others, although every other stored bit" in found.results[0].figure

    def test_tables_that_differ_together_with_the_losses_are_rounding(self, whole):
        table = make_record(0)["table/item"] * np.float32(1 + 1e-6)
        found = judge_gate([rounded(0).with_arrays(**{"table/item": table})], whole.baseline, whole.sidecar)

        assert (str(found.level), found.verdict) == ("L2", Verdict.PASS)
