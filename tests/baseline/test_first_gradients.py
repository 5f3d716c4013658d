from pathlib import Path

import numpy as np
import pytest

from fixtures.baselines import make_record, make_records, make_twins
from fixtures.gate import recorded
from rectest.baseline.first_gradients import LEAST_ENVELOPE, SMALLEST, moved_gradient
from rectest.baseline.levels import Level
from rectest.baseline.paired import PairingState, judge_pair, prefix_of
from rectest.baseline.sidecar import Sidecar, build_sidecar
from rectest.baseline.store import BaselineStore
from rectest.checks.result import Verdict

KEY = "grad/item.weight"


@pytest.fixture(scope="module")
def stored():
    return recorded()


def longer(record, factor):
    return record.with_arrays(**{KEY: record[KEY] * np.float32(factor)})


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.1, 4.0])
def test_a_factor_is_named(stored, factor):
    said = moved_gradient(longer(make_record(0), factor), stored.sidecar)

    assert f"gradient of item.weight has length {np.linalg.norm(make_record(0)[KEY]) * factor:.6g}" in said
    assert f"{factor:.3g} times as long (1 of 1 gradients" in said


def test_rounding_is_not_a_factor(stored):
    assert moved_gradient(make_record(0), stored.sidecar) == ""
    assert moved_gradient(longer(make_record(0), 1 + 1e-4), stored.sidecar) == ""


def test_twins_widen_what_rounding_explains():
    records = make_records(range(5))
    twins = make_twins(records)
    apart = [longer(twin, 1.05) if place == 2 else twin for place, twin in enumerate(twins)]

    near, wide = build_sidecar(records, twins), build_sidecar(records, apart)
    run = longer(records[0], 1.2)

    assert moved_gradient(run, near) != ""
    assert moved_gradient(run, wide) == ""


def test_a_gradient_that_is_rounding_itself_is_not_compared():
    tiny = {"grad/bias": np.full(3, 1e-9, np.float32)}
    records = [record.with_arrays(**tiny) for record in make_records(range(5))]
    sidecar = build_sidecar(records, [twin.with_arrays(**tiny) for twin in make_twins(records)])
    other = records[0].with_arrays(**{"grad/bias": np.full(3, 5e-9, np.float32)})

    assert moved_gradient(other, sidecar) == ""


def test_nan_and_missing_gradients_are_outside(stored):
    nan = make_record(0).with_arrays(**{KEY: np.full((4, 2), np.nan, np.float32)})
    none = make_record(0).with_arrays(**{KEY: None})

    assert "has length nan" in moved_gradient(nan, stored.sidecar)
    assert moved_gradient(none, stored.sidecar) == "0 parameters have a gradient at the first step, stored 1"


def test_without_stored_lengths_nothing_is_said():
    assert moved_gradient(make_record(0), Sidecar(arrays={"seeds": np.arange(5)})) == ""
    assert "gradient/norm" not in build_sidecar(make_records(range(5)))


def test_twice_the_gradient_is_changed_though_losses_and_metrics_are_equal(stored):
    runs = [longer(make_record(seed), 2.0) for seed in range(2)]

    first, both = stored.judge(runs[0]), stored.judge(*runs)

    assert judge_pair(runs[0], stored.baseline, stored.sidecar).state is PairingState.BEYOND
    assert first.verdict is Verdict.UNDECIDED
    assert (both.level, both.verdict) == (Level.UNPAIRED, Verdict.CHANGED)
    assert stored.judge(make_record(0)).verdict is Verdict.PASS


def test_fewer_users_than_stored_are_no_rounding(stored):
    record = make_record(0)
    protocol = {split: {**known, "num_scored": 999} for split, known in record.facts["protocol"].items()}
    fewer = type(record)(
        spec=record.spec,
        environment=record.environment,
        arrays=record.arrays,
        facts={**record.facts, "protocol": protocol},
    )

    pairing = judge_pair(fewer, stored.baseline, stored.sidecar)

    assert pairing.state is PairingState.OTHER_PROTOCOL
    assert pairing.figure == "999 users of test are scored, stored 1000"


@pytest.mark.parametrize("system", ["adaptive_sasrec", "comirec", "gear", "gram_c", "ur4rec"])
class TestStoredTwins:
    """The calibration of both envelopes, on what this repository stores."""

    @pytest.fixture
    def bulk(self, system):
        store = BaselineStore(Path(__file__).parents[2] / "baselines")
        return store.sidecar(store.load(system, "cpu"))

    def test_rounding_uses_less_than_a_hundredth_of_the_least_envelope_of_gradients(self, bulk):
        norms, twins = bulk["gradient/norm"], bulk["gradient/twin"]
        least = LEAST_ENVELOPE * norms + SMALLEST * np.linalg.norm(norms, axis=1, keepdims=True)

        assert (np.abs(twins - norms) < 0.01 * least).all()

    def test_at_most_one_twin_of_a_system_leaves_the_prefix_that_the_others_allow(self, bulk):
        beyond = []
        for seed in bulk["seeds"]:
            others = bulk["seeds"] != seed
            kept = {**bulk.arrays, "prefix/twin": np.where(others[:, None], bulk["prefix/twin"], bulk["prefix/loss"])}
            losses = bulk["prefix/twin"][~others][0]
            twin = make_record(int(seed)).with_arrays(loss__total=losses[np.isfinite(losses)])
            beyond.append(prefix_of(twin, Sidecar(arrays=kept)).first_outside is not None)

        assert sum(beyond) <= 1
