import numpy as np
import pytest

from fixtures.baselines import make_baseline, make_whole_baseline
from rectest.baseline.looks import promised_drop
from rectest.baseline.summary import summarized

RECALL = "test/recall@10"


def of(baseline, name=RECALL):
    return next(each for each in summarized(baseline) if each.feature == name)


def test_hand_computed():
    baseline = make_baseline(5)
    values = (0.1, 0.2, 0.1, 0.2, 0.1)
    twins = {name: tuple(1.01 * v for v in kept) for name, kept in baseline.ensemble.features.items()}
    ensemble = baseline.ensemble.model_copy(
        update={
            "features": {**baseline.ensemble.features, RECALL: values},
            "twins": {**twins, RECALL: tuple(1.01 * value for value in values)},
            "user_variance": {RECALL: 0.05},
        }
    )
    found = of(baseline.model_copy(update={"ensemble": ensemble}))
    variance = np.log(values).var(ddof=1)

    assert found.mean == pytest.approx(0.14)
    assert found.run_sd == pytest.approx(np.sqrt(variance))
    assert found.rounding_sd == pytest.approx(np.log(1.01))
    assert found.phi == pytest.approx(variance / 0.05)
    assert found.declared == baseline.declared.mdd[RECALL]


def test_twins_of_a_chosen_sd_are_seen_beside_the_runs():
    baseline, _ = make_whole_baseline(64, sd=0.02, rounding=0.005)
    found = of(baseline)

    assert found.run_sd == pytest.approx(0.02, rel=0.3)
    assert found.rounding_sd == pytest.approx(0.005, rel=0.3)
    assert found.phi == pytest.approx(4, rel=0.6)


def test_what_a_file_does_not_hold_is_none():
    baseline = make_baseline()
    bare = baseline.model_copy(
        update={"declared": None, "ensemble": baseline.ensemble.model_copy(update={"user_variance": {}})}
    )
    found = of(bare)

    assert (found.rounding_sd, found.phi, found.declared) == (None, None, None)
    assert found.caught == promised_drop(bare, RECALL)


def test_one_summary_per_feature_in_order():
    baseline = make_baseline()

    assert sorted(baseline.ensemble.features) == [each.feature for each in summarized(baseline)]
    assert of(baseline, "loss/late").phi is None
