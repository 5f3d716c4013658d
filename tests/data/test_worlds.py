"""The named worlds: reproducible, shaped as their specs say, and hard enough to tell a good model from a bad one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from fixtures.worlds import tiny_world, world_with
from rectest.data.worlds import WORLDS, WorldSpec, load_world, make_world
from rectest.errors import DataError, UnknownNameError

PINNED = {
    "behaviours-small": "blake2b:03912ea663f6bf4f9ea2600e552a9c65",
    "taste-small": "blake2b:3a075fc85cf66406627f0ed01b7b0d85",
    "taste-users": "blake2b:27cc212b787de01f403cd212d5387cf0",
    "tiny": "blake2b:06d53423bb9eb1219e3db4c65c7bca84",
    "tiny-behaviours": "blake2b:944bb296d5b927517c2b85df3fb57083",
    "tiny-cold": "blake2b:0feff6bca288c83a90d3af6b627d8fd1",
    "tiny-equal-times": "blake2b:060972256bb873a81ded4145fc63dd14",
    "tiny-repeats": "blake2b:52b9f76c7da60e96c6c48eaf79b30eeb",
    "tiny-revisits": "blake2b:5a41f1842b89cebb99ea78bb97dbf2d9",
    "tiny-sorted-ids": "blake2b:b39f99031918f8ea5019731e195a3f9f",
    "tiny-words": "blake2b:06d53423bb9eb1219e3db4c65c7bca84",
    "words-small": "blake2b:bf9a92145815c4d7ffd94c3455da7f37",
}
PINNED_WORDS = {
    "tiny-words": "blake2b:a55586210b83cf349dfb1bba00ca91b5",
    "words-small": "blake2b:332ebe0de20471fa27f55bb17f94e202",
}


def last_item_recall(scores, targets, depth=10):
    """Share of targets among the `depth` best scores, padding left out."""
    best = np.argsort(-scores[:, 1:], axis=1, kind="stable")[:, :depth] + 1
    return float((best == targets[:, None]).any(axis=1).mean())


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_named_worlds_never_change(name):
    world = make_world(WORLDS[name])

    assert PINNED[name] == world.digest
    assert PINNED_WORDS.get(name) == world.words_digest


def test_another_process_with_another_hash_seed_builds_the_same():
    code = "from rectest.data.worlds import load_world; print(load_world('tiny').digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert tiny_world().digest == done.stdout.strip()


def test_every_setting_that_shapes_data_moves_the_digest():
    changes = (
        {"seed": 1},
        {"num_users": 121},
        {"min_length": 7},
        {"successor_weight": 0.2},
        {"zipf_exponent": 0.5},
        {"repeat_probability": 0.1},
        {"shuffled_ids": False},
        {"equal_time_fraction": 0.1},
        {"behaviours": (), "behaviour_shares": ()},
        {"taste_behaviour_shares": (0.1, 0.2, 0.3, 0.4)},
    )
    digests = {tiny_world().digest, *(world_with(**change).digest for change in changes)}

    assert len(digests) == len(changes) + 1


def test_the_name_alone_does_not_move_the_data():
    assert tiny_world().digest == world_with(name="other").digest


def test_every_setting_of_words_moves_the_words_and_nothing_else():
    changes = ({"seed": 1}, {"words_per_item": 5}, {"words_per_taste": 9}, {"common_words": 17})
    changes = (*changes, {"taste_word_probability": 0.5})
    worlds = [tiny_world("tiny-words"), *(world_with("tiny-words", **change) for change in changes)]

    assert len({world.words_digest for world in worlds}) == len(worlds)
    assert {world.digest for world in worlds[2:]} == {tiny_world().digest}


def test_shape_of_tiny():
    world = tiny_world()
    lengths = world.interactions.user_counts()

    assert (world.num_users, world.num_items) == (120, 40)
    assert (lengths.min(), lengths.max()) == (8, 15)
    assert world.popularity()[1:].min() > 0
    assert (np.diff(world.interactions.time) >= 0).all()
    assert all(len(set(items.tolist())) == len(items) for items in world.interactions.sequences())
    assert world.items.raw(1) == "10007"
    assert sorted(set(world.clusters.tolist())) == [0, 1, 2, 3, 4]


def test_repeats_are_as_frequent_as_planted():
    sequences = tiny_world("tiny-repeats").interactions.sequences()
    repeats = sum(len(items) - len(set(items.tolist())) for items in sequences)
    steps = int((sequences.lengths - 1).sum())

    assert repeats / steps == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / steps))


def test_cold_users_have_few_events():
    lengths = tiny_world("tiny-cold").interactions.user_counts()

    assert int((lengths <= 3).sum()) == 30


def test_equal_times_are_there_and_change_nothing_else():
    plain, tied = tiny_world(), tiny_world("tiny-equal-times")
    first, second = plain.interactions.sequences(), tied.interactions.sequences()
    inner = np.diff(second.owners()) == 0

    assert (np.diff(second.time)[inner] == 0).mean() == pytest.approx(0.5, abs=0.06)
    assert (np.diff(first.time)[inner] > 0).all()
    assert first.items.tolist() == second.items.tolist()


def test_shuffled_ids_say_nothing_about_popularity():
    shuffled = ("taste-small", "words-small", "behaviours-small")
    correlations = {name: spearman_of_ids(tiny_world(name).popularity()) for name in shuffled}

    assert all(abs(value) < 0.15 for value in correlations.values()), correlations
    assert spearman_of_ids(world_with("taste-small", shuffled_ids=False).popularity()) < -0.5


def spearman_of_ids(popularity):
    """Spearman's correlation of item id and number of events; equal numbers share their mean rank."""
    counts = popularity[1:]
    _, group, sizes = np.unique(counts, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2
    return np.corrcoef(np.arange(len(counts)), mean_rank[group])[0, 1]


def test_behaviours_have_their_shares():
    world = load_world("taste-small")
    shares = np.bincount(world.interactions.behaviour)[1:] / len(world.interactions)

    assert world.behaviours.raws == ("view", "favour", "cart", "buy")
    assert shares == pytest.approx([0.6, 0.15, 0.15, 0.1], abs=0.01)


def test_kinds_of_events_tell_of_the_taste():
    world = load_world("behaviours-small")
    buys = world.interactions.behaviour == world.behaviours.index("buy")
    behaviour = np.bincount(world.interactions.behaviour)[1:] / len(world.interactions)
    own = top_cluster_share(world, buys)

    assert world.behaviours.raws == ("pv", "fav", "cart", "buy")
    assert 0.2 < behaviour[3] < 0.35
    assert own > top_cluster_share(world, ~buys) + 0.15


def top_cluster_share(world, rows):
    """Share of these events whose item is of the cluster that the user's taste most probably is."""
    taste = world.oracle.posterior(list(world.interactions.sequences())).argmax(axis=1)
    log = world.interactions
    return float((world.clusters[log.item[rows]] == taste[log.user[rows]] + 1).mean())


@pytest.mark.parametrize(
    ("name", "popular", "best"),
    [("words-small", (0.1, 0.15), (0.6, 0.7)), ("behaviours-small", (0.27, 0.34), (0.55, 0.65))],
)
def test_new_worlds_leave_something_to_learn(name, popular, best):
    world = tiny_world(name)
    sequences = list(world.interactions.sequences())
    histories = [items[:-1] for items in sequences]
    targets = np.array([items[-1] for items in sequences])
    counts = np.bincount(np.concatenate(histories), minlength=world.num_items + 1).astype(float)
    popularity = last_item_recall(np.tile(counts, (len(targets), 1)), targets)

    assert popular[0] < popularity < popular[1]
    assert best[0] < last_item_recall(world.oracle.scores(histories), targets) < best[1]


def test_taste_small_separates_good_from_bad():
    start = time.perf_counter()
    world = load_world("taste-small")
    sequences = list(world.interactions.sequences())
    histories = [items[:-1] for items in sequences]
    targets = np.array([items[-1] for items in sequences])
    optimum = last_item_recall(world.oracle.scores(histories), targets)
    elapsed = time.perf_counter() - start
    counts = np.bincount(np.concatenate(histories), minlength=501).astype(float)
    popularity = last_item_recall(np.tile(counts, (len(targets), 1)), targets)

    assert 0.08 < popularity < 0.15
    assert 0.45 < optimum < 0.65
    assert elapsed < 5


def test_unknown_worlds_are_named_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="unknown world 'tinny' \\(did you mean 'tiny'\\?\\)"):
        load_world("tinny")


def test_movielens_that_is_not_cached_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match="get it with: rectest data ml-100k"):
        load_world("ml-100k", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"max_length": 21}, "max_length must be at most half of num_items"),
        ({"min_length": 16}, "1 <= min_length <= max_length"),
        ({"successor_weight": 0.7}, "must leave some global popularity"),
        ({"taste_weight": -0.1}, "must not be negative"),
        ({"num_tastes": 0}, "num_tastes"),
        ({"num_successors": 40}, "num_successors"),
        ({"repeat_probability": 1.0}, "repeat_probability"),
        ({"behaviour_shares": (0.5, 0.5)}, "each behaviour needs one share"),
        ({"behaviours": ("a",), "behaviour_shares": (0.5,)}, "must sum to 1"),
        ({"cold_lengths": (0, 3)}, "cold_lengths"),
        ({"taste_behaviour_shares": (0.5, 0.5)}, "taste_behaviour_shares must be one per behaviour"),
        ({"taste_behaviour_shares": (0.5, 0.3, 0.1, 0.2)}, "taste_behaviour_shares must sum to 1"),
        ({"taste_behaviour_shares": (0.5, 0.5, 0.0, 0.0)}, "above 0 where behaviours depend on the taste"),
        ({"words_per_item": -1}, "words_per_item must not be negative"),
        ({"common_words": 0}, "both vocabularies need at least one word"),
        ({"taste_word_probability": 1.5}, r"taste_word_probability must be in \[0, 1\]"),
        ({"num_users": 0}, "num_users"),
    ],
)
def test_bad_specs_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        world_with(**change)


def test_a_world_of_one_user_can_be_made():
    world = make_world(WorldSpec(name="one", num_users=1))

    assert world.num_users == 1
    assert world.oracle.scores([world.interactions.sequences()[0]]).sum() == pytest.approx(1.0)
