import numpy as np
import pytest

from fixtures.baselines import PROVENANCE, make_baseline, make_environment, make_record, make_records
from rectest.baseline.build import extend_baseline
from rectest.baseline.judge import judge_exact, judge_sequential, world_digest
from rectest.baseline.schema import Baseline
from rectest.checks.result import Verdict


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return make_baseline()


class TestExact:
    def test_the_same_bits_pass(self, baseline):
        (result,) = judge_exact(make_record(3), baseline)

        assert result.verdict is Verdict.PASS
        assert result.figure == "seed 3: all 8 digests equal"

    def test_the_first_changed_group_and_the_worst_value_are_named(self, baseline):
        record = make_record(0)
        value = float(record["metric/test/recall@10"][0])
        (result,) = judge_exact(
            record.with_arrays(
                **{
                    "loss/total": np.append(record["loss/total"][:-1], np.nextafter(1.0, 2.0)),
                    "grad/item.weight": record["grad/item.weight"] * 2,
                    "metric/test/recall@10": np.array([value * 0.5]),
                }
            ),
            baseline,
        )

        assert result.verdict is Verdict.CHANGED
        assert "losses is the first to differ (3 of 8: losses, gradients, metrics)" in result.figure
        assert result.worst == f"test/recall@10: expected {value!r}, obtained {value * 0.5!r} (-50 %)"
        assert result.outside == "2 of 3 final values"
        assert "at commit 0123456789ab" in result.expected
        assert "pytest -m gate --rectest-update=failed" in result.advice
        assert "rectest baseline accept" in result.advice

    def test_one_ulp_is_seen_and_counted(self, baseline):
        record = make_record(0)
        value = record["metric/test/recall@10"]
        (result,) = judge_exact(record.with_arrays(**{"metric/test/recall@10": np.nextafter(value, 1.0)}), baseline)

        assert result.verdict is Verdict.CHANGED
        assert "(1 ulp)" in result.worst

    def test_bits_that_change_no_value_say_so(self, baseline):
        record = make_record(0)
        (result,) = judge_exact(record.with_arrays(table__item=record["table/item"] + 1), baseline)

        assert result.verdict is Verdict.CHANGED
        assert "tables is the first" in result.figure
        assert "equal to the last bit; only digests differ" in result.worst

    @pytest.mark.parametrize("key", ["tape/batch", "metric/test/recall@10"])
    def test_what_is_no_longer_recorded_is_red(self, baseline, key):
        (result,) = judge_exact(make_record(0).with_arrays(**{key: None}), baseline)

        assert result.verdict is Verdict.CHANGED
        assert result.red

    def test_a_value_that_became_nan_is_the_worst(self, baseline):
        record = make_record(0).with_arrays(**{"metric/test/recall@10": np.array([np.nan])})
        (result,) = judge_exact(record, baseline)

        assert result.verdict is Verdict.CHANGED
        assert "obtained nan (not finite)" in result.worst

    def test_another_environment_is_never_compared(self, baseline):
        near = extend_baseline(
            baseline,
            make_records([0], environment=make_environment(torch="2.12.0")),
            reason="older torch",
            provenance=PROVENANCE,
        )
        environment = make_environment(torch="2.12.0", threads=4)
        (result,) = judge_exact(make_record(0, environment=environment), near)

        assert result.verdict is Verdict.UNCALIBRATED
        assert result.worst == "threads 1 -> 4"
        assert "named and not used" in result.expected
        assert "torch 2.12.0" in result.expected
        assert result.detail == "the ensemble lane judges"

    def test_a_seed_that_is_not_stored_is_uncalibrated(self, baseline):
        (result,) = judge_exact(make_record(99), baseline)

        assert result.verdict is Verdict.UNCALIBRATED
        assert "seed 99 is not stored for this environment, only 0, 1, 2, 3, 4" in result.figure


class TestBothLanes:
    @pytest.fixture(params=["exact", "ensemble"])
    def judge(self, request):
        return (
            judge_exact if request.param == "exact" else lambda record, base: judge_sequential([record], base).results
        )

    def test_changed_settings_are_named_with_the_command(self, judge, baseline):
        (result,) = judge(make_record(0, steps=9, config={"learning_rate": 0.5}), baseline)

        assert result.verdict is Verdict.FAIL
        assert result.figure == "the settings changed: config.learning_rate None -> 0.5, steps None -> 9"
        assert "--rectest-update" in result.advice

    def test_a_changed_world_is_red(self, judge, baseline):
        (result,) = judge(make_record(0, world="blake2b:other"), baseline)

        assert result.verdict is Verdict.FAIL
        assert result.figure == "the world changed: blake2b:other"
        assert result.expected == "blake2b:5eed"

    def test_a_record_that_names_no_world_is_red(self, judge, baseline):
        (result,) = judge(make_record(0, world=""), baseline)

        assert result.verdict is Verdict.FAIL
        assert "the record names no world" in result.figure

    def test_another_class_is_uncalibrated_whatever_its_numbers(self, judge, baseline):
        environment = make_environment(device="cuda", compute_capability="9.0")
        (result,) = judge(make_record(0, environment=environment, recall=0.01), baseline)

        assert result.verdict is Verdict.UNCALIBRATED
        assert "nothing is borrowed" in result.detail
        assert "--rectest-update=new" in result.advice

    def test_a_planted_fault_is_judged_like_the_clean_system(self, judge, baseline):
        assert {Verdict.PASS} == {result.verdict for result in judge(make_record(0, plant="m:f"), baseline)}

    def test_another_system_is_a_mistake_of_the_caller(self, judge, baseline):
        with pytest.raises(ValueError, match="against the baseline of toy"):
            judge(make_record(0, system="other"), baseline)


class TestEnsemble:
    """What cannot be judged, and which records are no ensemble; the statistics are in `test_looks`."""

    def test_a_vanished_metric_is_not_green(self, baseline):
        records = [r.with_arrays(**{"metric/test/recall@10": None}) for r in make_records([100, 101])]
        result = judge_sequential(records, baseline).results[0]

        assert result.verdict is Verdict.NOT_MEASURED
        assert "a metric that vanished is not green" in result.detail

    def test_a_renamed_metric_is_missed_and_its_new_name_is_ungated(self, baseline):
        record = make_record(100, gate={})
        renamed = {"metric/test/recall@10": None, "metric/test/hit@10": record["metric/test/recall@10"]}
        found = judge_sequential([record.with_arrays(**renamed)], baseline)
        verdicts = {result.check.removeprefix("baseline/"): result.verdict for result in found.results}

        assert not found.undecided
        assert verdicts["test/recall@10"] is Verdict.NOT_MEASURED
        assert verdicts["test/hit@10"] is Verdict.UNCALIBRATED

    def test_nothing_left_in_the_record_is_not_green(self, baseline):
        record = make_record(100)
        found = judge_sequential([record.with_arrays(**dict.fromkeys(record.arrays))], baseline)

        assert {Verdict.NOT_MEASURED} == {result.verdict for result in found.results}

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -0.1])
    def test_one_dead_run_is_red_among_good_ones(self, baseline, value):
        good, bad = make_records([100, 101])
        found = judge_sequential([good, bad.with_arrays(**{"metric/test/recall@10": np.array([value])})], baseline)

        assert (found.undecided, found.results[0].verdict) == (False, Verdict.FAIL)
        assert "(seed 101)" in found.results[0].figure

    def test_a_curve_too_short_for_its_windows_is_not_green(self, baseline):
        record = make_record(100).with_arrays(**{"metric/valid/recall@10": np.array([0.2])})
        found = judge_sequential([record], baseline)

        assert {"baseline/valid/recall@10/early", "baseline/valid/recall@10/mid"} == {r.check for r in found.results}
        assert {Verdict.NOT_MEASURED} == {result.verdict for result in found.results}

    @pytest.mark.parametrize(
        ("records", "problem"),
        [
            ([], "no records to judge"),
            ([make_record(1), make_record(1, replica=1)], "a seed is repeated"),
            ([make_record(1), make_record(2, steps=3)], "records of different specs"),
            ([make_record(1), make_record(2, environment=make_environment(threads=4))], "environments.*threads differ"),
        ],
    )
    def test_records_that_are_no_ensemble(self, baseline, records, problem):
        with pytest.raises(ValueError, match=problem):
            judge_sequential(records, baseline)

    @pytest.mark.parametrize("max_runs", [0, 1, 6])
    def test_a_gate_takes_two_to_five_runs(self, baseline, max_runs):
        with pytest.raises(ValueError, match="max_runs"):
            judge_sequential(make_records([1]), baseline, max_runs=max_runs)

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), 1e4])
    def test_a_rate_stays_a_rate(self, baseline, scale):
        with pytest.raises(ValueError, match="alpha_drop must be between"):
            judge_sequential(make_records([1]), baseline, alpha_scale=scale)


def test_world_digest_of_a_record_without_inputs():
    assert world_digest(make_record()) == "blake2b:5eed"
    assert world_digest(make_record(world="")) == ""
