"""The same seed then and now: what rounding explains, and every kind of difference that it does not."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from fixtures.baselines import make_record, make_records, make_twins
from fixtures.gate import ELSEWHERE, chaotic, other_batches, recorded, rounded, scaled
from rectest.baseline.features import weights
from rectest.baseline.judge import judge_sequential
from rectest.baseline.paired import ALPHA, PairingState, judge_pair, pairs_exclude, prefix_of
from rectest.baseline.power import t_quantile

STATES = PairingState


@pytest.fixture(scope="module")
def whole():
    return recorded()


def pair(whole, record):
    return judge_pair(record, whole.baseline, whole.sidecar)


def edited(record, key, edit):
    value = record[key].copy()
    edit(value)
    return record.with_arrays(**{key: value})


class TestStates:
    def test_the_same_run_is_within(self, whole):
        found = pair(whole, make_record(3))

        assert (found.state, found.seed) == (STATES.WITHIN, 3)
        assert found.figure == "the first 30 losses use 0 % of what rounding explains"
        assert [window.shift for window in found.windows] == pytest.approx([0.0] * 7)

    @pytest.mark.parametrize("seed", range(16))
    def test_controls_stay_within(self, whole, seed):
        """Another order of additions, and each seed's own twin."""
        (twin,) = make_twins([make_record(seed)])

        assert pair(whole, rounded(seed)).state is STATES.WITHIN
        assert pair(whole, twin.with_arrays()).state is STATES.WITHIN
        assert pair(whole, rounded(seed, environment=ELSEWHERE)).state is STATES.WITHIN

    def test_a_seed_that_is_not_stored_has_no_pair(self, whole):
        found = pair(whole, make_record(99))

        assert (found.state, found.figure) == (STATES.NO_PAIR, "seed 99 is not among the stored ones")

    def test_a_baseline_without_twins_has_no_pair(self):
        bare = recorded(twins=False)

        for sidecar in (bare.sidecar, None):
            found = judge_pair(make_record(0), bare.baseline, sidecar)
            assert (found.state, found.figure.partition(";")[0]) == (
                STATES.NO_PAIR,
                "the baseline has no rounding twins",
            )

    def test_a_run_without_losses_records_less(self, whole):
        found = pair(whole, make_record(0).with_arrays(**{"loss/total": None}))

        assert (found.state, found.figure) == (STATES.OTHER_PROTOCOL, "no longer recorded: loss/total, losses")

    def test_a_seed_whose_losses_were_never_finite_has_no_pair(self, whole):
        arrays = {**whole.sidecar.arrays, "prefix/loss": np.full((16, 30), np.nan)}
        found = judge_pair(make_record(0), whole.baseline, dataclasses.replace(whole.sidecar, arrays=arrays))

        assert (found.state, found.figure) == (STATES.NO_PAIR, "no finite loss is stored for seed 0")


class TestStreams:
    """Planted faults: a stream drew something else, and nothing else was touched."""

    def test_batches_only(self, whole):
        found = pair(whole, other_batches(0))

        assert found.state is STATES.OTHER_STREAMS
        assert "the batches of the first 50 steps are not those that seed 0 drew" in found.figure

    def test_negatives_only(self, whole):
        found = pair(whole, edited(make_record(0), "tape/negatives", lambda tape: tape.__setitem__(0, 7)))

        assert found.state is STATES.OTHER_STREAMS
        assert "the negatives of the first" in found.figure

    def test_a_stream_that_is_gone(self, whole):
        assert pair(whole, make_record(0).with_arrays(**{"tape/negatives": None})).state is STATES.OTHER_PROTOCOL

    def test_init_only(self, whole):
        found = pair(whole, edited(make_record(0), "init/first", lambda init: init.__setitem__(slice(0, 3), 9.0)))

        assert found.state is STATES.OTHER_STREAMS
        assert found.figure == "3 of 12 initial values that were looked at are other draws"

    @pytest.mark.parametrize(
        ("init", "words"),
        [
            (np.full(12, np.nan), "12 of 12 initial values"),
            (np.ones(7), "the model has other parameters: 7 first values, stored 12"),
            (None, "the run says nothing about its initial parameters"),
        ],
    )
    def test_init_that_cannot_be_the_same(self, whole, init, words):
        found = pair(whole, make_record(0).with_arrays(**{"init/first": init}))

        assert found.state is STATES.OTHER_STREAMS
        assert words in found.figure

    def test_another_initialiser_formula_is_rounding(self, whole):
        record = make_record(0)

        assert (
            pair(whole, record.with_arrays(**{"init/first": record["init/first"] * (1 + 1e-5)})).state is STATES.WITHIN
        )

    @pytest.mark.parametrize(("key", "group"), [("tape/id_map", "id_map"), ("idmap/item", "id_map")])
    def test_ids_are_never_rounded(self, whole, key, group):
        """The digests of the first batches are equal; the bits stored for this environment are not."""
        found = pair(whole, make_record(0).with_arrays(**{key: np.full((1, 2), 5, np.uint64)}))

        assert found.state is STATES.OTHER_STREAMS
        assert f"the stored bits of {group} are others" in found.figure

    def test_a_late_batch_is_never_rounded(self):
        """Beyond the first 50 steps, which the digest of the stream covers."""
        long = recorded(5)
        tape = np.vstack([make_record(0)["tape/batch"]] * 3)
        baseline = long.baseline
        record = make_record(0).with_arrays(**{"tape/batch": tape})
        known = recorded_with(long, record)
        moved = edited(record, "tape/batch", lambda batch: batch.__setitem__(70, 1000))

        assert judge_pair(record, known.baseline, known.sidecar).state is STATES.WITHIN
        found = judge_pair(moved, known.baseline, known.sidecar)
        assert found.state is STATES.OTHER_STREAMS
        assert "the stored bits of batches are others" in found.figure
        assert baseline.spec == known.baseline.spec

    def test_what_is_no_longer_recorded_is_not_rounding(self, whole):
        found = pair(whole, make_record(0).with_arrays(**{"table/item": None}))

        assert (found.state, found.figure) == (STATES.OTHER_PROTOCOL, "no longer recorded: tables")


def recorded_with(whole, record):
    """The same recording with one seed's run replaced."""
    from fixtures.baselines import PROVENANCE
    from rectest.baseline.build import build_baseline
    from rectest.baseline.sidecar import build_sidecar

    records = [record, *make_records(whole.baseline.ensemble.seeds[1:])]
    twins = make_twins(records)
    baseline = build_baseline(records, twins=twins, reason="again", provenance=PROVENANCE)
    return dataclasses.replace(whole, baseline=baseline, sidecar=build_sidecar(records, twins))


class TestPrefix:
    def test_the_first_step_outside_is_named(self, whole):
        found = pair(whole, chaotic(0, step=7))
        stored = make_record(0)["loss/total"][6]

        assert found.state is STATES.BEYOND
        assert found.prefix.first_outside == 7
        assert found.figure.startswith(f"first at step 7: loss {stored * 1.02:.8g}, stored {stored:.8g}; rounding")

    def test_the_envelope_by_hand(self, whole):
        found = prefix_of(make_record(0), whole.sidecar)
        records = make_records(range(16))
        apart = [np.abs(t["loss/total"] - r["loss/total"]) for r, t in zip(records, make_twins(records), strict=True)]
        largest = np.maximum.accumulate(np.max(apart, axis=0))

        assert found.envelope == pytest.approx(np.maximum(10 * largest, 1e-4 * records[0]["loss/total"]))
        assert found.first_outside is None

    def test_a_shorter_run_is_outside_from_its_end_on(self, whole):
        record = make_record(0)
        found = prefix_of(record.with_arrays(**{"loss/total": record["loss/total"][:11]}), whole.sidecar)

        assert found.first_outside == 12

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_loss_that_is_not_finite_is_outside(self, whole, value):
        found = pair(whole, edited(make_record(0), "loss/total", lambda loss: loss.__setitem__(4, value)))

        assert found.state is STATES.BEYOND
        assert found.prefix.first_outside == 5

    def test_a_twin_that_diverged_explains_nothing(self, whole):
        """Planted fault: its infinite difference would let every run pass."""
        twin = whole.sidecar["prefix/twin"].copy()
        twin[3, 2:] = np.inf
        arrays = {**whole.sidecar.arrays, "prefix/twin": twin}
        found = judge_pair(chaotic(0, step=7), whole.baseline, dataclasses.replace(whole.sidecar, arrays=arrays))

        assert found.state is STATES.BEYOND


class TestWindows:
    def test_a_window_outside_while_the_prefix_is_within(self, whole):
        record = scaled(make_record(0), 0.97, only=("metric/test/",))
        found = pair(whole, record)

        assert found.state is STATES.BEYOND
        assert found.prefix.first_outside is None
        assert found.figure.startswith("test/recall@10 is 0.19")
        assert "(-3 %); rounding explains" in found.figure

    def test_the_limit_by_hand(self, whole):
        ensemble = whole.baseline.ensemble
        (window,) = [each for each in pair(whole, make_record(0)).windows if each.name == "valid/recall@10/late"]
        stored, twins = (np.log(values[window.name]) for values in (ensemble.features, ensemble.twins))
        rms = math.sqrt(np.mean((twins - stored) ** 2))
        share = weights(ensemble.features)[window.name]

        assert window.sd == pytest.approx(max(rms, 0.1 * np.std(stored, ddof=1)))
        assert window.limit == pytest.approx(t_quantile(1e-3 * share / 2, 16.0) * window.sd)

    def test_twins_equal_to_the_bit_have_the_limit_of_a_tenth(self):
        """Planted fault: a limit of zero would call one ulp a change."""
        equal = recorded(rounding=0.0)
        found = judge_pair(rounded(2), equal.baseline, equal.sidecar)

        assert found.state is STATES.WITHIN
        for window in found.windows:
            spread = np.log(equal.baseline.ensemble.features[window.name]).std(ddof=1)
            assert window.sd >= 0.1 * spread * (1 - 1e-9)
        assert judge_pair(scaled(make_record(2), 0.98), equal.baseline, equal.sidecar).state is STATES.BEYOND

    @pytest.mark.parametrize("value", [np.nan, 0.0, -0.1, np.inf])
    def test_a_value_without_a_logarithm_is_beyond(self, whole, value):
        found = pair(whole, make_record(0).with_arrays(**{"metric/test/recall@10": np.array([value])}))

        assert found.state is STATES.BEYOND
        assert f"test/recall@10 is {value!r}" in found.figure

    def test_a_metric_that_vanished_is_not_within(self, whole):
        record = make_record(0, environment=ELSEWHERE).with_arrays(**{"metric/test/recall@10": None})
        found = pair(whole, record)

        assert (found.state, found.figure) == (STATES.OTHER_PROTOCOL, "no longer recorded: test/recall@10")


class TestExclusion:
    """What a pair within rounding says about quality: with wide twins, nothing."""

    def excluded(self, whole, *records):
        decision = judge_sequential(records, whole.baseline).decision
        return pairs_exclude([pair(whole, record) for record in records], decision, num_stored=16)

    def test_narrow_twins_exclude_what_the_gate_promises_to_see(self, whole):
        assert self.excluded(whole, rounded(0))

    def test_wide_twins_do_not(self):
        """Planted fault: rounding that carries a run twice as far as another seed does."""
        wide = recorded(rounding=0.03)
        dropped = scaled(make_record(0), 0.93, only=("metric/",))

        assert pair(wide, dropped).state is STATES.WITHIN
        assert not self.excluded(wide, dropped)
        assert not self.excluded(wide, rounded(0))

    def test_more_pairs_exclude_more(self):
        middling = recorded(rounding=0.012)

        assert not self.excluded(middling, rounded(0))
        assert self.excluded(middling, *(rounded(seed) for seed in range(5)))

    def test_pairs_without_windows_exclude_nothing(self, whole):
        assert not self.excluded(whole, rounded(0), other_batches(1))


def alarms(num_stored: int, trials: int, *, factor: float = 1.0) -> int:
    """How many clean pairs lie outside a window of one of seven features, by the formula of the limit."""
    rng = np.random.default_rng(num_stored)
    shares = np.array([0.1, 0.1, 0.25, 0.05, 0.3, 0.1, 0.1])
    limits = np.array([t_quantile(ALPHA * share / 2, float(num_stored)) for share in shares])
    twins = rng.normal(size=(trials, num_stored, 7))
    sd = np.sqrt((twins**2).mean(axis=1))
    return int((np.abs(factor * rng.normal(size=(trials, 7))) > limits * sd).any(axis=1).sum())


@pytest.mark.parametrize("num_stored", [5, 16])
def test_normal_twins_alarm_at_the_declared_rate(num_stored):
    """Planted fault: runs that lie twice as far apart as twins do."""
    trials = 40_000
    most = stats.binom.isf(1e-3, trials, ALPHA)

    assert stats.binom.ppf(1e-3, trials, ALPHA * 0.9) <= alarms(num_stored, trials) <= most
    assert alarms(num_stored, trials, factor=2.0) > most


def test_fresh_twins_through_the_judge_alarm_as_rarely_as_declared(whole):
    """Twins that the baseline has not seen, each with its own direction of rounding."""
    trials, beyond = 0, 0
    for draw in range(25):
        rng = np.random.default_rng([99, draw])
        for seed in range(16):
            record = make_record(seed)
            apart = np.exp(1e-3 * rng.normal() * np.linspace(1e-4, 1.0, 30))
            moved = {
                key: record[key] * np.exp(1e-3 * rng.normal()) for key in record.arrays if key.startswith("metric/")
            }
            twin = record.with_arrays(**moved, **{"loss/total": record["loss/total"] * apart})
            beyond += pair(whole, twin).state is not STATES.WITHIN
            trials += 1

    assert beyond <= stats.binom.isf(1e-3, trials, ALPHA)
