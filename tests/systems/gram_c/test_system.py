"""The system as a whole: loss, learning, evaluation protocol, leaks, and what the loop records of it."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from fixtures.gram_c import SMALL, start
from fixtures.worlds import hand_world, tiny_world
from rectest.data.world import World
from rectest.errors import ConfigError, WorldError
from rectest.record import RunSpec
from rectest.systems.gram_c.data import held_out_events
from rectest.systems.gram_c.system import GramCSystem
from rectest.systems.gram_c.text import END
from rectest.systems.registry import make_system
from rectest.training.program import run_spec


def edited(world: World) -> World:
    """The held-out items of all users, changed round."""
    log = world.interactions
    held = held_out_events(world)
    items = log.item.copy()
    items[held] = np.roll(items[held], 1)
    return dataclasses.replace(world, interactions=dataclasses.replace(log, item=items))


def test_it_is_registered():
    assert isinstance(make_system("gram_c"), GramCSystem)


def test_loss_by_hand():
    run = start()
    run.model.eval()
    batch = next(run.stream)
    logits = run.model(dict(batch.inputs)).log_softmax(-1)
    tokens = batch.inputs["target_ids"] - END
    expected = -logits.gather(-1, tokens[..., None]).mean()

    torch.testing.assert_close(expected, run.system.losses(run.model, batch)["total"])
    assert tokens.shape == (32, 4)
    assert (tokens[:, -1] == 0).all(), "the end comes last"


def test_first_loss_is_near_chance():
    """13 tokens can be written; random logits of spread 1 add about half a nat."""
    assert math.log(13) == pytest.approx(start().steps(1).losses[0], abs=1.0)


def test_one_batch_can_be_learned_by_heart():
    run = start(steps=1000, warmup=0.0, prefix_drop_whole=0.0)
    batch = next(run.stream)
    for _ in range(80):
        last = run.system.step(run.model, run.optimizer, batch)["total"]

    assert float(last) < 0.3


def test_it_learns_more_than_popularity():
    run = start(embedding_size=32, steps=150).steps(150)
    eval_set = run.system.eval_set(run.data, "test")
    counts = run.data.counts.astype(float)
    popular = []
    for history, (target,) in zip(eval_set.histories, eval_set.relevant, strict=True):
        scores = np.where(np.isin(np.arange(len(counts)), [0, *history]), -1.0, counts)
        popular.append((scores > scores[target]).sum() < 5)

    assert run.recall(k=5) > np.mean(popular) + 0.04


def test_scoring_changes_nothing():
    run = start(dropout=0.3).steps(2)
    before, state = run.parameters(), torch.get_rng_state()
    first, second = run.scores(), run.scores()

    assert np.array_equal(first, second)
    assert all(torch.equal(value, run.parameters()[name]) for name, value in before.items())
    assert torch.equal(state, torch.get_rng_state())


def test_the_evaluation_protocol():
    run = start()
    valid, test = (run.system.eval_set(run.data, split) for split in ("valid", "test"))

    for row in range(len(test)):
        history, (target,) = test.histories[row].tolist(), test.relevant[row].tolist()

        assert history == [*valid.histories[row].tolist(), *valid.relevant[row].tolist()]
        assert target not in history
        assert test.excluded[row].tolist() == history
    assert len(test) == tiny_world().num_users


def test_seen_items_are_excluded_unless_users_repeat():
    repeats = start(world=tiny_world("tiny-repeats"))

    assert repeats.system.eval_set(repeats.data, "test").excluded is None
    with pytest.raises(WorldError, match="set exclude_seen to false"):
        start(world=tiny_world("tiny-repeats"), exclude_seen=True)


def test_an_unknown_split_is_refused():
    run = start()
    with pytest.raises(ValueError, match="split must be"):
        run.system.eval_set(run.data, "train")


def test_held_out_events_by_hand():
    """Ann has 1 2 4 3, Bob 2 4 1, Cy one event; the file is in the order of time."""
    world = hand_world()
    held = held_out_events(world)

    assert [
        (int(u), int(i)) for u, i in zip(world.interactions.user[held], world.interactions.item[held], strict=True)
    ] == [
        (1, 4),
        (0, 4),
        (1, 1),
        (0, 3),
    ]


@pytest.mark.parametrize("name", ["tiny", "tiny-equal-times", "tiny-cold"])
def test_held_out_events_are_the_targets(name):
    world = tiny_world(name)
    split = start(world=world).data.split
    held = np.bincount(world.interactions.item[held_out_events(world)], minlength=world.num_items + 1)
    targets = np.bincount(np.concatenate([split.valid, split.test]), minlength=world.num_items + 1)

    assert held[1:].tolist() == targets[1:].tolist()


def test_training_does_not_depend_on_what_is_held_out():
    """Ids, words, the graph table, batches and parameters, to the bit."""
    first, second = (start(world=world).steps(3) for world in (tiny_world(), edited(tiny_world())))

    assert dataclasses.asdict(first.data.manifest) == dataclasses.asdict(second.data.manifest)
    assert first.losses == second.losses
    assert all(torch.equal(value, second.parameters()[name]) for name, value in first.parameters().items())
    assert all(torch.equal(value, second.model.state_dict()[name]) for name, value in first.model.state_dict().items())
    assert first.data.split.test.tolist() != second.data.split.test.tolist()


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    first, again, other = (start(seed=seed).steps(3) for seed in (0, 0, 1))

    assert first.losses == again.losses
    assert np.array_equal(first.scores(), again.scores())
    assert first.losses != other.losses
    assert not torch.equal(first.batches[0].inputs["item_text_ids"], other.batches[0].inputs["item_text_ids"])


def test_a_resumed_run_goes_on_bit_by_bit():
    """Model, optimizer and the generators of dropout are all there is."""
    run = start().steps(2)
    other = start()
    for _ in range(2):
        next(other.stream)
    other.model.load_state_dict(run.model.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    pairs = zip(run.model.modules(), other.model.modules(), strict=True)
    for module, fresh in pairs:
        if hasattr(module, "generator"):
            fresh.generator.set_state(module.generator.get_state())

    assert run.steps(2).losses[2:] == other.steps(2).losses


def test_rows_in_use():
    run = start().steps(1)
    batch = run.batches[0]
    used = run.system.used_rows(batch)

    assert (used["graph"] > 0).all()
    assert set(used["graph"].tolist()) <= set(range(1, 41))
    assert {END, *batch.inputs["item_text_ids"].unique().tolist()} - {0} <= set(used["token"].tolist())


def test_tables_and_id_map():
    run = start()
    tables = run.system.tables(run.model)

    assert tables["graph"].weight.shape == (41, 8)
    assert (tables["graph"].norm, tables["graph"].frozen) == (1.0, True)
    assert tables["token"].weight.shape == (len(run.data.vocabulary), 16)
    assert tiny_world().items == run.system.id_maps(run.data)["item"]


def test_a_world_with_more_items_than_ids_is_refused():
    with pytest.raises(WorldError, match="40 items need more ids than 2 levels of 4 codes"):
        start(num_levels=2)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_heads": 3}, "must divide embedding_size 16"),
        ({"accumulation": 33}, "must be at most batch_size"),
        ({"warmup": 1.0}, r"must be in \[0, 1\)"),
        ({"num_codes": 1}, "must be at least 2"),
        ({"decoding": "greedy"}, "decoding"),
        ({"clip": 0.0}, "must be positive"),
        ({"beam_size": 0}, "must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        start(**settings)


@pytest.mark.parametrize("features", [{}, {"decoding": "beam", "beam_size": 40}, {"accumulation": 3}], ids=str)
def test_the_loop_trains_and_records_it(features):
    config = {key: value for key, value in {**SMALL, **features}.items() if key not in ("steps", "eval_every")}
    record = run_spec(RunSpec(system="gram_c", world="tiny", steps=12, eval_every=6, config=config))

    assert record.final("test/recall@10") == record.final("test/hit@10")
    assert record.facts["protocol"]["test"]["num_scored"] == 120
    assert record.facts["evaluation"]["drew"] == []
    assert not record.facts["evaluation"]["changed_model"]
    assert np.array_equal(record["table/graph"], record["table_init/graph"])
    assert (record["counter/prefix/in_logits"] == 1).all()
    assert ("counter/decoding/overlap@10" in record) == ("decoding" in features)
