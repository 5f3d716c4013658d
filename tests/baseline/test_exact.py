import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_record
from rectest.baseline.exact import GROUPS, describe_change, differing_groups, digests, final_values, seed_entry
from rectest.errors import RecordError

CHANGES = {
    "id_map": "idmap/item",
    "init": "table_init/item",
    "batches": "tape/batch",
    "negatives": "tape/negatives",
    "losses": "loss/total",
    "gradients": "grad/item.weight",
    "tables": "table/item",
    "ranks": "ranks/test/expected",
    "metrics": "metric/test/recall@10",
}


@pytest.mark.parametrize(("group", "key"), CHANGES.items())
def test_each_group_sees_its_own_arrays_and_no_others(group, key):
    record = make_record()
    changed = record.with_arrays(**{key: np.array([7.0])})

    assert [group] == differing_groups(digests(record), digests(changed))


def test_the_groups_are_in_the_order_of_training():
    record = make_record()
    changed = record.with_arrays(**{key: np.array([7.0]) for key in reversed(CHANGES.values())})

    assert list(GROUPS) == differing_groups(digests(record), digests(changed))


def test_every_array_of_a_training_belongs_to_one_group_at_most():
    prefixes = [prefix for group in GROUPS.values() for prefix in group]

    assert not [(p, q) for p in prefixes for q in prefixes if p != q and p.startswith(q)]


def test_final_values_are_the_last_ones():
    record = make_record()
    obtained = final_values(record)

    assert obtained == {
        "test/recall@10": float(record["metric/test/recall@10"][0]),
        "valid/recall@10": float(record["metric/valid/recall@10"][-1]),
        "loss/total": float(record["loss/total"][-1]),
    }


@given(value=st.floats(allow_nan=False, allow_infinity=False), steps=st.integers(1, 100))
@settings(max_examples=50, deadline=None)
def test_distance_counts_floats_between(value, steps):
    other = value
    for _ in range(steps):
        other = math.nextafter(other, -math.inf if value > 0 else math.inf)

    assert f"({steps} ulp)" in describe_change(value, other)


@pytest.mark.parametrize(
    ("expected", "obtained", "text"),
    [(0.25, 0.2, "-20 %"), (0.0, 0.5, "+0.5"), (0.0, -0.0, "0 ulp"), (0.2, math.nan, "not finite")],
)
def test_distance_in_words(expected, obtained, text):
    assert text in describe_change(expected, obtained)


def test_values_that_no_baseline_can_hold_are_refused():
    with pytest.raises(RecordError, match="test/recall@10 is nan, needed a finite number"):
        seed_entry(make_record().with_arrays(**{"metric/test/recall@10": np.array([np.nan])}))
    record = make_record()
    with pytest.raises(RecordError, match="has no array that a baseline stores"):
        seed_entry(record.with_arrays(**dict.fromkeys(record.arrays)))
