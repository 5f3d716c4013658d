import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_record
from rectest.baseline.features import feature_names, features, higher_is_better, raw_feature, split_of
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

    # ceil(4 / 3) = 2 evaluations and ceil(3 / 3) = 1 step are the last third
    assert obtained == {"test/recall@10": 0.25, "valid/recall@10/late": 0.25, "loss/late": 1.0}


@given(num_evals=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_window_is_never_empty_and_never_more_than_a_third_and_one(num_evals):
    curve = np.zeros(num_evals)
    curve[-1] = 1.0

    obtained = raw_feature(make_record().with_arrays(metric__valid__hit=curve), "valid/hit/late")

    assert 1 <= round(1 / obtained) <= num_evals / 3 + 1


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
