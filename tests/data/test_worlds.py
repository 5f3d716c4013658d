"""The named worlds: reproducible, shaped as their specs say, and hard enough to tell a good model from a bad one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from fixtures.worlds import hand_world, tiny_world, world_with
from rectest.data.idmap import IdMap
from rectest.data.world import World
from rectest.data.worlds import WORLDS, WorldSpec, load_world, make_world
from rectest.errors import DataError, UnknownNameError, WorldError

PINNED = {
    "taste-small": "blake2b:3a075fc85cf66406627f0ed01b7b0d85",
    "taste-users": "blake2b:27cc212b787de01f403cd212d5387cf0",
    "tiny": "blake2b:06d53423bb9eb1219e3db4c65c7bca84",
    "tiny-cold": "blake2b:0feff6bca288c83a90d3af6b627d8fd1",
    "tiny-equal-times": "blake2b:060972256bb873a81ded4145fc63dd14",
    "tiny-repeats": "blake2b:52b9f76c7da60e96c6c48eaf79b30eeb",
    "tiny-revisits": "blake2b:5a41f1842b89cebb99ea78bb97dbf2d9",
    "tiny-sorted-ids": "blake2b:b39f99031918f8ea5019731e195a3f9f",
}


def last_item_recall(scores, targets, depth=10):
    """Share of targets among the `depth` best scores, padding left out."""
    best = np.argsort(-scores[:, 1:], axis=1, kind="stable")[:, :depth] + 1
    return float((best == targets[:, None]).any(axis=1).mean())


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_named_worlds_never_change(name):
    assert make_world(WORLDS[name]).digest == PINNED[name]


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
    )
    digests = {tiny_world().digest, *(world_with(**change).digest for change in changes)}

    assert len(digests) == len(changes) + 1


def test_the_name_alone_does_not_move_the_data():
    assert tiny_world().digest == world_with(name="other").digest


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
    ids = np.arange(1, 501)
    shuffled = np.corrcoef(ids, load_world("taste-small").popularity()[1:])[0, 1]
    in_order = np.corrcoef(ids, world_with("taste-small", shuffled_ids=False).popularity()[1:])[0, 1]

    assert abs(shuffled) < 0.15
    assert in_order < -0.4


def test_behaviours_have_their_shares():
    world = load_world("taste-small")
    shares = np.bincount(world.interactions.behaviour)[1:] / len(world.interactions)

    assert world.behaviours.raws == ("view", "favour", "cart", "buy")
    assert shares == pytest.approx([0.6, 0.15, 0.15, 0.1], abs=0.01)


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


def test_worlds_refuse_maps_that_do_not_fit():
    world = hand_world()
    parts = {"name": "odd", "interactions": world.interactions, "users": world.users, "items": world.items}

    with pytest.raises(WorldError, match=r"world 'odd': its map of items covers 1\.\.2, needed 1\.\.4"):
        World(**{**parts, "items": IdMap(raws=("a", "b"))}, oracle=None, source="test")
    with pytest.raises(WorldError, match=r"map of users covers 1\.\.3, needed 0\.\.2"):
        World(**{**parts, "users": IdMap(raws=("a", "b", "c"))}, oracle=None, source="test")
    with pytest.raises(WorldError, match="its oracle knows 40 items, needed 4"):
        World(**parts, oracle=tiny_world().oracle, source="test")
    with pytest.raises(WorldError, match="both a behaviour column and its names"):
        World(**parts, oracle=None, source="test", behaviours=IdMap(raws=("a",)))


def test_filtering_a_world_renews_its_maps():
    obtained = hand_world().filter_min_count(users=2, items=2)

    assert obtained.users.raws == ("ann", "bob")
    assert obtained.items.raws == ("A", "B", "D")
    assert [items.tolist() for items in obtained.interactions.sequences()] == [[1, 2, 3], [2, 3, 1]]
    assert tiny_world().filter_min_count().oracle is tiny_world().oracle
