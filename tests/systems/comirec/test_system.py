"""Tests for ComiRec as a system: every model learns, streams stay apart, settings and worlds are validated."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fixtures.worlds import tiny_world
from rectest.errors import ConfigError
from rectest.seeding import SeedPlan
from rectest.systems.comirec.batches import UserData
from rectest.systems.comirec.model import MODELS, UserModel
from rectest.systems.comirec.system import ComiRec
from rectest.systems.protocol import Batch
from rectest.systems.registry import make_system

SMALL: dict[str, Any] = {"batch_size": 16, "neg_num": 1, "history_length": 8, "embedding_size": 8}


def small(**settings: Any) -> ComiRec:
    return ComiRec.from_settings({**SMALL, **settings})


def started(system: ComiRec, *, seed: int = 0) -> tuple[UserData, UserModel]:
    seeds = SeedPlan(root=seed)
    data = system.prepare(tiny_world(), seeds.child("data"))
    return data, system.build(data, seeds.child("init"))


def trained(system: ComiRec, *, steps: int, seed: int = 0, same_batch: bool = False) -> tuple[list[float], UserModel]:
    """Losses and model after `steps` steps on the tiny world."""
    data, model = started(system, seed=seed)
    optimizer, batches = system.make_optimizer(model), system.batches(data, SeedPlan(root=seed))
    batch, losses = next(batches), []
    for _ in range(steps):
        losses.append(float(system.step(model, optimizer, batch)["total"].detach()))
        batch = batch if same_batch else next(batches)
    return losses, model


def inputs_of(batches: list[Batch], name: str) -> list[Tensor]:
    return [batch.inputs[name] for batch in batches]


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_learns(kind: str) -> None:
    losses, model = trained(small(model=kind, learning_rate=0.02), steps=120)

    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.1
    assert not model.item.weight[0].any()


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_can_learn_one_batch_by_heart(kind: str) -> None:
    losses, _ = trained(small(model=kind, learning_rate=0.03, batch_size=4, neg_num=20), steps=300, same_batch=True)

    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("kind", MODELS)
def test_two_trainings_of_one_seed_are_bit_equal_and_another_seed_differs(kind: str) -> None:
    (first, model), (again, twin), (other, _) = (trained(small(model=kind), steps=8, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert all(torch.equal(model.state_dict()[name], value) for name, value in twin.state_dict().items())
    assert first != other


def test_more_negatives_do_not_move_the_batches() -> None:
    few, many = (small(neg_num=number) for number in (1, 2))
    data, _ = started(few)
    one, two = (list(islice(system.batches(data, SeedPlan(root=3)), 5)) for system in (few, many))

    for name in ("user", "history", "mask", "target"):
        assert all(torch.equal(x, y) for x, y in zip(inputs_of(one, name), inputs_of(two, name), strict=True))
    assert [16] * 5 == [len(batch.negatives["item"]) for batch in one]
    assert [32] * 5 == [len(batch.negatives["item"]) for batch in two]


def test_the_fixed_order_is_the_same_for_all_seeds_and_the_random_one_is_not() -> None:
    data, _ = started(small())

    def users(order: str, seed: int) -> list[int]:
        return next(small(order=order).batches(data, SeedPlan(root=seed))).inputs["user"].tolist()

    assert users("fixed", 1) == users("fixed", 2) == data.train[:16].tolist()
    assert users("random", 1) != users("random", 2)


def test_the_split_does_not_depend_on_the_training_seed() -> None:
    system = small()
    first, second = started(system, seed=1)[0], started(system, seed=2)[0]

    assert first.test.tolist() == second.test.tolist()
    assert first.train.tolist() == second.train.tolist()


@pytest.mark.parametrize("kind", MODELS)
def test_scoring_draws_nothing_and_does_not_depend_on_the_block(kind: str) -> None:
    system = small(model=kind)
    data, model = started(system)
    model.eval()
    users = system.eval_set(data, "test")
    before = torch.get_rng_state()
    with torch.no_grad():
        together = system.score(model, users, slice(0, 12))
        blocks = torch.cat([system.score(model, users, slice(start, start + 5)) for start in (0, 5, 10)])

    assert (12, 41) == tuple(together.shape)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(together, blocks, rtol=1e-4, atol=1e-5)


def test_the_loss_starts_near_the_log_of_the_number_of_classes() -> None:
    losses, _ = trained(small(neg_num=20, num_interests=1), steps=1)

    assert losses[0] == pytest.approx(np.log(40), abs=0.05)


def test_the_label_chooses_the_interest() -> None:
    system = small()
    interests, table = torch.tensor([[[1.0] * 8, [-1.0] * 8]]), torch.zeros(41, 8)
    table[5], table[6] = 1.0, -1.0

    assert [[1.0] * 8] == system.readout(interests, table, torch.tensor([5])).tolist()
    assert [[-1.0] * 8] == system.readout(interests, table, torch.tensor([6])).tolist()


def test_the_padding_row_trains_only_when_padding_is_sampled_as_published() -> None:
    _, healthy = trained(small(), steps=5)
    _, historical = trained(small(sample_padding=True), steps=5)

    assert not healthy.item.weight[0].any()
    assert historical.item.weight[0].any()


def test_rows_in_use_are_those_of_history_target_and_negatives() -> None:
    system = small()
    data, _ = started(system)
    batch = next(system.batches(data, SeedPlan(root=0)))
    rows = system.used_rows(batch)["item"]

    assert 16 * 8 + 16 + 16 == len(rows)
    assert set(batch.inputs["target"].tolist()) | set(batch.negatives["item"].tolist()) <= set(rows.tolist())


def test_offers_its_maps_table_and_facts() -> None:
    system = small()
    data, model = started(system)
    facts = system.input_facts(data)

    assert {"item": tiny_world().items, "user": tiny_world().users} == system.id_maps(data)
    assert system.tables(model)["item"].weight is model.item.weight
    assert {"train": 96, "valid": 12, "test": 12} == facts["num_users"]
    assert (16, 40) == tuple(facts[name] for name in ("num_sampled", "num_classes"))
    assert {"num_classes_out_of_order": [0, 0]} == facts["invariants"]
    assert data.popularity is system.popularity(data)


def test_is_registered() -> None:
    assert isinstance(make_system("comirec"), ComiRec)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": "bert"}, "setting 'model' needs"),
        ({"neg_num": 0}, "setting 'neg_num' must be at least 1, got 0"),
        ({"num_interests": -1}, "setting 'num_interests' must be at least 1, got -1"),
        ({"order": "sorted"}, "setting 'order' needs"),
        ({"sampler": "id"}, "setting 'sampler' does not exist, did you mean"),
        ({"learning_rate": 0.0}, "setting 'learning_rate' must be positive"),
        ({"sample_padding": 1}, "setting 'sample_padding' needs bool"),
    ],
)
def test_settings_are_validated(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ComiRec.from_settings(settings)


def test_a_foreign_model_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a UserModel, got Linear"):
        small().tables(nn.Linear(2, 2))
