"""The planted law: probabilities that sum to one, and successors that are a ring."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.worlds import tiny_world, world_with


@pytest.mark.parametrize("name", ["tiny", "taste-small"])
def test_all_parts_are_probability_laws(name):
    law = tiny_world(name).oracle.law

    assert law.global_law.sum() == pytest.approx(1.0)
    assert law.cluster_law.sum(axis=1) == pytest.approx(1.0)
    assert law.prior.sum() == pytest.approx(1.0)
    assert law.successor_law.sum() == pytest.approx(1.0)
    assert law.global_law[0] == 0
    assert (law.global_law[1:] > 0).all()
    assert (law.cluster_law[:, 0] == 0).all()


def test_successors_are_a_ring_in_which_nothing_follows_itself():
    law = tiny_world().oracle.law
    steps = law.successors[1:]

    assert all(sorted(column.tolist()) == list(range(1, 41)) for column in steps.T)
    assert (steps != np.arange(1, 41)[:, None]).all()
    assert law.successors[law.successors[:, 0], 0].tolist() == law.successors[:, 1].tolist()
    item, visited = 1, []
    for _ in range(40):
        visited.append(item)
        item = int(law.successors[item, 0])
    assert sorted(visited) == list(range(1, 41))
    assert int((np.diff(law.cluster[visited]) != 0).sum()) <= law.num_tastes


def test_each_cluster_has_its_share_of_every_popularity_level():
    law = tiny_world("taste-small").oracle.law
    mass = [law.global_law[law.cluster == cluster].sum() for cluster in range(1, law.num_tastes + 1)]

    assert min(mass) > 0.05
    assert np.bincount(law.cluster)[1:].max() - np.bincount(law.cluster)[1:].min() <= 1


def test_ids_in_order_of_planted_popularity():
    law = world_with(shuffled_ids=False).oracle.law

    assert (np.diff(law.global_law[1:]) < 0).all()


def test_the_law_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        tiny_world().oracle.law.global_law[1] = 0.5
