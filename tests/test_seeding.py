"""`SeedPlan`: streams depend on their name alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.seeding import SeedPlan

NAMES = st.text(alphabet="abcdefgh", min_size=1, max_size=8)
SEEDS = st.integers(min_value=0, max_value=2**63 - 1)


def test_streams_are_pinned():
    """These numbers are part of every stored baseline: a change here moves all of them."""
    plan = SeedPlan(root=42)

    assert plan.seed("init") == 8043233216926485205
    assert plan.rng("batches").integers(0, 1000, 4).tolist() == [151, 232, 285, 703]


def test_drawing_from_one_stream_never_moves_another():
    plan = SeedPlan(root=7)
    expected = plan.rng("batches").random(5)
    negatives = plan.rng("negatives")
    negatives.random(10_000)

    obtained = plan.rng("batches").random(5)

    assert np.array_equal(expected, obtained)


@settings(max_examples=50, deadline=None)
@given(root=SEEDS, names=st.lists(NAMES, min_size=2, max_size=6, unique=True))
def test_order_of_making_streams_does_not_matter(root, names):
    plan = SeedPlan(root=root)

    forward = {name: plan.seed(name) for name in names}
    backward = {name: plan.seed(name) for name in reversed(names)}

    assert forward == backward
    assert len(set(forward.values())) == len(names)


@settings(max_examples=50, deadline=None)
@given(root=SEEDS, first=NAMES, second=NAMES)
def test_child_is_the_path(root, first, second):
    plan = SeedPlan(root=root)

    assert plan.child(first).child(second) == plan.child(f"{first}/{second}")
    assert plan.child(first).seed(second) == plan.seed(f"{first}/{second}")


@settings(max_examples=30, deadline=None)
@given(root=SEEDS)
def test_another_root_or_rank_is_another_stream(root):
    plan = SeedPlan(root=root)
    other = SeedPlan(root=root ^ 1)
    seeds = {plan.seed("dropout"), other.seed("dropout"), plan.for_rank(0).seed("dropout")}
    seeds.add(plan.for_rank(1).seed("dropout"))

    assert len(seeds) == 4


def test_the_hash_seed_of_the_process_does_not_matter():
    code = "from rectest.seeding import SeedPlan; print(SeedPlan(root=3).seed('a/b'))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert printed == {f"{SeedPlan(root=3).seed('a/b')}\n"}


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b"])
def test_odd_names_are_refused(name):
    with pytest.raises(ValueError, match="a stream needs a name"):
        SeedPlan(root=0).seed(name)


@pytest.mark.parametrize(
    ("root", "error"), [(-1, ValueError), (2**63, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_odd_roots_are_refused(root, error):
    with pytest.raises(error, match="root seed must be"):
        SeedPlan(root=root)


def test_negative_ranks_are_refused():
    with pytest.raises(ValueError, match="rank must be at least 0"):
        SeedPlan(root=0).for_rank(-1)
