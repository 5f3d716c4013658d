import math

import numpy as np
import pytest

from fixtures.baselines import (
    PROVENANCE,
    make_baseline,
    make_environment,
    make_record,
    make_records,
    make_twins,
    make_whole_baseline,
)
from rectest.baseline.build import ROUNDING, build_baseline, extend_baseline, twin_of
from rectest.baseline.history import accepted_now
from rectest.baseline.judge import judge_exact
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA, MAX_RUNS, promised_drop
from rectest.checks.result import Verdict
from rectest.errors import UpdateRefused
from rectest.record import RunSpec

RECALL = "test/recall@10"
ALL = [RECALL, *(f"{stem}/{part}" for stem in ("valid/recall@10", "loss") for part in ("early", "mid", "late"))]


def built(records, twins=()):
    return build_baseline(records, twins=twins, reason="why", provenance=PROVENANCE)


class TestBuild:
    def test_what_is_stored(self):
        baseline = build_baseline(make_records([3, *range(7, 20)]), reason="why", provenance=PROVENANCE)

        assert baseline.ensemble.seeds == (3, *range(7, 20))
        assert baseline.ensemble.num_scored == {"test": 1000, "valid": 1000}
        assert list(baseline.exact[baseline.ensemble.fingerprint].seeds) == ["3", "7", "8", "9", "10"]
        assert baseline.world_digest == "blake2b:5eed"
        assert baseline.name == "toy"

    def test_the_order_of_the_records_does_not_matter(self):
        records = make_records(range(8))

        assert build_baseline(records, reason="a", provenance=PROVENANCE) == build_baseline(
            records[::-1], reason="a", provenance=PROVENANCE
        )

    def test_provenance_is_collected_by_default(self):
        baseline = build_baseline(make_records(range(8)), reason="why not")

        assert baseline.provenance.reason == "why not"
        assert baseline.provenance.date.endswith("Z")

    @pytest.mark.parametrize(
        ("odd", "problem"),
        [
            (make_record(7, steps=3), "different specs"),
            (make_record(7, plant="m:f"), "planted m:f: a run with a planted fault never becomes a baseline"),
            (make_record(7, environment=make_environment(threads=2)), "different environments.*threads differ"),
            (make_record(7, world="blake2b:other"), "different worlds"),
            (make_record(0, replica=1), "seeds are repeated"),
            (make_record(7, gate={"metrics": ["recall@10"], "loss": False}), "declare different features"),
            (make_record(7).with_arrays(**{"metric/test/recall@10": np.array([np.nan])}), "needed a finite number"),
            (make_record(7).with_arrays(**{"metric/test/recall@10": np.array([0.0])}), "above zero"),
            (make_record(7).with_arrays(**{"metric/test/recall@10": None}), "has no 'metric/test/recall@10'"),
        ],
    )
    def test_what_must_not_become_a_baseline(self, odd, problem):
        with pytest.raises(UpdateRefused, match=problem):
            build_baseline([*make_records(range(7)), odd], reason="why")

        assert build_baseline([*make_records(range(7)), make_record(7)], reason="why").ensemble.seeds[-1] == 7

    def test_a_value_that_is_not_judged_must_be_finite_too(self):
        odd = make_record(0).with_arrays(**{"metric/test/mrr": np.array([np.inf])})

        with pytest.raises(UpdateRefused, match="test/mrr is inf"):
            build_baseline([odd, *make_records(range(1, 8))], reason="why")

    @pytest.mark.parametrize("num", [0, 4])
    def test_too_few_seeds(self, num):
        with pytest.raises(UpdateRefused, match=r"no records|4 seeds cannot carry a gate, at least 5 are needed"):
            build_baseline(make_records(range(num)), reason="why")

    def test_five_seeds_are_enough(self):
        assert len(build_baseline(make_records(range(5)), reason="why").ensemble.seeds) == 5

    def test_a_blank_reason(self):
        with pytest.raises(ValueError, match="needs a reason"):
            build_baseline(make_records(range(8)), reason=" ")


class TestDeclared:
    def test_what_the_gate_promises_is_stored_as_promised_now(self):
        baseline = make_baseline()
        declared = baseline.declared

        assert (declared.alpha_drop, declared.alpha_rise, declared.beta) == (ALPHA_DROP, ALPHA_RISE, BETA)
        assert declared.max_runs == MAX_RUNS
        assert declared.mdd == {name: promised_drop(baseline, name) for name in ALL}

    def test_the_history_begins_with_this_recording(self):
        baseline = make_baseline()
        (anchor,) = baseline.history

        assert anchor == accepted_now(baseline)
        assert anchor.mdd == baseline.declared.mdd
        assert anchor.means[RECALL] == pytest.approx(math.prod(baseline.ensemble.features[RECALL]) ** (1 / 16))

    def test_a_feature_that_nothing_can_be_promised_of_is_refused(self):
        """Control: the same runs with a loss that varies by a factor of two are a baseline."""
        records = make_records(range(5))
        for factor in (2.0, 1e60):
            runs = [r.with_arrays(loss__total=r["loss/total"] * factor ** (i - 2)) for i, r in enumerate(records)]
            if factor == 2:
                assert built(runs).declared.mdd["loss/late"] > 1
                continue
            with pytest.raises(UpdateRefused, match="loss/early varies so much from seed to seed"):
                built(runs)


class TestLeftOut:
    def test_windows_with_too_few_hits_are_named_and_not_judged(self):
        """0.01 of 1,000 users is 10 hits, the first third of the curve is below 5."""
        baseline = make_baseline(recall=0.01)

        assert list(baseline.ensemble.left_out) == ["valid/recall@10/early"]
        assert "fewer than 5 expected hits" in baseline.ensemble.left_out["valid/recall@10/early"]
        assert "valid/recall@10/early" not in baseline.declared.mdd
        assert "valid/recall@10/mid" in baseline.ensemble.features
        assert make_baseline().ensemble.left_out == {}

    def test_a_test_metric_is_never_left_out(self):
        assert RECALL in make_baseline(recall=0.001).ensemble.features


class TestUserVariance:
    def test_hand_computed(self):
        """Four users of variances 0, 0, 0.3 and 0.2 over five seeds, nine hits of twenty."""
        hits = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0]], np.float64)
        records = [
            record.with_arrays(**{"users/test/recall@10": hits[place : place + 1]})
            for place, record in enumerate(make_records(range(5)))
        ]

        assert built(records).ensemble.user_variance[RECALL] == pytest.approx((0.3 + 0.2) / 4 / 4 / 0.45**2)

    def test_users_without_a_relevant_item_do_not_count(self):
        records = make_records(range(5))
        padded = [
            record.with_arrays(
                **{RECALL.replace("test", "users/test"): np.hstack([record["users/test/recall@10"], [[np.nan] * 7]])}
            )
            for record in records
        ]

        assert built(records).ensemble.user_variance[RECALL] == built(padded).ensemble.user_variance[RECALL]

    def test_a_window_takes_its_own_evaluations(self):
        """Users waver in the first two of six evaluations only."""
        records = []
        for record in make_records(range(5)):
            hits = np.zeros((6, 1000))
            hits[:, :200] = 1
            hits[:2, 200 + record.spec.seed] = 1
            records.append(record.with_arrays(**{"users/valid/recall@10": hits}))
        found = built(records).ensemble.user_variance

        assert "valid/recall@10/early" in found
        assert found.keys().isdisjoint({"valid/recall@10/mid", "valid/recall@10/late"})

    def test_a_loss_has_no_users(self):
        assert {name for name in ALL if not name.startswith("loss")} == make_baseline().ensemble.user_variance.keys()

    @pytest.mark.parametrize("odd", [None, np.zeros((1, 999))])
    def test_without_all_users_of_all_runs_nothing_is_claimed(self, odd):
        records = make_records(range(5))
        records[2] = records[2].with_arrays(**{"users/test/recall@10": odd})

        assert RECALL not in built(records).ensemble.user_variance


class TestTwins:
    def test_twins_are_stored_beside_the_features_of_their_seeds(self):
        records = make_records([4, 2, 9, 7, 5])
        twins = make_twins(records)
        baseline = built(records, twins[::-1])

        assert baseline.ensemble.seeds == (2, 4, 5, 7, 9)
        assert baseline.ensemble.twins.keys() == baseline.ensemble.features.keys()
        assert baseline.ensemble.twins[RECALL][1] == twins[0].final(RECALL)
        assert built(records).ensemble.twins == {}

    def test_a_twin_is_the_same_run_with_rounding_planted(self):
        spec = RunSpec(system="toy", seed=3, steps=9)

        assert twin_of(spec) == spec.with_(plant=ROUNDING)

    @pytest.mark.parametrize(
        ("damage", "problem"),
        [
            (lambda twins: twins[:-1], "not one for each of the 5 runs"),
            (lambda twins: [*twins[:-1], twins[0]], "not one for each of the 5 runs"),
            (lambda _: make_records(range(5)), "not one for each of the 5 runs"),
            (lambda _: make_twins(make_records(range(5), steps=7)), "not one for each of the 5 runs"),
            (lambda _: make_twins(make_records(range(1, 6))), "not one for each of the 5 runs"),
            (
                lambda _: make_twins(make_records(range(5), environment=make_environment(threads=2))),
                "a rounding twin of another environment: .*threads",
            ),
            (
                lambda _: make_twins(make_records(range(5), world="blake2b:other")),
                "a rounding twin on another world",
            ),
            (
                lambda twins: [*twins[:-1], twins[-1].with_arrays(loss__total=np.full(30, np.nan))],
                "loss/early is nan, needed a finite number",
            ),
            (lambda twins: [*twins[:-1], twins[-1].with_arrays(loss__total=None)], "has no 'loss/total'"),
        ],
    )
    def test_what_is_no_twin_is_refused(self, damage, problem):
        records = make_records(range(5))

        with pytest.raises(UpdateRefused, match=problem):
            built(records, damage(make_twins(records)))

    def test_streams_are_stored_by_seed(self):
        baseline, _ = make_whole_baseline(5)
        bare = [record.with_arrays(tape__negatives=None) for record in make_records(range(5))]

        assert sorted(baseline.streams) == list("01234")
        assert len({streams.batches for streams in baseline.streams.values()}) == 5
        assert built(bare).streams["0"].negatives is None


class TestExtend:
    def test_another_environment_is_added_and_judged_exactly(self):
        environment = make_environment(threads=2)
        old, runs = make_baseline(), make_records([0, 1], environment=environment)
        new = extend_baseline(old, runs, reason="two threads", provenance=PROVENANCE)

        assert new.ensemble == old.ensemble
        assert new.provenance == old.provenance
        assert judge_exact(runs[1], new)[0].verdict is Verdict.PASS

    def test_a_further_seed_joins_the_stored_ones(self):
        new = extend_baseline(make_baseline(), make_records([9]), reason="more", provenance=PROVENANCE)

        assert sorted(new.exact[new.ensemble.fingerprint].seeds) == ["0", "1", "2", "3", "4", "9"]

    def test_stored_bits_are_never_overwritten(self):
        with pytest.raises(UpdateRefused, match="other bits are stored for seed 1 of toy: record it anew"):
            extend_baseline(make_baseline(), make_records([1], recall=0.3), reason="x", provenance=PROVENANCE)

    @pytest.mark.parametrize(
        "change",
        [
            {"steps": 3},
            {"world": "blake2b:other"},
            {"system": "other"},
            {"environment": make_environment(device="cuda", compute_capability="9.0")},
        ],
    )
    def test_another_training_does_not_extend(self, change):
        with pytest.raises(UpdateRefused, match="do not extend the baseline of toy"):
            extend_baseline(make_baseline(), make_records([0], **change), reason="x", provenance=PROVENANCE)
