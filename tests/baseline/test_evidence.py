"""What stands behind a verdict: the numbers of the decision, and that they survive as JSON."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_record
from fixtures.gate import Recorded, chaotic, recorded, rounded, scaled
from rectest.baseline.evidence import EVIDENCE_SCHEMA, Curve, Evidence, FeatureEvidence, PrefixEvidence, evidence_of
from rectest.baseline.features import weights
from rectest.baseline.looks import caught_drop
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import RecordError


@pytest.fixture(scope="module")
def whole() -> Recorded:
    return recorded()


def evidence(whole: Recorded, *records) -> Evidence:
    return evidence_of(whole.judge(*records), records, whole.baseline, whole.sidecar)


def through_json(found: Evidence) -> Evidence:
    return Evidence.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))


def feature(found: Evidence, name: str) -> FeatureEvidence:
    return next(each for each in found.features if each.name == name)


class TestNumbers:
    def test_of_the_decision(self, whole):
        records = [scaled(make_record(seed), 0.85) for seed in (0, 1)]
        outcome = whole.judge(*records)
        found = evidence_of(outcome, records, whole.baseline, whole.sidecar)
        names = list(whole.baseline.ensemble.features)

        assert [each.name for each in found.features] == names
        assert found.verdict == "FAIL"
        assert found.headline == outcome.results[0]
        for each, drop, rise in zip(found.features, outcome.decision.drops, outcome.decision.rises, strict=True):
            stored, new = np.log(each.stored), np.log(each.new)
            assert each.change == pytest.approx(math.expm1(new.mean() - stored.mean()))
            assert each.run_sd == drop.sd
            assert each.mdd == pytest.approx(caught_drop(each.name, drop))
            assert each.alarm is (drop.alarm or rise.alarm)
            # What lies between both ends is noise, in the feature's own direction.
            assert each.alarm is not (each.lowest <= each.change <= each.highest)
            assert each.weight == weights(names)[each.name]

    def test_a_loss_is_worse_upwards(self, whole):
        """Planted fault: the shift of a negative logarithm, given as the change of the loss."""
        found = feature(evidence(whole, make_record(99)), "loss/late")
        drop = whole.judge(make_record(99)).decision.drops[-1]

        assert found.mdd == pytest.approx(drop.mdd / (1 - drop.mdd))
        assert found.highest == pytest.approx(math.expm1(drop.limit))
        assert found.lowest < 0 < found.highest

    def test_where_and_what(self, whole):
        found = evidence(whole, make_record(0), make_record(1))

        assert (found.name, found.env_class, found.level, found.verdict) == ("toy", "cpu", "L1", "PASS")
        assert (found.seeds, found.stored_seeds) == ((0, 1), tuple(range(16)))
        assert found.fingerprint == found.stored_fingerprint == make_record().environment.fingerprint
        assert found.history[0]["reason"] == "first recording"
        assert found.declared["max_runs"] == 5
        assert found.provenance["reason"] == "first recording"


class TestMissing:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_is_none(self, whole, value):
        found = evidence(whole, make_record(0).with_arrays(**{"metric/test/recall@10": np.array([value])}))
        dead = feature(found, "test/recall@10")

        assert dead.new == (None,)
        assert (dead.change, dead.lowest, dead.highest, dead.p, dead.level, dead.mdd) == (None,) * 6
        assert through_json(found) == found

    def test_what_is_not_there_is_none(self, whole):
        found = evidence(whole, make_record(0).with_arrays(**{"metric/test/recall@10": None, "loss/total": None}))

        assert feature(found, "test/recall@10").new == (None,)
        assert feature(found, "loss/late").new == (None,)
        assert {curve.name: curve.new for curve in found.curves}["loss"] == ((),)
        assert through_json(found) == found

    def test_nan_in_a_curve_is_none(self, whole):
        record = make_record(0)
        losses = record["loss/total"].copy()
        losses[3] = np.nan
        found = evidence(whole, record.with_arrays(**{"loss/total": losses}))

        assert next(curve for curve in found.curves if curve.name == "loss").new[0][3] is None
        assert through_json(found) == found

    def test_without_a_sidecar_there_are_no_curves(self, whole):
        found = evidence(Recorded(baseline=whole.baseline, sidecar=None), make_record(0))

        assert (found.curves, found.prefix) == ((), None)


class TestCurves:
    def test_by_hand(self, whole):
        record = make_record(0)
        found = {curve.name: curve for curve in evidence(whole, record).curves}
        valid = found["valid/recall@10"]

        assert set(found) == {"valid/recall@10", "loss"}
        assert valid.steps == (0, 5, 10, 15, 20, 25)
        assert valid.new == (tuple(float(f"{value:.7g}") for value in record["metric/valid/recall@10"]),)
        assert valid.stored[0] == valid.new[0]
        assert len(valid.stored) == 16
        assert len(found["loss"].steps) == len(found["loss"].new[0]) == 30

    def test_a_curve_that_is_longer_than_any_stored_one_has_its_steps(self, whole):
        record = make_record(0)
        values = np.append(record["metric/valid/recall@10"], [0.2, 0.2])
        found = evidence(
            whole,
            record.with_arrays(**{"metric/valid/recall@10": values, "eval/steps": np.arange(8) * 5}),
        )
        (valid,) = [curve for curve in found.curves if curve.name == "valid/recall@10"]

        assert len(valid.steps) == len(valid.new[0]) == 8
        assert len(valid.stored[0]) == 6

    def test_a_long_loss_is_thinned_out(self):
        long = recorded(5)
        sidecar = long.sidecar
        losses = np.linspace(2, 1, 1000)
        arrays = {**sidecar.arrays, "curve/loss": np.tile(losses, (5, 1)).astype(np.float32)}
        whole = Recorded(baseline=long.baseline, sidecar=type(sidecar)(arrays=arrays))
        record = make_record(0).with_arrays(**{"loss/total": losses})
        (loss,) = [curve for curve in evidence(whole, record).curves if curve.name == "loss"]

        assert (len(loss.steps), loss.steps[0], loss.steps[-1]) == (100, 10, 1000)
        assert loss.new[0][0] == pytest.approx(losses[:10].mean(), rel=1e-6)


class TestPrefix:
    def test_of_the_pair(self, whole):
        found = evidence(whole, chaotic(0))
        outside = [
            step
            for step, (d, e) in enumerate(zip(found.prefix.difference, found.prefix.envelope, strict=True))
            if d > e
        ]

        assert found.prefix.seed == 0
        assert outside == [2, 3]
        assert found.prefix.difference[2] == pytest.approx(0.02)

    def test_none_where_bits_are_equal(self, whole):
        assert evidence(whole, make_record(0)).prefix is None


@pytest.mark.parametrize("make", [make_record, rounded, chaotic])
def test_real_evidence_survives_json(whole, make):
    found = evidence(whole, make(0))

    assert through_json(found) == found


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ROW = st.lists(st.none() | NUMBERS, max_size=4).map(tuple)
FEATURES = st.builds(
    FeatureEvidence,
    name=st.text(max_size=8),
    weight=NUMBERS,
    stored=st.lists(NUMBERS, max_size=4).map(tuple),
    new=ROW,
    alarm=st.booleans(),
    **dict.fromkeys(("change", "lowest", "highest", "run_sd", "p", "level", "mdd"), st.none() | NUMBERS),
)
CURVES = st.builds(
    Curve,
    name=st.text(max_size=8),
    steps=st.lists(st.integers(0, 99), max_size=4).map(tuple),
    stored=st.lists(ROW, max_size=3).map(tuple),
    new=st.lists(ROW, max_size=3).map(tuple),
)
PREFIXES = st.builds(
    PrefixEvidence, seed=st.integers(0, 9), difference=ROW, envelope=st.lists(NUMBERS, max_size=4).map(tuple)
)
RESULT = CheckResult(check="baseline/gate", subject="toy", verdict=Verdict.PASS, figure="fine").to_dict()


@given(
    features=st.lists(FEATURES, max_size=3).map(tuple),
    curves=st.lists(CURVES, max_size=3).map(tuple),
    prefix=st.none() | PREFIXES,
    text=st.text(max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_any_evidence_survives_json(features, curves, prefix, text):
    found = Evidence(
        name=text,
        env_class="cpu",
        environment={"torch": text},
        fingerprint="0" * 16,
        stored_fingerprint="1" * 16,
        level="L3",
        verdict="PASS",
        results=({**RESULT, "figure": text},),
        seeds=(0, 1),
        stored_seeds=(0, 1, 2, 3, 4),
        features=features,
        curves=curves,
        prefix=prefix,
        history=({"reason": text},),
    )

    assert through_json(found) == found


class TestOtherContents:
    """What an older or newer version, or a damaged file, may hold."""

    @pytest.mark.parametrize("schema", [None, 0, EVIDENCE_SCHEMA + 1, "1"])
    def test_another_schema(self, whole, schema):
        values = {**evidence(whole, make_record(0)).to_dict(), "schema": schema}

        with pytest.raises(RecordError, match=f"schema {schema!r}, this version reads {EVIDENCE_SCHEMA}; run the gate"):
            Evidence.from_dict(values)

    @pytest.mark.parametrize("values", [None, [], "text", {}])
    def test_no_evidence_at_all(self, values):
        with pytest.raises(RecordError, match="schema None"):
            Evidence.from_dict(values)

    @pytest.mark.parametrize(
        "edit",
        [
            {"surprise": 1},
            {"results": []},
            {"results": [{"check": "c"}]},
            {"results": [{**RESULT, "verdict": "MAYBE"}]},
            {"results": None},
            {"seeds": 3},
            {"features": [{"name": "x"}]},
            {"curves": [{"name": "x"}]},
            {"prefix": {"seed": 0}},
            {"prefix": 7},
        ],
    )
    def test_fields_that_are_not_understood(self, whole, edit):
        values = {**evidence(whole, make_record(0)).to_dict(), **edit}

        with pytest.raises(RecordError, match="does not understand"):
            Evidence.from_dict(values)

    def test_a_field_that_is_gone(self, whole):
        values = evidence(whole, make_record(0)).to_dict()
        del values["level"]

        with pytest.raises(RecordError, match="level"):
            Evidence.from_dict(values)
