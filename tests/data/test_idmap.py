"""Id maps: a bijection in a documented order, and no way to get a 0 for something unknown."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.data.idmap import IdMap
from rectest.errors import DataError

raw_ids = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6), min_size=1, max_size=20
)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("sorted", ("2", "10", "33")), ("first_seen", ("10", "2", "33")), ("popularity", ("33", "2", "10"))],
)
def test_orders_by_hand(order, expected):
    obtained = IdMap.from_raw([10, 2, 33, 2, 33, 33, 10], order=order).raws

    assert obtained == expected


def test_sorted_is_by_code_point_unless_all_are_integers():
    assert IdMap.from_raw(["10", "9", "a"]).raws == ("10", "9", "a")
    assert IdMap.from_raw(["10", "9", "-1"]).raws == ("-1", "9", "10")
    assert IdMap.from_raw(["10", "9", "09"]).raws == ("09", "10", "9")


def test_index_and_raw_by_hand():
    items = IdMap(raws=("x", "y"), first_index=1)
    users = IdMap(raws=("x", "y"), first_index=0)

    assert (items.index("x"), items.index("y"), users.index("x")) == (1, 2, 0)
    assert (items.raw(2), users.raw(0)) == ("y", "x")
    assert items.to_array().tolist() == ["", "x", "y"]
    assert users.to_array().tolist() == ["x", "y"]
    assert "x" in items
    assert "z" not in items
    assert items.take([2]).raws == ("y",)


@settings(max_examples=50, deadline=None)
@given(raw_ids, st.sampled_from(["sorted", "first_seen", "popularity"]), st.integers(0, 1))
def test_every_map_is_a_bijection(raws, order, first_index):
    ids = IdMap.from_raw(raws, order=order, first_index=first_index)
    codes = ids.encode(raws)

    assert ids.decode(codes).tolist() == raws
    assert sorted(set(codes.tolist())) == list(range(first_index, first_index + len(ids)))
    assert codes.tolist() == [ids.index(raw) for raw in raws]
    assert set(raws) == set(ids.raws)


def test_unknown_ids_are_named():
    ids = IdMap(raws=("a", "b"))

    with pytest.raises(DataError, match="unknown raw id 'c'"):
        ids.index("c")
    with pytest.raises(DataError, match="unknown raw id 'z'"):
        ids.encode(["a", "z", "c"])
    with pytest.raises(DataError, match=r"dense index 0 is outside 1\.\.2"):
        ids.raw(0)
    with pytest.raises(DataError, match="dense index 3"):
        ids.decode([1, 3])


@pytest.mark.parametrize("raw", [487.0, None, True, b"a"])
def test_only_text_and_integers_are_raw_ids(raw):
    with pytest.raises(TypeError, match="a raw id must be a string or an integer"):
        IdMap.from_raw([raw])


def test_a_float_column_does_not_find_integer_ids():
    ids = IdMap.from_raw([487, 488])

    with pytest.raises(TypeError, match=r"487\.0"):
        ids.encode(np.array([487.0]))
    with pytest.raises(DataError, match=r"unknown raw id '487\.0'"):
        ids.index("487.0")


@pytest.mark.parametrize(
    ("raws", "problem"),
    [(("a", "a"), "'a' occurs twice"), ((), "at least one raw id"), (("",), "is empty"), (("a\0",), "NUL")],
)
def test_bad_maps_are_refused(raws, problem):
    with pytest.raises(DataError, match=problem):
        IdMap(raws=raws)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="first_index must be 0 or 1"):
        IdMap(raws=("a",), first_index=2)
    with pytest.raises(ValueError, match="order must be one of"):
        IdMap.from_raw(["a"], order="random")
    with pytest.raises(TypeError, match="a set has no first-seen order"):
        IdMap.from_raw({"a", "b"}, order="first_seen")
    with pytest.raises(TypeError, match="a collection of ids"):
        IdMap.from_raw("abc")
    with pytest.raises(DataError, match="at least one raw id"):
        IdMap.from_raw([])


def test_digest_depends_on_order_and_first_index():
    digest = IdMap(raws=("a", "b")).digest()

    assert digest == IdMap(raws=("a", "b")).digest()
    assert digest != IdMap(raws=("b", "a")).digest()
    assert digest != IdMap(raws=("a", "b"), first_index=0).digest()
    assert IdMap(raws=("ab", "c")).digest() != IdMap(raws=("a", "bc")).digest()


@pytest.mark.parametrize("order", ["sorted", "popularity"])
def test_even_a_set_gives_one_order_under_any_hash_seed(order):
    code = f"from rectest.data.idmap import IdMap; print(IdMap.from_raw(set('hgfedcba'), order={order!r}).digest())"
    obtained = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(obtained) == 1
