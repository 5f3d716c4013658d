"""Figures counted straight from the log, by hand; what differs where a row is another one."""

from __future__ import annotations

import numpy as np

from fixtures.gear import shop_world, start
from rectest.systems.gear.promises import HeldOut, held_out_figures, held_out_rows, repeated_slots


def test_figures_by_hand():
    """Ann's rows are A B C D at 10 13 20 27, Bob's B C A at 11 20 21; only Ann's last one is a purchase."""
    found = held_out_figures(shop_world(), min_rows=3, target=2)

    assert found["valid"] == HeldOut(num_users=2, num_targets=0, item_sum=0, known_sum=4, gap_sum=16)
    assert found["test"] == HeldOut(num_users=2, num_targets=1, item_sum=4, known_sum=6, gap_sum=8)


def test_without_times_every_gap_is_one():
    found = held_out_figures(shop_world(times=False), min_rows=3, target=2)

    assert found["test"].gap_sum == found["valid"].gap_sum == 2


def test_nobody_with_enough_rows_is_nobody():
    assert held_out_figures(shop_world(), min_rows=9, target=2)["test"].plain == [0, 0, 0, 0, 0]
    assert not held_out_rows(shop_world(), min_rows=9).any()


def test_held_out_rows_by_hand():
    assert np.flatnonzero(held_out_rows(shop_world(), min_rows=3)).tolist() == [4, 5, 6, 7]


def test_repeated_slots_of_drawn_candidates():
    run = start()

    assert repeated_slots(run.system.eval_set(run.data, "test").candidates) == 0
