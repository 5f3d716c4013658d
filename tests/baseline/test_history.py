import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import PROVENANCE, make_baseline, make_environment, make_records, make_whole_baseline
from rectest.baseline.build import extend_baseline
from rectest.baseline.ensemble import centre
from rectest.baseline.history import Drift, accepted_now, continued, drift_of, history_after, refusal_of, why_new_anchor
from rectest.baseline.schema import Accepted, Baseline
from rectest.errors import UpdateRefused

RECALL = "test/recall@10"


def recorded(recall: float = 0.2, *, reason: str = "later", **settings) -> Baseline:
    """A recording with nearly no noise, so that its mean is what is asked for."""
    origin = PROVENANCE.model_copy(update={"reason": reason})
    return make_baseline(8, recall=recall, sd=1e-4, **settings).model_copy(update={"provenance": origin})


def promising(baseline: Baseline, mdd: float) -> Baseline:
    """The same with another promise for each feature, as declared at its recording."""
    promises = dict.fromkeys(baseline.ensemble.features, mdd)
    changed = baseline.model_copy(update={"declared": baseline.declared.model_copy(update={"mdd": promises})})
    return changed.model_copy(update={"history": (accepted_now(changed),)})


def entry(means: dict[str, float], mdd: dict[str, float] | None = None) -> Accepted:
    return Accepted(date="2026-01-01", commit=None, reason="why", means=means, mdd=mdd or {})


ANCHOR = promising(make_baseline(8, sd=1e-4), 0.05)


class TestDrift:
    def test_hand_computed(self):
        history = (
            entry({RECALL: 0.20, "loss/late": 1.0}, {RECALL: 0.05, "loss/late": 0.02}),
            entry({RECALL: 0.18, "loss/late": 1.1}, {RECALL: 0.50}),
        )
        loss, recall = drift_of(history)

        assert (loss.feature, loss.relative, loss.cap, loss.exceeded) == ("loss/late", pytest.approx(0.1), None, False)
        assert (recall.anchor, recall.now, recall.cap) == (0.20, 0.18, 0.05)
        assert recall.relative == pytest.approx(-0.1)
        assert recall.exceeded

    @pytest.mark.parametrize(
        ("feature", "now", "exceeded"),
        [
            (RECALL, 0.19001, False),
            (RECALL, 0.18999, True),
            (RECALL, 0.5, False),
            ("test/mean_rank", 0.2099, False),
            ("test/mean_rank", 0.2101, True),
            ("test/mean_rank", 0.1, False),
        ],
    )
    def test_only_the_worse_direction_is_capped(self, feature, now, exceeded):
        assert exceeded is Drift(feature=feature, anchor=0.2, now=now, cap=0.05).exceeded

    def test_a_feature_that_came_later_is_measured_from_its_first_recording(self):
        history = (
            entry({RECALL: 0.2}),
            entry({RECALL: 0.2, "test/mrr": 0.3}, {"test/mrr": 0.1}),
            entry({"test/mrr": 0.2}),
        )
        recall, mrr = sorted(drift_of(history), key=lambda drift: drift.feature != RECALL)

        assert (mrr.anchor, mrr.cap, mrr.exceeded) == (0.3, 0.1, True)
        assert (recall.now, recall.relative) == (None, None)

    def test_an_entry_without_a_promise_takes_that_of_the_next_one(self):
        (drift,) = drift_of((entry({RECALL: 0.2}), entry({RECALL: 0.1}, {RECALL: 0.05})))

        assert (drift.anchor, drift.cap, drift.exceeded) == (0.2, 0.05, True)

    @given(steps=st.lists(st.floats(0.9, 1.1), min_size=1, max_size=8))
    @settings(max_examples=50, deadline=None)
    def test_drift_is_the_product_of_the_steps(self, steps):
        means = [0.2 * math.prod(steps[:n]) for n in range(len(steps) + 1)]
        (drift,) = drift_of(tuple(entry({RECALL: mean}) for mean in means))

        assert drift.relative == pytest.approx(math.prod(steps) - 1, abs=1e-12)


class TestContinued:
    def test_the_first_recording_is_its_own_anchor(self):
        found = continued(None, ANCHOR)

        assert ANCHOR.history == found.history == (accepted_now(ANCHOR),)
        assert found.history[0].mdd[RECALL] == 0.05
        assert found.history[0].means[RECALL] == pytest.approx(0.2, rel=1e-3)

    def test_recordings_follow_one_another_and_the_anchor_stays(self):
        found = ANCHOR
        for recall in (0.199, 0.198, 0.197):
            found = continued(found, recorded(recall, reason=f"to {recall}"))

        assert ANCHOR.history[0] == found.history[0]
        assert [each.reason for each in found.history[1:]] == ["to 0.199", "to 0.198", "to 0.197"]
        assert found.history[-1].means[RECALL] == centre(found.ensemble.features[RECALL])

    def test_small_steps_that_together_lose_too_much_are_refused(self):
        """Each of the steps is within the promise, and so is the control that stops before."""
        found = continued(continued(ANCHOR, recorded(0.196)), recorded(0.192))

        with pytest.raises(
            UpdateRefused, match=r"toy \(cpu\): test/recall@10 went from 0.2\d* to 0.188\d* \(-6 %\), the"
        ):
            continued(found, recorded(0.188))
        assert refusal_of(recorded(0.191), history_after(found, recorded(0.191))) == ""

    def test_the_refusal_says_since_when_and_what_to_do(self):
        with pytest.raises(
            UpdateRefused,
            match=r"promised to catch 5 %; .* 2026-08-01.*first recording.*1 accepted.*--new-anchor --reason",
        ):
            continued(ANCHOR, recorded(0.18))

    def test_the_promise_is_that_of_the_anchor_not_of_a_later_noisier_recording(self):
        noisy = make_baseline(8, recall=0.199, sd=0.2)
        assert noisy.declared.mdd[RECALL] > 0.5

        with pytest.raises(UpdateRefused, match="promised to catch 5 %"):
            continued(continued(ANCHOR, noisy), recorded(0.15))

    def test_a_rise_and_a_validation_metric_are_shown_and_let_through(self):
        better = continued(ANCHOR, recorded(0.3))
        worse = recorded().model_copy(update={"ensemble": _with_feature(recorded(), "valid/recall@10/late", 0.1)})

        assert len(better.history) == 2
        assert len(continued(ANCHOR, worse).history) == 2

    def test_a_new_anchor_begins_with_the_reason(self):
        found = continued(continued(ANCHOR, recorded(0.195)), recorded(0.1, reason="half the size"), new_anchor=True)

        assert [each.reason for each in found.history] == ["half the size"]
        assert drift_of(found.history)[0].relative == 0

    def test_another_world_starts_a_new_anchor_by_itself(self):
        new = recorded(0.1, world="blake2b:other")

        assert why_new_anchor(ANCHOR, new) == "the world changed"
        assert [accepted_now(new)] == list(continued(ANCHOR, new).history)

    @pytest.mark.parametrize("change", [{"steps": 7}, {"config": {"layers": 2}}])
    def test_a_loss_is_not_carried_past_the_cap_under_other_settings(self, change):
        """Recorded under other settings and then under the old ones, half of the metric would be gone unasked."""
        same = continued(ANCHOR, recorded(0.199, **change))

        assert why_new_anchor(ANCHOR, recorded(0.1, **change)) == ""
        assert [len(same.history), same.history[0]] == [2, ANCHOR.history[0]]
        with pytest.raises(UpdateRefused, match="begin a new anchor"):
            continued(ANCHOR, recorded(0.1, **change))
        assert len(continued(ANCHOR, recorded(0.1, **change), new_anchor=True).history) == 1

    def test_a_metric_that_is_renamed_is_refused_because_it_is_gone(self):
        old = make_baseline(8)
        features = {name.replace("recall@10", "hit@10"): values for name, values in old.ensemble.features.items()}
        new = old.model_copy(update={"ensemble": old.ensemble.model_copy(update={"features": features})})

        with pytest.raises(UpdateRefused, match=r"test/recall@10 is gone \(it was 0\.2"):
            continued(old, new)
        assert len(continued(old, new, new_anchor=True).history) == 1

    def test_a_metric_more_is_let_through(self):
        more = recorded()
        more = more.model_copy(update={"ensemble": _with_feature(more, "test/mrr", 0.4)})
        found = continued(ANCHOR, more)

        assert "test/mrr" not in found.history[0].means
        assert found.history[1].mdd["test/mrr"] > 0

    def test_the_same_recording_again_adds_nothing_but_its_bits(self):
        runs = make_records([0], environment=make_environment(threads=2), sd=1e-4)
        more = extend_baseline(ANCHOR, runs, reason="x", provenance=PROVENANCE)
        once = continued(ANCHOR, recorded(0.199))

        assert continued(ANCHOR, more).history == ANCHOR.history
        assert len(continued(ANCHOR, more).exact) == 2
        assert once.history == continued(once, recorded(0.199)).history

    def test_the_history_of_a_folder_of_candidates_does_not_count(self):
        candidate = recorded(0.199).model_copy(update={"history": (entry({RECALL: 9.9}), entry({RECALL: 0.199}))})

        assert [each.means[RECALL] < 1 for each in continued(ANCHOR, candidate).history] == [True, True]
        assert len(continued(None, candidate).history) == 1

    def test_files_that_kept_no_history_or_no_promise_are_anchors_too(self):
        """As schema 1 had it, and as the first files of schema 2."""
        bare = ANCHOR.model_copy(update={"history": (), "declared": None})
        first = ANCHOR.model_copy(update={"history": (ANCHOR.history[0].model_copy(update={"mdd": {}}),)})

        assert continued(first, recorded(0.199)).history[0] == ANCHOR.history[0]
        assert len(continued(bare, recorded(0.1999)).history) == 2
        for old in (bare, first):
            with pytest.raises(UpdateRefused, match="went from"):
                continued(old, recorded(0.18))

    def test_twins_are_no_part_of_the_drift(self):
        whole, _ = make_whole_baseline(8, sd=1e-4)

        assert len(continued(make_baseline(8, sd=1e-4), whole).history) == 2

    @given(steps=st.lists(st.floats(0.97, 1.03), min_size=1, max_size=12))
    @settings(max_examples=30, deadline=None)
    def test_no_sequence_of_accepts_gets_further_below_the_anchor_than_its_promise(self, steps):
        found, recall = ANCHOR, 0.2
        for step in steps:
            recall *= step
            try:
                found = continued(found, _moved(recall))
            except UpdateRefused:
                recall = found.history[-1].means[RECALL]

        assert found.history[-1].means[RECALL] >= found.history[0].means[RECALL] * (1 - 0.05)
        assert len(found.history) <= len(steps) + 1


def _with_feature(baseline: Baseline, name: str, value: float):
    num = len(baseline.ensemble.seeds)
    values = tuple(value * (1 + 1e-4 * place) for place in range(num))
    return baseline.ensemble.model_copy(update={"features": {**baseline.ensemble.features, name: values}})


def _moved(recall: float) -> Baseline:
    """The anchor with another value of its test metric."""
    factor = recall / ANCHOR.history[0].means[RECALL]
    values = tuple(factor * value for value in ANCHOR.ensemble.features[RECALL])
    features = {**ANCHOR.ensemble.features, RECALL: values}
    return ANCHOR.model_copy(update={"ensemble": ANCHOR.ensemble.model_copy(update={"features": features})})
