"""One gate from its first run to its verdict, with a training that costs nothing."""

import numpy as np
import pytest

from fixtures.baselines import make_baseline, make_environment, make_record
from fixtures.gate import Recorded, chaotic, recorded, rounded, scaled
from rectest.baseline import gating
from rectest.baseline.gating import judge_against, look
from rectest.baseline.pooling import MIN_SYSTEMS
from rectest.baseline.store import BaselineStore
from rectest.baseline.update import State
from rectest.checks.result import Verdict, any_red
from rectest.errors import TrainingError
from rectest.record import RunSpec

SPEC = RunSpec(system="toy", seed=0)


@pytest.fixture(scope="module")
def whole() -> Recorded:
    return recorded()


@pytest.fixture
def store(tmp_path, whole) -> BaselineStore:
    found = BaselineStore(tmp_path / "baselines")
    found.save(whole.baseline, sidecar=whole.sidecar)
    return found


class Training:
    """Trains by calling a function, and remembers what it was asked for."""

    def __init__(self, make):
        self.make, self.asked = make, []

    def __call__(self, specs):
        self.asked += [spec.seed for spec in specs]
        return [self.make(spec.seed) for spec in specs]


def drop(seed: int, factor: float = 0.85):
    return scaled(make_record(seed), factor, only=("metric/",))


class TestLoop:
    @pytest.mark.parametrize(
        ("make", "verdict", "seeds", "state"),
        [
            (make_record, Verdict.PASS, [0], State.PASSED),
            (rounded, Verdict.PASS, [0], State.PASSED),
            (drop, Verdict.FAIL, [0, 1], State.FAILED),
            (chaotic, Verdict.CHANGED, [0, 1], State.FAILED),
            (lambda seed: drop(seed, 1.2), Verdict.SUSPICIOUS, [0, 1], State.FAILED),
        ],
    )
    def test_trains_one_seed_at_a_time_and_no_seed_twice(self, store, make, verdict, seeds, state):
        train = Training(make)
        records, judged = look(store, SPEC, train, max_runs=5)

        assert train.asked == seeds
        assert [record.spec.seed for record in records] == seeds
        assert judged.results[0].verdict is verdict
        assert judged.state is state
        assert any_red(judged.results) is (verdict is not Verdict.PASS)
        assert (judged.undecided, judged.evidence.verdict) == (False, str(verdict))

    def test_starts_at_the_seed_of_the_spec(self, store):
        train = Training(drop)
        look(store, SPEC.with_(seed=3), train, max_runs=5)

        assert train.asked == [3, 4]

    def test_one_bad_seed_takes_the_runs_it_needs_and_never_more_than_promised(self, store):
        """It is far below, and no other run is: every look is undecided until the last."""
        train = Training(lambda seed: drop(seed, 0.3) if seed == 100 else make_record(seed))
        _, judged = look(store, SPEC.with_(seed=100), train, max_runs=4)

        assert train.asked == [100, 101, 102, 103]
        assert not judged.undecided
        assert judged.results[0].verdict is Verdict.PASS

    def test_progress_tells_what_is_trained_next(self, store):
        said: list[str] = []
        look(store, SPEC, Training(drop), max_runs=5, progress=said.append)

        assert len(said) == 1
        assert said[0].startswith("toy: UNDECIDED after 1 run: ")
        assert said[0].endswith("; train seed 1 (at most 5 runs)")

    def test_a_training_that_fails_is_no_verdict(self, store):
        def crash(_specs):
            msg = "out of memory"
            raise TrainingError(msg)

        with pytest.raises(TrainingError, match="out of memory"):
            look(store, SPEC, crash, max_runs=5)

    def test_nightly_rates_reach_the_looks(self, store):
        fresh = Training(make_record)
        _, judged = look(store, SPEC.with_(seed=500), fresh, max_runs=5, alpha_scale=0.1)

        assert "false-alarm rate 0.01 %" in judged.results[0].detail


class TestWithoutABaseline:
    def test_absent_is_uncalibrated_with_the_command(self, tmp_path):
        spec = RunSpec(system="toy", world="tiny", device="cuda")
        environment = make_environment(device="cuda", compute_capability="9.0")
        record = make_record(0, world="tiny", environment=environment)
        judged = judge_against(BaselineStore(tmp_path), spec, [record], max_runs=5)
        (result,) = judged.results

        assert (result.verdict, judged.state) == (Verdict.UNCALIBRATED, State.ABSENT)
        assert result.figure == "no baseline for environment class 'cuda-sm90'"
        assert "another class is never borrowed from" in result.detail
        assert result.advice.endswith("pytest -m gate --rectest-update=new --rectest-world=tiny --rectest-device=cuda")
        assert (judged.baseline, judged.evidence, judged.undecided) == (None, None, False)

    def test_absent_trains_once(self, tmp_path):
        train = Training(make_record)
        look(BaselineStore(tmp_path), SPEC, train, max_runs=5)

        assert train.asked == [0]

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 99}', b"\xff"])
    def test_corrupt_is_not_measured_and_red(self, store, content):
        store.path_for("toy", "cpu").write_bytes(content)
        judged = judge_against(store, SPEC, [make_record(0)], max_runs=5)
        (result,) = judged.results

        assert (result.verdict, judged.state) == (Verdict.NOT_MEASURED, State.CORRUPT)
        assert result.red
        assert result.figure.startswith("the baseline cannot be read: ")
        assert "--rectest-update=failed" in result.advice

    @pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK")])
    def test_a_damaged_sidecar_judges_nothing(self, store, whole, damage):
        """Planted fault: a gate that quietly goes on without its paired level."""
        (path,) = store.root.glob("cpu/*.npz")
        damage(path)
        judged = judge_against(store, SPEC, [make_record(0)], max_runs=5)

        assert (judged.results[0].verdict, judged.state) == (Verdict.NOT_MEASURED, State.CORRUPT)

    def test_a_dead_run_is_red_after_one_training(self, store):
        train = Training(lambda seed: make_record(seed).with_arrays(**{"metric/test/recall@10": np.array([np.nan])}))
        _, judged = look(store, SPEC, train, max_runs=5)

        assert train.asked == [0]
        assert (judged.results[0].verdict, judged.state) == (Verdict.FAIL, State.FAILED)
        assert {each.name: each.new for each in judged.evidence.features}["test/recall@10"] == (None,)


class TestPooling:
    @pytest.fixture
    def many(self, store) -> BaselineStore:
        for place in range(MIN_SYSTEMS - 1):
            store.save(make_baseline(6, system=f"other{place}", noise=place + 1))
        return store

    def test_from_eight_systems_on_noise_is_pooled(self, many):
        judged = judge_against(many, SPEC, [make_record(99)], max_runs=5)

        assert judged.results[0].detail.endswith("noise is pooled over 8 systems")

    def test_seven_are_not_pooled(self, many):
        many.path_for("other0", "cpu").unlink()
        judged = judge_against(many, SPEC, [make_record(99)], max_runs=5)

        assert "pooled" not in judged.results[0].detail

    def test_another_class_lends_nothing(self, many):
        environment = make_environment(device="cuda", compute_capability="9.0")
        many.path_for("other0", "cpu").unlink()
        many.save(make_baseline(6, system="other0", environment=environment))
        judged = judge_against(many, SPEC, [make_record(99)], max_runs=5)

        assert "pooled" not in judged.results[0].detail

    def test_an_unreadable_one_is_left_out_and_said_to_be(self, many):
        many.path_for("other3", "cpu").write_text("{")
        judged = judge_against(many, SPEC, [make_record(99)], max_runs=5)

        assert judged.results[0].detail.endswith("1 other baseline cannot be read and lends no noise (other3.json)")
        assert "pooled" not in judged.results[0].detail
        assert judged.evidence.headline == judged.results[0]

    def test_a_name_that_no_baseline_can_have_is_said(self, many):
        (many.root / "cpu" / "a b.json").write_text("{}")
        judged = judge_against(many, SPEC, [make_record(99)], max_runs=5)

        assert "cannot be read and lends no noise" in judged.results[0].detail

    def test_few_files_are_not_even_opened(self, store, monkeypatch):
        monkeypatch.setattr(gating, "noise_of", lambda _baseline, others: pytest.fail("opened") if others else None)

        assert not any_red(judge_against(store, SPEC, [make_record(99)], max_runs=5).results)
        assert gating.MIN_SYSTEMS == 8
