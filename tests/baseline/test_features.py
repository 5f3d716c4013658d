import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_record
from rectest.baseline.features import (
    WINDOWS,
    feature_names,
    features,
    higher_is_better,
    raw_feature,
    split_of,
    too_few_hits,
    weights,
    window,
)
from rectest.errors import RecordError


def test_hand_computed():
    record = make_record().with_arrays(
        **{
            "metric/test/recall@10": np.array([0.25]),
            "metric/valid/recall@10": np.array([0.0, 0.1, 0.2, 0.3]),
            "loss/total": np.array([9.0, 9.0, 1.0]),
        },
    )

    obtained = features(record)

    # Thirds of four evaluations are the first two, none, and the last two.
    assert obtained == {
        "test/recall@10": 0.25,
        "valid/recall@10/early": 0.05,
        "valid/recall@10/late": 0.25,
        "loss/early": 9.0,
        "loss/mid": 9.0,
        "loss/late": 1.0,
    }


@given(size=st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_windows_part_a_curve_into_thirds(size):
    places = [list(range(size)[window(part, size)]) for part in WINDOWS]

    assert [place for part in places for place in part] == list(range(size))
    assert 1 <= len(places[2]) <= size / 3 + 1
    assert len(places[0]) <= len(places[2])
    assert len(places[1]) <= len(places[0]) or size == 1


def test_a_curve_of_one_value_has_a_late_window_only():
    short = make_record().with_arrays(**{"metric/valid/recall@10": np.array([0.2])})

    assert [name for name in feature_names(short) if "valid" in name] == ["valid/recall@10/late"]


def test_an_empty_curve_is_missed():
    """Planted fault: evaluation was switched off."""
    empty = make_record().with_arrays(**{"metric/valid/recall@10": np.array([])})

    assert "valid/recall@10/late" in feature_names(empty)
    with pytest.raises(RecordError, match="'metric/valid/recall@10' is empty"):
        features(empty)
    with pytest.raises(RecordError, match="has 1 values, too few for its early window"):
        raw_feature(make_record().with_arrays(**{"loss/total": np.ones(1)}), "loss/early")


class TestWeights:
    def test_by_hand(self):
        names = ["test/a", "test/b", "valid/a/late", "valid/a/mid", "valid/a/early", "loss/late"]

        obtained = weights(names)

        assert obtained == pytest.approx(
            {
                "test/a": 0.30 / 3,
                "test/b": 1 / 3,
                "valid/a/late": 0.30 / 3,
                "valid/a/mid": 0.25 / 3,
                "valid/a/early": 0.15 / 3,
                "loss/late": 1 / 3,
            }
        )

    @given(st.permutations(["loss/early", "loss/late", "test/a", "test/b", "valid/a/late", "valid/b/late"]))
    @settings(max_examples=30, deadline=None)
    def test_each_feature_keeps_its_share_in_whatever_order(self, names):
        obtained = weights(names)

        assert list(obtained) == names
        assert sum(obtained.values()) == pytest.approx(1.0)
        assert obtained == pytest.approx({name: weights(sorted(names))[name] for name in names})


@pytest.mark.parametrize(
    ("name", "mean", "num_scored", "expected"),
    [
        ("valid/recall@10/early", 0.0049, 1000, True),
        ("valid/recall@10/early", 0.0051, 1000, False),
        ("valid/recall@10/early", 0.0049, None, False),
        ("test/recall@10", 0.001, 1000, False),
        ("valid/mean_rank/late", 1e-9, 10, False),
        ("loss/late", 1e-9, 10, False),
    ],
)
def test_windows_with_fewer_than_five_hits_are_too_thin(name, mean, num_scored, expected):
    assert expected is too_few_hits(name, mean, num_scored)


def test_gated_measures_are_the_declared_ones_or_all():
    extra = {"metric/test/mrr": np.array([0.1])}

    assert "test/mrr" not in feature_names(make_record().with_arrays(**extra))
    assert "test/mrr" in feature_names(make_record(gate={}).with_arrays(**extra))
    assert "loss/late" not in feature_names(make_record(gate={"metrics": ["recall@10"], "loss": False}))


@pytest.mark.parametrize(
    ("name", "higher", "split"),
    [
        ("test/recall@10", True, "test"),
        ("valid/ndcg@5/late", True, "valid"),
        ("test/mean_rank", False, "test"),
        ("valid/mean_rank/late", False, "valid"),
        ("loss/late", False, None),
    ],
)
def test_direction_and_split(name, higher, split):
    assert (higher, split) == (higher_is_better(name), split_of(name))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -0.1])
def test_a_value_without_a_logarithm_is_refused(value):
    with pytest.raises(RecordError, match=r"test/recall@10 is .*, needed a finite number above zero$"):
        features(make_record().with_arrays(**{"metric/test/recall@10": np.array([value])}))


def test_a_negative_loss_says_how_to_leave_it_out():
    with pytest.raises(RecordError, match=r"loss/late is -1.0.*facts\['gate'\]\['loss'\] = False"):
        features(make_record().with_arrays(loss__total=np.array([-1.0])))


def test_missing_and_empty_arrays_are_named():
    with pytest.raises(RecordError, match=r"has no 'metric/test/recall@20'"):
        features(make_record(gate={"metrics": ["recall@20"]}))
    with pytest.raises(RecordError, match="'loss/total' is empty"):
        features(make_record().with_arrays(loss__total=np.array([])))
    with pytest.raises(RecordError, match="nothing to judge"):
        features(make_record(gate={"loss": False}).with_arrays(**{"metric/test/recall@10": None}))
