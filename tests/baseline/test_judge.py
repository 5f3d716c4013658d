import numpy as np
import pytest

from fixtures.baselines import PROVENANCE, make_baseline, make_environment, make_record, make_records
from rectest.baseline.build import extend_baseline
from rectest.baseline.judge import judge_ensemble, judge_exact, world_digest
from rectest.baseline.schema import Baseline
from rectest.checks.result import Verdict, render


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

        assert result.verdict is Verdict.FAIL
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

        assert result.verdict is Verdict.FAIL
        assert "(1 ulp)" in result.worst

    def test_bits_that_change_no_value_say_so(self, baseline):
        record = make_record(0)
        (result,) = judge_exact(record.with_arrays(table__item=record["table/item"] + 1), baseline)

        assert result.verdict is Verdict.FAIL
        assert "tables is the first" in result.figure
        assert "equal to the last bit; only digests differ" in result.worst

    @pytest.mark.parametrize("key", ["tape/batch", "metric/test/recall@10"])
    def test_what_is_no_longer_recorded_is_red(self, baseline, key):
        (result,) = judge_exact(make_record(0).with_arrays(**{key: None}), baseline)

        assert result.verdict is Verdict.FAIL

    def test_a_value_that_became_nan_is_the_worst(self, baseline):
        record = make_record(0).with_arrays(**{"metric/test/recall@10": np.array([np.nan])})
        (result,) = judge_exact(record, baseline)

        assert result.verdict is Verdict.FAIL
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
        return judge_exact if request.param == "exact" else lambda record, base: judge_ensemble([record], base)

    def test_changed_settings_are_named_with_the_command(self, judge, baseline):
        (result,) = judge(make_record(0, steps=9, config={"learning_rate": 0.5}), baseline)

        assert result.verdict is Verdict.FAIL
        assert "steps None -> 9, config.learning_rate None -> 0.5" in result.figure.replace(
            "config.learning_rate None -> 0.5, steps None -> 9", "steps None -> 9, config.learning_rate None -> 0.5"
        )
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
    def test_a_control_passes_and_states_both_numbers(self, baseline):
        results = judge_ensemble(make_records([100, 101, 102]), baseline)

        assert [result.check for result in results] == [
            "baseline/test/recall@10",
            "baseline/valid/recall@10/late",
            "baseline/loss/late",
        ]
        assert {Verdict.PASS} == {result.verdict for result in results}
        assert "would be caught with 90% probability, at a false-alarm rate of 0.001" in results[0].detail

    def test_a_drop_of_ten_percent_is_red(self, baseline):
        results = judge_ensemble(make_records([100, 101, 102], recall=0.18), baseline)

        assert [result.verdict for result in results] == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]
        assert results[0].worst.startswith("seed 10")
        assert "worse than seed noise allows" in results[0].detail
        assert "--rectest-update=failed" in results[0].advice
        assert "p = " in results[0].outside
        assert len(render(results[0]).splitlines()) == 7

    def test_a_rise_is_red_and_named_suspicious(self, baseline):
        results = judge_ensemble(make_records([100, 101, 102], recall=0.24), baseline)

        assert results[0].verdict is Verdict.FAIL
        assert "suspiciously better: leak or changed evaluation?" in results[0].detail

    @pytest.mark.parametrize(("loss", "words"), [(1.65, "worse than seed noise"), (1.35, "suspiciously better")])
    def test_a_loss_is_better_when_lower(self, baseline, loss, words):
        *_, result = judge_ensemble(make_records([100, 101, 102], loss=loss), baseline)

        assert result.check == "baseline/loss/late"
        assert result.verdict is Verdict.FAIL
        assert words in result.detail

    def test_a_vanished_metric_is_not_green(self, baseline):
        records = [r.with_arrays(**{"metric/test/recall@10": None}) for r in make_records([100, 101])]
        result = judge_ensemble(records, baseline)[0]

        assert result.verdict is Verdict.NOT_MEASURED
        assert "a metric that vanished is not green" in result.detail

    def test_nothing_left_in_the_record_is_not_green(self, baseline):
        record = make_record(100)
        results = judge_ensemble([record.with_arrays(**dict.fromkeys(record.arrays))], baseline)

        assert {Verdict.NOT_MEASURED} == {result.verdict for result in results}

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_one_dead_run_is_red(self, baseline, value):
        good, bad = make_records([100, 101])
        result = judge_ensemble([good, bad.with_arrays(**{"metric/test/recall@10": np.array([value])})], baseline)[0]

        assert result.verdict is Verdict.FAIL
        assert "(seed 101)" in result.figure

    def test_a_new_metric_is_said_to_be_ungated(self, baseline):
        record = make_record(100, gate={"metrics": ["recall@10", "mrr"]})
        result = judge_ensemble([record.with_arrays(**{"metric/test/mrr": np.array([0.1])})], baseline)[-1]

        assert (result.check, result.verdict) == ("baseline/test/mrr", Verdict.UNCALIBRATED)

    @pytest.mark.parametrize(
        ("records", "problem"),
        [
            ([], "no records to judge"),
            ([make_record(1), make_record(1, replica=1)], "a seed is repeated"),
            ([make_record(1), make_record(2, steps=3)], "records of different specs"),
        ],
    )
    def test_records_that_are_no_ensemble(self, baseline, records, problem):
        with pytest.raises(ValueError, match=problem):
            judge_ensemble(records, baseline)

    @pytest.mark.parametrize("alpha", [0, 1, -0.1, float("nan")])
    def test_alpha_is_a_rate(self, baseline, alpha):
        with pytest.raises(ValueError, match="alpha must be between"):
            judge_ensemble(make_records([1]), baseline, alpha=alpha)


def test_world_digest_of_a_record_without_inputs():
    assert world_digest(make_record()) == "blake2b:5eed"
    assert world_digest(make_record(world="")) == ""
