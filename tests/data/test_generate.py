"""Drawing events: lengths, times and items come from the planted law and from streams of their own."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.worlds import tiny_world
from rectest.data.generate import draw_behaviours, draw_histories, draw_lengths, draw_times, draw_words
from rectest.seeding import SeedPlan

PLAN = SeedPlan(root=3)


def test_first_items_follow_the_law():
    law = tiny_world().oracle.law
    num_users = 20_000
    items, taste = draw_histories(PLAN, law, np.ones(num_users, dtype=np.int64))
    expected = tiny_world().oracle.scores([np.zeros(0, dtype=np.int64)])[0]
    obtained = np.bincount(items[:, 0], minlength=41) / num_users

    error = np.sqrt(expected[1:] * (1 - expected[1:]) / num_users)
    assert (np.abs(obtained - expected)[1:] < 4.5 * error).all()
    assert np.bincount(taste) / num_users == pytest.approx(law.prior, abs=0.02)


@pytest.mark.parametrize("name", ["tiny", "tiny-repeats", "tiny-revisits"])
def test_later_items_follow_the_oracle(name):
    oracle = tiny_world(name).oracle
    items, _ = draw_histories(PLAN, oracle.law, np.full(4000, 5))
    expected = oracle.scores(list(items[:, :4])).mean(axis=0)
    obtained = np.bincount(items[:, 4], minlength=41) / len(items)

    error = np.sqrt(expected[1:] * (1 - expected[1:]) / len(items))
    assert (np.abs(obtained - expected)[1:] < 4.5 * error).all()


def test_lengths_are_inclusive_and_cold_users_exact():
    lengths = draw_lengths(PLAN, 1000, lengths=(5, 7), cold_fraction=0.1, cold_lengths=(1, 2))

    assert set(lengths.tolist()) == {1, 2, 5, 6, 7}
    assert int((lengths <= 2).sum()) == 100


def test_times_never_fall_within_a_user():
    lengths = np.array([3, 1, 4])
    times = draw_times(PLAN, lengths, equal_fraction=0.0)
    users = np.repeat(np.arange(3), lengths)

    assert (np.diff(times)[np.diff(users) == 0] >= 1).all()
    assert (
        draw_times(PLAN, np.array([5]), equal_fraction=1.0) == draw_times(PLAN, np.array([5]), equal_fraction=1.0)[0]
    ).all()


def test_behaviour_codes_start_at_one():
    drawn = draw_behaviours(PLAN, 10_000, shares=(0.25, 0.75))

    assert np.bincount(drawn) / 10_000 == pytest.approx([0.0, 0.25, 0.75], abs=0.02)


def test_kinds_of_own_events_have_their_own_shares_and_the_others_stay():
    own = np.arange(10_000) % 2 == 0
    plain = draw_behaviours(PLAN, 10_000, shares=(0.25, 0.75))
    drawn = draw_behaviours(PLAN, 10_000, shares=(0.25, 0.75), own_shares=(0.9, 0.1), own=own)

    assert np.bincount(drawn[own]) / 5000 == pytest.approx([0.0, 0.9, 0.1], abs=0.02)
    assert np.array_equal(plain[~own], drawn[~own])


def test_words_come_from_the_cluster_as_often_as_planted():
    cluster = tiny_world("taste-small").oracle.law.cluster
    words = draw_words(PLAN, cluster, per_item=40, per_cluster=10, common=30, cluster_probability=0.6)
    clusters_of = {}
    for own, text in zip(cluster.tolist(), words, strict=True):
        for word in text:
            clusters_of.setdefault(word, set()).add(own)
    special = {word for word, found in clusters_of.items() if len(found) == 1}
    total = 40 * (len(cluster) - 1)
    obtained = sum(word in special for text in words for word in text) / total

    assert words[0] == ()
    assert {len(text) for text in words[1:]} == {40}
    assert (len(clusters_of), len(special)) == (8 * 10 + 30, 8 * 10)
    assert obtained == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / total))


@pytest.mark.parametrize(("probability", "num_words"), [(0.0, 30), (1.0, 80)])
def test_words_of_one_vocabulary_only(probability, num_words):
    cluster = tiny_world("taste-small").oracle.law.cluster
    words = draw_words(PLAN, cluster, per_item=20, per_cluster=10, common=30, cluster_probability=probability)

    assert len({word for text in words for word in text}) == num_words
